"""RoI max pooling (Girshick, Fast R-CNN, ICCV 2015, section 2.1)."""

import math

import keras
import numpy as np
from keras import ops

from kzoo.layers.rectangle_max import rectangle_max
from kzoo.layers.sizes import require_sizes
from kzoo.types import Tensor


@keras.saving.register_keras_serializable("kzoo")
class RoIPooling(keras.layers.Layer):
    """Divides each region of interest into pool_size x pool_size bins of cells and takes the maximum of each.

    The corners of a region are rounded to cells (half away from zero) and both belong to it, so that it is
    round(x2 / stride) - round(x1 / stride) + 1 cells wide, at least one; bin i of p covers the cells from
    floor(i width / p) to ceil((i + 1) width / p), cut at the border of the map. A bin without cells is 0. This is
    torchvision's `roi_pool` in exact integers (float32 there adds a cell to the last bin of a region 57 cells wide).
    The gradient goes to the cell of each maximum, to one or several of equals; regions have no gradient.

    Args:
        pool_size: p, bins along each side.
        clip_rois: whether regions are first cut to the map. It makes the table behind the layer several times smaller
            and changes nothing for regions that lie in the image.

    Call:
        features: (B, h, w, C); rois: (B, R, 4) xyxy pixels of the image; stride: pixels of the image to a cell.
    Returns:
        (B, R, p, p, C) in the compute dtype.
    """

    def __init__(self, pool_size: int = 7, clip_rois: bool = False, **kwargs):
        super().__init__(autocast=False, **kwargs)  # pixels beyond 2048 are no longer whole in float16
        if pool_size < 1:
            raise ValueError(f"pool_size must be at least 1. Received: {pool_size}.")
        self.pool_size = pool_size
        self.clip_rois = clip_rois

    def call(self, features, rois, stride: float = 16):
        features = ops.cast(features, self.compute_dtype)
        rois = ops.stop_gradient(ops.cast(rois, "float32")) * (1.0 / stride)
        _, height, width, channels = features.shape
        largest = None
        if self.clip_rois:
            rois = ops.minimum(ops.maximum(rois, 0.0), np.array([width, height, width, height], "float32"))
            # A region cut to the image is at most one cell wider than the map.
            largest = tuple(math.ceil((size + 1) / self.pool_size) + 1 for size in (height, width))
        left, right = self._bins(rois[..., 0], rois[..., 2], width)
        top, bottom = self._bins(rois[..., 1], rois[..., 3], height)
        p, batch, regions = self.pool_size, ops.shape(features)[0], rois.shape[1]

        def grid(bins, axis):
            bins = ops.repeat(ops.expand_dims(bins, axis), p, axis=axis)
            return ops.reshape(bins, (batch, regions * p * p))

        pooled = rectangle_max(features, grid(top, 3), grid(bottom, 3), grid(left, 2), grid(right, 2), largest)
        return ops.reshape(pooled, (batch, regions, p, p, channels))

    def _bins(self, low, high, cells: int):
        """First and last-but-one cells (B, R, p) of the bins between two borders (B, R)."""
        low, high = round_half_away(low)[..., None], round_half_away(high)[..., None]
        size = ops.maximum(high - low + 1, 1)
        index = ops.arange(self.pool_size, dtype="int32")
        first = low + index * size // self.pool_size
        end = low + ((index + 1) * size + self.pool_size - 1) // self.pool_size

        def cut(x):
            # No `clip`: LiteRT's converter would take one to 0..6 for a ReLU6, which has no integers.
            return ops.where(x > cells, cells, ops.maximum(x, 0))

        return cut(first), cut(end)

    def compute_output_shape(self, features_shape, rois_shape=None):
        require_sizes(self.name, features_shape)
        return (rois_shape[0], rois_shape[1], self.pool_size, self.pool_size, features_shape[-1])

    def get_config(self):
        return super().get_config() | {"pool_size": self.pool_size, "clip_rois": self.clip_rois}


def round_half_away(x: Tensor) -> Tensor:
    """To the nearest integer, halves away from zero as C's `round` (NumPy and Keras round them to even); int32."""
    size = ops.abs(x)
    whole = ops.floor(size)
    whole = whole + ops.cast(size - whole >= 0.5, x.dtype)  # floor(x + 0.5) would round 0.49999997 up
    # Far outside the image all integers are alike; what follows must not overflow.
    return ops.cast(ops.sign(x) * ops.minimum(whole, 1e6), "int32")
