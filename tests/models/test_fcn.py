"""FCN: the paper's alignments and counts, skips that start at zero, any size and backbone."""

import keras
import numpy as np
import pytest
import segmenter_checks as checks

from kzoo.models import FCN, FCN8s, FCN16s, FCN32s
from kzoo.models.fcn import take_over_fully_connected


def small(**kwargs):
    return FCN(3, **{"image_size": 64, "backbone": "tiny", "width": 0.5, **kwargs})


def narrow_vgg(**kwargs):
    return FCN(3, **{"image_size": 64, "width": 0.05, "dropout": 0.0, **kwargs})


def test_fcn8s_has_the_papers_parameters_and_crops():
    model = FCN8s(num_classes=21)
    assert model.output.shape == (None, 500, 500, 21)
    vgg = 14_714_688
    fc = 7 * 7 * 512 * 4096 + 4096 + 4096 * 4096 + 4096
    scores = (4096 * 21 + 21) + (512 * 21 + 21) + (256 * 21 + 21)
    up = (4 * 4 + 4 * 4 + 16 * 16) * 21 * 21
    assert model.count_params() == vgg + fc + scores + up
    # The released networks crop pool4 by 5, pool3 by 9 and the result by 31.
    assert model.get_layer("fuse_16_crop_skip").cropping[0][0] == 5
    assert model.get_layer("fuse_8_crop_skip").cropping[0][0] == 9
    assert model.get_layer("crop").cropping[0][0] == 31
    assert not model.get_layer("upscore_8_to_image").trainable
    assert model.get_layer("upscore_16").trainable


@pytest.mark.parametrize(("create", "crop", "kernel"), [(FCN32s, 19, 64), (FCN16s, 27, 32)])
def test_the_other_two_crop_as_the_paper(create, crop, kernel):
    model = create(2, image_size=(70, 90), width=0.05)
    assert model.get_layer("crop").cropping[0][0] == model.get_layer("crop").cropping[1][0] == crop
    last = model.get_layer(f"upscore_{kernel // 2}_to_image")
    assert last.kernel.shape == (kernel, kernel, 2, 2)
    assert model.output.shape == (None, 70, 90, 2)


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_scores_lie_over_what_they_saw(stride, padding):
    # A linear ramp, put in the place of each scored map at its cells' true centres, must come out as the same ramp:
    # bilinear interpolation of aligned maps reproduces it.
    size = (96, 128)
    model = narrow_vgg(image_size=size, finest_stride=stride, padding=padding)
    border = 99 if padding == "valid" else 0
    names = {"score_fr": (32, 15.5 + (96 if padding == "valid" else 0))}
    names |= {"score_pool4": (16, 7.5)} if stride <= 16 else {}
    names |= {"score_pool3": (8, 3.5)} if stride == 8 else {}
    ramps = {}
    for name, (step, origin) in names.items():
        height, width = model.get_layer(name).output.shape[1:3]
        y = (np.arange(height) * step + origin - border)[:, None]
        x = (np.arange(width) * step + origin - border)[None]
        ramps[name] = np.repeat((y + 2 * x)[None, :, :, None], 3, -1).astype("float32")
    head = keras.Model([model.get_layer(name).output for name in names], model.output)
    found = keras.ops.convert_to_numpy(head(list(ramps.values()) if len(ramps) > 1 else ramps["score_fr"]))[0, ..., 0]
    expected = (np.arange(size[0])[:, None] + 2 * np.arange(size[1])[None]) * len(names)
    inside = (slice(40, -40), slice(40, -40))  # towards the border the scores fade, as in the paper's networks
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-4)


def test_skips_and_scores_start_at_zero():
    model = narrow_vgg()
    for name in ("score_fr", "score_pool4", "score_pool3"):
        assert not model.get_layer(name).get_weights()[0].any()


