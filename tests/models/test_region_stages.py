"""The stages of R-CNN and SPP-net against independent references: features on disk, SVMs, box regression, warping."""

import numpy as np
import pytest

from kzoo import boxes as box_ops
from kzoo.models import box_regression, support_vectors, warping
from kzoo.models.feature_store import FeatureStore, mean_norm

linear_model = pytest.importorskip("sklearn.linear_model", reason="the SVMs need scikit-learn")
svm = pytest.importorskip("sklearn.svm", reason="the SVMs need scikit-learn")


def test_a_store_gives_back_each_images_rows_from_disk(tmp_path):
    store = FeatureStore(tmp_path / "deep" / "features.f32")
    assert store.rows().shape == (0, 0)
    rows = np.arange(20, dtype="float32").reshape(5, 4)
    for part in (rows[:2], rows[:0], rows[2:]):
        store.append(part)
    assert len(store) == 3
    np.testing.assert_array_equal(store.image(0), rows[:2])
    assert store.image(1).shape == (0, 4)
    np.testing.assert_array_equal(store.image(2), rows[2:])
    assert isinstance(store.rows(), np.memmap)
    assert store.path.stat().st_size == rows.nbytes
    with pytest.raises(ValueError, match=r"\(R, 4\)"):
        store.append(np.zeros((1, 5)))


def test_the_mean_norm_of_nothing_is_one():
    assert mean_norm(np.array([[3, 4.0], [0, 1]])) == 3
    assert mean_norm(np.zeros((0, 3))) == mean_norm(np.zeros((2, 3))) == 1
    assert mean_norm(np.repeat([[3, 4.0]], 50, axis=0), most=7) == 5


@pytest.mark.parametrize("count", [6, 40])  # fewer and more examples than features
def test_box_regression_is_a_ridge_on_whitened_deltas(count):
    rng = np.random.default_rng(0)
    x, deltas = rng.normal(size=(count, 12)), rng.normal(size=(count, 4)) @ rng.normal(size=(4, 4)) + [1, 2, 3, 4]
    weights, bias = box_regression.fit_boxes(x, deltas, ridge=3.0)
    # The other way: whiten by the inverse square root of the covariance, sklearn's ridge on each, and back.
    mean, covariance = deltas.mean(0), np.cov(deltas.T, bias=True) + 1e-3 * np.eye(4)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    model = linear_model.Ridge(alpha=3.0, fit_intercept=False).fit(
        np.c_[x, np.ones(count)], (deltas - mean) @ np.linalg.inv(root)
    )
    expected = model.predict(np.c_[x, np.ones(count)]) @ root + mean
    np.testing.assert_allclose(x @ weights + bias, expected, rtol=1e-3, atol=1e-3)


