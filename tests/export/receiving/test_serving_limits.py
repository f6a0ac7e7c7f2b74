"""export/serving: a server of small limits lives on among idle, huge and many requests, and says what it cannot do."""

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import client as kzoo_client
import keras
import numpy as np
import protocol
import pytest

from kzoo import export, models

pytest.importorskip("uvicorn", reason="the server needs uvicorn and starlette")
Request = pytest.importorskip("starlette.requests", reason="the server needs uvicorn and starlette").Request
bodies = pytest.importorskip("bodies", reason="the server needs uvicorn and starlette")
pytestmark = pytest.mark.receiving

FOLDER = Path(kzoo_client.__file__).parent


@pytest.fixture(scope="module")
def tiled():
    keras.utils.set_random_seed(1)
    return models.create("unet", 3, image_size=(60, 76), width=0.0625, depth=2, class_names=["floor", "red", "blå"])


@pytest.fixture(scope="module")
def folder(tiled, tmp_path_factory):
    return export.saved_model(tiled, tmp_path_factory.mktemp("tiled") / "unet")


@pytest.fixture(scope="module")
def server(start_server, folder):
    return start_server(folder, "--parallel", "1", "--queue", "1", "--max-megabytes", "1", "--total-megabytes", "2.5")


@pytest.fixture
def idle(server):
    """A function: sends the beginning of a request of a million bytes, and no more, until the test ends."""
    sockets = []

    def send(size: int) -> socket.socket:
        sockets.append(socket.create_connection(("127.0.0.1", server.port)))
        head = f"POST /v2/models/{server.name}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        sockets[-1].sendall(head.encode() + bytes(size))
        return sockets[-1]

    yield send
    for one in sockets:
        one.close()


def run(program: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, FOLDER / program, *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=180, check=False)


# === Tiles


def test_a_segmenter_of_tiles_says_so_and_takes_tiles(server, tiled):
    about = server.client.metadata()
    assert [one["name"] for one in about["inputs"]] == ["image", "image"]
    assert about["parameters"]["tile_size"] == list(tiled.tile_size)
    assert about["parameters"]["stride"] == tiled.stride == 4
    pixels = np.random.default_rng(0).integers(0, 256, (2, 60, 76, 3), np.uint8)
    found, expected = server.client.infer(pixels), tiled.infer(pixels.astype("float32"))
    assert found["labels"].shape == (2, *tiled.tile_size)
    np.testing.assert_array_equal(found["labels"], expected["labels"])


def test_a_segmenter_of_tiles_refuses_files_and_says_what_to_do(server, pictures):
    content = pictures[0].read_bytes()
    for ask in (server.client.infer, server.client.predict):
        with pytest.raises(RuntimeError, match=r"400 .*takes no image files. Send tiles .*\[-1, 60, 76, 3\]"):
            ask([content])
    for more in ([], ["--protocol", "v1"], ["--tensor"]):
        done = run("client.py", server.url, pictures[0], *more)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "tile by tile" in done.stderr
        assert "kzoo_lite.py" in done.stderr


# === Bodies


def test_idle_uploads_take_no_place_in_the_queue(server, idle):
    for _ in range(8):
        idle(10)
    time.sleep(0.5)  # until the server has seen them
    start = time.monotonic()
    assert server.client.infer(np.zeros((1, 60, 76, 3), np.uint8))["labels"].shape[0] == 1
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("megabytes", [1.2, 3, 80])  # read and dropped, or cut off while it is sent
def test_the_client_says_that_a_request_is_too_large_and_what_the_limit_is(server, tmp_path, megabytes):
    (tmp_path / "large.jpg").write_bytes(bytes(int(megabytes * 1e6)))
    done = run("client.py", server.url, tmp_path / "large.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "larger than the 1 MB" in done.stderr or f"has {megabytes:.1f} MB, and the server takes at most 1 MB" in (
        done.stderr
    )


def test_a_body_without_a_length_is_refused_as_well(server):
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST /v1/models/{server.name}:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head.encode() + b"".join(b"186a0\r\n" + bytes(100_000) + b"\r\n" for _ in range(12)))
    connection.sendall(b"0\r\n\r\n")
    with connection, connection.makefile("rb") as answer:
        assert b" 413 " in answer.readline()


