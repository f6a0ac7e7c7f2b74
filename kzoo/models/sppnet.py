"""SPP-net (He et al., ECCV 2014): R-CNN with one feature map an image.

The convolutions run once over the image; spatial pyramid pooling makes a vector of one length of each region's window
on the map (moved by where its cells look: appendix A's offset), and from there on all is as in R-CNN. Only the fully
connected layers are fine-tuned.

It is not one graph and not exported; see `region_svm`. Beside the paper: as in `rcnn`; and with another backbone than
AlexNet (for the paper's ZF-5) and VGG16 its map of stride 16 takes the place of conv5.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from kzoo import backbones
from kzoo import boxes as box_ops
from kzoo import images as image_ops
from kzoo.layers import SpatialPyramidPooling
from kzoo.models.base import checked_size
from kzoo.models.region_svm import RegionSVM, heads, padded

SCALES = (480, 576, 688, 864, 1200)  # section 4.1: shorter sides
CANONICAL = 224  # a region is looked at in the scale in which its area is nearest to the square of this
STRIDE = 16


@keras.saving.register_keras_serializable("kzoo")
class SPPNet(RegionSVM):
    """SPP-net on any backbone. `fit` wants batches with proposals, `detect` images of any size.

    Args:
        num_classes: without background.
        image_size: (height, width) at which `kzoo evaluate` loads images.
        scales: shorter sides that an image is resized to, its aspect ratio kept; one number is the single-scale system.
        backbone: a name of `kzoo.backbones.names()` or a Keras model that returns {"C4": ...} for any image size.
        width, weights, units, dropout, max_proposals: as of `RCNN`.
        bins: grids of the pyramid.
        score_threshold, iou_threshold, max_detections: as of `RCNN`.
        class_names: what the labels mean.

    Outputs:
        of pooled windows (R, bins x channels): see `region_svm.heads`.
    """

    background_from = 0.1  # section 4.1: negatives overlap an object by [0.1, 0.5)

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = (375, 500),
        scales: Sequence[int] = SCALES,
        backbone: str | keras.Model = "alexnet",
        width: float = 1.0,
        weights: str | None = None,
        units: int | None = None,
        dropout: float | None = None,
        bins: Sequence[int] = (1, 2, 3, 6),
        max_proposals: int = 2000,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.3,
        max_detections: int = 100,
        class_names: Sequence[str] | None = None,
        name: str = "sppnet",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes)
        scales = tuple(int(side) for side in scales)
        if not scales or min(scales) < STRIDE:
            raise ValueError(f"scales must be shorter sides of at least {STRIDE} pixels. Received: {scales}.")
        paper = backbone in ("alexnet", "vgg16")
        units = units or max(16, round((4096 if paper else 1024) * width))
        dropout = (0.5 if paper else 0.0) if dropout is None else dropout

        # === Functional model
        trunk = backbones.create(backbone, (None, None), width, weights, last_stage=4)
        trunk.trainable = False  # section 4.1: only the fully connected layers are fine-tuned
        channels = trunk.output["C4"].shape[-1]
        length = channels * sum(n * n for n in bins)
        pooled = keras.Input((length,), name="pooled")
        super().__init__(pooled, heads(pooled, units, dropout, num_classes), name=name, **kwargs)
        self.trunk = trunk
        self.pooling = SpatialPyramidPooling(bins, name="pyramid_pooling")

        # === Config
        arguments = {
            "image_size": image_size,
            "scales": scales,
            "width": width,
            "units": units,
            "dropout": dropout,
            "bins": tuple(bins),
            "max_proposals": max_proposals,
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
        }
        self._backbone = backbone
        self._finish_regions(image_size, num_classes, class_names, arguments)

    def inputs_of(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The windows (P, 4) pooled from the map of the scale that suits each (section 4.1): (P, bins x channels)."""
        shorter = min(image.shape[:2])
        own = choose_scales(boxes, shorter, self._arguments["scales"])
        pooled = np.zeros((len(boxes), self.input_shape[-1]), "float32")
        for k in np.unique(own):
            scale = self._arguments["scales"][k] / shorter
            size = tuple(max(STRIDE, round(side * scale)) for side in image.shape[:2])
            features = self.trunk.predict_on_batch(image_ops.resize(image, size)[None])["C4"][:1]
            stretch = np.array([size[1] / image.shape[1], size[0] / image.shape[0]] * 2, "float32")
            windows = padded(boxes[own == k] * stretch - backbones.origin(self._backbone))[None]
            windows = self.pooling(ops.convert_to_tensor(features), windows, stride=STRIDE)
            pooled[own == k] = ops.convert_to_numpy(windows)[0, : np.sum(own == k)].reshape(-1, pooled.shape[1])
        return pooled


def choose_scales(boxes: np.ndarray, shorter: int, scales: Sequence[int]) -> np.ndarray:
    """(P,): for each box the index of the scale in which its area is nearest to 224 x 224 (section 4.1)."""
    area = box_ops.area(np.asarray(boxes, np.float64))[:, None] * (np.array(scales) / shorter) ** 2
    return np.abs(area - CANONICAL**2).argmin(axis=1)
