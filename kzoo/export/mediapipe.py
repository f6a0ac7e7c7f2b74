"""The form in which MediaPipe Tasks wants a model: its outputs, and the metadata that says what they mean.

ObjectDetector wants boxes y1, x1, y2, x2 in fractions of the image, classes and scores as floats, and their number, all
of which a kzoo detector has under other names, so that any detector will do and finds exactly what it finds elsewhere;
ImageSegmenter wants the probability of each class in each pixel.

The metadata is a flatbuffer of its own (TensorFlow Lite's metadata schema), kept in a buffer of the model. MediaPipe
reads from it how to normalise pixels (not at all: the network does that itself), which output is which, and that
`labels.txt`, in the archive behind the model, names the classes.
"""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import keras
import numpy as np
from keras import layers, ops

from kzoo.export import writing

BUFFER_NAME = "TFLITE_METADATA"
PARSER_VERSION = "1.0.0"  # the oldest parser that understands all of it

# Numbers of the schema's enumerations and unions.
_RGB, _GREYSCALE = 1, 2
_FEATURE, _IMAGE, _BOUNDING_BOX = 1, 2, 3
_NORMALIZATION = 1
_AXIS_LABELS, _VALUE_LABELS = 2, 3
_BOUNDARIES = 1
_OUTPUTS = {
    # The tasks find the tensors by these names.
    "detection_boxes": "location",
    "detection_classes": "category",
    "detection_scores": "score",
    "num_detections": "number of detections",
    "segmentation": "segmentation_masks",
}


def network(model: keras.Model) -> keras.Model:
    """The graph from raw pixels to MediaPipe's outputs, in float32.

    Raises:
        ValueError: for a segmenter that labels less than the whole image.
    """
    whole = writing.inference_model(model)
    if hasattr(model, "segment"):
        model = writing.as_float32(model)
        image = keras.Input((*model.image_size, 3), dtype="float32", name="image")
        logits = model(image)
        if tuple(logits.shape[1:3]) != tuple(model.image_size):
            raise ValueError(
                f"{model.name} labels {logits.shape[1]} x {logits.shape[2]} pixels of {model.image_size[0]} x "
                f"{model.image_size[1]}, which MediaPipe would stretch over the image. Train with padding='same'."
            )
        scores = layers.Softmax(dtype="float32", name="postprocess_softmax")(logits)
        return keras.Model(image, {"segmentation": scores}, name=f"{model.name}_mediapipe")
    found = whole.output
    height, width = model.image_size
    boxes = ops.take(found["boxes"], (1, 0, 3, 2), axis=-1) / np.array([height, width] * 2, "float32")
    outputs = {
        "detection_boxes": boxes,
        "detection_classes": ops.cast(ops.maximum(found["labels"], 0), "float32"),
        "detection_scores": found["scores"],
        "num_detections": ops.cast(found["num_detections"], "float32"),
    }
    return keras.Model(whole.input, outputs, name=f"{model.name}_mediapipe")


def with_metadata(content: bytes, about: dict, labels_name: str) -> bytes:
    """The same .tflite model with MediaPipe's metadata in it.

    Args:
        content: a model of `network`.
        about: of `kzoo.export.metadata.describe`.
        labels_name: of the file with the class names that will stand in the archive behind the model.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    for stored in model.buffers:
        if stored.offset > 1:  # the quantizer puts large weights behind the tables, where packing would lose them
            stored.data = np.frombuffer(content, np.uint8, stored.size, stored.offset)
            stored.offset = stored.size = 0
    (signature,) = model.signatureDefs
    names = {one.tensorIndex: one.name.decode() for one in signature.outputs}
    outputs = [names[index] for index in model.subgraphs[0].outputs]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata(about, outputs, labels_name), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = BUFFER_NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def metadata(about: dict, outputs: Sequence[str], labels_name: str) -> bytes:
    """The metadata's flatbuffer, for outputs in the order in which the model has them."""
    b = flatbuffers.Builder(1024)
    labels = labels_name if about.get("class_names") else None
    inputs = _vector(b, [_image_input(b)])
    tensors = _vector(b, [_output(b, name, labels) for name in outputs])
    subgraph = _table(b, 10, (2, inputs), (3, tensors))
    fields = (0, b.CreateString(about["name"])), (2, b.CreateString(about["kzoo"])), (3, _vector(b, [subgraph]))
    b.Finish(_table(b, 8, *fields, (7, b.CreateString(PARSER_VERSION))), b"M001")
    return bytes(b.Output())


