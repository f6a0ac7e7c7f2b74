"""The statistics of batch norms: gather them anew where the weights are not those that they belong to."""

from collections.abc import Iterable

import keras
import numpy as np


def gather_statistics(model: keras.Model, images: Iterable) -> None:
    """Gives each batch norm that learns the mean over `images`, batches of them, of their mean and variance."""
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    try:
        for number, batch in enumerate(images):
            for norm in norms:
                norm.momentum = number / (number + 1)  # the mean of all so far
            model(keras.tree.map_structure(np.asarray, batch), training=True)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
