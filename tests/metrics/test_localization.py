import numpy as np
import pytest

from kzoo.metrics import Localization, evaluate, grade


def test_the_slides_three_grades():
    assert [grade(iou) for iou in (0.0, 0.5, 0.51, 0.71, 0.91, 1.0)] == [
        "poor",
        "poor",
        "decent",
        "pretty good",
        "almost perfect",
        "almost perfect",
    ]


def test_accuracy_and_iou_by_hand():
    # Boxes of 10 x 10; what was found is as wide and 10, 8, 6 and 2 high: IoU 1, .8, .6, .2. The third class is wrong.
    boxes = np.tile([[[0.0, 0, 10, 10]]], (4, 1, 1))
    found = np.array([[[0.0, 0, 10, h]] for h in (10, 8, 6, 2)])
    metric = Localization(["a", "b"])
    metric.update_state(
        {"boxes": boxes[:2], "labels": np.array([[0], [1]])}, {"boxes": found[:2], "labels": np.array([[0], [1]])}
    )
    metric.update_state(
        {"boxes": boxes[2:], "labels": np.array([[0], [0]])}, {"boxes": found[2:], "labels": np.array([[1], [0]])}
    )
    result = metric.result()
    expected = {"accuracy": 0.75, "mean_IoU": 0.65, "IoU>0.5": 0.75, "IoU>0.7": 0.5, "IoU>0.9": 0.25, "localized": 0.5}
    assert {k: pytest.approx(v) for k, v in expected.items()} == {k: result[k] for k in expected}
    assert result["images"] == 4
    assert result["per_class"]["a"]["accuracy"] == pytest.approx(2 / 3)
    assert result["per_class"]["b"]["mean_IoU"] == pytest.approx(0.8)


def test_the_largest_object_is_meant_and_images_without_objects_do_not_count():
    boxes = np.array([[[0.0, 0, 5, 5], [0, 0, 20, 20], [0, 0, 99, 99]], [[0, 0, 1, 1]] * 3])
    labels = np.array([[0, 1, -1], [-1, -1, -1]])
    metric = Localization()
    metric.update_state({"boxes": boxes, "labels": labels}, {"boxes": boxes[:, 1:2], "labels": np.array([[1], [0]])})
    result = metric.result()
    assert (result["images"], result["accuracy"], result["mean_IoU"]) == (1, 1.0, 1.0)
    assert list(result["per_class"]) == [1]


def test_nothing_found_is_wrong_and_nothing_to_find_is_not_measured():
    targets = {"boxes": np.array([[[0.0, 0, 5, 5]]]), "labels": np.array([[0]])}
    metric = Localization(["a"])
    assert metric.result()["accuracy"] == -1
    metric.update_state(targets, {"boxes": np.zeros((1, 1, 4)), "labels": np.array([[-1]])})
    metric.update_state(targets, {"boxes": np.zeros((1, 0, 4)), "labels": np.zeros((1, 0), int)})
    metric.update_state(
        {"boxes": np.zeros((2, 0, 4)), "labels": np.zeros((2, 0), int)},
        {"boxes": np.zeros((2, 1, 4)), "labels": np.zeros((2, 1), int)},
    )
    assert (metric.result()["images"], metric.result()["accuracy"], metric.result()["mean_IoU"]) == (2, 0.0, 0.0)
    with pytest.raises(ValueError, match="targets are of 1 images, found of 2"):
        metric.update_state(targets, {"boxes": np.zeros((2, 1, 4)), "labels": np.zeros((2, 1), int)})


def test_evaluate_measures_a_detector_with_it_in_pixels_of_the_original_image():
    class Detector:
        class_names = ("a",)
        image_size = (8, 8)

        def detect(self, images):
            return {"boxes": np.array([[[0.0, 0, 4, 4]]] * len(images)), "labels": np.zeros((len(images), 1), int)}

    targets = {"boxes": np.array([[[0.0, 0, 4, 2]]] * 3), "labels": np.zeros((3, 1), int)}
    result = evaluate(Detector(), (np.zeros((3, 8, 8, 3)), targets), metric=Localization(["a"]))
    assert (result["images"], result["mean_IoU"]) == (3, 0.5)
