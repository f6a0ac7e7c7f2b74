"""U-Net's weight map against its formula, pixel by pixel."""

import numpy as np
import pytest

from kzoo.data.weight_maps import boundary_weights
from kzoo.morphology import connected_components


def formula(instances, w0, sigma, balance):
    """w(x) by searching all pixels of all cells."""
    cells = {k: np.argwhere(instances == k) for k in np.unique(instances) if k}
    share = (instances != 0).mean()
    weights = np.zeros(instances.shape)
    for y, x in np.ndindex(instances.shape):
        cell = instances[y, x] != 0
        weights[y, x] = (0.5 / (share if cell else 1 - share)) if balance and 0 < share < 1 else 1
        distances = sorted(np.hypot(*(points - [y, x]).T).min() for points in cells.values())
        if not cell and len(distances) > 1:
            weights[y, x] += w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return weights


@pytest.mark.parametrize(("w0", "sigma", "balance"), [(10, 5, True), (3, 1.5, False)])
def test_weights_equal_the_formula(w0, sigma, balance):
    rng = np.random.default_rng(0)
    instances = connected_components(rng.random((25, 31)) < 0.1, 8) * 3
    assert len(np.unique(instances)) > 10
    found = boundary_weights(instances, w0, sigma, balance)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, formula(instances, w0, sigma, balance), atol=1e-5)


def test_a_one_pixel_gap_between_two_cells_by_hand():
    instances = np.zeros((5, 11), int)
    instances[:, :5], instances[:, 6:] = 1, 2
    weights = boundary_weights(instances, balance=False)
    np.testing.assert_allclose(weights[:, 5], 1 + 10 * np.exp(-(2**2) / 50), rtol=1e-6)
    assert (weights[:, :5] == 1).all()


def test_cells_and_background_weigh_alike_in_all():
    instances = np.zeros((10, 10), int)
    instances[2:4, 2:7] = 1
    weights = boundary_weights(instances)
    assert weights[instances == 1].sum() == pytest.approx(weights[instances == 0].sum()) == pytest.approx(50)


def test_one_cell_no_cell_and_only_cells_have_no_border_term():
    np.testing.assert_array_equal(boundary_weights(np.zeros((4, 5), int)), 1)
    np.testing.assert_array_equal(boundary_weights(np.ones((4, 5), int)), 1)
    assert boundary_weights(np.zeros((0, 5), int)).shape == (0, 5)


def test_pixels_of_which_nothing_is_known_weigh_nothing():
    instances = np.zeros((4, 6), int)
    instances[0, 0], instances[3] = 1, 255
    weights = boundary_weights(instances, ignore_label=255)
    assert (weights[3] == 0).all()
    assert weights[:3].mean() == pytest.approx(1)
    with pytest.raises(ValueError, match="sigma positive"):
        boundary_weights(instances, sigma=0)
