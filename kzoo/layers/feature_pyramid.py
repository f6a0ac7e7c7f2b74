"""Feature pyramid network (Lin et al., CVPR 2017): strong features at every resolution."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kzoo.layers.conv2d import Conv2D
from kzoo.layers.sizes import require_sizes
from kzoo.messages import unknown_name

TOPS = ("conv_c", "conv_p", "pool")


def feature_pyramid(
    features: Mapping[str, Any],
    channels: int = 256,
    last_level: int = 7,
    top: str = "conv_c",
    conv: Callable[..., keras.Layer] = Conv2D,
    name: str = "fpn",
) -> dict[str, Any]:
    """Builds {"P3": ..., "P7": ...} on {"C3": ..., "C5": ...}, part of a functional graph.

    Each P is the sum of a 1x1 convolution of its C and the P above it, enlarged to the size of that C, and then a 3x3
    convolution. The levels above the last C are made by `top`.

    Args:
        features: the backbone's maps (B, H, W, channels of any number), finest first; the first names the first P.
        channels: of every P; 256 in the papers.
        last_level: of the P's, at least that of the last C; 7 in RetinaNet, 6 in Faster R-CNN with FPN.
        top: how a level above the last C is made. "conv_c": a 3x3 convolution with stride 2 of the last C, then of the
            ReLU of the level below (RetinaNet, section 4, footnote 2); "conv_p": the same on the last P; "pool": every
            second position of the level below (FPN, section 4.1).
        conv: makes a 3x3 convolution of (filters, kernel_size, strides, padding=..., name=...); `separable_conv2d`
            for small devices.
        name: how the layers' names begin.

    Returns:
        a dict of feature maps (B, h, w, channels), finest first.

    Raises:
        ValueError: for an unknown `top`, maps that do not follow each other, or a `last_level` below the last C.
    """
    if top not in TOPS:
        raise ValueError(unknown_name("top of the pyramid", top, TOPS))
    levels = [int(key[1:]) for key in features]
    if not levels or levels != list(range(levels[0], levels[0] + len(levels))):
        raise ValueError(f"A pyramid needs maps that follow each other, C3, C4, C5. Received: {', '.join(features)}.")
    if last_level < levels[-1]:
        raise ValueError(f"last_level={last_level} lies below the backbone's {list(features)[-1]}. Leave that map out.")

    pyramid, above = {}, None
    for level, feature in reversed(list(zip(levels, features.values(), strict=True))):
        merged = layers.Conv2D(channels, 1, name=f"{name}_c{level}_lateral")(feature)
        if above is not None:
            merged = UpsampleAdd(name=f"{name}_p{level}_merge")(above, merged)
        pyramid[level] = conv(channels, 3, 1, padding="same", name=f"{name}_p{level}")(merged)
        above = merged

    x = list(features.values())[-1] if top == "conv_c" else pyramid[levels[-1]]
    for level in range(levels[-1] + 1, last_level + 1):
        if top == "pool":
            x = layers.MaxPooling2D(1, 2, name=f"{name}_p{level}")(x)
        else:
            if level > levels[-1] + 1:
                x = layers.ReLU(name=f"{name}_p{level}_relu")(x)
            x = conv(channels, 3, 2, padding="same", name=f"{name}_p{level}")(x)
        pyramid[level] = x
    return {f"P{level}": pyramid[level] for level in sorted(pyramid)}


@keras.saving.register_keras_serializable("kzoo")
class UpsampleAdd(keras.layers.Layer):
    """Doubles a coarse map by nearest neighbour, cuts it to the size of a finer one, and adds the two.

    A map of 75 cells halves to 38, which doubles to 76: the surplus row and column are dropped, so that a fine cell
    (i, j) always meets the coarse cell (i // 2, j // 2) that covers it. A finer map that is larger than the double, as
    after pooling without padding, gets the coarse one stretched to its size.

    Call:
        coarse: (B, h, w, C); fine: (B, H, W, C).
    Returns:
        (B, H, W, C).
    """

    def call(self, coarse, fine):
        height, width = fine.shape[1:3]
        rows, columns = coarse.shape[1:3]
        if height <= 2 * rows and width <= 2 * columns:
            return fine + _doubled(coarse)[:, :height, :width]
        down, right = (_nearest(n, m) for n, m in ((rows, height), (columns, width)))
        return fine + ops.take(ops.take(coarse, down, axis=1), right, axis=2)

    def compute_output_shape(self, coarse_shape, fine_shape):
        require_sizes(self.name, coarse_shape, fine_shape)
        return fine_shape


def _doubled(x):
    """Each cell of (B, h, w, C) four times: (B, 2h, 2w, C)."""
    _, rows, columns, channels = x.shape

    def enlarged(x):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return ops.sum(ops.reshape(upstream, (-1, rows, 2, columns, 2, channels)), axis=(2, 4))

        return ops.image.resize(x, (2 * rows, 2 * columns), interpolation="nearest"), gradient

    if keras.backend.backend() != "tensorflow":
        return enlarged(x)[0]
    return ops.custom_gradient(enlarged)(x)  # XLA knows TensorFlow's resizing, but not the gradient of it


def _nearest(cells: int, size: int) -> np.ndarray:
    """Which of `cells` cells lies under the middle of each of `size`: (size,) int32."""
    return ((np.arange(size) + 0.5) * cells / size).astype("int32")
