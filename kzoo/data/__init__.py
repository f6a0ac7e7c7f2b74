"""Data sets: read, check, augment and batch them. TensorFlow is imported with the first call of `load`."""

import importlib

from kzoo.data.annotations import Annotations, Fault, MaskAnnotations, MaskSample, Sample
from kzoo.messages import missing_package

_LAZY = {
    "Report": "checking",
    "check": "checking",
    "from_annotations": "loading",
    "load": "loading",
}

__all__ = ["Annotations", "Fault", "MaskAnnotations", "MaskSample", "Sample", "augment", *_LAZY]


def __getattr__(name: str):
    if name == "augment":
        return importlib.import_module("kzoo.data.augment")
    if name not in _LAZY:
        raise AttributeError(f"module 'kzoo.data' has no attribute {name!r}")
    try:
        module = importlib.import_module(f"kzoo.data.{_LAZY[name]}")
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise ImportError(missing_package("tensorflow", "tensorflow", f"kzoo.data.{name}")) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
