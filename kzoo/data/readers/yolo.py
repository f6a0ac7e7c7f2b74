"""YOLO folders: a text file an image, a line an object: class, centre x, centre y, width, height, in fractions.

A line with more numbers is a polygon; its bounding box is taken. The classes stand in data.yaml or classes.txt.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from kzoo.data.annotations import Annotations, Fault
from kzoo.data.readers.layout import VALIDATION, images_by_stem, inside, is_image, relative, resolve_split
from kzoo.data.readers.progress import map_in_threads
from kzoo.data.readers.raw import RawImage, assemble
from kzoo.messages import require_unique

NAME_FILES = ("classes.txt", "obj.names", "classes.names", "labels/classes.txt")
SPLITS = ("train", *VALIDATION, "test")


def find_root(folder: Path) -> Path | None:
    """The folder of a YOLO data set, given itself or its yaml file; None for others."""
    if folder.is_file():
        return folder.parent if folder.suffix in (".yaml", ".yml") else None
    named = _yaml_file(folder) or any((folder / name).is_file() for name in NAME_FILES)
    paired = (folder / "images").is_dir() and (folder / "labels").is_dir()
    return folder if named or paired or any((folder / part / "labels").is_dir() for part in SPLITS) else None


@dataclass
class Opened:
    """What a folder lists.

    Attributes:
        name: the split, as the data set calls it; None for all.
        class_names: {class id: name}, in the order of the ids; None where none are given.
        listed: each image with the splits that it belongs to.
    """

    name: str | None
    class_names: dict[int, str] | None
    listed: list[tuple[Path, tuple[str, ...]]]
    faults: list[Fault]


def read(root: Path, split: str | None, class_names: list[str] | None = None) -> Annotations:
    """Reads a YOLO folder; see `kzoo.data.readers.read`."""
    opened = open_folder(root, split)
    own_names = opened.class_names
    if own_names is None and class_names is None:
        raise ValueError(
            f"{root} names no classes: add a data.yaml with `names:` or a classes.txt, or pass class_names."
        )
    names = list(class_names or own_names.values())
    own_names = dict(enumerate(names)) if own_names is None else own_names
    ids = {number: names.index(text) if text in names else -1 for number, text in own_names.items()}
    found = map_in_threads(lambda pair: _raw(*pair, root, own_names, ids), opened.listed, "reading labels")
    faults = [*opened.faults, *(one for one in found if isinstance(one, Fault))]
    return assemble([one for one in found if isinstance(one, RawImage)], names, opened.name, faults)


def open_folder(root: Path, split: str | None) -> Opened:
    """Finds the classes, and the images of a split; None for all.

    Raises:
        ValueError: for a split that is not there, or a yaml file that cannot be read.
    """
    file = _yaml_file(root)
    settings = _settings(file) if file else {}
    own_names = _own_names(root, settings, file)
    faults: list[Fault] = []
    count = settings.get("nc")
    if isinstance(count, int) and isinstance(settings.get("names"), list | dict) and count != len(own_names):
        detail = f"nc is {count}, but there are {len(own_names)} names"
        faults.append(Fault(relative(file, root), "class count", detail, "names used"))
    parts = _splits(root, settings, faults)
    name = None if split is None else resolve_split(split, [part for part in parts if part], root)
    images: dict[Path, list[str]] = {}
    for part in parts if name is None else [name]:
        for image in parts[part]:
            images.setdefault(image, []).append(part)
    listed = [(image, tuple(part for part in belongs if part)) for image, belongs in images.items()]
    faults += _labels_without_image(root, parts if name is None else {name: parts[name]})
    return Opened(name, own_names, listed, faults)


def _raw(image: Path, splits: tuple, root: Path, own_names: dict, ids: dict) -> RawImage | Fault:
    """One image with its labels, or why it has to be left out."""
    shown = relative(image, root)
    if not os.path.isfile(image):
        return Fault(shown, "missing image", f"there is no {shown}", "image left out")
    label = label_file(image, root)
    found = []
    if label is None:
        action = "image kept as background"
        found.append(Fault(shown, "image without annotation", f"no text file for {image.name}", action))
        numbers, boxes, lines = [], np.empty((0, 4)), []
    else:
        try:
            numbers, boxes, lines = parse(label.read_text(encoding="utf-8-sig"))
        except (ValueError, OSError) as error:
            reason = "not a text file" if isinstance(error, UnicodeDecodeError) else str(error)
            return Fault(relative(label, root), "unreadable annotation", reason, "image left out")
    return RawImage(
        image=image,
        name=shown,
        file=relative(label, root) if label else shown,
        boxes=boxes,
        labels=np.array([ids.get(number, -1) for number in numbers], np.int64),
        texts=[own_names.get(number, f"class {number}") for number in numbers],
        where=[f"line {line}" for line in lines],
        relative=True,
        splits=splits,
        faults=found,
    )


def parse(text: str) -> tuple[list[int], np.ndarray, list[int]]:
    """Reads a label file.

    Returns:
        The class ids, the boxes (N, 4) as xyxy fractions, and the line numbers.

    Raises:
        ValueError: for a line that is no object, with its number. Half an annotation would teach that objects are
            background, so there is no reading around it.
    """
    numbers, boxes, lines = [], [], []
    for line, number, values in objects(text):
        if len(values) == 4:
            x, y, width, height = values
            boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        else:
            xs, ys = values[::2], values[1::2]
            finite = all(map(math.isfinite, values))
            boxes.append([min(xs), min(ys), max(xs), max(ys)] if finite else [math.nan] * 4)
        numbers.append(number)
        lines.append(line)
    return numbers, np.array(boxes, np.float64).reshape(-1, 4), lines


def objects(text: str) -> Iterator[tuple[int, int, list[float]]]:
    """The line, the class id and the 4 numbers of a box or the 6 or more of a polygon, of each object.

    Raises:
        ValueError: for a line that is no object, with its number.
    """
    for line, row in enumerate(text.splitlines(), start=1):
        words = row.split()
        if not words:
            continue
        try:
            number, values = float(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            raise ValueError(f"line {line}: {row[:60]!r} is not made of numbers") from None
        if not number.is_integer() or not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
            raise ValueError(f"line {line}: {row[:60]!r} is neither class x y width height nor class and a polygon")
        yield line, int(number), values


def label_file(image: Path, root: Path) -> Path | None:
    """labels/.../x.txt for images/.../x.jpg, else x.txt beside the image; None where there is neither."""
    parts = list(image.relative_to(root).parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            path = root.joinpath(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
            if path.is_file():
                return path
    beside = image.with_suffix(".txt")
    return beside if beside.is_file() else None


def _yaml_file(folder: Path) -> Path | None:
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    files.sort(key=lambda file: file.stem not in ("data", "dataset"))
    return next((f for f in files if re.search(rb"^names\s*:", f.read_bytes(), re.MULTILINE)), None)


def _settings(file: Path) -> dict:
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} is not a readable YAML file: {reason}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file} should hold `names:` and the splits, but holds {str(settings)[:60]!r}.")
    return settings


def _own_names(root: Path, settings: dict, file: Path | None) -> dict[int, str] | None:
    """{class id: name} in the order of the ids, None where none are given."""
    names = settings.get("names")
    if isinstance(names, list | dict):
        require_unique(map(str, names if isinstance(names, list) else names.values()), file)
    if isinstance(names, list):
        return {i: str(text) for i, text in enumerate(names)}
    if isinstance(names, dict):
        if not all(isinstance(i, int) for i in names):
            raise ValueError(f"{file}: the ids under `names:` must be whole numbers. Received: {list(names)[:5]}.")
        return {i: str(names[i]) for i in sorted(names)}
    for path in (root / name for name in NAME_FILES):
        if path.is_file():
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
            require_unique(filter(None, lines), path)
            return {i: line for i, line in enumerate(lines) if line}
    return None


def _splits(root: Path, settings: dict, faults: list[Fault]) -> dict[str, list[Path]]:
    """{split: images}; the whole of a folder without splits is the split ""."""
    named = {key: settings[key] for key in SPLITS if settings.get(key)}
    found = {}
    for split, places in named.items():
        found[split] = []
        for place in places if isinstance(places, list) else [places]:
            found[split] += _place(root, str(settings.get("path") or "."), str(place), split, faults)
    if any(found.values()):
        return found
    for split in SPLITS:
        folder = next((f for f in (root / "images" / split, root / split / "images") if f.is_dir()), None)
        if folder is not None:
            found[split] = _images(folder)
    return found if any(found.values()) else {"": _images(root / "images") or _images(root)}


def _place(root: Path, base: str, place: str, split: str, faults: list[Fault]) -> list[Path]:
    """The images of one entry of the yaml file: a folder, or a text file with a path a line."""
    # Tools write `../train/images` for a folder beside the yaml file, and a `path` that was right on another machine.
    plain = place
    while plain.startswith("../"):
        plain = plain[3:]
    tries = [inside(root, base, place), inside(root, place), inside(root, plain), inside(root, split, "images")]
    path = next((t for t in tries if t is not None and t.exists()), None)
    if path is None:
        detail = f"{split}: {place!r} is no folder or file in here"
        faults.append(Fault("data.yaml", "missing folder", detail, "split left empty"))
        return []
    if path.is_dir():
        return _images(path)
    images = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        entry = line.strip()
        image = inside(path.parent, entry) or inside(root, entry)
        if entry and image is None:
            detail = f"line {number}: {entry!r} leads out of the folder"
            faults.append(Fault(relative(path, root), "path outside", detail, "image left out"))
        elif entry:
            image = image if os.path.isfile(image) else inside(root, entry) or image
            if image in images:
                detail = f"line {number}: {entry!r} is listed twice"
                faults.append(Fault(relative(path, root), "duplicate image", detail, "image left out"))
            images[image] = None
    return list(images)


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if is_image(path) and not path.name.startswith("."))


def _labels_without_image(root: Path, parts: dict[str, list[Path]]) -> list[Fault]:
    folders = {image.parent for images in parts.values() for image in images}
    faults = []
    for folder in sorted(folders):
        sibling = [p if p != "images" else "labels" for p in folder.relative_to(root).parts]
        labels = root.joinpath(*sibling)
        if labels == folder or not labels.is_dir():
            continue
        known = images_by_stem(folder)
        for path in sorted(labels.glob("[!.]*.txt")):
            if path.stem not in known and path.name != "classes.txt":
                detail = f"there is no image {relative(folder, root)}/{path.stem}.*"
                faults.append(Fault(relative(path, root), "annotation without image", detail, "image left out"))
    return faults
