"""Batches: complete, static, the same again for a seed and an epoch, and true to the image files."""

import dataclasses
import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

from kzoo import images as image_files  # noqa: E402
from kzoo.data import Annotations, Sample, from_annotations  # noqa: E402
from kzoo.data.store import SampleStore  # noqa: E402

SIZE = (24, 32)


def sample(index, image=None, boxes=(), labels=None, size=(20, 30), pixels=None, **flags):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    values = {
        "difficult": np.zeros(count, bool),
        "crowd": np.zeros(count, bool),
        "area": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        **{name: np.asarray(value) for name, value in flags.items()},
    }
    labels = np.arange(count, dtype=np.int32) if labels is None else np.asarray(labels, np.int32)
    return Sample(image, f"image{index}", 100 + index, size, boxes, labels, pixels=pixels, **values)


def annotations(samples):
    return Annotations(list(samples), ["a", "b", "c"], "train")


@pytest.fixture
def ten(tmp_path):
    """Ten noisy PNGs of 20 x 30 with 0, 1 or 2 boxes."""
    samples = []
    for index in range(10):
        path = tmp_path / f"{index}.png"
        pixels = np.random.default_rng(index).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        boxes = [(2, 3, 12, 13), (10, 5, 28, 18)][: index % 3]
        samples.append(sample(index, path, boxes))
    return annotations(samples)


def collect(dataset, batches=None):
    return [tf.nest.map_structure(np.asarray, batch) for batch in itertools.islice(dataset, batches)]


def assert_equal(left, right):
    assert len(left) == len(right) > 0
    tf.nest.map_structure(np.testing.assert_array_equal, left, right)


def ids(batches):
    return [int(i) for _, targets in batches for i in targets["image_id"]]


def test_a_training_batch_is_static_and_has_the_contracts_types(ten):
    dataset = from_annotations(ten, SIZE, 4, augment=True)
    images, targets = dataset.element_spec
    assert (images.shape, images.dtype) == ((4, 24, 32, 3), tf.float32)
    assert {name: (tuple(spec.shape), spec.dtype) for name, spec in targets.items()} == {
        "boxes": ((4, 2, 4), tf.float32),
        "labels": ((4, 2), tf.int32),
        "image_id": ((4,), tf.int64),
    }
    assert int(dataset.cardinality()) == dataset.steps_per_epoch == 3
    for images, targets in collect(dataset):
        assert 0 <= images.min() <= images.max() <= 255 + 1e-3
        assert not targets["boxes"][targets["labels"] < 0].any()
        assert (targets["boxes"] <= [32, 24, 32, 24]).all()


def test_the_data_set_carries_what_the_contract_names(ten):
    dataset = from_annotations(ten, 24, 4, limit=7)
    assert dataset.class_names == ["a", "b", "c"]
    assert (dataset.num_classes, dataset.image_size, dataset.batch_size) == (3, (24, 24), 4)
    assert dataset.steps_per_epoch == int(dataset.cardinality()) == 2
    assert [s.name for s in dataset.annotations.samples] == [f"image{i}" for i in range(7)]
    assert len(ten.samples) == 10


def test_no_image_is_left_out_of_an_epoch(ten):
    dataset = from_annotations(ten, SIZE, 4, augment="flip")
    for _ in range(3):
        seen = ids(collect(dataset))
        assert len(seen) == 12
        assert set(seen) == set(range(100, 110))
        assert seen[10:] == seen[:2]


def test_a_batch_larger_than_the_data_set_is_filled_with_other_augmentations_of_it(ten):
    batches = collect(from_annotations(ten, SIZE, 8, augment="jitter", shuffle=False, limit=3))
    assert len(batches) == 1
    assert sorted(ids(batches)) == [100, 100, 100, 101, 101, 101, 102, 102]
    by_id = [batches[0][0][np.array(ids(batches)) == 101][i] for i in (0, 1)]
    assert np.abs(by_id[0] - by_id[1]).max() > 1


