"""Where images and their masks lie in a folder: each layout found by its names, as pairs of paths a split."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kzoo.data.annotations import Fault
from kzoo.data.readers.layout import folders_in, images_by_stem, inside, is_image, relative

IMAGES = ("images", "image", "imgs", "img", "JPEGImages")
MASKS = ("masks", "mask", "labels", "label", "annotations", "SegmentationClass", "instances")
LAYOUTS = (
    "images/ and masks/ (also inside a folder a split, or with a folder a split inside each), <name>.jpg beside "
    "<name>_mask.png (also inside a folder a split), "
    "<split>/ and <split>annot/ as CamVid (or <split>_labels/, <split>_masks/), Cityscapes (leftImg8bit/, gtFine/), "
    "VOC (JPEGImages/, SegmentationClass/, ImageSets/Segmentation/), "
    "<name>-volume.tif and <name>-labels.tif as ISBI 2012, 01/t*.tif and 01_GT/SEG/man_seg*.tif as the Cell Tracking "
    "Challenge, images/ and 1st_manual/ as DRIVE, <image>/images/ and <image>/masks/ with a file an object, or "
    "polygons as COCO, YOLO, CVAT and LabelMe"
)
BESIDE_SPLITS = ("annot", "_labels", "_masks", "_mask")  # of the folders of masks beside those of images
ENDINGS = ("_mask", "_masks", "_label", "_labels", "_seg", "_segmentation", "_gt", "_L")  # of masks' names
IMAGE_ENDINGS = ("_sat", "_image", "_img")  # of images' names, where masks have an ending in place of it: DeepGlobe's
STACK = "-volume.tif", "-labels.tif"  # ISBI 2012's names
CITYSCAPES_IMAGE, CITYSCAPES_MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"
CTC_IMAGE = re.compile(r"t(\d{3,})\.tif")
CTC_MASK = "man_seg"

Pair = tuple[Path | None, Path | None]


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        kind: "folders", "camvid", "cityscapes", "voc", "stacks", "ctc" or "beside".
        splits: {split: pairs of image and mask, None for one that is missing}; "" where there are no splits.
        instances: the masks number objects.
        faults: entries of lists that lead nowhere.
    """

    kind: str
    splits: dict[str, list[Pair]]
    instances: bool = False
    faults: list[Fault] = field(default_factory=list)


def find(folder: Path) -> Found | None:
    """The images and masks of a folder, None for one in another layout."""
    if not folder.is_dir():
        return None
    layouts: tuple[Callable[[Path], Found | None], ...]
    layouts = (_voc, _folders, _beside_splits, _cityscapes, _stacks, _ctc, _beside)
    return next((found for layout in layouts if (found := layout(folder)) is not None), None)


def _voc(folder: Path) -> Found | None:
    if not (folder / "SegmentationClass").is_dir() or not (folder / "JPEGImages").is_dir():
        return None
    images, masks = images_by_stem(folder / "JPEGImages"), images_by_stem(folder / "SegmentationClass")
    lists = sorted((folder / "ImageSets" / "Segmentation").glob("*.txt"))
    if not lists:  # most images of VOC have boxes only
        return Found("voc", {"": [(images.get(stem), path) for stem, path in masks.items()]})
    found = Found("voc", {})
    for file in lists:
        pairs = found.splits.setdefault(file.stem, [])
        for number, stem in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").split(), start=1):
            if stem in images or stem in masks:
                pairs.append((images.get(stem), masks.get(stem)))
                continue
            shown, outside = relative(file, folder), inside(folder / "JPEGImages", f"{stem}.jpg") is None
            kind = "path outside" if outside else "missing image"
            detail = f"entry {number}: {stem!r} " + ("leads out of the folder" if outside else "has no image")
            found.faults.append(Fault(shown, kind, detail, "image left out"))
    return found


def _folders(folder: Path) -> Found | None:
    if (both := _images_and_masks(folder)) is not None:
        images, masks = both
        inner = [path.name for path in folders_in(images) if (masks / path.name).is_dir()]
        if inner and not images_by_stem(images):
            splits = {name: _pairs(images / name, masks / name) for name in inner}
        else:
            splits = {"": _pairs(images, masks)}
        return Found("folders", splits, instances=masks.name == "instances")
    splits, instances = {}, False
    for path in folders_in(folder):
        if (both := _images_and_masks(path)) is not None:
            images, masks = both
            splits[path.name] = _pairs(images, masks)
            instances = masks.name == "instances"
    return Found("folders", splits, instances) if splits else None


def _beside_splits(folder: Path) -> Found | None:
    """train/ and trainannot/ as SegNet's CamVid has them, train_labels/ or train_masks/ as others."""
    for ending in BESIDE_SPLITS:
        names = [path.name for path in folders_in(folder) if (folder / f"{path.name}{ending}").is_dir()]
        splits = {name: _pairs(folder / name, folder / f"{name}{ending}") for name in names}
        if splits:
            return Found("camvid" if ending == "annot" else "folders", splits)
    return None


