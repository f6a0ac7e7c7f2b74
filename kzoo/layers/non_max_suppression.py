"""Non-maximum suppression: greedy, per class or class-agnostic, batched, with outputs of fixed size."""

import keras
from keras import ops

from kzoo.layers.best_scores import best_scores
from kzoo.layers.gather import gather_rows
from kzoo.layers.greedy import has_area, suppress


@keras.saving.register_keras_serializable("kzoo")
class NonMaxSuppression(keras.layers.Layer):
    """Takes the best-scoring box left, drops the others with IoU > threshold, and repeats.

    The candidates are the `max_candidates` best pairs (box, class) of an image that score above `score_threshold`;
    among equal scores the earlier box comes first. Boxes without area are never detections. All arithmetic is float32.

    On the TensorFlow backend the greedy loop is a kernel of TensorFlow; on other backends, or with `fused=False`, it is
    written in keras.ops (`kzoo.layers.greedy`). All give the same detections, but that of XLA and LiteRT, which moves
    classes apart, may decide otherwise where the IoU of small boxes equals the threshold. Clip boxes to the image
    before: one as large as 1e8 pixels would leave float32 no digits for the others.

    Args:
        iou_threshold: two boxes of one class that overlap more than this are one object; 0..1.
        score_threshold: pairs that score at most this are never looked at.
        max_detections: K, the size of the outputs.
        class_agnostic: if True, a box also suppresses boxes of other classes.
        max_candidates: pairs that enter the greedy loop; bounds time and memory.
        fused: True, False, or None for True where TensorFlow runs on a CPU without XLA.

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
        if labels is not None and num_classes is None:
            raise ValueError(f"{self.name}: labels tell classes apart, but not how many there are. Give num_classes.")
        num_classes = scores.shape[-1] if labels is None else num_classes
        boxes, scores, labels = self._candidates(boxes, scores, labels)
        eligible = (scores > self.score_threshold) & has_area(boxes)
        groups = 1 if self.class_agnostic else num_classes
        picked, count = suppress(
            boxes, labels if groups > 1 else None, groups, eligible, self.iou_threshold, self.max_detections, self.fused
        )
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
        scores, index = best_scores(
            ops.reshape(scores, (-1, pairs)), min(self.max_candidates, pairs), self.score_threshold, self.fused
        )
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
