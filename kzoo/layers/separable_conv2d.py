"""Separable convolution (Howard et al., MobileNets, 2017) that starts without damping what goes through it."""

import math

import keras


def separable_conv2d(filters: int, kernel_size: int, strides: int = 1, **kwargs) -> keras.layers.SeparableConv2D:
    """Keras' layer with a depthwise kernel whose sum over a window has the variance of its inputs.

    Keras' default for that kernel counts the inputs of all channels, where each output sees one channel only: with 256
    channels it leaves an eleventh of the deviation. Four such layers leave so little that the batch norm behind each,
    whose epsilon is larger then, no longer brings it back.

    Args:
        filters, kernel_size, strides, kwargs: as of `keras.layers.SeparableConv2D`.
    """
    depthwise = keras.initializers.RandomNormal(stddev=1 / math.sqrt(kernel_size * kernel_size))
    return keras.layers.SeparableConv2D(filters, kernel_size, strides, depthwise_initializer=depthwise, **kwargs)
