"""Photometric distortion as in SSD's released code, and YOLO's of exposure and saturation."""

import tensorflow as tf


def photometric(
    image: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    brightness: float = 32.0,
    contrast: float = 0.5,
    saturation: float = 0.5,
    hue: float = 0.1,
) -> tuple:
    """Changes brightness, contrast, saturation and hue, each with probability .5.

    Source: the code of Liu et al., SSD (distort_param: 32, .5 to 1.5, .5 to 1.5, hue 18 of OpenCV's 180 = 36 degrees),
    which follows Howard, arXiv:1312.5402. As there, contrast comes before or after the other two, evenly drawn, scales
    about black and all values are cut off at 0 and 255 after each step. The code can also shuffle the colour channels,
    with probability 0 in its VOC settings: left out.

    Args:
        image: (H, W, 3) RGB, 0..255, any dtype. boxes, labels: passed through.
        brightness: largest number added or subtracted. contrast, saturation: largest change of the factor 1.
        hue: largest turn of the hue circle, 0.5 is half of it.

    Returns:
        (image, boxes, labels), the image float32 0..255.
    """
    image = tf.cast(image, tf.float32)
    applied, amount = tf.unstack(tf.random.stateless_uniform([2, 5], seed))
    applied = applied < 0.5
    amount = 2.0 * amount - 1.0
    shift = tf.where(applied[0], amount[0] * brightness, 0.0)
    factor = tf.where(applied[1], 1.0 + amount[1] * contrast, 1.0)
    contrast_first = applied[4]

    image = tf.clip_by_value(image + shift, 0.0, 255.0)
    image = tf.cond(contrast_first, lambda: tf.minimum(image * factor, 255.0), lambda: image)
    image = tf.cond(applied[2], lambda: tf.image.adjust_saturation(image, 1.0 + amount[2] * saturation), lambda: image)
    image = tf.cond(applied[3], lambda: tf.image.adjust_hue(image, amount[3] * hue), lambda: image)
    image = tf.cond(contrast_first, lambda: image, lambda: tf.minimum(image * factor, 255.0))
    return image, boxes, labels


def exposure(
    image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, most: float = 1.5
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Multiplies saturation and value of the HSV colours by factors of 1 / `most` to `most` each, cut off at 1.

    Source: Redmon et al., YOLO, section 2.2; as in the code, a factor is even in 1 to `most`, and in half of the images
    inverted.

    Args:
        image: (H, W, 3) RGB, 0..255, any dtype. boxes, labels: passed through.

    Returns:
        (image, boxes, labels), the image float32 0..255.
    """
    lot, amount = tf.unstack(tf.random.stateless_uniform([2, 2], seed))
    factor = 1.0 + (most - 1.0) * amount
    factor = tf.where(lot < 0.5, factor, 1.0 / factor)
    image = tf.image.adjust_saturation(tf.cast(image, tf.float32), factor[0])
    # The value is the largest channel: scaling all three alike leaves hue and saturation as they are.
    value = tf.reduce_max(image, axis=-1, keepdims=True)
    return image * tf.minimum(factor[1], 255.0 / tf.maximum(value, 1.0)), boxes, labels
