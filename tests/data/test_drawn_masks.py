"""Masks drawn from polygons and run lengths, by hand and against pycocotools; COCO's and YOLO's, and their faults."""

import json

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from kzoo.data.readers import read
from kzoo.data.readers.drawn_masks import Shape, draw
from kzoo.data.readers.masks import labels_of, numbers_of
from kzoo.data.readers.polygons import decode_runs, fill, polygon_area

SIZE = (60, 80)


def filled(*corners, size=(6, 7)):
    mask = np.zeros(size, np.uint8)
    fill(mask, np.array(corners, float), 1)
    return mask


def square(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def test_pixels_are_inside_by_their_centres():
    expected = np.zeros((6, 7), int)
    expected[1:4, 2:5] = 1
    for shift in (0, 0.4, -0.4):
        corners = np.array([(2, 1), (5, 1), (5, 4), (2, 4)]) + shift
        np.testing.assert_array_equal(filled(*corners), expected)
        np.testing.assert_array_equal(filled(*corners[::-1]), expected)  # either way round
    np.testing.assert_array_equal(filled((0, 0), (4, 0), (0, 4))[:4, :4], np.tri(4)[::-1] * (1 - np.eye(4)[::-1]))
    np.testing.assert_array_equal(filled((-9, -9), (99, -9), (99, 99), (-9, 99)), 1)
    for nothing in ([(2, 2), (4, 2), (3, 2)], [(1.6, 1.6), (2.4, 1.6), (2, 2.4)], [(20, 20), (30, 20), (30, 30)]):
        assert not filled(*nothing).any()


def test_neighbours_share_no_pixel_and_leave_none():
    rng = np.random.default_rng(0)
    for _ in range(20):
        middle = rng.choice([rng.uniform(0, 20, 2), rng.integers(0, 40, 2) / 2])
        count = np.zeros((20, 20), int)
        corners = np.array([(0, 0), (20, 0), (20, 20), (0, 20)])
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            count += filled(start, end, middle, size=(20, 20))
        np.testing.assert_array_equal(count, 1)


def test_polygons_that_cross_themselves_are_filled_as_matplotlib_says():
    rng = np.random.default_rng(1)
    columns, rows = np.meshgrid(np.arange(30) + 0.5, np.arange(30) + 0.5)
    centres = np.stack([columns.ravel(), rows.ravel()], -1)
    for _ in range(20):
        polygon = rng.uniform(-5, 35, (rng.integers(3, 12), 2))
        crossings = np.zeros(900, bool)
        for place in range(1, len(polygon) - 1):  # even-odd: the triangles of a fan, each point as often as it lies in
            crossings ^= Outline(polygon[[0, place, place + 1]]).contains_points(centres)
        np.testing.assert_array_equal(filled(*polygon, size=(30, 30)).ravel(), crossings)


def test_pycocotools_draws_nearly_the_same():
    coco_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(2)
    for _ in range(10):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 20))
        polygon = 50 + rng.uniform(25, 45, (20, 1)) * np.stack([np.cos(angles), np.sin(angles)], -1)
        theirs = coco_mask.decode(coco_mask.frPyObjects([polygon.ravel().tolist()], 100, 100))[..., 0]
        ours = filled(*polygon, size=(100, 100))
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.96  # an edge is half a pixel wide there
        assert abs(polygon_area(polygon) / ours.sum() - 1) < 0.01


def test_run_lengths_are_those_of_pycocotools():
    coco_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(3)
    for share in (0.5, 0.01, 0, 1):
        mask = rng.uniform(size=(40, 70)) < share
        text = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
        np.testing.assert_array_equal(decode_runs(text, mask.shape), mask)
    np.testing.assert_array_equal(decode_runs([1, 2, 3], (2, 3)), [[0, 1, 0], [1, 0, 0]])
    for wrong in ([1, 2], [7, -1], "1"):
        with pytest.raises(ValueError, match="do not fill 3 x 2"):
            decode_runs(wrong, (2, 3))


