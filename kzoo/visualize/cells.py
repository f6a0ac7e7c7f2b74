"""YOLO's view of an image: its grid, the cells that are responsible, the boxes they say, and the map of classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from kzoo.visualize.draw import colour, draw_boxes, to_uint8
from kzoo.visualize.grids import grid as sheet

_LINE = (255, 255, 255)


def cell_panels(
    image: np.ndarray,
    grid: tuple[int, int],
    truth: Mapping[str, Any],
    said: Mapping[str, Any],
    found: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
    score_threshold: float = 0.2,
    side: int = 640,
) -> np.ndarray:
    """Draws one image as YOLO sees it, in four panels (Redmon et al., CVPR 2016, figure 2).

    1. The grid, the true boxes (dashed), and in the colour of its class each cell that holds the centre of an object.
    2. All boxes that the cells say, the thicker the surer.
    3. The class map: each cell in the colour of its most probable class, the stronger the more probable.
    4. What is left after scores and suppression.

    Args:
        image: (H, W, 3) as the network sees it, values 0..255.
        grid: (rows, columns).
        truth: "boxes" (N, 4) xyxy pixels of `image`, "labels" (N,), -1 where padded.
        said: of `kzoo.models.YOLO.said` for this image: "boxes" (S, B, 4), "classes" (S, C), "confidences" (S, B).
        found: detections of this image: "boxes" (K, 4), "labels" (K,), "scores" (K,).
        class_names: names by class id.
        score_threshold: of the last panel.
        side: of a panel, pixels.

    Returns:
        The picture, uint8 (h, w, 3).
    """
    image = to_uint8(image)
    rows, columns = grid
    cells = _cells(image.shape[:2], grid)
    owners = responsible_cells(truth["boxes"], truth["labels"], image.shape[:2], grid)
    labels = np.asarray(truth["labels"])
    classes = np.asarray(said["classes"], np.float32)
    if len(classes) != rows * columns:
        raise ValueError(f"grid {grid} has {rows * columns} cells, but said['classes'] has {len(classes)} rows.")
    marked = _tinted(image, [(cells[cell], colour(labels[i]), 0.45) for i, cell in owners.items()])
    best = classes.argmax(axis=-1)
    strength = np.clip(classes.max(axis=-1), 0, 1) * 0.7
    mapped = _tinted(image, [(cells[i], colour(best[i]), strength[i]) for i in range(len(cells))])
    panels = [
        draw_boxes(_lined(marked, grid), truth["boxes"], labels, None, class_names, dashed=True),
        _all_boxes(image, np.asarray(said["boxes"]), np.asarray(said["confidences"]), best),
        _lined(mapped, grid),
        draw_boxes(image, found["boxes"], found["labels"], found["scores"], class_names, False, score_threshold),
    ]
    captions = ["grid, objects and responsible cells", "boxes, thicker where surer", "class map", "detections"]
    return sheet(panels, captions, columns=2, cell=side)


def responsible_cells(boxes: np.ndarray, labels: np.ndarray, size: tuple[int, int], grid: tuple[int, int]) -> dict:
    """The cell, row by row, that holds each object's centre: {index of the object: cell}; the first of each cell only.

    Args:
        boxes: (N, 4) xyxy pixels; labels: (N,), -1 where padded; size: (height, width); grid: (rows, columns).
    """
    found: dict[int, int] = {}
    for i, (box, label) in enumerate(zip(np.asarray(boxes, np.float64), np.asarray(labels), strict=True)):
        if label < 0:
            continue
        centre = (box[:2] + box[2:]) / 2 / [size[1], size[0]]
        column, row = np.clip(np.floor(centre * [grid[1], grid[0]]), 0, [grid[1] - 1, grid[0] - 1]).astype(int)
        cell = int(row) * grid[1] + int(column)
        if cell not in found.values():
            found[i] = cell
    return found


def _cells(size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """(S, 4) int xyxy, cells row by row."""
    y, x = (np.round(np.linspace(0, side, count + 1)).astype(int) for side, count in zip(size, grid, strict=True))
    return np.array([[x[j], y[i], x[j + 1], y[i + 1]] for i in range(grid[0]) for j in range(grid[1])])


def _tinted(image: np.ndarray, patches: Sequence[tuple[np.ndarray, tuple[int, int, int], float]]) -> np.ndarray:
    """Blends a colour of the given strength 0..1 into each rectangle."""
    blended = image.astype(np.float32)
    for (x1, y1, x2, y2), tint, strength in patches:
        window = blended[y1:y2, x1:x2]
        window += strength * (np.array(tint, np.float32) - window)
    return to_uint8(blended)


def _lined(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    picture = image.copy()
    height, width = image.shape[:2]
    for count, side, axis in ((grid[0], height, 0), (grid[1], width, 1)):
        places = np.round(np.linspace(0, side, count + 1)).astype(int)[1:-1]
        picture[(places, slice(None)) if axis == 0 else (slice(None), places)] = _LINE
    return picture


def _all_boxes(image: np.ndarray, boxes: np.ndarray, confidences: np.ndarray, labels: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    most = max(2, round(max(picture.size) / 60))
    flat = confidences.reshape(-1)
    for i in np.argsort(flat, kind="stable"):  # the surest on top
        x1, y1, x2, y2 = (float(v) for v in boxes.reshape(-1, 4)[i])
        if np.isfinite([x1, y1, x2, y2]).all():
            wide = max(1, round(most * float(np.clip(flat[i], 0, 1))))
            shade = colour(labels[i // confidences.shape[1]])
            draw.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline=shade, width=wide)
    return np.asarray(picture)
