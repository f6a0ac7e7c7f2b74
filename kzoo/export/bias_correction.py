"""Biases of an int8 file that make up for what its weights lost (Nagel et al., Data-Free Quantization, ICCV 2019).

Rounded weights shift a channel by their error times the mean of what goes in: the same shift everywhere, which the next
layers take for a feature. MobileNet's first layers suffer most. The mean of what goes in is known from calibration, and
the bias takes the shift back.
"""

from collections.abc import Mapping

import numpy as np

from kzoo.export.flatbuffer import Weighted, read_weighted

ROOM = 2**30  # half of what an int32 bias can hold: the correction comes on top


class ChannelMeans:
    """The mean of each channel of what goes into the operators with weights, over the samples added.

    Args:
        flatbuffer: the float32 model, with one input.
    """

    def __init__(self, flatbuffer: bytes):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=flatbuffer,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            num_threads=2,
        )
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._sums = {one.source: 0.0 for one in read_weighted(flatbuffer)}
        self._count = 0

    def add(self, sample: np.ndarray) -> None:
        """Runs the model on an input (1, H, W, 3) float32."""
        self._interpreter.set_tensor(self._input, sample)
        self._interpreter.invoke()
        for tensor in self._sums:
            value = self._interpreter.get_tensor(tensor)
            self._sums[tensor] += value.reshape(-1, value.shape[-1]).mean(axis=0, dtype=np.float64)
        self._count += 1

    def result(self) -> dict[int, np.ndarray]:
        """{tensor of the float model: (C,) means}"""
        return {tensor: value / self._count for tensor, value in self._sums.items()}


def correct(quantized: bytes, flatbuffer: bytes, means: Mapping[int, np.ndarray]) -> bytes:
    """Gives each channel of an int8 file the mean that it has in the float model.

    At the borders, where padding goes in, the mean is another one, and the correction only nearly right.

    Args:
        quantized: the int8 model made of `flatbuffer`.
        flatbuffer: the float32 model.
        means: of `ChannelMeans`, which saw the float model.

    Returns:
        `quantized` with other biases.
    """
    result = bytearray(quantized)
    originals = {one.output_name: one for one in read_weighted(flatbuffer)}
    pairs = [(one, originals.get(one.output_name)) for one in read_weighted(result)]
    pairs = [(one, original) for one, original in pairs if original is not None and _is_int8(one)]
    input_scales = [one.bias_scales / one.scales for one, _ in pairs]
    # Several operators may share weights (RetinaNet's towers), so first all weights, then all biases.
    for (rounded, original), input_scale in zip(pairs, input_scales, strict=True):
        _make_room(rounded, np.abs(original.bias) / (input_scale * ROOM))
    for (rounded, original), input_scale in zip(pairs, input_scales, strict=True):
        error = _per_channel(rounded, rounded.scales) * rounded.weights - original.weights
        shift = _mean_output(rounded, error, means[original.source])
        rounded.bias_scales[:] = input_scale * rounded.scales
        rounded.bias[:] = np.rint((original.bias - shift) / rounded.bias_scales)
    return bytes(result)


def _is_int8(one: Weighted) -> bool:
    return one.weights.dtype == np.int8 and one.bias.dtype == np.int32 and len(one.scales) == len(one.bias)


def _make_room(rounded: Weighted, least: np.ndarray) -> None:
    """Enlarges the scales of channels whose bias would not fit: dead ones, of weights near 0 and so of tiny scales."""
    factor = np.maximum(1.0, least / rounded.scales)
    rounded.weights[:] = np.rint(rounded.weights / _per_channel(rounded, factor))
    rounded.scales[:] *= factor


def _per_channel(one: Weighted, values: np.ndarray) -> np.ndarray:
    """(channels,) values in a shape that goes with the weights."""
    return values if one.kind == "DEPTHWISE_CONV_2D" else values.reshape(-1, *[1] * (one.weights.ndim - 1))


def _mean_output(one: Weighted, weights: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(channels,) the mean of what weights of this operator make of an input of these means."""
    if one.kind == "DEPTHWISE_CONV_2D":  # each input channel makes one or several of the output
        return weights.sum(axis=(0, 1, 2)) * np.repeat(mean, weights.shape[-1] // len(mean))
    # A convolution in groups looks at a part of the inputs; a connected layer may look at maps of channels.
    inputs = len(mean) if one.kind == "FULLY_CONNECTED" else weights.shape[-1]
    groups = len(mean) // inputs
    taps = weights.reshape(groups, len(weights) // groups, -1, inputs).sum(axis=2)
    result = np.einsum("goi,gi->go", taps, mean.reshape(groups, inputs)).ravel()
    return result * one.spread if one.kind == "TRANSPOSE_CONV" else result
