"""COCO folders: annotations/instances_<split>.json with the images beside it, or <split>/_annotations.coco.json.

Boxes are [x, y, width, height] in 0-based pixels (cocodataset.org, "Data format"); an object without one has that
around its polygons. Category ids may have gaps: they become labels 0..C-1 in the order of the ids.
"""

import json
import mmap
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kzoo.data.annotations import Annotations, Fault
from kzoo.data.readers.layout import inside, is_image, relative, resolve_split
from kzoo.data.readers.polygons import corners
from kzoo.data.readers.progress import track
from kzoo.data.readers.raw import RawImage, assemble

ROBOFLOW = "_annotations.coco.json"


def find(folder: Path) -> dict[str, Path]:
    """{split: JSON file}, {} for a folder of another layout. A file without a split in its name is the split ""."""
    if folder.is_file():
        return {_split_name(folder): folder} if folder.suffix == ".json" and _is_coco(folder) else {}
    files = sorted((folder / "annotations").glob("*.json")) or sorted(folder.glob("*.json"))
    # COCO keeps captions and keypoints of the same images beside the instances.
    files = [f for f in files if f.name.startswith("instances_")] or files
    files += sorted(folder.glob(f"*/{ROBOFLOW}"))
    return {_split_name(file): file for file in files if _is_coco(file)}


@dataclass
class Opened:
    """The JSON files of a split, or of all.

    Attributes:
        root: the folder that the images lie in. name: the split, as the data set calls it.
        contents: {split: what its file holds}. files: {split: file}.
        class_names: of all files, in the order of their ids.
    """

    root: Path
    name: str | None
    contents: dict[str, dict]
    files: dict[str, Path]
    class_names: list[str]
    faults: list[Fault]


def read(folder: Path, split: str | None, class_names: list[str] | None = None) -> Annotations:
    """Reads a COCO folder or one COCO file; see `kzoo.data.readers.read`."""
    opened = open_files(folder, split)
    names = list(class_names or opened.class_names)
    position = {text: i for i, text in enumerate(names)}
    raws: dict[Path, RawImage] = {}
    for part, content in opened.contents.items():
        shown, texts = relative(opened.files[part], opened.root), category_names(content)
        found = [
            _raw(entry, path, objects, shown, relative(path, opened.root), texts, position, part)
            for entry, path, objects in entries(opened, part)
        ]
        for raw in found:
            known = raws.setdefault(raw.image, raw)
            if known is not raw:
                opened.faults += _joined(known, raw)
    if opened.name is None:
        opened.faults += _unlisted(raws.values(), opened.contents, opened.root)
    return assemble(list(raws.values()), names, opened.name, opened.faults)


def _joined(known: RawImage, raw: RawImage) -> list[Fault]:
    """Of an image that is listed twice the first entry counts, also for another split that it is in."""
    if set(raw.splits) <= set(known.splits):
        return [Fault(raw.file, "duplicate image", f"{raw.name} is listed twice", "image left out")]
    known.splits += raw.splits
    if np.array_equal(raw.boxes, known.boxes, equal_nan=True) and raw.texts == known.texts:
        return []
    detail = f"{raw.name} has other objects here than in {known.file}"
    return [Fault(raw.file, "duplicate image", detail, "objects left out")]


def open_files(folder: Path, split: str | None) -> Opened:
    """Reads the JSON files of a split; None for all.

    Raises:
        ValueError: for a split that is not there, or where no file can be read.
    """
    files = find(folder)
    root = folder if folder.is_dir() else _root_of_file(folder)
    name = None if split is None else resolve_split(split, [s for s in files if s], folder)
    wanted = files if name is None else {name: files[name]}
    faults: list[Fault] = []
    contents = {part: _load(file, root, faults) for part, file in wanted.items()}
    if not any(contents.values()):
        raise ValueError(f"{folder}: {faults[0].file} cannot be read: {faults[0].detail}.")
    # Ids must not depend on the split, so categories are collected over all files.
    categories = [contents[part]["categories"] if contents.get(part) else _categories(files[part]) for part in files]
    contents = {part: content for part, content in contents.items() if content}
    return Opened(root, name, contents, files, _names(categories), faults)