def test_hostile_run_lengths_are_refused():
    huge = 2**63 - 1  # two of these and 14 add up to 12 in 64 bit
    for wrong in ([huge, huge, 14], [2**70], [[12]]):
        with pytest.raises(ValueError, match=r"run lengths that"):
            decode_runs(wrong, (3, 4))
    with pytest.raises(ValueError, match="a run length beyond any image"):
        decode_runs("o" * 1_000_000, (3, 4))


def test_of_more_categories_than_labels_some_can_be_chosen(coco):
    categories = [(number, f"class {number}") for number in range(1, 301)]
    objects = [
        {"image_id": 1, "segmentation": [square(8 * i, 0, 8 * i + 8, 10)], "category_id": number}
        for i, number in enumerate((254, 255, 256, 300))
    ]
    root = coco("train", [{"id": 1, "file_name": "a.png", "height": 60, "width": 80}], objects, categories)
    with pytest.raises(ValueError, match=r"301 different numbers.*class_names"):
        read(root, task="segmentation")
    annotations = read(root, task="segmentation", class_names=["class 300", "class 254", "class 255"])
    (sample,) = annotations.samples
    assert labels_of(annotations, sample)[0, ::8].tolist() == [1, 2, 255, 0] + [255] * 6


def test_ids_of_strangers_are_faults(coco):
    one = {"image_id": 1, "segmentation": [square(0, 0, 10, 10)]}
    objects = [one | {"category_id": "7"}, one | {"category_id": [1]}, one | {"category_id": "1"}]
    root = coco("train", [{"id": 1, "file_name": "a.png", "height": 60, "width": 80}], objects, [("7", "cat")])
    annotations = read(root, task="segmentation")
    assert annotations.class_names == ["background", "cat"]
    assert labels_of(annotations, annotations.samples[0])[0, 0] == 255  # the last one lies on the others


def test_an_image_in_two_splits_is_drawn_once_and_told(coco):
    objects = [{"image_id": 1, "segmentation": [square(0, 0, 10, 10)], "category_id": 1}]
    entry = {"id": 1, "height": 60, "width": 80}
    coco("train", [entry | {"file_name": "a.png"}], objects)
    root = coco("val", [entry | {"file_name": "train/a.png", "absent": True}], objects)
    annotations = read(root, task="segmentation")
    assert [sample.splits for sample in annotations.samples] == [("train", "val")]
    assert annotations.faults == []


def test_the_smaller_of_two_objects_is_seen():
    large = Shape(1, [np.array(square(0, 0, 6, 6)).reshape(-1, 2)])
    small = Shape(2, [np.array(square(2, 2, 4, 4)).reshape(-1, 2)])
    for shapes in ([large, small], [small, large]):
        mask = draw(shapes, (6, 6))
        assert (mask.dtype, np.bincount(mask.ravel()).tolist()) == (np.uint8, [0, 32, 4])
    whole = Shape(3, mask=np.ones((6, 6), bool))
    numbered = draw([small, whole], (6, 6), instances=True)
    assert (numbered.dtype, np.bincount(numbered.ravel()).tolist()) == (np.uint16, [0, 4, 32])
    assert not draw([], (2, 2)).any()


@pytest.fixture
def polygons(coco):
    """A COCO folder: a cat of two polygons, a dog in run lengths, a mouse within the cat."""
    runs = np.zeros(SIZE, int)
    runs[40:50, 60:70] = 1
    changes = np.flatnonzero(np.diff(np.r_[0, runs.T.ravel(), 1 - runs[-1, -1]]))
    objects = [
        {"id": 1, "segmentation": [square(10, 10, 14, 14)], "category_id": 3},
        {"id": 2, "segmentation": [square(5, 5, 25, 25), square(30, 5, 40, 10)], "category_id": 1},
        {
            "id": 3,
            "segmentation": {"size": list(SIZE), "counts": np.diff(np.r_[0, changes]).tolist()},
            "category_id": 2,
        },
    ]
    return coco(
        "train",
        [{"id": 7, "file_name": "a.jpg", "height": 60, "width": 80}],
        [{"image_id": 7, **one} for one in objects],
        categories=[(1, "cat"), (2, "dog"), (3, "mouse")],
    )


