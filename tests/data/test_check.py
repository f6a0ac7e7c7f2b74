"""The check of a data set."""

import json
import shutil

import pytest

import kzoo.data


def test_kzoo_data_check_stays_a_function_after_its_first_call(voc):
    root = voc("a", [("cat", (1, 1, 9, 9))])
    kzoo.data.check(root)
    assert kzoo.data.check(root).images == 1


def test_counts_are_those_of_what_training_will_see(voc, voc_split):
    voc("a", [("cat", (1, 1, 9, 9)), ("cat", (5, 5, 5, 5)), ("dog", (5, 5, 20, 20))])
    voc("b", [("cat", (1, 1, 9, 9))])
    root = voc("gone", [("cat", (1, 1, 9, 9))], image=False)
    voc_split("train", ["a", "gone"])
    voc_split("test", ["b"])
    voc_split("trainval", ["a"])
    report = kzoo.data.check(root)
    assert (report.images, report.boxes) == (2, 3)
    assert (report.images_left_out, report.boxes_left_out) == (1, 1)
    assert report.boxes_per_class == {"cat": 2, "dog": 1}
    assert list(report.images_per_split.items()) == [("train", 1), ("trainval", 1), ("test", 1)]
    assert report.boxes_per_split == {"train": 2, "trainval": 2, "test": 1}
    assert report.kinds == {"missing image": 1, "zero area": 1}
    assert kzoo.data.check(root, "test").faults == []


def test_damage_that_only_decoding_finds_is_found(voc, image_file):
    voc("good", [("cat", (1, 1, 9, 9))])
    root = voc("torn", [("cat", (1, 1, 9, 9))], image=False)
    torn = image_file(root / "JPEGImages" / "torn.png")
    content = torn.read_bytes()
    torn.write_bytes(content[:2000] + bytes(500) + content[2500:])  # header and end are sound
    report = kzoo.data.check(root)
    assert (report.images, report.boxes, report.images_left_out) == (1, 1, 1)
    (fault,) = report.faults
    assert (fault.file, fault.kind) == ("JPEGImages/torn.png", "corrupt image")


def test_the_same_image_under_two_names_is_told_and_worse_across_splits(voc, voc_split):
    for name in ("a", "b", "c"):
        root = voc(name, [("cat", (1, 1, 9, 9))])
    for copy in ("b", "c"):
        shutil.copy(root / "JPEGImages" / "a.jpg", root / "JPEGImages" / f"{copy}.jpg")
    voc_split("train", ["a", "b"])
    voc_split("test", ["c"])
    voc_split("trainval", ["a", "b"])
    found = {(fault.file, fault.kind) for fault in kzoo.data.check(root).faults}
    assert found == {("JPEGImages/b.jpg", "duplicate image"), ("JPEGImages/c.jpg", "image in two splits")}


def test_a_name_in_two_splits_is_told_but_trainval_may_hold_train(voc, voc_split):
    root = voc("a", [("cat", (1, 1, 9, 9))])
    voc_split("train", ["a"])
    voc_split("trainval", ["a"])
    assert kzoo.data.check(root).faults == []
    voc_split("test", ["a"])
    (fault,) = kzoo.data.check(root).faults
    assert (fault.kind, fault.detail) == ("image in two splits", "a.jpg is in test and in train")


def test_the_summary_shows_each_kind_with_its_first_examples(voc):
    objects = [("cat", (i, 5, i, 5)) for i in range(1, 6)]
    report = kzoo.data.check(voc("a", [*objects, ("cat", (1, 1, 9, 9))]))
    text = str(report)
    assert text == report.summary()
    assert "zero area: 5 (box left out)" in text
    assert text.count("Annotations/a.xml: line") == 3
    assert "... and 2 more" in text
    assert "0 images and 5 boxes of other images" in text
    assert report.summary(examples=-1).count("Annotations/a.xml: line") == 5


def test_a_sound_data_set_is_called_so(voc):
    assert str(kzoo.data.check(voc("a", [("cat", (1, 1, 9, 9))]))).endswith("No faults.")


def test_a_data_set_that_has_nothing_left_is_reported_not_an_error(voc):
    report = kzoo.data.check(voc("a", image=False))
    assert (report.images, report.boxes) == (0, 0)
    assert "missing image: 1" in str(report)


def test_the_report_becomes_json(voc):
    content = json.loads(json.dumps(kzoo.data.check(voc("a", [("cat", (5, 5, 5, 5))])).to_dict()))
    assert content["boxes_left_out"] == 1
    assert content["kinds"] == {"zero area": 1, "no objects": 1}
    assert content["faults"][0]["file"] == "Annotations/a.xml"


def test_a_source_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no known layout"):
        kzoo.data.check(tmp_path)


def test_bccd_has_two_boxes_without_area(shared_data):
    report = kzoo.data.check(shared_data("bccd"))
    assert (report.images, report.boxes, report.images_left_out, report.boxes_left_out) == (364, 4886, 0, 2)
    assert report.boxes_per_class == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    assert [(fault.file, fault.kind) for fault in report.faults] == [
        ("Annotations/BloodImage_00338.xml", "zero area"),
        ("Annotations/BloodImage_00343.xml", "zero area"),
    ]
