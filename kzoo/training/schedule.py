"""Learning rate over the steps of a training, and the optimizer that follows it."""

import keras
import numpy as np
from keras import ops

from kzoo.messages import unknown_name
from kzoo.training.config import SCHEDULES, TrainConfig

FINAL_COSINE = 0.01  # of the peak: the last steps still move
STEP_MILESTONES = (2 / 3, 5 / 6)  # SSD, section 3.1: 40k, then 10k and 10k of 60k iterations; 80k, 100k of 120k
MOMENTUM = 0.9  # SSD, section 3


@keras.saving.register_keras_serializable("kzoo")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise over `warmup_steps`, multiplied with a cosine, a step-wise or a constant curve over all steps.

    Args:
        kind: "cosine" (from `peak` to 1 % of it), "step" (a tenth of `peak` after 2/3, a hundredth after 5/6 of the
            steps) or "constant".
        peak: float, the learning rate that the curve starts from.
        total_steps: int, steps of the whole training; later steps keep the last value.
        warmup_steps: int, 0 for none. Step `i` (from 0) gets `(i + 1) / warmup_steps` of the curve.

    Example:
        >>> schedule = WarmupSchedule("constant", peak=1.0, total_steps=10, warmup_steps=4)
        >>> [float(schedule(step)) for step in (0, 1, 3, 9)]
        [0.25, 0.5, 1.0, 1.0]
    """

    def __init__(self, kind: str, peak: float, total_steps: int, warmup_steps: int = 0, name: str = "warmup_schedule"):
        if kind not in SCHEDULES:
            raise ValueError(unknown_name("schedule", kind, SCHEDULES))
        self.kind = kind
        self.peak = float(peak)
        self.total_steps = max(int(total_steps), 1)
        self.warmup_steps = int(warmup_steps)
        self.name = name

    def __call__(self, step):
        step = ops.cast(step, "float32")
        progress = ops.clip(step / float(self.total_steps), 0.0, 1.0)
        if self.kind == "cosine":
            factor = FINAL_COSINE + (1 - FINAL_COSINE) * 0.5 * (1 + ops.cos(np.float32(np.pi) * progress))
        elif self.kind == "step":
            passed = [ops.cast(progress >= np.float32(milestone), "float32") for milestone in STEP_MILESTONES]
            factor = ops.power(0.1, passed[0] + passed[1])
        else:
            factor = ops.ones_like(progress)
        if self.warmup_steps:
            factor = factor * ops.minimum((step + 1) / float(self.warmup_steps), 1.0)
        return self.peak * factor

    def get_config(self) -> dict:
        return {
            "kind": self.kind,
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "name": self.name,
        }


def caffe_sgd(
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    **kwargs,
) -> keras.optimizers.SGD:
    """SGD with a weight decay that means what it does in the papers, whose Caffe and Darknet add it to the gradient.

    There it goes through the momentum, and shrinks weights by rate * decay / (1 - momentum) a step; Keras' own passes
    the momentum by, and the same number is a tenth as strong with a momentum of 0.9.
    """
    return keras.optimizers.SGD(
        learning_rate, momentum=momentum, weight_decay=weight_decay / (1.0 - momentum), **kwargs
    )


def build_schedule(config: TrainConfig, steps_per_epoch: int) -> WarmupSchedule:
    """The learning rate over the `epochs * steps_per_epoch` steps of a training."""
    total_steps = config.epochs * steps_per_epoch
    # A warm-up that eats a short training whole would never reach the peak: at most a third of the steps.
    warmup_steps = min(round(config.warmup_epochs * steps_per_epoch), total_steps // 3)
    return WarmupSchedule(config.schedule, config.peak_learning_rate, total_steps, warmup_steps)


def build_optimizer(config: TrainConfig, model: keras.Model, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer that `config` asks for, its learning rate following `build_schedule`.

    Weight decay leaves out vectors and scalars of `model` (biases, normalisation): shrinking them does not regularise.
    """
    settings = {
        "learning_rate": build_schedule(config, steps_per_epoch),
        "weight_decay": config.weight_decay or None,
        "global_clipnorm": config.gradient_clip or None,
    }
    if config.ema:
        settings |= {"use_ema": True, "ema_momentum": config.ema}
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=MOMENTUM, **settings)
    else:
        optimizer = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[config.optimizer](**settings)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) <= 1])
    return optimizer
