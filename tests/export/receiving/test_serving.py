"""export/serving: a SavedModel behind HTTP gives the right answer or a clear 4xx, and lives on."""

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import client as kzoo_client
import load
import numpy as np
import protocol
import pytest
from PIL import Image

from kzoo import export, images

pytest.importorskip("uvicorn", reason="the server needs uvicorn and starlette")
pytest.importorskip("starlette", reason="the server needs uvicorn and starlette")
pytestmark = pytest.mark.receiving

FOLDER = Path(protocol.__file__).parent
SIZE = (64, 96)


@pytest.fixture(scope="module")
def server(start_server, saved_model_folder):
    server = start_server(saved_model_folder, "--max-batch", "8")
    yield server
    assert server.process.poll() is None  # it has outlived all tests


@pytest.fixture
def batch(data):
    return data[0][0][:3].astype(np.uint8)


def encoded(image, format="JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format, **options)
    return buffer.getvalue()


def test_it_says_what_it_serves(server):
    assert server.ask("GET", "/v1/models") == (200, {"models": ["ssd"]})
    assert server.ask("GET", "/v1/models/ssd") == (200, {"name": "ssd", "ready": True})
    status, about = server.ask("GET", "/v2/models/ssd/versions/1")
    assert status == 200
    assert {"name": "image", "datatype": "UINT8", "shape": [-1, *SIZE, 3]} in about["inputs"]
    assert {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]} in about["inputs"]
    assert {"name": "boxes", "datatype": "FP32", "shape": [-1, 200, 4]} in about["outputs"]
    assert about["parameters"]["class_names"] == ["red", "blå"]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("count", [1, 3])
def test_binary_tensors_in_batches(server, model, batch, dtype, count):
    found, expected = server.client.infer(batch[:count].astype(dtype)), model.detect(batch[:count])
    assert expected["scores"].max() > 0.5
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_allclose(found[name], values, atol=1e-3)


def test_images_as_json_over_both_protocols(server, model, batch):
    expected = model.detect(batch[:1])
    count = expected["num_detections"][0]
    body = json.dumps({"instances": batch[:1].tolist()}).encode()
    status, answer = server.ask("POST", "/v1/models/ssd:predict", body)
    assert status == 200
    (one,) = answer["predictions"]
    np.testing.assert_allclose(one["boxes"], expected["boxes"][0, :count], atol=1e-3)
    assert one["names"] == [["red", "blå"][label] for label in expected["labels"][0, :count]]
    tensor = {"name": "image", "shape": [1, *SIZE, 3], "datatype": "FP32", "data": batch[:1].ravel().tolist()}
    status, answer = server.ask("POST", "/v2/models/ssd/infer", json.dumps({"inputs": [tensor]}).encode())
    assert status == 200
    outputs = {one["name"]: one for one in answer["outputs"]}
    np.testing.assert_allclose(outputs["scores"]["data"], expected["scores"][0], atol=1e-4)


def test_image_files_over_both_protocols(server, model, pictures):
    contents = [path.read_bytes() for path in pictures]
    found, listed = server.client.infer(contents), server.client.predict(contents)
    for row, path in enumerate(pictures):
        expected = model.detect(images.read_image(path)[None])
        count = int((expected["scores"][0] > 0.3).sum())
        assert count == 2
        np.testing.assert_allclose(found["boxes"][row, :count], expected["boxes"][0, :count], atol=0.05)
        np.testing.assert_allclose(listed[row]["boxes"][:count], expected["boxes"][0, :count], atol=0.05)
        np.testing.assert_array_equal(listed[row]["labels"][:count], expected["labels"][0, :count])


def test_an_independent_client_of_the_v2_protocol_is_understood(server, model, batch):
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert client.is_server_live()
    assert client.is_model_ready("ssd")
    assert client.get_model_metadata("ssd")["platform"] == "tensorflow_savedmodel"
    pixels = triton.InferInput("image", list(batch.shape), "UINT8")
    pixels.set_data_from_numpy(batch)
    files = triton.InferInput("image_bytes", [3], "BYTES")
    files.set_data_from_numpy(np.array([encoded(image, "PNG") for image in batch], object))
    wanted = [triton.InferRequestedOutput("scores"), triton.InferRequestedOutput("labels", binary_data=False)]
    expected = model.detect(batch)
    for given in (pixels, files):
        answer = client.infer("ssd", [given], outputs=wanted)
        np.testing.assert_allclose(answer.as_numpy("scores"), expected["scores"], atol=1e-4)
        np.testing.assert_array_equal(answer.as_numpy("labels"), expected["labels"])
    client.close()


