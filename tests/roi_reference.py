"""The region layers as plain loops over cells, from the published definitions, and gradients on either backend."""

import math

import keras
import numpy as np


def round_half_away(x: float) -> int:
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def max_over(cells: np.ndarray, y1: int, y2: int, x1: int, x2: int, upstream=None, gradient=None) -> np.ndarray:
    """The maximum per channel of map[y1:y2, x1:x2], 0 if that is empty; the gradient goes to its cell."""
    height, width, channels = cells.shape
    best, place = np.full(channels, -np.inf), [None] * channels
    for y in range(max(y1, 0), min(y2, height)):
        for x in range(max(x1, 0), min(x2, width)):
            for c in range(channels):
                if cells[y, x, c] > best[c]:
                    best[c], place[c] = cells[y, x, c], (y, x, c)
    for c in range(channels):
        if gradient is not None and place[c] is not None:
            gradient[place[c]] += upstream[c]
    return np.where(np.isinf(best), 0.0, best)


def roi_pool(features, rois, stride, p, upstream=None):
    """(B, R, p, p, C) and, given the upstream gradient, that of the features."""
    batch, count = rois.shape[:2]
    result, gradient = np.zeros((batch, count, p, p, features.shape[-1])), np.zeros(features.shape)
    for b in range(batch):
        for r in range(count):
            x1, y1, x2, y2 = (round_half_away(v / stride) for v in rois[b, r])
            w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
            for i in range(p):
                for j in range(p):
                    rows = y1 + (i * h) // p, y1 + -((-(i + 1) * h) // p)
                    columns = x1 + (j * w) // p, x1 + -((-(j + 1) * w) // p)
                    up = None if upstream is None else upstream[b, r, i, j]
                    grad = None if upstream is None else gradient[b]
                    result[b, r, i, j] = max_over(features[b], *rows, *columns, up, grad)
    return result, gradient


def roi_align(features, rois, stride, p, samples, upstream=None):
    """(B, R, p, p, C) and, given the upstream gradient, that of the features."""
    batch, height, width, channels = features.shape
    result, gradient = np.zeros((batch, rois.shape[1], p, p, channels)), np.zeros(features.shape)
    for b, r, i, j in np.ndindex(batch, rois.shape[1], p, p):
        x1, y1, x2, y2 = (v / stride - 0.5 for v in rois[b, r].astype("float64"))
        for k, m in np.ndindex(samples, samples):
            y = y1 + (y2 - y1) / p * (i + (k + 0.5) / samples)
            x = x1 + (x2 - x1) / p * (j + (m + 0.5) / samples)
            if y < -1 or y > height or x < -1 or x > width:
                continue
            y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
            low_y, low_x = int(y), int(x)
            high_y, high_x = min(low_y + 1, height - 1), min(low_x + 1, width - 1)
            for yy, wy in ((low_y, 1 - (y - low_y)), (high_y, y - low_y)):
                for xx, wx in ((low_x, 1 - (x - low_x)), (high_x, x - low_x)):
                    weight = wy * wx / samples**2
                    result[b, r, i, j] += weight * features[b, yy, xx]
                    if upstream is not None:
                        gradient[b, yy, xx] += weight * upstream[b, r, i, j]
    return result, gradient


def value_and_gradient(function, x, upstream) -> tuple[np.ndarray, np.ndarray]:
    """function(x), and the gradient of sum(function(x) * upstream) with respect to x."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function  # as in training: some operators have kernels for eager execution only
        def both(x, upstream):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return y, tf.convert_to_tensor(tape.gradient(y, x, output_gradients=upstream))

        return tuple(value.numpy() for value in both(tf.constant(x), tf.constant(upstream)))
    import jax

    y, pull = jax.vjp(jax.jit(function), keras.ops.convert_to_tensor(x))
    return np.asarray(y), np.asarray(pull(keras.ops.convert_to_tensor(upstream))[0])
