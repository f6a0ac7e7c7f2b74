"""The network of a training: made or loaded under the right precision, compiled with the right optimizer."""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from kzoo.training.config import TrainConfig
from kzoo.training.folder import Run, accelerators
from kzoo.training.schedule import build_optimizer
from kzoo.training.transfer import load_matching_weights

DEFAULT_IMAGE_SIZE = (300, 300)
OWN_SETTINGS = ("backbone", "class_names", "class_weights", "image_size", "num_classes", "weights")


def image_size_of(config: TrainConfig, model: Any) -> tuple[int, int]:
    """(height, width) from the settings, the network, or the size in the model's name ("ssd512")."""
    size = config.image_size or getattr(model, "image_size", None)
    if size is None:
        named = re.search(r"\d{3,}$", config.model)
        size = int(named.group()) if named else DEFAULT_IMAGE_SIZE
    return (size, size) if isinstance(size, int) else tuple(size)


def create(
    config: TrainConfig,
    class_names: Sequence[str] | None,
    say: Callable[[str], None],
    class_weights: Sequence[float] | None = None,
) -> keras.Model:
    """Makes the network that `config` names; `say` is told what weights of another run were taken over.

    Args:
        class_weights: of a segmenter's loss, one a class; None weighs all alike.
    """
    import kzoo.models

    if class_names is None:
        raise ValueError("The training data has no class_names: set dataset.class_names, or give the model itself.")
    if not class_names:
        raise ValueError(f"{config.data or 'The data'}: holds no object of any class. `kzoo check` says what is there.")
    for key in config.model_options:
        if key in OWN_SETTINGS:
            raise ValueError(f"{key} is no option of the model here: it is a setting of its own, or the data's.")
    if config.weights not in (None, "imagenet") and not Path(config.weights).exists():
        raise ValueError(
            f"weights={config.weights!r}: no such file or folder. Give imagenet, a run's folder, a .keras file, or a "
            ".weights.h5 file of the backbone."
        )
    # A whole trained detector, against the weights of a backbone, which `create` reads itself.
    whole = config.weights is not None and (config.weights.endswith(".keras") or Path(config.weights).is_dir())
    arguments = dict(config.model_options)
    if config.backbone is not None:
        arguments["backbone"] = config.backbone
    if config.model in kzoo.models.names() and kzoo.models.task(config.model) == "detection":
        arguments["image_size"] = image_size_of(config, None)
    elif config.image_size is not None:
        arguments["image_size"] = config.image_size
    if class_weights is not None:
        if arguments.get("loss", "weighted_cross_entropy") != "weighted_cross_entropy":
            raise ValueError(
                f"class_balance weighs the cross-entropy, and the loss is {arguments['loss']!r}: drop one."
            )
        arguments |= {"loss": "weighted_cross_entropy", "class_weights": list(class_weights)}
    arguments["weights"] = None if whole else config.weights
    with precision_policy(config.precision):
        try:
            network = kzoo.models.create(config.model, len(class_names), class_names=list(class_names), **arguments)
        except TypeError as error:
            if not config.model_options:
                raise
            raise ValueError(f"The model's options {config.model_options} do not fit: {error}.") from error
    if whole:
        report = load_matching_weights(network, config.weights)
        say(str(report))
        if len(report.kept) > len(report.transferred):
            say("Warning: most weights are new. Was the other run of this model and backbone?")
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


def compile_for_training(network: keras.Model, config: TrainConfig, steps: int) -> None:
    """Compiles with the optimizer of `config`, and makes the optimizer's variables."""
    xla = config.xla
    if keras.backend.backend() == "jax":
        xla = "auto"  # JAX always compiles
    elif xla == "auto" and not accelerators():
        xla = False  # on the CPU XLA trains convolutions up to twelve times slower
    network.compile(optimizer=build_optimizer(config, network, steps), jit_compile=xla)
    network.optimizer.build(network.trainable_variables)


def load_all(network: keras.Model, run: Run) -> None:
    """Loads the weights and every variable of the optimizer from last.keras."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Skipping variable loading for optimizer")  # Keras only warns
        try:
            network.load_weights(run.last)
        except (UserWarning, ValueError) as error:  # Keras may wrap the one in the other
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ValueError(f"{run.last}: does not fit ({reason}). Was the run's config.yaml edited?") from error
