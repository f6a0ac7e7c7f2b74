"""Asks a server of kzoo's what it sees in images. One file to copy; needs NumPy only (and Pillow for --tensor).

python client.py http://127.0.0.1:8080 photo.jpg ... [--score 0.5]         # the files as they are, V2
python client.py http://127.0.0.1:8080 photo.jpg --protocol v1             # the same as JSON with base64
python client.py http://127.0.0.1:8080 photo.jpg --tensor                  # decoded, turned upright and resized here
"""

import argparse
import base64
import json
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

import numpy as np

DATATYPES = {"FP32": "float32", "UINT8": "uint8", "INT32": "int32"}


class Client:
    """One server and one of its models, by default the only one."""

    def __init__(self, url: str, model: str | None = None, timeout: float = 60):
        self.url, self.timeout = url.rstrip("/"), timeout
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url}: not an http:// or https:// address.")
        self.model = model or self.get("/v1/models")["models"][0]

    def get(self, path: str) -> dict:
        return json.loads(self._ask(path, None, {})[0])

    def metadata(self) -> dict:
        return self.get(f"/v2/models/{self.model}")

    def infer(self, images: np.ndarray | Sequence[bytes]) -> dict[str, np.ndarray]:
        """Every output for images (B, H, W, 3) of the model's size, uint8 or float32, or for a list of image files."""
        if isinstance(images, np.ndarray):
            datatype = {"uint8": "UINT8", "float32": "FP32"}[str(images.dtype)]
            tensor, content = {"name": "image", "datatype": datatype, "shape": images.shape}, images.tobytes()
        else:
            tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(images)]}
            content = b"".join(struct.pack("<I", len(one)) + one for one in images)
        tensor["parameters"] = {"binary_data_size": len(content)}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        body, headers = self._ask(f"/v2/models/{self.model}/infer", head + content, headers)
        start = int(headers["Inference-Header-Content-Length"])
        found = {}
        for output in json.loads(body[:start])["outputs"]:
            end = start + output["parameters"]["binary_data_size"]
            found[output["name"]] = np.frombuffer(body[start:end], DATATYPES[output["datatype"]]).reshape(
                output["shape"]
            )
            start = end
        return found

    def predict(self, files: Sequence[bytes]) -> list[dict]:
        """The same for image files over V1: a dict of lists an image."""
        instances = [{"b64": base64.b64encode(one).decode()} for one in files]
        body = json.dumps({"instances": instances}).encode()
        path = f"/v1/models/{self.model}:predict"
        return json.loads(self._ask(path, body, {"Content-Type": "application/json"})[0])["predictions"]

    def _ask(self, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[bytes, dict]:
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return response.read(), response.headers
        except urllib.error.HTTPError as error:
            reason = error.read(4096).decode("utf-8", "replace")
            raise RuntimeError(f"{error.code} {reason}") from None
        except (urllib.error.URLError, ConnectionError) as error:
            if body is not None and isinstance(getattr(error, "reason", error), ConnectionError):
                self._check_size(len(body))
            raise

    def _check_size(self, size: int) -> None:
        """Says why a server closed the connection while `size` bytes were sent: what it said itself is lost then."""
        limit = self.metadata().get("parameters", {}).get("max_megabytes")
        if limit is not None and size > limit * 1e6:
            raise RuntimeError(
                f"the request has {size / 1e6:.1f} MB, and the server takes at most {limit:g} MB. "
                "Send fewer or smaller images at once."
            ) from None


def main() -> int:
    parser = argparse.ArgumentParser(description="Asks a server of kzoo's what it sees in images.")
    parser.add_argument("url", help="as http://127.0.0.1:8080")
    parser.add_argument("images", nargs="+", help="JPEG or PNG files")
    parser.add_argument("--model", help="[the server's only one]")
    parser.add_argument("--protocol", choices=("v1", "v2"), default="v2")
    parser.add_argument("--tensor", action="store_true", help="decode, turn upright and resize here, send pixels (V2)")
    parser.add_argument("--score", type=float, default=0.5, help="leave out what scores less [0.5]")
    options = parser.parse_args()
    try:
        client = Client(options.url, options.model)
        about = client.metadata()
        names = about.get("parameters", {}).get("class_names") or []
        for path in options.images:
            with open(path, "rb") as file:
                content = file.read()
            found = _ask_for(client, about, path, content, options)
            print(json.dumps({"file": path, **_summary(found, names, options.score)}, ensure_ascii=False))
    except (OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _ask_for(client: Client, about: dict, path: str, content: bytes, options) -> dict[str, np.ndarray]:
    if options.protocol == "v1":
        return {name: np.array(values) for name, values in client.predict([content])[0].items()}
    if not options.tensor:
        return _first(client.infer([content]))
    if about.get("parameters", {}).get("tile_size"):
        raise ValueError(
            f"{client.model} labels an image tile by tile, and --tensor would squeeze it into one. "
            "Use export/python/kzoo_lite.py with a .tflite file."
        )
    from PIL import Image, ImageOps

    height, width = about["inputs"][0]["shape"][1:3]
    with Image.open(path) as image:
        rgb = ImageOps.exif_transpose(image).convert("RGB")
    pixels = np.asarray(rgb.resize((width, height), Image.Resampling.BILINEAR))
    found = _first(client.infer(pixels[None]))
    if "boxes" in found:
        found["boxes"] = found["boxes"] * np.array([rgb.width / width, rgb.height / height] * 2, np.float32)
    return found


def _first(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    count = int(found["num_detections"][0]) if "num_detections" in found else None
    return {name: values[0][:count] for name, values in found.items() if name != "num_detections"}


def _summary(found: dict[str, np.ndarray], names: list[str], score: float) -> dict:
    def name(label: int) -> str:
        return names[label] if label < len(names) else str(label)

    if "boxes" not in found:
        labels, counts = np.unique(found["labels"], return_counts=True)
        return {"pixels": {name(int(label)): int(n) for label, n in zip(labels, counts, strict=True)}}
    rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist(), strict=True)
    return {
        "detections": [
            {"name": name(label), "score": round(value, 4), "box": [round(v, 2) for v in box]}
            for label, value, box in rows
            if value >= score
        ]
    }


if __name__ == "__main__":
    sys.exit(main())
