"""`kzoo check`: what is wrong with a data set, before a training finds out."""

from pathlib import Path
from typing import Annotated

import typer

from kzoo.cli import console, targets


def check(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A VOC, COCO, YOLO, CVAT, LabelMe, CSV or mask folder, or a name.")
    ],
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="detection|segmentation", help="Boxes or masks. \\[boxes where there are any]"),
    ] = None,
    data_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of masks: void=11, values=\\[0,255], instances=true."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole report as JSON.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every fault, not three of each kind.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there is any fault.")] = False,
) -> None:
    """Reads a whole data set and lists every fault with file and reason.

    Counts images and boxes, or the pixels of each class, and what a training will leave out.

    Example: [bold]kzoo check path/to/voc --json faults.json[/]
    """
    from kzoo.report import files

    with console.quiet_native():
        from kzoo.data import check as check_data

        report = check_data(data, split=split, task=task, **targets.data_options(data_option, targets.MASK_OPTIONS))
    console.say(report.summary(examples=-1 if everything else 3))
    content = report.to_dict()
    if json is not None:
        console.say(f"written: {files.write_json(json, content)}")
    if strict and content.get("faults"):
        raise typer.Exit(1)
