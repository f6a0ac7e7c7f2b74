"""The check before a training: reads a data set as training will, decodes every image, and reports every fault."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from kzoo.data.annotations import Annotations, Fault, Sample
from kzoo.data.readers import read
from kzoo.data.readers.headers import decode_error
from kzoo.data.readers.layout import relative
from kzoo.data.readers.progress import map_in_threads

UNIONS = {"trainval", "all", "full", "default"}  # splits that hold others on purpose


@dataclass
class Report:
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

    @property
    def kinds(self) -> dict[str, int]:
        """{kind of fault: how often}, the most frequent first."""
        return dict(Counter(fault.kind for fault in self.faults).most_common())

    @property
    def images_left_out(self) -> int:
        """Images that training will not see."""
        return sum(fault.action == "image left out" for fault in self.faults)

    @property
    def boxes_left_out(self) -> int:
        """Boxes that training will not see, though it sees their image."""
        return sum(fault.action == "box left out" for fault in self.faults)

    def to_dict(self) -> dict:
        """The report as plain types, for JSON."""
        counts = {"images_left_out": self.images_left_out, "boxes_left_out": self.boxes_left_out, "kinds": self.kinds}
        return {**asdict(self), **counts}

    def summary(self, examples: int = 3) -> str:
        """The report as text.

        Args:
            examples: how many faults of each kind to show; -1 for all.
        """
        left_out = f"Left out: {self.images_left_out} images and {self.boxes_left_out} boxes of other images."
        lines = [
            f"{self.source}: {self.images} images, {self.boxes} boxes of {len(self.class_names)} classes. {left_out}"
        ]
        if self.images_per_split:
            rows = [(name, str(n), str(self.boxes_per_split[name])) for name, n in self.images_per_split.items()]
            lines += ["", *_table(("split", "images", "boxes"), rows)]
        rows = [(name, str(n)) for name, n in self.boxes_per_class.items() if n]
        lines += ["", *_table(("class", "boxes"), rows)]
        if empty := [name for name, n in self.boxes_per_class.items() if not n]:
            lines.append(f"  without boxes: {', '.join(empty)}")
        lines.append("")
        if not self.faults:
            return "\n".join([*lines, "No faults."])
        lines.append("Faults:")
        by_kind = defaultdict(list)
        for fault in self.faults:
            by_kind[fault.kind].append(fault)
        for kind, count in self.kinds.items():
            actions = ", ".join(Counter(fault.action for fault in by_kind[kind]))
            lines.append(f"  {kind}: {count} ({actions})")
            shown = by_kind[kind] if examples < 0 else by_kind[kind][:examples]
            lines += [f"    {fault.file}: {fault.detail}" for fault in shown]
            if len(shown) < count:
                lines.append(f"    ... and {count - len(shown)} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def check(
    source: str | Path,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
) -> Report:
    """Checks a detection data set: lists every fault with its file, and counts what training will leave out.

    Beyond what reading finds, every image is decoded in full, and images with the same content are found, within a
    split and across splits: an image that is both trained and tested on makes the score too good.

    Args:
        source, split, class_names, data_dir: see `kzoo.data.readers.read`.

    Raises:
        ValueError: where the source cannot be read at all.

    Example:
        >>> print(check("path/to/dataset"))
    """
    annotations = read(source, split, class_names, data_dir)
    found = map_in_threads(_fingerprint, annotations.samples, "decoding images")
    faults = list(annotations.faults)
    sound, groups = [], defaultdict(list)
    for sample, (digest, error) in zip(annotations.samples, found, strict=True):
        if error:
            faults.append(Fault(_file(sample, source), "corrupt image", f"{sample.name}: {error}", "image left out"))
        else:
            sound.append(sample)
            groups[digest].append(sample)
    faults += [fault for group in groups.values() for fault in _same_image(group, source)]
    return _report(str(source), annotations, sound, faults)


def _fingerprint(sample: Sample) -> tuple[str, str | None]:
    """The content's hash, and why the image cannot be decoded, or None."""
    try:
        content = sample.image.read_bytes() if sample.image is not None else sample.pixels.tobytes()
    except OSError as error:
        return "", str(error)
    decoded = sample.image is None and sample.pixels.ndim == 3
    return hashlib.sha256(content).hexdigest(), None if decoded else decode_error(content)


def _file(sample: Sample, source: str | Path) -> str:
    return sample.name if sample.image is None else relative(sample.image, Path(os.path.abspath(source)))


def _same_image(group: list[Sample], source: str | Path) -> list[Fault]:
    """Faults of samples that show the same image."""
    faults = []
    first = group[0]
    for sample in group:
        belongs = sorted(set(sample.splits) - UNIONS)
        if len(belongs) > 1:
            detail = f"{sample.name} is in {' and in '.join(belongs)}"
            faults.append(Fault(_file(sample, source), "image in two splits", detail, "kept"))
        if sample is first:
            continue
        here, there = set(sample.splits) - UNIONS, set(first.splits) - UNIONS
        if here == there:
            detail = f"{sample.name} is the same image as {first.name}"
            faults.append(Fault(_file(sample, source), "duplicate image", detail, "kept"))
        else:
            where = f" ({', '.join(sorted(here)) or 'no split'} and {', '.join(sorted(there)) or 'no split'})"
            detail = f"{sample.name} is the same image as {first.name}{where}"
            faults.append(Fault(_file(sample, source), "image in two splits", detail, "kept"))
    return faults


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
        images_per_split={split: images[split] for split in sorted(images, key=_usual_order)},
        boxes_per_split={split: boxes[split] for split in sorted(images, key=_usual_order)},
        faults=faults,
    )


def _usual_order(split: str) -> tuple[int, str]:
    usual = ("train", "val", "valid", "validation", "trainval", "test")
    return (usual.index(split) if split in usual else len(usual)), split


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: tuple[str, ...]) -> str:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  " + "  ".join([row[0].ljust(widths[0]), *numbers])

    return [line(row) for row in [header, *rows]]
