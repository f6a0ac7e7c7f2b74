"""Non-maximum suppression: greedy, per class or class-agnostic, batched, with outputs of fixed size."""

import math

import keras
import numpy as np
from keras import ops

from kzoo import boxes as box_ops


@keras.saving.register_keras_serializable("kzoo")
class NonMaxSuppression(keras.layers.Layer):
    """Takes the best-scoring box left, drops the others with IoU > threshold, and repeats.

    The candidates are the `max_candidates` best pairs (box, class) of an image that score above `score_threshold`;
    among equal scores the earlier box comes first. Boxes without area are never detections. All arithmetic is float32.

    On the TensorFlow backend the greedy loop is the fused kernel `NonMaxSuppressionV4`, which is also a builtin op of
    LiteRT and compiles under XLA; on other backends (or with `fused=False`) it is written in keras.ops. Both give the
    same detections.

    Args:
        iou_threshold: two boxes of one class that overlap more than this are one object; 0..1.
        score_threshold: pairs that score at most this are never looked at.
        max_detections: K, the size of the outputs.
        class_agnostic: if True, a box also suppresses boxes of other classes.
        max_candidates: pairs that enter the greedy loop; bounds time and memory.
        fused: True, False, or None for True on the TensorFlow backend only.

    Call:
        boxes: (B, N, 4) xyxy pixels; scores: (B, N, C), a score for each class (no background). Or, where each box is
            of one class: scores (B, N), labels (B, N) int32 and num_classes.
    Returns:
        {"boxes": (B, K, 4) float32, "labels": (B, K) int32, "scores": (B, K) float32, "num_detections": (B,) int32},
        best first; rows beyond `num_detections` hold 0, -1 and 0.
    """

    def __init__(
        self,
        iou_threshold: float = 0.45,
        score_threshold: float = 0.01,
        max_detections: int = 200,
        class_agnostic: bool = False,
        max_candidates: int = 2000,
        fused: bool | None = None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if not 0 <= iou_threshold <= 1:
            raise ValueError(f"iou_threshold must lie in 0..1. Received: {iou_threshold}.")
        if max_detections < 1 or max_candidates < 1:
            raise ValueError(
                f"max_detections and max_candidates must be at least 1. Received: {max_detections}, {max_candidates}."
            )
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold
        self.max_detections = max_detections
        self.class_agnostic = class_agnostic
        self.max_candidates = max_candidates
        self.fused = fused

    def call(self, boxes, scores, labels=None, num_classes: int | None = None):
        boxes, scores = ops.cast(boxes, "float32"), ops.cast(scores, "float32")
        num_classes = scores.shape[-1] if labels is None else num_classes
        boxes, scores, labels = self._candidates(boxes, scores, labels)
        separated = boxes if self.class_agnostic else _separate_classes(boxes, labels, num_classes)
        # A box without area overlaps nothing, not even itself: LiteRT's kernel would pick it again and again.
        scores = ops.where(_has_area(separated), scores, -1e9)
        fused = keras.backend.backend() == "tensorflow" if self.fused is None else self.fused
        greedy = _greedy_fused if fused else _greedy
        picked, count = greedy(separated, scores, self.iou_threshold, self.score_threshold, self.max_detections)
        valid = ops.arange(self.max_detections)[None] < count[:, None]
        picked = ops.where(valid, picked, 0)
        return {
            "boxes": ops.where(valid[..., None], gather_rows(boxes, picked), 0.0),
            "labels": ops.where(valid, gather_rows(labels, picked), -1),
            "scores": ops.where(valid, gather_rows(scores, picked), 0.0),
            "num_detections": count,
        }

    def _candidates(self, boxes, scores, labels):
        """The best pairs (box, class): boxes (B, K, 4), scores (B, K) descending, labels (B, K)."""
        if boxes.shape[-2] == 0:  # nothing to pick from: one candidate that no threshold lets through
            boxes = ops.pad(boxes, [[0, 0], [0, 1], [0, 0]])
            scores = ops.pad(scores, [[0, 0], [0, 1], [0, 0]][: len(scores.shape)], constant_values=-1e9)
            labels = None if labels is None else ops.pad(labels, [[0, 0], [0, 1]])
        num_classes = scores.shape[-1] if labels is None else 1
        pairs = boxes.shape[-2] * num_classes
        scores, index = ops.top_k(ops.reshape(scores, (-1, pairs)), min(self.max_candidates, pairs))
        index = ops.cast(index, "int32")
        if labels is not None:
            return gather_rows(boxes, index), scores, gather_rows(ops.cast(labels, "int32"), index)
        return gather_rows(boxes, index // num_classes), scores, index % num_classes

    def compute_output_spec(self, boxes, scores, labels=None, num_classes=None):
        batch, k = boxes.shape[0], self.max_detections
        return {
            "boxes": keras.KerasTensor((batch, k, 4), "float32"),
            "labels": keras.KerasTensor((batch, k), "int32"),
            "scores": keras.KerasTensor((batch, k), "float32"),
            "num_detections": keras.KerasTensor((batch,), "int32"),
        }

    def get_config(self):
        return super().get_config() | {
            "iou_threshold": self.iou_threshold,
            "score_threshold": self.score_threshold,
            "max_detections": self.max_detections,
            "class_agnostic": self.class_agnostic,
            "max_candidates": self.max_candidates,
            "fused": self.fused,
        }


def _has_area(boxes):
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def _separate_classes(boxes, labels, num_classes: int):
    """Moves each class to a tile of its own, so that boxes of different classes never overlap.

    The tiles form a square around the origin rather than a row: coordinates stay small, and float32 keeps the IoU of
    moved boxes to about 1e-6 even for 80 classes.
    """
    if num_classes == 1:
        return boxes
    low = ops.min(boxes, axis=(1, 2), keepdims=True)
    extent = ops.max(boxes, axis=(1, 2), keepdims=True) - low
    boxes = (boxes - low) / ops.maximum(extent, 1e-6)  # IoU does not change with the unit of length
    side = math.isqrt(num_classes - 1) + 1
    tiles = np.array([(label % side - side // 2, label // side - side // 2) * 2 for label in range(num_classes)])
    return boxes + ops.take(ops.convert_to_tensor(2.0 * tiles, "float32"), labels, axis=0)


def _greedy(boxes, scores, iou_threshold, score_threshold, max_detections):
    """Greedy suppression of candidates that stand best first: indices (B, max_detections), counts (B,)."""
    slots = ops.arange(max_detections)

    def pick_next(i, state):
        alive, picked, count = state
        best = ops.cast(ops.argmax(ops.cast(alive, "int32"), axis=-1), "int32")  # the first one alive
        found = ops.any(alive, axis=-1)
        picked = ops.where((slots[None] == i) & found[:, None], best[:, None], picked)
        overlap = box_ops.iou(gather_rows(boxes, best[:, None]), boxes)[:, 0]
        itself = ops.arange(boxes.shape[1])[None] == best[:, None]
        return alive & (overlap <= iou_threshold) & ~itself, picked, count + ops.cast(found, "int32")

    zeros = ops.zeros_like(ops.cast(scores[:, :1], "int32"))
    start = (scores > score_threshold, zeros + ops.zeros((1, max_detections), "int32"), zeros[:, 0])
    _, picked, count = ops.fori_loop(0, max_detections, pick_next, start)
    return picked, count


def _greedy_fused(boxes, scores, iou_threshold, score_threshold, max_detections):
    """The same through TensorFlow's fused kernel, image by image."""
    import tensorflow as tf

    def one_image(candidates):
        return tuple(
            tf.raw_ops.NonMaxSuppressionV4(
                boxes=candidates[0],
                scores=candidates[1],
                max_output_size=max_detections,
                iou_threshold=float(iou_threshold),
                score_threshold=float(score_threshold),
                pad_to_max_output_size=True,
            )
        )

    if boxes.shape[0] == 1:  # no loop in a LiteRT file
        picked, count = one_image((boxes[0], scores[0]))
        return picked[None], count[None]
    signature = (tf.TensorSpec((max_detections,), tf.int32), tf.TensorSpec((), tf.int32))
    return tf.map_fn(one_image, (boxes, scores), fn_output_signature=signature, parallel_iterations=16)


def gather_rows(values, index):
    """values (B, N) or (B, N, D) at index (B, K) -> (B, K) or (B, K, D)."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(values, index, batch_dims=1)  # one op, where take_along_axis makes a dozen
    if len(values.shape) == 3:
        index = index[..., None]
    return ops.take_along_axis(values, index, axis=1)
