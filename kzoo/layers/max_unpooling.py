"""Max pooling that remembers where each maximum came from, and the unpooling that puts it back."""

import keras
from keras import ops

from kzoo.layers.sizes import known_sizes


@keras.saving.register_keras_serializable("kzoo")
class MaxPoolingWithSwitches(keras.layers.Layer):
    """Max pooling without overlap, and its switches (DeconvNet, section 3.2.1).

    Of equal values the first in reading order wins, and it alone gets the gradient. The pixels of a window are compared
    one by one, in operators that every LiteRT runtime has.

    Args:
        pool_size: side of the windows and stride; height and width of the input must be multiples of it.

    Returns:
        the maxima (B, H / p, W / p, C), and the switches, int32 of the same shape: 0..p² - 1, the winner's place in its
        window in reading order.
    """

    def __init__(self, pool_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = pool_size

    def call(self, inputs):
        p = self.pool_size
        self._check(inputs.shape)
        slices = self._places(inputs)
        maximum = slices[0]
        for part in slices[1:]:
            maximum = ops.maximum(maximum, part)
        maximum = ops.stop_gradient(maximum)
        # From the last to the first, so that the first winner has the last word; where() carries the gradient to it
        # alone, while that of maximum() would be split among equals.
        pooled, switches = slices[-1], ops.full_like(maximum, p * p - 1, dtype="int32")
        for place in reversed(range(p * p - 1)):
            wins = ops.equal(slices[place], maximum)
            pooled = ops.where(wins, slices[place], pooled)
            switches = ops.where(wins, place, switches)
        return pooled, switches

    def _places(self, inputs) -> list:
        """For each place of a window, in reading order, what stands there: p² maps (B, H / p, W / p, C).

        In memory the rows of a window follow each other, and the columns of a row: to reshape and split is several
        times faster than strided slices, whose gradients are maps of zeros to be added up.
        """
        p = self.pool_size
        height, width, channels = known_sizes(inputs)
        lines = ops.reshape(inputs, (-1, p, width // p, p * channels))
        return [
            ops.reshape(place, (-1, height // p, width // p, channels))
            for line in ops.split(lines, p, axis=1)
            for place in ops.split(line, p, axis=-1)
        ]

    def _check(self, shape) -> None:
        if any(side is not None and side % self.pool_size for side in shape[1:3]):
            raise ValueError(
                f"{self.name}: height and width must be multiples of {self.pool_size}. Received: {tuple(shape)}. "
                "Pad the map first."
            )

    def compute_output_spec(self, inputs):
        self._check(inputs.shape)
        batch, height, width, channels = inputs.shape
        shape = (batch, *(None if side is None else side // self.pool_size for side in (height, width)), channels)
        return keras.KerasTensor(shape, self.compute_dtype), keras.KerasTensor(shape, "int32")

    def get_config(self):
        return super().get_config() | {"pool_size": self.pool_size}


@keras.saving.register_keras_serializable("kzoo")
class MaxUnpooling2D(keras.layers.Layer):
    """Puts each value back where its maximum came from, zeros elsewhere: (B, h, w, C) -> (B, h p, w p, C).

    Call it on the values and the switches of a `MaxPoolingWithSwitches` of the same `pool_size`.
    """

    def __init__(self, pool_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = pool_size

    def call(self, inputs, switches):
        p = self.pool_size
        height, width, channels = known_sizes(inputs)
        zero = ops.zeros((), inputs.dtype)
        # Side by side in the last axes, then reshaped: memory order does the interleaving.
        rows = []
        for i in range(p):
            parts = [ops.where(ops.equal(switches, i * p + j), inputs, zero) for j in range(p)]
            rows.append(ops.reshape(ops.concatenate(parts, axis=-1), (-1, height, width * p, channels)))
        return ops.reshape(ops.concatenate(rows, axis=2), (-1, height * p, width * p, channels))

    def compute_output_spec(self, inputs, switches):
        if tuple(inputs.shape[1:]) != tuple(switches.shape[1:]):
            raise ValueError(f"{self.name}: values {inputs.shape} and switches {switches.shape} must have one shape.")
        batch, height, width, channels = inputs.shape
        shape = (batch, *(None if side is None else side * self.pool_size for side in (height, width)), channels)
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"pool_size": self.pool_size}
