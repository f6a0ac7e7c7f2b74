"""From annotations to batches: read, shuffle, augment, resize, pad, batch; the same again for a seed and an epoch."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from kzoo.data import augment as augmentation
from kzoo.data.annotations import Annotations
from kzoo.data.augment import windows
from kzoo.data.store import SampleStore, trainable
from kzoo.messages import unknown_name

CACHE_BYTES = 2 * 1024**3
TASKS = ("detection", "segmentation")


def load(
    source: str | Path,
    split: str | None = "train",
    image_size: int | tuple[int, int] = (300, 300),
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
        source: a TFDS name, one of kzoo's own names, or a folder in VOC, COCO or YOLO layout, or of images and masks,
            recognised by what is in it.
        split: "train", "validation", "test", as the data set has them; None for the whole.
        image_size: (height, width) of the network's image, or one number for both.
        batch_size: images a batch.
        augment: False; True for the SSD paper's augmentation; a preset ("none", "light", "no_up", "ssd"), the name of
            an augmentation, or a list of them (see `kzoo.data.augment`).
        class_names: which classes, in which order; None for all of the data set.
        data_dir: where TFDS keeps its files; None for its default.
        limit: use the first images only.
        task: "detection", or "segmentation" for the masks of a folder that has boxes as well, as VOC; None: boxes where
            there are any.
        **options: `shuffle`, `seed`, `resize`, `max_boxes`, `cache`, `start_epoch`; see `from_annotations`. For masks
            `shuffle`, `seed`, `start_epoch`, `fit`, `weights`, `values`; see `kzoo.data.mask_pipeline`, also for
            `augment`.

    Returns:
        See `from_annotations`; of masks `kzoo.data.mask_pipeline.from_masks`.

    Raises:
        ValueError: for a source, split or name that is not known, naming the nearest known one.

    Example:
        >>> train = kzoo.data.load("bccd", "train", image_size=(300, 300), augment=True)
        >>> images, targets = next(iter(train))
    """
    from kzoo.data.readers import holds_masks, read

    if task not in (None, *TASKS):
        raise ValueError(unknown_name("task", task, TASKS))
    if task == "segmentation" or (task is None and holds_masks(source)):
        from kzoo.data.mask_pipeline import load_masks

        return load_masks(
            source, split, image_size, batch_size, augment, class_names=class_names, limit=limit, **options
        )
    annotations = read(source, split=split, class_names=class_names, data_dir=data_dir)
    return from_annotations(annotations, image_size, batch_size, augment, limit=limit, **options)


