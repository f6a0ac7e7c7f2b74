"""The faster selection against a stable sort."""

import keras
import numpy as np
import pytest

from kzoo.layers.best_scores import STRIDE, best_scores

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends sort all scores")


def selected(scores, count, threshold=-np.inf):
    return [np.asarray(x) for x in best_scores(scores, count, threshold, fused=True)]


def assert_sorted_like_numpy(scores, count, threshold=-np.inf):
    values, index = selected(scores, count, threshold)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    for row in range(len(scores)):
        matter = scores[row, expected[row]] > threshold
        np.testing.assert_array_equal(index[row][matter], expected[row][matter])
        np.testing.assert_array_equal(values[row][matter], scores[row, expected[row][matter]])
        assert (values[row][~matter] <= threshold).all()


@pytest.mark.parametrize("count", [1, 20, 300])
@pytest.mark.parametrize("threshold", [-np.inf, 0.5, 0.995, 2.0])
def test_the_best_scores_are_those_of_a_stable_sort(count, threshold):
    scores = np.random.default_rng(0).uniform(0, 1, (3, 5000)).astype("float32")
    assert_sorted_like_numpy(scores, count, threshold)


@pytest.mark.parametrize("levels", [1, 2, 50])
def test_among_equal_scores_the_earlier_one_comes_first(levels):
    scores = np.random.default_rng(1).integers(0, levels, (2, 4000)).astype("float32")
    assert_sorted_like_numpy(scores, 100)


def test_a_sample_that_is_higher_than_the_rest_misses_none():
    scores = np.zeros((1, 4000), "float32")
    scores[:, ::STRIDE] = 1.0
    scores[0, 1:200:2] = np.maximum(scores[0, 1:200:2], 0.5)
    assert_sorted_like_numpy(scores, 300)


def test_a_sample_that_is_lower_than_the_rest_misses_none():
    scores = np.random.default_rng(2).uniform(0.5, 1, (1, 4000)).astype("float32")
    scores[:, ::STRIDE] = 0.0
    assert_sorted_like_numpy(scores, 300)


def test_an_empty_batch_stays_empty():
    values, index = selected(np.zeros((0, 1000), "float32"), 10)
    assert values.shape == index.shape == (0, 10)


def test_rows_of_nothing_but_nan_do_not_stop_it():
    values, index = selected(np.full((1, 1000), np.nan, "float32"), 10, 0.1)
    assert values.shape == index.shape == (1, 10)
