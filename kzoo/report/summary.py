"""What a run folder says of its network."""

from pathlib import Path
from typing import Any

from kzoo import run_files
from kzoo.report import files


def summarize(folder: str | Path, model: Any, name: str) -> dict[str, Any]:
    """Writes summary.json: the model's name, task, parameters, compute, image size, classes and bytes on disk."""
    from kzoo.report.compute import gflops

    folder = Path(folder)
    best = folder / run_files.BEST
    summary = {
        "model": name,
        "task": "segmentation" if hasattr(model, "segment") else "detection",
        "parameters": int(model.count_params()),
        "gflops": gflops(model),
        "image_size": list(model.image_size),
        "class_names": model.class_names,
        "bytes": best.stat().st_size if best.is_file() else None,
    }
    files.write_json(folder / run_files.SUMMARY, summary)
    return summary
