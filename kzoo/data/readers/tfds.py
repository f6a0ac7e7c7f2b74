"""Detection data sets of TensorFlow Datasets, and kzoo's own named ones."""

import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kzoo.data import named
from kzoo.data.annotations import Annotations, Fault
from kzoo.data.readers.headers import read_header
from kzoo.data.readers.layout import resolve_split
from kzoo.data.readers.progress import track
from kzoo.data.readers.raw import RawImage, assemble
from kzoo.messages import unknown_name

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def read(
    name: str, split: str | None, class_names: list[str] | None = None, data_dir: str | Path | None = None
) -> Annotations:
    """Reads a named data set or one of TFDS; the images stay encoded, in memory. See `kzoo.data.readers.read`."""
    builder = named.prepare(name, data_dir) if named.knows(name) else prepare(name, data_dir)
    tfds = named.import_tfds()
    features = builder.info.features
    own_names = list(objects_feature(name, features)["label"].names)
    names = list(class_names or own_names)
    ids = np.array([names.index(text) if text in names else -1 for text in own_names], np.int64)
    available = list(builder.info.splits)
    wanted = available if split is None else [resolve_split(split, available, name)]
    encoded = {key: tfds.decode.SkipDecoding() for key, f in features.items() if isinstance(f, tfds.features.Image)}
    raws = []
    for part in wanted:
        dataset = builder.as_dataset(split=part, decoders=encoded, shuffle_files=False)
        count = builder.info.splits[part].num_examples
        for index, example in enumerate(track(tfds.as_numpy(dataset), f"reading {name}", count)):
            raw = _raw(example, part, index, ids, own_names)
            raws.append(_from_one(raw) if builder.name == "voc" else raw)
    return assemble(raws, names, None if split is None else wanted[0])


def prepare(
    name: str, data_dir: str | Path | None = None, wanted: Callable | None = None
) -> "tfds.core.DatasetBuilder":
    """Finds a TFDS data set where it was prepared before (also in TFDS' own folder), else downloads it, saying so.

    Args:
        wanted: `(name, features)` raises for a data set without what is asked of it, before gigabytes are fetched;
            None: boxes.

    Raises:
        ValueError: if TFDS has no such data set, or it cannot be had.
    """
    tfds = named.import_tfds()
    target = named.root(data_dir)
    try:
        builder = tfds.builder(name, data_dir=target)
    except tfds.core.registered.DatasetNotFoundError:
        near = difflib.get_close_matches(name, [*named.names(), *tfds.list_builders()], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{name!r} is neither a folder nor a data set's name.{hint} Names: {', '.join(named.names())}, "
            f"or one of TensorFlow Datasets, such as voc/2007."
        ) from None
    except (ValueError, AssertionError) as error:
        family, _, config = name.partition(":")[0].partition("/")
        configs = list(tfds.builder_cls(family).builder_configs)
        if config and config not in configs:
            raise ValueError(unknown_name(f"variant of {family}", config, configs)) from error
        raise ValueError(f"{name!r}: {str(error).splitlines()[0]}") from error
    usual = builder if data_dir or builder.is_prepared() else tfds.builder(name)
    if usual.is_prepared():
        return usual
    (wanted or objects_feature)(name, builder.info.features)
    print(f"kzoo: downloading {name} ({builder.info.download_size}) to {target}", file=sys.stderr)
    named.download_and_prepare(builder)
    return builder


def objects_feature(name: str, features: Mapping) -> dict:
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
    objects, number = example["objects"], example.get("image/id")
    labels = np.asarray(objects["label"], np.int64)
    known = (labels >= 0) & (labels < len(own_names))
    filename = example.get("image/filename", number if number is not None else index)
    shown = f"{split}/{filename.decode(errors='replace') if isinstance(filename, bytes) else filename}"
    left_out = example.get("left_out", {"kind": (), "detail": ()})  # what the builder itself had to refuse
    return RawImage(
        image=None,
        name=shown,
        file=shown,
        boxes=np.asarray(objects["bbox"], np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]],  # TFDS: ymin, xmin, ymax, xmax
        labels=np.where(known, ids[np.where(known, labels, 0)], -1),
        texts=[own_names[label] if ok else f"class {label}" for label, ok in zip(labels, known, strict=True)],
        where=[f"object {i + 1}" for i in range(len(labels))],
        difficult=objects.get("is_difficult"),
        crowd=objects.get("is_crowd"),
        area=objects.get("area"),
        relative=True,
        pixels=example["image"],
        splits=(split,),
        image_id=int(number) if isinstance(number, np.integer) else None,
        faults=[
            Fault(shown, kind.decode(), detail.decode(), "box left out")
            for kind, detail in zip(left_out["kind"], left_out["detail"], strict=True)
        ],
    )


def _from_one(raw: RawImage) -> RawImage:
    """TFDS hands VOC's boxes on as annotated, 1-based and inclusive: take 1 from the minima, as for a VOC folder."""
    height, width = read_header(raw.pixels).stored_size
    raw.boxes = raw.boxes * np.array([width, height, width, height], np.float64)
    raw.boxes[:, :2] -= 1
    raw.relative = False
    return raw
