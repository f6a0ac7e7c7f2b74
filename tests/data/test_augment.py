"""Augmentations: pixels and boxes move together, padding never does, and the same seed gives the same image."""

import colorsys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from kzoo import images  # noqa: E402
from kzoo.data import augment as A  # noqa: E402
from kzoo.data.augment import windows  # noqa: E402

SIZE = (60, 90)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(height=48, width=64, box=(12, 10, 40, 34)):
    """A red rectangle on blue, its box, and one padded row."""
    image = np.full((height, width, 3), BLUE, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = RED
    return image, np.float32([box, (0, 0, 0, 0)]), np.int32([0, -1])


def red_box(image):
    """The bounding box of what is nearer to red than to blue or to the filling."""
    ys, xs = np.nonzero(image[..., 0] - image[..., 2] > 25)  # FILL's difference is 19
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def run(name, image, boxes, labels, seed):
    function = A.AUGMENTATIONS[name] if isinstance(name, str) else name
    return [np.asarray(value) for value in function(tf.constant(image), tf.constant(boxes), tf.constant(labels), seed)]


GEOMETRY = ["rot90", "flip", "vertical_flip", "expand", "edges", "jitter", "iou_crop"]


@pytest.mark.parametrize("name", GEOMETRY)
def test_the_pixels_follow_the_boxes(name):
    kept = 0
    seen = set()
    for seed in range(25):
        image, boxes, labels = run(name, *picture(), (seed, 7))
        seen.add((image.shape, tuple(np.round(boxes[0]))))
        if labels[0] >= 0:
            kept += 1
            np.testing.assert_allclose(red_box(image.astype(int)), boxes[0], atol=1.0)
    assert kept > 8
    assert len(seen) > 1  # something happened


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("preset", ["none", "light", "no_up", "ssd", "yolo"])
def test_the_pixels_follow_the_boxes_through_a_whole_preset(preset, resize):
    # Without colours, which would hide the rectangle.
    names = tuple(name for name in A.names_of(preset) if name not in A.COLOURS)
    function = tf.function(
        lambda image, boxes, labels, seed: A.augment(image, boxes, labels, seed, names, SIZE, resize)
    )
    kept = 0
    for seed in range(40):
        image, boxes, labels = run(function, *picture(), tf.constant([seed, 0]))
        assert image.shape == (*SIZE, 3)
        if labels[0] >= 0 and (boxes[0, 2:] - boxes[0, :2]).min() > 4:
            kept += 1
            np.testing.assert_allclose(red_box(image), boxes[0], atol=1.0)
    assert kept > 15


@pytest.mark.parametrize("name", A.AUGMENTATIONS)
def test_an_image_without_objects_stays_without(name):
    image, boxes, labels = picture()
    for seed in range(6):
        result, boxes_out, labels_out = run(name, image, np.zeros_like(boxes), np.full_like(labels, -1), (seed, 1))
        assert np.isfinite(result).all()
        assert not boxes_out.any()
        assert (labels_out == -1).all()


@pytest.mark.parametrize("name", A.AUGMENTATIONS)
def test_padded_boxes_never_move_and_labels_stay_integers(name):
    image, _, _ = picture()
    boxes = np.float32([(0, 0, 0, 0), (12, 10, 40, 34), (0, 0, 0, 0)])
    for seed in range(10):
        _, boxes_out, labels = run(name, image, boxes, np.int32([-1, 3, -1]), (seed, 2))
        assert boxes_out.dtype == np.float32
        assert labels.dtype == np.int32
        assert not boxes_out[labels < 0].any()
        assert set(labels) <= {3, -1}


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("augment", [*A.AUGMENTATIONS, "ssd", "no_up"])
def test_an_image_of_one_pixel_is_an_image(augment, resize):
    image = np.full((1, 1, 3), 200, np.uint8)
    for seed in range(4):
        result, boxes, labels = A.augment(
            tf.constant(image),
            tf.constant([[0.0, 0, 1, 1]]),
            tf.constant([2]),
            (seed, 0),
            A.names_of(augment),
            SIZE,
            resize,
        )
        assert np.isfinite(result).all()
        assert result.shape == (*SIZE, 3)
        assert np.asarray(boxes).min() >= 0
        assert (np.asarray(boxes) <= [SIZE[1], SIZE[0]] * 2).all()
        assert labels.numpy()[0] in (2, -1)


@pytest.mark.parametrize("name", A.AUGMENTATIONS)
def test_the_seed_alone_decides(name):
    image, boxes, labels = picture()
    image = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    first = [run(name, image, boxes, labels, (seed, 5)) for seed in range(8)]
    again = [run(name, image, boxes, labels, (seed, 5)) for seed in range(8)]
    for a, b in zip(first, again, strict=True):
        for left, right in zip(a, b, strict=True):
            np.testing.assert_array_equal(left, right)
    assert len({a[0].tobytes() for a in first}) > 1


def test_adding_an_augmentation_leaves_the_draws_of_the_others():
    image, boxes, labels = (tf.constant(value) for value in picture())
    for seed in range(6):
        alone = A.augment(image, boxes, labels, (seed, 0), ("jitter",), SIZE)
        both = A.augment(image, boxes, labels, (seed, 0), ("jitter", "photometric"), SIZE)
        np.testing.assert_array_equal(alone[1], both[1])


def crops(boxes, labels, count=300, window=(0, 0, 100, 80)):
    boxes, labels, window = tf.constant(boxes, tf.float32), tf.constant(labels), tf.constant(window, tf.float32)
    seeds = tf.stack([tf.range(count), tf.zeros(count, tf.int32)], axis=1)
    crop = tf.function(lambda seed: windows.iou_crop_window(window, boxes, labels, seed))
    return np.stack([crop(seed) for seed in seeds])


def overlap(crop, box):
    """IoU in plain Python, for one pair."""
    width = min(crop[2], box[2]) - max(crop[0], box[0])
    height = min(crop[3], box[3]) - max(crop[1], box[1])
    common = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (crop, box)]
    return common / (sum(areas) - common)


