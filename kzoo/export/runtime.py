"""Running an exported file as a detector: the same `detect` for a .tflite file, a SavedModel folder and a .keras file.

A .tflite file runs without TensorFlow and Keras: this module imports NumPy, Pillow and, when asked, ai-edge-litert.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kzoo import images as kzoo_images
from kzoo.export.metadata import read_metadata
from kzoo.messages import missing_package

OUTPUTS = ("boxes", "labels", "scores", "num_detections")
BATCH = 8  # images at once through a SavedModel; bounds the memory, hardly costs time on a CPU


def load(path: str | Path, threads: int | None = None):
    """Loads an exported detector.

    Args:
        path: a .tflite file, a SavedModel folder, a .keras file, or a run folder (its `best.keras`).
        threads: threads of the LiteRT interpreter; by default all cores, four at most. The other formats follow
            TensorFlow's settings.

    Returns:
        A detector: `detect(images)` takes RGB pixels 0..255, an array (B, H, W, 3) of any integer or float dtype and
        any size or a list of images of different sizes, and returns `boxes` (B, K, 4) xyxy in pixels of the image
        given, `labels` (B, K) with −1 where empty, `scores` (B, K) and `num_detections` (B,) as NumPy arrays, best
        first. Also `image_size`, `class_names`, `num_classes`, `name`, `metadata`.

    Raises:
        ValueError: if there is no such file, or it holds no detector.
        ImportError: if the package that runs the format is missing.

    Example:
        >>> detector = kzoo.export.load("model.tflite", threads=2)
        >>> found = detector.detect(kzoo.images.read_image("street.jpg")[None])
    """
    path = Path(path)
    if path.is_dir() and (path / "best.keras").is_file():
        path = path / "best.keras"
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"{path}: holds neither a SavedModel nor best.keras. Give a run, a SavedModel or a file.")
        return SavedModelDetector(path)
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file or folder. Give a .tflite or .keras file, a SavedModel or a run folder."
        )
    if path.suffix == ".tflite":
        return LiteRTDetector(path, threads)
    if path.suffix == ".keras":
        return KerasDetector(path)
    raise ValueError(
        f"{path}: cannot tell the format from {path.suffix!r}. Known: .tflite, .keras, a SavedModel folder."
    )


class FileDetector:
    """What the detectors of all formats share: any image size in, boxes in pixels of the given image out."""

    def __init__(self, path: Path, image_size: tuple[int, int], max_detections: int, batch_size: int = BATCH):
        self.path = path
        self.metadata = read_metadata(path) if path.suffix != ".keras" else {}
        self.name = self.metadata.get("name") or path.stem
        self.class_names = self.metadata.get("class_names")
        self.num_classes = self.metadata.get("num_classes")
        self.image_size = image_size
        self.max_detections = max_detections
        self.batch_size = batch_size

    def detect(self, images) -> dict[str, np.ndarray]:
        """Finds objects; see `load` for what goes in and comes out."""
        return detect_any_size(images, self.image_size, self._run, self.max_detections, self.batch_size)

    def _run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Detections in pixels of the network's image, for float32 inputs (B, *image_size, 3)."""
        raise NotImplementedError

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"<{type(self).__name__} {self.name!r} {height} x {width}, {self.path}>"