def test_box_regression_by_hand_and_without_examples():
    # One feature that says how far to the right the object lies; y = x - mean, lambda 1, sum of squares 2, count 2:
    # whitened by sqrt(1 + 0.001), w = 2 / (2 + 1), the column of ones has no part.
    x, deltas = np.array([[1.0], [-1.0]]), np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    weights, bias = box_regression.fit_boxes(x, deltas, ridge=1.0)
    np.testing.assert_allclose(weights, [[2 / 3, 0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(bias, 0, atol=1e-6)
    weights, bias = box_regression.fit_boxes(np.zeros((0, 3)), np.zeros((0, 4)))
    assert weights.shape == (3, 4)
    assert not weights.any()
    assert not bias.any()


def made_features(seed=0):
    """Objects of class 0 lie to the right, of class 1 above; the background is around the middle."""
    rng = np.random.default_rng(seed)
    positives = [rng.normal([3, 0], 0.4, (30, 2)), rng.normal([0, 3], 0.4, (20, 2))]
    images = [(rng.normal(0, 0.7, (60, 2)).astype("float32"), np.ones((60, 2), bool)) for _ in range(12)]
    return positives, images


@pytest.mark.parametrize("retrain_after", [50, 2000])
def test_mined_svms_find_what_svms_on_all_negatives_find(retrain_after):
    positives, images = made_features()
    weights, bias = support_vectors.train_svms(positives, images, retrain_after)
    assert weights.shape == (2, 2)
    negatives = np.concatenate([features for features, _ in images])
    for c in range(2):
        labels = np.r_[np.ones(len(positives[c])), -np.ones(len(negatives))]
        every = np.concatenate([positives[c], negatives])
        whole = svm.LinearSVC(
            C=1e-3, class_weight={1: 2}, intercept_scaling=10, loss="hinge", dual=True, max_iter=100_000, random_state=0
        ).fit(every, labels)
        np.testing.assert_allclose(every @ weights[:, c] + bias[c], whole.decision_function(every), atol=0.05)


def test_only_hard_negatives_stay_and_easy_ones_are_forgotten():
    positives, images = made_features()
    svm = support_vectors.HardNegativeSVM(positives[0] * 10, retrain_after=100)
    assert svm.mine(images[0][0] * 10, np.arange(60)) == 60  # no score yet: every one is hard
    assert svm.mine(images[0][0] * 10, np.arange(60)) == 0  # seen before
    svm.mine(images[1][0] * 10, np.arange(60, 120))
    assert (svm.scores(svm.negatives) >= -1.2).all()
    kept = len(svm.negatives)
    assert kept < 120
    far = np.full((5, 2), -100.0)
    svm.mine(far, np.arange(120, 125))
    assert len(svm.negatives) == kept
    svm.mine(np.full((3, 2), 28.0), np.arange(125, 128))
    assert len(svm.negatives) == len(svm.names) == kept + 3


def test_passes_go_on_until_nothing_forgotten_is_hard_again(monkeypatch):
    """Images of one kind after another: after one pass the SVM knows the last kinds best."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 20 / np.sqrt(10), (6, 10))
    common = rng.normal(0, 1, 10)
    common *= 15 / np.linalg.norm(common)
    positives = common + centres[0] + rng.normal(0, 3, (100, 10))
    images = [(common + centres[1 + i // 8] + rng.normal(0, 3, (60, 10)), np.ones((60, 1), bool)) for i in range(40)]
    negatives = np.concatenate([features for features, _ in images])

    def objective(weights, bias):
        hinge = 2 * np.maximum(0, 1 - positives @ weights - bias).sum()
        hinge += np.maximum(0, 1 + negatives @ weights + bias).sum()
        return (weights @ weights + (bias / 10) ** 2) / 2 + 1e-3 * hinge

    def mined():
        weights, bias = support_vectors.train_svms([positives], images, retrain_after=50)
        return objective(weights[:, 0], bias[0])

    whole = svm.LinearSVC(
        C=1e-3, class_weight={1: 2}, intercept_scaling=10, loss="hinge", dual=True, max_iter=100_000, random_state=0
    ).fit(np.concatenate([positives, negatives]), np.r_[np.ones(100), -np.ones(len(negatives))])
    lowest = objective(whole.coef_[0], whole.intercept_[0])
    assert mined() < 1.01 * lowest
    monkeypatch.setattr(support_vectors, "PASSES", 1)
    assert mined() > 1.5 * lowest


def test_a_class_without_objects_says_no_and_ignored_regions_have_no_say():
    positives, images = made_features()
    ignored = [(features * 100, np.zeros_like(negative)) for features, negative in images]
    weights, bias = support_vectors.train_svms([positives[0], np.zeros((0, 2))], [*images, *ignored])
    np.testing.assert_array_equal(weights[:, 1], 0)
    assert bias[1] == -1
    alone = support_vectors.train_svms([positives[0]], [(features, own[:, :1]) for features, own in images])
    np.testing.assert_allclose(weights[:, 0], alone[0][:, 0], atol=1e-6)


def test_a_warped_region_lies_sixteen_pixels_inside_the_227():
    box = np.array([[100, 100, 295, 295.0]])  # 195 = 227 - 2 x 16
    np.testing.assert_allclose(warping.with_context(box, 227, 16), [[84, 84, 311, 311]])
    assert warping.context_of(227) == 16
    image = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    np.testing.assert_array_equal(warping.warp(image, box, 227, 16)[0], image[84:311, 84:311])


def test_what_lies_outside_the_image_is_the_mean_colour():
    image = np.full((20, 30, 3), 200, np.uint8)
    crops = warping.warp(image, np.array([[-5, 0, 5, 10.0], [25, 15, 30, 20], [40, 40, 50, 50]]), 10, 0)
    np.testing.assert_array_equal(crops[0, :, :5], np.broadcast_to(warping.FILL, (10, 5, 3)))
    assert (crops[0, :, 5:] == 200).all()
    assert (crops[1] == 200).all()
    np.testing.assert_array_equal(crops[2], np.broadcast_to(warping.FILL, (10, 10, 3)))
    corner = warping.warp(image, np.array([[24, 14, 30, 20.0]]), 10, 2)[0]  # grown by 2 pixels on each side, to 10
    assert (corner[:8, :8] == 200).all()
    np.testing.assert_array_equal(corner[8:], np.broadcast_to(warping.FILL, (2, 10, 3)))


def test_thin_regions_and_floats_warp_to_squares():
    image = np.tile(np.arange(40, dtype="float32")[None, :, None], (30, 1, 3))
    crops = warping.warp(image, np.array([[0, 0, 40, 1.0], [3.2, 4, 3.3, 20], [10, 10, 10.01, 10.01]]), 8, 0)
    assert crops.shape == (3, 8, 8, 3)
    assert (np.diff(crops[0, 0, :, 0].astype(int)) > 3).all()  # the ramp of 40 columns in 8
    assert (crops[1] == 3).all()
    assert warping.warp(image, np.zeros((0, 4)), 8, 1).shape == (0, 8, 8, 3)


def test_moving_a_proposal_by_its_exact_deltas_gives_the_object():
    proposal, truth = np.array([[10, 10, 30, 50.0]]), np.array([[12, 8, 40, 44.0]])
    deltas = box_ops.encode(truth, proposal)
    np.testing.assert_allclose(deltas, [[(26 - 20) / 20, (26 - 30) / 40, np.log(28 / 20), np.log(36 / 40)]], rtol=1e-6)
    np.testing.assert_allclose(box_ops.decode(deltas, proposal), truth, rtol=1e-5)
