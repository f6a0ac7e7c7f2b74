"""The zoo: `names()`, `create(name, ...)`, and each model's own constructor."""

import inspect
import typing

from kzoo.messages import unknown_name
from kzoo.models.base import Detector
from kzoo.models.ssd import SSD, SSD300, SSD512

_MODELS = {"ssd": SSD, "ssd300": SSD300, "ssd512": SSD512}

_SSD_PAPER = "Liu et al., SSD: Single Shot MultiBox Detector, ECCV 2016"
# Measured with the commands in docs/results.md.
_FACTS = {
    "ssd": {"paper": _SSD_PAPER, "scores": {}},
    "ssd300": {"paper": _SSD_PAPER, "scores": {}},
    "ssd512": {"paper": _SSD_PAPER, "scores": {}},
}


def names() -> list[str]:
    """The names that `create` knows."""
    return sorted(_MODELS)


def create(name: str, num_classes: int, **kwargs) -> Detector:
    """Creates a model by name: `create("ssd300", num_classes=3, backbone="mobilenet", weights=None)`.

    The keyword arguments are those of the model's constructor.

    Raises:
        ValueError: for an unknown name, with the nearest valid one.
    """
    if name not in _MODELS:
        raise ValueError(unknown_name("model", name, names()))
    valid = arguments(name)
    for key in kwargs:
        if key not in valid:
            raise ValueError(unknown_name(f"argument of {name}", key, valid))
    return _MODELS[name](num_classes, **kwargs)


def arguments(name: str) -> list[str]:
    """The keyword arguments that `create(name, ...)` takes."""
    constructor = _MODELS[name]
    cls = constructor if isinstance(constructor, type) else typing.get_type_hints(constructor)["return"]
    return [key for key in inspect.signature(cls).parameters if key not in ("num_classes", "kwargs")]


def info(name: str) -> dict:
    """What is known of a model: {"paper": reference, "scores": {data set and settings: score measured by us}}."""
    if name not in _MODELS:
        raise ValueError(unknown_name("model", name, names()))
    return _FACTS[name]


__all__ = ["SSD", "SSD300", "SSD512", "Detector", "create", "info", "names"]
