"""From a region proposal network's raw heads to regions of interest (Ren et al., Faster R-CNN, NIPS 2015)."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from kzoo import boxes as box_ops
from kzoo.layers.non_max_suppression import NonMaxSuppression
from kzoo.layers.top_candidates import TopCandidates

_NEVER = -1e9  # a logit below every threshold


@keras.saving.register_keras_serializable("kzoo")
class RegionProposals(keras.layers.Layer):
    """Moves the anchors, cuts them to the image, and keeps the best that do not overlap much (section 3.3).

    With several levels (a feature pyramid) each gives its best `candidates`, and boxes suppress those of their own
    level only. All arithmetic is float32; proposals have no gradient.

    Args:
        image_size: (height, width) that boxes are cut to.
        level_sizes: how many anchors each level has, in the order in which they stand.
        candidates: anchors of each level that reach the NMS, best first; 12000 in training and 6000 in test (code).
        proposals: P, how many come out; 2000 in training and 300 in test.
        iou_threshold: of the NMS; 0.7.
        min_size: narrower or lower boxes are dropped, in pixels.

    Call:
        objectness: (B, A) logits; deltas: (B, A, 4); anchors: (A, 4) xyxy pixels.
    Returns:
        (B, P, 4) float32 xyxy pixels, best first; boxes of zeros where there are fewer.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        level_sizes: Sequence[int],
        candidates: int = 6000,
        proposals: int = 300,
        iou_threshold: float = 0.7,
        min_size: float = 1.0,
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.image_size = tuple(image_size)
        self.level_sizes = [int(size) for size in level_sizes]
        self.candidates = candidates
        self.proposals = proposals
        self.iou_threshold = iou_threshold
        self.min_size = min_size
        self.top = TopCandidates(self.level_sizes, candidates)
        self.nms = NonMaxSuppression(
            iou_threshold,
            score_threshold=_NEVER / 2,
            max_detections=self.proposals,
            max_candidates=candidates * len(self.level_sizes),
        )

    def call(self, objectness, deltas, anchors):
        deltas = ops.stop_gradient(ops.cast(deltas, "float32"))
        objectness = ops.stop_gradient(ops.cast(objectness, "float32"))
        boxes = box_ops.clip(box_ops.decode(deltas, ops.convert_to_tensor(anchors, "float32")), self.image_size)
        size = ops.minimum(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1])
        objectness = ops.where(size < self.min_size, _NEVER, objectness)
        best = self.top(boxes, objectness[..., None])
        kept = [min(self.candidates, size) for size in self.level_sizes]
        levels = ops.convert_to_tensor(np.repeat(np.arange(len(kept)), kept), "int32")
        labels = ops.zeros_like(best["labels"]) + levels
        return self.nms(best["boxes"], best["scores"], labels, num_classes=len(kept))["boxes"]

    def compute_output_spec(self, objectness, deltas, anchors):
        return keras.KerasTensor((objectness.shape[0], self.proposals, 4), "float32")

    def get_config(self):
        return super().get_config() | {
            "image_size": self.image_size,
            "level_sizes": self.level_sizes,
            "candidates": self.candidates,
            "proposals": self.proposals,
            "iou_threshold": self.iou_threshold,
            "min_size": self.min_size,
        }