def test_every_epoch_is_shuffled_and_augmented_anew(ten):
    dataset = from_annotations(ten, SIZE, 5, augment="jitter")
    first, second = collect(dataset), collect(dataset)
    assert ids(first) != ids(second)
    one, two = (batches[i // 5][0][i % 5] for batches in (first, second) for i in [ids(batches).index(104)])
    assert np.abs(one - two).max() > 1


def test_the_seed_decides_every_epoch(ten):
    make = lambda seed: from_annotations(ten, SIZE, 4, augment=True, seed=seed)  # noqa: E731
    a, b, other = make(3), make(3), make(4)
    for _ in range(2):
        epoch = collect(a)
        assert_equal(epoch, collect(b))
        assert ids(epoch) != ids(collect(other))


@pytest.mark.parametrize("augment", ["ssd", "no_up", False])
def test_beginning_at_an_epoch_continues_as_if_never_stopped(ten, augment):
    plain = from_annotations(ten, SIZE, 4, augment=augment, shuffle=True, seed=9)
    epochs = [collect(plain) for _ in range(5)]
    resumed = from_annotations(ten, SIZE, 4, augment=augment, seed=9, start_epoch=3)
    assert_equal(collect(resumed, 6), epochs[3] + epochs[4])
    from_start = from_annotations(ten, SIZE, 4, augment=augment, seed=9, start_epoch=0)
    assert_equal(collect(from_start, 15), [batch for epoch in epochs for batch in epoch])
    assert int(resumed.cardinality()) == tf.data.INFINITE_CARDINALITY


def test_fit_walks_through_the_epochs_of_an_endless_data_set(ten):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("looks into an eager TensorFlow step")
    seen = []

    class Probe(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, images):
            return self.dense(images[:, 0, 0])

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            seen.extend(y["image_id"].numpy().tolist())
            return keras.ops.mean(y_pred)

    model = Probe()
    model.compile(optimizer="sgd", run_eagerly=True)
    dataset = from_annotations(ten, SIZE, 4, augment="flip", start_epoch=2)
    model.fit(dataset, epochs=4, initial_epoch=2, steps_per_epoch=dataset.steps_per_epoch, verbose=0)
    assert seen[-24:] == ids(collect(dataset, 6))


def test_evaluation_is_in_order_complete_and_keeps_everything(ten):
    crowded = dataclasses.replace(
        ten.samples[2], crowd=np.array([False, True]), difficult=np.array([True, False]), area=np.float32([50, 70])
    )
    ten.samples[2] = crowded
    batches = collect(from_annotations(ten, SIZE, 4))
    assert [len(images) for images, _ in batches] == [4, 4, 2]
    assert ids(batches) == list(range(100, 110))
    targets = batches[0][1]
    dtypes = {name: (value.shape, value.dtype.name) for name, value in targets.items()}
    assert dtypes == {
        "boxes": ((4, 2, 4), "float32"),
        "labels": ((4, 2), "int32"),
        "image_id": ((4,), "int64"),
        "transform": ((4, 4), "float32"),
        "difficult": ((4, 2), "bool"),
        "crowd": ((4, 2), "bool"),
        "area": ((4, 2), "float32"),
    }
    np.testing.assert_array_equal(targets["labels"][:3], [[-1, -1], [0, -1], [0, 1]])
    np.testing.assert_array_equal(targets["crowd"][2], [False, True])
    np.testing.assert_array_equal(targets["difficult"][2], [True, False])
    np.testing.assert_array_equal(targets["area"][1:3], [[100, 0], [50, 70]])
    np.testing.assert_allclose(targets["transform"], np.tile([32 / 30, 24 / 20, 0, 0], (4, 1)), rtol=1e-6)
    np.testing.assert_allclose(targets["boxes"][1, 0], [2 * 32 / 30, 3 * 1.2, 12 * 32 / 30, 13 * 1.2], rtol=1e-6)
    assert not targets["boxes"][1, 1].any()


def test_evaluation_never_drops_a_box(ten):
    ten.samples[0] = sample(0, ten.samples[0].image, [(-50, 0, 5, 5), (3, 3, 3, 9)])
    targets = collect(from_annotations(ten, SIZE, 4))[0][1]
    np.testing.assert_array_equal(targets["labels"][0], [0, 1])


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_the_transform_leads_from_the_original_to_the_networks_image(ten, resize):
    for _, targets in collect(from_annotations(ten, (40, 33), 4, resize=resize)):
        for row, image_id in enumerate(targets["image_id"]):
            original = ten.samples[image_id - 100]
            sx, sy, tx, ty = targets["transform"][row]
            moved = original.boxes * [sx, sy, sx, sy] + [tx, ty, tx, ty]
            np.testing.assert_allclose(targets["boxes"][row][: len(moved)], moved, rtol=1e-5)
            if resize == "letterbox":  # 30 x 20 into 33 x 40: 33 x 22 with nine rows above
                np.testing.assert_allclose([sx, sy, tx, ty], [1.1, 1.1, 0, 9], rtol=1e-6)


def test_evaluation_shows_what_the_plain_image_reader_shows(ten):
    for images, targets in collect(from_annotations(ten, (37, 23), 4)):
        for image, image_id in zip(images, targets["image_id"], strict=True):
            plain = image_files.resize(image_files.read_image(ten.samples[image_id - 100].image), (37, 23))
            np.testing.assert_allclose(image, plain, atol=0.51)


def encoded(kind):
    """A 20 x 30 (height, width) image in a format that needs care."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if kind == "exif":
        exif = Image.Exif()
        exif[274] = 6  # turn by 90 degrees
        image.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", exif=exif)
    elif kind == "cmyk":
        image.convert("CMYK").save(buffer, "JPEG")
    else:
        image.convert({"grey": "L", "palette": "P", "alpha": "RGBA"}[kind]).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("inline", [False, True], ids=["file", "bytes"])
@pytest.mark.parametrize("kind", ["exif", "cmyk", "grey", "palette", "alpha"])
def test_odd_files_are_read_upright_and_in_rgb(tmp_path, kind, inline):
    path = tmp_path / "image"
    path.write_bytes(encoded(kind))
    pixels = np.frombuffer(encoded(kind), np.uint8) if inline else None
    data = annotations([sample(0, None if inline else path, pixels=pixels)])
    images, _ = collect(from_annotations(data, (20, 30), 1))[0]
    np.testing.assert_array_equal(images[0], image_files.read_image(path))


@pytest.mark.parametrize("channels", [1, 3])
def test_decoded_pixels_need_no_file(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, channels), np.uint8)
    images, _ = collect(from_annotations(annotations([sample(0, pixels=pixels)]), (20, 30), 1))[0]
    np.testing.assert_array_equal(images[0], np.broadcast_to(pixels, (20, 30, 3)))


def test_training_leaves_out_crowds_and_flat_boxes_but_not_difficult_ones():
    boxes = [(1, 1, 9, 9), (2, 2, 2, 9), (3, 3, 12, 12)]
    one = sample(
        0,
        pixels=np.zeros((20, 30, 3), np.uint8),
        boxes=boxes,
        crowd=[True, False, False],
        difficult=[False, False, True],
    )
    _, targets = collect(from_annotations(annotations([one]), (20, 30), 1, shuffle=True))[0]
    np.testing.assert_array_equal(targets["labels"], [[2]])
    np.testing.assert_allclose(targets["boxes"], [[[3, 3, 12, 12]]])


def test_images_without_any_box_make_batches_with_one_padded_row():
    data = annotations([sample(i, pixels=np.zeros((1, 1, 3), np.uint8), size=(1, 1)) for i in range(3)])
    for augment in (True, False):
        images, targets = collect(from_annotations(data, SIZE, 2, augment=augment))[0]
        assert np.isfinite(images).all()
        np.testing.assert_array_equal(targets["labels"], [[-1], [-1]])


def test_max_boxes_widens_the_padding_and_never_cuts(ten):
    _, targets = collect(from_annotations(ten, SIZE, 4, max_boxes=5))[0]
    assert targets["boxes"].shape == (4, 5, 4)
    with pytest.raises(ValueError, match="image2 has 2 boxes, max_boxes is 1"):
        from_annotations(ten, SIZE, 4, max_boxes=1)


def test_the_cache_changes_no_batch(ten):
    kept, read_again = (from_annotations(ten, SIZE, 4, augment=True, cache=cache) for cache in (True, False))
    for _ in range(2):
        assert_equal(collect(kept), collect(read_again))


def test_the_cache_stops_at_its_budget(ten):
    store = SampleStore(ten, max_boxes=2, cache_bytes=3 * 20 * 30 * 3 + 5)
    for index in [*range(10), *range(10)]:
        np.testing.assert_array_equal(store.read(index)[0], image_files.read_image(ten.samples[index].image))
    assert store.cached == [0, 1, 2]


def test_large_photographs_are_kept_smaller_for_training_and_their_boxes_follow():
    pixels = np.full((400, 600, 3), (0, 0, 255), np.uint8)
    pixels[100:300, 150:450] = (255, 0, 0)
    data = annotations([sample(0, pixels=pixels, size=(400, 600), boxes=[(150, 100, 450, 300)])])
    assert SampleStore(data, 1, shorter_side=64).read(0)[0].shape == (64, 96, 3)
    for images, targets in collect(from_annotations(data, (24, 32), 1, augment="jitter", start_epoch=0), 8):
        ys, xs = np.nonzero(images[0, ..., 0] - images[0, ..., 2] > 25)
        np.testing.assert_allclose(targets["boxes"][0, 0], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1)


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(tf.errors.OpError, match=r"image3: .*broken\.jpg: not a readable image"):
        collect(from_annotations(annotations([sample(3, tmp_path / "broken.jpg")]), SIZE, 1))


def test_an_image_of_another_size_than_annotated_is_named():
    data = annotations([sample(4, pixels=np.zeros((9, 8, 3), np.uint8))])
    with pytest.raises(tf.errors.OpError, match=r"image4: the image is \(9, 8\) .*not \(20, 30\)"):
        collect(from_annotations(data, SIZE, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": (0, 10)}, "image_size must be"),
        ({"image_size": (10, 10, 3)}, "image_size must be"),
        ({"image_size": 10.5}, "image_size must be"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"resize": "crop"}, "Unknown resize 'crop'"),
        ({"augment": "sdd"}, "Did you mean 'ssd'"),
        ({"limit": 0}, "No images in split 'train'"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_one_line(ten, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        from_annotations(ten, **arguments)
    assert "\n" not in str(error.value)


def test_importing_the_room_loads_no_tensorflow():
    code = "import sys, kzoo.data; kzoo.data.Sample; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
