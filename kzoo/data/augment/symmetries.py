"""Flips and quarter turns, exact on pixels and boxes alike: image (H, W, 3), boxes (N, 4) xyxy, labels (N,)."""

import tensorflow as tf


def flip(image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, probability: float = 0.5) -> tuple:
    """Mirrors left and right with the given probability; returns (image, boxes, labels)."""
    width = tf.cast(tf.shape(image)[1], tf.float32)
    x1, y1, x2, y2 = tf.unstack(boxes, axis=1)
    apply = tf.random.stateless_uniform([], seed) < probability
    mirrored = _only_objects(tf.stack([width - x2, y1, width - x1, y2], axis=1), labels)
    image = tf.cond(apply, lambda: tf.reverse(image, [1]), lambda: image)
    return image, tf.where(apply, mirrored, boxes), labels


def vertical_flip(
    image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, probability: float = 0.5
) -> tuple:
    """Mirrors top and bottom with the given probability, for images without an up (cells, aerial photographs)."""
    height = tf.cast(tf.shape(image)[0], tf.float32)
    x1, y1, x2, y2 = tf.unstack(boxes, axis=1)
    apply = tf.random.stateless_uniform([], seed) < probability
    mirrored = _only_objects(tf.stack([x1, height - y2, x2, height - y1], axis=1), labels)
    image = tf.cond(apply, lambda: tf.reverse(image, [0]), lambda: image)
    return image, tf.where(apply, mirrored, boxes), labels


def rot90(image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple:
    """Turns by 0, 90, 180 or 270 degrees, evenly drawn, for images without an up; (H, W, 3) may become (W, H, 3)."""
    turns = tf.random.stateless_uniform([], seed, maxval=4, dtype=tf.int32)
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    x1, y1, x2, y2 = tf.unstack(boxes, axis=1)
    turned = tf.stack(
        [
            boxes,
            tf.stack([y1, width - x2, y2, width - x1], axis=1),  # counter-clockwise, as tf.image.rot90
            tf.stack([width - x2, height - y2, width - x1, height - y1], axis=1),
            tf.stack([height - y2, x1, height - y1, x2], axis=1),
        ]
    )
    image = tf.cond(turns > 0, lambda: tf.image.rot90(image, turns), lambda: image)
    return image, _only_objects(turned[turns], labels), labels


def _only_objects(boxes: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.where(labels[:, None] >= 0, boxes, 0.0)
