"""What R-CNN and SPP-net share: a network that describes regions, an SVM and a box regression for each class.

Neither is one graph: proposals come from outside, and three trainings follow each other, of which only the first is by
gradient. What all three learn are weights of the network here, so that one .keras file holds the whole detector.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from kzoo import boxes as box_ops
from kzoo import images as image_ops
from kzoo import losses
from kzoo.layers import NonMaxSuppression
from kzoo.models import region_training
from kzoo.models.base import Detector
from kzoo.models.running import resolve_jit_compile, run
from kzoo.proposals import selective_search
from kzoo.types import Tensor

CHUNK = 128  # regions that go through the network at once
FEW_SHAPES = 32  # regions are padded to a multiple of this: XLA compiles anew for every other number of them


class RegionSVM(Detector):
    """A detector of given regions. A subclass builds its graph with `heads`, and defines `inputs_of`.

    `fit` trains all stages, `detect` takes images and proposals; without proposals it searches for them itself.
    """

    loss_names = ("class_loss",)
    background_from = 0.0  # IoU of the background regions that fine-tuning draws, up to 0.5

    def inputs_of(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """What the graph takes for the regions (P, 4), P at least 1, of an image (H, W, 3)."""
        raise NotImplementedError(f"{type(self).__name__} must define inputs_of.")

    def fit(self, data, epochs: int = 8, folder=None, seed: int = 0, verbose: int = 1) -> dict:
        """Trains the three stages: fine-tuning, SVMs, box regression.

        Args:
            data: batches of (images, {"boxes", "labels", "proposals"}) that can be iterated again and again, as of
                `kzoo.data.load(..., proposals="fast")`, or one tuple of such arrays. Load it unaugmented: fine-tuning
                mirrors images itself, and the SVMs look at each image once.
            epochs: passes of the fine-tuning; 0 leaves it out. Each batch of images gives one step of 128 regions.
            folder: where the features of all regions are kept for the SVMs (float32, one row a region); None for a
                temporary folder.
            seed: of the draws.
            verbose: 0 writes nothing.

        Returns:
            {"loss": one an epoch, "seconds": {stage: seconds}, "regions": how many were described}.
        """
        if isinstance(epochs, Mapping):
            raise ValueError(f"{self.name}.fit takes images and targets as one: fit((images, targets), epochs=8).")
        if not self.compiled:
            self.compile()
        return region_training.fit(self, data, epochs, folder, seed, verbose)

    def compile(self, optimizer=None, **kwargs):
        """As in Keras, for the fine-tuning; None is the paper's: SGD with 0.001 (R-CNN, section 2.3), momentum 0.9."""
        super().compile(keras.optimizers.SGD(1e-3, momentum=0.9) if optimizer is None else optimizer, **kwargs)

    def _check_targets(self, images, targets) -> None:
        """Regions are drawn by kzoo itself."""

    def _assert_targets(self, targets) -> None:
        """So are their classes."""

    def raw_losses(self, targets: Tensor, raw: Mapping) -> dict:
        """Cross-entropy of the (N + 1)-way classifier; targets (R,) int: 0 for background, label + 1 else."""
        return {"class_loss": ops.mean(losses.softmax_cross_entropy(targets, raw["classes"]))}

    def describe(self, image: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
        """The features of the regions (P, 4) of an image: "fc7" (P, units) for SVMs, "pooled" (P, D) for boxes."""
        outputs = {name: self.get_layer(name).output for name in ("pooled", "fc7")}
        describer = self._graph("features", lambda: keras.Model(self.inputs, outputs))
        described = self._in_chunks(describer, image, padded(boxes))
        return {key: value[: len(boxes)] for key, value in described.items()}

    def detect(
        self, images: np.ndarray, proposals: np.ndarray | None = None, batch_size: int = 32
    ) -> dict[str, np.ndarray]:
        """Finds objects.

        Args:
            images: (B, H, W, 3) RGB 0..255, searched at the size that they have.
            proposals: (B, P, 4) xyxy pixels, best first, padded without area; those after the first `max_proposals` are
                left out. None for selective search, which needs the extra `proposals`.
            batch_size: of no effect: images are looked at one by one.

        Returns:
            as `Detector.detect`; a score is the sigmoid of the SVM's.
        """
        images = image_ops.as_batch(images)
        if proposals is not None:
            proposals = np.asarray(proposals, "float32")
            if proposals.ndim != 3 or len(proposals) != len(images) or proposals.shape[-1] != 4:
                raise ValueError(
                    f"proposals must be ({len(images)}, P, 4), as the images. Received: {proposals.shape}."
                )
        most = self._arguments["max_proposals"]
        found = []
        for i, image in enumerate(images):
            regions = selective_search(image, max_proposals=most) if proposals is None else proposals[i]
            regions = box_ops.clip(regions, image.shape[:2])
            # The regions of the padding have no area, and boxes without area are never detections.
            found.append(self._detect_one(image, padded(regions[box_ops.area(regions) > 0][:most])))
        k = self.nms.max_detections
        empty = {
            "boxes": np.zeros((0, k, 4), "float32"),
            "labels": np.zeros((0, k), "int32"),
            "scores": np.zeros((0, k), "float32"),
            "num_detections": np.zeros(0, "int32"),
        }
        return {key: np.concatenate([value, *(one[key] for one in found)]) for key, value in empty.items()}

    def _detect_one(self, image: np.ndarray, regions: np.ndarray) -> dict[str, np.ndarray]:
        """Scores all regions, moves their boxes, per-class NMS (R-CNN, section 2.2)."""
        raw = self._in_chunks(self, image, regions)
        boxes = box_ops.decode(raw["boxes"], regions[:, None])
        boxes = box_ops.clip(boxes, image.shape[:2]).reshape(1, -1, 4)
        scores = (1 / (1 + np.exp(-raw["svm"].astype("float64")))).astype("float32").reshape(1, -1)
        labels = np.tile(np.arange(self.num_classes, dtype="int32"), len(regions))[None]
        count = boxes.shape[1]
        return run(self._graph(count, lambda: self._suppression(count)), [boxes, scores, labels], 1)

    def _suppression(self, count: int) -> keras.Model:
        """NMS of so many boxes as a graph: outside of one, JAX compiles its loop at every call."""
        boxes = keras.Input((count, 4), dtype="float32")
        scores, labels = (keras.Input((count,), dtype=dtype) for dtype in ("float32", "int32"))
        graph = keras.Model([boxes, scores, labels], self.nms(boxes, scores, labels, num_classes=self.num_classes))
        graph.compile(jit_compile=resolve_jit_compile("auto"))
        return graph

    def _in_chunks(self, model: keras.Model, image: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
        if len(boxes) == 0:
            return {key: np.zeros((0, *x.shape[1:]), "float32") for key, x in model.output.items()}
        inputs = self.inputs_of(image, boxes)
        chunks = [inputs[i : i + CHUNK] for i in range(0, len(inputs), CHUNK)]
        parts = [run(model, chunk, len(chunk)) for chunk in chunks]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """`detect`, under the name that it has for detectors that are one graph."""
        return self.detect(images)

    def inference_model(self) -> keras.Model:
        raise ValueError(
            f"{type(self).__name__} is not one graph: its proposals come from selective search, so it is not exported. "
            "Save it as .keras, or train fast_rcnn or faster_rcnn for a file to export."
        )

    def _finish_regions(self, image_size, num_classes: int, class_names: Sequence[str] | None, arguments: dict):
        self.nms = NonMaxSuppression(
            arguments["iou_threshold"],
            arguments["score_threshold"],
            arguments["max_detections"],
            name="postprocess_nms",
        )
        self._arguments = arguments
        self._finish(image_size, num_classes, class_names)


def padded(boxes: np.ndarray) -> np.ndarray:
    """Boxes (P, 4) and behind them zeros, to a multiple of `FEW_SHAPES`; none stay none."""
    return np.pad(boxes, ((0, -len(boxes) % FEW_SHAPES), (0, 0)))


def heads(pooled: Tensor, units: int, dropout: float, num_classes: int) -> dict:
    """fc6, fc7 and what is said of a region, from its pooled features (R, D), a layer's output named "pooled".

    Returns:
        "classes" (R, num_classes + 1), logits that fine-tuning trains, background first; "svm" (R, num_classes), scores
        of the SVMs on fc7; "boxes" (R, num_classes, 4), deltas by ridge regression on the pooled features. float32.
    """
    x = layers.Dense(units, activation="relu", name="fc6")(pooled)
    x = layers.Dropout(dropout, name="drop6")(x)
    fc7 = layers.Dense(units, activation="relu", name="fc7")(x)
    x = layers.Dropout(dropout, name="drop7")(fc7)
    gaussian = keras.initializers.RandomNormal(stddev=0.01)
    # SVMs that were not trained yet say -1: nothing is an object.
    svm = layers.Dense(
        num_classes, kernel_initializer="zeros", bias_initializer=_minus_one(), dtype="float32", name="svm"
    )
    boxes = layers.Dense(4 * num_classes, kernel_initializer="zeros", dtype="float32", name="boxes")
    svm.trainable = boxes.trainable = False  # by their own methods, not by gradient
    return {
        "classes": layers.Dense(num_classes + 1, kernel_initializer=gaussian, dtype="float32", name="classes")(x),
        "svm": svm(fc7),
        "boxes": layers.Reshape((num_classes, 4), dtype="float32", name="boxes_by_class")(boxes(pooled)),
    }


def _minus_one() -> keras.initializers.Initializer:
    return keras.initializers.Constant(-1.0)
