"""Pretrains YOLO's twenty convolutions as a classifier (Redmon et al., You Only Look Once, CVPR 2016, section 2.2).

    python recipes/yolo_pretrain.py path/to/imagenet/train --validation path/to/imagenet/val

The folders hold one folder of images a class. Twenty convolutions (six of Fast YOLO's with --backbone fast_yolo),
average pooling and one connected layer at 224 pixels; SGD with momentum 0.9 and decay 5e-4, a rate of 0.1 that falls
with the fourth power (code). The paper trained a week on ImageNet to 88 % top-5; not run whole with kzoo. Writes
yolo_pretrain.weights.h5, which `kzoo.models.YOLO(weights=...)` and recipes/yolo.py take.
"""

import argparse
from pathlib import Path

import keras

import kzoo


def images_of(folder: str, size: int, batch_size: int, shuffle: bool):
    """Batches of (images 0..255, labels) of a folder of class folders."""
    return keras.utils.image_dataset_from_directory(
        folder, image_size=(size, size), batch_size=batch_size, shuffle=shuffle, seed=0, crop_to_aspect_ratio=True
    )


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--validation", default=None)
    parser.add_argument("--backbone", default="yolo", choices=("yolo", "fast_yolo"))
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--output", type=kzoo.training.output_name, default="yolo_pretrain")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    weights = Path(f"{options.output}.weights.h5")

    size = options.image_size
    train = images_of(options.folder, size, options.batch_size, shuffle=True)
    validation = options.validation and images_of(options.validation, size, options.batch_size, shuffle=False)
    steps = options.epochs * len(train)
    backbone = kzoo.backbones.create(options.backbone, (size, size), options.width)
    images = keras.Input((size, size, 3))
    x = keras.layers.RandomFlip("horizontal")(images)
    x = list(backbone(x).values())[-1]
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(len(train.class_names))(x))
    rate = keras.optimizers.schedules.PolynomialDecay(options.learning_rate, steps, 0.0, power=4.0)
    model.compile(
        kzoo.training.caffe_sgd(rate, clipnorm=10.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(min(5, len(train.class_names)), name="top5")],
        jit_compile=kzoo.models.running.resolve_jit_compile("auto"),
    )
    history = model.fit(train, validation_data=validation, epochs=options.epochs, verbose=2, shuffle=False).history
    body = next(layer for layer in backbone.layers if isinstance(layer, keras.Model))
    body.save_weights(weights)
    result = {name: values[-1] for name, values in history.items()}
    print(", ".join(f"{name} {value:.4f}" for name, value in result.items()))
    return result


if __name__ == "__main__":
    main()
