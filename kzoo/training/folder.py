"""The run folder: what a training leaves on disk, each file written whole or not at all."""

import contextlib
import csv
import io
import json
import os
import platform
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras

from kzoo.messages import name_file
from kzoo.run_files import BEST, CONFIG, LAST, RESULTS, STATE
from kzoo.training.config import TrainConfig

STATE_MEMBER = "kzoo_state.json"  # inside last.keras, so that weights and state can never belong to different epochs


@dataclass(frozen=True)
class Run:
    """One training's folder.

    Attributes:
        folder: where config.yaml, results.csv, best.keras, last.keras and state.json lie.
    """

    folder: Path

    @classmethod
    def open(cls, folder: str | Path, run_dir: str | Path = "runs") -> "Run":
        """Finds a run by its folder, or by its name in `run_dir`.

        Raises:
            ValueError: if neither holds a config.yaml, naming where it looked.
        """
        tried = [Path(folder), Path(run_dir) / folder]
        for candidate in tried:
            if (candidate / CONFIG).is_file():
                return cls(candidate)
        raise ValueError(f"No run at {' or '.join(map(str, tried))}: a run folder holds a {CONFIG}.")

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def best(self) -> Path:
        """The network of the best val_mAP or val_mIoU (averaged, where `ema` is on), without the optimizer's state."""
        return self.folder / BEST

    @property
    def last(self) -> Path:
        """The network after the last whole epoch, with all that resuming needs."""
        return self.folder / LAST

    @property
    def config(self) -> TrainConfig:
        return TrainConfig.load(self.folder / CONFIG)

    @property
    def state(self) -> dict[str, Any]:
        """What state.json says: epochs done, best score and its epoch, seed, and why the training ended ("" if not)."""
        path = self.folder / STATE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def results(self) -> list[dict[str, float | str]]:
        """One dict an epoch, as in results.csv; numbers as float, what an epoch did not measure left out."""
        return read_results(self.folder / RESULTS)

    @cached_property
    def model(self) -> keras.Model:
        """The best network, loaded on first use."""
        return load_network(self.best)

    def __str__(self) -> str:
        return str(self.folder)


def new_folder(run_dir: str | Path, name: str) -> Run:
    """Makes `run_dir/name`, or `name-2`, `name-3`, ... where that is taken, so that no run writes into another's."""
    if name in ("", ".", "..") or name != Path(name).name:
        raise ValueError(
            f"A run's name must be one plain folder name. Received: {name!r}. Choose the parent by run_dir."
        )
    number = 1
    while True:
        folder = Path(run_dir) / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)  # fails where the folder exists, even when another process makes it right now
            return Run(folder)
        except FileExistsError:
            number += 1


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` and moves it over `path` at the end: readers see the old or the new."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut can leave the new name with no content
        os.replace(temporary, path)
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(run: Run) -> None:
    """Deletes the temporary files of a process that was killed while writing."""
    for path in run.folder.glob(".*.tmp*"):
        path.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes dicts as CSV; the columns are all keys in order of first appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_results(path: Path) -> list[dict[str, float | str]]:
    """Reads results.csv; an empty list where there is none."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: _number(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def save_last(model: keras.Model, path: Path, state: Mapping[str, Any]) -> None:
    """Writes network, optimizer and `state` as one .keras file, atomically."""
    with replacing(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(STATE_MEMBER, json.dumps(state))


def save_network(model: keras.Model, path: Path) -> None:
    """Writes the network alone as a .keras file, atomically: a third of the size, and it loads without this module."""
    optimizer = model.optimizer
    model.compiled, model.optimizer = False, None
    try:
        with replacing(path) as temporary:
            model.save(temporary)
    finally:
        model.compiled, model.optimizer = True, optimizer


def load_network(path: str | Path) -> keras.Model:
    """Loads the network of a .keras file, without its optimizer.

    Raises:
        ValueError: if the file is missing or damaged, naming it.
    """
    from kzoo.models.files import read_keras_file

    return read_keras_file(path, compile=False)


def read_state(run: Run) -> dict[str, Any]:
    """The state inside last.keras, every byte of the file checked.

    Raises:
        ValueError: if last.keras is missing or damaged; the message says how to go on.
    """
    path = run.last
    if not path.is_file():
        raise ValueError(f"{path}: no such file, the run has no whole epoch to resume from. Start it again.")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken:
                raise zipfile.BadZipFile(f"checksum of {broken} is wrong")
            return json.loads(archive.read(STATE_MEMBER))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        way_out = (
            f"Its best network is whole: start a new run with weights={str(run.best)!r}."
            if _is_whole(run.best)
            else "Start the run again."
        )
        raise ValueError(f"{path}: damaged ({error}), the run cannot be resumed. {way_out}") from error


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def environment() -> dict[str, str]:
    """Versions and devices that a result depends on."""
    import kzoo

    backend = keras.backend.backend()
    facts = {"kzoo": kzoo.__version__, "keras": keras.__version__, "backend": backend}
    try:
        facts[backend] = __import__(backend).__version__
    except (ImportError, AttributeError):
        facts[backend] = "unknown"
    facts["python"] = platform.python_version()
    facts["platform"] = platform.platform()
    facts["devices"] = ", ".join(accelerators()) or "cpu"
    return facts


def accelerators() -> list[str]:
    """GPUs and TPUs that the backend sees; empty on a plain CPU."""
    return [str(device) for device in keras.distribution.list_devices() if not str(device).startswith("cpu")]
