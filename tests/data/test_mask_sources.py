"""Masks as people and their tools save them: colours, JPEGs, endings of names, CVAT's and Roboflow's classes."""

import numpy as np
import pytest
from made_data import write_array as write
from PIL import Image

from kzoo.data import check
from kzoo.data.readers import NoSplitsError
from kzoo.data.readers.mask_files import COLOUR, number_of, read_numbers, shown
from kzoo.data.readers.masks import labels_of, read

RED, BLUE = (128, 0, 0), (0, 0, 255)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype("uint8")


@pytest.fixture
def squares():
    """Classes (40, 60): a square of 1, a square of 2."""
    classes = np.zeros((40, 60), "uint8")
    classes[5:25, 5:25], classes[10:35, 35:55] = 1, 2
    return classes


def test_colours_have_numbers_of_their_own_and_greys_keep_theirs(tmp_path):
    assert (number_of(RED), shown(number_of(RED))) == (COLOUR + 0x800000, "#800000")
    assert (number_of((7, 7, 7)), shown(7)) == (7, "7")
    colours = np.array([[RED, BLUE, (0, 0, 0)], [(255, 255, 255), (0, 0, 1), (1, 1, 1)]], "uint8")
    expected = [[COLOUR + 0x800000, COLOUR + 255, 0], [255, COLOUR + 1, 1]]
    write(tmp_path / "rgb.png", colours)
    np.testing.assert_array_equal(read_numbers(tmp_path / "rgb.png"), expected)
    write(tmp_path / "rgba.png", np.concatenate([colours, np.full((2, 3, 1), 9, "uint8")], -1))
    np.testing.assert_array_equal(read_numbers(tmp_path / "rgba.png"), expected)
    Image.fromarray(colours[..., 0]).convert("LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_numbers(tmp_path / "la.png"), colours[..., 0])


@pytest.fixture
def coloured(tmp_path, image, squares):
    write(tmp_path / "JPEGImages" / "a.jpg", image)
    write(tmp_path / "SegmentationClass" / "a.png", np.array([(0, 0, 0), RED, BLUE], "uint8")[squares])
    return tmp_path


def test_without_names_the_colours_are_the_classes(coloured, squares):
    found = read(coloured)
    assert found.class_names == ["0", "#0000ff", "#800000"]
    np.testing.assert_array_equal(labels_of(found, found.samples[0]), np.array([0, 2, 1])[squares])
    assert found.counts.tolist() == [40 * 60 - 400 - 500, 500, 400]
    chosen = read(coloured, values=["#800000", 0], void="#0000ff")
    assert (chosen.class_names, chosen.faults) == (["#800000", "0"], [])
    np.testing.assert_array_equal(labels_of(chosen, chosen.samples[0]), np.array([1, 0, 255])[squares])
    (fault,) = read(coloured, values=["#800000", 0]).faults
    assert "500 pixels of a.jpg are #0000ff, which is no class" in fault.detail
    assert "#0000ff" in check(coloured, task="segmentation").summary()
    with pytest.raises(ValueError, match="'#12' is no number and no colour"):
        read(coloured, values=["#12", 0])


def test_cvats_labelmap_names_colours_and_places(coloured, squares):
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::", "cell:0,0,255::", "dirt:128,0,0:a,b:c"]
    (coloured / "labelmap.txt").write_text("\n".join(lines))
    (coloured / "ImageSets" / "Segmentation").mkdir(parents=True)
    (coloured / "ImageSets" / "Segmentation" / "default.txt").write_text("a\n")
    found = read(coloured)
    assert (found.class_names, found.faults) == (["background", "cell", "dirt"], [])
    np.testing.assert_array_equal(labels_of(found, found.samples[0]), np.array([0, 2, 1])[squares])
    assert len(read(coloured, "default").samples) == 1
    with pytest.raises(NoSplitsError):  # what is all in one part is not split
        read(coloured, "train")
    write(coloured / "SegmentationClass" / "a.png", squares)  # of one channel: the places in the list
    found = read(coloured)
    np.testing.assert_array_equal(labels_of(found, found.samples[0]), squares)
    (coloured / "labelmap.txt").write_text("background:0,0,0::\ncell:::\n")
    with pytest.raises(ValueError, match=r"labelmap.txt: line 2 has no colour: 'cell:::'"):
        read(coloured)


def test_roboflows_folders_name_their_numbers(tmp_path, image, squares):
    for split in ("train", "valid"):
        write(tmp_path / split / "a_jpg.rf.1.jpg", image)
        write(tmp_path / split / "a_jpg.rf.1_mask.png", squares)
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n2, bright\n1, dark\n")
    write(tmp_path / "train" / "alone.jpg", image)
    found = read(tmp_path, "val")
    assert (found.class_names, found.values, found.faults) == (["background", "bright", "dark"], [0, 2, 1], [])
    np.testing.assert_array_equal(labels_of(found, found.samples[0]), np.array([0, 2, 1])[squares])
    assert [(fault.kind, fault.file) for fault in read(tmp_path, "train").faults] == [
        ("missing mask", "train/alone.jpg")
    ]
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\nx, background\n")
    with pytest.raises(ValueError, match=r"_classes.csv: line 2 is no number and name: 'x, background'"):
        read(tmp_path)


def test_a_mask_of_the_images_name_goes_before_one_with_an_ending(tmp_path, image, squares):
    write(tmp_path / "images" / "a.png", image)
    write(tmp_path / "images" / "b_gt.png", image)  # an image may have such a name, too
    for name in ("a", "a_mask", "b_gt"):
        write(tmp_path / "masks" / f"{name}.png", squares)
    found = read(tmp_path)
    assert [sample.mask.name for sample in found.samples] == ["a.png", "b_gt.png"]
    assert [(fault.kind, fault.file) for fault in found.faults] == [("missing image", "masks/a_mask.png")]


@pytest.mark.parametrize("channels", [1, 3])
def test_black_and_white_jpegs_are_masks(tmp_path, image, squares, channels):
    write(tmp_path / "images" / "a.jpg", image)
    white = np.where(squares == 1, 255, 0).astype("uint8")
    write(tmp_path / "masks" / "a.jpg", white if channels == 1 else np.repeat(white[..., None], 3, -1))
    stored = np.asarray(Image.open(tmp_path / "masks" / "a.jpg"))
    assert len(np.unique(stored)) > 2  # which is why
    np.testing.assert_array_equal(read_numbers(tmp_path / "masks" / "a.jpg"), white)
    assert read(tmp_path).values == [0, 255]
    for plain in (0, 255):
        write(tmp_path / "plain.jpg", np.full((9, 9), plain, "uint8"))
        assert (read_numbers(tmp_path / "plain.jpg") == plain).all()


@pytest.mark.parametrize("factor", [1, 85, 120])
def test_jpegs_of_more_than_black_and_white_are_refused(tmp_path, image, squares, factor):
    write(tmp_path / "images" / "a.jpg", image)
    write(tmp_path / "masks" / "a.jpg", squares * factor)
    with pytest.raises(ValueError, match=r"a\.jpg: a JPEG changes numbers and keeps only black and white"):
        read(tmp_path)
    write(tmp_path / "colour.jpg", np.array([(0, 0, 0), (255, 0, 0), BLUE], "uint8")[squares])
    with pytest.raises(ValueError, match="only black and white"):
        read_numbers(tmp_path / "colour.jpg")


def test_soft_edges_are_told_from_classes(tmp_path, image, squares):
    write(tmp_path / "images" / "a.png", image)
    write(tmp_path / "masks" / "a.png", np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype("uint8"))
    with pytest.raises(ValueError, match=r"different numbers.*soft edges"):
        read(tmp_path)
