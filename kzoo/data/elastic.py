"""Elastic deformation of images with their masks and weights (U-Net, section 3.1). Plain NumPy."""

import numpy as np


def elastic_deformation(
    rng: np.random.Generator,
    image: np.ndarray,
    mask: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    deviation: float = 10.0,
    grid: tuple[int, int] = (3, 3),
) -> tuple:
    """Bends an image, and its mask and weights in the same way.

    Random displacements of a coarse grid, 3 x 3 and of 10 pixels standard deviation in the paper, are interpolated
    bicubically to one for each pixel. What would come from beyond the border is mirrored.

    Args:
        rng: draws the displacements.
        image: (H, W, C) or (H, W), sampled bilinearly; integers are rounded and keep their dtype.
        mask: (H, W) labels, sampled at the nearest pixel: no new label arises.
        weights: (H, W), sampled bilinearly.
        deviation: in pixels, of each coordinate.
        grid: (rows, columns) of the coarse grid, its corners at the image's.

    Returns:
        (image, mask, weights) of the shapes and dtypes given; None for what was not given.
    """
    field = displacement_field(rng.normal(0.0, deviation, (*grid, 2)), image.shape[:2])
    return (
        warp(image, field),
        None if mask is None else warp(mask, field, nearest=True),
        None if weights is None else warp(weights, field),
    )


def displacement_field(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic interpolation of the displacements at a coarse grid to all pixels.

    Cubic convolution (Keys, 1981) along either axis; beyond the grid it is continued linearly, so that a displacement
    that is linear over the image stays so.

    Args:
        grid: (rows, columns, 2) displacements (dy, dx) in pixels; its corners lie on the image's corner pixels.
        size: (height, width).

    Returns:
        (height, width, 2) float64.
    """
    rows, columns = (_interpolation(have, want) for have, want in zip(grid.shape[:2], size, strict=True))
    return np.einsum("yi,ijk,xj->yxk", rows, grid, columns, optimize=True)


def warp(values: np.ndarray, field: np.ndarray, nearest: bool = False) -> np.ndarray:
    """Takes each pixel from where its displacement points to: out[y, x] = values[y + dy, x + dx].

    Args:
        values: (H, W) or (H, W, C). field: (H, W, 2) displacements (dy, dx) in pixels.
        nearest: the nearest pixel's value, for labels; else bilinear. Mirrored at the border.

    Returns:
        the shape and dtype of `values`.
    """
    values = np.asarray(values)
    height, width = values.shape[:2]
    y = np.arange(height)[:, None] + field[..., 0]
    x = np.arange(width)[None] + field[..., 1]
    if nearest:
        return values[_mirrored(np.rint(y), height), _mirrored(np.rint(x), width)]
    top, left = np.floor(y), np.floor(x)
    down, right = y - top, x - left
    if values.ndim == 3:
        down, right = down[..., None], right[..., None]
    y0, y1 = _mirrored(top, height), _mirrored(top + 1, height)
    x0, x1 = _mirrored(left, width), _mirrored(left + 1, width)
    upper = values[y0, x0] * (1 - right) + values[y0, x1] * right
    lower = values[y1, x0] * (1 - right) + values[y1, x1] * right
    result = upper * (1 - down) + lower * down
    return (np.rint(result) if np.issubdtype(values.dtype, np.integer) else result).astype(values.dtype)


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Indices folded back into 0..size-1 at the border pixels, which are not repeated."""
    period = max(2 * (size - 1), 1)
    folded = np.mod(index.astype(int), period)
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(folded)


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
        mirrored = np.where(index < 0, -index, 2 * (have - 1) - index)
        np.add.at(weights, (pixel[beyond], mirrored[beyond]), -share[beyond])
    return weights


def _keys(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1/2."""
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
