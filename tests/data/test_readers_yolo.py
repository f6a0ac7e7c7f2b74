"""The YOLO reader."""

import numpy as np
import pytest
import yaml

from kzoo.data.readers import read
from kzoo.data.readers.yolo import parse


def found(annotations):
    return [(fault.kind, fault.action) for fault in annotations.faults]


def test_fractions_become_pixels(yolo):
    annotations = read(yolo("a", "1 0.5 0.5 0.25 0.5\n0 0.125 0.25 0.25 0.5\n"), "train")
    (sample,) = annotations.samples
    np.testing.assert_allclose(sample.boxes, [[30, 15, 50, 45], [0, 0, 20, 30]])
    assert sample.labels.tolist() == [1, 0]
    assert annotations.class_names == ["cat", "dog"]
    assert sample.splits == ("train",)
    assert annotations.faults == []


def test_a_polygon_becomes_its_bounding_box():
    numbers, boxes, lines = parse("\n3 0.1 0.2 0.5 0.1 0.3 0.9\n")
    assert (numbers, lines) == ([3], [2])
    np.testing.assert_allclose(boxes, [[0.1, 0.1, 0.5, 0.9]])


def test_an_empty_file_is_no_boxes():
    numbers, boxes, lines = parse("")
    assert (numbers, boxes.shape, lines) == ([], (0, 4), [])


@pytest.mark.parametrize(
    "line", ["0 .5 .5 .2", "0 .5 .5 .2 .2 .9", "0 .5 .5 x .2", "0.5 .5 .5 .2 .2", "cat", "nan 1 1 1 1"]
)
def test_an_unreadable_line_leaves_out_the_image_and_is_named(yolo, line):
    yolo("good", "0 .5 .5 .2 .2")
    annotations = read(yolo("bad", f"0 .5 .5 .2 .2\n{line}\n"))
    assert [sample.name for sample in annotations.samples] == ["images/train/good.png"]
    (fault,) = annotations.faults
    assert (fault.file, fault.kind) == ("labels/train/bad.txt", "unreadable annotation")
    assert fault.detail.startswith("line 2: ")


@pytest.mark.parametrize(
    ("line", "kind", "action"),
    [
        ("2 .5 .5 .2 .2", "unknown class", "box left out"),
        ("-1 .5 .5 .2 .2", "unknown class", "box left out"),
        ("0 .5 .5 0 .2", "zero area", "box left out"),
        ("0 .5 .5 -.1 .2", "zero area", "box left out"),
        ("0 1 .5 .5 .2", "partly outside", "box clipped"),
        ("0 30 15 20 20", "outside image", "box left out"),
        ("0 nan .5 .5 .2", "non-finite box", "box left out"),
        ("0 .5 .5 .25 .25", "duplicate box", "box left out"),
    ],
)
def test_a_faulty_box_is_listed_with_its_line(yolo, line, kind, action):
    annotations = read(yolo("a", f"0 .5 .5 .25 .25\n\n{line}\n"))
    (fault,) = annotations.faults
    assert (fault.file, fault.kind, fault.action) == ("labels/train/a.txt", kind, action)
    assert fault.detail.startswith("line 3: ")
    assert len(annotations.samples[0].boxes) == (2 if action == "box clipped" else 1)


def test_missing_partners_are_listed(yolo):
    yolo("a", "")
    yolo("unlabelled", None)
    annotations = read(yolo("gone", "0 .5 .5 .2 .2", image=False))
    assert [sample.name for sample in annotations.samples] == ["images/train/a.png", "images/train/unlabelled.png"]
    assert sorted(found(annotations)) == [
        ("annotation without image", "image left out"),
        ("image without annotation", "image kept as background"),
        ("no objects", "image kept as background"),
    ]


def test_both_arrangements_of_folders_are_recognised(yolo, tmp_path):
    root = yolo("a", "0 .5 .5 .2 .2")
    other = tmp_path / "other"
    (other / "train").mkdir(parents=True)
    (root / "images" / "train").rename(other / "train" / "images")
    (root / "labels" / "train").rename(other / "train" / "labels")
    (root / "classes.txt").rename(other / "classes.txt")
    (sample,) = read(other, "train").samples
    assert (len(sample.boxes), sample.splits) == (1, ("train",))


