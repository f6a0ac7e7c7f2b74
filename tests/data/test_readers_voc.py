"""The VOC reader."""

import numpy as np
import pytest

from kzoo.data.readers import read


def kinds(annotations):
    return [(fault.kind, fault.action) for fault in annotations.faults]


def test_boxes_lose_one_from_their_minima_only(voc):
    (sample,) = read(voc("a", [("cat", (1, 1, 80, 60)), ("dog", (11, 21, 30, 40.5))])).samples
    np.testing.assert_array_equal(sample.boxes, [[0, 0, 80, 60], [10, 20, 30, 40.5]])
    np.testing.assert_array_equal(sample.area, [4800, 20 * 20.5])
    assert (sample.boxes.dtype, sample.labels.dtype, sample.area.dtype) == (np.float32, np.int32, np.float32)
    assert sample.size == (60, 80)


def test_names_are_sorted_over_all_splits_so_that_ids_do_not_depend_on_the_split(voc, voc_split):
    voc("a", [("zebra", (1, 1, 9, 9))])
    root = voc("b", [("ant", (1, 1, 9, 9))])
    voc_split("train", ["a"])
    voc_split("test", ["b"])
    assert read(root, "train").class_names == read(root, "test").class_names == ["ant", "zebra"]
    assert read(root, "train").samples[0].labels.tolist() == [1]


def test_given_class_names_leave_out_the_others_and_say_so(voc):
    annotations = read(voc("a", [("cat", (1, 1, 9, 9)), ("dog", (2, 2, 9, 9))]), class_names=["dog"])
    assert annotations.class_names == ["dog"]
    assert annotations.samples[0].boxes.tolist() == [[1, 1, 9, 9]]
    assert kinds(annotations) == [("unknown class", "box left out")]
    assert "'cat'" in annotations.faults[0].detail


@pytest.mark.parametrize("asked", ["val", "valid", "validation"])
def test_validation_has_three_names(voc, voc_split, asked):
    root = voc("a")
    voc_split("valid", ["a"])
    assert read(root, asked).split == "valid"


def test_a_split_that_is_not_there_is_answered_with_those_there_are(voc, voc_split):
    root = voc("a")
    voc_split("train", ["a"])
    voc_split("test", ["a"])
    with pytest.raises(ValueError, match=r"Unknown split 'tets'. Did you mean 'test'\? Valid: test, train\."):
        read(root, "tets")


def test_a_folder_without_lists_has_no_splits(voc):
    root = voc("a")
    assert len(read(root).samples) == 1
    with pytest.raises(ValueError, match="has no splits"):
        read(root, "train")


def test_lists_of_one_class_are_no_splits(voc, voc_split):
    root = voc("a")
    voc_split("train", ["a"])
    voc_split("cat_train", ["a -1"])
    with pytest.raises(ValueError, match=r"Valid: train\."):
        read(root, "cat_train")


def test_a_devkit_folder_is_entered_and_several_years_have_to_be_chosen_from(voc, tmp_path):
    root = voc("a")
    year = tmp_path / "VOCdevkit" / "VOC2007"
    year.parent.mkdir()
    root.rename(year)
    assert len(read(tmp_path).samples) == len(read(tmp_path / "VOCdevkit").samples) == 1
    (tmp_path / "VOCdevkit" / "VOC2012" / "Annotations").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"several VOC data sets: give one of .*VOC2007, .*VOC2012"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("corners", "kind", "action"),
    [
        ((20, 20, 20, 20), "zero area", "box left out"),
        ((20, 20, 20, 40), "zero area", "box left out"),
        ((40, 20, 20, 40), "zero area", "box left out"),
        ((10, 10, 95, 40), "partly outside", "box clipped"),
        ((-5, 10, 30, 40), "partly outside", "box clipped"),
        ((90, 10, 120, 40), "outside image", "box left out"),
        (("nan", 10, 30, 40), "non-finite box", "box left out"),
        (("inf", 10, 30, 40), "non-finite box", "box left out"),
        (("many", 10, 30, 40), "non-finite box", "box left out"),
    ],
)
def test_a_faulty_box_is_listed_with_its_line_and_only_it_is_touched(voc, corners, kind, action):
    annotations = read(voc("a", [("cat", (2, 2, 9, 9)), ("cat", corners)]))
    (fault,) = annotations.faults
    assert (fault.file, fault.kind, fault.action) == ("Annotations/a.xml", kind, action)
    assert fault.detail.startswith("line 5: cat [")
    boxes = annotations.samples[0].boxes
    assert boxes[0].tolist() == [1, 1, 9, 9]
    assert len(boxes) == (2 if action == "box clipped" else 1)
    assert (boxes >= 0).all()
    assert (boxes <= [80, 60, 80, 60]).all()


