"""One linear SVM a class, trained on hard negatives (R-CNN, section 2.3 and appendix B; constants from its code)."""

from collections.abc import Iterable, Sequence

import numpy as np

from kzoo.messages import missing_package

C = 1e-3
POSITIVE_WEIGHT = 2.0
BIAS_MULTIPLIER = 10.0
HARD = -1.0001  # a negative that scores more is added: it lies inside the margin, or is wrong
EASY = -1.2  # one that scores less is forgotten
RETRAIN_AFTER = 2000  # negatives added
PASSES = 10  # over the images, at most
SETTLED = 0.01  # a class is done once a pass adds no more than this fraction of the negatives kept


class HardNegativeSVM:
    """The SVM of one class: all positives, and those negatives that it finds hard.

    Args:
        positives: (N, D) features of the class's objects. Without any the SVM says -1 to everything.
        retrain_after: train again once so many negatives were added.

    Attributes:
        weights (D,), bias: the score of features x is x @ weights + bias.
        negatives: (M, D), those kept at the moment; `names` (M,) int tells which they are.
    """

    def __init__(self, positives: np.ndarray, retrain_after: int = RETRAIN_AFTER):
        self._positives = np.asarray(positives, np.float32)
        self._retrain_after = retrain_after
        self._added = 0
        self._trained = False
        self.negatives = np.zeros((0, self._positives.shape[1]), np.float32)
        self.names = np.zeros(0, np.int64)
        self.weights = np.zeros(self._positives.shape[1], np.float32)
        self.bias = -1.0

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(N, D) -> (N,)."""
        return features @ self.weights + self.bias

    def mine(self, negatives: np.ndarray, names: np.ndarray) -> int:
        """Looks at the negatives (M, D) of one image and keeps the hard ones; trains again when there are enough.

        Args:
            names: (M,) int, one a negative, among all images: one that is kept already is not added twice.

        Returns:
            how many it added.
        """
        if len(self._positives) == 0 or len(negatives) == 0:
            return 0
        # Before the first training there is no score, and every negative is a hard one.
        hard = np.flatnonzero(self.scores(negatives) > HARD) if self._trained else np.arange(len(negatives))
        new = hard[~np.isin(names[hard], self.names)]
        if len(new) == 0:
            return 0  # the usual case, and what is kept is large to copy
        self.negatives = np.concatenate([self.negatives, negatives[new]])
        self.names = np.concatenate([self.names, names[new]])
        self._added += len(new)
        if self._added >= self._retrain_after:
            self.train()
        return len(new)

    def train(self) -> None:
        """Trains on the positives and the negatives kept, then forgets the easy ones; not if none was added since."""
        if len(self._positives) == 0 or self._added == 0:
            return
        labels = np.r_[np.ones(len(self._positives), int), -np.ones(len(self.negatives), int)]
        svm = _linear_svc()(
            C=C,
            class_weight={1: POSITIVE_WEIGHT},
            intercept_scaling=BIAS_MULTIPLIER,
            loss="hinge",
            dual=True,
            max_iter=5000,
            random_state=0,
        )
        svm.fit(np.concatenate([self._positives, self.negatives]), labels)
        self.weights, self.bias = svm.coef_[0].astype(np.float32), float(svm.intercept_[0])
        kept = self.scores(self.negatives) >= EASY
        self.negatives, self.names = self.negatives[kept], self.names[kept]
        self._added, self._trained = 0, True


def train_svms(
    positives: Sequence[np.ndarray],
    images: Iterable[tuple[np.ndarray, np.ndarray]],
    retrain_after: int = RETRAIN_AFTER,
) -> tuple[np.ndarray, np.ndarray]:
    """Trains one SVM a class, in as many passes over the images as it takes.

    The paper found one pass to be enough. With few images it may end just after a training that moved the SVM so far
    that negatives forgotten as easy are hard again; so passes go on until one adds hardly anything.

    Args:
        positives: (N, D) for each of the C classes: the features of its objects.
        images: of each image the features (P, D) of its regions, and which of them are negatives of which class (P, C).
            Iterated again and again, so no generator.
        retrain_after: see `HardNegativeSVM`.

    Returns:
        weights (D, C) and biases (C,), float32.

    Raises:
        ImportError: without scikit-learn, naming the extra.
    """
    _linear_svc()  # a missing package is found before hours of mining, not after
    svms = [HardNegativeSVM(own, retrain_after) for own in positives]
    unsettled = list(range(len(svms)))
    for _ in range(PASSES):
        added = dict.fromkeys(unsettled, 0)
        first = 0  # the name of an image's first region
        for features, negative in images:
            features, negative = np.asarray(features), np.asarray(negative)
            for c in unsettled:
                rows = np.flatnonzero(negative[:, c])
                added[c] += svms[c].mine(features[rows], first + rows)
            first += len(features)
        for c in unsettled:
            svms[c].train()
        unsettled = [c for c in unsettled if added[c] > SETTLED * len(svms[c].negatives)]
        if not unsettled:
            break
    return (
        np.stack([svm.weights for svm in svms], axis=1),
        np.array([svm.bias for svm in svms], np.float32),
    )


def _linear_svc():
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise ImportError(missing_package("scikit-learn", "tensorflow", "Training the SVMs of R-CNN")) from error
    return LinearSVC
