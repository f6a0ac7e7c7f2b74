"""DRIVE's and HRF's layouts: pairs by name, and nothing learned outside of the field of view."""

import numpy as np
import pytest
from made_data import write_array

from kzoo.data.readers import has_only_masks, read
from kzoo.data.readers.masks import labels_of

SIZE = (20, 30)


def vessels(number):
    mask = np.zeros(SIZE, np.uint8)
    mask[:, number] = 255
    return mask


@pytest.fixture
def drive(tmp_path):
    """Two images to train on, the first with a field of view, one to test on."""
    view = np.full(SIZE, 255, np.uint8)
    view[:5] = 0
    for split, numbers in {"training": (21, 22), "test": (1,)}.items():
        for number in numbers:
            folder = tmp_path / split
            write_array(folder / "images" / f"{number:02d}_{split}.tif", np.zeros((*SIZE, 3), np.uint8))
            write_array(folder / "1st_manual" / f"{number:02d}_manual1.gif", vessels(number))
    write_array(tmp_path / "training" / "mask" / "21_training_mask.gif", view)
    return tmp_path


def test_vessels_are_labelled_inside_of_the_field_of_view(drive):
    assert has_only_masks(drive)
    annotations = read(drive, "train")
    assert annotations.class_names == ["background", "vessel"]
    assert annotations.faults == []
    assert [sample.name for sample in annotations.samples] == [f"training/images/{n}_training.tif" for n in (21, 22)]
    first, second = (labels_of(annotations, sample) for sample in annotations.samples)
    expected = vessels(21) // 255
    expected[:5] = 255
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, vessels(22) // 255)  # without a field of view all of it counts
    assert annotations.counts.tolist() == [15 * 29 + 20 * 29, 15 + 20]
    assert len(read(drive, "test").samples) == 1
    assert len(read(drive / "test").samples) == 1


def test_what_lacks_its_counterpart_or_its_size_is_a_fault(drive):
    (drive / "training" / "1st_manual" / "22_manual1.gif").unlink()
    write_array(drive / "training" / "1st_manual" / "23_manual1.gif", vessels(23))
    write_array(drive / "training" / "images" / "24_training.tif", np.zeros((20, 31, 3), np.uint8))
    write_array(drive / "training" / "1st_manual" / "24_manual1.gif", vessels(24))
    annotations = read(drive, "train")
    assert len(annotations.samples) == 1
    assert [(fault.kind, fault.file) for fault in annotations.faults] == [
        ("missing mask", "training/images/22_training.tif"),
        ("missing image", "training/1st_manual/23_manual1.gif"),
        ("unreadable annotation", "training/1st_manual/24_manual1.gif"),
    ]


def test_vessels_have_no_numbers(drive):
    with pytest.raises(ValueError, match="not numbered"):
        read(drive, task="segmentation", instances=True)


def test_hrf_has_other_names(tmp_path):
    for name in ("01_dr", "01_g"):
        write_array(tmp_path / "images" / f"{name}.png", np.zeros((*SIZE, 3), np.uint8))
        write_array(tmp_path / "manual1" / f"{name}.tif", vessels(len(name)))
        write_array(tmp_path / "mask" / f"{name}_mask.tif", np.full(SIZE, 255, np.uint8))
    annotations = read(tmp_path)
    assert annotations.faults == []
    for sample, column in zip(annotations.samples, (5, 4), strict=True):
        np.testing.assert_array_equal(labels_of(annotations, sample), vessels(column) // 255)
