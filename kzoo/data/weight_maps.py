"""Weights of each pixel's loss that make a network separate touching cells (U-Net, section 3). Plain NumPy."""

import numpy as np

from kzoo.morphology import distance_transform


def boundary_weights(
    instances: np.ndarray, w0: float = 10.0, sigma: float = 5.0, balance: bool = True, ignore_label: int | None = None
) -> np.ndarray:
    """w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))² / (2 sigma²)), d1 and d2 the distances to the two nearest cells.

    The second term is given to the background only, where the borders that must be learnt lie; the paper's formula does
    not say (its figure 3d shows cells of an even weight). Distances run from pixel centre to pixel centre.

    Args:
        instances: (H, W) int, 0 for background, each cell its own number (`kzoo.morphology.connected_components` makes
            them of a mask). With less than two cells the second term is 0.
        w0, sigma: of the border term; sigma in pixels.
        balance: w_c is N / (2 n_c) with n_c of N pixels of x's kind, cell or background, so that both weigh alike and
            the mean is 1; else, and where one kind is missing, w_c is 1.
        ignore_label: a number that is neither cell nor background; such pixels weigh 0.

    Returns:
        (H, W) float32.

    Raises:
        ValueError: unless `instances` has two axes and sigma is positive.
    """
    instances = np.asarray(instances)
    if instances.ndim != 2 or sigma <= 0:
        raise ValueError(f"instances must be (H, W) and sigma positive. Received: {instances.shape}, sigma {sigma}.")
    known = np.ones(instances.shape, bool) if ignore_label is None else instances != ignore_label
    cell = (instances != 0) & known
    weights = np.ones(instances.shape)
    shares = cell.sum(), (known & ~cell).sum()
    if balance and min(shares) > 0:
        weights = np.where(cell, sum(shares) / (2 * shares[0]), sum(shares) / (2 * shares[1]))
    nearest, second = _two_nearest(np.where(cell, instances, 0), sigma)
    border = w0 * np.exp(-np.square(nearest + second) / (2 * sigma**2))  # 0 where there is no second cell
    return np.where(known, weights + np.where(cell, 0.0, border), 0.0).astype(np.float32)


def _two_nearest(instances: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the nearest and second nearest cell, infinity beyond 7 sigma, where the term is below 1e-9 w0."""
    reach = int(np.ceil(7 * sigma))
    nearest, second = np.full((2, *instances.shape), np.inf)
    for number, window in _windows(instances, reach):
        distance = distance_transform(instances[window] == number, reach)
        second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
        nearest[window] = np.minimum(nearest[window], distance)
    return nearest, second


def _windows(instances: np.ndarray, reach: int):
    """Each cell's number and its surroundings, `reach` pixels beyond its bounding box."""
    numbers, places = np.unique(instances, return_inverse=True)
    places = places.reshape(instances.shape)
    rows, columns = np.indices(instances.shape)
    ends = []
    for axis in (rows, columns):
        low, high = np.full(len(numbers), np.iinfo(int).max), np.full(len(numbers), -1)
        np.minimum.at(low, places, axis)
        np.maximum.at(high, places, axis)
        ends.append((low, high))
    for k, number in enumerate(numbers):
        if number != 0:
            yield number, tuple(slice(max(0, low[k] - reach), high[k] + reach + 1) for low, high in ends)
