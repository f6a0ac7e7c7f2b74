"""Boxes with class name and score on one image, readable on any background and at any image size."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from kzoo.visualize.fonts import Font, font

# Ten hues that stay apart for most colour-blind readers; further classes walk round the colour circle.
_PALETTE = (
    (230, 25, 75),
    (0, 130, 200),
    (255, 190, 0),
    (60, 180, 75),
    (170, 60, 220),
    (245, 130, 48),
    (0, 190, 190),
    (240, 50, 200),
    (140, 200, 20),
    (120, 90, 255),
)
_GOLDEN_RATIO = 0.618034


def colour(label: int) -> tuple[int, int, int]:
    """Returns the RGB colour of a class: always the same one for the same class id."""
    label = int(label)
    if 0 <= label < len(_PALETTE):
        return _PALETTE[label]
    # Two brightness steps besides the golden-ratio hues, so that eighty classes still differ.
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_RATIO % 1, 0.85, (0.95, 0.7)[label % 2])
    return round(red * 255), round(green * 255), round(blue * 255)


def text_colour(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns white where it contrasts well with the background (WCAG's ratio, at least 4), else black."""
    channels = np.array(background) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return (255, 255, 255) if 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4 else (0, 0, 0)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Turns an image (H, W, 3) or (H, W, 1) or (H, W) with values 0..255 of any dtype into RGB uint8."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"A picture must be (height, width, 3) with values 0..255. Received shape {image.shape}.")
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    return np.nan_to_num(np.clip(np.rint(image.astype(np.float32)), 0, 255)).astype(np.uint8)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    dashed: bool = False,
    score_threshold: float = 0.0,
    min_side: int = 0,
) -> np.ndarray:
    """Draws boxes with their class names and scores.

    Args:
        image: (H, W, 3), values 0..255, any dtype.
        boxes: (N, 4) xyxy in pixels of `image`; parts outside are drawn at the border.
        labels: (N,) class ids; entries below 0 are padding and not drawn.
        scores: (N,) in 0..1, or None for ground truth.
        class_names: names by class id; ids stand where None.
        dashed: dashed lines, for ground truth beside predictions.
        score_threshold: boxes that score less are not drawn.
        min_side: images whose longer side is shorter are enlarged to about this many pixels by a whole factor, so that
            text stays readable on a 32-pixel image. 0 keeps the size.

    Returns:
        The picture, uint8 (H, W, 3), larger than `image` only by `min_side`.
    """
    image = to_uint8(image)
    factor = max(1, round(min_side / max(image.shape[:2])))
    picture = Image.fromarray(image)
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * factor
    labels = np.asarray(labels).reshape(-1)
    keep = (labels >= 0) & np.isfinite(boxes).all(-1)
    if scores is not None:
        scores = np.asarray(scores, np.float32).reshape(-1)
        keep &= scores >= score_threshold
    order = np.flatnonzero(keep)
    if scores is not None:
        order = order[np.argsort(scores[order], kind="stable")]  # the best one is drawn last, on top

    draw = ImageDraw.Draw(picture)
    side = max(picture.size)
    width = max(1, round(side / 150))
    names = [_name(labels[i], class_names) for i in order]
    text_font = font(int(np.clip(round(side / 34), 11, 60)), "".join(names))
    limits = np.array([picture.width, picture.height, picture.width, picture.height])
    boxes = np.clip(boxes, 0, limits)
    for i in order:
        _rectangle(draw, boxes[i], colour(labels[i]), width, dashed, picture.size)
    taken: list[tuple[float, float, float, float]] = []
    for i, name in zip(order[::-1], names[::-1], strict=True):  # the best one chooses the place of its text first
        text = name if scores is None else f"{name} {scores[i]:.2f}"
        _label(draw, boxes[i], text, colour(labels[i]), text_font, width, picture.size, taken)
    return np.asarray(picture)


def _name(label: int, class_names: Sequence[str] | None) -> str:
    if class_names is not None and label < len(class_names):
        name = str(class_names[label])
        return name if len(name) <= 24 else name[:23] + "…"
    return str(int(label))


def _rectangle(
    draw: ImageDraw.ImageDraw,
    box: np.ndarray,
    fill: tuple[int, int, int],
    width: int,
    dashed: bool,
    size: tuple[int, int],
) -> None:
    """One box whose line lies inside it, on a thin dark and light rim that shows it on any background."""
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    x1, y1 = min(x1, size[0] - 1), min(y1, size[1] - 1)
    x2, y2 = max(x2 - 1, x1), max(y2 - 1, y1)  # half-open: the last pixel inside
    if not dashed:
        if width > 1:
            draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=(0, 0, 0))
        draw.rectangle((x1, y1, x2, y2), outline=fill, width=width)
        return
    dash = max(3, 4 * width)
    draw.rectangle((x1, y1, x2, y2), outline=(255, 255, 255), width=width)
    for start in range(x1, x2 + 1, 2 * dash):
        end = min(start + dash - 1, x2)
        draw.rectangle((start, y1, end, min(y1 + width - 1, y2)), fill=fill)
        draw.rectangle((start, max(y2 - width + 1, y1), end, y2), fill=fill)
    for start in range(y1, y2 + 1, 2 * dash):
        end = min(start + dash - 1, y2)
        draw.rectangle((x1, start, min(x1 + width - 1, x2), end), fill=fill)
        draw.rectangle((max(x2 - width + 1, x1), start, x2, end), fill=fill)


def _label(
    draw: ImageDraw.ImageDraw,
    box: np.ndarray,
    text: str,
    fill: tuple[int, int, int],
    text_font: Font,
    width: int,
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Text on a plate of the class's colour, inside the picture, beside other texts where there is room."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=text_font)
    pad = max(1, width)
    plate_width, plate_height = right - left + 2 * pad, bottom - top + 2 * pad
    x1, y1, x2, y2 = (float(v) for v in box)
    candidates = [
        (x1, y1 - plate_height),  # above, from the left
        (x2 - plate_width, y1 - plate_height),  # above, to the right
        (x1, y2),  # below
        (x2 - plate_width, y2),
        (x1, y1),  # inside, where nothing else is free
        (x2 - plate_width, y2 - plate_height),
    ]
    placed = []
    for rank, (x, y) in enumerate(candidates):
        inside_x = min(max(x, 0), max(size[0] - plate_width, 0))
        inside_y = min(max(y, 0), max(size[1] - plate_height, 0))
        plate = (inside_x, inside_y, inside_x + plate_width, inside_y + plate_height)
        moved = abs(inside_x - x) * 0.1 + abs(inside_y - y)
        placed.append((sum(_overlap(plate, other) for other in taken), moved, rank, plate))
    plate = min(placed)[-1]
    taken.append(plate)
    draw.rectangle((plate[0], plate[1], plate[2] - 1, plate[3] - 1), fill=fill)
    draw.text((plate[0] + pad - left, plate[1] + pad - top), text, fill=text_colour(fill), font=text_font)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
