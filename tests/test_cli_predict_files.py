"""Which images `kzoo predict` takes, and where their pictures go."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kzoo import cli
from kzoo.cli import predict as predict_command
from kzoo.cli import targets
from kzoo.cli.predict import Source


def test_images_of_the_same_name_get_pictures_of_their_own(tmp_path):
    sources = [Source(tmp_path / name) for name in ("a/x.jpg", "b/x.jpg", "b/x.png")]
    places = predict_command._places(sources, tmp_path / "out")
    assert [place.name for place in places.values()] == ["x.jpg", "x-2.jpg", "x.png"]


def test_a_picture_never_replaces_its_image(tmp_path):
    source = tmp_path / "x.jpg"
    source.write_bytes(b"")
    assert predict_command._places([Source(source)], tmp_path)[Source(source)].name == "x-2.jpg"


def test_no_image_is_replaced_by_the_picture_of_another(tmp_path):
    for name in ("b.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    sources = [Source(tmp_path / "sub" / "b.png"), Source(tmp_path / "b.png")]
    assert [p.name for p in predict_command._places(sources, tmp_path).values()] == ["b-2.png", "b-3.png"]


def test_masks_have_names_that_no_picture_has(tmp_path):
    sources = [Source(tmp_path / name) for name in ("a.jpg", "a.png", "a-mask.png")]
    places = predict_command._places(sources, tmp_path / "out", masks=True)
    assert [place.name for place in places.values()] == ["a.jpg", "a-2.png", "a-mask-2.png"]
    assert [p.name for p in predict_command._places(sources, tmp_path / "out").values()] == [
        source.path.name for source in sources
    ]


def test_only_what_an_earlier_call_wrote_is_replaced(tmp_path):
    for name in ("a.jpg", "a-mask.png", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"")
    listed = {"picture": "elsewhere/a.jpg", "mask": "elsewhere/a-mask.png"}, {"picture": str(tmp_path / "c.jpg")}, "?"
    (tmp_path / "predictions.json").write_text(json.dumps({"images": listed}))
    sources = [Source(Path("photos/a.jpg")), Source(Path("photos/b.jpg")), Source(tmp_path / "c.jpg")]
    places = predict_command._places(sources, tmp_path, masks=True)
    assert [place.name for place in places.values()] == ["a.jpg", "b-2.jpg", "c-2.jpg"]


def test_stacks_are_taken_page_by_page(tmp_path):
    pages = [Image.new("L", (5, 4), grey) for grey in (10, 20, 30)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")
    sources = [*predict_command._pages(tmp_path / "stack.tif"), *predict_command._pages(tmp_path / "one.tif")]
    places = predict_command._places(sources, tmp_path / "out", masks=True)
    assert [p.name for p in places.values()] == [*(f"stack-page{n}.jpg" for n in (1, 2, 3)), "one.jpg"]
    read = list(predict_command._read(sources, []))
    assert [int(image[0, 0, 0]) for _, image in read] == [10, 20, 30, 10]
    entries = [source.entry(1, image) for source, image in read]
    assert [entry.get("page") for entry in entries] == [1, 2, 3, None]


def test_folders_are_searched_once_and_without_the_output(tmp_path):
    for name in ("in/a.jpg", "in/sub/b.PNG", "in/out/c.jpg", "in/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    given = [tmp_path / "in", tmp_path / "in" / "a.jpg"]
    assert [p.name for p in predict_command._images(given, tmp_path / "in" / "out")] == ["a.jpg", "b.PNG"]


def test_an_output_that_cannot_be_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is where the pictures go to\. Give another folder as --output"):
        list(predict_command._images([tmp_path], tmp_path))
    with pytest.raises(ValueError, match=r"a.png: is a file, and --output wants a folder"):
        predict_command.predict("run", [tmp_path], tmp_path / "a.png")


class Tiring:
    """Finds one object in each image, and is stopped when it has been asked so often."""

    class_names = ("thing",)

    def __init__(self, calls):
        self.calls = calls

    def asked(self):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt


class TiringDetector(Tiring):
    def detect(self, images):
        self.asked()
        count = len(images)
        boxes = np.tile(np.float32([1, 2, 9, 8]), (count, 1, 1))
        return {"boxes": boxes, "labels": np.zeros((count, 1), int), "scores": np.full((count, 1), 0.9, "float32")}


class TiringSegmenter(Tiring):
    def segment(self, images):
        self.asked()
        return {"labels": np.zeros(images.shape[:3], int), "scores": np.ones(images.shape[:3], "float32")}


@pytest.mark.parametrize(("network", "calls", "kept"), [(TiringDetector, 1, 8), (TiringSegmenter, 3, 3)])
def test_an_interrupt_keeps_what_was_found(monkeypatch, tmp_path, network, calls, kept):
    for number in range(10):
        Image.new("RGB", (16, 12)).save(tmp_path / f"{number}.png")
    output = tmp_path / "found"
    command = ["predict", "x.keras", str(tmp_path), "--output", str(output)]
    monkeypatch.setattr(targets, "load", lambda name: network(calls))
    assert cli.run(command) == 130
    content = json.loads((output / "predictions.json").read_text())
    assert [Path(one["file"]).name for one in content["images"]] == [f"{number}.png" for number in range(kept)]
    if network is TiringDetector:
        assert [one["image_id"] for one in content["detections"]] == list(range(1, kept + 1))

    monkeypatch.setattr(targets, "load", lambda name: network(10))
    assert cli.run(command) == 0
    pictures = {f"{number}.png" for number in range(10)}  # those of the first call were replaced, not numbered
    masks = {f"{number}-mask.png" for number in range(10)} if network is TiringSegmenter else set()
    assert {path.name for path in output.iterdir()} == pictures | masks | {"predictions.json"}


def test_nothing_that_can_be_read_is_an_error_and_writes_nothing(monkeypatch, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    monkeypatch.setattr(targets, "load", lambda name: TiringDetector(1))
    assert cli.run(["predict", "x.keras", str(tmp_path), "--output", str(tmp_path / "found")]) == 2
    assert not (tmp_path / "found").exists()
