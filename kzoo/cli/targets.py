"""What commands take as RUN or FILE, and how each is found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from kzoo import messages, run_files
from kzoo.cli import console

RUNS = Path("runs")
MASK_OPTIONS = ("instances", "values", "void")  # of reading masks
READING_OPTIONS = (*MASK_OPTIONS, "proposals")  # the others count when a model is trained only


def find(target: str | Path) -> Path:
    """Returns the path of a run folder, SavedModel folder, .keras or .tflite file; a bare name is looked up in runs/.

    Raises:
        ValueError: if there is no such path, with the nearest run's name.
    """
    path = Path(target)
    if path.exists():
        return path
    inside = RUNS / path
    if not path.is_absolute() and inside.exists():
        return inside
    folder = path.parent if len(path.parts) > 1 else RUNS
    known = sorted(p.name for p in folder.iterdir() if is_run(p)) if folder.is_dir() else []
    if known:
        raise ValueError(f"{target}: no such file or folder. {messages.unknown_name('run', path.name, known)}")
    raise ValueError(
        f"{target}: no such file or folder. Give a run folder, a SavedModel folder, a .keras or .tflite file."
    )


def is_run(path: Path) -> bool:
    return (path / run_files.CONFIG).is_file()


def load(target: str | Path) -> Any:
    """Returns the detector of a run or file (see `kzoo.export.load`)."""
    path = find(target)
    if is_run(path) and not (path / run_files.BEST).is_file():
        raise ValueError(
            f"{path}: the run has no {run_files.BEST} yet: its first epoch is not finished. Train on with --resume."
        )
    with console.quiet_native():
        from kzoo.export import load as load_detector

        return load_detector(path)


def config(path: Path) -> dict[str, Any]:
    """The settings of a run folder; empty for anything else."""
    from kzoo.report import files

    return files.read_config(path / run_files.CONFIG) if path.is_dir() else {}


def data_of(path: Path, data: str | None) -> str:
    """The data set to use: the one given, else the one that the run was trained on.

    Raises:
        ValueError: if neither is known.
    """
    chosen = data or config(path).get("data")
    if not chosen:
        raise ValueError(f"{path}: does not say which data to use. Add --data DATA.")
    if data is None and Path(chosen).is_absolute() and not Path(chosen).exists():
        raise ValueError(f"{path}: was trained on {chosen}, which is not there any more. Add --data DATA.")
    return str(chosen)


def is_own_data(path: Path, data: str | None) -> bool:
    """Is it what the run was trained on? None is."""
    from kzoo.data import named

    own = config(path).get("data")
    return data is None or (bool(own) and named.whole_path(data) == named.whole_path(own))


def reading_options(path: Path, data: str | None, given: list[str] | None = None) -> dict[str, Any]:
    """How data are to be read: as the run did, on its own data, and as `--data-option` says."""
    options = config(path).get("data_options") or {} if is_own_data(path, data) else {}
    options = {key: value for key, value in options.items() if key in READING_OPTIONS}
    return options | data_options(given, READING_OPTIONS)


def data_options(given: list[str] | None, known: Sequence[str]) -> dict[str, Any]:
    """["void=11"] -> {"void": 11}

    Raises:
        ValueError: for an option that is not `known`.
    """
    options = dict(map(name_and_value, given or []))
    for name in options:
        if name not in known:
            raise ValueError(messages.unknown_name("data option", name, known))
    return options


def fit_options(detector: Any) -> dict[str, str]:
    """How a segmenter's images are brought to its size: as it does so itself, in tiles or stretched."""
    if not hasattr(detector, "segment"):
        return {}
    model = getattr(detector, "model", detector)
    return {"fit": "stretch" if getattr(model, "tile_size", None) is None else "crop"}


def name_and_value(text: str) -> tuple[str, Any]:
    """ "scales=[0.1, 0.3]" -> ("scales", [0.1, 0.3])

    Raises:
        ValueError: if it is no such pair.
    """
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise ValueError(f"{text}: is no NAME=VALUE, as frozen_stages=3, scales=[0.1,0.3] or void=11.")


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """ "300" -> 300, "300x400" (height x width) -> (300, 400).

    Raises:
        ValueError: for anything else.
    """
    if text is None:
        return None
    try:
        sides = [int(part) for part in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides, default=0) < 1:
        raise ValueError(f"--image-size {text!r} is no size. Give pixels, as 300, or height x width, as 300x400.")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])
