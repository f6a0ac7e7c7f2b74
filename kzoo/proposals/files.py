"""Proposals in a file: an .npz with one array an image, or JSON in the form of COCO's results."""

import json
import os
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def read_file(path: str | Path) -> dict[str, np.ndarray]:
    """Reads proposals, each image's best first.

    Args:
        path: an .npz whose arrays are named like the images and hold (P, 4) xyxy pixels, best first, or (P, 5) with a
            score behind; or a .json: [{"image_id": 7, "bbox": [x, y, width, height], "score": 0.9}, ...], the score
            being optional.

    Returns:
        {name or id of an image: (P, 4) float32 xyxy pixels}, best first.

    Raises:
        ValueError: if the file is neither, naming the fault.
    """
    path = Path(path)
    if path.suffix not in (".npz", ".json"):
        raise ValueError(f"{path}: proposals are read from .npz or .json. Received: {path.suffix or 'no suffix'}.")
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
        else:
            with np.load(path, allow_pickle=False) as file:
                content = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:  # ValueError: no JSON, or pickled objects
        raise ValueError(f"{path}: not a readable file of proposals ({error}).") from error
    if path.suffix == ".json":
        return _of_results(content, path)
    return {name: _rows(rows, f"{path}: {name}") for name, rows in content.items()}


def write_file(path: str | Path, proposals: Mapping[str, np.ndarray]) -> Path:
    """Writes {image name: (P, 4) xyxy pixels} as an .npz that `read_file` reads; whole or not at all."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: proposals are written as .npz. Give the file that suffix.")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **{str(key): np.asarray(boxes, np.float32) for key, boxes in proposals.items()})
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _rows(rows: np.ndarray, where: str) -> np.ndarray:
    if rows.dtype.kind not in "fiu" or rows.ndim != 2 or rows.shape[1] not in (4, 5):
        raise ValueError(f"{where}: expected numbers (P, 4) or (P, 5). Received: {rows.dtype} {rows.shape}.")
    rows = rows.astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError(f"{where}: row {int(np.argmin(np.isfinite(rows).all(1)))} is not finite.")
    return rows[np.argsort(-rows[:, 4], kind="stable"), :4] if rows.shape[1] == 5 else rows


def _of_results(entries, path: Path) -> dict[str, np.ndarray]:
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected a list of results. Received: {type(entries).__name__}.")
    rows = defaultdict(list)
    for number, entry in enumerate(entries):
        try:
            x, y, width, height = (float(value) for value in entry["bbox"])
            rows[str(entry["image_id"])].append((x, y, x + width, y + height, float(entry.get("score", 1.0))))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path}: entry {number} is no {{'image_id', 'bbox': [x, y, width, height], 'score'}} ({error})."
            ) from error
    return {image: _rows(np.array(one), f"{path}: image {image}") for image, one in rows.items()}
