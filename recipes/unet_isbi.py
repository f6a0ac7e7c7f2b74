"""U-Net on the EM stack of ISBI 2012 (Ronneberger et al., MICCAI 2015): one row of the table of its two inventions.

    python recipes/unet_isbi.py --data isbi2012
    python recipes/unet_isbi.py --data path/to/isbi2012 --no-elastic --no-weight-map

The data set is downloaded by its name; a folder holds image/ and label/ with the 30 slices, or both stacks, labels 0 on
membranes and 255 inside of cells. Training is on slices 0-23, measured is on 24-29. Elastic deformation and the weight
map of borders can be switched off. Not the paper's size: a quarter of its width, same-padded, with batch normalisation.
Without --width 0.25, --padding same and --batch-norm it is the paper's network: --width 1 --padding valid --image-size
572 --batch-size 1 --no-batch-norm.

The probability of a cell is the mean over eight views of a slice, turned and mirrored (the paper: seven turned ones;
--views 1 for none), and --scales 1 0.875 0.75 sees each at three scales. Cells are the 4-connected regions in which it
exceeds a threshold. This is chosen on training slices, and so is a second one for the pixel accuracy: the weight map
makes membranes much likelier than they are. The pixels in between then join the cell next to them, as the challenge's
scores thin borders, and the Rand F-score is that of the foreground (V_rand). Published on the challenge's own test
stack: warping error 0.000353, Rand error 0.0382.
The stack's labels lie half a pixel above the membranes of its images. A network that sees turned images cannot learn
that, so its probabilities are moved by the fractions of a pixel that fit the training slices best, before any score.
In the last fifth of the steps the network settles (kzoo.training.settled): nothing is dropped, and batch norm does not
go by the batch, as it will be when it predicts.
--start trains a network on that an earlier run has written; --score measures the mean of several such networks. Their
size, width, depth, padding and dropout are the files' own; a file holds no precision, so --precision counts there, too.
docs/results.md holds what was measured with this recipe.
"""

import argparse
import dataclasses
import itertools
import re
from pathlib import Path

import keras
import numpy as np

import kzoo
from kzoo.data import named
from kzoo.data.readers import read
from kzoo.morphology import connected_components, grow_regions
from kzoo.training import settled

CELL_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PIXEL_THRESHOLDS = tuple(n / 40 for n in range(1, 25))
OFFSETS = tuple(itertools.product((-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1), repeat=2))  # (down, right), pixels
TEST_SLICES = 6
SETTLING_RATE = 0.15  # of the learning rate, at the start of the last steps
STATISTICS = 60  # batches, from which batch norms take theirs before those
SYMMETRIES = [(turns, mirrored) for mirrored in (False, True) for turns in range(4)]


def slices(source: str):
    """(train, test) annotations of the stack, in the order of the slices' numbers."""
    numbers = {} if named.knows(source) and not Path(source).exists() else {"values": [0, 255]}
    stack = read(source, None, class_names=["membrane", "cell"], task="segmentation", **numbers)
    samples = sorted(stack.samples, key=lambda sample: int(re.sub(r"\D", "", sample.name) or 0))
    parts = samples[:-TEST_SLICES], samples[-TEST_SLICES:]
    return tuple(dataclasses.replace(stack, samples=part) for part in parts)


def probabilities(networks, annotations, views: int, scales=(1,)) -> tuple[np.ndarray, np.ndarray]:
    """Masks (N, H, W) and each pixel's probability of a cell, the mean over networks, scales and so many views."""
    masks, cells = [], []
    for images, targets in kzoo.data.from_annotations(annotations, image_size=None):
        image = np.asarray(images)[0]
        looks = itertools.product(networks, scales, SYMMETRIES[:views])
        masks.append(np.asarray(targets["masks"])[0])
        seen = [cell_probability(network, image, scale, *view) for network, scale, view in looks]
        cells.append(np.mean(seen, axis=0))
    return np.stack(masks), np.stack(cells)


def cell_probability(model, image: np.ndarray, scale: float, turns: int, mirrored: bool) -> np.ndarray:
    """Each pixel's probability of a cell (H, W), predicted in tiles of the image at this scale, turned and mirrored."""
    seen = kzoo.images.resize(image, tuple(round(scale * side) for side in image.shape[:2]))
    found = model.segment(np.rot90(seen[:, ::-1] if mirrored else seen, turns)[None])
    cell = np.rot90(np.where(found["labels"] == 1, found["scores"], 1 - found["scores"])[0], -turns)
    return kzoo.images.resize((cell[:, ::-1] if mirrored else cell)[..., None], image.shape[:2])[..., 0]


def cell_scores(masks: np.ndarray, cells: np.ndarray, threshold: float, warping: bool = False) -> dict:
    """Rand scores, and on request the warping error, of the cells above the threshold."""
    metric = kzoo.metrics.CellMeasures(warping=warping)
    for mask, probability in zip(masks, cells, strict=True):
        regions = connected_components(probability > threshold)
        metric.update_state([connected_components(mask == 1)], [grow_regions(regions) if not warping else regions])
    return metric.result()


def moved(cells: np.ndarray, offset: tuple[float, float]) -> np.ndarray:
    """Maps (N, H, W) moved down and right by fractions of a pixel, bilinearly; beyond the border its pixels go on."""
    for axis, by in enumerate(offset, start=1):
        end = cells.shape[axis] - 1
        places = np.clip(np.arange(end + 1, dtype="float32") - by, 0, end)
        before = places.astype(int)
        after = np.minimum(before + 1, end)
        share = (places - before)[:, None] if axis == 1 else places - before
        cells = (1 - share) * cells.take(before, axis) + share * cells.take(after, axis)
    return cells


