"""RetinaNet: Focal Loss for Dense Object Detection (Lin et al., ICCV 2017).

A feature pyramid P3..P7, nine anchors a cell, and two small networks, shared by all levels, that say for each anchor
which classes it shows and how it must move. The loss makes it work: of a hundred thousand anchors nearly all are easy
background, and the focal loss lets them count next to nothing. The losses that the paper sets it against can be chosen
as well. With a MobileNet it is the edge variant: separable convolutions, batch norm, half the channels.

Beside the paper: the box loss is smooth L1 with beta 1/9, its levels' sum divided by the matched anchors (code); N is
the matched anchors of the batch, not of each image. As in the paper, an object that overlaps no anchor by half goes
unlearned (`claim="best"` gives it its best anchor, as Faster R-CNN does).
"""

import math
from collections.abc import Mapping, Sequence

import keras
from keras import layers, ops

from kzoo import backbones, losses, matching
from kzoo import boxes as box_ops
from kzoo.layers import (
    AnchorGenerator,
    BatchNormalization,
    BoxDecoder,
    Conv2D,
    NonMaxSuppression,
    TopCandidates,
    feature_pyramid,
    separable_conv2d,
    strides_of,
)
from kzoo.messages import unknown_name
from kzoo.models.base import Detector, checked_size, fine_tuning

LOSSES = ("focal", "weighted_cross_entropy", "cross_entropy", "hard_negative")
ALPHA = {"focal": 0.25, "weighted_cross_entropy": 0.75}  # the best of table 1a and 1b
PRIOR = 0.01  # pi of section 4.1: what an untrained network says of every anchor and class
BETA = 1 / 9  # smooth L1 (code)
NEGATIVES_PER_POSITIVE = 3.0  # of "hard_negative": SSD, section 2.2, and the paper's OHEM 1:3
TOWER_DEPTH = 4  # section 4, classification subnet


