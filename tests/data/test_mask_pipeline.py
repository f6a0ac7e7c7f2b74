"""Batches of images and masks: in order for evaluation, the same again for a seed, masks where their images are."""

import re

import numpy as np
import pytest
from made_data import write_array as write

tf = pytest.importorskip("tensorflow")

import kzoo  # noqa: E402
from kzoo.data.augment import masks as augmentation  # noqa: E402
from kzoo.data.mask_pipeline import from_masks  # noqa: E402
from kzoo.data.mask_store import MaskStore, cells_of  # noqa: E402
from kzoo.data.readers.masks import read  # noqa: E402
from kzoo.data.weight_maps import boundary_weights  # noqa: E402
from kzoo.morphology import connected_components  # noqa: E402


@pytest.fixture
def mask():
    mask = np.zeros((20, 30), "uint8")
    mask[5:15, 5:20], mask[:3] = 1, 255
    return mask


@pytest.fixture
def annotations(tmp_path, mask):
    """Three images that are bright where their mask is 1."""
    rng = np.random.default_rng(0)
    for k in range(3):
        image = rng.integers(0, 60, (20, 30, 3)) + 100 * (mask == 1)[..., None]
        write(tmp_path / "images" / f"{k}.png", image.astype("uint8"))
        write(tmp_path / "masks" / f"{k}.png", mask)
    return read(tmp_path)


