"""Size, speed and score of exported files and models in one table."""

import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kzoo.export.runtime import FileModel, load
from kzoo.export.verification import size_mb
from kzoo.metrics.evaluation import evaluate

COLUMNS = {
    "name": "file",
    "format": "format",
    "size_mb": "MB",
    "ms_1_thread": "ms, 1 thread",
    "ms_2_threads": "ms, 2 threads",
    "ms": "ms, TensorFlow",
    "mAP": "mAP",
    "mAP@0.50": "mAP@0.50",
    "mIoU": "mIoU",
}


def benchmark(
    detectors: Iterable, data: Iterable | None = None, runs: int = 20, warmup: int = 3, protocol: str = "coco"
) -> Iterator[dict]:
    """Times detectors or segmenters on single images, from pixels to the end, and scores them if there is data.

    The rows come one by one, since each takes seconds.

    Args:
        detectors: paths that `kzoo.export.load` takes, or detectors.
        data: batches `(images, targets)` to score on, as of `kzoo.data.load`; its first images are those that are timed
            (grey noise without data). It is read once for each detector.
        runs: timed calls; the median counts.
        warmup: calls before, not timed.
        protocol: of the `kzoo.metrics.MeanAveragePrecision`.

    Yields:
        A row a detector: "name", "format" ("LiteRT int8", "SavedModel", "Keras"), "size_mb" (None if there is no file),
        "ms_1_thread" and "ms_2_threads" (LiteRT only) or "ms" (TensorFlow with the threads it started with), and with
        data "mAP" and "mAP@0.50" (COCO) as measured, or a segmenter's "mIoU". What does not apply is None.
    """
    if runs < 1:
        raise ValueError(f"runs must be 1 or more, got {runs}.")
    for given in detectors:
        detector = load(given) if isinstance(given, str | Path) else given
        images = _images(data, detector.image_size, min(runs, 8))
        row = dict.fromkeys(COLUMNS)
        path = detector.path if isinstance(detector, FileModel) else None
        row["name"] = detector.name if path is None else str(path)
        row["format"] = _format(detector)
        row["size_mb"] = None if path is None else size_mb(path)
        if row["format"].startswith("LiteRT"):
            for threads, column in ((1, "ms_1_thread"), (2, "ms_2_threads")):
                row[column] = _median_ms(load(path, threads), images, runs, warmup)
        else:
            row["ms"] = _median_ms(detector, images, runs, warmup)
        if data is not None:
            result = evaluate(detector, data, protocol)
            row |= {name: result.get(name) for name in ("mAP", "mAP@0.50", "mIoU")}
        yield row


def format_benchmark(rows: Iterable[dict]) -> str:
    """A table of the rows of `benchmark`, without the columns that are empty throughout."""
    rows = list(rows)
    columns = [key for key in COLUMNS if any(row[key] is not None for row in rows)]
    digits = {"size_mb": 2, "mAP": 4, "mAP@0.50": 4, "mIoU": 4}
    lines = [[COLUMNS[key] for key in columns]]
    for row in rows:
        cells = (row[key] for key in columns)
        lines.append(
            [
                "-" if cell is None else cell if isinstance(cell, str) else f"{cell:.{digits.get(key, 1)}f}"
                for key, cell in zip(columns, cells, strict=True)
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [key in ("name", "format") for key in columns]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, text, strict=True)
        ).rstrip()
        for line in lines
    )


def _median_ms(detector, images: np.ndarray, runs: int, warmup: int) -> float:
    run = detector.segment if hasattr(detector, "segment") else detector.detect
    times = []
    for i in range(warmup + runs):
        image = images[i % len(images)][None]
        start = time.perf_counter()
        run(image)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[warmup:])


def _images(data, size: tuple[int, int], count: int) -> np.ndarray:
    """Real images where there are, since the time of suppression depends on what is in them."""
    if data is not None:
        for batch in [data] if isinstance(data, tuple) else data:
            images = np.asarray(batch[0], np.float32)[:count]
            if len(images):
                return images
    return np.random.default_rng(0).uniform(0, 255, (count, *size, 3)).astype(np.float32)


def _format(detector) -> str:
    name = detector.format if isinstance(detector, FileModel) else "Keras"
    return f"{name} {detector.metadata.get('quantization') or 'float32'}" if name == "LiteRT" else name
