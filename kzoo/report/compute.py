"""How much a network computes for one image, counted from the shapes of its layers."""

import math
from typing import Any

import keras
from keras import layers


def gflops(model: keras.Model) -> float:
    """Returns billions of floating-point operations for one image, a multiplication and an addition counted as two.

    Convolutions, transposed convolutions and dense layers are counted, as in the papers; what is linear in the pixels
    (activations, normalisation, pooling) and the post-processing are not, nor is the second stage of Fast and Faster
    R-CNN, which runs for each region. A layer used twice counts twice.

    Args:
        model: a functional model with a fixed image size; models inside it are counted too.

    Raises:
        ValueError: for a model that is no functional graph, or whose image size is open.
    """
    return 2 * _count(model) / 1e9


def _count(model: keras.Model) -> int:
    if not hasattr(model, "_nodes_by_depth"):
        raise ValueError(f"{model.name}: is no functional model, its compute cannot be counted.")
    total = 0
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            if isinstance(node.operation, keras.Model):
                total += _count(node.operation)
            else:
                total += _multiply_adds(node.operation, node)
    return total


def _multiply_adds(layer: Any, node: Any) -> int:
    """Multiply-adds of one use of a layer."""
    kinds = (layers.Dense, layers.SeparableConv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose, layers.Conv2D)
    if not isinstance(layer, kinds):
        return 0
    given, output = tuple(node.arguments.keras_tensors[0].shape), tuple(node.outputs[0].shape)
    if None in given[1:] or None in output[1:]:
        raise ValueError(f"{layer.name}: its shape {output} is open. Give the model an image size.")
    if isinstance(layer, layers.Dense):
        return math.prod(output[1:]) * given[-1]
    if isinstance(layer, layers.SeparableConv2D):
        depth = given[-1] * layer.depth_multiplier
        return math.prod(output[1:3]) * (math.prod(layer.kernel_size) * depth + depth * layer.filters)
    if isinstance(layer, layers.DepthwiseConv2D):
        return math.prod(output[1:]) * math.prod(layer.kernel_size)
    if isinstance(layer, layers.Conv2DTranspose):
        return math.prod(given[1:3]) * math.prod(layer.kernel.shape)  # each input pixel spreads over a whole kernel
    return math.prod(output[1:3]) * math.prod(layer.kernel.shape)  # the kernel's shape knows the groups
