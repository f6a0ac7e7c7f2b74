"""Fully Convolutional Networks for Semantic Segmentation (Long, Shelhamer, Darrell, CVPR 2015).

A classifier whose fully connected layers became convolutions scores each cell of its coarsest map; transposed
convolutions that start as bilinear interpolation bring the scores back to the image's size. FCN-32s does so in one
step, FCN-16s adds the scores of pool4 on the way, FCN-8s those of pool3 as well (section 4.2, figure 3).
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import layers

from kzoo import backbones
from kzoo.layers import Conv2DTranspose, PixelNormalization
from kzoo.messages import unknown_name
from kzoo.models.base import checked_size, fine_tuning
from kzoo.models.segmenter import Segmenter, crop_to, pad_to_multiple

STRIDES = (8, 16, 32)
PADDINGS = ("valid", "same")
# conv1_1 pads by 100 (code); its 3x3 kernel takes one pixel of that away again.
BORDER = 99


@keras.saving.register_keras_serializable("kzoo")
class FCN(Segmenter):
    """FCN-32s, 16s and 8s on VGG16, or on any other backbone.

    Args:
        num_classes: background included.
        image_size: (height, width), or one number for a square; any.
        finest_stride: 32, 16 or 8: of the finest map whose scores are added.
        backbone: a name of `kzoo.backbones.names()` or a Keras model that returns {"C3": ..., "C4": ..., "C5": ...}.
            VGG16 brings fc6 and fc7 as convolutions of 7x7 and 1x1; with others C5 is scored itself, as the paper does
            with GoogLeNet.
        width: channel multiplier of the backbone and of fc6 and fc7.
        padding: "valid", the paper's for VGG16: fc6 is not padded, but the image is, by 100 pixels; "same": fc6 is
            padded and the image only filled up to a multiple of 32, which takes half to a quarter of the time on small
            images. None for "valid" with VGG16 and "same" with the others, which know nothing else.
        weights: of the backbone: None, "imagenet" or a path. "imagenet" starts fc6 and fc7 from VGG16's as well.
        dropout: rate after fc6 and fc7.
        frozen_stages, frozen_batch_norm: see `kzoo.backbones.create`; None: VGG16 trains whole, and of another backbone
            with pretrained `weights` C1, C2 and every batch norm stay.
        loss: "cross_entropy", "weighted_cross_entropy" (with `class_weights`, one a class), "dice" or "focal".
        class_names: what the labels mean; carried into every exported file.

    Scores start at zero, so that FCN-16s starts with nearly the output of the FCN-32s whose weights it takes over
    (`kzoo.training.load_matching_weights`), and FCN-8s with that of FCN-16s: the staged training. Unlike the paper's
    loss, a sum over pixels with a learning rate to match, ours is a mean.

    Outputs:
        (B, H, W, num_classes) logits, float32.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = 500,
        finest_stride: int = 8,
        backbone: str | keras.Model = "vgg16",
        width: float = 1.0,
        padding: str | None = None,
        weights: str | None = None,
        dropout: float = 0.5,
        frozen_stages: int | None = None,
        frozen_batch_norm: bool | None = None,
        loss: str = "cross_entropy",
        class_weights: Sequence[float] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "fcn",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes, background=True)
        if finest_stride not in STRIDES:
            raise ValueError(f"finest_stride must be 8, 16 or 32. Received: {finest_stride}.")
        vgg = backbone == "vgg16"
        padding = padding or ("valid" if vgg else "same")
        if padding not in PADDINGS:
            raise ValueError(unknown_name("padding", padding, PADDINGS))
        if padding == "valid" and not vgg:
            raise ValueError("padding='valid' is for the backbone 'vgg16', which has an fc6. Take padding='same'.")
        frozen_stages, frozen_batch_norm = fine_tuning(
            weights is not None and not vgg, frozen_stages, frozen_batch_norm
        )

        # === Functional model
        images = keras.Input((*image_size, 3), name="images")
        x, border = (images, BORDER) if padding == "valid" else (pad_to_multiple(images, 32), 0)
        size = tuple(side + 2 * border for side in x.shape[1:3])
        trunk = backbones.create(backbone, size, width, weights, frozen_stages, frozen_batch_norm)
        pool3, pool4, pool5 = _vgg(trunk, x, border) if vgg else (trunk(x)[key] for key in ("C3", "C4", "C5"))
        pools = {8: _Map(pool3, 8, 3.5 - border), 16: _Map(pool4, 16, 7.5 - border)}
        deepest = _Map(pool5, 32, 15.5 - border)
        if vgg:
            x = _fully_connected(pool5, max(4, round(4096 * width)), padding, dropout)
            # Without padding, the first cell of fc6 sees the first seven of pool5: its centre is three cells further.
            deepest = _Map(x, 32, deepest.origin + (3 * 32 if padding == "valid" else 0))
        scores = _score(deepest, num_classes, "score_fr")
        while scores.stride > finest_stride:
            scores = _upsample(scores, 2, f"upscore_{scores.stride // 2}")
            pool = _score(pools[scores.stride], num_classes, f"score_pool{3 if scores.stride == 8 else 4}")
            scores = _fuse(scores, pool, f"fuse_{scores.stride}")
        scores = _upsample(scores, finest_stride, f"upscore_{finest_stride}_to_image", fixed=True, dtype="float32")
        start = round(-scores.origin)  # 19, 27 and 31 with the paper's padding
        outputs = crop_to(scores.x, image_size, (start, start), "crop")
        super().__init__(images, outputs, name=name, **kwargs)

        # === Config
        self.stride = 32
        self._backbone = backbone
        self._arguments = {
            "image_size": image_size,
            "finest_stride": finest_stride,
            "width": width,
            "padding": padding,
            "dropout": dropout,
            "frozen_stages": frozen_stages,
            "frozen_batch_norm": frozen_batch_norm,
        }
        self._finish(image_size, num_classes, class_names, loss, class_weights)
        if vgg and str(weights) == "imagenet":
            take_over_fully_connected(self, keras.applications.VGG16(weights="imagenet"))


