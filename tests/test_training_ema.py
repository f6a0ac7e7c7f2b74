"""Averaged weights, and the batch norm's statistics that belong to them."""

import keras
import numpy as np
from keras import ops
from training_standin import Batches, StandIn

from kzoo.training.ema import averaged_weights, averages
from kzoo.training.sources import Source


def trained(data, momentum=0.9, **kwargs):
    keras.utils.set_random_seed(0)
    model = StandIn(**kwargs)
    model.compile(optimizer=keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=momentum), jit_compile=False)
    model.fit(data, epochs=1, verbose=0)
    return model


def test_batch_norm_gathers_the_statistics_of_the_averaged_weights():
    data = Batches(steps=3)
    model = trained(data)
    # `fit` ends with the averages in the network: move on, so that weights and averages differ.
    for weight in model.trainable_variables:
        weight.assign(weight + 0.5)
    images = [data[step][0] for step in range(3)]
    before = model.get_weights()
    with averaged_weights(model, images):
        norm = model.get_layer("norm")
        features = keras.Model(model.inputs, norm.input)
        maps = [ops.convert_to_numpy(features(batch)) for batch in images]
        mean = np.mean([x.mean(axis=(0, 1, 2)) for x in maps], axis=0)
        variance = np.mean([x.var(axis=(0, 1, 2)) for x in maps], axis=0)
        np.testing.assert_allclose(ops.convert_to_numpy(norm.moving_mean), mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ops.convert_to_numpy(norm.moving_variance), variance, rtol=1e-4, atol=1e-6)
        for weight, average in averages(model):
            np.testing.assert_array_equal(ops.convert_to_numpy(weight), ops.convert_to_numpy(average))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert norm.momentum == 0.99


def test_frozen_batch_norm_and_networks_without_one_keep_what_they_have():
    data = Batches(steps=2)
    for model in (trained(data), trained(data, norm=False)):
        if model.norm:
            model.get_layer("norm").trainable = False
            statistics = ops.convert_to_numpy(model.get_layer("norm").moving_mean).copy()
        with averaged_weights(model, [data[0][0]]):
            if model.norm:
                np.testing.assert_array_equal(statistics, ops.convert_to_numpy(model.get_layer("norm").moving_mean))


def test_without_averages_nothing_is_touched():
    data = Batches(steps=2)
    model = StandIn()
    model.compile(optimizer="sgd", jit_compile=False)
    model.fit(data, epochs=1, verbose=0)
    before = model.get_weights()
    with averaged_weights(model, [data[0][0]]):
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_a_source_gives_its_first_images():
    data = Batches(steps=3, shuffle=False)
    assert [len(batch) for batch in Source(data, 3, None).first_images(0, 2)] == [4, 4]
    opened = list(Source(None, 3, lambda epoch: iter([(epoch, None)] * 3)).first_images(7, 2))
    assert opened == [7, 7]
    assert list(Source(iter([(1, None)]), 1, None).first_images(0, 2)) == []
