"""Segmentation data sets of TensorFlow Datasets, and kzoo's own named ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kzoo.data import named
from kzoo.data.annotations import MaskAnnotations
from kzoo.data.readers import mask_classes, masks, tfds
from kzoo.data.readers.layout import resolve_split
from kzoo.data.readers.progress import track

KEYS = ("segmentation_mask", "segmentation_label", "mask", "annotation", "label")


def read(
    name: str,
    split: str | None,
    class_names: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    values: Sequence[int] | None = None,
    void: int | Sequence[int] | None = None,
    instances: bool | None = None,
) -> MaskAnnotations:
    """Reads a named data set or one of TFDS; images and masks stay encoded, in memory. See `masks.read`."""
    builder = named.prepare(name, data_dir) if named.knows(name) else tfds.prepare(name, data_dir, wanted=mask_feature)
    library = named.import_tfds()
    features = builder.info.features
    key = mask_feature(name, features)
    available = list(builder.info.splits)
    wanted = available if split is None else [resolve_split(split, available, name)]
    own = list(getattr(features[key], "names", None) or ()) or None
    encoded = {k: library.decode.SkipDecoding() for k, f in features.items() if isinstance(f, library.features.Image)}

    def items(parts: Sequence[str]) -> list[masks.MaskItem]:
        found = []
        for part in parts:
            dataset = builder.as_dataset(split=part, decoders=encoded, shuffle_files=False)
            count = builder.info.splits[part].num_examples
            for index, example in enumerate(track(library.as_numpy(dataset), f"reading {name}", count)):
                shown = _shown(example, part, index)
                found.append(
                    masks.MaskItem(
                        None, None, shown, shown, shown, 0, _image(example), example[key], (part,) if part else ()
                    )
                )
        return found

    listed = items(wanted)
    # Numbers without names: those of the whole data set, whatever the split.
    others = items([part for part in available if part not in wanted]) if own is None and values is None else []
    occurring = masks.occurring([*listed, *others]) if own is None and values is None else {}
    classes = mask_classes.choose(occurring, own, class_names, values, void, bool(instances), name)
    return masks.assemble(listed, classes, None if split is None else wanted[0], source=name)


def mask_feature(name: str, features: Mapping) -> str:
    """The name of the feature with a number for each pixel.

    Raises:
        ValueError: if the data set is not one for segmentation.
    """
    library = named.import_tfds()
    images = {key: f for key, f in features.items() if isinstance(f, library.features.Image)}
    if _IMAGES & set(images):
        for key in (*KEYS, *images):
            if key in images and key not in _IMAGES and images[key].shape[-1] == 1:
                return key
    raise ValueError(f"{name} is no segmentation data set: it has {', '.join(features)}, but no image with a mask.")


_IMAGES = {"image", "image_left"}


def _image(example: dict) -> bytes:
    return next(example[key] for key in sorted(_IMAGES) if key in example)


def _shown(example: dict, split: str, index: int) -> str:
    filename = example.get("image/filename", example.get("file_name", example.get("image/id", index)))
    return f"{split}/{filename.decode(errors='replace') if isinstance(filename, bytes) else filename}"
