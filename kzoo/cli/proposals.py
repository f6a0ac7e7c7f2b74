"""`kzoo proposals`: searches a data set's images for regions, and says how many objects they would find."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kzoo.cli import console
from kzoo.messages import counted

IOUS = (0.5, 0.7, 0.9)


def proposals(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder with boxes, or a data set's name.")],
    split: Annotated[str | None, typer.Option(help="Only this split. \\[all]")] = None,
    source: Annotated[
        str,
        typer.Option(
            "--source", metavar="fast|quality|FILE", help="Mode of selective search, or an .npz or .json of proposals."
        ),
    ] = "fast",
    most: Annotated[int, typer.Option("--max", min=1, help="Proposals an image.")] = 2000,
    limit: Annotated[int | None, typer.Option(min=1, help="Use the first images only.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Searches at once. \\[one a core]")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Write the proposals to one file.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder for the recall's plot and pictures.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the recall as JSON.")] = None,
) -> None:
    """Finds region proposals and prints their recall against the ground truth.

    What selective search finds is kept on disk, so that a training or a second call need not search again; stopped, it
    goes on where it was.

    Example: [bold]kzoo proposals path/to/voc --split test --output proposals[/]
    """
    with console.quiet_native():
        import dataclasses

        from kzoo.data.proposals import proposals_of
        from kzoo.data.readers import read
        from kzoo.proposals import MODES, cache_folder, write_file

        annotations = read(data, split)
        annotations = dataclasses.replace(annotations, samples=annotations.samples[:limit])
    search = {"workers": workers} if source in MODES else {}
    found = proposals_of(annotations, source, most, **search)
    if source in MODES:
        console.say(f"kept in {cache_folder()}")
    result = _recall(annotations, found, most)
    console.say(
        f"{counted(result['images'], 'image')}, {counted(result['objects'], 'object')}, "
        f"{result['proposals_per_image']:.0f} proposals an image ({source})\n"
    )
    columns = [result["iou_thresholds"].index(iou) for iou in IOUS]
    rows = [
        (count, *map(float, result["recall"][i, columns]), float(result["average_recall"][i]))
        for i, count in enumerate(result["counts"])
    ]
    console.table(("proposals", *(f"recall at IoU {iou}" for iou in IOUS), "mean over .5:.95"), rows)
    console.say()
    console.table(
        ("class", f"recall at IoU 0.5, {result['counts'][-1]} proposals"),
        [(name, float(recall[-1])) for name, recall in result["per_class"].items()],
    )
    if save is not None:
        names = [sample.name for sample in annotations.samples]
        console.say(f"written: {write_file(save, dict(zip(names, found, strict=True)))}")
    if json is not None:
        from kzoo.report import files

        console.say(f"written: {files.write_json(json, result)}")
    if output is not None:
        _draw(output, annotations, found, result)


def _recall(annotations: Any, found: list, most: int) -> dict[str, Any]:
    from kzoo.metrics import ProposalRecall
    from kzoo.metrics.proposal_recall import COUNTS

    counts = [count for count in COUNTS if count < most] + [most]
    metric = ProposalRecall(counts, class_names=annotations.class_names)
    for sample, boxes in zip(annotations.samples, found, strict=True):
        targets = {key: getattr(sample, key)[None] for key in ("boxes", "labels", "difficult", "crowd")}
        metric.update_state(targets, boxes[None])
    return metric.result()


def _draw(folder: Path, annotations: Any, found: list, result: dict[str, Any]) -> None:
    from kzoo import visualize
    from kzoo.data.store import pixels_of

    plot = visualize.proposal_recall(result, folder / "recall.png")
    samples = annotations.samples[:9]
    pictures = [
        visualize.draw_proposals(pixels_of(sample), sample.boxes, sample.labels, boxes)
        for sample, boxes in zip(samples, found, strict=False)
    ]
    console.say(f"written: {plot}")
    if pictures:
        shown = visualize.grid(pictures, [sample.name for sample in samples])
        console.say(f"written: {visualize.save(shown, folder / 'proposals.jpg')}")
