"""Segmentation data: folders of images and masks, recognised by their layout. Pillow and NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kzoo.data.annotations import Fault
from kzoo.data.readers.layout import images_by_stem, relative, resolve_split

VOID = 255
IMAGES = ("images", "image", "imgs", "JPEGImages")
MASKS = ("masks", "mask", "labels", "label", "annotations", "SegmentationClass")
LAYOUTS = (
    "images/ and masks/ (also inside a folder a split, or with a folder a split inside each), "
    "<split>/ and <split>annot/ as CamVid, or VOC (JPEGImages/, SegmentationClass/, ImageSets/Segmentation/)"
)


@dataclass(frozen=True)
class MaskSample:
    """One image and its mask."""

    image: Path
    mask: Path
    name: str


@dataclass
class MaskAnnotations:
    """A split of a segmentation data set.

    Attributes:
        values: the number in the mask files that stands for each class, in the order of the classes.
        class_names: what the classes are.
    """

    samples: list[MaskSample]
    class_names: list[str]
    values: list[int]
    split: str | None
    faults: list[Fault] = field(default_factory=list)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def read(
    source: str | Path,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    values: Sequence[int] | None = None,
) -> MaskAnnotations:
    """Reads a folder of images and masks, which have the same names but for their suffix.

    Masks are index or palette images of 8 or 16 bit: a pixel's number is its class.

    Args:
        source: the folder; see `LAYOUTS`.
        split: as the data set names it; None for all of it.
        class_names: what the numbers mean; None for the lines of `classes.txt` in the folder, or the numbers as they
            are.
        values: the number of each class in the masks, as [0, 255] for black and white ones; None: 0, 1, 2, ... as many
            as there are class_names, or, without them, the numbers that occur in the masks but 255, and 255 as well
            where it is the only one besides 0. Every other number is void.

    Raises:
        ValueError: for a folder in no such layout, an unknown split, or no image with a mask.
    """
    folder = Path(source).expanduser().resolve()
    splits = find(folder)
    if not splits:
        raise ValueError(f"{source}: no folder of images and masks. Expected {LAYOUTS}.")
    if split is not None:
        name = resolve_split(split, [key for key in splits if key], source)
        splits = {name: splits[name]}
    samples, faults = [], []
    for pairs in splits.values():
        for image, mask in pairs:
            if image is None or mask is None:
                there = image or mask
                kind = "missing image" if image is None else "missing mask"
                faults.append(Fault(relative(there, folder), kind, f"{there.name} has no counterpart.", "left out"))
            else:
                samples.append(MaskSample(image, mask, image.name))
    samples = list({sample.image: sample for sample in samples}.values())
    if not samples:
        raise ValueError(f"{source}: no image has a mask of the same name.")
    if class_names is None and (folder / "classes.txt").is_file():
        lines = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
        class_names = [line.strip() for line in lines if line.strip()]
    if values is None:
        values = list(range(len(class_names))) if class_names is not None else _occurring(samples)
    names = [str(value) for value in values] if class_names is None else [str(name) for name in class_names]
    if len(names) != len(values) or len(set(values)) != len(values):
        raise ValueError(f"values must be one number a class, each once. Received: {list(values)} for {names}.")
    return MaskAnnotations(samples, names, [int(value) for value in values], split, faults)


def find(folder: Path) -> dict[str, list[tuple[Path | None, Path | None]]]:
    """The pairs of image and mask of each split, "" where there are none; {} for a folder in another layout."""
    if (folder / "SegmentationClass").is_dir() and (folder / "JPEGImages").is_dir():
        return _voc(folder)
    images, masks = _child(folder, IMAGES), _child(folder, MASKS)
    if images is not None and masks is not None:
        inner = [path.name for path in sorted(images.iterdir()) if path.is_dir() and (masks / path.name).is_dir()]
        if inner and not images_by_stem(images):
            return {name: _pairs(images / name, masks / name) for name in inner}
        return {"": _pairs(images, masks)}
    splits = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and (folder / f"{path.name}annot").is_dir():
            splits[path.name] = _pairs(path, folder / f"{path.name}annot")
        elif path.is_dir() and _child(path, IMAGES) is not None and _child(path, MASKS) is not None:
            splits[path.name] = _pairs(_child(path, IMAGES), _child(path, MASKS))
    return splits


def read_mask(path: str | Path, values: Sequence[int] | None = None) -> np.ndarray:
    """Reads a mask: the numbers of an index or palette image, not its colours, turned upright as its image would be.

    Args:
        values: which number stands for each class; the result then holds classes 0, 1, ... and 255 for all else.

    Returns:
        (H, W) int32.

    Raises:
        ValueError: if the file is no readable image of one channel.
    """
    try:
        with Image.open(path) as image:
            raw = np.asarray(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable mask ({error}). Remove the file or replace it.") from error
    if raw.ndim == 3 and raw.shape[-1] >= 3 and (raw[..., :1] == raw[..., 1:3]).all():
        raw = raw[..., 0]  # grey, saved as RGB
    if raw.ndim != 2:
        raise ValueError(f"{path}: a mask has one number a pixel, this one has {raw.shape[-1]}. Save it as index PNG.")
    raw = raw.astype(np.int32)
    if values is None:
        return raw
    mask = np.full(raw.shape, VOID, np.int32)
    for label, value in enumerate(values):
        mask[raw == value] = label
    return mask


def _voc(folder: Path) -> dict[str, list]:
    images, masks = images_by_stem(folder / "JPEGImages"), images_by_stem(folder / "SegmentationClass")
    lists = sorted((folder / "ImageSets" / "Segmentation").glob("*.txt"))
    if not lists:
        return {"": [(images.get(stem), path) for stem, path in masks.items()]}
    splits = {}
    for file in lists:
        stems = file.read_text(encoding="utf-8").split()
        splits[file.stem] = [(images.get(s), masks.get(s)) for s in stems if s in images or s in masks]
    return splits


def _pairs(images: Path, masks: Path) -> list[tuple[Path | None, Path | None]]:
    a, b = images_by_stem(images), images_by_stem(masks)
    return [(a.get(stem), b.get(stem)) for stem in sorted(a.keys() | b.keys(), key=_natural)]


def _natural(stem: str) -> tuple:
    """2 before 10, as slices of a stack are numbered."""
    return (0, int(stem), "") if stem.isdecimal() else (1, 0, stem)


def _child(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _occurring(samples: list[MaskSample]) -> list[int]:
    found = sorted({int(v) for sample in samples for v in np.unique(read_mask(sample.mask))})
    return found if found in ([0, VOID], [VOID]) else [value for value in found if value != VOID]
