"""`kzoo train`: a training in a run folder, then its pictures, scores and report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kzoo.cli import console, targets

_MODEL, _SCHEDULE, _RUN = "Model and data", "Optimization", "Run"


def train(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A name of `kzoo models`.", show_default=False)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="A VOC, COCO, YOLO, CVAT, LabelMe, CSV or mask folder, or a name.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to train on. \\[train]", rich_help_panel=_MODEL)] = None,
    val_split: Annotated[
        str | None,
        typer.Option(
            help="Split that scores each epoch, a fraction to hold out of the training images (0.1), or none. \\[val]",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone; the model's own by default.", rich_help_panel=_MODEL)
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|PATH",
            help="Backbone weights, or a run or .keras file to start from.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Further argument of the model, as frozen_stages=3 or scales=\\[0.1,0.3]; may be repeated.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(metavar="S|HxW", help="Network's image in pixels. \\[the model's own]", rich_help_panel=_MODEL),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use only so many training images.", rich_help_panel=_MODEL)] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help="none, light, no_up, ssd, yolo (masks: street, unet), or steps as flip,jitter. \\[light]",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    class_balance: Annotated[
        str | None,
        typer.Option(
            metavar="none|root|median",
            help="Weigh a segmenter's classes by their frequency. \\[none]",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    data_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Of masks: void=11, values=\\[0,255], instances=true, fit=crop, weights=true; of fast_rcnn: "
            "proposals=fast, quality or a file; may be repeated.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images. \\[60]", rich_help_panel=_SCHEDULE)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step. \\[8]", rich_help_panel=_SCHEDULE)] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="adamw|adam|sgd", help="\\[adamw]", rich_help_panel=_SCHEDULE)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak, after warm-up. \\[by optimizer]", rich_help_panel=_SCHEDULE)
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="cosine|step|constant", help="\\[cosine]", rich_help_panel=_SCHEDULE)
    ] = None,
    warmup_epochs: Annotated[
        float | None, typer.Option(help="Epochs of rising learning rate. \\[1]", rich_help_panel=_SCHEDULE)
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Decoupled, on kernels. \\[0.0001]", rich_help_panel=_SCHEDULE)
    ] = None,
    gradient_clip: Annotated[
        float | None, typer.Option(help="Largest norm of the gradients, 0 for none. \\[10]", rich_help_panel=_SCHEDULE)
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(help="Momentum of averaged weights, as 0.999. \\[0: none]", rich_help_panel=_SCHEDULE),
    ] = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(help="Stop after so many epochs without progress. \\[0: never]", rich_help_panel=_SCHEDULE),
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(help="Epochs between validations. \\[1]", rich_help_panel=_SCHEDULE)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="float32|mixed_float16|mixed_bfloat16", help="Of the layers. \\[float32]", rich_help_panel=_SCHEDULE
        ),
    ] = None,
    xla: Annotated[
        bool | None, typer.Option("--xla/--no-xla", help="Compile. \\[on accelerators only]", rich_help_panel=_SCHEDULE)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order, augmentation. \\[0]", rich_help_panel=_SCHEDULE)
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Continue a run where it stopped.", rich_help_panel=_RUN)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run's folder.", rich_help_panel=_RUN)] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Folder of all runs. \\[runs]", rich_help_panel=_RUN)] = None,
    tensorboard: Annotated[
        bool | None,
        typer.Option("--tensorboard/--no-tensorboard", help="Write TensorBoard logs.", rich_help_panel=_RUN),
    ] = None,
    report: Annotated[
        bool, typer.Option(help="Score the best weights, draw pictures, write report.html.", rich_help_panel=_RUN)
    ] = True,
) -> None:
    """Trains a detector or a segmenter; everything goes into a run folder, report.html last.

    Example: [bold]kzoo train ssd --data path/to/voc --backbone mobilenet --weights imagenet --epochs 40[/]

    Masks: [bold]kzoo train unet --data path/to/masks --option padding=same --image-size 256 --class-balance median[/]

    Continue: [bold]kzoo train --resume runs/ssd[/]
    """
    settings = {
        "split": split,
        "val_split": _val_split(val_split),
        "backbone": backbone,
        "weights": weights,
        "model_options": dict(map(targets.name_and_value, option or [])) or None,
        "data_options": dict(map(targets.name_and_value, data_option or [])) or None,
        "class_balance": class_balance,
        "image_size": targets.parse_size(image_size),
        "limit": limit,
        "augment": None if augment is None else augment.split(","),
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "warmup_epochs": warmup_epochs,
        "weight_decay": weight_decay,
        "gradient_clip": gradient_clip,
        "ema": ema,
        "early_stopping": early_stopping,
        "validate_every": validate_every,
        "precision": precision,
        "xla": xla,
        "seed": seed,
        "name": name,
        "run_dir": None if run_dir is None else str(run_dir),
        "tensorboard": tensorboard,
    }
    # Only what was asked for: the library knows the defaults, and a resumed run keeps its own.
    settings = {key: value for key, value in settings.items() if value is not None}
    if settings.get("val_split") == "none":
        settings["val_split"] = None
    if resume is None and model is None:
        raise ValueError("No model given. Name one of `kzoo models`, as in: kzoo train ssd --data DATA")
    if resume is None and data is None:
        raise ValueError(
            "No data given. Add --data DATA: a VOC, COCO, YOLO, CVAT, LabelMe, CSV or mask folder, or a name."
        )
    if resume is not None:
        resume = str(_resumable(resume, settings.pop("run_dir", None)))

    run = _train(model, data, resume, settings)
    console.say(f"best weights: {run.best}")
    if report:
        from kzoo.cli import after

        after.training(run)


def _resumable(target: str, run_dir: str | None) -> Path:
    inside = Path(run_dir) / target if run_dir else None
    path = inside if inside is not None and targets.is_run(inside) else targets.find(target)
    if not targets.is_run(path):
        raise ValueError(f"{path}: is no run folder (it has no config.yaml). Give the folder that `kzoo train` made.")
    return path


def _val_split(text: str | None) -> str | float | None:
    """A fraction to hold out, or a split's name, which may be a number as well: 02."""
    try:
        return float(text) if "." in text else text
    except (TypeError, ValueError):
        return text


def _train(model: str | None, data: str | None, resume: str | None, settings: dict[str, Any]) -> Any:
    with console.quiet_native():
        import kzoo.models
        import kzoo.training
        from kzoo import messages

    if model is not None and model not in kzoo.models.names():
        raise ValueError(messages.unknown_name("model", model, kzoo.models.names()))
    try:
        return kzoo.training.train(model, data, resume=resume, **settings)
    except KeyboardInterrupt:
        console.say("Continue with: kzoo train --resume RUN (the folder named above).")
        raise
