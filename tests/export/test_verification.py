import numpy as np
import pytest

from kzoo import export
from kzoo.export import segment_verification
from kzoo.export.verification import match_detections


def detections(*rows):
    """A batch of one image: rows of (label, score, x1, y1, x2, y2)."""
    rows = np.array(rows, "float32").reshape(1, -1, 6)
    return {
        "labels": rows[..., 0].astype("int32"),
        "scores": rows[..., 1],
        "boxes": rows[..., 2:],
        "num_detections": (rows[..., 0] >= 0).sum(1),
    }


class Fixed:
    """A detector that finds the same in every image."""

    name, image_size, class_names = "fixed", (20, 20), None

    def __init__(self, found):
        self.found = found

    def detect(self, images):
        return {name: np.repeat(values, len(images), axis=0) for name, values in self.found.items()}


IMAGES = np.zeros((3, 20, 20, 3), "float32")


def test_an_exact_file_has_no_error_and_the_same_score(model, data, litert_file):
    result = export.verify(litert_file(), model, data)
    assert result["images"] == 32
    assert result["detections"] >= 128  # two objects an image, both sides
    assert result["label_agreement"] == 1
    assert result["max_box_error_px"] < 1e-3
    assert result["max_score_error"] < 1e-4
    assert result["mAP_exported"] == pytest.approx(result["mAP_keras"], abs=1e-3)
    assert result["mAP@0.50_exported"] > 0.95


def test_another_model_does_not_pass(model, data):
    other = Fixed(detections((0, 0.9, 0, 0, 20, 20)))
    result = export.verify(other, model, data)
    assert result["label_agreement"] < 0.5
    assert result["mAP_exported"] < 0.2


def test_differences_are_measured_between_counterparts():
    a = Fixed(detections((0, 0.9, 0, 0, 10, 10), (1, 0.8, 0, 0, 10, 10)))
    b = Fixed(detections((1, 0.85, 0, 0, 10, 11), (0, 0.84, 0, 0.5, 10, 10)))  # the order has changed
    result = export.verify(b, a, IMAGES)
    assert result["label_agreement"] == 1
    assert result["max_box_error_px"] == 1
    assert result["mean_box_error_px"] == pytest.approx(1.5 / 8)
    assert result["max_score_error"] == pytest.approx(0.06)
    assert result["detections"] == 12
    assert "mAP_keras" not in result


def test_a_changed_label_or_a_missing_box_lowers_the_agreement():
    a = Fixed(detections((0, 0.9, 0, 0, 10, 10), (1, 0.8, 10, 10, 20, 20)))
    relabelled = Fixed(detections((0, 0.9, 0, 0, 10, 10), (0, 0.8, 10, 10, 20, 20)))
    missing = Fixed(detections((0, 0.9, 0, 0, 10, 10), (-1, 0, 0, 0, 0, 0)))
    assert export.verify(relabelled, a, IMAGES)["label_agreement"] == 0.5
    assert export.verify(missing, a, IMAGES)["label_agreement"] == pytest.approx(2 / 3)


def test_a_score_that_crosses_the_lower_limit_is_no_disagreement():
    a, b = Fixed(detections((0, 0.0501, 0, 0, 9, 9))), Fixed(detections((0, 0.0499, 0, 0, 9, 9)))
    result = export.verify(b, a, IMAGES)
    assert (result["detections"], result["label_agreement"]) == (3, 1)


def test_two_detectors_that_find_nothing_agree():
    nothing = Fixed(detections((-1, 0, 0, 0, 0, 0)))
    result = export.verify(nothing, nothing, IMAGES)
    assert (result["detections"], result["label_agreement"], result["max_box_error_px"]) == (0, 1, 0)


def test_boxes_without_area_are_their_own_counterparts():
    a = detections((0, 0.9, 20, 0, 20, 0), (0, 0.5, 20, 0, 20, 0), (0, 0.4, 20, 5, 20, 9))
    _, i, j = match_detections(a, a)
    np.testing.assert_array_equal(i, j)
    assert len(i) == 3


