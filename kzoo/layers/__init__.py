"""Keras layers that the papers share; all in keras.ops, float32 inside where precision matters."""

from kzoo.layers.anchor_generator import AnchorGenerator, strides_of
from kzoo.layers.batch_normalization import BatchNormalization
from kzoo.layers.box_decoder import BoxDecoder
from kzoo.layers.conv2d import Conv2D
from kzoo.layers.conv2d_transpose import BilinearInitializer, Conv2DTranspose
from kzoo.layers.feature_pyramid import UpsampleAdd, feature_pyramid
from kzoo.layers.l2_normalization import L2Normalization
from kzoo.layers.max_unpooling import MaxPoolingWithSwitches, MaxUnpooling2D
from kzoo.layers.non_max_suppression import NonMaxSuppression
from kzoo.layers.pixel_normalization import PixelNormalization
from kzoo.layers.pyramid_roi_align import PyramidRoIAlign
from kzoo.layers.region_proposals import RegionProposals
from kzoo.layers.roi_align import RoIAlign
from kzoo.layers.roi_pooling import RoIPooling
from kzoo.layers.separable_conv2d import separable_conv2d
from kzoo.layers.spatial_pyramid_pooling import SpatialPyramidPooling
from kzoo.layers.top_candidates import TopCandidates

__all__ = [
    "AnchorGenerator",
    "BatchNormalization",
    "BilinearInitializer",
    "BoxDecoder",
    "Conv2D",
    "Conv2DTranspose",
    "L2Normalization",
    "MaxPoolingWithSwitches",
    "MaxUnpooling2D",
    "NonMaxSuppression",
    "PixelNormalization",
    "PyramidRoIAlign",
    "RegionProposals",
    "RoIAlign",
    "RoIPooling",
    "SpatialPyramidPooling",
    "TopCandidates",
    "UpsampleAdd",
    "feature_pyramid",
    "separable_conv2d",
    "strides_of",
]
