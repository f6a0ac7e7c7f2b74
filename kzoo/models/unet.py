"""U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger, Fischer, Brox, MICCAI 2015).

A contracting path of 3x3 convolutions and poolings, and an expansive path that doubles the map, joins the contracting
path's map of the same size, and convolves again. Convolutions are valid: every output pixel has seen only real pixels,
so an image of any size is predicted in overlapping tiles without seams (figure 2).
"""

import math
from collections.abc import Sequence

import keras
from keras import layers

from kzoo.layers import BatchNormalization, Conv2D, PixelNormalization
from kzoo.messages import unknown_name
from kzoo.models.base import checked_size
from kzoo.models.segmenter import Segmenter, crop_to, logits, pad_to_multiple

PADDINGS = ("valid", "same")
FILTERS = 64  # of the first level, figure 1
DROPOUT = 0.5  # the authors' code


@keras.saving.register_keras_serializable("kzoo")
class UNet(Segmenter):
    """U-Net of any depth and width.

    Args:
        num_classes: background included.
        image_size: (height, width), or one number for a square. With padding "valid" and depth 4 sizes such as 572 fit,
            where every pooling meets an even map; with "same" any size does.
        padding: "valid", the paper's: 572 pixels give the labels of the central 388, and `segment` tiles; or "same":
            the labels of the whole image, and `segment` resizes.
        width: multiplies the channels of figure 1, 64 to 1024.
        depth: how many poolings, 4 in figure 1.
        dropout: rate at the end of the contracting path (section 3.1), after its last two levels (code); None: .5, or 0
            with batch norm, which behind dropout would learn a variance that it does not meet when it predicts.
        batch_norm: batch normalisation after each 3x3 convolution, which the paper does not have.
        loss: "cross_entropy", as in the paper weighted by the targets' "weights"; "weighted_cross_entropy" (with
            `class_weights`, one a class), "dice" or "focal".
        tiled: whether `segment` predicts images of another size in overlapping tiles; None for padding "valid" only.
            With "same", tiles overlap by what the border's zeros reach, at most half of the tile.
        weights: None, or the path of a .weights.h5 file of the same network.
        class_names: what the labels mean; carried into every exported file.

    Outputs:
        (B, h, w, num_classes) logits, float32.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = 572,
        padding: str = "valid",
        width: float = 1.0,
        depth: int = 4,
        dropout: float | None = None,
        batch_norm: bool = False,
        loss: str = "cross_entropy",
        class_weights: Sequence[float] | None = None,
        tiled: bool | None = None,
        weights: str | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "unet",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes, background=True)
        if padding not in PADDINGS:
            raise ValueError(unknown_name("padding", padding, PADDINGS))
        if depth not in range(1, 9):
            raise ValueError(f"depth must be 1 to 8. Received: {depth}.")
        if padding == "valid" and tiled is False:
            raise ValueError(
                "Valid convolutions label the middle of an image only: leave tiled out, or padding='same'."
            )
        if dropout is None:
            dropout = 0.0 if batch_norm else DROPOUT
        sizes = [output_size(side, depth) for side in image_size]
        if padding == "valid" and None in sizes:
            raise ValueError(_no_size(image_size, depth))
        filters = [max(2, round(FILTERS * width * 2**level)) for level in range(depth + 1)]

        def block(x, level: int, part: str):
            for k in (1, 2):
                x = _conv(x, filters[level], padding, batch_norm, f"{part}{level + 1}_conv{k}")
            return x

        # === Functional model
        images = keras.Input((*image_size, 3), name="images")
        x = PixelNormalization("unit", name="normalize")(images)
        x = x if padding == "valid" else pad_to_multiple(x, 2**depth)
        skips = []
        for level in range(depth):
            x = block(x, level, "down")
            if level == depth - 1:
                x = layers.Dropout(dropout, name=f"down{level + 1}_dropout")(x)
            skips.append(x)
            x = layers.MaxPooling2D(2, name=f"down{level + 1}_pool")(x)
        x = block(x, depth, "bottom")
        x = layers.Dropout(dropout, name=f"bottom{depth + 1}_dropout")(x)
        for level in reversed(range(depth)):
            x = _up(x, filters[level], f"up{level + 1}_conv")
            skip = skips[level]
            start = tuple((a - b) // 2 for a, b in zip(skip.shape[1:3], x.shape[1:3], strict=True))
            skip = crop_to(skip, x.shape[1:3], start, f"up{level + 1}_crop")
            x = block(layers.Concatenate(name=f"up{level + 1}_join")([skip, x]), level, "up")
        outputs = logits(x, num_classes, kernel_initializer="he_normal")
        if padding == "same":
            outputs = crop_to(outputs, image_size, name="crop")
        super().__init__(images, outputs, name=name, **kwargs)

        # === Tiles
        self.stride = 2**depth
        tiled = padding == "valid" if tiled is None else tiled
        if tiled:
            self.tile_size = tuple(sizes) if padding == "valid" else _inner(image_size, depth)

        # === Config
        self._arguments = {
            "image_size": image_size,
            "padding": padding,
            "width": width,
            "depth": depth,
            "dropout": dropout,
            "batch_norm": batch_norm,
            "tiled": tiled,
        }
        self._finish(image_size, num_classes, class_names, loss, class_weights)
        if weights is not None:
            _load(self, weights)


def output_size(side: int, depth: int = 4) -> int | None:
    """How many pixels valid convolutions leave of `side`: 388 of 572; None where a pooling would meet an odd map."""
    for _ in range(depth):
        side -= 4
        if side < 2 or side % 2:
            return None
        side //= 2
    for _ in range(depth):
        side = (side - 4) * 2
    return side - 4 if side > 4 else None


def border(depth: int = 4) -> int:
    """How far beyond an output pixel the network looks, at most: (572 - 388) / 2 = 92 for depth 4."""
    # Two 3x3 convolutions at each level and path, 4 cells of 2^level pixels, at the bottom once.
    return sum(4 * 2**level for level in range(depth)) + 2 * 2**depth


def _conv(x, filters: int, padding: str, batch_norm: bool, name: str):
    """3x3 convolution and ReLU; He's start, a standard deviation of sqrt(2 / N) (section 3)."""
    x = Conv2D(filters, 3, padding=padding, use_bias=not batch_norm, kernel_initializer="he_normal", name=name)(x)
    if batch_norm:
        x = BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _up(x, filters: int, name: str):
    """2x2 up-convolution, stride 2, and ReLU (code); each output pixel has the N input channels of one cell."""
    start = keras.initializers.RandomNormal(stddev=math.sqrt(2 / x.shape[-1]))
    return layers.Conv2DTranspose(filters, 2, 2, activation="relu", kernel_initializer=start, name=name)(x)


def _inner(image_size: tuple[int, int], depth: int) -> tuple[int, int]:
    stride = 2**depth
    # A multiple of the stride, like the tiles' places; and beyond the border, which a pooling may reach beyond.
    margin = (border(depth) // stride + 1) * stride
    return tuple(side - 2 * min(margin, side // 4 // stride * stride) for side in image_size)


def _no_size(image_size: tuple[int, int], depth: int) -> str:
    def near(side: int) -> str:
        fitting = [k for k in range(1, side + 4 * 2**depth + 2 * border(depth)) if output_size(k, depth)]
        below, above = [k for k in fitting if k <= side][-1:], [k for k in fitting if k >= side][:1]
        return " or ".join(str(k) for k in sorted({*below, *above}))

    height, width = image_size
    return (
        f"Valid convolutions of depth {depth} do not fit image_size {height} x {width}: a pooling would meet an odd or "
        f"empty map. Take a height of {near(height)} and a width of {near(width)}, or padding='same'."
    )


def _load(model: keras.Model, path: str) -> None:
    try:
        model.load_weights(path)
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"weights={path!r}: neither None nor the .weights.h5 file of a U-Net like this one ({reason})."
        ) from error
