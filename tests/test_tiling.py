"""Tiles that cover an image, against one pass over the whole."""

import numpy as np
import pytest

from kzoo.tiling import nearest, overlap_tile, segment_any_size, tile_starts


def blur(tiles):
    """A valid 5x5 mean: output two pixels smaller at each side."""
    windows = np.lib.stride_tricks.sliding_window_view(tiles, (5, 5), axis=(1, 2))
    return {"mean": windows.mean(axis=(-2, -1))}


@pytest.mark.parametrize("size", [(1, 1), (6, 9), (12, 8), (31, 50)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_tiles_equal_one_pass_over_the_mirrored_image(size, stride):
    image = np.random.default_rng(0).normal(size=(*size, 3))
    found = overlap_tile(image, blur, (12, 13), (8, 9), stride, batch_size=3)["mean"]
    expected = blur(np.pad(image, [(2, 2), (2, 2), (0, 0)], mode="reflect")[None])["mean"][0]
    np.testing.assert_allclose(found, expected)


def test_every_tile_begins_at_a_multiple_of_the_stride_and_none_is_wasted():
    assert tile_starts(388, 388, 16) == [0]
    assert tile_starts(100, 388, 16) == [0]
    assert tile_starts(389, 388, 16) == [0, 16]
    assert tile_starts(1500, 388, 16) == [0, 384, 768, 1120]
    for length in range(1, 60):
        starts = tile_starts(length, 10, 4)
        covered = {p for start in starts for p in range(start, start + 10)}
        assert covered >= set(range(length))
        assert all(start % 4 == 0 for start in starts)


def test_the_centre_of_larger_maps_is_taken():
    image = np.random.default_rng(1).normal(size=(20, 20, 1))
    found = overlap_tile(image, lambda tiles: {"same": tiles[..., 0]}, (8, 8), (4, 4))
    np.testing.assert_array_equal(found["same"], image[..., 0])


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"smaller than the input \(8, 8\) by an even number"):
        overlap_tile(np.zeros((9, 9, 1)), blur, (8, 8), (5, 5))
    with pytest.raises(ValueError, match="at least one pixel"):
        overlap_tile(np.zeros((0, 9, 1)), blur, (8, 8), (4, 4))


def labels_of(images):
    return {"labels": images[..., 0].astype("int64"), "scores": images[..., 1] / 255}


def test_images_of_another_size_get_labels_of_their_own_size():
    labels = np.array([[0, 1], [2, 3]]).repeat(3, 0).repeat(4, 1)
    images = np.stack([labels] * 3, -1)[None].astype("uint8")
    found = segment_any_size(images, labels_of, (6, 8))
    np.testing.assert_array_equal(found["labels"][0], labels)
    assert {key: str(x.dtype) for key, x in found.items()} == {"labels": "int32", "scores": "float32"}
    doubled = segment_any_size(images.repeat(2, 1).repeat(2, 2), labels_of, (6, 8))
    assert doubled["labels"].shape == (1, 12, 16)
    assert segment_any_size(images[:0], labels_of, (6, 8))["scores"].shape == (0, 6, 8)
    with pytest.raises(ValueError, match="Add an axis"):
        segment_any_size(images[0], labels_of, (6, 8))


def test_nearest_takes_the_pixel_under_each_centre():
    maps = np.arange(6).reshape(1, 2, 3)
    np.testing.assert_array_equal(nearest(maps, (4, 6))[0], maps[0].repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(nearest(maps, (1, 1)), [[[4]]])
    np.testing.assert_array_equal(nearest(nearest(maps, (8, 9)), (2, 3)), maps)
