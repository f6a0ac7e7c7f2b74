"""DeconvNet: the paper's mirror image, its switches, proposals put together."""

import functools
import itertools

import keras
import numpy as np
import pytest
import segmenter_checks as checks

from kzoo import backbones
from kzoo.models import DeconvNet


def small(**kwargs):
    return DeconvNet(3, **{"image_size": 64, "width": 0.1, **kwargs})


def test_the_papers_network(unfilled):
    model = DeconvNet(num_classes=21, width=1.0)
    assert model.output.shape == (None, 224, 224, 21)
    assert model.get_layer("fc6").output.shape == (None, 1, 1, 4096)
    assert model.get_layer("deconv_fc6").output.shape == (None, 7, 7, 512)
    assert [model.get_layer(f"block{k}_unpool").output.shape[1] for k in (5, 4, 3, 2, 1)] == [14, 28, 56, 112, 224]
    # By hand: thirteen convolutions, fc6, fc7 and their mirror image, each with bias and batch norm, and the scores.
    encoder = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    decoder = [512, 512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64, 64]
    count = 0
    for channels in (encoder, decoder):
        count += sum(9 * i * o + o + 4 * o for i, o in itertools.pairwise(channels))
    count += sum(k * k * i * o + o + 4 * o for i, o, k in [(512, 4096, 7), (4096, 4096, 1), (4096, 512, 7)])
    assert model.count_params() == count + 64 * 21 + 21
    assert count > 250e6


def test_unpooling_uses_the_switches_of_the_mirrored_pooling():
    model = small()
    pooled, switches = model.get_layer("block3_pool").output
    unpool = model.get_layer("block3_unpool")
    inputs = unpool._inbound_nodes[0].arguments.keras_tensors
    assert inputs[1] is switches
    assert inputs[0].shape == pooled.shape


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (180, 240)])
def test_any_size(size):
    model = DeconvNet(2, size, width=0.03)
    assert model.output.shape == (None, *size, 2)


def test_the_encoder_takes_over_weights_of_vgg16(tmp_path):
    keras.utils.set_random_seed(0)
    body = backbones.create("vgg16", (None, None), 0.05).get_layer("vgg16")
    vgg = keras.Model(body.input, body.output["C5"])
    vgg.save_weights(tmp_path / "vgg16.weights.h5")
    model = small(width=0.05, weights=str(tmp_path / "vgg16.weights.h5"))
    for name in ("block1_conv1", "block5_conv3"):
        np.testing.assert_array_equal(model.get_layer(name).get_weights()[0], vgg.get_layer(name).get_weights()[0])


def test_proposals_are_put_together_by_the_largest_probability():
    keras.utils.set_random_seed(1)
    model = small(image_size=32, width=0.05)
    checks.randomise(model, 1.0)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype("uint8")
    nothing = model.segment_proposals(image, np.zeros((0, 4)))
    assert nothing["labels"].shape == nothing["scores"].shape == (40, 50)
    boxes = np.array([[5.2, 6.1, 24.7, 30.0], [-10, -10, 20, 20], [7, 7, 7, 9], [49, 39, 70, 70]])
    found = model.segment_proposals(image, boxes, batch_size=2)
    assert (found["scores"] >= nothing["scores"] - 1e-6).all()
    outside = np.ones((40, 50), bool)
    outside[6:30, 5:25] = outside[:20, :20] = outside[39:, 49:] = False
    np.testing.assert_array_equal(found["labels"][outside], nothing["labels"][outside])
    assert not np.allclose(found["scores"][~outside], nothing["scores"][~outside])


def test_training_under_mixed_precision():
    # The first steps are skipped until the loss scale is small enough for float16.
    make = functools.partial(small, image_size=32, width=0.03)
    checks.trains_under_mixed_precision(make, (32, 32), steps=16, policies=("mixed_float16",))


@pytest.mark.slow
def test_a_handful_of_images_is_learnt_by_heart():
    checks.overfits(lambda: small(image_size=64), (64, 64), epochs=200, rate=1e-2)


def test_saving(tmp_path):
    checks.is_saved_whole_and_segments_the_same(small(image_size=32, width=0.03, class_names=["a", "b", "c"]), tmp_path)


def test_images_of_any_size():
    checks.segments_any_size_and_dtype(small(width=0.03))


def test_litert(tmp_path):
    keras.utils.set_random_seed(4)
    model = small(image_size=32, width=0.03)
    checks.randomise(model)
    checks.runs_as_litert(model, tmp_path)


def test_exported_files_label_the_same(tmp_path):
    model = small(image_size=32, width=0.03, class_names=["a", "b", "c"])
    checks.randomise(model)
    checks.is_verified_in_every_format(model, tmp_path)
