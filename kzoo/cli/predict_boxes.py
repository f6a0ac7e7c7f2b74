"""The part of `kzoo predict` that is a detector's: pictures with boxes, and each object in the JSON."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.cli import console
from kzoo.cli.predict import Looked, Source


def detect_images(
    detector: Any,
    chunks: Iterable[Sequence[tuple[Source, np.ndarray]]],
    places: dict[Source, Path],
    threshold: float,
    pictures: bool,
) -> Iterator[Looked]:
    """Finds objects in images and with `pictures` draws each under the image's own name.

    Args:
        chunks: `(source, image)` pairs, so many as are looked at together. places: where each picture goes.
        threshold: what scores less is left out.

    Yields:
        An image's entry for predictions.json, and one for each object in it.
    """
    names = detector.class_names
    number = 0
    for pairs in filter(None, chunks):
        with console.quiet_native():
            found = detector.detect([image for _, image in pairs])
        for row, (source, image) in enumerate(pairs):
            keep = (found["labels"][row] >= 0) & (found["scores"][row] >= threshold)
            kept = {key: found[key][row][keep] for key in ("boxes", "labels", "scores")}
            number += 1
            entry = source.entry(number, image)
            if pictures:
                entry["picture"] = str(_draw(image, kept, names, places[source]))
            console.say(f"{source}: {_summary(kept['labels'], names)}")
            yield entry, _objects(entry, kept, names)


def _objects(entry: dict[str, Any], found: dict[str, np.ndarray], names: Sequence[str] | None) -> list[dict[str, Any]]:
    return [
        {
            "image_id": entry["id"],
            "file": entry["file"],
            "box": [round(float(v), 2) for v in box],
            "label": int(label),
            "name": _name(names, int(label)),
            "score": round(float(score), 5),
        }
        for box, label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True)
    ]


def _draw(image: np.ndarray, found: dict[str, np.ndarray], names: Sequence[str] | None, place: Path) -> Path:
    from kzoo import visualize

    picture = visualize.draw_boxes(image, found["boxes"], found["labels"], found["scores"], names, min_side=400)
    return visualize.save(picture, place)


def _name(names: Sequence[str] | None, label: int) -> str:
    return names[label] if names and label < len(names) else str(label)


def _summary(labels: np.ndarray, names: Sequence[str] | None) -> str:
    """ "cat: 2, dog: 1", in the order of the classes."""
    classes, counts = np.unique(labels, return_counts=True)
    return ", ".join(f"{_name(names, int(c))}: {n}" for c, n in zip(classes, counts, strict=True)) or "nothing"