def _load(file: Path, root: Path, faults: list[Fault]) -> dict | None:
    try:
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict) or not all(
            isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
        ):
            raise ValueError("it has no lists named images, annotations and categories")
    except (ValueError, RecursionError, OSError) as error:
        faults.append(Fault(relative(file, root), "unreadable annotation", str(error), "images left out"))
        return None
    return content


def _categories(file: Path) -> list[dict]:
    """The categories of a file that is not read otherwise: they stand together, and the rest may be half a gigabyte."""
    try:
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
            for match in re.finditer(rb'"categories"\s*:\s*(?=\[)', text):
                found, _ = json.JSONDecoder().raw_decode(text[match.end() : match.end() + (1 << 22)].decode())
                if all(isinstance(c, dict) and "id" in c and "name" in c for c in found):
                    return found
    except (ValueError, OSError):
        pass
    return []  # broken: said where that split is read


def _names(categories: list[list[dict]]) -> list[str]:
    """Class names in the order of their ids, over all files."""
    smallest: dict[str, int] = {}
    for category in (c for file in categories for c in file):
        if isinstance(category, dict) and "name" in category and (number := id_of(category.get("id"))) is not None:
            text, place = str(category["name"]), (isinstance(number, str), number)  # numbers come before texts
            smallest[text] = min(place, smallest.get(text, place))
    return sorted(smallest, key=lambda text: (smallest[text], text))


def category_names(content: dict) -> dict:
    """{id: name} of the categories of one file."""
    categories = [c for c in content["categories"] if isinstance(c, dict)]
    return {number: str(c.get("name")) for c in categories if (number := id_of(c.get("id"))) is not None}


def id_of(value: object) -> int | float | str | None:
    """An id of a category or an image; None for what cannot be one."""
    return value if isinstance(value, int | float | str) else None


