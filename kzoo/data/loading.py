"""`load`: from a name or a folder to batches, of boxes or of masks."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from kzoo.data.annotations import Annotations, MaskAnnotations
from kzoo.data.mask_pipeline import from_masks
from kzoo.data.pipeline import from_boxes
from kzoo.data.readers import MASK_OPTIONS, read


def load(
    source: str | Path,
    split: str | None = "train",
    image_size: int | tuple[int, int] | None = (300, 300),
    batch_size: int = 8,
    augment: bool | str | Sequence[str] = False,
    *,
    class_names: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    limit: int | None = None,
    task: str | None = None,
    **options,
) -> tf.data.Dataset:
    """Loads a split of a data set as batches for `fit`, `evaluate` and the metrics.

    Args:
        source: a TFDS name, one of kzoo's own names, or a folder in VOC, COCO, YOLO, CVAT or LabelMe layout, or of
            images and masks, recognised by what is in it.
        split: "train", "validation", "test", as the data set has them; None for the whole.
        image_size: (height, width) of the network's image, or one number for both.
        batch_size: images a batch.
        augment: False; True for the SSD paper's augmentation of boxes, or "light" of masks; a preset's name, an
            augmentation's, or a list of them (see `kzoo.data.augment` and `kzoo.data.augment.masks`).
        class_names: which classes, in which order; None for all of the data set.
        data_dir: where named data sets are kept; None: $KZOO_DATA_DIR, else ~/.cache/kzoo/data.
        limit: use the first images only.
        task: "detection" for boxes, "segmentation" for masks, where a data set has both, as VOC; None: boxes where
            there are any.
        **options: `shuffle`, `seed`, `resize`, `max_boxes`, `cache`, `start_epoch`, `proposals`, `max_proposals`; see
            `pipeline.from_boxes`. Of masks `shuffle`, `seed`, `cache`, `start_epoch`, `fit`, `context`, `weights` (see
            `mask_pipeline.from_masks`) and `values`, `void`, `instances` (see `readers.masks.read`).

    Returns:
        A `tf.data.Dataset` of `(images, targets)`: images (B, H, W, 3) float32 RGB 0..255. Targets of boxes: "boxes"
        (B, N, 4) float32 xyxy in pixels of these images, padded with 0, "labels" (B, N) int32, -1 where padded; for
        evaluation more (see `pipeline.from_boxes`). Targets of masks: "masks" (B, H, W) int32, 255 where void. It
        carries `class_names`, `num_classes`, `image_size`, `batch_size`, `annotations` and `steps_per_epoch`.

    Raises:
        ValueError: for a source, split or name that is not known, naming the nearest known one.

    Example:
        >>> train = kzoo.data.load("bccd", "train", image_size=(300, 300), augment=True)
        >>> images, targets = next(iter(train))
        >>> train = kzoo.data.load("camvid", "train", image_size=(180, 240), augment="street")
        >>> next(iter(train))[1]["masks"].shape
        TensorShape([8, 180, 240])
    """
    reading = {key: options.pop(key) for key in MASK_OPTIONS if key in options}
    annotations = read(source, split, class_names, data_dir, task, **reading)
    return from_annotations(annotations, image_size, batch_size, augment, limit=limit, **options)


def from_annotations(
    annotations: Annotations | MaskAnnotations,
    image_size: int | tuple[int, int] | None = (300, 300),
    batch_size: int = 8,
    augment: bool | str | Sequence[str] = False,
    **options,
) -> tf.data.Dataset:
    """Makes batches of what a reader returned: `pipeline.from_boxes` or `mask_pipeline.from_masks`, by what it is."""
    make = from_masks if isinstance(annotations, MaskAnnotations) else from_boxes
    return make(annotations, image_size, batch_size, augment, **options)
