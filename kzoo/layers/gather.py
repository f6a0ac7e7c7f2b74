"""Rows of a batch by index."""

import keras
from keras import ops

from kzoo.types import Tensor


def gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """values (B, N) or (B, N, D) at index (B, K) -> (B, K) or (B, K, D)."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(values, index, batch_dims=1)  # one op, where take_along_axis makes a dozen
    if len(values.shape) == 3:
        index = index[..., None]
    return ops.take_along_axis(values, index, axis=1)
