"""3x3 convolutions beside Keras' own, which run TensorFlow's operator: forward, and with both gradients.

    python benchmarks/conv2d.py [--batch 2] [--runs 11] [--threads 2]

Maps and channels as in RetinaNet's and Faster R-CNN's pyramids, VGG16 and ResNet50 at 300 to 640 pixels. In turn, the
same weights; prints median milliseconds, the median ratio (above 1 kzoo is faster), and the root mean square of kzoo's
and of the operator's rounding error, in standard deviations of the exact outputs.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import kzoo

# (height and width, input channels, output channels)
SHAPES = (
    (80, 256, 256),
    (40, 256, 256),
    (40, 256, 720),
    (20, 256, 256),
    (40, 128, 128),
    (75, 256, 256),
    (38, 512, 512),
)


def layers(side: int, channels: int, filters: int) -> dict[str, keras.layers.Layer]:
    """Both kinds with the same weights."""
    made = {"kzoo": kzoo.layers.Conv2D, "Keras": keras.layers.Conv2D}
    made = {name: kind(filters, 3, padding="same") for name, kind in made.items()}
    for layer in made.values():
        layer.build((None, side, side, channels))
        layer.set_weights(next(iter(made.values())).get_weights())
    return made


def forward(layer, images):
    return tf.function(lambda: layer(images))


def step(layer, images, upstream):
    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images)
        sources = [images, *(weight.value for weight in layer.trainable_weights)]
        return outputs, tape.gradient(outputs, sources, output_gradients=upstream)

    return gradients


def milliseconds(functions: dict, runs: int) -> dict[str, list[float]]:
    """Of each function, in turn, after two rounds that are not counted."""
    times = {name: [] for name in functions}
    for run in range(runs + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if run >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def rounding(outputs, layer, images) -> float:
    kernel, bias = (tf.cast(weight.value, "float64") for weight in layer.weights)
    exact = tf.nn.conv2d(tf.cast(images, "float64"), kernel, 1, "SAME") + bias
    return float(tf.math.reduce_std(tf.cast(outputs, "float64") - exact) / tf.math.reduce_std(exact))


def compare(side: int, channels: int, filters: int, options) -> str:
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(options.batch, side, side, channels)).astype("float32"))
    upstream = tf.constant(rng.normal(size=(options.batch, side, side, filters)).astype("float32"))
    both = layers(side, channels, filters)
    parts = {
        "forward": {name: forward(layer, images) for name, layer in both.items()},
        "step": {name: step(layer, images, upstream) for name, layer in both.items()},
    }
    line = f"{options.batch} x {side} x {side}, {channels} to {filters} channels:"
    for part, functions in parts.items():
        times = milliseconds(functions, options.runs)
        ratio = statistics.median(b / a for a, b in zip(times["kzoo"], times["Keras"], strict=True))
        ours, theirs = (statistics.median(values) for values in times.values())
        line += f" {part} {ours:.1f} and {theirs:.1f} ms, {ratio:.2f};"
    errors = (rounding(function(), both[name], images) for name, function in parts["forward"].items())
    return f"{line} error " + " and ".join(f"{error:.1e}" for error in errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 2), ("runs", 11), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    for shape in SHAPES:
        print(compare(*shape, options), flush=True)


if __name__ == "__main__":
    main()
