"""The best candidates of each pyramid level, so that a level of many cells does not crowd out the others."""

from collections.abc import Sequence

import keras
from keras import ops

from kzoo.layers.best_scores import best_scores
from kzoo.layers.gather import gather_rows


@keras.saving.register_keras_serializable("kzoo")
class TopCandidates(keras.layers.Layer):
    """Keeps the `per_level` best pairs (box, class) of each level (RetinaNet, section 4.1: a thousand).

    Args:
        level_sizes: how many boxes each level has, in the order in which they stand.
        per_level: pairs to keep of a level; a level of fewer gives all.

    Call:
        boxes: (B, N, 4), N the sum of `level_sizes`; scores: (B, N, C), probabilities or logits.
    Returns:
        {"boxes": (B, K, 4) float32, "scores": (B, K) float32, "labels": (B, K) int32}, level by level, best first
        within each.
    """

    def __init__(self, level_sizes: Sequence[int], per_level: int = 1000, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if per_level < 1:
            raise ValueError(f"per_level must be at least 1. Received: {per_level}.")
        self.level_sizes = [int(size) for size in level_sizes]
        self.per_level = per_level

    def call(self, boxes, scores):
        boxes, scores = ops.cast(boxes, "float32"), ops.cast(scores, "float32")
        if boxes.shape[1] != sum(self.level_sizes):
            raise ValueError(f"Expected {sum(self.level_sizes)} boxes, {self.level_sizes}. Received: {boxes.shape[1]}.")
        classes = scores.shape[-1]
        levels, start = [], 0
        for size, kept in zip(self.level_sizes, self._kept(classes), strict=True):
            pairs = ops.reshape(scores[:, start : start + size], (-1, size * classes))
            best, index = best_scores(pairs, kept)
            levels.append((gather_rows(boxes[:, start : start + size], index // classes), best, index % classes))
            start += size
        boxes, scores, labels = (ops.concatenate(parts, axis=1) for parts in zip(*levels, strict=True))
        return {"boxes": boxes, "scores": scores, "labels": labels}

    def _kept(self, classes: int) -> list[int]:
        return [min(self.per_level, size * classes) for size in self.level_sizes]

    def compute_output_spec(self, boxes, scores):
        batch, kept = boxes.shape[0], sum(self._kept(scores.shape[-1]))
        return {
            "boxes": keras.KerasTensor((batch, kept, 4), "float32"),
            "scores": keras.KerasTensor((batch, kept), "float32"),
            "labels": keras.KerasTensor((batch, kept), "int32"),
        }

    def get_config(self):
        return super().get_config() | {"level_sizes": self.level_sizes, "per_level": self.per_level}
