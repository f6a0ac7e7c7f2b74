"""How long does a .tflite file take for an image in Python, in C++ and in the browser, on one and on two threads?

    python benchmarks/clients.py model.tflite image.png ... [--cpp build/kzoo_lite] [--browser] [--runs 30]

Each time is the median, in milliseconds, from decoded pixels to the end, resizing included. `--cpp` is the program that
export/cpp builds. `--browser` needs Node, `npm ci` in export/browser, Chromium with its driver, and selenium.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "export" / "python"))
THREADS = (1, 2)
WARM_UP = 3


def python_ms(file: Path, images: Sequence[Path], threads: int, runs: int) -> float:
    import kzoo_lite

    model = kzoo_lite.Model(file, threads)
    pixels = [kzoo_lite.read_image(path) for path in images]
    times = []
    for run in range(runs + WARM_UP):
        start = time.perf_counter()
        model(pixels[run % len(pixels)])
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[WARM_UP:])


def cpp_ms(program: Path, file: Path, images: Sequence[Path], threads: int, runs: int) -> float:
    """The median over the images of the medians that the program prints."""
    command = [program, file, *images, "--threads", threads, "--repeat", runs]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return statistics.median(json.loads(line)["ms"] for line in done.stdout.splitlines())


def browser_ms(file: Path, images: Sequence[Path], runs: int) -> dict[int, float]:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    command = ["node", "serve.mjs", str(file.resolve()), "--port", "0"]
    medians = {}
    with (
        subprocess.Popen(command, cwd=ROOT / "export" / "browser", stdout=subprocess.PIPE, text=True) as server,
        webdriver.Chrome(options=options, service=service) as browser,
    ):
        address = server.stdout.readline().strip()
        for threads in THREADS:
            browser.get(address)
            ready = "return !document.getElementById('status').textContent.startsWith('Loading')"
            WebDriverWait(browser, 120).until(lambda b, ready=ready: b.execute_script(ready))
            Select(browser.find_element(By.ID, "threads")).select_by_visible_text(str(threads))
            times = []
            for run in range(runs + WARM_UP):
                browser.find_element(By.ID, "file").send_keys(str(images[run % len(images)].resolve()))
                WebDriverWait(browser, 120).until(
                    lambda b, run=run: b.execute_script("return (window.kzoo?.runs ?? 0) > arguments[0]", run)
                )
                times.append(browser.execute_script("return window.kzoo.milliseconds"))
            medians[threads] = statistics.median(times[WARM_UP:])
        server.terminate()
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a .tflite file that kzoo exported")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--cpp", type=Path, help="the built client of export/cpp")
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    rows = {"Python": {n: python_ms(options.file, options.images, n, options.runs) for n in THREADS}}
    if options.cpp:
        rows["C++"] = {n: cpp_ms(options.cpp, options.file, options.images, n, options.runs) for n in THREADS}
    if options.browser:
        rows["browser"] = browser_ms(options.file, options.images, options.runs)
    print(f"{options.file.name}, {options.file.stat().st_size / 1e6:.2f} MB, {len(options.images)} images\n")
    print("| client | ms, 1 thread | ms, 2 threads |\n| --- | --- | --- |")
    for client, medians in rows.items():
        print(f"| {client} | {medians[1]:.1f} | {medians[2]:.1f} |")


if __name__ == "__main__":
    main()
