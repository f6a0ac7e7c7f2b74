"""A detector as one .tflite file for LiteRT (TensorFlow Lite): phones, browsers, small boards."""

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo import images as kzoo_images
from kzoo.export import flatbuffer, mediapipe, metadata, writing
from kzoo.export.quantize import quantize
from kzoo.layers.kernels import portable_operators
from kzoo.messages import unknown_name

FORMS = ("kzoo", "mediapipe")


def litert(
    model: keras.Model,
    path: str | Path,
    quantization: str | None = None,
    calibration: Iterable | None = None,
    samples: int = 100,
    form: str = "kzoo",
) -> Path:
    """Writes the whole detector, pixels in and detections out, as a .tflite file with built-in operators only.

    The file takes `image` (1, H, W, 3) float32, pixels 0..255, and returns `boxes` (1, K, 4) in pixels, `labels`,
    `scores` (1, K) and `num_detections` (1,), all of fixed shape, float32 and int32 whatever the quantization. It
    carries its class names, input size and model name (`kzoo.export.read_metadata`).

    Args:
        model: a detector of `kzoo.models` under the TensorFlow backend; one under mixed precision is written in
            float32.
        path: the file to write, ending in .tflite; it is replaced when the new one is complete.
        quantization: None (float32), "float16" (half the size, the same results to three digits), "dynamic" (int8
            weights) or "int8" (int8 weights and activations; a quarter of the size, and fast on phones).
        calibration: images that look like those to come, for "int8": a data set of `kzoo.data.load`, an array (N, H, W,
            3), or any iterable of images or batches. Other sizes than the model's are resized.
        samples: how many images of `calibration` to use, at most.
        form: "kzoo", or "mediapipe" for a file that opens in MediaPipe Tasks' ObjectDetector or ImageSegmenter, with
            outputs as those want them and their metadata inside; `kzoo.export.load` runs both.

    Returns:
        The path.

    Raises:
        ValueError: for an unknown `form` or `quantization`, "int8" without `calibration`, or operators that LiteRT
            lacks.
    """
    path = Path(path)
    if quantization not in metadata.QUANTIZATIONS:
        raise ValueError(unknown_name("quantization", quantization, [str(q) for q in metadata.QUANTIZATIONS]))
    if form not in FORMS:
        raise ValueError(unknown_name("form", form, FORMS))
    if quantization == "int8" and calibration is None:
        raise ValueError(
            "int8 needs images to calibrate on: give calibration=data (--data DATA), or take quantization='dynamic'."
        )
    if path.suffix != ".tflite":
        raise ValueError(f"{path}: the name of a LiteRT file ends in .tflite. Write to {path.with_suffix('.tflite')}.")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder. Give the name of a file.")
    size = metadata.image_size(model)
    inputs = _started(calibration_inputs(calibration, size, samples)) if quantization == "int8" else ()
    network = mediapipe.network(model) if form == "mediapipe" else writing.inference_model(model)
    content = convert(network, size)
    flatbuffer.require_builtin(content, path)
    if quantization is not None:
        content = quantize(content, quantization, inputs)
    about = metadata.describe(model, quantization)
    if form == "mediapipe":
        content = mediapipe.with_metadata(content, about, metadata.LABELS_NAME)
    _try_run(content, path)
    return writing.write_file(path, metadata.attach(content, about))


def convert(network: keras.Model, size: tuple[int, int]) -> bytes:
    """The bytes of a float32 .tflite model of `network`, for one image of `size` = (height, width).

    A fixed batch of one: with an open batch the runtime splits the graph and runs it several times slower.
    """
    archive = keras.export.ExportArchive()
    archive.track(network)
    spec = tf.TensorSpec((1, *size, 3), tf.float32, name="image")
    with portable_operators(), tempfile.TemporaryDirectory() as folder:
        archive.add_endpoint("serve", lambda image: network(image, training=False), [spec])
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.allow_custom_ops = True  # only so that the check afterwards can name them
        return converter.convert()


def calibration_inputs(calibration: Iterable, size: tuple[int, int], samples: int) -> Iterator[np.ndarray]:
    """Yields at most `samples` inputs (1, H, W, 3) float32 from a data set, from batches or from single images."""
    given = 0
    if isinstance(calibration, tuple) and len(calibration) == 2 and _are_targets(calibration[1]):
        calibration = [calibration]
    for item in calibration:
        if given >= samples:  # before the next batch would be loaded, and for samples=0
            return
        batch = np.asarray(item[0] if isinstance(item, tuple | list) else item)
        if batch.ndim == 3:
            batch = batch[None]
        if batch.ndim != 4 or batch.shape[-1] != 3:
            raise ValueError(
                f"calibration: expected RGB images (H, W, 3) or batches of them, got the shape {batch.shape}."
            )
        for image in batch[: samples - given]:
            given += 1
            yield kzoo_images.resize(image, size)[None]


def _are_targets(given: object) -> bool:
    """Are these the second of (images, targets): a dict of a detector's, or masks (B, H, W)?"""
    return isinstance(given, Mapping) or (np.ndim(given) == 3 and np.shape(given)[-1] != 3)


def _started(inputs: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same inputs, the first of them read: a fault in the data shows before the minutes of conversion."""
    first = next(inputs, None)
    if first is None:
        raise ValueError("int8: no image to calibrate on. Give calibration=data with at least one image.")
    return itertools.chain([first], inputs)


def _try_run(content: bytes, path: Path) -> None:
    """Runs the model once on a grey image, so that no file is written that the runtime refuses."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        (image,) = interpreter.get_input_details()
        interpreter.set_tensor(image["index"], np.full(image["shape"], 127, image["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not written, LiteRT cannot run the converted model: {error}") from error
