"""RoI pooling, RoIAlign and spatial pyramid pooling beside plain loops over cells."""

import keras
import numpy as np
import pytest
import roi_reference as reference

from kzoo.layers import PyramidRoIAlign, RoIAlign, RoIPooling, SpatialPyramidPooling

STRIDE = 16


def scene(seed: int = 0, size=(9, 13), channels: int = 3, ties: bool = False):
    """Features (2, h, w, C) and regions in the image, on its border, outside, degenerate, inverted and huge."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, *size, channels)).astype("float32")
    if ties:
        features = np.maximum(np.round(features), 0)
    height, width = size[0] * STRIDE, size[1] * STRIDE
    corners = rng.uniform(-20, [width + 20, height + 20], (2, 12, 2, 2))
    rois = np.concatenate([corners.min(2), corners.max(2)], -1)
    special = [
        [0, 0, width, height],
        [-900, -700, 2000, 1900],
        [-300, -300, -200, -200],
        [width + 100, 5, width + 300, 90],
        [40, 40, 40, 40],
        [90, 80, 30, 20],
        [24, 40, 56, 72],  # 1.5 to 3.5 cells and 2.5 to 4.5: halves
        [-8, -24, 8, 24],
    ]
    return features, np.concatenate([rois, np.broadcast_to(special, (2, 8, 4))], 1).astype("float32")


@pytest.mark.parametrize(("p", "size"), [(7, (9, 13)), (3, (9, 13)), (2, (1, 5))])
def test_roi_pooling_takes_the_maxima_and_sends_the_gradient_to_them(p, size):
    features, rois = scene(size=size)
    upstream = np.random.default_rng(1).normal(size=(2, rois.shape[1], p, p, 3)).astype("float32")
    value, gradient = reference.value_and_gradient(lambda x: RoIPooling(p)(x, rois, stride=STRIDE), features, upstream)
    expected, expected_gradient = reference.roi_pool(features, rois, STRIDE, p, upstream)
    np.testing.assert_array_equal(value, expected.astype("float32"))
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-5)


def test_equal_maxima_get_no_more_than_the_gradient_there_is():
    # As after a ReLU, where most maxima are shared: each bin's gradient goes to cells that hold its maximum.
    features, rois = scene(ties=True)
    upstream = np.ones((2, rois.shape[1], 3, 3, 3), "float32")
    value, gradient = reference.value_and_gradient(lambda x: RoIPooling(3)(x, rois, stride=STRIDE), features, upstream)
    expected, expected_gradient = reference.roi_pool(features, rois, STRIDE, 3, upstream)
    np.testing.assert_array_equal(value, expected.astype("float32"))
    np.testing.assert_array_equal(gradient.sum((1, 2)), expected_gradient.sum((1, 2)))
    one = np.array([[[0, 0, 47, 47]]] * 2, "float32")  # one bin over cells 0..3 of each side
    _, gradient = reference.value_and_gradient(lambda x: RoIPooling(1)(x, one), features, upstream[:, :1, :1, :1])
    top = features[:, :4, :4].max((1, 2), keepdims=True)
    np.testing.assert_array_equal((gradient[:, :4, :4] * (features[:, :4, :4] == top)).sum((1, 2)), np.ones((2, 3)))


def test_the_bins_of_a_region_by_hand():
    # One row of five cells: 1.4 rounds to 1 and 3.5 to 4, so that the region has the cells 1..4, two for each bin.
    features = np.array([3.0, -5.0, -7.0, -2.0, -9.0], "float32").reshape(1, 1, 5, 1)
    pooled = RoIPooling(2)(features, np.array([[[1.4, 0, 3.5, 0]]], "float32"), stride=1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(pooled)[0, 0, :, :, 0], [[-5, -2]] * 2)
    # Wholly to the right of the map: no cell, and 0 although every cell is negative.
    pooled = RoIPooling(2)(features[:, :, 1:], np.array([[[6, 0, 8, 0]]], "float32"), stride=1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(pooled), np.zeros((1, 1, 2, 2, 1)))


def test_clipping_changes_nothing_for_regions_in_the_image():
    features, rois = scene()
    rois = np.clip(rois, 0, [13 * STRIDE, 9 * STRIDE] * 2)
    whole, clipped = (RoIPooling(3, clip_rois=clip)(features, rois) for clip in (False, True))
    np.testing.assert_array_equal(whole, clipped)


def test_halves_are_rounded_away_from_zero():
    from kzoo.layers.roi_pooling import round_half_away

    x = np.array([-2.5, -1.5, -0.5, -0.49999997, 0.49999997, 0.5, 1.5, 2.5], "float32")
    rounded = round_half_away(keras.ops.convert_to_tensor(x))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(rounded), [-3, -2, -1, 0, 0, 1, 2, 3])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("p", "samples", "size"), [(7, 2, (9, 13)), (2, 3, (1, 5)), (1, 1, (4, 4))])
def test_roi_align_averages_bilinear_samples(p, samples, size, fused):
    features, rois = scene(size=size)
    upstream = np.random.default_rng(1).normal(size=(2, rois.shape[1], p, p, 3)).astype("float32")
    layer = RoIAlign(p, samples, fused)
    value, gradient = reference.value_and_gradient(lambda x: layer(x, rois, stride=STRIDE), features, upstream)
    expected, expected_gradient = reference.roi_align(features, rois, STRIDE, p, samples, upstream)
    np.testing.assert_allclose(value, expected, atol=2e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=5e-5)


def test_roi_align_is_exact_on_a_slope():
    # A map that grows linearly: each bin holds the value at its middle, half a cell before the cell's corner.
    features = np.arange(20, dtype="float32").reshape(1, 1, 20, 1).repeat(20, axis=1)
    value = RoIAlign(2, 2)(features, np.array([[[4, 4, 12, 12]]], "float32"), stride=1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(value)[0, 0, 0, :, 0], [5.5, 9.5], rtol=1e-6)


@pytest.mark.parametrize("layer", [RoIAlign, RoIPooling, PyramidRoIAlign])
def test_maps_of_open_size_are_refused(layer):
    maps = keras.Input((None, None, 4))
    with pytest.raises(ValueError, match="height and width of its feature maps have to be fixed"):
        layer()([maps] * 4 if layer is PyramidRoIAlign else maps, keras.Input((5, 4)))


@pytest.mark.parametrize("fused", [True, False])
def test_each_region_is_pooled_from_the_level_of_its_size(fused):
    rng = np.random.default_rng(5)
    maps = [rng.normal(size=(1, 512 // 2**level, 512 // 2**level, 3)).astype("float32") for level in (2, 3, 4, 5)]
    rois = [[10, 10, 90, 70], [5, 5, 117, 117], [0, 100, 256, 300], [0, 0, 448, 448], [-2e3, 0, 2e3, 2e3]]
    rois = np.array([rois], "float32")
    layer = PyramidRoIAlign(fused=fused)
    pooled = keras.ops.convert_to_numpy(layer(maps, rois))
    for r, level in enumerate((2, 3, 4, 5, 5)):  # sqrt(w h) is 69, 112, 226, 448 and more: FPN, equation 1
        alone = RoIAlign(7)(maps[level - 2], rois[:, r : r + 1], stride=2**level)
        np.testing.assert_allclose(pooled[:, r : r + 1], alone, atol=1e-5)
    assert PyramidRoIAlign.from_config(layer.get_config()).get_config() == layer.get_config()
    half = PyramidRoIAlign(fused=fused, dtype="mixed_float16")(maps, rois)
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(half), pooled, atol=1e-2)
    inputs = [keras.Input(x.shape[1:]) for x in maps], keras.Input((5, 4))
    assert layer(*inputs).shape == (None, 5, 7, 7, 3)
    with pytest.raises(ValueError, match="Expected 4 maps"):
        layer(maps[:2], rois)


def test_the_pyramid_of_regions_sends_the_same_gradient_whichever_way_it_is_computed():
    rng = np.random.default_rng(6)
    maps = [rng.normal(size=(2, n, n, 3)).astype("float32") for n in (16, 8)]
    rois = np.array([[[4, 4, 40, 36], [0, 0, 60, 64]], [[8, 8, 24, 24], [0, 0, 0, 0]]], "float32")
    upstream = rng.normal(size=(2, 2, 7, 7, 3)).astype("float32")
    layers = [PyramidRoIAlign((2, 3), canonical_size=40, canonical_level=3, fused=fused) for fused in (True, False)]
    for k in range(2):

        def pooled(x, layer, k=k):
            return layer([x, maps[1]] if k == 0 else [maps[0], x], rois)

        fused, plain = (
            reference.value_and_gradient(lambda x, layer=layer: pooled(x, layer), maps[k], upstream) for layer in layers
        )
        np.testing.assert_allclose(fused[0], plain[0], atol=1e-5)
        np.testing.assert_allclose(fused[1], plain[1], atol=1e-5)
        assert np.abs(plain[1]).max() > 0.01


def test_spatial_pyramid_pooling_follows_the_papers_windows():
    features, rois = scene()
    value = keras.ops.convert_to_numpy(SpatialPyramidPooling()(features, rois, stride=STRIDE))
    assert value.shape == (2, 20, 50, 3)
    for b, r in np.ndindex(2, 20):
        sides = []
        for low, high, cells in ((rois[b, r, 1], rois[b, r, 3], 9), (rois[b, r, 0], rois[b, r, 2], 13)):
            first = max(int(np.floor(low / STRIDE)) + 1, 0)
            end = min(int(np.ceil(high / STRIDE)) - 1, cells - 1) + 1
            sides.append((first, end))
        if any(end <= first for first, end in sides):
            assert np.isin(value[b, r], features[b]).all()  # the nearest cells, never nothing
            continue
        bins = []
        for n in (1, 2, 3, 6):
            for i, j in np.ndindex(n, n):
                spans = [(a + k * (z - a) // n, a - (-(k + 1) * (z - a) // n)) for (a, z), k in zip(sides, (i, j))]  # noqa: B905
                bins.append(reference.max_over(features[b], *spans[0], *spans[1]))
        np.testing.assert_array_equal(value[b, r], np.array(bins, "float32"))


def test_spatial_pyramid_pooling_of_a_whole_map():
    features, _ = scene()
    value = keras.ops.convert_to_numpy(SpatialPyramidPooling((1, 2))(features))
    assert value.shape == (2, 5, 3)
    np.testing.assert_array_equal(value[:, 0], features.max((1, 2)))
    np.testing.assert_array_equal(value[:, 2], features[:, :5, 6:].max((1, 2)))  # upper right; 9 and 13 halve to 5, 7
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(SpatialPyramidPooling((6,))(features[:, :1, :2])).shape[1], 36
    )


def test_a_thin_window_pools_the_cell_nearest_to_its_middle():
    features = np.arange(5, dtype="float32").reshape(1, 1, 5, 1)
    rois = np.array([[[33, 0, 40, 0], [47, 0, 49, 0], [-90, 0, -80, 0], [500, 0, 600, 0]]], "float32")
    pooled = keras.ops.convert_to_numpy(SpatialPyramidPooling((1,))(features, rois))[0, :, 0, 0]
    np.testing.assert_array_equal(pooled, [2, 3, 0, 4])


LAYERS = [(RoIPooling, {"pool_size": 3}), (RoIAlign, {"pool_size": 3}), (SpatialPyramidPooling, {"bins": (1, 2)})]


@pytest.mark.parametrize(("cls", "arguments"), LAYERS)
def test_layer_contract(run_layer_test, cls, arguments):
    run_layer_test(cls, arguments, scene())


@pytest.mark.parametrize(("cls", "arguments"), LAYERS)
def test_no_regions_and_no_images_give_empty_features(cls, arguments):
    features, rois = scene()
    layer = cls(**arguments)
    assert layer(features, rois[:, :0]).shape[:2] == (2, 0)
    assert layer(features[:0], rois[:0]).shape[:2] == (0, 20)


@pytest.mark.parametrize(("cls", "arguments"), LAYERS)
def test_half_precision_does_not_move_the_regions(cls, arguments):
    # 2049 is no float16: regions must stay in float32 whatever the policy.
    features = np.random.default_rng(0).integers(0, 9, (1, 2, 160, 1)).astype("float32")
    rois = np.array([[[2049, 0, 2065, 31], [2055.5, 0, 2056.5, 31]]], "float32")
    full, half = (cls(**arguments, dtype=policy)(features, rois) for policy in ("float32", "mixed_float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(half), full, rtol=2e-3)


@pytest.mark.parametrize(("cls", "arguments"), LAYERS)
def test_a_functional_model_with_any_batch_size_is_saved_and_loaded(cls, arguments, tmp_path):
    features, rois = scene()
    inputs = keras.Input(features.shape[1:]), keras.Input(rois.shape[1:])
    model = keras.Model(inputs, cls(**arguments)(*inputs, stride=8))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    expected = cls(**arguments)(features, rois, stride=8)
    np.testing.assert_allclose(loaded.predict([features, rois], verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_faults_are_named():
    with pytest.raises(ValueError, match="pool_size must be at least 1"):
        RoIPooling(0)
    with pytest.raises(ValueError, match="sampling_ratio must be at least 1"):
        RoIAlign(7, 0)
    with pytest.raises(ValueError, match="bins must be"):
        SpatialPyramidPooling(())
    with pytest.raises(ValueError, match="at least one cell"):
        RoIPooling(2)(np.zeros((1, 0, 4, 1), "float32"), np.zeros((1, 1, 4), "float32"))