WRONG = {
    "another model": ("POST", "/v2/models/other/infer", b"{}", 404, "there is no model 'other'"),
    "another path": ("GET", "/v3", None, 404, "Not Found"),
    "another method": ("GET", "/v2/models/ssd/infer", None, 405, "Method Not Allowed"),
    "no JSON": ("POST", "/v1/models/ssd:predict", b"\xff\xd8", 400, "not JSON"),
    "no image in JSON": ("POST", "/v1/models/ssd:predict", b'{"instances": [5]}', 400, "an instance must be"),
    "wrong shape in JSON": ("POST", "/v1/models/ssd:predict", b'{"instances": [[[[1,2,3]]]]}', 400, "the shape"),
    "NaN": ("POST", "/v1/models/ssd:predict", b'{"instances": [[[[NaN,2,3]]]]}', 400, "the shape"),
    "a name that is no text": ("POST", "/v2/models/ssd/infer", b'{"inputs": [{"name": "\\ud800"}]}', 400, "no input"),
    "a type that is no name": (
        "POST",
        "/v2/models/ssd/infer",
        b'{"inputs": [{"name": "image", "datatype": [1]}]}',
        400,
        "datatype out of",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_gets_a_clear_4xx(server, case):
    method, path, body, status, reason = WRONG[case]
    got, answer = server.ask(method, path, body)
    assert got == status
    assert reason in answer["error"]


@pytest.mark.parametrize(
    ("tensor", "content", "status", "reason"),
    [
        ({"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3]}, bytes(3072), 400, r"[-1, 64, 96, 3]"),
        ({"name": "image", "datatype": "UINT8", "shape": [64, 96, 3]}, bytes(18432), 400, r"[-1, 64, 96, 3]"),
        ({"name": "image", "datatype": "INT32", "shape": [1, 64, 96, 3]}, bytes(73728), 400, "FP32 or UINT8"),
        ({"name": "image", "datatype": "FP64", "shape": [1, 64, 96, 3]}, bytes(8), 400, "datatype out of"),
        ({"name": "picture", "datatype": "UINT8", "shape": [1, 64, 96, 3]}, bytes(18432), 400, "no input 'picture'"),
        ({"name": "image", "datatype": "UINT8", "shape": [0, 64, 96, 3]}, b"", 400, "1 to 8 images, got 0"),
        ({"name": "image", "datatype": "UINT8", "shape": [9, 64, 96, 3]}, bytes(165888), 400, "1 to 8 images, got 9"),
        ({"name": "image", "datatype": "FP32", "shape": [1, 64, 96, 3]}, b"\0\0\xc0\x7f" * 18432, 400, "NaN"),
        ({"name": "image", "datatype": "FP32", "shape": [1, 64, 96, 3]}, bytes(100), 400, "has 73728 bytes, got 100"),
        ({"name": "image_bytes", "datatype": "UINT8", "shape": [3]}, b"abc", 400, "must be BYTES"),
        ({"name": "image_bytes", "datatype": "BYTES", "shape": [1]}, b"\4\0\0\0none", 400, "file 0 is no JPEG"),
        ({"name": "image_bytes", "datatype": "BYTES", "shape": [1]}, b"\0\0\0\0", 400, "file 0 is no JPEG"),
    ],
)
def test_a_wrong_tensor_gets_a_clear_4xx(server, tensor, content, status, reason):
    got, answer = server.infer(tensor, content)
    assert (got, reason in answer["error"]) == (status, True), answer
    assert "\n" not in answer["error"]


@pytest.mark.parametrize("output", [{"name": [1]}, {"name": "scores", "parameters": 5}])
def test_a_wish_for_other_outputs_gets_a_clear_4xx(server, output):
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 64, 96, 3]}
    status, answer = server.infer(tensor, bytes(18432), outputs=[output])
    assert status == 400
    assert "must be" in answer["error"]


def test_a_gif_is_answered_by_its_first_frame_and_a_long_one_refused(server, model, batch):
    first, second = (Image.fromarray(image).quantize(64) for image in batch[:2])
    short, long = io.BytesIO(), io.BytesIO()
    first.save(short, "GIF", save_all=True, append_images=[second])
    found = server.client.infer([short.getvalue()])
    expected = model.detect(np.asarray(first.convert("RGB"))[None])
    np.testing.assert_allclose(found["scores"][0], expected["scores"][0], atol=1e-3)
    frames = [Image.new("L", (3000, 3000), grey) for grey in range(8)]
    frames[0].save(long, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(RuntimeError, match=r"413 .*3000 x 3000 pixels in 8 or more frames, at most 64 megapixels"):
        server.client.infer([long.getvalue()])


def test_a_jpeg_that_is_cut_short_gets_a_clear_4xx_and_its_neighbours_are_served_next(server, batch):
    whole = encoded(batch[0])
    with pytest.raises(RuntimeError, match=r"400 .*cut short or corrupt"):
        server.client.infer([whole, whole[: len(whole) // 2]])
    assert server.client.infer([whole])["num_detections"].shape == (1,)


def test_a_photo_of_50_megapixels_is_answered_and_a_larger_one_refused(server, model, batch):
    photo = np.asarray(Image.fromarray(batch[0]).resize((8660, 5773), Image.Resampling.NEAREST))
    found = server.client.infer([encoded(photo, quality=90)])
    expected = model.detect(batch[:1])
    sure = expected["scores"][0] > 0.3
    assert sure.any()
    scale = np.array([8660 / 96, 5773 / 64] * 2)
    np.testing.assert_allclose(found["boxes"][0][sure] / scale, expected["boxes"][0][sure], atol=1.5)
    with pytest.raises(RuntimeError, match=r"413 .*at most 64 megapixels"):
        server.client.infer([encoded(np.zeros((9000, 9000, 3), np.uint8), "PNG")])
    with pytest.raises(RuntimeError, match=r"413 .*larger than the 64 MB"):
        server.client.infer([bytes(65_000_000)])


def test_sixteen_clients_at_once_each_get_their_own_answer(server, model, data):
    batches = [data[0][0][i : i + 1].astype(np.uint8) for i in range(16)]
    expected = [model.detect(one) for one in batches]

    def ask(i: int) -> bool:
        given = batches[i] if i % 2 else [encoded(batches[i][0], "PNG")]
        found = [kzoo_client.Client(server.url, "ssd").infer(given) for _ in range(4)]
        return all(np.allclose(one["scores"], expected[i]["scores"], atol=1e-4) for one in found)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(16)))


def test_one_request_more_than_may_wait_is_asked_to_come_again():
    import server

    queue = server.Queue(parallel=1, waiting=1)
    with queue.place():
        with queue.place(), pytest.raises(protocol.Fault, match="2 requests are waiting") as fault, queue.place():
            pass
        assert fault.value.status == 429
        with queue.place():
            pass


def test_the_load_script_measures_and_stays_on_this_machine(server, pictures):
    result = load.run(server.url, pictures, clients=4, seconds=2, form="file", pid=server.process.pid)
    assert result["errors"] == 0
    assert result["requests"] >= 4
    assert 0 < result["median_ms"] <= result["p99_ms"]
    assert result["memory_after_mb"] > 50
    with pytest.raises(ValueError, match="not an http address of this machine"):
        load.run("http://192.0.2.1:80", pictures, 1, 1, "file")


def test_the_client_command_prints_what_the_exported_file_finds(server, pictures, litert_file):
    outputs = []
    for more in ([], ["--protocol", "v1"], ["--tensor"]):
        command = [sys.executable, FOLDER / "client.py", server.url, pictures[0], *more]
        done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=180, check=True)
        outputs.append(json.loads(done.stdout)["detections"])
    found = export.load(litert_file()).detect([images.read_image(pictures[0])])
    for output in outputs:
        assert [one["name"] for one in output] == [["red", "blå"][label] for label in found["labels"][0, :2]]
        np.testing.assert_allclose([one["box"] for one in output], found["boxes"][0, :2], atol=0.02)


def test_pixels_that_the_client_sends_are_upright(server, pictures, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    with Image.open(pictures[1]) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    command = [sys.executable, FOLDER / "client.py", server.url, pictures[1], tmp_path / "turned.png", "--tensor"]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=180, check=True)
    upright, turned = (json.loads(line)["detections"] for line in done.stdout.splitlines())
    assert len(upright) == 2
    assert turned == upright
