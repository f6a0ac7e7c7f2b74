"""Guards of a training: a loss that is no number, objects that nothing matches, classes that nobody shows."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.training.config import TrainConfig

NAMES_SHOWN = 8


class TrainingDiverged(RuntimeError):
    """The loss or the weights became NaN or infinite. The message names epoch, step, images and remedy."""


class StopAtNaN(keras.callbacks.Callback):
    """Raises `TrainingDiverged` at the first step whose loss is NaN or infinite, and at the end of an epoch with such
    weights; last.keras stays the last sound epoch.

    Args:
        batch_at: `(epoch, step) -> (images, targets) | None` makes a training batch again, both counted from 0.
        name_of: `image_id -> name` for messages.
        last: path of last.keras, named in the message where it exists.
    """

    def __init__(
        self,
        batch_at: Callable[[int, int], tuple[Any, Any] | None],
        name_of: Callable[[int], str],
        last: Any,
    ):
        super().__init__()
        self.batch_at, self.name_of, self.last = batch_at, name_of, last
        self.epoch = self.step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step = batch
        wrong = sorted(key for key, value in (logs or {}).items() if not math.isfinite(float(value)))
        if wrong:
            self._stop(" and ".join(wrong), batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # The loss of the last step was measured before its update: what that broke must not be kept.
        if not all(bool(ops.all(ops.isfinite(weight))) for weight in self.model.trainable_weights):
            self._stop("the weights", self.step)

    def _stop(self, what: str, batch: int) -> None:
        # The weights may have broken in the step before, by a gradient that overflowed while its loss was still finite.
        steps = [batch] if batch == 0 else [batch, batch - 1]
        seen = [self._describe(step) for step in steps]
        text = f"{what} became NaN or infinite in epoch {self.epoch + 1}, step {batch + 1}"
        if seen[0]:
            text += f", with the images {seen[0]}"
        if len(seen) > 1 and seen[1]:
            text += f" (the step before: {seen[1]})"
        kept = f" {self.last} holds the last sound epoch." if self.last.exists() else ""
        raise TrainingDiverged(
            f"{text}. Try a learning rate a tenth as high, a longer warm-up or precision float32, and run `kzoo check` "
            f"on the data.{kept}"
        )

    def _describe(self, step: int) -> str:
        batch = self.batch_at(self.epoch, step)
        if batch is None:
            return ""
        images, targets = batch
        names = image_names(targets, self.name_of)
        suspects = suspicious(np.asarray(images), targets)
        described = [f"{name} ({suspects[i]})" if i in suspects else name for i, name in enumerate(names)]
        # What is wrong by itself comes first, so that it is never cut off.
        order = sorted(range(len(names)), key=lambda i: i not in suspects)
        return shortened([described[i] for i in order])


def image_names(targets: Any, name_of: Callable[[int], str]) -> list[str]:
    """The names of a batch's images, by `targets["image_id"]`; empty where the targets carry none."""
    if not isinstance(targets, dict) or "image_id" not in targets:
        return []
    return [name_of(int(image_id)) for image_id in np.asarray(targets["image_id"])]


def suspicious(images: np.ndarray, targets: Any) -> dict[int, str]:
    """What is wrong in a batch by itself: index of the image -> "pixels not finite", "box without area", ..."""
    found = {int(i): "pixels not finite" for i in np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))}
    if isinstance(targets, dict) and {"boxes", "labels"} <= set(targets):
        boxes, valid = np.asarray(targets["boxes"]), np.asarray(targets["labels"]) >= 0
        finite = np.isfinite(boxes).all(axis=-1)
        flat = (boxes[..., 2:] <= boxes[..., :2]).any(axis=-1)
        for fault, rows in (("box without area", valid & finite & flat), ("box not finite", valid & ~finite)):
            found |= {int(i): fault for i in np.flatnonzero(rows.any(axis=1))}
    return found


class WarnNothingMatched(keras.callbacks.Callback):
    """Warns after an epoch in which the box loss was exactly 0: no default box was assigned to any object."""

    def __init__(self, warn: Callable[[str], None]):
        super().__init__()
        self.warn = warn

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (logs or {}).get("box_loss") == 0:
            self.warn(
                f"Epoch {epoch + 1}: the box loss was 0 in every step, so no object was matched to a default box. "
                "Likely the objects are too small for the default boxes: use a larger image_size, and look at the box "
                "sizes with `kzoo check`."
            )


def missing_classes(counts: Sequence[int], class_names: Sequence[str], what: str = "box") -> str | None:
    """A warning that names the classes without a single training box or pixel; None where each class has one.

    Args:
        counts: (C,) boxes or pixels of each class. what: which of them, "box" or "pixel".
    """
    missing = [name for name, count in zip(class_names, counts, strict=True) if count == 0]
    if not missing:
        return None
    if len(missing) == len(class_names):
        learns = "only learn background" if what == "box" else "learn nothing"
        return f"The training images hold no {what} at all: the network can {learns}. Check paths and split."
    return f"No training {what} of {shortened(missing)}: the network cannot learn what it never sees."


def long_average(config: TrainConfig, steps: int) -> str | None:
    """A warning where the moving average would hardly leave the first weights behind."""
    total = steps * config.epochs
    if config.ema == 0 or 1 / (1 - config.ema) <= total / 5:
        return None
    return (
        f"ema={config.ema} averages over about {round(1 / (1 - config.ema))} steps, the whole training has {total}: "
        f"the average lags far behind. Try ema={max(0.0, 1 - 10 / total):.3g} or more epochs."
    )


def shortened(names: Sequence[str]) -> str:
    """Joins names, the first few only."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
