"""Networks of a fixed input size on images of any size: overlapping tiles, or resizing there and back. NumPy only."""

from collections.abc import Callable, Iterator

import numpy as np

from kzoo import images as kzoo_images

Predict = Callable[[np.ndarray], dict[str, np.ndarray]]


def overlap_tile(
    image: np.ndarray,
    predict: Predict,
    input_size: tuple[int, int],
    tile_size: tuple[int, int],
    stride: int = 1,
    batch_size: int = 4,
) -> dict[str, np.ndarray]:
    """Predicts an image of any size tile by tile, each from a larger piece of the image (U-Net, figure 2).

    What a tile needs beyond the image's border is mirrored. With a network of valid convolutions the result equals that
    of one pass over the whole mirrored image, if all tiles begin at multiples of the network's stride: then its
    poolings cut every tile as they would cut the image.

    Args:
        image: (H, W, C).
        predict: takes tiles (N, *input_size, C) and returns a dict of arrays (N, h, w, ...); of maps larger than
            `tile_size` the centre is taken.
        input_size: (height, width) that the network sees; each exceeds `tile_size` by an even number.
        tile_size: (height, width) of the part of it that is predicted well.
        stride: of the network, 2^depth in a U-Net.
        batch_size: tiles handed to `predict` at once.

    Returns:
        The arrays of `predict`, put together: (H, W, ...).

    Raises:
        ValueError: if the sizes do not fit each other, or the image is empty.
    """
    image = np.asarray(image)
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, C) with at least one pixel. Received shape: {image.shape}.")
    margins = [a - b for a, b in zip(input_size, tile_size, strict=True)]
    if min(margins) < 0 or any(margin % 2 for margin in margins) or min(tile_size) < stride:
        raise ValueError(
            f"A tile of {tuple(tile_size)} must be at least the stride of {stride}, and smaller than the input "
            f"{tuple(input_size)} by an even number."
        )
    top, left = (margin // 2 for margin in margins)
    starts = [tile_starts(side, tile, stride) for side, tile in zip(image.shape[:2], tile_size, strict=True)]
    reach = [places[-1] + tile for places, tile in zip(starts, tile_size, strict=True)]
    padding = [
        (before, before + end - side) for before, end, side in zip((top, left), reach, image.shape, strict=False)
    ]
    mirrored = np.pad(image, [*padding, (0, 0)], mode="reflect")
    places = [(y, x) for y in starts[0] for x in starts[1]]
    result: dict[str, np.ndarray] = {}
    for chunk in _chunks(places, batch_size):
        tiles = np.stack([mirrored[y : y + input_size[0], x : x + input_size[1]] for y, x in chunk])
        for key, values in predict(tiles).items():
            values = centre(np.asarray(values), tile_size)
            if key not in result:
                result[key] = np.empty((*reach, *values.shape[3:]), values.dtype)
            for (y, x), value in zip(chunk, values, strict=True):
                result[key][y : y + tile_size[0], x : x + tile_size[1]] = value
    return {key: values[: image.shape[0], : image.shape[1]] for key, values in result.items()}


def tile_starts(length: int, tile: int, stride: int = 1) -> list[int]:
    """Where tiles begin that cover 0..length: multiples of `stride`, the last no further than it needs."""
    step = tile // stride * stride
    last = max(0, -(-(length - tile) // stride) * stride)
    return [*range(0, last, step), last]


def centre(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The central (height, width) of maps (B, h, w, ...); works on NumPy arrays and on tensors."""
    sides = values.shape[1:3]
    if None in sides:  # a graph that has seen several sizes
        from keras import ops

        sides = ops.shape(values)[1:3]
    y, x = ((have - want) // 2 for have, want in zip(sides, size, strict=True))
    return values[:, y : y + size[0], x : x + size[1]]


def segment_any_size(
    images: np.ndarray,
    predict: Predict,
    input_size: tuple[int, int],
    tile_size: tuple[int, int] | None = None,
    stride: int = 1,
    batch_size: int = 4,
) -> dict[str, np.ndarray]:
    """Labels and scores for images of any size from a segmenter of a fixed one.

    Args:
        images: (B, H, W, 3), pixels 0..255 of any integer or float dtype.
        predict: takes float32 images (N, *input_size, 3), returns {"labels", "scores"} (N, h, w); called with N = 0 for
            no images.
        tile_size, stride: for `overlap_tile`; None resizes the images instead, and the maps back to the nearest pixel.
        batch_size: images or tiles handed to `predict` at once.

    Returns:
        {"labels": (B, H, W) int32, "scores": (B, H, W) float32}.

    Raises:
        ValueError: if the images are not RGB in that layout.
    """
    images = kzoo_images.as_batch(images)
    size = images.shape[1:3]
    parts = []
    if tile_size is not None:
        for image in images:
            part = overlap_tile(image.astype(np.float32), predict, input_size, tile_size, stride, batch_size)
            parts.append({key: value[None] for key, value in part.items()})
    else:
        for chunk in _chunks(images, batch_size):
            found = predict(np.stack([kzoo_images.resize(image, input_size) for image in chunk]))
            parts.append({key: nearest(np.asarray(value), size) for key, value in found.items()})
    dtypes = {"labels": np.int32, "scores": np.float32}
    return {
        key: np.concatenate([np.zeros((0, *size), dtype), *(part[key].astype(dtype) for part in parts)])
        for key, dtype in dtypes.items()
    }


def nearest(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes maps (B, h, w, ...) to (B, *size, ...) by taking the pixel under each new pixel's centre: labels stay."""
    rows, columns = (
        ((np.arange(want) + 0.5) * have / want).astype(int) for have, want in zip(maps.shape[1:3], size, strict=True)
    )
    return maps if tuple(size) == tuple(maps.shape[1:3]) else maps[:, rows[:, None], columns]


def _chunks(items, size: int) -> Iterator:
    for start in range(0, len(items), size):
        yield items[start : start + size]
