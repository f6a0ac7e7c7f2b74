"""Folders of images and masks: layouts, palettes, void, and batches that bend images and masks alike."""

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.data.mask_pipeline import from_masks, load_masks
from kzoo.data.readers import masks as mask_folders
from kzoo.data.readers.masks import read, read_mask


def write(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette([k * 7 % 256 for k in range(768)])
    image.save(path)


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
    "camvid": ("train/{}.jpg", "trainannot/{}.png"),
    "voc": ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
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
    split = None if layout in ("plain", "isbi") else "train"
    found = read(tmp_path, split)
    assert [sample.image.stem for sample in found.samples] == ["2", "10"]
    assert [sample.mask.stem for sample in found.samples] == ["2", "10"]
    assert found.class_names == ["0", "1"]
    assert not found.faults
    if split:
        with pytest.raises(ValueError, match="Did you mean 'train'"):
            read(tmp_path, "trian")


def test_what_has_no_counterpart_is_a_fault(tmp_path, scene):
    image, mask = scene
    write(tmp_path / "images" / "a.png", image)
    write(tmp_path / "masks" / "a.png", mask)
    write(tmp_path / "images" / "b.png", image)
    write(tmp_path / "masks" / "c.png", mask)
    found = read(tmp_path)
    assert [sample.name for sample in found.samples] == ["a.png"]
    assert sorted(fault.kind for fault in found.faults) == ["missing image", "missing mask"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no folder of images and masks"):
        read(tmp_path / "empty")


def test_masks_are_numbers_and_not_colours(tmp_path, scene):
    _, mask = scene
    write(tmp_path / "palette.png", mask, "P")
    np.testing.assert_array_equal(read_mask(tmp_path / "palette.png"), mask)
    write(tmp_path / "grey.png", np.repeat(mask[..., None], 3, -1))
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png"), mask)
    write(tmp_path / "deep.png", (mask.astype("uint16") + 300))
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.png"), mask.astype(int) + 300)
    write(tmp_path / "deep.tif", (mask.astype("uint16") + 300))
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.tif"), mask.astype(int) + 300)
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png", [1, 0]), np.choose(mask.clip(0, 2), [1, 0, 255]))
    write(tmp_path / "colour.png", np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype("uint8"))
    with pytest.raises(ValueError, match=r"colour.png: a mask has one number a pixel"):
        read_mask(tmp_path / "colour.png")
    (tmp_path / "broken.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"broken.png: not a readable mask"):
        read_mask(tmp_path / "broken.png")


def test_black_and_white_masks_have_two_classes_and_named_classes_their_numbers(tmp_path, scene):
    image, mask = scene
    write(tmp_path / "images" / "a.png", image)
    write(tmp_path / "masks" / "a.png", np.where(mask == 1, 255, 0).astype("uint8"))
    assert read(tmp_path).values == [0, 255]
    (tmp_path / "classes.txt").write_text("membrane\ncell\n")
    found = read(tmp_path, values=[0, 255])
    assert found.class_names == ["membrane", "cell"]
    assert read(tmp_path).values == [0, 1]
    with pytest.raises(ValueError, match="one number a class"):
        read(tmp_path, values=[0])


def folder_of(tmp_path, scene, count=3):
    image, mask = scene
    for k in range(count):
        write(
            tmp_path / "images" / f"{k}.png", np.clip(image // 4 + 100 * (mask == 1)[..., None], 0, 255).astype("uint8")
        )
        write(tmp_path / "masks" / f"{k}.png", mask)
    return tmp_path


def test_batches_for_evaluation_come_in_order_once(tmp_path, scene):
    data = load_masks(folder_of(tmp_path, scene), None, image_size=(20, 30), batch_size=2)
    batches = list(data.as_numpy_iterator())
    assert [len(images) for images, _ in batches] == [2, 1]
    images, targets = batches[0]
    assert (images.dtype, targets["masks"].dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(targets["masks"][0], scene[1])
    assert set(targets) == {"masks"}
    assert (data.num_classes, data.image_size, data.steps_per_epoch) == (2, (20, 30), 2)
    resized = next(load_masks(tmp_path, None, image_size=(40, 60)).as_numpy_iterator())[1]["masks"]
    np.testing.assert_array_equal(resized[0], scene[1].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("augment", ["flip", "dihedral", "elastic"])
def test_masks_follow_their_images(tmp_path, scene, augment, fit):
    data = load_masks(
        folder_of(tmp_path, scene), None, (24, 24), 4, augment, fit=fit, weights=True, start_epoch=0, seed=3
    )
    batches = [next(iter(data.skip(k))) for k in range(2)]
    for images, targets in batches:
        masks, weights = targets["masks"].numpy(), targets["weights"].numpy()
        assert images.shape == (4, 24, 24, 3)
        assert set(np.unique(masks)) <= {0, 1, 255}
        assert (weights[masks == 255] < weights.max()).all()
        inside, outside = images.numpy().mean(-1)[masks == 1], images.numpy().mean(-1)[masks == 0]
        assert inside.mean() > outside.mean() + 50
    again = next(iter(from_masks(data.annotations, (24, 24), 4, augment, fit=fit, weights=True, start_epoch=0, seed=3)))
    np.testing.assert_array_equal(again[0], batches[0][0])
    assert (batches[0][0].numpy() != batches[1][0].numpy()).any()


def test_load_recognises_masks_by_their_folder(tmp_path, scene):
    folder_of(tmp_path, scene)
    (tmp_path / "classes.txt").write_text("grey\nbright\n")
    data = kzoo.data.load(tmp_path, None, image_size=(20, 30), batch_size=3)
    assert data.class_names == ["grey", "bright"]
    assert next(iter(data))[1]["masks"].shape == (3, 20, 30)
    with pytest.raises(ValueError, match="Did you mean 'segmentation'"):
        kzoo.data.load(tmp_path, None, task="segmentaton")


def test_small_images_are_mirrored_into_a_crop(tmp_path, scene):
    data = load_masks(folder_of(tmp_path, scene, 1), None, (26, 36), fit="crop")
    image, targets = next(data.as_numpy_iterator())
    np.testing.assert_array_equal(targets["masks"][0], np.pad(scene[1], 3, mode="reflect"))
    assert image.shape == (1, 26, 36, 3)


def test_faults_are_named(tmp_path, scene):
    folder_of(tmp_path, scene, 1)
    with pytest.raises(ValueError, match="Did you mean 'flip'"):
        load_masks(tmp_path, None, augment="flop")
    with pytest.raises(ValueError, match="Did you mean 'crop'"):
        load_masks(tmp_path, None, fit="corp")
    write(tmp_path / "masks" / "0.png", scene[1][:10])
    from kzoo.data.mask_pipeline import prepare

    sample = mask_folders.read(tmp_path).samples[0]
    with pytest.raises(ValueError, match=r"the mask is \(10, 30\).*They must be of one size"):
        prepare(sample, [0, 1], (8, 8))


def test_real_camvid_isbi_and_voc(shared_data):
    camvid = read(shared_data("camvid"), "train")
    assert len(camvid.samples) == 367
    isbi = read(shared_data("isbi2012"))
    assert (len(isbi.samples), isbi.values) == (30, [0, 255])
    assert [sample.name for sample in isbi.samples[:3]] == ["0.png", "1.png", "2.png"]
    mask = read_mask(isbi.samples[0].mask, isbi.values)
    assert mask.shape == (512, 512)
    assert set(np.unique(mask)) == {0, 1}
