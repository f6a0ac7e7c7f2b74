"""What the reports on boxes and on masks share: faults counted and shown, images that are there twice, tables."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kzoo.data.annotations import Fault
from kzoo.data.readers.layout import UNDIVIDED, relative
from kzoo.data.readers.progress import map_in_threads

UNIONS = {"trainval", *UNDIVIDED}  # splits that hold others on purpose


class Faults:
    """A report with `faults`, a dataclass."""

    faults: list[Fault]

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

    def fault_lines(self, examples: int = 3) -> list[str]:
        """The faults as lines of text, by kind; so many examples of each, -1 for all."""
        if not self.faults:
            return ["No faults."]
        lines, by_kind = ["Faults:"], defaultdict(list)
        for fault in self.faults:
            by_kind[fault.kind].append(fault)
        for kind, count in self.kinds.items():
            actions = ", ".join(Counter(fault.action for fault in by_kind[kind]))
            lines.append(f"  {kind}: {count} ({actions})")
            shown = by_kind[kind] if examples < 0 else by_kind[kind][:examples]
            lines += [f"    {fault.file}: {fault.detail}" for fault in shown]
            if len(shown) < count:
                lines.append(f"    ... and {count - len(shown)} more")
        return lines

    def __str__(self) -> str:
        return self.summary()


def decoded(
    samples: Sequence[Any], source: str | Path, fingerprint: Callable[[Any], tuple[str, str | None]]
) -> tuple[list[Any], list[Fault]]:
    """The samples whose image can be decoded, and the faults of those that cannot be or show the same one.

    Args:
        fingerprint: sample -> what tells its image from others, and why it cannot be decoded, or None.
    """
    faults, sound, groups = [], [], defaultdict(list)
    found = map_in_threads(fingerprint, samples, "decoding images")
    for sample, (digest, error) in zip(samples, found, strict=True):
        if error:
            detail = f"{sample.name}: {error}"
            faults.append(Fault(_file(sample, source), "corrupt image", detail, "image left out"))
        else:
            sound.append(sample)
            groups[digest].append(sample)
    for group in groups.values():
        faults += same_images(group, lambda sample: _file(sample, source))
    return sound, faults


def _file(sample: Any, source: str | Path) -> str:
    if sample.image is None:
        return sample.name
    folder = Path(source).expanduser()
    inside = sample.image.is_relative_to(os.path.abspath(folder))
    return relative(sample.image, Path(os.path.abspath(folder)) if inside else folder.resolve())


def same_images(group: Sequence[Any], file_of: Callable[[Any], str]) -> list[Fault]:
    """Faults of samples that show the same image."""
    faults = []
    first = group[0]
    for sample in group:
        belongs = sorted(set(sample.splits) - UNIONS)
        if len(belongs) > 1:
            detail = f"{sample.name} is in {' and in '.join(belongs)}"
            faults.append(Fault(file_of(sample), "image in two splits", detail, "kept"))
        if sample is first:
            continue
        here, there = set(sample.splits) - UNIONS, set(first.splits) - UNIONS
        if here == there:
            detail = f"{sample.name} is the same image as {first.name}"
            faults.append(Fault(file_of(sample), "duplicate image", detail, "kept"))
        else:
            where = f" ({', '.join(sorted(here)) or 'no split'} and {', '.join(sorted(there)) or 'no split'})"
            detail = f"{sample.name} is the same image as {first.name}{where}"
            faults.append(Fault(file_of(sample), "image in two splits", detail, "kept"))
    return faults


def usual_order(split: str) -> tuple[int, str]:
    usual = ("train", "val", "valid", "validation", "trainval", "test")
    return (usual.index(split) if split in usual else len(usual)), split


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: tuple[str, ...]) -> str:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  " + "  ".join([row[0].ljust(widths[0]), *numbers])

    return [line(row) for row in [header, *rows]]
