"""export/serving/image_files.py: what would take too much memory is refused before it is decoded."""

import io
import struct

import image_files
import numpy as np
import protocol
import pytest
from PIL import Image


def file(format, size=(50, 40), frames=1, **options):
    images = [Image.fromarray(np.full((*size[::-1], 3), 50 * i, np.uint8)) for i in range(frames)]
    more = {"save_all": True, "append_images": images[1:]} if frames > 1 else {}
    buffer = io.BytesIO()
    images[0].save(buffer, format, **more, **options)
    return buffer.getvalue()


def blocks(*parts):
    """A GIF of the given blocks; its header says 1 x 1 pixels and holds two colours."""
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + b"".join(parts) + b";"


def frame(width, height):
    """A frame whose pixels are lacking: they need not be looked at."""
    return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x00\x00"


COMMENT = b"!\xfe\x01A\x00"


@pytest.mark.parametrize(
    "content",
    [
        *(file(format) for format in ("JPEG", "PNG", "GIF", "BMP")),
        file("GIF", frames=4, duration=40, comment=b"of four frames " * 40),
        file("GIF", frames=4)[:-1],  # without its end, as some programs write it
        blocks(COMMENT, frame(100, 10), COMMENT, frame(10, 50)),
    ],
)
def test_images_within_the_limit_are_taken(content):
    image_files.check(0, content, 0.01)


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (file("PNG", (200, 60)), 413, "file 3 has 200 x 60 pixels, at most 0.01 megapixels"),
        (file("GIF", (200, 60)), 413, "file 3 has 200 x 60 pixels in 1 or more frames"),
        (file("GIF", frames=6), 413, "file 3 has 50 x 40 pixels in 6 or more frames, at most 0.01 megapixels"),
        (blocks(frame(65535, 65535)), 413, "65535 x 65535 pixels"),
        (blocks(frame(6000, 1), frame(1, 6000)), 413, "6000 x 6000 pixels"),  # what TensorFlow would allot
        (blocks(COMMENT * 21_000, frame(1, 1)), 413, "more than 20000 frames and comments"),
        (blocks(frame(1, 1) * 21_000), 413, "1 x 1 pixels in 10001 or more frames"),
        (blocks(COMMENT), 400, "a GIF without an image"),
        (blocks(b"?", frame(1, 1)), 400, "cut short or corrupt"),
        (file("GIF", frames=4)[:-9], 400, "cut short or corrupt"),
        (b"GIF89a", 400, "cut short or corrupt"),
        (b"II*\0" + bytes(99), 400, "file 3 is no JPEG, PNG, GIF or BMP image"),
    ],
)
def test_others_are_refused_in_one_line(content, status, reason):
    with pytest.raises(protocol.Fault, match=reason) as fault:
        image_files.check(3, content, 0.01)
    assert fault.value.status == status
    assert "\n" not in fault.value.reason


def test_a_gif_is_read_no_further_than_its_limit():
    content = blocks(frame(1000, 1000) * 15_000, b"?")
    with pytest.raises(protocol.Fault, match="1000 x 1000 pixels in 65 or more frames"):
        image_files.check(0, content, 64)


def test_tensorflow_sees_no_larger_image_than_was_counted():
    """The image is as large as the widest and the tallest frame, the header's size does not count."""
    import tensorflow as tf

    whole = [file("GIF", size) for size in ((3, 1), (1, 2))]
    content = blocks(*(one[one.index(b",") : -1] for one in whole))
    assert tf.io.decode_image(content, channels=3, expand_animations=False).shape == (2, 3, 3)
    image_files.check(0, content, 12e-6)
    with pytest.raises(protocol.Fault, match="3 x 2 pixels in 2 or more frames"):
        image_files.check(0, content, 11e-6)
