"""Runs any .tflite file of kzoo on images and draws what it finds. One file to copy; needs no kzoo and no TensorFlow.

    pip install ai-edge-litert numpy pillow
    python kzoo_lite.py model.tflite photo.jpg folder/ --output found [--score 0.5] [--threads 2] [--json]

Pictures get the names of their images, numbered where another file or picture has the name; files in the folder stay,
but for pictures of an earlier call. Class names, input size and tiles are read from the model's file.

In a program of your own:

    model = Model("model.tflite")
    found = model(numpy.asarray(PIL.Image.open("photo.jpg").convert("RGB")))

A detector returns "boxes" (N, 4) x1, y1, x2, y2 in pixels of the image given, "labels" and "scores" (N,), best first; a
segmenter "labels" and "scores" (H, W).
"""

import argparse
import colorsys
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
DETECTOR = {"boxes", "labels", "scores", "num_detections"}
SEGMENTER = {"labels", "scores"}
# Of a file for MediaPipe Tasks: boxes y1, x1, y2, x2 in fractions of the image; each pixel's probabilities.
MEDIAPIPE_DETECTOR = {"detection_boxes", "detection_classes", "detection_scores", "num_detections"}
MEDIAPIPE_SEGMENTER = {"segmentation"}
DRAWN_BY = "kzoo_lite"  # stands in each picture, so that a later call knows what it may replace


class Model:
    """A detector or segmenter: `task` says which, `image_size` is the (height, width) of its input."""

    def __init__(self, path: str | Path, threads: int = 2):
        about = read_metadata(path)
        self.class_names: list[str] = about.get("class_names") or []
        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        (signature,) = self._interpreter.get_signature_list() or [None]
        if signature is None:
            raise ValueError(f"{path}: has no signature. Export it with kzoo.")
        runner = self._interpreter.get_signature_runner(signature)
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        del runner  # it shares its tensors with the interpreter, and would get in the way of invoke()
        names = set(outputs)
        if names not in (DETECTOR, SEGMENTER, MEDIAPIPE_DETECTOR, MEDIAPIPE_SEGMENTER) or len(inputs) != 1:
            raise ValueError(
                f"{path}: its inputs {sorted(inputs)} and outputs {sorted(outputs)} are not those of a detector or "
                "segmenter of kzoo."
            )
        self.task = "segmentation" if names in (SEGMENTER, MEDIAPIPE_SEGMENTER) else "detection"
        self._input = next(iter(inputs.values()))
        self._outputs = {name: details["index"] for name, details in outputs.items()}
        self.image_size = tuple(int(n) for n in self._input["shape"][1:3])
        self._tile_size, self._stride = about.get("tile_size"), about.get("stride") or 1

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What it finds in an image (H, W, 3), RGB 0..255 of any size."""
        if self.task == "detection":
            return self._detect(image)
        if self._tile_size:
            return tiles(image, self._run, self.image_size, self._tile_size, self._stride)
        found = self._run(resize(image, self.image_size))
        return {name: nearest(values, image.shape[:2]) for name, values in found.items()}

    def _detect(self, image: np.ndarray) -> dict[str, np.ndarray]:
        found = self._run(resize(image, self.image_size))
        height, width = image.shape[:2]
        if "detection_boxes" in found:
            boxes = found["detection_boxes"][:, [1, 0, 3, 2]] * np.array([width, height] * 2, np.float32)
            labels, scores = found["detection_classes"].astype(np.int32), found["detection_scores"]
        else:
            scale = np.array([width / self.image_size[1], height / self.image_size[0]] * 2, np.float32)
            boxes, labels, scores = found["boxes"] * scale, found["labels"], found["scores"]
        count = int(found["num_detections"])
        return {"boxes": boxes[:count], "labels": labels[:count], "scores": scores[:count]}

    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The file's outputs for one image (H, W, 3) float32 of its own size."""
        if self._input["dtype"] == np.uint8:
            image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        self._interpreter.set_tensor(self._input["index"], image[None])
        self._interpreter.invoke()
        found = {name: self._interpreter.get_tensor(index)[0] for name, index in self._outputs.items()}
        if "segmentation" not in found:
            return found
        return {"labels": found["segmentation"].argmax(-1).astype(np.int32), "scores": found["segmentation"].max(-1)}

    def name(self, label: int) -> str:
        return self.class_names[label] if label < len(self.class_names) else str(label)