def _image_input(b: flatbuffers.Builder) -> int:
    """Raw pixels 0..255: a mean of 0 and a deviation of 1 leave them as they are."""
    normalization = _table(b, 2, (0, _floats(b, [0.0])), (1, _floats(b, [1.0])))
    unit = _table(b, 2, (0, _Uint8(_NORMALIZATION)), (1, normalization))
    content = _table(b, 3, (0, _Uint8(_IMAGE)), (1, _table(b, 2, (0, _Int8(_RGB)))))
    stats = _table(b, 2, (0, _floats(b, [255.0])), (1, _floats(b, [0.0])))
    return _table(b, 7, (0, b.CreateString("image")), (3, content), (4, _vector(b, [unit])), (5, stats))


def _output(b: flatbuffers.Builder, output: str, labels: str | None) -> int:
    if output == "detection_boxes":
        b.StartVector(4, 4, 4)
        for place in (2, 3, 0, 1):  # built from the end: left, top, right, bottom stand at 1, 0, 3, 2
            b.PrependUint32(place)
        properties = _table(b, 3, (0, b.EndVector()), (1, _Int8(_BOUNDARIES)))
        content = _table(b, 3, (0, _Uint8(_BOUNDING_BOX)), (1, properties), (2, _range(b, 2, 2)))
    elif output == "segmentation":
        properties = _table(b, 2, (0, _Int8(_GREYSCALE)))
        content = _table(b, 3, (0, _Uint8(_IMAGE)), (1, properties), (2, _range(b, 1, 2)))
    else:
        many = [] if output == "num_detections" else [(2, _range(b, 2, 2))]
        content = _table(b, 3, (0, _Uint8(_FEATURE)), (1, _table(b, 0)), *many)
    fields = [(0, b.CreateString(_OUTPUTS[output])), (3, content)]
    kind = {"detection_classes": _VALUE_LABELS, "segmentation": _AXIS_LABELS}.get(output)
    if labels and kind:
        file = _table(b, 5, (0, b.CreateString(labels)), (2, _Int8(kind)))
        fields.append((6, _vector(b, [file])))
    return _table(b, 7, *fields)


# === Flatbuffers, without a schema compiler


class _Int8(int):
    pass


class _Uint8(int):
    pass


class _Int32(int):
    pass


def _table(b: flatbuffers.Builder, size: int, *fields: tuple[int, Any]) -> int:
    """A table of `size` slots with (slot, value) filled; a plain int is the place of what was built before."""
    b.StartObject(size)
    for slot, value in fields:
        if isinstance(value, _Int8):
            b.PrependInt8Slot(slot, int(value), 0)
        elif isinstance(value, _Uint8):
            b.PrependUint8Slot(slot, int(value), 0)
        elif isinstance(value, _Int32):
            b.PrependInt32Slot(slot, int(value), 0)
        else:
            b.PrependUOffsetTRelativeSlot(slot, value, 0)
    return b.EndObject()


def _vector(b: flatbuffers.Builder, places: Sequence[int]) -> int:
    b.StartVector(4, len(places), 4)
    for place in reversed(places):
        b.PrependUOffsetTRelative(place)
    return b.EndVector()


def _floats(b: flatbuffers.Builder, values: Sequence[float]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return b.EndVector()


def _range(b: flatbuffers.Builder, low: int, high: int) -> int:
    """Which dimensions of the tensor the content belongs to."""
    return _table(b, 2, (0, _Int32(low)), (1, _Int32(high)))
