"""Masks drawn from objects given by polygons or run lengths, when a data set is read; kept encoded in memory."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kzoo.data.annotations import Fault, MaskAnnotations
from kzoo.data.readers import mask_classes, masks
from kzoo.data.readers.headers import read_header
from kzoo.data.readers.mask_files import count_numbers, read_numbers, shown
from kzoo.data.readers.polygons import fill, polygon_area
from kzoo.data.readers.progress import map_in_threads
from kzoo.images import VOID
from kzoo.messages import some_of

BACKGROUND = "background"


@dataclass
class Shape:
    """One object: its number in the mask, and polygons, each (N, 2) x, y in pixels, or a mask (H, W) bool."""

    number: int
    polygons: Sequence[np.ndarray] = ()
    mask: np.ndarray | None = None

    @property
    def area(self) -> float:
        return sum(map(polygon_area, self.polygons)) if self.mask is None else float(self.mask.sum())


@dataclass
class Drawing:
    """An image whose mask is to be drawn.

    Attributes:
        file: where faults point to.
        shapes: () -> (height, width) and the shapes; raises ValueError for an object that cannot be drawn. The image
            is then left out: it would teach that the object is not there.
    """

    image: Path
    name: str
    file: str
    splits: tuple[str, ...]
    shapes: Callable[[], tuple[tuple[int, int], list[Shape]]]


def classes_of(
    names: Sequence[str], class_names: Sequence[str] | None, instances: bool | None, source: str
) -> tuple[mask_classes.MaskClasses, dict[str, int]]:
    """The background and these classes, of them those asked for; and {name: number in the drawn masks}."""
    names = [BACKGROUND, *(name for name in names if name != BACKGROUND)]
    asked = list(class_names) if class_names else None
    places = {name: number if number < VOID else number + 1 for number, name in enumerate(names)}
    return mask_classes.choose({}, places, asked, None, None, bool(instances), source), places


def size_of(image: Path, stated: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of an image.

    Raises:
        ValueError: if it cannot be read, or if it was annotated at another size, where its polygons lie elsewhere.
    """
    header = read_header(image)
    if header.error:
        raise ValueError(header.error)
    if stated not in (None, header.size):
        height, width = header.size
        raise ValueError(f"it is {width} x {height}, but was annotated as {stated[1]} x {stated[0]} (width x height)")
    return header.size


def black_and_white(file: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: what is not 0 in a mask of one object or class.

    Raises:
        ValueError: if it cannot be read, has another size than its image, or holds several numbers.
    """
    numbers = read_numbers(file)
    if numbers.shape != size:
        shape = f"{numbers.shape[1]} x {numbers.shape[0]}"
        raise ValueError(f"{file.name} is {shape}, the image {size[1]} x {size[0]} (width x height)")
    values = [number for number in count_numbers(numbers) if number]
    if len(values) > 1:
        raise ValueError(
            f"{file.name} holds {some_of(map(shown, values))}, and a mask of one thing one number beside 0"
        )
    return numbers != 0


def draw(shapes: Sequence[Shape], size: tuple[int, int], instances: bool = False) -> np.ndarray:
    """A mask (H, W) of uint8 or uint16: the shapes' numbers, or their places from 1 on; of two the smaller is seen."""
    numbered = [(place if instances else shape.number, shape) for place, shape in enumerate(shapes, start=1)]
    most = max((number for number, _ in numbered), default=0)
    mask = np.zeros(size, np.uint16 if instances or most > VOID else np.uint8)
    for number, shape in sorted(numbered, key=lambda pair: -pair[1].area):
        if shape.mask is not None:
            mask[shape.mask] = number
        for polygon in shape.polygons:
            fill(mask, polygon, number)
    return mask


def assemble(
    drawings: Sequence[Drawing],
    classes: mask_classes.MaskClasses,
    split: str | None,
    faults: Sequence[Fault],
    source: str,
) -> MaskAnnotations:
    """Draws all masks.

    Raises:
        ValueError: if no image with a mask is left.
    """

    def item(drawing: Drawing) -> masks.MaskItem | Fault:
        try:
            size, shapes = drawing.shapes()
        except ValueError as error:
            detail = f"{drawing.name}: {error}"
            return Fault(drawing.file, "unreadable annotation", detail, masks.LEFT_OUT)
        pixels = io.BytesIO()
        Image.fromarray(draw(shapes, size, classes.instances)).save(pixels, "PNG")
        return masks.MaskItem(
            image=drawing.image,
            mask=None,
            name=drawing.name,
            file=drawing.file,
            image_file=drawing.name,
            mask_pixels=pixels.getvalue(),
            splits=drawing.splits,
        )

    made = map_in_threads(item, drawings, "drawing masks")
    faults = [*faults, *(one for one in made if isinstance(one, Fault))]
    return masks.assemble([one for one in made if isinstance(one, masks.MaskItem)], classes, split, faults, source)
