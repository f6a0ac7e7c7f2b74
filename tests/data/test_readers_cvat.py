"""The CVAT reader: boxes and masks of its shapes, subsets, and every fault by its name."""

import numpy as np
import pytest

from kzoo.data.readers import has_only_masks, read
from kzoo.data.readers.masks import labels_of, numbers_of

SIZE = (60, 80)
LABELS = [("dog", "any"), ("cat", "rectangle"), ("nose", "points"), ("sunny", "tag")]
PATCH = np.array([[0, 1, 1], [1, 0, 0]], bool)
BOX = '<box label="dog" xtl="10.0" ytl="20.5" xbr="40.0" ybr="30.5" z_order="0"><attribute name="a">b</attribute></box>'
POLYGON = '<polygon label="cat" points="50,10;60,10;60,20;50,20" group_id="1"/>'
OTHER_PART = '<polygon label="cat" points="50,30;70,30;70,40;50,40" group_id="1"/>'
ELLIPSE = '<ellipse label="ball" cx="20" cy="40" rx="5" ry="5"/>'
MASK = '<mask label="cat" rle="1, 3, 2" left="2" top="50" width="3" height="2"/>'
SHAPES = BOX + POLYGON + OTHER_PART + ELLIPSE + MASK + '<tag label="sunny"/>'


@pytest.fixture
def cvat(tmp_path, image_file):
    """Returns a function that writes a data set: cvat({"a.jpg": shapes}) -> the folder."""

    def write(images, subsets=(), folder="images", head=""):
        root = tmp_path / "cvat"
        labels = "".join(f"<label><name>{name}</name><type>{kind}</type></label>" for name, kind in LABELS)
        lines = []
        for number, (name, shapes) in enumerate(images.items()):
            subset = f' subset="{subsets[number]}"' if subsets else ""
            lines.append(f'<image id="{number}" name="{name}"{subset} width="80" height="60">{shapes}</image>')
            image_file(root / folder / name, SIZE)
        meta = f"<meta><task><labels>{labels}</labels></task></meta>"
        text = f'<?xml version="1.0" encoding="utf-8"?>\n{head}<annotations>\n  <version>1.1</version>\n{meta}'
        (root / "annotations.xml").write_text(text + "\n".join(lines) + "</annotations>")
        return root

    return write


def test_boxes_lie_around_each_object(cvat):
    root = cvat({"a.jpg": SHAPES, "b.jpg": ""})
    found = read(root)
    assert found.class_names == ["dog", "cat", "ball"]  # as declared, and then what else there is
    assert [fault.detail for fault in found.faults] == ["images/b.jpg has no objects"]
    sample, empty = found.samples
    assert (sample.size, sample.labels.tolist(), len(empty.labels)) == (SIZE, [0, 1, 2, 1], 0)
    np.testing.assert_allclose(sample.boxes, [[10, 20.5, 40, 30.5], [50, 10, 70, 40], [15, 35, 25, 45], [2, 50, 5, 52]])
    assert not has_only_masks(root)
    with pytest.raises(ValueError, match="has no splits"):
        read(root, "train")


def test_boxes_of_one_group_stay_boxes_of_their_own(cvat):
    first = '<box label="dog" xtl="1" ytl="1" xbr="5" ybr="5" group_id="2"/>'
    root = cvat({"a.jpg": first + first.replace('"5"', '"9"')})
    assert read(root).samples[0].boxes.tolist() == [[1, 1, 5, 5], [1, 1, 9, 9]]


def test_a_turned_box_is_turned_about_its_middle(cvat):
    turned = BOX.replace('z_order="0"', 'z_order="0" rotation="90"')
    root = cvat({"a.jpg": turned})
    np.testing.assert_allclose(read(root).samples[0].boxes, [[20, 10.5, 30, 40.5]], atol=1e-4)
    # Clockwise, as y points down: by 45 degrees the corner at the upper left comes to the top.
    (corner,) = [r.boxes for r in read(cvat({"a.jpg": turned.replace('"90"', '"45"')})).samples]
    half = (15 + 5) / 2**0.5
    np.testing.assert_allclose(corner, [[25 - half, 25.5 - half, 25 + half, 25.5 + half]], atol=1e-4)


