"""SSD: Single Shot MultiBox Detector (Liu et al., ECCV 2016).

Default boxes of several scales and shapes tile feature maps of several resolutions; one 3x3 convolution a map says
for each default box which class it shows and how it must move. With VGG16 this is the paper's network; with any other
backbone it is the edge variant, and with a MobileNet the heads are SSDLite's (Sandler et al., 2018, section 6.2).
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from kzoo import backbones, losses, matching
from kzoo import boxes as box_ops
from kzoo.layers import (
    AnchorGenerator,
    BatchNormalization,
    BoxDecoder,
    Conv2D,
    L2Normalization,
    NonMaxSuppression,
    strides_of,
)
from kzoo.models.base import Detector, checked_size, fine_tuning

VARIANCES = (0.1, 0.1, 0.2, 0.2)  # (code)
NEGATIVES_PER_POSITIVE = 3.0  # section 2.2, hard negative mining


@keras.saving.register_keras_serializable("kzoo")
class SSD(Detector):
    """SSD on any backbone and any image size.

    Args:
        num_classes: without background.
        image_size: (height, width), or one number for a square.
        backbone: a name of `kzoo.backbones.names()` or a Keras model that returns {"C3": ..., "C4": ..., "C5": ...}.
        width: channel multiplier of backbone and extra layers.
        weights: of the backbone: None, "imagenet" or a path.
        levels: how many feature maps; None for as many as the image needs.
        first_level: stride 2^first_level of the finest map.
        scales: sizes of the default boxes as fractions of the shorter side, one a level and one more for the last extra
            square; None for the paper's with VGG16, and for four strides of each map otherwise (32 pixels on the
            first), so that small objects find a default box at any image size.
        aspect_ratios: per level, besides 1 (which every level has, in two sizes); None for the paper's.
        frozen_stages, frozen_batch_norm: see `kzoo.backbones.create`; None for the usual way to fine-tune: with
            pretrained `weights`, the edge variant keeps C1, C2 and every batch norm, anything else trains whole.
        score_threshold, iou_threshold, max_detections: of the final NMS; 0.01, 0.45 and 200 in the paper (section 3.1).
        class_names: what the labels mean; carried into every exported file.

    Outputs:
        {"classes": (B, A, num_classes + 1) logits with background first, "boxes": (B, A, 4) deltas}, float32.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = 300,
        backbone: str | keras.Model = "vgg16",
        width: float = 1.0,
        weights: str | None = None,
        levels: int | None = None,
        first_level: int = 3,
        scales: Sequence[float] | None = None,
        aspect_ratios: Sequence[Sequence[float]] | None = None,
        frozen_stages: int | None = None,
        frozen_batch_norm: bool | None = None,
        score_threshold: float = 0.01,
        iou_threshold: float = 0.45,
        max_detections: int = 200,
        class_names: Sequence[str] | None = None,
        name: str = "ssd",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes)
        paper = backbone == "vgg16"
        levels = levels or _count_levels(image_size, first_level, paper)
        most = max(1, math.ceil(math.log2(max(image_size) / 2**first_level)) + 1)  # the last is one cell
        if levels not in range(1, most + 1):
            raise ValueError(f"levels must be 1 to {most} for images of {image_size} pixels. Received: {levels}.")
        fine_tuned = weights is not None and not paper
        frozen_stages, frozen_batch_norm = fine_tuning(fine_tuned, frozen_stages, frozen_batch_norm)

        # === Layers
        last_stage = 4 if paper else first_level + levels - 1
        trunk = backbones.create(backbone, image_size, width, weights, frozen_stages, frozen_batch_norm, last_stage)
        lite = trunk.name.startswith("mobilenet")

        # === Functional model
        images = keras.Input((*image_size, 3), name="images")
        pyramid = trunk(images)
        if paper:
            features, halved = _vgg_features(pyramid, levels, width)
        else:
            features, halved = _edge_features(pyramid, levels, first_level, width, lite), levels
        scales, aspect_ratios = _default_shapes(
            scales,
            aspect_ratios,
            levels,
            _paper_scales(levels) if paper else _edge_scales(image_size, first_level, levels),
        )
        strides = strides_of(features, image_size, first_level, halved)
        generator = _default_boxes(image_size, strides, scales, aspect_ratios)
        outputs = _heads(features, generator.anchors_per_cell, num_classes, lite)
        super().__init__(images, outputs, name=name, **kwargs)

        # === Targets and decoder
        self.anchors = generator.anchors([tuple(f.shape[1:3]) for f in features])
        self.box_decoder = BoxDecoder(VARIANCES, name="postprocess_decode")
        self.nms = NonMaxSuppression(iou_threshold, score_threshold, max_detections, name="postprocess_nms")
        self._finish(image_size, num_classes, class_names)

        # === Config
        self._arguments = {
            "image_size": image_size,
            "width": width,
            "levels": levels,
            "first_level": first_level,
            "scales": scales,
            "aspect_ratios": aspect_ratios,
            "frozen_stages": frozen_stages,
            "frozen_batch_norm": frozen_batch_norm,
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
        }
        self._backbone = backbone
        if paper and str(weights) == "imagenet":
            _take_over_fully_connected(self, keras.applications.VGG16(weights="imagenet"))

    def raw_losses(self, targets: Mapping, raw: Mapping) -> dict:
        """1/N (Lconf + alpha Lloc), alpha 1, N the matched default boxes of the batch (section 2.2, equation 1)."""
        matched = matching.match(self.anchors, targets["boxes"], targets["labels"], positive=0.5, claim="one_to_one")
        positive = matched >= 0
        boxes = matching.gather_matched(ops.cast(targets["boxes"], "float32"), matched, self.anchors[None])
        classes = matching.gather_matched(ops.cast(targets["labels"], "int32") + 1, matched, 0)  # 0 is background

        confidence = losses.softmax_cross_entropy(classes, raw["classes"])
        hard = losses.hard_negatives(confidence, positive, matched == matching.NEGATIVE, NEGATIVES_PER_POSITIVE)
        offsets = self.box_decoder.encode(boxes, self.anchors[None])
        localization = ops.sum(losses.smooth_l1(offsets, raw["boxes"]), axis=-1)

        count = ops.maximum(ops.sum(ops.cast(positive, "float32")), 1.0)  # no match at all: the loss is 0
        return {
            "class_loss": ops.sum(ops.where(positive | hard, confidence, 0.0)) / count,
            "box_loss": ops.sum(ops.where(positive, localization, 0.0)) / count,
        }

    def decode(self, raw: Mapping) -> dict:
        """Softmax, decoded boxes clipped to the image, per-class NMS (section 3.1)."""
        scores = layers.Softmax(dtype="float32", name="postprocess_softmax")(raw["classes"])[..., 1:]
        boxes = box_ops.clip(self.box_decoder(raw["boxes"], self.anchors), self.image_size)
        return self.nms(boxes, scores)