def entries(opened: Opened, split: str) -> Iterator[tuple[dict, Path, list[dict]]]:
    """Each image of a file as its entry, its path and its annotations; what cannot be used becomes a fault."""
    content, file, root, faults = opened.contents[split], opened.files[split], opened.root, opened.faults
    shown = relative(file, root)
    by_image = defaultdict(list)
    for annotation in content["annotations"]:
        key = annotation.get("image_id") if isinstance(annotation, dict) else None
        by_image[id_of(key)].append(annotation)
    folders = _image_folders(root, split, file)
    seen = set()
    for entry in track(content["images"], f"reading {file.name}", len(content["images"])):
        image_id, filename = (entry.get("id"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
        if not isinstance(filename, str) or not isinstance(image_id, int | str):
            detail = f"the image entry {str(entry)[:80]} lacks an id or a file_name"
            faults.append(Fault(shown, "unreadable annotation", detail, "image left out"))
            continue
        if image_id in seen:
            detail = f"image id {image_id} is there twice, the second time for {filename}"
            faults.append(Fault(shown, "duplicate image", detail, "image left out"))
            continue
        seen.add(image_id)
        path = _locate(filename, folders, root)
        if path is None:
            faults.append(Fault(shown, "path outside", f"{filename!r} leads out of the folder", "image left out"))
        elif not os.path.isfile(path):
            faults.append(Fault(shown, "missing image", f"there is no {filename}", "image left out"))
        else:
            yield entry, path, by_image.get(image_id, [])
    for image_id in by_image.keys() - seen:
        for annotation in by_image[image_id]:
            number = annotation.get("id") if isinstance(annotation, dict) else annotation
            detail = f"annotation {number}: there is no image with id {image_id!r}"
            faults.append(Fault(shown, "annotation without image", detail, "box left out"))


def _raw(
    entry, path: Path, objects: list[dict], file: str, name: str, texts: dict, position: dict, split: str
) -> RawImage:
    boxes = np.array([_corners(o) for o in objects], np.float64).reshape(-1, 4)
    categories = [id_of(o.get("category_id")) for o in objects]
    written = [texts.get(c, f"category {c}") for c in categories]
    size = (entry.get("height"), entry.get("width"))
    return RawImage(
        image=path,
        name=name,
        file=file,
        boxes=boxes,
        labels=np.array([position.get(texts.get(c), -1) for c in categories], np.int64),
        texts=written,
        where=[f"annotation {o.get('id')} of {name}" for o in objects],
        crowd=np.array([bool(o.get("iscrowd")) for o in objects], bool),
        area=np.array([_number(o.get("area")) for o in objects], np.float64),
        stated_size=None if None in size else tuple(int(n) if np.isfinite(n := _number(v)) else 0 for v in size),
        splits=(split,) if split else (),
        image_id=entry["id"] if isinstance(entry["id"], int) else None,
    )


def _image_folders(root: Path, split: str, file: Path) -> list[Path]:
    short = split.rstrip("0123456789_")
    names = [split, f"images/{split}", short, f"images/{short}", "images", "JPEGImages", "data", f"{split}/images", "."]
    places = [root / name for name in names] + [file.parent, file.parent / "images"]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def _locate(filename: str, folders: list[Path], root: Path) -> Path | None:
    """The image, or where it would have been; None if every reading of its name leads out of the data set's folder."""
    missing = None
    for i, folder in enumerate(folders):
        path = inside(root, str(folder.relative_to(root)), filename)
        if path is not None and os.path.isfile(path):
            folders.insert(0, folders.pop(i))  # the next image most likely lies there, too
            return path
        missing = missing or path
    return missing


def _unlisted(raws: Iterable[RawImage], contents: dict, root: Path) -> list[Fault]:
    """Images that lie among the listed ones, but are listed in no file."""
    listed = {
        Path(str(entry.get("file_name")).replace("\\", "/")).name
        for content in contents.values()
        for entry in (content or {}).get("images", [])
        if isinstance(entry, dict)
    }
    folders = {raw.image.parent for raw in raws}
    strangers = [p for f in sorted(folders) for p in sorted(f.iterdir()) if is_image(p) and p.name not in listed]
    detail = "no annotation file lists it"
    return [Fault(relative(p, root), "image without annotation", detail, "image left out") for p in strangers]


def _corners(annotation: dict) -> list[float]:
    """The box; where there is none, that around the polygons."""
    bbox, polygons = annotation.get("bbox"), annotation.get("segmentation")
    if isinstance(bbox, list) and len(bbox) == 4:
        x, y, width, height = map(_number, bbox)
        return [x, y, x + width, y + height]
    if isinstance(polygons, list) and polygons:
        with suppress(ValueError):
            points = np.concatenate([corners(polygon) for polygon in polygons])
            return [*points.min(axis=0), *points.max(axis=0)]
    return [np.nan] * 4


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) else np.nan
    except OverflowError:  # JSON's whole numbers have no end
        return np.nan


def _split_name(file: Path) -> str:
    if file.name == ROBOFLOW:
        return file.parent.name if file.parent.name in ("train", "valid", "val", "test") else ""
    name = re.sub(r"^(instances|annotations)_?|_?annotations(\.coco)?$", "", file.stem)
    return "" if name in ("coco", "labels", "_") else name


def _root_of_file(file: Path) -> Path:
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _is_coco(file: Path) -> bool:
    if file.name.startswith("instances_") or file.name == ROBOFLOW or file.parent.name == "annotations":
        return True
    if file.stat().st_size == 0:
        return False
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(f'"{key}"'.encode()) >= 0 for key in ("images", "annotations", "categories"))
