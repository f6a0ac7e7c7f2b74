"""Images, masks and weights of a split, handed to tf.data one by one and kept in memory while they fit."""

import io

import numpy as np
from PIL import Image

from kzoo.data.annotations import MaskAnnotations, MaskSample
from kzoo.data.memory import Memory, shrink
from kzoo.data.readers.masks import numbers_of
from kzoo.data.weight_maps import boundary_weights
from kzoo.images import VOID, read_image
from kzoo.morphology import connected_components

NEAREST = Image.Resampling.NEAREST


class MaskStore:
    """Reads sample i upright as RGB uint8 with its mask and weights. Safe to call from several threads.

    Args:
        annotations: what to read from.
        shorter_side: images and masks are shrunk to this shorter side when read; None keeps them.
        weights: make U-Net's boundary weights: "" for none, "stretch" at the network's `size`, "crop" at the image's.
        instances: give the numbers of the objects, too.
        cache_bytes: how much to keep in memory; the rest is read again each time.
    """

    def __init__(
        self,
        annotations: MaskAnnotations,
        shorter_side: int | None = None,
        weights: str = "",
        size: tuple[int, int] | None = None,
        instances: bool = False,
        cache_bytes: int = 0,
    ):
        self._annotations = annotations
        self._shorter_side = shorter_side
        self._weights = weights
        self._size = size
        self._instances = instances
        self._memory = Memory(cache_bytes)

    @property
    def cached(self) -> list[int]:
        """The samples that are in memory."""
        return self._memory.indices

    def read(self, index: int) -> tuple[np.ndarray, ...]:
        """Sample `index` as image (H, W, 3) uint8, mask (H, W) uint8 with 255 for void, weights float32, numbers int32.

        Weights and numbers are (0, 0) where none were asked for; weights for "stretch" have the network's size, since
        their sigma is meant in pixels that the network sees. Numbers keep the size of the mask in the file.

        Raises:
            ValueError: if image or mask cannot be read or changed their size, naming the file.
        """
        return self._memory.get(int(index), lambda: self._make(self._annotations.samples[int(index)]))

    def _make(self, sample: MaskSample) -> tuple[np.ndarray, ...]:
        image, numbers = pixels_of(sample), numbers_of(sample)
        mask = self._annotations.labels(numbers)
        weights = np.zeros((0, 0), np.float32)
        if self._weights:
            cells = cells_of(mask, numbers if self._annotations.instances else None)
            if self._weights == "stretch":
                cells = np.asarray(Image.fromarray(cells).resize(self._size[::-1], NEAREST))
            weights = boundary_weights(cells, ignore_label=-1)
        kept = shrink(image, self._shorter_side), shrink(mask, self._shorter_side, NEAREST)
        return *kept, weights, numbers.astype(np.int32) if self._instances else np.zeros((0, 0), np.int32)


def cells_of(mask: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
    """(H, W) int32: 0 for the first class, -1 for void, and a number for each object.

    Args:
        mask: (H, W) classes; objects are the connected regions of all but the first.
        numbers: (H, W) of masks in which each object has its own number.
    """
    cells = connected_components((mask > 0) & (mask != VOID)) if numbers is None else numbers.astype(np.int32)
    return np.where(mask == VOID, np.int32(-1), cells)


def pixels_of(sample: MaskSample) -> np.ndarray:
    """The image of a sample as RGB uint8 (H, W, 3).

    Raises:
        ValueError: if it cannot be read or changed its size since, naming it.
    """
    try:
        image = read_image(io.BytesIO(sample.pixels) if sample.image is None else sample.image, sample.page)
    except ValueError as error:
        raise ValueError(f"{sample.name}: {error}") from error
    if image.shape[:2] != tuple(sample.size):
        raise ValueError(
            f"{sample.name}: the image is {image.shape[:2]} (height, width), not {tuple(sample.size)} as it was when "
            "the data set was read. Load it again."
        )
    return image
