"""Fine-tuning: take over every weight of a trained network that fits, and say which did not."""

import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kzoo.messages import some_of
from kzoo.training.folder import Run, load_network


@dataclass
class TransferReport:
    """What `load_matching_weights` did.

    Attributes:
        source: the file read.
        transferred: paths of the weights taken over.
        kept: path -> why this weight of the network stayed as it was.
        unused: paths of the weights in the file that the network has no place for (not known for .weights.h5 files).
        renamed: whether the file's classes have other names, or another order, in heads that were taken over.
    """

    source: Path
    transferred: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    renamed: bool = False

    def __str__(self) -> str:
        total = len(self.transferred) + len(self.kept)
        text = f"{self.source}: {len(self.transferred)} of {total} weights taken over"
        if self.kept:
            new = [f"{path} ({reason})" for path, reason in self.kept.items()]
            text += f"; new from scratch: {some_of(new, 6)}"
        if self.renamed:
            text += ". Its classes have other names or another order: train on before you use the network"
        return text + "."


def load_matching_weights(model: keras.Model, path: str | Path) -> TransferReport:
    """Takes over every weight that has the same place and shape in `model`; the others stay as they are.

    The usual case is a network trained on another number of classes: all but the class heads is taken over.

    Args:
        model: a built network, changed in place.
        path: a .keras file, a run folder (its best.keras is taken), or a .weights.h5 file of the same architecture.

    Raises:
        ValueError: if the file is missing or damaged, or if nothing in it fits.
    """
    path = Path(path)
    if path.is_dir():
        path = Run.open(path).best
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Give a run folder, a .keras or a .weights.h5 file.")
    report = _from_h5(model, path) if path.name.endswith(".h5") else _from_keras(model, path)
    if not report.transferred:
        raise ValueError(f"{path}: no weight fits this network ({model.name}). Was it trained with another backbone?")
    return report


def _from_keras(model: keras.Model, path: Path) -> TransferReport:
    report = TransferReport(path)
    network = load_network(path)
    source = places(network)
    own, other = (getattr(one, "class_names", None) for one in (model, network))
    report.renamed = bool(own and other) and len(own) == len(other) and list(own) != list(other)
    for place, weight in places(model).items():
        other = source.pop(place, None)
        if other is None:
            report.kept[weight.path] = "not in the file"
        elif tuple(other.shape) != tuple(weight.shape):
            report.kept[weight.path] = f"{_shape(weight)}, in the file {_shape(other)}"
        else:
            weight.assign(other)
            report.transferred.append(weight.path)
    report.unused = [weight.path for weight in source.values()]
    return report


def _from_h5(model: keras.Model, path: Path) -> TransferReport:
    report = TransferReport(path)
    before = [ops.convert_to_numpy(weight).copy() for weight in model.weights]
    for weight, value in zip(model.weights, before, strict=True):
        weight.assign(np.full(value.shape, np.nan, value.dtype))  # what is NaN afterwards was not in the file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of each mismatch; the report says it
            model.load_weights(path, skip_mismatch=True)
    except (OSError, ValueError, KeyError) as error:
        for weight, value in zip(model.weights, before, strict=True):
            weight.assign(value)
        raise ValueError(f"{path}: not a readable weights file ({' '.join(str(error).split())[:200]}).") from error
    for weight, value in zip(model.weights, before, strict=True):
        if value.size and np.isnan(ops.convert_to_numpy(weight)).all():
            weight.assign(value)
            report.kept[weight.path] = "not in the file, or of another shape"
        else:
            report.transferred.append(weight.path)
    return report


def places(model: keras.Model) -> dict[str, keras.Variable]:
    """The weights by where they stand: their path, with Keras' automatic names ("conv2d_17") counted anew.

    Automatic names go on counting within a process, so the same network has other ones each time it is made.
    """
    numbers: dict[str, str] = {}
    counts: Counter[str] = Counter()
    found: dict[str, keras.Variable] = {}
    for weight in model.weights:
        parts = weight.path.split("/")
        if parts[0] == model.name and len(parts) > 2:
            parts = parts[1:]
        for i, part in enumerate(parts[:-1]):
            base = re.sub(r"_\d+$", "", part)
            if base in _AUTOMATIC:
                if part not in numbers:
                    numbers[part] = f"{base}#{counts[base]}"
                    counts[base] += 1
                parts[i] = numbers[part]
        place = "/".join(parts)
        while place in found:  # two layers of one name in different nested networks
            place += "'"
        found[place] = weight
    return found


def _snake_case(name: str) -> str:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)).lower()


_AUTOMATIC = {_snake_case(name) for name in dir(keras.layers) if name[0].isupper()}


def _shape(weight: keras.Variable) -> str:
    return " x ".join(map(str, weight.shape)) or "scalar"
