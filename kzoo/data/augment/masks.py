"""Augmentation of images with masks: what boxes have, drawn and placed alike, and U-Net's elastic deformation.

An image (H, W, 3) goes with maps (H, W): its mask, and its weights where there are any. All are graph code for
tf.data and depend on nothing but their arguments. Images are resampled once and bilinearly, maps at the nearest pixel.
"""

import functools
import zlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from kzoo.data.augment.colour import photometric
from kzoo.data.augment.elastic import elastic_deformation, mirrored
from kzoo.data.augment.presets import asked_for
from kzoo.data.augment.symmetries import flip, rot90, vertical_flip
from kzoo.data.augment.windows import jitter_window, show, whole
from kzoo.images import VOID

# In the order of their application.
SYMMETRIES: dict[str, Callable] = {"rot90": rot90, "flip": flip, "vertical_flip": vertical_flip}
WINDOWS: dict[str, Callable] = {
    "jitter": jitter_window,  # zoom by up to 1.2 either way
    "scale": functools.partial(jitter_window, scale=1.0),  # by up to 2, for streets: near and far
}
AUGMENTATIONS = (*SYMMETRIES, *WINDOWS, "elastic", "photometric")
PRESETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "light": ("flip", "jitter", "photometric"),
    "no_up": ("rot90", "flip", "jitter", "photometric"),  # cells, aerial photographs
    "street": ("flip", "scale", "photometric"),
    "dihedral": ("rot90", "flip"),  # the eight turns and mirror images
    "unet": ("rot90", "flip", "elastic", "photometric"),  # section 3.1: rotations, deformations, grey values
}


def names_of(augment: bool | str | Sequence[str] | None) -> tuple[str, ...]:
    """The augmentations that `augment` means, in the order of their application; True means "light".

    Raises:
        ValueError: for an unknown name, naming the nearest known one.
    """
    return asked_for(augment, "light", PRESETS, AUGMENTATIONS, "augmentation of masks")


def augment(
    image: tf.Tensor,
    maps: Sequence[tf.Tensor],
    seed: tf.Tensor | None,
    names: Sequence[str],
    size: tuple[int, int],
    fit: str = "stretch",
    context: tuple[int, int] = (0, 0),
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Applies augmentations to one image and its maps and brings them to `size`.

    Args:
        image: (H, W, 3) RGB 0..255.
        maps: each (h, w) of any dtype and the image's proportions: mask, weights.
        seed: (2,) integers. Each augmentation draws from its own branch: adding one changes nothing of the others.
            None draws nothing, and "crop" takes the centre.
        names: of AUGMENTATIONS, as `names_of` returns them.
        size: (height, width). fit: "stretch", or "crop", which keeps the scale and takes a window, mirrored where the
            image ends.
        context: of a window, see `cropped`.

    Returns:
        image (height, width, 3) float32 0..255; the maps (height, width), VOID or 0 where a zoom shows what lies
        outside of the image: the first map is the mask, void there, the others are 0.
    """

    def branch(name: str) -> tf.Tensor:
        return tf.random.fold_in(seed, zlib.crc32(name.encode()) & 0x7FFFFFFF)

    no_boxes, no_labels = tf.zeros([0, 4]), tf.zeros([0], tf.int32)
    maps = list(maps)
    for name in names:
        if name in SYMMETRIES:
            parts = [image, *(one[..., None] for one in maps)]
            # One seed, so one draw, for all of them.
            image, *maps = (SYMMETRIES[name](part, no_boxes, no_labels, branch(name))[0] for part in parts)
            maps = [one[..., 0] for one in maps]
    if fit == "crop":
        image, maps = cropped(image, maps, None if seed is None else branch("crop"), size, context)
    window = whole(image)
    for name in names:
        if name in WINDOWS:
            window = WINDOWS[name](window, no_boxes, no_labels, branch(name))
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    image = tf.ensure_shape(show(image, window, size), (*size, 3))
    maps = [show_map(one, window, shape, size, VOID if i == 0 else 0) for i, one in enumerate(maps)]
    if "elastic" in names:
        image, maps = elastic_deformation(image, maps, branch("elastic"))
    if "photometric" in names:
        image = photometric(image, no_boxes, no_labels, branch("photometric"))[0]
    return image, maps


def cropped(
    image: tf.Tensor,
    maps: Sequence[tf.Tensor],
    seed: tf.Tensor | None,
    size: tuple[int, int],
    context: tuple[int, int] = (0, 0),
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """A window of `size` at the image's own scale, from anywhere or from the centre; mirrored where the image ends.

    `context` is how many of its pixels (above and below, at either side) a network sees without labelling them: they
    may lie beyond the image, so that every pixel of it is labelled in some window.
    """
    draws = [0.5, 0.5] if seed is None else tf.unstack(tf.random.stateless_uniform([2], seed))
    parts = [image, *maps]
    for axis, (want, draw, margin) in enumerate(zip(size, draws, context, strict=True)):
        side = tf.shape(image)[axis]
        room = side - (want - 2 * margin)
        # Between the first and the last place, each as likely as the others; the centre where the image is smaller.
        start = tf.minimum(tf.cast(draw * tf.cast(room + 1, tf.float32), tf.int32), room)
        start = tf.where(room > 0, start, -((-room) // 2))
        places = mirrored(start - margin + tf.range(want), side)
        parts = [tf.gather(part, places, axis=axis) for part in parts]
    return parts[0], parts[1:]


def show_map(values: tf.Tensor, window: tf.Tensor, shape: tf.Tensor, size: tuple[int, int], outside: int) -> tf.Tensor:
    """A window of a map at `size`, each pixel the one that its centre lies in.

    Args:
        values: (h, w). window: (4,) xyxy in pixels of the image. shape: (2,) the image's height and width, float32.
        outside: the value beyond the image.

    Returns:
        (height, width) of the map's dtype.
    """
    for axis in (0, 1):
        have = tf.shape(values)[axis]
        low, high = window[1 - axis] / shape[axis], window[3 - axis] / shape[axis]
        centres = low + (tf.range(size[axis], dtype=tf.float32) + 0.5) * ((high - low) / size[axis])
        places = tf.cast(tf.floor(centres * tf.cast(have, tf.float32)), tf.int32)
        inside = (places >= 0) & (places < have)
        taken = tf.gather(values, tf.clip_by_value(places, 0, have - 1), axis=axis)
        values = tf.where(inside[:, None] if axis == 0 else inside, taken, tf.cast(outside, values.dtype))
    return tf.ensure_shape(values, size)
