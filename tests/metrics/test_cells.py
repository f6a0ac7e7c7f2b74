"""Measures of cells against loops over pairs of pixels and over objects, and topology by hand."""

import itertools

import numpy as np
import pytest

from kzoo.metrics import CellMeasures, object_jaccards, rand_scores, warping_error
from kzoo.metrics.cells import _SIMPLE
from kzoo.morphology import connected_components


def pair_loop(true, predicted):
    """Rand scores by counting ordered pairs of pixels (each with itself too) that lie in one object."""
    single = itertools.count(1000)
    pixels = [(t, p if p else next(single)) for t, p in zip(true.ravel(), predicted.ravel(), strict=True) if t]
    pairs = list(itertools.product(pixels, repeat=2))
    both = sum(a == b for a, b in pairs)
    in_true = sum(a[0] == b[0] for a, b in pairs)
    in_predicted = sum(a[1] == b[1] for a, b in pairs)
    return {"split": both / in_true, "merge": both / in_predicted, "f": 2 * both / (in_true + in_predicted)}


@pytest.mark.parametrize("background", [0.0, 0.3])
def test_rand_scores_equal_counting_pairs(background):
    rng = np.random.default_rng(4)
    true = rng.integers(0, 4, (6, 7))
    predicted = rng.integers(1, 5, (6, 7)) * (rng.random((6, 7)) >= background)
    expected, found = pair_loop(true, predicted), rand_scores(true, predicted)
    assert found["rand_split"] == pytest.approx(expected["split"])
    assert found["rand_merge"] == pytest.approx(expected["merge"])
    assert found["rand_fscore"] == pytest.approx(expected["f"])
    assert found["adapted_rand_error"] == pytest.approx(1 - expected["f"])


def test_rand_by_hand():
    true = np.array([[1, 1, 0, 2, 2]])
    assert rand_scores(true, true)["rand_fscore"] == 1
    merged = rand_scores(true, np.ones((1, 5), int))  # pairs together: true 4 + 4, predicted 16, both 8
    assert merged["rand_split"] == 1
    assert merged["rand_merge"] == 0.5
    split = rand_scores(np.ones((1, 4), int), np.array([[1, 1, 2, 2]]))
    assert (split["rand_split"], split["rand_merge"]) == (0.5, 1)
    assert rand_scores(true, np.zeros((1, 5), int))["rand_split"] == 0.5  # each pixel an object: 4 of 8
    assert np.isnan(rand_scores(np.zeros((2, 2), int), true[:, :4].reshape(2, 2))["rand_fscore"])


def test_rand_equals_scikit_image_where_the_prediction_has_no_background():
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(5)
    true, predicted = rng.integers(0, 5, (40, 40)), rng.integers(1, 6, (40, 40))
    error, precision, recall = metrics.adapted_rand_error(true, predicted)
    found = rand_scores(true, predicted)
    np.testing.assert_allclose(
        [found["adapted_rand_error"], found["rand_merge"], found["rand_split"]], [error, precision, recall]
    )


def test_seg_equals_a_loop_over_objects():
    rng = np.random.default_rng(6)
    true = connected_components(rng.random((20, 20)) < 0.5)
    predicted = true.copy()
    predicted[rng.random((20, 20)) < 0.15] = 0
    predicted[5:9, 5:9] = 99
    expected = []
    for label in range(1, true.max() + 1):
        inside = true == label
        score = 0.0
        for other in set(predicted[inside].tolist()) - {0}:
            both = (inside & (predicted == other)).sum()
            if both > 0.5 * inside.sum():
                score = both / (inside | (predicted == other)).sum()
        expected.append(score)
    np.testing.assert_allclose(object_jaccards(true, predicted), expected)
    assert 0 < np.mean(expected) < 1


def test_seg_by_hand():
    true = np.array([[1, 1, 1, 0, 2, 2]])
    # Object 1: 2 of 3 pixels found, union 3; object 2: exactly half of it found, which does not count.
    np.testing.assert_allclose(object_jaccards(true, np.array([[7, 7, 0, 0, 8, 0]])), [2 / 3, 0])
    assert object_jaccards(np.zeros((2, 2), int), np.ones((2, 2), int)).shape == (0,)


@pytest.mark.parametrize("code", range(256))
def test_simple_points_are_those_whose_flip_changes_no_count_of_regions(code):
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    patch = np.zeros((3, 3), int)
    for k, place in enumerate(ring):
        patch[place] = code >> k & 1
    counts = []
    for centre in (0, 1):
        patch[1, 1] = centre
        counts.append((connected_components(patch, 4).max(), connected_components(1 - patch, 8).max()))
    assert _SIMPLE[code] == (counts[0] == counts[1])


def test_an_image_without_cells_has_nothing_to_measure():
    metric, nothing = CellMeasures(warping=True), np.zeros((1, 8, 8), int)
    metric.update_state(nothing, nothing)
    assert metric.result()["warping_error"] == -1
    metric.update_state(nothing, np.ones_like(nothing))
    assert metric.result()["warping_error"] > 0


def test_a_moved_boundary_costs_nothing_in_warping_and_topology_does():
    true = np.zeros((20, 30), int)
    true[4:16, 3:12] = 1
    true[4:16, 16:27] = 2
    assert warping_error(true, true) == 0
    grown = true.copy()
    grown[2:17, 3:13] = 1
    assert warping_error(true, grown) == 0
    bridged = true.copy()
    bridged[9:10, 12:16] = 1  # merges the two objects: one pixel must stay different
    assert warping_error(true, bridged) == pytest.approx(1 / true.size)
    lost = np.where(true == 2, 0, true)  # the object shrinks to a pixel, but does not vanish
    assert warping_error(true, lost) == pytest.approx(1 / true.size)
    hole = true.copy()
    hole[8:11, 6:9] = 0  # the hole cannot be made
    assert warping_error(true, hole) > 0


def test_a_warped_map_keeps_the_regions_of_the_truth():
    rng = np.random.default_rng(7)
    true, predicted = rng.random((2, 16, 16)) < 0.5
    plain = (true != predicted).mean()
    assert 0 < warping_error(true, predicted) < plain


def test_measures_over_a_data_set():
    metric = CellMeasures(warping=True)
    assert metric.result()["SEG"] == -1
    true = np.array([[[1, 1, 0, 2, 2]], [[0, 0, 0, 0, 0]], [[3, 3, 3, 3, 3]]])
    found = np.array([[[1, 1, 0, 2, 2]], [[0, 0, 0, 0, 0]], [[4, 4, 4, 0, 0]]])
    metric.update_state(true, found)
    result = metric.result()
    assert result["objects"] == 3
    assert result["SEG"] == pytest.approx((1 + 1 + 0.6) / 3)
    assert result["rand_fscore"] == pytest.approx((1 + rand_scores(true[2], found[2])["rand_fscore"]) / 2)
    assert result["warping_error"] == 0
