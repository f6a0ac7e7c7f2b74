"""`kzoo export` and `kzoo benchmark`: files for other runtimes, checked and timed."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kzoo.cli import console, targets

FORMATS = ("litert", "mediapipe", "saved_model")
_NONE = ("none", "float32")


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder or a .keras file.")],
    format: Annotated[str, typer.Option(metavar="litert|mediapipe|saved_model", help="What to write.")] = "litert",
    quantization: Annotated[
        str, typer.Option("--quantization", "-q", metavar="none|float16|dynamic|int8", help="Of a .tflite file.")
    ] = "none",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder to write. \\[in the run's exports/]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="For int8 and the check; the run's own by default.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split for the check. \\[test, else validation]")] = None,
    verify: Annotated[bool, typer.Option(help="Run the file beside the model and compare.")] = True,
    images: Annotated[int, typer.Option(min=1, help="Images for the check, at most.")] = 200,
) -> None:
    """Writes the whole detector or segmenter as a file that runs without kzoo, and checks it against the model.

    Raw pixels go in, detections (or labels) come out; class names travel inside the file.

    Example: [bold]kzoo export runs/ssd --format litert --quantization int8[/]
    """
    from kzoo import messages

    if format not in FORMATS:
        raise ValueError(messages.unknown_name("format", format, FORMATS))
    known = ("none", "float16", "dynamic", "int8")
    if quantization not in (*known, *_NONE):
        raise ValueError(messages.unknown_name("quantization", quantization, known))
    kind = None if quantization in _NONE else quantization
    if kind and format == "saved_model":
        raise ValueError("A SavedModel is not quantized. Leave --quantization out, or take --format litert.")
    path = targets.find(run)
    model = _keras_model(path)
    if output is None:
        output = default_output(path, format, kind)
    has_data = bool(data or targets.config(path).get("data"))
    if kind == "int8" and not has_data:
        raise ValueError(f"{path}: int8 needs images to calibrate on. Add --data DATA.")
    from kzoo.cli import after

    checked = after.evaluation_data(path, model, data, split) if verify and has_data else None
    if verify and not has_data:
        console.warn("not checked against the model: no data. Add --data DATA.")
    calibration = after.calibration_data(path, model, data) if kind == "int8" else None
    entry = after.export(model, output, format, kind, calibration, checked, images)
    if targets.is_run(path):
        after.note_export(path, entry)


def default_output(path: Path, format: str, quantization: str | None) -> Path:
    """Where an exported file goes unless told: into the run's folder, or beside the .keras file."""
    name = path.stem if path.is_file() else path.resolve().name
    folder = path.parent if path.is_file() else path / "exports"
    stem = f"{name}-{quantization}" if quantization else name
    if format == "saved_model":
        return folder / f"{name}-saved_model"
    return folder / (f"{stem}.tflite" if format == "litert" else f"{stem}-mediapipe.tflite")


def _keras_model(path: Path) -> Any:
    detector = targets.load(path)
    model = getattr(detector, "model", None)
    if model is None:
        raise ValueError(f"{path}: only a run or a .keras file can be exported; this is one already.")
    return model


def benchmark(
    models: Annotated[
        list[str], typer.Argument(metavar="RUN|FILE...", help="Runs, .keras, .tflite, SavedModel folders.")
    ],
    data: Annotated[str | None, typer.Option(metavar="DATA", help="Score on this data set, too.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to score on. \\[test, or all where there are no splits]")
    ] = None,
    data_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of masks, as void=11; of fast_rcnn, as proposals=quality."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed calls; the median counts.")] = 20,
    limit: Annotated[int | None, typer.Option(min=1, help="Score on so many images only.")] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON.")] = None,
) -> None:
    """Compares size, milliseconds an image and score of models and exported files, in one table.

    Example: [bold]kzoo benchmark runs/ssd runs/ssd/exports/*.tflite --data path/to/voc[/]
    """
    paths = [targets.find(one) for one in models]
    from kzoo.report import files

    rows = []
    for path in paths:
        detector = targets.load(path)
        dataset = None
        if data is not None:
            from kzoo.cli import after

            options = targets.data_options(data_option, targets.READING_OPTIONS)
            dataset = after.load_data(data, split, detector, limit=limit, options=options)
        with console.quiet_native():
            from kzoo.export import benchmark as time_it
            from kzoo.export import format_benchmark

            rows += list(time_it([detector], dataset, runs=runs))
    console.say(format_benchmark(rows))
    if json is not None:
        console.say(f"written: {files.write_json(json, rows)}")
