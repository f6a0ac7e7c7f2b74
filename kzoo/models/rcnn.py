"""R-CNN (Girshick et al., CVPR 2014): regions with CNN features.

Selective search proposes regions, each is warped to the input of a CNN, a linear SVM a class scores the features, and a
linear regression a class corrects the box. Every region goes through the whole CNN, which takes seconds an image: the
systems that came after it, from SPP-net on, share that work.

It is not one graph and not exported; see `region_svm`. Beside the paper: a step of fine-tuning draws its 128 regions
from the images of one batch; the box regression of a class learns from at most 3000
regions; a score is the sigmoid of the SVM's.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from kzoo import backbones
from kzoo.models import warping
from kzoo.models.base import checked_size, fine_tuning
from kzoo.models.region_svm import RegionSVM, heads


@keras.saving.register_keras_serializable("kzoo")
class RCNN(RegionSVM):
    """R-CNN on any backbone. `fit` wants batches with proposals, `detect` images of any size.

    Args:
        num_classes: without background.
        image_size: (height, width) at which `kzoo evaluate` loads images, whose regions are cut out;
            the network sees crops.
        crop_size: side of the crops in pixels; 227 with AlexNet, 224 with VGG16 and others.
        backbone: a name of `kzoo.backbones.names()` or a Keras model that returns {"C5": ...}.
        width: channel multiplier of backbone and fully connected layers.
        weights: of the backbone: None, "imagenet" (which gives VGG16's fc6 and fc7 as well) or a path.
        units: of fc6 and fc7; None for 4096 `width` with AlexNet and VGG16, 1024 else.
        context: pixels of the crop around the region; None for the paper's 16 of 227, in proportion.
        dropout: after fc6 and fc7; None for 0.5 with AlexNet and VGG16, 0 else.
        max_proposals: of an image in `detect`.
        frozen_stages, frozen_batch_norm: see `kzoo.backbones.create`; None for the usual way to fine-tune.
        score_threshold: of a sigmoid; 0.25 is an SVM's score of -1.1. iou_threshold, max_detections: of the final NMS.
        class_names: what the labels mean.

    Outputs:
        of crops (R, crop_size, crop_size, 3): see `region_svm.heads`.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = (375, 500),
        crop_size: int | None = None,
        backbone: str | keras.Model = "alexnet",
        width: float = 1.0,
        weights: str | None = None,
        units: int | None = None,
        context: int | None = None,
        dropout: float | None = None,
        max_proposals: int = 2000,
        frozen_stages: int | None = None,
        frozen_batch_norm: bool | None = None,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.3,
        max_detections: int = 100,
        class_names: Sequence[str] | None = None,
        name: str = "rcnn",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes)
        paper = backbone in ("alexnet", "vgg16")
        crop_size = crop_size or (227 if backbone == "alexnet" else 224)
        context = warping.context_of(crop_size) if context is None else context
        if not 0 <= 2 * context < crop_size:
            raise ValueError(f"context must leave something of the crop of {crop_size}. Received: {context}.")
        frozen_stages, frozen_batch_norm = fine_tuning(weights is not None, frozen_stages, frozen_batch_norm)
        units = units or max(16, round((4096 if paper else 1024) * width))
        dropout = (0.5 if paper else 0.0) if dropout is None else dropout

        # === Functional model
        crops = keras.Input((crop_size, crop_size, 3), name="crops")
        size = (crop_size, crop_size)
        trunk = backbones.create(backbone, size, width, weights, frozen_stages, frozen_batch_norm)
        pooled = layers.Flatten(name="pooled")(trunk(crops)["C5"])
        super().__init__(crops, heads(pooled, units, dropout, num_classes), name=name, **kwargs)

        # === Config
        arguments = {
            "image_size": image_size,
            "crop_size": crop_size,
            "width": width,
            "units": units,
            "context": context,
            "dropout": dropout,
            "max_proposals": max_proposals,
            "frozen_stages": frozen_stages,
            "frozen_batch_norm": frozen_batch_norm,
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
        }
        self._backbone = backbone
        self._finish_regions(image_size, num_classes, class_names, arguments)
        if backbone == "vgg16" and str(weights) == "imagenet":
            vgg16 = keras.applications.VGG16(weights="imagenet")
            for own, published in (("fc6", "fc1"), ("fc7", "fc2")):
                self.get_layer(own).set_weights(vgg16.get_layer(published).get_weights())

    def inputs_of(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The regions (P, 4) warped to crops (P, S, S, 3) with their context (section 2.1)."""
        crops = warping.warp(image, boxes, self._arguments["crop_size"], self._arguments["context"])
        return crops.astype("float32")
