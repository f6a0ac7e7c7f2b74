"""Faster R-CNN (Ren et al., NIPS 2015) on any data: on a MobileNet with a feature pyramid, or as published on VGG16.

    python recipes/faster_rcnn.py --data path/to/dataset --weights imagenet --image-size 384 512
    python recipes/faster_rcnn.py --paper --data voc/2007 --train-split train+validation

Any VOC, COCO or YOLO folder, TFDS name or named data set will do; it needs a split to train on and "test". The first
is for some hundred images and a CPU: AdamW, cosine, averaged weights. --paper is VGG16 at 600 x 800 with the authors'
joint schedule: SGD, momentum 0.9, weight decay 5e-4, one image a step, 1e-3 for 50,000 steps and 1e-4 for 20,000;
published: 69.9 mAP on VOC2007 (measure: --protocol voc2007). It is meant for a GPU; nobody has run it whole with kzoo
yet. Writes the .keras file, a picture of anchors, proposals and detections, and with the first .tflite files in float32
and int8.
"""

import argparse

import keras

import kzoo

PAPER = {"backbone": "vgg16", "weights": "imagenet", "image_size": (600, 800), "batch_size": 1, "augment": "flip"}
SMALL = {"backbone": "mobilenet", "weights": None, "image_size": (384, 384), "batch_size": 8, "augment": "light"}
# Regions from stride 8 on, the smallest anchors 32 pixels; fewer and narrower than on a GPU.
LIGHT = {
    "first_level": 3,
    "anchor_sizes": (32, 64, 128, 256),
    "units": 512,
    "train_proposals": (500, 300),
    "test_proposals": (500, 200),
    "regions_per_image": 64,
    "iou_threshold": 0.5,
}


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--paper", action="store_true", help="VGG16 and the paper's schedule")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--backbone", help="default: mobilenet, with --paper vgg16")
    parser.add_argument("--weights", help="of the backbone: imagenet, none or a file")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=70_000, help="with --paper, in place of --epochs")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--augment", help="light; no_up for images without an up, as of cells; flip with --paper")
    parser.add_argument("--protocol", default="coco", help="coco, voc2007 or voc2010")
    parser.add_argument("--limit", type=int, help="use so many images of each split only")
    parser.add_argument("--output", type=kzoo.training.output_name, default="faster_rcnn")
    options = parser.parse_args(arguments)
    for key, value in (PAPER if options.paper else SMALL).items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    options.weights = None if options.weights == "none" else options.weights
    return options


def optimizer_of(options: argparse.Namespace, steps: int) -> keras.optimizers.Optimizer:
    if options.paper:
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [steps * 5 // 7], [options.learning_rate, options.learning_rate / 10]
        )
        return kzoo.training.caffe_sgd(rate)
    warmup = steps // 20
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.01, warmup_target=options.learning_rate, warmup_steps=warmup
    )
    # Averaged weights, over the last steps: smoother than the last ones. Keras keeps them when `fit` ends. No
    # batch norm learns here, whose statistics would be those of the last weights.
    average = {"use_ema": True, "ema_momentum": max(0.0, min(0.998, 1 - 5 / steps))}
    return keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0, **average)


def main(arguments: list[str] | None = None) -> dict:
    options = options_of(arguments)
    keras.utils.set_random_seed(0)
    size = tuple(options.image_size)
    common = {"image_size": size, "batch_size": options.batch_size, "limit": options.limit}
    split = options.train_split
    train = kzoo.data.load(options.data, split=split, augment=options.augment, start_epoch=0, **common)
    test = kzoo.data.load(options.data, split="test", **common)

    model = kzoo.models.FasterRCNN(
        train.num_classes,
        size,
        options.backbone,
        width=options.width,
        weights=options.weights,
        class_names=train.class_names,
        **({} if options.paper else LIGHT),
    )
    epoch = train.steps_per_epoch
    steps = options.steps if options.paper else options.epochs * epoch
    model.compile(optimizer_of(options, steps))
    model.fit(train, epochs=-(-steps // epoch), steps_per_epoch=min(steps, epoch), verbose=2, shuffle=False)
    model.save(f"{options.output}.keras")
    kzoo.visualize.save(picture(model, test), f"{options.output}.jpg")

    results = {"keras": kzoo.metrics.evaluate(model, test, options.protocol)}
    # Under JAX train here, then write the files with `kzoo export faster_rcnn.keras`: only TensorFlow writes them.
    files = keras.backend.backend() == "tensorflow" and not options.paper
    for kind, quantization in (("float32", None), ("int8", "int8")) if files else ():
        path = f"{options.output}_{kind}.tflite"
        kzoo.export.litert(model, path, quantization=quantization, calibration=train)
        results[kind] = kzoo.metrics.evaluate(kzoo.export.load(path), test, options.protocol)
    for name, result in results.items():
        classes = ", ".join(f"{label} {measures['AP']:.3f}" for label, measures in result["per_class"].items())
        at_half = f"mAP@0.50 {result['mAP@0.50']:.4f}  " if "mAP@0.50" in result else ""
        print(f"{name:8s} mAP {result['mAP']:.4f}  {at_half}({classes})", flush=True)
    return results


def picture(model, test):
    """Three images from the anchors that the first stage likes best to the final detections."""
    images, _ = next(iter(test))
    images = images.numpy()[:3]
    return kzoo.visualize.region_stages(images, model.propose(images), model.detect(images), model.class_names)


if __name__ == "__main__":
    main()
