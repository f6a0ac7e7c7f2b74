"""Crops, zoom-outs, resizing and letterboxing as one thing: a window of the image, shown at the output's size.

A window is (4,) float32 xyxy in pixels of the image and may reach beyond it; what lies outside is filled. Each random
augmentation here only moves the window, and `show` resamples the pixels once at the end: a zoom-out to sixteen times
the area never has to be painted, and a crop after it loses no sharpness.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from kzoo.messages import unknown_name

FILL = (123.0, 117.0, 104.0)  # RGB mean of ImageNet as in SSD's released code: close to zero behind any normalisation
RESIZES = ("stretch", "letterbox")

# SSD section 2.2, "Data augmentation"; a minimum of 0 is the paper's randomly sampled patch.
MIN_OVERLAPS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
TRIALS = 50  # (code)


def whole(image: tf.Tensor) -> tf.Tensor:
    """The window of the whole image (H, W, 3): (0, 0, W, H)."""
    shape = tf.cast(tf.shape(image), tf.float32)
    return tf.stack([0.0, 0.0, shape[1], shape[0]])


def iou_crop_window(window: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """SSD's crop: the whole window, or a patch whose IoU with some object is at least .1, .3, .5, .7, .9 or anything.

    As in the released code, every constraint has 50 trials, its first success is a candidate, and one candidate is
    drawn evenly. A patch measures .3 to 1 of the window's sides (geometric mean), its aspect ratio relative to the
    window is in .5 to 2. A window without objects is returned as it is.

    Source: Liu et al., SSD, ECCV 2016, section 2.2; scale and number of trials from the code.
    """
    count = len(MIN_OVERLAPS) * TRIALS
    draws = tf.random.stateless_uniform([count + 2, 4], seed)
    scale, aspect, x, y = tf.unstack(draws[:count], axis=1)
    scale = 0.3 + 0.7 * scale
    aspect = tf.clip_by_value(0.5 + 1.5 * aspect, scale**2, scale**-2)
    width, height = scale * tf.sqrt(aspect), scale / tf.sqrt(aspect)
    patches = _within(window, x * (1.0 - width), y * (1.0 - height), width, height)

    inside = _clip(boxes, window)
    overlap = tf.where(labels >= 0, _iou(patches, inside), -1.0)
    overlap = tf.reduce_max(tf.pad(overlap, [[0, 0], [0, 1]], constant_values=-1.0), axis=1)
    success = tf.reshape(overlap, [-1, TRIALS]) >= tf.constant(MIN_OVERLAPS)[:, None]
    first = tf.argmax(success, axis=1, output_type=tf.int32) + tf.range(len(MIN_OVERLAPS)) * TRIALS

    candidates = tf.concat([tf.gather(patches, first), window[None]], axis=0)
    found = tf.concat([tf.reduce_any(success, axis=1), [True]], axis=0)
    lot = tf.where(found, tf.reshape(draws[count:], [-1])[: len(MIN_OVERLAPS) + 1], -1.0)
    return candidates[tf.argmax(lot)]


def expand_window(
    window: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    max_ratio: float = 4.0,
    probability: float = 0.5,
) -> tf.Tensor:
    """SSD's zoom-out: with the given probability the window grows by 1 to `max_ratio`, the old one anywhere in it.

    Source: Liu et al., SSD, section 3.6: a canvas of up to 16 times the area, filled with the mean.
    """
    apply, ratio, x, y = tf.unstack(tf.random.stateless_uniform([4], seed))
    ratio = 1.0 + (max_ratio - 1.0) * ratio
    grown = _within(window, x * (1.0 - ratio), y * (1.0 - ratio), ratio, ratio)
    return tf.where(apply < probability, grown, window)


def jitter_window(
    window: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, scale: float = 0.2, aspect: float = 0.1
) -> tf.Tensor:
    """Mild zoom by up to 1 + `scale` and stretch by up to 1 + `aspect`, at a random place: for small data sets.

    A smaller window lies anywhere in the old one, a larger one holds the old one anywhere in it.
    """
    zoom, stretch, x, y = tf.unstack(tf.random.stateless_uniform([4], seed))
    zoom = tf.exp((2.0 * zoom - 1.0) * math.log(1.0 + scale))
    stretch = tf.exp((2.0 * stretch - 1.0) * math.log(1.0 + aspect) / 2.0)
    width, height = zoom * stretch, zoom / stretch
    return _within(window, x * (1.0 - width), y * (1.0 - height), width, height)


def edges_window(
    window: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, most: float = 0.2
) -> tf.Tensor:
    """YOLO's scaling and translation: each edge moves on its own, in or out, by up to `most` of the window's side.

    Source: Redmon et al., YOLO, CVPR 2016, section 2.2 ("up to 20 % of the original image size"); the four independent
    edges are the code's.
    """
    left, top, right, bottom = tf.unstack((2.0 * tf.random.stateless_uniform([4], seed) - 1.0) * most)
    return _within(window, left, top, 1.0 + right - left, 1.0 + bottom - top)


def placement(window: tf.Tensor, size: tuple[int, int], resize: str = "stretch") -> tuple[tf.Tensor, tf.Tensor]:
    """Where a window lands in an output of `size` = (height, width).

    "stretch" fills the output; "letterbox" keeps the aspect ratio, centres the window and leaves bars. The letterboxed
    window measures whole pixels (rounded), so that a phone can do the same with a plain resize and paste.

    Returns:
        transform: (4,) float32 (sx, sy, tx, ty): a point lands at `x · sx + tx`, `y · sy + ty`.
        shown: (4,) float32 xyxy, the part of the output that the window covers.

    Raises:
        ValueError: if `resize` is neither.
    """
    if resize not in RESIZES:
        raise ValueError(unknown_name("resize", resize, RESIZES))
    height, width = (tf.cast(side, tf.float32) for side in size)
    window_width, window_height = window[2] - window[0], window[3] - window[1]
    if resize == "stretch":
        left, top, new_width, new_height = 0.0, 0.0, width, height
    else:
        scale = tf.minimum(width / window_width, height / window_height)
        new_width = tf.maximum(tf.round(window_width * scale), 1.0)
        new_height = tf.maximum(tf.round(window_height * scale), 1.0)
        left, top = tf.floor((width - new_width) / 2.0), tf.floor((height - new_height) / 2.0)
    sx, sy = new_width / window_width, new_height / window_height
    transform = tf.stack([sx, sy, left - window[0] * sx, top - window[1] * sy])
    return transform, tf.stack([left, top, left + new_width, top + new_height])


def show(
    image: tf.Tensor,
    window: tf.Tensor,
    size: tuple[int, int],
    resize: str = "stretch",
    recolour: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.Tensor:
    """Resamples a window of an image (H, W, 3) to `size`, bilinear with antialiasing, float32 in the image's range.

    The whole window equals `tf.image.resize(image, size, antialias=True)` and `kzoo.images.resize`. `recolour` changes
    the pixels after the resampling, where they are few, but not the filling around them.
    """
    transform, shown = placement(window, size, resize)
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    # Only the pixels under the window are resampled: a small crop of a large photograph costs little.
    x1 = tf.clip_by_value(tf.floor(window[0]), 0.0, width - 1.0)
    y1 = tf.clip_by_value(tf.floor(window[1]), 0.0, height - 1.0)
    x2 = tf.clip_by_value(tf.math.ceil(window[2]), x1 + 1.0, width)
    y2 = tf.clip_by_value(tf.math.ceil(window[3]), y1 + 1.0, height)
    left, top, right, bottom = (tf.cast(edge, tf.int32) for edge in (x1, y1, x2, y2))
    sx, sy, tx, ty = tf.unstack(transform)
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=image[None, top:bottom, left:right],
        size=size,
        scale=tf.stack([sy, sx]),
        translation=tf.stack([ty + y1 * sy, tx + x1 * sx]),
        kernel_type="triangle",
        antialias=True,
    )[0]
    if recolour is not None:
        pixels = recolour(pixels)
    # The op leaves pixels 0 whose centre is outside the image; the margin covers its rounding.
    margin = 0.01
    column, row = (tf.range(tf.cast(side, tf.float32)) + 0.5 for side in (size[1], size[0]))
    in_x = (column > tf.maximum(shown[0], tx + x1 * sx) + margin) & (
        column < tf.minimum(shown[2], tx + x2 * sx) - margin
    )
    in_y = (row > tf.maximum(shown[1], ty + y1 * sy) + margin) & (row < tf.minimum(shown[3], ty + y2 * sy) - margin)
    full = tf.reduce_all(in_x) & tf.reduce_all(in_y)
    return tf.cond(full, lambda: pixels, lambda: tf.where((in_y[:, None] & in_x)[..., None], pixels, FILL))


def move(boxes: tf.Tensor, labels: tf.Tensor, transform: tf.Tensor) -> tf.Tensor:
    """Boxes (N, 4) under a transform (sx, sy, tx, ty); padded boxes stay 0."""
    moved = boxes * tf.tile(transform[:2], [2]) + tf.tile(transform[2:], [2])
    return tf.where(labels[:, None] >= 0, moved, 0.0)


def keep_centred(boxes: tf.Tensor, labels: tf.Tensor, area: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Drops objects whose centre is outside `area` (4,) xyxy (SSD section 2.2), clips the others, padding last."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    inside = tf.reduce_all((centre > area[:2]) & (centre < area[2:]), axis=1)
    keep = inside & (labels >= 0)
    order = tf.argsort(tf.cast(~keep, tf.int32), stable=True)
    boxes = tf.where(keep[:, None], _clip(boxes, area), 0.0)
    return tf.gather(boxes, order), tf.gather(tf.where(keep, labels, -1), order)


def validity(proposals: tf.Tensor) -> tf.Tensor:
    """Labels of proposals (P, 4) as they are for objects: 0, and -1 for padding, which has no area."""
    has_area = (proposals[:, 2] > proposals[:, 0]) & (proposals[:, 3] > proposals[:, 1])
    return tf.where(has_area, 0, -1)


def move_proposals(proposals: tf.Tensor, window: tf.Tensor, size: tuple[int, int], resize: str) -> tf.Tensor:
    """Proposals (P, 4) as `cut` moves objects: clipped, those whose centre is outside dropped, padding last."""
    transform, shown = placement(window, size, resize)
    labels = validity(proposals)
    return keep_centred(move(proposals, labels, transform), labels, shown)[0]


def cut(
    image: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    window: tf.Tensor,
    size: tuple[int, int] | None = None,
    resize: str = "stretch",
    recolour: Callable | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Shows a window of an image and its boxes at `size`, or at the window's own size rounded to whole pixels."""
    if size is None:
        size = tf.cast(tf.maximum(tf.round(tf.stack([window[3] - window[1], window[2] - window[0]])), 1.0), tf.int32)
    transform, shown = placement(window, (size[0], size[1]), resize)
    boxes, labels = keep_centred(move(boxes, labels, transform), labels, shown)
    return show(image, window, size, resize, recolour), boxes, labels


