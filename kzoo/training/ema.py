"""The moving average of the weights that the optimizer keeps: put it into the network for a while."""

import contextlib
from collections.abc import Iterable, Iterator

import keras
from keras import ops

from kzoo.training.batch_norm import gather_statistics


def averages(model: keras.Model) -> list[tuple[keras.Variable, keras.Variable]]:
    """Pairs of (weight, its moving average); empty where the optimizer keeps none."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # LossScaleOptimizer wraps the real one
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return []
    pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    return [(weight, average) for weight, average in pairs if average is not None]


@contextlib.contextmanager
def averaged_weights(model: keras.Model, images: Iterable = ()) -> Iterator[None]:
    """Inside, the network holds the moving averages; afterwards bit for bit what it trained.

    The average of an untrained network (before the first step) is not defined: the weights then stay as they are.

    Args:
        model: a network in training.
        images: batches of the training's images. From them the batch norms that learn take their statistics anew: those
            that they gathered belong to the trained weights and not to the averages (Izmailov et al., Averaging Weights
            Leads to Wider Optima, 2018, section 3.2).
    """
    pairs = averages(model)
    if not pairs or int(model.optimizer.iterations) == 0:
        yield
        return
    variables = [weight for weight, _ in pairs] + model.non_trainable_variables
    before = [ops.convert_to_numpy(variable).copy() for variable in variables]
    for weight, average in pairs:
        # A copy: where both held one array, JAX would give the average's memory away with the weight's.
        weight.assign(ops.convert_to_numpy(average).copy())
    try:
        gather_statistics(model, images)
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
