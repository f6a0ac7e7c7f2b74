"""Measures of cell segmentation: Rand F-score and warping error of ISBI 2012, SEG of the Cell Tracking Challenge.

They compare instance maps: each object its own positive number, 0 between the objects. Of a map of classes,
`kzoo.morphology.connected_components(labels == cell)` makes one.
"""

import numpy as np

from kzoo.metrics.segmentation import mean_score
from kzoo.morphology import connected_components


def rand_scores(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Foreground-restricted Rand scores of one image (Arganda-Carreras et al., Frontiers in Neuroanatomy 2015).

    Over the pixels that are foreground in the ground truth, p_ij is the share in predicted object i and true object j;
    split = sum p_ij² / sum t_j² with the true objects' t_j, merge = sum p_ij² / sum s_i² with the predicted ones' s_i,
    F = 2 sum p_ij² / (sum s_i² + sum t_j²). A pixel that the prediction calls background counts as an object of its
    own, as in the adapted Rand error of the SNEMI3D challenge.

    Args:
        true, predicted: instance maps of one shape, 0 for background (membranes).

    Returns:
        {"rand_fscore", "rand_split", "rand_merge", "adapted_rand_error" = 1 - F}; NaN where `true` has no foreground.
    """
    table, n = _overlaps(true, predicted)
    if n == 0:
        return dict.fromkeys(("rand_fscore", "rand_split", "rand_merge", "adapted_rand_error"), float("nan"))
    singles = table[:, 0].sum()  # each of them 1 pixel in the intersection and 1 in its own object
    both = (table[:, 1:] ** 2).sum() + singles
    split = both / (table.sum(axis=1) ** 2).sum()
    merge = both / ((table[:, 1:].sum(axis=0) ** 2).sum() + singles)
    fscore = 2 / (1 / split + 1 / merge)
    return {
        "rand_fscore": float(fscore),
        "rand_split": float(split),
        "rand_merge": float(merge),
        "adapted_rand_error": float(1 - fscore),
    }


def object_jaccards(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """IoU of each true object with the predicted object that covers more than half of it, 0 where there is none.

    The Cell Tracking Challenge's SEG is the mean of these over all objects of all images (Maška et al., 2014).

    Returns:
        (number of true objects,) float64, in the order of their numbers.
    """
    true, predicted = _same_shape(true, predicted)
    labels, true = np.unique(true, return_inverse=True)
    names, predicted = np.unique(predicted, return_inverse=True)
    table = np.bincount(true.ravel() * len(names) + predicted.ravel(), minlength=len(labels) * len(names))
    table = table.reshape(len(labels), len(names)).astype(float)
    sizes, found = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    match = (table > 0.5 * sizes) & (names != 0)  # at most one a row
    return np.where(match, table / np.maximum(sizes + found - table, 1), 0.0).sum(axis=1)[labels != 0]


def warping_error(true: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the pixels that disagree after the truth was warped onto the prediction (Jain et al., CVPR 2010).

    The truth is bent towards the prediction pixel by pixel as long as no object is split, merged, made or lost:
    only simple points are flipped, with objects 4-connected and the background 8-connected. What then still differs
    are errors of topology; a boundary that is merely shifted costs nothing. The warping is greedy, in reading order,
    hence an upper bound of the smallest error, and goes as far as it can (the original may limit the distance). The
    challenge's own program further classifies the disagreements and counts those of splits and mergers only, so its
    published numbers are smaller.

    Args:
        true, predicted: (H, W), non-zero where there is an object.
    """
    true, predicted = _same_shape(true, predicted)
    if true.size == 0:
        return float("nan")
    width = true.shape[1] + 2
    warped, aim = (bytearray(np.pad(x != 0, 1).astype(np.uint8).tobytes()) for x in (true, predicted))
    around = (-width - 1, -width, -width + 1, 1, width + 1, width, width - 1, -1)
    inside = np.pad(np.ones(true.shape, bool), 1).ravel()
    open_pixels = np.flatnonzero((np.frombuffer(warped, np.uint8) != np.frombuffer(aim, np.uint8)) & inside)
    waiting = open_pixels[::-1].tolist()
    while waiting:
        pixel = waiting.pop()
        if warped[pixel] == aim[pixel]:
            continue
        code = 0
        for bit, step in enumerate(around):
            code |= warped[pixel + step] << bit
        if _SIMPLE[code]:
            warped[pixel] = aim[pixel]
            waiting.extend(pixel + step for step in around if inside[pixel + step])
    return sum(a != b for a, b in zip(warped, aim, strict=True)) / true.size


class CellMeasures:
    """Rand F-score and SEG over a data set: Rand scores averaged over images, SEG over all objects.

    Args:
        warping: also the warping error, averaged over images (some tenths of a second for one of 512 x 512).
    """

    def __init__(self, warping: bool = False):
        self.warping = warping
        self.reset_state()

    def reset_state(self) -> None:
        self._rand: list[dict] = []
        self._jaccards: list[np.ndarray] = []
        self._warping: list[float] = []

    def update_state(self, true: np.ndarray, predicted: np.ndarray) -> None:
        """Adds instance maps (B, H, W)."""
        for a, b in zip(true, predicted, strict=True):
            self._rand.append(rand_scores(a, b))
            self._jaccards.append(object_jaccards(a, b))
            if self.warping:
                self._warping.append(warping_error(a, b) if np.any(a) or np.any(b) else np.nan)

    def result(self) -> dict:
        """{"rand_fscore", "rand_split", "rand_merge", "adapted_rand_error", "SEG", "objects"}, "warping_error".

        −1 where there was nothing to measure.
        """
        names = ("rand_fscore", "rand_split", "rand_merge", "adapted_rand_error")
        jaccards = np.concatenate([np.zeros(0), *self._jaccards])
        scores = {name: mean_score([rand[name] for rand in self._rand]) for name in names}
        scores |= {"SEG": mean_score(jaccards), "objects": len(jaccards)}
        return scores | ({"warping_error": mean_score(self._warping)} if self.warping else {})


def _same_shape(true, predicted) -> tuple[np.ndarray, np.ndarray]:
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.shape != predicted.shape or true.ndim != 2:
        raise ValueError(f"Both maps must be (H, W) of one shape. Received: {true.shape} and {predicted.shape}.")
    return true, predicted


def _overlaps(true, predicted) -> tuple[np.ndarray, int]:
    """Pixels by true object (rows) and predicted one (columns, the first is background), on the true foreground."""
    true, predicted = _same_shape(true, predicted)
    predicted, true = predicted[true != 0], true[true != 0]
    rows = np.unique(true, return_inverse=True)[1]
    names, columns = np.unique(np.append(predicted, 0), return_inverse=True)  # 0 is a column even if it is empty
    columns = columns[:-1]
    zero = int(np.searchsorted(names, 0))
    size = len(names)
    table = np.bincount(rows * size + columns, minlength=size * (rows.max(initial=-1) + 1)).reshape(-1, size)
    return np.concatenate([table[:, [zero]], np.delete(table, zero, axis=1)], axis=1).astype(float), len(true)


def _simple_points() -> list[bool]:
    """Whether the centre of each of the 256 neighbourhoods can be flipped without a change of topology.

    Bit k is the neighbour k of the ring that starts at the upper left and runs clockwise. A point is simple if exactly
    one object touches it (4-connected) and exactly one piece of background (8-connected).
    """
    simple = []
    for code in range(256):
        ring = [code >> k & 1 for k in range(8)]
        patch = np.array([[ring[0], ring[1], ring[2]], [ring[7], 0, ring[3]], [ring[6], ring[5], ring[4]]])
        objects = connected_components(patch, 4)
        touching = {int(objects[y, x]) for y, x in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
        hole = 1 - patch
        hole[1, 1] = 0
        simple.append(len(touching) == 1 and connected_components(hole, 8).max() == 1)
    return simple


_SIMPLE = _simple_points()
