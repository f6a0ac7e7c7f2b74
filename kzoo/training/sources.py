"""What a training feeds on: a named data set, a function that opens one at an epoch, or a data set made in Python."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from kzoo.messages import counted
from kzoo.run_files import LEFT_OUT
from kzoo.training.config import TrainConfig
from kzoo.training.folder import Run, write_rows

HELD_OUT = 0.1  # of a data set without splits, to validate on


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

    def first_images(self, epoch: int, count: int) -> Iterator[Any]:
        """The images of an epoch's first batches; none where the data can be read only once."""
        if isinstance(self.dataset, keras.utils.PyDataset):
            batches = (self.dataset[step] for step in range(self.steps))
        elif self.open_at is not None:
            batches = self.open_at(epoch)
        else:
            batches = () if hasattr(self.dataset, "__next__") else self.dataset
        return (batch[0] for batch in itertools.islice(iter(batches), count))

    def name_of(self, image_id: int) -> str:
        """The image's name for messages."""
        if not hasattr(self, "_names"):
            samples = self.annotations.samples if self.annotations is not None else ()
            self._names = {sample.image_id: sample.name for sample in samples}
        return self._names.get(image_id, f"image_id {image_id}")


def task_of(config: TrainConfig, model: Any = None) -> str:
    """ "detection" or "segmentation": what the network learns, and so whether boxes or masks are read for it."""
    if isinstance(model, keras.Model):
        return "segmentation" if hasattr(model, "segment") else "detection"
    from kzoo import models

    return models.task(config.model) if config.model in models.names() else "detection"


class Feed:
    """Training and validation data: first what is in them, and, once there is a network, batches of its size.

    Args:
        config: names the data where `data` is None.
        data: a data set or a function `epoch -> data set`, or None.
        validation: a data set, and nothing is held out; or None for what `config.val_split` means.
        task: "detection" or "segmentation".
        start_epoch: of the training, counted from 0.

    Attributes:
        config: as given, but for what became of splits that the data set does not have (see `read_or_hold_out`), and of
            `val_split` where a validation set is given.
        annotations: the `Annotations` or `MaskAnnotations` trained on; None where data from Python carries none.
        class_names: of the training data, or None.
    """

    def __init__(self, config: TrainConfig, data: Any, validation: Any, task: str, start_epoch: int):
        self.config, self._validation, self._start_epoch = config, validation, start_epoch
        self._held_out = self._dataset = self._open_at = None
        if data is None:
            if validation is not None:
                config = replace(config, val_split=None)
            self.config, self.annotations, self._held_out = read_or_hold_out(config, task)
            self.class_names = self.annotations.class_names
            return
        if not isinstance(data, keras.utils.PyDataset) and callable(data):
            self._open_at, data = data, data(start_epoch)
        self._dataset = data
        self.annotations = getattr(data, "annotations", None)
        self.class_names = getattr(data, "class_names", None)

    def open(self, network: Any, image_size: tuple[int, int]) -> tuple[Source, Any | None, Any | None]:
        """The training data, the data for the validation's loss, and the data to measure on (None for none).

        A segmenter is measured on images of their own size, as `kzoo evaluate` does.
        """
        if self._dataset is not None:
            return Source(self._dataset, steps_of(self._dataset), self._open_at), self._validation, self._validation
        from kzoo.data import from_annotations

        config, options = self.config, batch_options(self.config, network)

        def open_at(epoch: int):
            return from_annotations(
                self.annotations,
                image_size,
                config.batch_size,
                config.augment,
                shuffle=True,
                seed=config.seed,
                start_epoch=epoch,
                **options,
            )

        losses = measured = self._validation
        if losses is None and self._held_out is not None:
            losses = measured = from_annotations(self._held_out, image_size, config.batch_size, **options)
            if hasattr(network, "segment"):
                measured = from_annotations(self._held_out, None)
        dataset = open_at(self._start_epoch)
        return Source(dataset, steps_of(dataset), open_at), losses, measured


