"""From images and boxes to batches: read, augment, resize, pad; the same again for a seed and an epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from kzoo.data import augment as augmentation
from kzoo.data.annotations import Annotations
from kzoo.data.augment import windows
from kzoo.data.batches import CACHE_BYTES, Plan, first, make, whole_size
from kzoo.data.proposals import PaddedProposals, proposals_of
from kzoo.data.store import SampleStore, trainable
from kzoo.messages import unknown_name


def from_boxes(
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
    proposals: str | Path | Mapping | Sequence | None = None,
    max_proposals: int = 2000,
) -> tf.data.Dataset:
    """Makes batches of images with boxes.

    For evaluation (`augment` and `shuffle` false, no `start_epoch`) the images come in order, once, the last batch may
    be smaller, and the targets hold everything that the metrics ask for. Otherwise the batches are for training: all
    of `batch_size` images, the last one of an epoch filled up with the first images of that epoch, so that none is
    left out; difficult objects are trained on, as in SSD's code; crowds and boxes without area are left out.

    The order and the augmentation of epoch e depend on `seed` and e alone.

    Args:
        annotations: what a reader returned.
        image_size, batch_size, augment: see `kzoo.data.load`.
        shuffle: a new order in every epoch; None: where there is an `augment` or a `start_epoch`.
        seed: of order and augmentation.
        resize: "stretch", as `detect` and exported files do it; or "letterbox", which keeps the aspect ratio and fills
            the bars: those who predict have to do the same before they call `detect`.
        max_boxes: N of the padded targets; None: the most boxes of any image, at least 1. No augmentation adds boxes.
        cache: keep decoded images in memory, as many as fit into 2 GiB (or the given number of bytes), uint8; the
            others are read again in every epoch. Under augmentation photographs are kept with a shorter side of at
            most twice the network's longer one.
        start_epoch: None: a finite data set, whose every iteration is the next epoch. A number: an endless one that
            begins with that epoch, for `fit(..., steps_per_epoch=data.steps_per_epoch)`: begun at epoch k it continues
            exactly as an uninterrupted run.
        limit: use the first images only.
        proposals: "fast" or "quality" for selective search, whose regions are kept on disk; a file or arrays of them in
            pixels of the original images (see `kzoo.data.proposals.proposals_of`); None for none.
        max_proposals: of an image, the first ones.

    Returns:
        A `tf.data.Dataset` of `(images, targets)`: images (B, H, W, 3) float32 RGB 0..255, targets "boxes" (B, N, 4)
        float32 xyxy pixels, "labels" (B, N) int32 with -1 where padded, "image_id" (B,) int64; for evaluation also
        "difficult" and "crowd" (B, N) bool, "area" (B, N) float32 in pixels of the original image, "transform" (B, 4)
        float32 (sx, sy, tx, ty) from original to network pixels; with `proposals` also "proposals" (B, P, 4) float32
        xyxy pixels, moved like the boxes and padded with zeros, P the most of any image. It carries `class_names`,
        `num_classes`, `image_size`, `batch_size`, `annotations`, `steps_per_epoch`.

    Raises:
        ValueError: for arguments that cannot be, saying which can.
    """
    size = whole_size(image_size)
    names = augmentation.names_of(augment)
    if resize not in windows.RESIZES:
        raise ValueError(unknown_name("resize", resize, windows.RESIZES))
    annotations = first(annotations, limit)
    plan = Plan(size, batch_size, bool(names), shuffle, seed, start_epoch)
    training = plan.training
    store = SampleStore(
        annotations,
        _max_boxes(annotations, max_boxes, training),
        training=training,
        shorter_side=2 * max(size) if names else None,
        cache_bytes=CACHE_BYTES if cache is True else int(cache),
    )
    given = None
    if proposals is not None:
        if limit is not None and isinstance(proposals, list | tuple):
            proposals = proposals[:limit]
        given = PaddedProposals(annotations, proposals_of(annotations, proposals, max_proposals))
    image_ids = tf.constant([sample.image_id for sample in annotations.samples], tf.int64)

    def example(epoch: tf.Tensor, serial: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        image, boxes, labels, difficult, crowd, area = _read(store, index)
        image_id = image_ids[index]
        regions = tf.zeros((0, 4)) if given is None else given.read(index, image)
        if training:
            # A second showing in one epoch (the last batch) is augmented anew.
            image_seed = tf.random.fold_in([seed, epoch], serial)
            image, boxes, labels, regions = augmentation.augment_with_proposals(
                image, boxes, labels, regions, image_seed, names, size, resize
            )
            targets = {"boxes": boxes, "labels": labels, "image_id": image_id}
            return image, targets if given is None else {**targets, "proposals": regions}
        window = windows.whole(image)
        transform, _ = windows.placement(window, size, resize)
        boxes = windows.move(boxes, labels, transform)
        image = tf.ensure_shape(windows.show(image, window, size, resize), (*size, 3))
        targets = {"boxes": boxes, "labels": labels, "image_id": image_id, "transform": transform}
        if given is not None:
            targets["proposals"] = windows.move_proposals(regions, window, size, resize)
        return image, {**targets, "difficult": difficult, "crowd": crowd, "area": area}

    return make(annotations, example, plan)


def _read(store: SampleStore, index: tf.Tensor) -> list[tf.Tensor]:
    rows = store.max_boxes
    dtypes = [tf.uint8, tf.float32, tf.int32, tf.bool, tf.bool, tf.float32]
    shapes = [(None, None, 3), (rows, 4), (rows,), (rows,), (rows,), (rows,)]
    record = tf.numpy_function(store.read, [index], dtypes, stateful=False)
    return [tf.ensure_shape(value, shape) for value, shape in zip(record, shapes, strict=True)]


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
