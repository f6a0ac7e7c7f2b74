"""The LabelMe reader: boxes and masks of its shapes, and every fault by its name."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from kzoo.data.readers import has_only_masks, read
from kzoo.data.readers.labelme import patch
from kzoo.data.readers.masks import labels_of, numbers_of

SIZE = (60, 80)


def shape(label, points, kind="polygon", group=None, **more):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}, **more}


@pytest.fixture
def labelme(tmp_path, image_file):
    """Returns a function that writes an image with its JSON file: labelme("a", [shape(...)]) -> the folder."""

    def write(name, shapes, images="", annotations="", **more):
        root = tmp_path / "labelme"
        image_file(root / images / f"{name}.jpg", SIZE)
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"..\\{images}\\{name}.jpg"}
        content |= {"imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1], **more}
        (root / annotations).mkdir(parents=True, exist_ok=True)
        (root / annotations / f"{name}.json").write_text(json.dumps(content))
        return root

    return write


def encoded(mask) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


PATCH = np.array([[1, 0, 1], [1, 1, 1]], bool)
SHAPES = [
    shape("dog", [[40, 20], [10, 10]], "rectangle"),
    shape("cat", [[50, 10], [60, 10], [60, 20], [50, 20]], group=1),
    shape("cat", [[50, 30], [70, 30], [70, 40], [50, 40]], group=1),  # of the same cat
    shape("ball", [[20, 40], [20, 45]], "circle"),
    shape("cat", [[0, 50], [2, 51]], "mask", mask=encoded(PATCH)),
]


def test_boxes_lie_around_each_object(labelme):
    root = labelme("a", SHAPES)
    found = read(root)
    assert (found.class_names, found.faults) == (["ball", "cat", "dog"], [])
    (sample,) = found.samples
    assert (sample.size, sample.labels.tolist()) == (SIZE, [2, 1, 0, 1])
    np.testing.assert_allclose(sample.boxes, [[10, 10, 40, 20], [50, 10, 70, 40], [15, 35, 25, 45], [0, 50, 3, 52]])
    assert not has_only_masks(root)
    assert read(root, class_names=["dog"]).samples[0].boxes.tolist() == [[10, 10, 40, 20]]
    with pytest.raises(ValueError, match="has no splits"):
        read(root, "train")


def test_masks_are_drawn_from_each_shape(labelme):
    root = labelme("a", SHAPES)
    found = read(root, task="segmentation")
    assert (found.class_names, found.faults) == (["background", "ball", "cat", "dog"], [])
    rows, columns = (places + 0.5 for places in np.ogrid[:60, :80])
    expected = np.zeros(SIZE, int)
    expected[10:20, 10:40], expected[10:20, 50:60], expected[30:40, 50:70] = 3, 2, 2
    expected[50:52, :3] = 2 * PATCH
    labels = labels_of(found, found.samples[0])
    ball = np.hypot(columns - 20, rows - 40)
    assert (labels[ball < 4.9] == 1).all()
    assert (labels == 1)[ball > 5].sum() == 0
    np.testing.assert_array_equal(np.where(labels == 1, 0, labels), expected)
    cells = read(root, task="segmentation", instances=True)
    assert np.unique(numbers_of(cells.samples[0])).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("images", "annotations"), [("images", "annotations"), ("img", "ann"), ("images", "")])
def test_images_may_lie_in_a_folder_of_their_own(labelme, images, annotations):
    root = labelme("a", SHAPES[:1], images, annotations)
    for task in ("detection", "segmentation"):
        (sample,) = read(root, task=task).samples
        assert sample.image == root / images / "a.jpg"
    (root / annotations / "a.json").rename(root / annotations / "renamed.json")  # its imagePath says a.jpg
    assert [sample.image.name for sample in read(root).samples] == ["a.jpg"]


def test_splits_have_folders(labelme):
    labelme("a", SHAPES[:1], "train", "train")
    root = labelme("a", SHAPES[3:4], "valid", "valid")
    assert read(root, "train").class_names == read(root, "val").class_names == ["ball", "dog"]
    assert [sample.splits for sample in read(root).samples] == [("train",), ("valid",)]
    assert len(read(root, "val", task="segmentation").samples) == 1
    with pytest.raises(ValueError, match="Valid: train, valid"):
        read(root, "test")


@pytest.mark.parametrize(
    "wrong",
    [
        shape("cat", [[1, 1], [5, 5]], "line"),
        shape("cat", [[1, 1]], "point"),
        shape("cat", [[1, 1], [5, 5]]),
        shape("cat", [[1, 1], [5, float("nan")], [3, 3]]),
        shape("cat", [[1, 1], [5, 1e300], [3, 3]]),
        shape("cat", [[1, 1], [5, 10**400], [3, 3]]),
        shape("cat", [[1, 1], None, [3, 3]]),
        {"points": [[1, 1], [5, 5], [1, 5]]},
        "cat",
    ],
)
def test_an_image_with_a_shape_that_has_no_area_is_left_out(labelme, wrong):
    labelme("a", SHAPES)
    root = labelme("b", [*SHAPES, wrong])
    for task in ("detection", "segmentation"):
        found = read(root, task=task)
        assert [sample.image.name for sample in found.samples] == ["a.jpg"]
        (fault,) = [one for one in found.faults if one.kind == "unreadable annotation"]
        assert (fault.file, fault.action) == ("b.json", "image left out")


@pytest.mark.parametrize("wrong", [None, "x", encoded(np.ones((2, 90), bool))])
def test_a_mask_that_is_no_image_or_too_large_cannot_be_drawn(labelme, wrong):
    labelme("a", SHAPES)
    root = labelme("b", [shape("cat", [[0, 50], [2, 51]], "mask", mask=wrong)])
    found = read(root, task="segmentation")
    assert [sample.image.name for sample in found.samples] == ["a.jpg"]
    assert [(one.kind, one.file) for one in found.faults] == [("unreadable annotation", "b.json")]


def test_what_has_no_counterpart_is_a_fault(labelme, image_file):
    root = labelme("a", SHAPES)
    labelme("b", SHAPES)
    (root / "b.jpg").unlink()
    (root / "c.json").write_text("{")
    image_file(root / "d.jpg", SIZE)
    for task in ("detection", "segmentation"):
        found = read(root, task=task)
        assert len(found.samples) == 1
        assert {(one.kind, one.file) for one in found.faults} == {
            ("missing image", "b.json"),
            ("unreadable annotation", "c.json"),
            ("image without annotation", "d.jpg"),
        }


def test_polygons_of_another_size_are_not_drawn(labelme):
    labelme("a", SHAPES)
    root = labelme("b", SHAPES, imageHeight=600, imageWidth=800)
    (fault,) = read(root, task="segmentation").faults
    assert (fault.file, fault.action) == ("b.json", "image left out")
    assert "annotated as 800 x 600" in fault.detail


def test_a_picture_too_large_to_be_true_is_no_mask(monkeypatch):
    bomb = encoded(np.ones(SIZE, bool))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # it has 4800
    with pytest.raises(ValueError, match="its mask is no image"):
        patch({"mask": bomb})


def test_files_without_a_size_take_the_images(labelme):
    root = labelme("a", SHAPES[:1], imageHeight=None, imageWidth=None)
    assert read(root).samples[0].size == SIZE
    assert read(root, task="segmentation").counts.tolist() == [4800 - 300, 300]
