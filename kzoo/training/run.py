"""`train`: from settings to a run folder, around plain `compile` and `fit`; and the same from where a run stopped."""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops
from rich.console import Console

from kzoo.training.config import TrainConfig
from kzoo.training.folder import (
    CONFIG,
    ENVIRONMENT,
    Run,
    accelerators,
    environment,
    load_network,
    new_folder,
    read_state,
    remove_leftovers,
    write_json,
)
from kzoo.training.keeper import Keeper, State, seed_variables
from kzoo.training.progress import EpochProgress
from kzoo.training.schedule import build_optimizer, build_schedule
from kzoo.training.sources import Source, note_left_out, open_data
from kzoo.training.transfer import load_matching_weights
from kzoo.training.watch import StopAtNaN, WarnNothingMatched, missing_classes

# What may differ when a run goes on: nothing that its weights so far depend on. More epochs stretch the schedule.
CHANGEABLE = ("early_stopping", "epochs", "tensorboard", "validate_every", "xla")
DEFAULT_IMAGE_SIZE = (300, 300)


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
    keras.utils.set_random_seed(config.seed)
    size = _image_size(config, model)
    source, val = open_data(config, data, validation, size, start_epoch=0)
    network = model if isinstance(model, keras.Model) else _create(config, source, size, console)
    run = new_folder(config.run_dir, config.name or config.model)
    config.save(run.folder / CONFIG)
    write_json(run.folder / ENVIRONMENT, environment())
    _compile(network, config, source.steps)
    left_out = note_left_out(source.annotations, run)
    for warning in (left_out, _missing(source)):
        if warning:
            _warn(console, warning)
    return _fit(run, config, State(seed=config.seed, steps=source.steps), network, source, val, callbacks, console)


def _resume(resume, model, data, validation, callbacks, console, settings) -> Run:
    run = resume if isinstance(resume, Run) else Run.open(resume, settings.pop("run_dir", "runs"))
    config = _changed(run, settings, model, data)
    state = State(**read_state(run))
    if state.epoch >= config.epochs or (state.stopped == "no better score" and not _waits_longer(state, config)):
        console.print(f"{run} is complete after epoch {state.epoch} ({state.stopped}); more epochs continue it.")
        return run
    state.stopped = ""
    if data is None and not config.data:
        raise ValueError(f"{run} was trained on a data set made in Python: give it again, train(data=..., resume=...).")
    keras.utils.set_random_seed(config.seed)
    with precision_policy(config.precision):  # a network's config does not hold it
        network = load_network(run.last)
    size = getattr(network, "image_size", None) or _image_size(config, None)
    data = None if isinstance(data, str | Path) else data
    source, val = open_data(config, data, validation, size, start_epoch=state.epoch)
    _compile(network, config, source.steps)
    _load_all(network, run)
    if state.steps != source.steps:
        changed = f"The training data has changed: {source.steps} steps an epoch, {state.steps} when the run stopped."
        _warn(console, f"{changed} The learning rate follows the new number.")
        state.steps = source.steps
    for variable, value in zip(seed_variables(network), state.seed_states, strict=True):
        variable.assign(ops.cast(value, variable.dtype))
    config.save(run.folder / CONFIG)
    remove_leftovers(run)
    return _fit(run, config, state, network, source, val, callbacks, console)