@pytest.mark.parametrize(
    ("stride", "new"),
    [
        (16, {"score_pool4", "upscore_16", "upscore_16_to_image"}),
        (8, {"score_pool3", "upscore_8", "upscore_8_to_image"}),
    ],
)
def test_training_in_stages_takes_over_everything_but_the_skip(tmp_path, stride, new):
    from kzoo.training import load_matching_weights

    keras.utils.set_random_seed(0)
    coarse, fine = (small(finest_stride=step, image_size=96) for step in (2 * stride, stride))
    checks.randomise(coarse)
    coarse.save(tmp_path / "coarse.keras")
    report = load_matching_weights(fine, tmp_path / "coarse.keras")
    kept = {path.split("/")[-2] for path in report.kept}
    assert kept == new
    images = np.random.default_rng(0).uniform(0, 255, (1, 96, 96, 3)).astype("float32")
    a, b = (keras.ops.convert_to_numpy(model(images))[:, 40:-40, 40:-40] for model in (coarse, fine))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95  # two bilinear steps smooth a little more than one


def test_fully_connected_layers_become_convolutions_that_compute_the_same():
    keras.utils.set_random_seed(1)
    model = FCN32s(2, image_size=32, width=0.02)
    channels, filters = model.get_layer("fc6").kernel.shape[2:]
    top = keras.Sequential(
        [
            keras.Input((7, 7, channels)),
            keras.layers.Flatten(),
            keras.layers.Dense(filters, activation="relu", name="fc1"),
            keras.layers.Dense(filters, activation="relu", name="fc2"),
        ]
    )
    take_over_fully_connected(model, top)
    x = np.random.default_rng(1).normal(size=(3, 7, 7, channels)).astype("float32")
    found = model.get_layer("fc7")(model.get_layer("fc6")(x))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found)[:, 0, 0], keras.ops.convert_to_numpy(top(x)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (180, 240)])
@pytest.mark.parametrize("backbone", ["tiny", "vgg16"])
def test_any_size(backbone, size):
    model = FCN(2, size, backbone=backbone, width=0.05)
    assert model.output.shape == (None, *size, 2)


def test_any_backbone(tmp_path):
    model = FCN(2, (75, 65), backbone="mobilenet", width=0.25)
    assert model.output.shape == (None, 75, 65, 2)
    image = keras.Input((64, 64, 3))
    c3 = keras.layers.Conv2D(8, 3, 8, padding="same")(image)
    c4 = keras.layers.Conv2D(8, 3, 2, padding="same")(c3)
    c5 = keras.layers.Conv2D(8, 3, 2, padding="same")(c4)
    own = keras.Model(image, {"C3": c3, "C4": c4, "C5": c5}, name="own")
    checks.is_saved_whole_and_segments_the_same(FCN(3, 64, backbone=own), tmp_path)


def test_training_under_mixed_precision():
    checks.trains_under_mixed_precision(lambda: small(image_size=64), (64, 64))


def test_a_handful_of_images_is_learnt_by_heart_and_kept_in_int8(tmp_path):
    model = checks.overfits(lambda: small(image_size=64), (64, 64), epochs=80, rate=1e-2, reach=0.7)
    if keras.backend.backend() == "tensorflow":
        checks.agrees_in_int8(model, tmp_path)


def test_saving(tmp_path):
    checks.is_saved_whole_and_segments_the_same(narrow_vgg(class_names=["a", "b", "c"], image_size=32), tmp_path)


def test_images_of_any_size():
    checks.segments_any_size_and_dtype(small())


@pytest.mark.parametrize("make", [small, narrow_vgg])
def test_litert(tmp_path, make):
    keras.utils.set_random_seed(4)
    model = make()
    checks.randomise(model)
    checks.runs_as_litert(model, tmp_path)


def test_exported_files_label_the_same(tmp_path):
    model = small(image_size=32, width=0.25, class_names=["a", "b", "c"])
    checks.randomise(model)
    checks.is_verified_in_every_format(model, tmp_path)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"finest_stride must be 8, 16 or 32\. Received: 4"):
        small(finest_stride=4)
    with pytest.raises(ValueError, match="Did you mean 'valid'"):
        narrow_vgg(padding="vlid")
    with pytest.raises(ValueError, match="padding='valid' is for the backbone 'vgg16'"):
        small(padding="valid")
