"""Which number in a mask is which class: by the folder's own names, the numbers that occur, and what is asked for."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kzoo.data.readers.mask_files import number_of, shown
from kzoo.images import VOID
from kzoo.messages import require_unique, unknown_name

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


# The nineteen classes that Cityscapes is scored on, by their ids; the others up to 33 are void (Cordts et al., 2016).
CITYSCAPES_CLASSES = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
CITYSCAPES_VOID = sorted(set(range(34)) - set(CITYSCAPES_CLASSES.values()))


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


def own_names(folder: Path, kind: str) -> Sequence[str] | Mapping[str, int] | None:
    """What the data set itself calls its numbers 0, 1, 2, ..., or {name: number}; None where it does not say.

    Raises:
        ValueError: for a line of `labelmap.txt` (CVAT), `_classes.csv` (Roboflow) or `class_dict.csv` (CamVid and
            others on Kaggle) without its colour or number.
    """
    if (file := folder / "classes.txt").is_file():
        names = [line.strip() for line in _lines(file) if line.strip()]
        require_unique((name for name in names if name.lower() not in VOID_NAMES), file)
        return names
    if (file := folder / "labelmap.txt").is_file():
        return _labelmap(file)
    tables = [folder / "_classes.csv", *sorted(folder.glob("*/_classes.csv"))]  # one in each split, all alike
    if (file := next((table for table in tables if table.is_file()), None)) is not None:
        return _table(file)
    if (file := folder / "class_dict.csv").is_file():
        return _colour_table(file)
    return {"voc": VOC_CLASSES, "camvid": CAMVID_CLASSES, "cityscapes": CITYSCAPES_CLASSES}.get(kind)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8-sig", errors="replace").splitlines()


def _labelmap(file: Path) -> dict[str, int]:
    names: dict[str, int] = {}
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colour, *_ = [*line.split(":"), ""]
        require_unique([*names, name.strip()], file)
        try:
            names[name.strip()] = number_of(colour.split(","))
        except ValueError as error:
            raise ValueError(f"{file}: line {number} has no colour: {line!r}. Write name:red,green,blue::") from error
    return names


def _table(file: Path) -> dict[str, int]:
    names = {}
    for number, row in enumerate(csv.reader(_lines(file)), start=1):
        if not row or number == 1:  # the headings
            continue
        try:
            require_unique([*names, row[1].strip()], file)
            names[row[1].strip()] = int(row[0])
        except (IndexError, ValueError) as error:
            raise ValueError(f"{file}: line {number} is no number and name: {','.join(row)!r}.") from error
    return names


def _colour_table(file: Path) -> dict[str, int]:
    names: dict[str, int] = {}
    for number, row in enumerate(csv.reader(_lines(file)), start=1):
        if not row or number == 1:  # name, r, g, b
            continue
        require_unique([*names, row[0].strip()], file)
        try:
            names[row[0].strip()] = number_of(row[1:4])
        except ValueError as error:
            raise ValueError(f"{file}: line {number} is no name and colour: {','.join(row)!r}.") from error
    return names


def choose(
    occurring: Mapping[int, int],
    own: Sequence[str] | Mapping[str, int] | None,
    class_names: Sequence[str] | None,
    values: Sequence[int | str] | None,
    void: int | str | Sequence[int | str] | None,
    instances: bool,
    source: str,
) -> MaskClasses:
    """Decides the classes; arguments as of `kzoo.data.readers.masks.read`.

    Args:
        occurring: {number: pixels} over all splits.
        own: the data set's own names of 0, 1, 2, ..., or {name: number}.

    Raises:
        ValueError: for names or values that do not fit each other or the masks.
    """
    asked = None if class_names is None else [str(name) for name in class_names]
    if asked is not None:
        require_unique(asked, "class_names")
    if instances:
        names = asked or ["background", "cell"]
        if len(names) != 2:
            raise ValueError(f"{source}: masks of instances have two classes, 0 and all else. Received: {names}.")
        return MaskClasses(names, [0, 1], frozenset(), instances=True)
    voids = {VOID} | ({_number(v) for v in np.atleast_1d(void)} if void is not None else set())
    numbers = sorted(set(occurring) - voids)
    if values is None and void is None and not instances:
        _refuse_soft_edges(occurring, source)
    black_and_white = set(occurring) <= {0, VOID} and VOID in occurring and void is None
    # VOC's and CamVid's layouts may hold other classes: the names count where the numbers fit them.
    if own in (VOC_CLASSES, CAMVID_CLASSES) and (
        max(numbers, default=0) >= len(own) or (own is CAMVID_CLASSES and max(numbers, default=0) != len(own) - 1)
    ):
        own = None
    if isinstance(own, Mapping) and not set(numbers) <= set(own.values()) and max(numbers) < len(own):
        own = list(own)  # colours are named, but the masks hold their places
    if values is not None:
        values = [_number(value) for value in np.atleast_1d(values)]
        names = asked or (list(own) if own and len(own) == len(values) else [shown(value) for value in values])
    elif own is not None:
        places = [0, VOID] if black_and_white and len(own) == 2 else range(len(own))
        table = dict(own) if isinstance(own, Mapping) else dict(zip(own, places, strict=True))
        voids |= {table.pop(name) for name in list(table) if name.lower() in VOID_NAMES}
        names, values = _pick(asked, table, voids, source)
    else:
        table = {shown(n): n for n in ([0, VOID] if black_and_white else numbers)}
        if asked is not None and not set(asked) & set(table):
            table = dict(zip(asked, [0, VOID] if black_and_white and len(asked) == 2 else range(256), strict=False))
        names, values = _pick(asked, table, voids, source)
    if len(names) != len(values) or len(set(values)) != len(values) or min(values, default=0) < 0:
        raise ValueError(f"values must be one number a class, each once. Received: {values} for {names}.")
    if len(names) > MOST_CLASSES:
        raise ValueError(
            f"{source}: the masks hold {len(names)} different numbers, and a class needs one of its own, 255 at most. "
            "Are they drawn with soft edges, or numbered objects (instances=True)? Or choose some by class_names."
        )
    return MaskClasses(list(names), list(values), frozenset(values) | frozenset(voids))


def _refuse_soft_edges(occurring: Mapping[int, int], source: str) -> None:
    """Black and white masks that were smoothed when they were resized: the numbers between are no classes."""
    between = {number: count for number, count in occurring.items() if 0 < number < VOID}
    soft = len(between) > 8 and max(between) > 200 and sum(between.values()) < occurring.get(VOID, 0)
    if soft and 0 in occurring:
        raise ValueError(
            f"{source}: the masks are black and white, but for {len(between)} numbers between 0 and 255 on "
            f"{sum(between.values()) / sum(occurring.values()):.1%} of their pixels: were they smoothed? Resize masks "
            "to the nearest pixel, or leave those pixels out by values=[0,255]."
        )


def _number(value: int | str) -> int:
    """255 or "#800000" -> the number in the masks."""
    text = str(value)
    try:
        return number_of(bytes.fromhex(text[1:])) if text.startswith("#") else int(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no number and no colour, as 255 or '#800000'.") from error


def _pick(asked: list[str] | None, table: dict[str, int], voids: set[int], source: str) -> tuple[list, list]:
    """The classes asked for, of those there are; the numbers of the others become void."""
    if asked is None:
        return list(table), list(table.values())
    for name in asked:
        if name not in table:
            raise ValueError(f"{source}: {unknown_name('class', name, table)}")
    voids |= {value for name, value in table.items() if name not in asked}
    return asked, [table[name] for name in asked]
