"""What an image's header says (size, EXIF orientation), and whether its file is whole, without decoding the pixels."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # EXIF tag
_TAIL = 1 << 16
# What Pillow raises on a file that is no image or only part of one.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Header:
    """An image's stored size and how it has to be turned.

    Attributes:
        stored_size: (height, width) of the pixels as stored.
        orientation: EXIF orientation 1..8; 1 is upright.
        error: why the file cannot be read, or None.
    """

    stored_size: tuple[int, int] = (0, 0)
    orientation: int = 1
    error: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) after turning upright."""
        return self.stored_size[::-1] if self.orientation >= 5 else self.stored_size


def read_header(source: Path | bytes) -> Header:
    """Reads the header of an image file, or of an encoded image in memory.

    A file whose end marker is missing is decoded in full, so that a truncated one is found here and not in the middle
    of a training. Damage between a sound header and a sound end is only found by `decode_error`.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            width, height = image.size
            tail = _tail(source)
            header = Header((height, width), _orientation(image, tail))
            if not _ends_properly(image.format, tail):
                image.load()
    except DECODE_ERRORS as error:
        return Header(error=describe(error))
    return header


def decode_error(source: Path | bytes) -> str | None:
    """Decodes an image in full. Returns why that failed, or None."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
    except DECODE_ERRORS as error:
        return describe(error)
    return None


def fingerprint(source: Path | bytes) -> tuple[str, str | None]:
    """The SHA-256 of an encoded image, and why it cannot be decoded, or None."""
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        return "", str(error)
    return hashlib.sha256(content).hexdigest(), decode_error(content)


def describe(error: Exception) -> str:
    """The error's message in one line, without memory addresses or the path, which the report already shows."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image in a known format"
    return (str(error) or type(error).__name__).splitlines()[0]


def upright_boxes(boxes: np.ndarray, header: Header) -> np.ndarray:
    """Turns boxes (N, 4), xyxy pixels of the image as stored, into boxes of the upright image."""
    if header.orientation == 1 or len(boxes) == 0:
        return boxes
    height, width = header.stored_size
    x1, y1, x2, y2 = boxes.T
    left, right, top, bottom = width - x2, width - x1, height - y2, height - y1
    turned = {
        2: (left, y1, right, y2),  # mirrored left-right
        3: (left, top, right, bottom),  # half a turn
        4: (x1, top, x2, bottom),  # mirrored top-bottom
        5: (y1, x1, y2, x2),  # transposed
        6: (top, x1, bottom, x2),  # quarter turn clockwise makes it upright
        7: (top, left, bottom, right),  # transposed and half a turn
        8: (y1, left, y2, right),  # quarter turn counter-clockwise
    }[header.orientation]
    return np.stack(turned, axis=-1)


def _tail(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[-_TAIL:]
    with open(source, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _TAIL))
        return file.read()


def _ends_properly(format: str | None, tail: bytes) -> bool:
    if format in ("JPEG", "MPO"):
        return b"\xff\xd9" in tail[-1024:]
    if format == "PNG":
        return b"IEND" in tail[-1024:]
    return False  # other formats have no marker that is cheap to look for: decode


def _orientation(image: Image.Image, tail: bytes) -> int:
    # Pillow decodes a whole PNG to look for EXIF data behind the pixels, and turns TIFFs upright by itself.
    if image.format == "TIFF" or (
        image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info) and b"eXIf" not in tail
    ):
        return 1
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
