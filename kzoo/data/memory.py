"""Decoded samples kept in memory while they fit."""

import threading
from collections.abc import Callable

import numpy as np
from PIL import Image

Arrays = tuple[np.ndarray, ...]


class Memory:
    """Keeps the arrays of samples, the first ones that fit. Safe to use from several threads.

    Args:
        limit: bytes; what does not fit is made again each time.
    """

    def __init__(self, limit: int):
        self._free = limit
        self._kept: dict[int, Arrays] = {}
        self._lock = threading.Lock()

    @property
    def indices(self) -> list[int]:
        """The samples in memory."""
        return sorted(self._kept)

    def get(self, index: int, make: Callable[[], Arrays]) -> Arrays:
        """The arrays of a sample, from memory or made now."""
        arrays = self._kept.get(index)
        if arrays is None:
            arrays = make()
            size = sum(array.nbytes for array in arrays)
            with self._lock:
                if size <= self._free and index not in self._kept:
                    self._free -= size
                    self._kept[index] = arrays
        return arrays


def shrink(
    image: np.ndarray, shorter_side: int | None, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    """An image (H, W, 3) or mask (H, W) with this shorter side; as it is where that is None or the image smaller."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter_side is None or shorter <= shorter_side:
        return image
    size = (max(1, round(width * shorter_side / shorter)), max(1, round(height * shorter_side / shorter)))
    return np.asarray(Image.fromarray(image).resize(size, resample))
