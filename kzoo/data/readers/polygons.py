"""Objects drawn into masks: polygons, and the run lengths of COCO."""

from collections.abc import Sequence

import numpy as np

FARTHEST = 1e6  # pixels from the image's corner: no image is as large


def corners(numbers: object) -> np.ndarray:
    """x, y, x, y, ... or pairs of them, as a file holds them -> (N, 2).

    Raises:
        ValueError: if they are no numbers, or far from any image.
    """
    try:
        points = np.array(numbers, np.float64).reshape(-1, 2)
    except (TypeError, OverflowError) as error:
        raise ValueError("corners that are no numbers") from error
    if not (np.abs(points) < FARTHEST).all():  # nor NaN
        raise ValueError("corners that are no numbers or beyond any image")
    return points


def fill(mask: np.ndarray, polygon: np.ndarray, value: int) -> None:
    """Sets the pixels of a mask (H, W) whose centres lie within a polygon (N, 2) of x, y in 0-based pixels.

    A pixel is inside where a line from it to the left crosses an odd number of edges.
    """
    height, width = mask.shape
    (x, y), (next_x, next_y) = polygon.T, np.roll(polygon, -1, axis=0).T
    # The rows whose centre line an edge crosses; of its ends only the upper counts, or corners would cross twice.
    first, last = (
        np.clip(np.ceil(end - 0.5), 0, height).astype(int) for end in (np.minimum(y, next_y), np.maximum(y, next_y))
    )
    counts = last - first
    if not counts.any():
        return
    edge = np.repeat(np.arange(len(polygon)), counts)
    rows = np.arange(len(edge)) - (np.cumsum(counts) - counts - first)[edge]
    crossings = x[edge] + (rows + 0.5 - y[edge]) * (next_x - x)[edge] / (next_y - y)[edge]
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max()
    crossed = np.zeros((bottom - top, right - left + 1), np.uint8)
    np.add.at(crossed, (rows - top, columns - left), 1)
    inside = np.cumsum(crossed, axis=1, dtype=np.uint8)[:, :-1] % 2 == 1
    mask[top:bottom, left:right][inside] = value


def polygon_area(polygon: np.ndarray) -> float:
    """Pixels within a polygon (N, 2) that does not cross itself (the shoelace formula)."""
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def decode_runs(runs: Sequence[int] | str, size: tuple[int, int], by_rows: bool = False) -> np.ndarray:
    """A mask (H, W) bool from run lengths, which begin with what is outside.

    Args:
        runs: the lengths, or COCO's text of them.
        size: (height, width).
        by_rows: they go along the rows, as CVAT's do, and not down the columns, as COCO's.

    Raises:
        ValueError: if they do not fill the mask.
    """
    try:
        lengths = np.array(_lengths_of(runs) if isinstance(runs, str) else runs, np.int64)
    except (TypeError, OverflowError) as error:
        raise ValueError("run lengths that are no numbers") from error
    pixels = size[0] * size[1]
    # Each by itself, too: the sum of huge ones starts again at 0.
    if lengths.ndim != 1 or (lengths < 0).any() or (lengths > pixels).any() or lengths.sum() != pixels:
        raise ValueError(f"run lengths that do not fill {size[1]} x {size[0]} pixels")
    mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return mask.reshape(size) if by_rows else mask.reshape(size[::-1]).T


def _lengths_of(text: str) -> list[int]:
    """Five bits a character, lowest first, from "0" on; from the fourth length on, what it is longer than the last but
    one."""
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        value |= (bits & 31) << shift
        shift += 5
        if shift > 60:
            raise ValueError("a run length beyond any image")
        if bits & 32:  # more of this length follows
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    return lengths
