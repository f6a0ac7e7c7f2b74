"""The best of many scores. On CPUs most of the time of a suppression goes here, so it has a faster form there."""

from keras import ops

from kzoo.layers.kernels import use_fused
from kzoo.types import Tensor

STRIDE = 17  # of the sample; prime, so that it meets every class and every anchor of a cell
MARGIN = 1.5  # aims at so many times the scores that are wanted, for a sample to err by much before it asks for too few
WORTHWHILE = 8  # times the number that is wanted; sorting fewer scores whole is as fast


def best_scores(
    scores: Tensor, count: int, threshold: float = -float("inf"), fused: bool | None = None
) -> tuple[Tensor, Tensor]:
    """The `count` highest scores of each row, descending; among equals the earlier one first.

    Args:
        scores: (B, N) float32, N at least `count`.
        threshold: scores at most this need not be found; in their place may stand `threshold` with any index.
        fused: as in `kzoo.layers.NonMaxSuppression`.

    Returns:
        (B, count) float32 scores and (B, count) int32 indices.
    """
    if use_fused(fused) and scores.shape[-1] >= WORTHWHILE * count:
        return _of_a_sample(scores, count, threshold)
    best, index = ops.top_k(scores, count)
    return best, ops.cast(index, "int32")


def _of_a_sample(scores, count: int, threshold: float):
    """A sample tells about where the last wanted score lies; only what is higher is sorted. Exact, with TensorFlow."""
    import tensorflow as tf

    def one_row(row):
        sample = row[::STRIDE]
        wanted = min(sample.shape[0], int(MARGIN * count / STRIDE) + 1)
        guess = tf.maximum(tf.math.top_k(sample, wanted)[0][-1], threshold)
        index = tf.cast(tf.where(row > guess)[:, 0], tf.int32)
        missing = tf.maximum(count - tf.size(index), 0)

        def sort_the_higher_ones():
            high = tf.concat([tf.gather(row, index), tf.fill([missing], threshold)], axis=0)
            best, place = tf.math.top_k(high, count)
            return best, tf.gather(tf.concat([index, tf.zeros([missing], tf.int32)], axis=0), place)

        # A sample that is higher than the rest guesses too high. Below the threshold nobody misses anything.
        found = (missing == 0) | (guess <= threshold)
        return tf.cond(found, sort_the_higher_ones, lambda: tuple(tf.math.top_k(row, count)))

    signature = (tf.TensorSpec((count,), tf.float32), tf.TensorSpec((count,), tf.int32))
    return tf.map_fn(one_row, scores, fn_output_signature=signature, parallel_iterations=16)
