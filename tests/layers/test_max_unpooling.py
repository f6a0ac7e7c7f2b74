"""Unpooling with exact switches: the slides' worked example, ties, gradients, LiteRT."""

import keras
import numpy as np
import pytest

from kzoo.layers import MaxPoolingWithSwitches, MaxUnpooling2D


def numpy_of(x):
    return keras.ops.convert_to_numpy(x)


def pooling_loop(x, p):
    """Plain reference: maxima and the first winner's place in reading order."""
    b, h, w, c = x.shape
    pooled, switches = np.zeros((b, h // p, w // p, c), x.dtype), np.zeros((b, h // p, w // p, c), int)
    for n, i, j, k in np.ndindex(pooled.shape):
        window = x[n, i * p : (i + 1) * p, j * p : (j + 1) * p, k].ravel()
        switches[n, i, j, k] = window.argmax()
        pooled[n, i, j, k] = window.max()
    return pooled, switches


def test_the_slides_example():
    x = np.array([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]], "float32")[None, :, :, None]
    pooled, switches = MaxPoolingWithSwitches()(x)
    np.testing.assert_array_equal(numpy_of(pooled)[0, :, :, 0], [[5, 6], [7, 8]])
    values = np.array([[1, 2], [3, 4]], "float32")[None, :, :, None]
    expected = [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]
    np.testing.assert_array_equal(numpy_of(MaxUnpooling2D()(values, switches))[0, :, :, 0], expected)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_pooling_equals_a_loop_with_the_first_of_equals_winning(p):
    x = np.random.default_rng(0).integers(-2, 2, (2, 2 * p, 3 * p, 3)).astype("float32")  # full of ties
    pooled, switches = MaxPoolingWithSwitches(p)(x)
    expected = pooling_loop(x, p)
    np.testing.assert_array_equal(numpy_of(pooled), expected[0])
    np.testing.assert_array_equal(numpy_of(switches), expected[1])
    back = numpy_of(MaxUnpooling2D(p)(pooled, switches))
    for n, i, j, k in np.ndindex(expected[0].shape):
        window = back[n, i * p : (i + 1) * p, j * p : (j + 1) * p, k].ravel()
        assert window[expected[1][n, i, j, k]] == expected[0][n, i, j, k]
        assert np.count_nonzero(np.delete(window, expected[1][n, i, j, k])) == 0


def test_only_the_first_winner_gets_a_gradient():
    # All equal: each window's gradient must go to its upper left pixel, whole.
    class Probe(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.x = self.add_weight(shape=(1, 4, 4, 1), initializer="ones")

        def call(self, scale):
            pooled, switches = MaxPoolingWithSwitches()(self.x * 1.0)
            return keras.ops.sum(MaxUnpooling2D()(pooled, switches) * 2.0) * scale

    inputs = keras.Input(())
    model = keras.Model(inputs, Probe()(inputs))
    model.compile(keras.optimizers.SGD(1.0), loss=lambda true, found: found)
    model.fit(np.ones(1, "float32"), np.ones(1, "float32"), verbose=0)
    moved = 1.0 - model.get_weights()[0][0, :, :, 0]
    np.testing.assert_array_equal(moved, [[2, 0, 2, 0], [0, 0, 0, 0], [2, 0, 2, 0], [0, 0, 0, 0]])


def test_sizes_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match=r"multiples of 2.*\(1, 3, 4, 1\)"):
        MaxPoolingWithSwitches()(np.zeros((1, 3, 4, 1), "float32"))


def test_layer_contract(run_layer_test):
    x = np.random.default_rng(1).normal(size=(2, 4, 6, 3)).astype("float32")
    _, (pooled, switches) = run_layer_test(MaxPoolingWithSwitches, {"pool_size": 2}, (x,))
    run_layer_test(MaxUnpooling2D, {"pool_size": 2}, (pooled, switches))
    empty = MaxPoolingWithSwitches()(np.zeros((0, 4, 4, 2), "float32"))
    assert empty[0].shape == (0, 2, 2, 2)


def test_any_image_size_works_in_a_graph():
    image = keras.Input((None, None, 2))
    pooled, switches = MaxPoolingWithSwitches()(image)
    model = keras.Model(image, MaxUnpooling2D()(pooled, switches))
    assert numpy_of(model(np.ones((1, 4, 6, 2), "float32"))).sum() == 2 * 3 * 2


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="LiteRT needs TensorFlow")
def test_litert_gives_the_same_with_builtin_operators():
    from ai_edge_litert.interpreter import Interpreter

    from kzoo.export.flatbuffer import operators
    from kzoo.export.to_litert import convert

    image = keras.Input((8, 12, 3))
    pooled, switches = MaxPoolingWithSwitches()(image)
    model = keras.Model(image, {"back": MaxUnpooling2D()(pooled * 0.5, switches)})
    content = convert(model, (8, 12))
    assert not [name for name in operators(content) if name.startswith("custom")]
    x = np.random.default_rng(2).integers(0, 3, (1, 8, 12, 3)).astype("float32")
    run = Interpreter(model_content=content).get_signature_runner("serving_default")
    np.testing.assert_array_equal(run(image=x)["back"], numpy_of(model(x)["back"]))
