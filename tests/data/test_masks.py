"""Folders of images and masks: layouts, palettes, void, names and numbers, and every fault by its name."""

import numpy as np
import pytest
from made_data import write_array as write
from PIL import Image

from kzoo.data.readers import has_only_masks
from kzoo.data.readers import read as read_any
from kzoo.data.readers.mask_files import count_numbers, read_numbers
from kzoo.data.readers.masks import labels_of, read


def write_stack(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = map(Image.fromarray, arrays)
    first.save(path, save_all=True, append_images=others)


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 30), "uint8")
    mask[5:15, 5:20], mask[:3] = 1, 255
    return rng.integers(0, 256, (20, 30, 3)).astype("uint8"), mask


LAYOUTS = {
    "plain": ("images/{}.jpg", "masks/{}.png"),
    "isbi": ("image/{}.png", "label/{}.png"),
    "split outside": ("train/images/{}.png", "train/masks/{}.png"),
    "split inside": ("images/train/{}.png", "masks/train/{}.png"),
    "split inside, other words": ("images/training/{}.png", "annotations/training/{}.png"),
    "camvid": ("train/{}.jpg", "trainannot/{}.png"),
    "folders of labels": ("train/{}.jpg", "train_labels/{}_L.png"),
    "folders of masks": ("train/{}.jpg", "train_masks/{}_mask.gif"),
    "voc": ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    "endings": ("imgs/{}.jpg", "masks/{}_mask.png"),
    "beside": ("{}.jpg", "{}_mask.png"),
    "beside in splits": ("train/{}.jpg", "train/{}_mask.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(tmp_path, scene, layout):
    image, mask = scene
    for name in ("10", "2"):
        for pattern, array in zip(LAYOUTS[layout], (image, mask), strict=True):
            write(tmp_path / pattern.format(name), array)
    if layout == "voc":
        (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("2\n10\n")
    split = None if layout in ("plain", "isbi", "endings", "beside") else "train"
    found = read(tmp_path, split)
    assert [sample.image.stem for sample in found.samples] == ["2", "10"]
    assert [sample.mask.stem.split("_")[0] for sample in found.samples] == ["2", "10"]
    assert found.class_names[:2] == (["background", "aeroplane"] if layout == "voc" else ["0", "1"])
    assert found.samples[0].size == (20, 30)
    assert found.counts[:2].tolist() == [2 * (17 * 30 - 150), 300]
    assert not found.faults
    if split:
        with pytest.raises(ValueError, match="Did you mean 'train"):
            read(tmp_path, "trian")


@pytest.mark.parametrize("folders", [("train", "train"), ("", ""), ("images", "masks")])
def test_images_may_have_an_ending_too(tmp_path, scene, folders):
    for names in (("1_sat", "1_mask"), ("2_img_sat", "2_img_mask"), ("3_img", "3_img_mask")):
        for folder, name, array in zip(folders, names, scene, strict=True):
            write(tmp_path / folder / f"{name}.png", array)
    annotations = read(tmp_path)
    assert annotations.faults == []
    assert [(sample.image.name, sample.mask.name) for sample in annotations.samples] == [
        ("1_sat.png", "1_mask.png"),
        ("2_img_sat.png", "2_img_mask.png"),
        ("3_img.png", "3_img_mask.png"),
    ]


def test_stacks_are_read_page_by_page(tmp_path):
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 256, (3, 8, 9)).astype("uint8")
    labels = np.where(volume > 128, 255, 0).astype("uint8")
    write_stack(tmp_path / "train-volume.tif", volume)
    write_stack(tmp_path / "train-labels.tif", labels)
    write_stack(tmp_path / "test-volume.tif", volume)  # published without its labels
    found = read(tmp_path, "train")
    assert found.values == [0, 255]
    assert [sample.name for sample in found.samples] == [f"train-volume.tif, page {k}" for k in (1, 2, 3)]
    for k, sample in enumerate(found.samples):
        np.testing.assert_array_equal(labels_of(found, sample), volume[k] > 128)
    write_stack(tmp_path / "train-labels.tif", labels[:2])
    found = read(tmp_path, "train")
    assert len(found.samples) == 2
    (fault,) = found.faults
    assert (fault.kind, fault.action) == ("size mismatch", "2 of them used")


def test_the_cell_tracking_challenges_masks_number_their_cells(tmp_path):
    rng = np.random.default_rng(0)
    for frame in range(3):
        write(tmp_path / "01" / f"t{frame:03}.tif", rng.integers(0, 4000, (12, 16)).astype("uint16"))
    cells = np.zeros((12, 16), "uint16")
    cells[2:5, 2:5], cells[5:9, 2:5] = 255, 300
    write(tmp_path / "01_GT" / "SEG" / "man_seg001.tif", cells)
    write(tmp_path / "02" / "t000.tif", np.zeros((12, 16), "uint16"))
    found = read(tmp_path, "01")
    assert found.class_names == ["background", "cell"]
    (sample,) = found.samples  # the other frames are not annotated, which is no fault
    assert sample.name == "t001.tif"
    assert not found.faults
    np.testing.assert_array_equal(labels_of(found, sample), cells > 0)
    assert found.counts.tolist() == [12 * 16 - 21, 21]


def test_what_has_no_counterpart_is_a_fault(tmp_path, scene):
    image, mask = scene
    write(tmp_path / "images" / "a.png", image)
    write(tmp_path / "masks" / "a.png", mask)
    write(tmp_path / "images" / "b.png", image)
    write(tmp_path / "masks" / "c.png", mask)
    found = read(tmp_path)
    assert [sample.name for sample in found.samples] == ["a.png"]
    assert sorted((fault.kind, fault.file) for fault in found.faults) == [
        ("missing image", "masks/c.png"),
        ("missing mask", "images/b.png"),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no folder of images and masks"):
        read(tmp_path / "empty")
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"no image has a mask.*The first fault: "):
        read(tmp_path)


def test_every_kind_of_fault_is_named_and_nothing_is_dropped_silently(tmp_path, scene):
    image, mask = scene
    for name in ("sound", "small", "broken", "unknown", "empty", "plain"):
        write(tmp_path / "images" / f"{name}.png", image)
        write(tmp_path / "masks" / f"{name}.png", mask)
    (tmp_path / "classes.txt").write_text("background\ncell\n")
    write(tmp_path / "masks" / "small.png", mask[:10])
    (tmp_path / "masks" / "broken.png").write_bytes(b"x")
    write(tmp_path / "masks" / "unknown.png", np.where(mask == 255, 17, mask).astype("uint8"))
    write(tmp_path / "masks" / "empty.png", np.full_like(mask, 255))
    write(tmp_path / "masks" / "plain.png", np.zeros_like(mask))
    found = read(tmp_path)
    faults = {fault.file: fault for fault in found.faults}
    assert {file: (fault.kind, fault.action) for file, fault in faults.items()} == {
        "masks/small.png": ("size mismatch", "image left out"),
        "masks/broken.png": ("corrupt mask", "image left out"),
        "masks/unknown.png": ("unknown value", "pixels taken as void"),
        "masks/empty.png": ("empty mask", "kept, all of it void"),
        "masks/plain.png": ("no objects", "kept"),
    }
    assert "the mask is 30 x 10, its image small.png 30 x 20" in faults["masks/small.png"].detail
    assert "90 pixels of unknown.png are 17" in faults["masks/unknown.png"].detail
    assert [sample.name for sample in found.samples] == ["empty.png", "plain.png", "sound.png", "unknown.png"]
    (tmp_path / "images" / "sound.png").write_bytes(b"x")
    assert ("images/sound.png", "corrupt image") in {(fault.file, fault.kind) for fault in read(tmp_path).faults}


def test_lists_of_voc_that_lead_nowhere_are_faults_of_their_split(tmp_path, scene):
    write(tmp_path / "JPEGImages" / "a.jpg", scene[0])
    write(tmp_path / "SegmentationClass" / "a.png", scene[1])
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("a\n../../etc/passwd\n")
    assert [(f.kind, f.file) for f in read(tmp_path, "train").faults] == [
        ("missing image", "ImageSets/Segmentation/train.txt")
    ]
    assert [f.kind for f in read(tmp_path, "val").faults] == ["path outside"]
    everything = read(tmp_path)
    assert [sample.splits for sample in everything.samples] == [("train", "val")]
    assert len(everything.faults) == 2


def test_masks_of_one_channel_are_numbers_and_not_colours(tmp_path, scene):
    _, mask = scene
    write(tmp_path / "palette.png", mask, "P")
    np.testing.assert_array_equal(read_numbers(tmp_path / "palette.png"), mask)
    write(tmp_path / "grey.png", np.repeat(mask[..., None], 3, -1))
    np.testing.assert_array_equal(read_numbers(tmp_path / "grey.png"), mask)
    for suffix in ("png", "tif"):
        write(tmp_path / f"deep.{suffix}", (mask.astype("uint16") + 300))
        np.testing.assert_array_equal(read_numbers(tmp_path / f"deep.{suffix}"), mask.astype(int) + 300)
    write(tmp_path / "bits.png", mask == 1)
    assert count_numbers(read_numbers(tmp_path / "bits.png")) == {0: 450, 1: 150}
    Image.fromarray(np.zeros((4, 4, 4), "uint8"), "CMYK").save(tmp_path / "print.tif")
    with pytest.raises(ValueError, match=r"print.tif: a mask has one number a pixel or a colour.* mode CMYK"):
        read_numbers(tmp_path / "print.tif")
    (tmp_path / "broken.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"broken.png: not a readable mask"):
        read_numbers(tmp_path / "broken.png")


def test_images_of_sixteen_bits_fill_the_range_of_eight(tmp_path):
    from kzoo.images import read_image

    values = np.linspace(1000, 3000, 64 * 64).reshape(64, 64).astype("uint16")
    for name in ("deep.tif", "deep.png"):
        write(tmp_path / name, values)
        image = read_image(tmp_path / name)
        assert (image.shape, image.dtype, image.min(), image.max()) == ((64, 64, 3), np.uint8, 0, 255)
        assert 120 <= image[32, 0, 0] <= 135
    write(tmp_path / "flat.tif", np.full((4, 4), 700, "uint16"))
    assert (read_image(tmp_path / "flat.tif") == 0).all()


@pytest.fixture
def folder(tmp_path, scene):
    """images/ and masks/ with the numbers 0, 1, 3 and void 255; 3 only in b.png."""
    image, mask = scene
    for name in "ab":
        write(tmp_path / "images" / f"{name}.png", image)
        write(tmp_path / "masks" / f"{name}.png", mask)
    mask = mask.copy()
    mask[18:] = 3
    write(tmp_path / "masks" / "b.png", mask)
    return tmp_path


def test_without_names_the_numbers_are_the_classes(folder):
    found = read(folder)
    assert (found.class_names, found.values) == (["0", "1", "3"], [0, 1, 3])
    assert np.unique(labels_of(found, found.samples[1])).tolist() == [0, 1, 2, 255]
    assert read(folder, class_names=["3", "0"]).values == [3, 0]
    assert read(folder, class_names=["a", "b", "c", "d"]).values == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="one number a class"):
        read(folder, class_names=["a"], values=[0, 1])


def test_which_classes_there_are_does_not_depend_on_the_split(tmp_path, scene):
    image, mask = scene
    for split, number in (("train", 1), ("test", 2)):
        write(tmp_path / split / "images" / "a.png", image)
        write(tmp_path / split / "masks" / "a.png", np.where(mask == 1, number, mask).astype("uint8"))
    assert read(tmp_path, "train").class_names == read(tmp_path, "test").class_names == ["0", "1", "2"]


def test_a_number_can_be_void(folder):
    found = read(folder, void=3)
    assert (found.class_names, found.faults) == (["0", "1"], [])
    (folder / "classes.txt").write_text("ground\ncell\ndirt\nvoid\n")
    found = read(folder)
    assert (found.class_names, found.values, found.faults) == (["ground", "cell", "dirt"], [0, 1, 2], [])
    assert read(folder, class_names=["cell", "ground"]).values == [1, 0]
    with pytest.raises(ValueError, match="Did you mean 'cell'"):
        read(folder, class_names=["cel"])


def test_instances_are_one_class(folder):
    found = read(folder, instances=True)
    assert found.class_names == ["background", "cell"]
    np.testing.assert_array_equal(labels_of(found, found.samples[1]), read_numbers(found.samples[1].mask) > 0)


def test_black_and_white_masks_have_two_classes(tmp_path, scene):
    image, mask = scene
    write(tmp_path / "images" / "a.png", image)
    write(tmp_path / "masks" / "a.png", np.where(mask == 1, 255, 0).astype("uint8"))
    assert read(tmp_path).values == [0, 255]
    (tmp_path / "classes.txt").write_text("membrane\ncell\n")
    found = read(tmp_path)
    assert (found.class_names, found.values) == (["membrane", "cell"], [0, 255])
    assert read(tmp_path, void=255, values=[0, 1]).values == [0, 1]


def test_cityscapes_ids_are_its_nineteen_classes_and_void(tmp_path, scene):
    image, _ = scene
    mask = np.tile(np.arange(30, dtype="uint8") + 4, (20, 1))  # ids 4 to 33
    for city in ("aachen", "bochum"):
        write(tmp_path / f"leftImg8bit/train/{city}/{city}_0_1_leftImg8bit.png", image)
        write(tmp_path / f"gtFine/train/{city}/{city}_0_1_gtFine_labelIds.png", mask)
        write(tmp_path / f"gtFine/train/{city}/{city}_0_1_gtFine_color.png", image)
    found = read(tmp_path, "train")
    assert (len(found.samples), found.faults) == (2, [])
    assert (found.num_classes, found.class_names[0], found.class_names[-1]) == (19, "road", "bicycle")
    assert (found.counts == 2 * 20).all()
    labels = labels_of(found, found.samples[0])[0]
    assert labels[:5].tolist() == [255, 255, 255, 0, 1]
    assert has_only_masks(tmp_path)


def test_colours_have_the_names_of_a_class_dict(tmp_path, scene):
    colours = np.array([[64, 128, 64], [0, 0, 0], [192, 0, 128]], "uint8")
    write(tmp_path / "train" / "a.png", scene[0])
    write(tmp_path / "train_labels" / "a_L.png", colours[np.arange(600).reshape(20, 30) % 3])
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nAnimal,64,128,64\nVoid,0,0,0\nArchway,192,0,128\n")
    found = read(tmp_path, "train")
    assert (found.class_names, found.counts.tolist(), found.faults) == (["Animal", "Archway"], [200, 200], [])
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nAnimal,64,128\n")
    with pytest.raises(ValueError, match=r"class_dict.csv: line 2 is no name and colour: 'Animal,64,128'"):
        read(tmp_path, "train")


def test_camvids_own_names_and_void(tmp_path, scene):
    image, mask = scene
    numbers = np.arange(600).reshape(20, 30) % 12
    write(tmp_path / "train" / "a.png", image)
    write(tmp_path / "trainannot" / "a.png", numbers.astype("uint8"))
    found = read(tmp_path, "train")
    assert (found.num_classes, found.class_names[0], found.class_names[-1]) == (11, "sky", "bicyclist")
    assert (found.faults, found.counts.tolist()) == ([], [50] * 11)
    write(tmp_path / "trainannot" / "a.png", mask)  # the same layout with other classes
    assert read(tmp_path, "train").class_names == ["0", "1"]


def test_smoothed_black_and_white_masks_are_refused(tmp_path, scene):
    image, mask = scene
    write(tmp_path / "images" / "a.png", np.kron(image, np.ones((8, 8, 1), "uint8")))
    soft = Image.fromarray(np.where(mask == 1, 255, 0).astype("uint8")).resize((240, 160), Image.Resampling.BILINEAR)
    write(tmp_path / "masks" / "a.png", np.asarray(soft))
    with pytest.raises(ValueError, match=r"numbers between 0 and 255 on \d\.\d% of their pixels: were they smoothed"):
        read(tmp_path)
    assert read(tmp_path, values=[0, 255]).class_names == ["0", "255"]


def test_a_name_twice_is_refused(folder):
    (folder / "classes.txt").write_text("ground\ncell\nvoid\nvoid\ncell\n")
    with pytest.raises(ValueError, match=r"classes.txt: the class 'cell' stands there twice \(2. and 3.\)"):
        read(folder)
    (folder / "classes.txt").unlink()
    with pytest.raises(ValueError, match="class_names: the class 'a' stands there twice"):
        read(folder, class_names=["a", "b", "a"])


def test_options_of_one_value_and_of_a_wrong_one(folder):
    assert read(folder, values=1).values == [1]
    with pytest.raises(ValueError, match=r"instances must be true or false\. Received: 'maybe'"):
        read_any(folder, task="segmentation", instances="maybe")


def test_folders_may_be_written_large(tmp_path, scene):
    write(tmp_path / "Train" / "Images" / "a.png", scene[0])
    write(tmp_path / "Train" / "Masks" / "a.png", scene[1])
    assert read(tmp_path, "train").class_names == ["0", "1"]


def test_too_many_numbers_are_no_classes(tmp_path):
    image = np.zeros((20, 30, 3), "uint8")
    write(tmp_path / "images" / "a.png", image)
    write(tmp_path / "masks" / "a.png", np.arange(600).reshape(20, 30).astype("uint16"))
    with pytest.raises(ValueError, match=r"599 different numbers.*instances=True"):
        read(tmp_path)


def test_folders_with_boxes_are_read_for_boxes_unless_asked_for_masks(folder, voc, scene):
    assert has_only_masks(folder)
    root = voc("a", [("cat", (1, 1, 10, 10))], size=(20, 30))
    assert not has_only_masks(root)
    write(root / "SegmentationClass" / "a.png", scene[1])
    assert read_any(root).class_names == ["cat"]
    assert read_any(root, task="segmentation").num_classes == 21
    with pytest.raises(ValueError, match="Did you mean 'segmentation'"):
        read_any(root, task="segmentaton")
    with pytest.raises(ValueError, match="holds masks, no boxes"):
        read_any(folder, task="detection")
    with pytest.raises(ValueError, match="void: only for masks"):
        read_any(root, void=3)


def test_real_camvid_isbi_and_voc(shared_data):
    camvid = read(shared_data("camvid"), "train")
    assert (len(camvid.samples), camvid.num_classes, camvid.faults) == (367, 11, [])
    assert camvid.class_names[8:] == ["car", "pedestrian", "bicyclist"]
    isbi = read(shared_data("isbi2012"))
    assert (len(isbi.samples), isbi.values) == (30, [0, 255])
    assert [sample.name for sample in isbi.samples[:3]] == ["0.png", "1.png", "2.png"]
    assert set(np.unique(labels_of(isbi, isbi.samples[0]))) == {0, 1}
    pascal = read(shared_data("voc2007_subset"), "train")
    assert (len(pascal.samples), pascal.num_classes) == (31, 21)


def test_the_check_counts_pixels_and_finds_the_same_image_in_two_splits(tmp_path, scene):
    from kzoo.data import check

    image, mask = scene
    for split in ("train", "test"):
        write(tmp_path / split / "images" / "a.png", image)
        write(tmp_path / split / "masks" / "a.png", mask)
    write(tmp_path / "train" / "images" / "b.png", image[::-1].copy())
    report = check(tmp_path)
    assert (report.images, report.images_per_split) == (2, {"train": 1, "test": 1})
    assert report.pixels_per_class == {"0": 720, "1": 300}
    assert report.void_pixels == 180
    assert report.kinds == {"missing mask": 1, "image in two splits": 1}
    assert report.images_left_out == 1
    text = report.summary()
    assert "train/images/b.png: b.png has no mask of its name" in text
    assert "15.00%" in text
    assert report.to_dict()["kinds"]["missing mask"] == 1
