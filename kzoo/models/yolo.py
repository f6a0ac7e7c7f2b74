"""YOLO: You Only Look Once: Unified, Real-Time Object Detection (Redmon et al., CVPR 2016).

The image is cut into S x S cells. The cell that holds an object's centre is responsible for it: it says C class
probabilities, and B boxes with a confidence each. One network, one sum of squares, no anchors.

The network's last layer is split in three, which is the same function: class probabilities, boxes and confidences of
different ranges do not share one tensor, so that an int8 file keeps them apart. Where the paper is silent: an untrained
box lies in the middle of its cell; scores are held within 0..1; of two objects in one cell the first of the targets is
learned (the authors' code shuffles them and does the same).
"""

import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from kzoo import backbones, matching
from kzoo import boxes as box_ops
from kzoo.backbones import leaky_conv
from kzoo.layers import BatchNormalization, NonMaxSuppression, separable_conv2d
from kzoo.messages import unknown_name
from kzoo.models.base import Detector, checked_size, fine_tuning
from kzoo.types import Tensor

COORD_WEIGHT = 5.0  # lambda_coord, section 2.2
NOOBJ_WEIGHT = 0.5  # lambda_noobj
CELL = 64  # pixels: 448 / 7
HEADS = ("connected", "convolutional")


@keras.saving.register_keras_serializable("kzoo")
class YOLO(Detector):
    """YOLO v1: the paper's network, or any backbone, grid and number of boxes a cell.

    Args:
        num_classes: C.
        image_size: (height, width), or one number for a square.
        backbone: "yolo" (the paper's twenty convolutions, to which four and two connected layers are added),
            "fast_yolo", another name of `kzoo.backbones.names()`, or a Keras model that returns {"C3": ..., ...}.
        width: channel multiplier of backbone and head.
        weights: of the backbone: None, "imagenet" or a path.
        grid: S, or (rows, columns); None for cells of 64 pixels, 7 x 7 in 448 pixels.
        boxes_per_cell: B.
        head: "connected", the paper's connected layers, each cell seeing the whole image; or "convolutional", the same
            convolutions for each cell, a hundredth of the weights. None is the paper's with its own networks.
        dropout: rate after the last hidden connected layer.
        frozen_stages, frozen_batch_norm: see `kzoo.backbones.create`; None for the usual way to fine-tune: with
            pretrained `weights`, C1, C2 and every batch norm stay, while the paper's own networks train whole.
        score_threshold, iou_threshold, max_detections: of the final NMS (code: 0.001 and 0.5 when measuring).
        class_names: what the labels mean; carried into every exported file.

    Outputs:
        float32, rows x columns x (B 5 + C) numbers together, all linear: {"classes": (B, rows, columns, C)
        probabilities, "boxes": (B, rows, columns, boxes, 4) as x and y within the cell, and the square roots of width
        and height as fractions of the image, "confidences": (B, rows, columns, boxes)}.
    """

    loss_names = ("class_loss", "box_loss", "confidence_loss")

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = 448,
        backbone: str | keras.Model = "yolo",
        width: float = 1.0,
        weights: str | None = None,
        grid: int | tuple[int, int] | None = None,
        boxes_per_cell: int = 2,
        head: str | None = None,
        dropout: float = 0.5,
        frozen_stages: int | None = None,
        frozen_batch_norm: bool | None = None,
        score_threshold: float = 0.001,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        class_names: Sequence[str] | None = None,
        name: str = "yolo",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes)
        grid = tuple(math.ceil(side / CELL) for side in image_size) if grid is None else grid
        grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
        if boxes_per_cell < 1 or len(grid) != 2 or min(grid) < 1:
            raise ValueError(
                "grid must be one number or (rows, columns), and boxes_per_cell one number, all of them at least 1. "
                f"Received: {grid} and {boxes_per_cell}."
            )
        paper = backbone in ("yolo", "fast_yolo")
        head = ("connected" if paper else "convolutional") if head is None else head
        if head not in HEADS:
            raise ValueError(unknown_name("head of YOLO", head, HEADS))
        frozen_stages, frozen_batch_norm = fine_tuning(
            weights is not None and not paper, frozen_stages, frozen_batch_norm
        )

        # === Layers
        last_stage = 5 if head == "connected" else _coarsest_stage(backbone, image_size, width, grid)
        trunk = backbones.create(backbone, image_size, width, weights, frozen_stages, frozen_batch_norm, last_stage)
        lite = trunk.name.startswith("mobilenet")

        # === Functional model
        images = keras.Input((*image_size, 3), name="images")
        pyramid = trunk(images)
        if head == "connected":
            hidden = _connected(list(pyramid.values())[-1], width, dropout, fast=backbone == "fast_yolo")
        else:
            hidden = _convolutional(pyramid, grid, width, lite)
        shapes = {"classes": (num_classes,), "boxes": (boxes_per_cell, 4), "confidences": (boxes_per_cell,)}
        outputs = {key: _output(hidden, grid, shape, key) for key, shape in shapes.items()}
        super().__init__(images, outputs, name=name, **kwargs)

        # === Targets and decoder
        self.grid = grid
        self.boxes_per_cell = boxes_per_cell
        self.nms = NonMaxSuppression(iou_threshold, score_threshold, max_detections, name="postprocess_nms")
        self._finish(image_size, num_classes, class_names)

        # === Config
        self._arguments = {
            "image_size": image_size,
            "width": width,
            "grid": grid,
            "boxes_per_cell": boxes_per_cell,
            "head": head,
            "dropout": dropout,
            "frozen_stages": frozen_stages,
            "frozen_batch_norm": frozen_batch_norm,
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
        }
        self._backbone = backbone

    def raw_losses(self, targets: Mapping, raw: Mapping) -> dict:
        """The five sums of squares of equation 3, in three parts; the mean over the images of the batch."""
        boxes, classes, confidences = (self._flat(raw[key]) for key in ("boxes", "classes", "confidences"))
        matched, truth, labels = self.assign(targets)
        has_object = ops.cast(matched >= 0, "float32")  # 1_i^obj
        responsible, overlap = self.responsible(boxes, matched, truth)  # 1_ij^obj
        wanted = self._to_network(truth)[:, :, None]
        one_hot = ops.cast(labels[..., None] == ops.arange(self.num_classes), "float32")
        images = ops.cast(ops.shape(boxes)[0], "float32")

        coordinates = ops.sum(responsible[..., None] * ops.square(boxes - wanted))
        confidence = responsible * ops.square(confidences - overlap)
        background = (1.0 - responsible) * ops.square(confidences)
        return {
            "class_loss": ops.sum(has_object[..., None] * ops.square(classes - one_hot)) / images,
            "box_loss": COORD_WEIGHT * coordinates / images,
            "confidence_loss": ops.sum(confidence + NOOBJ_WEIGHT * background) / images,
        }

    def assign(self, targets: Mapping) -> tuple[Tensor, Tensor, Tensor]:
        """Which object each cell answers for: the first whose centre lies in it.

        Returns:
            matched: (B, S) int32, cells row by row: index of the object, or -1.
            truth: (B, S, 4) that object's box as centre and size, fractions of the image; 0 where there is none.
            labels: (B, S) int32, -1 where there is none.
        """
        # One object more than there are, a padded one, so that there is always one to look at.
        boxes = ops.pad(ops.cast(targets["boxes"], "float32"), [[0, 0], [0, 1], [0, 0]])
        labels = ops.pad(ops.cast(targets["labels"], "int32"), [[0, 0], [0, 1]], constant_values=-1)
        truth = box_ops.convert(boxes, "xyxy", "rel_center_xywh", self.image_size)
        rows, columns = self.grid
        column = ops.clip(ops.floor(truth[..., 0] * columns), 0, columns - 1)
        row = ops.clip(ops.floor(truth[..., 1] * rows), 0, rows - 1)
        cell = ops.cast(row * columns + column, "int32")
        inside = (cell[..., None] == ops.arange(rows * columns)) & (labels >= 0)[..., None]  # (B, N, S)
        first = ops.cast(ops.argmax(ops.cast(inside, "int32"), axis=1), "int32")
        matched = ops.where(ops.any(inside, axis=1), first, -1)
        return (
            matched,
            matching.gather_matched(truth, matched, 0.0),
            matching.gather_matched(labels, matched, -1),
        )

    def responsible(self, boxes: Tensor, matched: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Which predictor of a cell is responsible: that of highest IoU, and where all are 0 of lowest RMSE (code).

        Args:
            boxes: (B, S, boxes, 4) as the network says them; matched, truth: of `assign`.

        Returns:
            (B, S, boxes) float32: 1 for the one responsible; and (B, S, boxes) its IoU. Neither has a gradient.
        """
        said = self._from_network(boxes)
        truth = truth[:, :, None]
        corners = [box_ops.convert(b, "center_xywh", "xyxy")[..., None, :] for b in (said, truth)]
        overlap = ops.stop_gradient(box_ops.iou(*corners)[..., 0, 0])
        error = ops.stop_gradient(ops.sum(ops.square(said - truth), axis=-1))
        any_overlap = ops.max(overlap, axis=-1, keepdims=True) > 0
        best = ops.argmax(ops.where(any_overlap, overlap, -error), axis=-1)
        chosen = (best[..., None] == ops.arange(self.boxes_per_cell, dtype=best.dtype)) & (matched >= 0)[..., None]
        return ops.cast(chosen, "float32"), overlap

    def said(self, raw: Mapping) -> dict:
        """What each cell says, before the suppression.

        Returns:
            float32, cells row by row: "boxes" (B, S, boxes, 4) xyxy pixels within the image, "classes" (B, S, C) and
            "confidences" (B, S, boxes), these two at least 0.
        """
        boxes, classes, confidences = (self._flat(raw[key]) for key in ("boxes", "classes", "confidences"))
        boxes = box_ops.convert(self._from_network(boxes), "rel_center_xywh", "xyxy", self.image_size)
        return {
            "boxes": box_ops.clip(boxes, self.image_size),
            "classes": ops.relu(classes),
            "confidences": ops.relu(confidences),
        }

    def decode(self, raw: Mapping) -> dict:
        """Pr(class) x confidence of each box (equation 1), per-class NMS."""
        said = self.said(raw)
        scores = said["classes"][:, :, None] * said["confidences"][..., None]
        count = self.grid[0] * self.grid[1] * self.boxes_per_cell
        boxes = ops.reshape(said["boxes"], (-1, count, 4))
        return self.nms(boxes, ops.reshape(ops.minimum(scores, 1.0), (-1, count, self.num_classes)))

    def _flat(self, output):
        """Cells row by row: (B, rows, columns, ...) -> (B, S, ...) float32."""
        return ops.reshape(ops.cast(output, "float32"), (-1, self.grid[0] * self.grid[1], *output.shape[3:]))

    def _corners(self):
        """Column and row of each cell, (S, 2), and (columns, rows)."""
        rows, columns = self.grid
        y, x = np.divmod(np.arange(rows * columns), columns)
        return np.stack([x, y], axis=-1).astype("float32"), np.array([columns, rows], "float32")

    def _from_network(self, boxes):
        """(B, S, boxes, 4) as the network says them -> centre and size as fractions of the image."""
        corner, cells = self._corners()
        return ops.concatenate([(boxes[..., :2] + corner[:, None]) / cells, ops.square(boxes[..., 2:])], axis=-1)

    def _to_network(self, boxes):
        """(B, S, 4) centre and size as fractions of the image -> what the network should say."""
        corner, cells = self._corners()
        return ops.concatenate([boxes[..., :2] * cells - corner, ops.sqrt(ops.maximum(boxes[..., 2:], 0.0))], axis=-1)


def FastYOLO(num_classes: int, **kwargs) -> YOLO:
    """Fast YOLO (section 2.1): nine convolutions; their sizes and the three connected layers are the code's."""
    return YOLO(num_classes, **{"backbone": "fast_yolo", "name": "fast_yolo", **kwargs})


def _connected(x, width: float, dropout: float, fast: bool):
    """The last convolutions and the hidden connected layers of figure 3, or of Fast YOLO."""

    def scaled(filters):
        return max(4, round(filters * width))

    if fast:
        x = layers.MaxPooling2D(2, padding="same", name="head_pool")(x)
    for number, strides in enumerate((1, 1, 1) if fast else (1, 2, 1, 1), start=1):
        x = leaky_conv(x, scaled(1024), 3, strides, f"head_conv{number}")
    x = layers.Flatten(name="head_flatten")(x)
    for number, units in enumerate((256, 4096) if fast else (4096,), start=1):
        x = layers.Dense(scaled(units), kernel_initializer="he_normal", name=f"head_fc{number}")(x)
        x = layers.LeakyReLU(negative_slope=0.1, name=f"head_fc{number}_leaky")(x)
    return layers.Dropout(dropout, name="head_dropout")(x)


def _fine_enough(shape: tuple, grid: tuple[int, int]) -> bool:
    """Whether a map has a position for each cell, or for four of five: it is enlarged then.

    MobileNet leaves 9 x 9 positions of 300 pixels where others leave 10 x 10: for 10 x 10 cells its last stage,
    enlarged a little, knows more about objects than the one before, reduced.
    """
    return all(5 * side >= 4 * count for side, count in zip(shape[1:3], grid, strict=True))


def _coarsest_stage(backbone, image_size: tuple[int, int], width: float, grid: tuple[int, int]) -> int:
    """The last stage whose map is fine enough: later ones would be computed for nothing."""
    maps = backbones.create(backbone, image_size, width).output
    fitting = [int(key[1:]) for key, x in maps.items() if _fine_enough(x.shape, grid)]
    return fitting[-1] if fitting else 5


def _convolutional(pyramid: dict, grid: tuple[int, int], width: float, lite: bool):
    """Two 3x3 convolutions with batch norm on a map of one position a cell."""
    fitting = [x for x in pyramid.values() if _fine_enough(x.shape, grid)]
    if not fitting:
        key, finest = next(iter(pyramid.items()))
        raise ValueError(
            f"grid={grid} is finer than the finest map of the backbone, {key} of {finest.shape[1:3]}. "
            "Take a coarser grid or head='connected'."
        )
    filters = max(16, round(512 * width))
    x = fitting[-1]
    number = 0
    # One cell halves to one cell: without the first condition a grid of 1 x 1 would never be reached.
    while x.shape[1:3] != grid and math.ceil(x.shape[1] / 2) >= grid[0] and math.ceil(x.shape[2] / 2) >= grid[1]:
        number += 1
        x = _norm_conv(x, filters, 2, lite, f"head_down{number}")
    if tuple(x.shape[1:3]) != grid:
        x = ops.image.resize(x, grid, interpolation="bilinear")
    for number in (1, 2):
        # Separable ones are small enough to stay float32 in an int8 file (docs/experiments.md).
        x = _norm_conv(x, filters, 1, lite, f"head_conv{number}" + ("_unquantized" if lite else ""))
    return x


def _norm_conv(x, filters: int, strides: int, lite: bool, name: str):
    conv = separable_conv2d if lite else layers.Conv2D
    x = conv(filters, 3, strides, padding="same", use_bias=False, name=name)(x)
    x = BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.LeakyReLU(negative_slope=0.1, name=f"{name}_leaky")(x)


def _output(hidden, grid: tuple[int, int], shape: tuple[int, ...], name: str):
    """One part of the last, linear layer: (B, rows, columns, *shape) float32, out of mixed precision."""
    count = math.prod(shape)
    bias = keras.initializers.Constant(0.5 if name == "boxes" else 0.0)
    if len(hidden.shape) == 2:
        layer = layers.Dense(grid[0] * grid[1] * count, bias_initializer=bias, name=f"{name}_fc")
    else:
        # An int8 file keeps these few weights in float32: eight bits for what they say cost mAP (docs/experiments.md).
        layer = layers.Conv2D(count, 1, bias_initializer=bias, name=f"{name}_conv_unquantized")
    return layers.Reshape((*grid, *shape), dtype="float32", name=name)(layer(hidden))
