"""The COCO reader."""

import json

import numpy as np
import pytest

from kzoo.data import check
from kzoo.data.readers import NoSplitsError, read


def image(number, name=None, **more):
    return {"id": number, "file_name": name or f"{number}.jpg", "height": 60, "width": 80, **more}


def box(image_id, bbox=(10, 20, 30, 15), category_id=1, **more):
    return {"image_id": image_id, "bbox": list(bbox), "category_id": category_id, "iscrowd": 0, **more}


def found(annotations):
    return [(fault.kind, fault.action) for fault in annotations.faults]


def test_boxes_areas_crowds_and_ids_are_as_written(coco):
    root = coco(
        "train2017",
        [image(42)],
        [box(42, (10.5, 20, 30, 15), 7, area=200.5), box(42, (0, 0, 80, 60), 1, iscrowd=1, area=3000), box(42)],
    )
    annotations = read(root, "train")
    (sample,) = annotations.samples
    assert annotations.class_names == ["cat", "dog"]
    assert annotations.split == "train2017"
    assert (sample.image_id, sample.size, sample.splits) == (42, (60, 80), ("train2017",))
    np.testing.assert_array_equal(sample.boxes, [[10.5, 20, 40.5, 35], [0, 0, 80, 60], [10, 20, 40, 35]])
    assert sample.labels.tolist() == [1, 0, 0]
    assert sample.crowd.tolist() == [False, True, False]
    assert sample.area.tolist() == [200.5, 3000, 450]
    assert found(annotations) == [("crowd", "kept for evaluation, not trained on")]


def test_annotation_id_0_image_id_0_and_category_id_0_are_ids_like_others(coco):
    root = coco("val", [image(0)], [box(0, category_id=0, id=0)], categories=[(0, "zero"), (1, "one")])
    (sample,) = read(root, "valid").samples
    assert (sample.image_id, sample.labels.tolist()) == (0, [0])


def test_classes_are_those_of_all_files_in_the_order_of_their_ids(coco):
    coco("train", [image(1)], [box(1, category_id=9)], categories=[(9, "bird"), (2, "ant")])
    root = coco("val", [image(1)], [box(1, category_id=5)], categories=[(5, "bee")])
    assert read(root, "val").class_names == read(root, "train").class_names == ["ant", "bee", "bird"]
    assert read(root, "val").samples[0].labels.tolist() == [1]


def test_splits_are_found_by_other_spellings(coco):
    coco("Train", [image(1)], [box(1)])
    root = coco("Validation2020", [image(1)], [box(1)])
    assert read(root, "train").split == "Train"
    assert read(root, "val").split == "Validation2020"


def test_a_single_file_of_any_other_name_is_the_whole(coco):
    root = coco("cells", [image(1)], [box(1)])
    assert read(root, "cells").split == "cells"
    with pytest.raises(NoSplitsError, match="no 'train'"):
        read(root, "train")
    with pytest.raises(ValueError, match="Did you mean 'cells'"):
        read(root, "cell")


def test_what_is_all_called_default_has_no_splits(coco):
    root = coco("default", [image(1)], [box(1)])
    assert read(root, "default").samples[0].splits == ("default",)
    with pytest.raises(NoSplitsError, match="no 'train'"):
        read(root, "train")
    coco("val", [image(1)], [box(1)])
    with pytest.raises(ValueError, match="Valid: default, val"):
        read(root, "train")


def test_two_files_that_both_count_from_1_give_unique_ids_together(coco):
    coco("train", [image(1), image(2)], [])
    root = coco("val", [image(1, "other.jpg")], [])
    samples = read(root).samples
    assert len({sample.image_id for sample in samples}) == 3
    assert [sample.splits for sample in samples] == [("train",), ("train",), ("val",)]


@pytest.mark.parametrize(
    ("bbox", "kind", "action"),
    [
        ((10, 10, 0, 5), "zero area", "box left out"),
        ((10, 10, 5, -5), "zero area", "box left out"),
        ((70, 10, 20, 5), "partly outside", "box clipped"),
        ((80, 10, 20, 5), "outside image", "box left out"),
        ((float("nan"), 10, 20, 5), "non-finite box", "box left out"),
        ((10, 10, 20), "non-finite box", "box left out"),
        ((10, 10, 20, 10**400), "non-finite box", "box left out"),
    ],
)
def test_a_faulty_box_is_listed_with_its_annotation(coco, bbox, kind, action):
    annotations = read(coco("train", [image(1)], [box(1, (1, 1, 5, 5)), box(1, bbox)]))
    (fault,) = annotations.faults
    assert (fault.file, fault.kind, fault.action) == ("annotations/instances_train.json", kind, action)
    assert fault.detail.startswith("annotation 2 of train/1.jpg")
    assert len(annotations.samples[0].boxes) == (2 if action == "box clipped" else 1)