def iou_crop(image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple:
    """`iou_crop_window` on an image (H, W, 3): returns (image, boxes, labels), the image float32 and cropped."""
    return cut(image, boxes, labels, iou_crop_window(whole(image), boxes, labels, seed))


def expand(image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, **options: float) -> tuple:
    """`expand_window` on an image (H, W, 3): returns (image, boxes, labels), filled with FILL around the image."""
    return cut(image, boxes, labels, expand_window(whole(image), boxes, labels, seed, **options))


def jitter(image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, **options: float) -> tuple:
    """`jitter_window` on an image (H, W, 3): returns (image, boxes, labels)."""
    return cut(image, boxes, labels, jitter_window(whole(image), boxes, labels, seed, **options))


def edges(image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, **options: float) -> tuple:
    """`edges_window` on an image (H, W, 3): returns (image, boxes, labels), filled with FILL around the image."""
    return cut(image, boxes, labels, edges_window(whole(image), boxes, labels, seed, **options))


def resize(image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, size: tuple[int, int]) -> tuple:
    """Stretches an image (H, W, 3) and its boxes to `size` = (height, width)."""
    return cut(image, boxes, labels, whole(image), size)


def letterbox(image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, size: tuple[int, int]) -> tuple:
    """Fits an image (H, W, 3) and its boxes into `size` = (height, width), aspect ratio kept, bars of FILL."""
    return cut(image, boxes, labels, whole(image), size, "letterbox")


def _within(window: tf.Tensor, x, y, width, height) -> tf.Tensor:
    """Windows given as fractions of another: corner (x, y) and sides, each (...) -> (..., 4) in pixels."""
    sides = window[2:] - window[:2]
    corner = window[:2] + tf.stack([x, y], axis=-1) * sides
    return tf.concat([corner, corner + tf.stack([width, height], axis=-1) * sides], axis=-1)


def _clip(boxes: tf.Tensor, area: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(boxes, tf.tile(area[:2], [2]), tf.tile(area[2:], [2]))


def _iou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`kzoo.boxes.iou` in TensorFlow's ops: inside tf.data they must not depend on Keras' backend."""
    common = tf.minimum(a[:, None, 2:], b[None, :, 2:]) - tf.maximum(a[:, None, :2], b[None, :, :2])
    common = tf.reduce_prod(tf.maximum(common, 0.0), axis=-1)
    area_a = tf.reduce_prod(a[:, 2:] - a[:, :2], axis=-1)
    area_b = tf.reduce_prod(b[:, 2:] - b[:, :2], axis=-1)
    return tf.math.divide_no_nan(common, area_a[:, None] + area_b - common)
