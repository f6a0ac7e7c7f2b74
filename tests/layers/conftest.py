"""One check for every layer: config, serialization, shapes and dtype policies."""

from collections.abc import Callable

import keras
import numpy as np
import pytest


@pytest.fixture
def run_layer_test() -> Callable:
    """Returns a function that checks a layer class on one set of arguments and inputs."""

    def run(cls, arguments: dict, inputs: tuple, float32_output: bool = False):
        layer = cls(**arguments)
        outputs = layer(*inputs)
        clone = cls.from_config(layer.get_config())
        assert clone.get_config() == layer.get_config()
        clone(*inputs)
        clone.set_weights(layer.get_weights())
        keras.tree.map_structure(_assert_equal, clone(*inputs), outputs)

        symbolic = [keras.KerasTensor(x.shape, keras.backend.standardize_dtype(x.dtype)) for x in inputs]
        spec = layer.compute_output_spec(*symbolic)
        keras.tree.map_structure(lambda s, x: _assert_same_shape(s, x), spec, outputs)

        for policy in ("mixed_float16", "mixed_bfloat16", "float16"):
            half = cls(**arguments | ({} if float32_output else {"dtype": policy}))(*inputs)
            for value in keras.tree.flatten(half):
                assert np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))).all()
        return layer, outputs

    return run


def _assert_equal(a, b):
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))


def _assert_same_shape(spec, value):
    assert tuple(spec.shape) == tuple(value.shape)
    assert keras.backend.standardize_dtype(spec.dtype) == keras.backend.standardize_dtype(value.dtype)
