"""How much a network computes for one image, counted from the shapes of its layers."""

import math

import keras
from keras import layers


def gflops(model: keras.Model) -> float:
    """Returns billions of floating-point operations for one image, a multiplication and an addition counted as two.

    Convolutions, transposed convolutions and dense layers are counted, as in the papers; what is linear in the pixels
    (activations, normalisation, pooling) and the post-processing are not. A layer used twice counts twice.
    """
    return 2 * sum(_multiply_adds(layer) for layer in _leaves(model)) / 1e9


def _leaves(model: keras.Model) -> list[layers.Layer]:
    """All layers, those inside nested models too."""
    found = []
    for layer in model.layers:
        found += _leaves(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _multiply_adds(layer: layers.Layer) -> int:
    kernel = getattr(layer, "kernel", None)
    nodes = getattr(layer, "_inbound_nodes", [])
    total = 0
    for node in nodes:
        output = tuple(node.outputs[0].shape)
        given = tuple(node.arguments.keras_tensors[0].shape)
        if isinstance(layer, layers.Dense):
            total += math.prod(output[1:]) * given[-1]
        elif isinstance(layer, layers.SeparableConv2D):
            places = math.prod(output[1:3])
            depth = given[-1] * layer.depth_multiplier
            total += places * (math.prod(layer.kernel_size) * depth + depth * layer.filters)
        elif isinstance(layer, layers.DepthwiseConv2D):
            total += math.prod(output[1:]) * math.prod(layer.kernel_size)
        elif isinstance(layer, layers.Conv2DTranspose):
            total += math.prod(given[1:3]) * math.prod(kernel.shape)  # each input pixel spreads over a whole kernel
        elif isinstance(layer, layers.Conv2D):
            total += math.prod(output[1:3]) * math.prod(kernel.shape)  # the kernel's shape knows the groups
    return total
