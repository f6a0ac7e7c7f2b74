"""Masks of YOLO's polygons."""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kzoo.data.annotations import Fault, MaskAnnotations
from kzoo.data.readers import drawn_masks, yolo
from kzoo.data.readers.drawn_masks import Drawing, Shape
from kzoo.data.readers.layout import relative
from kzoo.data.readers.polygons import corners
from kzoo.images import VOID


def read(
    root: Path, split: str | None, class_names: Sequence[str] | None = None, instances: bool | None = None
) -> MaskAnnotations:
    """Reads a YOLO folder as masks of the background and the classes; an image without a text file is background.

    Args:
        root, split, class_names: see `kzoo.data.readers.read`.
        instances: a number an object instead of a class: all are then one class.

    Raises:
        ValueError: if there is no polygon, but boxes at most.
    """
    opened = yolo.open_folder(root, split)
    names = opened.class_names
    if names is None:
        raise ValueError(f"{root} names no classes: add a data.yaml with `names:` or a classes.txt.")
    classes, places = drawn_masks.classes_of(list(names.values()), class_names, instances, str(root))
    numbers = {key: places[name] for key, name in names.items()}
    drawings, faults = [], list(opened.faults)
    for image, splits in opened.listed:
        name, text = relative(image, root), yolo.label_file(image, root)
        if not os.path.isfile(image):
            faults.append(Fault(name, "missing image", f"there is no {name}", "image left out"))
            continue
        file = name if text is None else relative(text, root)
        drawings.append(Drawing(image, name, file, splits, functools.partial(_shapes, image, text, numbers)))
    if not any(_has_polygons(yolo.label_file(drawing.image, root)) for drawing in drawings):
        raise ValueError(f"{root}: holds no polygons. Train a detector on its boxes.")
    return drawn_masks.assemble(drawings, classes, opened.name, faults, str(root))


def _has_polygons(text: Path | None) -> bool:
    return text is not None and any(len(line.split()) > 5 for line in text.read_text(errors="replace").splitlines())


def _shapes(image: Path, text: Path | None, numbers: Mapping[int, int]) -> tuple[tuple[int, int], list[Shape]]:
    size, shapes = drawn_masks.size_of(image, None), []
    try:
        lines = "" if text is None else text.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise ValueError("not a text file") from error
    for line, number, values in yolo.objects(lines):
        if len(values) == 4:
            raise ValueError(f"line {line} is a box and no polygon")
        polygon = corners(np.reshape(values, (-1, 2)) * size[::-1])
        shapes.append(Shape(numbers.get(number, VOID), [polygon]))
    return size, shapes
