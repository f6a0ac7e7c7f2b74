"""Boxes: units, formats, the IoU family, clipping and deltas. The only place with box arithmetic.

Inside kzoo a box is always `xyxy`, float32, in pixels of the image that the network sees, 0-based and half-open: its
width is x2 - x1. Other formats are converted once, at the edges. Every function takes NumPy arrays (and gives NumPy
arrays back, float64 kept) or tensors of any Keras backend (computed in float32 under any dtype policy).
"""

from typing import Any

import numpy as np

from kzoo.messages import unknown_name
from kzoo.types import Tensor

FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh")

# exp() of a larger log-scale is no sensible box: a sixteen-pixel anchor grown to a thousand pixels. It keeps an
# untrained network's decoded boxes finite.
MAX_LOG_SCALE = float(np.log(1000.0 / 16.0))


def convert(boxes: Tensor, source: str, target: str, image_shape: tuple[int, int] | None = None) -> Tensor:
    """Converts boxes between formats, named as in `keras.utils.bounding_boxes`.

    Args:
        boxes: (..., 4).
        source, target: one of FORMATS; the `rel_` ones are fractions of the image.
        image_shape: (height, width) in pixels, needed where exactly one of the two formats is relative.

    Raises:
        ValueError: for an unknown format, or a relative one without `image_shape`.
    """
    for name in (source, target):
        if name not in FORMATS:
            raise ValueError(unknown_name("box format", name, FORMATS))
    np_like, (boxes,) = _namespace(boxes)
    relative_in, relative_out = source.startswith("rel_"), target.startswith("rel_")
    a, b, c, d = _split(boxes)
    layout = source.removeprefix("rel_")
    if layout == "yxyx":
        a, b, c, d = b, a, d, c
    elif layout == "xywh":
        c, d = a + c, b + d
    elif layout == "center_xywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    if relative_in != relative_out:
        if image_shape is None:
            raise ValueError(f"Converting {source} to {target} needs image_shape=(height, width). Received: None.")
        height, width = image_shape
        sx, sy = (width, height) if relative_in else (1.0 / width, 1.0 / height)
        a, b, c, d = a * sx, b * sy, c * sx, d * sy
    layout = target.removeprefix("rel_")
    if layout == "yxyx":
        a, b, c, d = b, a, d, c
    elif layout == "xywh":
        c, d = c - a, d - b
    elif layout == "center_xywh":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    return np_like.stack([a, b, c, d], axis=-1)