def test_the_same_box_twice_is_kept_once_but_two_classes_may_share_a_box(voc):
    box = (5, 5, 30, 30)
    annotations = read(voc("a", [("cat", box), ("cat", box), ("dog", box)]))
    assert annotations.samples[0].labels.tolist() == [0, 1]
    assert kinds(annotations) == [("duplicate box", "box left out")]


def test_an_image_without_objects_is_kept_and_mentioned(voc):
    annotations = read(voc("a"))
    assert annotations.samples[0].boxes.shape == (0, 4)
    assert annotations.samples[0].labels.shape == (0,)
    assert kinds(annotations) == [("no objects", "image kept as background")]


def test_difficult_objects_are_kept_marked_and_mentioned(voc):
    annotations = read(voc("a", [("cat", (2, 2, 9, 9), True), ("cat", (3, 3, 9, 9))]))
    assert annotations.samples[0].difficult.tolist() == [True, False]
    assert kinds(annotations) == [("difficult", "kept, evaluation ignores it")]


@pytest.mark.parametrize(("stated", "kind"), [((0, 0), "size not stated"), ((600, 800), "wrong size")])
def test_a_wrong_stated_size_is_replaced_by_the_images_own(voc, stated, kind):
    annotations = read(voc("a", [("cat", (2, 2, 79, 59))], stated=stated))
    assert annotations.samples[0].size == (60, 80)
    assert kinds(annotations) == [(kind, "image's own size used")]


def test_missing_images_and_annotations_are_listed_and_the_rest_is_read(voc, voc_split, image_file):
    voc("a", [("cat", (2, 2, 9, 9))])
    root = voc("gone", [("cat", (2, 2, 9, 9))], image=False)
    image_file(root / "JPEGImages" / "alone.jpg")
    voc_split("train", ["a", "gone", "alone", "never", "a"])
    for split in ("train", None):
        annotations = read(root, split)
        assert [sample.name for sample in annotations.samples] == ["a.jpg"]
        found = {(fault.file, fault.kind) for fault in annotations.faults}
        assert {
            ("Annotations/gone.xml", "missing image"),
            ("JPEGImages/alone.jpg", "image without annotation"),
            ("Annotations/never.xml", "missing image"),
        } <= found
    assert ("ImageSets/Main/train.txt", "duplicate image") in {(f.file, f.kind) for f in read(root, "train").faults}


def test_unreadable_files_leave_out_their_image_only(voc):
    voc("good", [("cat", (2, 2, 9, 9))])
    voc("torn", [("cat", (2, 2, 9, 9))])
    voc("empty", [("cat", (2, 2, 9, 9))])
    root = voc("badxml", [("cat", (2, 2, 9, 9))])
    torn = root / "JPEGImages" / "torn.jpg"
    torn.write_bytes(torn.read_bytes()[:-700])
    (root / "JPEGImages" / "empty.jpg").write_bytes(b"")
    (root / "Annotations" / "badxml.xml").write_text("<annotation>\n<object>")
    annotations = read(root)
    assert [sample.name for sample in annotations.samples] == ["good.jpg"]
    assert {(f.file, f.kind) for f in annotations.faults} == {
        ("JPEGImages/torn.jpg", "corrupt image"),
        ("JPEGImages/empty.jpg", "corrupt image"),
        ("Annotations/badxml.xml", "unreadable annotation"),
    }
    assert "line 2" in next(f.detail for f in annotations.faults if f.kind == "unreadable annotation")


def test_entities_are_refused(voc):
    root = voc("a", [("cat", (2, 2, 9, 9))])
    path = root / "Annotations" / "a.xml"
    path.write_text('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + path.read_text().replace("cat", "&e;"))
    annotations = read(root)
    assert annotations.samples == []
    assert kinds(annotations) == [("unreadable annotation", "image left out")]


def test_paths_that_lead_out_of_the_folder_are_not_followed(voc, voc_split, image_file, tmp_path):
    image_file(tmp_path / "secret.jpg")
    root = voc("a", [("cat", (2, 2, 9, 9))], filename="../../secret.jpg", image=False)
    voc_split("train", ["a", "../../../voc/Annotations/a", str(tmp_path / "secret")])
    annotations = read(root, "train")
    assert annotations.samples == []
    assert [fault.kind for fault in annotations.faults] == ["path outside"] * 3


def test_an_image_may_have_another_name_if_the_xml_names_it(voc, image_file):
    root = voc("a", [("cat", (2, 2, 9, 9))], filename="photo.png", image=False)
    image_file(root / "JPEGImages" / "photo.png")
    assert [sample.name for sample in read(root).samples] == ["photo.png"]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_boxes_drawn_on_the_unturned_image_are_turned_with_it(voc, orientation):
    # The box of the stored image's pixels 5..25 x 10..40; the truth is what Pillow makes of a mask of them.
    from PIL import Image, ImageOps

    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 5:25] = 255
    stored = Image.fromarray(mask)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.info["exif"] = exif.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(stored))
    rows, columns = np.flatnonzero(upright.any(1)), np.flatnonzero(upright.any(0))
    expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]

    annotations = read(voc("a", [("cat", (6, 11, 25, 40))], orientation=orientation))
    (sample,) = annotations.samples
    assert sample.size == upright.shape
    found = [fault.kind for fault in annotations.faults]
    if orientation >= 5:
        assert sample.boxes[0].tolist() == expected
        assert found == ["EXIF rotation", "boxes on unturned image"]
    else:  # the stated size does not tell: annotation tools show images upright
        assert sample.boxes[0].tolist() == [5, 10, 25, 40]
        assert found == ["EXIF rotation"]


