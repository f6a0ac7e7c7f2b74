"""Recognising a source, and reading headers of images."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from kzoo.data.readers import read
from kzoo.data.readers.headers import decode_error, read_header
from kzoo.data.readers.layout import inside


def test_an_unknown_layout_says_what_is_there_and_what_is_expected(tmp_path, image_file):
    (tmp_path / "pictures").mkdir()
    image_file(tmp_path / "a.jpg")
    image_file(tmp_path / "b.jpg")
    with pytest.raises(ValueError, match=r"found pictures/, 2 \.jpg files\.") as error:
        read(tmp_path)
    assert all(word in str(error.value) for word in ("VOC", "COCO", "YOLO", str(tmp_path)))
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_no_data_set(tmp_path):
    with pytest.raises(ValueError, match="found nothing"):
        read(tmp_path)


def test_a_missing_folder_is_answered_with_the_names_of_data_sets(tmp_path):
    with pytest.raises(ValueError, match=r"neither a folder nor a data set's name.*bccd, camvid, digits, isbi2012"):
        read(tmp_path / "missing")


def test_class_names_that_no_box_has_are_refused(voc):
    root = voc("a", [("WBC", (1, 1, 10, 10)), ("RBC", (5, 5, 20, 20))])
    with pytest.raises(
        ValueError, match=r"no box has one of the classes wbc, rbc. The first that is there: line 4: 'WBC'"
    ):
        read(root, class_names=["wbc", "rbc"])
    assert [len(sample.boxes) for sample in read(root, class_names=["RBC", "rbc"]).samples] == [1]


def test_class_names_must_differ(tmp_path):
    with pytest.raises(ValueError, match="twice"):
        read(tmp_path, class_names=["cat", "cat"])


def test_paths_given_relative_to_the_working_directory_are_read(voc, monkeypatch):
    root = voc("a", [("cat", (1, 1, 9, 9))])
    monkeypatch.chdir(root.parent)
    (sample,) = read("voc").samples
    assert sample.image.is_absolute()


@pytest.mark.parametrize(
    ("parts", "stays"),
    [
        (("a.jpg",), True),
        (("sub", "../a.jpg"), True),
        ((".",), True),
        (("../data2/a.jpg",), False),
        (("../a.jpg",), False),
        (("sub", "../../a.jpg"), False),
        (("/etc/passwd",), False),
        (("..\\a.jpg",), False),
        (("a\0.jpg",), False),
    ],
)
def test_inside_refuses_what_leads_out(tmp_path, parts, stays):
    assert (inside(tmp_path / "data", *parts) is not None) == stays


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("orientation", [None, 6])
def test_a_header_has_the_size_that_the_upright_image_has(format, orientation):
    exif = Image.Exif()
    if orientation and format not in ("BMP", "GIF"):  # these have no EXIF data
        exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(file, format, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    header = read_header(file.getvalue())
    assert header.error is None
    assert header.size == upright.shape[:2]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_file_cut_short_anywhere_is_found(format, tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)).save(file, format)
    whole = file.getvalue()
    assert read_header(whole).error is None
    for share in (0, 0.02, 0.3, 0.9):
        path = tmp_path / "cut"
        path.write_bytes(whole[: int(len(whole) * share)])
        assert read_header(path).error
        assert read_header(whole[: int(len(whole) * share)]).error
        assert decode_error(path)


def test_bytes_behind_the_image_are_no_fault():
    file = io.BytesIO()
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(file, "JPEG")
    assert read_header(file.getvalue() + b"\0" * 5000).error is None


def test_a_missing_file_is_an_error_in_words(tmp_path):
    assert read_header(tmp_path / "none.jpg").error
