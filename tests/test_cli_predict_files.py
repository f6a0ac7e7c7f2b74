"""Which images `kzoo predict` takes, and where their pictures go."""

from kzoo.cli import predict as predict_command


def test_images_of_the_same_name_get_pictures_of_their_own(tmp_path):
    sources = [tmp_path / "a" / "x.jpg", tmp_path / "b" / "x.jpg", tmp_path / "b" / "x.png"]
    places = predict_command._places(sources, tmp_path / "out")
    assert [place.name for place in places.values()] == ["x.jpg", "x-2.jpg", "x.png"]


def test_a_picture_never_replaces_its_image(tmp_path):
    source = tmp_path / "x.jpg"
    assert predict_command._places([source], tmp_path)[source].name == "x-2.jpg"


def test_folders_are_searched_once_and_without_the_output(tmp_path):
    for name in ("in/a.jpg", "in/sub/b.PNG", "in/out/c.jpg", "in/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    given = [tmp_path / "in", tmp_path / "in" / "a.jpg"]
    assert [p.name for p in predict_command._images(given, tmp_path / "in" / "out")] == ["a.jpg", "b.PNG"]
