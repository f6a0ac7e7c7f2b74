"""Proposals on disk: found once, whole or not at all, resumed after a stop; and those of a file."""

import json

import numpy as np
import pytest
from PIL import Image

from kzoo.proposals import cache, cache_folder, read_file, search_images, write_file


@pytest.fixture
def searched(monkeypatch):
    """Counts searches; the made one says how bright the image is."""
    calls = []

    def search(image, mode, max_proposals, **settings):
        calls.append(int(image.mean()))
        if image.mean() == 200:
            raise KeyboardInterrupt
        boxes = np.arange(12, dtype="float32").reshape(3, 4)
        return boxes + np.float32(image.mean() + settings.get("min_side", 0))

    monkeypatch.setattr(cache, "selective_search", search)
    return calls


def images(folder, values):
    paths = []
    for value in values:
        paths.append(folder / f"{value}.png")
        Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(paths[-1])
    return paths


def test_an_image_is_searched_once_whatever_its_name_and_again_for_other_settings(tmp_path, searched):
    paths, told = images(tmp_path, [10, 20]), []
    first = search_images(paths, folder=tmp_path / "kept", progress=lambda *x: told.append(x))
    assert told == [(1, 2), (2, 2)]
    assert [boxes[0, 0] for boxes in first] == [10, 20]
    paths[0] = paths[0].rename(tmp_path / "renamed.png")
    again = search_images(paths, max_proposals=2, folder=tmp_path / "kept")
    np.testing.assert_array_equal(again, [boxes[:2] for boxes in first])
    assert sorted(searched) == [10, 20]
    assert search_images(paths[:1], folder=tmp_path / "kept", min_side=5)[0][0, 0] == 15
    search_images(paths[:1], "quality", folder=tmp_path / "kept")
    assert sorted(searched) == [10, 10, 10, 20]


def test_a_stopped_search_goes_on_where_it_was(tmp_path, searched):
    paths = images(tmp_path, [10, 20, 200, 30])
    with pytest.raises(KeyboardInterrupt):
        search_images(paths, folder=tmp_path / "kept", workers=1)
    assert searched[:3] == [10, 20, 200]
    searched.clear()
    search_images([paths[0], paths[1], paths[3]], folder=tmp_path / "kept")
    assert set(searched) <= {30}
    assert not list((tmp_path / "kept").rglob(".*"))  # no half-written file


def test_a_long_search_says_how_far_it_is_where_there_is_no_terminal(tmp_path, searched, monkeypatch, capsys):
    paths = images(tmp_path, [10, 20, 30])
    search_images(paths[:1], folder=tmp_path / "kept")
    assert capsys.readouterr().err == ""  # it took no minute
    monkeypatch.setattr(cache, "SECONDS", 0)
    search_images(paths[1:], folder=tmp_path / "kept")
    assert capsys.readouterr().err.splitlines() == [
        "selective search, fast: 1 of 2 images",
        "selective search, fast: 2 of 2 images",
    ]


def test_a_damaged_entry_is_searched_again(tmp_path, searched):
    paths = images(tmp_path, [10])
    (first,) = search_images(paths, folder=tmp_path)
    (entry,) = tmp_path.rglob("*.npy")
    for damage in (b"", entry.read_bytes()[:-9], b"\x80\x04K\x01."):
        entry.write_bytes(damage)
        np.testing.assert_array_equal(search_images(paths, folder=tmp_path)[0], first)
    assert len(searched) == 4


def test_arrays_and_no_images_at_all_are_taken_and_a_missing_file_is_named(tmp_path, searched):
    assert search_images([], folder=tmp_path) == []
    pixels = np.full((4, 5, 3), 40, np.uint8)
    assert search_images([pixels, pixels[:, :3]], folder=tmp_path, workers=1)[1][0, 0] == 40
    assert len(searched) == 2
    with pytest.raises(ValueError, match=r"gone\.png: not a readable image"):
        search_images([tmp_path / "gone.png"], folder=tmp_path)


def test_the_folder_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("KZOO_PROPOSALS_DIR", str(tmp_path))
    assert cache_folder() == tmp_path


def test_a_file_gives_back_what_was_written_best_first(tmp_path):
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], "float32")
    path = write_file(tmp_path / "p.npz", {"a/b.jpg": boxes, "empty.jpg": boxes[:0]})
    read = read_file(path)
    np.testing.assert_array_equal(read["a/b.jpg"], boxes)
    assert read["empty.jpg"].shape == (0, 4)
    np.savez(tmp_path / "scored.npz", x=np.c_[boxes, [0.1, 0.9]])
    np.testing.assert_array_equal(read_file(tmp_path / "scored.npz")["x"], boxes[::-1])


def test_coco_results_are_read_by_image_and_score(tmp_path):
    path = tmp_path / "p.json"
    entries = [
        {"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.2, "category_id": 1},
        {"image_id": 9, "bbox": [0, 0, 5, 5]},
        {"image_id": 7, "bbox": [5, 5, 1, 1], "score": 0.8},
    ]
    path.write_text(json.dumps(entries))
    read = read_file(path)
    np.testing.assert_array_equal(read["7"], [[5, 5, 6, 6], [1, 2, 4, 6]])
    np.testing.assert_array_equal(read["9"], [[0, 0, 5, 5]])


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.json", "{}", "expected a list"),
        ("a.json", '[{"image_id": 1, "bbox": [1, 2]}]', "entry 0 is no"),
        ("a.json", "[", "not a readable file"),
        ("a.npz", "no zip", "not a readable file"),
        ("a.txt", "", r"read from \.npz or \.json"),
    ],
)
def test_a_file_that_is_none_is_named_with_its_fault(tmp_path, name, content, fault):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=fault):
        read_file(tmp_path / name)


def test_arrays_of_another_shape_and_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "shape.npz", x=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"\(P, 4\) or \(P, 5\)"):
        read_file(tmp_path / "shape.npz")
    np.savez(tmp_path / "pickled.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"pickled\.npz: not a readable file"):
        read_file(tmp_path / "pickled.npz")
