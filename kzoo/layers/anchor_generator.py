"""Anchors (SSD's default boxes): reference boxes on the cells of one or several feature maps."""

import math
from collections.abc import Sequence

import keras
import numpy as np

from kzoo.layers.sizes import require_sizes


@keras.saving.register_keras_serializable("kzoo")
class AnchorGenerator(keras.layers.Layer):
    """Tiles anchors over the cells of feature maps, level by level, row by row.

    A cell (i, j) of a level with stride s has its anchors centred at ((j + 0.5) s, (i + 0.5) s). An anchor of size a
    and aspect ratio r = width / height is a sqrt(r) wide and a / sqrt(r) high, so that its area is a^2. In a cell the
    anchors stand in the order: for each size, for each aspect ratio; then the extra squares.

    Args:
        sizes: per level, the anchors' sizes in pixels: [[32, 40, 51], [64, 81, 102], ...].
        aspect_ratios: per level, width / height: [[0.5, 1, 2], ...]; or one list for all levels.
        strides: per level, pixels from cell to cell; a number, or (y, x).
        extra_squares: per level, sizes of further anchors of aspect ratio 1 (SSD's sqrt(s_k s_k+1)).

    Call:
        inputs: (height, width) of the image, or the list of feature maps (B, h, w, C), one a level.
    Returns:
        (A, 4) float32 xyxy in image pixels; anchors at the border reach outside the image.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence,
        strides: Sequence,
        extra_squares: Sequence[Sequence[float]] | None = None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self._allow_non_tensor_positional_args = True  # an image shape is no tensor
        levels = len(sizes)
        if not isinstance(aspect_ratios[0], Sequence):
            aspect_ratios = [aspect_ratios] * levels
        extra_squares = extra_squares or [[]] * levels
        if not levels == len(aspect_ratios) == len(strides) == len(extra_squares):
            raise ValueError(
                "sizes, aspect_ratios, strides and extra_squares need one entry a level. Received: "
                f"{levels}, {len(aspect_ratios)}, {len(strides)}, {len(extra_squares)} entries."
            )
        self.sizes = [[float(s) for s in level] for level in sizes]
        self.aspect_ratios = [[float(r) for r in level] for level in aspect_ratios]
        self.strides = [tuple(s) if isinstance(s, Sequence) else (s, s) for s in strides]
        self.extra_squares = [[float(s) for s in level] for level in extra_squares]

    @property
    def anchors_per_cell(self) -> list[int]:
        """How many anchors a cell has, per level."""
        return [
            len(sizes) * len(ratios) + len(extra)
            for sizes, ratios, extra in zip(self.sizes, self.aspect_ratios, self.extra_squares, strict=True)
        ]

    def call(self, inputs):
        return keras.ops.convert_to_tensor(self.anchors(self._grids(inputs)), "float32")

    def anchors(self, grids: Sequence[tuple[int, int]]) -> np.ndarray:
        """The anchors (A, 4) for grids of (rows, columns) cells, one a level, as a NumPy constant."""
        levels = [self._level(k, *grid) for k, grid in enumerate(grids)]
        return np.concatenate(levels).astype("float32")

    def _grids(self, inputs) -> list[tuple[int, int]]:
        if isinstance(inputs[0], int):
            height, width = inputs
            return [(math.ceil(height / sy), math.ceil(width / sx)) for sy, sx in self.strides]
        if len(inputs) != len(self.strides):
            raise ValueError(f"Expected {len(self.strides)} feature maps, one a level. Received: {len(inputs)}.")
        require_sizes(self.name, *(feature.shape for feature in inputs))
        return [tuple(feature.shape[1:3]) for feature in inputs]

    def _level(self, k: int, rows: int, columns: int) -> np.ndarray:
        shapes = [(s * r**0.5, s / r**0.5) for s in self.sizes[k] for r in self.aspect_ratios[k]]
        shapes += [(s, s) for s in self.extra_squares[k]]
        half = np.array(shapes) / 2  # (anchors a cell, 2)
        stride_y, stride_x = self.strides[k]
        y, x = np.meshgrid((np.arange(rows) + 0.5) * stride_y, (np.arange(columns) + 0.5) * stride_x, indexing="ij")
        centers = np.stack([x, y], axis=-1)[:, :, None]  # (rows, columns, 1, 2)
        return np.concatenate([centers - half, centers + half], axis=-1).reshape(-1, 4)

    def compute_output_spec(self, inputs):
        count = sum(r * c * n for (r, c), n in zip(self._grids(inputs), self.anchors_per_cell, strict=True))
        return keras.KerasTensor((count, 4), "float32")

    def get_config(self):
        return super().get_config() | {
            "sizes": self.sizes,
            "aspect_ratios": self.aspect_ratios,
            "strides": [list(s) for s in self.strides],
            "extra_squares": self.extra_squares,
        }


def strides_of(
    features: Sequence, image_size: tuple[int, int], first_level: int, halved: int | None = None
) -> list[list[float]]:
    """The strides (y, x) of feature maps (B, h, w, C) of which the first halves the image `first_level` times.

    Maps made by halving keep their nominal stride 2^level; those made without padding divide the image evenly.

    Args:
        halved: so many maps can be of the first kind, the others are not, though their number of cells may look so: SSD
            makes 3 cells of 5 without padding, as halving would. None for all.
    """
    strides = []
    for level, feature in enumerate(features):
        stride = 2 ** (first_level + level)
        nominal = halved is None or level < halved
        sides = zip(image_size, feature.shape[1:3], strict=True)
        strides.append(
            [stride if nominal and math.ceil(size / stride) == cells else size / cells for size, cells in sides]
        )
    return strides
