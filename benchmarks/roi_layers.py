"""Times RoIPooling, RoIAlign and SpatialPyramidPooling, and torchvision's kernels beside them where it is installed.

    python benchmarks/roi_layers.py [--rois 512] [--size 50] [--channels 256] [--threads 2] [--runs 7]

The regions are random rectangles within the image, as many in each. Both libraries get the same maps (channels last
here, first there, as each wants them), regions and incoming gradients, in turn. Prints the median times, of the forward
pass alone and of forward and backward, and the median of the ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable

try:  # before TensorFlow, after which its libraries do not load
    import torch
    import torchvision.ops
except ImportError:
    torch = None
import numpy as np
import tensorflow as tf

import kzoo

STRIDE = 16


def kzoo_passes(layer, features: np.ndarray, rois: np.ndarray, upstream: np.ndarray | None = None) -> dict:
    """{name of the pass: function} of a layer of kzoo; features (B, H, W, C), rois (B, R, 4)."""
    features, rois = tf.Variable(features), tf.constant(rois)
    upstream = tf.Variable(np.ones(layer(features, rois).shape, "float32") if upstream is None else upstream)

    @tf.function
    def forward():
        return layer(features, rois, stride=STRIDE)

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            pooled = layer(features, rois, stride=STRIDE)
        gradient = tape.gradient(pooled, features, output_gradients=upstream)
        return gradient, pooled  # both, or what the backward pass does not need would never be computed

    return {"forward": lambda: forward().numpy(), "forward + backward": lambda: [x.numpy() for x in both()]}


def torchvision_passes(name: str, features: np.ndarray, rois: np.ndarray, upstream: np.ndarray) -> dict:
    """The same of torchvision's layer of that name, upstream as kzoo has it."""
    function = {
        "RoIPooling": lambda maps, boxes: torchvision.ops.roi_pool(maps, boxes, 7, 1 / STRIDE),
        "RoIAlign": lambda maps, boxes: torchvision.ops.roi_align(maps, boxes, 7, 1 / STRIDE, 2, aligned=True),
    }[name]
    maps = torch.tensor(features.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    boxes = [torch.tensor(image) for image in rois]
    gradient = torch.tensor(upstream.reshape(-1, *upstream.shape[2:]).transpose(0, 3, 1, 2).copy())

    def forward():
        with torch.no_grad():
            return function(maps, boxes)

    def both():
        maps.grad = None
        function(maps, boxes).backward(gradient)

    return {"forward": forward, "forward + backward": both}


def milliseconds(functions: list[Callable[[], object]], runs: int) -> list[list[float]]:
    """Wall-clock times of `runs` calls of each, in turn, after two that trace and warm up."""
    times = [[] for _ in functions]
    for run in range(runs + 2):
        for function, kept in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if run >= 2:
                kept.append(1e3 * (time.perf_counter() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = (("images", 2), ("rois", 512), ("size", 50), ("channels", 256), ("threads", 2), ("runs", 7))
    for name, default in defaults:
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(a.threads)
    if torch:
        torch.set_num_threads(a.threads)
    else:
        print("torchvision is not installed: kzoo alone is timed")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(a.images, a.size, a.size, a.channels)).astype("float32")
    corners = rng.uniform(0, a.size * STRIDE, (a.images, a.rois // a.images, 2, 2))
    rois = np.concatenate([corners.min(2), corners.max(2)], -1).astype("float32")
    upstream = rng.normal(size=(*rois.shape[:2], 7, 7, a.channels)).astype("float32")
    print(f"{a.images} x {a.size} x {a.size} x {a.channels} features, {a.rois} regions, {a.threads} threads")
    layers = {
        "RoIPooling": kzoo.layers.RoIPooling(7, clip_rois=True),  # as Fast and Faster R-CNN have it
        "RoIPooling, any place": kzoo.layers.RoIPooling(7),
        "RoIAlign": kzoo.layers.RoIAlign(7, 2),
    }
    for name, layer in layers.items():
        ours = kzoo_passes(layer, features, rois, upstream)
        theirs = torchvision_passes(name.split(",")[0], features, rois, upstream) if torch else {}
        for part, function in ours.items():
            times = milliseconds([function, *([theirs[part]] if theirs else [])], a.runs)
            report(name, part, times)
    for part, function in kzoo_passes(kzoo.layers.SpatialPyramidPooling(), features, rois).items():
        report("SpatialPyramidPooling", part, milliseconds([function], a.runs))


def report(name: str, part: str, times: list[list[float]]) -> None:
    line = f"{name:22s} {part:19s} kzoo {statistics.median(times[0]):7.1f} ms"
    if len(times) == 2:
        ratios = [mine / other for mine, other in zip(*times, strict=True)]
        line += f", torchvision {statistics.median(times[1]):7.1f} ms, ratio {statistics.median(ratios):.2f}"
        line += f" ({min(ratios):.2f} to {max(ratios):.2f})"
    print(line, flush=True)


if __name__ == "__main__":
    main()
