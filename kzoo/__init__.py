"""kzoo: the classic object detectors and segmenters as trainable Keras models, from the paper to the phone.

Submodules load on first use, so that `import kzoo` needs Keras and its backend only: `kzoo.data` and `kzoo.export`
need TensorFlow, the rest runs on any Keras backend.
"""

import importlib
import os

# TensorFlow leaves oneDNN's kernels off on some CPUs, where they train U-Net twice as fast and are slower nowhere we
# measured (docs/results.md). It reads this once, when it is first imported; TF_ENABLE_ONEDNN_OPTS=0 turns them off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"

_SUBMODULES = (
    "backbones",
    "boxes",
    "callbacks",
    "data",
    "export",
    "images",
    "layers",
    "losses",
    "matching",
    "metrics",
    "models",
    "morphology",
    "proposals",
    "report",
    "tiling",
    "training",
    "visualize",
)

__all__ = ["__version__", *_SUBMODULES]


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"kzoo.{name}")
    raise AttributeError(f"module 'kzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