def test_coco_is_read_as_masks_of_its_categories(polygons):
    found = read(polygons, "train", task="segmentation")
    assert (found.class_names, found.faults) == (["background", "cat", "dog", "mouse"], [])
    expected = np.zeros(SIZE, int)
    expected[5:25, 5:25], expected[5:10, 30:40] = 1, 1
    expected[10:14, 10:14], expected[40:50, 60:70] = 3, 2
    np.testing.assert_array_equal(labels_of(found, found.samples[0]), expected)
    chosen = read(polygons, "train", ["mouse", "background"], task="segmentation")
    assert chosen.counts.tolist() == [16, 60 * 80 - 400 - 50 - 100]  # of the others void
    cells = read(polygons, "train", task="segmentation", instances=True)
    assert cells.class_names == ["background", "cell"]
    assert np.unique(numbers_of(cells.samples[0])).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="void: only for masks in files"):
        read(polygons, "train", task="segmentation", void=3)
    assert read(polygons, "train").class_names == ["cat", "dog", "mouse"]  # of boxes, unless told


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3]],
        [["x"] * 6],
        [[0, 0, 1e300, 0, 0, 1e300]],
        [[10**400] * 6],
        [[float("nan")] * 6],
        {"size": [1, 1], "counts": [1]},
        {"size": list(SIZE), "counts": [10**30]},
        {"size": list(SIZE), "counts": [[4800]]},
        {"size": list(SIZE), "counts": [None]},
        {"counts": "1"},
        5,
    ],
)
def test_an_image_with_an_object_that_cannot_be_drawn_is_left_out(polygons, image_file, wrong):
    (file,) = polygons.rglob("*.json")
    content = json.loads(file.read_text())
    content["images"].append({"id": 8, "file_name": "b.jpg"})
    content["annotations"].append({"id": 9, "image_id": 8, "category_id": 1, "segmentation": wrong})
    file.write_text(json.dumps(content))
    image_file(next(polygons.rglob("a.jpg")).with_name("b.jpg"))
    found = read(polygons, "train", task="segmentation")
    assert [sample.name for sample in found.samples] == [str(next(polygons.rglob("a.jpg")).relative_to(polygons))]
    (fault,) = found.faults
    assert (fault.kind, fault.action) == ("unreadable annotation", "image left out")
    assert "b.jpg: annotation 9 is no polygon and no mask" in fault.detail
    content["annotations"][-1]["segmentation"] = [square(0, 0, 9, 9)]
    file.write_text(json.dumps(content))
    assert len(read(polygons, "train", task="segmentation").samples) == 2  # its size is the image's own
    content["images"][-1] |= {"height": 80, "width": 60}
    file.write_text(json.dumps(content))
    (fault,) = read(polygons, "train", task="segmentation").faults
    assert "b.jpg: it is 80 x 60, but was annotated as 60 x 80 (width x height)" in fault.detail


def test_a_split_of_boxes_among_splits_of_polygons_is_said(polygons, coco):
    coco("val", [{"id": 1, "file_name": "b.jpg"}], [{"id": 5, "image_id": 1, "bbox": [1, 1, 5, 5], "category_id": 1}])
    found = read(polygons, task="segmentation")
    assert [sample.splits for sample in found.samples] == [("train",)]
    assert [one.detail for one in found.faults if "annotation 5" in one.detail]


