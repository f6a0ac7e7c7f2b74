"""What the folder readers share: finding splits by their names, and files that stay inside the data set's folder."""

import os
from collections.abc import Iterable
from pathlib import Path

from kzoo.images import IMAGE_SUFFIXES
from kzoo.messages import some_of, unknown_name

VALIDATION = ("val", "valid", "validation")
ALIKE = (VALIDATION, ("train", "training"), ("test", "testing"))
USUAL = {"train", "training", "trainval", *VALIDATION, "dev", "test", "testing"}
UNDIVIDED = {"default", "all", "full"}  # what tools such as CVAT call the one part of a data set that is not split


class SplitError(ValueError):
    """A split was asked for that is not there."""


class NoSplitsError(SplitError):
    """A split was asked for of a data set that has none."""


def resolve_split(asked: str, available: Iterable[str], source: object) -> str:
    """Finds the split that `asked` means: its own name, one of `ALIKE`, or one with a year.

    Raises:
        NoSplitsError: where there are none: none at all, or only parts that are called neither train nor the like.
        SplitError: where this one is missing, naming those there are.
    """
    available = list(available)
    wanted = next((names for names in ALIKE if asked in names), (asked,))
    for name in (asked, *wanted):
        if name in available:
            return name
    alike = [name for name in available if _plain(name) in map(_plain, wanted)]
    if len(alike) == 1:
        return alike[0]
    undivided = set(available) <= UNDIVIDED
    if undivided or (named_as_split(asked) and not any(map(named_as_split, available))):
        parts = "" if undivided else f", or one of its parts: {some_of(sorted(available))}"
        raise NoSplitsError(
            f"{source} has no splits, so there is no {asked!r}: leave it out (in Python: split=None) for all of "
            f"it{parts}."
        )
    raise SplitError(f"{source}: {unknown_name('split', asked, available)}")


def named_as_split(name: str) -> bool:
    """Is this called like a split, as val2017 or test_images are? Others are parts, as a folder a patient."""
    return _plain(name) in USUAL or any(word in name.lower() for word in ("train", "val", "test"))


def _plain(name: str) -> str:
    """Train2017 -> train"""
    return name.lower().rstrip("0123456789_")


def inside(root: Path, *parts: str) -> Path | None:
    """root/parts, or None where that would leave the data set's folder: annotations come from strangers."""
    path = os.path.abspath(os.path.join(root, *(part.replace("\\", "/") for part in parts)))
    stays = os.path.join(path, "").startswith(os.path.join(os.path.abspath(root), ""))
    return Path(path) if stays and "\0" not in path else None


def is_image(path: Path) -> bool:
    """Has the path the suffix of an image?"""
    return path.suffix.lower() in IMAGE_SUFFIXES


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, but for hidden ones."""
    with os.scandir(folder) as entries:  # which knows what is a folder without asking for each of 100,000 images
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return [folder / name for name in sorted(names)]


def images_by_stem(folder: Path) -> dict[str, Path]:
    """{stem: path} of the images in a folder, {} where it is missing."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if is_image(path) and not path.name.startswith(".")}


def images_by_name(folders: Iterable[Path]) -> dict[str, Path]:
    """{stem: path} and {name: path} of the images in these folders; of equal names the first folder's counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for stem, path in images_by_stem(folder).items():
            found.setdefault(stem, path)
            found.setdefault(path.name, path)
    return found


def relative(path: Path, root: Path) -> str:
    """The path as shown in messages."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