def area(boxes: Tensor) -> Tensor:
    """Area in square pixels of xyxy boxes (..., 4) -> (...); 0 for degenerate boxes, never negative."""
    np_like, (boxes,) = _namespace(boxes)
    x1, y1, x2, y2 = _split(boxes)
    return np_like.maximum(x2 - x1, 0.0) * np_like.maximum(y2 - y1, 0.0)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Area of intersection of every pair: (..., N, 4), (..., M, 4) -> (..., N, M)."""
    np_like, (a, b) = _namespace(a, b)
    ax1, ay1, ax2, ay2 = (c[..., :, None] for c in _split(a))
    bx1, by1, bx2, by2 = (c[..., None, :] for c in _split(b))
    width = np_like.maximum(np_like.minimum(ax2, bx2) - np_like.maximum(ax1, bx1), 0.0)
    return width * np_like.maximum(np_like.minimum(ay2, by2) - np_like.maximum(ay1, by1), 0.0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (Jaccard index) of every pair: (..., N, 4), (..., M, 4) -> (..., N, M) in 0..1.

    0 where either box is degenerate; never NaN for sides below 1e19, whose area float32 holds.

    Example:
        >>> iou(np.array([[0., 0., 2., 2.]]), np.array([[1., 0., 3., 2.]]))
        array([[0.33333333]])
    """
    np_like, (a, b) = _namespace(a, b)
    overlap = intersection(a, b)
    union = area(a)[..., :, None] + area(b)[..., None, :] - overlap
    return overlap / np_like.where(overlap > 0, union, np_like.ones_like(union))


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalized IoU of boxes one to one: (..., 4), (..., 4) -> (...) in -1..1 (Rezatofighi et al., CVPR 2019).

    IoU less the share of the smallest enclosing box that neither covers; it has a gradient where boxes do not touch.
    """
    np_like, (a, b) = _namespace(a, b)
    ax1, ay1, ax2, ay2 = _split(a)
    bx1, by1, bx2, by2 = _split(b)
    width = np_like.maximum(np_like.minimum(ax2, bx2) - np_like.maximum(ax1, bx1), 0.0)
    overlap = width * np_like.maximum(np_like.minimum(ay2, by2) - np_like.maximum(ay1, by1), 0.0)
    union = area(a) + area(b) - overlap
    hull_width = np_like.maximum(ax2, bx2) - np_like.minimum(ax1, bx1)
    hull = hull_width * (np_like.maximum(ay2, by2) - np_like.minimum(ay1, by1))
    # Of two degenerate boxes both are 0, and 0 / 0 is none.
    some_union, some_hull = (np_like.where(x > 0, x, np_like.ones_like(x)) for x in (union, hull))
    return overlap / some_union - (hull - union) / some_hull


def clip(boxes: Tensor, image_shape: tuple[int, int]) -> Tensor:
    """Clips xyxy boxes (..., 4) to an image of (height, width) pixels."""
    np_like, (boxes,) = _namespace(boxes)
    height, width = image_shape
    limits = np.array([width, height, width, height], "float32")
    return np_like.minimum(np_like.maximum(boxes, 0.0), limits)


def encode(boxes: Tensor, anchors: Tensor, variances: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Deltas (..., 4) that move anchors onto boxes (both xyxy, (..., 4)); the inverse of `decode`.

    tx = (x - xa) / wa, ty = (y - ya) / ha, tw = log(w / wa), th = log(h / ha), each divided by its variance
    (R-CNN, appendix C; SSD's code divides by .1, .1, .2, .2). Boxes thinner than 1e-3 pixels count as that thin.
    """
    np_like, (boxes, anchors) = _namespace(boxes, anchors)
    x, y, w, h = _center_size(boxes)
    xa, ya, wa, ha = _center_size(anchors)
    thin = 1e-3
    w, h = np_like.maximum(w, thin), np_like.maximum(h, thin)
    wa, ha = np_like.maximum(wa, thin), np_like.maximum(ha, thin)
    deltas = np_like.stack([(x - xa) / wa, (y - ya) / ha, np_like.log(w / wa), np_like.log(h / ha)], axis=-1)
    return deltas / np.array(variances, "float32")


def decode(deltas: Tensor, anchors: Tensor, variances: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Boxes xyxy (..., 4) from deltas (..., 4) and anchors (..., 4); the inverse of `encode`.

    bx = xa + wa tx, by = ya + ha ty, bw = wa exp(tw), bh = ha exp(th); tw and th are held below log(1000 / 16).
    """
    np_like, (deltas, anchors) = _namespace(deltas, anchors)
    tx, ty, tw, th = _split(deltas * np.array(variances, "float32"))
    xa, ya, wa, ha = _center_size(anchors)
    x, y = xa + wa * tx, ya + ha * ty
    half_w = wa * np_like.exp(np_like.minimum(tw, MAX_LOG_SCALE)) / 2
    half_h = ha * np_like.exp(np_like.minimum(th, MAX_LOG_SCALE)) / 2
    return np_like.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1)


def _namespace(*arrays: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
    """NumPy for NumPy (float32 or float64), keras.ops in float32 for everything else."""
    if all(isinstance(array, np.ndarray | list | tuple) for array in arrays):
        arrays = tuple(np.asarray(array) for array in arrays)
        dtype = np.result_type(np.float32, *(a.dtype for a in arrays if a.dtype.kind == "f"))
        return np, tuple(array.astype(dtype, copy=False) for array in arrays)
    import keras  # not above: what draws or measures boxes of an exported file needs no Keras

    return keras.ops, tuple(keras.ops.cast(array, "float32") for array in arrays)


def _split(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = _split(boxes)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
