"""The R-CNN family side by side: R-CNN, SPP-net, Fast R-CNN, Faster R-CNN with one backbone, machine and data set.

    python benchmarks/rcnn_family.py --data path/to/bccd --weights mobilenet.weights.h5 --output rcnn_family

Trains each, scores it on the test split, and times it image by image with the same proposals; prints a Markdown table
beside the published numbers and draws a bar chart. What is finished lies in OUTPUT and is not done again, so a stopped
run goes on with the next model; remove <model>.json to score and time a trained one anew. Needs the extra `proposals`.
"""

import argparse
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

import kzoo
from kzoo.proposals import selective_search
from kzoo.visualize.figures import class_colour, figure, write

# Girshick, Fast R-CNN, ICCV 2015, table 4 (VGG16, hours of training) and the seconds an image, proposals included, that
# are usually taught: R-CNN 47, SPP-net 2.3, Fast R-CNN 0.32 without proposals, Faster R-CNN 0.2 (Ren et al., table 5).
PUBLISHED = {
    "rcnn": (84.0, 47.0),
    "sppnet": (25.0, 2.3),
    "fast_rcnn": (9.5, 0.32),
    "faster_rcnn": (None, 0.2),
}
# Adam's, as in the recipes. The pretrained networks of R-CNN and Fast R-CNN learn through fc layers that know nothing
# yet, and lose what they knew at higher rates; SPP-net's stays as it is.
RATES = {"rcnn": 1e-4, "sppnet": 5e-4, "fast_rcnn": 1e-4, "faster_rcnn": 5e-4}
TITLES = {"rcnn": "R-CNN", "sppnet": "SPP-net", "fast_rcnn": "Fast R-CNN", "faster_rcnn": "Faster R-CNN"}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--models", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--backbone", default="mobilenet")
    parser.add_argument("--weights", default=None, help="imagenet, or a file of the backbone's weights")
    parser.add_argument("--image-size", type=int, nargs=2, default=(384, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--units", type=int, default=1024, help="of fc6 and fc7")
    parser.add_argument("--augment", default="flip", help="of Fast and Faster R-CNN; the others mirror images anyway")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--timed", type=int, default=5, help="test images that detection is timed on")
    parser.add_argument("--crop-size", type=int, default=96, help="R-CNN's crops")
    parser.add_argument("--crops", type=int, default=300, help="R-CNN's proposals an image, in training and for mAP")
    parser.add_argument("--windows", type=int, default=1000, help="SPP-net's proposals an image")
    parser.add_argument("--svm-epochs", type=int, default=6, help="of R-CNN's and SPP-net's fine-tuning")
    parser.add_argument("--epochs", type=int, default=20, help="of Fast and Faster R-CNN")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--precision", default="float32", help="or mixed_bfloat16: faster where a CPU has it")
    parser.add_argument("--output", type=Path, default=Path("rcnn_family"))
    return parser.parse_args(arguments)


def make(name: str, options: argparse.Namespace, train) -> keras.Model:
    common = {
        "num_classes": train.num_classes,
        "image_size": train.image_size,
        "backbone": options.backbone,
        "weights": options.weights,
        "units": options.units,
        "class_names": train.class_names,
    }
    own = {"rcnn": {"crop_size": options.crop_size}, "sppnet": {"scales": (min(train.image_size),)}}
    return kzoo.models.create(name, **common, **own.get(name, {}))


def fit(name: str, model: keras.Model, train, options: argparse.Namespace) -> None:
    if name in ("rcnn", "sppnet"):
        model.compile(keras.optimizers.Adam(RATES[name]))
        model.fit(train, epochs=options.svm_epochs, folder=options.output / name, verbose=2)
        (options.output / name / "features.f32").unlink()
        return
    steps = options.epochs * train.steps_per_epoch
    rate = keras.optimizers.schedules.CosineDecay(RATES[name], steps, alpha=0.01)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0))
    model.fit(train, epochs=options.epochs, verbose=2, shuffle=False)


def load(name: str, split: str, options: argparse.Namespace, training: bool):
    most = {"rcnn": options.crops, "sppnet": options.windows}.get(name, 2000)
    proposals = {} if name == "faster_rcnn" else {"proposals": "fast", "max_proposals": most}
    by_gradient = training and name in ("fast_rcnn", "faster_rcnn")
    augment = options.augment if by_gradient else False
    size = tuple(options.image_size)
    return kzoo.data.load(options.data, split, size, options.batch_size, augment, limit=options.limit, **proposals)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def train(name: str, options: argparse.Namespace) -> dict:
    """Trains one model into <model>.keras; how long it took."""
    keras.utils.set_random_seed(0)
    data = load(name, options.train_split, options, training=True)
    model = make(name, options, data)
    cpu = time.process_time()
    training = seconds(lambda: fit(name, model, data, options))
    cpu = time.process_time() - cpu
    model.save(options.output / f"{name}.keras")
    return {"training_seconds": training, "training_cpu_seconds": cpu}