def SSD300(num_classes: int, **kwargs) -> SSD:
    """SSD300 (section 3.1): 300 x 300 pixels, with VGG16 six maps of 38, 19, 10, 5, 3, 1 and 8732 default boxes."""
    return SSD(num_classes, **{"image_size": 300, "name": "ssd300", **kwargs})


def SSD512(num_classes: int, **kwargs) -> SSD:
    """SSD512 (section 3.2): 512 x 512 pixels, with VGG16 seven maps and 24564 default boxes."""
    return SSD(num_classes, **{"image_size": 512, "name": "ssd512", **kwargs})


def _count_levels(image_size, first_level: int, paper: bool) -> int:
    if paper:  # down to about one cell; section 3 has six maps, section 3.2 one more for 512 pixels
        halvings = math.ceil(math.log2(max(image_size) / 2**first_level))
        return max(1, min(halvings + 1, 6 if max(image_size) < 512 else 7))
    # As long as a default box of four strides fits into the image.
    return max(1, math.floor(math.log2(max(min(image_size), 1) / 4)) - first_level + 1)


def _paper_scales(levels: int) -> list[float]:
    """s_k from s_min to s_max = 0.9 (equation 4); conv4_3 has a scale of its own, SSD512 smaller ones (section 3.2)."""
    first, s_min = (0.07, 0.15) if levels == 7 else (0.1, 0.2)
    scales = [first, *np.linspace(s_min, 0.9, max(levels - 1, 1))][:levels]
    return [*scales, 2 * scales[-1] - scales[-2] if levels > 2 else 0.9]


