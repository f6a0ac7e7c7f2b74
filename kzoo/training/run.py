"""`train`: from settings to a run folder, around plain `compile` and `fit`; and the same from where a run stopped."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from rich.console import Console

from kzoo.data import named
from kzoo.messages import missing_package, some_of
from kzoo.run_files import CONFIG, ENVIRONMENT
from kzoo.training.balance import class_weights
from kzoo.training.config import TrainConfig
from kzoo.training.folder import (
    Run,
    environment,
    load_network,
    new_folder,
    read_state,
    remove_leftovers,
    write_json,
)
from kzoo.training.keeper import Keeper, State, seed_variables
from kzoo.training.network import compile_for_training, create, image_size_of, load_all, precision_policy
from kzoo.training.progress import EpochProgress
from kzoo.training.schedule import build_schedule
from kzoo.training.sources import Feed, Source, note_left_out, task_of
from kzoo.training.watch import StopAtNaN, WarnNothingMatched, long_average, missing_classes

# What may differ when a run goes on: nothing that its weights so far depend on. More epochs stretch the schedule.
CHANGEABLE = ("data", "early_stopping", "epochs", "tensorboard", "validate_every", "xla")


def train(
    model: str | keras.Model | None = None,
    data: Any = None,
    *,
    validation: Any = None,
    resume: str | Path | Run | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Trains a network and keeps everything in a run folder.

    Args:
        model: a name of `kzoo.models.names()`, or a network whose loss is inside (`compute_loss`).
        data: a data set's name or path; or a data set of `(images, targets)` batches (tf.data or
            `keras.utils.PyDataset`); or a function `epoch -> data set` that opens it at an epoch, so that resuming goes
            on with the right order.
        validation: a data set that scores each epoch; by default the split `val_split` of a named data set.
        resume: a run (folder or name) to continue as if it had never stopped: weights, optimizer, schedule, averages,
            order and augmentation of the images, best score, early stopping. Of the settings only epochs,
            early_stopping, validate_every, tensorboard and xla may change. Data given as an object must be given again.
        callbacks: further Keras callbacks; they see the validation's numbers.
        quiet: write nothing to the terminal.
        **settings: the attributes of `TrainConfig`.

    Returns:
        The run: `.best`, `.last`, `.results`, `.model`.

    Raises:
        ValueError: for an unknown setting (with the nearest valid one), unreadable data, or a run that cannot go on.
        TrainingDiverged: when the loss becomes NaN or infinite, naming epoch, step and images.

    Example:
        >>> run = kzoo.training.train("ssd", "bccd", backbone="tiny", image_size=160, epochs=30)
        >>> run.model.detect(images)
    """
    console = Console(quiet=quiet)
    if resume is not None:
        return _resume(resume, model, data, validation, callbacks, console, settings)
    config, data = _configure(model, data, settings)
    if isinstance(model, str):
        _trains_here(model)
    keras.utils.set_random_seed(config.seed)
    feed = Feed(config, data, validation, task_of(config, model), start_epoch=0)
    if feed.config is not config:
        config = feed.config
        _say(console, f"{config.data} has no splits: {_shares(config)}.")
    if isinstance(model, keras.Model):
        network = model
    else:
        network = create(config, feed.class_names, partial(_say, console), _class_weights(config, feed.annotations))
    source, val, measured = feed.open(network, image_size_of(config, network))
    _require_targets(network, source)
    run = new_folder(config.run_dir, config.name or config.model)
    config.save(run.folder / CONFIG)
    write_json(run.folder / ENVIRONMENT, environment())
    compile_for_training(network, config, source.steps)
    left_out = note_left_out(source.annotations, run)
    blind = None
    if config.early_stopping and val is None:
        blind = "early_stopping has nothing to judge by: there is no validation."
    for warning in (left_out, _missing(source), long_average(config, source.steps), blind):
        if warning:
            _warn(console, warning)
    state = State(seed=config.seed, steps=source.steps)
    return _fit(run, config, state, network, source, (val, measured), callbacks, console)


