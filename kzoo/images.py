"""Reading and resizing single images with Pillow and NumPy: the same in training, on a server and at a desk."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

VOID = 255  # in a mask: a pixel that shows nothing known, and counts nowhere
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def read_image(path: str | Path | io.BytesIO, page: int = 0) -> np.ndarray:
    """Reads an image as RGB uint8 (H, W, 3), turned upright by its EXIF orientation.

    A grey image of more than 8 bits, as microscopes write them, is scaled so that its 0.1st to 99.9th percentile fill
    0..255: its own values mean nothing to a network, and cut off at 255 it would be white.

    Args:
        path: the file. page: which image of a file that holds several.

    Raises:
        ValueError: if the file is missing or no readable image, naming the file.
    """
    try:
        with Image.open(path) as image:
            if page:
                image.seek(page)
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":
                return np.repeat(_eight_bits(np.asarray(image))[..., None], 3, axis=-1)
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error}). Remove the file or replace it.") from error


def pages(path: str | Path) -> int:
    """How many images a file holds, of a stack in TIFF; 1 for one that cannot be opened, which others report."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return 1


def _eight_bits(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (0.1, 99.9))
    scaled = (values.astype(np.float32) - low) * (255.0 / max(high - low, 1e-6))
    return np.clip(np.rint(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)


def as_batch(images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Images of one size as an array (B, H, W, 3).

    Raises:
        ValueError: for anything else.
    """
    shapes = sorted({np.shape(image) for image in images})
    if len(shapes) > 1:
        raise ValueError(f"images must be of one size in a call. Received: {' and '.join(map(str, shapes[:3]))}.")
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape[1:]:
        hint = " Add an axis: images[None]." if images.ndim == 3 else ""
        raise ValueError(f"images must be (B, H, W, 3). Received shape: {images.shape}.{hint}")
    return images


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes (H, W, C) to `size` = (height, width), bilinear with antialiasing, as float32 in the range of the input.

    Equal to `tf.image.resize(image, size, antialias=True)` up to rounding; the aspect ratio is not kept.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image.astype(np.float32)
    # Pillow resizes float images one channel at a time and without rounding.
    channels = [
        np.asarray(Image.fromarray(image[..., c].astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
        for c in range(image.shape[-1])
    ]
    return np.stack(channels, axis=-1)
