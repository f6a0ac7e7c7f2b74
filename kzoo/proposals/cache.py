"""Proposals of many images: each found once, kept on disk, found again by the image's content and the settings."""

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kzoo.images import read_image
from kzoo.proposals.selective_search import MAX_PROPOSALS, selective_search

SECONDS = 60  # between lines of progress where there is no terminal for a bar
VERSION = 1  # of what `selective_search` finds: older entries of the cache do not count


def cache_folder() -> Path:
    """Where proposals are kept unless told otherwise: $KZOO_PROPOSALS_DIR, else ~/.cache/kzoo/proposals."""
    return Path(os.environ.get("KZOO_PROPOSALS_DIR") or Path.home() / ".cache" / "kzoo" / "proposals")


def search_images(
    images: Sequence[Path | np.ndarray],
    mode: str = "fast",
    max_proposals: int = MAX_PROPOSALS,
    folder: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: float,
) -> list[np.ndarray]:
    """Selective search on many images, in parallel; what was found before is read from disk.

    Each image's regions are written as soon as they are found, whole or not at all, so a search that was stopped goes
    on where it was. The search runs in threads: OpenCV lets go of Python's lock, and threads need no copy of anything.

    Args:
        images: files, or (H, W, 3) RGB arrays; a file is found again under any name.
        mode, max_proposals, settings: of `selective_search`; a smaller `max_proposals` is served from the same entry.
        folder: of the cache; None for `cache_folder()`.
        workers: searches at once; None for one a core.
        progress: told the number of images done and their total; None draws a bar where standard error is a terminal,
            and else writes a line a minute.

    Returns:
        a list of (P, 4) float32 xyxy pixels, best first, one an image.
    """
    folder = cache_folder() if folder is None else Path(folder)
    most = max(max_proposals, MAX_PROPOSALS)
    signature = json.dumps({"mode": mode, "max_proposals": most, "version": VERSION, **settings}, sort_keys=True)

    def find(image: Path | np.ndarray) -> np.ndarray:
        path = folder / mode / f"{_key(image, signature)}.npy"
        boxes = _read(path)
        if boxes is None:
            pixels = image if isinstance(image, np.ndarray) else read_image(image)
            boxes = selective_search(pixels, mode, most, **settings)
            _write(path, boxes)
        return boxes[:max_proposals]

    found = []
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        with _Bar(f"selective search, {mode}", len(images), progress) as bar:
            for boxes in pool.map(find, images):
                found.append(boxes)
                bar(len(found), len(images))
    finally:
        pool.shutdown(cancel_futures=True)  # stopped by a key or a fault: what runs ends, nothing new begins
    return found


def _key(image: Path | np.ndarray, signature: str) -> str:
    digest = hashlib.sha256(signature.encode())
    if isinstance(image, np.ndarray):
        digest.update(f"{image.shape} {image.dtype}".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    else:
        try:
            digest.update(Path(image).read_bytes())
        except OSError as error:
            raise ValueError(f"{image}: not a readable image ({error}). Remove the file or replace it.") from error
    return digest.hexdigest()


def _read(path: Path) -> np.ndarray | None:
    """What `_write` wrote; None where nothing (or nothing sound) is there."""
    try:
        boxes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return boxes if boxes.ndim == 2 and boxes.shape[1] == 4 and boxes.dtype == np.float32 else None


def _write(path: Path, boxes: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".npy")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, boxes, allow_pickle=False)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class _Bar:
    """Tells `progress`, or without one draws a bar on standard error, or lines where that is no terminal."""

    def __init__(self, text: str, total: int, progress: Callable[[int, int], None] | None):
        self._text, self._progress, self._bar = text, progress, None
        self._told = time.monotonic()
        if progress is None and total and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(text, total=total)

    def __enter__(self):
        if self._bar is not None:
            self._bar.start()
        return self

    def __call__(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)
        elif self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif time.monotonic() - self._told >= SECONDS:
            print(f"{self._text}: {done} of {total} images", file=sys.stderr, flush=True)
            self._told = time.monotonic()

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()
