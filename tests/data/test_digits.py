"""The digits: made without a download, split by source digit, boxes tight around the ink of the mask."""

import io

import numpy as np
import pytest
from PIL import Image

from kzoo.data import named
from kzoo.data.readers import read

pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")


@pytest.fixture(scope="module")
def digits():
    return named.module("digits")


@pytest.fixture(scope="module")
def scans():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8) / 16).astype(np.float32), labels


@pytest.fixture(scope="module")
def built(digits, tmp_path_factory):
    """The data set in small, prepared once: 12, 5 and 6 images."""
    folder = tmp_path_factory.mktemp("digits")
    original = digits.SPLITS
    digits.SPLITS = {"train": (12, 1197), "val": (5, 200), "test": (6, 400)}
    try:
        named.prepare("digits", folder)
        named.prepare("digits/single", folder)
    finally:
        digits.SPLITS = original
    return folder


def pictures(digits, scans, count=40, seed=0):
    sources = digits.source_splits(scans[1])["train"]
    return [digits.compose(np.random.default_rng([seed, i]), sources, *scans) for i in range(count)]


def test_every_source_digit_is_in_exactly_one_split(digits, scans):
    sources = digits.source_splits(scans[1])
    assert {split: len(rows) for split, rows in sources.items()} == {"train": 1197, "val": 200, "test": 400}
    assert sorted(np.concatenate(list(sources.values())).tolist()) == list(range(1797))


def test_every_split_has_all_digits_in_like_numbers(digits, scans):
    for rows in digits.source_splits(scans[1]).values():
        counts = np.bincount(scans[1][rows], minlength=10)
        assert counts.min() >= 0.9 * counts.mean()


def test_boxes_are_tight_around_the_ink_in_the_mask(digits, scans):
    for _, mask, boxes, used in pictures(digits, scans):
        for (x1, y1, x2, y2), source in zip(boxes.astype(int), used, strict=True):
            ink = mask[y1:y2, x1:x2] == scans[1][source] + 1
            assert ink[0].any()
            assert ink[-1].any()
            assert ink[:, 0].any()
            assert ink[:, -1].any()


def test_all_ink_is_inside_a_box_of_its_digit(digits, scans):
    for _, mask, boxes, used in pictures(digits, scans):
        rest = mask.copy()
        for (x1, y1, x2, y2), source in zip(boxes.astype(int), used, strict=True):
            window = rest[y1:y2, x1:x2]
            window[window == scans[1][source] + 1] = 0
        assert not rest.any()


def test_pictures_vary_in_number_and_size_and_overlap_little(digits, scans):
    made = pictures(digits, scans, 150)
    counts = [len(boxes) for _, _, boxes, _ in made]
    assert (min(counts), max(counts)) == (1, 6)
    sides = np.concatenate([(boxes[:, 2:] - boxes[:, :2]).max(1) for _, _, boxes, _ in made])
    assert sides.min() < 26
    assert sides.max() > 55
    for _, _, boxes, _ in made:
        shared = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        shared = np.prod(np.maximum(shared, 0), axis=-1)
        area = np.diag(shared)
        smaller = np.minimum(area[:, None], area[None])
        assert (shared[~np.eye(len(boxes), dtype=bool)] <= 0.06 * smaller[~np.eye(len(boxes), dtype=bool)]).all()