def test_boxes_drawn_on_the_upright_image_stay(voc):
    annotations = read(voc("a", [("cat", (6, 11, 25, 40))], orientation=6, stated=(80, 60)))
    assert annotations.samples[0].size == (80, 60)
    assert annotations.samples[0].boxes.tolist() == [[5, 10, 25, 40]]
    assert [(f.kind, f.action) for f in annotations.faults] == [("EXIF rotation", "image turned upright")]


def test_a_sample_knows_its_splits(voc, voc_split):
    root = voc("a")
    voc_split("train", ["a"])
    voc_split("trainval", ["a"])
    assert read(root, "train").samples[0].splits == ("train", "trainval")


def test_the_voc2007_subset_is_read_whole(shared_data):
    root = shared_data("voc2007_subset")
    assert [len(read(root, split).samples) for split in ("train", "val", "test")] == [482, 460, 964]
    annotations = read(root)
    assert len(annotations.class_names) == 20
    assert annotations.class_names[::6] == ["aeroplane", "car", "horse", "train"]
    assert sum(len(sample.boxes) for sample in annotations.samples) == 5203
    assert {fault.kind for fault in annotations.faults} == {"difficult"}


def moved(root, folder, images, annotations):
    """The files of a folder in VOC's layout, in other folders."""
    for part, where in (("JPEGImages", images), ("Annotations", annotations)):
        (folder / where).mkdir(parents=True, exist_ok=True)
        for path in (root / part).iterdir():
            path.rename(folder / where / path.name)
    return folder


@pytest.mark.parametrize(("images", "annotations"), [("", ""), ("images", "annotations"), ("imgs", "xmls")])
def test_images_and_xml_files_lie_elsewhere_or_side_by_side(voc, tmp_path, images, annotations):
    voc("a", [("cat", (1, 1, 9, 9))])
    voc("sound", [("cat", (1, 1, 9, 9))])
    root = moved(voc("b", [("ant", (1, 1, 5, 9))]), tmp_path / "other", images, annotations)
    (root / annotations / "b.xml").rename(root / annotations / "c.xml")  # <filename> says b.jpg
    (root / images / "a.jpg").rename(root / images / "d.jpg")
    found = read(root)
    assert [sample.image.name for sample in found.samples] == ["b.jpg", "sound.jpg"]
    assert found.class_names == ["ant", "cat"]
    assert sorted((fault.kind, fault.file) for fault in found.faults) == [
        ("image without annotation", str((root / images / "b.jpg").relative_to(root))),
        ("image without annotation", str((root / images / "d.jpg").relative_to(root))),
        ("missing image", str((root / annotations / "a.xml").relative_to(root))),
    ]
    with pytest.raises(ValueError, match="has no splits"):
        read(root, "train")


@pytest.mark.parametrize(("images", "annotations"), [("", ""), ("images", "annotations")])
def test_each_split_may_have_a_folder_of_its_own(voc, tmp_path, images, annotations):
    root = tmp_path / "other"
    for split, names in (("train", "ab"), ("valid", "a")):
        for name in names:
            source = voc(name, [("cat" if split == "train" else "ant", (1, 1, 9, 9))])
        moved(source, root / split, images, annotations)
    (root / "notes").mkdir()
    assert read(root, "val").class_names == read(root, "train").class_names == ["ant", "cat"]
    train, everything = read(root, "train"), read(root)
    assert [(sample.name, sample.splits) for sample in train.samples] == [("a.jpg", ("train",)), ("b.jpg", ("train",))]
    assert [sample.splits for sample in everything.samples] == [("train",), ("train",), ("valid",)]
    assert len({sample.image_id for sample in everything.samples}) == 3
    (sample,) = read(root, "validation").samples
    assert (sample.image, sample.labels.tolist()) == (root / "valid" / images / "a.jpg", [0])
    with pytest.raises(ValueError, match="Valid: train, valid"):
        read(root, "test")
