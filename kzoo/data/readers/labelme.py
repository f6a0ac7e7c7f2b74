"""LabelMe: a JSON file an image, with polygons, rectangles, circles and masks as `shapes`.

Source: the files that labelme 5 writes. Corners are in 0-based pixels; shapes of one label and one `group_id` are one
object.
"""

import base64
import functools
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from kzoo.data.annotations import Fault
from kzoo.data.readers.layout import VALIDATION, images_by_name, relative, resolve_split
from kzoo.data.readers.mask_files import ERRORS
from kzoo.data.readers.outlined import Item, Labelled, Opened, Outline
from kzoo.data.readers.polygons import corners
from kzoo.data.readers.progress import map_in_threads

SPLITS = ("train", *VALIDATION, "test")
JSON_FOLDERS = (".", "annotations", "ann", "labels", "json")
IMAGE_FOLDERS = (".", "images", "img", "imgs", "JPEGImages")
CORNERS_OF_A_CIRCLE = 64
LARGEST = 1 << 26  # bytes of one file, which may hold its image


def find(folder: Path) -> dict[str, list[Path]]:
    """{split: JSON files}, "" for a folder without splits; {} for another layout."""
    if not folder.is_dir():
        return {}
    if files := _files(folder):
        return {"": files}
    return {name: files for name in SPLITS if (files := _files(folder / name))}


def open_folder(folder: Path, split: str | None) -> Opened:
    """Reads the JSON files; of a split alone, for None of all.

    Raises:
        ValueError: for a split that is not there.
    """
    parts = find(folder)
    name = None if split is None else resolve_split(split, [part for part in parts if part], folder)
    listed = [(part, file) for part, files in parts.items() for file in files]
    images = {part: _images(folder / part) for part in parts}
    # Classes must not depend on the split.
    found = map_in_threads(lambda pair: parse(pair[1], images[pair[0]]), listed, "reading annotations")
    class_names = sorted({item.label for one in found for item in one.items})
    labelled, faults = [], []
    for (part, _), one in zip(listed, found, strict=True):
        if name not in (None, part):
            continue
        file = relative(one.file, folder)
        if one.error:
            faults.append(Fault(file, "unreadable annotation", one.error, "image left out"))
        elif one.image is None:
            faults.append(Fault(file, "missing image", f"there is no image of {file}", "image left out"))
        else:
            labelled.append((part, one))
    used, detail = {one.image for one in found}, "no JSON file of LabelMe belongs to it"
    others = {image for part in parts if name in (None, part) for image in images[part].values()} - used
    kind = "image without annotation"
    faults += [Fault(relative(image, folder), kind, detail, "image left out") for image in sorted(others)]
    return Opened(name, labelled, class_names, faults)


def parse(file: Path, images: Mapping[str, Path]) -> Labelled:
    """Reads one JSON file; never raises for what it may hold. Its image has its name, or the one that it states."""
    try:
        content = json.loads(file.read_bytes())
        size = content.get("imageHeight"), content.get("imageWidth")
        items: dict[tuple, Item] = {}
        for number, shape in enumerate(content["shapes"], start=1):
            label, group = str(shape["label"]), shape.get("group_id")
            item = items.setdefault((label, number if group is None else f"group {group}"), Item(label))
            item.outlines.append(_outline(shape, number))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        return Labelled(file, error=f"not a readable file of LabelMe ({type(error).__name__}: {error})")
    stated = size if all(isinstance(side, int) for side in size) else None
    named = str(content.get("imagePath")).replace("\\", "/").rpartition("/")[-1]
    return Labelled(file, images.get(file.stem, images.get(named)), stated, list(items.values()))


def patch(shape: dict) -> np.ndarray:
    """The mask (h, w) bool of a shape of the type "mask", which begins at the shape's first corner.

    Raises:
        ValueError: if it is no image.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
            return np.asarray(image.convert("L")) > 0
    except (*ERRORS, KeyError, TypeError) as error:
        raise ValueError(f"its mask is no image ({error})") from error


def _outline(shape: dict, number: int) -> Outline:
    mask = functools.partial(patch, shape) if shape.get("shape_type") == "mask" else None
    return Outline(_corners(shape, number), mask)


def _corners(shape: dict, number: int) -> np.ndarray:
    points = corners(shape["points"])
    kind = shape.get("shape_type") or "polygon"
    if kind in ("rectangle", "mask") and len(points) == 2:
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0) + (kind == "mask")
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    if kind == "circle" and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, CORNERS_OF_A_CIRCLE, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        return points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    if kind in ("polygon", "rectangle", "oriented_rectangle") and len(points) >= 3:
        return points
    raise ValueError(f"shape {number} is a {kind} of {len(points)} points, which has no area")


def _files(folder: Path) -> list[Path]:
    """The JSON files of the first folder that holds some of LabelMe."""
    for place in (folder / name for name in JSON_FOLDERS):
        files = sorted(place.glob("[!.]*.json")) if place.is_dir() else []
        if files and _is_labelme(files[0]):
            return files
    return []


def _is_labelme(file: Path) -> bool:
    if file.stat().st_size > LARGEST:  # COCO's may have half a gigabyte
        return False
    content = file.read_bytes()
    return b'"shapes"' in content and b'"imagePath"' in content


def _images(base: Path) -> dict[str, Path]:
    """{stem: image} and {name: image} of all images beside the JSON files and in folders of images."""
    return images_by_name(base / name for name in (*IMAGE_FOLDERS, *JSON_FOLDERS))
