"""Connected regions and distances on label maps, in plain NumPy: for instance labels, weight maps and boundaries."""

import numpy as np


def connected_components(image: np.ndarray, connectivity: int = 4) -> np.ndarray:
    """Numbers the connected regions of equal, non-zero value.

    Args:
        image: (H, W) of any integer or bool dtype; touching regions of different values stay apart.
        connectivity: 4, or 8 where diagonal neighbours touch too.

    Returns:
        (H, W) int32: 0 where `image` is 0, else 1..n, numbered in reading order of each region's first pixel.

    Raises:
        ValueError: for another number of axes or another connectivity.
    """
    image = np.asarray(image)
    if image.ndim != 2 or connectivity not in (4, 8):
        raise ValueError(
            f"Expected an image (H, W) and connectivity 4 or 8. Received: shape {image.shape}, connectivity "
            f"{connectivity}."
        )
    if image.size == 0:
        return np.zeros(image.shape, np.int32)
    # Runs of equal pixels along the rows are the nodes; what touches from row to row are the edges.
    starts = np.ones(image.shape, bool)
    starts[:, 1:] = image[:, 1:] != image[:, :-1]
    runs = np.cumsum(starts).reshape(image.shape) - 1
    above, below = slice(None, -1), slice(1, None)
    sides = [(slice(None), slice(None))]
    if connectivity == 8:
        sides += [(slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))]
    edges = []
    for left, right in sides:
        a, b = image[above, left], image[below, right]
        touch = (a == b) & (a != 0)
        edges.append(np.stack([runs[above, left][touch], runs[below, right][touch]]))
    roots = _union(np.concatenate(edges, axis=1), int(runs[-1, -1]) + 1)[runs]
    inside = image != 0
    labels = np.zeros(image.shape, np.int32)
    # A root is the first run of its region, so sorted roots are in reading order.
    labels[inside] = np.unique(roots[inside], return_inverse=True)[1].reshape(-1) + 1
    return labels


def _union(edges: np.ndarray, count: int) -> np.ndarray:
    """Union-find for all edges at once: each node's smallest connected node."""
    root = np.arange(count)
    while True:
        ends = root[edges]
        apart = ends[0] != ends[1]
        if not apart.any():
            return root
        edges, ends = edges[:, apart], ends[:, apart]
        np.minimum.at(root, ends.max(axis=0), ends.min(axis=0))
        while True:
            shorter = root[root]
            if np.array_equal(shorter, root):
                break
            root = shorter


def grow_regions(regions: np.ndarray, steps: int | None = None) -> np.ndarray:
    """Lets numbered regions grow into the zeros between them, a pixel a step, until they meet.

    A pixel that several regions reach in one step goes to the one with the largest number. A border that was several
    pixels wide vanishes; regions never merge.

    Args:
        regions: (H, W) int, 0 between the regions. steps: how many pixels at most; None until nothing is left.

    Returns:
        (H, W) of the same dtype; all zeros if there is no region.
    """
    grown = np.array(regions)
    for _ in range(sum(grown.shape) if steps is None else steps):
        around = np.zeros_like(grown)
        np.maximum(around[1:], grown[:-1], out=around[1:])
        np.maximum(around[:-1], grown[1:], out=around[:-1])
        np.maximum(around[:, 1:], grown[:, :-1], out=around[:, 1:])
        np.maximum(around[:, :-1], grown[:, 1:], out=around[:, :-1])
        free = (grown == 0) & (around != 0)
        if not free.any():
            break
        grown[free] = around[free]
    return grown


def distance_transform(mask: np.ndarray, limit: float = np.inf) -> np.ndarray:
    """Exact Euclidean distance of each pixel's centre to that of the nearest True pixel.

    Args:
        mask: (H, W) bool. limit: distances above it are given as infinity; a small one is faster.

    Returns:
        (H, W) float64, in pixels; 0 on the mask, infinity everywhere if it is empty.
    """
    mask = np.asarray(mask, bool)
    height, width = mask.shape
    if mask.size == 0:
        return np.zeros(mask.shape)
    # Down the columns first, then the shortest of the ways along the row: the squares separate.
    rows = np.arange(height, dtype=float)[:, None]
    from_above = np.maximum.accumulate(np.where(mask, rows, -np.inf), axis=0)
    from_below = np.minimum.accumulate(np.where(mask, rows, np.inf)[::-1], axis=0)[::-1]
    column = np.minimum(rows - from_above, from_below - rows) ** 2
    square = column.copy()
    for step in range(1, int(min(width - 1, limit)) + 1):
        if step**2 >= square.max():  # no way further along the row can be shorter
            break
        np.minimum(square[:, step:], column[:, :-step] + step**2, out=square[:, step:])
        np.minimum(square[:, :-step], column[:, step:] + step**2, out=square[:, :-step])
    return np.where(square <= limit**2, np.sqrt(square), np.inf)
