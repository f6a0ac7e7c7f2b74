"""Small exported files and fixed images for the clients and servers of export/, each written once.

`KZOO_EXPORTED=folder` with detector.tflite, detector-int8.tflite, segmenter.tflite, detector-mediapipe.tflite and
segmenter-mediapipe.tflite of one's own, and `KZOO_IMAGES=folder` with images (PNG), take the place of the made ones
where a test only compares two runtimes.
"""

import http.client
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import client as kzoo_client
import keras
import numpy as np
import pytest
from PIL import Image

from kzoo import export, models

SIZE = (64, 96)


def rectangles(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) uint8 with a red and a blue rectangle, one in each half, and its mask (0, 1, 2)."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 60, (height, width, 3))
    mask = np.zeros((height, width), np.int32)
    for half, label in enumerate(rng.permutation([1, 2])):
        h, w = (int(side * rng.uniform(0.32, 0.45)) for side in (height, width * SIZE[0] / SIZE[1]))
        y, x = rng.integers(0, height - h), rng.integers(0, width // 2 - w) + half * (width // 2)
        image[y : y + h, x : x + w] = [(230, 60, 40), (40, 60, 230)][label - 1]
        mask[y : y + h, x : x + w] = label
    return image.astype(np.uint8), mask


@pytest.fixture(scope="session")
def segmenter():
    """A U-Net that learned the same rectangles: 0 floor, 1 red, 2 blue."""
    keras.utils.set_random_seed(0)
    unet = models.create(
        "unet", 3, image_size=SIZE, padding="same", width=0.125, depth=2, class_names=["floor", "red", "blå"]
    )
    unet.compile(keras.optimizers.Adam(3e-3))
    images, masks = zip(*(rectangles(*SIZE, seed) for seed in range(64)), strict=True)
    unet.fit(np.stack(images).astype("float32"), np.stack(masks), batch_size=8, epochs=6, verbose=0)
    return unet


@pytest.fixture(scope="session")
def exported(model, segmenter, litert_file, tmp_path_factory) -> Path:
    """A folder with detector.tflite, detector-int8.tflite, segmenter.tflite, tiled.tflite, and two for MediaPipe."""
    if given := os.environ.get("KZOO_EXPORTED"):
        return Path(given)
    folder = tmp_path_factory.mktemp("exported")
    for name, quantization in (("detector", None), ("detector-int8", "int8")):
        (folder / f"{name}.tflite").write_bytes(litert_file(quantization).read_bytes())
    export.litert(segmenter, folder / "segmenter.tflite")
    for name, network in (("detector", model), ("segmenter", segmenter)):
        export.litert(network, folder / f"{name}-mediapipe.tflite", form="mediapipe")
    keras.utils.set_random_seed(1)
    tiled = models.create("unet", 3, image_size=(60, 76), width=0.0625, depth=2, class_names=["floor", "red", "blå"])
    export.litert(tiled, folder / "tiled.tflite")
    return folder


class Server:
    """export/serving/server.py, running in a process of its own on a free port."""

    def __init__(self, folder: Path, *options: str):
        program = Path(kzoo_client.__file__).with_name("server.py")
        command = [sys.executable, str(program), str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("serving"), "the server ended"
        self.url, self.name = re.fullmatch(r"serving .+ at (http://[^/]+)/v2/models/(.+)\n", line).groups()
        self.port = int(self.url.rpartition(":")[2])
        self.client = kzoo_client.Client(self.url)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
        """(status, JSON of the answer)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        status, content = response.status, response.read()
        connection.close()
        return status, json.loads(content) if content else None

    def infer(self, tensor: dict, content: bytes, **more):
        tensor = {**tensor, "parameters": {"binary_data_size": len(content)}}
        head = json.dumps({"inputs": [tensor], **more}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        return self.ask("POST", f"/v2/models/{self.name}/infer", head + content, headers)


@pytest.fixture(scope="session")
def start_server():
    """A function: SavedModel folder, options -> a running server, which is ended when all tests are through."""
    servers = []

    def start(folder: Path, *options: str) -> Server:
        servers.append(Server(folder, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.process.terminate()
        server.process.wait(30)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> list[Path]:
    """Images of the detector's own size, larger, smaller, and with alpha; PNG, which every decoder reads the same."""
    if given := os.environ.get("KZOO_IMAGES"):
        return sorted(Path(given).glob("*.png"))
    folder = tmp_path_factory.mktemp("pictures")
    for seed, size in enumerate((SIZE, (150, 200), (50, 40)), start=3):
        Image.fromarray(rectangles(*size, seed)[0]).save(folder / f"{seed}-{size[1]}x{size[0]}.png")
    image = rectangles(80, 110, 8)[0]
    Image.fromarray(image).quantize(256).save(folder / "8-palette.png", transparency=bytes(range(256)))
    alpha = np.linspace(-255, 255, 80).clip(0).astype(np.uint8)  # the upper half is not to be seen at all
    Image.fromarray(np.dstack([image, np.repeat(alpha[:, None], 110, axis=1)])).save(folder / "8-alpha.png")
    return sorted(folder.glob("*.png"))
