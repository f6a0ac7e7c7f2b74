"""NMS beside `tf.image.combined_non_max_suppression`, both fed the same pre-selected boxes.

    python benchmarks/non_max_suppression.py [--batch 8] [--boxes 8732] [--classes 20]

Both take the best `--candidates` pairs (box, class) of each image. Prints the median times by the clock and of CPU, the
ratios, pair by pair in turn, and whether both find the same boxes. CPU time counts what all threads worked, and is the
steadier of the two on a machine that does something else as well.
"""

import argparse
import statistics
import time

import numpy as np
import tensorflow as tf

import kzoo


def scene(batch: int, boxes: int, classes: int, objects: int = 12, seed: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    """Default boxes as a trained detector scores them: high near objects, close to zero elsewhere."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 300, (batch, boxes, 2))
    size = rng.uniform(15, 150, (batch, boxes, 2))
    xyxy = np.concatenate([centre - size / 2, centre + size / 2], -1).astype("float32")
    scores = rng.beta(0.3, 12, (batch, boxes, classes))
    for b in range(batch):
        for _ in range(objects):
            target, label = rng.integers(boxes), rng.integers(classes)
            near = kzoo.boxes.iou(xyxy[b, target : target + 1], xyxy[b])[0]
            scores[b, :, label] = np.maximum(scores[b, :, label], near * rng.uniform(0.6, 1.0, boxes))
    return tf.constant(xyxy), tf.constant(scores.astype("float32"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 8), ("boxes", 8732), ("classes", 20), ("candidates", 2000), ("runs", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(2)
    boxes, scores = scene(arguments.batch, arguments.boxes, arguments.classes)
    layer = kzoo.layers.NonMaxSuppression(
        iou_threshold=0.45, score_threshold=0.01, max_detections=200, max_candidates=arguments.candidates
    )

    @tf.function
    def ours(boxes, scores):
        return layer(boxes, scores)

    @tf.function
    def combined(boxes, scores):
        pairs = arguments.boxes * arguments.classes
        best, index = tf.math.top_k(tf.reshape(scores, (-1, pairs)), arguments.candidates)
        chosen = tf.gather(boxes, index // arguments.classes, batch_dims=1)
        one_hot = tf.one_hot(index % arguments.classes, arguments.classes) * best[..., None]
        return tf.image.combined_non_max_suppression(
            chosen[:, :, None], one_hot, 200, 200, 0.45, 0.01, clip_boxes=False
        )

    clocks = {"clock": time.perf_counter, "CPU": time.process_time}
    times = {(name, kind): [] for name in ("kzoo", "combined") for kind in clocks}
    for run in range(arguments.runs + 2):
        for name, function in (("kzoo", ours), ("combined", combined)):
            starts = {kind: clock() for kind, clock in clocks.items()}
            found = function(boxes, scores)
            tf.nest.map_structure(lambda x: x.numpy(), found)
            if run >= 2:  # the first two trace and warm up
                for kind, clock in clocks.items():
                    times[name, kind].append(1e3 * (clock() - starts[kind]))
    a, b = ours(boxes, scores), combined(boxes, scores)
    same = np.mean(a["num_detections"].numpy() == b.valid_detections.numpy())
    score_error = np.abs(a["scores"].numpy() - b.nmsed_scores.numpy()).max()
    print("{batch} x {boxes} boxes x {classes} classes, {candidates} candidates".format(**vars(arguments)))
    for (name, kind), values in times.items():
        print(f"{name:10s} {kind:5s} median {statistics.median(values):8.2f} ms")
    for kind in clocks:
        ratios = [x / y for x, y in zip(times["kzoo", kind], times["combined", kind], strict=True)]
        print(f"ratio kzoo / combined, {kind:5s}: median {statistics.median(ratios):.2f}, ", end="")
        print(f"{min(ratios):.2f} to {max(ratios):.2f}")
    print(f"images with as many detections: {same:.0%}; largest difference of a score: {score_error:.1e}")


if __name__ == "__main__":
    main()
