"""Mask files: the numbers of index, palette and colour images, pages of stacks included. Pillow and NumPy only."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kzoo.data.readers.headers import describe

ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
COLOUR = 1 << 24  # the numbers of colours start here, so that none is that of a grey or of an index


def read_numbers(source: Path | bytes, page: int = 0) -> np.ndarray:
    """Reads a mask, turned upright as its image would be.

    Args:
        source: a file, or its content. page: which image of a file that holds several.

    Returns:
        (H, W) of an integer dtype: the numbers of an index or palette image, not its colours; of one that has colours
        only their numbers (see `number_of`); 0 and 255 of a JPEG, in which only black and white can be told apart.

    Raises:
        ValueError: if it is no readable image of numbers or colours.
    """
    name = "the mask" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if page:
                image.seek(page)
            numbers, mode, form = np.asarray(ImageOps.exif_transpose(image)), image.mode, image.format
    except ERRORS as error:
        raise ValueError(f"{name}: not a readable mask ({describe(error)}). Remove the file or replace it.") from error
    if form in ("JPEG", "MPO"):
        return _black_and_white(numbers, name)
    if mode in ("RGB", "RGBA", "LA"):
        numbers = _numbers_of_colours(numbers[..., :3] if mode != "LA" else numbers[..., :1])
    if numbers.ndim != 2:
        raise ValueError(
            f"{name}: a mask has one number a pixel or a colour, this is of mode {mode}. Save it as index PNG."
        )
    return numbers.astype(np.uint8) if numbers.dtype == bool else numbers


def number_of(colour: Sequence[int]) -> int:
    """The number that stands for a colour (red, green, blue) of 8 bit each; of a grey it is the grey."""
    red, green, blue = (int(part) for part in colour)
    return red if red == green == blue else COLOUR + (red << 16) + (green << 8) + blue


def shown(number: int) -> str:
    """A number as text, that of a colour as #800000."""
    return f"#{number - COLOUR:06x}" if number >= COLOUR else str(number)


def _numbers_of_colours(colours: np.ndarray) -> np.ndarray:
    """`number_of` each pixel of (H, W, 3) or (H, W, 1) uint8; uint8 where all are grey."""
    grey = (colours == colours[..., :1]).all(axis=-1)
    if grey.all():
        return colours[..., 0]
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return np.where(grey, red, COLOUR + (red << 16) + (green << 8) + blue)


def _black_and_white(pixels: np.ndarray, name: str) -> np.ndarray:
    """0 and 255 of a JPEG's (H, W) or (H, W, 3), which has changed all numbers somewhat.

    Raises:
        ValueError: if there are more than black, white and the edges between them.
    """
    channels = np.atleast_3d(pixels).astype(np.int16)
    grey = channels.mean(axis=-1)
    between = (grey > 63) & (grey < 192)
    between = between[:-2] & between[1:-1] & between[2:]
    between = between[:, :-2] & between[:, 1:-1] & between[:, 2:]  # in the middle of others, so on no edge
    dark = 0 < grey.max() < 128  # black and a few small numbers
    if dark or (between.size and between.mean() > 1e-3) or (np.ptp(channels, axis=-1) > 63).any():
        raise ValueError(f"{name}: a JPEG changes numbers and keeps only black and white masks. Save it as index PNG.")
    return np.where(grey > 127, 255, 0).astype(np.uint8)


def count_numbers(numbers: np.ndarray) -> dict[int, int]:
    """{number: pixels} of a mask."""
    if numbers.dtype in (np.uint8, np.uint16):  # ten times as fast as sorting
        counts = np.bincount(numbers.ravel())
        return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}
    found, counts = np.unique(numbers, return_counts=True)
    if np.issubdtype(found.dtype, np.floating) and not (found == np.rint(found)).all():
        raise ValueError("holds fractions, and a mask holds whole numbers")
    return {int(number): int(count) for number, count in zip(found, counts, strict=True)}
