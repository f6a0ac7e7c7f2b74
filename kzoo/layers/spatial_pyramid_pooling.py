"""Spatial pyramid pooling (He et al., SPP-net, ECCV 2014)."""

from collections.abc import Sequence

import keras
from keras import ops

from kzoo.layers.rectangle_max import rectangle_max
from kzoo.layers.sizes import require_sizes


@keras.saving.register_keras_serializable("kzoo")
class SpatialPyramidPooling(keras.layers.Layer):
    """Maxima over grids of several finenesses, so that a map or window of any size becomes a vector of one length.

    A window of the image covers the cells from floor(x1 / stride) + 1 to ceil(x2 / stride) - 1, both included
    (appendix A of the paper, where cell i stands for the pixel i stride); a window too thin for any has the one nearest
    to its middle. Of n bins over s cells, bin i covers the cells from floor(i s / n) to ceil((i + 1) s / n) (section
    2.2), so none is empty. The gradient goes to the cell of each maximum; windows have no gradient.

    Args:
        bins: grids from coarse to fine; (1, 2, 3, 6) in the paper, 50 bins in all.

    Call:
        features: (B, h, w, C); rois: (B, R, 4) xyxy pixels of the image, or None for the whole map; stride: pixels of
            the image to a cell.
    Returns:
        (B, R, bins, C), or (B, bins, C) for the whole map: grid by grid, row by row, in the compute dtype.
    """

    def __init__(self, bins: Sequence[int] = (1, 2, 3, 6), **kwargs):
        super().__init__(autocast=False, **kwargs)
        if not bins or min(bins) < 1:
            raise ValueError(f"bins must be numbers of at least 1. Received: {bins}.")
        self.bins = tuple(int(n) for n in bins)

    def call(self, features, rois=None, stride: float = 16):
        features = ops.cast(features, self.compute_dtype)
        _, height, width, channels = features.shape
        batch = ops.shape(features)[0]
        if rois is None:
            one = ops.ones((batch, 1), "int32")
            sides = ((0 * one, height * one), (0 * one, width * one))
        else:
            rois = ops.stop_gradient(ops.cast(rois, "float32")) * (1.0 / stride)
            sides = (_cells(rois[..., 1], rois[..., 3], height), _cells(rois[..., 0], rois[..., 2], width))
        regions = sides[0][0].shape[1]
        top, bottom = (self._edges(*sides[0], k, along=2) for k in (0, 1))
        left, right = (self._edges(*sides[1], k, along=3) for k in (0, 1))
        count = sum(n * n for n in self.bins)
        pooled = rectangle_max(
            features, *(ops.reshape(x, (batch, regions * count)) for x in (top, bottom, left, right))
        )
        return ops.reshape(pooled, (batch, count, channels) if rois is None else (batch, regions, count, channels))

    def _edges(self, low, high, which: int, along: int):
        """First cells (which = 0) or ends (1) of all bins (B, R, bins) between cells (B, R), half-open."""
        grids = []
        for n in self.bins:
            index = ops.arange(n, dtype="int32") + which
            size = (high - low)[..., None]
            edges = low[..., None] + (index * size + (n - 1) * which) // n
            grid = ops.repeat(ops.expand_dims(edges, 5 - along), n, axis=5 - along)  # bins are numbered row by row
            grids.append(ops.reshape(grid, (ops.shape(low)[0], low.shape[1], n * n)))
        return ops.concatenate(grids, axis=2)

    def compute_output_shape(self, features_shape, rois_shape=None):
        require_sizes(self.name, features_shape)
        count = sum(n * n for n in self.bins)
        regions = () if rois_shape is None else (rois_shape[1],)
        return (features_shape[0], *regions, count, features_shape[-1])

    def get_config(self):
        return super().get_config() | {"bins": self.bins}


def _cells(low, high, cells: int):
    """The half-open range of cells (B, R) for borders (B, R) in cells; never empty."""
    low, high = ops.clip(low, -1.0, cells), ops.clip(high, -1.0, cells + 1.0)
    first = ops.clip(ops.cast(ops.floor(low), "int32") + 1, 0, cells)
    end = ops.clip(ops.cast(ops.ceil(high), "int32"), 0, cells)
    nearest = ops.clip(ops.cast(ops.floor((low + high) / 2 + 0.5), "int32"), 0, cells - 1)
    thin = end <= first
    return ops.where(thin, nearest, first), ops.where(thin, nearest + 1, end)