class LiteRTDetector(FileDetector):
    """A .tflite file in ai-edge-litert's interpreter, image by image."""

    def __init__(self, path: Path, threads: int | None = None):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(missing_package("ai-edge-litert", "tensorflow", "Running a .tflite file")) from error
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, got {threads}.")
        try:
            self._interpreter = Interpreter(str(path), num_threads=threads or min(4, os.cpu_count() or 1))
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: not a LiteRT model that runs here ({error}). Export it again.") from error
        signatures = self._interpreter.get_signature_list()
        outputs = {}
        for signature in signatures:
            runner = self._interpreter.get_signature_runner(signature)
            outputs = runner.get_output_details()
            self._input, *others = runner.get_input_details().values()
            del runner  # it would share its tensors with the interpreter, and get in the way of invoke()
            if set(OUTPUTS) <= outputs.keys() and not others:
                break
        _require_detections(path, outputs)
        shape = tuple(int(n) for n in self._input["shape"])
        if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or self._input["dtype"] not in (np.float32, np.uint8):
            raise ValueError(
                f"{path}: expected an input (1, H, W, 3) of float32 or uint8 pixels, "
                f"got {shape} of {np.dtype(self._input['dtype'])}. Export it with kzoo.export.litert."
            )
        self._outputs = {name: outputs[name]["index"] for name in OUTPUTS}
        super().__init__(path, shape[1:3], int(outputs["boxes"]["shape"][1]))

    def _run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        if self._input["dtype"] == np.uint8:
            inputs = np.clip(np.rint(inputs), 0, 255).astype(np.uint8)
        rows = []
        for image in inputs:
            self._interpreter.set_tensor(self._input["index"], image[None])
            self._interpreter.invoke()
            rows.append([self._interpreter.get_tensor(index)[0] for index in self._outputs.values()])
        return dict(zip(self._outputs, map(np.stack, zip(*rows, strict=True)), strict=True))


class SavedModelDetector(FileDetector):
    """A SavedModel folder in TensorFlow."""

    def __init__(self, path: Path):
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(missing_package("tensorflow", "tensorflow", "Running a SavedModel")) from error
        self._model = tf.saved_model.load(str(path))
        if "serving_default" not in self._model.signatures:
            raise ValueError(f"{path}: has no signature serving_default. Export it with kzoo.export.saved_model.")
        self._function = self._model.signatures["serving_default"]
        inputs = self._function.structured_input_signature[1]
        _require_detections(path, self._function.structured_outputs)
        ((self._name, spec),) = inputs.items()
        self._fixed = spec.shape[0] is not None
        size = tuple(spec.shape[1:3])
        if None in size:
            size = tuple(read_metadata(path).get("image_size", size))
        if None in size:
            raise ValueError(f"{path}: its input has no fixed size. Export it with kzoo.export.saved_model.")
        max_detections = self._function.structured_outputs["boxes"].shape[1]
        super().__init__(path, size, max_detections or 0, spec.shape[0] or BATCH)

    def _run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        import tensorflow as tf

        count = len(inputs)
        if self._fixed:
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], self.batch_size - count, axis=0)])
        found = self._function(**{self._name: tf.constant(inputs, tf.float32)})
        return {name: found[name].numpy()[:count] for name in OUTPUTS}


class KerasDetector(FileDetector):
    """A .keras file in Keras; `model` is the Keras model itself."""

    def __init__(self, path: Path):
        import keras

        import kzoo.models  # noqa: F401  (registers the models, so that Keras can build them)

        self.model = keras.models.load_model(path, compile=False)
        if not hasattr(self.model, "detect"):
            raise ValueError(f"{path}: holds a {type(self.model).__name__}, which is no detector (it has no `detect`).")
        size = tuple(self.model.image_size)
        nothing = self.model.detect(np.zeros((0, *size, 3), np.float32))
        super().__init__(path, size, nothing["boxes"].shape[1])
        self.name = self.model.name
        self.class_names = self.model.class_names
        self.num_classes = self.model.num_classes

    def _run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self.model.detect(inputs)


def detect_any_size(
    images,
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
        parts.append({**{name: np.asarray(found[name]) for name in OUTPUTS}, "boxes": found["boxes"] * scale[:, None]})
    if not parts:
        return {
            "boxes": np.zeros((0, max_detections, 4), np.float32),
            "labels": np.zeros((0, max_detections), np.int32),
            "scores": np.zeros((0, max_detections), np.float32),
            "num_detections": np.zeros(0, np.int32),
        }
    return {name: np.concatenate([part[name] for part in parts]) for name in OUTPUTS}


def _require_detections(path: Path, outputs) -> None:
    missing = [name for name in OUTPUTS if name not in outputs]
    if missing:
        raise ValueError(
            f"{path}: is no detector of kzoo, its outputs {sorted(outputs)} lack {', '.join(missing)}. "
            "Export it with kzoo.export."
        )