def _cityscapes(folder: Path) -> Found | None:
    """leftImg8bit/train/aachen/aachen_0_1_leftImg8bit.png and gtFine/train/aachen/aachen_0_1_gtFine_labelIds.png."""
    splits = {}
    for path in folders_in(folder / "gtFine") if (folder / "gtFine").is_dir() else []:
        masks = {file.name.removesuffix(CITYSCAPES_MASK): file for file in sorted(path.glob(f"*/*{CITYSCAPES_MASK}"))}
        images = {
            file.name.removesuffix(CITYSCAPES_IMAGE): file
            for file in sorted((folder / "leftImg8bit" / path.name).glob(f"*/*{CITYSCAPES_IMAGE}"))
        }
        if masks:
            splits[path.name] = [(images.get(stem), masks.get(stem)) for stem in sorted(images.keys() | masks.keys())]
    return Found("cityscapes", splits) if splits else None


def _stacks(folder: Path) -> Found | None:
    volume, labels = STACK
    names = {path.name[: -len(end)] for end in STACK for path in folder.glob(f"*{end}")}

    def there(path: Path) -> Path | None:
        return path if path.is_file() else None

    splits = {name: [(there(folder / (name + volume)), there(folder / (name + labels)))] for name in sorted(names)}
    # A test volume is published without its labels: that is no fault.
    splits = {name: pairs for name, pairs in splits.items() if pairs[0][1] is not None}
    return Found("stacks", splits) if splits else None


def _ctc(folder: Path) -> Found | None:
    splits = {}
    for path in folders_in(folder):
        truth = folder / f"{path.name}_GT" / "SEG"
        if truth.is_dir():
            splits[path.name] = list(_ctc_pairs(path, truth))
    return Found("ctc", splits, instances=True) if splits else None


def _ctc_pairs(images: Path, truth: Path) -> Iterator[Pair]:
    """Every mask with its image; most frames have no mask, as only some are annotated."""
    frames = {match.group(1): path for path in images.iterdir() if (match := CTC_IMAGE.fullmatch(path.name))}
    for mask in sorted(truth.glob(f"{CTC_MASK}*.tif")):
        yield frames.get(mask.stem.removeprefix(CTC_MASK)), mask


def _beside(folder: Path) -> Found | None:
    """Images with their masks beside them, as Roboflow writes them."""
    splits = {}
    for path in [folder, *folders_in(folder)]:
        files = images_by_stem(path)
        bases = files.keys() | {base for stem in files if (base := without_ending(stem, IMAGE_ENDINGS))}
        masks = {stem: file for stem, file in files.items() if without_ending(stem) in bases}
        if masks:
            images = {stem: file for stem, file in files.items() if stem not in masks}
            splits["" if path == folder else path.name] = _matched(images, masks)
    return Found("beside", splits) if splits else None


def _pairs(images: Path, masks: Path) -> list[Pair]:
    return _matched(images_by_stem(images), images_by_stem(masks))


def _matched(images: dict[str, Path], masks: dict[str, Path]) -> list[Pair]:
    """Pairs by the stem of the image, which is that of the mask, with or without its ending, or both without theirs."""
    images, own = dict(images), dict(masks)
    for stem in list(images):
        shorter = without_ending(stem, IMAGE_ENDINGS)
        named = stem in masks or any(f"{stem}{ending}" in masks for ending in ENDINGS)
        if shorter is not None and not named and shorter not in images:
            images[shorter] = images.pop(stem)
    for stem in masks:
        shorter = without_ending(stem)
        if stem not in images and shorter in images and shorter not in own:
            own[shorter] = own.pop(stem)
    return [(images.get(stem), own.get(stem)) for stem in sorted(images.keys() | own.keys(), key=_natural)]


def without_ending(stem: str, endings: Sequence[str] = ENDINGS) -> str | None:
    """The name without one of these endings, the masks' own; None where it has none."""
    return next((stem.removesuffix(ending) for ending in endings if stem.endswith(ending)), None)


def _natural(stem: str) -> tuple:
    """2 before 10, as slices of a stack are numbered."""
    return (0, int(stem), "") if stem.isdecimal() else (1, 0, stem)


def _images_and_masks(folder: Path) -> tuple[Path, Path] | None:
    """The folder of images and that of masks; None where there are none, but text as YOLO and COCO have it there."""
    images, masks = _child(folder, IMAGES), _child(folder, MASKS)
    if images is None or masks is None:
        return None
    files = [path for place in (masks, *folders_in(masks)) for path in place.iterdir() if path.is_file()]
    text = any(path.suffix in (".json", ".txt", ".xml", ".csv") for path in files)
    return None if text and not any(map(is_image, files)) else (images, masks)


def _child(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder of one of these names, Images for images, too."""
    there = {path.name.lower(): path for path in reversed(folders_in(folder))}
    return next((there[name.lower()] for name in names if name.lower() in there), None)
