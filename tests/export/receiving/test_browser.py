"""export/browser: the page in a real browser finds what the Python interpreter finds."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kzoo_lite

pytestmark = pytest.mark.receiving
FOLDER = Path(kzoo_lite.__file__).parents[1] / "browser"
DRIVER = os.environ.get("CHROMEDRIVER", "chromedriver")


@pytest.fixture(scope="module")
def address(exported, tmp_path_factory):
    """The page's server, with the packages that package-lock.json names."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    site = tmp_path_factory.mktemp("site")
    for file in FOLDER.iterdir():
        if file.is_file():
            shutil.copy(file, site / file.name)
    if (FOLDER / "node_modules").is_dir():
        shutil.copytree(FOLDER / "node_modules", site / "node_modules")
    else:
        command = ["npm", "ci", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=site, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"npm cannot install LiteRT.js here: {done.stderr.strip()[-200:]}")
    command = [
        "node",
        "serve.mjs",
        str(exported),
        "--port",
        "0",
    ]  # what `npm start` runs; but npm ends without ending it
    with subprocess.Popen(command, cwd=site, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    driver, chromium = shutil.which(DRIVER), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("chromium or its driver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1100,800",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver)) as browser:
        browser.set_script_timeout(60)
        yield browser


def ready(browser, runs: int = 0) -> None:
    """Waits until nothing is being done any more and, counted from the page's start, `runs` images were looked at."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 180).until(
        lambda b: b.execute_script(
            "const text = document.getElementById('status').textContent;"
            "return !text.startsWith('Loading') && (window.kzoo?.runs ?? 0) >= arguments[0]",
            runs,
        )
    )


def look(browser, address: str, model: str, paths, threads: int) -> list[dict]:
    """What the page finds in each image, by its own controls: the list of models, and the choice of a file."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    browser.get(f"{address}?model={model}")
    ready(browser)
    select = Select(browser.find_element(By.ID, "threads"))
    if select.first_selected_option.text != str(threads):
        select.select_by_visible_text(str(threads))
        ready(browser)
    found = []
    for count, path in enumerate(paths, start=1):
        browser.find_element(By.ID, "file").send_keys(str(path))
        ready(browser, count)
        found.append(
            browser.execute_script(
                "const {found, ...rest} = window.kzoo;"
                "return {...rest, detections: found.detections, labels: found.labels && [...found.labels],"
                "  scores: found.scores && [...found.scores]}"
            )
        )
    # The runtime writes its progress to the error stream.
    log = [one for one in browser.get_log("browser") if "/wasm/litert_wasm" not in one["message"]]
    assert [one for one in log if one["level"] == "SEVERE"] == []
    return found


@pytest.mark.parametrize(
    ("name", "threads"), [("detector", 1), ("detector", 2), ("detector-int8", 2), ("detector-mediapipe", 2)]
)
def test_a_detector_finds_what_python_finds(browser, address, exported, pictures, name, threads):
    client = kzoo_lite.Model(exported / f"{name}.tflite")
    for path, page in zip(pictures, look(browser, address, f"{name}.tflite", pictures, threads), strict=True):
        assert (page["model"], page["threads"]) == (f"{name}.tflite", threads)
        assert page["milliseconds"] > 0
        expected = client(kzoo_lite.read_image(path))
        found = page["detections"]
        assert len(found) == len(expected["labels"])
        sure = expected["scores"] > 0.05
        assert sure.sum() >= 2
        np.testing.assert_array_equal([one["label"] for one in found][: sure.sum()], expected["labels"][sure])
        for key, tolerance in (("score", 1e-4), ("box", 1e-3)):
            values = np.array([one[key] for one in found])[: sure.sum()]
            np.testing.assert_allclose(values, expected[key + ("es" if key == "box" else "s")][sure], atol=tolerance)


@pytest.mark.parametrize("name", ["segmenter", "tiled", "segmenter-mediapipe"])
def test_a_segmenter_labels_what_python_labels(browser, address, exported, pictures, name):
    client = kzoo_lite.Model(exported / f"{name}.tflite")
    for path, page in zip(pictures, look(browser, address, f"{name}.tflite", pictures, 2), strict=True):
        expected = client(kzoo_lite.read_image(path))
        assert len(np.unique(expected["labels"])) > 1
        labels = np.array(page["labels"]).reshape(expected["labels"].shape)
        np.testing.assert_allclose(np.reshape(page["scores"], labels.shape), expected["scores"], atol=1e-4)
        assert (labels == expected["labels"]).mean() > 0.9999  # two classes may be equal to the last bit


