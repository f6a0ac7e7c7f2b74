"""Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks (Ren et al., NIPS 2015).

A small network slides over the backbone's features and says for nine anchors a cell whether each shows an object, and
how it must move (the region proposal network, RPN). The best of these regions are pooled from the same features, and
fully connected layers say what each shows (Fast R-CNN). Both stages train jointly, four losses in one step. With VGG16
this is the paper's network; with any other backbone the regions come from a feature pyramid (Lin et al., CVPR 2017) and
are pooled by RoIAlign (He et al., ICCV 2017).

Beside the papers: an image has one fixed size; objectness is one sigmoid an anchor, not a softmax of two (footnote 1
allows it); the box losses are divided by the anchors or regions drawn, and RPN's weight is 1 (code); proposals thinner
than a pixel are dropped, not thinner than 16; the paper's anchors shrink with an image smaller than 600 pixels; there
are no box deltas for background; the pyramid draws 128 regions an image, not 512.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from kzoo import backbones, losses, matching
from kzoo import boxes as box_ops
from kzoo.layers import (
    AnchorGenerator,
    BoxDecoder,
    Conv2D,
    NonMaxSuppression,
    PyramidRoIAlign,
    RegionProposals,
    RoIPooling,
    feature_pyramid,
    strides_of,
)
from kzoo.models import region_head
from kzoo.models.base import Detector, checked_size, fine_tuning

POOL_SIZE = 7
RPN_DRAWN, RPN_POSITIVE = 256, 0.5  # section 3.1.3: 256 anchors an image, at most half of them positive
RPN_BETA = 1 / 9  # smooth L1 with sigma 3 (code)


@keras.saving.register_keras_serializable("kzoo")
class FasterRCNN(Detector):
    """Faster R-CNN on any backbone and any image size.

    Args:
        num_classes: without background.
        image_size: (height, width), or one number for a square; 600 is the paper's shorter side.
        backbone: a name of `kzoo.backbones.names()` or a Keras model that returns {"C2": ..., "C5": ...}. "vgg16" is
            the paper's network, one map of stride 16; anything else gets a feature pyramid.
        width: channel multiplier of backbone, RPN and fully connected layers.
        weights: of the backbone: None, "imagenet" (which gives the paper's network fc6 and fc7 as well) or a path.
        channels: of the pyramid; None for 256 `width`, and for half of it on a MobileNet.
        first_level: of the pyramid; 2 in the paper. The RPN also looks at one level beyond C5.
        units: of each of the two fully connected layers; None for 4096 `width` in the paper's network, 1024 else.
        anchor_sizes: in pixels; of the paper's network several for its one map, None for 128, 256, 512 at 600 pixels or
            more; of a pyramid one a level, None for eight strides (32 and up).
        aspect_ratios: width / height.
        train_proposals, test_proposals: how many anchors (of each level) reach the NMS, and how many regions come out;
            None for (12000, 2000) and (6000, 300) (code), of a pyramid (2000, 1000) and (1000, 300).
        regions_per_image: how many regions a training step draws from each image.
        dropout: after fc6 and fc7; None for 0.5 in the paper's network (code), 0 else.
        frozen_stages, frozen_batch_norm: see `kzoo.backbones.create`; None for the usual way to fine-tune: with
            pretrained `weights` C1, C2 and every batch norm stay, of VGG16 the convolutions before conv3_1.
        score_threshold, iou_threshold, max_detections: of the final NMS.
        class_names: what the labels mean; carried into every exported file.

    Outputs:
        {"objectness": (B, A) logits, "deltas": (B, A, 4), and the feature maps that regions are pooled from: "C4", or
        "P2" to "P5"}, float32. The second stage works on these, in the loss and in the decoder.
    """

    loss_names = ("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss")

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = 600,
        backbone: str | keras.Model = "vgg16",
        width: float = 1.0,
        weights: str | None = None,
        channels: int | None = None,
        first_level: int = 2,
        units: int | None = None,
        anchor_sizes: Sequence[float] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        train_proposals: tuple[int, int] | None = None,
        test_proposals: tuple[int, int] | None = None,
        regions_per_image: int = 128,
        dropout: float | None = None,
        frozen_stages: int | None = None,
        frozen_batch_norm: bool | None = None,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.3,
        max_detections: int = 100,
        class_names: Sequence[str] | None = None,
        name: str = "faster_rcnn",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes)
        paper = backbone == "vgg16"
        usual = 1 if paper else 2  # VGG16's C1 is conv2_2
        frozen_stages, frozen_batch_norm = fine_tuning(weights is not None, frozen_stages, frozen_batch_norm, usual)
        units = units or (max(16, round(4096 * width)) if paper else max(16, round(1024 * width)))
        dropout = (0.5 if paper else 0.0) if dropout is None else dropout
        train_proposals = tuple(train_proposals or ((12000, 2000) if paper else (2000, 1000)))
        test_proposals = tuple(test_proposals or ((6000, 300) if paper else (1000, 300)))

        # === Layers
        trunk = backbones.create(
            backbone, image_size, width, weights, frozen_stages, frozen_batch_norm, 4 if paper else 5
        )
        channels = channels or max(16, round((128 if trunk.name.startswith("mobilenet") else 256) * width))

        # === Functional model
        images = keras.Input((*image_size, 3), name="images")
        maps = trunk(images)
        if paper:
            first_level, features = 4, {"C4": maps["C4"]}
            levels = features
        else:
            levels = _pyramid(maps, first_level, channels)
            features = {key: x for key, x in levels.items() if int(key[1:]) <= 5}
        sizes = _anchor_sizes(anchor_sizes, image_size, first_level, len(levels), paper)
        generator = AnchorGenerator(
            sizes, list(aspect_ratios), strides_of(list(levels.values()), image_size, first_level)
        )
        outputs = _proposal_network(
            levels, generator.anchors_per_cell[0], max(16, round(512 * width)) if paper else channels
        )
        # Raw heads leave mixed precision; the second stage goes back to it.
        outputs |= {key: layers.Identity(dtype="float32", name=f"{key}_float32")(x) for key, x in features.items()}
        super().__init__(images, outputs, name=name, **kwargs)

        # === Second stage
        self.pooled_levels = list(features)
        # Named so that a quantizer leaves the regions alone.
        self.pooling = (
            RoIPooling(POOL_SIZE, clip_rois=True, name="postprocess_roi_pooling")
            if paper
            else PyramidRoIAlign([int(key[1:]) for key in features], POOL_SIZE, name="postprocess_roi_align")
        )
        self.head = region_head.RegionHead(num_classes, units, dropout, name="head")
        self.head.build(region_head.pooled_shape(POOL_SIZE, list(features.values())))

        # === Targets and decoder
        grids = [tuple(x.shape[1:3]) for x in levels.values()]
        self.anchors = generator.anchors(grids)
        self.trained = _inside(self.anchors, image_size) if paper else np.arange(len(self.anchors))
        counts = [rows * columns * generator.anchors_per_cell[0] for rows, columns in grids]

        def proposals(candidates, count, name):
            count = min(count, len(self.anchors))
            return RegionProposals(image_size, counts, candidates, count, name=name)

        self.train_proposals = proposals(*train_proposals, "train_proposals")
        self.test_proposals = proposals(*test_proposals, "postprocess_proposals")
        self.seed = keras.random.SeedGenerator()
        self.box_decoder = BoxDecoder(region_head.VARIANCES, name="postprocess_decode")
        self.nms = NonMaxSuppression(iou_threshold, score_threshold, max_detections, name="postprocess_nms")
        self._finish(image_size, num_classes, class_names)

        # === Config
        self._arguments = {
            "image_size": image_size,
            "width": width,
            "channels": channels,
            "first_level": first_level,
            "units": units,
            "anchor_sizes": sizes[0] if paper else [size for (size,) in sizes],
            "aspect_ratios": [float(ratio) for ratio in aspect_ratios],
            "train_proposals": train_proposals,
            "test_proposals": test_proposals,
            "regions_per_image": regions_per_image,
            "dropout": dropout,
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
        # The second stage runs in the loss, and its dropout has to know.
        return super().compute_loss(x, y, {**y_pred, "training": training}, sample_weight, training)

    def raw_losses(self, targets: Mapping, raw: Mapping) -> dict:
        """The four losses: of the RPN, and of the second stage on regions drawn from its proposals."""
        boxes = ops.where((targets["labels"] >= 0)[..., None], ops.cast(targets["boxes"], "float32"), 0.0)
        regions = self.train_proposals(raw["objectness"], raw["deltas"], self.anchors)
        # The ground truth is proposed too (code): early on the RPN finds nothing.
        regions = ops.stop_gradient(ops.concatenate([regions, box_ops.clip(boxes, self.image_size)], axis=1))
        count = self._arguments["regions_per_image"]
        regions, drawn = region_head.draw_regions(regions, targets, count, self.seed)
        found = self.head(self._pool(raw, regions), training=raw.get("training", False))
        return {
            **self._proposal_losses(targets, raw),
            **region_head.region_losses(found, regions, drawn, targets, self.box_decoder),
        }

    def decode(self, raw: Mapping) -> dict:
        """Proposals, the second stage, per-class NMS."""
        regions = self.test_proposals(raw["objectness"], raw["deltas"], self.anchors)
        found = self.head(self._pool(raw, regions))
        return region_head.region_detections(found, regions, self.box_decoder, self.nms, self.image_size)

    def propose(self, images: np.ndarray, count: int = 100) -> dict[str, np.ndarray]:
        """What the first stage says of images (B, H, W, 3), for pictures and to measure its recall.

        Returns:
            {"anchors": (B, count, 4) of the highest objectness, before they move, "anchor_scores": (B, count) in 0..1,
            "proposals": (B, P, 4)}, xyxy pixels of the given images, best first; proposals padded with zeros.
        """
        shown, scale = self._fitted(images)
        raw = self(shown.astype("float32"), training=False)
        scores, index = ops.top_k(ops.sigmoid(raw["objectness"]), min(count, len(self.anchors)))
        regions = self.test_proposals(raw["objectness"], raw["deltas"], self.anchors)
        return {
            "anchors": self.anchors[ops.convert_to_numpy(index)] * scale,
            "anchor_scores": ops.convert_to_numpy(scores),
            "proposals": ops.convert_to_numpy(regions) * scale,
        }

    def _proposal_losses(self, targets, raw) -> dict:
        """1/N (sum Lcls + sum p* Lreg) over the N anchors drawn (section 3.1.2, equation 1, normalised as the code)."""
        anchors = ops.convert_to_tensor(self.anchors[self.trained])
        trained = ops.convert_to_tensor(self.trained, "int32")
        matched = matching.match(anchors, targets["boxes"], targets["labels"], 0.7, 0.3, claim="best")
        index, drawn = matching.sample(matched, RPN_DRAWN, RPN_POSITIVE, self.seed)
        positive, counts = drawn >= 0, drawn != matching.IGNORED
        anchors, place = ops.take(anchors, index, axis=0), ops.take(trained, index)
        logits = ops.take_along_axis(raw["objectness"], place, axis=1)
        deltas = ops.take_along_axis(raw["deltas"], place[..., None], axis=1)
        objectness = ops.softplus(logits) - ops.where(positive, logits, 0.0)  # binary cross-entropy
        boxes = matching.gather_matched(ops.cast(targets["boxes"], "float32"), drawn, anchors)
        localization = ops.sum(losses.smooth_l1(box_ops.encode(boxes, anchors), deltas, RPN_BETA), axis=-1)
        count = ops.maximum(ops.sum(ops.cast(counts, "float32")), 1.0)
        return {
            "rpn_class_loss": ops.sum(ops.where(counts, objectness, 0.0)) / count,
            "rpn_box_loss": ops.sum(ops.where(positive, localization, 0.0)) / count,
        }

    def _pool(self, raw, regions):
        """(B, R, 7, 7, C) of regions (B, R, 4)."""
        maps = [raw[key] for key in self.pooled_levels]
        if isinstance(self.pooling, PyramidRoIAlign):
            return self.pooling(maps, regions)
        return self.pooling(maps[0], regions, stride=16)


def _pyramid(maps: dict, first_level: int, channels: int) -> dict:
    used = {key: x for key, x in maps.items() if int(key[1:]) >= first_level}
    if f"C{first_level}" not in used:
        raise ValueError(f"first_level={first_level}, but the backbone has only {', '.join(maps)}.")
    return feature_pyramid(used, channels, int(list(used)[-1][1:]) + 1, "pool")


def _anchor_sizes(sizes, image_size, first_level: int, levels: int, paper: bool) -> list[list[float]]:
    """Per level, the sizes of its anchors."""
    if paper:
        scale = min(1.0, min(image_size) / 600)
        return [[float(size) for size in sizes or (128 * scale, 256 * scale, 512 * scale)]]
    sizes = sizes or [8.0 * 2**level for level in range(first_level, first_level + levels)]
    if len(sizes) != levels:
        raise ValueError(f"A pyramid of {levels} levels needs as many anchor_sizes. Received: {list(sizes)}.")
    return [[float(size)] for size in sizes]


def _inside(anchors: np.ndarray, image_size) -> np.ndarray:
    """Indices of the anchors that do not cross the image's border (section 3.3); of all where each does."""
    height, width = image_size
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)
    return np.flatnonzero(inside) if inside.any() else np.arange(len(anchors))


def _proposal_network(levels: dict, per_cell: int, channels: int) -> dict:
    """3x3 convolution, then 1x1 for objectness and deltas (section 3.1), the same weights on each level."""

    def conv(filters, kernel, name, **kwargs):
        start = keras.initializers.RandomNormal(stddev=0.01)  # section 3.1.3
        return Conv2D(filters, kernel, padding="same", kernel_initializer=start, name=name, **kwargs)

    window = conv(channels, 3, "rpn_conv", activation="relu")
    heads = {
        "objectness": (conv(per_cell, 1, "rpn_objectness"), ()),
        "deltas": (conv(4 * per_cell, 1, "rpn_deltas"), (4,)),
    }
    rows = {key: [] for key in heads}
    for key, x in levels.items():
        x = window(x)
        for part, (head, shape) in heads.items():
            rows[part].append(layers.Reshape((-1, *shape), name=f"{key}_{part}_rows")(head(x)))
    return {part: layers.Concatenate(axis=1, dtype="float32", name=part)(parts) for part, parts in rows.items()}
