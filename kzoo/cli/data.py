"""`kzoo check`: what is wrong with a data set, before a training finds out."""

from pathlib import Path
from typing import Annotated

import typer

from kzoo.cli import console


def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A VOC, COCO or YOLO folder, or a data set's name.")],
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole report as JSON.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every fault, not three of each kind.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there is any fault.")] = False,
) -> None:
    """Reads a whole data set and lists every fault with file and reason.

    Counts images and boxes, and what a training will leave out.

    Example: [bold]kzoo check path/to/voc --json faults.json[/]
    """
    from kzoo.report import files

    with console.quiet_native():
        from kzoo.data import check as check_data

        report = check_data(data, split=split)
    console.say(report.summary(examples=-1 if everything else 3))
    content = report.to_dict()
    if json is not None:
        console.say(f"written: {files.write_json(json, content)}")
    if strict and content.get("faults"):
        raise typer.Exit(1)
