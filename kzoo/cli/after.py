"""What several commands do with a model: load data for it, score it, export it, and renew a run's report."""

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kzoo import run_files
from kzoo.cli import console, targets
from kzoo.messages import counted, some_of

_CHECK_SPLITS = ("test", "val", "validation")


def load_data(
    data: str,
    split: str | None,
    detector: Any,
    limit: int | None = None,
    batch_size: int = 8,
    options: dict[str, Any] | None = None,
    usual: str = "test",
) -> Any:
    """A split as batches for evaluation, with the detector's image size and the detector's order of classes.

    Masks keep the size of their images: a segmenter's labels are compared there.

    Args:
        split: None for the `usual` one, or all of a data set without splits, which is said.
        options: of reading masks, as `void`; of a detector that takes them, `proposals`.

    Raises:
        ValueError: what `kzoo.data.load` raises, also where data and detector have no class in common.
    """
    segments = hasattr(detector, "segment")
    with console.quiet_native():
        from kzoo.data import load
        from kzoo.data.readers import NoSplitsError
        from kzoo.training.sources import proposal_options

        options = options or {}
        options = options | proposal_options(options, getattr(detector, "model", detector))
        loaded = functools.partial(
            load,
            data,
            image_size=None if segments else tuple(detector.image_size),
            batch_size=batch_size,
            class_names=detector.class_names,
            limit=limit,
            task="segmentation" if segments else "detection",
            **options,
        )
        whole = False
        try:
            dataset = loaded(split=split or usual)
        except NoSplitsError:
            if split is not None:
                raise
            dataset, whole = loaded(split=None), True
    if whole:
        console.warn(f"{data} has no splits: all of it is taken")
    if segments:
        return dataset
    left_out = sum(fault.kind == "unknown class" for fault in dataset.annotations.faults)
    if left_out and detector.class_names:
        known = some_of(detector.class_names, 10)
        console.warn(f"left out of {data}: {counted(left_out, 'box', 'boxes')}; the detector knows only {known}")
    return dataset


def evaluation_data(
    path: Path,
    detector: Any,
    data: str | None,
    split: str | None,
    limit: int | None = None,
    data_option: list[str] | None = None,
) -> Any:
    """Data to score on: the split given, else what the run held out, else the test split, else the validation's."""
    name, options = targets.data_of(path, data), targets.reading_options(path, data, data_option)
    if split is not None:
        return load_data(name, split, detector, limit, options=options)
    if (held_out := held_out_data(path, detector, data, limit, options)) is not None:
        return held_out
    from kzoo.data.readers import SplitError

    first: ValueError | None = None
    for one in _CHECK_SPLITS:
        try:
            dataset = load_data(name, None, detector, limit, options=options, usual=one)
        except SplitError as error:
            first = first or error
            continue
        if first is not None:
            console.warn(f"{name} has no split {_CHECK_SPLITS[0]!r}: {one!r} is taken")
        return dataset
    if data is None and targets.is_run(path):
        _, held_out = annotations_of(path)
        if held_out is not None:
            return batches(held_out, detector, measured=True)
    raise first


def held_out_data(
    path: Path, detector: Any, data: str | None, limit: int | None = None, options: dict[str, Any] | None = None
) -> Any | None:
    """What a run held out to validate on, of a data set that it was else trained on whole; None for all others.

    No other part of those images speaks for the run. `data` is the one asked for, None for the run's own.
    """
    if targets.config(path).get("split", "train") is not None or not targets.is_own_data(path, data):
        return None
    _, held_out = annotations_of(path, options)
    if held_out is None:
        return None
    with console.quiet_native():
        from kzoo.data.batches import first
        from kzoo.training.sources import proposal_options

        options = proposal_options(options or {}, getattr(detector, "model", detector))
    return batches(first(held_out, limit), detector, measured=True, **options)


def calibration_data(path: Path, detector: Any, data: str | None) -> Any:
    """Training images, not augmented, for int8: they look like those to come."""
    if data is None and targets.is_run(path):
        train, _ = annotations_of(path)
        return batches(train, detector, shuffle=True, **targets.fit_options(detector))
    options = targets.reading_options(path, data)
    return load_data(targets.data_of(path, data), None, detector, options=options, usual="train")


