"""Readers: a folder in VOC, COCO or YOLO layout, a TFDS name or one of data/'s names -> `Annotations`."""

from pathlib import Path

from kzoo.data import named
from kzoo.data.annotations import Annotations
from kzoo.data.readers import voc


def read(
    source: str | Path,
    split: str | None = None,
    class_names: list[str] | None = None,
    data_dir: str | Path | None = None,
) -> Annotations:
    """Reads a detection data set, recognised by its layout."""
    folder = Path(source)
    root = voc.find_root(folder)
    if root is not None:
        return voc.read(root, split, class_names)
    if str(source) in named.names() or not folder.exists():
        from kzoo.data.readers import tfds

        return tfds.read(str(source), split, class_names, data_dir)
    raise ValueError(f"{folder}: no known layout.")
