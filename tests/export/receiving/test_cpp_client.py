"""export/cpp: built with CMake, the C++ client says what the Python client says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kzoo_lite

pytestmark = pytest.mark.receiving
FOLDER = Path(kzoo_lite.__file__).parents[1] / "cpp"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function: arguments -> the finished process of the client."""
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    build = tmp_path_factory.mktemp("cpp")
    configure = ["cmake", "-S", FOLDER, "-B", build, f"-DPython3_EXECUTABLE={sys.executable}"]
    done = subprocess.run([str(part) for part in configure], capture_output=True, text=True, timeout=180)
    if "No stb_image.h" in done.stderr:
        pytest.skip("stb_image.h is not installed (apt-get install libstb-dev)")
    assert done.returncode == 0, done.stderr
    subprocess.run(["cmake", "--build", str(build)], check=True, capture_output=True, timeout=300)

    def run(*arguments):
        command = [str(one) for one in (build / "kzoo_lite", *arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=180)

    return run


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["detector", "detector-int8", "detector-mediapipe"])
def test_a_detector_finds_what_python_finds(run, exported, pictures, name, threads):
    client = kzoo_lite.Model(exported / f"{name}.tflite")
    done = run(exported / f"{name}.tflite", *pictures, "--score", 0.05, "--threads", threads)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for path, line in zip(pictures, lines, strict=True):
        expected = kzoo_lite.summary(client(kzoo_lite.read_image(path)), client, 0.05)["detections"]
        assert line["file"] == str(path)
        assert line["ms"] > 0
        assert len(expected) >= 2
        assert [one["name"] for one in line["detections"]] == [one["name"] for one in expected]
        for key, tolerance in (("score", 1e-4), ("box", 1e-3)):
            values, wanted = ([one[key] for one in part] for part in (line["detections"], expected))
            np.testing.assert_allclose(values, wanted, atol=tolerance)


@pytest.mark.parametrize("name", ["segmenter", "segmenter-mediapipe"])
def test_a_segmenter_labels_what_python_labels(run, exported, pictures, name):
    client = kzoo_lite.Model(exported / f"{name}.tflite")
    done = run(exported / f"{name}.tflite", *pictures, "--repeat", 3)
    for path, line in zip(pictures, done.stdout.splitlines(), strict=True):
        expected = kzoo_lite.summary(client(kzoo_lite.read_image(path)), client, 0)["pixels"]
        assert len(expected) == 3
        found = json.loads(line)["pixels"]
        assert found.keys() == expected.keys()
        for class_name, count in expected.items():
            assert abs(found[class_name] - count) <= 2  # two classes may be equal to the last bit


def test_what_it_cannot_do_it_says_in_one_line(run, exported, pictures, tmp_path):
    (tmp_path / "no.tflite").write_bytes(b"no model at all")
    cases = [
        ((tmp_path / "no.tflite", pictures[0]), "not a LiteRT model"),
        ((tmp_path / "none.tflite", pictures[0]), "no such file"),
        ((exported / "tiled.tflite", pictures[0]), "wants tiles"),
        ((exported / "detector.tflite", pictures[0], "--score", "high"), "--score needs a number"),
        ((exported / "detector.tflite", pictures[0], "--threads"), "--threads needs a number"),
        ((exported / "detector.tflite", pictures[0], "--treads", "2"), "--treads: no such option"),
        ((), "usage:"),
    ]
    for arguments, reason in cases:
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert reason in done.stderr.splitlines()[-1]


def test_images_that_cannot_be_read_are_passed_over(run, exported, pictures, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image at all")
    images = (tmp_path / "no.png", pictures[0], tmp_path / "none.png", pictures[1])
    done = run(exported / "detector.tflite", *images)
    assert done.returncode == 1
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == [str(path) for path in pictures[:2]]
    passed_over = [line.split(" (")[0] for line in done.stderr.splitlines() if line.startswith("passed over")]
    assert passed_over == [f"passed over {path}: not a readable image" for path in images[::2]]


def test_a_jpeg_is_turned_upright_by_its_exif(run, exported, pictures, tmp_path):
    turned_back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    with Image.open(pictures[1]) as image:
        for orientation, how in turned_back.items():
            exif = Image.Exif()
            exif.endian = "<>"[orientation % 2]
            exif[0x0112] = orientation
            stored = image.transpose(how)
            stored.save(tmp_path / f"{orientation}.jpg", quality=100, subsampling=0, exif=exif)
    files = [pictures[1], *sorted(tmp_path.glob("*.jpg"))]
    done = run(exported / "detector.tflite", *files)
    assert done.returncode == 0, done.stderr
    expected, *lines = [json.loads(line)["detections"] for line in done.stdout.splitlines()]
    assert sorted(one["name"] for one in expected) == ["blå", "red"]
    assert len(lines) == len(turned_back)
    for found in lines:
        assert [one["name"] for one in found] == [one["name"] for one in expected]
        # A JPEG's pixels differ by a grey level or two from those it was made of.
        np.testing.assert_allclose([one["box"] for one in found], [one["box"] for one in expected], atol=0.5)
