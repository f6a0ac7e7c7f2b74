"""Reading and resizing single images with Pillow and NumPy: the same in training, on a server and at a desk."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image as RGB uint8 (H, W, 3), turned upright by its EXIF orientation.

    Raises:
        ValueError: if the file is missing or no readable image, naming the file.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error}). Remove the file or replace it.") from error


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes (H, W, 3) to `size` = (height, width), bilinear with antialiasing, as float32 in the range of the input.

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
