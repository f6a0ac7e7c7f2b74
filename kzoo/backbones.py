"""Backbones as pyramids: image in, feature maps {"C1": ..., "C5": ...} out, where Ck has a stride of 2^k pixels.

Images come in as RGB 0..255; each network's own normalisation is part of it. Random initialisation never reaches for a
network connection; `weights="imagenet"` asks Keras for its published weights.
"""

from pathlib import Path

import keras
from keras import layers

from kzoo.layers import PixelNormalization
from kzoo.messages import unknown_name

# Keras application, pixel normalisation, and the layers that end C1..C4: a MobileNet's stage ends where the padding of
# the next stride begins (its input is taken), a ResNet's at the sum of its last block (its output is taken).
_APPLICATIONS = {
    "mobilenet": ("MobileNet", "unit", ("conv_pad_2", "conv_pad_4", "conv_pad_6", "conv_pad_12")),
    "mobilenet_v2": ("MobileNetV2", "unit", ("block_1_pad", "block_3_pad", "block_6_pad", "block_13_pad")),
    "mobilenet_v3_small": (
        "MobileNetV3Small",
        "none",
        tuple(f"expanded_conv{k}_depthwise_pad" for k in ("", "_1", "_3", "_8")),
    ),
    "mobilenet_v3_large": (
        "MobileNetV3Large",
        "none",
        tuple(f"expanded_conv{k}_depthwise_pad" for k in ("_1", "_3", "_6", "_12")),
    ),
    "resnet50": ("ResNet50", "caffe", ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out")),
}


def names() -> list[str]:
    """The names that `create` knows."""
    return sorted([*_APPLICATIONS, "tiny", "vgg16"])


def create(
    name: str | keras.Model,
    image_size: tuple[int | None, int | None] = (None, None),
    width: float = 1.0,
    weights: str | Path | None = None,
    frozen_stages: int = 0,
    frozen_batch_norm: bool = False,
    last_stage: int = 5,
) -> keras.Model:
    """Builds a backbone.

    Args:
        name: one of `names()`; or a functional Keras model of your own that takes pixels 0..255: one whose output is
            a dict {"C3": ...} or {"P3": ...}, or a pyramid backbone of keras-cv or keras-hub.
        image_size: (height, width); None for any.
        width: multiplies the number of channels, in the families that have it (MobileNets V1 to V3, tiny, vgg16).
        weights: None for random, "imagenet", or the path of a .weights.h5 file of the Keras application of the same
            name with include_top=False (for "tiny": of `create("tiny")`).
        frozen_stages: the layers up to this Ck keep their weights, and their batch norm its statistics. 2 is usual for
            fine-tuning and spares the most expensive part of the backward pass.
        frozen_batch_norm: every batch norm of the backbone keeps its pretrained statistics and scale, as is usual for
            fine-tuning with small batches.
        last_stage: leaves out the layers beyond this Ck.

    Returns:
        a keras.Model from (B, H, W, 3) to a dict of feature maps, finest first.

    Raises:
        ValueError: for an unknown name, a width the family lacks, or weights that are missing or do not fit.
    """
    if isinstance(name, keras.Model):
        return _own(name, frozen_stages, frozen_batch_norm, last_stage)
    if name not in names():
        raise ValueError(unknown_name("backbone", name, names()))
    if name == "tiny":
        body, maps, normalization = *_tiny(image_size, width), "unit"
    elif name == "vgg16":
        body, maps, normalization = *_vgg16(image_size, width), "caffe"
    else:
        body, maps, normalization = _application(name, image_size, width)
    if weights is not None:
        _load_weights(body, name, width, weights)
    pyramid = keras.Model(body.input, _up_to(last_stage, maps), name=name)
    freeze(pyramid, frozen_stages, frozen_batch_norm)
    images = keras.Input((*image_size, 3), name="images")
    return keras.Model(images, pyramid(PixelNormalization(normalization)(images)), name=f"{name}_backbone")


def freeze(pyramid: keras.Model, stages: int = 0, batch_norm: bool = False) -> None:
    """Makes untrainable the layers up to the feature map C`stages` and, on request, every batch normalisation."""
    if stages:
        key = f"C{stages}"
        if key not in pyramid.output:
            raise ValueError(f"frozen_stages={stages}: the backbone has {', '.join(pyramid.output)} and no {key}.")
        for layer in keras.Model(pyramid.input, pyramid.output[key]).layers:
            layer.trainable = False
    if batch_norm:
        for layer in pyramid.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.trainable = False


def _up_to(last_stage: int, maps: dict) -> dict:
    return {key: x for key, x in maps.items() if int(key[1:]) <= last_stage}


def _own(model: keras.Model, frozen_stages: int, frozen_batch_norm: bool, last_stage: int) -> keras.Model:
    if hasattr(model, "pyramid_outputs"):  # keras-hub
        outputs = model.pyramid_outputs
    elif hasattr(model, "pyramid_level_inputs"):  # keras-cv
        outputs = {key: model.get_layer(name).output for key, name in model.pyramid_level_inputs.items()}
    else:
        outputs = model.output
    if not isinstance(outputs, dict) or not all(k[:1] in "CP" and k[1:].isdigit() for k in outputs):
        raise ValueError(
            "A backbone of your own must return a dict of feature maps named by stride, {'C3': ..., 'C4': ...}. "
            f"Received outputs: {list(outputs) if isinstance(outputs, dict) else outputs}."
        )
    renamed = {f"C{key[1:]}": x for key, x in outputs.items()}
    model = keras.Model(model.input, _up_to(last_stage, renamed), name=model.name)
    freeze(model, frozen_stages, frozen_batch_norm)
    return model


def _load_weights(body: keras.Model, name: str, width: float, weights: str | Path) -> None:
    if str(weights) == "imagenet":
        if name == "tiny" or (name == "vgg16" and width != 1.0):
            raise ValueError(
                f"There are no published weights of {name!r} in width {width}. Use weights=None or a path."
            )
        published = (
            keras.applications.VGG16(include_top=False, weights="imagenet")
            if name == "vgg16"
            else _keras_application(name, (None, None), width, "imagenet")
        )
        body.set_weights(published.get_weights())
        return
    path = Path(weights)
    if not path.is_file() or not path.name.endswith(".weights.h5"):
        raise ValueError(f"weights={str(weights)!r} is neither None, 'imagenet' nor an existing .weights.h5 file.")
    try:
        body.load_weights(path)
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path}: not the weights of the backbone {name!r} in width {width} ({reason})") from error