def read_metadata(path: str | Path) -> dict:
    """What kzoo wrote into the file, in a zip archive behind the model; empty where there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "kzoo.json" in names:
                return json.loads(archive.read("kzoo.json"))
            if "labels.txt" in names:
                return {"class_names": archive.read("labels.txt").decode("utf-8").splitlines()}
    except zipfile.BadZipFile:
        pass
    return {}


def read_image(path: str | Path) -> np.ndarray:
    """RGB uint8 (H, W, 3), turned upright by its EXIF orientation; more than 8 bits are scaled by their percentiles."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I") or image.mode == "F":
            values = np.asarray(image, np.float32)
            low, high = np.percentile(values, (0.1, 99.9))
            scaled = (values - low) * (255 / max(high - low, 1e-6))
            grey = np.clip(np.rint(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        return np.asarray(image.convert("RGB"))


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) to (height, width), bilinear with antialiasing, float32; each channel alone, so without rounding."""
    if image.shape[:2] == tuple(size):
        return image.astype(np.float32)
    channels = (Image.fromarray(image[..., c].astype(np.float32)) for c in range(3))
    return np.stack([np.asarray(c.resize(size[::-1], Image.Resampling.BILINEAR)) for c in channels], axis=-1)


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) to (height, width), by the value under each new pixel's centre."""
    rows, columns = (
        ((np.arange(want) + 0.5) * have / want).astype(int) for have, want in zip(values.shape, size, strict=True)
    )
    return values[rows[:, None], columns]


def tiles(
    image: np.ndarray, run: Callable, input_size: tuple[int, int], tile_size: tuple[int, int], stride: int
) -> dict[str, np.ndarray]:
    """A segmenter whose labels are good in the centre of its input only: tile by tile, mirrored beyond the border."""
    starts = []
    for length, tile in zip(image.shape[:2], tile_size, strict=True):  # multiples of the stride cover the image
        last = max(0, -(-(length - tile) // stride) * stride)
        starts.append([*range(0, last, tile // stride * stride), last])
    reach = [places[-1] + tile for places, tile in zip(starts, tile_size, strict=True)]
    margins = [(a - b) // 2 for a, b in zip(input_size, tile_size, strict=True)]
    padding = [(margin, margin + end - side) for margin, end, side in zip(margins, reach, image.shape[:2], strict=True)]
    mirrored = np.pad(image, [*padding, (0, 0)], mode="reflect").astype(np.float32)
    result = {"labels": np.zeros(reach, np.int32), "scores": np.zeros(reach, np.float32)}
    for y in starts[0]:
        for x in starts[1]:
            found = run(mirrored[y : y + input_size[0], x : x + input_size[1]])
            for name, values in found.items():
                top, left = ((have - want) // 2 for have, want in zip(values.shape, tile_size, strict=True))
                part = values[top : top + tile_size[0], left : left + tile_size[1]]
                result[name][y : y + tile_size[0], x : x + tile_size[1]] = part
    return {name: values[: image.shape[0], : image.shape[1]] for name, values in result.items()}


def colour(label: int) -> tuple[int, int, int]:
    """A colour for each class: hues a golden angle apart."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb((0.02 + label * 0.381966) % 1, 0.8, 0.95))


def draw(image: np.ndarray, found: dict[str, np.ndarray], model: Model, score: float = 0.5) -> Image.Image:
    """The image with boxes that score at least `score`, or with its classes coloured and named."""
    if model.task == "segmentation":
        classes = np.unique(found["labels"])
        palette = np.array([colour(label) for label in range(int(classes.max()) + 1)], np.float32)
        picture = Image.fromarray((0.55 * image + 0.45 * palette[found["labels"]]).astype(np.uint8))
        for row, label in enumerate(classes):
            _tag(picture, (4, 4 + 18 * row), model.name(int(label)), colour(int(label)))
        return picture
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    keep = found["scores"] >= score
    for box, label, value in zip(*(found[key][keep][::-1] for key in ("boxes", "labels", "scores")), strict=True):
        x1, y1, x2, y2 = (float(v) for v in box)
        pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour(int(label)), width=2)
        _tag(picture, (x1, max(0.0, y1 - 16)), f"{model.name(int(label))} {value:.2f}", colour(int(label)))
    return picture


def _tag(picture: Image.Image, place: tuple[float, float], text: str, fill: tuple[int, int, int]) -> None:
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    x1, y1, x2, y2 = pen.textbbox(place, text, font)
    pen.rectangle((x1 - 2, y1 - 2, x2 + 2, y2 + 2), fill=fill)
    pen.text(place, text, "black", font)


def summary(found: dict[str, np.ndarray], model: Model, score: float) -> dict:
    """What `--json` prints of an image; boxes below the score are left out."""
    if model.task == "segmentation":
        labels, counts = np.unique(found["labels"], return_counts=True)
        return {"pixels": {model.name(int(label)): int(n) for label, n in zip(labels, counts, strict=True)}}
    keep = found["scores"] >= score
    return {
        "detections": [
            {
                "name": model.name(int(label)),
                "label": int(label),
                "score": round(float(value), 6),
                "box": [round(float(v), 4) for v in box],
            }
            for box, label, value in zip(*(found[key][keep] for key in ("boxes", "labels", "scores")), strict=True)
        ]
    }


def images_in(given: list[Path], output: Path | None) -> Iterator[Path]:
    """The images meant by the arguments; folders are searched to the bottom, but for the one the pictures go to."""
    own = output.resolve() if output else None
    for path in given:
        if not path.is_dir():
            yield path
            continue
        inside = [one for one in sorted(path.rglob("*")) if one.suffix.lower() in SUFFIXES and one.is_file()]
        others = [one for one in inside if own not in one.resolve().parents]
        if inside and not others:
            raise ValueError(f"{path}: is where the pictures go to. Give another folder as --output.")
        if not others:
            raise ValueError(f"{path}: holds no image ({', '.join(SUFFIXES)}). Give another folder.")
        yield from others


def places(images: list[Path], output: Path) -> dict[Path, Path]:
    """Where each picture goes: under the image's own name, numbered where that is taken.

    Files in the output's folder stay, but for pictures of an earlier call that are no images of this one.
    """
    given = {path.resolve() for path in images}
    taken = {path.name.lower() for path in output.iterdir() if path.resolve() in given or not was_drawn(path)}
    result = {}
    for path in dict.fromkeys(images):
        name, number = f"{path.stem}.png", 1
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}.png"
        taken.add(name.lower())
        result[path] = output / name
    return result


def was_drawn(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == DRAWN_BY
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description="Draws what a .tflite file of kzoo finds in images.")
    parser.add_argument("model", type=Path, help="a .tflite file that kzoo exported")
    parser.add_argument("images", type=Path, nargs="+", help="images, or folders of images")
    parser.add_argument("--output", "-o", type=Path, help="folder for the pictures")
    parser.add_argument("--score", type=float, default=0.5, help="leave out what scores less [0.5]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one line of JSON an image")
    options = parser.parse_args()
    try:
        return run(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    model = Model(options.model, options.threads)
    images = list(images_in(options.images, options.output))
    pictures = {}
    if options.output:
        if options.output.is_file():
            raise ValueError(f"{options.output}: is a file, and --output wants a folder.")
        options.output.mkdir(parents=True, exist_ok=True)
        pictures = places(images, options.output)
    unreadable = 0
    for path in images:
        try:
            image = read_image(path)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            print(f"passed over {path}: {error}", file=sys.stderr)
            unreadable += 1
            continue
        start = time.perf_counter()
        found = model(image)
        milliseconds = 1000 * (time.perf_counter() - start)
        said = summary(found, model, options.score)
        if options.json:
            print(json.dumps({"file": str(path), **said, "ms": round(milliseconds, 2)}, ensure_ascii=False))
        else:
            parts = said.get("pixels") or [f"{one['name']} {one['score']:.2f}" for one in said["detections"]]
            print(f"{path}: {', '.join(parts) or 'nothing'} ({milliseconds:.0f} ms)")
        if options.output:
            about = PngImagePlugin.PngInfo()
            about.add_text("Software", DRAWN_BY)
            draw(image, found, model, options.score).save(pictures[path], pnginfo=about)
    return 1 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
