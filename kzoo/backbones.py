"""Backbones as pyramids: image in, feature maps {"C1": ..., "C5": ...} out, where Ck has a stride of 2^k pixels.

Images come in as RGB 0..255; each network's own normalisation is part of it. Random initialisation never reaches for a
network connection; `weights="imagenet"` asks Keras for its published weights.
"""

import functools
from pathlib import Path

import keras
from keras import layers

from kzoo.layers import BatchNormalization, Conv2D, PixelNormalization
from kzoo.messages import unknown_name
from kzoo.types import Tensor

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

_BIASED = ("resnet50",)  # a bias before each batch norm in Keras; neither the paper nor kzoo has one


def names() -> list[str]:
    """The names that `create` knows."""
    return sorted([*_APPLICATIONS, *_OWN])


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
        width: multiplies the number of channels, in the families that have it (MobileNets V1 to V3 and those
            that are no Keras application, and vgg16).
        weights: None for random, "imagenet", or the path of a .weights.h5 file of the Keras application of the same
            name with include_top=False (for those that are none: of `create(name)`).
        frozen_stages: the layers up to this Ck keep their weights, and their batch norm its statistics. 2 is usual for
            fine-tuning and spares the most expensive part of the backward pass.
        frozen_batch_norm: every batch norm of the backbone keeps its pretrained statistics and scale, as is usual for
            fine-tuning with small batches.
        last_stage: leaves out the layers beyond this Ck.

    Returns:
        a keras.Model from (B, H, W, 3) to a dict of feature maps, finest first.

    Raises:
        ValueError: for an unknown name, a width the family lacks, weights that are missing or do not fit, or
            weights with a model of your own.
    """
    if isinstance(name, keras.Model):
        if weights is not None:
            raise ValueError(f"{name.name}: a model of your own brings its weights: leave weights={weights!r} out.")
        return _own(name, frozen_stages, frozen_batch_norm, last_stage)
    if name not in names():
        raise ValueError(unknown_name("backbone", name, names()))
    if name in _OWN:
        build, normalization = _OWN[name]
        body, maps = build(image_size, width)
    else:
        body, maps, normalization = _application(name, image_size, width)
    if weights is not None:
        _load_weights(body, name, width, weights)
    pyramid = keras.Model(body.input, _up_to(last_stage, maps), name=name)
    freeze(pyramid, frozen_stages, frozen_batch_norm)
    images = keras.Input((*image_size, 3), name="images")
    return keras.Model(images, pyramid(PixelNormalization(normalization)(images)), name=f"{name}_backbone")


def origin(name: str | keras.Model) -> float:
    """The pixel that the first cell of C4 looks at, the middle of what it sees; the others follow 16 pixels apart.

    0 where every layer pads its borders by half its kernel, as is taken of a model of your own.
    """
    return _ORIGINS[name] if isinstance(name, str) else 0.0


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
    renamed = {f"C{key[1:]}": outputs[key] for key in sorted(outputs, key=lambda key: int(key[1:]))}
    model = keras.Model(model.input, _up_to(last_stage, renamed), name=model.name)
    freeze(model, frozen_stages, frozen_batch_norm)
    return model


def _load_weights(body: keras.Model, name: str, width: float, weights: str | Path) -> None:
    source = body
    if str(weights) == "imagenet":
        if name in _OWN and (name != "vgg16" or width != 1.0):
            raise ValueError(
                f"There are no published weights of {name!r} in width {width}. Use weights=None or a path."
            )
        source = (
            keras.applications.VGG16(include_top=False, weights="imagenet")
            if name == "vgg16"
            else _keras_application(name, (None, None), width, "imagenet")
        )
    else:
        path = Path(weights)
        if not path.is_file() or not path.name.endswith(".weights.h5"):
            raise ValueError(f"weights={str(weights)!r} is neither None, 'imagenet' nor an existing .weights.h5 file.")
        if name in _BIASED:
            source = _keras_application(name, (None, None), width, None)
        try:
            source.load_weights(path)
        except (ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"{path}: not the weights of the backbone {name!r} in width {width} ({reason})") from error
    if name in _BIASED:
        _take_over_without_biases(body, source)
    elif source is not body:
        body.set_weights(source.get_weights())


def _take_over_without_biases(body: keras.Model, source: keras.Model) -> None:
    """What a bias adds, the batch norm behind it takes away again: its mean keeps it."""
    for layer in (layer for layer in source.layers if layer.weights):
        values = layer.get_weights()
        if isinstance(layer, layers.Conv2D):
            values = values[:1]
        elif isinstance(layer, layers.BatchNormalization):
            values[2] -= source.get_layer(layer.name.replace("bn", "conv")).get_weights()[1]
        body.get_layer(layer.name).set_weights(values)


def _keras_application(name: str, image_size, width: float, weights: str | None) -> keras.Model:
    arguments = {"include_top": False, "weights": weights, "input_shape": (*image_size, 3)}
    if name.startswith("mobilenet"):
        arguments["alpha"] = width
    elif width != 1.0:
        raise ValueError(f"The backbone {name!r} comes in width 1 only. Received: width={width}.")
    return getattr(keras.applications, _APPLICATIONS[name][0])(**arguments)


def _application(name: str, image_size, width: float):
    _, normalization, stages = _APPLICATIONS[name]
    published = _keras_application(name, image_size, width, None)
    body = keras.models.clone_model(published, clone_function=functools.partial(_lighter, biases=name not in _BIASED))
    ends = [body.get_layer(stage) for stage in stages]
    tensors = [layer.input if isinstance(layer, layers.ZeroPadding2D) else layer.output for layer in ends]
    return body, {f"C{k}": x for k, x in enumerate([*tensors, body.output], start=1)}, normalization


def _lighter(layer: keras.layers.Layer, biases: bool) -> keras.layers.Layer:
    """The same layer for less: our kinds, and convolutions without biases where a batch norm follows each."""
    ours = {layers.BatchNormalization: BatchNormalization, layers.Conv2D: Conv2D}
    without = {"use_bias": False} if isinstance(layer, layers.Conv2D) and not biases else {}
    return ours.get(type(layer), type(layer)).from_config(layer.get_config() | without)


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
            x = BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        maps[f"C{stage}"] = x
    return keras.Model(images, x, name="tiny_body"), maps


def _vgg16(image_size, width: float):
    """VGG16's thirteen convolutions (Simonyan and Zisserman, 2015, table 1 D), any width, under Keras' layer names."""
    images = keras.Input((*image_size, 3))
    x, maps = images, {}
    for block, (filters, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1):
        for conv in range(1, depth + 1):
            x = Conv2D(
                max(4, round(filters * width)), 3, padding="same", activation="relu", name=f"block{block}_conv{conv}"
            )(x)
        maps[f"C{block - 1}"] = x
        # "same" keeps the odd last row: 75 -> 38, as in Caffe, where SSD and FCN were made.
        x = layers.MaxPooling2D(2, padding="same", name=f"block{block}_pool")(x)
    return keras.Model(images, x, name="vgg16_body"), maps | {"C5": x}


def _alexnet(image_size, width: float):
    """AlexNet's five convolutions (Krizhevsky et al., NIPS 2012) up to the last pooling, 6 x 6 of 227 pixels.

    In one tower, as it is taught: neither split over two GPUs nor with local response normalisation. Nothing is padded
    at the borders but conv2 to conv5, so the strides are only nearly 4, 8, 16 and 32.
    """
    if any(size is not None and size < 67 for size in image_size):
        raise ValueError(f"alexnet needs images of at least 67 x 67 pixels. Received: image_size={tuple(image_size)}.")
    images = keras.Input((*image_size, 3))

    def conv(x, number, filters, kernel, strides=1, padding="same"):
        filters = max(4, round(filters * width))
        return layers.Conv2D(
            filters,
            kernel,
            strides,
            padding,
            activation="relu",
            kernel_initializer="he_normal",
            name=f"conv{number}",
        )(x)

    c2 = conv(images, 1, 96, 11, 4, "valid")
    c3 = conv(layers.MaxPooling2D(3, 2, name="pool1")(c2), 2, 256, 5)
    x = conv(layers.MaxPooling2D(3, 2, name="pool2")(c3), 3, 384, 3)
    c4 = conv(conv(x, 4, 384, 3), 5, 256, 3)
    c5 = layers.MaxPooling2D(3, 2, name="pool5")(c4)
    return keras.Model(images, c5, name="alexnet_body"), {"C2": c2, "C3": c3, "C4": c4, "C5": c5}


def _yolo(image_size, width: float):
    """The twenty convolutions of YOLO that are first trained as a classifier (Redmon et al., CVPR 2016, figure 3)."""
    narrow, wide = [(256, 1, 1), (512, 3, 1)], [(512, 1, 1), (1024, 3, 1)]
    stages = {
        1: [(64, 7, 2)],
        2: [(192, 3, 1)],
        3: [(128, 1, 1), (256, 3, 1), *narrow],
        4: [*narrow * 4, *wide],
        5: wide * 2,
    }
    return _darknet(image_size, width, stages, "yolo_body")


def _fast_yolo(image_size, width: float):
    """The first six of Fast YOLO's nine convolutions (code: its configuration; the paper gives their number only)."""
    stages = {level: [(filters, 3, 1)] for level, filters in enumerate((16, 32, 64, 128, 256, 512))}
    return _darknet(image_size, width, stages, "fast_yolo_body")


