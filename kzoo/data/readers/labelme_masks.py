"""Masks of LabelMe's shapes."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kzoo.data.annotations import MaskAnnotations
from kzoo.data.readers import drawn_masks, labelme
from kzoo.data.readers.drawn_masks import Drawing, Shape
from kzoo.data.readers.layout import relative


def read(
    folder: Path, split: str | None, class_names: Sequence[str] | None = None, instances: bool | None = None
) -> MaskAnnotations:
    """Reads a folder of LabelMe as masks of the background and the labels.

    Args:
        folder, split, class_names: see `kzoo.data.readers.read`.
        instances: a number an object instead of a class: all are then one class.
    """
    opened = labelme.open_folder(folder, split)
    classes, numbers = drawn_masks.classes_of(opened.class_names, class_names, instances, str(folder))
    drawings = [
        Drawing(
            image=one.image,
            name=relative(one.image, folder),
            file=relative(one.file, folder),
            splits=(part,) if part else (),
            shapes=functools.partial(_shapes, one, numbers),
        )
        for part, one in opened.labelled
    ]
    return drawn_masks.assemble(drawings, classes, opened.name, opened.faults, str(folder))


def _shapes(one: labelme.Labelled, numbers: Mapping[str, int]) -> tuple[tuple[int, int], list[Shape]]:
    size, shapes = drawn_masks.size_of(one.image, one.size), []
    for item in one.items:
        shape = Shape(numbers[item.label])
        for written, outline in zip(item.shapes, item.outlines, strict=True):
            if written.get("shape_type") == "mask":
                shape.mask = _placed(written, outline, size, shape.mask)
            else:
                shape.polygons = [*shape.polygons, outline]
        shapes.append(shape)
    return size, shapes


def _placed(written: dict, outline: np.ndarray, size: tuple[int, int], mask: np.ndarray | None) -> np.ndarray:
    """The mask of the whole image, with this patch added."""
    mask = np.zeros(size, bool) if mask is None else mask
    patch = labelme.patch(written)
    left, top = outline.min(axis=0).astype(int)
    height, width = patch.shape
    if left < 0 or top < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError(f"a mask of {width} x {height} at {left}, {top} leads out of the image")
    mask[top : top + height, left : left + width] |= patch
    return mask