def _load_all(network: keras.Model, run: Run) -> None:
    """Loads the weights and every variable of the optimizer from last.keras."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Skipping variable loading for optimizer")  # Keras only warns
        try:
            network.load_weights(run.last)
        except UserWarning as error:
            raise ValueError(
                f"{run.last}: the optimizer's state does not fit ({error}). Was the run's config.yaml edited?"
            ) from error


def _fit(
    run: Run,
    config: TrainConfig,
    state: State,
    network: keras.Model,
    source: Source,
    val: Any | None,
    callbacks: Sequence[keras.callbacks.Callback],
    console: Console,
) -> Run:
    schedule = build_schedule(config, source.steps)
    progress = EpochProgress(
        config.epochs, source.steps, console, lambda epoch, step: float(schedule(epoch * source.steps + step))
    )
    keeper = Keeper(run, config, state, None if val is None else _validation(network, val))
    guards = [
        StopAtNaN(source.batch_at, source.name_of, run.last),
        WarnNothingMatched(lambda text: _warn(console, text)),
    ]
    if config.tensorboard:
        callbacks = [*callbacks, keras.callbacks.TensorBoard(run.folder / "tensorboard", write_graph=False)]
    console.print(f"run folder: {run}", highlight=False, soft_wrap=True)
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
        console.print(f"Stopped after {state.epoch} whole epochs: continue with resume={str(run)!r}.", soft_wrap=True)
        raise
    finally:
        progress.close()
    return run


def _configure(model: Any, data: Any, settings: dict[str, Any]) -> tuple[TrainConfig, Any]:
    """The config, and the data where it is not a name or a path."""
    settings = dict(settings)
    if isinstance(model, keras.Model):
        settings |= {"model": model.name, "precision": model.dtype_policy.name}
    elif model is not None:
        settings["model"] = model
    if isinstance(data, str | Path):
        settings["data"], data = str(data), None
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
        settings = {**settings, "data": str(data)}
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


def _image_size(config: TrainConfig, model: Any) -> tuple[int, int]:
    """(height, width) from the settings, the network, or the size in the model's name ("ssd512")."""
    size = config.image_size or getattr(model, "image_size", None)
    if size is None:
        named = re.search(r"\d{3,}$", config.model)
        size = int(named.group()) if named else DEFAULT_IMAGE_SIZE
    return (size, size) if isinstance(size, int) else tuple(size)


def _create(config: TrainConfig, source: Source, size: tuple[int, int], console: Console) -> keras.Model:
    import kzoo.models

    class_names = getattr(source.dataset, "class_names", None)
    if class_names is None:
        raise ValueError(
            f"The training data has no class_names. Received: {type(source.dataset).__name__}. Set "
            "dataset.class_names, or give the model itself instead of its name."
        )
    # A whole trained detector, against the weights of a backbone, which `create` reads itself.
    whole = config.weights is not None and (config.weights.endswith(".keras") or Path(config.weights).is_dir())
    arguments = {"backbone": config.backbone} if config.backbone is not None else {}
    with precision_policy(config.precision):
        network = kzoo.models.create(
            config.model,
            num_classes=len(class_names),
            image_size=size,
            weights=None if whole else config.weights,
            class_names=list(class_names),
            **arguments,
        )
    if whole:
        console.print(
            str(load_matching_weights(network, config.weights)), highlight=False, markup=False, soft_wrap=True
        )
    return network


@contextlib.contextmanager
def precision_policy(name: str) -> Iterator[None]:
    """Layers made inside get this dtype policy; afterwards the global policy is what it was."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _compile(network: keras.Model, config: TrainConfig, steps: int) -> None:
    """Compiles with the optimizer of `config`, and makes the optimizer's variables."""
    xla = config.xla
    if keras.backend.backend() == "jax":
        xla = "auto"  # JAX always compiles
    elif xla == "auto" and not accelerators():
        xla = False  # on the CPU XLA trains convolutions up to twelve times slower
    network.compile(optimizer=build_optimizer(config, network, steps), jit_compile=xla)
    network.optimizer.build(network.trainable_variables)


def _validation(network: keras.Model, val: Any) -> Callable[[keras.Model, int, dict[str, Any]], None]:
    """Measures the losses, and the mAP of a detector, on a data set."""
    metric = None
    if hasattr(network, "detect"):
        from kzoo.callbacks import MeanAveragePrecision

        metric = MeanAveragePrecision(val)
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
    return missing_classes([sample.labels for sample in annotations.samples], annotations.class_names)


def _warn(console: Console, text: str) -> None:
    console.print(f"Warning: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)
