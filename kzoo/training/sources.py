"""What a training feeds on: a named data set, a function that opens one at an epoch, or a data set made in Python."""

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
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


def open_training(config: TrainConfig, data: Any, image_size: tuple[int, int] | None, start_epoch: int) -> Source:
    """Opens the training data at `start_epoch`: `data` itself, or what `config.data` names where `data` is None."""
    if data is None:

        def open_at(epoch: int):
            import kzoo.data

            return kzoo.data.load(
                config.data,
                split=config.split,
                image_size=image_size,
                batch_size=config.batch_size,
                augment=config.augment,
                seed=config.seed,
                limit=config.limit,
                start_epoch=epoch,
            )

    elif callable(data) and not isinstance(data, keras.utils.PyDataset):
        open_at = data
    else:
        return Source(data, steps_of(data), None)
    dataset = open_at(start_epoch)
    return Source(dataset, steps_of(dataset), open_at)


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


def open_validation(config: TrainConfig, validation: Any, image_size: tuple[int, int] | None) -> Any | None:
    """Opens the validation data: `validation` itself, or the split that `config.val_split` names; None for none."""
    if validation is not None or config.val_split is None or not config.data:
        return validation
    import kzoo.data

    return kzoo.data.load(
        config.data, split=config.val_split, image_size=image_size, batch_size=config.batch_size, augment=False
    )


def note_left_out(annotations: Any | None, run: Run) -> str | None:
    """Writes left_out.csv, one row a fault of the training data; returns one line that counts them, None for none."""
    faults = [] if annotations is None else annotations.faults
    if not faults:
        return None
    write_rows(run.folder / LEFT_OUT, [asdict(fault) for fault in faults])
    kinds, counts = np.unique([f"{fault.kind}, {fault.action}" for fault in faults], return_counts=True)
    counted = "; ".join(f"{count} x {kind}" for kind, count in zip(kinds, counts, strict=True))
    return f"The data has {len(faults)} faults ({counted}): see {run.folder / LEFT_OUT}."
