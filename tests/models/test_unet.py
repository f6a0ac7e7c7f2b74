"""U-Net: the paper's sizes and counts, its weighted loss as a loop, tiles without seams."""

import keras
import numpy as np
import pytest
import segmenter_checks as checks

from kzoo import tiling
from kzoo.models import UNet
from kzoo.models.unet import border, output_size


def small(**kwargs):
    return UNet(3, **{"image_size": 60, "width": 0.0625, "depth": 2, "dropout": 0.1, **kwargs})


@pytest.mark.parametrize(
    ("arguments", "rate"), [({}, 0.5), ({"batch_norm": True}, 0.0), ({"batch_norm": True, "dropout": 0.2}, 0.2)]
)
def test_dropout_is_the_papers_unless_batch_norm_comes_behind_it(arguments, rate):
    model = UNet(2, 60, width=0.0625, depth=2, **arguments)
    assert {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)} == {rate}
    assert model.get_config()["dropout"] == rate


def test_the_papers_network():
    model = UNet(num_classes=2)
    assert model.output.shape == (None, 388, 388, 2)
    sizes = [model.get_layer(f"down{level}_conv2").output.shape[1:] for level in (1, 2, 3, 4)]
    assert sizes == [(568, 568, 64), (280, 280, 128), (136, 136, 256), (64, 64, 512)]  # figure 1
    assert model.get_layer("bottom5_conv2").output.shape[1:] == (28, 28, 1024)
    assert [model.get_layer(f"up{level}_crop").output.shape[1] for level in (4, 3, 2, 1)] == [56, 104, 200, 392]
    # By hand: nine pairs of 3x3 convolutions, four 2x2 up-convolutions, the 1x1 convolution; each with a bias.
    pairs = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 512), (512, 256), (256, 128), (128, 64)]
    convolutions = sum(9 * i * o + o + 9 * o * o + o for i, o in pairs)
    up = sum(4 * 2 * o * o + o for o in (512, 256, 128, 64))
    assert model.count_params() == convolutions + up + 64 * 2 + 2
    assert model.tile_size == (388, 388)
    assert model.context == (92, 92)
    # He's start, section 3: sqrt(2 / N), N the inputs of a neuron.
    deviation = np.std(keras.ops.convert_to_numpy(model.get_layer("down4_conv2").kernel))
    assert deviation == pytest.approx(np.sqrt(2 / (9 * 512)), rel=0.01)
    deviation = np.std(keras.ops.convert_to_numpy(model.get_layer("up4_conv").kernel))
    assert deviation == pytest.approx(np.sqrt(2 / 1024), rel=0.01)


def test_output_sizes_of_valid_convolutions():
    assert output_size(572) == 388
    assert border(4) == (572 - 388) // 2
    for depth in (1, 2, 3, 4):
        for side in range(1, 300):
            size = output_size(side, depth)
            assert size is None or side - size == 2 * border(depth)
    with pytest.raises(ValueError, match=r"Take a height of 284 or 300 and a width of 572, or padding='same'"):
        UNet(2, (290, 572))
    with pytest.raises(ValueError, match="Take a height of 188 and"):
        UNet(2, (1, 1))


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (64, 48)])
def test_same_padding_takes_any_size(size):
    model = small(image_size=size, padding="same")
    assert model.output.shape == (None, *size, 3)
    assert model.segment(np.zeros((1, *size, 3), "uint8"))["labels"].shape == (1, *size)


@pytest.mark.parametrize("depth", [1, 3])
def test_any_depth(depth):
    model = UNet(2, 64, "same", 0.05, depth, batch_norm=True)
    assert model.output.shape == (None, 64, 64, 2)
    assert model.stride == 2**depth


def test_the_loss_is_the_weighted_cross_entropy_of_the_central_pixels_that_are_known():
    model = small()
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (2, 60, 60))
    masks[rng.random(masks.shape) < 0.2] = 255
    weights = rng.uniform(0, 10, masks.shape).astype("float32")
    logits = rng.normal(size=(2, *model.output.shape[1:])).astype("float32")
    edge = (60 - logits.shape[1]) // 2
    total, count = 0.0, 0
    for b, y, x in np.ndindex(logits.shape[:3]):
        label = masks[b, y + edge, x + edge]
        if label != 255:
            p = np.exp(logits[b, y, x]) / np.exp(logits[b, y, x]).sum()
            total -= weights[b, y + edge, x + edge] * np.log(p[label])
            count += 1
    found = model.raw_losses({"masks": masks, "weights": weights}, logits)["mask_loss"]
    np.testing.assert_allclose(float(found), total / count, rtol=1e-5)
    nothing = model.raw_losses(np.full_like(masks, 255), logits)["mask_loss"]
    assert float(nothing) == 0.0


def test_sample_weight_weighs_pixels_and_images():
    model = small(image_size=40, padding="same")
    images, masks = checks.pictures(2, (40, 40))
    model.compile("sgd")
    by_image = model.evaluate(images, masks, sample_weight=np.array([2.0, 0.0]), verbose=0)
    by_pixel = model.evaluate(images, masks, sample_weight=np.array([2.0, 0.0])[:, None, None] + 0 * masks, verbose=0)
    alone = model.evaluate(images[:1], masks[:1], verbose=0)
    np.testing.assert_allclose(by_image, by_pixel, rtol=1e-5)
    np.testing.assert_allclose(by_image, alone, rtol=1e-4)  # twice the first image over the pixels of two


