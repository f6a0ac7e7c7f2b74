"""Loss terms and the choice of the negatives that enter them; float32 under any dtype policy."""

import keras
from keras import ops

from kzoo.types import Tensor


def smooth_l1(targets: Tensor, predictions: Tensor, beta: float = 1.0) -> Tensor:
    """0.5 d^2 / beta where |d| < beta, else |d| - 0.5 beta, elementwise (Fast R-CNN, equation 3, has beta = 1).

    Faster R-CNN's code calls 1 / sqrt(beta) sigma: sigma 3 is beta 1/9.
    """
    difference = ops.abs(ops.cast(targets, "float32") - ops.cast(predictions, "float32"))
    return ops.where(difference < beta, 0.5 * ops.square(difference) / beta, difference - 0.5 * beta)


def softmax_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """-log softmax(logits)[label] for labels (...) in 0..C-1 and logits (..., C) -> (...)."""
    logits = ops.cast(logits, "float32")
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def weighted_cross_entropy(labels: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """-w_c log softmax(logits)_c with c the label: each class counts by its weight.

    Args:
        labels: (...) in 0..C-1; logits: (..., C); weights: (C,), one a class, as the inverse of its frequency.

    Returns:
        (...) float32; not divided by the sum of the weights.
    """
    weights = ops.take(ops.convert_to_tensor(weights, "float32"), ops.cast(labels, "int32"), axis=0)
    return weights * softmax_cross_entropy(labels, logits)


def sigmoid_focal_loss(targets: Tensor, logits: Tensor, alpha: float | None = 0.25, gamma: float = 2.0) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t, elementwise (RetinaNet, equation 5).

    p_t is p = sigmoid(logit) where the target is 1 and 1 - p where it is 0; alpha_t is alpha and 1 - alpha. With
    gamma = 0 it is the alpha-balanced cross-entropy (equation 3), with alpha None besides the plain one. Finite, with
    finite gradients, for logits of any size.

    Args:
        targets: (...) of 0 and 1 or bool; logits: (...).
        alpha: weight of the positives, 0..1; None weighs all alike.
        gamma: how much less an example counts that is classified well; at least 0.
    """
    positive = ops.cast(targets, "bool")
    logits = ops.cast(logits, "float32")
    margin = ops.where(positive, logits, -logits)  # p_t = sigmoid(margin)
    # log(1 - p_t) = -softplus(margin): the power as an exponential has no infinite derivative where p_t is 1.
    loss = ops.exp(-gamma * ops.softplus(margin)) * ops.softplus(-margin)
    return loss if alpha is None else ops.where(positive, alpha, 1.0 - alpha) * loss


def hard_negatives(loss: Tensor, positive: Tensor, negative: Tensor, ratio: float = 3.0) -> Tensor:
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


def softmax_focal_loss(labels: Tensor, logits: Tensor, gamma: float = 2.0) -> Tensor:
    """-(1 - p)^gamma log p with p = softmax(logits)[label], for labels (...) and logits (..., C) -> (...) float32.

    RetinaNet's focal loss (equation 4) for classes that exclude each other, as those of a pixel do; gamma = 0 is the
    cross-entropy.
    """
    loss = softmax_cross_entropy(labels, logits)
    # 1 - p from the loss itself; the small number keeps the power's derivative finite where p is 1.
    return ops.power(-ops.expm1(-loss) + 1e-8, gamma) * loss


def soft_dice_loss(labels: Tensor, logits: Tensor, weights: Tensor | None = None, smooth: float = 1.0) -> Tensor:
    """1 - the mean over classes of (2 sum p g + smooth) / (sum p + sum g + smooth) (Milletari et al., 2016).

    The sums are over all pixels of the batch, p is the softmax and g is 1 at the label. A class that is neither there
    nor predicted counts as met.

    Args:
        labels: (...) in 0..C-1; logits: (..., C); weights: (...) of each pixel, 0 for void; None for 1.

    Returns:
        a float32 scalar in 0..1.
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    truth = ops.one_hot(labels, logits.shape[-1], dtype="float32")
    weights = ops.ones_like(truth[..., :1]) if weights is None else ops.cast(weights, "float32")[..., None]
    pixels = tuple(range(len(truth.shape) - 1))
    both = ops.sum(weights * probabilities * truth, axis=pixels)
    total = ops.sum(weights * (probabilities + truth), axis=pixels)
    return 1.0 - ops.mean((2.0 * both + smooth) / (total + smooth))
