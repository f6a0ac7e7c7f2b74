"""Fast R-CNN (Girshick, ICCV 2015): proposals from elsewhere, one feature map, one network for classes and boxes.

The proposals of an image (selective search in the paper) are pooled from its feature map, and fully connected layers
say what each shows and how its box must move; all of it trains in one step with one loss.

Beside the paper: an image has one fixed size; a region is positive above IoU 0.5, not from it on; there are no box
deltas for background; with another backbone than VGG16 its map of stride 16 takes the place of conv5_3. The ground
truth counts as proposals in training (code).
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from kzoo import backbones
from kzoo import boxes as box_ops
from kzoo.layers import BoxDecoder, NonMaxSuppression, RoIPooling
from kzoo.models import region_head
from kzoo.models.base import Detector, checked_size, fine_tuning
from kzoo.models.running import resolve_jit_compile, run
from kzoo.proposals import search_batch
from kzoo.types import Tensor

POOL_SIZE = 7
STRIDE = 16
FEW_COUNTS = 256  # `detect` pads proposals to a multiple of this
LOWEST = 0.1  # section 2.3: background overlaps an object by [0.1, 0.5), which mines somewhat hard negatives


@keras.saving.register_keras_serializable("kzoo")
class FastRCNN(Detector):
    """Fast R-CNN on any backbone and any image size; proposals come with the images.

    `fit` and `evaluate` want targets {"boxes", "labels", "proposals"}, `detect` wants images and proposals: (B, P, 4)
    xyxy pixels, padded with zeros.

    Args:
        num_classes: without background.
        image_size: (height, width), or one number for a square; 600 is the paper's shorter side.
        backbone: a name of `kzoo.backbones.names()` or a Keras model that returns {"C4": ...}.
        width: channel multiplier of backbone and fully connected layers.
        weights: of the backbone: None, "imagenet" (which gives VGG16's fc6 and fc7 as well) or a path.
        units: of each of the two fully connected layers; None for 4096 `width` with VGG16, 1024 else.
        regions_per_image: how many regions a training step draws from each image; 64 in the paper.
        dropout: after fc6 and fc7; None for 0.5 with VGG16 (code), 0 else.
        max_proposals: of an image in `detect`; 2000 in the paper.
        frozen_stages, frozen_batch_norm: see `kzoo.backbones.create`; None for the usual way to fine-tune: with
            pretrained `weights` C1, C2 and every batch norm stay, of VGG16 all before conv3_1 (section 4.5).
        score_threshold, iou_threshold, max_detections: of the final NMS.
        class_names: what the labels mean.

    Outputs:
        {"C4": (B, h, w, C)} float32, the map that regions are pooled from.
    """

    extra_targets = ("proposals",)

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = 600,
        backbone: str | keras.Model = "vgg16",
        width: float = 1.0,
        weights: str | None = None,
        units: int | None = None,
        regions_per_image: int = 64,
        dropout: float | None = None,
        max_proposals: int = 2000,
        frozen_stages: int | None = None,
        frozen_batch_norm: bool | None = None,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.3,
        max_detections: int = 100,
        class_names: Sequence[str] | None = None,
        name: str = "fast_rcnn",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes)
        paper = backbone == "vgg16"
        usual = 1 if paper else 2  # VGG16's C1 is conv2_2
        frozen_stages, frozen_batch_norm = fine_tuning(weights is not None, frozen_stages, frozen_batch_norm, usual)
        units = units or max(16, round((4096 if paper else 1024) * width))
        dropout = (0.5 if paper else 0.0) if dropout is None else dropout

        # === Functional model
        trunk = backbones.create(backbone, image_size, width, weights, frozen_stages, frozen_batch_norm, 4)
        images = keras.Input((*image_size, 3), name="images")
        features = trunk(images)["C4"]
        outputs = {"C4": layers.Identity(dtype="float32", name="C4_float32")(features)}
        super().__init__(images, outputs, name=name, **kwargs)

        # === Regions
        self.pooling = RoIPooling(POOL_SIZE, clip_rois=True, name="postprocess_roi_pooling")
        self.head = region_head.RegionHead(num_classes, units, dropout, name="head")
        self.head.build(region_head.pooled_shape(POOL_SIZE, [features]))
        self.seed = keras.random.SeedGenerator()
        self.box_decoder = BoxDecoder(region_head.VARIANCES, name="postprocess_decode")
        self.nms = NonMaxSuppression(iou_threshold, score_threshold, max_detections, name="postprocess_nms")
        self.max_proposals = max_proposals
        self._finish(image_size, num_classes, class_names)

        # === Config
        self._arguments = {
            "image_size": image_size,
            "width": width,
            "units": units,
            "regions_per_image": regions_per_image,
            "dropout": dropout,
            "max_proposals": max_proposals,
            "frozen_stages": frozen_stages,
            "frozen_batch_norm": frozen_batch_norm,
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
        }
        self._backbone = backbone
        if paper and str(weights) == "imagenet":
            region_head.take_over_fully_connected(self.head, keras.applications.VGG16(weights="imagenet"))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # The regions go through the network in the loss, and its dropout has to know.
        return super().compute_loss(x, y, {**y_pred, "training": training}, sample_weight, training)

    def raw_losses(self, targets: Mapping, raw: Mapping) -> dict:
        """The multi-task loss over 64 regions an image, a quarter of them positive (section 2.3)."""
        boxes = ops.where((targets["labels"] >= 0)[..., None], ops.cast(targets["boxes"], "float32"), 0.0)
        regions = ops.concatenate([ops.cast(targets["proposals"], "float32"), boxes], axis=1)
        regions = ops.stop_gradient(box_ops.clip(regions, self.image_size))
        count = self._arguments["regions_per_image"]
        regions, drawn = region_head.draw_regions(regions, targets, count, self.seed, lowest=LOWEST)
        found = self.head(self.pooling(raw["C4"], regions, stride=STRIDE), training=raw.get("training", False))
        return region_head.region_losses(found, regions, drawn, targets, self.box_decoder)

    def decode(self, raw: Mapping, proposals: Tensor) -> dict:
        """Classes and boxes of the proposals (B, P, 4), per-class NMS (section 3)."""
        found = self.head(self.pooling(raw["C4"], proposals, stride=STRIDE))
        return region_head.region_detections(found, proposals, self.box_decoder, self.nms, self.image_size)

    def inference_model(self, count: int | None = None) -> keras.Model:
        """The detector as one functional model: "image" (B, H, W, 3) and "proposals" (B, P, 4) -> detections dict.

        Args:
            count: P; None for `max_proposals`.
        """
        image = keras.Input((*self.image_size, 3), dtype="float32", name="image")
        proposals = keras.Input((count or self.max_proposals, 4), dtype="float32", name="proposals")
        found = self.decode(self(image), proposals)
        model = keras.Model({"image": image, "proposals": proposals}, found, name=f"{self.name}_inference")
        model.compile(jit_compile=resolve_jit_compile("auto"))
        return model

    def detect(
        self, images: np.ndarray, proposals: np.ndarray | None = None, batch_size: int = 32
    ) -> dict[str, np.ndarray]:
        """Finds objects among proposals.

        Args:
            images: (B, H, W, 3) RGB 0..255, resized where they have another size than `image_size`.
            proposals: (B, P, 4) xyxy pixels of the given images, best first; boxes without area are padding, and those
                after the first `max_proposals` are left out. None for selective search (extra `proposals`).
            batch_size: how many images go through the network at once.

        Returns:
            as `Detector.detect`.
        """
        if proposals is None:
            proposals = search_batch(np.asarray(images), self.max_proposals)
        images, scale = self._fitted(images)
        proposals = np.asarray(proposals, "float32")
        if proposals.ndim != 3 or len(proposals) != len(images) or proposals.shape[-1] != 4:
            raise ValueError(f"proposals must be ({len(images)}, P, 4), as the images. Received: {proposals.shape}.")
        regions = box_ops.clip(proposals[:, : self.max_proposals] / scale, self.image_size)
        used = np.flatnonzero((box_ops.area(regions) > 0).any(axis=0))
        regions = regions[:, : used[-1] + 1 if len(used) else 0]
        # The regions of the padding cost as much as others: no more of them than to have few graphs.
        count = min(-(-max(regions.shape[1], 1) // FEW_COUNTS) * FEW_COUNTS, self.max_proposals)
        regions = np.pad(regions, ((0, 0), (0, count - regions.shape[1]), (0, 0)))
        starts = range(0, max(len(images), 1), batch_size)
        parts = [self._find(images[i : i + batch_size], regions[i : i + batch_size]) for i in starts]
        found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        found["boxes"] = found["boxes"] * scale
        return found

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """`detect` with selective search, where only images are at hand."""
        return self.detect(images)

    def _find(self, images: np.ndarray, regions: np.ndarray) -> dict[str, np.ndarray]:
        count = regions.shape[1]
        graph = self._graph(count, lambda: self.inference_model(count))
        if len(images) == 0:
            return {key: np.zeros((0, *x.shape[1:]), x.dtype) for key, x in graph.output.items()}
        return run(graph, {"image": images.astype("float32"), "proposals": regions}, len(images))