@pytest.mark.parametrize("loss", ["cross_entropy", "weighted_cross_entropy", "dice", "focal"])
def test_losses_are_exchangeable_and_finite_without_any_known_pixel(loss):
    keras.utils.set_random_seed(0)
    model = small(image_size=16, padding="same", depth=1, loss=loss, class_weights=[0.5, 1.0, 2.0])
    images, masks = checks.pictures(2, (16, 16))
    model.compile(keras.optimizers.Adam(1e-3))
    losses = [model.train_on_batch(images, masks) for _ in range(4)]
    assert losses[-1] < losses[0]
    model.train_on_batch(images, np.full_like(masks, 255))
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_compile_takes_another_loss():
    model = small(image_size=16, padding="same")
    model.compile("sgd", loss="dice")
    assert model.get_config()["loss"] == "dice"
    model.compile("sgd", loss=lambda masks, logits, weights: keras.ops.sum(weights))
    _, masks = checks.pictures(2, (16, 16))
    assert model.evaluate(np.zeros((2, 16, 16, 3)), masks, verbose=0)[0] == 2 * 16 * 15
    with pytest.raises(ValueError, match="Did you mean 'dice'"):
        model.compile("sgd", loss="dise")
    with pytest.raises(ValueError, match="needs class_weights"):
        model.compile("sgd", loss="weighted_cross_entropy")
    with pytest.raises(ValueError, match="class_weights has 1 numbers"):
        small(class_weights=[1.0])


@pytest.mark.parametrize("size", [(150, 110), (20, 61)])
def test_tiles_have_no_seams(size):
    # Against one large pass over the same mirrored image.
    keras.utils.set_random_seed(2)
    model = small(image_size=92)
    image = np.random.default_rng(3).uniform(0, 255, (*size, 3)).astype("float32")
    tiles = tiling.overlap_tile(
        image, lambda x: {"logits": keras.ops.convert_to_numpy(model(x))}, (92, 92), model.tile_size, model.stride
    )["logits"]
    edge = border(2)
    whole = [next(k for k in range(side, side + 9) if output_size(k + 2 * edge, 2)) for side in size]
    large = small(image_size=tuple(side + 2 * edge for side in whole))
    large.set_weights(model.get_weights())
    padding = [(edge, edge + a - b) for a, b in zip(whole, size, strict=True)]
    once = keras.ops.convert_to_numpy(large(np.pad(image, [*padding, (0, 0)], mode="reflect")[None]))[0]
    np.testing.assert_allclose(tiles, once[: size[0], : size[1]], atol=1e-5)
    np.testing.assert_array_equal(model.segment(image[None])["labels"][0], tiles.argmax(-1))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_same_padded_tiles_have_no_seams_inside(depth):
    keras.utils.set_random_seed(2)
    model = UNet(2, 192, "same", 0.05, depth, tiled=True)
    large = UNet(2, (320, 288), "same", 0.05, depth)
    large.set_weights(model.get_weights())
    image = np.random.default_rng(3).uniform(0, 255, (320, 288, 3)).astype("float32")
    tiles = tiling.overlap_tile(
        image, lambda x: {"logits": keras.ops.convert_to_numpy(model(x))}, (192, 192), model.tile_size, model.stride
    )["logits"]
    once = keras.ops.convert_to_numpy(large(image[None]))[0]
    inside = (slice(64, -64), slice(64, -64))  # at the border one sees zeros, the other the image mirrored
    np.testing.assert_allclose(tiles[inside], once[inside], atol=1e-5)


def test_same_padded_tiles_keep_a_border():
    model = small(image_size=64, padding="same", tiled=True)
    assert model.tile_size == (32, 32)
    large = UNet(2, 256, "same", 0.02, tiled=True)
    assert large.tile_size == (128, 128)
    checks.segments_any_size_and_dtype(model)


def test_training_under_mixed_precision():
    checks.trains_under_mixed_precision(lambda: small(padding="same", image_size=32, dropout=0.0), (32, 32))


def test_a_handful_of_images_is_learnt_by_heart_and_kept_in_int8(tmp_path):
    model = checks.overfits(lambda: small(padding="same", image_size=24, width=0.125), (24, 24), epochs=60)
    if keras.backend.backend() == "tensorflow":
        checks.agrees_in_int8(model, tmp_path)


def test_saving(tmp_path):
    checks.is_saved_whole_and_segments_the_same(small(class_names=["a", "b", "c"], loss="focal"), tmp_path)
    model = small()
    model.save_weights(tmp_path / "unet.weights.h5")
    twin = small(weights=str(tmp_path / "unet.weights.h5"))
    np.testing.assert_array_equal(twin.get_weights()[0], model.get_weights()[0])
    with pytest.raises(ValueError, match=r"neither None nor the \.weights\.h5"):
        small(weights="imagenet")


def test_images_of_any_size():
    checks.segments_any_size_and_dtype(small())


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_litert(tmp_path, padding):
    keras.utils.set_random_seed(4)
    checks.runs_as_litert(small(padding=padding), tmp_path)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_exported_files_label_the_same(tmp_path, padding):
    keras.utils.set_random_seed(5)
    checks.is_verified_in_every_format(small(padding=padding, class_names=["a", "b", "c"]), tmp_path)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="Did you mean 'valid'"):
        small(padding="vaild")
    for depth in (0, 1.5, 20):
        with pytest.raises(ValueError, match="depth must be 1 to 8"):
            small(depth=depth)
    with pytest.raises(ValueError, match="leave tiled out"):
        small(tiled=False)
