"""Backbones: strides, widths, weights, freezing."""

import keras
import numpy as np
import pytest

from kzoo import backbones


@pytest.mark.parametrize("name", [name for name in backbones.names() if name != "alexnet"])
def test_each_map_has_its_stride(name):
    width = 0.25 if name in ("vgg16", "yolo", "fast_yolo") else 1.0
    model = backbones.create(name, (64, 96), width=width)
    assert list(model.output)[-1] == "C5"
    for key, feature in model.output.items():
        stride = 2 ** int(key[1:])
        assert feature.shape[1:3] == (64 // stride, 96 // stride), key


@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_v2", "tiny", "vgg16", "yolo", "fast_yolo"])
def test_width_changes_the_number_of_channels(name):
    full, half = (backbones.create(name, (32, 32), width=w).output["C3"].shape[-1] for w in (0.5, 0.25))
    assert full == 2 * half


def test_vgg16_is_the_published_network():
    model = backbones.create("vgg16", (32, 32))
    published = keras.applications.VGG16(include_top=False, weights=None)
    assert [w.shape for w in model.weights] == [w.shape for w in published.weights]
    assert model.count_params() == 14_714_688


def test_alexnet_is_the_taught_network(unfilled):
    model = backbones.create("alexnet", (227, 227))
    sizes = {key: tuple(x.shape[1:]) for key, x in model.output.items()}
    assert sizes == {"C2": (55, 55, 96), "C3": (27, 27, 256), "C4": (13, 13, 256), "C5": (6, 6, 256)}
    kernels = [(11, 3, 96), (5, 96, 256), (3, 256, 384), (3, 384, 384), (3, 384, 256)]
    assert model.count_params() == sum(k * k * i * o + o for k, i, o in kernels)
    with pytest.raises(ValueError, match="at least 67 x 67"):
        backbones.create("alexnet", (67, 66))


def test_yolos_own_networks_have_the_papers_convolutions(unfilled):
    yolo, fast = (backbones.create(name, (448, 448)) for name in ("yolo", "fast_yolo"))
    for model, count, channels in ((yolo, 20, 1024), (fast, 6, 512)):
        (body,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
        assert sum(isinstance(layer, keras.layers.Conv2D) for layer in body.layers) == count
        assert model.output["C5"].shape == (None, 14, 14, channels)


def test_weights_of_the_keras_application_fit(tmp_path):
    source = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(32, 32, 3))
    source.save_weights(tmp_path / "m.weights.h5")
    model = backbones.create("mobilenet", (32, 32), width=0.25, weights=tmp_path / "m.weights.h5")
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(model(pixels)["C5"], source(pixels / 127.5 - 1), atol=1e-5)


def test_resnet50_has_no_biases_and_takes_over_those_of_the_keras_application(tmp_path):
    source = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    rng = np.random.default_rng(0)
    for layer in source.layers:
        ranges = {"bias": (-1, 1), "gamma": (0.8, 1.2), "beta": (-0.1, 0.1), "moving_mean": (-1, 1)}
        for weight in layer.weights:
            if weight.name in ranges:
                weight.assign(rng.uniform(*ranges[weight.name], weight.shape))
    source.save_weights(tmp_path / "r.weights.h5")
    model = backbones.create("resnet50", (64, 64), weights=tmp_path / "r.weights.h5")
    assert not [weight.path for weight in model.weights if weight.name == "bias"]
    assert model.count_params() == 23_508_032 + 53_120  # those of the paper, and the means and variances
    pixels = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected = source(keras.applications.resnet.preprocess_input(pixels.copy()))
    scale = float(keras.ops.max(keras.ops.abs(expected)))
    np.testing.assert_allclose(model(pixels)["C5"] / scale, expected / scale, atol=1e-4)


def test_published_imagenet_weights_change_the_features(shared_data):
    path = shared_data("weights") / "mobilenet_v1_1.0_notop.weights.h5"
    model = backbones.create("mobilenet", (64, 64), weights=path)
    first = next(w for w in model.weights if w.path.endswith("conv1/kernel"))
    assert float(keras.ops.max(keras.ops.abs(first))) > 0.5  # a random start stays below 0.15


def test_frozen_stages_and_batch_norm_stay_as_they_are():
    model = backbones.create("tiny", (64, 64), frozen_stages=2, frozen_batch_norm=True)
    names = {w.path.split("/")[-2] for w in model.trainable_weights}
    assert "stage3_block1_conv" in names
    assert not {n for n in names if n.startswith(("stage1", "stage2"))}
    assert not {n for n in names if n.endswith("_bn")}


def test_every_backbone_has_an_origin():
    assert all(0 <= backbones.origin(name) < 32 for name in backbones.names())


def test_a_backbone_of_ones_own_takes_no_weights():
    image = keras.Input((64, 64, 3))
    own = keras.Model(image, {"C3": keras.layers.Conv2D(4, 8, 8)(image)}, name="own")
    with pytest.raises(ValueError, match="own: a model of your own brings its weights"):
        backbones.create(own, weights="imagenet")
    assert not backbones.create(own, frozen_stages=3).trainable_weights


@pytest.mark.parametrize("name", ["alexnet", "mobilenet", "tiny", "vgg16"])
def test_the_origin_is_the_pixel_that_the_first_cell_looks_at(name):
    model = backbones.create(name, (256, 256), width=0.1, last_stage=4)
    for variable in model.weights:
        if variable.path.endswith("kernel"):  # means of what they see: no activation is cut off, and none cancels
            value = np.abs(variable.numpy()) + 0.01
            variable.assign(value / value.sum(axis=(0, 1) if "dw" in variable.path else (0, 1, 2), keepdims=True))
    image = np.random.default_rng(0).uniform(150, 255, (256, 256, 3)).astype("float32")
    rows = np.arange(256)
    brighter = np.where((rows[:, None] == rows)[..., None, None], 1000, image).astype("float32")  # a row of each image
    cells = model.predict(brighter, batch_size=16, verbose=0)["C4"][:, 7, 7]
    untouched = model.predict(image[None], verbose=0)["C4"][0, 7, 7]
    seen = np.flatnonzero(np.abs(cells - untouched).max(axis=1) > 1e-5 * np.abs(untouched).max())
    assert (seen[0] + seen[-1]) / 2 == 7 * 16 + backbones.origin(name)


def test_a_backbone_of_ones_own():
    image = keras.Input((64, 64, 3))
    c3 = keras.layers.Conv2D(8, 3, 8, padding="same")(image)
    own = keras.Model(image, {"P3": c3, "P4": keras.layers.MaxPooling2D()(c3)}, name="own")
    assert list(backbones.create(own).output) == ["C3", "C4"]
    with pytest.raises(ValueError, match="dict of feature maps"):
        backbones.create(keras.Model(image, c3))


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'mobilenet'"):
        backbones.create("mobilnet")
    with pytest.raises(ValueError, match=r"no published weights"):
        backbones.create("tiny", weights="imagenet")
    with pytest.raises(ValueError, match=r"nor an existing \.weights\.h5"):
        backbones.create("tiny", weights=tmp_path / "missing.weights.h5")
    with pytest.raises(ValueError, match="width 1 only"):
        backbones.create("resnet50", width=0.5)
    with pytest.raises(ValueError, match="frozen_stages=9"):
        backbones.create("tiny", (32, 32), frozen_stages=9)
    backbones.create("tiny", (32, 32), width=0.5).save_weights(tmp_path / "t.weights.h5")
    with pytest.raises(ValueError, match="not the weights of the backbone 'mobilenet'"):
        backbones.create("mobilenet", (32, 32), weights=tmp_path / "t.weights.h5")
