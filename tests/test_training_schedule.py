"""Learning rate over the steps, and the optimizer that follows it."""

import math

import keras
import numpy as np
import pytest
from training_standin import StandIn

from kzoo.training import TrainConfig, WarmupSchedule, caffe_sgd
from kzoo.training.schedule import build_optimizer, build_schedule


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_warmup_rises_linearly_to_the_peak():
    schedule = WarmupSchedule("constant", peak=0.2, total_steps=100, warmup_steps=4)
    assert rates(schedule, range(6)) == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])


def test_cosine_ends_at_a_hundredth_of_the_peak():
    schedule = WarmupSchedule("cosine", peak=1.0, total_steps=100)
    expected = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 100)) / 2 for step in (0, 25, 50, 100)]
    assert rates(schedule, [0, 25, 50, 100]) == pytest.approx(expected)
    assert rates(schedule, [150]) == pytest.approx([0.01])


def test_step_drops_to_a_tenth_where_ssd_drops_it():
    schedule = WarmupSchedule("step", peak=1e-3, total_steps=120_000)
    assert rates(schedule, [0, 79_999, 80_000, 99_999, 100_000]) == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5])


@pytest.mark.parametrize(("momentum", "rate"), [(0.9, 0.01), (0.99, 0.001)])
def test_the_papers_decay_is_that_of_l2_in_the_loss(momentum, rate):
    weight = keras.Variable([1.0, -2.0])
    optimizer = caffe_sgd(rate, momentum, weight_decay=5e-4)
    optimizer.build([weight])
    expected, velocity, halves = np.array([1.0, -2.0]), np.zeros(2), []
    for step in range(1000):  # Caffe's solver: v <- m v - rate (gradient + decay w), w <- w + v
        if step == 500:  # the momentum has risen by then
            halves.append((expected, keras.ops.convert_to_numpy(weight)))
        optimizer.apply_gradients([(keras.ops.zeros(2), weight)])
        velocity = momentum * velocity - rate * 5e-4 * expected
        expected = expected + velocity
    wanted, shrunk = np.log(expected / halves[0][0]), np.log(keras.ops.convert_to_numpy(weight) / halves[0][1])
    np.testing.assert_allclose(shrunk, wanted, rtol=0.02)


def test_a_schedule_survives_serialization():
    schedule = WarmupSchedule("step", peak=0.1, total_steps=30, warmup_steps=3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert rates(again, [0, 2, 21, 29]) == rates(schedule, [0, 2, 21, 29])


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        WarmupSchedule("cosin", peak=0.1, total_steps=30)


def test_warmup_takes_at_most_a_third_of_a_short_training():
    assert build_schedule(TrainConfig(epochs=1, warmup_epochs=5.0), steps_per_epoch=9).warmup_steps == 3
    assert build_schedule(TrainConfig(epochs=10, warmup_epochs=0.5), steps_per_epoch=8).warmup_steps == 4


def test_weight_decay_shrinks_kernels_only():
    network = StandIn()
    config = TrainConfig(optimizer="sgd", learning_rate=0.1, warmup_epochs=0, schedule="constant", weight_decay=0.5)
    optimizer = build_optimizer(config, network, steps_per_epoch=1)
    for variable in network.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer.apply([np.zeros(v.shape, "float32") for v in network.trainable_variables], network.trainable_variables)
    for variable in network.trainable_variables:
        expected = 0.95 if variable.path.endswith("kernel") else 1.0
        np.testing.assert_allclose(variable, expected, rtol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize(("name", "cls"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_the_optimizer_is_the_one_asked_for(name, cls):
    config = TrainConfig(optimizer=name, ema=0.9, gradient_clip=3.0)
    optimizer = build_optimizer(config, StandIn(), steps_per_epoch=2)
    assert type(optimizer).__name__ == cls
    assert (optimizer.use_ema, optimizer.ema_momentum, optimizer.global_clipnorm) == (True, 0.9, 3.0)
