"""From samples of boxes or masks to batches: their order, epoch by epoch, the same again for a seed."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

CACHE_BYTES = 2 * 1024**3  # of decoded images in memory


@dataclasses.dataclass
class Plan:
    """How a data set runs: once and in order for evaluation, or over epochs for training.

    Attributes:
        size: (height, width) of the images; None where each keeps its own.
        shuffle: a new order in every epoch; None: where there is augmentation or a `start_epoch`.
        start_epoch: None: each iteration of the data set is the next epoch; a number: endless, from that epoch on.
    """

    size: tuple[int, int] | None
    batch_size: int
    augmented: bool
    shuffle: bool | None
    seed: int
    start_epoch: int | None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1. Received: {self.batch_size}.")
        if self.shuffle is None:
            self.shuffle = self.augmented or self.start_epoch is not None

    @property
    def training(self) -> bool:
        """Whether batches are all full, the last one of an epoch filled up with its first images."""
        return bool(self.augmented or self.shuffle or self.start_epoch is not None)


def first(annotations: Any, limit: int | None) -> Any:
    """The annotations of the first `limit` images.

    Raises:
        ValueError: if there is none.
    """
    if limit is not None:
        annotations = dataclasses.replace(annotations, samples=annotations.samples[:limit])
    if not annotations.samples:
        raise ValueError(
            f"No images in split {annotations.split!r}. Run `kzoo check` on the data set to see what was left out."
        )
    return annotations


def make(annotations: Any, example: Callable, plan: Plan) -> tf.data.Dataset:
    """Batches of examples.

    Args:
        example: `(epoch, serial, index) -> (image, targets)`, scalar tensors; `index` is the sample's, `serial` the
            showing's: a sample shown twice in one epoch has two.
    """
    count, batch_size, seed = len(annotations.samples), plan.batch_size, plan.seed
    steps = math.ceil(count / batch_size)

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        if plan.shuffle:
            lots = tf.random.stateless_uniform([count], tf.random.fold_in([seed, epoch], -1))
            indices = tf.argsort(lots, stable=True)
        else:
            indices = tf.range(count)
        positions = tf.range(steps * batch_size if plan.training else count)
        indices = tf.gather(indices, positions % count)
        serials = indices + count * (positions // count)
        epochs = tf.fill(tf.shape(indices), epoch)
        return tf.data.Dataset.from_tensor_slices((epochs, serials, indices))

    dataset = epochs(plan.start_epoch).flat_map(order)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=plan.training)
    dataset = dataset.apply(
        tf.data.experimental.assert_cardinality(steps if plan.start_epoch is None else tf.data.INFINITE_CARDINALITY)
    )
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    dataset.class_names = list(annotations.class_names)
    dataset.num_classes = annotations.num_classes
    dataset.image_size = plan.size
    dataset.batch_size = batch_size
    dataset.annotations = annotations
    dataset.steps_per_epoch = steps
    return dataset


def epochs(start: int | None) -> tf.data.Dataset:
    """The numbers of the epochs: all from `start` on, or one for each iteration of the data set."""
    if start is not None:
        return tf.data.Dataset.counter(start)
    counter = itertools.count()

    def next_epoch(_: tf.Tensor) -> tf.Tensor:
        epoch = tf.numpy_function(lambda: np.int64(next(counter)), [], tf.int64)
        return tf.ensure_shape(epoch, [])

    return tf.data.Dataset.range(1).map(next_epoch)


def whole_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """`image_size` as (height, width) in whole pixels, or an error that says what it must be."""
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or any(side != int(side) or side < 1 for side in pair):
        raise ValueError(f"image_size must be (height, width) in whole pixels, or one number. Received: {size!r}.")
    return int(pair[0]), int(pair[1])