@keras.saving.register_keras_serializable("kzoo")
class RetinaNet(Detector):
    """RetinaNet on any backbone and any image size.

    Args:
        num_classes: without background.
        image_size: (height, width), or one number for a square; the paper's table 1 has 600 for the shorter side.
        backbone: a name of `kzoo.backbones.names()` or a Keras model that returns {"C3": ..., "C4": ..., "C5": ...}.
        width: channel multiplier of backbone, pyramid and heads.
        weights: of the backbone: None, "imagenet" or a path.
        channels: of pyramid and heads; None for 256 `width`, and for half of it on a MobileNet.
        first_level, last_level: the pyramid's levels; 3 and 7 in the paper.
        anchor_scale: the smallest anchors of a level, in strides; 4 gives sizes of 32 to 512 and up.
        scales_per_octave: n sizes a level: 2^0, 2^(1/n), ... times the smallest.
        aspect_ratios: width / height.
        loss: "focal"; "weighted_cross_entropy" (alpha-balanced, equation 3); "cross_entropy"; or "hard_negative": plain
            cross-entropy on the positives and the three hardest negatives of each (SSD's mining).
        alpha: weight of the positives; None for 0.25 of the focal and 0.75 of the weighted loss, the paper's best.
        gamma: of the focal loss.
        claim: what an object without an anchor of IoU > 0.5 gets, see `kzoo.matching.match`; "none" in the paper.
        frozen_stages, frozen_batch_norm: see `kzoo.backbones.create`; None for the usual way to fine-tune: with
            pretrained `weights`, C1, C2 and every batch norm of the backbone stay.
        score_threshold, iou_threshold, max_detections: of the final NMS.
        candidates_per_level: the best pairs (anchor, class) of each level that reach the NMS.
        class_names: what the labels mean; carried into every exported file.

    Outputs:
        {"classes": (B, A, num_classes) logits of sigmoids, "boxes": (B, A, 4) deltas}, float32.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = 600,
        backbone: str | keras.Model = "resnet50",
        width: float = 1.0,
        weights: str | None = None,
        channels: int | None = None,
        first_level: int = 3,
        last_level: int = 7,
        anchor_scale: float = 4.0,
        scales_per_octave: int = 3,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        loss: str = "focal",
        alpha: float | None = None,
        gamma: float = 2.0,
        claim: str = "none",
        frozen_stages: int | None = None,
        frozen_batch_norm: bool | None = None,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        candidates_per_level: int = 1000,
        class_names: Sequence[str] | None = None,
        name: str = "retinanet",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes)
        if loss not in LOSSES:
            raise ValueError(unknown_name("loss of RetinaNet", loss, LOSSES))
        if not first_level <= last_level:
            raise ValueError(f"last_level must be at least first_level. Received: {last_level} and {first_level}.")
        frozen_stages, frozen_batch_norm = fine_tuning(weights is not None, frozen_stages, frozen_batch_norm)

        # === Layers
        trunk = backbones.create(
            backbone, image_size, width, weights, frozen_stages, frozen_batch_norm, min(5, last_level)
        )
        lite = trunk.name.startswith("mobilenet")
        channels = channels or max(16, round((128 if lite else 256) * width))
        conv = separable_conv2d if lite else Conv2D

        # === Functional model
        images = keras.Input((*image_size, 3), name="images")
        maps = {key: x for key, x in trunk(images).items() if int(key[1:]) >= first_level}
        if f"C{first_level}" not in maps:
            raise ValueError(f"first_level={first_level}, but the backbone has only {', '.join(trunk.output)}.")
        pyramid = feature_pyramid(maps, channels, last_level, "conv_c", conv)
        generator = AnchorGenerator(
            sizes=[
                [anchor_scale * 2 ** (level + k / scales_per_octave) for k in range(scales_per_octave)]
                for level in range(first_level, last_level + 1)
            ],
            aspect_ratios=list(aspect_ratios),
            strides=strides_of(list(pyramid.values()), image_size, first_level),
        )
        per_cell = generator.anchors_per_cell[0]
        prior = -math.log((1 - PRIOR) / PRIOR)
        outputs = {
            "classes": _subnet(pyramid, per_cell, num_classes, channels, lite, prior, "classes"),
            "boxes": _subnet(pyramid, per_cell, 4, channels, lite, 0.0, "boxes"),
        }
        super().__init__(images, outputs, name=name, **kwargs)

        # === Targets and decoder
        grids = [tuple(x.shape[1:3]) for x in pyramid.values()]
        self.anchors = generator.anchors(grids)
        self.box_decoder = BoxDecoder(name="postprocess_decode")
        self.candidates = TopCandidates(
            [rows * columns * per_cell for rows, columns in grids], candidates_per_level, name="postprocess_candidates"
        )
        self.nms = NonMaxSuppression(
            iou_threshold,
            score_threshold,
            max_detections,
            max_candidates=candidates_per_level * len(grids),
            name="postprocess_nms",
        )
        self._finish(image_size, num_classes, class_names)

        # === Config
        self._arguments = {
            "image_size": image_size,
            "width": width,
            "channels": channels,
            "first_level": first_level,
            "last_level": last_level,
            "anchor_scale": anchor_scale,
            "scales_per_octave": scales_per_octave,
            "aspect_ratios": [float(ratio) for ratio in aspect_ratios],
            "loss": loss,
            "alpha": alpha,
            "gamma": gamma,
            "claim": claim,
            "frozen_stages": frozen_stages,
            "frozen_batch_norm": frozen_batch_norm,
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
            "candidates_per_level": candidates_per_level,
        }
        self._backbone = backbone

    def raw_losses(self, targets: Mapping, raw: Mapping) -> dict:
        """The loss of all anchors that are not ignored, over the number of matched ones (section 4.1)."""
        matched = matching.match(
            self.anchors,
            targets["boxes"],
            targets["labels"],
            positive=0.5,
            negative=0.4,
            claim=self._arguments["claim"],
        )
        positive = matched >= 0
        boxes = matching.gather_matched(ops.cast(targets["boxes"], "float32"), matched, self.anchors[None])
        labels = matching.gather_matched(ops.cast(targets["labels"], "int32"), matched, -1)
        one_hot = labels[..., None] == ops.arange(self.num_classes)  # all False for background
        deltas = ops.where(positive[..., None], self.box_decoder.encode(boxes, self.anchors[None]), 0.0)
        localization = ops.sum(losses.smooth_l1(deltas, raw["boxes"], BETA), axis=-1)

        count = ops.maximum(ops.sum(ops.cast(positive, "float32")), 1.0)  # no match at all: the background's loss
        return {
            "class_loss": ops.sum(self._classification(one_hot, raw["classes"], matched)) / count,
            "box_loss": ops.sum(ops.where(positive, localization, 0.0)) / count,
        }

    def _classification(self, one_hot, logits, matched):
        """Each anchor's loss summed over the classes, (B, A); 0 where ignored or, under mining, too easy."""
        loss, alpha = self._arguments["loss"], self._arguments["alpha"]
        alpha = ALPHA.get(loss) if alpha is None else alpha
        gamma = self._arguments["gamma"] if loss == "focal" else 0.0
        weighted = loss in ALPHA
        value = ops.sum(losses.sigmoid_focal_loss(one_hot, logits, alpha if weighted else None, gamma), axis=-1)
        counts = matched != matching.IGNORED
        if loss == "hard_negative":
            positive, negative = matched >= 0, matched == matching.NEGATIVE
            counts = positive | losses.hard_negatives(value, positive, negative, NEGATIVES_PER_POSITIVE)
        return ops.where(counts, value, 0.0)

    def decode(self, raw: Mapping) -> dict:
        """The best candidates of each level, their sigmoids, per-class NMS (section 4.1, inference)."""
        boxes = box_ops.clip(self.box_decoder(raw["boxes"], self.anchors), self.image_size)
        best = self.candidates(boxes, raw["classes"])
        return self.nms(best["boxes"], ops.sigmoid(best["scores"]), best["labels"], num_classes=self.num_classes)


