"""Curves over a training and over the detections of a split."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kzoo.visualize.figures import MAX_LINES, class_colour, figure, write

_SCORES = ("mAP", "mAP@0.50", "mAP@0.75", "mIoU", "pixel_accuracy", "mean_accuracy")


def read_results(path: str | Path) -> dict[str, list[float]]:
    """Reads a results.csv (one row an epoch) as columns of floats; empty or wordy cells become NaN."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [_number(row.get(name)) for row in rows] for name in (rows[0] if rows else ()) if name}


def _number(text: str | None) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def training_curves(results: str | Path | Mapping[str, Sequence[float]], path: str | Path) -> Path:
    """Draws loss parts, scores and learning rate over the epochs.

    Args:
        results: a results.csv or its columns. Columns with "loss" in their name go to the first chart (validation ones
            dashed), "mAP" and "mIoU" to the second (-1, not measured, left out), "learning_rate" to the third; others
            are not drawn.
        path: where the picture goes.
    """
    if not isinstance(results, Mapping):
        results = read_results(results)
    columns = {name: np.asarray(values, float) for name, values in results.items()}
    count = max((len(v) for v in columns.values()), default=0)
    epochs = columns.get("epoch", np.arange(1, count + 1))
    groups = {
        "loss": [n for n in columns if "loss" in n],
        "score": [n for n in columns if n.removeprefix("val_") in _SCORES],
        "learning rate": [n for n in columns if n.rsplit("/", 1)[-1] in ("learning_rate", "lr")],
    }
    groups = {title: names for title, names in groups.items() if names and count}
    made, axes = figure(columns=max(len(groups), 1), width=4.6, height=3.8)
    if not groups:
        _say(axes[0], "no epoch finished")
    for axis, (title, names) in zip(axes, groups.items(), strict=False):
        for i, name in enumerate(names[:MAX_LINES]):
            values = columns[name]
            seen = np.isfinite(values) & ((values >= 0) | (title != "score"))
            stem = name.removeprefix("val_")
            # Training and validation of one part share the colour.
            hue = class_colour([n.removeprefix("val_") for n in names].index(stem))
            axis.plot(
                epochs[: len(values)][seen],
                values[seen],
                linestyle="--" if name.startswith("val_") and title == "loss" else "-",
                color=hue if title != "learning rate" else "#3366cc",
                marker="o" if seen.sum() < 25 else None,
                markersize=3,
                label=name,
                zorder=3 + i,
            )
        if title == "score":
            axis.set_ylim(-0.02, 1.02)
        elif title == "loss":
            axis.set_ylim(bottom=0)
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=8)
    return write(made, path)


def precision_recall(
    recall: np.ndarray,
    precision: np.ndarray,
    path: str | Path,
    class_names: Sequence[str] | None = None,
    average_precision: Sequence[float] | None = None,
    iou: float = 0.5,
) -> Path:
    """Draws precision against recall, one line a class and their mean.

    Args:
        recall: (R,) recall points, or (C, R).
        precision: (C, R); NaN or negative rows are classes without ground truth, not drawn.
        path: where the picture goes.
        class_names: names by class id.
        average_precision: (C,) for the legend.
        iou: the IoU threshold behind the curves, for the title.
    """
    precision = np.atleast_2d(np.asarray(precision, float))
    recall = np.broadcast_to(np.asarray(recall, float), precision.shape)
    made, (axis,) = figure(height=5.2)
    _class_lines(axis, recall, np.where(precision < 0, np.nan, precision), class_names, average_precision, "AP")
    axis.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axis.set_title(f"Precision-recall at IoU {iou:g}")
    return write(made, path)


def f1_curves(
    thresholds: np.ndarray,
    f1: np.ndarray,
    path: str | Path,
    class_names: Sequence[str] | None = None,
    iou: float = 0.5,
) -> Path:
    """Draws F1 against the score threshold, one line a class, and marks the threshold with the best mean.

    Args:
        thresholds: (T,) score thresholds in 0..1.
        f1: (C, T); NaN rows are classes without ground truth, not drawn.
        path: where the picture goes.
        class_names: names by class id.
        iou: the IoU threshold behind the curves, for the title.
    """
    f1, thresholds = np.atleast_2d(np.asarray(f1, float)), np.asarray(thresholds, float)
    made, (axis,) = figure(height=5.2)
    best = np.where(np.isnan(f1).all(-1), np.nan, np.nanmax(np.where(np.isnan(f1), -1, f1), axis=-1, initial=-1))
    mean = _class_lines(axis, np.broadcast_to(thresholds, f1.shape), f1, class_names, best, "best F1")
    if mean is not None:
        top = int(np.nanargmax(mean))
        axis.axvline(thresholds[top], color="#555555", linestyle=":", linewidth=1)
        axis.annotate(
            f"best mean F1 {mean[top]:.3f} at score {thresholds[top]:.2f}",
            (thresholds[top], mean[top]),
            xytext=(0.5, 0.03),
            textcoords="axes fraction",
            ha="center",
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "#bbbbbb"},
            arrowprops={"arrowstyle": "-", "color": "#999999"},
            fontsize=9,
            zorder=200,
        )
    axis.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="score threshold", ylabel="F1")
    axis.set_title(f"F1 against score threshold at IoU {iou:g}")
    return write(made, path)


