"""Label maps on images: each class in its colour with an outline, void hatched, and a legend below."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kzoo.images import VOID
from kzoo.messages import counted
from kzoo.visualize.draw import colour, text_colour, to_uint8
from kzoo.visualize.figures import class_colour, figure, write
from kzoo.visualize.fonts import font
from kzoo.visualize.grids import grid

_VOID_COLOUR = (40, 40, 40)
BACKGROUND = "background"


def draw_mask(
    image: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None = None, alpha: float = 0.5
) -> np.ndarray:
    """Lays a label map over an image.

    Args:
        image: (H, W, 3), values 0..255, any dtype.
        labels: (H, W) class ids, 255 for void, which is hatched.
        class_names: a first class called background is left clear, so that objects stand out.
        alpha: how much of a class's colour covers the image; outlines are solid.

    Returns:
        uint8 (H, W, 3).
    """
    image, labels = to_uint8(image).astype(np.float32), np.asarray(labels)
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels {labels.shape} and image {image.shape[:2]} must be of one size.")
    table = np.array([colour(k) for k in range(256)], np.float32)
    covered = np.full(labels.shape, alpha, np.float32)
    if class_names is not None and len(class_names) and class_names[0] == BACKGROUND:
        covered[labels == 0] = 0
    rows, columns = np.indices(labels.shape)
    void = labels == VOID
    covered[void] = 0.7 * ((rows + columns)[void] % 6 < 2)
    paint = np.where(void[..., None], np.float32(_VOID_COLOUR), table[np.clip(labels, 0, 255)])
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= (labels[1:] != labels[:-1]) & ~void[1:] & ~void[:-1]
    edge[:, 1:] |= (labels[:, 1:] != labels[:, :-1]) & ~void[:, 1:] & ~void[:, :-1]
    mixed = image + covered[..., None] * (paint - image)
    mixed[edge] = 255
    return np.rint(mixed).astype(np.uint8)


def palette() -> list[int]:
    """256 RGB triples for an index PNG: class k in its colour, void dark."""
    return [v for k in range(255) for v in colour(k)] + list(_VOID_COLOUR)


def mask_grid(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    class_names: Sequence[str],
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    cell: int = 320,
) -> np.ndarray:
    """Draws images (H, W, 3) with their masks (H, W), as a training batch, with a legend."""
    drawn = [draw_mask(*_fitting(image, mask, cell), class_names) for image, mask in zip(images, masks, strict=True)]
    return with_legend(grid(drawn, captions, columns, cell), class_names)


def mask_comparison(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    class_names: Sequence[str],
    captions: Sequence[str],
    notes: Sequence[str],
    pairs: int = 2,
    cell: int = 320,
) -> np.ndarray:
    """Draws each image's ground truth (left) beside what was predicted (right), with a legend.

    Args:
        images: (H, W, 3) each. masks, found: (H, W) each, of their image's size.
        captions: one an image, below its ground truth. notes: below its prediction.
        pairs: image pairs a row.
    """
    drawn = []
    for image, *labels in zip(images, masks, found, strict=True):
        drawn += [draw_mask(*_fitting(image, one, cell), class_names) for one in labels]
    texts = [text for pair in zip(captions, notes, strict=True) for text in pair]
    pairs = min(pairs, len(images))
    sheet = grid(drawn, texts, 2 * pairs, cell, header=["ground truth", "predicted"] * pairs)
    return with_legend(sheet, class_names)


def with_legend(picture: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Adds the colours of the classes below a picture."""
    width, size = picture.shape[1], 15
    entries = [(str(name), colour(k)) for k, name in enumerate(class_names)] + [("void", _VOID_COLOUR)]
    text_font = font(size, "".join(name for name, _ in entries))
    places, x, y, height = [], 8, 6, size + 12
    for name, _ in entries:
        wide = round(text_font.getlength(name)) + 14
        if x + wide > width - 8 and x > 8:
            x, y = 8, y + height
        places.append((x, y, wide))
        x += wide + 6
    strip = Image.new("RGB", (width, y + height), (246, 246, 248))
    draw = ImageDraw.Draw(strip)
    for (name, fill), (left, top, wide) in zip(entries, places, strict=True):
        draw.rectangle([left, top, left + wide, top + size + 7], fill=fill)
        draw.text((left + 7, top + 3), name, fill=text_colour(fill), font=text_font)
    return np.concatenate([to_uint8(picture), np.asarray(strip)])


def _fitting(image: np.ndarray, labels: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales image and labels to the cell, so that outlines have one width over the whole grid."""
    scale = cell / max(image.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    picture = Image.fromarray(to_uint8(image)).resize(size, Image.Resampling.BICUBIC)
    mask = Image.fromarray(np.asarray(labels).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(picture), np.asarray(mask)


def mask_statistics(counts: np.ndarray, class_names: Sequence[str], path: str | Path) -> Path:
    """Draws each class's share of the known pixels, and in how many images it is.

    Args:
        counts: (N, C) pixels of each class in each image.
        class_names: C names.
        path: where the picture goes.
    """
    counts = np.asarray(counts, float).reshape(-1, len(class_names))
    places, size = np.arange(len(class_names)), 9 if len(class_names) <= 25 else 4
    share = counts.sum(axis=0) / max(counts.sum(), 1)
    shown = (counts > 0).sum(axis=0)
    made, axes = figure(columns=2, height=max(3.0, 0.28 * len(class_names)))
    rows = (
        (share, "share of the known pixels", [f" {value:.2%}" for value in share]),
        (shown, "images that show it", [f" {value}" for value in shown]),
    )
    for axis, (values, title, texts) in zip(axes, rows, strict=True):
        axis.barh(places, values, color=[class_colour(k) for k in places])
        axis.set_yticks(places, [str(name)[:24] for name in class_names], fontsize=size)
        axis.invert_yaxis()
        axis.margins(x=0.18)
        axis.set(title=title)
        for y, value, text in zip(places, values, texts, strict=True):
            axis.text(value, y, text, va="center", fontsize=size)
    made.suptitle(f"{counted(len(counts), 'image')}, {len(class_names)} classes")
    return write(made, path)
