"""Trains RetinaNet with four losses alike and compares them: focal, weighted and plain cross-entropy, hard negatives.

    python recipes/focal_comparison.py --data path/to/dataset --weights imagenet --image-size 240 320 --epochs 40

Table 1 of Lin et al., Focal Loss for Dense Object Detection (ICCV 2017), sets these losses against each other on COCO;
hard negatives are SSD's, three of each positive. Here seed, images, augmentation, budget and all else but the loss are
the same. Each loss takes as long as one training of recipes/retinanet.py with as many pixels and epochs;
docs/results.md has a short run. Writes a CSV of every epoch, a Markdown table and a plot: focal_comparison.csv, .md
and .png.
"""

import argparse
import csv
from pathlib import Path

import keras

import kzoo
from kzoo.models.retinanet import LOSSES

SCORES = ("mAP", "mAP@0.50", "mAP@0.75")


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--backbone", default="mobilenet")
    parser.add_argument("--weights", default=None, help="imagenet, or a file of the backbone's weights")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, nargs=2, default=(240, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--losses", nargs="+", default=LOSSES, choices=LOSSES)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--every", type=int, default=5, help="epochs between two scores on the test split")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--augment", default="light", help="light; no_up for images without an up, as of cells")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--output", type=kzoo.training.output_name, default="focal_comparison")
    options = parser.parse_args(arguments)

    rows, results = [], {}
    for loss in options.losses:
        print(f"== {loss}", flush=True)
        results[loss], history = train(loss, options)
        rows += [{"loss": loss, **row} for row in history]
    write_csv(Path(f"{options.output}.csv"), rows)
    text = table(results)
    Path(f"{options.output}.md").write_text(text, encoding="utf-8")
    plot(Path(f"{options.output}.png"), rows)
    print(text)
    return results


def train(loss: str, options) -> tuple[dict, list[dict]]:
    """One training: the scores on the test split, and a row of numbers an epoch."""
    keras.utils.set_random_seed(options.seed)
    size = tuple(options.image_size)
    common = {"image_size": size, "batch_size": options.batch_size, "limit": options.limit}
    data = kzoo.data.load(
        options.data, options.train_split, augment=options.augment, seed=options.seed, start_epoch=0, **common
    )
    test = kzoo.data.load(options.data, "test", **common)
    model = kzoo.models.RetinaNet(
        data.num_classes,
        image_size=size,
        backbone=options.backbone,
        weights=options.weights,
        width=options.width,
        loss=loss,
        claim="best",
        class_names=data.class_names,
    )
    steps = options.epochs * data.steps_per_epoch
    warmup = min(3 * data.steps_per_epoch, steps // 4)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.01, warmup_target=options.learning_rate, warmup_steps=warmup
    )
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0))
    scores = kzoo.callbacks.MeanAveragePrecision(test, every=options.every)
    rows = Rows(scores)
    model.fit(
        data,
        epochs=options.epochs,
        steps_per_epoch=data.steps_per_epoch,
        verbose=2,
        shuffle=False,
        callbacks=[scores, rows],
    )
    return scores.last_result, rows.rows


class Rows(keras.callbacks.Callback):
    """Keeps the losses of each epoch, and the scores of those that `scores`, a callback before it, measured."""

    def __init__(self, scores: kzoo.callbacks.MeanAveragePrecision):
        super().__init__()
        self.scores, self.seen = scores, None
        self.rows: list[dict] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        wanted = ["class_loss", "box_loss"]
        if self.scores.last_result is not self.seen:  # the logs of other epochs repeat the last measurement
            self.seen = self.scores.last_result
            wanted += [f"val_{name}" for name in SCORES]
        self.rows.append({"epoch": epoch + 1, **{key: float(logs[key]) for key in wanted if key in (logs or {})}})


def write_csv(path: Path, rows: list[dict]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def table(results: dict) -> str:
    """The scores of each loss on the test split, as Markdown."""
    classes = list(next(iter(results.values()))["per_class"])
    head = ["loss", *SCORES, *(f"AP {name}" for name in classes)]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for loss, result in results.items():
        values = [result[name] for name in SCORES] + [result["per_class"][name]["AP"] for name in classes]
        lines.append(f"| {loss} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return "\n".join(lines) + "\n"


def plot(path: Path, rows: list[dict]) -> None:
    """COCO mAP and mAP@0.50 of each loss over the epochs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, score in zip(axes, ("mAP", "mAP@0.50"), strict=True):
        for loss in dict.fromkeys(row["loss"] for row in rows):
            points = [(r["epoch"], r[f"val_{score}"]) for r in rows if r["loss"] == loss and f"val_{score}" in r]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=loss.replace("_", " "))
        axis.set_xlabel("epoch")
        axis.set_ylabel(f"{score} (COCO)" if score == "mAP" else score)
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