def FCN32s(num_classes: int, **kwargs) -> FCN:
    """FCN-32s: one step of bilinear upsampling, 32 times."""
    return FCN(num_classes, **{"finest_stride": 32, "name": "fcn32s", **kwargs})


def FCN16s(num_classes: int, **kwargs) -> FCN:
    """FCN-16s: adds the scores of pool4."""
    return FCN(num_classes, **{"finest_stride": 16, "name": "fcn16s", **kwargs})


def FCN8s(num_classes: int, **kwargs) -> FCN:
    """FCN-8s: adds the scores of pool4 and pool3."""
    return FCN(num_classes, **{"finest_stride": 8, "name": "fcn8s", **kwargs})


def take_over_fully_connected(model: keras.Model, vgg16: keras.Model) -> None:
    """Starts fc6 and fc7 from VGG16's fully connected layers fc1 and fc2, which saw the 7x7 map as one row."""
    for name, dense in (("fc6", "fc1"), ("fc7", "fc2")):
        layer = model.get_layer(name)
        kernel, bias = vgg16.get_layer(dense).get_weights()
        layer.set_weights([kernel.reshape(layer.kernel.shape), bias])


class _Map(NamedTuple):
    """A feature map and where it lies: the centre of cell i is at pixel stride * i + origin of the image."""

    x: keras.KerasTensor
    stride: int
    origin: float


def _vgg(trunk: keras.Model, images, border: int) -> tuple:
    """pool3, pool4 and pool5 of VGG16; zeros are added behind the normalisation, where they are the mean colour."""
    body = trunk.get_layer("vgg16")
    pools = [body.get_layer(f"block{block}_pool").output for block in (3, 4, 5)]
    x = PixelNormalization("caffe", name="normalize")(images)
    if border:
        x = layers.ZeroPadding2D(border, name="border")(x)
    return tuple(keras.Model(body.input, pools, name="vgg16")(x))


def _fully_connected(x, filters: int, padding: str, dropout: float):
    """fc6 and fc7 as convolutions (section 3.1, figure 2)."""
    for name, kernel in (("fc6", 7), ("fc7", 1)):
        x = layers.Conv2D(filters, kernel, padding=padding, activation="relu", name=name)(x)
        x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return x


def _score(map_: _Map, num_classes: int, name: str) -> _Map:
    """1x1 convolution to the classes, from zero (section 4.3)."""
    x = layers.Conv2D(num_classes, 1, kernel_initializer="zeros", name=name)(map_.x)
    return map_._replace(x=x)


def _upsample(map_: _Map, factor: int, name: str, **kwargs) -> _Map:
    """Transposed convolution without padding; its cell o lies at (o - factor + 0.5) / factor of the input's cells."""
    x = Conv2DTranspose(map_.x.shape[-1], factor, padding="valid", name=name, **kwargs)(map_.x)
    origin = map_.origin - map_.stride * (factor - 0.5) / factor
    return _Map(x, map_.stride // factor, origin)


def _fuse(up: _Map, skip: _Map, name: str) -> _Map:
    """The sum of two maps of one stride where both are: with the paper's padding pool4 is cropped by 5, pool3 by 9."""
    shift = round((up.origin - skip.origin) / up.stride)
    starts = (max(0, -shift), max(0, shift))
    sizes = [[side - start for side in map_.x.shape[1:3]] for map_, start in zip((up, skip), starts, strict=True)]
    size = tuple(map(min, *sizes))
    parts = [
        crop_to(map_.x, size, (start, start), f"{name}_crop_{part}")
        for map_, start, part in zip((up, skip), starts, ("up", "skip"), strict=True)
    ]
    return _Map(layers.Add(name=name)(parts), up.stride, up.origin + starts[0] * up.stride)
