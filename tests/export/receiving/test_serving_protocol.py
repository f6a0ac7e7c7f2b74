"""export/serving/protocol.py: what requests mean, and one line for each way in which they can be wrong."""

import base64
import json
import struct
import time

import numpy as np
import protocol
import pytest

IMAGE = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)


def v2(tensor, content=b"", **more):
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + content, str(len(head)) if content else None


def binary(datatype, shape, content, size=None):
    parameters = {"binary_data_size": len(content) if size is None else size}
    return v2({"name": "image", "shape": shape, "datatype": datatype, "parameters": parameters}, content)


def test_pixels_arrive_alike_as_nested_lists_flat_lists_and_bytes():
    flat = {"name": "image", "shape": [1, 2, 4, 3], "datatype": "UINT8", "data": IMAGE.ravel().tolist()}
    nested = {**flat, "data": IMAGE.tolist()}
    for request in (v2(flat), v2(nested), binary("UINT8", [1, 2, 4, 3], IMAGE.tobytes())):
        name, values, _ = protocol.read_v2(*request)
        assert name == "image"
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values, IMAGE)
    _, values, _ = protocol.read_v2(*binary("FP32", [1, 2, 4, 3], IMAGE.astype("<f4").tobytes()))
    assert values.dtype == np.float32
    for instances in (IMAGE.tolist(), [{"image": IMAGE[0].tolist()}]):
        name, values = protocol.read_v1(json.dumps({"instances": instances}).encode())
        assert name == "image"
        np.testing.assert_array_equal(values, IMAGE)


