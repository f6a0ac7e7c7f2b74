"""What a training feeds on: a named data set, a function that opens one at an epoch, or a data set made in Python."""

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from kzoo.training.config import TrainConfig
from kzoo.training.folder import LEFT_OUT, Run, write_rows


@dataclass
class Source:
    """Training data that can be opened at any epoch.

    Attributes:
        dataset: opened at the epoch that the training starts from.
        steps: batches in an epoch.
        open_at: `epoch -> data set`; None where the data came as an object, which only the start can be read of.
    """

    dataset: Any
    steps: int
    open_at: Callable[[int], Any] | None

    @property
    def annotations(self) -> Any | None:
        """The `Annotations` behind the data set, where there are any."""
        return getattr(self.dataset, "annotations", None)

    def batch_at(self, epoch: int, step: int) -> tuple[Any, Any] | None:
        """Makes the batch of a step again; None where the data cannot be opened again the same way."""
        if isinstance(self.dataset, keras.utils.PyDataset):
            return self.dataset[step]
        if self.open_at is None:
            return None
        return next(itertools.islice(iter(self.open_at(epoch)), step, None), None)

    def name_of(self, image_id: int) -> str:
        """The image's name for messages."""
        if not hasattr(self, "_names"):
            samples = self.annotations.samples if self.annotations is not None else ()
            self._names = {sample.image_id: sample.name for sample in samples}
        return self._names.get(image_id, f"image_id {image_id}")


def open_data(
    config: TrainConfig, data: Any, validation: Any, image_size: tuple[int, int], start_epoch: int
) -> tuple[Source, Any | None]:
    """Opens the training data at `start_epoch`, and the validation data (None for none).

    Args:
        config: names the data where `data` is None.
        data: a data set or a function `epoch -> data set`, or None.
        validation: a data set, or None for what `config.val_split` means.
        image_size: (height, width) of the network.
        start_epoch: counted from 0.
    """
    if data is not None and (isinstance(data, keras.utils.PyDataset) or not callable(data)):
        return Source(data, steps_of(data), None), validation
    open_at = data
    if data is None:
        from kzoo.data import from_annotations

        train, val = read_named(config)

        def open_at(epoch: int):
            return from_annotations(
                train,
                image_size,
                config.batch_size,
                config.augment,
                shuffle=True,
                seed=config.seed,
                start_epoch=epoch,
                limit=config.limit,
            )

        if validation is None and val is not None:
            validation = from_annotations(val, image_size, config.batch_size)
    dataset = open_at(start_epoch)
    return Source(dataset, steps_of(dataset), open_at), validation


def read_named(config: TrainConfig) -> tuple[Any, Any]:
    """The `Annotations` to train on and to validate on (None where `val_split` is None).

    Which images a fraction holds out depends on the seed alone, so resuming holds out the same ones.
    """
    from kzoo.data.readers import read

    train = read(config.data, split=config.split)
    if config.val_split is None:
        return train, None
    if isinstance(config.val_split, str):
        try:
            return train, read(config.data, split=config.val_split, class_names=train.class_names)
        except ValueError as error:
            raise ValueError(
                f"{error} To validate without such a split, hold out a tenth of the training images by val_split=0.1; "
                "val_split=None trains without validation."
            ) from error
    count = len(train.samples)
    held_out = max(1, round(config.val_split * count))
    if held_out >= count:
        raise ValueError(f"val_split={config.val_split} of {count} images leaves none to train on.")
    order = np.random.default_rng(config.seed).permutation(count)
    parts = [sorted(order[held_out:]), sorted(order[:held_out])]
    return tuple(replace(train, samples=[train.samples[i] for i in part]) for part in parts)


def steps_of(dataset: Any) -> int:
    """Batches in an epoch of a data set.

    Raises:
        ValueError: if it does not say how many it has.
    """
    steps = getattr(dataset, "steps_per_epoch", None)
    if steps is None and isinstance(dataset, keras.utils.PyDataset):
        steps = dataset.num_batches
    if steps is None and hasattr(dataset, "cardinality"):
        steps = int(dataset.cardinality())
    if steps is None or steps < 1:
        raise ValueError(
            f"The training data has no known number of batches an epoch. Received: {type(dataset).__name__} with "
            f"{steps}. Check that the split is not empty, or set dataset.steps_per_epoch."
        )
    return int(steps)


def note_left_out(annotations: Any | None, run: Run) -> str | None:
    """Writes left_out.csv, one row a fault of the training data; returns one line that counts them, None for none."""
    faults = [] if annotations is None else annotations.faults
    if not faults:
        return None
    write_rows(run.folder / LEFT_OUT, [asdict(fault) for fault in faults])
    kinds, counts = np.unique([f"{fault.kind}, {fault.action}" for fault in faults], return_counts=True)
    counted = "; ".join(f"{count} x {kind}" for kind, count in zip(kinds, counts, strict=True))
    return f"The data has {len(faults)} faults ({counted}): see {run.folder / LEFT_OUT}."
