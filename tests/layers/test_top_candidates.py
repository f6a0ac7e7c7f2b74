import keras
import numpy as np
import pytest

from kzoo.layers import TopCandidates


def numbers(values):
    return {key: keras.ops.convert_to_numpy(value) for key, value in values.items()}


def test_each_level_gives_its_best_pairs_of_box_and_class(run_layer_test):
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 99, (2, 8, 4)).astype("float32")
    scores = rng.permutation(2 * 8 * 3).reshape(2, 8, 3).astype("float32")
    _, found = run_layer_test(
        TopCandidates, {"level_sizes": [5, 2, 1], "per_level": 4}, (boxes, scores), float32_output=True
    )
    found = numbers(found)
    for image in range(2):
        expected = []
        for start, end in ((0, 5), (5, 7), (7, 8)):  # the last level has three pairs only
            pairs = [(scores[image, n, c], n, c) for n in range(start, end) for c in range(3)]
            expected += sorted(pairs, reverse=True)[:4]
        np.testing.assert_array_equal(found["scores"][image], [s for s, _, _ in expected])
        np.testing.assert_array_equal(found["labels"][image], [c for _, _, c in expected])
        np.testing.assert_array_equal(found["boxes"][image], [boxes[image, n] for _, n, _ in expected])


def test_a_level_of_many_high_scores_leaves_the_other_level_its_share():
    scores = np.concatenate([np.full((1, 50, 1), 0.9), np.full((1, 2, 1), 0.1)], 1).astype("float32")
    found = numbers(TopCandidates([50, 2], per_level=2)(np.zeros((1, 52, 4), "float32"), scores))
    np.testing.assert_allclose(found["scores"], [[0.9, 0.9, 0.1, 0.1]])


def test_faults_are_named():
    with pytest.raises(ValueError, match="Expected 5 boxes"):
        TopCandidates([3, 2])(np.zeros((1, 4, 4), "float32"), np.zeros((1, 4, 1), "float32"))
    with pytest.raises(ValueError, match="per_level must be at least 1"):
        TopCandidates([3], per_level=0)
