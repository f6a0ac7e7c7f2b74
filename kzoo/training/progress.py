"""Progress on a terminal (a bar with each loss part, learning rate and time left) or in a log (one line an epoch)."""

import time
from collections.abc import Callable
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

VALIDATION_SHOWN = ("val_loss", "val_mAP", "val_mAP@0.50", "val_mIoU")  # of dozens; results.csv has them all


class EpochProgress(keras.callbacks.Callback):
    """Shows how far the training is.

    Args:
        epochs: of the whole training.
        steps: of one epoch.
        console: where to write; a terminal gets a live bar too.
        rate: `(epoch, step) -> learning rate`, both counted from 0. (Under JAX the optimizer's own step counter is not
            up to date inside an epoch.)
    """

    def __init__(self, epochs: int, steps: int, console: Console, rate: Callable[[int, int], float]):
        super().__init__()
        self.epochs, self.steps, self.console, self.rate = epochs, steps, console, rate
        self.bar: Progress | None = None
        self.task = None
        self.first_epoch: int | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.monotonic()
        if self.first_epoch is None:
            self.first_epoch, self.began = epoch, now
        self.epoch, self.epoch_began = epoch, now
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=12),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[numbers]}"),  # last: what a narrow terminal may cut off
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("", total=self.steps, epoch=f"{epoch + 1}/{self.epochs}", numbers="")
            self.bar.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.bar is not None:
            numbers = _numbers({**(logs or {}), "lr": self.rate(self.epoch, batch)})
            numbers = numbers.replace("_loss", "").replace("  ", " ")
            self.bar.update(self.task, completed=batch + 1, numbers=numbers)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.close()
        done = epoch + 1 - self.first_epoch
        now = time.monotonic()
        left = (now - self.began) / done * (self.epochs - epoch - 1)
        self.console.print(
            f"epoch {epoch + 1}/{self.epochs}  {_numbers(logs or {})}  {duration(now - self.epoch_began)}, "
            f"{duration(left)} left",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )

    def close(self) -> None:
        """Takes the bar off the terminal; safe to call at any time."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _numbers(logs: dict[str, Any]) -> str:
    shown = {key: value for key, value in logs.items() if not key.startswith("val_") or key in VALIDATION_SHOWN}
    return "  ".join(f"{key} {float(value):.3g}" for key, value in shown.items() if key != "seconds")


def duration(seconds: float) -> str:
    """Seconds as "42s", "3m 05s" or "2h 07m"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