def request(*parts, headers=()):
    """A request of the given parts, then silence; None is where the client leaves."""
    messages = [{"type": "http.request", "body": part, "more_body": True} if part else None for part in parts]
    if messages and messages[-1]:
        messages[-1]["more_body"] = False

    async def receive():
        if not messages:
            await asyncio.sleep(60)
        return messages.pop(0) or {"type": "http.disconnect"}

    taken = Request({"type": "http", "method": "POST", "headers": list(headers)}, receive)
    taken.left = messages
    return taken


def fault_of(held, asked) -> protocol.Fault:
    async def ask():
        async with held.body(asked):
            pass

    with pytest.raises(protocol.Fault) as fault:
        asyncio.run(ask())
    return fault.value


def test_bodies_are_bounded_together_until_their_work_is_done():
    held = bodies.Bodies(most=10, together=15)

    async def two(first, second):
        async with held.body(request(*first)) as one, held.body(request(*second)) as other:
            return one + other

    assert asyncio.run(two([b"123456", b"7890"], [b"abcde"])) == b"1234567890abcde"
    with pytest.raises(protocol.Fault, match="are waiting already") as fault:
        asyncio.run(two([b"1234567890"], [b"abcd", b"ef"]))
    assert fault.value.status == 429
    assert asyncio.run(two([b"1234567890"], [b"abcde"])) == b"1234567890abcde"  # nothing is counted that has gone


def test_a_body_that_is_slow_or_breaks_off_is_a_fault_and_counts_no_more(monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)
    held = bodies.Bodies(most=10, together=10)
    slow = request(b"12345")
    slow.left[0]["more_body"] = True
    assert fault_of(held, slow).status == 408
    assert fault_of(held, request(b"12345", None)).reason == "the client left"
    assert fault_of(held, request(b"123", headers=[(b"content-encoding", b"gzip")])).status == 415
    assert fault_of(held, request(*[b"1234567890"] * 2)).status == 413
    assert held._held == 0


def test_of_a_body_that_is_too_large_a_bounded_part_is_dropped():
    asked = request(*[b"1234567890"] * 100, headers=[(b"content-length", b"1000")])
    fault = fault_of(bodies.Bodies(most=10, together=15), asked)
    assert fault.status == 413
    assert len(asked.left) == 100 - bodies.DRAIN - 1


# === Start and end


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--port", "99999"], "argument --port: must lie in 0..65535, got 99999"),
        (["--port", "http"], "argument --port: invalid int value: 'http'"),
        (["--parallel", "0"], "argument --parallel: must lie in 1..256, got 0"),
        (["--queue", "-1"], "argument --queue: must lie in 0..1000000, got -1"),
        (["--max-megabytes", "nan"], "argument --max-megabytes: must lie in 0.001..1000000, got nan"),
        (["--max-megabytes", "2000"], "--total-megabytes 1024 holds no request of --max-megabytes 2000"),
        (["--host", "256.0.0.1"], "error: --host 256.0.0.1 --port 8080:"),
    ],
)
def test_an_option_that_cannot_be_is_named(folder, options, reason):
    done = run("server.py", folder, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_said_before_the_model_is_loaded(server, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")  # cannot be loaded
    done = run("server.py", tmp_path, "--port", server.port)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: --host 127.0.0.1 --port {server.port}: Address already in use")
    assert done.stderr.count("\n") == 1


def test_a_savedmodel_of_another_tool_is_refused_in_one_line(tmp_path):
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path))
    done = run("server.py", tmp_path, "--port", 0)
    assert (done.returncode, done.stdout) == (2, "")
    assert "lacks kzoo's signatures" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_server_ends_soon_though_a_client_idles(server, idle):
    """The last test: the server ends with it."""
    connection = idle(10)
    time.sleep(0.5)
    start = time.monotonic()
    server.process.terminate()
    server.process.wait(40)
    assert time.monotonic() - start < 20
    assert connection.recv(1000).startswith(b"HTTP/1.1 503 ")
