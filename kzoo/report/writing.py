"""Writing report.html from what a run folder holds."""

from pathlib import Path

from kzoo import run_files
from kzoo.report import document


def write(run_dir: str | Path, title: str | None = None) -> Path:
    """Writes `report.html` into a run folder: scores, curves, pictures, exported files, settings, faults of the data.

    The file is self-contained (images embedded, no script, no network). Parts whose files are missing from the folder
    are left out, so that it can be written at any time, also while a training goes on.

    Args:
        run_dir: a run folder, or any folder with some of its files (see `kzoo.report.files`).
        title: heading; the folder's name where None.

    Returns:
        The path of the report.

    Raises:
        ValueError: if there is no such folder.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder. Give the folder of a run.")
    text = document.build(folder, title)
    path = folder / run_files.REPORT
    temporary = folder / f".{run_files.REPORT}.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path
