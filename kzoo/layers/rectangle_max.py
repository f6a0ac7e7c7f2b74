"""The maximum of a feature map over many rectangles of cells of any size: the heart of RoI and pyramid pooling.

A table holds, for each pair of powers of two, the maximum over every window of that height and width. Any rectangle is
the union of four such windows, one in each of its corners, so that its maximum takes four look-ups: the work grows with
the number of rectangles, not with their area, and no mask is ever made.
"""

import itertools
import math

import keras
import numpy as np
from keras import ops


def rectangle_max(features, top, bottom, left, right, largest: tuple[int, int] | None = None):
    """Maximum over rectangles of cells, channel by channel.

    The gradient goes to the cell that holds the maximum. Where several do, TensorFlow, which has a backward pass of its
    own here (several times faster than that of the look-ups), takes one of them; JAX divides it among them.

    Args:
        features: (B, h, w, C), h, w and C static.
        top, bottom, left, right: (B, M) int32, half-open ranges of cells, within 0..h and 0..w.
        largest: (height, width) of the largest rectangle to come; None for the whole map. A smaller bound makes a
            smaller table; beyond twice the bound the result is wrong.

    Returns:
        (B, M, C); 0 where the rectangle is empty.
    """
    _, height, width, channels = features.shape
    if height * width == 0:
        raise ValueError(f"A feature map needs at least one cell. Received shape: {tuple(features.shape)}.")
    levels = tuple(
        math.floor(math.log2(max(min(n, size), 1))) + 1
        for n, size in zip(largest or (height, width), (height, width), strict=True)
    )
    rows, columns = levels
    empty = (bottom <= top) | (right <= left)
    top, bottom, left, right = (ops.where(empty, k, x) for k, x in ((0, top), (1, bottom), (0, left), (1, right)))
    level_y, level_x = _level(bottom - top, rows), _level(right - left, columns)
    spans = ops.convert_to_tensor(2 ** np.arange(max(levels)), "int32")
    # The first cells of the four windows: upper left, upper right, lower left, lower right.
    corners = itertools.product((top, bottom - ops.take(spans, level_y)), (left, right - ops.take(spans, level_x)))

    starts, widths, cells = _layout(height, width, levels)
    images = ops.arange(ops.shape(features)[0], dtype="int32")[:, None]
    start = ops.take(starts, level_y * columns + level_x)
    step = ops.take(widths, level_x)
    # The last row of each image's table is for empty rectangles.
    places = [images * cells + ops.where(empty, cells - 1, start + y * step + x) for y, x in corners]

    def look_up(table, place):
        return ops.take(ops.reshape(table, (-1, channels)), place, axis=0)

    def pooled(features):
        windows = _windows(features, levels)
        values = _join(windows)
        found = [look_up(values, place) for place in places]
        upper, lower = ops.maximum(found[0], found[1]), ops.maximum(found[2], found[3])

        def gradient(*args, upstream=None):
            upstream = ops.cast(args[0] if upstream is None else upstream, "float32")
            # Which cell of the map each maximum is; small integers, half the memory.
            dtype = "int16" if height * width < 2**15 else "int32"
            positions = _join(_positions(windows, dtype), last=height * width)
            cell = [look_up(positions, place) for place in places]
            above = ops.where(found[1] > found[0], cell[1], cell[0])
            below = ops.where(found[3] > found[2], cell[3], cell[2])
            cell = ops.cast(ops.where(lower > upper, below, above), "int32")
            # Element by element: fewer additions than rows of the table, in float32 whatever the policy. What comes
            # from empty rectangles falls into a last cell of each image, which is then cut off.
            count = height * width + 1
            index = cell * channels + (images[..., None] * (count * channels) + ops.arange(channels, dtype="int32"))
            batch = ops.shape(features)[0]
            summed = ops.segment_sum(
                ops.reshape(upstream, (-1,)), ops.reshape(index, (-1,)), batch * (count * channels)
            )
            summed = ops.reshape(summed, (batch, count, channels))[:, :-1]
            return ops.cast(ops.reshape(summed, ops.shape(features)), features.dtype)

        return ops.maximum(upper, lower), gradient

    if keras.backend.backend() != "tensorflow":
        return pooled(features)[0]
    return ops.custom_gradient(pooled)(features)


def _level(size, levels: int):
    """The exponent of the largest power of two within `size` >= 1, at most levels - 1."""
    return sum((ops.cast(size >= 2**k, "int32") for k in range(1, levels)), start=ops.zeros_like(size))


def _layout(height: int, width: int, levels: tuple[int, int]):
    """Where the windows of 2^i x 2^j start in the table, (i, j) row by row; cells a row for each j; its length."""
    heights, widths = ([n - 2**k + 1 for k in range(count)] for n, count in zip((height, width), levels, strict=True))
    sizes = [a * b for a, b in itertools.product(heights, widths)]
    return (
        ops.convert_to_tensor(np.cumsum([0, *sizes[:-1]]), "int32"),
        ops.convert_to_tensor(np.array(widths), "int32"),
        sum(sizes) + 1,
    )


def _windows(features, levels: tuple[int, int]) -> list[list]:
    """[i][j]: the maximum over the window of 2^i x 2^j cells at each place, (B, h - 2^i + 1, w - 2^j + 1, C)."""
    rows, columns = levels
    table = [[features]]
    for j in range(1, columns):
        left, right = _halves(table[0][j - 1], 2 ** (j - 1), axis=2)
        table[0].append(ops.maximum(left, right))
    for i in range(1, rows):
        halves = [_halves(x, 2 ** (i - 1), axis=1) for x in table[i - 1]]
        table.append([ops.maximum(above, below) for above, below in halves])
    return table


def _positions(windows: list[list], dtype: str) -> list[list]:
    """Like `windows`, but which cell of the map holds the maximum, counted row by row."""
    _, height, width, _ = windows[0][0].shape
    cells = ops.convert_to_tensor(np.arange(height * width).reshape(1, height, width, 1), dtype)
    table = [[ops.zeros_like(windows[0][0], dtype=dtype) + cells]]

    def of_larger(values, positions, half, axis):
        (first, second), (in_first, in_second) = _halves(values, half, axis), _halves(positions, half, axis)
        return ops.where(second > first, in_second, in_first)

    for j in range(1, len(windows[0])):
        table[0].append(of_larger(windows[0][j - 1], table[0][j - 1], 2 ** (j - 1), 2))
    for i in range(1, len(windows)):
        table.append([of_larger(x, y, 2 ** (i - 1), 1) for x, y in zip(windows[i - 1], table[i - 1], strict=True)])
    return table


def _halves(x, half: int, axis: int):
    return (x[:, :-half], x[:, half:]) if axis == 1 else (x[:, :, :-half], x[:, :, half:])


def _join(windows: list[list], last: int = 0):
    """All windows in one table (B, cells, C), and a last row for empty rectangles."""
    flat = [ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3])) for x in itertools.chain(*windows)]
    return ops.concatenate([*flat, ops.full_like(flat[0][:, :1], last)], axis=1)