def test_the_same_seed_makes_the_same_picture_and_another_seed_another(digits, scans):
    first, again, other = (pictures(digits, scans, 1, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[2], again[2])
    assert (first[0] != other[0]).any()


def test_the_reader_gives_encoded_pictures_with_boxes_inside(built):
    annotations = read("digits", "train", data_dir=built)
    assert annotations.class_names == [str(digit) for digit in range(10)]
    assert annotations.faults == []
    assert len(annotations.samples) == 12
    for sample in annotations.samples:
        assert sample.image is None
        assert sample.pixels.dtype == np.uint8
        assert Image.open(io.BytesIO(sample.pixels.tobytes())).size == (160, 160) == sample.size
        assert 1 <= len(sample.boxes) <= 6
        np.testing.assert_allclose(sample.boxes, np.round(sample.boxes), atol=1e-4)
        assert (sample.boxes >= 0).all()
        assert (sample.boxes <= 160).all()


def test_single_has_one_large_digit_a_picture(built):
    annotations = read("digits/single", data_dir=built)
    assert len(annotations.samples) == 23
    assert all(len(sample.labels) == 1 for sample in annotations.samples)
    sides = [(sample.boxes[0, 2:] - sample.boxes[0, :2]).max() for sample in annotations.samples]
    assert min(sides) >= 32  # of 40 pixels, turned and stretched
    assert max(sides) > 64
    with pytest.raises(ValueError, match=r"Unknown variant of digits 'singel'. Did you mean 'single'\?"):
        read("digits/singel", data_dir=built)


def test_the_largest_digit_fits_into_the_picture(digits, scans):
    rng = np.random.default_rng(0)
    largest = digits.DigitsConfig(name="largest", smallest=digits.SINGLE.largest, largest=digits.SINGLE.largest)
    assert max(max(digits.enlarge(rng, scan, largest).shape) for scan in scans[0]) <= digits.SIZE


def test_splits_synonyms_and_ids_over_all_splits(built):
    assert len(read("digits", "validation", data_dir=built).samples) == 5
    samples = read("digits", data_dir=built).samples
    assert len({sample.image_id for sample in samples}) == len(samples) == 23
    with pytest.raises(ValueError, match=r"digits: Unknown split 'tests'. Did you mean 'test'\?"):
        read("digits", "tests", data_dir=built)


def test_the_mask_and_the_sources_are_in_the_data_set(built, scans, digits):
    import tensorflow_datasets as tfds

    allowed = digits.source_splits(scans[1])
    for split in ("train", "test"):
        for example in tfds.as_numpy(named.prepare("digits", built).as_dataset(split=split)):
            labels, sources = example["objects"]["label"], example["objects"]["source"]
            assert set(sources) <= set(allowed[split])
            np.testing.assert_array_equal(labels, scans[1][sources])
            assert example["segmentation_mask"].shape == (160, 160, 1)
            assert set(np.unique(example["segmentation_mask"])) == {0, *(labels + 1)}


def test_the_digits_can_be_segmented(built):
    import kzoo

    options = {"image_size": None, "data_dir": built, "task": "segmentation"}
    data = kzoo.data.load("digits", "test", batch_size=1, **options)
    assert data.class_names == ["background", *map(str, range(10))]
    assert data.annotations.faults == []
    batches = list(data)
    assert len(batches) == 6
    for (images, targets), sample in zip(batches, data.annotations.samples, strict=True):
        numbers = np.asarray(Image.open(io.BytesIO(sample.mask_pixels)))
        np.testing.assert_array_equal(targets["masks"][0], numbers)
        assert images.shape == (1, 160, 160, 3)
        assert numbers.any()


def test_a_second_use_builds_nothing(built, capsys):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    read("digits", "val", data_dir=built)
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before
    assert "building" not in capsys.readouterr().err


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown data set 'digit'. Did you mean 'digits'\? Valid: bccd, camvid, "):
        named.prepare("digit")


def test_the_names_are_those_of_the_folders():
    assert named.names() == ["bccd", "camvid", "digits", "isbi2012"]
    assert [name for name in named.names() if not named.has_boxes(name)] == ["camvid", "isbi2012"]


def test_data_sets_are_kept_where_one_says(monkeypatch, tmp_path):
    monkeypatch.delenv("KZOO_DATA_DIR", raising=False)
    assert named.root().parts[-3:] == (".cache", "kzoo", "data")
    monkeypatch.setenv("KZOO_DATA_DIR", str(tmp_path / "env"))
    assert named.root() == tmp_path / "env"
    assert named.root(tmp_path / "given") == tmp_path / "given"


def test_builders_are_found_inside_an_installed_wheel(monkeypatch, tmp_path):
    (tmp_path / "kzoo" / "_data" / "shapes").mkdir(parents=True)
    (tmp_path / "kzoo" / "_data" / "shapes" / "shapes_dataset_builder.py").touch()
    monkeypatch.setattr(named, "PACKAGE", tmp_path / "kzoo")
    assert named.names() == ["shapes"]
