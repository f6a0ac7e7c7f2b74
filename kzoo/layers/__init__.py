"""Keras layers that the papers share; all in keras.ops, float32 inside where precision matters."""

from kzoo.layers.anchor_generator import AnchorGenerator
from kzoo.layers.box_decoder import BoxDecoder
from kzoo.layers.feature_pyramid import UpsampleAdd, feature_pyramid
from kzoo.layers.l2_normalization import L2Normalization
from kzoo.layers.non_max_suppression import NonMaxSuppression
from kzoo.layers.pixel_normalization import PixelNormalization

__all__ = [
    "AnchorGenerator",
    "BoxDecoder",
    "L2Normalization",
    "NonMaxSuppression",
    "PixelNormalization",
    "UpsampleAdd",
    "feature_pyramid",
]