def best_pixels(masks: np.ndarray, cells: np.ndarray) -> tuple[tuple[float, float], float]:
    """The offset and the threshold, of those above, that give the largest pixel accuracy."""
    scores = {}
    for offset in OFFSETS:
        there = moved(cells, offset)
        scores |= {(offset, threshold): pixel_accuracy(masks, there, threshold) for threshold in PIXEL_THRESHOLDS}
    return max(scores, key=scores.get)


def pixel_accuracy(masks: np.ndarray, cells: np.ndarray, threshold: float) -> float:
    return float(((cells > threshold) == (masks == 1)).mean())


def untrained(options, class_names):
    return kzoo.models.UNet(
        2,
        image_size=options.image_size,
        padding=options.padding,
        width=options.width,
        depth=options.depth,
        dropout=options.dropout,
        batch_norm=options.batch_norm,
        tiled=True,
        class_names=class_names,
    )


def trained(options, training):
    """A network that has learned from these slices, saved under the name `options.output`."""
    model = kzoo.models.load(options.start) if options.start else untrained(options, training.class_names)
    settling = min(round(options.settle * options.steps), options.steps - 1)
    learn(model, crops(options, training, model), options.learning_rate, options.steps - settling)
    if settling:
        data = crops(options, training, model, start_epoch=options.steps)  # none of those before
        with settled(model, (images for images, _ in data.take(STATISTICS))):
            learn(model, data, SETTLING_RATE * options.learning_rate, settling)
        model.compile()  # the optimizer of the last steps knows half of the layers
        model.optimizer.build(model.trainable_variables)
    model.save(f"{options.output}.keras")
    return model


def crops(options, training, model, start_epoch: int = 0):
    return kzoo.data.from_annotations(
        training,
        image_size=model.image_size,
        batch_size=options.batch_size,
        augment=["dihedral", "photometric", *(["elastic"] if options.elastic else [])],
        fit="crop",
        context=model.context,
        weights=options.weight_map,
        seed=options.seed,
        start_epoch=start_epoch,
    )


def learn(model, data, learning_rate: float, steps: int) -> None:
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps, alpha=0.01)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0))
    each = min(steps, 100)
    model.fit(data, epochs=-(-steps // each), steps_per_epoch=each, verbose=2, shuffle=False)


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--elastic", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--weight-map", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--padding", default="same")
    parser.add_argument("--batch-norm", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--dropout", type=float, help="after the contracting path; .5, or 0 with batch norm")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument(
        "--settle",
        type=float,
        default=0.2,
        help="share of the steps, the last, without dropout and with fixed batch norm",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--views", type=int, default=8, choices=range(1, 9), help="turned and mirrored, to average over"
    )
    parser.add_argument("--scales", type=float, nargs="+", default=[1], help="at which each view is seen")
    parser.add_argument(
        "--precision",
        default="float32",
        help="or mixed_bfloat16: half the time with AMX, two thirds with AVX-512's bfloat16",
    )
    parser.add_argument("--start", help="a file that this recipe has written, to train on in place of random weights")
    parser.add_argument(
        "--score", nargs="+", default=[], metavar="FILE", help="train nothing: the mean of these networks is measured"
    )
    parser.add_argument("--output", type=kzoo.training.output_name, default="unet_isbi")
    options = parser.parse_args(arguments)
    if options.start and Path(options.start).resolve() == Path(f"{options.output}.keras").resolve():
        parser.error(f"--start {options.start} would be overwritten by what it becomes. Give another --output.")
    if not 0 <= options.settle < 1 or options.steps < 1:
        parser.error("--steps is at least 1, and --settle from 0 to less than 1: a network learns before it settles.")
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.precision)

    training, testing = slices(options.data)
    networks = [kzoo.models.load(file) for file in options.score] or [trained(options, training)]
    seen = dataclasses.replace(training, samples=training.samples[:TEST_SLICES])
    masks, cells = probabilities(networks, seen, options.views, options.scales)
    offset, pixel_threshold = best_pixels(masks, cells)
    cells = moved(cells, offset)
    threshold = max(CELL_THRESHOLDS, key=lambda t: cell_scores(masks, cells, t)["rand_fscore"])
    masks, cells = probabilities(networks, testing, options.views, options.scales)
    cells = moved(cells, offset)
    result = cell_scores(masks, cells, threshold)
    result["warping_error"] = cell_scores(masks, cells, 0.5, warping=True)["warping_error"]
    result["pixel_accuracy"] = pixel_accuracy(masks, cells, pixel_threshold)
    result |= {"threshold": threshold, "pixel_threshold": pixel_threshold, "offset": offset}
    print("moved by {:+.2f} pixels down and {:+.2f} right, as fits the training slices".format(*offset))
    said = ["-" if options.score else "yes" if switch else "no" for switch in (options.elastic, options.weight_map)]
    print("elastic  weight map  Rand F-score  split  merge  threshold  pixel accuracy  threshold  warping error")
    print(
        f"{said[0]:7s}  {said[1]:10s}  "
        f"{result['rand_fscore']:12.4f}  {result['rand_split']:.3f}  {result['rand_merge']:.3f}  {threshold:9.2f}  "
        f"{result['pixel_accuracy']:14.4f}  {pixel_threshold:9.2f}  {result['warping_error']:13.5f}"
    )
    return result


if __name__ == "__main__":
    main()
