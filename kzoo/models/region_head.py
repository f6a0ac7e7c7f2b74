"""The second stage that Fast R-CNN and Faster R-CNN share: regions in, classes and class-specific boxes out."""

from collections.abc import Mapping, Sequence

import keras
from keras import layers, ops

from kzoo import boxes as box_ops
from kzoo import losses, matching
from kzoo.layers import BoxDecoder, NonMaxSuppression
from kzoo.layers.gather import gather_rows
from kzoo.types import Tensor

VARIANCES = (0.1, 0.1, 0.2, 0.2)  # (code) deviations of the box targets, which the paper normalises to 1


@keras.saving.register_keras_serializable("kzoo")
class RegionHead(keras.layers.Layer):
    """fc6, fc7 and two outputs: K + 1 classes with background first, and 4 K deltas (Fast R-CNN, section 2.1).

    Args:
        num_classes: K, without background.
        units: of fc6 and of fc7.
        dropout: after each of them.

    Call:
        pooled: (B, R, p, p, C).
    Returns:
        {"classes": (B, R, K + 1) logits, "boxes": (B, R, K, 4) deltas}, float32.
    """

    def __init__(self, num_classes: int, units: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.units, self.dropout = num_classes, units, dropout
        self.fc6 = layers.Dense(units, activation="relu", name="fc6")
        self.fc7 = layers.Dense(units, activation="relu", name="fc7")
        self.drop6, self.drop7 = layers.Dropout(dropout, name="drop6"), layers.Dropout(dropout, name="drop7")
        # Section 2.3, SGD hyper-parameters: Gaussians of 0.01 and 0.001.
        self.classes = layers.Dense(num_classes + 1, kernel_initializer=_gaussian(0.01), name="classes")
        self.boxes = layers.Dense(4 * num_classes, kernel_initializer=_gaussian(0.001), name="boxes")

    def build(self, pooled_shape):
        size, units = pooled_shape[-1] * pooled_shape[-2] * pooled_shape[-3], self.units
        self.fc6.build((None, size))
        for layer in (self.fc7, self.classes, self.boxes):
            layer.build((None, units))

    def call(self, pooled, training=False):
        regions = pooled.shape[1]
        x = ops.reshape(pooled, (-1, self.fc6.kernel.shape[0]))  # one row a region: plain matrix products
        x = self.drop6(self.fc6(x), training=training)
        x = self.drop7(self.fc7(x), training=training)
        return {
            "classes": ops.cast(ops.reshape(self.classes(x), (-1, regions, self.num_classes + 1)), "float32"),
            "boxes": ops.cast(ops.reshape(self.boxes(x), (-1, regions, self.num_classes, 4)), "float32"),
        }

    def compute_output_spec(self, pooled, training=False):
        batch, regions = pooled.shape[:2]
        return {
            "classes": keras.KerasTensor((batch, regions, self.num_classes + 1), "float32"),
            "boxes": keras.KerasTensor((batch, regions, self.num_classes, 4), "float32"),
        }

    def get_config(self):
        return super().get_config() | {"num_classes": self.num_classes, "units": self.units, "dropout": self.dropout}


def draw_regions(
    regions: Tensor,
    targets: Mapping,
    count: int,
    seed: keras.random.SeedGenerator,
    positive_fraction: float = 0.25,
    lowest: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Draws the regions that a training step looks at (Fast R-CNN, section 2.3, mini-batch sampling).

    A quarter shows an object with IoU > 0.5; the rest are background with IoU in [`lowest`, 0.5).

    Args:
        regions: (B, R, 4); boxes without area are padding.
        targets: {"boxes": (B, N, 4), "labels": (B, N)}.

    Returns:
        (B, count, 4) regions and (B, count) int32 matches, as `kzoo.matching.sample` gives them.
    """
    matched = matching.match(regions, targets["boxes"], targets["labels"], 0.5, claim="none", lowest=lowest)
    matched = ops.where(box_ops.area(regions) > 0, matched, matching.IGNORED)
    index, drawn = matching.sample(matched, count, positive_fraction, seed)
    return gather_rows(regions, index), drawn


def region_losses(found: Mapping, regions: Tensor, drawn: Tensor, targets: Mapping, decoder: BoxDecoder) -> dict:
    """Lcls + [u >= 1] Lloc over the drawn regions (Fast R-CNN, section 2.3, equations 1 to 3), lambda 1.

    Args:
        found: what `RegionHead` says of the regions; regions, drawn: from `draw_regions`.

    Returns:
        {"class_loss", "box_loss"}, both divided by the number of regions drawn.
    """
    positive, counts = drawn >= 0, drawn != matching.IGNORED
    classes = matching.gather_matched(ops.cast(targets["labels"], "int32") + 1, drawn, 0)
    boxes = matching.gather_matched(ops.cast(targets["boxes"], "float32"), drawn, regions)
    confidence = losses.softmax_cross_entropy(classes, found["classes"])
    own = ops.maximum(classes - 1, 0)[..., None, None]
    deltas = ops.take_along_axis(found["boxes"], own, axis=2)[:, :, 0]  # those of the region's class
    localization = ops.sum(losses.smooth_l1(decoder.encode(boxes, regions), deltas), axis=-1)
    count = ops.maximum(ops.sum(ops.cast(counts, "float32")), 1.0)
    return {
        "class_loss": ops.sum(ops.where(counts, confidence, 0.0)) / count,
        "box_loss": ops.sum(ops.where(positive, localization, 0.0)) / count,
    }


def region_detections(
    found: Mapping, regions: Tensor, decoder: BoxDecoder, nms: NonMaxSuppression, image_size: tuple[int, int]
) -> dict:
    """Softmax, each class's own boxes cut to the image, per-class NMS; regions without area find nothing."""
    num_classes = found["boxes"].shape[2]
    pairs = regions.shape[1] * num_classes
    scores = layers.Softmax(dtype="float32", name="postprocess_softmax")(found["classes"])[..., 1:]
    scores = ops.where((box_ops.area(regions) > 0)[..., None], scores, 0.0)
    boxes = box_ops.clip(decoder(found["boxes"], regions[:, :, None]), image_size)
    labels = ops.zeros_like(scores, dtype="int32") + ops.arange(num_classes, dtype="int32")
    boxes, scores, labels = (
        ops.reshape(boxes, (-1, pairs, 4)),
        ops.reshape(scores, (-1, pairs)),
        ops.reshape(labels, (-1, pairs)),
    )
    return nms(boxes, scores, labels, num_classes=num_classes)


def take_over_fully_connected(head: RegionHead, vgg16: keras.Model) -> None:
    """Starts fc6 and fc7 from those of VGG16 (Fast R-CNN, section 2.2): RoI pooling replaces its last max pooling."""
    head.fc6.set_weights(vgg16.get_layer("fc1").get_weights())
    head.fc7.set_weights(vgg16.get_layer("fc2").get_weights())


def _gaussian(deviation: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=deviation)


def pooled_shape(pool_size: int, features: Sequence) -> tuple:
    """The input shape of a RegionHead on feature maps (B, h, w, C)."""
    return (None, None, pool_size, pool_size, features[0].shape[-1])
