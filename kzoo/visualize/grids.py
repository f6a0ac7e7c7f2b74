"""Several images on one picture: a training batch, ground truth beside predictions, the worst images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kzoo.messages import counted
from kzoo.visualize.draw import draw_boxes, to_uint8
from kzoo.visualize.fonts import font

_BACKGROUND = (246, 246, 248)
_INK = (32, 33, 36)


def save(picture: np.ndarray, path: str | Path) -> Path:
    """Writes a picture (H, W, 3), values 0..255, making its folder; the suffix chooses the format. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 92} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    Image.fromarray(to_uint8(picture)).save(path, **options)
    return path


def grid(
    images: Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    cell: int = 320,
    header: Sequence[str] | None = None,
) -> np.ndarray:
    """Lays images out in rows, each scaled into a square cell with its caption below.

    Args:
        images: pictures (H, W, 3) of any sizes, values 0..255.
        captions: one line an image, cut where it does not fit.
        columns: cells a row; near a square of cells where None.
        cell: side of a cell, pixels.
        header: one heading a column.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: without images, or with a different number of captions.
    """
    if len(images) == 0:
        raise ValueError("A grid needs at least one image. Received none.")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"Received {len(captions)} captions for {len(images)} images: give one each.")
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    shown = [_scaled(image, cell) for image in images]
    text_size = max(10, cell // 22)
    line = 2 * text_size
    gap = max(4, cell // 40)
    # A row is as high as its highest picture, so that a caption stands right below its own.
    heights = [max(p.height for p in shown[i : i + columns]) for i in range(0, len(shown), columns)]
    step = [height + gap + (line if captions is not None else 0) for height in heights]
    top = gap + (line if header is not None else 0)
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, top + sum(step)), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, text in enumerate(header or ()):
        _text(draw, text, gap + column * (cell + gap) + cell / 2, top - line / 2, cell, text_size)
    for i, picture in enumerate(shown):
        row, column = divmod(i, columns)
        x, y = gap + column * (cell + gap), top + sum(step[:row])
        sheet.paste(picture, (x + (cell - picture.width) // 2, y + (heights[row] - picture.height) // 2))
        if captions is not None:
            _text(draw, captions[i], x + cell / 2, y + heights[row] + line / 2, cell, text_size)
    return np.asarray(sheet)


def _scaled(image: np.ndarray, cell: int) -> Image.Image:
    picture = Image.fromarray(to_uint8(image))
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def _text(draw: ImageDraw.ImageDraw, text: str, x: float, y: float, width: float, size: int) -> None:
    text = str(text).replace("\n", " ")
    text_font = font(size, text)
    if draw.textlength(text, font=text_font) > width:
        while text and draw.textlength(text + "…", font=text_font) > width:
            text = text[:-1]
        text += "…"
    draw.text((x, y), text, fill=_INK, font=text_font, anchor="mm")


def batch_grid(
    images: Sequence[np.ndarray],
    targets: Mapping[str, Sequence[np.ndarray]],
    class_names: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    max_images: int = 16,
    cell: int = 320,
) -> np.ndarray:
    """Draws a batch as the network sees it: images (B, H, W, 3) with their ground truth after augmentation.

    `targets` are {"boxes": (B, N, 4), "labels": (B, N)}, labels < 0 being padding. Captions count the boxes where None.
    """
    count = min(len(images), max_images)
    labels = [np.asarray(targets["labels"][i]) for i in range(count)]
    drawn = [_fitting(images[i], cell, targets["boxes"][i], labels[i], None, class_names, False) for i in range(count)]
    if captions is None:
        counts = [int((one >= 0).sum()) for one in labels]
        captions = [counted(n, "box", "boxes") for n in counts]
    return grid(drawn, captions[:count], cell=cell)


def comparison_grid(
    images: Sequence[np.ndarray],
    targets: Mapping[str, Sequence[np.ndarray]],
    found: Mapping[str, Sequence[np.ndarray]],
    class_names: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    score_threshold: float = 0.5,
    max_images: int = 8,
    pairs: int = 2,
    cell: int = 320,
    notes: Sequence[str] | None = None,
) -> np.ndarray:
    """Draws ground truth (dashed, left) beside predictions (solid, right), `pairs` image pairs a row.

    Args:
        images: (B, H, W, 3), values 0..255.
        targets: {"boxes": (B, N, 4), "labels": (B, N)} in pixels of these images.
        found: detections {"boxes", "labels", "scores"} in pixels of these images.
        class_names: names by class id.
        captions: one an image, e.g. its file name.
        score_threshold: detections that score less are not drawn.
        max_images: images beyond are left out.
        pairs: image pairs a row.
        cell: side of a cell, pixels.
        notes: one an image, below its predictions; how many were found where None.
    """
    count = min(len(images), max_images)
    drawn, texts = [], []
    for i in range(count):
        truth = np.asarray(targets["labels"][i])
        shown = (np.asarray(found["labels"][i]) >= 0) & (np.asarray(found["scores"][i]) >= score_threshold)
        drawn.append(
            _fitting(images[i], cell, targets["boxes"][i], truth, None, class_names, dashed=True),
        )
        drawn.append(
            _fitting(
                images[i],
                cell,
                np.asarray(found["boxes"][i])[shown],
                np.asarray(found["labels"][i])[shown],
                np.asarray(found["scores"][i])[shown],
                class_names,
                dashed=False,
            )
        )
        name = f"{captions[i]}: " if captions is not None else ""
        texts += [f"{name}{int((truth >= 0).sum())} true", notes[i] if notes else f"{int(shown.sum())} found"]
    pairs = min(pairs, max(count, 1))
    return grid(drawn, texts, columns=2 * pairs, cell=cell, header=["ground truth", "predicted"] * pairs)


def _fitting(
    image: np.ndarray,
    cell: int,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    class_names: Sequence[str] | None,
    dashed: bool,
) -> np.ndarray:
    """Scales an image to the cell first and draws then, so that lines and text have one size over the whole grid."""
    picture = _scaled(image, cell)
    factors = np.array([picture.width / image.shape[1], picture.height / image.shape[0]] * 2)
    return draw_boxes(np.asarray(picture), np.asarray(boxes) * factors, labels, scores, class_names, dashed)
