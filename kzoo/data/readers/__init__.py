"""Readers: a folder in a known layout, a TFDS name or one of data/'s names -> `Annotations` or `MaskAnnotations`."""

import difflib
import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from kzoo.data import named
from kzoo.data.annotations import Annotations, MaskAnnotations
from kzoo.data.readers import (
    coco,
    coco_masks,
    cvat,
    labelme,
    mask_layouts,
    masks,
    object_masks,
    outlined,
    tables,
    vessel_masks,
    voc,
    yolo,
    yolo_masks,
)
from kzoo.data.readers.layout import NoSplitsError as NoSplitsError
from kzoo.data.readers.layout import SplitError as SplitError
from kzoo.data.readers.layout import named_as_split as named_as_split
from kzoo.messages import require_unique, some_of, unknown_name

TFDS_NAME = re.compile(r"[a-z][a-z0-9_]*(/[\w.-]+)?(:[\d.*]+)?")
MASK_OPTIONS = ("values", "void", "instances")  # of reading masks
# Readers of layouts in which one mask comes from several black and white files.
BINARY_MASKS = (object_masks, vessel_masks)
OUTLINES = (cvat, labelme)  # tools whose files give objects by their outlines
TASKS = ("detection", "segmentation")
LAYOUTS = (
    "VOC (JPEGImages/ and Annotations/, or images and their XML files side by side), COCO (annotations/*.json or "
    "<split>/_annotations.coco.json), YOLO (images/ and labels/, with data.yaml or classes.txt), CVAT (annotations.xml "
    "and images/), LabelMe (a JSON file an image) or a CSV file with a line a box (filename, class, xmin, ymin, xmax, "
    "ymax)"
)


