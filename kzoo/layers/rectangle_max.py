"""The maximum of a feature map over many rectangles of cells of any size: the heart of RoI and pyramid pooling.

A table holds the maximum over every window whose sides are 1, 3, 7, 15, ... cells. A stretch of n cells is the union of
two windows at its ends, of the largest such side within n, so that any rectangle is the union of four windows, one in
each of its corners, and its maximum takes four look-ups: the work grows with the number of rectangles, not with their
area, and no mask is ever made.
"""

import itertools

import keras
import numpy as np
from keras import ops

from kzoo.types import Tensor


def rectangle_max(
    features: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, largest: tuple[int, int] | None = None
) -> Tensor:
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
    rows, columns = (_sides(min(n, m)) for n, m in zip((height, width), largest or (height, width), strict=True))
    empty = (bottom <= top) | (right <= left)
    top, bottom, left, right = (ops.where(empty, k, x) for k, x in ((0, top), (1, bottom), (0, left), (1, right)))
    # The first cells of the four windows: upper left, upper right, lower left, lower right.
    high, wide = bottom - top, right - left
    corners = itertools.product(
        (top, bottom - _of_side(rows, rows, high)), (left, right - _of_side(columns, columns, wide))
    )

    # In the table the windows stand side by side, row by row: where the right one starts, and how many it has a line.
    per_column, per_row = (np.array([n - side + 1 for side in s]) for n, s in ((height, rows), (width, columns)))
    above, before = (np.cumsum([0, *counts[:-1]]) for counts in (per_column, per_row))
    line = _of_side(columns, per_row, wide)
    start = _of_side(rows, above * per_row.sum(), high) + _of_side(rows, per_column, high) * _of_side(
        columns, before, wide
    )
    cells = int(per_column.sum() * per_row.sum()) + 1
    images = ops.arange(ops.shape(features)[0], dtype="int32")[:, None]
    # The last row of each image's table is for empty rectangles.
    places = [images * cells + ops.where(empty, cells - 1, start + y * line + x) for y, x in corners]

    def look_up(table, place):
        return ops.take(ops.reshape(table, (-1, channels)), place, axis=0)

    def pooled(features):
        windows = _windows(features, rows, columns)
        values = _join(windows)
        found = [look_up(values, place) for place in places]
        upper, lower = ops.maximum(found[0], found[1]), ops.maximum(found[2], found[3])

        def gradient(*args, upstream=None):
            upstream = ops.cast(args[0] if upstream is None else upstream, "float32")
            positions = _join(_positions(windows, rows, columns), last=height * width)
            cell = [look_up(positions, place) for place in places]
            left_of, right_of = (
                ops.where(found[1] > found[0], cell[1], cell[0]),
                ops.where(found[3] > found[2], cell[3], cell[2]),
            )
            cell = ops.cast(ops.where(lower > upper, right_of, left_of), "int32")
            # What comes from empty rectangles falls into a last cell of each image, which is then cut off.
            count = height * width + 1
            index = cell * channels + (images[..., None] * (count * channels) + ops.arange(channels, dtype="int32"))
            batch = ops.shape(features)[0]
            summed = _sum_at(index, upstream, batch * (count * channels))
            summed = ops.reshape(summed, (batch, count, channels))[:, :-1]
            return ops.cast(ops.reshape(summed, ops.shape(features)), features.dtype)

        return ops.maximum(upper, lower), gradient

    if keras.backend.backend() != "tensorflow":
        return pooled(features)[0]
    return ops.custom_gradient(pooled)(features)


def _sides(largest: int) -> list[int]:
    """1, 3, 7, ...: the sides of the windows, so that two of one side cover any stretch up to `largest` cells."""
    sides = [1]
    while 2 * sides[-1] < largest:
        sides.append(2 * sides[-1] + 1)
    return sides


def _of_side(sides, values, size):
    """For each of `size` (B, M), the value that belongs to the largest side within it."""
    steps = zip(sides[1:], values[:-1], values[1:], strict=True)
    return sum(
        (ops.cast(size >= side, "int32") * int(after - before) for side, before, after in steps),
        start=ops.zeros_like(size) + int(values[0]),
    )


def _sum_at(index, values, count):
    """Adds up the values of each index 0..count-1, element by element, in float32: (count,)."""
    import tensorflow as tf

    # A histogram with weights: several threads, where a sum over segments has one.
    return tf.raw_ops.Bincount(arr=tf.reshape(index, (-1,)), size=count, weights=tf.reshape(values, (-1,)))


def _windows(features, rows: list[int], columns: list[int]) -> list[list]:
    """[i][j]: the maximum over the window of rows[i] x columns[j] cells at each place."""
    table = [[features]]
    for side in columns[:-1]:
        table[0].append(_largest(*_thirds(table[0][-1], side, axis=2)))
    for side in rows[:-1]:
        table.append([_largest(*_thirds(x, side, axis=1)) for x in table[-1]])
    return table


def _positions(windows: list[list], rows: list[int], columns: list[int]) -> list[list]:
    """Like `windows`, but which cell of the map holds the maximum, counted row by row; whole numbers in float32."""
    _, height, width, _ = windows[0][0].shape
    cells = ops.convert_to_tensor(np.arange(height * width).reshape(1, height, width, 1), "float32")
    table = [[ops.zeros_like(windows[0][0], dtype="float32") + cells]]

    def of_largest(values, positions, side, axis):
        (a, b, c), (in_a, in_b, in_c) = _thirds(values, side, axis), _thirds(positions, side, axis)
        return ops.where(c > ops.maximum(a, b), in_c, ops.where(b > a, in_b, in_a))

    for j, side in enumerate(columns[:-1]):
        table[0].append(of_largest(windows[0][j], table[0][j], side, 2))
    for i, side in enumerate(rows[:-1]):
        table.append([of_largest(x, y, side, 1) for x, y in zip(windows[i], table[i], strict=True)])
    return table


def _thirds(x, side: int, axis: int):
    """Windows of `side` at k, k + side and k + side + 1, which together cover one of 2 side + 1."""
    if axis == 1:
        return x[:, : -side - 1], x[:, side:-1], x[:, side + 1 :]
    return x[:, :, : -side - 1], x[:, :, side:-1], x[:, :, side + 1 :]


def _largest(a, b, c):
    return ops.maximum(ops.maximum(a, b), c)


def _join(windows: list[list], last: int = 0):
    """All windows in one table (B, cells, C), and a last row for empty rectangles."""
    flat = [ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3])) for x in itertools.chain(*windows)]
    return ops.concatenate([*flat, ops.full_like(flat[0][:, :1], last)], axis=1)
