"""Batches that carry proposals: moved with the objects, padded with zeros, named by image."""

import numpy as np
import pytest
from made_data import voc

tf = pytest.importorskip("tensorflow")

import kzoo  # noqa: E402
from kzoo.data import augment  # noqa: E402
from kzoo.data.proposals import proposals_of  # noqa: E402
from kzoo.data.readers import read  # noqa: E402
from kzoo.proposals import write_file  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    return voc(tmp_path / "squares", images=3)


def own_boxes(folder):
    """Each image's objects, as many times as its number, as proposals; the first image has none."""
    return {sample.name: np.repeat(sample.boxes, i, axis=0) for i, sample in enumerate(read(folder, "train").samples)}


def test_evaluation_batches_carry_padded_proposals_in_the_networks_pixels(folder, tmp_path):
    path = write_file(tmp_path / "p.npz", own_boxes(folder))
    for resize in ("stretch", "letterbox"):
        data = kzoo.data.load(folder, "train", (40, 40), 3, proposals=path, resize=resize)
        _, targets = next(iter(data))
        assert data.element_spec[1]["proposals"].shape[1:] == (2, 4)
        np.testing.assert_array_equal(targets["proposals"][0], np.zeros((2, 4)))
        np.testing.assert_array_equal(targets["proposals"][1], [targets["boxes"][1, 0], np.zeros(4)])
        np.testing.assert_array_equal(targets["proposals"][2], np.tile(targets["boxes"][2], (2, 1)))
    data = kzoo.data.load(folder, "train", (40, 40), 3, proposals=path, max_proposals=1)
    assert next(iter(data))[1]["proposals"].shape == (3, 1, 4)


@pytest.mark.parametrize("preset", ["no_up", "ssd"])
def test_augmentation_moves_proposals_exactly_as_the_objects_they_equal(folder, preset):
    options = {"image_size": (40, 56), "batch_size": 3, "augment": preset, "start_epoch": 0}
    data = kzoo.data.load(folder, "train", proposals=own_boxes(folder), **options)
    plain = kzoo.data.load(folder, "train", **options)
    seen = 0
    for (images, targets), (images_without, targets_without) in zip(data.take(6), plain.take(6), strict=True):
        np.testing.assert_array_equal(images, images_without)  # proposals have no say
        np.testing.assert_array_equal(targets["boxes"], targets_without["boxes"])
        for box, proposals in zip(targets["boxes"].numpy(), targets["proposals"].numpy(), strict=True):
            kept = proposals[proposals.any(axis=1)]
            seen += len(kept)
            np.testing.assert_array_equal(kept, np.tile(box, (len(kept), 1)))
    assert seen > 3


def test_a_flip_moves_proposals_without_objects_and_leaves_padding():
    image = tf.zeros((10, 20, 3))
    proposals = tf.constant([[1, 2, 5, 6], [0, 0, 0, 0.0]])
    nothing = tf.zeros((0, 4)), tf.zeros((0,), tf.int32)
    moved = {
        tuple(augment.augment_with_proposals(image, *nothing, proposals, [0, seed], ("flip",), (10, 20))[3].numpy()[0])
        for seed in range(12)
    }
    assert moved == {(1, 2, 5, 6), (15, 2, 19, 6)}


def test_proposals_are_found_by_name_stem_or_id_and_the_lacking_image_is_named(folder):
    annotations = read(folder, "train")
    first = annotations.samples[0]
    boxes = np.array([[1, 2, 3, 4]])
    for key in (first.name, first.name.removesuffix(".png"), first.image_id):
        given = {**own_boxes(folder), first.name: boxes} if key == first.name else {**own_boxes(folder), key: boxes}
        if key != first.name:
            del given[first.name]
        np.testing.assert_array_equal(proposals_of(annotations, given)[0], boxes)
    lacking = own_boxes(folder)
    del lacking[first.name]
    with pytest.raises(ValueError, match=f"No proposals for {first.name}"):
        proposals_of(annotations, lacking)
    with pytest.raises(ValueError, match="1 arrays of proposals for 3 images"):
        proposals_of(annotations, [boxes])
    with pytest.raises(ValueError, match="Did you mean 'fast'"):
        proposals_of(annotations, "fest")
    with pytest.raises(ValueError, match="finite numbers"):
        proposals_of(annotations, [boxes, boxes, boxes * np.nan])


def test_selective_search_feeds_batches_and_the_command_measures_it(folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("cv2", reason="selective search needs OpenCV")
    monkeypatch.setenv("KZOO_PROPOSALS_DIR", str(tmp_path / "kept"))
    _, targets = next(iter(kzoo.data.load(folder, "train", (64, 96), 3, proposals="fast")))
    best = kzoo.boxes.iou(targets["boxes"].numpy(), targets["proposals"].numpy()).max(axis=-1)
    assert best.min() > 0.8
    from kzoo.cli import run

    saved, drawn = tmp_path / "p.npz", tmp_path / "drawn"
    assert run(["proposals", str(folder), "--split", "train", "--save", str(saved), "--output", str(drawn)]) == 0
    assert "recall at IoU 0.5" in capsys.readouterr().out
    assert {path.name for path in drawn.iterdir()} == {"recall.png", "proposals.jpg"}
    assert run(["proposals", str(folder), "--split", "train", "--source", str(saved), "--max", "1"]) == 0
    assert run(["proposals", str(folder), "--source", "fst"]) == 2
