"""Are there seams? A large image in overlapping tiles, against one pass over the whole of it (U-Net, figure 2).

    python benchmarks/overlap_tile.py                # 1500 x 1100 pixels, 572-pixel tiles, a sixteenth of the width
    python benchmarks/overlap_tile.py --width 1      # the paper's network; 16 GB of memory

Prints the largest difference of a probability between the two, and how many labels differ.
"""

import argparse
import time

import keras
import numpy as np

from kzoo import tiling
from kzoo.models import UNet
from kzoo.models.unet import border, output_size


def compare(size: tuple[int, int], width: float, depth: int = 4, tile: int = 572) -> dict:
    """Predicts one image of noise and stripes both ways with the same random weights."""
    keras.utils.set_random_seed(0)
    model = UNet(2, tile, width=width, depth=depth)
    y, x = np.mgrid[: size[0], : size[1]]
    stripes = 127 + 60 * np.sin(x / 9 + np.cos(y / 31))[..., None]
    image = np.clip(stripes + np.random.default_rng(0).normal(0, 40, (*size, 3)), 0, 255).astype("float32")

    start = time.perf_counter()
    tiles = tiling.overlap_tile(
        image, probabilities(model), model.image_size, model.tile_size, model.stride, batch_size=1
    )["probabilities"]
    middle = time.perf_counter()
    edge = border(depth)
    # Valid convolutions do not fit every size: the next larger one, cut afterwards.
    whole = [next(k for k in range(side, side + 2**depth) if output_size(k + 2 * edge, depth)) for side in size]
    padding = [(edge, edge + have - side) for have, side in zip(whole, size, strict=True)]
    large = UNet(2, tuple(side + 2 * edge for side in whole), width=width, depth=depth)
    large.set_weights(model.get_weights())
    once = probabilities(large)(np.pad(image, [*padding, (0, 0)], mode="reflect")[None])["probabilities"][0]
    once = once[: size[0], : size[1]]
    return {
        "difference": float(np.abs(tiles - once).max()),
        "labels": int((tiles.argmax(-1) != once.argmax(-1)).sum()),
        "spread": float(once[..., 0].std()),
        "seconds": (middle - start, time.perf_counter() - middle),
    }


def probabilities(model):
    return lambda images: {"probabilities": keras.ops.convert_to_numpy(keras.ops.softmax(model(images), axis=-1))}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(1100, 1500), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--width", type=float, default=0.0625)
    options = parser.parse_args(arguments)
    found = compare(tuple(options.size), options.width)
    print(f"image {options.size[1]} x {options.size[0]}, tiles of 572, width {options.width}")
    print(f"largest difference of a probability: {found['difference']:.2g} (their deviation is {found['spread']:.2g})")
    print(f"labels that differ: {found['labels']} of {options.size[0] * options.size[1]}")
    print("tiles {:.1f} s, one pass {:.1f} s".format(*found["seconds"]))


if __name__ == "__main__":
    main()
