"""PASCAL VOC folders: JPEGImages, Annotations (one XML an image), ImageSets/Main (one list of names a split).

Also images and XML files in other folders or in one, as LabelImg writes them, and such a folder a split, as Roboflow.
Boxes are 1-based and inclusive there (VOC devkit); 1 is taken from the minima only: they become 0-based and half-open.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kzoo.data.annotations import Annotations, Fault
from kzoo.data.readers.layout import VALIDATION, images_by_stem, inside, is_image, relative, resolve_split
from kzoo.data.readers.progress import map_in_threads
from kzoo.data.readers.raw import RawImage, assemble
from kzoo.data.readers.xml_files import root_of

NOT_FOR_CLASSES = re.compile(r"\s+(-1|0|1)$")  # VOC's lists of one class end each line in a flag
XML_FOLDERS = ("Annotations", "annotations", "xmls", "labels")
IMAGE_FOLDERS = ("JPEGImages", "images", "image", "imgs", "img")
SPLITS = ("train", *VALIDATION, "trainval", "test")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class Parsed:
    """One XML file as read; `error` says why it could not be."""

    objects: list[dict]
    size: tuple[int, int] | None = None
    filename: str | None = None
    error: str | None = None


@dataclass
class Part:
    """Where images and XML files lie: each in a folder of its own, or side by side."""

    image_folder: Path
    xml_folder: Path

    def __post_init__(self):
        self.images = images_by_stem(self.image_folder)
        self.annotations = {path.stem: path for path in sorted(self.xml_folder.glob("[!.]*.xml"))}


def find_root(folder: Path) -> Path | None:
    """The folder with images and XML files: `folder` itself or VOCdevkit/VOC20xx below it; None for others.

    Raises:
        ValueError: where several years lie below and one has to be chosen.
    """
    if _part(folder) is not None:
        return folder
    years = [p.parent for top in (folder, folder / "VOCdevkit") for p in sorted(top.glob("VOC*/Annotations"))]
    if len(years) > 1:
        raise ValueError(f"{folder} holds several VOC data sets: give one of {', '.join(map(str, years))}.")
    if years:
        return years[0]
    return folder if parts(folder) else None


def parts(root: Path) -> dict[str, Part]:
    """{split: its part} where splits have folders of their own, else {"": the whole}; {} for another layout."""
    if (whole := _part(root)) is not None:
        return {"": whole}
    return {name: part for name in SPLITS if (part := _part(root / name)) is not None}


def _part(folder: Path) -> Part | None:
    xml = next((folder / name for name in XML_FOLDERS if _holds_xml(folder / name)), None)
    images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), None)
    if xml is None and (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir():
        xml = folder / "Annotations"  # VOC's layout, without a single annotation
    if xml is not None and (images is not None or xml.name == "Annotations"):
        return Part(images or folder / "JPEGImages", xml)
    if _holds_xml(folder) and images_by_stem(folder).keys() & {path.stem for path in folder.glob("*.xml")}:
        return Part(folder, folder)
    return None


def splits(root: Path) -> dict[str, list[str]]:
    """{split: image names as listed}, from ImageSets/Main; VOC's lists of single classes are no splits."""
    found = {}
    for path in sorted((root / "ImageSets" / "Main").glob("*.txt")):
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
        lines = [line for line in lines if line]
        if not (lines and "_" in path.stem and all(NOT_FOR_CLASSES.search(line) for line in lines)):
            found[path.stem] = lines
    return found


def read(root: Path, split: str | None, class_names: list[str] | None = None) -> Annotations:
    """Reads a VOC folder; see `kzoo.data.readers.read`."""
    found = parts(root)
    lists = splits(root) if "" in found else {}
    name = None if split is None else resolve_split(split, lists or [part for part in found if part], root)
    faults: list[Fault] = []
    wanted = {
        part: _wanted(root, found[part], {} if part else lists, None if part else name, faults)
        for part in found
        if not part or name in (None, part)
    }
    # Ids must not depend on the split: names are collected over all of them, and sorted, as VOC's twenty are.
    needed = [
        found[part].annotations[key]
        for part in found
        for key in (wanted.get(part, ()) if class_names else found[part].annotations)
        if key in found[part].annotations
    ]
    parsed = dict(zip(needed, map_in_threads(parse, needed, "reading annotations"), strict=True))
    if class_names is None:
        seen = {item["name"] for one in parsed.values() for item in one.objects if item["name"]}
        class_names = sorted(seen)
    ids = {text: i for i, text in enumerate(class_names)}
    member = {}
    for listed, keys in lists.items():
        for key in keys:
            member.setdefault(_stem(key), []).append(listed)
    raws = []
    for part, keys in wanted.items():
        for key in keys:
            path = _annotation(root, found[part], key, faults)
            if path is None:
                continue
            one, file = parsed[path], relative(path, root)
            if one.error:
                faults.append(Fault(file, "unreadable annotation", one.error, "image left out"))
                continue
            image = _image(found[part], key, one, file, faults)
            if image is not None:
                belongs = (part,) if part else tuple(member.get(key, ()))
                raws.append(_raw(one, image, root, path, ids, belongs, faults))
    return assemble(raws, class_names, name, faults)


