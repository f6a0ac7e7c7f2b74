"""`kzoo demo`: the whole way from pictures to a file for the phone, on data that comes along."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from kzoo import run_files
from kzoo.cli import console

# Tuned on two cores: see docs/results.md.
SETTINGS: dict[str, Any] = {
    "backbone": "tiny",
    "image_size": 160,
    "model_options": {"scales": [0.1, 0.2, 0.4, 0.6]},  # the digits are 16 to 64 pixels large
    "epochs": 30,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "ema": 0.99,
    "validate_every": 5,
    "augment": ["jitter", "photometric"],  # no flips: a mirrored digit is another sign, or none
}
MINUTES = 6.0  # what `SETTINGS` take at most on two cores
QUICK = {"epochs": 2, "limit": 64, "validate_every": 1}


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Run folder to make.")] = Path(
        "runs/demo"
    ),
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help=f"Train for about so many minutes. [{MINUTES:g} at most]".replace("[", "\\[")),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute's walk through all steps; finds nothing yet.")
    ] = False,
) -> None:
    """Trains an SSD on handwritten digits, evaluates it, exports float and int8 files, writes pictures and a report.

    Needs no download. Takes a few minutes on two cores.

    Example: [bold]kzoo demo --output runs/demo[/]
    """
    start = time.perf_counter()
    settings = dict(SETTINGS)
    if quick:
        settings |= QUICK
    elif minutes is not None:
        settings["epochs"] = max(1, round(settings["epochs"] * minutes / MINUTES))
    with console.quiet_native():
        import kzoo.training
        from kzoo.cli import after, export, targets
        from kzoo.report import document, files

    console.say("1/4 training an SSD on handwritten digits")
    callbacks = [] if minutes is None else [time_limit(60 * minutes)]
    run = kzoo.training.train(
        "ssd", "digits", callbacks=callbacks, run_dir=str(output.parent), name=output.name, **settings
    )
    trained = time.perf_counter() - start
    after.training(run, show=False)

    console.say("\n2/4 evaluating on the test split: digits that no training picture showed")
    detector = targets.load(run.folder)
    limit = QUICK["limit"] if quick else None
    test = after.load_data("digits", "test", detector, limit)
    evaluation = after.score(run.folder, detector, test, "digits")
    after.print_scores(evaluation)

    console.say("\n3/4 exporting, and comparing each file with the model")
    entries = []
    for kind in (None, "int8"):
        place = export.default_output(run.folder, "litert", kind)
        calibration = after.calibration_data(run.folder, detector, None) if kind else None
        entries.append(after.export(detector.model, place, "litert", kind, calibration, test, None))
        after.note_export(run.folder, entries[-1])

    console.say("\n4/4 timing")
    with console.quiet_native():
        from kzoo.export import benchmark, format_benchmark

        rows = list(benchmark([run.best, *(entry["file"] for entry in entries)], runs=10))
    scores = [evaluation["scores"], *({n: e["verification"][f"{n}_exported"] for n in SHOWN} for e in entries)]
    rows = [{**row, **{name: score[name] for name in SHOWN}} for row, score in zip(rows, scores, strict=True)]
    console.say(format_benchmark(rows))
    files.write_json(run.folder / run_files.BENCHMARK, rows)
    report = after.write_report(run.folder)
    console.say(
        f"\ntrained in {document.duration(trained)}, all in {document.duration(time.perf_counter() - start)}\n"
        f"run folder: {run.folder}\nreport:     {report}\n"
        f"try:        kzoo predict {entries[-1]['file']} IMAGE... --output found"
    )


SHOWN = ("mAP", "mAP@0.50")


def time_limit(seconds: float) -> Any:
    """A callback that ends the training after the epoch in which the time is up."""
    import keras

    class TimeLimit(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            if time.perf_counter() - self.start > seconds:
                self.model.stop_training = True

    return TimeLimit()
