"""The data sets that kzoo knows by name: the TFDS builders under data/, in a checkout or inside the installed wheel."""

import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from kzoo.messages import missing_package, unknown_name

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """The folder that holds one builder folder a data set: kzoo/_data of a wheel, data/ of a checkout.

    Raises:
        ValueError: if neither is there.
    """
    for candidate in (PACKAGE / "_data", PACKAGE.parent / "data"):
        if any(candidate.glob("*/*_dataset_builder.py")):
            return candidate
    raise ValueError(f"No data sets at {PACKAGE / '_data'}: install kzoo again, its wheel carries them.")


def names() -> list[str]:
    """The names of the data sets, sorted: ['bccd', 'camvid', ...]."""
    return sorted(path.parent.name for path in folder().glob("*/*_dataset_builder.py"))


def whole_path(source: str | Path) -> str:
    """A name as it is, a folder or file with its whole path: what a run keeps must lead there from any folder."""
    path = Path(source).expanduser()
    return os.path.abspath(path) if path.exists() and not knows(str(source)) else str(source)


def knows(name: str) -> bool:
    """Is it one of `names()`, alone or with a variant behind a slash, as "digits/single"?"""
    return name.partition("/")[0] in names()


def root(given: str | os.PathLike | None = None) -> Path:
    """Where prepared data sets are kept: `given`, else $KZOO_DATA_DIR, else ~/.cache/kzoo/data."""
    return Path(given or os.environ.get("KZOO_DATA_DIR") or "~/.cache/kzoo/data").expanduser()


def module(name: str) -> ModuleType:
    """Loads the module of a data set's builder from its file.

    Raises:
        ValueError: for an unknown name, with the nearest valid one.
    """
    if name not in names():
        raise ValueError(unknown_name("data set", name, names()))
    tfds = import_tfds()
    module_name = f"{name}_dataset_builder"  # TFDS takes the data set's name from it
    if module_name not in sys.modules:
        path = folder() / name / f"{name}_dataset_builder.py"
        spec = importlib.util.spec_from_file_location(module_name, path)
        loaded = importlib.util.module_from_spec(spec)
        # Unregistered, so that it neither hides nor collides with a data set of TFDS' own.
        with tfds.core.registered.skip_registration():
            spec.loader.exec_module(loaded)
        loaded.Builder.pkg_dir_path = tfds.core.Path(path.parent)
        sys.modules[module_name] = loaded
    return sys.modules[module_name]


def prepare(name: str, data_dir: str | os.PathLike | None = None) -> "tfds.core.DatasetBuilder":
    """Builds a named data set unless it was built before; says where in one line.

    Args:
        name: one of `names()`, alone or with a variant behind a slash, as "digits/single".
        data_dir: the folder for prepared data sets; None: $KZOO_DATA_DIR, else ~/.cache/kzoo/data.

    Returns:
        The prepared `tfds.core.DatasetBuilder`.

    Raises:
        ValueError: for an unknown name, or if its source cannot be had.
    """
    builder = _builder(name, data_dir)
    with _quiet():
        if builder.is_prepared():
            return builder
        print(f"kzoo: building the data set {builder.name!r} in {builder.data_path}", file=sys.stderr)
        download_and_prepare(builder)
    return builder


def has_boxes(name: str) -> bool:
    """Has a named data set boxes, besides masks or alone? It is not built for the answer.

    Raises:
        ValueError: for an unknown name.
    """
    return "objects" in _builder(name).info.features


def _builder(name: str, data_dir: str | os.PathLike | None = None):
    name, _, variant = name.partition("/")
    cls = module(name).Builder
    if variant and variant not in cls.builder_configs:
        raise ValueError(unknown_name(f"variant of {name}", variant, list(cls.builder_configs)))
    with _quiet():
        return cls(data_dir=root(data_dir), config=variant or None)


def download_and_prepare(builder: "tfds.core.DatasetBuilder") -> None:
    """`builder.download_and_prepare()` with errors in one line.

    Raises:
        ValueError: if the download or the build fails.
    """
    tfds = import_tfds()
    try:
        builder.download_and_prepare()
    except (OSError, ValueError, AssertionError, tfds.download.DownloadError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"The data set {builder.name!r} could not be built: {reason}") from error


def import_tfds() -> ModuleType:
    """tensorflow_datasets, loaded on first use.

    Raises:
        ImportError: naming the extra to install.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(missing_package("tensorflow-datasets", "tensorflow", "Reading this data set")) from error
    return tensorflow_datasets


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back TFDS' own bars and lines: our sets take seconds, and the one line that matters is ours."""
    from absl import logging

    tfds = import_tfds()
    level = logging.get_verbosity()
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        tfds.enable_progress_bar()
