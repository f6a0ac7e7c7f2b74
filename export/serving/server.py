"""Serves a SavedModel of kzoo over HTTP, with the V1 and V2 (Open Inference) protocols.

    pip install -r requirements.txt
    python server.py path/to/saved_model [--name detector] [--host 127.0.0.1] [--port 8080]

    GET  /v1/models/NAME, /v2/health/ready, /v2/models/NAME       is it there, what does it take
    POST /v1/models/NAME:predict                                  {"instances": [...]}
    POST /v2/models/NAME/infer                                    tensors as JSON or binary, images as files

Requests wait in one queue for `--parallel` workers. A request that is wrong, too large or one too many gets a 4xx and
one line that says why; none ends the server.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bodies
import image_files
import numpy as np
import protocol
import uvicorn
from PIL import Image
from protocol import Fault
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
SIGNATURES = {("image", "float32"): "serving_default", ("image", "uint8"): "serve_uint8"}
SHUTDOWN_SECONDS = 10  # for requests that have begun
JSON_LENGTH = "Inference-Header-Content-Length"


class Served:
    """A SavedModel of kzoo: checks inputs and runs them."""

    def __init__(self, folder: Path, name: str | None, threads: int, max_batch: int, max_megapixels: float):
        import tensorflow as tf

        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        self._tf = tf
        self._model = tf.saved_model.load(str(folder))
        self.signatures = self._model.signatures
        file = folder / "assets" / "kzoo.json"
        about = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        # How a segmenter wants an image taken apart; empty for a network that sees the whole image.
        self.tiles = {key: about[key] for key in ("tile_size", "stride")} if about.get("tile_size") else {}
        wanted = {"serving_default", "serve_uint8"} | (set() if self.tiles else {"serve_encoded"})
        if not about or not wanted <= set(self.signatures):
            raise ValueError(f"{folder}: lacks kzoo's signatures. Export it with kzoo export --format saved_model.")
        self.name = name or about["name"]
        self.class_names: list[str] = about.get("class_names") or []
        self.image_size = tuple(about["image_size"])
        self.max_batch, self.max_megapixels = max_batch, max_megapixels
        self._run("image", np.zeros((1, *self.image_size, 3), np.uint8))  # the first call is slow: not for a client

    def metadata(self) -> dict:
        outputs = self.signatures["serving_default"].structured_outputs
        files = [] if self.tiles else [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}]
        return {
            "name": self.name,
            "versions": ["1"],
            "platform": "tensorflow_savedmodel",
            "inputs": [
                {"name": "image", "datatype": "UINT8", "shape": [-1, *self.image_size, 3]},
                {"name": "image", "datatype": "FP32", "shape": [-1, *self.image_size, 3]},
                *files,
            ],
            "outputs": [
                {"name": name, "datatype": protocol.NAMES[spec.dtype.name], "shape": [n or -1 for n in spec.shape]}
                for name, spec in sorted(outputs.items())
            ],
            "parameters": {"class_names": self.class_names, **self.tiles},
        }

    def infer(self, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs for one of protocol.INPUTS, as NumPy arrays.

        Raises:
            Fault: for another type, shape, or a file that is no image.
        """
        if name == "image_bytes":
            if self.tiles:
                height, width = self.image_size
                raise Fault(
                    f"{self.name} labels an image tile by tile and takes no image files. Send tiles as the tensor "
                    f"image [-1, {height}, {width}, 3], or use export/python/kzoo_lite.py with a .tflite file."
                )
            if values.dtype != object or values.ndim != 1:
                raise Fault(f"input image_bytes must be BYTES of shape [-1], got {values.dtype} {list(values.shape)}")
            self._check_batch(values)
            for row, content in enumerate(values):
                image_files.check(row, content, self.max_megapixels)
            return self._run(name, values)
        if str(values.dtype) not in ("float32", "uint8"):
            raise Fault(f"input image must be FP32 or UINT8, got {protocol.NAMES.get(str(values.dtype), 'no numbers')}")
        if values.shape[1:] != (*self.image_size, 3):
            height, width = self.image_size
            raise Fault(f"input image must have the shape [-1, {height}, {width}, 3], got {list(values.shape)}")
        if not np.isfinite(values).all():
            raise Fault("input image holds NaN or infinity")
        self._check_batch(values)
        return self._run(name, values)

    def _run(self, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
        tf = self._tf
        if name == "image_bytes":
            signature, tensor = "serve_encoded", tf.constant(list(values), tf.string)
        else:
            signature, tensor = SIGNATURES[name, str(values.dtype)], tf.constant(values)
        try:
            found = self.signatures[signature](**{name: tensor})
        except tf.errors.InvalidArgumentError as error:
            if name == "image_bytes":
                reason = error.message.splitlines()[0][:160]
                raise Fault(f"image_bytes: a file is cut short or corrupt ({reason})") from error
            raise
        return {key: value.numpy() for key, value in found.items()}

    def _check_batch(self, values: np.ndarray) -> None:
        if not 1 <= len(values) <= self.max_batch:
            raise Fault(f"a request holds 1 to {self.max_batch} images, got {len(values)}")


class Queue:
    """Runs jobs on a few threads; one more than may wait is refused."""

    def __init__(self, parallel: int, waiting: int):
        self._workers = ThreadPoolExecutor(parallel)
        self._places = parallel + waiting
        self._taken = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        if self._taken >= self._places:
            raise Fault(f"{self._taken} requests are waiting already. Try again later.", 429)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, function: Callable, *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)


