"""export/python: the single-file client says what kzoo says, without kzoo and without TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kzoo_lite
from kzoo import export, images

FOLDER = Path(kzoo_lite.__file__).parent


@pytest.mark.parametrize("name", ["detector", "detector-int8"])
def test_a_detector_finds_what_kzoo_finds(exported, pictures, name):
    file = exported / f"{name}.tflite"
    client, library = kzoo_lite.Model(file), export.load(file)
    assert (client.task, client.image_size, client.class_names) == ("detection", (64, 96), ["red", "blå"])
    for path in pictures:
        image = images.read_image(path)
        found, expected = client(image), library.detect([image])
        count = expected["num_detections"][0]
        assert expected["scores"][0, :2].min() > 0.5  # a red and a blue one
        for key in ("boxes", "labels", "scores"):
            np.testing.assert_array_equal(found[key], expected[key][0, :count])


@pytest.mark.parametrize("name", ["segmenter", "tiled"])
def test_a_segmenter_labels_what_kzoo_labels(exported, pictures, name):
    file = exported / f"{name}.tflite"
    client, library = kzoo_lite.Model(file), export.load(file)
    assert client.task == "segmentation"
    for path in pictures:
        image = images.read_image(path)
        found, expected = client(image), library.segment(image[None])
        assert len(np.unique(expected["labels"])) > 1
        np.testing.assert_array_equal(found["labels"], expected["labels"][0])
        np.testing.assert_array_equal(found["scores"], expected["scores"][0])


def test_the_command_runs_alone_with_neither_kzoo_nor_tensorflow_and_draws(exported, pictures, tmp_path):
    (tmp_path / "kzoo_lite.py").write_bytes((FOLDER / "kzoo_lite.py").read_bytes())  # one file to copy
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    code = (
        "import sys, runpy; sys.argv = ['kzoo_lite.py', *sys.argv[1:]]\n"
        "try: runpy.run_path('kzoo_lite.py', run_name='__main__')\n"
        "except SystemExit as end: print(end.code)\n"
        "print(sorted({'kzoo', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    model, picture = exported / "detector.tflite", pictures[0]
    arguments = [model, picture, tmp_path / "broken.png", "--output", "drawn", "--json", "--score", "0.5"]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=180, check=True)
    line, exit_code, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert exit_code == "1"
    assert "passed over" in done.stderr
    assert sorted(one["name"] for one in json.loads(line)["detections"]) == ["blå", "red"]
    before, after = (
        np.asarray(Image.open(path).convert("RGB")) for path in (picture, tmp_path / "drawn" / picture.name)
    )
    assert before.shape == after.shape
    for one in json.loads(line)["detections"]:
        x, y = int(one["box"][2]) - 2, round((one["box"][1] + one["box"][3]) / 2)
        edge = after[y, max(0, x) : x + 4].tolist()
        assert list(kzoo_lite.colour(one["label"])) in edge, (one, edge)


def test_a_drawn_mask_tints_every_pixel_with_the_colour_of_its_class(exported, pictures):
    client = kzoo_lite.Model(exported / "segmenter.tflite")
    image = kzoo_lite.read_image(pictures[1])
    found = client(image)
    drawn = np.asarray(kzoo_lite.draw(image, found, client))
    y, x = 140, 190  # away from the names of the classes
    expected = 0.55 * image[y, x] + 0.45 * np.array(kzoo_lite.colour(int(found["labels"][y, x])))
    np.testing.assert_array_equal(drawn[y, x], expected.astype(np.uint8))


def test_images_of_16_bit_are_read_as_kzoo_reads_them(tmp_path):
    values = np.random.default_rng(0).integers(300, 4000, (20, 30)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    read = kzoo_lite.read_image(tmp_path / "grey.png")
    assert 100 < read.mean() < 150
    np.testing.assert_array_equal(read, images.read_image(tmp_path / "grey.png"))


def test_a_file_of_another_kind_is_refused_in_one_line(exported, tmp_path):
    for name, content in (
        ("no.tflite", b"no model"),
        ("cut.tflite", (exported / "detector.tflite").read_bytes()[:999]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r".+") as error:
            kzoo_lite.Model(tmp_path / name)
        assert "\n" not in str(error.value).strip()


def test_a_film_is_drawn_frame_by_frame(exported, tmp_path):
    cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")
    frames = [np.full((48, 64, 3), 40, np.uint8) for _ in range(3)]
    film = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for frame in frames:
        film.write(frame)
    film.release()
    arguments = [exported / "segmenter.tflite", tmp_path / "in.avi", "--output", tmp_path / "out.avi"]
    command = [sys.executable, FOLDER / "video.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert done.stdout.startswith("3 frames")
    drawn = cv2.VideoCapture(str(tmp_path / "out.avi"))
    assert int(drawn.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    _, frame = drawn.read()
    assert frame.shape == (48, 64, 3)
    assert np.abs(frame.astype(int) - 40).max() > 20  # tinted