def _subnet(pyramid: dict, per_cell: int, outputs: int, channels: int, lite: bool, bias: float, name: str):
    """Four 3x3 convolutions and the predictor, the same weights on each level: one row of `outputs` an anchor.

    The edge variant shares its convolutions too, but normalises each level by statistics of its own.
    """

    def gaussian():
        """Sigma 0.01 at 256 channels (section 4.1); fewer get a larger one, which lets as much of the signal through.

        A new one for each layer: one initializer gives the same numbers again.
        """
        return keras.initializers.RandomNormal(stddev=0.01 * math.sqrt(256 / channels))

    def start():
        """Beside the epsilon of the batch norm that follows in the edge variant, the Gaussian would be too small."""
        return "he_normal" if lite else gaussian()

    tower = [_conv(channels, lite, f"{name}_conv{k}", start(), not lite) for k in range(1, TOWER_DEPTH + 1)]
    prior = keras.initializers.Constant(bias)
    predictor = _conv(per_cell * outputs, lite, f"{name}_predictor", gaussian(), True, prior)
    rows = []
    for key, x in pyramid.items():
        for k, layer in enumerate(tower, start=1):
            x = layer(x)
            if lite:
                x = BatchNormalization(momentum=0.9, name=f"{name}_{key.lower()}_bn{k}")(x)
            x = layers.ReLU(max_value=6.0 if lite else None, name=f"{name}_{key.lower()}_relu{k}")(x)
        rows.append(layers.Reshape((-1, outputs), name=f"{name}_{key.lower()}_rows")(predictor(x)))
    # The heads leave mixed precision here: loss and decoding are float32.
    return layers.Concatenate(axis=1, dtype="float32", name=name)(rows)


def _conv(filters: int, lite: bool, name: str, kernel, use_bias: bool, bias="zeros"):
    """A 3x3 convolution whose kernel starts from the initializer `kernel`; separable in the edge variant."""
    common = {"padding": "same", "use_bias": use_bias, "bias_initializer": bias, "name": name}
    if lite:
        return separable_conv2d(filters, 3, pointwise_initializer=kernel, **common)
    return Conv2D(filters, 3, kernel_initializer=kernel, **common)
