"""From deltas to boxes and back."""

import keras

from kzoo import boxes as box_ops
from kzoo.types import Tensor


@keras.saving.register_keras_serializable("kzoo")
class BoxDecoder(keras.layers.Layer):
    """Moves anchors by predicted deltas; `encode` is its inverse. Computes in float32 under any dtype policy.

    Args:
        variances: what each delta was divided by in training: (0.1, 0.1, 0.2, 0.2) in SSD, ones in R-CNN and RetinaNet.

    Call:
        deltas: (..., A, 4) as (tx, ty, tw, th); anchors: (..., A, 4) xyxy pixels.
    Returns:
        boxes (..., A, 4) xyxy pixels, not clipped.
    """

    def __init__(self, variances: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0), **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if len(variances) != 4 or min(variances) <= 0:
            raise ValueError(f"variances must be four positive numbers. Received: {variances}.")
        self.variances = tuple(float(v) for v in variances)

    def call(self, deltas, anchors):
        return box_ops.decode(deltas, keras.ops.convert_to_tensor(anchors, "float32"), self.variances)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """The deltas (..., A, 4) that `call` turns back into `boxes` (..., A, 4)."""
        return box_ops.encode(boxes, anchors, self.variances)

    def compute_output_shape(self, deltas_shape, anchors_shape=None):
        return deltas_shape

    def get_config(self):
        return super().get_config() | {"variances": self.variances}
