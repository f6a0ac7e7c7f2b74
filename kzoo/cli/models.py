"""`kzoo models`: the zoo in one table."""

from pathlib import Path
from typing import Annotated

import typer

from kzoo.cli import console


def models(
    classes: Annotated[int, typer.Option(min=1, help="Number of classes to count with (VOC has 20).")] = 20,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON.")] = None,
) -> None:
    """Lists the models: name, paper, parameters, compute, measured scores.

    Example: [bold]kzoo models --classes 3[/]
    """
    with console.quiet_native():
        import kzoo.models
        from kzoo.report import compute, files

        rows = []
        for name in kzoo.models.names():
            facts = kzoo.models.info(name)
            model = kzoo.models.create(name, num_classes=classes)
            rows.append(
                {
                    "name": name,
                    "paper": facts["paper"],
                    "image": "{1} x {0}".format(*model.image_size),
                    "parameters": int(model.count_params()),
                    "gflops": compute.gflops(model),
                    "scores": facts["scores"],
                }
            )
            del model
    console.table(
        ("name", "paper", "image", "M params", "GFLOPs", "measured here"),
        [
            (
                row["name"],
                row["paper"],
                row["image"],
                f"{row['parameters'] / 1e6:.1f}",
                f"{row['gflops']:.1f}",
                "; ".join(f"{data}: {score}" for data, score in row["scores"].items()) or None,
            )
            for row in rows
        ],
    )
    console.say(f"\nCounted with {classes} classes; 1 GFLOP is half a billion multiply-adds, of one image.")
    console.say(
        "ssd takes any backbone and image size: kzoo train ssd --data DATA --backbone mobilenet --image-size 320"
    )
    console.say(
        "rcnn and sppnet are counted for one region, fast_rcnn and faster_rcnn without what they compute for each "
        "region. Only faster_rcnn finds its regions itself; the others take those of selective search (`kzoo "
        "proposals`). recipes/ trains rcnn and sppnet, `kzoo train` all the rest."
    )
    if json is not None:
        console.say(f"written: {files.write_json(json, rows)}")
