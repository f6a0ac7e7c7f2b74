"""Transposed convolution that starts as bilinear interpolation."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class BilinearInitializer(keras.initializers.Initializer):
    """Kernel of a transposed convolution that interpolates each channel on its own (FCN, section 3.3).

    For a stride f the interpolating kernel is 2f - f % 2 wide. With as many outputs as inputs, output channel c is the
    enlarged input channel c; shapes other than (height, width, C, C) are refused.
    """

    def __call__(self, shape, dtype=None):
        height, width, outputs, inputs = shape
        if outputs != inputs:
            raise ValueError(
                f"A bilinear start keeps the channels: filters must be {inputs}, as in the input. Received: {outputs}. "
                "Give another kernel_initializer."
            )
        window = np.outer(_triangle(height), _triangle(width)).astype("float32")
        return ops.cast(window[:, :, None, None] * np.eye(inputs, dtype="float32"), dtype or keras.config.floatx())

    def get_config(self):
        return {}


def _triangle(size: int) -> np.ndarray:
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    return 1 - np.abs(np.arange(size) - centre) / factor


@keras.saving.register_keras_serializable("kzoo")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """Enlarges a feature map `factor` times with a learnable kernel that starts as bilinear interpolation.

    With padding "same" the output is exactly `factor` times the input, and equals bilinear interpolation but for the
    outermost factor / 2 pixels, where it fades into the zeros beyond the border. With "valid" it is factor times
    (size - 1) plus the kernel's size; FCN crops it.

    Args:
        filters: output channels; as many as the input has, for the bilinear start.
        factor: stride, 1 or more.
        kernel_size: the interpolating 2 factor - factor % 2 by default.
        fixed: the kernel stays bilinear and is not trained (FCN's last layer).
        padding: "same" or "valid".
    """

    def __init__(
        self,
        filters: int,
        factor: int = 2,
        kernel_size: int | None = None,
        fixed: bool = False,
        padding: str = "same",
        use_bias: bool = False,
        kernel_initializer="bilinear",
        **kwargs,
    ):
        if kernel_initializer == "bilinear":
            kernel_initializer = BilinearInitializer()
        if fixed:
            kwargs["trainable"] = False
        super().__init__(
            filters,
            2 * factor - factor % 2 if kernel_size is None else kernel_size,
            strides=factor,
            padding=padding,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            **kwargs,
        )
        self.factor = factor
        self.fixed = fixed

    def get_config(self):
        config = super().get_config()
        for key in ("strides", "dilation_rate", "output_padding", "groups"):
            config.pop(key, None)
        return config | {"factor": self.factor, "fixed": self.fixed, "kernel_size": self.kernel_size}