def _class_lines(axis, x, y, class_names, values, value_name) -> np.ndarray | None:
    """Draws one line a class and the mean, returns the mean, or says that there is nothing to draw."""
    drawn = np.flatnonzero(~np.isnan(y).all(-1))
    if drawn.size == 0:
        _say(axis, "no class with ground truth")
        return None
    for c in drawn:
        if drawn.size > MAX_LINES:
            axis.plot(x[c], y[c], color="#bbbbbb", linewidth=0.7)
            continue
        name = class_names[c] if class_names is not None and c < len(class_names) else str(c)
        number = f" {value_name} {values[c]:.3f}" if values is not None and np.isfinite(values[c]) else ""
        axis.plot(x[c], y[c], color=class_colour(c), linewidth=1.6, label=f"{name}{number}")
    mean = np.nanmean(y[drawn], axis=0)
    if drawn.size > 1:
        # The mean of the classes' best F1 is not the best mean F1: only AP has a mean worth a number here.
        shown = value_name == "AP" and values is not None
        number = f" AP {np.nanmean(np.asarray(values, float)[drawn]):.3f}" if shown else ""
        axis.plot(np.nanmean(x[drawn], axis=0), mean, color="black", linewidth=2.6, label=f"mean{number}")
    axis.legend(fontsize=8 if drawn.size <= 10 else 6, loc="lower left" if value_name == "AP" else "best")
    return mean


def confusion_matrix(matrix: np.ndarray, path: str | Path, class_names: Sequence[str], background: bool = True) -> Path:
    """Draws a confusion matrix: colours show shares of each row, numbers the counts.

    Args:
        matrix: (C + 1, C + 1) counts; rows true classes, columns predicted classes; the last row holds detections of
            nothing (background), the last column objects not found.
        path: where the picture goes.
        class_names: C names; "background" is added.
        background: False for pixels, a matrix (C, C) without such a row and column; numbers are then the shares alone.
    """
    matrix = np.asarray(matrix, float)
    count = len(class_names) + background
    if matrix.shape != (count, count):
        what = f"{len(class_names)} classes" + (" and the background" if background else "")
        raise ValueError(f"A confusion matrix of {what} must be {(count, count)}. Received {matrix.shape}.")
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = float(np.clip(2.4 + 0.55 * count, 4.5, 16))
    made, (axis,) = figure(width=side + 1, height=side)
    made.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    axis.grid(False)
    shown = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    rows, columns = ([*class_names, end] if background else list(class_names) for end in ("background", "not found"))
    size = 9 if count <= 12 else 7 if count <= 25 else 5
    axis.set_xticks(range(count), columns, rotation=45, ha="right", fontsize=size)
    axis.set_yticks(range(count), rows, fontsize=size)
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_title(
        "Confusion matrix: counts, colour by share of the row" if background else "Shares of each true class"
    )
    if count <= 40:
        for i, j in zip(*np.nonzero(matrix), strict=True):
            if not background:
                text = f"{share[i, j]:.1%}" if share[i, j] >= 5e-4 else ""
                axis.text(j, i, text, ha="center", va="center", fontsize=size - 2, color=_ink(share[i, j]))
                continue
            text = f"{matrix[i, j]:.0f}" if count > 12 else f"{matrix[i, j]:.0f}\n{share[i, j]:.0%}"
            axis.text(j, i, text, ha="center", va="center", fontsize=size - 1, color=_ink(share[i, j]))
    made.colorbar(shown, ax=axis, fraction=0.046, label="share of the true class")
    return write(made, path)


def _ink(share: float) -> str:
    return "black" if share < 0.5 else "white"


def _say(axis, text: str) -> None:
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, color="#666666")
