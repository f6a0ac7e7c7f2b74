"""The moving average of the weights that the optimizer keeps: put it into the network for a while."""

import contextlib
from collections.abc import Iterator

import keras
from keras import ops


def averages(model: keras.Model) -> list[tuple[keras.Variable, keras.Variable]]:
    """Pairs of (weight, its moving average); empty where the optimizer keeps none."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # LossScaleOptimizer wraps the real one
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return []
    pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    return [(weight, average) for weight, average in pairs if average is not None]


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Inside, the network holds the moving averages; afterwards bit for bit the weights that it trained.

    The average of an untrained network (before the first step) is not defined: the weights then stay as they are.
    """
    pairs = averages(model)
    if not pairs or int(model.optimizer.iterations) == 0:
        yield
        return
    raw = [ops.convert_to_numpy(weight).copy() for weight, _ in pairs]
    for weight, average in pairs:
        # A copy: where both held one array, JAX would give the average's memory away with the weight's.
        weight.assign(ops.convert_to_numpy(average).copy())
    try:
        yield
    finally:
        for (weight, _), value in zip(pairs, raw, strict=True):
            weight.assign(value)
