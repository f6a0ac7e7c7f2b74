"""Exported files: write (`saved_model`, `litert`), run (`load`), check (`verify`) and time (`benchmark`) them.

Names load on first use: writing needs TensorFlow, but running a .tflite file needs only NumPy, Pillow and
ai-edge-litert, so that a small device can `from kzoo.export import load` without it.
"""

import importlib

# No module here bears the name of a public function: importing the module would hide the function.
_HOME = {
    "saved_model": "to_saved_model",
    "litert": "to_litert",
    "QUANTIZATIONS": "metadata",
    "read_metadata": "metadata",
    "load": "runtime",
    "operators": "flatbuffer",
    "verify": "verification",
    "format_verification": "verification",
    "benchmark": "timing",
    "format_benchmark": "timing",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"kzoo.export.{_HOME[name]}"), name)
    raise AttributeError(f"module 'kzoo.export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
