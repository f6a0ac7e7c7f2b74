"""`kzoo evaluate`: the scores of a run or of an exported file on a data set."""

from pathlib import Path
from typing import Annotated

import typer

from kzoo.cli import console, targets

PROTOCOLS = ("coco", "voc2007", "voc2010")


def evaluate(
    model: Annotated[str, typer.Argument(metavar="RUN|FILE", help="Run folder, .keras, .tflite or SavedModel folder.")],
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Data set's path or name; a run's own by default.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to score on. \\[test, else val; all where there are no splits]")
    ] = None,
    protocol: Annotated[str, typer.Option(metavar="coco|voc2007|voc2010", help="How mAP is defined.")] = "coco",
    cells: Annotated[
        bool, typer.Option("--cells", help="Also the measures of cells: Rand F-score, warping error, SEG.")
    ] = False,
    data_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of masks, as void=11; of fast_rcnn, as proposals=quality."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use the first images only.")] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the scores as JSON.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for curves, pictures and a report.html."),
    ] = None,
) -> None:
    """Prints mAP, or mean IoU and boundary F1, and each class's; draws curves, confusion matrix and the worst images.

    On a run's own data they go into its folder, and its report.html is renewed.

    Example: [bold]kzoo evaluate runs/ssd --split test[/]

    A file: [bold]kzoo evaluate model.tflite --data path/to/voc --protocol voc2007[/]
    """
    from kzoo import messages

    if protocol not in PROTOCOLS:
        raise ValueError(messages.unknown_name("protocol", protocol, PROTOCOLS))
    path = targets.find(model)
    detector = targets.load(path)
    if cells and not hasattr(detector, "segment"):
        raise ValueError(f"{model}: finds boxes, and --cells measures masks. Leave it out.")
    name = targets.data_of(path, data)
    from kzoo.cli import after
    from kzoo.report import files

    dataset = after.evaluation_data(path, detector, data, split, limit, data_option)
    # A part of the images, or other data, does not speak for the run.
    own = targets.is_run(path) and limit is None and targets.is_own_data(path, name)
    folder = output or (path if own else None)
    evaluation = after.score(folder, detector, dataset, name, protocol, **({"cells": True} if cells else {}))
    after.print_scores(evaluation)
    if json is not None:
        console.say(f"written: {files.write_json(json, evaluation)}")
    if folder is not None:
        console.say(f"report: {after.write_report(folder)}")
