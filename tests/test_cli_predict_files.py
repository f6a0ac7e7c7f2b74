"""Which images `kzoo predict` takes, and where their pictures go."""

import json
from pathlib import Path

import pytest
from PIL import Image

from kzoo.cli import predict as predict_command
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