def test_batches_for_evaluation_come_in_order_once(annotations, mask):
    data = from_masks(annotations, (20, 30), batch_size=2)
    batches = list(data.as_numpy_iterator())
    assert [len(images) for images, _ in batches] == [2, 1]
    images, targets = batches[0]
    assert (images.dtype, targets["masks"].dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(targets["masks"][0], mask)
    np.testing.assert_array_equal(targets["image_id"], [0, 1])
    assert set(targets) == {"masks", "image_id"}
    assert (data.num_classes, data.image_size, data.steps_per_epoch) == (2, (20, 30), 2)
    twice = next(from_masks(annotations, (40, 60)).as_numpy_iterator())[1]["masks"]
    np.testing.assert_array_equal(twice[0], mask.repeat(2, 0).repeat(2, 1))


def test_images_of_their_own_size_come_one_by_one(annotations, mask, tmp_path):
    write(tmp_path / "images" / "1.png", np.zeros((7, 5, 3), "uint8"))
    write(tmp_path / "masks" / "1.png", np.ones((7, 5), "uint8"))
    data = kzoo.data.load(tmp_path, None, image_size=None)
    assert [targets["masks"].shape for _, targets in data] == [(1, 20, 30), (1, 7, 5), (1, 20, 30)]
    with pytest.raises(ValueError, match="image_size=None is for measuring"):
        from_masks(annotations, None, augment=True)


def test_numbered_objects_are_given_for_measuring(tmp_path):
    cells = np.zeros((12, 16), "uint16")
    cells[2:5, 2:5], cells[5:9, 2:5] = 255, 300  # they touch
    write(tmp_path / "01" / "t000.tif", np.zeros((12, 16), "uint16"))
    write(tmp_path / "01_GT" / "SEG" / "man_seg000.tif", cells)
    annotations = read(tmp_path, "01")
    targets = next(from_masks(annotations, None).as_numpy_iterator())[1]
    np.testing.assert_array_equal(targets["instances"][0], cells)
    np.testing.assert_array_equal(targets["masks"][0], cells > 0)
    assert targets["instances"].dtype == np.int32
    assert "instances" not in next(from_masks(annotations, 16).as_numpy_iterator())[1]


@pytest.mark.parametrize(
    ("augment", "fit"), [("light", "crop"), ("no_up", "stretch"), ("street", "stretch"), ("unet", "crop")]
)
def test_masks_follow_their_images(annotations, augment, fit):
    data = from_masks(annotations, (24, 24), 4, augment, fit=fit, weights=True, start_epoch=0, seed=3)
    batches = list(data.take(3))
    for images, targets in batches:
        images, masks, weights = images.numpy(), targets["masks"].numpy(), targets["weights"].numpy()
        assert images.shape == (4, 24, 24, 3)
        assert 0 <= images.min() <= images.max() <= 255
        assert set(np.unique(masks)) <= {0, 1, 255}
        # Under "stretch" the weights have the network's resolution and the mask the image's: edges differ by a pixel.
        assert ((weights > 0) == (masks != 255)).mean() > (0.9 if fit == "stretch" else 0.9999)
        for image, one in zip(images.mean(-1), masks, strict=True):
            if (one == 1).any() and (one == 0).any():
                assert image[one == 1].mean() > 1.3 * image[one == 0].mean()
    assert not np.array_equal(batches[0][0], batches[1][0])


def test_an_epoch_depends_on_the_seed_and_its_number_alone(annotations):
    def batches(start, seed=3):
        data = from_masks(annotations, 16, 2, ["flip", "elastic"], fit="crop", start_epoch=start, seed=seed)
        return list(data.take(6 - 2 * start).as_numpy_iterator())

    whole, resumed, other = batches(0), batches(1), batches(0, seed=4)
    for (images, targets), (again, same) in zip(whole[2:], resumed, strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(targets["masks"], same["masks"])
    assert not np.array_equal(whole[0][0], other[0][0])
    epoch = np.concatenate([targets["image_id"] for _, targets in whole[:2]])
    assert set(epoch) == {0, 1, 2}  # the last batch is filled up
    assert len(epoch) == 4


def test_small_images_are_mirrored_into_a_crop(annotations, mask):
    image, targets = next(from_masks(annotations, (26, 36), fit="crop").as_numpy_iterator())
    np.testing.assert_array_equal(targets["masks"][0], np.pad(mask, 3, mode="reflect"))
    assert image.shape == (3, 26, 36, 3)
    centre = next(from_masks(annotations, (10, 10), fit="crop").as_numpy_iterator())[1]["masks"]
    np.testing.assert_array_equal(centre[0], mask[5:15, 10:20])


def test_a_crop_lies_anywhere_in_the_image():
    image = np.zeros((3, 7, 3), "uint8")
    columns = np.tile(np.arange(7, dtype="uint8"), (3, 1))
    starts = [int(augmentation.cropped(image, [columns], [0, k], (3, 5))[1][0][0, 0]) for k in range(60)]
    assert set(starts) == {0, 1, 2}


def test_every_pixel_is_labelled_in_some_crop_with_context():
    image = np.zeros((3, 7, 3), "uint8")
    columns = np.tile(np.arange(7, dtype="uint8"), (3, 1))
    mirrored = np.pad(np.arange(7), 2, mode="reflect")
    seen = set()
    for k in range(60):
        row = augmentation.cropped(image, [columns], [0, k], (3, 5), (0, 2))[1][0][0].numpy()
        seen.add(int(row[2]))  # of 5 columns only the middle one is labelled
        np.testing.assert_array_equal(row, mirrored[row[2] : row[2] + 5])
    assert seen == set(range(7))


def test_context_moves_no_crop_from_the_centre_and_leaves_something_to_label(annotations):
    options = {"image_size": (10, 12), "fit": "crop"}
    plain, wide = (
        next(from_masks(annotations, **options, context=context).as_numpy_iterator()) for context in [(0, 0), (3, 4)]
    )
    np.testing.assert_array_equal(plain[0], wide[0])
    np.testing.assert_array_equal(plain[1]["masks"], wide[1]["masks"])
    for wrong in [(5, 4), (-1, 0), 3, (1, 2, 3)]:
        with pytest.raises(ValueError, match=rf"of \(10, 12\) to label. Received: {re.escape(str(wrong))}"):
            from_masks(annotations, **options, context=wrong)


def test_a_zoom_shows_void_beyond_the_image():
    values = np.arange(4, dtype="uint8").reshape(2, 2)
    shape = tf.constant([2.0, 2.0])
    shown = augmentation.show_map(values, tf.constant([-1.0, -1.0, 3.0, 3.0]), shape, (4, 4), 255).numpy()
    np.testing.assert_array_equal(shown, np.pad(values, 1, constant_values=255))
    # A map of half the image's size covers the same ground.
    shown = augmentation.show_map(values, tf.constant([0.0, 0.0, 4.0, 4.0]), shape * 2, (4, 4), 255).numpy()
    np.testing.assert_array_equal(shown, values.repeat(2, 0).repeat(2, 1))


def test_weights_are_those_of_the_mask_that_the_network_sees(annotations, mask):
    cells = np.where(mask == 255, -1, connected_components(mask == 1))
    data = from_masks(annotations, (20, 30), weights=True)
    expected = boundary_weights(cells, ignore_label=-1)
    np.testing.assert_allclose(next(iter(data))[1]["weights"][0], expected, rtol=1e-6)
    half = next(iter(from_masks(annotations, (10, 15), weights=True)))[1]
    np.testing.assert_allclose(half["weights"][0], boundary_weights(cells[1::2, 1::2], ignore_label=-1), rtol=1e-6)


def test_touching_cells_with_numbers_stay_apart_in_the_weights():
    mask = np.zeros((9, 9), "uint8")
    mask[2:7, 1:8] = 1
    numbers = np.where(mask, np.where(np.arange(9) < 4, 300, 255), 0)
    assert np.unique(cells_of(mask)).tolist() == [0, 1]
    assert np.unique(cells_of(mask, numbers)).tolist() == [0, 255, 300]


def test_the_store_keeps_what_fits(annotations):
    one = 20 * 30 * 4
    store = MaskStore(annotations, cache_bytes=2 * one)
    for k in (0, 1, 2, 0):
        image, mask, *_ = store.read(k)
        assert (image.dtype, mask.dtype, mask.shape) == (np.uint8, np.uint8, (20, 30))
    assert store.cached == [0, 1]
    assert MaskStore(annotations, shorter_side=10).read(0)[1].shape == (10, 15)


def test_a_mask_that_changed_since_is_named(annotations, mask, tmp_path):
    write(tmp_path / "masks" / "0.png", mask[:10])
    with pytest.raises(ValueError, match=r"0.png: the mask is 30 x 10, its image 30 x 20 when the data set was read"):
        MaskStore(annotations).read(0)


def test_load_recognises_masks_by_their_folder(annotations, tmp_path):
    (tmp_path / "classes.txt").write_text("grey\nbright\n")
    data = kzoo.data.load(tmp_path, None, image_size=(20, 30), batch_size=3)
    assert data.class_names == ["grey", "bright"]
    assert next(iter(data))[1]["masks"].shape == (3, 20, 30)
    with pytest.raises(ValueError, match="Did you mean 'segmentation'"):
        kzoo.data.load(tmp_path, None, task="segmentaton")
    with pytest.raises(ValueError, match="Did you mean 'flip'"):
        kzoo.data.load(tmp_path, None, augment="flop")
    with pytest.raises(ValueError, match="Did you mean 'crop'"):
        kzoo.data.load(tmp_path, None, fit="corp")
