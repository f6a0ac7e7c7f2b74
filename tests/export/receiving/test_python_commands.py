"""export/python: what the commands write stands in nobody's way, and what they cannot do they say in one line."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import kzoo_lite


@pytest.fixture
def draw(exported, monkeypatch, tmp_path):
    """A function: images and options -> the exit code of kzoo_lite.py with the detector, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def draw(*arguments):
        monkeypatch.setattr(sys, "argv", ["kzoo_lite.py", *map(str, (exported / "detector.tflite", *arguments))])
        return kzoo_lite.main()

    return draw


def test_an_image_is_never_replaced_by_its_picture(draw, pictures, tmp_path):
    shutil.copy(pictures[0], tmp_path / "p.png")
    for _ in range(2):  # the second call replaces the picture of the first, which is in nobody's way
        assert draw("p.png", "--output", ".") == 0
        assert (tmp_path / "p.png").read_bytes() == pictures[0].read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["p-2.png", "p.png"]
    assert (np.asarray(Image.open("p-2.png")) != np.asarray(Image.open("p.png"))).any()
    drawn = (tmp_path / "p-2.png").read_bytes()
    assert draw("p-2.png", "--output", ".") == 0  # drawn by an earlier call, but an image of this one
    assert (tmp_path / "p-2.png").read_bytes() == drawn
    assert (tmp_path / "p-2-2.png").exists()


def test_images_of_one_name_and_files_of_others_keep_theirs(draw, pictures, tmp_path):
    for name, source in (("a/1.png", 0), ("b/1.png", 1), ("b/deep/1.png", 2), ("found/1.png", 2)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(pictures[source], tmp_path / name)
    for _ in range(2):
        assert draw("a", "b/1.png", "b", "--output", "found") == 0
        assert (tmp_path / "found/1.png").read_bytes() == pictures[2].read_bytes()
        sizes = {path.name: Image.open(path).size for path in (tmp_path / "found").iterdir()}
        first, second, third = (Image.open(path).size for path in pictures[:3])
        assert sizes == {"1.png": third, "1-2.png": first, "1-3.png": second, "1-4.png": third}


def test_pictures_are_not_taken_for_images(draw, pictures, tmp_path, capsys):
    shutil.copy(pictures[0], tmp_path / "p.png")
    for _ in range(2):
        assert draw(".", "--output", "found") == 0
        assert capsys.readouterr().out.count("\n") == 1
    assert [path.name for path in (tmp_path / "found").iterdir()] == ["p.png"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("p.png", "--output", "notes.txt"), "notes.txt: is a file, and --output wants a folder."),
        (("p.png", "--output", "notes.txt/found"), "notes.txt"),
        ((".", "--output", "."), ".: is where the pictures go to. Give another folder as --output."),
        (("empty", "--output", "found"), "empty: holds no image"),
    ],
)
def test_folders_that_cannot_be_are_said_in_one_line(draw, pictures, tmp_path, capsys, arguments, reason):
    shutil.copy(pictures[0], tmp_path / "p.png")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    assert draw(*arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert reason in error
    assert error.count("\n") == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.fixture
def film(exported, monkeypatch, tmp_path):
    """A function: arguments -> the exit code of video.py, in a folder that holds in.avi, three frames."""
    cv2 = pytest.importorskip("cv2", reason="opencv-python is not installed")
    import video

    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("in.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), 40, np.uint8))
    writer.release()

    def film(*arguments, model="detector.tflite"):
        monkeypatch.setattr(sys, "argv", ["video.py", *map(str, (exported / model, *arguments))])
        return video.main()

    return film


def test_a_film_goes_into_a_new_folder(film, tmp_path, capsys):
    assert film("in.avi", "--output", "new/deep/out.avi") == 0
    assert capsys.readouterr().out.startswith("3 frames")
    assert (tmp_path / "new/deep/out.avi").stat().st_size > 1000


def test_films_that_cannot_be_are_said_in_one_line(film, monkeypatch, tmp_path, capsys):
    before = (tmp_path / "in.avi").read_bytes()
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    cases = [
        (("in.avi", "--output", "out.webm"), "out.webm: OpenCV cannot write this film. Give a name in .mp4 or .avi."),
        (("in.avi", "--output", "in.avi/out.avi"), "in.avi"),
        (("in.avi", "--output", "./in.avi"), "in.avi: is the film that is read. Give another --output."),
        (("none.avi", "--output", "out.avi"), "none.avi: no camera or film that OpenCV can open"),
        (("in.avi",), "no display for a window (DISPLAY is not set). Write a film with --output drawn.mp4."),
    ]
    for arguments, reason in cases:
        assert film(*arguments) == 2, arguments
        out, error = capsys.readouterr()
        assert out == ""
        assert error.startswith("error: ")
        assert reason in error
        assert error.count("\n") == 1
    assert (tmp_path / "in.avi").read_bytes() == before
    assert film("in.avi", "--output", "out.avi", model="none.tflite") == 2
    assert "none.tflite" in capsys.readouterr().err


def test_an_opencv_without_windows_says_so(film, monkeypatch, capsys):
    import cv2

    def missing(*_):
        raise cv2.error("The function is not implemented.\nRebuild the library with Windows or GTK+ support.")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", missing)
    assert film("in.avi") == 2
    assert capsys.readouterr().err == (
        "error: this OpenCV opens no windows (opencv-python does). Write a film with --output drawn.mp4.\n"
    )
