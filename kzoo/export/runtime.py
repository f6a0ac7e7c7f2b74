"""Running an exported file: the same `detect` or `segment` for a .tflite file, a SavedModel folder and a .keras file.

A .tflite file runs without TensorFlow and Keras: this module imports NumPy, Pillow and, when asked, ai-edge-litert.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kzoo import images as kzoo_images
from kzoo import run_files, tiling
from kzoo.export.formats import BATCH, DETECTIONS, KerasFile, LiteRTFile, SavedModelFolder


def load(path: str | Path, threads: int | None = None) -> "FileDetector | FileSegmenter":
    """Loads an exported detector or segmenter.

    Args:
        path: a .tflite file, a SavedModel folder, a .keras file, or a run folder (its `best.keras`).
        threads: threads of the LiteRT interpreter; by default all cores, four at most. The other formats follow
            TensorFlow's settings.

    Returns:
        A detector: `detect(images)` takes RGB pixels 0..255, an array (B, H, W, 3) of any integer or float dtype and
        any size or a list of images of different sizes, and returns `boxes` (B, K, 4) xyxy in pixels of the image
        given, `labels` (B, K) with −1 where empty, `scores` (B, K) and `num_detections` (B,) as NumPy arrays, best
        first. Or a segmenter: `segment(images)` takes an array (B, H, W, 3) and returns `labels` and `scores` (B, H,
        W), in overlapping tiles where the model does so. Both have `image_size`, `class_names`, `num_classes`, `name`,
        `metadata`.

    Raises:
        ValueError: if there is no such file, or it holds neither.
        ImportError: if the package that runs the format is missing.

    Example:
        >>> detector = kzoo.export.load("model.tflite", threads=2)
        >>> found = detector.detect(kzoo.images.read_image("street.jpg")[None])
    """
    file = _open(Path(path), threads)
    if not set(DETECTIONS) <= file.shapes.keys():
        return FileSegmenter(file)
    extra = getattr(getattr(file, "model", None), "extra_targets", ())
    return (FileDetectorOfProposals if "proposals" in extra else FileDetector)(file)


def _open(path: Path, threads: int | None):
    if path.is_dir() and (path / run_files.BEST).is_file():
        path = path / run_files.BEST
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ValueError(
                f"{path}: holds neither a SavedModel nor {run_files.BEST}. Give a run, a SavedModel or a file."
            )
        return SavedModelFolder(path)
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file or folder. Give a .tflite or .keras file, a SavedModel or a run folder."
        )
    if path.suffix == ".tflite":
        return LiteRTFile(path, threads)
    if path.suffix == ".keras":
        return KerasFile(path)
    raise ValueError(
        f"{path}: cannot tell the format from {path.suffix!r}. Known: .tflite, .keras, a SavedModel folder."
    )


class FileModel:
    """What detectors and segmenters of all formats share; `model` is the Keras model of a .keras file."""

    def __init__(self, file):
        self.file = file
        self.path = file.path
        self.format = file.format
        self.metadata = file.metadata if file.format != "Keras" else {}
        self.name = file.metadata.get("name") or file.path.stem
        self.class_names = file.metadata.get("class_names")
        self.num_classes = file.metadata.get("num_classes")
        self.image_size = file.image_size
        if hasattr(file, "model"):
            self.model = file.model

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"<{type(self).__name__} {self.name!r} {height} x {width}, {self.path}>"


class FileDetector(FileModel):
    """A detector of any format: any image size in, boxes in pixels of the given image out."""

    def detect(self, images: np.ndarray | Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Finds objects; see `load` for what goes in and comes out."""
        most = self.file.shapes["boxes"][1] or 0
        return detect_any_size(images, self.image_size, self.file.run, most, self.file.batch_size)


class FileDetectorOfProposals(FileDetector):
    """Fast R-CNN's .keras file, whose detections are among proposals: those given, or selective search's."""

    def detect(self, images: np.ndarray, proposals: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Finds objects; `proposals` (B, P, 4) xyxy pixels of the images given, which then have one size."""
        return super().detect(images) if proposals is None else self.model.detect(images, proposals)


class FileSegmenter(FileModel):
    """A segmenter of any format: any image size in, labels of its pixels out."""

    def segment(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Labels each pixel; see `load` for what goes in and comes out."""
        tile, stride = self.file.metadata.get("tile_size"), self.file.metadata.get("stride") or 1
        size = None if tile is None else tuple(tile)
        return tiling.segment_any_size(images, self.file.run, self.image_size, size, stride, self.file.batch_size)


def detect_any_size(
    images: np.ndarray | Sequence[np.ndarray],
    size: tuple[int, int],
    run: Callable[[np.ndarray], dict[str, np.ndarray]],
    max_detections: int = 0,
    batch_size: int = BATCH,
) -> dict[str, np.ndarray]:
    """Resizes images to `size`, runs a detector of that size on them and maps its boxes back to the images.

    Args:
        images: an array (B, H, W, 3) or a list of (H, W, 3), pixels 0..255.
        size: (height, width) of the network's image.
        run: takes (B, height, width, 3) float32, returns detections with boxes in pixels of that image.
        max_detections: K of the result where there is no image at all.
        batch_size: images handed to `run` at once, at most.

    Raises:
        ValueError: if the images are not RGB in that layout.
    """
    images = list(images) if isinstance(images, list | tuple) else np.asarray(images)
    shapes = {np.shape(image) for image in images}
    if any(len(shape) != 3 or shape[2] != 3 or 0 in shape for shape in shapes):
        hint = " Add an axis for the batch: images[None]." if np.ndim(images) == 3 else ""
        got = np.shape(images) if isinstance(images, np.ndarray) else sorted(shapes, key=str)
        raise ValueError(f"images: expected RGB (B, H, W, 3) or a list of (H, W, 3), got {got}.{hint}")
    parts = []
    for start in range(0, len(images), batch_size):
        chunk = [np.asarray(image) for image in images[start : start + batch_size]]
        found = run(np.stack([kzoo_images.resize(image, size) for image in chunk]))
        scale = np.array([[w / size[1], h / size[0]] * 2 for h, w in (image.shape[:2] for image in chunk)], np.float32)
        parts.append(
            {**{name: np.asarray(found[name]) for name in DETECTIONS}, "boxes": found["boxes"] * scale[:, None]}
        )
    if not parts:
        return {
            "boxes": np.zeros((0, max_detections, 4), np.float32),
            "labels": np.zeros((0, max_detections), np.int32),
            "scores": np.zeros((0, max_detections), np.float32),
            "num_detections": np.zeros(0, np.int32),
        }
    return {name: np.concatenate([part[name] for part in parts]) for name in DETECTIONS}
