"""How much each class counts in a segmenter's loss, by how often it is seen."""

import numpy as np

from kzoo.messages import unknown_name

BALANCES = ("none", "root", "median")


def class_weights(balance: str, counts: np.ndarray) -> list[float] | None:
    """Each class's weight in the cross-entropy.

    Args:
        balance: "median": the median of the classes' frequencies over its own (Eigen and Fergus, ICCV 2015, section
            6.3.2), so that all classes count alike; "root": the square root of that, between this and "none", which
            gives None.
        counts: (N, C) pixels of each class in each image. A class's frequency is its share of the known pixels of the
            images that show it. Classes that no image shows weigh 1: they never meet the loss.

    Raises:
        ValueError: for an unknown balance.
    """
    if balance not in BALANCES:
        raise ValueError(unknown_name("class_balance", balance, BALANCES))
    if balance == "none":
        return None
    counts = np.asarray(counts, np.float64)
    shown = counts > 0
    total = (counts.sum(axis=1, keepdims=True) * shown).sum(axis=0)
    frequency = np.divide(counts.sum(axis=0), total, out=np.zeros(counts.shape[1]), where=total > 0)
    if not shown.any():
        return [1.0] * counts.shape[1]
    median = np.median(frequency[frequency > 0])
    power = 0.5 if balance == "root" else 1.0
    return [float((median / share) ** power) if share > 0 else 1.0 for share in frequency]
