"""Elastic deformation: the field's interpolation, and the same warp for image, mask and weights."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from kzoo.data.augment.elastic import displacement_field, elastic_deformation, warp  # noqa: E402


def test_the_field_goes_through_the_grid():
    grid = np.random.default_rng(0).normal(0, 10, (3, 3, 2))
    field = displacement_field(grid, (21, 41))
    assert field.shape == (21, 41, 2)
    np.testing.assert_allclose(field.numpy()[::10, ::20], grid, atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (4, 5)])
def test_a_linear_displacement_stays_linear(shape):
    y, x = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None]
    grid = np.stack([3 + 2 * y + x, y - 4 * x + 0 * y], -1)
    field = displacement_field(grid, (30, 20))
    y, x = np.linspace(-1, 1, 30)[:, None], np.linspace(-1, 1, 20)[None]
    np.testing.assert_allclose(field, np.stack([3 + 2 * y + x, y - 4 * x + 0 * y], -1), atol=1e-9)


def test_the_interpolation_is_smooth_and_by_hand():
    # Keys' kernel between 0, 1, 0 with the line continued beyond (v[-1] = -1): a quarter of the way from 0 to 1.
    grid = np.zeros((3, 1, 2))
    grid[1] = 1
    field = displacement_field(grid, (9, 1)).numpy()[:, 0, 0]
    t = 0.25
    before, here, there, after = -1, 0, 1, 0
    expected = 0.5 * (
        2 * here
        + (there - before) * t
        + (2 * before - 5 * here + 4 * there - after) * t**2
        + (3 * here - before - 3 * there + after) * t**3
    )
    assert field[1] == pytest.approx(expected)
    np.testing.assert_allclose(field, field[::-1], atol=1e-12)


def test_a_shift_by_whole_pixels_moves_everything_and_mirrors_the_border():
    values = np.arange(20.0).reshape(4, 5)
    field = np.zeros((4, 5, 2))
    field[..., 1] = 2
    expected = values[:, [2, 3, 4, 3, 2]]
    np.testing.assert_array_equal(warp(values, field), expected)
    np.testing.assert_array_equal(warp(values, field, nearest=True), expected)
    field[..., 1] = -7  # further than the image is wide
    np.testing.assert_array_equal(warp(values, field), values[:, [1, 2, 3, 4, 3]])


def test_half_a_pixel_is_the_mean_of_two():
    values = np.array([[0.0, 4.0, 8.0, 2.0]])
    field = np.zeros((1, 4, 2))
    field[..., 1] = 0.5
    np.testing.assert_allclose(warp(values, field), [[2, 6, 5, 5]])
    assert warp(np.array([[0, 5]], "uint8"), field[:, :2], nearest=True).dtype == np.uint8


def test_image_mask_and_weights_bend_alike_and_masks_stay_labels():
    mask = np.zeros((64, 80), "uint8")
    mask[16:48, 20:60] = 7
    mask[:8] = 255
    image = np.repeat(mask[..., None], 3, -1).astype("float32")
    bent, (labels, weights) = elastic_deformation(tf.constant(image), [mask, mask.astype("float32")], [1, 2])
    bent, labels, weights = bent.numpy(), labels.numpy(), weights.numpy()
    assert bent.shape == image.shape
    assert (labels.dtype, weights.dtype, bent.dtype) == (np.uint8, np.float32, np.float32)
    assert set(np.unique(labels)) <= {0, 7, 255}
    np.testing.assert_array_equal(weights, labels)
    whole = np.isin(bent[..., 0], [0, 7, 255])  # away from the edges both samplings agree
    assert whole.mean() > 0.5
    np.testing.assert_array_equal(labels[whole], bent[..., 0][whole])
    assert 0.02 < (labels != mask).mean() < 0.6
    again, nothing = elastic_deformation(tf.constant(image), [], [1, 2])
    np.testing.assert_array_equal(again, bent)
    assert nothing == []


def test_displacements_have_the_papers_spread():
    # The corners of the grid lie on the image's corners, whose displacement shows where a pixel came from.
    columns = tf.range(1000.0)[None, :, None] * tf.ones([3, 1, 1])
    move = tf.function(lambda k: elastic_deformation(columns, [], tf.stack([0, k]))[0][0, 500, 0] - 500)
    moved = [float(move(k)) for k in tf.range(400)]
    assert np.std(moved) == pytest.approx(10, rel=0.1)
    assert np.mean(moved) == pytest.approx(0, abs=1.5)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 3), (2, 1, 3)])
def test_tiny_images(shape):
    image = np.random.default_rng(3).uniform(0, 255, shape).astype("float32")
    bent = elastic_deformation(tf.constant(image), [], [4, 4])[0].numpy()
    assert bent.shape == shape
    assert image.min() - 1e-3 <= bent.min() <= bent.max() <= image.max() + 1e-3
