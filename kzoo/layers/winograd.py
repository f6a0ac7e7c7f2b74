"""3x3 convolutions with a quarter of the multiplications (Winograd, 1980; Lavin and Gray, CVPR 2016, section 4).

A tile of 4 x 4 outputs is part of a product of polynomials, and its values at 6 x 6 points determine such a product.
`VALUES` takes a tile's 6 x 6 inputs there, `KERNEL` the 3 x 3 numbers of a kernel, and `RESULT` brings the 36 products
back to 16 outputs. At each point, the products of all tiles and channels, summed over the input's channels, are one
product of matrices: 36 multiplications of each pair of channels in place of 16 * 9.

The price is a larger rounding error. It depends on the points: those here make a quarter of the error of the usual
0, 1, -1, 2, -2. For TensorFlow, which this file imports: only where it is the backend does anybody import this file.
"""

import numpy as np
import tensorflow as tf

TILE, SPAN = 4, 6  # a tile's outputs along an axis, and the inputs under them
POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)  # and infinity


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """VALUES (36, 36), KERNEL (36, 9) and RESULT (16, 36), as Toom and Cook make them, along both axes at once."""
    values, kernel, result = np.zeros((SPAN, SPAN)), np.zeros((SPAN, 3)), np.zeros((TILE, SPAN))
    for row, point in enumerate(POINTS):
        others = [other for other in POINTS if other != point]
        values[row, :-1] = np.poly(others)[::-1]  # coefficients of the polynomial that is 0 at the others
        kernel[row] = point ** np.arange(3) / np.prod([point - other for other in others])
        result[:, row] = point ** np.arange(TILE)
    values[-1] = np.poly(POINTS)[::-1]
    kernel[-1, -1] = result[-1, -1] = 1
    return tuple(np.kron(matrix, matrix).astype("float32") for matrix in (values, kernel, result))


VALUES, KERNEL, RESULT = _transforms()


def convolve(images: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
    """The 3x3 convolution with stride 1 of (B, H, W, C) with (3, 3, C, K), as (B, h, w, K); float32, H and W known.

    Both gradients take the same shortcut.
    """
    before = {"same": 1, "valid": 0}[padding]
    height, width = images.shape[1:3]
    size = (height - 2 + 2 * before, width - 2 + 2 * before)

    @tf.custom_gradient
    def convolution(images, kernel):
        def gradient(upstream):
            # A pixel's part in the outputs around it is that of the kernel turned by 180 degrees.
            turned = _kernel_values(kernel, KERNEL[:, ::-1])
            to_images = _convolve(upstream, turned, 2 - before, (height, width), transpose_b=True)
            return to_images, _kernel_gradient(images, upstream, before)

        return _convolve(images, _kernel_values(kernel, KERNEL), before, size), gradient

    return convolution(images, kernel)


def _convolve(images, kernel_values, before: int, size: tuple[int, int], transpose_b: bool = False):
    """Outputs of this size; the first one's kernel begins `before` pixels outside of the image."""
    products = tf.matmul(_image_values(images, before, size), kernel_values, transpose_b=transpose_b)
    return _from_tiles(_map_first_axis(RESULT, products), tf.shape(images)[0], size)


def _kernel_gradient(images, upstream, before: int):
    of_products = _map_first_axis(RESULT.T, _to_tiles(upstream, 0, upstream.shape[1:3], TILE))
    of_values = tf.matmul(_image_values(images, before, upstream.shape[1:3]), of_products, transpose_a=True)
    return tf.reshape(_map_first_axis(KERNEL.T, of_values), (3, 3, *of_values.shape[1:]))


def _image_values(images, before: int, size: tuple[int, int]):
    """(36, tiles, C): the values of each tile's inputs at the points."""
    return _map_first_axis(VALUES, _to_tiles(images, before, size, SPAN))


def _kernel_values(kernel, matrix: np.ndarray):
    """(36, C, K): the values of each pair's 3 x 3 numbers at the points."""
    return _map_first_axis(matrix, tf.reshape(kernel, (9, *kernel.shape[2:])))


def _map_first_axis(matrix: np.ndarray, numbers):
    """The matrix times numbers of (its columns, M, N), as (its rows, M, N)."""
    count, last = tf.shape(numbers)[1], numbers.shape[2]
    columns = tf.reshape(numbers, (matrix.shape[1], count * last))
    return tf.reshape(tf.matmul(matrix, columns), (matrix.shape[0], count, last))


def _to_tiles(maps, before: int, size: tuple[int, int], side: int):
    """(side * side, tiles of all images, C): the pixels under each tile of that many outputs, with zeros around."""
    rows, columns = _tiles(size)
    after = [TILE * (rows - 1) + side - before - maps.shape[1], TILE * (columns - 1) + side - before - maps.shape[2]]
    maps = tf.pad(maps, [[0, 0], *([before, more] for more in after), [0, 0]])
    batch, (height, width, channels) = tf.shape(maps)[0], maps.shape[1:]
    i, j, top, left = np.ogrid[:side, :side, : TILE * rows : TILE, : TILE * columns : TILE]
    places = ((top + i) * width + left + j).reshape(side**2, 1, rows * columns).astype("int32")
    places = tf.reshape(places + height * width * tf.range(batch)[:, None], (side**2, batch * rows * columns))
    return tf.gather(tf.reshape(maps, (batch * height * width, channels)), places)


def _from_tiles(outputs, batch, size: tuple[int, int]):
    """The reverse for tiles' outputs (16, tiles, K): images (B, *size, K)."""
    rows, columns = _tiles(size)
    y, x = np.ogrid[: size[0], : size[1]]
    places = ((y % TILE * TILE + x % TILE) * rows * columns, y // TILE * columns + x // TILE)
    in_tile, tile = (place.astype("int32") for place in places)
    places = in_tile * batch + tile + rows * columns * tf.range(batch)[:, None, None]
    return tf.gather(tf.reshape(outputs, (TILE**2 * batch * rows * columns, outputs.shape[-1])), places)


def _tiles(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tiles that cover so many outputs."""
    return tuple(-(-side // TILE) for side in size)
