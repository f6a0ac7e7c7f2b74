"""The part of `kzoo predict` that is a segmenter's: overlays, index PNGs, and each class's share in the JSON."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kzoo.cli import console
from kzoo.cli.predict import Looked, Source, mask_name

MIN_SIDE = 200  # of a picture in pixels


def segment_images(
    segmenter: Any, read: Iterable[tuple[Source, np.ndarray]], places: dict[Source, Path], pictures: bool
) -> Iterator[Looked]:
    """Labels images and writes `<name>-mask.png` for each, and with `pictures` an overlay under the image's own name.

    Args:
        read: `(source, image)` pairs. places: where each picture goes.

    Yields:
        An image's entry for predictions.json, where "classes" has each class's pixels and share, the largest first; and
        no objects.
    """
    for number, (source, image) in enumerate(read, start=1):
        with console.quiet_native():
            found = segmenter.segment(image[None])
        labels = found["labels"][0].astype(np.uint8)
        place = places[source]
        mask = place.with_name(mask_name(place.stem))
        _write_mask(labels, mask)
        entry = source.entry(number, image)
        entry |= {"mask": str(mask), "mean_score": round(float(found["scores"].mean()), 5)}
        if pictures:
            entry["picture"] = str(_draw(image, labels, segmenter.class_names, place))
        entry["classes"] = _shares(labels, segmenter.class_names)
        shown = ", ".join(f"{one['name']}: {one['share']:.1%}" for one in entry["classes"][:6])
        console.say(f"{source}: {shown}")
        yield entry, []


def _write_mask(labels: np.ndarray, path: Path) -> None:
    from kzoo import visualize

    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels)
    picture.putpalette(visualize.palette())  # a pixel's number stays its class; only viewers see colours
    picture.save(path)


def _draw(image: np.ndarray, labels: np.ndarray, names: Sequence[str] | None, place: Path) -> Path:
    from kzoo import visualize

    # As large as the names need, and pixels stay pixels.
    times = max(1, -(-MIN_SIDE // min(labels.shape)))
    image, labels = (pixels.repeat(times, axis=0).repeat(times, axis=1) for pixels in (image, labels))
    picture = visualize.draw_mask(image, labels, names)
    return visualize.save(visualize.with_legend(picture, names) if names else picture, place)


def _shares(labels: np.ndarray, names: Sequence[str] | None) -> list[dict[str, Any]]:
    counts = np.bincount(labels.ravel())
    order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    return [
        {
            "label": k,
            "name": names[k] if names and k < len(names) else str(k),
            "pixels": int(counts[k]),
            "share": round(float(counts[k] / labels.size), 5),
        }
        for k in order
    ]
