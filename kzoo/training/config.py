"""The settings of one training: checked when made, written to and read from config.yaml."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kzoo.messages import unknown_name
from kzoo.training.balance import BALANCES

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "step")
DATA_OPTIONS = ("fit", "instances", "proposals", "values", "void", "weights")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

# Peak learning rates where none is given: SSD's own for SGD (section 3), the usual for Adam. Weights that start from a
# trained network want a gentler hand than random ones.
_PEAK = {"adam": 1e-3, "adamw": 1e-3, "sgd": 1e-3}
_PEAK_FINE_TUNING = {"adam": 5e-4, "adamw": 5e-4, "sgd": 1e-3}
# A trained backbone that learns through fully connected layers forgets, while those know nothing (docs/experiments.md).
_PEAK_THROUGH_CONNECTED = {"adam": 1e-4, "adamw": 1e-4, "sgd": 1e-3}


@dataclass
class TrainConfig:
    """Everything that decides how a training runs.

    Attributes:
        model: a name of `kzoo.models.names()`.
        data: a data set's name or path, as `kzoo.data.load` takes it.
        split: the split to train on; None is the whole data set, and so is "train" where it has no splits.
        val_split: the split that scores each epoch and picks best.keras; a fraction (0.1) holds out so much of the
            training images instead, and so does "val" where the data set has no splits; None trains without validation.
        backbone: a name of `kzoo.backbones`; None is the model's own.
        weights: None (random), "imagenet", a file of backbone weights, or a run folder or .keras file to fine-tune
            from; the number of classes may differ.
        image_size: pixels, one number or (height, width); None is the model's own size.
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: "adamw", "adam" or "sgd" (momentum 0.9).
        learning_rate: the peak, after warm-up; None picks one for the optimizer and for fine-tuning or not.
        warmup_epochs: the learning rate rises linearly over so many epochs (fractions allowed).
        schedule: "cosine" to 1 % of the peak, "step" (a tenth at 2/3 and at 5/6 of the steps, SSD's own) or "constant".
        weight_decay: decoupled, on kernels only (biases and normalisation are left alone); 0 is none.
        ema: momentum of the moving average of the weights that is evaluated and kept as best.keras; 0 is none. It looks
            back over about 1 / (1 - ema) steps, so keep that well below the steps of the training.
        gradient_clip: largest norm of all gradients together; 0 is none.
        precision: "float32", "mixed_float16" (with loss scaling) or "mixed_bfloat16".
        seed: for weights, shuffling, augmentation and dropout.
        validate_every: epochs between validations; the last epoch always validates.
        early_stopping: stop after so many epochs without a better val_mAP (or val_mIoU); 0 never stops early.
        augment: a preset's name or a list of augmentations (see `kzoo.data.augment`): "light" suits trainings of some
            ten thousand steps, "ssd" (or True), the paper's, longer ones; False for none. For masks see
            `kzoo.data.augment.masks`: "light", "street", "no_up", "unet".
        class_balance: of segmenters, "median": the loss weighs each class by the median of the classes' frequencies
            over its own (Eigen and Fergus, ICCV 2015, as SegNet takes it), counted in the training masks; "root": by
            the square root of that; or "none".
        data_options: of masks: `values`, `void`, `instances` (see `kzoo.data.readers.masks.read`), `weights` (U-Net's
            boundary weights) and `fit`, "stretch" or "crop"; by default networks that tile large images crop. Of
            "fast_rcnn": `proposals`, "fast" (the default) or "quality" for selective search, or a file of them.
        tensorboard: write TensorBoard logs into the run folder.
        xla: "auto" compiles where an accelerator is present (on the CPU it trains several times slower), True or False.
        model_options: further arguments of the model's constructor, as {"frozen_stages": 2}.
        limit: use only so many training images; None uses all.
        run_dir: the folder of all runs.
        name: the run's folder in it, numbered when taken; None takes the model's name.
    """

    model: str = "ssd"
    data: str = ""
    split: str | None = "train"
    val_split: str | float | None = "val"
    backbone: str | None = None
    weights: str | None = None
    image_size: int | tuple[int, int] | None = None
    epochs: int = 60
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float | None = None
    warmup_epochs: float = 1.0
    schedule: str = "cosine"
    weight_decay: float = 1e-4
    ema: float = 0.0
    gradient_clip: float = 10.0
    precision: str = "float32"
    seed: int = 0
    validate_every: int = 1
    early_stopping: int = 0
    augment: bool | str | list[str] = "light"
    class_balance: str = "none"
    data_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    tensorboard: bool = False
    xla: bool | str = "auto"
    model_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    limit: int | None = None
    run_dir: str = "runs"
    name: str | None = None

    def __post_init__(self) -> None:
        for key in ("data", "weights", "run_dir"):
            value = getattr(self, key)
            if isinstance(value, os.PathLike):
                setattr(self, key, os.fspath(value))
        if isinstance(self.image_size, list):
            self.image_size = tuple(self.image_size)
        self._check()

    def _check(self) -> None:
        choices = {"class_balance": BALANCES, "optimizer": OPTIMIZERS, "precision": PRECISIONS, "schedule": SCHEDULES}
        for key, valid in choices.items():
            if getattr(self, key) not in valid:
                raise ValueError(unknown_name(key, getattr(self, key), valid))
        for key in ("model", "data", "split", "backbone", "weights", "run_dir", "name"):
            optional = key in ("split", "backbone", "weights", "name")
            value = getattr(self, key)
            _require(isinstance(value, str) or (optional and value is None), key, value, "text")
        for key in ("model_options", "data_options"):
            _require(isinstance(getattr(self, key), dict), key, getattr(self, key), "names and values")
        for key in self.data_options:
            if key not in DATA_OPTIONS:
                raise ValueError(unknown_name("data option", key, DATA_OPTIONS))
        _require(isinstance(self.augment, bool | str | list | tuple), "augment", self.augment, "true, false or names")
        for key in ("epochs", "batch_size", "validate_every"):
            _require(_is_int(getattr(self, key)) and getattr(self, key) >= 1, key, getattr(self, key), "1, 2, 3, ...")
        for key in ("early_stopping", "seed"):
            _require(_is_int(getattr(self, key)) and getattr(self, key) >= 0, key, getattr(self, key), "0, 1, 2, ...")
        for key in ("warmup_epochs", "weight_decay", "gradient_clip"):
            _require(_is_number(getattr(self, key)) and getattr(self, key) >= 0, key, getattr(self, key), ">= 0")
        rate = self.learning_rate
        _require(rate is None or (_is_number(rate) and rate > 0), "learning_rate", rate, "> 0")
        _require(_is_number(self.ema) and 0 <= self.ema < 1, "ema", self.ema, "0 (none) up to below 1, as 0.99")
        _require(self.limit is None or (_is_int(self.limit) and self.limit >= 1), "limit", self.limit, "1, 2, 3, ...")
        held_out = self.val_split
        _require(
            held_out is None or isinstance(held_out, str) or (_is_number(held_out) and 0 < held_out < 1),
            "val_split",
            held_out,
            "a split's name, a fraction between 0 and 1, or None",
        )
        _require(self.xla in (True, False, "auto"), "xla", self.xla, "True, False or 'auto'")
        size = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,) * 2
        sound = self.image_size is None or (len(size) == 2 and all(_is_int(side) and side >= 1 for side in size))
        _require(sound, "image_size", self.image_size, "pixels, one number or (height, width)")

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after warm-up."""
        if self.learning_rate is not None:
            return float(self.learning_rate)
        if self.weights is None:
            return _PEAK[self.optimizer]
        return (_PEAK_THROUGH_CONNECTED if self.model == "fast_rcnn" else _PEAK_FINE_TUNING)[self.optimizer]

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "TrainConfig":
        """Makes a config of a mapping.

        Raises:
            ValueError: for an unknown key, with the nearest valid one, or a value outside its range.
        """
        valid = [field.name for field in dataclasses.fields(cls)]
        for key in settings:
            if key not in valid:
                raise ValueError(unknown_name("training setting", key, valid))
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain numbers, strings and lists."""
        settings = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}

    def save(self, path: str | Path) -> None:
        """Writes the settings as YAML."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "TrainConfig":
        """Reads what `save` wrote.

        Raises:
            ValueError: if the file is missing, is no YAML mapping or holds an unknown key, naming the file.
        """
        try:
            settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: not a readable config ({' '.join(str(error).split())}).") from error
        if not isinstance(settings, dict):
            raise ValueError(f"{path}: expected lines of 'setting: value', got {type(settings).__name__}.")
        try:
            return cls.from_dict(settings)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _require(sound: bool, key: str, got: object, allowed: str) -> None:
    if not sound:
        raise ValueError(f"Training setting {key} must be {allowed}. Received: {got!r}.")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
