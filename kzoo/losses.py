"""Loss terms and the choice of the negatives that enter them; float32 under any dtype policy."""

import keras
from keras import ops


def smooth_l1(targets, predictions, beta: float = 1.0):
    """0.5 d^2 / beta where |d| < beta, else |d| - 0.5 beta, elementwise (Fast R-CNN, equation 3, has beta = 1).

    Faster R-CNN's code calls 1 / sqrt(beta) sigma: sigma 3 is beta 1/9.
    """
    difference = ops.abs(ops.cast(targets, "float32") - ops.cast(predictions, "float32"))
    return ops.where(difference < beta, 0.5 * ops.square(difference) / beta, difference - 0.5 * beta)


def softmax_cross_entropy(labels, logits):
    """-log softmax(logits)[label] for labels (...) in 0..C-1 and logits (..., C) -> (...)."""
    logits = ops.cast(logits, "float32")
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def hard_negatives(loss, positive, negative, ratio: float = 3.0):
    """Marks the negatives of highest loss, at most `ratio` times the positives, image by image (SSD, section 2.2).

    Args:
        loss: (B, A) each anchor's classification loss; positive, negative: (B, A) bool.

    Returns:
        (B, A) bool; nothing in an image without positives. Among equal losses the earlier anchor is taken.
    """
    wanted = ops.cast(ratio * ops.sum(ops.cast(positive, "float32"), axis=1, keepdims=True), "int32")
    loss = ops.where(negative, ops.stop_gradient(loss), -1.0)
    order = ops.argsort(-loss, axis=1)
    rank = ops.cast(ops.argsort(order, axis=1), "int32")
    return (rank < wanted) & negative
