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


# What becomes of an image: its entry in predictions.json, and the objects found in it.
Looked = tuple[dict[str, Any], list[dict[str, Any]]]


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
    network = targets.load(model)
    masks = hasattr(network, "segment")
    places = _places(sources, output, masks)
    listed: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    if masks:
        from kzoo.cli.predict_masks import segment_images

        about: dict[str, Any] = {"mask_format": "index PNG, a pixel's number is its class's id"}
        looked_at = segment_images(network, _read(sources, unreadable), places, pictures)
    else:
        from kzoo.cli.predict_boxes import detect_images

        about = {"score_threshold": score, "box_format": "x1, y1, x2, y2 in pixels of the upright image"}
        starts = range(0, len(sources), _CHUNK)
        chunks = (list(_read(sources[start : start + _CHUNK], unreadable)) for start in starts)
        looked_at = detect_images(network, chunks, places, score, pictures)
    try:
        for entry, objects in looked_at:
            listed.append(entry)
            detections += objects
    finally:  # after an interrupt, too: what was found is kept, and the next call knows which pictures it may replace
        if listed:
            categories = [{"id": i, "name": name} for i, name in enumerate(network.class_names or [])]
            found = {"images": listed} if masks else {"images": listed, "detections": detections}
            content = {"model": str(model), **about, "categories": categories, **found, "unreadable": unreadable}
            _finish(output, content)
    if not listed:
        raise ValueError(f"Nothing could be read of {counted(len(sources), 'image')}. First: {unreadable[0]['reason']}")


def _finish(output: Path, content: dict[str, Any]) -> None:
    """Writes predictions.json and says what was found and what could not be read."""
    from kzoo.report import files

    path = files.write_json(output / PREDICTIONS, content)
    for one in content["unreadable"]:
        console.warn(f"passed over {one['reason']}")
    objects = f"{counted(len(content['detections']), 'object')}, " if "detections" in content else ""
    pictures = f", pictures in {output}" if "picture" in content["images"][0] else ""
    console.say(f"{objects}{counted(len(content['images']), 'image')}: {path}{pictures}")


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
