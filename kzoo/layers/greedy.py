"""The greedy loop of non-maximum suppression, in three forms that pick the same boxes."""

import math

import keras
import numpy as np
from keras import ops

from kzoo import boxes as box_ops
from kzoo.layers.gather import gather_rows
from kzoo.layers.kernels import use_fused
from kzoo.types import Tensor


def suppress(
    boxes: Tensor,
    labels: Tensor,
    num_classes: int,
    eligible: Tensor,
    iou_threshold: float,
    count: int,
    fused: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Takes the first eligible box left, drops those of its class with IoU > threshold, and repeats.

    Args:
        boxes: (B, N, 4) float32 xyxy, best first.
        labels: (B, N) int32; unused where `num_classes` is 1.
        num_classes: boxes of different classes leave each other alone.
        eligible: (B, N) bool; the others are neither picked nor drop any.
        iou_threshold: 0..1.
        count: K, at most so many are picked.
        fused: False for the loop in keras.ops; None for the fastest that runs where the graph will.

    Returns:
        (B, K) int32 indices of what was picked, in order, anything beyond the number; (B,) int32 how many.
    """
    if fused is not False and use_fused(None):
        return _combined(boxes, labels, num_classes, eligible, iou_threshold, count)
    if fused is not False and keras.backend.backend() == "tensorflow":
        # What is not eligible would set the unit of length, NaN and infinity with it.
        boxes = ops.where(eligible[..., None], boxes, 0.0)
        return _image_by_image(_separate_classes(boxes, labels, num_classes), eligible, iou_threshold, count)
    return _loop(boxes, labels if num_classes > 1 else None, eligible, iou_threshold, count)


def has_area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _ranks(eligible):
    """Scores (B, N) that no two boxes share: N for the first, 1 for the last, 0 for what is not eligible."""
    size = eligible.shape[1]
    return ops.where(eligible, ops.cast(ops.arange(size, 0, -1), "float32")[None], 0.0)


def _combined(boxes, labels, num_classes, eligible, iou_threshold, count):
    """Through the kernel of `tf.image.combined_non_max_suppression`: images and classes in parallel, on CPUs only.

    Among equal scores that kernel takes any box. It is given ranks instead, and returns them: what was picked.
    """
    import tensorflow as tf

    ranks = _ranks(eligible)[..., None]
    if num_classes > 1:
        ranks = ranks * tf.one_hot(labels, num_classes)
    found = tf.image.combined_non_max_suppression(
        boxes[:, :, None], ranks, count, count, float(iou_threshold), 0.0, clip_boxes=False
    )
    return boxes.shape[1] - tf.cast(found.nmsed_scores, tf.int32), found.valid_detections


def _image_by_image(boxes, eligible, iou_threshold, count):
    """Through the kernel `NonMaxSuppressionV4`, which XLA compiles and LiteRT has among its builtin operators."""
    import tensorflow as tf

    most = min(count, boxes.shape[1])  # XLA's kernel cannot pick more than there are

    def one_image(candidates):
        picked, found = tf.raw_ops.NonMaxSuppressionV4(
            boxes=candidates[0],
            scores=candidates[1],
            max_output_size=most,
            iou_threshold=float(iou_threshold),
            score_threshold=0.0,
            pad_to_max_output_size=True,
        )
        return (tf.pad(picked, [[0, count - most]]) if count > most else picked), found

    # A box without area does not even overlap itself: LiteRT's kernel would pick it again and again.
    ranks = _ranks(eligible & has_area(boxes))
    if boxes.shape[0] == 1:  # no loop in a LiteRT file
        picked, found = one_image((boxes[0], ranks[0]))
        return picked[None], found[None]
    signature = (tf.TensorSpec((count,), tf.int32), tf.TensorSpec((), tf.int32))
    return tf.map_fn(one_image, (boxes, ranks), fn_output_signature=signature, parallel_iterations=16)


def _loop(boxes, labels, eligible, iou_threshold, count):
    """In keras.ops, for every backend."""
    slots = ops.arange(count)

    def pick_next(i, state):
        alive, picked, found = state
        best = ops.cast(ops.argmax(ops.cast(alive, "int32"), axis=-1), "int32")  # the first one alive
        any_left = ops.any(alive, axis=-1)
        picked = ops.where((slots[None] == i) & any_left[:, None], best[:, None], picked)
        overlap = box_ops.iou(gather_rows(boxes, best[:, None]), boxes)[:, 0]
        itself = ops.arange(boxes.shape[1])[None] == best[:, None]
        stays = overlap <= iou_threshold
        if labels is not None:
            stays = stays | (labels != gather_rows(labels, best[:, None]))
        return alive & stays & ~itself, picked, found + ops.cast(any_left, "int32")

    zeros = ops.zeros_like(ops.cast(eligible[:, :1], "int32"))
    _, picked, found = ops.fori_loop(
        0, count, pick_next, (eligible, zeros + ops.zeros((1, count), "int32"), zeros[:, 0])
    )
    return picked, found


def _separate_classes(boxes, labels, num_classes: int):
    """Moves each class to a tile of its own, so that boxes of different classes never overlap.

    The tiles form a square around the origin rather than a row: coordinates stay small. In float32 the IoU of moved
    boxes of 3 pixels in an image of 640 is off by up to 1e-4 with 20 classes, of 100 pixels by 3e-6.
    """
    if num_classes == 1:
        return boxes
    low = ops.min(boxes, axis=(1, 2), keepdims=True)
    extent = ops.max(boxes, axis=(1, 2), keepdims=True) - low
    boxes = (boxes - low) / ops.maximum(extent, 1e-6)  # IoU does not change with the unit of length
    side = math.isqrt(num_classes - 1) + 1
    tiles = np.array([(label % side - side // 2, label // side - side // 2) * 2 for label in range(num_classes)])
    return boxes + ops.take(ops.convert_to_tensor(2.0 * tiles, "float32"), labels, axis=0)
