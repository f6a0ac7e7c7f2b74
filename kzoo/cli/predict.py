"""`kzoo predict`: pictures and a JSON of what was found in images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from kzoo.cli import console, targets
from kzoo.messages import counted

PREDICTIONS = "predictions.json"
_CHUNK = 8  # images in memory at once


class Source(NamedTuple):
    """An image: a file, or a page of a stack of several."""

    path: Path
    page: int = 0
    pages: int = 1

    @property
    def stem(self) -> str:
        return self.path.stem if self.pages == 1 else f"{self.path.stem}-page{self.page + 1}"

    def __str__(self) -> str:
        return str(self.path) if self.pages == 1 else f"{self.path}, page {self.page + 1}"

    def entry(self, number: int, image: Any) -> dict[str, Any]:
        """What predictions.json says of it first."""
        page = {} if self.pages == 1 else {"page": self.page + 1}
        return {"id": number, "file": str(self.path), **page, "width": image.shape[1], "height": image.shape[0]}


def predict(
    model: Annotated[str, typer.Argument(metavar="RUN|FILE", help="Run folder, .keras, .tflite or SavedModel folder.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER...", help="Images, or folders of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for pictures and predictions.json.")] = Path(
        "predictions"
    ),
    score: Annotated[float, typer.Option(min=0, max=1, help="Leave out what scores less.")] = 0.5,
    pictures: Annotated[bool, typer.Option(help="Draw the pictures, or write the JSON only.")] = True,
) -> None:
    """Finds objects in images; writes pictures with boxes and predictions.json.

    A segmenter labels every pixel: pictures are overlays, and <name>-mask.png holds the class of each pixel. Stacks of
    several images in a TIFF are taken page by page.

    Boxes are x1, y1, x2, y2 in pixels of the upright image. Unreadable images are listed and passed over.

    Example: [bold]kzoo predict runs/ssd photos/ --output found --score 0.4[/]
    """
    if output.is_file():
        raise ValueError(f"{output}: is a file, and --output wants a folder.")
    sources = [source for path in _images(images, output) for source in _pages(path)]
    detector = targets.load(model)
    names = detector.class_names
    listed: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    places = _places(sources, output, masks=hasattr(detector, "segment"))
    if hasattr(detector, "segment"):
        from kzoo.cli.predict_masks import segment_images

        listed = segment_images(detector, _read(sources, unreadable), places, pictures)
        about = {"mask_format": "index PNG, a pixel's number is its class's id"}
        _finish(model, output, sources, listed, unreadable, names, about)
        return
    for start in range(0, len(sources), _CHUNK):
        read = list(_read(sources[start : start + _CHUNK], unreadable))
        if not read:
            continue
        with console.quiet_native():
            found = detector.detect([image for _, image in read])
        for row, (source, image) in enumerate(read):
            keep = (found["labels"][row] >= 0) & (found["scores"][row] >= score)
            kept = {key: found[key][row][keep] for key in ("boxes", "labels", "scores")}
            entry = source.entry(len(listed) + 1, image)
            if pictures:
                entry["picture"] = str(_draw(image, kept, names, places[source]))
            listed.append(entry)
            detections += [
                {
                    "image_id": entry["id"],
                    "file": entry["file"],
                    "box": [round(float(v), 2) for v in box],
                    "label": int(label),
                    "name": _name(names, int(label)),
                    "score": round(float(s), 5),
                }
                for box, label, s in zip(kept["boxes"], kept["labels"], kept["scores"], strict=True)
            ]
            console.say(f"{source}: {_summary(kept['labels'], names)}")
    about = {"score_threshold": score, "box_format": "x1, y1, x2, y2 in pixels of the upright image"}
    _finish(model, output, sources, listed, unreadable, names, about, detections)


def _finish(
    model: str,
    output: Path,
    sources: Sequence[Source],
    listed: list[dict[str, Any]],
    unreadable: list[dict[str, str]],
    names: Sequence[str] | None,
    about: dict[str, Any],
    detections: list[dict[str, Any]] | None = None,
) -> None:
    """Writes predictions.json and says what was found and what could not be read."""
    from kzoo.report import files

    if not listed:
        raise ValueError(f"Nothing could be read of {counted(len(sources), 'image')}. First: {unreadable[0]['reason']}")
    categories = [{"id": i, "name": name} for i, name in enumerate(names or [])]
    content = {"model": str(model), **about, "categories": categories, "images": listed}
    if detections is not None:
        content["detections"] = detections
    path = files.write_json(output / PREDICTIONS, {**content, "unreadable": unreadable})
    for one in unreadable:
        console.warn(f"passed over {one['reason']}")
    objects = "" if detections is None else f"{counted(len(detections), 'object')}, "
    console.say(
        f"{objects}{counted(len(listed), 'image')}: {path}"
        + (f", pictures in {output}" if "picture" in listed[0] else "")
    )


def _images(given: Sequence[Path], output: Path) -> Iterator[Path]:
    """The image files meant by the arguments, each once, in order; folders are searched to the bottom."""
    from kzoo.images import IMAGE_SUFFIXES

    seen: set[Path] = set()
    for path in given:
        if not path.exists():
            raise ValueError(f"{path}: no such image or folder. Check the spelling.")
        if path.is_dir():
            own = output.resolve()
            inside = [
                p
                for p in sorted(path.rglob("*"))
                if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file() and own not in p.resolve().parents
            ]
            if not inside and own in (path.resolve(), *path.resolve().parents):
                raise ValueError(f"{path}: is where the pictures go to. Give another folder as --output.")
            if not inside:
                raise ValueError(f"{path}: holds no image ({', '.join(IMAGE_SUFFIXES)}). Give another folder.")
        else:
            inside = [path]
        for one in inside:
            if one.resolve() not in seen:
                seen.add(one.resolve())
                yield one


def _pages(path: Path) -> list[Source]:
    from kzoo.images import pages

    count = pages(path) if path.suffix.lower() in (".tif", ".tiff") else 1
    return [Source(path, page, count) for page in range(count)]


def _places(sources: Sequence[Source], output: Path, masks: bool = False) -> dict[Source, Path]:
    """Where each picture goes: under the image's own name, numbered where that is taken, as is that of its mask.

    Files in the output's folder stay, but for those that an earlier call has written.
    """
    taken = _others(output, [source.path for source in sources])
    places = {}
    for source in sources:
        suffix = ".png" if source.path.suffix.lower() == ".png" else ".jpg"
        stem, number = source.stem, 1
        while taken & (names := {f"{stem}{suffix}".lower(), *([mask_name(stem).lower()] if masks else ())}):
            number += 1
            stem = f"{source.stem}-{number}"
        taken |= names
        places[source] = output / f"{stem}{suffix}"
    return places


def mask_name(stem: str) -> str:
    """Of the file with the class of each pixel, beside the picture `<stem>.jpg`."""
    return f"{stem}-mask.png"


def _others(output: Path, sources: Sequence[Path]) -> set[str]:
    """The names in the output's folder, in lower case, but for what its predictions.json says was written."""
    from kzoo.report import files

    if not output.is_dir():
        return set()
    content = files.read_json(output / PREDICTIONS)
    listed = content.get("images", []) if isinstance(content, dict) else []
    entries = [one for one in listed if isinstance(one, dict)]
    written = {Path(str(entry.get(key))).name for entry in entries for key in ("picture", "mask")}
    written -= {source.name for source in sources if source.resolve().parent == output.resolve()}
    return {path.name.lower() for path in output.iterdir() if path.name not in written}


def _read(sources: Sequence[Source], unreadable: list[dict[str, str]]) -> Iterator[tuple[Source, Any]]:
    from kzoo.images import read_image

    for source in sources:
        try:
            yield source, read_image(source.path, source.page)
        except ValueError as error:
            unreadable.append({"file": str(source.path), "reason": console.one_line(str(error))})


def _draw(image: Any, found: dict[str, Any], names: Sequence[str] | None, place: Path) -> Path:
    from kzoo import visualize

    picture = visualize.draw_boxes(image, found["boxes"], found["labels"], found["scores"], names, min_side=400)
    return visualize.save(picture, place)


def _name(names: Sequence[str] | None, label: int) -> str:
    return names[label] if names and label < len(names) else str(label)


def _summary(labels: Any, names: Sequence[str] | None) -> str:
    """ "cat: 2, dog: 1", in the order of the classes."""
    import numpy as np

    classes, counts = np.unique(labels, return_counts=True)
    return ", ".join(f"{_name(names, int(c))}: {n}" for c, n in zip(classes, counts, strict=True)) or "nothing"
