"""L2 normalisation of a feature map with a learned scale."""

import keras


@keras.saving.register_keras_serializable("kzoo")
class L2Normalization(keras.layers.Layer):
    """Scales the feature vector of each position to unit length, times a learned scale per channel.

    SSD (section 3.1, after ParseNet) puts it on conv4_3, whose features are much larger than those of deeper maps.
    The norm is computed in float32 under any dtype policy.

    Args:
        scale: initial value of every channel's scale; 20 in SSD.
    """

    def __init__(self, scale: float = 20.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma", shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.scale)
        )

    def call(self, inputs):
        x = keras.ops.cast(inputs, "float32")
        norm = keras.ops.sqrt(keras.ops.sum(keras.ops.square(x), axis=-1, keepdims=True) + 1e-10)
        return keras.ops.cast(x / norm, self.compute_dtype) * keras.ops.cast(self.gamma, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"scale": self.scale}
