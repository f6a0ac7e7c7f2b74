"""What every segmenter of the zoo has: logits of each pixel for training, labels and scores for everything else."""

import inspect
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from kzoo import losses, tiling
from kzoo.images import VOID
from kzoo.messages import unknown_name
from kzoo.models import given
from kzoo.models.base import Network
from kzoo.types import Tensor

LOSSES = ("cross_entropy", "dice", "focal", "weighted_cross_entropy")


class Segmenter(Network):
    """A network that says of each pixel what it shows: `segment` gives labels and scores as NumPy arrays.

    `fit` and `evaluate` take batches of `(images, masks)`, masks (B, H, W) int, or of `(images, {"masks": ...,
    "weights": ...})` with a weight (B, H, W) for each pixel's loss, as boundary maps have; Keras' `sample_weight` is
    taken as such weights too. Masks of the size of the images are cropped to the centre where the network predicts only
    that. Labels are 0..num_classes-1, background a class like any other, and 255 what is not known and counts nowhere.

    A subclass builds a graph whose output are the logits (B, h, w, num_classes), and calls `_finish`.

    Attributes:
        tile_size: (height, width) of the tiles in which `segment` puts an image together; None where it resizes.
        context: (rows, columns) at either side that are seen and not labelled; 0 but for valid convolutions.
        stride: how many pixels the coarsest feature map's cells are apart.
    """

    loss_names = ("mask_loss",)
    tile_size: tuple[int, int] | None = None
    stride: int = 1

    def _finish(
        self,
        image_size,
        num_classes: int,
        class_names: Sequence[str] | None,
        loss: str = "cross_entropy",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super()._finish(image_size, num_classes, class_names)
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(f"num_classes is {num_classes}, but class_weights has {len(self.class_weights)} numbers.")
        self._set_loss(loss)

    @property
    def context(self) -> tuple[int, int]:
        return tuple((seen - out) // 2 for seen, out in zip(self.image_size, self.output_shape[1:3], strict=True))

    def _set_loss(self, loss: str | Callable) -> None:
        if callable(loss):
            try:
                inspect.signature(loss).bind(None, None, None)
            except TypeError as error:
                raise ValueError(f"A loss of your own is called as loss(masks, logits, weights): {error}.") from error
        elif loss not in LOSSES:
            raise ValueError(unknown_name("loss", loss, LOSSES))
        if loss == "weighted_cross_entropy" and self.class_weights is None:
            raise ValueError("The loss 'weighted_cross_entropy' needs class_weights, one number a class.")
        self.pixel_loss = loss

    def compile(self, optimizer="adam", loss: str | Callable | None = None, **kwargs):
        """As in Keras; `loss` is one of `LOSSES`, or a function of your own; None keeps the constructor's.

        A function is called as `loss(masks, logits, weights)`, with void pixels at label 0 and weight 0, and returns a
        scalar; it is not saved with the model.
        """
        if loss is not None:
            self._set_loss(loss)
        super().compile(optimizer, **kwargs)

    def get_config(self):
        loss = self.pixel_loss if isinstance(self.pixel_loss, str) else "cross_entropy"
        return super().get_config() | {"loss": loss, "class_weights": self.class_weights}

    def _check_targets(self, images, targets) -> None:
        super()._check_targets(images, targets)
        masks = targets.get("masks") if isinstance(targets, dict) else targets
        if masks is None:
            received = ", ".join(sorted(targets)) if isinstance(targets, dict) else targets
            raise ValueError(f"{self.name} learns from masks, but the data has only: {received}.")
        shape = tuple(masks.shape)
        whole, seen = tuple(images.shape[1:3]), self.output_shape[1:3]
        if len(shape) != 3 or not any(_fits(shape[1:], size) for size in (whole, seen)):
            valid = "" if _fits(seen, whole) else f", or (B, {seen[0]}, {seen[1]}) of the middle"
            raise ValueError(
                f"Masks must be (B, {whole[0]}, {whole[1]}), as the images, a class in each pixel{valid}. Received: "
                f"{shape}."
            )

    def _check_arrays(self, x, y, sample_weight) -> None:
        super()._check_arrays(x, y, sample_weight)
        masks = y.get("masks") if isinstance(y, dict) else y
        if isinstance(masks, np.ndarray):
            given.require_masks(masks, self.num_classes)

    def _assert_targets(self, targets) -> None:
        given.assert_masks(targets["masks"] if isinstance(targets, dict) else targets, self.num_classes)

    def fit(self, x=None, y=None, *args, class_weight=None, **kwargs):
        """As in Keras; arrays are looked at before the first step."""
        if class_weight is not None:
            raise ValueError(
                f"{self.name} weighs classes by its loss: drop class_weight, and create it with "
                "loss='weighted_cross_entropy' and class_weights=[...], one number a class."
            )
        return super().fit(x, y, *args, **kwargs)

    def _weighted(self, targets, sample_weight):
        if isinstance(sample_weight, dict):  # as Keras hands it over with targets in a dict
            sample_weight = sample_weight["masks"]
        if sample_weight is None:
            return targets
        targets = dict(targets) if isinstance(targets, dict) else {"masks": targets}
        # One weight an image or one a pixel; Keras may hand them over without their rank.
        shape = ops.shape(targets["masks"])
        rows = ops.reshape(ops.cast(sample_weight, "float32"), (shape[0], -1))
        weights = ops.reshape(rows * ops.ones((shape[0], shape[1] * shape[2])), shape)
        targets["weights"] = weights * ops.cast(targets.get("weights", 1.0), "float32")
        return targets

    def raw_losses(self, targets: Mapping | Tensor, raw: Tensor) -> dict:
        """The loss over the pixels that are not void, each times its weight; 0 without any."""
        targets = targets if isinstance(targets, dict) else {"masks": targets}
        size = raw.shape[1:3]
        masks = tiling.centre(ops.cast(targets["masks"], "int32"), size)
        valid = ops.not_equal(masks, VOID)
        weights = ops.cast(valid, "float32")
        if "weights" in targets:
            given = ops.broadcast_to(ops.cast(targets["weights"], "float32"), ops.shape(targets["masks"]))
            weights = weights * tiling.centre(given, size)
        masks = ops.where(valid, masks, 0)
        if callable(self.pixel_loss):
            value = ops.cast(self.pixel_loss(masks, raw, weights), "float32")
            if len(value.shape):  # its sum would be learned from, and its mean shown
                raise ValueError(f"A loss of your own returns one number, not an array {tuple(value.shape)}.")
            return {"mask_loss": value}
        if self.pixel_loss == "dice":
            return {"mask_loss": losses.soft_dice_loss(masks, raw, weights)}
        if self.pixel_loss == "weighted_cross_entropy":
            pixels = losses.weighted_cross_entropy(masks, raw, self.class_weights)
        elif self.pixel_loss == "focal":
            pixels = losses.softmax_focal_loss(masks, raw)
        else:
            pixels = losses.softmax_cross_entropy(masks, raw)
        # Divided by the number of pixels and not by the sum of weights: a weight map keeps the scale it was given.
        count = ops.maximum(ops.sum(ops.cast(valid, "float32")), 1.0)
        return {"mask_loss": ops.sum(ops.where(valid, pixels, 0.0) * weights) / count}

    def decode(self, raw: Tensor) -> dict:
        """{"labels": (B, h, w) int32, "scores": (B, h, w), their softmax}; of equal logits the first wins."""
        scores = layers.Softmax(dtype="float32", name="postprocess_softmax")(raw)
        # top_k and not argmax, which has no built-in LiteRT operator for floats.
        labels = ops.top_k(raw, 1)[1]
        return {"labels": ops.cast(labels, "int32")[..., 0], "scores": ops.max(scores, axis=-1)}

    def segment(self, images: np.ndarray, batch_size: int = 4) -> dict[str, np.ndarray]:
        """Labels each pixel.

        Args:
            images: (B, H, W, 3) RGB 0..255 of any integer or float dtype and any size. Other sizes than `image_size`
                are resized, and the labels back to the nearest pixel; with `tile_size` they are taken apart into
                overlapping tiles instead, mirrored at the border.
            batch_size: images or tiles that go through the network at once.

        Returns:
            {"labels": (B, H, W) int32, "scores": (B, H, W) float32 in 0..1}.
        """
        return tiling.segment_any_size(images, self.infer, self.image_size, self.tile_size, self.stride, batch_size)


def _fits(size: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """May the two be one size, as far as they are known?"""
    return all(a is None or b is None or a == b for a, b in zip(size, other, strict=True))


def logits(x: Tensor, num_classes: int, name: str = "score", **kwargs) -> keras.KerasTensor:
    """1x1 convolution to the classes; in float32, where losses and softmax need it, under any policy."""
    return layers.Conv2D(num_classes, 1, dtype="float32", name=name, **kwargs)(x)


def pad_to_multiple(images: Tensor, stride: int) -> Tensor:
    """Adds black rows below and columns at the right until the size is a multiple of `stride`."""
    bottom, right = (-side % stride for side in images.shape[1:3])
    return layers.ZeroPadding2D(((0, bottom), (0, right)), name="pad")(images) if bottom or right else images


def crop_to(x: Tensor, size: tuple[int, int], start: tuple[int, int] = (0, 0), name: str | None = None) -> Tensor:
    """`size` = (height, width) of a map, from `start` = (row, column) on, in the map's own dtype under any policy."""
    ends = [have - first - want for have, first, want in zip(x.shape[1:3], start, size, strict=True)]
    if not any([*start, *ends]):
        return x
    dtype = keras.backend.standardize_dtype(x.dtype)  # float32 logits stay so under mixed precision
    return layers.Cropping2D(tuple(zip(start, ends, strict=True)), dtype=dtype, name=name)(x)
