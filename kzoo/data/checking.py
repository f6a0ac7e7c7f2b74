"""The check before a training: reads a data set as training will, decodes every image, and reports every fault."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kzoo.data.annotations import Annotations, Fault, MaskAnnotations, Sample
from kzoo.data.checking_masks import MaskReport, check_masks
from kzoo.data.checking_report import Faults, decoded, table, usual_order
from kzoo.data.readers import read
from kzoo.data.readers.headers import fingerprint
from kzoo.messages import counted


@dataclass
class Report(Faults):
    """What a data set holds, and what is wrong with it.

    Attributes:
        source, split: what was checked; split None: all of it.
        class_names: names of labels 0..C-1.
        images: images that training can use.
        boxes: boxes that training can use.
        boxes_per_class: {class name: boxes}, in the order of the labels.
        images_per_split, boxes_per_split: {split: count}; an image may be in several splits (train, trainval).
        faults: every fault found.
    """

    source: str
    split: str | None
    class_names: list[str]
    images: int
    boxes: int
    boxes_per_class: dict[str, int]
    images_per_split: dict[str, int]
    boxes_per_split: dict[str, int]
    faults: list[Fault] = field(default_factory=list)

    def summary(self, examples: int = 3) -> str:
        """The report as text.

        Args:
            examples: how many faults of each kind to show; -1 for all.
        """
        left_out = f"{counted(self.images_left_out, 'image')} and {counted(self.boxes_left_out, 'box', 'boxes')}"
        boxes, classes = counted(self.boxes, "box", "boxes"), counted(len(self.class_names), "class", "classes")
        lines = [
            f"{self.source}: {counted(self.images, 'image')}, {boxes} of {classes}. "
            f"Left out: {left_out} of other images."
        ]
        if self.images_per_split:
            rows = [(name, str(n), str(self.boxes_per_split[name])) for name, n in self.images_per_split.items()]
            lines += ["", *table(("split", "images", "boxes"), rows)]
        rows = [(name, str(n)) for name, n in self.boxes_per_class.items() if n]
        lines += ["", *table(("class", "boxes"), rows)]
        if empty := [name for name, n in self.boxes_per_class.items() if not n]:
            lines.append(f"  without boxes: {', '.join(empty)}")
        return "\n".join([*lines, "", *self.fault_lines(examples)])


def check(
    source: str | Path,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    task: str | None = None,
    **mask_options,
) -> Report | MaskReport:
    """Checks a data set: lists every fault with its file, and counts what training will leave out.

    Beyond what reading finds, every image is decoded in full, and images with the same content are found, within a
    split and across splits: an image that is both trained and tested on makes the score too good.

    Args:
        source, split, class_names, data_dir, task, **mask_options: see `kzoo.data.readers.read`.

    Raises:
        ValueError: where the source cannot be read at all.

    Example:
        >>> print(check("path/to/dataset"))
    """
    annotations = read(source, split, class_names, data_dir, task, **mask_options)
    if isinstance(annotations, MaskAnnotations):
        return check_masks(annotations, source)
    sound, faults = decoded(annotations.samples, source, _fingerprint)
    return _report(str(source), annotations, sound, [*annotations.faults, *faults])


def _fingerprint(sample: Sample) -> tuple[str, str | None]:
    """The content's hash, and why the image cannot be decoded, or None."""
    if sample.image is None and sample.pixels.ndim == 3:
        return hashlib.sha256(sample.pixels.tobytes()).hexdigest(), None
    return fingerprint(sample.image if sample.image is not None else sample.pixels.tobytes())


def _report(source: str, annotations: Annotations, samples: list[Sample], faults: list[Fault]) -> Report:
    labels = np.concatenate([np.empty(0, np.int32), *(sample.labels for sample in samples)]).astype(np.int64)
    per_class = np.bincount(labels, minlength=annotations.num_classes)
    images, boxes = Counter(), Counter()
    for sample in samples:
        for split in sample.splits:
            images[split] += 1
            boxes[split] += len(sample.boxes)
    return Report(
        source=source,
        split=annotations.split,
        class_names=list(annotations.class_names),
        images=len(samples),
        boxes=len(labels),
        boxes_per_class=dict(zip(annotations.class_names, per_class.tolist(), strict=True)),
        images_per_split={split: images[split] for split in sorted(images, key=usual_order)},
        boxes_per_split={split: boxes[split] for split in sorted(images, key=usual_order)},
        faults=faults,
    )
