"""From images and masks to batches: read, shuffle, crop or resize, weigh, deform; the same again for a seed."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from kzoo import images as kzoo_images
from kzoo.data.elastic import elastic_deformation
from kzoo.data.pipeline import epochs, whole_size
from kzoo.data.readers import masks as mask_folders
from kzoo.data.readers.masks import VOID, MaskAnnotations, MaskSample
from kzoo.data.weight_maps import boundary_weights
from kzoo.messages import unknown_name
from kzoo.morphology import connected_components

AUGMENTATIONS = ("dihedral", "elastic", "flip")
FITS = ("stretch", "crop")


def load_masks(
    source: str | Path,
    split: str | None = "train",
    image_size: int | tuple[int, int] = (256, 256),
    batch_size: int = 8,
    augment: bool | str | Sequence[str] = False,
    *,
    class_names: Sequence[str] | None = None,
    values: Sequence[int] | None = None,
    **options,
) -> tf.data.Dataset:
    """Loads a folder of images and masks as batches for `fit`, `evaluate` and the measures.

    Args:
        source, split, class_names, values: see `kzoo.data.readers.masks.read`.
        image_size, batch_size, augment, **options: see `from_masks`.

    Example:
        >>> train = load_masks("camvid", "train", image_size=(180, 240), augment=True)
        >>> images, targets = next(iter(train))
        >>> targets["masks"].shape
        TensorShape([8, 180, 240])
    """
    return from_masks(mask_folders.read(source, split, class_names, values), image_size, batch_size, augment, **options)


def from_masks(
    annotations: MaskAnnotations,
    image_size: int | tuple[int, int] = (256, 256),
    batch_size: int = 8,
    augment: bool | str | Sequence[str] = False,
    *,
    fit: str = "stretch",
    weights: bool = False,
    shuffle: bool | None = None,
    seed: int = 0,
    start_epoch: int | None = None,
    limit: int | None = None,
) -> tf.data.Dataset:
    """Makes batches of images and masks.

    As in `kzoo.data.from_annotations`: without `augment`, `shuffle` and `start_epoch` the images come in order, once;
    otherwise every batch is full, and order and augmentation of epoch e depend on `seed` and e alone.

    Args:
        augment: False; True for "flip"; or names of "flip" (left and right), "dihedral" (the eight turns and mirror
            images, for pictures without an upside) and "elastic" (U-Net's deformation).
        fit: "stretch" resizes to `image_size`, masks to the nearest pixel; "crop" keeps the scale and takes a window,
            at random in training and else from the centre, mirrored where the image ends.
        weights: adds U-Net's boundary weights; cells are the connected regions of classes above 0.
        limit: use the first images only.

    Returns:
        A `tf.data.Dataset` of `(images, targets)`: images (B, H, W, 3) float32 RGB 0..255, targets "masks" (B, H, W)
        int32 with 255 for void, and on request "weights" (B, H, W) float32. It carries `class_names`, `num_classes`,
        `image_size`, `batch_size`, `annotations`, `steps_per_epoch`.

    Raises:
        ValueError: for arguments that cannot be, saying which can; while reading, for an image that differs in size
            from its mask.
    """
    size = whole_size(image_size)
    names = _names(augment)
    if fit not in FITS:
        raise ValueError(unknown_name("fit", fit, FITS))
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received: {batch_size}.")
    if limit is not None:
        annotations = dataclasses.replace(annotations, samples=annotations.samples[:limit])
    count = len(annotations.samples)
    if count == 0:
        raise ValueError(f"No images in split {annotations.split!r}.")
    shuffle = bool(names) or start_epoch is not None if shuffle is None else shuffle
    training = bool(names) or shuffle or start_epoch is not None
    steps = math.ceil(count / batch_size)

    def read(epoch: int, serial: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sample = annotations.samples[int(serial) % count]
        rng = np.random.default_rng([seed, int(epoch), int(serial)])
        return prepare(sample, annotations.values, size, names, fit, weights, rng if training else None)

    def example(epoch: tf.Tensor, serial: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        dtypes = [tf.float32, tf.int32, tf.float32]
        image, mask, weight = tf.numpy_function(read, [epoch, serial], dtypes, stateful=False)
        targets = {"masks": tf.ensure_shape(mask, size)}
        if weights:
            targets["weights"] = tf.ensure_shape(weight, size)
        return tf.ensure_shape(image, (*size, 3)), targets

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        indices = tf.range(count)
        if shuffle:
            lots = tf.random.stateless_uniform([count], tf.random.fold_in([seed, epoch], -1))
            indices = tf.argsort(lots, stable=True)
        positions = tf.range(steps * batch_size if training else count)
        serials = tf.gather(indices, positions % count) + count * (positions // count)
        return tf.data.Dataset.from_tensor_slices((tf.fill(tf.shape(serials), epoch), serials))

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


def prepare(
    sample: MaskSample,
    values: Sequence[int],
    size: tuple[int, int],
    names: Sequence[str] = (),
    fit: str = "stretch",
    weights: bool = False,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One image of `size`, its mask, and its weights, which are 1 unless asked for; `rng` None deforms nothing.

    Raises:
        ValueError: if image and mask differ in size, naming both.
    """
    image, mask = kzoo_images.read_image(sample.image), mask_folders.read_mask(sample.mask, values)
    if image.shape[:2] != mask.shape:
        raise ValueError(
            f"{sample.mask}: the mask is {mask.shape} (height, width), its image {sample.image.name} "
            f"{image.shape[:2]}. They must be of one size."
        )
    window = _window(image.shape[:2], size, rng) if fit == "crop" else None
    parts = [image.astype(np.float32), mask]
    if window is None:
        parts = [kzoo_images.resize(image, size), _resize_mask(mask, size)]
    else:
        parts = [part[window] for part in parts]
    if weights:
        parts.append(_weights(mask)[window] if window is not None else _weights(parts[1]))
    else:
        parts.append(np.ones(size, np.float32))
    if rng is not None:
        parts = _deformed(parts, names, rng, square=size[0] == size[1])
    return tuple(np.ascontiguousarray(part) for part in parts)


def _deformed(
    parts: list[np.ndarray], names: Sequence[str], rng: np.random.Generator, square: bool
) -> list[np.ndarray]:
    if "elastic" in names:
        parts = list(elastic_deformation(rng, *parts))
    if {"flip", "dihedral"} & set(names) and rng.random() < 0.5:
        parts = [part[:, ::-1] for part in parts]
    if "dihedral" in names:
        turns = 2 * rng.integers(2) if not square else rng.integers(4)
        parts = [np.rot90(part, turns) for part in parts]
    return parts


def _weights(mask: np.ndarray) -> np.ndarray:
    cells = connected_components((mask > 0) & (mask != VOID))
    return boundary_weights(np.where(mask == VOID, -1, cells), ignore_label=-1)


def _window(have: tuple[int, int], want: tuple[int, int], rng: np.random.Generator | None):
    """Index of a window of the size `want`, with mirrored indices where the image is smaller."""
    index = []
    for side, length in zip(have, want, strict=True):
        room = side - length
        start = room // 2 if rng is None or room <= 0 else int(rng.integers(room + 1))
        place = np.arange(start, start + length)
        period = max(2 * (side - 1), 1)
        folded = np.mod(place, period)
        index.append(np.minimum(folded, period - folded) if side > 1 else np.zeros_like(place))
    return np.ix_(*index)


def _resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))


def _names(augment: bool | str | Sequence[str]) -> tuple[str, ...]:
    if augment is None or isinstance(augment, bool):
        augment = ("flip",) if augment else ()
    names = (augment,) if isinstance(augment, str) else tuple(augment)
    for name in names:
        if name not in AUGMENTATIONS:
            raise ValueError(unknown_name("augmentation of masks", name, AUGMENTATIONS))
    return names
