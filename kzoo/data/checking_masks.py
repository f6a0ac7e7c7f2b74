"""The check of a segmentation data set: the faults of reading it, images that do not decode, and duplicates."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kzoo.data.annotations import Fault, MaskAnnotations, MaskSample
from kzoo.data.checking_report import Faults, decoded, table, usual_order
from kzoo.data.readers.headers import fingerprint
from kzoo.data.readers.mask_files import shown
from kzoo.messages import counted


@dataclass
class MaskReport(Faults):
    """What a data set of masks holds, and what is wrong with it.

    Attributes:
        source, split: what was checked; split None: all of it.
        class_names: names of labels 0..C-1. values: the numbers in the masks that stand for them.
        images: images that training can use.
        pixels_per_class, images_per_class: {class name: count}; an image counts for each class that it shows.
        void_pixels: pixels without a class.
        images_per_split: {split: count}; an image may be in several splits (train, trainval).
        faults: every fault found.
    """

    source: str
    split: str | None
    class_names: list[str]
    values: list[int]
    images: int
    pixels_per_class: dict[str, int]
    images_per_class: dict[str, int]
    void_pixels: int
    images_per_split: dict[str, int]
    faults: list[Fault] = field(default_factory=list)

    def summary(self, examples: int = 3) -> str:
        """The report as text; `examples` of each kind of fault, -1 for all."""
        total = max(sum(self.pixels_per_class.values()) + self.void_pixels, 1)
        lines = [
            f"{self.source}: {counted(self.images, 'image')} with masks of {len(self.class_names)} classes. "
            f"Left out: {counted(self.images_left_out, 'image')}."
        ]
        if self.images_per_split:
            rows = [(name, str(n)) for name, n in self.images_per_split.items()]
            lines += ["", *table(("split", "images"), rows)]
        rows = [
            (name, shown(value), f"{pixels / total:.2%}", str(self.images_per_class[name]))
            for (name, pixels), value in zip(self.pixels_per_class.items(), self.values, strict=True)
            if pixels
        ]
        rows.append(("void", "", f"{self.void_pixels / total:.2%}", ""))
        lines += ["", *table(("class", "number", "pixels", "images"), rows)]
        if empty := [name for name, n in self.pixels_per_class.items() if not n]:
            lines.append(f"  without pixels: {', '.join(empty)}")
        return "\n".join([*lines, "", *self.fault_lines(examples)])


def check_masks(annotations: MaskAnnotations, source: str | Path) -> MaskReport:
    """Checks what was read of a segmentation data set: decodes every image in full and looks for the same one twice."""

    def look(sample: MaskSample) -> tuple[str, str | None]:
        digest, error = fingerprint(sample.pixels if sample.image is None else sample.image)
        return f"{digest} {sample.page}", error  # the pages of one stack are different images

    sound, faults = decoded(annotations.samples, source, look)
    counts = np.stack([np.zeros(annotations.num_classes, np.int64), *(sample.counts for sample in sound)])
    pixels = sum(sample.size[0] * sample.size[1] for sample in sound)
    splits = Counter(split for sample in sound for split in sample.splits)
    names = annotations.class_names
    return MaskReport(
        source=str(source),
        split=annotations.split,
        class_names=list(names),
        values=list(annotations.values),
        images=len(sound),
        pixels_per_class=dict(zip(names, counts.sum(axis=0).tolist(), strict=True)),
        images_per_class=dict(zip(names, (counts > 0).sum(axis=0).tolist(), strict=True)),
        void_pixels=int(pixels - counts.sum()),
        images_per_split={split: splits[split] for split in sorted(splits, key=usual_order)},
        faults=[*annotations.faults, *faults],
    )
