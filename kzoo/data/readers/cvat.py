"""CVAT's own files ("CVAT for images 1.1"): annotations.xml beside images/, with boxes, polygons, ellipses and masks.

Source: CVAT's documentation of its XML format. Corners are in 0-based pixels, rotations clockwise degrees about the
centre; polygons and masks of one label and one group are one object. Tags are of whole images, and passed over.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from kzoo.data.annotations import Fault
from kzoo.data.readers.layout import images_by_stem, inside, relative, resolve_split
from kzoo.data.readers.outlined import Item, Labelled, Opened, Outline
from kzoo.data.readers.polygons import FARTHEST, corners, decode_runs
from kzoo.data.readers.xml_files import root_of

FILE = "annotations.xml"
WITHOUT_AREA = ("tag", "points", "polyline", "skeleton", "cuboid")  # kinds of labels that no box or mask is of
CORNERS_OF_AN_ELLIPSE = 64
_HEAD = 1000  # bytes of the file, in which it says what it is


def find(folder: Path) -> bool:
    """Does annotations.xml in this folder look like CVAT's?"""
    file = folder / FILE
    if not file.is_file():
        return False
    with file.open("rb") as content:
        head = content.read(_HEAD)
    return b"<annotations>" in head and b"<version>1" in head


def open_folder(folder: Path, split: str | None) -> Opened:
    """Reads annotations.xml; of a subset alone, for None of all.

    Raises:
        ValueError: for a file that cannot be read or lists no images, and for a subset that is not there.
    """
    try:
        root = root_of(folder / FILE)
    except ValueError as error:
        raise ValueError(f"{folder / FILE}: {error}. Export it again.") from error
    listed = [(element.get("subset") or "", element) for element in root.iter("image")]
    if not listed:
        raise ValueError(f'{folder / FILE}: lists no image. Export as "CVAT for images 1.1", not for video.')
    name = None if split is None else resolve_split(split, sorted({part for part, _ in listed if part}), folder)
    labelled, faults, used = [], [], set()
    for part, element in listed:
        if name not in (None, part):
            continue
        one = parse(element, folder, part)
        shown = str(element.get("name"))
        if one.image is None:
            faults.append(Fault(FILE, "missing image", f"there is no image {shown}", "image left out"))
        elif one.error:
            faults.append(Fault(FILE, "unreadable annotation", f"{shown}: {one.error}", "image left out"))
        else:
            labelled.append((part, one))
        used.add(one.image)
    if name is None:
        others = [image for image in images_by_stem(folder / "images").values() if image not in used]
        detail = f"{FILE} does not list it"
        faults += [
            Fault(relative(image, folder), "image without annotation", detail, "image left out") for image in others
        ]
    return Opened(name, labelled, _class_names(root, [element for _, element in listed]), faults)


def _class_names(root: Element, images: list[Element]) -> list[str]:
    """As they were declared, and after these what objects are called besides."""
    declared = [
        (label.findtext("name") or "").strip()
        for label in root.iter("label")
        if label.find("parent") is None and label.findtext("type") not in WITHOUT_AREA
    ]
    used = {shape.get("label") for image in images for shape in image if shape.tag in _OUTLINES}
    return list(dict.fromkeys([*filter(None, declared), *sorted(filter(None, used))]))


def parse(element: Element, folder: Path, part: str) -> Labelled:
    """Reads one `<image>`; never raises for what it may hold."""
    image = _image(folder, str(element.get("name")), part)
    items: dict[tuple, Item] = {}
    try:
        size = int(element.get("height")), int(element.get("width"))
        for number, shape in enumerate((one for one in element if one.tag != "tag"), start=1):
            label, group = shape.attrib["label"], shape.get("group_id")
            alone = group is None or shape.tag not in ("polygon", "mask")
            item = items.setdefault((label, number if alone else f"group {group}"), Item(label))
            item.outlines.append(_outline(shape))
    except (ValueError, TypeError, KeyError) as error:
        return Labelled(folder / FILE, image, error=str(error) or type(error).__name__)
    return Labelled(folder / FILE, image, size, list(items.values()))


def _image(folder: Path, name: str, part: str) -> Path | None:
    """Where CVAT puts an image, with or without a folder a subset; None where there is none."""
    places = (inside(folder, *parts) for parts in (("images", name), ("images", part, name), (name,)))
    return next((place for place in places if place is not None and place.is_file()), None)


def _outline(shape: Element) -> Outline:
    if shape.tag not in _OUTLINES:
        raise ValueError(f"a {shape.tag} has no area")
    return _OUTLINES[shape.tag](shape.attrib)


def _box(written: Mapping[str, str]) -> Outline:
    left, top, right, bottom = (float(written[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    return Outline(_turned([(left, top), (right, top), (right, bottom), (left, bottom)], written))


def _polygon(written: Mapping[str, str]) -> Outline:
    points = corners([[float(number) for number in pair.split(",")] for pair in written["points"].split(";")])
    if len(points) < 3:
        raise ValueError(f"a polygon of {len(points)} points has no area")
    return Outline(points)


def _ellipse(written: Mapping[str, str]) -> Outline:
    centre, radii = ([float(written[key]) for key in keys] for keys in (("cx", "cy"), ("rx", "ry")))
    angles = np.linspace(0, 2 * np.pi, CORNERS_OF_AN_ELLIPSE, endpoint=False)
    return Outline(_turned(centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=-1), written))


def _turned(points: object, written: Mapping[str, str]) -> np.ndarray:
    points, angle = corners(points), np.deg2rad(float(written.get("rotation", 0)))
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    (right, down), cosine, sine = (points - centre).T, np.cos(angle), np.sin(angle)
    return corners(centre + np.stack([cosine * right - sine * down, sine * right + cosine * down], axis=-1))


def _mask(written: Mapping[str, str]) -> Outline:
    left, top, width, height = (int(written[key]) for key in ("left", "top", "width", "height"))
    if not (0 < width < FARTHEST and 0 < height < FARTHEST):
        raise ValueError(f"a mask of {width} x {height} has no area")
    corner = corners([(left, top), (left + width, top), (left + width, top + height), (left, top + height)])
    return Outline(corner, functools.partial(_decoded, written["rle"], (height, width)))


def _decoded(runs: str, size: tuple[int, int]) -> np.ndarray:
    return decode_runs([int(run) for run in runs.split(",")], size, by_rows=True)


_OUTLINES = {"box": _box, "polygon": _polygon, "ellipse": _ellipse, "mask": _mask}