def test_iou_crops_have_the_papers_scales_and_aspects():
    box = (10, 10, 80, 70)
    found = crops([box], [0])
    whole = (found == [0, 0, 100, 80]).all(axis=1)
    # Seven candidates, all of which this large object allows: the whole image is one of them.
    assert 0.06 < whole.mean() < 0.25
    patches = found[~whole]
    width, height = (patches[:, 2] - patches[:, 0]) / 100, (patches[:, 3] - patches[:, 1]) / 80
    assert patches.min() >= -1e-4
    assert (patches <= np.array([100, 80, 100, 80]) + 1e-4).all()
    assert np.sqrt(width * height).min() >= 0.3 - 1e-5
    assert (width / height).min() >= 0.5 - 1e-4
    assert (width / height).max() <= 2 + 1e-4


def test_iou_crops_are_distributed_as_the_published_procedure_one_trial_after_another():
    box, rng = (10, 10, 80, 70), np.random.default_rng(0)

    def trial():
        scale = rng.uniform(0.3, 1)
        aspect = np.clip(rng.uniform(0.5, 2), scale**2, 1 / scale**2)
        width, height = scale * aspect**0.5, scale / aspect**0.5
        x, y = rng.random() * (1 - width), rng.random() * (1 - height)
        return 100 * x, 80 * y, 100 * (x + width), 80 * (y + height)

    def sample():
        candidates = [(0, 0, 100, 80)]
        for minimum in (0.1, 0.3, 0.5, 0.7, 0.9, 0.0):
            trials = (trial() for _ in range(50))
            candidates += [next((t for t in trials if overlap(t, box) >= minimum), None)]
        candidates = [c for c in candidates if c]
        return candidates[rng.integers(len(candidates))]

    ours = np.sort([overlap(crop, box) for crop in crops([box], [0], 1000)])
    reference = np.sort([overlap(sample(), box) for _ in range(1000)])
    grid = np.linspace(0, 1, 101)
    gap = np.searchsorted(ours, grid) / 1000 - np.searchsorted(reference, grid) / 1000
    assert np.abs(gap).max() < 0.08  # Kolmogorov-Smirnov, 0.1 % level: 1.95 * sqrt(2 / 1000) = .087


def test_a_tiny_object_leaves_only_the_free_crop_and_the_whole_image():
    box = (50, 40, 52, 42)  # IoU with the smallest patch is 4 / (.09 * 8000) < .1
    found = crops([box], [0])
    whole = (found == [0, 0, 100, 80]).all(axis=1)
    assert 0.4 < whole.mean() < 0.6
    assert max(overlap(patch, box) for patch in found) < 0.1


