"""Classification + localization: what is the one object of an image, and where is it.

One trunk, two heads: class scores and four numbers of a box, trained together (multitask loss), as it is taught on
AlexNet (Krizhevsky et al., NIPS 2012): 4096 -> C with a softmax loss, 4096 -> 4 with an L2 loss.
"""

from collections.abc import Mapping, Sequence

import keras
from keras import layers, ops

from kzoo import backbones, losses
from kzoo import boxes as box_ops
from kzoo.messages import unknown_name
from kzoo.models.base import Detector, checked_size, fine_tuning

OBJECTS = ("largest", "first")
WITH_HIDDEN_LAYERS = ("alexnet", "vgg16")  # whose own classifiers have two connected layers of 4096


@keras.saving.register_keras_serializable("kzoo")
class Localizer(Detector):
    """A classifier with a box, on any backbone and any image size.

    It always sees exactly one object: `detect` returns one box an image. Images without an object teach it nothing.

    Args:
        num_classes: without background.
        image_size: (height, width), or one number for a square; AlexNet's is 227.
        backbone: a name of `kzoo.backbones.names()` or a Keras model that returns {"C3": ..., "C4": ..., "C5": ...}.
        width: channel multiplier of backbone and connected layers.
        weights: of the backbone: None, "imagenet" or a path.
        units: of the connected layers before the heads; None for (4096, 4096) `width` on AlexNet and VGG16, and for
            (512,) on others. Those have no connected layers of their own: they tell the class from the average of
            their last map, as they do as classifiers, and only the box has `units`, after a 1x1 convolution to 128
            channels (an average would lose the place).
        dropout: rate before the class: after each connected layer, or after the average. A box of its own connected
            layers has none: it is a regression, and dropout would blur it.
        box_weight: of the box loss in the sum. Sides are fractions of the image, so a box that is off by a tenth costs
            only 0.04 without a weight, against 0.7 of a class that is a coin's throw.
        target: the object to learn where an image has several: "largest" or "first".
        frozen_stages, frozen_batch_norm: see `kzoo.backbones.create`; None for the usual way to fine-tune: with
            pretrained `weights`, C1, C2 and every batch norm of the backbone stay.
        score_threshold: an image whose best class scores no more has no detection; 0 for always one.
        class_names: what the labels mean; carried into every exported file.

    Outputs:
        {"classes": (B, num_classes) logits, "boxes": (B, 4) centre x, y, width and height as fractions of the image},
        float32.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = 227,
        backbone: str | keras.Model = "alexnet",
        width: float = 1.0,
        weights: str | None = None,
        units: Sequence[int] | None = None,
        dropout: float = 0.5,
        box_weight: float = 10.0,
        target: str = "largest",
        frozen_stages: int | None = None,
        frozen_batch_norm: bool | None = None,
        score_threshold: float = 0.0,
        class_names: Sequence[str] | None = None,
        name: str = "localizer",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes)
        if target not in OBJECTS:
            raise ValueError(unknown_name("target object", target, OBJECTS))
        frozen_stages, frozen_batch_norm = fine_tuning(weights is not None, frozen_stages, frozen_batch_norm)
        squeezed = backbone not in WITH_HIDDEN_LAYERS
        if units is None:
            units = [512] if squeezed else [max(4, round(4096 * width))] * 2

        # === Layers
        trunk = backbones.create(backbone, image_size, width, weights, frozen_stages, frozen_batch_norm)

        # === Functional model
        images = keras.Input((*image_size, 3), name="images")
        x = list(trunk(images).values())[-1]
        known = None
        if squeezed:
            known = layers.Dropout(dropout, name="average_dropout")(layers.GlobalAveragePooling2D(name="average")(x))
            x = layers.Conv2D(128, 1, activation="relu", kernel_initializer="he_normal", name="squeeze")(x)
        x = layers.Flatten(name="flatten")(x)
        for number, count in enumerate(units, start=6):  # fc6 and fc7 of AlexNet and VGG16
            x = layers.Dense(count, activation="relu", kernel_initializer="he_normal", name=f"fc{number}")(x)
            if not squeezed:
                x = layers.Dropout(dropout, name=f"fc{number}_dropout")(x)
        # An untrained box is about the middle, half as large as the image: large first errors would kill the units.
        small, middle = (lambda: keras.initializers.RandomNormal(stddev=0.01)), keras.initializers.Constant(0.5)
        # The heads leave mixed precision here: loss and decoding are float32.
        outputs = {
            "classes": layers.Dense(num_classes, kernel_initializer=small(), dtype="float32", name="classes")(
                x if known is None else known
            ),
            "boxes": layers.Dense(
                4, kernel_initializer=small(), bias_initializer=middle, dtype="float32", name="boxes"
            )(x),
        }
        super().__init__(images, outputs, name=name, **kwargs)
        self._finish(image_size, num_classes, class_names)

        # === Config
        self._arguments = {
            "image_size": image_size,
            "width": width,
            "units": list(units),
            "dropout": dropout,
            "box_weight": box_weight,
            "target": target,
            "frozen_stages": frozen_stages,
            "frozen_batch_norm": frozen_batch_norm,
            "score_threshold": score_threshold,
        }
        self._backbone = backbone

    def raw_losses(self, targets: Mapping, raw: Mapping) -> dict:
        """Softmax and L2 loss, each the mean over the images that have an object."""
        boxes, labels = self._the_object(targets)
        has_object = ops.cast(labels >= 0, "float32")
        count = ops.maximum(ops.sum(has_object), 1.0)
        classification = losses.softmax_cross_entropy(ops.maximum(labels, 0), raw["classes"])
        wanted = box_ops.convert(boxes, "xyxy", "rel_center_xywh", self.image_size)
        distance = ops.sum(ops.square(wanted - ops.cast(raw["boxes"], "float32")), axis=-1)
        return {
            "class_loss": ops.sum(has_object * classification) / count,
            "box_loss": self._arguments["box_weight"] * ops.sum(has_object * distance) / count,
        }

    def _the_object(self, targets):
        """Box (B, 4) and label (B,) of the one object of each image; label -1 where there is none."""
        # One object more than there are, a padded one, so that there is always one to look at.
        boxes = ops.pad(ops.cast(targets["boxes"], "float32"), [[0, 0], [0, 1], [0, 0]])
        labels = ops.pad(ops.cast(targets["labels"], "int32"), [[0, 0], [0, 1]], constant_values=-1)
        size = box_ops.area(boxes) if self._arguments["target"] == "largest" else ops.zeros_like(boxes[..., 0])
        index = ops.argmax(ops.where(labels >= 0, size, -1.0), axis=1)[:, None]  # of equals the first
        box = ops.take_along_axis(boxes, index[..., None], axis=1)[:, 0]
        return box, ops.take_along_axis(labels, index, axis=1)[:, 0]

    def decode(self, raw: Mapping) -> dict:
        """The most probable class, and the box clipped to the image: detections with K = 1."""
        scores, labels = ops.top_k(ops.softmax(ops.cast(raw["classes"], "float32")), 1)
        said = ops.cast(raw["boxes"], "float32")
        said = ops.concatenate([said[:, :2], ops.relu(said[:, 2:])], axis=-1)  # no negative sides
        boxes = box_ops.clip(box_ops.convert(said, "rel_center_xywh", "xyxy", self.image_size), self.image_size)
        found = scores > self._arguments["score_threshold"]
        return {
            "boxes": ops.where(found[..., None], boxes[:, None], 0.0),
            "labels": ops.where(found, ops.cast(labels, "int32"), -1),
            "scores": ops.where(found, scores, 0.0),
            "num_detections": ops.sum(ops.cast(found, "int32"), axis=1),
        }
