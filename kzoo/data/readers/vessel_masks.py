"""Vessels of the retina, as DRIVE and HRF have them: images, an expert's masks, and those of the field of view."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from kzoo.data.annotations import Fault, MaskAnnotations
from kzoo.data.readers import drawn_masks
from kzoo.data.readers.drawn_masks import Drawing, Shape
from kzoo.data.readers.layout import folders_in, images_by_stem, relative, resolve_split
from kzoo.images import VOID

OBJECT = "vessel"
EXPERTS = ("1st_manual", "manual1")  # DRIVE's and HRF's folder of what networks learn; 2nd_manual is a second person's
_ENDING = re.compile(r"(_(training|test|manual1|mask))+$")  # 21_training, 21_manual1 and 21_training_mask are one


def find(folder: Path) -> dict[str, Path]:
    """{split: its folder}; "" for one that holds images/ and 1st_manual/ itself, nothing for one in another layout."""
    if not folder.is_dir():
        return {}
    parts = {"": folder, **{part.name: part for part in folders_in(folder)}}
    return {name: part for name, part in parts.items() if (part / "images").is_dir() and _expert(part) is not None}


def _expert(folder: Path) -> Path | None:
    return next((folder / name for name in EXPERTS if (folder / name).is_dir()), None)


def read(
    root: Path, split: str | None, class_names: Sequence[str] | None = None, instances: bool | None = None
) -> MaskAnnotations:
    """Reads images of the retina, the vessels in them and, where it is there, the field of view.

    DRIVE has images/21_training.tif, 1st_manual/21_manual1.gif and mask/21_training_mask.gif; HRF images/01_dr.jpg,
    manual1/01_dr.tif and mask/01_dr_mask.tif.
    What lies outside of the field of view, black in mask/, is void: both are scored inside.

    Args:
        root, split, class_names: see `kzoo.data.readers.read`; the classes are background and vessel.
        instances: vessels have no numbers.
    """
    if instances:
        raise ValueError(f"{root}: its vessels are not numbered. Leave out instances.")
    splits = find(root)
    if split is not None:
        split = resolve_split(split, [name for name in splits if name], root)
        splits = {split: splits[split]}
    classes, places = drawn_masks.classes_of([OBJECT], class_names, False, str(root))
    drawings, faults = [], []
    for part, folder in splits.items():
        images, vessels, views = map(_by_name, (folder / "images", _expert(folder), folder / "mask"))
        for name in sorted(images.keys() | vessels.keys()):
            if name not in images or name not in vessels:
                there, kind = (images[name], "mask") if name in images else (vessels[name], "image")
                detail = f"{there.name} has no {kind} of its name"
                faults.append(Fault(relative(there, root), f"missing {kind}", detail, "image left out"))
                continue
            image, file = images[name], vessels[name]
            shapes = functools.partial(_shapes, image, file, views.get(name), places[OBJECT])
            splits_of = (part,) if part else ()
            drawings.append(Drawing(image, relative(image, root), relative(file, root), splits_of, shapes))
    return drawn_masks.assemble(drawings, classes, split, faults, str(root))


def _by_name(folder: Path) -> dict[str, Path]:
    return {_ENDING.sub("", stem): path for stem, path in images_by_stem(folder).items()}


def _shapes(image: Path, vessels: Path, view: Path | None, number: int) -> tuple[tuple[int, int], list[Shape]]:
    size = drawn_masks.size_of(image, None)
    vessel = drawn_masks.black_and_white(vessels, size)
    if view is None:
        return size, [Shape(number, mask=vessel)]
    inside = drawn_masks.black_and_white(view, size)
    return size, [Shape(number, mask=vessel & inside), Shape(VOID, mask=~inside)]
