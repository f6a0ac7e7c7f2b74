"""What happens at the end of each epoch, in this order: validate, keep the best, log, keep the last, stop early."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
from keras import ops

from kzoo.run_files import RESULTS, STATE
from kzoo.training.config import TrainConfig
from kzoo.training.ema import averaged_weights
from kzoo.training.folder import (
    Run,
    read_results,
    save_last,
    save_network,
    write_json,
    write_rows,
)

STATISTICS_BATCHES = 8  # for the batch norm of averaged weights


def score_of(logs: dict[str, Any]) -> float:
    """What picks the best epoch, higher is better: val_mAP or val_mIoU, or the negative val_loss of other networks.

    NaN where there is nothing to compare: both are -1 where the validation data holds no ground truth.
    """
    for measure in ("val_mAP", "val_mIoU"):
        if measure in logs:
            return float(logs[measure]) if logs[measure] >= 0 else math.nan
    return -float(logs.get("val_loss", math.nan))


@dataclass
class State:
    """What a training must remember beside network and optimizer to go on as if never stopped.

    Attributes:
        epoch: whole epochs done.
        best_score: the best val_mAP or val_mIoU so far; None before the first validation.
        best_epoch: the epoch (from 1) that had it.
        waited: epochs since then.
        seed: the training's seed.
        steps: batches an epoch.
        stopped: why the training ended: "" (it has not), "all epochs done", "no better score".
        seed_states: state of every random generator in the network (dropout), in the network's order.
    """

    epoch: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    waited: int = 0
    seed: int = 0
    steps: int = 0
    stopped: str = ""
    seed_states: list[list[int]] = field(default_factory=list)


def seed_variables(model: keras.Model) -> list[keras.Variable]:
    """The states of the random generators of all layers; .keras files leave them out."""
    return [v for v in model.non_trainable_variables if v.name == "seed_generator_state"]


class Keeper(keras.callbacks.Callback):
    """Validates and writes the run folder after each epoch.

    Args:
        run: the folder to write into.
        config: the training's settings.
        state: where the training stands; updated in place.
        validate: `(model, epoch, logs) -> None` adds the validation's numbers to `logs`; None for no validation.
        first_images: `(epoch, count) -> batches of images` to train on, for batch norm under averaged weights.
    """

    def __init__(
        self,
        run: Run,
        config: TrainConfig,
        state: State,
        validate: Callable[[keras.Model, int, dict[str, Any]], None] | None = None,
        first_images: Callable[[int, int], Iterable] = lambda epoch, count: (),
    ):
        super().__init__()
        self.run, self.config, self.state, self.validate = run, config, state, validate
        self.first_images = first_images
        # Rows beyond the checkpoint belong to an epoch that was killed before its weights were kept: it runs again.
        self.rows = [row for row in read_results(run.folder / RESULTS) if row["epoch"] <= state.epoch]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        state = self.state
        state.epoch = epoch + 1
        logs["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        due = state.epoch % self.config.validate_every == 0 or state.epoch == self.config.epochs
        validated = due and self.validate is not None
        if validated or self.validate is None:
            with averaged_weights(self.model, self.first_images(epoch, STATISTICS_BATCHES)):
                if validated:
                    self.validate(self.model, epoch, logs)
                self._keep_best(score_of(logs) if validated else None)
        self._decide(validated)
        logs["seconds"] = round(time.monotonic() - self.began, 3)
        self.rows.append({"epoch": state.epoch, **{key: value for key, value in logs.items() if _is_scalar(value)}})
        write_rows(self.run.folder / RESULTS, self.rows)
        state.seed_states = [ops.convert_to_numpy(v).tolist() for v in seed_variables(self.model)]
        save_last(self.model, self.run.last, asdict(state))
        write_state(self.run, state)

    def _keep_best(self, score: float | None) -> None:
        """Writes best.keras where `score` is the best so far, or where there is none to compare (no validation)."""
        state = self.state
        comparable = score is not None and math.isfinite(score)
        if comparable and state.best_score is not None and score <= state.best_score:
            return
        if not comparable and state.best_score is not None:
            return
        save_network(self.model, self.run.best)
        state.best_score, state.best_epoch = (score if comparable else None), state.epoch

    def _decide(self, validated: bool) -> None:
        """Stops where patience ran out; only a validation can tell."""
        state, patience = self.state, self.config.early_stopping
        state.waited = state.epoch - state.best_epoch
        if state.epoch >= self.config.epochs:
            state.stopped = "all epochs done"
        elif validated and patience and state.best_epoch and state.waited >= patience:
            state.stopped = "no better score"
            self.model.stop_training = True


def write_state(run: Run, state: State) -> None:
    """Writes state.json, for people and scripts; resuming reads the copy inside last.keras."""
    content = asdict(state)
    del content["seed_states"]
    write_json(run.folder / STATE, content)


def _is_scalar(value: object) -> bool:
    return isinstance(value, int | float) or getattr(value, "ndim", None) == 0
