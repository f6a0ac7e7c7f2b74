"""Selective search (Uijlings et al., IJCV 2013) through OpenCV's contrib module, as R-CNN uses it."""

from typing import Any

import numpy as np

from kzoo.messages import missing_package, unknown_name

MODES = ("fast", "quality")
WIDTH = 500  # R-CNN, section 2.2 and its code: images are searched at this width
MIN_SIDE = 20  # (code) regions thinner than this at that width are left out
MAX_PROPOSALS = 2000


def selective_search(
    image: np.ndarray,
    mode: str = "fast",
    max_proposals: int = MAX_PROPOSALS,
    width: int = WIDTH,
    min_side: float = MIN_SIDE,
) -> np.ndarray:
    """Regions that may hold an object, found by merging similar neighbours of a segmentation.

    The same image always gives the same regions in the same order: they are ranked as in the paper (section 3.4), the
    largest, which were merged last, first, and that rank is multiplied with a random number of a fixed seed, so that
    large regions do not always come before small ones.

    Args:
        image: (H, W, 3) RGB 0..255 of any integer or float dtype.
        mode: "fast" (some 1000 to 2500 regions, a second or two) or "quality" (several times both).
        max_proposals: as many as this at most.
        width: the image is resized to this width first (a very tall one to twice this height); the regions are given
            in pixels of the image as it was.
        min_side: of a region in pixels of the resized image; 0 keeps all.

    Returns:
        (P, 4) float32 xyxy pixels, best first; P may be 0.

    Raises:
        ImportError: without OpenCV's contrib module, naming the extra.
        ValueError: for an unknown mode, or an image of another shape.
    """
    if mode not in MODES:
        raise ValueError(unknown_name("mode of selective search", mode, MODES))
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"An image must be (H, W, 3) RGB. Received shape: {image.shape}.")
    cv2 = _opencv()
    height, original_width = image.shape[:2]
    scale = min(width / original_width, 2 * width / height)
    size = (max(1, round(original_width * scale)), max(1, round(height * scale)))
    pixels = np.clip(np.rint(image.astype(np.float32)), 0, 255).astype(np.uint8)[..., ::-1]
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(cv2.resize(np.ascontiguousarray(pixels), size))
    getattr(search, f"switchToSelectiveSearch{mode.title()}")()
    # OpenCV orders by random numbers of its own. Sorted and without doubles, the set is the same every time.
    found = np.unique(np.asarray(search.process(), np.float64).reshape(-1, 4), axis=0)
    found = found[np.minimum(found[:, 2], found[:, 3]) >= min_side]
    found = found[_ranks(found[:, 2] * found[:, 3])][:max_proposals]
    stretch = np.array([original_width / size[0], height / size[1]] * 2)
    boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1) * stretch
    return boxes.astype(np.float32)


def search_batch(images: np.ndarray, max_proposals: int = MAX_PROPOSALS) -> np.ndarray:
    """`selective_search` in fast mode on images (B, H, W, 3): (B, max_proposals, 4) float32, padded with zeros."""
    regions = np.zeros((len(images), max_proposals, 4), np.float32)
    for image, rows in zip(images, regions, strict=True):
        found = selective_search(image, max_proposals=max_proposals)
        rows[: len(found)] = found
    return regions


def _ranks(area: np.ndarray) -> np.ndarray:
    """An order of regions: rank by size, the largest 1, times a random number of a fixed seed."""
    by_size = np.empty(len(area))
    by_size[np.argsort(-area, kind="stable")] = np.arange(1, len(area) + 1)
    return np.argsort(by_size * np.random.default_rng(0).random(len(area)), kind="stable")


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ImportError(missing_package("opencv-contrib-python-headless", "proposals", "Selective search")) from error
    if not hasattr(cv2, "ximgproc"):
        needed = missing_package("opencv-contrib-python-headless", "proposals", "Selective search")
        raise ImportError(f"The installed OpenCV has no contrib modules. {needed} Remove plain opencv-python first.")
    return cv2
