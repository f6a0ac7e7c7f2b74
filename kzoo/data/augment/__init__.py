"""Augmentation of images with boxes: plain functions `(image, boxes, labels, seed) -> (image, boxes, labels)`.

Image (H, W, 3) RGB 0..255, boxes (N, 4) float32 xyxy pixels, labels (N,) int32 with -1 where padded, seed (2,)
integers. All are graph code for tf.data, depend on nothing but their arguments (stateless), keep N, never move a
padded box, and take images without objects and of one pixel.

Keras' own layers of this kind (RandomFlip, RandomCrop, ...) move padded boxes into the image, turn labels to float32
and draw from a state that a resumed run does not have (shown in tests/data/test_augment.py for Keras 3.15). A flip of
240 x 320 costs 1.2 ms of one core there and .15 ms here, RandomColorJitter 7.7 ms and `photometric` 1.8 ms. So
TensorFlow's image functions serve here.
"""

import zlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from kzoo.data.augment import windows
from kzoo.data.augment.colour import exposure, photometric
from kzoo.data.augment.presets import asked_for
from kzoo.data.augment.symmetries import flip, rot90, vertical_flip
from kzoo.data.augment.windows import (
    FILL,
    RESIZES,
    cut,
    edges,
    edges_window,
    expand,
    expand_window,
    iou_crop,
    iou_crop_window,
    jitter,
    jitter_window,
    letterbox,
    resize,
    whole,
)

# Listed in the order in which they are applied, whatever order the caller names them in. SSD's code distorts the
# colours first and flips last; neither changes what the others draw, and the colours cost least on the few pixels of
# the final image.
SYMMETRIES: dict[str, Callable] = {"rot90": rot90, "flip": flip, "vertical_flip": vertical_flip}
WINDOWS: dict[str, Callable] = {
    "expand": expand_window,
    "edges": edges_window,
    "jitter": jitter_window,
    "iou_crop": iou_crop_window,
}
COLOURS: dict[str, Callable] = {"exposure": exposure, "photometric": photometric}

AUGMENTATIONS: dict[str, Callable] = {
    **SYMMETRIES,
    "expand": expand,
    "edges": edges,
    "jitter": jitter,
    "iou_crop": iou_crop,
    **COLOURS,
}

PRESETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "light": ("flip", "jitter", "photometric"),  # fine-tuning on a few hundred images
    "no_up": (
        "rot90",
        "flip",
        "jitter",
        "photometric",
    ),  # the same for cells, aerial photographs: rot90 and flip give all eight
    "ssd": ("expand", "iou_crop", "flip", "photometric"),  # Liu et al., section 2.2 and 3.6: long trainings
    "yolo": ("flip", "edges", "exposure"),  # Redmon et al., section 2.2; the flip is the code's
}


def names_of(augment: bool | str | Sequence[str] | None) -> tuple[str, ...]:
    """The augmentations that `augment` means, in the order of their application; True means "ssd".

    Raises:
        ValueError: for an unknown name, naming the nearest known one.
    """
    return asked_for(augment, "ssd", PRESETS, tuple(AUGMENTATIONS))


def augment(
    image: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    names: Sequence[str],
    size: tuple[int, int],
    resize: str = "stretch",
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Applies augmentations to one image and brings it to `size`, with one resampling in all.

    Args:
        image: (H, W, 3) RGB 0..255; boxes: (N, 4) in its pixels; labels: (N,), -1 where padded.
        seed: (2,) integers. Each augmentation draws from its own branch: adding one changes nothing of the others.
        names: of AUGMENTATIONS, as `names_of` returns them.
        size: (height, width). resize: "stretch" or "letterbox".

    Returns:
        image (height, width, 3) float32 0..255; boxes (N, 4) in its pixels, clipped, objects whose centre left it
        dropped; labels (N,) int32, -1 where padded.
    """
    nothing = tf.zeros((0, 4))
    return augment_with_proposals(image, boxes, labels, nothing, seed, names, size, resize)[:3]


def augment_with_proposals(
    image: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    proposals: tf.Tensor,
    seed: tf.Tensor,
    names: Sequence[str],
    size: tuple[int, int],
    resize: str = "stretch",
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """As `augment`, with proposals (P, 4), padded without area, that move like the objects; they are returned fourth.

    They have no say in what is drawn: image, boxes and labels are those of `augment`.
    """

    def branch(name: str) -> tf.Tensor:
        return tf.random.fold_in(seed, zlib.crc32(name.encode()) & 0x7FFFFFFF)

    for name in names:
        if name in SYMMETRIES:
            both = tf.concat([boxes, proposals], 0), tf.concat([labels, windows.validity(proposals)], 0)
            image, both, _ = SYMMETRIES[name](image, *both, branch(name))
            boxes, proposals = both[: tf.shape(boxes)[0]], both[tf.shape(boxes)[0] :]
    window = whole(image)
    for name in names:
        if name in WINDOWS:
            window = WINDOWS[name](window, boxes, labels, branch(name))

    def recolour(pixels: tf.Tensor) -> tf.Tensor:
        for name in names:
            if name in COLOURS:
                pixels = COLOURS[name](pixels, boxes, labels, branch(name))[0]
        return pixels

    proposals = windows.move_proposals(proposals, window, size, resize)
    image, boxes, labels = cut(image, boxes, labels, window, size, resize, recolour)
    return tf.ensure_shape(image, (*size, 3)), boxes, labels, proposals


__all__ = [
    "AUGMENTATIONS",
    "FILL",
    "PRESETS",
    "RESIZES",
    "augment",
    "augment_with_proposals",
    "edges",
    "expand",
    "exposure",
    "flip",
    "iou_crop",
    "jitter",
    "letterbox",
    "names_of",
    "photometric",
    "resize",
    "rot90",
    "vertical_flip",
]
