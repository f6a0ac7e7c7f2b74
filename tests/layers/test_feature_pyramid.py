import keras
import numpy as np
import pytest

from kzoo.layers import UpsampleAdd, feature_pyramid


def maps(sizes, channels=(4, 6, 8), first=3):
    return {
        f"C{first + k}": keras.Input((*((size, size) if isinstance(size, int) else size), c), name=f"C{first + k}")
        for k, (size, c) in enumerate(zip(sizes, channels, strict=False))
    }


def test_each_fine_cell_meets_the_coarse_cell_that_covers_it(run_layer_test):
    coarse = np.arange(6, dtype="float32").reshape(1, 2, 3, 1)
    fine = 100 * np.ones((1, 3, 5, 1), "float32")
    _, merged = run_layer_test(UpsampleAdd, {}, (coarse, fine))
    expected = 100 + np.array([[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(merged)[0, :, :, 0], expected)


def test_a_fine_map_of_more_than_double_size_gets_the_coarse_one_stretched(run_layer_test):
    coarse = np.array([[1.0, 2.0]], "float32").reshape(1, 1, 2, 1)
    _, merged = run_layer_test(UpsampleAdd, {}, (coarse, np.zeros((1, 3, 6, 1), "float32")))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(merged)[0, :, :, 0], [[1, 1, 1, 2, 2, 2]] * 3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="asks TensorFlow for gradients")
@pytest.mark.parametrize("size", [(4, 6), (3, 5), (7, 6)])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_are_those_of_nearest_neighbours_also_under_xla(size, jit_compile):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    coarse, fine, upstream = (rng.normal(size=(2, *s, 3)).astype("float32") for s in ((2, 3), size, size))

    @tf.function(jit_compile=jit_compile)
    def gradients(coarse, fine):
        with tf.GradientTape() as tape:
            tape.watch([coarse, fine])
            total = tf.reduce_sum(UpsampleAdd()(coarse, fine) * upstream)
        return tape.gradient(total, [coarse, fine])

    expected = np.zeros_like(coarse)
    for y, x in np.ndindex(size):
        cell = (y // 2, x // 2) if max(size[0] - 4, size[1] - 6) <= 0 else (int((y + 0.5) * 2 / size[0]), x // 2)
        expected[:, *cell] += upstream[:, y, x]
    found = gradients(tf.constant(coarse), tf.constant(fine))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[1], upstream)


def test_maps_of_open_size_are_refused():
    with pytest.raises(ValueError, match=r"height and width of its feature maps have to be fixed. .*None"):
        UpsampleAdd()(keras.Input((None, None, 4)), keras.Input((8, 8, 4)))


def test_retinanets_pyramid_has_the_papers_levels_and_weights():
    features = maps([(75, 38), (38, 19), (19, 10)], (512, 1024, 2048))
    pyramid = feature_pyramid(features)
    sizes = {key: tuple(x.shape[1:]) for key, x in pyramid.items()}
    assert sizes == {
        "P3": (75, 38, 256),
        "P4": (38, 19, 256),
        "P5": (19, 10, 256),
        "P6": (10, 5, 256),
        "P7": (5, 3, 256),
    }
    lateral = (512 + 1024 + 2048) * 256 + 3 * 256
    smooth = 3 * (9 * 256 * 256 + 256)
    top = 9 * 2048 * 256 + 256 + 9 * 256 * 256 + 256  # P6 on C5, P7 on P6
    assert keras.Model(features, pyramid).count_params() == lateral + smooth + top


def test_faster_rcnns_pyramid_ends_in_every_second_cell_of_p5():
    features = maps([16, 8, 4, 3], (4, 5, 6, 7), first=2)
    pyramid = feature_pyramid(features, channels=8, last_level=6, top="pool")
    assert list(pyramid) == ["P2", "P3", "P4", "P5", "P6"]
    model = keras.Model(features, pyramid)
    rng = np.random.default_rng(0)
    out = model({k: rng.normal(size=(2, *x.shape[1:])).astype("float32") for k, x in features.items()})
    p5, p6 = (keras.ops.convert_to_numpy(out[k]) for k in ("P5", "P6"))
    np.testing.assert_array_equal(p6, p5[:, ::2, ::2])


def test_p7_is_made_of_the_positive_part_of_p6_and_p6_of_the_last_map_asked_for():
    features = maps([8, 4, 2])
    of_c, of_p = (feature_pyramid(features, 8, top=top, name=top) for top in ("conv_c", "conv_p"))
    weights = {w.path: w.shape for w in keras.Model(features, [of_c["P7"], of_p["P7"]]).weights}
    assert weights["conv_c_p6/kernel"] == (3, 3, 8, 8)  # C5 has eight channels too
    names = [layer.name for layer in keras.Model(features, of_c["P7"]).layers]
    assert "conv_c_p7_relu" in names
    assert "conv_c_p5" not in names  # P6 does not depend on P5
    assert "conv_p_p5" in [layer.name for layer in keras.Model(features, of_p["P7"]).layers]


def test_information_flows_from_the_top_to_the_finest_level():
    features = maps([8, 4, 2])
    model = keras.Model(features, feature_pyramid(features, channels=8))
    zeros = {k: np.zeros((1, *x.shape[1:]), "float32") for k, x in features.items()}
    top = {**zeros, "C5": np.ones_like(zeros["C5"])}
    assert np.abs(keras.ops.convert_to_numpy(model(zeros)["P3"])).max() == 0
    assert np.abs(keras.ops.convert_to_numpy(model(top)["P3"])).max() > 0


def test_one_level_alone_and_other_convolutions_work():
    features = maps([9])
    pyramid = feature_pyramid(features, 8, last_level=5, conv=keras.layers.SeparableConv2D)
    assert [x.shape[1] for x in pyramid.values()] == [9, 5, 3]
    kinds = {type(layer) for layer in keras.Model(features, pyramid).layers}
    assert keras.layers.SeparableConv2D in kinds


def test_faults_are_named():
    with pytest.raises(ValueError, match="Did you mean 'pool'"):
        feature_pyramid(maps([8, 4, 2]), top="pol")
    with pytest.raises(ValueError, match=r"follow each other.*C3, C5"):
        feature_pyramid({"C3": maps([8])["C3"], "C5": maps([2])["C3"]})
    with pytest.raises(ValueError, match="last_level=4 lies below the backbone's C5"):
        feature_pyramid(maps([8, 4, 2]), last_level=4)
