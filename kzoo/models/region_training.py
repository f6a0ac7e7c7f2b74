"""The three trainings of R-CNN and SPP-net, one after the other: fine-tuning, SVMs, box regression."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kzoo import boxes as box_ops
from kzoo.models import box_regression, support_vectors
from kzoo.models.feature_store import FeatureStore, mean_norm

REGIONS, POSITIVES = 128, 32  # of a step of fine-tuning (section 2.3)
FOREGROUND = 0.5  # IoU from which on a region shows the object, in fine-tuning
BACKGROUND = 0.3  # IoU below which a region is a negative of an SVM (section 2.3)
NORM = 20.0  # (code) features are scaled to this mean norm
BATCH = 8  # images looked at together where the data is one tuple of arrays


class Image(NamedTuple):
    """One image with its regions: the objects themselves come first, then the proposals."""

    pixels: np.ndarray  # (H, W, 3)
    regions: np.ndarray  # (R, 4)
    overlap: np.ndarray  # (R, N) IoU with the objects
    boxes: np.ndarray  # (N, 4)
    labels: np.ndarray  # (N,)


def fit(model: Any, data: Any, epochs: int, folder: str | Path | None, seed: int, verbose: int) -> dict:
    """See `RegionSVM.fit`."""
    clock = _Clock()
    losses = fine_tune(model, data, epochs, seed, verbose)
    clock.lap("fine-tuning")
    with tempfile.TemporaryDirectory() as temporary:
        store = FeatureStore(Path(folder or temporary) / "features.f32")
        near = FeatureStore(Path(temporary) / "near_an_object.f32")
        regions = _describe_all(model, data, store, near, verbose)
        clock.lap("features")
        _set_svms(model, store, regions)
        clock.lap("SVMs")
        _set_boxes(model, near, regions)
        clock.lap("boxes")
    return {"loss": losses, "seconds": clock.seconds, "regions": sum(len(one["overlap"]) for one in regions)}


def fine_tune(model: Any, data: Any, epochs: int, seed: int, verbose: int) -> list[float]:
    """Trains the (N + 1)-way classifier on 32 positive and 96 background regions a step; returns the mean losses.

    A step draws from the images of one batch of data, each mirrored with probability 1/2.
    """
    rng = np.random.default_rng(seed)
    means = []
    for epoch in range(epochs):
        bar = keras.utils.Progbar(None, verbose=verbose, unit_name="step") if verbose else None
        model.reset_metrics()
        loss = float("nan")
        for step, images in enumerate(batches(data), start=1):
            images = [_mirrored(image) if rng.random() < 0.5 else image for image in images]
            drawn = draw(images, rng, model.background_from)
            if not drawn:
                continue
            inputs = np.concatenate([model.inputs_of(image.pixels, image.regions[i]) for image, i, _ in drawn])
            classes = np.concatenate([c for _, _, c in drawn])
            loss = float(model.train_on_batch(inputs, classes, return_dict=True)["loss"])
            if not np.isfinite(loss):
                raise ValueError(
                    f"The loss of fine-tuning became {loss} in epoch {epoch + 1}. Lower the learning rate."
                )
            if bar is not None:
                bar.update(step, [("loss", loss)])
        if bar is not None:
            bar.update(step, finalize=True)
        means.append(loss)
    return means


def draw(
    images: list[Image], rng: np.random.Generator, lowest: float = 0.0
) -> list[tuple[Image, np.ndarray, np.ndarray]]:
    """Draws regions of a few images: at most 32 with IoU >= 0.5, background with IoU >= `lowest` up to 128.

    Returns:
        for each image that something was drawn from: the image, rows of its regions (r,), classes (r,), 0 background.
    """
    which = np.concatenate([np.full(len(image.regions), i) for i, image in enumerate(images)])
    rows = np.concatenate([np.arange(len(image.regions)) for image in images])
    classes = np.concatenate([_classes(image, lowest) for image in images])
    positive, background = np.flatnonzero(classes > 0), np.flatnonzero(classes == 0)
    positive = rng.permutation(positive)[:POSITIVES]
    chosen = np.concatenate([positive, rng.permutation(background)[: REGIONS - len(positive)]])
    parts = [(image, chosen[which[chosen] == i]) for i, image in enumerate(images)]
    return [(image, rows[own], classes[own]) for image, own in parts if len(own)]


def _classes(image: Image, lowest: float) -> np.ndarray:
    """(R,): label + 1 of the object that a region shows, 0 for background, -1 for neither."""
    best = image.overlap.max(axis=1, initial=0.0)
    background = np.where(best >= lowest, 0, -1)
    if len(image.boxes) == 0:
        return background
    return np.where(best >= FOREGROUND, image.labels[image.overlap.argmax(axis=1)] + 1, background)


def _describe_all(model: Any, data: Any, store: FeatureStore, pooled: FeatureStore, verbose: int) -> list[dict]:
    """To disk go fc7 of all regions and the pooled features of those near an object; returned is the rest, by image."""
    everything = []
    bar = keras.utils.Progbar(None, verbose=verbose, unit_name="image") if verbose else None
    for images in batches(data):
        for image in images:
            described = model.describe(image.pixels, image.regions)
            store.append(described["fc7"])
            near = image.overlap.max(axis=1, initial=0.0) > box_regression.MIN_IOU
            pooled.append(described["pooled"][near])
            nearest = image.overlap[near].argmax(axis=1) if len(image.boxes) else np.zeros(0, int)
            everything.append(
                {
                    "overlap": np.stack(
                        [
                            image.overlap[:, image.labels == c].max(axis=1, initial=0.0)
                            for c in range(model.num_classes)
                        ],
                        axis=1,
                    ),
                    "labels": image.labels,
                    "deltas": box_ops.encode(image.boxes[nearest], image.regions[near]),
                    "classes": image.labels[nearest],
                }
            )
            if bar is not None:
                bar.update(len(everything))
    return everything


def _set_svms(model: Any, store: FeatureStore, regions: list[dict]) -> None:
    """One SVM a class on scaled features: its objects against all regions that overlap none of them by 0.3."""
    scale = NORM / mean_norm(store.rows())
    # The objects come first among the regions of an image, in the order of their labels.
    objects = [store.image(i)[: len(one["labels"])] * scale for i, one in enumerate(regions)]
    labels = np.concatenate([one["labels"] for one in regions])
    objects = np.concatenate(objects)
    images = _Negatives(store, scale, regions)
    weights, bias = support_vectors.train_svms([objects[labels == c] for c in range(model.num_classes)], images)
    model.get_layer("svm").set_weights([weights * scale, bias])


class _Negatives:
    """Of each image the scaled features of its regions, read from disk, and which are negatives of which class."""

    def __init__(self, store: FeatureStore, scale: float, regions: list[dict]):
        self._store, self._scale, self._regions = store, scale, regions

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for i, one in enumerate(self._regions):
            yield self._store.image(i) * self._scale, one["overlap"] < BACKGROUND


def _set_boxes(model: Any, near: FeatureStore, regions: list[dict]) -> None:
    """One ridge regression a class, from regions with IoU > 0.6 to their nearest object."""
    features = near.rows()
    deltas = np.concatenate([one["deltas"] for one in regions])
    classes = np.concatenate([one["classes"] for one in regions])
    scale = NORM / mean_norm(features)
    fits = [
        box_regression.fit_boxes(*_examples(features, deltas, classes == c, scale)) for c in range(model.num_classes)
    ]
    weights = np.concatenate([w * scale for w, _ in fits], axis=1)
    model.get_layer("boxes").set_weights([weights, np.concatenate([b for _, b in fits])])


def _examples(features: np.ndarray, deltas: np.ndarray, own: np.ndarray, scale: float):
    """Features and deltas of one class, as many as a regression takes; only these are read from disk."""
    rows = np.flatnonzero(own)
    if len(rows) > box_regression.MOST:
        rows = rows[np.linspace(0, len(rows) - 1, box_regression.MOST).astype(int)]
    return features[rows] * np.float32(scale), deltas[rows]


def batches(data: Any) -> Iterator[list[Image]]:
    """The images of each batch, without padding, with the regions that training looks at."""
    for pixels, targets in _pairs(data):
        if not isinstance(targets, Mapping) or "proposals" not in targets:
            raise ValueError('The batches have no targets["proposals"]: load the data with proposals="fast".')
        targets = {key: np.asarray(value) for key, value in targets.items()}
        yield [_image(np.asarray(one), targets, i) for i, one in enumerate(pixels)]


def _pairs(data: Any) -> Iterable:
    if isinstance(data, tuple):
        images, targets = data
        parts = [slice(start, start + BATCH) for start in range(0, len(images), BATCH)]
        return ((images[part], {key: value[part] for key, value in targets.items()}) for part in parts)
    if isinstance(data, keras.utils.PyDataset):
        return (data[i] for i in range(data.num_batches))
    return data


def _image(pixels: np.ndarray, targets: Mapping[str, np.ndarray], i: int) -> Image:
    boxes, labels = targets["boxes"][i].astype("float32"), targets["labels"][i]
    keep = (labels >= 0) & (box_ops.area(boxes) > 0)
    if "crowd" in targets:
        keep &= ~targets["crowd"][i].astype(bool)
    boxes, labels = boxes[keep], labels[keep]
    proposals = box_ops.clip(targets["proposals"][i].astype("float32"), pixels.shape[:2])
    regions = np.concatenate([boxes, proposals[box_ops.area(proposals) > 0]])
    return Image(pixels, regions, box_ops.iou(regions, boxes), boxes, labels)


def _mirrored(image: Image) -> Image:
    width = image.pixels.shape[1]
    x1, y1, x2, y2 = image.regions.T
    return image._replace(pixels=image.pixels[:, ::-1], regions=np.stack([width - x2, y1, width - x1, y2], axis=1))


class _Clock:
    """Wall-clock seconds of named stages."""

    def __init__(self):
        self.seconds, self._last = {}, time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now