def _annotation(root: Path, part: Part, key: str, faults: list[Fault]) -> Path | None:
    """The XML file of an image; None, and a fault, where it is missing."""
    if key in part.annotations:
        return part.annotations[key]
    file = relative(part.xml_folder / f"{key}.xml", root)
    if key in part.images:
        shown, kind, detail = relative(part.images[key], root), "image without annotation", f"there is no {file}"
    else:
        shown, kind, detail = file, "missing image", f"{key!r} is listed, but has neither image nor annotation"
    faults.append(Fault(shown, kind, detail, "image left out"))
    return None


def parse(path: Path) -> Parsed:
    """Reads one XML file without ever resolving entities; never raises for what a file may hold."""
    try:
        tree = root_of(path)
    except ValueError as error:
        return Parsed([], error=str(error))
    objects = []
    for element in tree.findall("object"):
        objects.append(
            {
                "name": (element.findtext("name") or "").strip(),
                "corners": [_number(element.findtext(f"bndbox/{corner}")) for corner in CORNERS],
                "difficult": (element.findtext("difficult") or "0").strip().lower() in ("1", "true"),
            }
        )
    size = (_number(tree.findtext("size/height")), _number(tree.findtext("size/width")))
    size = tuple(int(v) if math.isfinite(v) else 0 for v in size)
    return Parsed(objects, size, (tree.findtext("filename") or "").strip() or None)


def _wanted(root: Path, part: Part, lists: dict, name: str | None, faults: list[Fault]) -> list[str]:
    """The stems to read, each once and in the order of the list; what the list has wrong is reported."""
    if name is None:
        listed = (_stem(key) for keys in lists.values() for key in keys if inside(root, key))
        return sorted({*part.annotations, *part.images, *listed})
    wanted, file = {}, f"ImageSets/Main/{name}.txt"
    for number, line in enumerate(lists[name], start=1):
        key = _stem(line)
        if inside(part.xml_folder, f"{key}.xml") is None:
            faults.append(
                Fault(file, "path outside", f"entry {number}: {line!r} leads out of the folder", "image left out")
            )
        elif key in wanted:
            faults.append(Fault(file, "duplicate image", f"entry {number}: {line!r} is listed twice", "image left out"))
        else:
            wanted[key] = None
    return list(wanted)


def _image(part: Part, key: str, one: Parsed, file: str, faults: list[Fault]) -> Path | None:
    """The image of an annotation: the one with the XML's own name, else the one that the XML names."""
    named = inside(part.image_folder, one.filename) if one.filename else None
    if one.filename and named is None:
        action = "image of the annotation's own name used" if key in part.images else "image left out"
        faults.append(Fault(file, "path outside", f"<filename> {one.filename!r} leads out of the folder", action))
        if key not in part.images:
            return None
    if key in part.images:
        return part.images[key]
    if named is not None and os.path.isfile(named):
        return named
    detail = f"{part.image_folder.name} has no image named {key}.* or {one.filename!r}"
    faults.append(Fault(file, "missing image", detail, "image left out"))
    return None


def _raw(one: Parsed, image: Path, root: Path, path: Path, ids: dict, splits: tuple, faults: list[Fault]) -> RawImage:
    corners = np.array([item["corners"] for item in one.objects], np.float64).reshape(-1, 4)
    # A box with equal corners is a slip of the mouse, not one pixel: its minima stay, so that its area stays zero.
    flat = (corners[:, 2:] <= corners[:, :2]).any(axis=1)
    corners[~flat, :2] -= 1
    names = [item["name"] for item in one.objects]
    return RawImage(
        image=image,
        name=image.name,
        image_file=relative(image, root),
        file=relative(path, root),
        boxes=corners,
        labels=np.array([ids.get(name, -1) for name in names], np.int64),
        texts=names,
        where=_Lines(path, len(names)),
        difficult=np.array([item["difficult"] for item in one.objects], bool),
        stated_size=one.size,
        splits=splits,
    )


class _Lines(list):
    """ "line 12" of the i-th object, looked up only when a fault has to be told."""

    def __init__(self, path: Path, count: int):
        super().__init__([None] * count)
        self.path = path

    def __getitem__(self, i: int) -> str:
        text = self.path.read_bytes()
        starts = [match.start() for match in re.finditer(rb"<object[\s>]", text)]
        if i >= len(starts):
            return f"object {i + 1}"
        return f"line {text[: starts[i]].count(bytes([10])) + 1}"


def _stem(line: str) -> str:
    return line.rsplit(".", 1)[0] if is_image(Path(line)) else line


def _number(text: str | None) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _holds_xml(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("*.xml"), None) is not None
