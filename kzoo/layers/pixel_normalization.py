"""From pixels to what a pretrained network was trained on."""

import keras
from keras import ops

from kzoo.messages import unknown_name

# Mean of ImageNet's blue, green and red channels, as VGG16 and ResNet50 had it subtracted in Caffe.
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


@keras.saving.register_keras_serializable("kzoo")
class PixelNormalization(keras.layers.Layer):
    """Normalises RGB pixels 0..255 as part of the network, so that an exported file takes raw pixels.

    Args:
        mode: "unit" for -1..1 (MobileNets), "caffe" for BGR less the ImageNet mean (VGG16, ResNet50), "none".
    """

    MODES = ("unit", "caffe", "none")

    def __init__(self, mode: str, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if mode not in self.MODES:
            raise ValueError(unknown_name("pixel normalisation", mode, self.MODES))
        self.mode = mode

    def call(self, images):
        images = ops.cast(images, "float32")
        if self.mode == "unit":
            return images / 127.5 - 1.0
        if self.mode == "caffe":
            return ops.flip(images, axis=-1) - ops.convert_to_tensor(CAFFE_MEAN_BGR, "float32")
        return images

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"mode": self.mode}