def _keras_application(name: str, image_size, width: float, weights: str | None) -> keras.Model:
    arguments = {"include_top": False, "weights": weights, "input_shape": (*image_size, 3)}
    if name.startswith("mobilenet"):
        arguments["alpha"] = width
    elif width != 1.0:
        raise ValueError(f"The backbone {name!r} comes in width 1 only. Received: width={width}.")
    return getattr(keras.applications, _APPLICATIONS[name][0])(**arguments)


def _application(name: str, image_size, width: float):
    _, normalization, stages = _APPLICATIONS[name]
    body = _keras_application(name, image_size, width, None)
    ends = [body.get_layer(stage) for stage in stages]
    tensors = [layer.input if isinstance(layer, layers.ZeroPadding2D) else layer.output for layer in ends]
    return body, {f"C{k}": x for k, x in enumerate([*tensors, body.output], start=1)}, normalization


def _tiny(image_size, width: float):
    """A small residual-free network that trains in a minute: five stages of 3x3 convolutions with batch norm."""
    images = keras.Input((*image_size, 3))
    x, maps = images, {}
    for stage, (filters, depth) in enumerate([(16, 1), (32, 1), (64, 2), (96, 2), (128, 2)], start=1):
        for block in range(1, depth + 1):
            name = f"stage{stage}_block{block}"
            strides = 2 if block == 1 else 1
            x = layers.Conv2D(
                max(8, round(filters * width)), 3, strides, padding="same", use_bias=False, name=f"{name}_conv"
            )(x)
            x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        maps[f"C{stage}"] = x
    return keras.Model(images, x, name="tiny_body"), maps


def _vgg16(image_size, width: float):
    """VGG16's thirteen convolutions (Simonyan and Zisserman, 2015, table 1 D), any width, under Keras' layer names."""
    images = keras.Input((*image_size, 3))
    x, maps = images, {}
    for block, (filters, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1):
        for conv in range(1, depth + 1):
            x = layers.Conv2D(
                max(4, round(filters * width)), 3, padding="same", activation="relu", name=f"block{block}_conv{conv}"
            )(x)
        maps[f"C{block - 1}"] = x
        # "same" keeps the odd last row: 75 -> 38, as in Caffe, where SSD and FCN were made.
        x = layers.MaxPooling2D(2, padding="same", name=f"block{block}_pool")(x)
    return keras.Model(images, x, name="vgg16_body"), maps | {"C5": x}