def test_a_folder_without_splits_is_read_whole(tmp_path, image_file):
    image_file(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .2 .2")
    (tmp_path / "classes.txt").write_text("cat\n")
    (sample,) = read(tmp_path).samples
    assert (len(sample.boxes), sample.splits) == (1, ())
    with pytest.raises(ValueError, match="has no splits"):
        read(tmp_path, "train")


@pytest.mark.parametrize("train", ["images/train", "../images/train", "./images/train/", ["images/train"], "train.txt"])
@pytest.mark.parametrize("names", [["cat", "dog"], {0: "cat", 1: "dog"}])
def test_data_yaml_names_classes_and_splits(yolo, train, names):
    root = yolo("a", "1 .5 .5 .2 .2")
    yolo("b", "0 .5 .5 .2 .2", split="held_out")
    (root / "classes.txt").unlink()
    (root / "train.txt").write_text("./images/train/a.png\n")
    settings = {"path": "/somewhere/else", "train": train, "val": "images/held_out", "nc": 2, "names": names}
    (root / "data.yaml").write_text(yaml.safe_dump(settings))
    for source in (root, root / "data.yaml"):
        annotations = read(source, "train")
        assert annotations.class_names == ["cat", "dog"]
        assert [sample.labels.tolist() for sample in annotations.samples] == [[1]]
        assert annotations.faults == []
    assert [sample.name for sample in read(root, "validation").samples] == ["images/held_out/b.png"]


def test_ids_with_gaps_become_labels_without(yolo):
    root = yolo("a", "5 .5 .5 .2 .2\n1 .5 .5 .3 .3\n2 .5 .5 .4 .4")
    (root / "data.yaml").write_text("train: images/train\nnames: {5: five, 1: one}\nnc: 6\n")
    annotations = read(root, "train")
    assert annotations.class_names == ["one", "five"]
    assert annotations.samples[0].labels.tolist() == [1, 0]
    assert sorted(found(annotations)) == [("class count", "names used"), ("unknown class", "box left out")]


def test_class_names_stand_in_where_the_folder_names_none(yolo):
    root = yolo("a", "1 .5 .5 .2 .2")
    (root / "classes.txt").unlink()
    assert read(root, class_names=["cat", "dog"]).samples[0].labels.tolist() == [1]
    with pytest.raises(ValueError, match="names no classes: add a data"):
        read(root)


def test_class_names_choose_and_reorder(yolo):
    annotations = read(yolo("a", "1 .5 .5 .2 .2\n0 .5 .5 .3 .3"), class_names=["dog"])
    assert annotations.samples[0].labels.tolist() == [0]
    assert found(annotations) == [("unknown class", "box left out")]


def test_a_broken_yaml_file_is_named_with_its_line(yolo):
    root = yolo("a", "")
    for names in ("[cat, dog, cat]", "{0: cat, 4: dog, 7: cat}"):
        (root / "data.yaml").write_text(f"names: {names}\n")
        with pytest.raises(ValueError, match=r"data.yaml: the class 'cat' stands there twice \(1. and 3.\)"):
            read(root)
    (root / "data.yaml").write_text("names: [cat\ntrain: x: y\n")
    with pytest.raises(ValueError, match=r"data.yaml is not a readable YAML file: .*line 2") as error:
        read(root)
    assert "\n" not in str(error.value)


def test_paths_that_lead_out_of_the_folder_are_not_followed(yolo, image_file, tmp_path):
    image_file(tmp_path / "secret" / "s.png")
    root = yolo("a", "")
    (root / "list.txt").write_text(f"images/train/a.png\n../secret/s.png\n{tmp_path / 'secret' / 's.png'}\n")
    (root / "data.yaml").write_text("names: [cat]\ntrain: list.txt\nval: ../secret\n")
    annotations = read(root, "train")
    assert [sample.name for sample in annotations.samples] == ["images/train/a.png"]
    assert [kind for kind, _ in found(annotations)].count("path outside") == 2
    assert read(root, "val").samples == []
