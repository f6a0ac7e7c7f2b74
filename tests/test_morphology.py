"""Connected regions and distances against plain loops."""

import numpy as np
import pytest

from kzoo.morphology import connected_components, distance_transform, grow_regions


def flood_fill(image, connectivity):
    """Plain reference: flood each region in reading order."""
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    if connectivity == 8:
        steps += [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    labels, count = np.zeros(image.shape, int), 0
    for start in np.ndindex(image.shape):
        if image[start] == 0 or labels[start]:
            continue
        count += 1
        labels[start], stack = count, [start]
        while stack:
            y, x = stack.pop()
            for dy, dx in steps:
                p = (y + dy, x + dx)
                inside = 0 <= p[0] < image.shape[0] and 0 <= p[1] < image.shape[1]
                if inside and not labels[p] and image[p] == image[y, x]:
                    labels[p] = count
                    stack.append(p)
    return labels


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (1, 9), (9, 1), (17, 23)])
def test_regions_equal_flood_filling(shape, connectivity):
    rng = np.random.default_rng(0)
    for values in (2, 3):
        for share in (0.2, 0.6):
            image = rng.integers(1, values, shape) * (rng.random(shape) < share)
            np.testing.assert_array_equal(connected_components(image, connectivity), flood_fill(image, connectivity))


def test_a_spiral_is_one_region():
    spiral = np.zeros((31, 31), bool)
    y, x, dy, dx = 0, 0, 0, 1
    for length in [*range(30, 0, -2)]:
        for _ in range(2):
            for _ in range(length):
                spiral[y, x] = True
                y, x = y + dy, x + dx
            dy, dx = dx, -dy
    assert connected_components(spiral).max() == flood_fill(spiral, 4).max()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (12, 7), (20, 33)])
def test_distances_equal_a_search_over_all_pixels(shape):
    rng = np.random.default_rng(1)
    for share in (0.02, 0.3):
        mask = rng.random(shape) < share
        mask.flat[rng.integers(mask.size)] = True
        points = np.argwhere(mask)
        grid = np.stack(np.indices(shape), -1)
        expected = np.sqrt(((grid[:, :, None] - points[None, None]) ** 2).sum(-1)).min(-1)
        np.testing.assert_allclose(distance_transform(mask), expected)
        near = distance_transform(mask, limit=3)
        np.testing.assert_allclose(near, np.where(expected <= 3, expected, np.inf))


def test_an_empty_mask_is_infinitely_far():
    assert np.isinf(distance_transform(np.zeros((4, 5), bool))).all()
    assert distance_transform(np.zeros((0, 5), bool)).shape == (0, 5)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"connectivity 4 or 8.*connectivity 6"):
        connected_components(np.zeros((2, 2)), 6)


def test_regions_grow_until_they_meet_and_never_merge():
    regions = np.array([[1, 0, 0, 0, 2], [0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(grow_regions(regions, 1), [[1, 1, 0, 2, 2], [1, 0, 0, 0, 2]])
    np.testing.assert_array_equal(grow_regions(regions), [[1, 1, 2, 2, 2], [1, 1, 2, 2, 2]])
    rng = np.random.default_rng(8)
    seeds = np.where(rng.random((30, 40)) < 0.01, rng.integers(1, 99, (30, 40)), 0)
    grown = grow_regions(seeds)
    assert (grown > 0).all()
    np.testing.assert_array_equal(grown[seeds > 0], seeds[seeds > 0])
    places = np.argwhere(seeds)
    for y, x in np.argwhere(seeds == 0):  # breadth first: the region of a seed that is nearest, step by step
        distance = np.abs(places - [y, x]).sum(axis=1)
        nearest = places[distance == distance.min()]
        assert grown[y, x] in seeds[nearest[:, 0], nearest[:, 1]]


def test_nothing_grows_from_nothing():
    assert not grow_regions(np.zeros((3, 4), int)).any()
    assert grow_regions(np.zeros((0, 4), int)).shape == (0, 4)
