"""What the report says: one function a section, each empty where its part of the run folder is missing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kzoo import run_files
from kzoo.messages import counted
from kzoo.report import files, page

_FAULTS_SHOWN = 200
_HEADLINES = ("mAP", "mAP@0.50", "accuracy", "mean_IoU", "mIoU", "pixel_accuracy", "mean_boundary_f1")
_CAPTIONS = {
    "detection": {
        "charts": "Precision and recall",
        "confusion": "Confusion matrix. Rows are true classes, columns predicted ones. Last column: objects that were "
        "not found; last row: detections where there is no object.",
        "comparison": "Left of each pair: ground truth, dashed. Right: what the model found.",
        "worst": "The images with the most missed and false objects. Dashed: ground truth; solid: found.",
        "batch": "What the network sees: images and boxes after augmentation.",
    },
    "segmentation": {
        "charts": "Confusion of classes",
        "confusion": "Rows are true classes, columns predicted ones: what share of its pixels was taken for what.",
        "comparison": "Left of each pair: ground truth, void hatched. Right: what the model predicted.",
        "worst": "The images with the largest share of wrong pixels. Left: ground truth; right: predicted.",
        "batch": "What the network sees: images and masks after augmentation.",
    },
}


def build(folder: Path, title: str | None = None) -> str:
    """Returns the report of a run folder as one HTML document."""
    config = files.read_config(folder / run_files.CONFIG)
    rows = files.read_rows(folder / run_files.RESULTS)
    evaluation = files.read_json(folder / run_files.EVALUATION) or {}
    summary = files.read_json(folder / run_files.SUMMARY) or {}
    picture = {name: folder / file for name, file in run_files.PICTURES.items()}
    says = _CAPTIONS["segmentation" if summary.get("task") == "segmentation" else "detection"]
    parts: list[tuple[str, Callable[[], str]]] = [
        ("Scores", lambda: _scores(evaluation)),
        ("Training", lambda: _training(rows, picture["curves"])),
        (says["charts"], lambda: _charts(picture, says["confusion"])),
        (
            "Ground truth and predictions",
            lambda: page.image(picture["comparison"], says["comparison"]),
        ),
        (
            "Worst images",
            lambda: page.image(picture["worst"], says["worst"]),
        ),
        ("Exported files", lambda: _exports(folder)),
        ("Data", lambda: _data(folder, picture)),
        (
            "Training batch",
            lambda: page.image(picture["batch"], says["batch"]),
        ),
        ("Settings", lambda: page.pairs(config) if config else ""),
        ("Environment", lambda: _environment(folder)),
    ]
    sections = [(name, text) for name, part in parts if (text := part())]
    model = " on ".join(str(p) for p in (summary.get("model") or config.get("model"), config.get("backbone")) if p)
    subtitle = " · ".join(str(p) for p in (model, config.get("data") or evaluation.get("data")) if p)
    head = page.tiles(_headline(config, rows, evaluation, summary))
    if config and not rows:
        head += page.paragraph("No epoch of this training is finished yet.", "bad")
    title = title or folder.resolve().name
    return page.page(f"kzoo: {title}", subtitle, head, sections, f"Written by kzoo {_version()}.")


def _version() -> str:
    import kzoo

    return kzoo.__version__


def _headline(
    config: Mapping[str, Any],
    rows: list[dict],
    evaluation: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> dict[str, Any]:
    scores = evaluation.get("scores") or {}
    split = evaluation.get("split")
    tiles: dict[str, Any] = {
        f"{name} ({split})" if split else name: f"{scores[name]:.4f}"
        for name in _HEADLINES
        if scores.get(name) is not None
    }
    if not tiles:
        for name in ("val_mAP", "val_mIoU"):
            tiles[f"best {name}"] = max((row[name] for row in rows if isinstance(row.get(name), float)), default=None)
    tiles["epochs"] = f"{len(rows)} of {config['epochs']}" if rows and "epochs" in config else len(rows) or None
    seconds = [row["seconds"] for row in rows if isinstance(row.get("seconds"), float)]
    tiles["training time"] = duration(sum(seconds)) if seconds else None
    tiles["classes"] = len(summary["class_names"]) if summary.get("class_names") else None
    if summary.get("parameters"):
        tiles["parameters"] = f"{summary['parameters'] / 1e6:.2f} M"
    if summary.get("gflops"):
        tiles["GFLOPs an image"] = f"{summary['gflops']:.2f}"
    if summary.get("image_size"):
        height, width = summary["image_size"]
        tiles["px, network's image"] = f"{width} x {height}"
    if summary.get("bytes"):
        tiles["size of the model"] = size(summary["bytes"])
    return tiles


def duration(seconds: float) -> str:
    """Seconds in words: 47 s, 3 min 20 s, 2 h 05 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes in words, by thousands: 812 kB, 4.31 MB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _scores(evaluation: Mapping[str, Any]) -> str:
    scores = {k: v for k, v in (evaluation.get("scores") or {}).items() if isinstance(v, int | float)}
    if not scores:
        return ""
    protocol = {"coco": "COCO", "voc2007": "PASCAL VOC 2007, 11 points", "voc2010": "PASCAL VOC 2010, area"}
    facts = [
        f"data {evaluation['data']}" if evaluation.get("data") else "",
        f"split {evaluation['split']}" if evaluation.get("split") else "",
        counted(evaluation["images"], "image") if evaluation.get("images") else "",
        f"protocol {protocol.get(str(evaluation.get('protocol')), evaluation.get('protocol'))}"
        if evaluation.get("protocol")
        else "",
    ]
    text = page.paragraph(", ".join(fact for fact in facts if fact), "soft")
    left = page.table(("measure", "value"), [(name, _known(value)) for name, value in scores.items()], 4)
    classes = evaluation.get("per_class") or []
    if not classes:
        return text + left
    columns = list(dict.fromkeys(key for row in classes for key in row))
    right = page.table(columns, [[_known(row.get(key)) for key in columns] for row in classes], 4)
    return f'{text}<div class="pair uneven"><div>{left}</div><div>{right}</div></div>'


