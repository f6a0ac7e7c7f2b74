"""RoIAlign (He et al., Mask R-CNN, ICCV 2017, section 3)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class RoIAlign(keras.layers.Layer):
    """Averages bilinear samples of the feature map in pool_size x pool_size bins of each region; nothing is rounded.

    Cell (i, j) stands for the point ((j + 0.5) stride, (i + 0.5) stride) of the image. Each bin has sampling_ratio^2
    evenly spaced samples. A sample up to one cell outside the centres of the border cells takes the border's value, one
    farther away is 0: torchvision's `roi_align` with `aligned=True`.

    A bilinear sample is a product of a weight along y and one along x, so the layer is two small matrix products, which
    are exact, fast on every backend and builtin operators of LiteRT. Weights are made in float32 under any dtype
    policy. Regions have no gradient.

    Args:
        pool_size: p, bins along each side.
        sampling_ratio: samples along each side of a bin.

    Call:
        features: (B, h, w, C); rois: (B, R, 4) xyxy pixels of the image; stride: pixels of the image to a cell.
    Returns:
        (B, R, p, p, C) in the compute dtype; the products in between take w / p times as much memory.
    """

    def __init__(self, pool_size: int = 7, sampling_ratio: int = 2, **kwargs):
        super().__init__(autocast=False, **kwargs)  # the weights need the regions in float32
        if pool_size < 1 or sampling_ratio < 1:
            raise ValueError(
                f"pool_size and sampling_ratio must be at least 1. Received: {pool_size}, {sampling_ratio}."
            )
        self.pool_size = pool_size
        self.sampling_ratio = sampling_ratio

    def call(self, features, rois, stride: float = 16):
        features = ops.cast(features, self.compute_dtype)
        rois = ops.stop_gradient(ops.cast(rois, "float32")) * (1.0 / stride) - 0.5
        _, height, width, channels = features.shape
        p, batch, regions = self.pool_size, ops.shape(features)[0], rois.shape[1]
        rows = ops.cast(self._weights(rois[..., 1], rois[..., 3], height), features.dtype)
        columns = ops.cast(self._weights(rois[..., 0], rois[..., 2], width), features.dtype)
        by_row = ops.matmul(
            ops.reshape(rows, (batch, regions * p, height)), ops.reshape(features, (batch, height, width * channels))
        )
        return ops.matmul(columns[:, :, None], ops.reshape(by_row, (batch, regions, p, width, channels)))

    def _weights(self, low, high, cells: int):
        """How much each cell counts in each bin between two borders (B, R) -> (B, R, p, cells)."""
        p, samples = self.pool_size, self.sampling_ratio
        places = (ops.arange(p * samples, dtype="float32") + 0.5) / samples
        at = low[..., None] + places * ((high - low) / p)[..., None]
        inside = ops.cast((at >= -1.0) & (at <= cells), "float32")[..., None]
        at = ops.clip(at, 0.0, cells - 1.0)[..., None]
        weights = ops.maximum(1.0 - ops.abs(at - ops.arange(cells, dtype="float32")), 0.0) * inside
        return ops.mean(ops.reshape(weights, (ops.shape(low)[0], low.shape[1], p, samples, cells)), axis=3)

    def compute_output_shape(self, features_shape, rois_shape=None):
        return (rois_shape[0], rois_shape[1], self.pool_size, self.pool_size, features_shape[-1])

    def get_config(self):
        return super().get_config() | {"pool_size": self.pool_size, "sampling_ratio": self.sampling_ratio}
