"""RoIAlign (He et al., Mask R-CNN, ICCV 2017, section 3)."""

import itertools

import keras
from keras import ops

from kzoo.layers.kernels import use_fused
from kzoo.layers.sizes import require_sizes
from kzoo.types import Tensor


@keras.saving.register_keras_serializable("kzoo")
class RoIAlign(keras.layers.Layer):
    """Averages bilinear samples of the feature map in pool_size x pool_size bins of each region; nothing is rounded.

    Cell (i, j) stands for the point ((j + 0.5) stride, (i + 0.5) stride) of the image. Each bin has sampling_ratio^2
    evenly spaced samples. A sample up to one cell outside the centres of the border cells takes the border's value, one
    farther away is 0: torchvision's `roi_align` with `aligned=True`.

    A bilinear sample is a product of a weight along y and one along x, so the layer is two small matrix products, which
    run on every backend and are builtin operators of LiteRT. On a CPU under TensorFlow it is the fused kernel
    `CropAndResize`, once for each sample of a bin: several times faster, and in the memory of a few outputs. Places are
    computed in float32 under any dtype policy. Regions have no gradient.

    Args:
        pool_size: p, bins along each side.
        sampling_ratio: samples along each side of a bin.
        fused: True, False, or None for the fused kernel where it is faster (`kzoo.layers.kernels`).

    Call:
        features: (B, h, w, C); rois: (B, R, 4) xyxy pixels of the image; stride: pixels of the image to a cell.
    Returns:
        (B, R, p, p, C) in the compute dtype; the matrix products take w / p times as much memory in between.
    """

    def __init__(self, pool_size: int = 7, sampling_ratio: int = 2, fused: bool | None = None, **kwargs):
        super().__init__(autocast=False, **kwargs)  # the weights need the regions in float32
        if pool_size < 1 or sampling_ratio < 1:
            raise ValueError(
                f"pool_size and sampling_ratio must be at least 1. Received: {pool_size}, {sampling_ratio}."
            )
        self.pool_size = pool_size
        self.sampling_ratio = sampling_ratio
        self.fused = fused

    def call(self, features, rois, stride: float = 16):
        features = ops.cast(features, self.compute_dtype)
        rois = ops.stop_gradient(ops.cast(rois, "float32"))
        _, height, width, channels = features.shape
        p, batch, regions = self.pool_size, ops.shape(features)[0], rois.shape[1]
        if use_fused(self.fused):
            images = ops.repeat(ops.arange(batch, dtype="int32"), regions)
            pooled = self.crops(features, ops.reshape(rois, (-1, 4)), images, stride)
            return ops.reshape(pooled, (batch, regions, p, p, channels))
        rois = rois * (1.0 / stride) - 0.5
        rows = ops.cast(self._weights(rois[..., 1], rois[..., 3], height), features.dtype)
        columns = ops.cast(self._weights(rois[..., 0], rois[..., 2], width), features.dtype)
        by_row = ops.matmul(
            ops.reshape(rows, (batch, regions * p, height)), ops.reshape(features, (batch, height, width * channels))
        )
        return ops.matmul(columns[:, :, None], ops.reshape(by_row, (batch, regions, p, width, channels)))

    def crops(self, features: Tensor, rois: Tensor, images: Tensor, stride: float) -> Tensor:
        """What `call` says of any number of regions (M, 4), each of the image of its index in (M,): (M, p, p, C)."""
        import tensorflow as tf

        p, samples = self.pool_size, self.sampling_ratio
        # The mean of the samples is their sum from a map divided by their number: less work than to divide the crops.
        shares = tf.cast(features, "float32") / samples**2
        # Samples up to one cell outside take the border's value; the kernel knows no outside, so the map grows by one.
        grown = tf.pad(shares, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        rois = rois * (1.0 / stride) + 0.5
        low = tf.stack([rois[:, 1], rois[:, 0]], axis=-1)
        step = (tf.stack([rois[:, 3], rois[:, 2]], axis=-1) - low) / p
        last = [features.shape[1] + 1.0, features.shape[2] + 1.0]  # the kernel counts from 0 to 1 between border cells
        crops = []
        for y, x in itertools.product(range(samples), repeat=2):
            first = low + step * [(y + 0.5) / samples, (x + 0.5) / samples]
            boxes = tf.concat([first / last, (first + step * (p - 1)) / last], axis=-1)
            crops.append(tf.image.crop_and_resize(grown, boxes, images, (p, p)))
        return tf.cast(tf.add_n(crops), features.dtype)

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
        require_sizes(self.name, features_shape)
        return (rois_shape[0], rois_shape[1], self.pool_size, self.pool_size, features_shape[-1])

    def get_config(self):
        return super().get_config() | {
            "pool_size": self.pool_size,
            "sampling_ratio": self.sampling_ratio,
            "fused": self.fused,
        }
