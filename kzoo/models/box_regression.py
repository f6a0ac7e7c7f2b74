"""Class-specific box regression by ridge regression (R-CNN, appendix C; whitening from its code)."""

import numpy as np

LAMBDA = 1000.0
MIN_IOU = 0.6  # of the proposals that are learned from
MOST = 3000  # examples of a class, evenly drawn: they are matrices in memory
_EPSILON = 1e-3  # (code) keeps directions without variance from being blown up


def fit_boxes(features: np.ndarray, deltas: np.ndarray, ridge: float = LAMBDA) -> tuple[np.ndarray, np.ndarray]:
    """Learns how the boxes of one class must move.

    The four deltas are whitened (mean 0, uncorrelated, variance 1), so that one lambda suits all; then each is a ridge
    regression, min |y - X w|^2 + lambda |w|^2, with a column of ones in X.

    Args:
        features: (N, D), scaled to a mean norm of 20.
        deltas: (N, 4), `kzoo.boxes.encode(ground truth, proposals)`.
        ridge: lambda.

    Returns:
        weights (D, 4) and bias (4,) float32: the deltas of features x are x @ weights + bias. Without any example
        both are 0: boxes stay where they are.
    """
    features, deltas = np.asarray(features, np.float32), np.asarray(deltas, np.float64)
    count, width = features.shape
    if count == 0:
        return np.zeros((width, 4), np.float32), np.zeros(4, np.float32)
    mean = deltas.mean(axis=0)
    centred = deltas - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / count)
    spread = np.sqrt(np.maximum(values, 0.0) + _EPSILON)
    whitened = centred @ (vectors / spread) @ vectors.T
    x = np.c_[features, np.ones(count, np.float32)]
    if count <= width:  # the same solution from the smaller of the two matrices
        w = x.T.astype(np.float64) @ np.linalg.solve(x @ x.T + ridge * np.eye(count), whitened)
    else:
        w = np.linalg.solve(x.T @ x + ridge * np.eye(width + 1), x.T @ whitened)
    w = w @ (vectors * spread) @ vectors.T
    return w[:-1].astype(np.float32), (w[-1] + mean).astype(np.float32)
