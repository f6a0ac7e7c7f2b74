"""Exported files as plain functions: float32 pixels of the network's size in, arrays out, the same for every format.

A .tflite file runs without TensorFlow and Keras: this module imports NumPy and, when asked, what runs the format.
"""

import os
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kzoo.export.metadata import read_metadata
from kzoo.messages import missing_package

DETECTIONS = ("boxes", "labels", "scores", "num_detections")
SEGMENTS = ("labels", "scores")
# The outputs of a file that was written for MediaPipe Tasks: see `kzoo.export.mediapipe`.
MEDIAPIPE_DETECTIONS = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
MEDIAPIPE_SEGMENTS = ("segmentation",)
BATCH = 8  # images at once through a SavedModel; bounds the memory, hardly costs time on a CPU


class LiteRTFile:
    """A .tflite file in ai-edge-litert's interpreter, image by image.

    Attributes of every format:
        path, metadata; image_size: (height, width) of the input; batch_size: how many images `run` takes at most;
        shapes: the shape of each output, whose names are `DETECTIONS` or `SEGMENTS`.
    """

    format = "LiteRT"
    batch_size = BATCH

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
        outputs = {}
        for signature in self._interpreter.get_signature_list():
            runner = self._interpreter.get_signature_runner(signature)
            outputs = runner.get_output_details()
            self._input, *others = runner.get_input_details().values()
            del runner  # it would share its tensors with the interpreter, and get in the way of invoke()
            if set(SEGMENTS) <= outputs.keys() and not others:
                break
        names = litert_outputs(path, outputs)
        shape = tuple(int(n) for n in self._input["shape"])
        if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or self._input["dtype"] not in (np.float32, np.uint8):
            raise ValueError(
                f"{path}: expected an input (1, H, W, 3) of float32 or uint8 pixels, "
                f"got {shape} of {np.dtype(self._input['dtype'])}. Export it with kzoo.export.litert."
            )
        self.path = path
        self.metadata = read_metadata(path)
        self.image_size = shape[1:3]
        self._turn = threading.Lock()  # an interpreter answers one thread at a time
        self._outputs = {name: outputs[name]["index"] for name in names}
        empty = {name: np.zeros(outputs[name]["shape"], outputs[name]["dtype"]) for name in names}
        self.shapes = {name: value.shape for name, value in self._named(empty).items()}

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs for float32 inputs (B, *image_size, 3), B at least 1."""
        if self._input["dtype"] == np.uint8:
            inputs = np.clip(np.rint(inputs), 0, 255).astype(np.uint8)
        rows = []
        for image in inputs:
            with self._turn:
                self._interpreter.set_tensor(self._input["index"], image[None])
                self._interpreter.invoke()
                rows.append([self._interpreter.get_tensor(index)[0] for index in self._outputs.values()])
        return self._named(dict(zip(self._outputs, map(np.stack, zip(*rows, strict=True)), strict=True)))

    def _named(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """MediaPipe's outputs as kzoo's; kzoo's own as they are."""
        if found.keys() == set(MEDIAPIPE_SEGMENTS):
            scores = found["segmentation"]
            return {"labels": scores.argmax(-1).astype(np.int32), "scores": scores.max(-1)}
        if found.keys() != set(MEDIAPIPE_DETECTIONS):
            return found
        height, width = self.image_size
        count = found["num_detections"].astype(np.int32)
        filled = np.arange(found["detection_scores"].shape[1]) < count[:, None]
        boxes = found["detection_boxes"][..., [1, 0, 3, 2]] * np.array([width, height] * 2, np.float32)
        return {
            "boxes": np.where(filled[..., None], boxes, 0),
            "labels": np.where(filled, found["detection_classes"].astype(np.int32), -1),
            "scores": np.where(filled, found["detection_scores"], 0),
            "num_detections": count,
        }


class SavedModelFolder:
    """A SavedModel folder in TensorFlow; attributes as of `LiteRTFile`."""

    format = "SavedModel"

    def __init__(self, path: Path):
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(missing_package("tensorflow", "tensorflow", "Running a SavedModel")) from error
        self._model = tf.saved_model.load(str(path))
        if "serving_default" not in self._model.signatures:
            raise ValueError(f"{path}: has no signature serving_default. Export it with kzoo.export.saved_model.")
        self._function = self._model.signatures["serving_default"]
        outputs = self._function.structured_outputs
        self._names = required_outputs(path, outputs)
        ((self._input, spec),) = self._function.structured_input_signature[1].items()
        self._fixed = spec.shape[0] is not None
        self.path = path
        self.metadata = read_metadata(path)
        size = tuple(spec.shape[1:3])
        self.image_size = tuple(self.metadata.get("image_size", size)) if None in size else size
        if None in self.image_size:
            raise ValueError(f"{path}: its input has no fixed size. Export it with kzoo.export.saved_model.")
        self.batch_size = spec.shape[0] or BATCH
        self.shapes = {name: tuple(outputs[name].shape) for name in self._names}

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        import tensorflow as tf

        count = len(inputs)
        if self._fixed:
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], self.batch_size - count, axis=0)])
        found = self._function(**{self._input: tf.constant(inputs, tf.float32)})
        return {name: found[name].numpy()[:count] for name in self._names}


class KerasFile:
    """A .keras file in Keras; `model` is the Keras model itself, the other attributes as of `LiteRTFile`."""

    format = "Keras"
    batch_size = BATCH

    def __init__(self, path: Path):
        from kzoo.export.metadata import describe
        from kzoo.models.files import read_keras_file

        self.model = read_keras_file(path, compile=False)
        if not hasattr(self.model, "detect") and not hasattr(self.model, "segment"):
            raise ValueError(
                f"{path}: holds a {type(self.model).__name__}, which is no detector and no segmenter (it has no "
                "`detect` or `segment`)."
            )
        self.path = path
        self.image_size = tuple(self.model.image_size)
        self.metadata = describe(self.model)
        nothing = self.run(np.zeros((0, *self.image_size, 3), np.float32))
        self.shapes = {name: value.shape for name, value in nothing.items()}

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self.model.infer(inputs) if hasattr(self.model, "infer") else self.model.detect(inputs)


def litert_outputs(path: Path, outputs: Iterable[str]) -> tuple[str, ...]:
    """The names of a .tflite file's outputs, in kzoo's form or in MediaPipe's; raises as `required_outputs` does."""
    for names in (MEDIAPIPE_DETECTIONS, MEDIAPIPE_SEGMENTS):
        if set(names) == outputs.keys():
            return names
    return required_outputs(path, outputs)


def required_outputs(path: Path, outputs: Iterable[str]) -> tuple[str, ...]:
    """`DETECTIONS` or `SEGMENTS`, whichever a file has.

    Raises:
        ValueError: naming what is missing.
    """
    if set(DETECTIONS) <= outputs.keys():
        return DETECTIONS
    if set(SEGMENTS) <= outputs.keys() and "boxes" not in outputs:
        return SEGMENTS
    missing = [name for name in DETECTIONS if name not in outputs]
    raise ValueError(
        f"{path}: is no detector of kzoo, its outputs {sorted(outputs)} lack {', '.join(missing)}, and no segmenter. "
        "Export it with kzoo.export."
    )