def _darknet(image_size, width: float, stages: dict[int, list[tuple[int, int, int]]], name: str):
    """Convolutions of (filters, kernel, strides) with leaky ReLUs, a max pooling between the stages."""
    images = keras.Input((*image_size, 3))
    x, maps, number = images, {}, 0
    for level, convolutions in stages.items():
        if number:
            x = layers.MaxPooling2D(2, padding="same", name=f"pool{level}")(x)
        for filters, kernel, strides in convolutions:
            number += 1
            x = leaky_conv(x, max(4, round(filters * width)), kernel, strides, f"conv{number}")
        if level:
            maps[f"C{level}"] = x
    return keras.Model(images, x, name=name), maps


def leaky_conv(x: Tensor, filters: int, kernel: int, strides: int, name: str) -> Tensor:
    """A convolution with bias and a leaky ReLU of 0.1 (YOLO, section 2.2)."""
    x = Conv2D(filters, kernel, strides, "same", kernel_initializer="he_normal", name=name)(x)
    return layers.LeakyReLU(negative_slope=0.1, name=f"{name}_leaky")(x)


_OWN = {
    "alexnet": (_alexnet, "unit"),
    "fast_yolo": (_fast_yolo, "unit"),
    "tiny": (_tiny, "unit"),
    "vgg16": (_vgg16, "caffe"),
    "yolo": (_yolo, "unit"),
}
# Layers of stride 2 look half a stride further in where they pad one end only or pool 2 x 2.
_ORIGINS = {
    "alexnet": 17.0,
    "fast_yolo": 7.5,
    "mobilenet": 15.0,
    "mobilenet_v2": 15.0,
    "mobilenet_v3_large": 15.0,
    "mobilenet_v3_small": 15.0,
    "resnet50": 0.0,
    "tiny": 15.0,
    "vgg16": 7.5,
    "yolo": 7.5,
}
