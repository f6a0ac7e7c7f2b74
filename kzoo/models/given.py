"""What a network learns from, looked at before it does: arrays in one sentence, batches of data sets by assertions.

The assertions are TensorFlow's. Under XLA and in JAX, where there are none, batches are not looked at.
"""

import warnings
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from kzoo.images import VOID
from kzoo.types import Tensor


def require_detection_shapes(name: str, targets: object, needed: tuple[str, ...]) -> None:
    """Raises ValueError unless `targets` is a dict of boxes (B, N, 4), labels (B, N) and whatever else is needed."""
    if not isinstance(targets, Mapping) or not set(needed) <= set(targets):
        received = ", ".join(map(str, targets)) if isinstance(targets, Mapping) else type(targets).__name__
        raise ValueError(
            f"{name} learns from targets {{{', '.join(map(repr, needed))}}}, boxes (B, N, 4) xyxy in pixels "
            f"and labels (B, N), -1 where padded. Received: {received}."
        )
    boxes, labels = targets["boxes"], targets["labels"]
    if any(hasattr(ragged, "row_splits") for ragged in (boxes, labels)):
        raise ValueError(f"{name} takes no ragged targets: pad boxes with 0 and labels with -1, by .to_tensor(-1).")
    seen, told = tuple(boxes.shape), tuple(labels.shape)
    alike = all(a == b or None in (a, b) for a, b in zip(seen, told, strict=False))
    if len(seen) != 3 or len(told) != 2 or seen[2] not in (4, None) or not alike:
        raise ValueError(f"{name} learns from boxes (B, N, 4) and labels (B, N). Received: {seen} and {told}.")


def require_detections(targets: Mapping, num_classes: int) -> None:
    """Raises ValueError for arrays of labels beyond the classes, or of boxes that are none, not xyxy or no pixels."""
    boxes, labels = np.asarray(targets["boxes"]), np.asarray(targets["labels"])
    if labels.max(initial=-1) >= num_classes:
        raise ValueError(
            f"The labels of {num_classes} classes are 0 to {num_classes - 1}, background not among them. "
            f"Received: {labels.max()}."
        )
    real = labels >= 0
    whole = np.isfinite(boxes).all(axis=-1) & (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
    if (real & ~whole).any():
        image, place = np.argwhere(real & ~whole)[0]
        raise ValueError(
            f"Boxes are xyxy: x1 < x2 and y1 < y2 (are these xywh or yxyx?). Received: {boxes[image, place].tolist()} "
            f"in image {image}; {np.sum(real & ~whole)} of {real.sum()} boxes are so."
        )
    if real.any() and np.abs(boxes[real]).max() <= 1.5:
        raise ValueError("Boxes are in pixels, and these lie in 0..1: multiply them by the images' width and height.")


def assert_detections(targets: Mapping, num_classes: int) -> None:
    """As `require_detections` in a graph; boxes without area pass, as a crop may leave one."""
    boxes, labels = ops.cast(targets["boxes"], "float32"), targets["labels"]
    _assert(ops.all(labels < num_classes), f"The labels of {num_classes} classes are 0 to {num_classes - 1}.")
    whole = ops.all(boxes[..., 2:] >= boxes[..., :2], axis=-1) & ops.all(ops.isfinite(boxes), axis=-1)
    _assert(ops.all(whole | (labels < 0)), "Boxes are xyxy in pixels: x1 < x2 and y1 < y2. Are these xywh or yxyx?")


def require_masks(masks: np.ndarray, num_classes: int) -> None:
    """Raises ValueError for labels that are neither a class nor void; warns where 255 looks like a class."""
    known = np.unique(masks)
    beyond = known[((known < 0) | (known >= num_classes)) & (known != VOID)]
    if len(beyond):
        raise ValueError(
            f"Masks of {num_classes} classes hold 0 to {num_classes - 1}, and {VOID} where nothing is known. "
            f"Received: {', '.join(map(str, beyond[:5].tolist()))}."
        )
    if known.tolist() == [0, VOID]:
        warnings.warn(
            f"The masks hold 0 and {VOID} only, and {VOID} is void: if it is a class, give masks // {VOID}.",
            stacklevel=5,
        )


def assert_masks(masks: Tensor, num_classes: int) -> None:
    """As `require_masks` in a graph."""
    masks = ops.cast(masks, "int32")
    known = ((masks >= 0) & (masks < num_classes)) | (masks == VOID)
    _assert(ops.all(known), f"Masks of {num_classes} classes hold 0 to {num_classes - 1}, and {VOID} for void.")


def _assert(condition: Tensor, message: str) -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.debugging.Assert(condition, [message])
