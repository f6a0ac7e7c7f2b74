"""Features of regions on disk: R-CNN's of VOC take 200 GB, so they are never in memory all at once."""

from pathlib import Path

import numpy as np


class FeatureStore:
    """Rows of float32, appended image by image to one file and read back through a memory map.

    Args:
        path: the file; what it held before is gone.

    Example:
        >>> store = FeatureStore("features.f32")
        >>> store.append(np.ones((3, 8)))
        >>> store.append(np.zeros((2, 8)))
        >>> store.image(1).shape
        (2, 8)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        self.width: int | None = None
        self._ends = [0]  # rows before image i begins, and after the last one

    def append(self, rows: np.ndarray) -> None:
        """Adds the rows (R, D) of the next image; R may be 0."""
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.ndim != 2 or (self.width is not None and rows.shape[1] != self.width):
            raise ValueError(f"Features must be (R, {self.width or 'D'}). Received: {rows.shape}.")
        self.width = rows.shape[1]
        with open(self.path, "ab") as file:
            file.write(rows.tobytes())
        self._ends.append(self._ends[-1] + len(rows))

    def __len__(self) -> int:
        """The number of images."""
        return len(self._ends) - 1

    def image(self, index: int) -> np.ndarray:
        """The rows of one image (R, D), mapped, not read."""
        return self.rows()[self._ends[index] : self._ends[index + 1]]

    def rows(self) -> np.ndarray:
        """All rows (N, D), mapped, not read."""
        shape = (self._ends[-1], self.width or 0)
        if 0 in shape:
            return np.zeros(shape, np.float32)
        return np.memmap(self.path, np.float32, "r", shape=shape)


def mean_norm(rows: np.ndarray, most: int = 2000) -> float:
    """Mean Euclidean norm of rows (N, D), estimated on `most` of them; 1 where there are none or all are 0."""
    if len(rows) > most:
        rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))]
    norm = float(np.linalg.norm(rows, axis=1).mean()) if len(rows) else 0.0
    return norm if norm > 0 else 1.0
