"""Elastic deformation of images with their masks and weights (U-Net, section 3.1), as graph code for tf.data."""

import numpy as np
import tensorflow as tf

DEVIATION = 10.0  # pixels, of each coordinate of a displacement (section 3.1)
GRID = (3, 3)


def elastic_deformation(
    image: tf.Tensor,
    labels: list[tf.Tensor],
    seed: tf.Tensor,
    deviation: float = DEVIATION,
    grid: tuple[int, int] = GRID,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Bends an image, and its masks and weights in the same way.

    Random displacements of a coarse grid, 3 x 3 and of 10 pixels standard deviation in the paper, are interpolated
    bicubically to one for each pixel. What would come from beyond the border is mirrored.

    Args:
        image: (H, W, C) of a static size, sampled bilinearly: float32.
        labels: each (H, W) of any dtype, sampled at the nearest pixel: no new label arises.
        seed: (2,) integers; draws the displacements.
        deviation: in pixels, of each coordinate.
        grid: (rows, columns) of the coarse grid, its corners at the image's.

    Returns:
        (image, labels) of the shapes given.
    """
    draws = tf.random.stateless_normal([*grid, 2], seed, stddev=deviation)
    field = displacement_field(draws, tuple(image.shape[:2]))
    return warp(image, field), [warp(one, field, nearest=True) for one in labels]


def displacement_field(grid: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Bicubic interpolation of the displacements at a coarse grid to all pixels.

    Cubic convolution (Keys, 1981) along either axis; beyond the grid it is continued linearly, so that a displacement
    that is linear over the image stays so.

    Args:
        grid: (rows, columns, 2) displacements (dy, dx) in pixels, of a static shape; its corners lie on the image's
            corner pixels.
        size: (height, width).

    Returns:
        (height, width, 2) of the grid's dtype.
    """
    grid = tf.convert_to_tensor(grid)
    rows, columns = (
        tf.constant(_interpolation(have, want), grid.dtype) for have, want in zip(grid.shape[:2], size, strict=True)
    )
    down = tf.tensordot(rows, grid, 1)  # (height, columns of the grid, 2)
    return tf.einsum("yjk,xj->yxk", down, columns)


def warp(values: tf.Tensor, field: tf.Tensor, nearest: bool = False) -> tf.Tensor:
    """Takes each pixel from where its displacement points to: out[y, x] = values[y + dy, x + dx].

    Args:
        values: (H, W) or (H, W, C). field: (H, W, 2) displacements (dy, dx) in pixels.
        nearest: the nearest pixel's value, of the dtype given; else bilinear, in the field's dtype. Mirrored at the
            border.

    Returns:
        the shape of `values`.
    """
    values = tf.convert_to_tensor(values)
    height, width = tf.unstack(tf.shape(values)[:2])
    flat = tf.reshape(values, tf.concat([[-1], tf.shape(values)[2:]], 0))
    field = tf.convert_to_tensor(field)
    y = tf.cast(tf.range(height), field.dtype)[:, None] + field[..., 0]
    x = tf.cast(tf.range(width), field.dtype)[None] + field[..., 1]

    def at(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        return tf.gather(flat, mirrored(rows, height) * width + mirrored(columns, width))

    if nearest:
        return at(tf.round(y), tf.round(x))
    flat = tf.cast(flat, field.dtype)
    top, left = tf.floor(y), tf.floor(x)
    down, right = y - top, x - left
    if values.shape.rank == 3:
        down, right = down[..., None], right[..., None]
    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return upper * (1 - down) + lower * down


def mirrored(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Indices as int32, folded back into 0..size-1 at the border pixels, which are not repeated."""
    period = tf.maximum(2 * (size - 1), 1)
    folded = tf.math.floormod(tf.cast(index, tf.int32), period)
    return tf.minimum(tf.minimum(folded, period - folded), size - 1)


def _interpolation(have: int, want: int) -> np.ndarray:
    """(want, have) weights of cubic convolution between `have` values, spread evenly from first to last pixel."""
    if have == 1:
        return np.ones((want, 1))
    place = np.linspace(0, have - 1, want) if want > 1 else np.array([(have - 1) / 2])
    first = np.minimum(place.astype(int), have - 2)
    weights, pixel = np.zeros((want, have)), np.arange(want)
    for offset in (-1, 0, 1, 2):
        index = first + offset
        share = _keys(np.abs(place - index))
        # Beyond the ends lies the line through the last two values: v[-1] = 2 v[0] - v[1].
        beyond = (index < 0) | (index >= have)
        np.add.at(weights, (pixel, np.clip(index, 0, have - 1)), share * np.where(beyond, 2.0, 1.0))
        mirror = np.where(index < 0, -index, 2 * (have - 1) - index)
        np.add.at(weights, (pixel[beyond], mirror[beyond]), -share[beyond])
    return weights


def _keys(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1/2."""
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
