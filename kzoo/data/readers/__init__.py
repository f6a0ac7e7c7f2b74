"""Readers: a folder in VOC, COCO or YOLO layout, a TFDS name or one of data/'s names -> `Annotations`."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kzoo.data import named
from kzoo.data.annotations import Annotations
from kzoo.data.readers import coco, masks, voc, yolo

TFDS_NAME = re.compile(r"[a-z][a-z0-9_]*(/[\w.-]+)?(:[\d.*]+)?")
LAYOUTS = (
    "VOC (JPEGImages/ and Annotations/), COCO (annotations/*.json or <split>/_annotations.coco.json) "
    "or YOLO (images/ and labels/, with data.yaml or classes.txt)"
)


def read(
    source: str | Path,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
) -> Annotations:
    """Reads a detection data set, recognised by its layout, and lists every fault in it.

    Only headers of images are read, not their pixels; `kzoo.data.check` reads those, too. Labels are those of the whole
    data set, whatever the split.

    Args:
        source: a folder in VOC, COCO or YOLO layout (or its data.yaml, or a COCO file), one of kzoo's own names
            ("digits", "bccd"), or a TFDS name such as "voc/2007". A named data set that is not there yet is built, and
            downloaded where it has to be; where to is said in one line.
        split: as the data set names it; "val", "valid" and "validation" mean the same, and "train" finds "train2017".
            None for all of it.
        class_names: which classes, in which order; boxes of others are left out as faults. None for the data set's own:
            a VOC folder's names sorted, as VOC's twenty are; COCO's and YOLO's by their ids.
        data_dir: where named data sets are kept; None: $KZOO_DATA_DIR, else ~/.cache/kzoo/data.

    Raises:
        ValueError: for a source in no known layout, a split that is not there (naming those there are), an unknown name
            (naming the nearest).

    Example:
        >>> annotations = read("path/to/VOC2007", "trainval")
        >>> annotations.samples[0].boxes.shape
        (3, 4)
    """
    names = None if class_names is None else [str(name) for name in class_names]
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"class_names has a name twice: {', '.join(names)}.")
    folder = Path(os.path.abspath(Path(source).expanduser()))
    if folder.exists():
        if (root := voc.find_root(folder) if folder.is_dir() else None) is not None:
            return voc.read(root, split, names)
        if coco.find(folder):
            return coco.read(folder, split, names)
        if (root := yolo.find_root(folder)) is not None:
            return yolo.read(root, split, names)
        # A folder that happens to be called like a named data set does not hide it.
        if str(source) not in named.names():
            raise ValueError(f"{source}: no known layout. Expected {LAYOUTS}; found {_contents(folder)}.")
    from kzoo.data.readers import tfds

    if str(source) in named.names() or TFDS_NAME.fullmatch(str(source)):
        return tfds.read(str(source), split, names, data_dir)
    near = difflib.get_close_matches(str(source), named.names(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{str(source)!r} is neither a folder nor a data set's name.{hint} Names: {', '.join(named.names())}, "
        f"or one of TensorFlow Datasets, such as voc/2007."
    )


def holds_masks(source: str | Path) -> bool:
    """Is it a folder of images and masks in which no reader of boxes finds a layout of its own?"""
    folder = Path(os.path.abspath(Path(source).expanduser()))
    if not folder.is_dir() or voc.find_root(folder) is not None or coco.find(folder):
        return False
    # A folder masks/ says so, whatever stands beside it; YOLO calls its text files labels/.
    named = any((folder / name).is_dir() for name in ("masks", "mask"))
    return (named or yolo.find_root(folder) is None) and bool(masks.find(folder))


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
