"""SSDLite on a MobileNet, fine-tuned on any data: the edge variant of SSD (Liu et al., 2016; Sandler et al., 2018).

    python recipes/ssd_mobilenet.py --data path/to/dataset --weights imagenet --image-size 384 512

Any VOC, COCO or YOLO folder, TFDS name or named data set will do; it needs a split to train on and "test". Half an hour
on two CPU cores for some two hundred images; docs/results.md holds measured scores. Writes ssd_mobilenet.keras, and
.tflite files in float32 and int8, and prints the COCO measures of all three.
"""

import argparse

import keras

import kzoo


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--backbone", default="mobilenet")
    parser.add_argument("--weights", default=None, help="imagenet, or a file of the backbone's weights")
    parser.add_argument("--image-size", type=int, nargs=2, default=(384, 384), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=None, help="3e-4 with weights, else 1e-3")
    parser.add_argument("--augment", default="light", help="light; no_up for images without an up, as of cells")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--output", type=kzoo.training.output_name, default="ssd_mobilenet")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    size = tuple(options.image_size)
    common = {"image_size": size, "batch_size": options.batch_size, "limit": options.limit}
    train = kzoo.data.load(options.data, split=options.train_split, augment=options.augment, **common)
    test = kzoo.data.load(options.data, split="test", **common)

    model = kzoo.models.SSD(
        train.num_classes,
        image_size=size,
        backbone=options.backbone,
        weights=options.weights,
        iou_threshold=0.5,
        class_names=train.class_names,
    )
    peak = options.learning_rate or (3e-4 if options.weights else 1e-3)
    steps = options.epochs * train.steps_per_epoch
    warmup = min(3 * train.steps_per_epoch, steps // 4)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.01, warmup_target=peak, warmup_steps=warmup
    )
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0))
    model.fit(train, epochs=options.epochs, verbose=2, shuffle=False)
    model.save(f"{options.output}.keras")

    results = {"keras": kzoo.metrics.evaluate(model, test)}
    # Under JAX train here, then write the files with `kzoo export ssd_mobilenet.keras`: only TensorFlow writes them.
    kinds = (("float32", None), ("int8", "int8")) if keras.backend.backend() == "tensorflow" else ()
    for kind, quantization in kinds:
        path = f"{options.output}_{kind}.tflite"
        kzoo.export.litert(model, path, quantization=quantization, calibration=train)
        results[kind] = kzoo.metrics.evaluate(kzoo.export.load(path), test)
    for name, result in results.items():
        classes = ", ".join(f"{label} {measures['AP']:.3f}" for label, measures in result["per_class"].items())
        print(f"{name:8s} mAP {result['mAP']:.4f}  mAP@0.50 {result['mAP@0.50']:.4f}  ({classes})", flush=True)
    return results


if __name__ == "__main__":
    main()