def measure(name: str, options: argparse.Namespace) -> dict:
    """Scores and times one trained model image by image."""
    model = kzoo.models.load(options.output / f"{name}.keras")
    scores = kzoo.metrics.evaluate(model, load(name, "test", options, training=False))

    # The time of one image, the same 2000 proposals (or as many as there are) for all that take any.
    images = next(iter(load("faster_rcnn", "test", options, training=False).unbatch().batch(options.timed)))[0].numpy()
    found, search = [], []
    for image in images if name != "faster_rcnn" else ():
        search.append(seconds(lambda image=image: found.append(selective_search(image))))
    for _ in range(2):  # the first pass traces and warms up
        times = [
            seconds(lambda i=i: model.detect(images[i : i + 1], **({"proposals": found[i][None]} if found else {})))
            for i in range(len(images))
        ]
    return {
        "model": name,
        "image_seconds": float(np.median(times)),
        "search_seconds": float(np.median(search)) if search else 0.0,
        "proposals_timed": float(np.mean([len(boxes) for boxes in found])) if found else None,
        "mAP": float(scores["mAP"]),
        "mAP@0.50": float(scores["mAP@0.50"]),
        "AP": {label: float(own["AP"]) for label, own in scores["per_class"].items()},
        "parameters": int(model.count_params()),
        "cores": os.cpu_count(),
        "settings": {key: str(value) for key, value in vars(options).items() if key not in ("models", "output")},
    }


def table(results: list[dict]) -> str:
    lines = [
        "| | training, min (CPU min) | s an image | with proposals | mAP@0.50 | COCO mAP "
        "| published: training, h | s an image |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        hours, image = PUBLISHED[r["model"]]
        lines.append(
            f"| {TITLES[r['model']]} | {r['training_seconds'] / 60:.1f} ({r['training_cpu_seconds'] / 60:.1f}) "
            f"| {r['image_seconds']:.3f} | {r['image_seconds'] + r['search_seconds']:.3f} | {r['mAP@0.50']:.3f} "
            f"| {r['mAP']:.3f} | {'-' if hours is None else hours} | {image} |"
        )
    return "\n".join(lines)


def chart(results: list[dict], path: Path) -> Path:
    """Bars of training time, time an image and mAP; times on a logarithmic scale."""
    made, axes = figure(columns=3, width=4.4, height=3.8)
    names = [TITLES[r["model"]] for r in results]
    place = np.arange(len(results))
    parts = (
        (
            "training, minutes",
            lambda r: r["training_seconds"] / 60,
            lambda r: (PUBLISHED[r["model"]][0] or np.nan) * 60,
        ),
        ("seconds an image, proposals included", lambda r: r["image_seconds"] + r["search_seconds"], None),
        ("mAP", lambda r: r["mAP@0.50"], None),
    )
    for axis, (title, here, published) in zip(axes, parts, strict=True):
        second = published or (lambda r: PUBLISHED[r["model"]][1])
        label, other = "measured here", "published (VGG16, VOC, GPU)"
        if title == "mAP":
            label, other, second = "mAP@0.50", "COCO mAP", lambda r: r["mAP"]
        else:
            axis.set_yscale("log")
        axis.bar(place - 0.2, [here(r) for r in results], 0.4, color=class_colour(1), label=label)
        axis.bar(place + 0.2, [second(r) for r in results], 0.4, color=class_colour(5), label=other)
        axis.set_xticks(place, names, rotation=20)
        axis.set_title(title)
        axis.margins(y=0.3)  # above the bars there is room for the legend
        axis.legend(fontsize=8)
    return write(made, path)


def kept(path: Path, run: Callable[[], dict]) -> dict:
    """What `run` returned, now or in an earlier call, as JSON."""
    if not path.is_file():
        path.with_suffix(".tmp").write_text(json.dumps(run(), indent=2), encoding="utf-8")
        path.with_suffix(".tmp").replace(path)
    return json.loads(path.read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> list[dict]:
    options = parse(arguments)
    keras.config.set_dtype_policy(options.precision)
    options.output.mkdir(parents=True, exist_ok=True)
    results = []
    for name in options.models:
        print(f"== {TITLES[name]}", flush=True)
        trained = kept(options.output / f"{name}.training.json", functools.partial(train, name, options))
        results.append(trained | kept(options.output / f"{name}.json", functools.partial(measure, name, options)))
    text = table(results)
    (options.output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(f"written: {chart(results, options.output / 'rcnn_family.png')}")
    return results


if __name__ == "__main__":
    main()
