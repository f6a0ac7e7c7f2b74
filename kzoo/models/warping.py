"""Warped crops with context: what R-CNN's network sees of a region (section 2.1 and appendix A)."""

import numpy as np
from PIL import Image

FILL = (123, 117, 104)  # about ImageNet's mean: nearly 0 behind any normalisation
CONTEXT, CONTEXT_OF = 16, 227  # appendix A: p = 16 pixels around the region in the 227 of AlexNet's input


def context_of(crop_size: int) -> int:
    """Pixels of context in a crop of another size, in the paper's proportion."""
    return round(CONTEXT * crop_size / CONTEXT_OF)


def with_context(boxes: np.ndarray, crop_size: int, context: int) -> np.ndarray:
    """The boxes (P, 4) grown so that, warped to `crop_size`, the original lies `context` pixels inside."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    half = size / 2 * crop_size / (crop_size - 2 * context)
    return np.concatenate([centre - half, centre + half], axis=1)


def warp(image: np.ndarray, boxes: np.ndarray, crop_size: int, context: int) -> np.ndarray:
    """Cuts regions out and warps each to a square, whatever its shape; what lies outside the image is the mean colour.

    Args:
        image: (H, W, 3) RGB 0..255.
        boxes: (P, 4) xyxy pixels with an area.
        crop_size: S, side of the crops.
        context: pixels of the crop around the region.

    Returns:
        (P, S, S, 3) uint8.
    """
    picture = Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    crops = np.empty((len(boxes), crop_size, crop_size, 3), np.uint8)
    crops[:] = FILL
    for crop, (x1, y1, x2, y2) in zip(crops, with_context(boxes, crop_size, context), strict=True):
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, picture.width), min(y2, picture.height)
        if left >= right or top >= bottom:
            continue
        # The part inside the image goes to whole pixels of the crop, at least one.
        columns = _place(left, right, x1, x2, crop_size)
        rows = _place(top, bottom, y1, y2, crop_size)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        part = picture.resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
        crop[rows, columns] = np.asarray(part)
    return crops


def _place(low: float, high: float, first: float, last: float, size: int) -> slice:
    scale = size / (last - first)
    start = min(round((low - first) * scale), size - 1)
    return slice(start, max(start + 1, round((high - first) * scale)))
