"""RoIAlign on a feature pyramid (Lin et al., Feature Pyramid Networks, CVPR 2017, section 4.2)."""

from collections.abc import Sequence

import keras
from keras import ops

from kzoo import boxes as box_ops
from kzoo.layers.kernels import use_fused
from kzoo.layers.roi_align import RoIAlign
from kzoo.layers.sizes import require_sizes


@keras.saving.register_keras_serializable("kzoo")
class PyramidRoIAlign(keras.layers.Layer):
    """RoIAlign, each region on the level of its size: floor(4 + log2(sqrt(width height) / 224)), within `levels`.

    Args:
        levels: the k of the maps P_k, finest first; one cell of P_k is 2^k pixels.
        pool_size, sampling_ratio: as in RoIAlign.
        canonical_size, canonical_level: a region of so many pixels belongs to that level; 224 and 4 in the paper.
        fused: as in RoIAlign; the fused kernel looks at each region on its own level only.

    Call:
        features: list of (B, h, w, C), one a level; rois: (B, R, 4) xyxy pixels of the image.
    Returns:
        (B, R, p, p, C) in the compute dtype.
    """

    def __init__(
        self,
        levels: Sequence[int] = (2, 3, 4, 5),
        pool_size: int = 7,
        sampling_ratio: int = 2,
        canonical_size: float = 224.0,
        canonical_level: int = 4,
        fused: bool | None = None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.levels = tuple(int(level) for level in levels)
        self.align = RoIAlign(pool_size, sampling_ratio, fused, dtype=self.dtype_policy)
        self.canonical_size = canonical_size
        self.canonical_level = canonical_level

    def build(self, features_shape, rois_shape):
        self.align.build(features_shape[0])

    def call(self, features, rois):
        if len(features) != len(self.levels):
            raise ValueError(f"Expected {len(self.levels)} maps, one a level. Received: {len(features)}.")
        rois = ops.stop_gradient(ops.cast(rois, "float32"))
        area = box_ops.area(rois)
        own = ops.full_like(area, self.levels[0])
        for level in self.levels[1:]:
            smallest = self.canonical_size * 2.0 ** (level - self.canonical_level)
            own = ops.where(area >= smallest**2, float(level), own)
        if use_fused(self.align.fused):
            return self._sorted_by_level(features, rois, own)
        pooled = 0.0
        for level, x in zip(self.levels, features, strict=True):
            # A region far outside a map is all 0 there, so that the sum holds what each region's own level says.
            here = ops.where((own == level)[..., None], rois, -1e6)
            pooled = self.align(x, here, stride=2**level) + pooled
        return pooled

    def _sorted_by_level(self, features, rois, own):
        import tensorflow as tf

        batch, regions = ops.shape(rois)[0], rois.shape[1]
        images = tf.repeat(tf.range(batch), regions)
        places, pooled = [], []
        for level, x in zip(self.levels, features, strict=True):
            place = tf.where(tf.reshape(own, (-1,)) == level)[:, 0]
            here, image = tf.gather(tf.reshape(rois, (-1, 4)), place), tf.gather(images, place)
            places.append(tf.cast(place, "int32"))
            pooled.append(self.align.crops(tf.cast(x, self.compute_dtype), here, image, 2**level))
        pooled = tf.dynamic_stitch(places, pooled)
        return tf.reshape(pooled, (batch, regions, *pooled.shape[1:]))

    def compute_output_shape(self, features_shape, rois_shape):
        require_sizes(self.name, *features_shape)
        return self.align.compute_output_shape(features_shape[0], rois_shape)

    def get_config(self):
        return super().get_config() | {
            "levels": self.levels,
            "pool_size": self.align.pool_size,
            "sampling_ratio": self.align.sampling_ratio,
            "canonical_size": self.canonical_size,
            "canonical_level": self.canonical_level,
            "fused": self.align.fused,
        }