def _edge_scales(image_size, first_level: int, levels: int) -> list[float]:
    return [4 * 2 ** (first_level + level) / min(image_size) for level in range(levels + 1)]


def _conv(filters: int, kernel: int = 3, strides: int = 1, padding: str = "same", name: str = "", **kwargs):
    return Conv2D(filters, kernel, strides, padding, activation="relu", name=name, **kwargs)


def _vgg_features(pyramid, levels: int, width: float) -> tuple[list, int]:
    """conv4_3 (normalised), fc7 and the extra layers of figure 2; figure 2's channels times `width`.

    Also, how many of the maps were made by halving: those after them were not.
    """

    def scaled(filters):
        return max(4, round(filters * width))

    conv4_3 = L2Normalization(20.0, name="conv4_3_norm")(pyramid["C3"])
    # pool5 is 3x3 with stride 1, and fc6 dilated, so that fc6 and fc7 see what they saw in VGG16 at half its stride.
    x = layers.MaxPooling2D(3, strides=1, padding="same", name="pool5")(pyramid["C4"])
    x = _conv(scaled(1024), dilation_rate=6, name="fc6")(x)
    x = _conv(scaled(1024), 1, name="fc7")(x)
    features, halved = [conv4_3, x][:levels], 2
    for level in range(2, levels):
        size = min(x.shape[1:3])
        squeeze, expand = (256, 512) if level == 2 else (128, 256)
        x = _conv(scaled(squeeze), 1, name=f"conv{level + 6}_1")(x)
        ssd512, last = levels == 7, level == levels - 1
        if not last if ssd512 else size > 5:  # padded by one on every side (code)
            x = layers.ZeroPadding2D(1, name=f"conv{level + 6}_pad")(x)
            x = _conv(scaled(expand), 3, 2, "valid", name=f"conv{level + 6}_2")(x)
            halved = level + 1
        elif ssd512:  # its last map: 2 -> 1 with a 4x4 kernel and padding 1 (code)
            x = layers.ZeroPadding2D(1, name=f"conv{level + 6}_pad")(x)
            x = _conv(scaled(expand), 4, 1, "valid", name=f"conv{level + 6}_2")(x)
        else:  # SSD300's last two maps: 5 -> 3 -> 1 without padding
            x = _conv(scaled(expand), 3, 1, "valid" if size >= 3 else "same", name=f"conv{level + 6}_2")(x)
        features.append(x)
    return features, halved


def _take_over_fully_connected(model: keras.Model, vgg16: keras.Model) -> None:
    """Starts fc6 and fc7 from VGG16's (section 3): every third row and column of the 7x7, every fourth channel."""
    kernel, bias = vgg16.get_layer("fc1").get_weights()
    model.get_layer("fc6").set_weights([kernel.reshape(7, 7, 512, 4096)[::3, ::3, :, ::4], bias[::4]])
    kernel, bias = vgg16.get_layer("fc2").get_weights()
    model.get_layer("fc7").set_weights([kernel[None, None, ::4, ::4], bias[::4]])


