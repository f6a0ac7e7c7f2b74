"""The reader of CSV tables: with and without a header, split by files and folders, and every fault by its name."""

import numpy as np
import pytest

from kzoo.data.readers import read

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"  # Roboflow's, and TensorFlow's Object Detection API's
SIZE = (60, 80)


@pytest.fixture
def table(tmp_path, image_file):
    """Returns a function that writes a table and its images: table("train.csv", [lines], ["a.jpg"]) -> the folder."""

    def write(name, lines, images=(), encoding="utf-8"):
        root = tmp_path / "tables"
        for image in images:
            image_file(root / image, SIZE)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n", encoding=encoding)
        return root

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_line_a_box(table, encoding):
    lines = [HEADER, "a.jpg,80,60,dog,10,20,30,40", "b.jpg,80,60,cat,1,2,3,4", "a.jpg,80,60,cat,50,5,70,55.5"]
    root = table("_annotations.csv", lines, ["a.jpg", "b.jpg"], encoding)
    for source in (root, root / "_annotations.csv"):
        found = read(source)
        assert (found.class_names, found.faults) == (["cat", "dog"], [])
        assert [sample.name for sample in found.samples] == ["a.jpg", "b.jpg"]
        np.testing.assert_array_equal(found.samples[0].boxes, [[10, 20, 30, 40], [50, 5, 70, 55.5]])
        assert found.samples[0].labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match="has no splits"):
        read(root, "train")


def test_keras_retinanets_tables_have_no_header_and_lines_without_objects(table):
    lines = ["/data/images/a.jpg,10,20,30,40,dog", "b.jpg,,,,,", r"C:\photos\a.jpg,1,2,3,4,cat"]
    root = table("train.csv", lines, ["images/a.jpg", "images/b.jpg"])
    found = read(root, "train")
    assert found.class_names == ["cat", "dog"]
    assert {(fault.kind, fault.action) for fault in found.faults} == {
        ("duplicate image", "image left out"),
        ("no objects", "image kept as background"),
    }
    assert [len(sample.boxes) for sample in found.samples] == [1, 0]


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("image_id;x_min;y_min;x_max;y_max;label", "a;10;20;30;40;dog"),
        ("Image Path\tX1\tY1\tX2\tY2\tClass Name", "./images/a.jpg\t10\t20\t30\t40\tdog"),
        ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax", "a,x,dog,1,.125,.375,.33333333,.66666667"),
    ],
)
def test_other_names_delimiters_and_fractions(table, header, line):
    found = read(table("boxes.csv", [header, line], ["images/a.jpg"]))
    assert (found.class_names, found.faults) == (["dog"], [])
    np.testing.assert_allclose(found.samples[0].boxes, [[10, 20, 30, 40]], atol=1e-5)


@pytest.mark.parametrize(
    ("train", "test", "images"),
    [
        ("train.csv", "test.csv", ["train/a.jpg", "test/b.jpg"]),
        ("train_labels.csv", "test_labels.csv", ["images/a.jpg", "images/b.jpg"]),
        ("train/_annotations.csv", "test/_annotations.csv", ["train/a.jpg", "test/b.jpg"]),
        ("annotations/train.csv", "annotations/test.csv", ["images/train/a.jpg", "images/test/b.jpg"]),
    ],
)
def test_splits_are_files_or_folders_and_classes_those_of_all(table, train, test, images):
    table(train, [HEADER, "a.jpg,80,60,dog,10,20,30,40"], images)
    root = table(test, [HEADER, "b.jpg,80,60,cat,10,20,30,40"])
    found = read(root, "test")
    assert (found.class_names, found.faults) == (["cat", "dog"], [])
    assert [(sample.name, sample.splits) for sample in found.samples] == [(images[1], ("test",))]
    assert {(sample.name, sample.splits) for sample in read(root).samples} == {
        (images[0], ("train",)),
        (images[1], ("test",)),
    }
    with pytest.raises(ValueError, match=r"Unknown split 'val'.*test, train"):
        read(root, "val")


def test_every_fault_has_its_line(table):
    lines = [
        HEADER,
        "a.jpg,80,60,dog,10,20,30,40",
        "a.jpg,80,60,dog,10,20,10,40",
        "broken.jpg,80,60,dog,10,wide,30,40",
        "short.jpg,80,60,dog,10",
        "nameless.jpg,80,60,,10,20,30,40",
        "nowhere.jpg,80,60,dog,10,20,30,40",
        "../outside.jpg,80,60,dog,10,20,30,40",
        "wrong.jpg,800,600,dog,10,20,30,40",
    ]
    names = ["a.jpg", "broken.jpg", "short.jpg", "nameless.jpg", "wrong.jpg", "alone.jpg", "../outside.jpg"]
    found = read(table("_annotations.csv", lines, names))
    told = {(fault.kind, fault.detail.split(":")[0]) for fault in found.faults}
    assert told == {
        ("zero area", "line 3"),
        ("unreadable annotation", "broken.jpg"),
        ("unreadable annotation", "short.jpg"),
        ("unreadable annotation", "nameless.jpg"),
        ("missing image", "there is no image nowhere.jpg"),
        ("missing image", "there is no image ../outside.jpg"),
        ("wrong size", "wrong.jpg"),
        ("image without annotation", "no table names it"),
    }
    assert any("line 4 is no box (could not convert string to float: 'wide')" in fault.detail for fault in found.faults)
    assert [sample.name for sample in found.samples] == ["a.jpg", "wrong.jpg"]


def test_a_quote_that_nothing_closes_is_told(table):
    with pytest.raises(ValueError, match=r"_annotations.csv: not a readable CSV file \(field larger"):
        read(table("_annotations.csv", [HEADER, '"' + "a" * 200_000]))


@pytest.mark.parametrize("lines", [[""], ["a,b,c"], ["epoch,loss", "1,2"], ["x,1,2,3,4,5,6"], ["\0\0\0"]])
def test_other_tables_are_no_data_set(table, lines):
    with pytest.raises(ValueError, match=r"no known layout. .* a CSV file with a line a box .*found 1 .csv file"):
        read(table("other.csv", lines))
