"""From images and masks to batches: read, shuffle, augment, crop or resize, weigh; the same again for a seed."""

from collections.abc import Sequence

import tensorflow as tf

from kzoo.data.annotations import MaskAnnotations
from kzoo.data.augment import masks as augmentation
from kzoo.data.batches import CACHE_BYTES, Plan, first, make, whole_size
from kzoo.data.mask_store import MaskStore
from kzoo.messages import unknown_name

FITS = ("crop", "stretch")


def from_masks(
    annotations: MaskAnnotations,
    image_size: int | tuple[int, int] | None = (256, 256),
    batch_size: int = 8,
    augment: bool | str | Sequence[str] = False,
    *,
    fit: str = "stretch",
    context: tuple[int, int] = (0, 0),
    weights: bool = False,
    shuffle: bool | None = None,
    seed: int = 0,
    cache: bool | int = True,
    start_epoch: int | None = None,
    limit: int | None = None,
) -> tf.data.Dataset:
    """Makes batches of images and masks; order, epochs and batches are those of `pipeline.from_boxes`.

    Args:
        annotations: what a reader returned.
        image_size: (height, width) or one number; None leaves every image its own size, one image a batch, for
            measuring in pixels of the original images.
        augment: False; True for "light"; a preset ("none", "light", "no_up", "street", "dihedral", "unet"), the name of
            an augmentation, or a list of them (see `kzoo.data.augment.masks`).
        fit: "stretch" resizes to `image_size`, masks to the nearest pixel; "crop" keeps the scale and takes a window,
            at random in training and else from the centre, mirrored where the image ends.
        context: (rows, columns) at either side of a crop that the network sees and does not label, `network.context`;
            they may lie beyond the image, so that its border is learned, too. Without meaning for "stretch".
        weights: adds U-Net's boundary weights; cells are the connected regions of all classes but the first, or the
            numbered objects. They are made once an image and kept.
        cache: keep decoded images, masks and weights in memory, as many as fit into 2 GiB (or the given number of
            bytes). Under augmentation and "stretch" with a shorter side of at most twice the network's longer one.
        limit: use the first images only.

    Returns:
        A `tf.data.Dataset` of `(images, targets)`: images (B, H, W, 3) float32 RGB 0..255, targets "masks" (B, H, W)
        int32 with 255 for void, "image_id" (B,) int64, on request "weights" (B, H, W) float32, and with
        `image_size=None` "instances" (B, H, W) int32 where the masks number their objects. It carries `class_names`,
        `num_classes`, `image_size`, `batch_size`, `annotations`, `steps_per_epoch`.

    Raises:
        ValueError: for arguments that cannot be, saying which can.
    """
    size = None if image_size is None else whole_size(image_size)
    names = augmentation.names_of(augment)
    if fit not in FITS:
        raise ValueError(unknown_name("fit", fit, FITS))
    if size is not None:
        _check_context(context, size)
    annotations = first(annotations, limit)
    plan = Plan(size, 1 if size is None else batch_size, bool(names), shuffle, seed, start_epoch)
    if size is None and (plan.training or weights):
        raise ValueError("image_size=None is for measuring: it goes without augment, shuffle, start_epoch and weights.")
    store = MaskStore(
        annotations,
        shorter_side=2 * max(size) if names and fit == "stretch" else None,
        weights=fit if weights else "",
        size=size,
        instances=size is None and annotations.instances,
        # Images of their own size are measured once in a while: the memory is for those that train.
        cache_bytes=0 if size is None else CACHE_BYTES if cache is True else int(cache),
    )
    image_ids = tf.constant([sample.image_id for sample in annotations.samples], tf.int64)

    def example(epoch: tf.Tensor, serial: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        types = [tf.uint8, tf.uint8, tf.float32, tf.int32]
        image, mask, weight, numbers = tf.numpy_function(store.read, [index], types, stateful=False)
        image, mask = tf.ensure_shape(image, (None, None, 3)), tf.ensure_shape(mask, (None, None))
        targets = {"image_id": image_ids[index]}
        if size is None and annotations.instances:
            targets["instances"] = tf.ensure_shape(numbers, (None, None))
        if size is None:
            return tf.cast(image, tf.float32), {"masks": tf.cast(mask, tf.int32), **targets}
        maps = [mask, tf.ensure_shape(weight, (None, None))] if weights else [mask]
        # A second showing in one epoch (the last batch) is augmented anew.
        image_seed = tf.random.fold_in([seed, epoch], serial) if plan.training else None
        image, maps = augmentation.augment(image, maps, image_seed, names, size, fit, context)
        targets["masks"] = tf.cast(maps[0], tf.int32)
        if weights:
            targets["weights"] = maps[1]
        return image, targets

    return make(annotations, example, plan)


def _check_context(context: tuple[int, int], size: tuple[int, int]) -> None:
    pair = isinstance(context, Sequence) and len(context) == 2
    if not pair or not all(0 <= 2 * margin < side for side, margin in zip(size, context, strict=True)):
        raise ValueError(
            f"context must be (rows, columns) that leave pixels of {size} to label. Received: {context!r}."
        )
