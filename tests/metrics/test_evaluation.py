"""A detector's run over a data set of any kind."""

import numpy as np
import pytest

from kzoo.metrics import MeanAveragePrecision, evaluate

SIZE = 40


class BrightSquare:
    """Finds the box of all pixels above 128, as class 0; a detector that is always right about one bright square."""

    class_names = ("square", "circle")

    def __init__(self):
        self.batches = []

    def detect(self, images):
        images = np.asarray(images)
        self.batches.append(len(images))
        boxes, labels = np.zeros((len(images), 3, 4), np.float32), np.full((len(images), 3), -1, np.int32)
        for i, image in enumerate(images):
            y, x = np.nonzero(image[..., 0] > 128)
            if x.size:
                boxes[i, 0], labels[i, 0] = [x.min(), y.min(), x.max() + 1, y.max() + 1], 0
        scores = np.where(labels >= 0, 0.9, 0).astype(np.float32)
        return {"boxes": boxes, "labels": labels, "scores": scores, "num_detections": (labels >= 0).sum(axis=1)}


def squares(count, seed=0):
    """(images, targets) with one bright square each, and none in the first."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, SIZE, SIZE, 3), np.float32)
    boxes, labels = np.zeros((count, 2, 4), np.float32), np.full((count, 2), -1, np.int32)
    for i in range(1, count):
        x, y, side = rng.integers(0, 20), rng.integers(0, 20), rng.integers(5, 15)
        images[i, y : y + side, x : x + side] = 255
        boxes[i, 0], labels[i, 0] = [x, y, x + side, y + side], 0
    return images, {"boxes": boxes, "labels": labels}


def batches(count, size):
    images, targets = squares(count)
    return [(images[i : i + size], {k: v[i : i + size] for k, v in targets.items()}) for i in range(0, count, size)]


def test_a_perfect_detector_has_map_1_under_every_protocol():
    for protocol in ("coco", "voc2007", "voc2010"):
        result = evaluate(BrightSquare(), batches(7, 3), protocol)
        assert result["mAP"] == pytest.approx(1.0)
        assert [scores["AP"] for scores in result["per_class"].values()] == pytest.approx([1.0, -1.0])
        assert list(result["per_class"]) == ["square", "circle"]


def test_lists_tuples_of_arrays_pydatasets_and_tf_data_measure_alike():
    import keras

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return batches(7, 2)[i]

    expected = evaluate(BrightSquare(), batches(7, 2))
    assert evaluate(BrightSquare(), Sequence()) == expected
    assert evaluate(BrightSquare(), squares(7)) == expected
    assert evaluate(BrightSquare(), (batch for batch in batches(7, 2))) == expected
    tf = pytest.importorskip("tensorflow", reason="tf.data needs TensorFlow")
    assert evaluate(BrightSquare(), tf.data.Dataset.from_tensor_slices(squares(7)).batch(2)) == expected


def test_sample_weights_are_passed_over():
    weighted = [(images, targets, np.ones(len(images))) for images, targets in batches(4, 2)]
    assert evaluate(BrightSquare(), weighted)["mAP"] == pytest.approx(1.0)


def test_large_arrays_are_detected_in_small_batches():
    detector = BrightSquare()
    evaluate(detector, squares(21))
    assert detector.batches == [8, 8, 5]


def test_progress_hears_of_every_batch_and_of_the_total_where_it_is_known():
    heard = []
    evaluate(BrightSquare(), batches(5, 2), progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    heard.clear()
    evaluate(BrightSquare(), iter(batches(5, 2)), progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, None), (2, None), (3, None)]


def test_boxes_are_measured_in_pixels_of_the_original_image():
    """The network sees 40 pixels of an image that was eight times as wide, letterboxed 4 pixels down."""
    images, targets = squares(6)
    targets["transform"] = np.tile(np.array([1 / 8, 1 / 8, 0, 4], np.float32), (6, 1))
    metric = MeanAveragePrecision("coco")
    result = evaluate(BrightSquare(), [(images, targets)], metric=metric)
    original = (targets["boxes"][1:, 0] - [0, 4, 0, 4]) * 8
    np.testing.assert_allclose(metric.records.ground_truth().boxes, original, atol=1e-4)
    np.testing.assert_allclose(metric.records.detections().boxes, original, atol=1e-4)
    # Sides of 5 to 14 pixels are 40 to 112 in the original: nothing small is left.
    assert (result["mAP"], result["AR_small"], result["mAP_medium"]) == (pytest.approx(1.0), -1.0, pytest.approx(1.0))


def test_width_and_height_may_be_scaled_differently():
    images, targets = squares(3)
    targets["transform"] = np.tile(np.array([0.5, 2, 1, 3], np.float32), (3, 1))
    metric = MeanAveragePrecision("coco")
    evaluate(BrightSquare(), [(images, targets)], metric=metric)
    x1, y1, x2, y2 = targets["boxes"][1:, 0].T
    expected = np.stack([(x1 - 1) * 2, (y1 - 3) / 2, (x2 - 1) * 2, (y2 - 3) / 2], axis=1)
    np.testing.assert_allclose(metric.records.detections().boxes, expected, atol=1e-4)


def test_an_own_metric_is_reset_and_can_be_looked_into_afterwards():
    metric = MeanAveragePrecision("voc2007")
    for _ in range(2):
        assert evaluate(BrightSquare(), batches(5, 2), metric=metric) == metric.result()
    assert metric.records.num_images == 5


def test_detections_alone_are_kept():
    metric = MeanAveragePrecision("coco")
    evaluate(BrightSquare(), batches(7, 2), metric=metric)
    kept = [v for part in (metric.records.detections(), metric.records.ground_truth()) for v in vars(part).values()]
    assert sum(array.nbytes for array in kept) < 1000


class Named(list):
    class_names: tuple[str, ...]


def named(*names):
    data = Named(batches(3, 2))
    data.class_names = names
    return data


def test_classes_in_another_order_or_number_are_refused():
    for names in (("square", "circle"), ("Quadrat", "circle"), ("Quadrat", "Kreis")):  # two are renamed
        assert evaluate(BrightSquare(), named(*names))["mAP"] == pytest.approx(1.0)
    for names in (("circle", "square"), ("square", "circle", "star"), ("circle", "star")):
        with pytest.raises(ValueError, match="labels mean different things"):
            evaluate(BrightSquare(), named(*names))


def test_the_data_sets_names_are_used_where_the_detector_has_none():
    detector = BrightSquare()
    detector.class_names = None
    assert list(evaluate(detector, named("x", "y"))["per_class"]) == ["x", "y"]
    assert list(evaluate(detector, batches(3, 2))["per_class"]) == [0]


def test_empty_endless_and_untrue_data_sets_are_refused():
    with pytest.raises(ValueError, match="gave no image"):
        evaluate(BrightSquare(), [])
    with pytest.raises(ValueError, match=r"yields \(images, targets\)"):
        evaluate(BrightSquare(), [np.zeros((2, SIZE, SIZE, 3))])
    images, targets = squares(2)
    with pytest.raises(ValueError, match="positive scales"):
        evaluate(BrightSquare(), [(images, targets | {"transform": np.zeros((2, 4))})])
    tf = pytest.importorskip("tensorflow", reason="tf.data needs TensorFlow")
    with pytest.raises(ValueError, match="never ends"):
        evaluate(BrightSquare(), tf.data.Dataset.from_tensor_slices(squares(3)).batch(2).repeat())
