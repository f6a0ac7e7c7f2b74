"""Fast R-CNN (Girshick, ICCV 2015) on any data, with selective search's proposals: on a MobileNet, or as on VGG16.

    python recipes/fast_rcnn.py --data path/to/dataset --weights imagenet --image-size 384 512
    python recipes/fast_rcnn.py --paper --data voc/2007 --train-split train+validation

Any VOC, COCO or YOLO folder, TFDS name or named data set will do; it needs a split to train on and "test". Proposals
are searched once and kept on disk (pip install "kzoo[proposals]"), or read: --proposals FILE. The first is for some
hundred images and a CPU. --paper is VGG16 at 600 x 800 with the paper's schedule: SGD, momentum 0.9, weight decay 5e-4,
two images a step, 1e-3 for 30,000 steps and 1e-4 for 10,000; published: 66.9 mAP on VOC2007 (measure: --protocol
voc2007). It is meant for a GPU; nobody has run it whole with kzoo yet. Writes the .keras file.
"""

import argparse

import keras

import kzoo

PAPER = {
    "backbone": "vgg16",
    "weights": "imagenet",
    "image_size": (600, 800),
    "batch_size": 2,
    "augment": "flip",
    "learning_rate": 1e-3,
}
SMALL = {
    "backbone": "mobilenet",
    "weights": None,
    "image_size": (384, 384),
    "batch_size": 8,
    "augment": "light",
    "learning_rate": 1e-4,  # of AdamW, which learned little at 1e-3 (docs/results.md)
}


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--paper", action="store_true", help="VGG16 and the paper's schedule")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--proposals", default="fast", help="fast, quality, or an .npz or .json file")
    parser.add_argument("--max-proposals", type=int, default=2000)
    parser.add_argument("--backbone", help="default: mobilenet, with --paper vgg16")
    parser.add_argument("--weights", help="of the backbone: imagenet, none or a file")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=40_000, help="with --paper, in place of --epochs")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float, help="1e-4, with --paper 1e-3")
    parser.add_argument("--augment", help="light; no_up for images without an up, as of cells; flip with --paper")
    parser.add_argument("--protocol", default="coco", help="coco, voc2007 or voc2010")
    parser.add_argument("--limit", type=int, help="use so many images of each split only")
    parser.add_argument("--output", type=kzoo.training.output_name, default="fast_rcnn")
    options = parser.parse_args(arguments)
    for key, value in (PAPER if options.paper else SMALL).items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    options.weights = None if options.weights == "none" else options.weights
    return options


def main(arguments: list[str] | None = None) -> dict:
    options = options_of(arguments)
    keras.utils.set_random_seed(0)
    size = tuple(options.image_size)
    common = {"image_size": size, "batch_size": options.batch_size, "limit": options.limit}
    common |= {"proposals": options.proposals, "max_proposals": options.max_proposals}
    split = options.train_split
    train = kzoo.data.load(options.data, split=split, augment=options.augment, start_epoch=0, **common)
    test = kzoo.data.load(options.data, split="test", **common)

    model = kzoo.models.FastRCNN(
        train.num_classes,
        size,
        options.backbone,
        width=options.width,
        weights=options.weights,
        max_proposals=options.max_proposals,
        class_names=train.class_names,
    )
    epoch = train.steps_per_epoch
    steps = options.steps if options.paper else options.epochs * epoch
    if options.paper:
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [steps * 3 // 4], [options.learning_rate, options.learning_rate / 10]
        )
        optimizer = kzoo.training.caffe_sgd(rate)
    else:
        rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps, alpha=0.01)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0)
    model.compile(optimizer)
    model.fit(train, epochs=-(-steps // epoch), steps_per_epoch=min(steps, epoch), verbose=2, shuffle=False)
    model.save(f"{options.output}.keras")

    result = kzoo.metrics.evaluate(model, test, options.protocol)
    for name, measures in result["per_class"].items():
        print(f"{name:12s} AP {measures['AP']:.3f}")
    at_half = f", mAP@0.50 {result['mAP@0.50']:.4f}" if "mAP@0.50" in result else ""
    print(f"mAP {result['mAP']:.4f}{at_half} ({options.protocol})")
    return result


if __name__ == "__main__":
    main()
