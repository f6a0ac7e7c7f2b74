"""Mask files: the numbers of index and palette images, pages of stacks included. Pillow and NumPy only."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kzoo.data.readers.headers import describe

ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_numbers(source: Path | bytes, page: int = 0) -> np.ndarray:
    """Reads a mask: the numbers of an index or palette image, not its colours, turned upright as its image would be.

    Args:
        source: a file, or its content. page: which image of a file that holds several.

    Returns:
        (H, W) of an integer dtype.

    Raises:
        ValueError: if it is no readable image of one channel.
    """
    name = "the mask" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if page:
                image.seek(page)
            numbers = np.asarray(ImageOps.exif_transpose(image))
    except ERRORS as error:
        raise ValueError(f"{name}: not a readable mask ({describe(error)}). Remove the file or replace it.") from error
    if numbers.ndim == 3 and numbers.shape[-1] >= 3 and (numbers[..., :1] == numbers[..., 1:3]).all():
        numbers = numbers[..., 0]  # grey, saved as RGB
    if numbers.ndim != 2:
        raise ValueError(
            f"{name}: a mask has one number a pixel, this one has {numbers.shape[-1]}. Save it as index PNG."
        )
    return numbers.astype(np.uint8) if numbers.dtype == bool else numbers


def pages(path: Path) -> int:
    """How many images a file holds; 1 for one that cannot be opened, which others report."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1)
    except ERRORS:
        return 1


def count_numbers(numbers: np.ndarray) -> dict[int, int]:
    """{number: pixels} of a mask."""
    if numbers.dtype in (np.uint8, np.uint16):  # ten times as fast as sorting
        counts = np.bincount(numbers.ravel())
        return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}
    found, counts = np.unique(numbers, return_counts=True)
    if np.issubdtype(found.dtype, np.floating) and not (found == np.rint(found)).all():
        raise ValueError("holds fractions, and a mask holds whole numbers")
    return {int(number): int(count) for number, count in zip(found, counts, strict=True)}
