"""A file an object in a folder an image: numbered objects, splits, and what is left out."""

import numpy as np
import pytest
from made_data import write_array

import kzoo.data
from kzoo.data.readers import has_only_masks, read
from kzoo.data.readers.masks import labels_of, numbers_of

SIZE = (20, 30)


def nuclei(*corners):
    """A mask (H, W) of 0 and 255 for each (top, left, bottom, right)."""
    masks = np.zeros((len(corners), *SIZE), np.uint8)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = 255
    return masks


def add(folder, name, masks, size=SIZE):
    """Writes an image and its masks as the Data Science Bowl has them; images have an alpha channel there."""
    image = np.full((*size, 4), 255, np.uint8)
    image[..., :3] = np.random.default_rng(len(name)).integers(0, 255, (*size, 3))
    write_array(folder / name / "images" / f"{name}.png", image)
    (folder / name / "masks").mkdir()
    for number, mask in enumerate(masks):
        write_array(folder / name / "masks" / f"{name}{number:03d}ab.png", mask)


@pytest.fixture
def bowl(tmp_path):
    train = tmp_path / "stage1_train"
    add(train, "a1", nuclei((2, 3, 8, 9), (8, 3, 12, 9), (0, 20, 20, 30)))  # the first two touch
    add(train, "b22", nuclei((5, 5, 15, 15)))
    add(train, "c333", [])
    write_array(tmp_path / "stage1_test" / "d" / "images" / "d.png", np.zeros((*SIZE, 3), np.uint8))
    return tmp_path


def test_objects_keep_numbers_of_their_own(bowl):
    annotations = read(bowl)
    assert has_only_masks(bowl)
    assert annotations.class_names == ["background", "cell"]
    assert [sample.name for sample in annotations.samples] == [
        f"stage1_train/{name}/images/{name}.png" for name in ("a1", "b22", "c333")
    ]
    numbers = numbers_of(annotations.samples[0])
    assert {numbers[4, 5], numbers[9, 5], numbers[3, 25]} == {1, 2, 3}
    assert numbers[15, 5] == 0
    np.testing.assert_array_equal(labels_of(annotations, annotations.samples[0]), numbers > 0)
    np.testing.assert_array_equal(annotations.samples[0].counts, [600 - 36 - 24 - 200, 36 + 24 + 200])
    assert [(fault.kind, fault.file) for fault in annotations.faults] == [("no objects", "stage1_train/c333/masks")]


def test_the_first_stage_is_the_split_and_its_folder_is_a_data_set(bowl):
    assert len(read(bowl, "train").samples) == 3
    assert read(bowl, "train").samples[0].splits == ("train",)
    assert len(read(bowl / "stage1_train").samples) == 3
    with pytest.raises(ValueError, match="has no splits"):
        read(bowl / "stage1_train", "val")


def test_classes_are_had_without_numbers_too(bowl):
    annotations = read(bowl, task="segmentation", instances=False)
    assert set(np.unique(numbers_of(annotations.samples[0]))) == {0, 1}
    assert read(bowl, class_names=["background", "nucleus"]).class_names == ["background", "nucleus"]
    with pytest.raises(ValueError, match="void: only for masks in files"):
        read(bowl, task="segmentation", void=3)


def test_of_two_objects_in_one_place_the_smaller_is_seen(tmp_path):
    add(tmp_path, "a", nuclei((0, 0, 4, 4), (0, 0, 20, 30)))
    numbers = numbers_of(read(tmp_path).samples[0])
    assert (numbers[:4, :4] == 1).all()
    assert (numbers == 2).sum() == 600 - 16


def test_boundary_weights_see_the_gap_between_two_objects(tmp_path):
    add(tmp_path, "a", nuclei((2, 2, 18, 14), (2, 16, 18, 28)))
    _, targets = next(iter(kzoo.data.load(tmp_path, None, image_size=SIZE, batch_size=1, weights=True)))
    weights = np.asarray(targets["weights"])[0]
    assert weights[10, 14] > 3 * weights[0, 0]


def test_what_cannot_be_read_is_a_fault_and_costs_its_image_only(bowl):
    train = bowl / "stage1_train"
    add(train, "e", nuclei((1, 1, 5, 5)), size=(20, 31))
    add(train, "f", nuclei((1, 1, 5, 5)))
    (train / "f" / "masks" / "f999.png").write_bytes(b"no picture")
    several = nuclei((1, 1, 5, 5))
    several[0, 10:15] = 7
    add(train, "i", several)
    write_array(train / "g" / "images" / "g.png", np.zeros((*SIZE, 3), np.uint8))
    (train / "h" / "images").mkdir(parents=True)
    annotations = read(bowl, "train")
    assert len(annotations.samples) == 3
    faults = {fault.file.split("/")[1]: fault for fault in annotations.faults}
    assert {name: fault.kind for name, fault in faults.items()} == {
        "c333": "no objects",
        "e": "unreadable annotation",
        "f": "unreadable annotation",
        "g": "missing mask",
        "h": "missing image",
        "i": "unreadable annotation",
    }
    assert "7, 255" in faults["i"].detail
    assert "30 x 20" in faults["e"].detail
    assert "31 x 20" in faults["e"].detail
    assert "f999.png" in faults["f"].detail


def test_a_split_of_one_image_and_its_mask_is_no_such_folder(tmp_path):
    for split in ("train", "val"):
        write_array(tmp_path / split / "images" / "a.png", np.zeros((*SIZE, 3), np.uint8))
        write_array(tmp_path / split / "masks" / "a_mask.png", nuclei((1, 1, 5, 5))[0] // 255)
    assert read(tmp_path, "train").class_names == ["0", "1"]
