"""What the ground truth of a split looks like: counts, sizes and places of its boxes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kzoo import boxes as box_ops
from kzoo.messages import counted
from kzoo.visualize.figures import class_colour, figure, write

_MAX_DEFAULT_BOXES_SHOWN = 400


def best_default_box_iou(sizes: np.ndarray, default_sizes: np.ndarray) -> np.ndarray:
    """Returns the IoU of each ground-truth box with the default box whose shape suits it best, both centred alike.

    An upper bound of what matching can reach: the places of the default boxes are left out.

    Args:
        sizes: (N, 2) widths and heights in pixels of the network's image.
        default_sizes: (A, 2) widths and heights in the same pixels.

    Returns:
        (N,) in 0..1.
    """
    sizes = np.asarray(sizes, np.float32).reshape(-1, 2)
    default_sizes = np.unique(np.round(np.asarray(default_sizes, np.float32).reshape(-1, 2), 3), axis=0)
    if len(sizes) == 0 or len(default_sizes) == 0:
        return np.zeros(len(sizes), np.float32)
    centred = [np.concatenate([-s / 2, s / 2], axis=-1) for s in (sizes, default_sizes)]
    return np.asarray(box_ops.iou(*centred)).max(-1)


def label_statistics(
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    image_sizes: Sequence[tuple[int, int]],
    class_names: Sequence[str],
    path: str | Path,
    network_size: tuple[int, int] | None = None,
    default_boxes: np.ndarray | None = None,
) -> Path:
    """Draws boxes per class, objects per image, box sizes and a heat map of where the boxes lie.

    Args:
        boxes: one (N, 4) xyxy array an image, in pixels of the original image.
        labels: one (N,) array an image; entries below 0 are padding.
        image_sizes: (height, width) of each image.
        class_names: names by class id.
        path: where the picture goes.
        network_size: (height, width) of the network's input: sizes are shown as the network sees them.
        default_boxes: (A, 4) xyxy default boxes in pixels of the network's image: their shapes are drawn over the box
            sizes, and a line says how many objects one of them can match at IoU 0.5. Needs `network_size`.
    """
    valid = [np.asarray(one) >= 0 for one in labels]
    label = np.concatenate([np.asarray(one)[ok] for one, ok in zip(labels, valid, strict=True)] or [np.zeros(0, int)])
    scaled = [np.zeros((0, 4))]
    places = [np.zeros((0, 4))]
    for box, ok, (height, width) in zip(boxes, valid, image_sizes, strict=True):
        relative = np.asarray(box, float).reshape(-1, 4)[ok] / [width, height, width, height]
        shown_height, shown_width = network_size or (height, width)
        places.append(relative)
        scaled.append(relative * [shown_width, shown_height, shown_width, shown_height])
    box, place = np.concatenate(scaled), np.concatenate(places)
    sizes = box[:, 2:] - box[:, :2]

    made, (classes, per_image, size_axis, heat) = figure(columns=2, rows=2, height=4.2)
    _class_counts(classes, label, class_names)
    _objects_per_image(per_image, [int(ok.sum()) for ok in valid])
    _sizes(size_axis, sizes, label, network_size, default_boxes)
    _heat(heat, place)
    return write(made, path)


def _class_counts(axis, label: np.ndarray, class_names: Sequence[str]) -> None:
    counts = np.bincount(label, minlength=len(class_names))[: len(class_names)]
    places = np.arange(len(class_names))
    axis.barh(places, counts, color=[class_colour(c) for c in places])
    size = 9 if len(class_names) <= 20 else 4
    axis.set_yticks(places, [str(name)[:24] for name in class_names], fontsize=size)
    axis.invert_yaxis()
    if len(class_names) <= 40:
        for y, count in zip(places, counts, strict=True):
            axis.text(count, y, f" {count}", va="center", fontsize=size)
    axis.margins(x=0.12)
    axis.set(
        xlabel="boxes",
        title=f"{counted(counts.sum(), 'box', 'boxes')} of {counted(len(class_names), 'class', 'classes')}",
    )


def _objects_per_image(axis, counts: list[int]) -> None:
    top = max(counts, default=0)
    axis.hist(counts, bins=np.arange(min(top, 60) + 2) - 0.5 if top <= 60 else 40, color="#3b7dd8", rwidth=0.9)
    empty = sum(n == 0 for n in counts)
    axis.set(
        xlabel="boxes in an image", ylabel="images", title=f"{counted(len(counts), 'image')}, {empty} without a box"
    )


def _sizes(axis, sizes, label, network_size, default_boxes) -> None:
    title = "box sizes, px of the " + ("network's image" if network_size else "original image")
    if len(sizes):
        axis.scatter(
            sizes[:, 0], sizes[:, 1], s=6, alpha=0.5, linewidths=0, color=[class_colour(c) for c in label], zorder=2
        )
    if default_boxes is not None and network_size:
        default = np.asarray(default_boxes, float).reshape(-1, 4)
        default = np.unique(np.round(default[:, 2:] - default[:, :2], 1), axis=0)
        shown = default[:: max(1, len(default) // _MAX_DEFAULT_BOXES_SHOWN)]
        axis.scatter(shown[:, 0], shown[:, 1], marker="x", s=42, color="black", label="default boxes", zorder=3)
        if len(sizes):
            covered = (best_default_box_iou(sizes, default) > 0.5).mean()
            title += f"\na default box of IoU > 0.5 fits {covered:.1%} of them"
        axis.legend(fontsize=8)
    if len(sizes) and (sizes > 0).all():
        from matplotlib.ticker import FuncFormatter

        axis.set(xscale="log", yscale="log")
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            side.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "235" else ""))
    axis.set(xlabel="width", ylabel="height", title=title)


def _heat(axis, place: np.ndarray, cells: int = 40) -> None:
    """How many boxes cover each part of the image, through a two-dimensional running sum: no loop over boxes."""
    edges = np.zeros((cells + 1, cells + 1))
    x1, y1 = (np.clip(np.floor(place[:, i] * cells), 0, cells).astype(int) for i in (0, 1))
    x2, y2 = (np.clip(np.ceil(place[:, i] * cells), 0, cells).astype(int) for i in (2, 3))
    for y, x, sign in ((y1, x1, 1), (y1, x2, -1), (y2, x1, -1), (y2, x2, 1)):
        np.add.at(edges, (y, x), sign)
    cover = edges.cumsum(0).cumsum(1)[:cells, :cells]
    shown = axis.imshow(cover, cmap="magma", extent=(0, 1, 1, 0), vmin=0)
    axis.grid(False)
    axis.set(xlabel="x / width", ylabel="y / height", title="where the boxes lie")
    axis.figure.colorbar(shown, ax=axis, fraction=0.046, label="boxes")