def read(
    source: str | Path,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    task: str | None = None,
    **mask_options,
) -> Annotations | MaskAnnotations:
    """Reads a data set, recognised by its layout, and lists every fault in it.

    Of images only the headers are read, not their pixels; `kzoo.data.check` reads those, too. Labels are those of the
    whole data set, whatever the split.

    Args:
        source: a folder in VOC, COCO, YOLO, CVAT or LabelMe layout or with CSV files (or its data.yaml, a COCO or CSV
            file), or of images and masks, one of kzoo's own names ("digits", "camvid"), or a TFDS name such as
            "voc/2007". A named data set that is not there yet is built, and downloaded where it has to be; where to is
            said.
        split: as the data set names it; "val", "valid" and "validation" mean the same, and "train" finds "train2017"
            and "training". None for all of it.
        class_names: which classes, in which order; boxes of others are left out as faults, pixels of others are void.
            None for the data set's own: a VOC folder's names sorted, as VOC's twenty are; COCO's and YOLO's by their
            ids; for masks see `masks.read`.
        data_dir: where named data sets are kept; None: $KZOO_DATA_DIR, else ~/.cache/kzoo/data.
        task: "detection" for boxes, "segmentation" for masks; None: boxes where there are any.
        **mask_options: `values`, `void`, `instances`; see `masks.read`.

    Raises:
        NoSplitsError: a ValueError, for a split of a data set without splits.
        SplitError: a ValueError, for a split that is not there, naming those there are.
        ValueError: for a source in no known layout, an unknown name (naming the nearest), a class name twice, or boxes
            none of which has one of the `class_names`.

    Example:
        >>> annotations = read("path/to/VOC2007", "trainval")
        >>> annotations.samples[0].boxes.shape
        (3, 4)
    """
    if (instances := mask_options.get("instances")) not in (None, True, False):
        raise ValueError(f"instances must be true or false. Received: {instances!r}.")
    if task not in (None, *TASKS):
        raise ValueError(unknown_name("task", task, TASKS))
    folder = Path(os.path.abspath(Path(source).expanduser()))
    if task is None:
        task = "segmentation" if has_only_masks(source) else "detection"
    if task == "segmentation":
        if folder.exists() and (mask_layouts.find(_mask_root(folder)) or str(source) not in named.names()):
            return _read_masks(folder, split, class_names, mask_options)
    elif mask_options:
        raise ValueError(f"{', '.join(mask_options)}: only for masks. Pass task='segmentation' to read those.")
    elif has_only_masks(source):
        raise ValueError(f"{source}: holds masks, no boxes. Train a segmenter on it, or pass task='segmentation'.")
    names = None if class_names is None else [str(name) for name in class_names]
    if names is not None:
        require_unique(names, "class_names")
    if folder.exists() and task == "detection":
        annotations = _read_boxes(folder, split, names)
        if annotations is not None:
            return annotations
        # A folder that happens to be called like a named data set does not hide it.
        if str(source) not in named.names():
            raise ValueError(f"{source}: no known layout. Expected {LAYOUTS}; found {_contents(folder)}.")
    from kzoo.data.readers import tfds, tfds_masks

    if named.knows(str(source)) or TFDS_NAME.fullmatch(str(source)):
        if task == "segmentation":
            return tfds_masks.read(str(source), split, names, data_dir, **mask_options)
        return tfds.read(str(source), split, names, data_dir)
    near = difflib.get_close_matches(str(source), named.names(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{str(source)!r} is neither a folder nor a data set's name.{hint} Names: {', '.join(named.names())}, "
        f"or one of TensorFlow Datasets, such as voc/2007."
    )


def _read_boxes(folder: Path, split: str | None, names: list[str] | None) -> Annotations | None:
    """Boxes of a folder or file in a layout that holds them, None for others."""
    if (root := voc.find_root(folder) if folder.is_dir() else None) is not None:
        annotations = voc.read(root, split, names)
    elif (tool := _tool(folder)) is not None:
        annotations = outlined.read_boxes(tool.open_folder(folder, split), folder, names)
    elif coco.find(folder):
        annotations = coco.read(folder, split, names)
    elif (root := yolo.find_root(folder)) is not None:
        annotations = yolo.read(root, split, names)
    elif tables.find(folder):
        annotations = tables.read(folder, split, names)
    else:
        return None
    other = next((fault for fault in annotations.faults if fault.kind == "unknown class"), None)
    if names is not None and other is not None and not any(len(sample.labels) for sample in annotations.samples):
        raise ValueError(
            f"{folder}: no box has one of the classes {some_of(names, 10)}. The first that is there: {other.detail}."
        )
    return annotations


def _read_masks(folder: Path, split: str | None, class_names: Sequence[str] | None, options: dict) -> MaskAnnotations:
    """Masks in files, else drawn from several files or from the polygons of COCO, YOLO, CVAT or LabelMe."""
    root = _mask_root(folder)
    drawn = next((functools.partial(one.read, folder) for one in BINARY_MASKS if one.find(folder)), None)
    if drawn is None and mask_layouts.find(root) is None:
        if (tool := _tool(folder)) is not None:
            drawn = _drawn(tool, folder)
        elif coco.find(folder):
            drawn = functools.partial(coco_masks.read, folder)
        elif (yolo_root := yolo.find_root(folder)) is not None:
            drawn = functools.partial(yolo_masks.read, yolo_root)
    if drawn is None:
        return masks.read(root, split, class_names, **options)
    if given := {"values", "void"} & options.keys():
        raise ValueError(f"{', '.join(sorted(given))}: only for masks in files, where a number is a class.")
    return drawn(split, class_names, **options)


def _tool(folder: Path) -> ModuleType | None:
    return next((tool for tool in OUTLINES if tool.find(folder)), None)


def _drawn(tool: ModuleType, folder: Path) -> Callable[..., MaskAnnotations]:
    """(split, class_names, **options) -> masks, drawn from the outlines in this tool's files."""
    return lambda split, *arguments, **options: outlined.read_masks(
        tool.open_folder(folder, split), folder, *arguments, **options
    )


def has_only_masks(source: str | Path) -> bool:
    """Does it hold masks, and no boxes? One of TensorFlow Datasets is asked when it is read."""
    folder = Path(os.path.abspath(Path(source).expanduser()))
    if folder.is_dir():
        if voc.find_root(folder) is not None or coco.find(folder):
            return False
        # A folder masks/ says so, whatever stands beside it; YOLO calls its text files labels/.
        says_masks = any(
            path.is_dir() for pattern in ("mask", "masks", "*/mask", "*/masks") for path in folder.glob(pattern)
        )
        with_boxes = not says_masks and yolo.find_root(folder) is not None
        if with_boxes or any(one.find(folder) for one in (*BINARY_MASKS, mask_layouts)):
            return not with_boxes
    if folder.exists() and str(source) not in named.names():
        return False
    return named.knows(str(source)) and not named.has_boxes(str(source))


def _mask_root(folder: Path) -> Path:
    """The folder itself, or the one year below a VOCdevkit."""
    years = [p.parent for top in (folder, folder / "VOCdevkit") for p in sorted(top.glob("VOC*/SegmentationClass"))]
    return years[0] if len(years) == 1 and mask_layouts.find(folder) is None else folder


def _contents(folder: Path, most: int = 6) -> str:
    """What lies in a folder, in a few words: "a/, b/, 12 .jpg files"."""
    if folder.is_file():
        return "a single file"
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [f"{entry.name}/" for entry in entries if entry.is_dir()]
    kinds = Counter(entry.suffix or "unnamed" for entry in entries if not entry.is_dir())
    files = [f"{count} {kind} {'file' if count == 1 else 'files'}" for kind, count in kinds.most_common()]
    words = folders[:most] + (["..."] if len(folders) > most else []) + files[:most]
    return ", ".join(words) or "nothing"
