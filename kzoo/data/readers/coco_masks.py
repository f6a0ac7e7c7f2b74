"""Masks of COCO's polygons and run lengths."""

import functools
from collections.abc import Sequence
from pathlib import Path

from kzoo.data.annotations import Fault, MaskAnnotations
from kzoo.data.readers import coco, drawn_masks
from kzoo.data.readers.drawn_masks import Drawing, Shape
from kzoo.data.readers.layout import relative
from kzoo.data.readers.polygons import corners, decode_runs
from kzoo.images import VOID


def read(
    folder: Path, split: str | None, class_names: Sequence[str] | None = None, instances: bool | None = None
) -> MaskAnnotations:
    """Reads a COCO folder or one COCO file as masks of the background and the categories.

    Args:
        folder, split, class_names: see `kzoo.data.readers.read`.
        instances: a number an object instead of a class: all are then one class.

    Raises:
        ValueError: if there are no polygons and no masks, but boxes at most.
    """
    opened = coco.open_files(folder, split)
    classes, places = drawn_masks.classes_of(opened.class_names, class_names, instances, str(folder))
    objects = (one for content in opened.contents.values() for one in content["annotations"] if isinstance(one, dict))
    if not any(one.get("segmentation") for one in objects):
        raise ValueError(f"{folder}: holds no polygons and no masks. Train a detector on its boxes.")
    drawings: dict[Path, Drawing] = {}
    for part, content in opened.contents.items():
        numbers = {key: places[name] for key, name in coco.category_names(content).items() if name in places}
        file = relative(opened.files[part], opened.root)
        for entry, path, objects in coco.entries(opened, part):
            shapes = functools.partial(_shapes, entry, path, objects, numbers)
            name, splits = relative(path, opened.root), (part,) if part else ()
            known = drawings.setdefault(path, Drawing(path, name, file, splits, shapes))
            if known.shapes is not shapes and set(splits) <= set(known.splits):
                opened.faults.append(Fault(file, "duplicate image", f"{name} is listed twice", "image left out"))
            elif known.shapes is not shapes:
                known.splits += splits
    return drawn_masks.assemble(list(drawings.values()), classes, opened.name, opened.faults, str(folder))


def _shapes(entry: dict, path: Path, objects: list[dict], numbers: dict) -> tuple[tuple[int, int], list[Shape]]:
    stated = entry.get("height"), entry.get("width")
    size = drawn_masks.size_of(path, None if None in stated else stated)
    shapes = []
    for one in objects:
        try:
            shapes.append(_shape(one.get("segmentation"), size, numbers.get(coco.id_of(one.get("category_id")), VOID)))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"annotation {one.get('id')} is no polygon and no mask: {error}") from error
    return size, shapes


def _shape(segmentation: object, size: tuple[int, int], number: int) -> Shape:
    if isinstance(segmentation, dict):
        if segmentation["size"] != list(size):
            raise ValueError(f"its size is {segmentation['size']}, the image's {list(size)}")
        return Shape(number, mask=decode_runs(segmentation["counts"], size))
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("it has neither")
    polygons = [corners(one) for one in segmentation]
    if min(map(len, polygons)) < 3:
        raise ValueError("fewer than three corners")
    return Shape(number, polygons)