def from_annotations(
    annotations: Annotations,
    image_size: int | tuple[int, int] = (300, 300),
    batch_size: int = 8,
    augment: bool | str | Sequence[str] = False,
    *,
    shuffle: bool | None = None,
    seed: int = 0,
    resize: str = "stretch",
    max_boxes: int | None = None,
    cache: bool | int = True,
    start_epoch: int | None = None,
    limit: int | None = None,
) -> tf.data.Dataset:
    """Makes batches of annotated images.

    For evaluation (`augment` and `shuffle` false, no `start_epoch`) the images come in order, once, the last batch may
    be smaller, and the targets hold everything that the metrics ask for. Otherwise the batches are for training: all
    of `batch_size` images, the last one of an epoch filled up with the first images of that epoch, so that none is
    left out; difficult objects are trained on, as in SSD's code; crowds and boxes without area are left out.

    The order and the augmentation of epoch e depend on `seed` and e alone.

    Args:
        annotations: what a reader returned.
        image_size, batch_size, augment: see `load`.
        shuffle: a new order in every epoch; None: where there is an `augment` or a `start_epoch`.
        seed: of order and augmentation.
        resize: "stretch", or "letterbox", which keeps the aspect ratio and fills the bars.
        max_boxes: N of the padded targets; None: the most boxes of any image, at least 1. No augmentation adds boxes.
        cache: keep decoded images in memory, as many as fit into 2 GiB (or the given number of bytes), uint8; the
            others are read again in every epoch. Under augmentation photographs are kept with a shorter side of at
            most twice the network's longer one.
        start_epoch: None: a finite data set, whose every iteration is the next epoch. A number: an endless one that
            begins with that epoch, for `fit(..., steps_per_epoch=data.steps_per_epoch)`: begun at epoch k it continues
            exactly as an uninterrupted run.
        limit: use the first images only.

    Returns:
        A `tf.data.Dataset` of `(images, targets)`: images (B, H, W, 3) float32 RGB 0..255, targets "boxes" (B, N, 4)
        float32 xyxy pixels, "labels" (B, N) int32 with -1 where padded, "image_id" (B,) int64; for evaluation also
        "difficult" and "crowd" (B, N) bool, "area" (B, N) float32 in pixels of the original image, "transform" (B, 4)
        float32 (sx, sy, tx, ty) from original to network pixels. It carries `class_names`, `num_classes`,
        `image_size`, `batch_size`, `annotations`, `steps_per_epoch`.

    Raises:
        ValueError: for arguments that cannot be, saying which can.
    """
    size = whole_size(image_size)
    names = augmentation.names_of(augment)
    if resize not in windows.RESIZES:
        raise ValueError(unknown_name("resize", resize, windows.RESIZES))
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received: {batch_size}.")
    if limit is not None:
        annotations = dataclasses.replace(annotations, samples=annotations.samples[:limit])
    count = len(annotations.samples)
    if count == 0:
        raise ValueError(
            f"No images in split {annotations.split!r}. Run `kzoo check` on the data set to see what was left out."
        )
    shuffle = bool(names) or start_epoch is not None if shuffle is None else shuffle
    training = bool(names) or shuffle or start_epoch is not None
    store = SampleStore(
        annotations,
        _max_boxes(annotations, max_boxes, training),
        training=training,
        shorter_side=2 * max(size) if names else None,
        cache_bytes=CACHE_BYTES if cache is True else int(cache),
    )
    image_ids = tf.constant([sample.image_id for sample in annotations.samples], tf.int64)

    def example(epoch: tf.Tensor, serial: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        image, boxes, labels, difficult, crowd, area = _read(store, index)
        image_id = image_ids[index]
        if training:
            # A second showing in one epoch (the last batch) is augmented anew.
            image_seed = tf.random.fold_in([seed, epoch], serial)
            image, boxes, labels = augmentation.augment(image, boxes, labels, image_seed, names, size, resize)
            return image, {"boxes": boxes, "labels": labels, "image_id": image_id}
        window = windows.whole(image)
        transform, _ = windows.placement(window, size, resize)
        boxes = windows.move(boxes, labels, transform)
        image = tf.ensure_shape(windows.show(image, window, size, resize), (*size, 3))
        targets = {"boxes": boxes, "labels": labels, "image_id": image_id, "transform": transform}
        return image, {**targets, "difficult": difficult, "crowd": crowd, "area": area}

    steps = math.ceil(count / batch_size)

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        if shuffle:
            lots = tf.random.stateless_uniform([count], tf.random.fold_in([seed, epoch], -1))
            indices = tf.argsort(lots, stable=True)
        else:
            indices = tf.range(count)
        positions = tf.range(steps * batch_size if training else count)
        indices = tf.gather(indices, positions % count)
        serials = indices + count * (positions // count)
        epochs = tf.fill(tf.shape(indices), epoch)
        return tf.data.Dataset.from_tensor_slices((epochs, serials, indices))

    dataset = epochs(start_epoch).flat_map(order)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=training)
    dataset = dataset.apply(
        tf.data.experimental.assert_cardinality(steps if start_epoch is None else tf.data.INFINITE_CARDINALITY)
    )
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    dataset.class_names = list(annotations.class_names)
    dataset.num_classes = annotations.num_classes
    dataset.image_size = size
    dataset.batch_size = batch_size
    dataset.annotations = annotations
    dataset.steps_per_epoch = steps
    return dataset


def epochs(start: int | None) -> tf.data.Dataset:
    """The numbers of the epochs: all from `start` on, or one for each iteration of the data set."""
    if start is not None:
        return tf.data.Dataset.counter(start)
    counter = itertools.count()

    def next_epoch(_: tf.Tensor) -> tf.Tensor:
        epoch = tf.numpy_function(lambda: np.int64(next(counter)), [], tf.int64)
        return tf.ensure_shape(epoch, [])

    return tf.data.Dataset.range(1).map(next_epoch)


def _read(store: SampleStore, index: tf.Tensor) -> list[tf.Tensor]:
    rows = store.max_boxes
    dtypes = [tf.uint8, tf.float32, tf.int32, tf.bool, tf.bool, tf.float32]
    shapes = [(None, None, 3), (rows, 4), (rows,), (rows,), (rows,), (rows,)]
    record = tf.numpy_function(store.read, [index], dtypes, stateful=False)
    return [tf.ensure_shape(value, shape) for value, shape in zip(record, shapes, strict=True)]


def whole_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """`image_size` as (height, width) in whole pixels, or an error that says what it must be."""
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or any(side != int(side) or side < 1 for side in pair):
        raise ValueError(f"image_size must be (height, width) in whole pixels, or one number. Received: {size!r}.")
    return int(pair[0]), int(pair[1])


def _max_boxes(annotations: Annotations, asked: int | None, training: bool) -> int:
    counts = [int(trainable(s).sum()) if training else len(s.labels) for s in annotations.samples]
    most = int(np.argmax(counts))
    if asked is None:
        return max(1, counts[most])
    if asked < counts[most]:
        raise ValueError(
            f"{annotations.samples[most].name} has {counts[most]} boxes, max_boxes is {asked}. "
            f"Pass max_boxes={counts[most]} or more, or None."
        )
    return asked
