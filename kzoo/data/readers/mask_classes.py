"""Which number in a mask is which class: by the folder's own names, the numbers that occur, and what is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kzoo.data.annotations import VOID
from kzoo.messages import unknown_name

MOST_CLASSES = 255  # labels are 8 bit wide, and 255 is void
VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore")
VOC_CLASSES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
# The eleven classes of SegNet's split of CamVid, and void as 11 (Badrinarayanan et al., 2015).
CAMVID_CLASSES = "sky building pole road pavement tree sign fence car pedestrian bicyclist void".split()  # noqa: SIM905


@dataclass(frozen=True)
class MaskClasses:
    """The classes of a data set, in the order of their labels.

    Attributes:
        values: the number in the masks for each class.
        known: the numbers of classes and of void.
    """

    names: list[str]
    values: list[int]
    known: frozenset[int]
    instances: bool = False

    def count(self, numbers: Mapping[int, int]) -> np.ndarray:
        """(C,) int64 pixels of each class, from the pixels of each number."""
        if self.instances:
            background = numbers.get(0, 0)
            return np.array([background, sum(numbers.values()) - background], np.int64)
        return np.array([numbers.get(value, 0) for value in self.values], np.int64)


def own_names(folder: Path, kind: str) -> list[str] | None:
    """What the data set itself calls its numbers 0, 1, 2, ...; None where it does not say."""
    if (folder / "classes.txt").is_file():
        lines = (folder / "classes.txt").read_text(encoding="utf-8-sig").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return {"voc": VOC_CLASSES, "camvid": CAMVID_CLASSES}.get(kind)


def choose(
    occurring: Mapping[int, int],
    own: Sequence[str] | None,
    class_names: Sequence[str] | None,
    values: Sequence[int] | None,
    void: int | Sequence[int] | None,
    instances: bool,
    source: str,
) -> MaskClasses:
    """Decides the classes; arguments as of `kzoo.data.readers.masks.read`.

    Args:
        occurring: {number: pixels} over all splits.
        own: the data set's own names of 0, 1, 2, ...

    Raises:
        ValueError: for names or values that do not fit each other or the masks.
    """
    asked = None if class_names is None else [str(name) for name in class_names]
    if instances:
        names = asked or ["background", "cell"]
        if len(names) != 2:
            raise ValueError(f"{source}: masks of instances have two classes, 0 and all else. Received: {names}.")
        return MaskClasses(names, [0, 1], frozenset(), instances=True)
    voids = {VOID} | ({int(v) for v in np.atleast_1d(void)} if void is not None else set())
    numbers = sorted(set(occurring) - voids)
    black_and_white = set(occurring) <= {0, VOID} and VOID in occurring and void is None
    # VOC's and CamVid's layouts may hold other classes: the names count where the numbers fit them.
    if own in (VOC_CLASSES, CAMVID_CLASSES) and (
        max(numbers, default=0) >= len(own) or (own is CAMVID_CLASSES and max(numbers, default=0) != len(own) - 1)
    ):
        own = None
    if values is not None:
        names = asked or (list(own) if own and len(own) == len(values) else [str(value) for value in values])
    elif own is not None:
        table = dict(zip(own, [0, VOID] if black_and_white and len(own) == 2 else range(len(own)), strict=True))
        voids |= {table.pop(name) for name in list(table) if name.lower() in VOID_NAMES}
        names, values = _pick(asked, table, voids, source)
    else:
        table = {str(n): n for n in ([0, VOID] if black_and_white else numbers)}
        if asked is not None and not set(asked) & set(table):
            table = dict(zip(asked, [0, VOID] if black_and_white and len(asked) == 2 else range(256), strict=False))
        names, values = _pick(asked, table, voids, source)
    values = [int(value) for value in values]
    if len(names) != len(values) or len(set(values)) != len(values) or min(values, default=0) < 0:
        raise ValueError(f"values must be one number a class, each once. Received: {values} for {names}.")
    if len(names) > MOST_CLASSES:
        raise ValueError(
            f"{source}: the masks hold {len(names)} different numbers, and a class needs one of its own, 255 at most. "
            "Are they JPEGs, which change numbers, or numbered objects (instances=True)?"
        )
    return MaskClasses(list(names), values, frozenset(values) | frozenset(voids))


def _pick(asked: list[str] | None, table: dict[str, int], voids: set[int], source: str) -> tuple[list, list]:
    """The classes asked for, of those there are; the numbers of the others become void."""
    if asked is None:
        return list(table), list(table.values())
    for name in asked:
        if name not in table:
            raise ValueError(f"{source}: {unknown_name('class', name, table)}")
    voids |= {value for name, value in table.items() if name not in asked}
    return asked, [table[name] for name in asked]
