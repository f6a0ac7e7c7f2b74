"""What a reader returns: one sample an image, the class names, and every fault found on the way."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kzoo.images import VOID


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a data set, and what training does about it.

    Attributes:
        file: the file to look into (annotation or image), relative to the data set's folder where possible.
        kind: a short fixed name, for counting: "missing image", "zero area", "unknown class", "outside image", ... (all
            of them stand in docs/data.md).
        detail: one sentence with the values found, line number included where the format has lines.
        action: what the reader did: "box left out", "image left out", "box clipped", "kept" ...; reports count by it.
    """

    file: str
    kind: str
    detail: str
    action: str


@dataclass
class Sample:
    """One image with its ground truth. Boxes are xyxy float32 pixels of the upright image, 0-based and half-open."""

    image: Path | None  # None where the pixels come from `pixels` (TFDS)
    name: str  # shown in messages and reports, e.g. "BloodImage_00338.jpg"
    image_id: int
    size: tuple[int, int]  # (height, width) after EXIF rotation
    boxes: np.ndarray  # (N, 4) float32
    labels: np.ndarray  # (N,) int32 in 0..num_classes-1
    difficult: np.ndarray  # (N,) bool: VOC's "difficult"
    crowd: np.ndarray  # (N,) bool: COCO's "iscrowd"
    area: np.ndarray  # (N,) float32: mask area where the data set gives one, else box area
    pixels: np.ndarray | None = None  # encoded (1-D uint8) or decoded (H, W, 3) image where there is no file
    splits: tuple[str, ...] = ()  # every split of the data set that the image belongs to


@dataclass
class Annotations:
    """A split of a detection data set, read and cleaned."""

    samples: list[Sample]
    class_names: list[str]
    split: str | None
    faults: list[Fault] = field(default_factory=list)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def counts(self) -> np.ndarray:
        """(C,) int64: how many boxes each class has."""
        labels = np.concatenate([np.empty(0, np.int64), *(sample.labels for sample in self.samples)]).astype(np.int64)
        return np.bincount(labels, minlength=self.num_classes)


@dataclass
class MaskSample:
    """One image with the class of each of its pixels.

    Attributes:
        image, mask: the files, or None where `pixels` and `mask_pixels` hold them, encoded (TFDS).
        page: which image of the files, where they are stacks of several.
        size: (height, width) after EXIF rotation, of image and mask alike.
        counts: (C,) int64, how many pixels of the mask each class has; the rest is void.
    """

    image: Path | None
    mask: Path | None
    name: str  # shown in messages and reports, e.g. "0001TP_006690.png"
    image_id: int
    size: tuple[int, int]
    counts: np.ndarray
    page: int = 0
    pixels: bytes | None = None
    mask_pixels: bytes | None = None
    splits: tuple[str, ...] = ()  # every split of the data set that the image belongs to


@dataclass
class MaskAnnotations:
    """A split of a segmentation data set, read and cleaned.

    Attributes:
        values: the number in the masks that stands for each class, in the order of the classes.
        instances: the masks number objects: 0 is the first class, every other number the second.
    """

    samples: list[MaskSample]
    class_names: list[str]
    values: list[int]
    split: str | None
    faults: list[Fault] = field(default_factory=list)
    instances: bool = False

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def counts(self) -> np.ndarray:
        """(C,) int64: how many pixels each class has."""
        return np.sum([np.zeros(self.num_classes, np.int64), *(sample.counts for sample in self.samples)], axis=0)

    def labels(self, numbers: np.ndarray) -> np.ndarray:
        """Turns the numbers of a mask (H, W) into classes 0..C-1 and 255 for all else, uint8."""
        if self.instances:
            return (np.asarray(numbers) != 0).astype(np.uint8)
        if max(self.values) < 1 << 16:  # a table is several times as fast
            table = np.full(max(self.values) + 2, VOID, np.uint8)  # the last entry is for all numbers beyond
            table[self.values] = np.arange(self.num_classes)
            numbers = np.asarray(numbers, np.int64)  # uint8 has no number beyond 255
            known = (numbers >= 0) & (numbers < len(table))
            return table[np.where(known, numbers, len(table) - 1)]
        order = np.argsort(self.values)
        values = np.asarray(self.values)[order]
        place = np.searchsorted(values, numbers).clip(max=len(values) - 1)
        return np.where(values[place] == numbers, order[place], VOID).astype(np.uint8)
