"""Selective search: the same every time, in pixels of the given image, sensible on any image."""

import builtins

import numpy as np
import pytest

from kzoo import boxes as box_ops
from kzoo.proposals import selective_search

needs_opencv = pytest.mark.skipif(
    not hasattr(pytest.importorskip("cv2", reason="selective search needs OpenCV's contrib module"), "ximgproc"),
    reason="this OpenCV has no contrib modules",
)


def picture(height=120, width=160) -> tuple[np.ndarray, np.ndarray]:
    image = np.full((height, width, 3), 90, np.uint8)
    image[30:90, 20:70] = (250, 40, 40)
    image[10:60, 95:150] = (40, 40, 250)
    return image, np.array([[20, 30, 70, 90], [95, 10, 150, 60]], "float32")


@needs_opencv
def test_it_finds_plain_objects_in_pixels_of_the_given_image():
    image, objects = picture()
    found = selective_search(image)
    assert found.dtype == np.float32
    assert box_ops.iou(objects, found).max(axis=1).min() > 0.85
    assert (found >= 0).all()
    assert (found <= [160, 120, 160, 120]).all()


@needs_opencv
def test_the_same_image_gives_the_same_boxes_in_the_same_order():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (8, 10, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    first = selective_search(image, width=200)
    selective_search(picture()[0], width=200)  # draws from OpenCV's own random numbers
    np.testing.assert_array_equal(selective_search(image, width=200), first)
    np.testing.assert_array_equal(selective_search(image.astype("float64"), width=200, max_proposals=7), first[:7])
    assert len(np.unique(first, axis=0)) == len(first) > 7


@needs_opencv
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (300, 1, 3), (20, 20, 3)])
def test_degenerate_images_give_boxes_inside_them_or_none(shape):
    found = selective_search(np.zeros(shape, np.uint8), width=100)
    assert found.shape[1] == 4
    assert (found <= [shape[1], shape[0], shape[1], shape[0]]).all()


@needs_opencv
def test_quality_searches_more_than_fast_and_a_typo_is_answered():
    image, _ = picture()
    rng = np.random.default_rng(1)
    image = np.clip(image + rng.normal(0, 25, image.shape), 0, 255)
    fast, quality = (len(selective_search(image, mode, width=120, min_side=0)) for mode in ("fast", "quality"))
    assert quality > fast
    with pytest.raises(ValueError, match="Did you mean 'quality'"):
        selective_search(image, "qualty")
    with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
        selective_search(image[..., 0])


def test_without_opencv_the_message_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"kzoo\[proposals\]"):
        selective_search(picture()[0])
