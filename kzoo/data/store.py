"""Images and boxes of a split, handed to tf.data one by one and kept in memory while they fit."""

import io

import numpy as np

from kzoo.data.annotations import Annotations, Sample
from kzoo.data.memory import Memory, shrink
from kzoo.images import read_image

Record = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class SampleStore:
    """Reads sample i upright as RGB uint8 with its padded ground truth. Safe to call from several threads.

    Args:
        annotations: what to read from.
        max_boxes: rows of the padded arrays.
        training: leave out crowds and boxes without area, so that no loss can meet them.
        shorter_side: images are shrunk to this shorter side when read, with their boxes; None keeps them.
        cache_bytes: how much of the decoded images to keep in memory; the rest is read again each time.
    """

    def __init__(
        self,
        annotations: Annotations,
        max_boxes: int,
        training: bool = False,
        shorter_side: int | None = None,
        cache_bytes: int = 0,
    ):
        self._samples = annotations.samples
        self.max_boxes = max_boxes
        self._training = training
        self._shorter_side = shorter_side
        self._memory = Memory(cache_bytes)

    @property
    def cached(self) -> list[int]:
        """The samples whose images are in memory."""
        return self._memory.indices

    def read(self, index: int) -> Record:
        """Sample `index` as image (H, W, 3) uint8, boxes (N, 4), labels (N,), difficult (N,), crowd (N,), area (N,).

        Boxes are in pixels of the returned image, area in square pixels of the original one.

        Raises:
            ValueError: if the image cannot be read or has not the annotated size, naming it.
        """
        sample = self._samples[int(index)]
        (image,) = self._memory.get(int(index), lambda: (shrink(pixels_of(sample), self._shorter_side),))
        keep = trainable(sample) if self._training else np.ones(len(sample.labels), bool)
        scale = (np.array(image.shape[1::-1]) / np.array(sample.size[::-1])).astype(np.float32)
        return (
            image,
            self._pad(sample.boxes[keep] * np.tile(scale, 2), 0, np.float32),
            self._pad(sample.labels[keep], -1, np.int32),
            self._pad(sample.difficult[keep], False, bool),
            self._pad(sample.crowd[keep], False, bool),
            self._pad(sample.area[keep], 0, np.float32),
        )

    def _pad(self, rows: np.ndarray, value: float, dtype: type) -> np.ndarray:
        padded = np.full((self.max_boxes, *rows.shape[1:]), value, dtype)
        padded[: len(rows)] = rows
        return padded


def trainable(sample: Sample) -> np.ndarray:
    """Which boxes (N,) training uses: those with an area that are no crowd. Difficult ones count, as in SSD's code."""
    boxes = sample.boxes
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & ~sample.crowd


def pixels_of(sample: Sample) -> np.ndarray:
    """The image of a sample as RGB uint8 (H, W, 3), from its file or from the pixels that it carries."""
    try:
        if sample.pixels is None:
            image = read_image(sample.image)
        elif sample.pixels.ndim == 1:
            image = read_image(io.BytesIO(sample.pixels.tobytes()))
        else:
            image = np.broadcast_to(sample.pixels, (*sample.pixels.shape[:2], 3)).astype(np.uint8)
    except ValueError as error:
        raise ValueError(f"{sample.name}: {error}") from error
    if image.shape[:2] != tuple(sample.size):
        raise ValueError(
            f"{sample.name}: the image is {image.shape[:2]} (height, width), not {tuple(sample.size)} as annotated. "
            "It changed after the annotations were read: load the data set again."
        )
    return image
