"""What a reader returns: one Sample an image, the class names, and every fault found on the way."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


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
