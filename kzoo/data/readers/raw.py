"""From what a file says to what can be trained on: one careful pass for all formats, in which every fault is named."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kzoo.data.annotations import Annotations, Fault, Sample
from kzoo.data.readers.headers import Header, read_header, upright_boxes
from kzoo.data.readers.progress import map_in_threads

TOLERANCE = 0.5  # pixels a box may reach outside from rounding alone; it is clipped without a word


@dataclass
class RawImage:
    """One image as its annotation describes it, before any check.

    Attributes:
        image: the file, or None where `pixels` holds the encoded image.
        name: shown to people.
        file: the annotation file (or image) that faults point to.
        boxes: (N, 4) float64 xyxy, 0-based half-open pixels, or fractions of the image where `relative`.
        labels: (N,) int, -1 where the class is unknown.
        texts: N class names or ids as written, for messages.
        where: N places, e.g. "line 12" or "annotation 4711".
        difficult, crowd: (N,) bool.
        area: (N,) float, NaN where the data set gives none.
        stated_size: (height, width) as the annotation claims, None where it makes no claim.
        splits: the splits that the image belongs to.
    """

    image: Path | None
    name: str
    file: str
    boxes: np.ndarray
    labels: np.ndarray
    texts: list[str]
    where: list[str]
    difficult: np.ndarray | None = None
    crowd: np.ndarray | None = None
    area: np.ndarray | None = None
    stated_size: tuple[int, int] | None = None
    relative: bool = False
    pixels: bytes | None = None
    splits: tuple[str, ...] = ()
    image_id: int | None = None
    image_file: str | None = None  # the image as faults show it; None: its name
    faults: list[Fault] = field(default_factory=list)  # found by the reader in this image's annotation


def assemble(
    raws: list[RawImage], class_names: list[str], split: str | None, faults: list[Fault] | None = None
) -> Annotations:
    """Checks and cleans what a reader found.

    Args:
        raws: one a listed image.
        class_names: names of labels 0..C-1.
        split: what was asked for.
        faults: those found before this point; the others are appended.
    """
    faults = list(faults or [])
    headers = map_in_threads(lambda raw: read_header(raw.image or raw.pixels), raws, "reading image headers")
    samples, seen = [], {}
    for index, (raw, header) in enumerate(zip(raws, headers, strict=True)):
        faults += raw.faults
        key = raw.image or id(raw)
        if key in seen:
            faults.append(Fault(raw.file, "duplicate image", f"{raw.name} is listed twice", "image left out"))
            continue
        seen[key] = True
        if header.error or 0 in header.size:
            detail = f"{raw.name}: {header.error or 'the image has no pixels'}"
            faults.append(Fault(raw.image_file or raw.name, "corrupt image", detail, "image left out"))
            continue
        samples.append(_clean(raw, header, index, class_names, faults))
    if len({sample.image_id for sample in samples}) < len(samples):  # several files of one data set count from 1 each
        for index, sample in enumerate(samples):
            sample.image_id = index
    return Annotations(samples=samples, class_names=class_names, split=split, faults=faults)


def _clean(raw: RawImage, header: Header, index: int, class_names: list[str], faults: list[Fault]) -> Sample:
    n = len(raw.boxes)
    boxes = np.asarray(raw.boxes, np.float64).reshape(n, 4)
    labels = np.asarray(raw.labels, np.int64).reshape(n)
    difficult = np.zeros(n, bool) if raw.difficult is None else np.asarray(raw.difficult, bool)
    crowd = np.zeros(n, bool) if raw.crowd is None else np.asarray(raw.crowd, bool)
    area = np.full(n, np.nan) if raw.area is None else np.asarray(raw.area, np.float64)
    height, width = header.size
    boxes = _oriented(raw, header, boxes, faults)
    if raw.relative:
        boxes = boxes * np.array([width, height, width, height], np.float64)

    def report(mask: np.ndarray, kind: str, action: str, say) -> None:
        for i in np.flatnonzero(mask):
            faults.append(Fault(raw.file, kind, f"{raw.where[i]}: {say(i)}", action))

    def show(i: int) -> str:
        return f"{raw.texts[i]} [{', '.join(f'{v:.6g}' for v in boxes[i])}]"

    left_out = "box left out"
    bad = ~np.isfinite(boxes).all(axis=1)
    report(bad, "non-finite box", left_out, show)
    with np.errstate(invalid="ignore"):
        flat = ~bad & ((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1]))
    report(flat, "zero area", left_out, lambda i: f"{show(i)} has no width or no height")
    bad |= flat
    limits = np.array([width, height, width, height], np.float64)
    inside = np.clip(boxes, 0, limits)
    outside = ~bad & ((inside[:, 2] <= inside[:, 0]) | (inside[:, 3] <= inside[:, 1]))
    report(outside, "outside image", left_out, lambda i: f"{show(i)} is not on the image of {width}x{height}")
    bad |= outside
    unknown = ~bad & ((labels < 0) | (labels >= len(class_names)))
    report(unknown, "unknown class", left_out, lambda i: f"{raw.texts[i]!r} is none of {_shorten(class_names)}")
    bad |= unknown
    partly = ~bad & (np.abs(inside - boxes) > TOLERANCE).any(axis=1)
    report(partly, "partly outside", "box clipped", lambda i: f"{show(i)} reaches beyond the image of {width}x{height}")
    twice = ~bad & _repeated(inside, labels, bad)
    report(twice, "duplicate box", left_out, lambda i: f"{show(i)} is there twice")
    bad |= twice
    report(~bad & difficult, "difficult", "kept, evaluation ignores it", show)
    report(~bad & crowd, "crowd", "kept for evaluation, not trained on", show)
    if (n == 0 or bad.all()) and not any(fault.kind == "image without annotation" for fault in raw.faults):
        detail = "has no objects" if n == 0 else f"has no objects left of {n}"
        faults.append(Fault(raw.file, "no objects", f"{raw.name} {detail}", "image kept as background"))

    boxes, area = inside[~bad].astype(np.float32), area[~bad]
    own_area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return Sample(
        image=raw.image,
        name=raw.name,
        image_id=index if raw.image_id is None else raw.image_id,
        size=header.size,
        boxes=boxes,
        labels=labels[~bad].astype(np.int32),
        difficult=difficult[~bad],
        crowd=crowd[~bad],
        area=np.where(np.isfinite(area) & (area >= 0), area, own_area).astype(np.float32),
        pixels=None if raw.pixels is None else np.frombuffer(raw.pixels, np.uint8),
        splits=raw.splits,
    )


def _oriented(raw: RawImage, header: Header, boxes: np.ndarray, faults: list[Fault]) -> np.ndarray:
    """Compares the stated size with the image's own and brings the boxes to the upright image."""
    (height, width), stated = header.size, raw.stated_size
    if header.orientation != 1:
        detail = f"{raw.name} has EXIF orientation {header.orientation}"
        faults.append(Fault(raw.image_file or raw.name, "EXIF rotation", detail, "image turned upright"))
    if stated is None or stated == header.size:
        return boxes
    sizes = f"{stated[1]}x{stated[0]}, the image has {width}x{height}"
    if stated == header.stored_size:
        detail = f"{raw.name}: the annotation says {sizes} when upright: its boxes were drawn on the unturned image"
        faults.append(Fault(raw.file, "boxes on unturned image", detail, "boxes turned with the image"))
        return upright_boxes(boxes, header)
    kind = "size not stated" if 0 in stated else "wrong size"
    detail = f"{raw.name}: the annotation says {sizes}"
    faults.append(Fault(raw.file, kind, detail, "image's own size used"))
    return boxes


def _repeated(boxes: np.ndarray, labels: np.ndarray, skip: np.ndarray) -> np.ndarray:
    """(N,) bool: the same box with the same label stands earlier in the list."""
    repeated = np.zeros(len(boxes), bool)
    rows = np.flatnonzero(~skip)
    if len(rows) > 1:
        _, first = np.unique(np.column_stack([boxes, labels])[rows], axis=0, return_index=True)
        repeated[rows] = True
        repeated[rows[first]] = False
    return repeated


def _shorten(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} classes)" if len(names) > most else "")
