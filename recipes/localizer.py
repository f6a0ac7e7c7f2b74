"""Classification + localization: one network says what the single object of an image is, and where.

    python recipes/localizer.py

On the embedded single digits (`digits/single`, made on the spot), or any data set with --data: of several objects the
largest is learned. With --backbone alexnet --image-size 227 it is the taught network: AlexNet's trunk, a softmax head
and an L2 head, trained together. From scratch, 30 epochs are too few; docs/results.md has what a pretrained MobileNet
reached. Prints accuracy, mean IoU and how many boxes are decent (IoU above 0.5), pretty good (0.7) and almost perfect
(0.9), of the Keras model and of its int8 file.
"""

import argparse

import keras

import kzoo


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits/single")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--weights", default=None, help="imagenet, or a file of the backbone's weights")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--augment", default="jitter,photometric", help="no flips: a mirrored digit is none")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--output", type=kzoo.training.output_name, default="localizer")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    common = {"image_size": options.image_size, "batch_size": options.batch_size, "limit": options.limit}
    train = kzoo.data.load(options.data, split="train", augment=options.augment.split(","), **common)
    test = kzoo.data.load(options.data, split="test", **common)
    model = kzoo.models.Localizer(
        train.num_classes,
        image_size=options.image_size,
        backbone=options.backbone,
        weights=options.weights,
        width=options.width,
        class_names=train.class_names,
    )
    steps = options.epochs * train.steps_per_epoch
    warmup = min(train.steps_per_epoch, steps // 4)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.01, warmup_target=options.learning_rate, warmup_steps=warmup
    )
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0))
    model.fit(train, epochs=options.epochs, verbose=2, shuffle=False)
    model.save(f"{options.output}.keras")
    localizers = {"keras": model}
    # Under JAX train here, then write the file with `kzoo export localizer.keras`: only TensorFlow writes it.
    if keras.backend.backend() == "tensorflow":
        file = kzoo.export.litert(model, f"{options.output}_int8.tflite", quantization="int8", calibration=train)
        localizers["int8"] = kzoo.export.load(file)

    results = {}
    for name, detector in localizers.items():
        metric = kzoo.metrics.Localization(test.class_names)
        results[name] = result = kzoo.metrics.evaluate(detector, test, metric=metric)
        grades = ", ".join(f"{grade} {result[f'IoU>{limit}']:.3f}" for grade, limit in kzoo.metrics.GRADES.items())
        print(f"{name:8s} accuracy {result['accuracy']:.4f}  mean IoU {result['mean_IoU']:.4f}  ({grades})", flush=True)
    return results


if __name__ == "__main__":
    main()
