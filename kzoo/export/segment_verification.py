"""Does an exported segmenter label what its Keras model labels? Pixel by pixel, and by mean IoU given masks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from kzoo.export.runtime import FileSegmenter
from kzoo.metrics import MeanIoU

if TYPE_CHECKING:
    import keras

SAME_SCORE = 1e-4  # what two ways to sum the same network differ by, at most


def compare(exported: FileSegmenter, model: "keras.Model", batches: Iterable[tuple]) -> dict:
    """Runs both over the same images.

    Args:
        exported: what `kzoo.export.load` returns. model: the Keras segmenter.
        batches: `(images, targets or None)`, targets {"masks": (B, H, W)} of the images' size.

    Returns:
        "images"; "label_agreement", the share of pixels with the same label; "score_agreement", the share with the same
        score to 1e-4; "image_agreement", the share of images in which all pixels have; "max_score_error" over all; with
        masks also "mIoU_keras", "mIoU_exported", "pixel_accuracy_keras" and "pixel_accuracy_exported".
    """
    metrics = {side: MeanIoU(model.num_classes, class_names=model.class_names) for side in ("keras", "exported")}
    count = pixels = same = close = alike = 0
    error, scored = 0.0, False
    for images, targets in batches:
        found = {"keras": model.segment(images), "exported": exported.segment(images)}
        same += int((found["keras"]["labels"] == found["exported"]["labels"]).sum())
        pixels += found["keras"]["labels"].size
        gap = np.abs(found["keras"]["scores"] - found["exported"]["scores"])
        close += int((gap <= SAME_SCORE).sum())
        alike += int((gap.max(axis=(1, 2), initial=0.0) <= SAME_SCORE).sum())
        error = max(error, float(gap.max(initial=0.0)))
        count += len(images)
        if targets is not None and "masks" in targets:
            scored = True
            for side, metric in metrics.items():
                metric.update_state(targets, found[side])
    result = {
        "images": count,
        "label_agreement": same / pixels if pixels else 1.0,
        "score_agreement": close / pixels if pixels else 1.0,
        "image_agreement": alike / count if count else 1.0,
        "max_score_error": error,
    }
    if scored:
        values = {side: metric.result() for side, metric in metrics.items()}
        for name in ("mIoU", "pixel_accuracy"):
            result |= {f"{name}_{side}": values[side][name] for side in values}
    return result
