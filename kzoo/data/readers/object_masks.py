"""Masks of one file an object, in a folder an image, as the Data Science Bowl of 2018 has its nuclei."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from kzoo.data.annotations import Fault, MaskAnnotations
from kzoo.data.readers import drawn_masks
from kzoo.data.readers.drawn_masks import Drawing, Shape
from kzoo.data.readers.layout import folders_in, images_by_stem, relative, resolve_split
from kzoo.data.readers.mask_layouts import without_ending

OBJECT = "cell"
_STAGE = re.compile(r"^stage\d_")  # the Bowl's stage1_train/ is train


def find(folder: Path) -> dict[str, list[Path]]:
    """{split: folders of an image each}; "" where the folder holds these itself, nothing for one in another layout."""
    if not folder.is_dir():
        return {}
    parts = {"": folder, **{_STAGE.sub("", part.name): part for part in folders_in(folder)}}
    return {name: folders for name, part in parts.items() if (folders := _folders_of_images(part))}


def _folders_of_images(folder: Path) -> list[Path]:
    inner = [path for path in folders_in(folder) if (path / "images").is_dir()]
    return inner if any(map(_is_of_one_image, inner)) else []


def _is_of_one_image(folder: Path) -> bool:
    """One image, and masks that are not called like it: else these are the images and masks of a split."""
    images, masks = images_by_stem(folder / "images"), images_by_stem(folder / "masks")
    return len(images) == 1 and bool(masks) and not any({stem, without_ending(stem)} & images.keys() for stem in masks)


def read(
    root: Path, split: str | None, class_names: Sequence[str] | None = None, instances: bool | None = None
) -> MaskAnnotations:
    """Reads folders with images/<image> and masks/<a file an object>, in which an object is what is not 0.

    Args:
        root, split, class_names: see `kzoo.data.readers.read`; the classes are background and cell.
        instances: whether each object keeps a number of its own. None: yes.
    """
    splits = find(root)
    if split is not None:
        split = resolve_split(split, [name for name in splits if name], root)
        splits = {split: splits[split]}
    classes, places = drawn_masks.classes_of([OBJECT], class_names, instances is not False, str(root))
    drawings, faults = [], []
    for part, folders in splits.items():
        for folder in folders:
            name, images = relative(folder, root), list(images_by_stem(folder / "images").values())
            if len(images) != 1:
                detail = f"{name}/images holds {len(images)} images, and one is expected"
                faults.append(Fault(name, "missing image", detail, "image left out"))
            elif not (folder / "masks").is_dir():
                faults.append(Fault(name, "missing mask", f"{name} has no folder masks/", "image left out"))
            else:
                shapes = functools.partial(_shapes, images[0], folder / "masks", places[OBJECT])
                file = f"{name}/masks"
                drawings.append(Drawing(images[0], relative(images[0], root), file, (part,) if part else (), shapes))
    return drawn_masks.assemble(drawings, classes, split, faults, str(root))


def _shapes(image: Path, masks: Path, number: int) -> tuple[tuple[int, int], list[Shape]]:
    size = drawn_masks.size_of(image, None)
    files = images_by_stem(masks).values()
    return size, [Shape(number, mask=drawn_masks.black_and_white(file, size)) for file in files]