def test_an_object_without_a_box_has_the_one_around_its_polygons(coco):
    parts = [[10, 20, 40, 22, 30, 50.5], [[5, 30], [12, 30], [12, 44]]]
    without = [{**box(1), "segmentation": drawn} for drawn in (parts, parts[:1], [], [["a", "b"]])]
    for one in without:
        del one["bbox"]
    without[1]["bbox"] = []
    boxed = {**box(1), "segmentation": parts}
    annotations = read(coco("train", [image(1)], [*without, boxed]))
    (sample,) = annotations.samples
    np.testing.assert_array_equal(sample.boxes, [[5, 20, 40, 50.5], [10, 20, 40, 50.5], [10, 20, 40, 35]])
    assert found(annotations) == [("non-finite box", "box left out")] * 2


def test_an_image_in_two_splits_is_kept_for_both_and_told(coco):
    coco("train", [image(1), image(2)], [box(1), box(2)])
    again = [image(1, "train/1.jpg", absent=True), image(7, "train/2.jpg", absent=True), image(8)]
    root = coco("val", again, [box(1), box(8)])
    annotations = read(root)
    assert [sample.splits for sample in annotations.samples] == [("train", "val"), ("train", "val"), ("val",)]
    assert [len(sample.boxes) for sample in annotations.samples] == [1, 1, 1]
    (fault,) = annotations.faults
    assert fault.detail == "train/2.jpg has other objects here than in annotations/instances_train.json"
    assert [f.detail for f in check(root).faults if f.kind == "image in two splits"] == [
        "train/1.jpg is in train and in val",
        "train/2.jpg is in train and in val",
    ]


def test_an_image_that_no_file_lists_is_told_once(coco, image_file):
    coco("train", [image(1)], [box(1)])
    root = coco("val", [image(2, "train/2.jpg", absent=True)], [box(2)])
    image_file(root / "train" / "2.jpg")
    image_file(root / "train" / "stray.jpg")
    (fault,) = read(root).faults
    assert (fault.file, fault.kind) == ("train/stray.jpg", "image without annotation")


def test_ids_sizes_and_names_of_strangers_are_faults(coco):
    strange = image(2, "x" * 300, absent=True)
    entries = [image(1) | {"width": float("inf")}, strange, {"id": [3], "file_name": "3.jpg", "absent": True}]
    root = coco("train", entries, [box(1, category_id=[1]), box(1, category_id="1"), box([1]), box(1, category_id=1.0)])
    annotations = read(root)
    (sample,) = annotations.samples
    assert sample.labels.tolist() == [0]
    kinds = [fault.kind for fault in annotations.faults]
    assert sorted(kinds) == [
        "annotation without image",
        "missing image",
        "size not stated",
        "unknown class",
        "unknown class",
        "unreadable annotation",
    ]


def test_ids_of_categories_may_be_texts(coco):
    root = coco("train", [image("a", "1.jpg")], [box("a", category_id="x")], categories=[("x", "cat"), (3, "dog")])
    annotations = read(root)
    assert (annotations.class_names, annotations.samples[0].labels.tolist()) == (["dog", "cat"], [1])


def test_rounding_at_the_border_is_clipped_without_a_word(coco):
    annotations = read(coco("train", [image(1)], [box(1, (70, 10, 10.01, 5))]))
    assert annotations.faults == []
    assert annotations.samples[0].boxes[0, 2] == 80


def test_what_refers_to_nothing_is_listed(coco):
    annotations = read(coco("train", [image(1), image(2, absent=True)], [box(1, category_id=99), box(77)]))
    assert [sample.image_id for sample in annotations.samples] == [1]
    assert sorted(found(annotations)) == [
        ("annotation without image", "box left out"),
        ("missing image", "image left out"),
        ("no objects", "image kept as background"),
        ("unknown class", "box left out"),
    ]


