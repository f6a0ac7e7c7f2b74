"""Many clients at once on a server of kzoo's on this machine: requests a second, latency, errors, the server's memory.

    python load.py http://127.0.0.1:8080 photo.jpg ... [--clients 16] [--seconds 60] [--form file|tensor|v1] [--pid PID]

Each client sends one request after another over its own connection. `--form tensor` wants images of the model's size.
Only addresses of this machine are taken; it ends by itself. With the server's process id its memory is read from
/proc before and after.
"""

import argparse
import http.client
import json
import statistics
import struct
import sys
import threading
import time
import urllib.parse
from base64 import b64encode
from collections import Counter
from pathlib import Path

LOCAL = ("127.0.0.1", "localhost", "::1")
MOST_SECONDS = 600


def request_of(model: str, form: str, image: Path, size: tuple[int, int]) -> tuple[str, bytes, dict[str, str]]:
    """(path, body, headers) of one request with one image."""
    if form == "v1":
        body = json.dumps({"instances": [{"b64": b64encode(image.read_bytes()).decode()}]}).encode()
        return f"/v1/models/{model}:predict", body, {"Content-Type": "application/json"}
    if form == "tensor":
        from PIL import Image

        with Image.open(image) as opened:
            content = opened.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR).tobytes()
        tensor = {"name": "image", "datatype": "UINT8", "shape": [1, *size, 3]}
    else:
        content = image.read_bytes()
        content = struct.pack("<I", len(content)) + content
        tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}
    tensor["parameters"] = {"binary_data_size": len(content)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return f"/v2/models/{model}/infer", head + content, headers


def client(address: tuple[str, int], requests: list, until: float, times: list[float], statuses: Counter) -> None:
    connection = http.client.HTTPConnection(*address, timeout=60)
    turn = 0
    while time.monotonic() < until:
        path, body, headers = requests[turn % len(requests)]
        turn += 1
        start = time.perf_counter()
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
            connection.close()
        times.append(time.perf_counter() - start)
        statuses[status] += 1
    connection.close()


def memory_mb(pid: int | None) -> float | None:
    """Resident memory of a process in megabytes, where the system tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), None)


def run(url: str, images: list[Path], clients: int, seconds: float, form: str, pid: int | None = None) -> dict:
    """Loads a server on this machine; returns what `main` prints.

    Raises:
        ValueError: for an address that is not of this machine, or too long a time.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in LOCAL:
        raise ValueError(f"{url}: not an http address of this machine ({', '.join(LOCAL)}).")
    if not 0 < seconds <= MOST_SECONDS or not 1 <= clients <= 256:
        raise ValueError(f"seconds must lie in 0..{MOST_SECONDS} and clients in 1..256.")
    address = (parts.hostname, parts.port or 80)
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("GET", "/v1/models")
    model = json.load(connection.getresponse())["models"][0]
    connection.request("GET", f"/v2/models/{model}")
    about = json.load(connection.getresponse())
    connection.close()
    size = tuple(about["inputs"][0]["shape"][1:3])
    requests = [request_of(model, form, image, size) for image in images]
    times: list[list[float]] = [[] for _ in range(clients)]
    statuses: Counter = Counter()
    counters = [Counter() for _ in range(clients)]
    before, start = memory_mb(pid), time.monotonic()
    threads = [
        threading.Thread(target=client, args=(address, requests, start + seconds, times[i], counters[i]))
        for i in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.monotonic() - start
    for counter in counters:
        statuses.update(counter)
    milliseconds = sorted(1000 * one for part in times for one in part)
    return {
        "form": form,
        "clients": clients,
        "seconds": round(spent, 1),
        "requests": len(milliseconds),
        "requests_per_second": round(len(milliseconds) / spent, 1),
        "median_ms": round(statistics.median(milliseconds), 1),
        "p99_ms": round(milliseconds[min(len(milliseconds) - 1, int(0.99 * len(milliseconds)))], 1),
        "errors": len(milliseconds) - statuses[200],
        "statuses": {str(status): count for status, count in statuses.items()},
        "memory_before_mb": None if before is None else round(before),
        "memory_after_mb": None if before is None else round(memory_mb(pid) or 0),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Loads a server of kzoo's on this machine and measures it.")
    parser.add_argument("url", help="as http://127.0.0.1:8080")
    parser.add_argument("images", type=Path, nargs="+", help="JPEG or PNG files, sent in turn")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--form", choices=("file", "tensor", "v1"), default="file", help="file: JPEG bytes over V2 [file]"
    )
    parser.add_argument("--pid", type=int, help="of the server, for its memory")
    options = parser.parse_args()
    try:
        result = run(**vars(options))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1))
    return 1 if result["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
