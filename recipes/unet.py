"""U-Net on any folder of images and masks, same-padded, from scratch (Ronneberger et al., MICCAI 2015).

    python recipes/unet.py --data camvid --augment street --balance root

The name of a data set, or a folder with a split to train on and one to measure. Rare classes are weighed more with
--balance. Writes unet.keras, and .tflite files in float32 and int8, and prints the measures of all three;
docs/results.md holds measured scores. For U-Net's own data and its two inventions see unet_isbi.py.
"""

import argparse

import keras
import numpy as np

import kzoo
from kzoo.training import class_weights


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--image-size", type=int, nargs=2, default=(192, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument(
        "--dropout", type=float, default=0.0, help="after the contracting path; batch norm comes behind it"
    )
    parser.add_argument("--augment", default="light", help="light, street, no_up, unet, ...")
    parser.add_argument("--balance", default="none", help="weigh rare classes more: median, or root of that")
    parser.add_argument("--loss", default="cross_entropy", help="cross_entropy, dice or focal, without --balance")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument(
        "--precision",
        default="float32",
        help="or mixed_bfloat16: half the time with AMX, two thirds with AVX-512's bfloat16",
    )
    parser.add_argument("--output", type=kzoo.training.output_name, default="unet")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(options.precision)

    size = tuple(options.image_size)
    common = {"image_size": size, "batch_size": options.batch_size, "limit": options.limit, "task": "segmentation"}
    train = kzoo.data.load(options.data, options.train_split, augment=options.augment, start_epoch=0, **common)
    test = kzoo.data.load(options.data, options.test_split, **common)
    weights = class_weights(options.balance, np.stack([sample.counts for sample in train.annotations.samples]))

    model = kzoo.models.UNet(
        train.num_classes,
        image_size=size,
        padding="same",
        width=options.width,
        depth=options.depth,
        dropout=options.dropout,
        batch_norm=True,
        loss=options.loss if weights is None else "weighted_cross_entropy",
        class_weights=weights,
        class_names=train.class_names,
    )
    steps = train.steps_per_epoch
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.epochs * steps, alpha=0.01)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0))
    model.fit(train, epochs=options.epochs, steps_per_epoch=steps, verbose=2, shuffle=False)
    model.save(f"{options.output}.keras")

    results = {"keras": kzoo.metrics.evaluate(model, test)}
    # Under JAX train here, then write the files with `kzoo export unet.keras`: only TensorFlow writes them.
    kinds = (("float32", None), ("int8", "int8")) if keras.backend.backend() == "tensorflow" else ()
    for kind, quantization in kinds:
        path = f"{options.output}_{kind}.tflite"
        calibration = kzoo.data.load(options.data, options.train_split, **common)
        kzoo.export.litert(model, path, quantization=quantization, calibration=calibration)
        results[kind] = kzoo.metrics.evaluate(kzoo.export.load(path), test)
    for label, measures in results["keras"]["per_class"].items():
        print(f"{label:16s} IoU {measures['IoU']:.3f}")
    for name, result in results.items():
        print(f"{name:8s} mIoU {result['mIoU']:.4f}  pixels {result['pixel_accuracy']:.4f}", flush=True)
    return results


if __name__ == "__main__":
    main()