def test_boxes_alone_make_no_masks(coco):
    root = coco("train", [{"id": 1, "file_name": "a.jpg"}], [{"image_id": 1, "bbox": [1, 1, 5, 5], "category_id": 1}])
    with pytest.raises(ValueError, match="holds no polygons and no masks"):
        read(root, task="segmentation")


@pytest.fixture
def yolo(tmp_path, image_file):
    root = tmp_path / "yolo"
    for name in "abc":
        image_file(root / "images" / f"{name}.jpg", SIZE)
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("1 .25 .25 .5 .25 .5 .5 .25 .5\n0 .5 .5 1 .5 1 1 .5 1\n")
    (root / "labels" / "b.txt").write_text("")
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def test_yolos_polygons_are_read_as_masks(yolo):
    found = read(yolo, task="segmentation")
    assert found.class_names == ["background", "cat", "dog"]
    expected = np.zeros(SIZE, int)
    expected[15:30, 20:40], expected[30:60, 40:80] = 2, 1
    np.testing.assert_array_equal(labels_of(found, found.samples[0]), expected)
    assert [sample.counts.tolist() for sample in found.samples[1:]] == [[4800, 0, 0]] * 2  # no object, no text file
    (yolo / "labels" / "b.txt").write_text("0 .5 .5 .2 .2\n")
    fault = next(one for one in read(yolo, task="segmentation").faults if one.file == "labels/b.txt")
    assert (fault.detail, fault.action) == ("images/b.jpg: line 1 is a box and no polygon", "image left out")
    (yolo / "labels" / "a.txt").write_text("0 .5 .5 .2 .2\n")
    with pytest.raises(ValueError, match="holds no polygons"):
        read(yolo, task="segmentation")


@pytest.mark.parametrize("pattern", ["{split}/{kind}", "{kind}/{split}"])
def test_yolos_splits_are_no_folders_of_masks(tmp_path, image_file, pattern):
    for split in ("train", "valid"):
        image_file(tmp_path / pattern.format(split=split, kind="images") / "a.jpg", SIZE)
        labels = tmp_path / pattern.format(split=split, kind="labels")
        labels.mkdir(parents=True)
        (labels / "a.txt").write_text("0 .25 .25 .5 .25 .5 .5 .25 .5\n")
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    for split in ("train", "val"):
        (sample,) = read(tmp_path, split, task="segmentation").samples
        assert sample.counts.tolist() == [4800 - 300, 300]


def test_drawn_masks_make_batches_with_the_weights_of_their_cells(polygons):
    pytest.importorskip("tensorflow")
    from kzoo.data import check, load

    data = load(polygons, "train", image_size=SIZE, batch_size=1, task="segmentation", instances=True, weights=True)
    images, targets = next(iter(data))
    assert images.shape == (1, *SIZE, 3)
    assert np.unique(targets["masks"]).tolist() == [0, 1]
    assert np.asarray(targets["weights"]).max() > 1
    assert check(polygons, "train", task="segmentation").pixels_per_class["mouse"] == 16


def test_objects_of_coco_are_drawn_as_pycocotools_draws_them(shared_data):
    coco_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    content = json.loads((shared_data("coco_val100") / "instances_val2014_100.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    shares, runs = [], 0
    for one in content["annotations"]:
        shape, size = one["segmentation"], sizes[one["image_id"]]
        theirs = coco_mask.decode(coco_mask.frPyObjects(shape, *size))
        if isinstance(shape, dict):
            np.testing.assert_array_equal(decode_runs(shape["counts"], size), theirs)
            runs += 1
        elif theirs.sum() > 500:
            ours = np.zeros(size, np.uint8)
            for polygon in shape:
                fill(ours, np.reshape(polygon, (-1, 2)), 1)
            theirs = theirs.any(axis=-1)
            shares.append((ours & theirs).sum() / (ours | theirs).sum())
    assert (len(shares), runs) == (518, 9)
    assert np.mean(shares) > 0.99
    assert min(shares) > 0.95