def _shares(config: TrainConfig) -> str:
    if config.val_split is None:
        return "all of it is trained on, without validation"
    return f"{config.val_split:.0%} of its images are held out to validate on"


def _require_targets(network: keras.Model, source: Source) -> None:
    """Before anything is written: does the data carry what the network trains on?"""
    spec = getattr(source.dataset, "element_spec", None)
    if spec is None:  # a PyDataset does not say
        return
    for key in getattr(network, "extra_targets", ()):
        if key not in spec[1]:
            raise ValueError(
                f'{network.name} trains on {key}, and the data has none: load it by kzoo.data.load(..., {key}="fast"), '
                "or take faster_rcnn, which needs none."
            )


def _resume(resume, model, data, validation, callbacks, console, settings) -> Run:
    run = resume if isinstance(resume, Run) else Run.open(resume, settings.pop("run_dir", "runs"))
    config = _changed(run, settings, model, data)
    state = State(**read_state(run))
    if state.epoch >= config.epochs or (state.stopped == "no better score" and not _waits_longer(state, config)):
        why = state.stopped or f"{config.epochs} were asked for"
        _say(console, f"{run} is complete after epoch {state.epoch} ({why}); more epochs continue it.")
        return run
    state.stopped = ""
    if data is None and not config.data:
        raise ValueError(f"{run} was trained on a data set made in Python: give it again, train(data=..., resume=...).")
    keras.utils.set_random_seed(config.seed)
    with precision_policy(config.precision):  # a network's config does not hold it
        network = load_network(run.last)
    data = None if isinstance(data, str | Path) else data
    feed = Feed(config, data, validation, task_of(config, network), start_epoch=state.epoch)
    known, given = getattr(network, "class_names", None), feed.class_names
    if known is not None and given is not None and list(known) != list(given):
        raise ValueError(f"{run} has learned {some_of(known)}, and the data holds {some_of(given)}: it cannot go on.")
    source, *validation = feed.open(network, getattr(network, "image_size", None) or image_size_of(config, None))
    compile_for_training(network, config, source.steps)
    load_all(network, run)
    if state.steps != source.steps:
        changed = f"The training data has changed: {source.steps} steps an epoch, {state.steps} when the run stopped."
        _warn(console, f"{changed} The learning rate follows the new number.")
        state.steps = source.steps
    for variable, value in zip(seed_variables(network), state.seed_states, strict=True):
        variable.assign(ops.cast(value, variable.dtype))
    config.save(run.folder / CONFIG)
    remove_leftovers(run)
    return _fit(run, config, state, network, source, tuple(validation), callbacks, console)


def _fit(
    run: Run,
    config: TrainConfig,
    state: State,
    network: keras.Model,
    source: Source,
    validation: tuple[Any | None, Any | None],
    callbacks: Sequence[keras.callbacks.Callback],
    console: Console,
) -> Run:
    schedule = build_schedule(config, source.steps)
    progress = EpochProgress(
        config.epochs, source.steps, console, lambda epoch, step: float(schedule(epoch * source.steps + step))
    )
    val, measured = validation
    validate = None if val is None else _validation(network, val, measured)
    keeper = Keeper(run, config, state, validate, source.first_images)
    guards = [
        StopAtNaN(source.batch_at, source.name_of, run.last),
        WarnNothingMatched(lambda text: _warn(console, text)),
    ]
    if config.tensorboard:
        callbacks = [*callbacks, _tensorboard(run)]
    _say(console, f"run folder: {run}")
    try:
        network.fit(
            source.dataset,
            epochs=config.epochs,
            initial_epoch=state.epoch,
            # A PyDataset must end its epochs itself: it hears of their begin and end only so.
            steps_per_epoch=None if isinstance(source.dataset, keras.utils.PyDataset) else source.steps,
            shuffle=False,  # the data set orders its images itself, the same way each time
            callbacks=[*guards, keeper, progress, *callbacks],
            verbose=0,
        )
    except KeyboardInterrupt:
        progress.close()
        kept = run.state.get("epoch", 0)
        _say(console, f"Stopped after {kept} whole epochs: continue with resume={str(run)!r}.")
        raise
    finally:
        progress.close()
    scored = "" if val is None or state.best_score is None else f" (score {state.best_score:.4g})"
    _say(console, f"{state.stopped}; best epoch {state.best_epoch}{scored}: {run.best}")
    return run


