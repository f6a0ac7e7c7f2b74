"""The reader of TensorFlow Datasets, without any of its downloads."""

import io

import numpy as np
import pytest
from PIL import Image

from kzoo.data.readers import read
from kzoo.data.readers.raw import assemble

tfds_reader = pytest.importorskip("kzoo.data.readers.tfds")
tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")


def example(boxes, labels, **more):
    file = io.BytesIO()
    Image.fromarray(np.zeros((50, 100, 3), np.uint8)).save(file, "PNG")
    objects = {"bbox": np.array(boxes, np.float32).reshape(-1, 4), "label": np.array(labels, np.int64), **more}
    return {"image": file.getvalue(), "image/filename": b"a.png", "objects": objects}


def test_relative_yxyx_becomes_pixels_xyxy_and_extras_are_kept():
    given = example([[0.2, 0.1, 0.6, 0.5]], [1], is_crowd=np.array([True]), area=np.array([77]))
    raw = tfds_reader._raw(given, "train", 0, np.array([0, 1]), ["cat", "dog"])
    (sample,) = assemble([raw], ["cat", "dog"], "train").samples
    np.testing.assert_allclose(sample.boxes, [[10, 10, 50, 30]], atol=1e-4)
    assert (sample.name, sample.size, sample.splits) == ("train/a.png", (50, 100), ("train",))
    assert (sample.labels.tolist(), sample.crowd.tolist(), sample.area.tolist()) == ([1], [True], [77])
    assert Image.open(io.BytesIO(sample.pixels.tobytes())).size == (100, 50)


def test_vocs_boxes_lose_one_from_their_minima_as_in_a_voc_folder():
    given = example([[11 / 50, 21 / 100, 30 / 50, 40 / 100]], [0], is_difficult=np.array([True]))
    raw = tfds_reader._from_one(tfds_reader._raw(given, "test", 0, np.array([0]), ["cat"]))
    (sample,) = assemble([raw], ["cat"], "test").samples
    np.testing.assert_allclose(sample.boxes, [[20, 10, 40, 30]], atol=1e-4)
    assert sample.difficult.tolist() == [True]


def test_labels_that_have_no_name_or_were_not_asked_for_are_left_out():
    given = example([[0, 0, 0.5, 0.5], [0, 0, 0.6, 0.5], [0, 0, 0.7, 0.5]], [0, 1, -1])
    raw = tfds_reader._raw(given, "train", 0, np.array([-1, 0]), ["cat", "dog"])
    annotations = assemble([raw], ["dog"], "train")
    assert annotations.samples[0].labels.tolist() == [0]
    assert [fault.kind for fault in annotations.faults] == ["unknown class"] * 2


def test_an_example_without_objects_is_kept():
    raw = tfds_reader._raw(example([], []), "train", 0, np.array([0]), ["cat"])
    assert assemble([raw], ["cat"], "train").samples[0].boxes.shape == (0, 4)


def test_two_images_of_one_name_are_two_images():
    raws = [tfds_reader._raw(example([], []), "train", i, np.array([0]), ["cat"]) for i in range(2)]
    assert len(assemble(raws, ["cat"], "train").samples) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("voc/2077", r"Unknown variant of voc '2077'. Did you mean '2007'\?"),
        ("bcd", "neither a folder nor a data set's name. Did you mean 'bccd'"),
        ("mnist", "mnist is no detection data set: it has image, label"),
    ],
)
def test_names_that_cannot_be_read_are_refused_before_anything_is_fetched(name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(name, data_dir=tmp_path)
    assert not any(tmp_path.iterdir())
