"""Tables: a CSV file with a line a box, of an image's name, four corners and a class.

Sources: what Roboflow writes for TensorFlow's Object Detection API, with a header; keras-retinanet's files without one,
`path,x1,y1,x2,y2,class`, whose images without objects have a line of empty fields. Corners are in pixels as they stand
there, or fractions where none in the whole file exceeds 1.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kzoo.data.annotations import Annotations, Fault
from kzoo.data.readers.layout import USUAL, images_by_name, inside, named_as_split, relative, resolve_split
from kzoo.data.readers.raw import RawImage, assemble

NAMES = {
    "image": ("filename", "file_name", "image", "image_path", "image_name", "image_id", "imageid", "path", "file"),
    "label": ("class", "label", "class_name", "label_name", "labelname", "category"),
    "x1": ("xmin", "x_min", "x1"),
    "y1": ("ymin", "y_min", "y1"),
    "x2": ("xmax", "x_max", "x2"),
    "y2": ("ymax", "y_max", "y2"),
}
SIZE = {"width": ("width", "image_width"), "height": ("height", "image_height")}
WITHOUT_HEADER = {"image": 0, "x1": 1, "y1": 2, "x2": 3, "y2": 4, "label": 5}
CORNERS = ("x1", "y1", "x2", "y2")
IMAGE_FOLDERS = (".", "images", "image", "imgs", "img", "JPEGImages")


@dataclass
class Listed:
    """What a file says of one image: its boxes, their classes and lines; `error` says which line is none."""

    name: str
    boxes: list[list[float]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    size: tuple[int, int] | None = None
    error: str | None = None


def find(source: Path) -> dict[str, list[Path]]:
    """{split: tables} of a folder, or of one such file; "" where there are no splits; {} for another layout."""
    if source.is_file():
        files = [source] if source.suffix.lower() == ".csv" else []
    else:
        files = [path for pattern in ("*.csv", "*/*.csv") for path in sorted(source.glob(pattern))]
    found: dict[str, list[Path]] = {}
    for file in files:
        if not file.name.startswith(".") and _columns(_first_row(file)) is not None:
            found.setdefault(_split_of(file, source), []).append(file)
    return found


def read(source: Path, split: str | None, class_names: list[str] | None = None) -> Annotations:
    """Reads the boxes of all tables; see `kzoo.data.readers.read`."""
    parts = find(source)
    name = None if split is None else resolve_split(split, [part for part in parts if part], source)
    folder = source.parent if source.is_file() else source
    # Classes must not depend on the split.
    tables = [(part, file, parse(file), _images(part, file, folder)) for part, files in parts.items() for file in files]
    names = class_names or sorted({text for _, _, images, _ in tables for one in images for text in one.texts})
    ids = {text: i for i, text in enumerate(names)}
    raws, faults, used = [], [], set()
    for part, file, images, there in tables:
        shown, fractions = relative(file, folder), _are_fractions(images)
        for one in images:
            image = _image_of(one.name, file.parent, folder, there)
            used.add(image)
            if name not in (None, part):
                continue
            if one.error:
                faults.append(Fault(shown, "unreadable annotation", f"{one.name}: {one.error}", "image left out"))
            elif image is None:
                faults.append(Fault(shown, "missing image", f"there is no image {one.name}", "image left out"))
            else:
                raws.append(_raw(one, image, part, shown, folder, ids, fractions))
    kind, detail = "image without annotation", "no table names it"
    others = {image for *_, there in tables for image in there.values()} - used
    faults += [Fault(relative(image, folder), kind, detail, "image left out") for image in sorted(others)]
    return assemble(raws, names, name, faults)


def parse(file: Path) -> list[Listed]:
    """What a table says of each image, in its order.

    Raises:
        ValueError: if it is no CSV file beyond its first line.
    """
    rows = _rows(file)
    columns = _columns(rows[0])
    start = 0 if columns is WITHOUT_HEADER else 1
    found: dict[str, Listed] = {}
    for number, row in enumerate(rows[start:], start=start + 1):
        if not any(map(str.strip, row)):
            continue
        cells = {key: row[place].strip() if place < len(row) else "" for key, place in columns.items()}
        one = found.setdefault(cells["image"], Listed(cells["image"]))
        if not any(cells[key] for key in (*CORNERS, "label")):
            continue  # an image without objects
        try:
            if not cells["label"]:
                raise ValueError("it names no class")
            one.boxes.append([float(cells[key]) for key in CORNERS])
            one.texts.append(cells["label"])
            one.lines.append(number)
            if cells.get("width") and cells.get("height"):
                one.size = int(float(cells["height"])), int(float(cells["width"]))
        except (ValueError, OverflowError) as error:
            one.error = f"line {number} is no box ({error})"
    return list(found.values())


def _raw(
    one: Listed, image: Path, part: str, file: str, folder: Path, ids: Mapping[str, int], fractions: bool
) -> RawImage:
    return RawImage(
        image=image,
        name=relative(image, folder),
        file=file,
        boxes=np.array(one.boxes, np.float64).reshape(-1, 4),
        labels=np.array([ids.get(text, -1) for text in one.texts], np.int64),
        texts=one.texts,
        where=[f"line {number}" for number in one.lines],
        stated_size=one.size,
        relative=fractions,
        splits=(part,) if part else (),
    )


def _first_row(file: Path) -> list[str]:
    with open(file, encoding="utf-8-sig", errors="replace", newline="") as text:
        line = text.readline(10_000)
    return next(csv.reader([line], delimiter=_delimiter(line)), [])


def _rows(file: Path) -> list[list[str]]:
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    try:
        return list(csv.reader(lines, delimiter=_delimiter(lines[0])))
    except csv.Error as error:  # a quote that nothing closes, for one
        raise ValueError(f"{file}: not a readable CSV file ({error}).") from error


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _columns(row: list[str]) -> dict[str, int] | None:
    """{what: column} by the first row, a header or not; None for another table."""
    words = [re.sub(r"[\s-]+", "_", word.strip().lower()) for word in row]
    found = {}
    for key, known in (NAMES | SIZE).items():
        if name := next((name for name in known if name in words), None):
            found[key] = words.index(name)
    if found.keys() >= NAMES.keys():
        return found
    cells = [word.strip() for word in row]
    numbers = [re.fullmatch(r"-?\d+(\.\d*)?", cell) for cell in cells[1:5]]
    is_box = len(cells) == 6 and cells[0] and (all(numbers) or not any(cells[1:]))
    return WITHOUT_HEADER if is_box else None


def _split_of(file: Path, source: Path) -> str:
    """train of train.csv, of train_labels.csv and of a folder train; "" of others."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    by_name = next((word for word in words if word in USUAL), "")
    return by_name or (file.parent.name if file.parent != source and named_as_split(file.parent.name) else "")


def _are_fractions(images: list[Listed]) -> bool:
    boxes = np.array([box for one in images for box in one.boxes])
    return boxes.size > 0 and bool((boxes <= 1).all())


def _images(part: str, file: Path, folder: Path) -> dict[str, Path]:
    """{stem: image} and {name: image} of all images beside a table, in folders of images, and in one called as it."""
    names = [*IMAGE_FOLDERS, *([part, f"images/{part}"] if part else [])]
    return images_by_name(base / name for base in (file.parent, folder) for name in names)


def _image_of(name: str, own: Path, folder: Path, there: Mapping[str, Path]) -> Path | None:
    """The image that a line means: a path from the table or the folder, else by its last part, wherever it was."""
    for base in (own, folder):
        path = inside(base, name) if name else None
        if path is not None and path.is_relative_to(folder) and path.is_file():
            return path
    last = name.replace("\\", "/").rpartition("/")[-1]
    return there.get(last)
