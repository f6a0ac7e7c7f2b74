"""The end of a training with dropout and batch norm: the network learns as it will predict."""

import contextlib
from collections.abc import Iterable, Iterator

import keras

from kzoo.training.batch_norm import gather_statistics


@contextlib.contextmanager
def settled(model: keras.Model, images: Iterable) -> Iterator[None]:
    """Inside, nothing is dropped and batch norms keep their statistics, in training as in prediction.

    In training a batch norm sees the moments of its batch, in prediction averages of the last few; and where dropout
    comes before it, the variance that it learns is not the one it meets when nothing is dropped (Li et al.,
    Understanding the Disharmony between Dropout and Batch Normalization by Variance Shift, 2018). Some last steps
    without either let the weights fit what predicts.

    Call `compile` inside, before `fit`, and again afterwards if the training goes on: Keras looks at layers only then.

    Args:
        model: a network in training.
        images: batches of the training's images, from which batch norms that learn first take their statistics anew,
            without dropout.
    """
    layers = list(model._flatten_layers())
    drops = [(layer, layer.rate) for layer in layers if isinstance(layer, keras.layers.Dropout)]
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable]
    try:
        for layer, _ in drops:
            layer.rate = 0.0
        gather_statistics(model, images)
        for layer in norms:
            layer.trainable = False
        yield
    finally:
        for layer, rate in drops:
            layer.rate = rate
        for layer in norms:
            layer.trainable = True