def test_matching_copes_with_no_rows_at_all():
    assert [len(x) for x in match_detections(detections(), detections((0, 1, 0, 0, 1, 1)))] == [0, 0, 0]


def test_the_number_of_images_can_be_limited(model, data, litert_file):
    assert export.verify(litert_file(), model, data, images=22)["images"] == 22


def test_data_without_images_is_refused():
    nothing = Fixed(detections())
    with pytest.raises(ValueError, match="holds no image"):
        export.verify(nothing, nothing, [])


def test_the_result_reads_as_one_line(model, data, litert_file):
    line = export.format_verification(export.verify(litert_file("int8"), model, data))
    assert "\n" not in line
    assert "int8.tflite (int8, 0.2 MB) on 32 images: mAP 0." in line
    assert "mAP@0.50 " in line
    assert "% of " in line


def test_the_benchmark_gives_size_time_and_score_of_every_format(model, data, litert_file, saved_model_folder):
    rows = list(
        export.benchmark([litert_file(), litert_file("int8"), saved_model_folder, model], data, runs=2, warmup=1)
    )
    assert [row["format"] for row in rows] == ["LiteRT float32", "LiteRT int8", "SavedModel", "Keras"]
    for row in rows[:2]:
        assert row["ms_1_thread"] > 0
        assert row["ms_2_threads"] > 0
        assert row["ms"] is None
    assert rows[1]["size_mb"] < rows[0]["size_mb"] == pytest.approx(litert_file().stat().st_size / 1e6)
    assert rows[2]["ms"] > 0
    assert rows[3]["size_mb"] is None
    assert all(row["mAP@0.50"] > 0.95 for row in rows)
    table = export.format_benchmark(rows).splitlines()
    assert len(table) == 5
    assert table[0].split()[0] == "file"
    assert "ssd" in table[4]


def test_the_benchmark_needs_no_data_and_leaves_out_empty_columns(litert_file):
    (row,) = export.benchmark([litert_file()], runs=1, warmup=0)
    assert row["mAP"] is None
    assert "mAP" not in export.format_benchmark([row])
    with pytest.raises(ValueError, match="runs must be 1 or more"):
        next(export.benchmark([litert_file()], runs=0))


def test_data_with_other_classes_is_refused(model):
    class Data(list):
        class_names = ("blå", "red")

    with pytest.raises(ValueError, match="labels mean different things"):
        export.verify(model, model, Data())


def test_one_tuple_of_arrays_is_a_data_set(model, data, litert_file):
    result = export.verify(litert_file(), model, data[0])
    assert result["images"] == 20
    assert result["mAP@0.50_exported"] > 0.95


def test_segmenters_are_compared_pixel_by_pixel_and_image_by_image():
    class Said:
        num_classes, class_names = 2, None

        def __init__(self, labels, scores):
            self.found = {"labels": labels, "scores": scores}

        def segment(self, images):
            return self.found

    labels = np.zeros((4, 2, 5), np.int32)
    scores = np.full((4, 2, 5), 0.5, np.float32)
    other_labels, other_scores = labels.copy(), scores.copy()
    other_labels[3, 0, 0] = 1
    other_scores[2, 1, 1:4] += 0.25
    other_scores[1] += 5e-5  # two ways to sum
    images = np.zeros((4, 2, 5, 3), np.uint8)
    result = segment_verification.compare(Said(other_labels, other_scores), Said(labels, scores), [(images, None)])
    assert (result["images"], result["max_score_error"]) == (4, 0.25)
    assert result["label_agreement"] == 39 / 40
    assert result["score_agreement"] == 37 / 40
    assert result["image_agreement"] == 3 / 4
    nothing = segment_verification.compare(Said(labels[:0], scores[:0]), Said(labels[:0], scores[:0]), [])
    assert (nothing["images"], nothing["image_agreement"]) == (0, 1.0)
