"""Times RoIPooling, RoIAlign and SpatialPyramidPooling, forward alone and forward with backward.

    python benchmarks/roi_layers.py [--rois 512] [--size 50] [--channels 256] [--threads 2] [--runs 7]

The regions are random rectangles within the image, half of them for each of two images. Prints the median and the
smallest time of each.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import kzoo

STRIDE = 16


def milliseconds(function: Callable[[], object], runs: int) -> list[float]:
    """Wall-clock times of `runs` calls, after two that trace and warm up."""
    times = []
    for run in range(runs + 2):
        start = time.perf_counter()
        tf.nest.map_structure(lambda x: x.numpy(), function())
        if run >= 2:
            times.append(1e3 * (time.perf_counter() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = (("images", 2), ("rois", 512), ("size", 50), ("channels", 256), ("threads", 2), ("runs", 7))
    for name, default in defaults:
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(a.threads)
    rng = np.random.default_rng(0)
    features = tf.Variable(rng.normal(size=(a.images, a.size, a.size, a.channels)).astype("float32"))
    corners = rng.uniform(0, a.size * STRIDE, (a.images, a.rois // a.images, 2, 2))
    rois = tf.constant(np.concatenate([corners.min(2), corners.max(2)], -1).astype("float32"))
    layers = {
        "RoIPooling(7)": kzoo.layers.RoIPooling(7),
        "RoIPooling(7), clip_rois": kzoo.layers.RoIPooling(7, clip_rois=True),
        "RoIAlign(7, 2)": kzoo.layers.RoIAlign(7, 2),
        "SpatialPyramidPooling()": kzoo.layers.SpatialPyramidPooling(),
    }
    print(f"{a.images} x {a.size} x {a.size} x {a.channels} features, {a.rois} regions, {a.threads} threads")
    for name, layer in layers.items():
        upstream = tf.Variable(rng.normal(size=layer(features, rois).shape).astype("float32"))

        @tf.function
        def forward(layer=layer):
            return layer(features, rois, stride=STRIDE)

        @tf.function
        def both(layer=layer, upstream=upstream):
            with tf.GradientTape() as tape:
                pooled = layer(features, rois, stride=STRIDE)
            gradient = tape.gradient(pooled, features, output_gradients=upstream)
            return gradient, pooled  # both, or what the backward pass does not need would never be computed

        for part, function in (("forward", forward), ("forward + backward", both)):
            times = milliseconds(function, a.runs)
            print(f"{name:26s} {part:19s} median {statistics.median(times):7.1f} ms, best {min(times):7.1f} ms")


if __name__ == "__main__":
    main()
