"""An int8 file whose channels have the means of the float model, against NumPy and on a network made to lose them."""

import keras
import numpy as np
import pytest
from keras import layers

from kzoo.export.bias_correction import ChannelMeans, correct
from kzoo.export.flatbuffer import WEIGHTED, read_weighted
from kzoo.export.quantize import quantize
from kzoo.export.to_litert import convert

SIZE = (12, 16)


@pytest.fixture(scope="module")
def network():
    """Convolutions of all kinds; the first has a dead channel, as MobileNet's, whose bias still counts."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3))
    x = layers.Conv2D(8, 3, padding="valid", activation="relu", name="first")(image)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="valid", activation="relu6", name="deep")(x)
    x = layers.Conv2D(8, 1, activation="relu", name="wide")(x)
    x = layers.Conv2D(6, 3, groups=2, activation="relu", name="groups")(x)
    x = layers.Conv2DTranspose(5, 2, 2, activation="relu", name="larger")(x)
    x = layers.Dense(4, name="last")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, {"found": x})
    for layer in ("first", "deep", "wide", "groups", "larger", "last"):
        weights, bias = model.get_layer(layer).get_weights()
        model.get_layer(layer).set_weights([weights + 0.05 * np.abs(weights).max(), bias + 0.1])
    weights, bias = model.get_layer("first").get_weights()
    weights[..., 5], bias[5] = weights[..., 5] * 1e-12, 2.5
    model.get_layer("first").set_weights([weights / 50, bias])
    return model


@pytest.fixture(scope="module")
def samples():
    return [np.random.default_rng(i).uniform(100, 255, (1, *SIZE, 3)).astype("float32") for i in range(4)]


@pytest.fixture(scope="module")
def plain(network):
    return convert(network, SIZE)


@pytest.fixture(scope="module")
def means(plain, samples):
    means = ChannelMeans(plain)
    for sample in samples:
        means.add(sample)
    return means.result()


def dequantized(file: bytes) -> dict:
    """{output: Weighted} of the operators with int8 weights, weights and bias in float."""
    found = {}
    for one in read_weighted(file):
        if one.weights.dtype == np.int8:
            shape = (-1,) if one.kind == "DEPTHWISE_CONV_2D" else (-1, *[1] * (one.weights.ndim - 1))
            weights = one.weights.astype("float64") * one.scales.reshape(shape)
            found[one.output_name] = one._replace(weights=weights, bias=one.bias * one.bias_scales.astype("float64"))
    return found


def mean_output(one, channel: int, mean: np.ndarray) -> float:
    """What a channel has on the average where the input has these means, tap by tap."""
    total = 0.0
    if one.kind == "DEPTHWISE_CONV_2D":
        for weight in one.weights[..., channel].ravel():
            total += weight * mean[channel // 2]  # two of each input channel
        return total + one.bias[channel]
    weights = one.weights[channel].reshape(-1, one.weights.shape[-1])
    first = len(mean) // 2 if weights.shape[-1] < len(mean) and channel >= len(one.bias) // 2 else 0  # second group
    for taps in weights:
        for number, weight in enumerate(taps):
            total += weight * mean[first + number]
    if one.kind == "TRANSPOSE_CONV":
        total /= 4  # of the 2 x 2 taps an output position sees one
    return total + one.bias[channel]


def test_the_means_are_those_of_what_goes_in(network, plain, samples, means):
    images = np.concatenate(samples)
    for layer, weights in (("first", (8, 3, 3, 3)), ("wide", (8, 1, 1, 16))):
        before = keras.Model(network.input, network.get_layer(layer).input)
        (source,) = [one.source for one in read_weighted(plain) if one.weights.shape == weights]
        np.testing.assert_allclose(means[source], np.asarray(before(images)).mean((0, 1, 2)), rtol=1e-4)


def test_each_bias_takes_back_what_rounding_adds_to_the_mean(plain, samples, means):
    file = quantize(plain, "int8", samples)
    originals = {one.output_name: one for one in read_weighted(plain)}
    rounded = dequantized(file)
    assert {one.kind for one in rounded.values()} == set(WEIGHTED)
    assert len(rounded) == 6
    for name, one in rounded.items():
        mean = means[originals[name].source]
        for channel in range(len(one.bias)):
            wanted = mean_output(originals[name], channel, mean)
            assert mean_output(one, channel, mean) == pytest.approx(wanted, abs=1e-4 * max(1, abs(wanted)))


def test_a_dead_channel_keeps_its_bias(plain, samples):
    (first,) = [
        one for one in dequantized(quantize(plain, "int8", samples)).values() if one.weights.shape == (8, 3, 3, 3)
    ]
    assert first.bias[5] == pytest.approx(2.5, rel=1e-6)
    assert np.abs(first.weights[5]).max() == 0


def test_the_file_says_nearly_what_the_float_file_says(plain, samples):
    file = quantize(plain, "int8", samples)
    for sample in samples:
        np.testing.assert_allclose(run(file, sample), run(plain, sample), atol=0.02 * np.abs(run(plain, sample)).max())


def test_a_file_without_int8_weights_is_left_alone(plain, means):
    assert correct(plain, plain, means) == plain


def run(file: bytes, sample: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
