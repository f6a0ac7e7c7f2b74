"""Which images `kzoo predict` takes, and where their pictures go."""

import json
from pathlib import Path

from kzoo.cli import predict as predict_command


def test_images_of_the_same_name_get_pictures_of_their_own(tmp_path):
    sources = [tmp_path / "a" / "x.jpg", tmp_path / "b" / "x.jpg", tmp_path / "b" / "x.png"]
    places = predict_command._places(sources, tmp_path / "out")
    assert [place.name for place in places.values()] == ["x.jpg", "x-2.jpg", "x.png"]


def test_a_picture_never_replaces_its_image(tmp_path):
    source = tmp_path / "x.jpg"
    source.write_bytes(b"")
    assert predict_command._places([source], tmp_path)[source].name == "x-2.jpg"


def test_no_image_is_replaced_by_the_picture_of_another(tmp_path):
    for name in ("b.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    sources = [tmp_path / "sub" / "b.png", tmp_path / "b.png"]
    assert [p.name for p in predict_command._places(sources, tmp_path).values()] == ["b-2.png", "b-3.png"]


def test_masks_have_names_that_no_picture_has(tmp_path):
    sources = [tmp_path / "a.jpg", tmp_path / "a.png", tmp_path / "a-mask.png"]
    places = predict_command._places(sources, tmp_path / "out", masks=True)
    assert [place.name for place in places.values()] == ["a.jpg", "a-2.png", "a-mask-2.png"]
    assert [p.name for p in predict_command._places(sources, tmp_path / "out").values()] == [p.name for p in sources]


def test_only_what_an_earlier_call_wrote_is_replaced(tmp_path):
    for name in ("a.jpg", "a-mask.png", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"")
    listed = {"picture": "elsewhere/a.jpg", "mask": "elsewhere/a-mask.png"}, {"picture": str(tmp_path / "c.jpg")}, "?"
    (tmp_path / "predictions.json").write_text(json.dumps({"images": listed}))
    sources = [Path("photos/a.jpg"), Path("photos/b.jpg"), tmp_path / "c.jpg"]
    places = predict_command._places(sources, tmp_path, masks=True)
    assert [place.name for place in places.values()] == ["a.jpg", "b-2.jpg", "c-2.jpg"]


def test_folders_are_searched_once_and_without_the_output(tmp_path):
    for name in ("in/a.jpg", "in/sub/b.PNG", "in/out/c.jpg", "in/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    given = [tmp_path / "in", tmp_path / "in" / "a.jpg"]
    assert [p.name for p in predict_command._images(given, tmp_path / "in" / "out")] == ["a.jpg", "b.PNG"]