def _edge_features(pyramid, levels: int, first_level: int, width: float, lite: bool) -> list:
    """The backbone's maps from C`first_level` on, then extra maps, each half the size of the one before."""
    features = [x for key, x in pyramid.items() if int(key[1:]) >= first_level][:levels]
    if not features:
        raise ValueError(f"first_level={first_level}, but the backbone has only {', '.join(pyramid)}.")
    x = features[-1]
    for level in range(len(features), levels):
        filters = (
            max(16, round((512 if level == len(features) else 256) * width)) if lite else max(16, round(256 * width))
        )
        x = _extra(x, filters, lite, f"extra{level + 1}")
        features.append(x)
    return features


def _extra(x, filters: int, lite: bool, name: str):
    """1x1 to half the channels, 3x3 with stride 2 (depthwise in SSDLite), batch norm after each convolution."""

    def norm(x, part):
        x = BatchNormalization(momentum=0.9, name=f"{name}_{part}_bn")(x)
        return layers.ReLU(max_value=6.0 if lite else None, name=f"{name}_{part}_relu")(x)

    x = norm(layers.Conv2D(filters // 2, 1, use_bias=False, name=f"{name}_squeeze")(x), "squeeze")
    if lite:
        x = layers.DepthwiseConv2D(3, 2, "same", use_bias=False, name=f"{name}_depthwise")(x)
        x = norm(x, "depthwise")
        return norm(layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_expand")(x), "expand")
    return norm(layers.Conv2D(filters, 3, 2, "same", use_bias=False, name=f"{name}_expand")(x), "expand")


def _heads(features: list, anchors_per_cell: list[int], num_classes: int, lite: bool) -> dict:
    """(c + 4) k filters of 3x3 on each map, flattened to one row a default box."""
    classes, boxes = [], []
    for level, (x, k) in enumerate(zip(features, anchors_per_cell, strict=True), start=1):
        for rows, outputs, part in ((classes, num_classes + 1, "classes"), (boxes, 4, "boxes")):
            y = _predictor(x, k * outputs, lite, f"level{level}_{part}")
            rows.append(layers.Reshape((-1, outputs), name=f"level{level}_{part}_rows")(y))
    # The heads leave mixed precision here: loss and decoding are float32.
    join = {"classes": classes, "boxes": boxes}
    return {key: layers.Concatenate(axis=1, dtype="float32", name=key)(rows) for key, rows in join.items()}


def _predictor(x, filters: int, lite: bool, name: str):
    if lite:
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
        x = BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        x = layers.ReLU(max_value=6.0, name=f"{name}_relu")(x)
    return Conv2D(filters, 1 if lite else 3, padding="same", name=name)(x)


def _default_shapes(scales, aspect_ratios, levels: int, default_scales: list[float]):
    """Scales s_k and the aspect ratios besides 1, per level (section 2.2, "Choosing scales and aspect ratios")."""
    scales = default_scales if scales is None else scales
    if aspect_ratios is None:
        few, many = (2.0, 0.5), (2.0, 0.5, 3.0, 1 / 3)
        # Four boxes a cell on the first map and the last two, six between (section 3.1).
        aspect_ratios = [
            few if level in (0, levels - 2, levels - 1) and levels > 2 else many for level in range(levels)
        ]
    if len(scales) != levels + 1 or len(aspect_ratios) != levels:
        raise ValueError(
            f"With {levels} levels, scales needs {levels + 1} numbers and aspect_ratios {levels} lists. "
            f"Received: {len(scales)} and {len(aspect_ratios)}."
        )
    return [float(s) for s in scales], [[float(r) for r in ratios] for ratios in aspect_ratios]


def _default_boxes(image_size, strides, scales, aspect_ratios) -> AnchorGenerator:
    side = min(image_size)
    return AnchorGenerator(
        sizes=[[s * side] for s in scales[:-1]],
        aspect_ratios=[[1.0, *ratios] for ratios in aspect_ratios],
        strides=strides,
        extra_squares=[[math.sqrt(a * b) * side] for a, b in itertools.pairwise(scales)],
    )
