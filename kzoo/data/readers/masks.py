"""Segmentation data: folders of images and masks -> `MaskAnnotations`, with every fault named."""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kzoo.data.annotations import Fault, MaskAnnotations, MaskSample
from kzoo.data.readers import mask_classes
from kzoo.data.readers.headers import read_header
from kzoo.data.readers.layout import relative, resolve_split
from kzoo.data.readers.mask_files import ERRORS, count_numbers, read_numbers, shown
from kzoo.data.readers.mask_layouts import LAYOUTS, find
from kzoo.data.readers.progress import map_in_threads
from kzoo.images import pages
from kzoo.messages import some_of

LEFT_OUT = "image left out"


@dataclass
class MaskItem:
    """An image and its mask as the data set lists them, before any check; see `MaskSample`."""

    image: Path | None
    mask: Path | None
    name: str
    file: str  # the mask as faults show it
    image_file: str
    page: int = 0
    pixels: bytes | None = None
    mask_pixels: bytes | None = None
    splits: tuple[str, ...] = ()


def read(
    source: str | Path,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    values: Sequence[int | str] | None = None,
    void: int | str | Sequence[int | str] | None = None,
    instances: bool | None = None,
) -> MaskAnnotations:
    """Reads a folder of images and masks, which have the same names but for their suffix and an ending such as _mask.

    Masks are index or palette images of 8 or 16 bit, in which a pixel's number is its class, colour images with a
    colour a class, or black and white JPEGs. All masks are decoded, since which classes there are must not depend on
    the split.

    Args:
        source: the folder; see `mask_layouts.LAYOUTS`. Files of several pages are stacks of images and masks.
        split: as the data set names it; None for all of it.
        class_names: which classes, in which order; or, where the folder does not name them, what the numbers mean. None
            for the lines of `classes.txt` in the folder (a class called void is void), what `_classes.csv`,
            `class_dict.csv` or `labelmap.txt` say, VOC's, CamVid's and Cityscapes' own names, or the numbers and
            colours as they are.
        values: the number or colour of each class in the masks, as [0, 255] for black and white ones, or ["#000000",
            "#800000"]; None: the names' places 0, 1, 2, ..., or without names what occurs in the data set.
        void: the numbers or colours of pixels that show nothing known, besides 255; 255 is a class where it is the only
            number besides 0.
        instances: whether each object has a number of its own: all but 0 are then one class. None: in the Cell Tracking
            Challenge's layout and where the masks' folder is called instances/.

    Raises:
        ValueError: for a folder in no such layout, an unknown split, or no image with a mask.
    """
    folder = Path(source).expanduser().resolve()
    found = find(folder)
    if found is None:
        raise ValueError(f"{source}: no folder of images and masks. Expected {LAYOUTS}.")
    if split is not None:
        split = resolve_split(split, [key for key in found.splits if key], source)
    faults = list(found.faults)
    items = _items(folder, found.splits, faults)
    classes = mask_classes.choose(
        occurring(items) if instances is not True else {},
        mask_classes.own_names(folder, found.kind),
        class_names,
        values,
        mask_classes.CITYSCAPES_VOID if void is None and found.kind == "cityscapes" else void,
        found.instances if instances is None else instances,
        str(source),
    )
    if split is not None:  # what is wrong in other splits is not this one's
        items = [item for item in items if split in item.splits]
        listed = {relative(path, folder) for pair in found.splits[split] for path in pair if path is not None}
        faults = [f for f in faults if f.file in listed or f.file == f"ImageSets/Segmentation/{split}.txt"]
    return assemble(items, classes, split, faults, str(source))


def assemble(
    items: Sequence[MaskItem],
    classes: mask_classes.MaskClasses,
    split: str | None,
    faults: Sequence[Fault] = (),
    source: str = "",
) -> MaskAnnotations:
    """Checks what a reader found: sizes of images and masks, numbers without a class.

    Raises:
        ValueError: if no image with a mask is left.
    """
    annotations = MaskAnnotations([], classes.names, classes.values, split, list(faults), classes.instances)
    for item, scan in zip(items, map_in_threads(_scan, items, "reading masks"), strict=True):
        annotations.faults += scan.faults
        if scan.size is None:
            continue
        _note_values(item, scan.numbers, classes, annotations.faults)
        annotations.samples.append(
            MaskSample(
                image=item.image,
                mask=item.mask,
                name=item.name,
                image_id=len(annotations.samples),
                size=scan.size,
                counts=classes.count(scan.numbers),
                page=item.page,
                pixels=item.pixels,
                mask_pixels=item.mask_pixels,
                splits=item.splits,
            )
        )
    if not annotations.samples:
        first = f" The first fault: {annotations.faults[0].detail}" if annotations.faults else ""
        raise ValueError(f"{source}: no image has a mask of the same name and size.{first}")
    return annotations


