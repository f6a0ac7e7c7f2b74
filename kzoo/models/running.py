"""How a graph runs here: on which devices, compiled or not, and what it says as NumPy arrays."""

from typing import Any

import keras
import numpy as np


def run(graph: keras.Model, inputs: Any, count: int) -> dict[str, np.ndarray]:
    """What a graph says of `count` images, as NumPy arrays.

    Within the scope of a `tf.distribute` strategy every device is given all of them, and Keras joins what they say.
    """
    return {key: np.asarray(value)[:count] for key, value in graph.predict_on_batch(inputs).items()}


def replicas() -> int:
    """How many devices a `tf.distribute` strategy sums gradients over: each has its share of the loss, as in Keras."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def resolve_jit_compile(jit_compile: bool | str) -> bool | str:
    """Keras' "auto" without XLA on a TensorFlow CPU, where it makes convolutions several times slower."""
    if jit_compile == "auto" and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return "auto" if tf.config.list_physical_devices("GPU") else False
    return jit_compile
