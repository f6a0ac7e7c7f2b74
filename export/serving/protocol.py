"""The V1 and V2 (Open Inference) protocols: request bodies to arrays, and arrays to response bodies. NumPy only.

A request becomes one input by name: "image" (B, H, W, 3) float32 or uint8, or "image_bytes" (B,) of whole JPEG, PNG,
GIF or BMP files. Whatever is wrong with it is a `Fault`, one line for the sender.
"""

import base64
import binascii
import json
import math
import reprlib
import struct
from typing import Any

import numpy as np

DATATYPES = {"FP32": "float32", "UINT8": "uint8", "INT32": "int32", "BYTES": "object"}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
INPUTS = ("image", "image_bytes")
MOST_DIMENSIONS = 8
MOST_VALUES = 2**40


class Fault(Exception):
    """Why a request is not answered: an HTTP status, of 4xx where something is wrong with it, and the reason."""

    def __init__(self, reason: str, status: int = 400):
        super().__init__(reason)
        self.reason, self.status = reason, status


def parse_json(body: bytes) -> dict:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Fault(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Fault(f"the body must be a JSON object, got a {type(document).__name__}")
    return document


# === V1: {"instances": [...]} -> {"predictions": [...]}


def read_v1(body: bytes) -> tuple[str, np.ndarray]:
    """Instances are nested lists (H, W, 3) or {"b64": "..."}, as TensorFlow Serving has it, alone or by input name."""
    instances = parse_json(body).get("instances")
    if not isinstance(instances, list) or not instances:
        raise Fault('the body must have "instances", a list with at least one image')
    unnamed = [_unnamed(one) for one in instances]
    names = {name for name, _ in unnamed}
    if len(names) > 1:
        raise Fault(f"all instances must be of one kind, got {' and '.join(sorted(names))}")
    (name,) = names
    values = [value for _, value in unnamed]
    return name, _file_array(values) if name == "image_bytes" else _pixels(values)


def _unnamed(instance: Any) -> tuple[str, Any]:
    """(input's name, value) of one instance."""
    if isinstance(instance, dict) and len(instance) == 1:
        ((name, value),) = instance.items()
        if name == "b64":
            return "image_bytes", from_base64(value)
        if name == "image_bytes":
            return "image_bytes", from_base64(value["b64"] if isinstance(value, dict) and "b64" in value else value)
        if name == "image":
            return "image", value
    if isinstance(instance, list):
        return "image", instance
    raise Fault('an instance must be a list (H, W, 3), {"image": ...}, {"b64": ...} or {"image_bytes": {"b64": ...}}')


def write_v1(found: dict[str, np.ndarray], class_names: list[str]) -> bytes:
    """One prediction an image; a detector's rows are cut to those that are filled, with the names of their classes."""
    predictions = []
    for row in range(len(found["labels"])):
        count = int(found["num_detections"][row]) if "num_detections" in found else None
        one = {name: values[row][:count].tolist() for name, values in found.items() if name != "num_detections"}
        if count is not None and class_names:
            one["names"] = [class_names[label] for label in one["labels"]]
        predictions.append(one)
    return json.dumps({"predictions": predictions}, ensure_ascii=False).encode()


# === V2: {"inputs": [{"name", "shape", "datatype", "data"}]}, tensors in JSON or in binary behind it


def read_v2(body: bytes, json_length: str | None) -> tuple[str, np.ndarray, dict]:
    """(name, array, the request's JSON) of an inference request with one input.

    Args:
        body: JSON, and behind it the binary tensors.
        json_length: the header Inference-Header-Content-Length, None where all is JSON.
    """
    length = len(body)
    if json_length is not None:
        # Python makes no number of thousands of digits.
        if not json_length.isdecimal() or len(json_length) > 18 or int(json_length) > len(body):
            raise Fault(f"Inference-Header-Content-Length must be 0..{len(body)}, got {json_length[:40]!r}")
        length = int(json_length)
    request = parse_json(body[:length])
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Fault('"inputs" must be a list of one tensor, "image" or "image_bytes"')
    (tensor,) = inputs
    name, shape, datatype = tensor.get("name"), tensor.get("shape"), tensor.get("datatype")
    if name not in INPUTS:
        raise Fault(f"there is no input {_brief(name)}; there are {' and '.join(INPUTS)}")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise Fault(f"input {name}: needs a datatype out of {', '.join(DATATYPES)}, got {_brief(datatype)}")
    _check_shape(name, shape)
    size = _parameters(tensor).get("binary_data_size")
    if size is not None:
        return name, _binary(name, shape, datatype, body[length:], size), request
    if "data" not in tensor:
        raise Fault(f'input {name}: has neither "data" nor a parameter "binary_data_size"')
    return name, _listed(name, shape, datatype, tensor["data"]), request


def _check_shape(name: str, shape: Any) -> None:
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS:
        raise Fault(f"input {name}: the shape must be a list of at most {MOST_DIMENSIONS} sizes, got {_brief(shape)}")
    if not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise Fault(f"input {name}: the shape must be a list of whole numbers below 2^31, got {_brief(shape)}")
    if math.prod(n for n in shape if n) > MOST_VALUES:  # NumPy multiplies without the zeros, too
        raise Fault(f"input {name}: a tensor of shape {shape} is too large")


def _binary(name: str, shape: list[int], datatype: str, content: bytes, size: Any) -> np.ndarray:
    if type(size) is not int or size != len(content):
        raise Fault(f"input {name}: binary_data_size is {_brief(size)}, but {len(content)} bytes follow the JSON")
    if datatype == "BYTES":
        values, start = [], 0
        while start < size:
            if start + 4 > size:
                raise Fault(f"input {name}: a length of four bytes is cut short")
            (length,) = struct.unpack_from("<I", content, start)
            if start + 4 + length > size:
                raise Fault(f"input {name}: an element of {length} bytes is cut short")
            values.append(content[start + 4 : start + 4 + length])
            start += 4 + length
        return _shaped(name, shape, _file_array(values))
    item = np.dtype(DATATYPES[datatype]).itemsize
    if size != math.prod(shape) * item:
        raise Fault(f"input {name}: {datatype} of shape {shape} has {math.prod(shape) * item} bytes, got {size}")
    return np.frombuffer(content, DATATYPES[datatype]).reshape(shape)


def _listed(name: str, shape: list[int], datatype: str, data: Any) -> np.ndarray:
    """`data` as a flat or nested list; files as strings in base64, since JSON holds no bytes."""
    if datatype == "BYTES":
        if not isinstance(data, list):
            raise Fault(f"input {name}: data must be a list of strings in base64")
        return _shaped(name, shape, _file_array([from_base64(one) for one in data]))
    values = _pixels(data)
    if datatype in ("UINT8", "INT32"):
        limits = np.iinfo(DATATYPES[datatype])
        if values.size and (
            (values != np.rint(values)).any() or values.min() < limits.min or values.max() > limits.max
        ):
            raise Fault(f"input {name}: data must be whole numbers of {datatype}")
    return _shaped(name, shape, values.astype(DATATYPES[datatype]))


def _shaped(name: str, shape: list[int], values: np.ndarray) -> np.ndarray:
    if math.prod(shape) != values.size:
        raise Fault(f"input {name}: the shape {shape} needs {math.prod(shape)} values, got {values.size}")
    return values.reshape(shape)


def write_v2(model: str, request: dict, found: dict[str, np.ndarray]) -> tuple[bytes, int | None]:
    """(body, length of its JSON part or None where all is JSON), with the outputs that the request asks for."""
    binary = bool(_parameters(request).get("binary_data_output"))
    wanted = dict.fromkeys(found, binary)
    if request.get("outputs"):
        asked = request["outputs"]
        names = tuple(found)  # unlike a dict it can be asked for a list, too
        if not isinstance(asked, list) or not all(isinstance(one, dict) and one.get("name") in names for one in asked):
            raise Fault(f'"outputs" must be a list of objects, each with a name out of {", ".join(sorted(found))}')
        wanted = {one["name"]: bool(_parameters(one).get("binary_data", binary)) for one in asked}
    outputs, tail = [], []
    for name, as_binary in wanted.items():
        values = found[name]
        tensor: dict[str, Any] = {"name": name, "datatype": NAMES[str(values.dtype)], "shape": list(values.shape)}
        if as_binary:
            tail.append(values.tobytes())
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = values.reshape(-1).tolist()
        outputs.append(tensor)
    response = {"model_name": model, "model_version": "1", "outputs": outputs}
    if isinstance(request.get("id"), str):
        response["id"] = request["id"]
    head = json.dumps(response).encode()
    return head + b"".join(tail), len(head) if tail else None


def _parameters(part: dict) -> dict:
    parameters = part.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise Fault(f'"parameters" must be an object, got {_brief(parameters)}')
    return parameters


# === Values


def from_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise Fault(f"image_bytes: not base64 ({error})") from error


def _file_array(values: list[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _pixels(values: Any) -> np.ndarray:
    try:
        return np.array(values, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise Fault(f"image: the lists are no array of numbers ({str(error)[:120]})") from error


def _brief(value: Any) -> str:
    """A value from a request, quoted: no longer than a part of a line, and of characters that can be written."""
    text = reprlib.repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