def annotations_of(path: Path, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """The annotations that a run was trained on and validated on (None without validation).

    `options` of reading the data go before the run's own.
    """
    with console.quiet_native():
        from kzoo.training import Run
        from kzoo.training.sources import read_named

        config = Run.open(path).config
        return read_named(dataclasses.replace(config, data_options=config.data_options | (options or {})))


def batches(annotations: Any, detector: Any, measured: bool = False, **options: Any) -> Any:
    """Batches of the detector's image size; masks to measure on keep the size of their images."""
    size = None if measured and hasattr(detector, "segment") else tuple(detector.image_size)
    with console.quiet_native():
        from kzoo.data import from_annotations

        return from_annotations(annotations, size, **options)


def training(run: Any, show: bool = True) -> dict[str, Any] | None:
    """Scores a run's best weights on its validation split, draws all pictures and writes the report."""
    folder, config = Path(run.folder), run.config
    detector = targets.load(folder)
    model = detector.model
    train, validation = annotations_of(folder) if config.data else (None, None)
    with console.quiet_native():
        from kzoo import report, visualize
        from kzoo.training.sources import batch_options, proposal_options

        report.summarize(folder, model, config.model)
        visualize.training_curves(folder / run_files.RESULTS, folder / run_files.PICTURES["curves"])
        if train is not None:
            report.of(model).draw_data(folder, train, model)
            shown = batches(
                train,
                model,
                batch_size=min(16, len(train.samples)),
                augment=config.augment,
                shuffle=True,
                seed=config.seed,
                **batch_options(config, model),
            )
            report.of(model).draw_batch(folder, shown)
    evaluation = None
    if validation is not None:
        measured = batches(validation, model, measured=True, **proposal_options(config.data_options, model))
        evaluation = score(folder, detector, measured, config.data)
        if show:
            print_scores(evaluation)
    path = write_report(folder)
    if show:
        console.say(f"report: {path}")
    return evaluation


def score(
    folder: Path | None, detector: Any, dataset: Any, data: str, protocol: str = "coco", **options: Any
) -> dict[str, Any]:
    """Measures a detector or (`cells=True`: also as cells) a segmenter.

    With a folder, writes evaluation.json and its pictures there.
    """
    from kzoo import report
    from kzoo.report import files

    with counting("evaluating") as progress:
        metric, evaluation = report.of(detector).measure(detector, dataset, protocol, progress, **options)
    evaluation = {"data": data, **evaluation}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / run_files.EVALUATION, evaluation)
        with console.quiet_native():
            report.of(detector).draw_measurement(folder, metric, evaluation)
            report.of(detector).draw_images(folder, metric, evaluation, dataset.annotations)
    return evaluation


def export(
    model: Any, output: Path, format: str, quantization: str | None, calibration: Any, checked: Any, images: int | None
) -> dict[str, Any]:
    """Writes one exported file and compares it with its model on `checked` (None: does not).

    Says both, and returns the entry for exports.json.
    """
    with console.quiet_native():
        import kzoo.export as exporting
        from kzoo.export.verification import size_mb

        if format == "saved_model":
            exporting.saved_model(model, output)
        else:
            form = "mediapipe" if format == "mediapipe" else "kzoo"
            exporting.litert(model, output, quantization=quantization, calibration=calibration, form=form)
        verification = None if checked is None else exporting.verify(output, model, checked, images=images)
    entry = {
        "file": str(output),
        "format": {"litert": "LiteRT", "mediapipe": "MediaPipe", "saved_model": "SavedModel"}[format],
        "quantization": quantization,
        "bytes": round(size_mb(output) * 1e6),
        "verification": verification,
    }
    console.say(
        f"written: {output} ({size_mb(output):.2f} MB)"
        if verification is None
        else f"written: {exporting.format_verification(verification)}"
    )
    return entry


def note_export(folder: Path, entry: dict[str, Any]) -> None:
    """Adds a file to the run's exports.json, in place of an older one of the same path, and renews the report."""
    from kzoo.report import files

    older = files.read_json(folder / run_files.EXPORTS) or []
    entries = [one for one in older if one.get("file") != entry["file"] and Path(one.get("file", "")).exists()]
    files.write_json(folder / run_files.EXPORTS, [*entries, entry])
    write_report(folder)


def write_report(folder: Path) -> Path:
    from kzoo import report

    return report.write(folder)


def print_scores(evaluation: dict[str, Any]) -> None:
    """The table of an evaluation: all measures, then each class."""
    where = ", ".join(str(evaluation[key]) for key in ("data", "split", "protocol") if evaluation.get(key))
    console.say(f"{counted(evaluation['images'], 'image')} ({where})\n")
    console.table(("measure", "value"), [(name, _known(value)) for name, value in evaluation["scores"].items()])
    rows = evaluation["per_class"]
    if rows:
        columns = list(rows[0])
        console.say()
        console.table(columns, [[_known(row[key]) for key in columns] for row in rows])
    best = f"best mean F1 at score {evaluation['score_threshold']:.2f}; " if "score_threshold" in evaluation else ""
    console.say(f"\n{best}{evaluation['seconds']:.1f} s for all images")


def _known(value: Any) -> Any:
    """−1 is "nothing to measure"."""
    return None if isinstance(value, float) and value < 0 else value


@contextmanager
def counting(what: str) -> Iterator[Any]:
    """A bar on the terminal, gone when it is done; nothing where the output is piped."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.out, transient=True, disable=not console.out.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