def test_an_iou_crop_of_an_image_without_objects_is_the_image():
    assert (crops([[0, 0, 0, 0]], [-1], count=20) == [0, 0, 100, 80]).all()
    assert (crops(np.zeros((0, 4)), np.zeros(0, np.int32), count=3) == [0, 0, 100, 80]).all()


def test_objects_whose_centre_leaves_the_crop_are_dropped_and_the_rest_clipped():
    boxes = tf.constant([[0.0, 0, 8, 8], [4, 4, 30, 30], [0, 0, 0, 0], [12, 12, 40, 16]])
    labels = tf.constant([5, 6, -1, 7])
    kept, kept_labels = windows.keep_centred(boxes, labels, tf.constant([10.0, 10, 30, 30]))
    np.testing.assert_array_equal(kept_labels, [6, 7, -1, -1])
    np.testing.assert_array_equal(kept, [[10, 10, 30, 30], [12, 12, 30, 16], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_expanding_happens_half_of_the_time_up_to_four_times_and_contains_the_image():
    window = tf.constant([0.0, 0, 100, 80])
    grown = np.stack([windows.expand_window(window, None, None, (seed, 0)) for seed in range(200)])
    ratios = (grown[:, 2] - grown[:, 0]) / 100
    np.testing.assert_allclose((grown[:, 3] - grown[:, 1]) / 80, ratios, rtol=1e-5)
    assert 0.4 < (ratios == 1).mean() < 0.6
    assert ratios.max() <= 4
    assert ratios.max() > 3.5
    assert grown[:, :2].max() <= 0
    assert (grown[:, 2:] >= [100 - 1e-3, 80 - 1e-3]).all()


def test_what_an_expansion_adds_is_the_mean_colour():
    image, _, _ = picture()
    window = tf.constant([-64.0, -48, 128, 96])
    result = np.array(windows.show(tf.constant(image), window, (144, 192)))
    np.testing.assert_array_equal(result[48:96, 64:128], image)
    result[48:96, 64:128] = A.FILL
    assert (result == np.float32(A.FILL)).all()


def test_a_jitter_stays_mild():
    window = tf.constant([0.0, 0, 100, 80])
    moved = np.stack([windows.jitter_window(window, None, None, (seed, 0)) for seed in range(200)])
    zoom_x, zoom_y = (moved[:, 2] - moved[:, 0]) / 100, (moved[:, 3] - moved[:, 1]) / 80
    for zoom in (zoom_x, zoom_y):
        assert zoom.min() >= 1 / 1.2 / 1.1**0.5 - 1e-4
        assert zoom.max() <= 1.2 * 1.1**0.5 + 1e-4
    assert (zoom_x / zoom_y).max() <= 1.1 + 1e-4
    assert (zoom_x < 1).any()
    assert (zoom_x > 1).any()


def test_yolos_edges_move_by_up_to_a_fifth_each_on_its_own():
    window = windows.whole(tf.zeros((100, 200, 3)))
    found = np.array([windows.edges_window(window, None, None, (seed, 3)) for seed in range(200)])
    moved = (found - [0, 0, 200, 100]) / [200, 100, 200, 100]
    assert 0.19 < np.abs(moved).max() <= 0.2 + 1e-6
    assert (np.abs(moved).max(0) > 0.15).all()
    assert np.abs(np.corrcoef(moved.T) - np.eye(4)).max() < 0.25


def test_yolos_exposure_scales_saturation_and_value_in_hsv():
    pixels = np.random.default_rng(0).uniform(60, 200, (4, 5, 3)).astype("float32")
    factors = []
    for seed in range(60):
        changed, _, _ = run("exposure", pixels, np.zeros((1, 4), "float32"), np.int32([-1]), (seed, 5))
        before, after = (np.array([colorsys.rgb_to_hsv(*p) for p in x.reshape(-1, 3) / 255]) for x in (pixels, changed))
        np.testing.assert_allclose(after[:, 0], before[:, 0], atol=2e-3)
        factor = np.max(after[:, 1:] / before[:, 1:], axis=0)  # of pixels that were not cut off
        np.testing.assert_allclose(after[:, 1:], np.minimum(before[:, 1:] * factor, 1), atol=2e-3)
        factors.append(factor)
    low, high = np.min(factors, 0), np.max(factors, 0)
    assert ((low >= 1 / 1.5 - 1e-3) & (low < 0.72)).all()
    assert ((high <= 1.5 + 1e-3) & (high > 1.3)).all()


def test_photometric_distortion_equals_plain_python():
    pixels = np.random.default_rng(1).integers(0, 256, (1, 12, 3)).astype(np.uint8)
    orders = set()
    for seed in range(30):
        applied, amount = tf.random.stateless_uniform([2, 5], (seed, 3)).numpy()
        amount = 2 * amount - 1
        result, _, _ = run("photometric", pixels, np.zeros((1, 4), np.float32), np.int32([-1]), (seed, 3))
        orders.add((applied < 0.5).tobytes())
        for pixel, got in zip(pixels[0], result[0], strict=True):
            rgb = pixel.astype(float)
            if applied[0] < 0.5:
                rgb = np.clip(rgb + amount[0] * 32, 0, 255)
            contrast = 1 + amount[1] * 0.5 if applied[1] < 0.5 else 1.0
            if applied[4] < 0.5:
                rgb = np.clip(rgb * contrast, 0, 255)
            h, s, v = colorsys.rgb_to_hsv(*rgb / 255)
            if applied[2] < 0.5:
                s = min(s * (1 + amount[2] * 0.5), 1.0)
            if applied[3] < 0.5:
                h += amount[3] * 0.1
            rgb = np.array(colorsys.hsv_to_rgb(h % 1.0, s, v)) * 255
            if applied[4] >= 0.5:
                rgb = np.clip(rgb * contrast, 0, 255)
            np.testing.assert_allclose(got, rgb, atol=0.05)
    assert len(orders) > 10


@pytest.mark.parametrize(("height", "width"), [(48, 64), (200, 150), (60, 90), (7, 300), (1, 1), (1, 5)])
def test_resizing_equals_the_plain_image_reader(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    resized, _, _ = A.resize(tf.constant(image), tf.zeros((1, 4)), tf.constant([-1]), SIZE)
    np.testing.assert_allclose(resized, images.resize(image, SIZE), atol=0.51)


def test_letterboxing_keeps_the_aspect_and_centres():
    image, boxes, labels = picture(height=20, width=40, box=(10, 5, 30, 15))
    result, moved, _ = run(lambda *args: A.letterbox(*args[:3], SIZE), image, boxes, labels, None)
    # 40 x 20 into 90 x 60: 90 x 45, bars of 7 and 8 rows.
    np.testing.assert_allclose(moved[0], [22.5, 7 + 11.25, 67.5, 7 + 33.75], rtol=1e-6)
    np.testing.assert_allclose(red_box(result), moved[0], atol=1.0)
    assert (result[:7] == np.float32(A.FILL)).all()
    assert (result[52:] == np.float32(A.FILL)).all()
    np.testing.assert_allclose(result[7:52], images.resize(image, (45, 90)), atol=0.51)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'vertical_flip'"):
        A.names_of(["flip", "verticl_flip"])
    with pytest.raises(ValueError, match=r"Unknown resize 'leterbox'\. Did you mean 'letterbox'"):
        windows.placement(tf.zeros(4), SIZE, "leterbox")


def test_names_and_presets_mean_augmentations_in_a_fixed_order():
    assert A.names_of(False) == A.names_of(None) == A.names_of("none") == A.names_of([]) == ()
    assert A.names_of(True) == A.names_of("ssd") == ("flip", "expand", "iou_crop", "photometric")
    assert A.names_of(("photometric", "rot90")) == ("rot90", "photometric")
    assert A.names_of(("light", "rot90")) == ("rot90", "flip", "jitter", "photometric")


def test_keras_flip_agrees_on_objects_but_moves_padding_and_labels_which_is_why_it_is_not_used():
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compared under the TensorFlow backend")
    image, boxes, labels = picture()
    layer = keras.layers.RandomFlip("horizontal", bounding_box_format="xyxy", data_format="channels_last", seed=0)
    given = {"images": image, "bounding_boxes": {"boxes": boxes, "labels": labels}}
    data = tf.data.Dataset.from_tensors(given).repeat(20).map(lambda each: layer(each, training=True)["bounding_boxes"])
    ours = A.flip(tf.constant(image), tf.constant(boxes), tf.constant(labels), (0, 0), probability=1.0)[1].numpy()
    flipped = [each for each in data if abs(float(each["boxes"][0, 0]) - ours[0, 0]) < 1e-3]
    assert flipped
    for theirs in flipped:
        np.testing.assert_allclose(theirs["boxes"][0], ours[0], atol=1e-3)
        assert theirs["boxes"][1].numpy().any()
        assert theirs["labels"].dtype == tf.float32
    assert not ours[1].any()
