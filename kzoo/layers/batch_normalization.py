"""Batch normalisation (Ioffe and Szegedy, ICML 2015) through TensorFlow's fused kernel where that is faster."""

import keras
from keras import ops

from kzoo.layers.kernels import use_fused


@keras.saving.register_keras_serializable("kzoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer with the same arguments, weights and results, several times faster on CPUs under TensorFlow.

    Keras spells the moments, the shift and the scale out, and each is a pass over the whole map; a kernel of TensorFlow
    does it in two, and where nothing is learned the graph optimizer melts it into the convolution before it.
    """

    def call(self, inputs, training=None, mask=None):
        plain = len(inputs.shape) == 4 and self.axis in (-1, 3) and mask is None and self.compute_dtype != "float64"
        if not plain or self.renorm or self.synchronized or not use_fused(None):
            return super().call(inputs, training=training, mask=mask)
        if self.compute_dtype != "bfloat16":  # from which the kernel computes in float32 by itself
            inputs = ops.cast(inputs, "float32")
        learns = training and self.trainable
        outputs = self._of_this_batch(inputs) if learns else self._of_all_batches(inputs, training)
        return ops.cast(outputs, self.compute_dtype)

    def _of_this_batch(self, inputs):
        outputs, mean, variance = self._kernel(inputs, **self._scale_and_offset(inputs), is_training=True)
        # The kernel gives the unbiased variance; Keras, and so the moving average, has the other.
        count = ops.cast(ops.prod(ops.shape(inputs)[:-1]), "float32")
        variance = variance * (count - 1) / ops.maximum(count, 1)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + ops.cast(value, average.dtype) * (1 - self.momentum))
        return outputs

    def _of_all_batches(self, inputs, training):
        import tensorflow as tf

        moving = {"mean": self.moving_mean, "variance": self.moving_variance}
        weights = self._scale_and_offset(inputs) | {key: ops.cast(x, "float32") for key, x in moving.items()}
        if not training:
            return self._kernel(inputs, **weights, is_training=False)[0]

        # Frozen, but a layer before it learns. The kernel's own gradient is slow: it is made for learned weights, too.
        factor = weights["scale"] * ops.rsqrt(weights["variance"] + self.epsilon)

        @tf.custom_gradient
        def frozen(x):
            outputs = self._kernel(x, **weights, is_training=False)[0]
            return outputs, lambda upstream: upstream * ops.cast(factor, upstream.dtype)

        return frozen(inputs)

    def _scale_and_offset(self, inputs) -> dict:
        channels = inputs.shape[-1:]
        scale = ops.cast(self.gamma, "float32") if self.scale else ops.ones(channels)
        offset = ops.cast(self.beta, "float32") if self.center else ops.zeros(channels)
        return {"scale": scale, "offset": offset}

    def _kernel(self, inputs, is_training: bool, scale, offset, mean=(), variance=()):
        """Outputs, and mean and variance of the batch; the given ones are used where not training."""
        import tensorflow as tf

        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=scale,
            offset=offset,
            mean=ops.convert_to_tensor(mean, "float32"),
            variance=ops.convert_to_tensor(variance, "float32"),
            epsilon=self.epsilon,
            is_training=is_training,
        )[:3]
