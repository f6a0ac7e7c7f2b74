"""Looks into encoded image files before they are decoded: is each an image, and not too large? Pillow only."""

import io
import struct

from PIL import Image
from protocol import Fault

MOST_BLOCKS = 20_000  # of a GIF: frames, their delays, comments
EXTENSION, FRAME, END = 0x21, 0x2C, 0x3B


def check(row: int, content: bytes, max_megapixels: float) -> None:
    """Refuses what is no image, or one that would take too much memory, without decoding it.

    Args:
        row: the file's place in the request, for the message.
        content: a JPEG, PNG, GIF or BMP file.
        max_megapixels: of an image; of a GIF's frames together, since TensorFlow decodes all to return the first.

    Raises:
        Fault: 400 for a file that is none of these, 413 for one that is too large.
    """
    if content.startswith(b"GIF8"):  # not by Pillow, which joins all comments, and counts all frames
        _check_gif(row, content, max_megapixels)
        return
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "BMP")) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Fault(f"image_bytes: file {row} is no JPEG, PNG, GIF or BMP image") from error
    if width * height > max_megapixels * 1e6:
        raise Fault(
            f"image_bytes: file {row} has {width} x {height} pixels, at most {max_megapixels:g} megapixels are taken",
            413,
        )


def _check_gif(row: int, content: bytes, max_megapixels: float) -> None:
    """The size that TensorFlow will give it: the widest frame by the tallest, whatever the file's header says."""
    width = height = frames = blocks = 0
    try:
        place = 13 + _palette_bytes(content[10])
        while place < len(content) and content[place] != END:
            blocks += 1
            if blocks > MOST_BLOCKS:
                raise Fault(f"image_bytes: file {row} is a GIF of more than {MOST_BLOCKS} frames and comments", 413)
            if content[place] == FRAME:
                w, h, flags = struct.unpack_from("<HHB", content, place + 5)
                width, height, frames = max(width, w), max(height, h), frames + 1
                if width * height * frames > max_megapixels * 1e6:
                    raise Fault(
                        f"image_bytes: file {row} has {width} x {height} pixels in {frames} or more frames, at most "
                        f"{max_megapixels:g} megapixels are taken in all frames together",
                        413,
                    )
                place += 11 + _palette_bytes(flags)
            elif content[place] == EXTENSION:
                place += 2
            else:
                raise ValueError("no block begins here")
            while content[place]:  # parts of 1 to 255 bytes
                place += 1 + content[place]
            place += 1
    except (IndexError, ValueError, struct.error) as error:
        raise Fault(f"image_bytes: file {row} is a GIF that is cut short or corrupt") from error
    if not frames:
        raise Fault(f"image_bytes: file {row} is a GIF without an image")


def _palette_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
