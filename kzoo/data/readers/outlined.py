"""Objects by their outlines, as LabelMe and CVAT write them: the boxes around them, or masks drawn from them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kzoo.data.annotations import Annotations, Fault, MaskAnnotations
from kzoo.data.readers import drawn_masks
from kzoo.data.readers.drawn_masks import Drawing, Shape
from kzoo.data.readers.layout import relative
from kzoo.data.readers.raw import RawImage, assemble


@dataclass
class Outline:
    """A part of an object: corners (N, 2) x, y in 0-based pixels, or a mask within them.

    Attributes:
        mask: () -> (h, w) bool, which begins at the first corner; raises ValueError where it cannot be read. None for a
            polygon.
    """

    corners: np.ndarray
    mask: Callable[[], np.ndarray] | None = None


@dataclass
class Item:
    """One object."""

    label: str
    outlines: list[Outline] = field(default_factory=list)


@dataclass
class Labelled:
    """One image as its file describes it; `error` says why that could not be read."""

    file: Path
    image: Path | None = None
    size: tuple[int, int] | None = None
    items: list[Item] = field(default_factory=list)
    error: str | None = None


@dataclass
class Opened:
    """The images of a split, or of all: (split, image), the labels of the whole data set and what is wrong."""

    name: str | None
    labelled: list[tuple[str, Labelled]]
    class_names: list[str]
    faults: list[Fault]


def read_boxes(opened: Opened, folder: Path, class_names: Sequence[str] | None = None) -> Annotations:
    """The boxes around all objects."""
    names = list(class_names or opened.class_names)
    ids = {text: i for i, text in enumerate(names)}
    raws = [_raw(one, part, folder, ids) for part, one in opened.labelled]
    return assemble(raws, names, opened.name, opened.faults)


def _raw(one: Labelled, part: str, folder: Path, ids: Mapping[str, int]) -> RawImage:
    corners = [np.concatenate([outline.corners for outline in item.outlines]) for item in one.items]
    boxes = [[*points.min(axis=0), *points.max(axis=0)] for points in corners]
    return RawImage(
        image=one.image,
        name=relative(one.image, folder),
        file=relative(one.file, folder),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        labels=np.array([ids.get(item.label, -1) for item in one.items], np.int64),
        texts=[item.label for item in one.items],
        where=[f"object {number} of {one.image.name}" for number in range(1, len(boxes) + 1)],
        stated_size=one.size,
        splits=(part,) if part else (),
    )


def read_masks(
    opened: Opened, folder: Path, class_names: Sequence[str] | None = None, instances: bool | None = None
) -> MaskAnnotations:
    """Masks of the background and the labels; with `instances` a number an object: all are then one class."""
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


def _shapes(one: Labelled, numbers: Mapping[str, int]) -> tuple[tuple[int, int], list[Shape]]:
    size, shapes = drawn_masks.size_of(one.image, one.size), []
    for item in one.items:
        shape = Shape(numbers[item.label])
        for outline in item.outlines:
            if outline.mask is None:
                shape.polygons = [*shape.polygons, outline.corners]
            else:
                shape.mask = _placed(outline, size, shape.mask)
        shapes.append(shape)
    return size, shapes


def _placed(outline: Outline, size: tuple[int, int], mask: np.ndarray | None) -> np.ndarray:
    """The mask of the whole image, with this one added."""
    left, top = outline.corners.min(axis=0).astype(int)
    right, bottom = outline.corners.max(axis=0).astype(int)
    _require_inside(left, top, right, bottom, size)  # before it is made: a file may claim any size
    patch = outline.mask()
    bottom, right = top + patch.shape[0], left + patch.shape[1]
    _require_inside(left, top, right, bottom, size)
    mask = np.zeros(size, bool) if mask is None else mask
    mask[top:bottom, left:right] |= patch
    return mask


def _require_inside(left: int, top: int, right: int, bottom: int, size: tuple[int, int]) -> None:
    if left < 0 or top < 0 or bottom > size[0] or right > size[1]:
        raise ValueError(f"a mask of {right - left} x {bottom - top} at {left}, {top} leads out of the image")
