"""DeconvNet: Learning Deconvolution Network for Semantic Segmentation (Noh, Hong, Han, ICCV 2015).

VGG16 with its fully connected layers as convolutions, and its mirror image: unpooling puts each value back where the
pooling on the other side found its maximum, and deconvolutions make the sparse map dense (sections 3.1, 3.2). Batch
normalisation follows every layer (section 4.1).
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from kzoo import backbones
from kzoo import images as kzoo_images
from kzoo.layers import BatchNormalization, Conv2D, MaxPoolingWithSwitches, MaxUnpooling2D, PixelNormalization
from kzoo.models.base import checked_size
from kzoo.models.fcn import take_over_fully_connected
from kzoo.models.segmenter import Segmenter, crop_to, logits, pad_to_multiple

ENCODER = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# What follows the unpooling of each block, the paper's table: the last layer of a block has the channels of the next.
DECODER = ((64, 64), (128, 64), (256, 256, 128), (512, 512, 256), (512, 512, 512))
FULLY_CONNECTED = 4096


@keras.saving.register_keras_serializable("kzoo")
class DeconvNet(Segmenter):
    """VGG16 and its mirror image.

    Args:
        num_classes: background included.
        image_size: (height, width), or one number for a square; 224 in the paper, where fc6 sees the whole image. Other
            sizes are filled up to a multiple of 32; where the coarsest map has less than 7 cells, so has fc6's kernel.
        width: multiplies all channels; at 1 the network has 252 million parameters.
        weights: of the encoder: None, "imagenet" (fc6 and fc7 from VGG16's as well) or the path of a .weights.h5 file
            of VGG16 with include_top=False.
        loss: "cross_entropy", "weighted_cross_entropy" (with `class_weights`, one a class), "dice" or "focal".
        class_names: what the labels mean; carried into every exported file.

    At 224 pixels fc6 and fc7 have one cell: batch normalisation needs batches of two or more to learn anything there.
    Trained whole from random weights it learns slowly and not far; `recipes/deconvnet.py` trains the encoder first.

    Outputs:
        (B, H, W, num_classes) logits, float32.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int] = 224,
        width: float = 1.0,
        weights: str | None = None,
        loss: str = "cross_entropy",
        class_weights: Sequence[float] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "deconvnet",
        **kwargs,
    ):
        image_size = checked_size(image_size, num_classes, background=True)

        def scaled(filters: int) -> int:
            return max(4, round(filters * width))

        # === Functional model
        images = keras.Input((*image_size, 3), name="images")
        x = PixelNormalization("caffe", name="normalize")(images)
        x = pad_to_multiple(x, 32)
        switches = []
        for block, filters in enumerate(ENCODER, start=1):
            for k, count in enumerate(filters, start=1):
                x = _activated(Conv2D(scaled(count), 3, padding="same", name=f"block{block}_conv{k}"), x)
            x, switch = MaxPoolingWithSwitches(name=f"block{block}_pool")(x)
            switches.append(switch)
        kernel = tuple(min(7, side) for side in x.shape[1:3])
        x = _activated(layers.Conv2D(scaled(FULLY_CONNECTED), kernel, name="fc6"), x)
        x = _activated(layers.Conv2D(scaled(FULLY_CONNECTED), 1, name="fc7"), x)
        x = _activated(layers.Conv2DTranspose(scaled(512), kernel, name="deconv_fc6"), x)
        for block in reversed(range(1, 6)):
            x = MaxUnpooling2D(name=f"block{block}_unpool")(x, switches[block - 1])
            for k, count in enumerate(DECODER[block - 1], start=1):
                layer = layers.Conv2DTranspose(scaled(count), 3, padding="same", name=f"block{block}_deconv{k}")
                x = _activated(layer, x)
        outputs = crop_to(logits(x, num_classes), image_size, name="crop")
        super().__init__(images, outputs, name=name, **kwargs)

        # === Config
        self.stride = 32
        self._arguments = {"image_size": image_size, "width": width}
        self._finish(image_size, num_classes, class_names, loss, class_weights)
        if weights is not None:
            self._take_over(weights, width)

    def _take_over(self, weights: str, width: float) -> None:
        body = backbones.create("vgg16", (None, None), width, weights).get_layer("vgg16")
        for layer in body.layers:
            if isinstance(layer, layers.Conv2D):
                self.get_layer(layer.name).set_weights(layer.get_weights())
        if str(weights) == "imagenet" and self.get_layer("fc6").kernel.shape[:2] == (7, 7):
            take_over_fully_connected(self, keras.applications.VGG16(weights="imagenet"))

    def segment_proposals(self, image: np.ndarray, proposals: np.ndarray, batch_size: int = 8) -> dict[str, np.ndarray]:
        """Labels an image from its proposals: the largest probability that any of them gives each class (section 4.3).

        The paper takes 50 edge boxes; the image itself is always one more proposal. Beyond its box a proposal says
        nothing.

        Args:
            image: (H, W, 3) RGB 0..255.
            proposals: (N, 4) xyxy in its pixels; those that are smaller than a pixel are left out.

        Returns:
            {"labels": (H, W) int32, "scores": (H, W) float32}.
        """
        height, width = image.shape[:2]
        boxes = np.concatenate([[[0, 0, width, height]], np.reshape(np.asarray(proposals, float), (-1, 4))])
        boxes = np.stack([np.floor(boxes[:, 0]), np.floor(boxes[:, 1]), np.ceil(boxes[:, 2]), np.ceil(boxes[:, 3])], 1)
        boxes = np.clip(boxes, 0, [width, height, width, height]).astype(int)
        boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
        largest = np.zeros((height, width, self.num_classes), np.float32)
        for start in range(0, len(boxes), batch_size):
            chunk = boxes[start : start + batch_size]
            crops = np.stack([kzoo_images.resize(image[y1:y2, x1:x2], self.image_size) for x1, y1, x2, y2 in chunk])
            logits = self.predict_on_batch(crops)[: len(crops)]
            found = keras.ops.convert_to_numpy(keras.ops.softmax(logits, axis=-1))
            for (x1, y1, x2, y2), probabilities in zip(chunk, found, strict=True):
                part = largest[y1:y2, x1:x2]
                np.maximum(part, kzoo_images.resize(probabilities, part.shape[:2]), out=part)
        return {"labels": largest.argmax(-1).astype(np.int32), "scores": largest.max(-1)}


def _activated(layer: layers.Layer, x):
    x = BatchNormalization(momentum=0.9, name=f"{layer.name}_bn")(layer(x))
    return layers.ReLU(name=f"{layer.name}_relu")(x)