def batch_options(config: TrainConfig, network: Any) -> dict[str, Any]:
    """How a segmenter's images are brought to its size; of detectors, the proposals of one that takes them."""
    if not hasattr(network, "segment"):
        return proposal_options(config.data_options, network)
    fit = "stretch" if getattr(network, "tile_size", None) is None else "crop"
    asked = {key: value for key, value in config.data_options.items() if key in ("fit", "weights")}
    return {"fit": fit, "context": getattr(network, "context", (0, 0))} | asked


def proposal_options(data_options: Mapping[str, Any], network: Any) -> dict[str, Any]:
    """Which proposals `kzoo.data.load` is to bring: selective search's, unless others are named; {} without need.

    Raises:
        ValueError: if proposals are named for a network that does not take any.
    """
    if "proposals" not in getattr(network, "extra_targets", ()):
        if "proposals" in data_options:
            raise ValueError(f"{network.name} takes no proposals: leave the data option proposals out.")
        return {}
    return {"proposals": data_options.get("proposals", "fast"), "max_proposals": network.max_proposals}


def read_or_hold_out(config: TrainConfig, task: str | None = None) -> tuple[TrainConfig, Any, Any]:
    """The settings, and what `read_named` reads by them.

    A data set without splits, of which none but the usual ones were asked for, is trained on whole, but for a tenth
    (or the fraction `val_split`) to validate on; the settings returned say so.
    """
    from kzoo.data.readers import NoSplitsError

    try:
        return config, *read_named(config, task)
    except NoSplitsError:
        named = isinstance(config.val_split, str)
        if config.split not in (None, TrainConfig.split) or (named and config.val_split != TrainConfig.val_split):
            raise
        config = replace(config, split=None, val_split=HELD_OUT if named else config.val_split)
        return config, *read_named(config, task)


def read_named(config: TrainConfig, task: str | None = None) -> tuple[Any, Any]:
    """The annotations to train on, at most `limit` images, and to validate on (None where `val_split` is None).

    Which images a fraction holds out depends on the seed alone, so resuming holds out the same ones. Of a data set in
    many parts, as a folder a patient, whole parts are held out: images of one are too much alike.
    """
    from kzoo.data.batches import first
    from kzoo.data.readers import MASK_OPTIONS, SplitError, read

    task = task or task_of(config)
    options = {key: value for key, value in config.data_options.items() if key in MASK_OPTIONS}
    train = read(config.data, split=config.split, task=task, **options)
    if config.val_split is None:
        return first(train, config.limit), None
    if isinstance(config.val_split, str):
        kept, names = first(train, config.limit), train.class_names
        try:
            return kept, read(config.data, split=config.val_split, class_names=names, task=task, **options)
        except SplitError as error:
            raise type(error)(
                f"{error} To validate without such a split, hold out a tenth of the training images: val_split=0.1, or "
                "--val-split 0.1; val_split=None, or --val-split none, trains without validation."
            ) from error
    learned, measured = _hold_out(train.samples, config.val_split, config.seed)
    return first(replace(train, samples=learned), config.limit), replace(train, samples=measured, split="held out")


def _hold_out(samples: Sequence[Any], fraction: float, seed: int) -> tuple[list[Any], list[Any]]:
    """The samples to learn from, and those to measure on: by parts of the data set, where these are small enough."""
    from kzoo.data.readers import named_as_split

    parts = ["/".join(sample.splits) for sample in samples]
    by_parts = len(set(parts)) * fraction >= 1 and not any(map(named_as_split, set(parts)))
    _, groups, sizes = np.unique(parts if by_parts else range(len(samples)), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    wanted = max(1, round(fraction * len(samples)))
    drawn = order[: 1 + np.searchsorted(np.cumsum(sizes[order]), wanted)]
    if len(drawn) >= len(sizes):
        raise ValueError(f"val_split={fraction} of {len(samples)} images leaves none to train on.")
    measured = np.isin(groups, drawn)
    return [samples[i] for i in np.flatnonzero(~measured)], [samples[i] for i in np.flatnonzero(measured)]


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
    listed = "; ".join(f"{count} x {kind}" for kind, count in zip(kinds, counts, strict=True))
    return f"The data has {counted(len(faults), 'fault')} ({listed}): see {run.folder / LEFT_OUT}."