def test_masks_are_drawn_from_each_shape(cvat):
    root = cvat({"a.jpg": SHAPES.replace('ytl="20.5"', 'ytl="20"').replace('ybr="30.5"', 'ybr="30"')})
    found = read(root, task="segmentation")
    assert (found.class_names, found.faults) == (["background", "dog", "cat", "ball"], [])
    expected = np.zeros(SIZE, int)
    expected[20:30, 10:40], expected[10:20, 50:60], expected[30:40, 50:70] = 1, 2, 2
    expected[50:52, 2:5] = 2 * PATCH
    labels = labels_of(found, found.samples[0])
    np.testing.assert_array_equal(np.where(labels == 3, 0, labels), expected)
    rows, columns = (places + 0.5 for places in np.ogrid[:60, :80])
    ball = np.hypot(columns - 20, rows - 40)
    assert (labels[ball < 4.9] == 3).all()
    assert not (labels[ball > 5] == 3).any()
    cells = read(root, task="segmentation", instances=True)
    assert np.unique(numbers_of(cells.samples[0])).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("folder", ["images", "images/Train", "."])
def test_images_are_found_where_cvat_puts_them(cvat, folder):
    root = cvat({"deeper/a.jpg": BOX}, subsets=["Train"], folder=folder)
    (sample,) = read(root, "train").samples
    assert sample.image == root / folder / "deeper" / "a.jpg"


def test_subsets_are_splits(cvat):
    root = cvat({"a.jpg": BOX, "b.jpg": ELLIPSE}, subsets=["Train", "Validation"])
    assert read(root, "train").class_names == read(root, "val").class_names == ["dog", "cat", "ball"]
    assert [sample.splits for sample in read(root).samples] == [("Train",), ("Validation",)]
    assert len(read(root, "val", task="segmentation").samples) == 1
    with pytest.raises(ValueError, match="Valid: Train, Validation"):
        read(root, "test")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ('<points label="nose" points="1,1"/>', "a points has no area"),
        ('<polyline label="cat" points="1,1;2,2;3,1"/>', "polyline has no area"),
        ('<polygon label="cat" points="1,1;5,5"/>', "2 points"),
        ('<polygon label="cat" points="1,1;5,5;nan,3"/>', "no numbers"),
        ('<polygon label="cat"/>', "points"),
        ('<box label="cat" xtl="1" ytl="x" xbr="4" ybr="5"/>', "could not convert"),
        ('<box xtl="1" ytl="2" xbr="4" ybr="5"/>', "label"),
        ('<mask label="cat" rle="1" left="1" top="1" width="0" height="2"/>', "no area"),
        ('<mask label="cat" rle="1" left="1" top="1" width="99999999" height="99999999"/>', "no area"),
    ],
)
def test_an_image_with_a_shape_that_has_no_area_is_left_out(cvat, wrong, reason):
    root = cvat({"a.jpg": SHAPES, "b.jpg": SHAPES + wrong})
    for task in ("detection", "segmentation"):
        found = read(root, task=task)
        assert [sample.image.name for sample in found.samples] == ["a.jpg"]
        (fault,) = found.faults
        assert (fault.kind, fault.file) == ("unreadable annotation", "annotations.xml")
        assert reason in fault.detail
        assert "b.jpg" in fault.detail


@pytest.mark.parametrize(
    "wrong",
    [
        MASK.replace("1, 3, 2", "1, 3"),
        MASK.replace("1, 3, 2", "x"),
        MASK.replace('left="2"', 'left="78"'),
        MASK.replace('width="3"', 'width="900000"').replace('height="2"', 'height="900000"'),
    ],
)
def test_a_mask_that_cannot_be_drawn_costs_its_image_only(cvat, wrong):
    root = cvat({"a.jpg": SHAPES, "b.jpg": wrong})
    found = read(root, task="segmentation")
    assert [sample.image.name for sample in found.samples] == ["a.jpg"]
    assert [fault.kind for fault in found.faults] == ["unreadable annotation"]


def test_what_has_no_counterpart_is_a_fault(cvat, image_file):
    root = cvat({"a.jpg": BOX, "b.jpg": BOX})
    (root / "images" / "b.jpg").unlink()
    image_file(root / "images" / "c.jpg", SIZE)
    text = (root / "annotations.xml").read_text()
    (root / "annotations.xml").write_text(text.replace("</annotations>", '<image name="../../x.jpg"/></annotations>'))
    image_file(root.parent.parent / "x.jpg", SIZE)
    assert [(fault.kind, fault.detail) for fault in read(root).faults] == [
        ("missing image", "there is no image b.jpg"),
        ("missing image", "there is no image ../../x.jpg"),
        ("image without annotation", "annotations.xml does not list it"),
    ]


def test_files_that_cannot_be_read_are_refused(cvat):
    with pytest.raises(ValueError, match="DTD"):
        read(cvat({"a.jpg": BOX}, head='<!DOCTYPE x [<!ENTITY e "y">]>\n'))
    with pytest.raises(ValueError, match="not a readable XML"):
        read(cvat({"a.jpg": "<box"}))
    with pytest.raises(ValueError, match="not for video"):
        read(cvat({}))
