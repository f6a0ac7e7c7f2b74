"""Detection data sets of TensorFlow Datasets, and kzoo's own named ones."""

from pathlib import Path

import numpy as np

from kzoo.data import named
from kzoo.data.annotations import Annotations
from kzoo.data.readers.layout import resolve_split
from kzoo.data.readers.progress import track
from kzoo.data.readers.raw import RawImage, assemble


def read(
    name: str, split: str | None, class_names: list[str] | None = None, data_dir: str | Path | None = None
) -> Annotations:
    """Reads a named data set or one of TFDS; the images stay encoded, in memory. See `kzoo.data.readers.read`."""
    builder = named.prepare(name, data_dir) if name in named.names() else prepare(name, data_dir)
    tfds = named.import_tfds()
    objects = objects_feature(name, builder.info.features)
    own_names = list(objects["label"].names)
    names = list(class_names or own_names)
    ids = np.array([names.index(n) if n in names else -1 for n in own_names], np.int64)
    available = list(builder.info.splits)
    wanted = available if split is None else [resolve_split(split, available, name)]
    faults, raws = [], []
    for part in wanted:
        decoders = {key: tfds.decode.SkipDecoding() for key, f in builder.info.features.items() if _is_image(tfds, f)}
        dataset = builder.as_dataset(split=part, decoders=decoders, shuffle_files=False)
        examples = tfds.as_numpy(dataset)
        for index, example in enumerate(track(examples, f"reading {name}", builder.info.splits[part].num_examples)):
            raws.append(_raw(example, part, index, ids, own_names))
    result = assemble(raws, names, None if split is None else wanted[0], faults)
    return result


def prepare(name: str, data_dir: str | Path | None = None):
    """Finds a TFDS data set where it has been prepared before (also in TFDS' own folder), else downloads it, saying so.

    Raises:
        ValueError: if TFDS has no such data set, or it cannot be had.
    """
    tfds = named.import_tfds()
    target = named.data_dir(data_dir)
    try:
        builder = tfds.builder(name, data_dir=target)
        elsewhere = builder if data_dir or builder.is_prepared() else tfds.builder(name)
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise ValueError(str(error).splitlines()[0]) from error
    if elsewhere.is_prepared():
        return elsewhere
    import sys

    print(f"kzoo: downloading {name} ({builder.info.download_size}) to {target}", file=sys.stderr)
    named.download_and_prepare(builder)
    return builder


def objects_feature(name: str, features) -> dict:
    """The features of one object: those of the sequence that has "bbox" and "label".

    Raises:
        ValueError: if the data set is not one for detection.
    """
    if "objects" in features and "image" in features:
        objects = getattr(features["objects"], "feature", {})
        if "bbox" in objects and "label" in objects:
            return objects
    raise ValueError(
        f"{name} is no detection data set: it has {', '.join(features)}, but no objects with bbox and label."
    )


def _raw(example: dict, split: str, index: int, ids: np.ndarray, own_names: list[str]) -> RawImage:
    objects = example["objects"]
    labels = np.asarray(objects["label"], np.int64)
    known = np.where((labels >= 0) & (labels < len(ids)), labels, 0)
    filename = example.get("image/filename", example.get("image/id"))
    shown = (
        filename.decode(errors="replace")
        if isinstance(filename, bytes)
        else str(index if filename is None else filename)
    )
    return RawImage(
        image=None,
        name=f"{split}/{shown}",
        file=f"{split}/{shown}",
        boxes=np.asarray(objects["bbox"], np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]],  # TFDS: ymin, xmin, ymax, xmax
        labels=np.where(labels == known, ids[known], -1) if len(labels) else labels,
        texts=[own_names[label] if 0 <= label < len(own_names) else str(label) for label in labels],
        where=[f"object {i + 1}" for i in range(len(labels))],
        difficult=objects.get("is_difficult"),
        crowd=objects.get("is_crowd"),
        relative=True,
        pixels=example["image"],
        splits=(split,),
    )


def _is_image(tfds, feature) -> bool:
    return isinstance(feature, tfds.features.Image)
