"""RetinaNet-ResNet50 beside torchvision's retinanet_resnet50_fpn and keras-hub's RetinaNet: training step, inference.

    python benchmarks/retinanet.py [--size 320] [--batch 2] [--pairs 5] [--threads 2]

Random weights, the same random images and boxes, 20 classes, SGD with momentum, everything trained; with as
many threads each, measured in turn. Prints the median times of an image, and the median ratios of peer to kzoo: above 1
kzoo is faster. Inference includes the suppression. With --precision mixed_bfloat16 all compute in bfloat16,
torchvision under `torch.autocast`.
A peer that is not installed is left out. The peers come into a virtual environment of their own, beside kzoo:

    python -m venv peers && . peers/bin/activate && pip install ".[tensorflow]" torch torchvision
    pip install --no-deps keras-hub tokenizers
"""

import argparse
import importlib.util
from collections.abc import Callable

import numpy as np
from sides import PRECISIONS, Side, compare, torch_precision

CLASSES = 20
Functions = tuple[int, dict[str, Callable]]  # the number of parameters, and what to time


def scene(batch: int, size: int, objects: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise images (B, size, size, 3) 0..255, boxes (B, objects, 4) xyxy, labels (B, objects)."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.6, (batch, objects, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (batch, objects, 2))], -1) * size
    images = rng.uniform(0, 255, (batch, size, size, 3))
    return images.astype("float32"), boxes.astype("float32"), rng.integers(0, CLASSES, (batch, objects))


def of_kzoo(options, images: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> Functions:
    import keras
    import tensorflow as tf

    import kzoo

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    keras.config.set_dtype_policy(options.precision)
    model = kzoo.models.RetinaNet(CLASSES, images.shape[1])
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9))
    targets = {"boxes": boxes, "labels": labels.astype("int32")}
    return model.count_params(), {
        "train": lambda: model.train_on_batch(images, targets),
        "detect": lambda: model.detect(images),
    }


def of_torchvision(options, images: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> Functions:
    import torch
    from torchvision.models.detection import retinanet_resnet50_fpn

    torch.set_num_threads(options.threads)
    size = images.shape[1]
    model = retinanet_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES,
        min_size=size,
        max_size=size,
        trainable_backbone_layers=5,
    )
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)
    pixels = [torch.from_numpy(image.transpose(2, 0, 1) / 255) for image in images]
    targets = [
        {"boxes": torch.from_numpy(b), "labels": torch.from_numpy(np.asarray(n, "int64"))}
        for b, n in zip(boxes, labels, strict=True)
    ]

    def train():
        model.train()
        optimizer.zero_grad()
        with torch_precision(options.precision):
            loss = sum(model(pixels, targets).values())
        loss.backward()
        optimizer.step()
        return loss.item()

    def detect():
        model.eval()
        with torch.inference_mode(), torch_precision(options.precision):
            return model(pixels)

    return sum(p.numel() for p in model.parameters()), {"train": train, "detect": detect}


def of_keras_hub(options, images: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> Functions:
    import keras
    import keras_hub
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    keras.config.set_dtype_policy(options.precision)
    size = images.shape[1]
    resnet = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(size, size, 3),
    )
    backbone = keras_hub.models.RetinaNetBackbone(
        image_encoder=resnet, min_level=3, max_level=7, use_p5=False, image_shape=(size, size, 3)
    )
    model = keras_hub.models.RetinaNetObjectDetector(backbone, CLASSES, bounding_box_format="xyxy")
    # XLA, Keras' choice on a CPU, makes convolutions several times slower there: both go without.
    model.compile(
        optimizer=keras.optimizers.SGD(1e-4, momentum=0.9),
        box_loss="auto",
        classification_loss="auto",
        jit_compile=False,
    )
    pixels = images / 255
    targets = {"boxes": boxes, "labels": labels.astype("float32")}
    return model.count_params(), {
        # Its own method takes no targets in a dictionary; keras-hub's `fit` calls Keras' as well.
        "train": lambda: keras.Model.train_on_batch(model, pixels, targets),
        "detect": lambda: model.predict(pixels, batch_size=len(pixels), verbose=0),
    }


PEERS = {"torchvision": ("torchvision", of_torchvision), "keras-hub": ("keras_hub", of_keras_hub)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 320), ("batch", 2), ("pairs", 5), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    options = parser.parse_args()
    print(
        "{size} pixels, batch {batch}, {threads} threads, {precision}, {pairs} rounds".format(**vars(options)),
        flush=True,
    )
    batch = scene(options.batch, options.size)
    sides = {"kzoo": Side(of_kzoo, options, *batch)}
    for name in options.peers:
        package, make = PEERS[name]
        if importlib.util.find_spec(package) is None:
            print(f"{name} is not installed: left out")
            continue
        sides[name] = Side(make, options, *batch)
    compare(sides, ("train", "detect"), options.pairs, options.batch)


if __name__ == "__main__":
    main()