def test_images_that_no_file_lists_and_images_listed_twice_are_told(coco, image_file):
    root = coco("train", [image(1), image(2, "1.jpg"), image(1, "3.jpg")], [box(1)])
    image_file(root / "train" / "stranger.jpg")
    annotations = read(root)
    assert len(annotations.samples) == 1
    assert sorted(found(annotations)) == [
        ("duplicate image", "image left out"),
        ("duplicate image", "image left out"),
        ("image without annotation", "image left out"),
    ]


def test_paths_that_lead_out_of_the_folder_are_not_followed(coco, image_file, tmp_path):
    image_file(tmp_path / "secret.jpg")
    entries = [image(1, "../../../secret.jpg", absent=True), image(2, str(tmp_path / "secret.jpg"), absent=True)]
    annotations = read(coco("train", entries, []))
    assert annotations.samples == []
    assert found(annotations) == [("path outside", "image left out")] * 2


def test_a_broken_file_is_named_with_its_line(coco):
    root = coco("train", [image(1)], [])
    (root / "annotations" / "instances_train.json").write_text('{"images": [],\n oops')
    with pytest.raises(ValueError, match=r"annotations/instances_train.json cannot be read: .*line 2"):
        read(root)


def test_one_broken_file_of_two_is_a_fault(coco):
    coco("train", [image(1)], [box(1)])
    root = coco("val", [image(1)], [])
    (root / "annotations" / "instances_val.json").write_text("{}")
    annotations = read(root)
    assert len(annotations.samples) == 1
    assert found(annotations) == [("unreadable annotation", "images left out")]


def test_odd_entries_do_not_stop_the_reading(coco):
    root = coco("train", [image(1)], [box(1)])
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["images"] += [None, {"id": 5}, {"file_name": "x.jpg"}]
    content["annotations"] += [None, {}, {"image_id": [1]}]
    content["categories"] += [None, {}]
    path.write_text(json.dumps(content))
    annotations = read(root)
    assert len(annotations.samples) == 1
    assert sorted(kind for kind, _ in found(annotations)) == (
        ["annotation without image"] * 3 + ["unreadable annotation"] * 3
    )


def test_roboflows_arrangement_is_recognised(coco, tmp_path):
    root = coco("train", [image(1)], [box(1)])
    (root / "annotations" / "instances_train.json").rename(root / "train" / "_annotations.coco.json")
    assert len(read(root, "train").samples) == 1
    with pytest.raises(ValueError, match=r"Unknown split 'test'.*Valid: train\."):
        read(root, "test")


def test_one_coco_file_can_be_the_source(coco):
    coco("val", [image(9)], [])
    root = coco("train", [image(1)], [box(1)])
    (sample,) = read(root / "annotations" / "instances_train.json").samples
    assert sample.boxes.tolist() == [[10, 20, 40, 35]]


def test_a_split_named_after_its_year_is_found(coco):
    coco("train2017", [image(1)], [])
    root = coco("val2017", [image(2)], [])
    assert read(root, "validation").split == "val2017"


def test_the_coco_fixture_is_read_like_pycocotools_reads_it(shared_data, tmp_path, image_file):
    mask = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    source = shared_data("coco_val100") / "instances_val2014_100.json"
    content = json.loads(source.read_text())
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / source.name).write_text(source.read_text())
    for entry in content["images"]:
        image_file(tmp_path / "images" / entry["file_name"], (entry["height"], entry["width"]), seed=1)
    annotations = read(tmp_path, "val")
    theirs = mask.COCO(str(source))
    assert annotations.class_names == [theirs.cats[number]["name"] for number in sorted(theirs.cats)]
    assert sorted(sample.image_id for sample in annotations.samples) == sorted(theirs.imgs)
    told = sum(fault.action == "box left out" for fault in annotations.faults)
    assert sum(len(sample.boxes) for sample in annotations.samples) + told == len(theirs.anns)
    for sample in annotations.samples:
        expected = theirs.loadAnns(theirs.getAnnIds(sample.image_id))
        if len(expected) != len(sample.boxes):
            continue
        xywh = np.array([a["bbox"] for a in expected]).reshape(-1, 4)
        np.testing.assert_allclose(sample.boxes[:, :2], xywh[:, :2], atol=1e-3)
        np.testing.assert_allclose(sample.boxes[:, 2:], xywh[:, :2] + xywh[:, 2:], atol=0.5)
        np.testing.assert_allclose(sample.area, [a["area"] for a in expected], rtol=1e-6)
        assert sample.crowd.tolist() == [bool(a["iscrowd"]) for a in expected]