def application(served: Served, queue: Queue, waiting: bodies.Bodies) -> Starlette:
    def known(request: Request) -> None:
        if request.path_params["name"] != served.name:
            raise Fault(f"there is no model {request.path_params['name'][:60]!r}; there is {served.name}", 404)

    async def predict(request: Request) -> Response:
        async with waiting.body(request) as content:
            known(request)  # not before: while it sends, a client hears no refusal

            def work() -> bytes:
                return protocol.write_v1(served.infer(*protocol.read_v1(content)), served.class_names)

            with queue.place():
                answer = await queue.run(work)
        return Response(answer, media_type="application/json")

    async def infer(request: Request) -> Response:
        async with waiting.body(request) as content:
            known(request)

            def work() -> tuple[bytes, int | None]:
                name, values, asked = protocol.read_v2(content, request.headers.get(JSON_LENGTH))
                return protocol.write_v2(served.name, asked, served.infer(name, values))

            with queue.place():
                answer, length = await queue.run(work)
        if length is None:
            return Response(answer, media_type="application/json")
        return Response(answer, media_type="application/octet-stream", headers={JSON_LENGTH: str(length)})

    async def v1_models(request: Request) -> JSONResponse:
        return JSONResponse({"models": [served.name]})

    async def v1_model(request: Request) -> JSONResponse:
        known(request)
        return JSONResponse({"name": served.name, "ready": True})

    async def v2_server(request: Request) -> JSONResponse:
        return JSONResponse({"name": "kzoo", "version": "1", "extensions": ["binary_tensor_data"]})

    async def live(request: Request) -> JSONResponse:
        return JSONResponse({"live": True, "ready": True})

    async def v2_model(request: Request) -> JSONResponse:
        known(request)
        about = served.metadata()
        about["parameters"]["max_megabytes"] = waiting.most / 1e6
        return JSONResponse(about)

    async def v2_ready(request: Request) -> JSONResponse:
        known(request)
        return JSONResponse({"name": served.name, "ready": True})

    routes = [
        Route("/v1/models", v1_models),
        Route("/v1/models/{name}:predict", predict, methods=["POST"]),
        Route("/v1/models/{name}", v1_model),
        Route("/v2", v2_server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", live),
    ]
    for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/1"):
        routes += [
            Route(prefix, v2_model),
            Route(f"{prefix}/ready", v2_ready),
            Route(f"{prefix}/infer", infer, methods=["POST"]),
        ]
    handlers = {Fault: _say_fault, HTTPException: _say_http, Exception: _say_error}
    return Starlette(routes=routes, exception_handlers=handlers)


async def _say_fault(request: Request, fault: Fault) -> JSONResponse:
    headers = {"Retry-After": "1"} if fault.status == 429 else None
    return JSONResponse({"error": fault.reason}, fault.status, headers)


async def _say_http(request: Request, error: HTTPException) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _say_error(request: Request, error: Exception) -> JSONResponse:
    """A fault of the server: its log has the traceback, the client learns no more than the kind."""
    return JSONResponse({"error": f"{type(error).__name__} in the server"}, 500)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; they wait until the server runs.

    Raises:
        ValueError: if there is no such host, or the port is taken or not allowed.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ValueError(
            f"--host {host} --port {port}: {error.strerror}. Give another, or end what listens there."
        ) from error


def between(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """What argparse makes of a text: a number of this kind, neither smaller nor larger."""

    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must lie in {least}..{most}, got {text}")
        return value

    number.__name__ = kind.__name__  # argparse names it where a text is no number
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description="Serves a SavedModel of kzoo with the V1 and V2 protocols.")
    parser.add_argument("folder", type=Path, help="a SavedModel folder that kzoo exported")
    parser.add_argument("--name", help="name of the model in the URLs [its own]")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for all interfaces [127.0.0.1]")
    parser.add_argument("--port", type=between(int, 0, 65535), default=8080, help="0 takes a free one [8080]")
    parser.add_argument("--parallel", type=between(int, 1, 256), default=2, help="requests computed at once [2]")
    threads = between(int, 0, 1024)
    parser.add_argument("--threads", type=threads, default=0, help="of TensorFlow, for one operation [all cores]")
    waiting = between(int, 0, 10**6)
    parser.add_argument("--queue", type=waiting, default=64, help="requests that may wait; others get a 429 [64]")
    parser.add_argument("--max-batch", type=between(int, 1, 10**6), default=32, help="images in a request [32]")
    megapixels = between(float, 0.001, 10**4)
    parser.add_argument("--max-megapixels", type=megapixels, default=64, help="of an encoded image [64]")
    megabytes = between(float, 0.001, 10**6)
    parser.add_argument("--max-megabytes", type=megabytes, default=64, help="of a request [64]")
    parser.add_argument("--total-megabytes", type=megabytes, default=1024, help="of all requests together [1024]")
    options = parser.parse_args()
    try:
        serve(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def serve(options: argparse.Namespace) -> None:
    if not (options.folder / "saved_model.pb").is_file():
        raise ValueError(f"{options.folder}: holds no SavedModel. Export one with kzoo export --format saved_model.")
    if options.total_megabytes < options.max_megabytes:
        raise ValueError(
            f"--total-megabytes {options.total_megabytes:g} holds no request of --max-megabytes "
            f"{options.max_megabytes:g}. Give it as much, or more."
        )
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    with listen(options.host, options.port) as listening:  # before the model is loaded, which takes long
        served = Served(options.folder, options.name, options.threads, options.max_batch, options.max_megapixels)
        queue = Queue(options.parallel, options.queue)
        waiting = bodies.Bodies(int(options.max_megabytes * 1e6), int(options.total_megabytes * 1e6))
        config = uvicorn.Config(
            application(served, queue, waiting),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        port = listening.getsockname()[1]
        print(f"serving {served.name} at http://{options.host}:{port}/v2/models/{served.name}", flush=True)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(main())
