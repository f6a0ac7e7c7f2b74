"""The switch between TensorFlow's fused kernels and operators that every backend, XLA and LiteRT know."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras

_portable = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable_operators() -> Iterator[None]:
    """Graphs made inside hold no fused kernel that LiteRT lacks."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def use_fused(wanted: bool | None) -> bool:
    """Whether a layer with `fused=wanted` may use a kernel of TensorFlow that neither XLA nor LiteRT knows.

    None is for yes where TensorFlow runs on a CPU without XLA: beside a GPU Keras compiles with it.
    """
    if keras.backend.backend() != "tensorflow" or _portable.get():
        return False
    if wanted is not None:
        return wanted
    import tensorflow as tf

    return not (_compiled_by_xla() or tf.config.list_physical_devices("GPU"))


def _compiled_by_xla() -> bool:
    """Whether the graph being made is that of a `tf.function` with `jit_compile=True`, or part of one."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util  # the only way to ask; there is no public one

    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