def test_files_arrive_alike_as_base64_and_bytes():
    files = [b"\x00\xff first", b""]
    texts = [base64.b64encode(one).decode() for one in files]
    content = b"".join(struct.pack("<I", len(one)) + one for one in files)
    tensor = {"name": "image_bytes", "shape": [2], "datatype": "BYTES"}
    for request in (
        v2({**tensor, "data": texts}),
        v2({**tensor, "parameters": {"binary_data_size": len(content)}}, content),
    ):
        name, values, _ = protocol.read_v2(*request)
        assert (name, list(values)) == ("image_bytes", files)
    for instances in ([{"b64": t} for t in texts], [{"image_bytes": {"b64": t}} for t in texts]):
        name, values = protocol.read_v1(json.dumps({"instances": instances}).encode())
        assert (name, list(values)) == ("image_bytes", files)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ((b"{", None), "not JSON"),
        ((b"[" * 100_000, None), "not JSON"),
        ((b"[]", None), "must be a JSON object"),
        ((b"{}", None), '"inputs" must be'),
        ((b"{}", "7"), "must be 0..2"),
        ((b"{}", "-1"), "must be 0..2"),
        ((b"{}", "9" * 45_000), "must be 0..2"),
        (v2({"name": "picture", "shape": [1], "datatype": "FP32", "data": [1]}), "there is no input 'picture'"),
        (v2({"name": "a\nb" * 99, "shape": [1], "datatype": "FP32", "data": [1]}), r"no input 'a\\nba\\nb"),
        (v2({"name": "\ud800", "shape": [1], "datatype": "FP32", "data": [1]}), r"no input '\\ud800'"),
        (v2({"name": [1], "shape": [1], "datatype": "FP32", "data": [1]}), r"no input \[1\]"),
        (v2({"name": "image", "shape": [1], "datatype": "FP8", "data": [1]}), "datatype out of"),
        (v2({"name": "image", "shape": [1.5], "datatype": "FP32", "data": [1]}), "list of whole numbers"),
        (v2({"name": "image", "shape": [-1], "datatype": "FP32", "data": [1]}), "list of whole numbers"),
        (v2({"name": "image", "shape": [2], "datatype": "FP32", "data": [1]}), "needs 2 values, got 1"),
        (v2({"name": "image", "shape": [1], "datatype": [1], "data": [1]}), r"datatype out of .* got \[1\]"),
        (v2({"name": "image", "shape": [1] * 9, "datatype": "FP32", "data": [1]}), "at most 8 sizes"),
        (v2({"name": "image", "shape": [2**31 - 1] * 600, "datatype": "FP32", "data": [1]}), "at most 8 sizes"),
        (v2({"name": "image", "shape": [2**31], "datatype": "FP32", "data": [1]}), r"below 2\^31"),
        (v2({"name": "image", "shape": [2**30] * 8, "datatype": "FP32", "data": [1]}), "too large"),
        (v2({"name": "image", "shape": [0] + [2**30] * 5, "datatype": "FP32", "data": []}), "too large"),
        (v2({"name": "image", "shape": [1], "datatype": "FP32", "data": [1], "parameters": 5}), "must be an object"),
        (v2({"name": "image", "shape": [2], "datatype": "FP32", "data": [1, "x"]}), "no array of numbers"),
        (v2({"name": "image", "shape": [2], "datatype": "FP32", "data": [[1], [1, 2]]}), "no array of numbers"),
        (v2({"name": "image", "shape": [2], "datatype": "UINT8", "data": [1, 256]}), "whole numbers of UINT8"),
        (v2({"name": "image", "shape": [2], "datatype": "UINT8", "data": [1, 1.5]}), "whole numbers of UINT8"),
        (v2({"name": "image", "shape": [2], "datatype": "FP32"}), "neither"),
        (v2({"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["%"]}), "not base64"),
        (v2({"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [7]}), "not base64"),
        (binary("FP32", [2], bytes(7)), "has 8 bytes, got 7"),
        (binary("FP32", [2], bytes(8), size=9), "but 8 bytes follow"),
        (binary("BYTES", [1], bytes(3)), "length of four bytes is cut short"),
        (binary("BYTES", [1], struct.pack("<I", 5) + b"abc"), "element of 5 bytes is cut short"),
        (binary("BYTES", [2], struct.pack("<I", 3) + b"abc"), "needs 2 values, got 1"),
    ],
)
def test_a_wrong_v2_request_is_a_fault_of_one_line(request_, reason):
    with pytest.raises(protocol.Fault, match=reason) as fault:
        protocol.read_v2(*request_)
    assert "\n" not in fault.value.reason
    assert len(fault.value.reason) < 300
    assert 400 <= fault.value.status < 500
    fault.value.reason.encode()  # it can be sent


def test_a_shape_of_many_sizes_is_refused_without_multiplying_them():
    body = b'{"inputs": [{"name": "image", "datatype": "FP32", "data": [1], "shape": [%s]}]}'
    start = time.process_time()
    with pytest.raises(protocol.Fault, match="at most 8 sizes"):
        protocol.read_v2(body % b",".join([b"2147483647"] * 200_000), None)
    assert time.process_time() - start < 5  # the product alone takes minutes


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "instances"),
        ({"instances": []}, "at least one"),
        ({"instances": [{"b64": "AA=="}, [[[0]]]]}, "of one kind"),
        ({"instances": [{"b64": 5}]}, "not base64"),
        ({"instances": ["text"]}, "an instance must be"),
        ({"instances": [[1], [1, 2]]}, "no array of numbers"),
    ],
)
def test_a_wrong_v1_request_is_a_fault_of_one_line(body, reason):
    with pytest.raises(protocol.Fault, match=reason):
        protocol.read_v1(json.dumps(body).encode())


FOUND = {
    "boxes": np.arange(16, dtype=np.float32).reshape(1, 4, 4),
    "labels": np.array([[1, 0, -1, -1]], np.int32),
    "scores": np.array([[0.75, 0.5, 0, 0]], np.float32),
    "num_detections": np.array([2], np.int32),
}


def test_v1_answers_with_the_filled_rows_and_their_names():
    (one,) = json.loads(protocol.write_v1(FOUND, ["red", "blå"]))["predictions"]
    assert one["labels"] == [1, 0]
    assert one["names"] == ["blå", "red"]
    assert one["scores"] == [0.75, 0.5]
    assert one["boxes"] == FOUND["boxes"][0, :2].tolist()


def test_v2_answers_with_what_was_asked_for_in_the_form_asked_for():
    body, length = protocol.write_v2("m", {"id": "7"}, FOUND)
    assert length is None
    answer = json.loads(body)
    assert (answer["id"], answer["model_name"]) == ("7", "m")
    assert [one["name"] for one in answer["outputs"]] == list(FOUND)
    asked = [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "labels"}]
    body, length = protocol.write_v2("m", {"outputs": asked}, FOUND)
    scores, labels = json.loads(body[:length])["outputs"]
    assert labels == {"name": "labels", "datatype": "INT32", "shape": [1, 4], "data": [1, 0, -1, -1]}
    assert scores["parameters"] == {"binary_data_size": 16}
    np.testing.assert_array_equal(np.frombuffer(body[length:], np.float32), FOUND["scores"][0])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"outputs": [{"name": "masks"}]}, "name out of boxes, labels"),
        ({"outputs": [{"name": [1]}]}, "name out of boxes, labels"),
        ({"outputs": {"name": "scores"}}, "must be a list"),
        ({"outputs": [{"name": "scores", "parameters": 5}]}, '"parameters" must be an object, got 5'),
        ({"parameters": [1]}, r'"parameters" must be an object, got \[1\]'),
    ],
)
def test_a_wish_for_other_outputs_is_a_fault_of_one_line(request_, reason):
    with pytest.raises(protocol.Fault, match=reason):
        protocol.write_v2("m", request_, FOUND)