def test_the_picture_shows_the_boxes_in_the_colours_of_the_list(browser, address, pictures):
    (page,) = look(browser, address, "detector.tflite", pictures[1:2], 1)
    listed = browser.execute_script(
        "return [...document.querySelectorAll('#found li')].map("
        "  (li) => [li.textContent, getComputedStyle(li.firstChild).backgroundColor])"
    )
    assert sorted(text[:3] for text, _ in listed) == ["blå", "red"]
    (width, height), *edges = browser.execute_script(
        "const canvas = document.getElementById('picture'), zoom = canvas.width / 200;"
        "return [[canvas.width, canvas.height], ...arguments[0].map(({box: [x1, y1, , y2]}) =>"
        "  [...canvas.getContext('2d').getImageData(x1 * zoom, (y1 + y2) / 2 * zoom, 1, 1).data])]",
        page["detections"][:2],
    )
    assert width * 150 == height * 200  # enlarged, so that names can be read
    colours = [[float(part) for part in colour[4:-1].split(",")] for _, colour in listed]
    np.testing.assert_allclose([edge[:3] for edge in edges], colours, atol=25)  # lines are smoothed between pixels


def test_a_mask_is_laid_over_the_picture(browser, address, pictures):
    (page,) = look(browser, address, "segmenter.tflite", pictures[1:2], 1)
    listed = dict(
        browser.execute_script(
            "return [...document.querySelectorAll('#found li')].map((li) =>"
            "  [li.children[1].textContent, getComputedStyle(li.firstChild).backgroundColor])"
        )
    )
    assert listed.keys() == {"floor", "red", "blå"}
    before = np.asarray(Image.open(pictures[1]).convert("RGB"), float)
    name = ["floor", "red", "blå"][page["labels"][75 * 200 + 100]]
    tint = [float(part) for part in listed[name][4:-1].split(",")]
    pixel = browser.execute_script(
        "const canvas = document.getElementById('picture'), zoom = canvas.width / 200;"
        "return [...canvas.getContext('2d').getImageData(100.5 * zoom, 75.5 * zoom, 1, 1).data]"
    )
    np.testing.assert_allclose(pixel[:3], 0.55 * before[75, 100] + 0.45 * np.array(tint), atol=6)


def test_what_is_no_image_is_said_in_one_line_and_the_page_goes_on(browser, address, pictures, tmp_path):
    from selenium.webdriver.common.by import By

    look(browser, address, "detector.tflite", pictures[:1], 1)
    (tmp_path / "notes.png").write_text("not an image")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "notes.png"))
    ready(browser, 1)
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert "notes.png: not an image" in browser.find_element(By.ID, "status").text
    browser.get_log("browser")  # the error was logged, as it should be
    browser.find_element(By.ID, "file").send_keys(str(pictures[1]))
    ready(browser, 2)
    assert "ms for 200" in browser.find_element(By.ID, "status").text


def test_what_the_server_cannot_start_with_it_says_in_one_line(exported, tmp_path):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    cases = [
        ((exported, "--port", "abc"), "--port abc: is no port. Give a number of 0 to 65535."),
        ((exported, "--port", "70000"), "--port 70000: is no port."),
        ((exported, "--port", "--host"), "Option '--port' argument is ambiguous."),
        ((exported, "--foo"), "Unknown option '--foo'."),
        ((tmp_path,), "no .tflite file. Write one with kzoo export."),
        ((tmp_path / "none",), "no such file or folder."),
    ]
    for arguments, reason in cases:
        command = ["node", FOLDER / "serve.mjs", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr.startswith("error: ")
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_server_gives_the_headers_that_threads_need_and_nothing_outside(browser, address):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", int(address.rstrip("/").rsplit(":", 1)[1]))
    paths = {
        "/": 200,
        "/models.json": 200,
        "/node_modules/@litertjs/core/wasm/litert_wasm_internal.wasm": 200,
        "/serve.mjs": 404,
        "/package.json": 404,
        "/models/%2e%2e%2fpackage.json": 404,
        "/node_modules/@litertjs/../../package.json": 404,
        "/..%2f..%2fetc/passwd": 404,
        "/%": 400,
    }
    for path, status in paths.items():
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == status, path
        assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        if path.endswith(".wasm"):
            assert response.headers["Content-Type"] == "application/wasm"
    browser.get(address)
    assert browser.execute_script("return self.crossOriginIsolated") is True