def _known(value: Any) -> Any:
    """COCO writes −1 where there is no ground truth to measure."""
    return None if isinstance(value, float) and value < 0 else value


def _training(rows: list[dict], curves: Path) -> str:
    if not rows:
        return ""
    columns = [key for key in dict.fromkeys(k for row in rows for k in row) if "/" not in key]
    table = page.table(columns, [[row.get(key) if row.get(key) != "" else None for key in columns] for row in rows])
    return page.image(curves, "Loss parts (validation dashed), scores and learning rate over the epochs.") + table


def _charts(picture: Mapping[str, Path], of_confusion: str) -> str:
    charts = [
        page.image(picture["precision_recall"], "Precision against recall, a line a class."),
        page.image(picture["f1"], "F1 against the score threshold: its top is the threshold to use."),
    ]
    pair = "".join(chart for chart in charts if chart)
    confusion = page.image(picture["confusion"], of_confusion)
    return (f'<div class="pair">{pair}</div>' if pair else "") + confusion


_SHOWN_ABOVE = ("file", "quantization", "size_mb")  # in the table of files already


def _exports(folder: Path) -> str:
    exports = files.read_json(folder / run_files.EXPORTS)
    exports = [one for one in exports if isinstance(one, dict)] if isinstance(exports, list) else []
    if not exports:
        return ""
    rows, checks = [], {}
    for entry in exports:
        name = _inside(folder, str(entry.get("file")))
        megabytes = size(entry["bytes"]) if entry.get("bytes") else None
        rows.append((name, entry.get("format"), entry.get("quantization") or "float32", megabytes))
        if entry.get("verification"):
            checks[name] = entry["verification"]
    text = page.table(("file", "format", "precision", "size"), rows)
    keys = list(dict.fromkeys(k for one in checks.values() for k in one if k not in _SHOWN_ABOVE))
    if keys:
        text += "<h3>Each file beside the Keras model, on the same images</h3>"
        text += page.table(("measure", *checks), [(k, *(one.get(k) for one in checks.values())) for k in keys])
    benchmark = files.read_json(folder / run_files.BENCHMARK) or []
    if benchmark:
        columns = list(dict.fromkeys(k for row in benchmark for k in row))
        rows = [[_inside(folder, row[c]) if c == "name" else row.get(c) for c in columns] for row in benchmark]
        text += "<h3>Benchmark</h3>" + page.table(columns, rows)
    return text


def _inside(folder: Path, file: str) -> str:
    """A file's path from the run folder, where it lies in it."""
    path = Path(file).absolute()
    return str(path.relative_to(folder.absolute())) if path.is_relative_to(folder.absolute()) else file


def _data(folder: Path, picture: Mapping[str, Path]) -> str:
    text = page.image(picture["labels"], "Ground truth of the training split.")
    faults = files.read_rows(folder / run_files.LEFT_OUT)
    if faults:
        columns = list(faults[0])
        shown = [[row.get(c) for c in columns] for row in faults[:_FAULTS_SHOWN]]
        count = f"{counted(len(faults), 'fault')} in the annotations"
        more = f", the first {_FAULTS_SHOWN} shown" if len(faults) > _FAULTS_SHOWN else ""
        text += f"<h3>{page.escape(count + more)}</h3>" + page.table(columns, shown)
    return text


def _environment(folder: Path) -> str:
    facts = files.read_json(folder / run_files.ENVIRONMENT)
    return page.pairs(facts) if isinstance(facts, dict) and facts else ""