def _items(folder: Path, splits: dict, faults: list[Fault]) -> list[MaskItem]:
    """Every image with a mask, once; what lacks its counterpart becomes a fault."""
    items: dict[tuple, MaskItem] = {}
    for split, pairs in splits.items():
        for image, mask in pairs:
            if image is None or mask is None:
                there = image or mask
                kind, what = ("missing image", "image") if image is None else ("missing mask", "mask")
                fault = Fault(relative(there, folder), kind, f"{there.name} has no {what} of its name", LEFT_OUT)
                if fault not in faults:
                    faults.append(fault)
                continue
            counts = [pages(path) if path.suffix.lower() in (".tif", ".tiff") else 1 for path in (image, mask)]
            if counts[0] != counts[1]:
                detail = f"{image.name} holds {counts[0]} images, {mask.name} {counts[1]} masks"
                faults.append(Fault(relative(mask, folder), "size mismatch", detail, f"{min(counts)} of them used"))
            for page in range(min(counts)):
                name = image.name if max(counts) == 1 else f"{image.name}, page {page + 1}"
                known = items.setdefault(
                    (image, mask, page),
                    MaskItem(image, mask, name, relative(mask, folder), relative(image, folder), page),
                )
                known.splits += (split,) if split else ()
    return list(items.values())


@dataclass
class _Scan:
    size: tuple[int, int] | None  # None where the image has to be left out
    numbers: dict[int, int]
    faults: list[Fault]


def _scan(item: MaskItem) -> _Scan:
    faults = []
    size, stored, error = _image_size(item)
    if error:
        return _Scan(None, {}, [Fault(item.image_file, "corrupt image", f"{item.name}: {error}", LEFT_OUT)])
    if stored != size:
        detail = f"{item.name} is stored lying on its side"
        faults.append(Fault(item.image_file, "EXIF rotation", detail, "image turned upright"))
    try:
        shape, numbers = _numbers(item)
    except ValueError as error:
        return _Scan(None, {}, [Fault(item.file, "corrupt mask", str(error), LEFT_OUT)])
    if shape != size:
        detail = f"the mask is {_shown(shape)}, its image {item.name} {_shown(size)} (width x height)"
        return _Scan(None, {}, [Fault(item.file, "size mismatch", detail, LEFT_OUT)])
    return _Scan(size, numbers, faults)


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _image_size(item: MaskItem) -> tuple[tuple[int, int], tuple[int, int], str | None]:
    """(upright size, stored size, error) of an image, from its header."""
    if item.page == 0:
        header = read_header(item.pixels if item.image is None else item.image)
        return header.size, header.stored_size, header.error
    with Image.open(item.image) as image:
        image.seek(item.page)
        return image.size[::-1], image.size[::-1], None


def _note_values(item: MaskItem, numbers: dict[int, int], classes: mask_classes.MaskClasses, faults: list) -> None:
    unknown = {} if classes.instances else {n: c for n, c in numbers.items() if n not in classes.known}
    if unknown:
        detail = f"{sum(unknown.values())} pixels of {item.name} are {some_of(map(shown, unknown))}, which is no class"
        faults.append(Fault(item.file, "unknown value", detail, "pixels taken as void"))
    if not classes.count(numbers).any():
        detail = f"no pixel of {item.name} has a class"
        faults.append(Fault(item.file, "empty mask", detail, "kept, all of it void"))
    elif (classes.instances or classes.names[0] == "background") and classes.count(numbers)[1:].sum() == 0:
        faults.append(Fault(item.file, "no objects", f"{item.name} shows background only", "kept"))


def occurring(items: Iterable[MaskItem]) -> dict[int, int]:
    """{number: pixels} over all masks that can be read."""
    total: Counter[int] = Counter()

    def numbers(item: MaskItem) -> dict[int, int]:
        try:
            return _numbers(item)[1]
        except ValueError:
            return {}  # a fault, noted when the image's turn comes

    for one in map_in_threads(numbers, list(items), "reading masks"):
        total.update(one)
    return dict(total)


def _numbers(item: MaskItem) -> tuple[tuple[int, int], dict[int, int]]:
    """Size and {number: pixels} of a mask; files are decoded once in a process, whatever is read of the data set."""
    if item.mask is None:
        return _counted(item.mask_pixels, 0)
    try:
        return _of_file(item.mask, item.page, item.mask.stat().st_mtime_ns)
    except OSError as error:
        raise ValueError(str(error)) from error


@functools.lru_cache(maxsize=100_000)
def _of_file(path: Path, page: int, changed: int) -> tuple[tuple[int, int], dict[int, int]]:
    return _counted(path, page)


def _counted(source: Path | bytes, page: int) -> tuple[tuple[int, int], dict[int, int]]:
    numbers = read_numbers(source, page)
    try:
        return numbers.shape, count_numbers(numbers)
    except ERRORS as error:
        raise ValueError(f"{source if isinstance(source, Path) else 'the mask'} {error}") from error


def labels_of(annotations: MaskAnnotations, sample: MaskSample) -> np.ndarray:
    """The mask of a sample as classes 0..C-1 and 255 for void: (H, W) uint8."""
    return annotations.labels(numbers_of(sample))


def numbers_of(sample: MaskSample) -> np.ndarray:
    """The mask of a sample as it is stored, upright: (H, W) of an integer dtype.

    Raises:
        ValueError: if it cannot be read or has changed its size since.
    """
    numbers = read_numbers(sample.mask_pixels if sample.mask is None else sample.mask, sample.page)
    if numbers.shape != tuple(sample.size):
        raise ValueError(
            f"{sample.mask or sample.name}: the mask is {_shown(numbers.shape)}, its image {_shown(sample.size)} when "
            "the data set was read. Load it again."
        )
    return numbers
