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