def _trains_here(model: str) -> None:
    """Raises for R-CNN and SPP-net, whose stages are no single `fit`."""
    import kzoo.models

    if model in kzoo.models.names() and kzoo.models.trains_in_stages(model):
        raise ValueError(
            f"{model} trains in stages (network, SVMs, box regression) and has a script of its own: python "
            f"recipes/{model}.py --data DATA. Or take fast_rcnn, which learns the same in one network."
        )


def _configure(model: Any, data: Any, settings: dict[str, Any]) -> tuple[TrainConfig, Any]:
    """The config, and the data where it is not a name or a path."""
    settings = dict(settings)
    if isinstance(model, keras.Model):
        settings |= {"model": model.name, "precision": model.dtype_policy.name}
    elif model is not None:
        settings["model"] = model
    if isinstance(data, str | Path):
        settings["data"], data = named.whole_path(data), None
    config = TrainConfig.from_dict(settings)
    if data is None and not config.data:
        raise ValueError("No data to train on: give a data set's name or path, or a data set, as `data`.")
    return config, data


def _changed(run: Run, settings: dict[str, Any], model: Any, data: Any) -> TrainConfig:
    """The run's config with the settings that may change."""
    old = run.config.to_dict()
    if isinstance(model, str):
        settings = {**settings, "model": model}
    if isinstance(data, str | Path):
        settings = {**settings, "data": named.whole_path(data)}
    new = TrainConfig.from_dict({**old, **settings}).to_dict()
    fixed = [key for key in new if new[key] != old[key] and key not in CHANGEABLE]
    if fixed:
        changes = ", ".join(f"{key} {old[key]!r} -> {new[key]!r}" for key in fixed)
        raise ValueError(
            f"{run} cannot go on with other settings ({changes}). Only {', '.join(CHANGEABLE)} may change; for "
            f"anything else start a new run with weights={str(run)!r}."
        )
    return TrainConfig.from_dict(new)


def _waits_longer(state: State, config: TrainConfig) -> bool:
    return config.early_stopping == 0 or state.waited < config.early_stopping


def _tensorboard(run: Run) -> keras.callbacks.Callback:
    for package in ("tensorboard", "tensorflow"):  # Keras writes its logs by TensorFlow, on any backend
        if importlib.util.find_spec(package) is None:
            raise ImportError(missing_package(package, package, "tensorboard=True"))
    return keras.callbacks.TensorBoard(run.folder / "tensorboard", write_graph=False)


def _validation(network: keras.Model, val: Any, measured: Any) -> Callable[[keras.Model, int, dict[str, Any]], None]:
    """Takes the losses on `val`, and a detector's mAP or a segmenter's mean IoU on `measured`."""
    from kzoo.callbacks import measurement

    metric = measurement(network, measured)
    if metric is not None:
        metric.set_model(network)

    def validate(model: keras.Model, epoch: int, logs: dict[str, Any]) -> None:
        losses = model.evaluate(val, return_dict=True, verbose=0)
        logs |= {f"val_{name}": float(value) for name, value in losses.items()}
        if metric is not None:
            metric.on_epoch_end(epoch, logs)

    return validate


def _missing(source: Source) -> str | None:
    annotations = source.annotations
    if annotations is None:
        return None
    what = "pixel" if hasattr(annotations, "values") else "box"
    return missing_classes(annotations.counts, annotations.class_names, what)


def _class_weights(config: TrainConfig, annotations: Any | None) -> list[float] | None:
    if config.class_balance == "none":
        return None
    if not hasattr(annotations, "values"):
        raise ValueError("class_balance needs masks to count, and the training data has none. Leave it 'none'.")
    return class_weights(config.class_balance, np.stack([sample.counts for sample in annotations.samples]))


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _warn(console: Console, text: str) -> None:
    _say(console, f"Warning: {text}", style="yellow")
