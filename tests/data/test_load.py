"""`kzoo.data.load`: from a folder to batches, by the contract's call."""

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

import kzoo  # noqa: E402

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


@pytest.fixture
def voc(tmp_path):
    """A VOC folder: three images for training, one for testing, of 40 x 60; a bolt, two nuts, one of them difficult."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    objects = {
        "one": [("bolt", 0, (11, 6, 30, 25))],
        "two": [("nut", 0, (1, 1, 60, 40)), ("nut", 1, (5, 5, 9, 9))],
        "three": [],
        "four": [("bolt", 0, (2, 2, 20, 20))],
    }
    for name, rows in objects.items():
        Image.new("RGB", (60, 40), (200, 40, 40)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        listed = "".join(OBJECT.format(*box, name=label, difficult=difficult) for label, difficult, box in rows)
        size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
        xml = f"<annotation><filename>{name}.jpg</filename>{size}{listed}</annotation>"
        (tmp_path / "Annotations" / f"{name}.xml").write_text(xml)
    (tmp_path / "ImageSets/Main/train.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "ImageSets/Main/test.txt").write_text("four\n")
    return tmp_path


def test_a_voc_folder_loads_for_evaluation(voc):
    data = kzoo.data.load(str(voc), split="train", image_size=(40, 60), batch_size=2)
    assert data.class_names == ["bolt", "nut"]
    assert data.image_size == (40, 60)
    batches = [tf.nest.map_structure(np.asarray, batch) for batch in data]
    labels = {int(i): row for _, t in batches for i, row in zip(t["image_id"], t["labels"], strict=True)}
    names = {s.image_id: s.name for s in data.annotations.samples}
    by_name = {names[i].split(".")[0]: row.tolist() for i, row in labels.items()}
    assert by_name == {"one": [0, -1], "two": [1, 1], "three": [-1, -1]}
    boxes = {
        names[int(i)].split(".")[0]: row for _, t in batches for i, row in zip(t["image_id"], t["boxes"], strict=True)
    }
    np.testing.assert_allclose(boxes["one"][0], [10, 5, 30, 25])  # VOC counts from 1 and includes the last pixel
    np.testing.assert_allclose(boxes["two"][0], [0, 0, 60, 40])
    assert sum(int(t["difficult"].sum()) for _, t in batches) == 1


def test_a_voc_folder_loads_for_training_by_the_contracts_call(voc):
    data = kzoo.data.load(voc, split="train", image_size=(300, 300), batch_size=8, augment=True)
    images, targets = next(iter(data))
    assert images.shape == (8, 300, 300, 3)
    assert targets["boxes"].shape == (8, 2, 4)
    assert set(np.unique(targets["labels"])) <= {-1, 0, 1}


def test_options_reach_the_pipeline(voc):
    data = kzoo.data.load(voc, "test", 32, 1, resize="letterbox", max_boxes=4, class_names=["nut", "bolt"])
    _, targets = next(iter(data))
    assert targets["labels"].numpy().tolist() == [[1, -1, -1, -1]]
    np.testing.assert_allclose(targets["transform"][0], [32 / 60, 21 / 40, 0, 5], rtol=1e-6)
    assert len(kzoo.data.load(voc, limit=2).annotations.samples) == 2


def test_an_option_that_does_not_exist_is_refused(voc):
    with pytest.raises(TypeError, match="batchsize"):
        kzoo.data.load(voc, batchsize=3)


@pytest.mark.parametrize("augment", [False, "light"])
def test_real_blood_cells_load_whole(shared_data, augment):
    data = kzoo.data.load(shared_data("bccd"), "train", (120, 160), 41, augment=augment)
    seen, boxes = [], 0
    for images, targets in data:
        assert images.shape == (41, 120, 160, 3)
        assert 20 < float(tf.reduce_mean(images)) < 235
        seen += targets["image_id"].numpy().tolist()
        boxes += int(tf.reduce_sum(tf.cast(targets["labels"] >= 0, tf.int32)))
    assert sorted(seen) == sorted(sample.image_id for sample in data.annotations.samples)
    assert len(seen) == 205
    total = sum(len(sample.labels) for sample in data.annotations.samples)
    assert boxes == total if not augment else 0.8 * total < boxes < total
