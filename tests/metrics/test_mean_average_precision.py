"""Mean average precision against values worked out by hand."""

import math

import numpy as np
import pytest

from kzoo.metrics import MeanAveragePrecision

BOX = [10.0, 10.0, 50.0, 50.0]
AWAY = [200.0, 200.0, 240.0, 240.0]
PROTOCOLS = ("coco", "voc2007", "voc2010")


def targets(*images, **more):
    """One list of (box, label) an image -> a padded batch."""
    n = max((len(image) for image in images), default=0) + 1
    boxes, labels = np.zeros((len(images), n, 4), np.float32), np.full((len(images), n), -1, np.int32)
    for i, image in enumerate(images):
        for j, (box, label) in enumerate(image):
            boxes[i, j], labels[i, j] = box, label
    return {"boxes": boxes, "labels": labels, **more}


def found(*images):
    """One list of (box, label, score) an image -> padded detections."""
    batch = targets(*([(box, label) for box, label, _ in image] for image in images))
    batch["scores"] = np.zeros(batch["labels"].shape, np.float32)
    for i, image in enumerate(images):
        batch["scores"][i, : len(image)] = [score for _, _, score in image]
    return batch


def measure(truth, detections, protocol="coco", **options):
    metric = MeanAveragePrecision(protocol, **options)
    metric.update_state(truth, detections)
    return metric.result()


def every_number(result):
    yield from (value for key, value in result.items() if key != "per_class")
    for scores in result["per_class"].values():
        yield from scores.values()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_before_any_batch_everything_is_minus_one(protocol):
    assert set(every_number(MeanAveragePrecision(protocol, class_names=["a", "b"]).result())) == {-1.0}
    assert MeanAveragePrecision(protocol).result()["per_class"] == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_batches_without_boxes_or_columns_or_images_are_normal(protocol):
    metric = MeanAveragePrecision(protocol)
    for images, columns in ((0, 3), (2, 0), (2, 3)):
        empty = {"boxes": np.zeros((images, columns, 4)), "labels": np.full((images, columns), -1)}
        metric.update_state(empty, empty | {"scores": np.zeros((images, columns))})
    assert metric.result()["mAP"] == -1.0
    metric.update_state(targets([(BOX, 0)]), found([(BOX, 0, 0.5)]))
    assert metric.result()["mAP"] == 1.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_without_any_detection_have_average_precision_0(protocol):
    result = measure(targets([(BOX, 0)], [(BOX, 1)]), found([], []), protocol)
    assert result["mAP"] == 0.0
    assert {name: scores["AP"] for name, scores in result["per_class"].items()} == {0: 0.0, 1: 0.0}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_image_without_detections_counts_as_missed(protocol):
    result = measure(targets([(BOX, 0)], [(BOX, 0)]), found([(BOX, 0, 0.9)], []), protocol)
    expected = {"coco": 51 / 101, "voc2007": 6 / 11, "voc2010": 0.5}[protocol]
    assert result["mAP"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_class_without_ground_truth_is_minus_one_and_left_out_of_the_mean(protocol):
    result = measure(
        targets([(BOX, 0)]), found([(BOX, 0, 0.9), (AWAY, 1, 0.95)]), protocol, class_names=["a", "b", "c"]
    )
    assert result["mAP"] == 1.0
    assert [scores["AP"] for scores in result["per_class"].values()] == [1.0, -1.0, -1.0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_detection_finds_objects_of_its_own_class_and_image_only(protocol):
    result = measure(targets([(BOX, 0)], [(BOX, 1)]), found([(BOX, 1, 0.9)], [(BOX, 0, 0.9)]), protocol)
    assert result["mAP"] == 0.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_ground_truth_box_is_found_at_most_once(protocol):
    truth = targets([(BOX, 0), (AWAY, 0)])
    result = measure(truth, found([(BOX, 0, 0.9), (BOX, 0, 0.8), (AWAY, 0, 0.7)]), protocol)
    # Precision 1 up to recall 1/2, then 2/3.
    expected = {"coco": (51 + 50 * 2 / 3) / 101, "voc2007": (6 + 5 * 2 / 3) / 11, "voc2010": (1 + 2 / 3) / 2}[protocol]
    assert result["mAP"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_boxes_of_no_area_never_match_and_never_make_nan(protocol):
    flat, inverted = [10, 10, 10, 50], [50, 50, 10, 10]
    detections = found([(flat, 0, 0.9), (inverted, 0, 0.8), ([0, 0, 0, 0], 0, 0.7)])
    result = measure(targets([(flat, 0), (inverted, 0), ([0, 0, 0, 0], 0)]), detections, protocol)
    assert result["mAP"] == 0.0
    assert not any(math.isnan(number) for number in every_number(result))


def test_the_worked_example_has_precision_3_of_5_at_recall_1():
    # TP TP FP FP TP of three objects; precision where recall rises: 1, 1, 3/5.
    objects = [([i * 100, 0, i * 100 + 50, 50], 0) for i in range(3)]
    shown = [objects[0][0], objects[1][0], [0, 300, 9, 309], [20, 300, 29, 309], objects[2][0]]
    detections = found([(box, 0, 0.9 - 0.1 * i) for i, box in enumerate(shown)])
    assert measure(targets(objects), detections, "voc2010")["mAP"] == pytest.approx((1 + 1 + 3 / 5) / 3, abs=1e-12)
    # Recalls 0 to .6 are reached with precision 1, .7 to 1 with 3/5.
    assert measure(targets(objects), detections, "voc2007")["mAP"] == pytest.approx((7 + 4 * 0.6) / 11, abs=1e-12)
    # 0 to .66, then .67 to 1.
    assert measure(targets(objects), detections)["mAP@0.50"] == pytest.approx((67 + 34 * 0.6) / 101, abs=1e-12)


def test_the_mean_of_the_slides_class_precisions_is_077(monkeypatch):
    precisions = {0: 0.65, 1: 0.80, 2: 0.86}
    monkeypatch.setattr("kzoo.metrics.voc.score", lambda truth, found, points: precisions[int(truth.label[0])])
    result = measure(targets([(BOX, 0), (BOX, 1), (BOX, 2)]), found([]), "voc2010")
    assert result["mAP"] == pytest.approx(0.77, abs=1e-12)


def test_coco_reaches_a_threshold_and_voc_must_exceed_it():
    half = [10.0, 10.0, 50.0, 30.0]  # IoU exactly 0.5
    truth, detections = targets([(BOX, 0)]), found([(half, 0, 0.9)])
    result = measure(truth, detections)
    assert (result["mAP"], result["mAP@0.50"], result["mAP@0.75"]) == pytest.approx((0.1, 1.0, 0.0), abs=1e-12)
    assert measure(truth, detections, "voc2007")["mAP"] == 0.0
    more = found([([10.0, 10.0, 50.0, 30.01], 0, 0.9)])
    assert measure(truth, more, "voc2007")["mAP"] == 1.0


def test_voc_looks_at_the_best_box_before_asking_whether_it_is_taken():
    near = [10.0, 10.0, 50.0, 44.0]  # IoU with BOX 0.85
    truth = targets([(BOX, 0), (near, 0)])
    twice = found([(BOX, 0, 0.9), (BOX, 0, 0.8)])
    # The second detection's best box is BOX again: VOC calls it false, COCO gives it the free neighbour.
    assert measure(truth, twice, "voc2010")["mAP"] == 0.5
    assert measure(truth, twice)["mAP@0.50"] == 1.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mark", ["difficult", "crowd"])
def test_what_is_difficult_or_a_crowd_is_neither_missed_nor_found(mark, protocol):
    truth = targets([(BOX, 0), (AWAY, 0)])
    truth[mark] = np.array([[False, True, False]])
    assert measure(truth, found([(BOX, 0, 0.9)]), protocol)["mAP"] == 1.0
    once = found([(AWAY, 0, 0.95), (BOX, 0, 0.9)])
    assert measure(truth, once, protocol)["mAP"] == 1.0


def test_only_crowds_are_found_any_number_of_times_and_by_parts_of_them_in_coco():
    part = [200.0, 200.0, 220.0, 220.0]  # all of it inside, IoU 1/4
    truth = targets([(BOX, 0), (AWAY, 0)])
    detections = found([(part, 0, 0.99), (AWAY, 0, 0.98), (AWAY, 0, 0.97), (BOX, 0, 0.9)])
    mark = np.array([[False, True, False]])
    assert measure(truth | {"crowd": mark}, detections)["mAP"] == 1.0
    # A difficult box takes one, the other two are false.
    assert measure(truth | {"difficult": mark}, detections)["mAP@0.50"] == pytest.approx(1 / 3)
    # In VOC all that lie on a difficult box are forgiven, but not a part of it.
    assert measure(truth | {"difficult": mark}, detections, "voc2010")["mAP"] == 0.5


def test_area_ranges_go_by_the_given_area_and_include_both_ends():
    truth = targets([(BOX, 0), (AWAY, 0)], area=np.array([[32.0**2, 96.0**2 + 1, 0]]))
    result = measure(truth, found([(BOX, 0, 0.9)]))
    assert (result["AR_small"], result["AR_medium"], result["AR_large"]) == (1.0, 1.0, 0.0)
    # Without it the boxes' own 40 x 40 pixels count.
    result = measure(targets([(BOX, 0), (AWAY, 0)]), found([(BOX, 0, 0.9)]))
    assert (result["AR_small"], result["AR_medium"], result["AR_large"]) == (-1.0, 0.5, -1.0)


def test_recall_at_1_10_and_100_counts_the_best_detections_of_each_image():
    objects = [([i * 20.0, 0.0, i * 20.0 + 10, 10.0], 0) for i in range(20)]
    detections = found([(box, 0, 0.5 + i / 100) for i, (box, _) in enumerate(objects)])
    result = measure(targets(objects), detections)
    assert (result["AR@1"], result["AR@10"], result["AR@100"]) == pytest.approx((0.05, 0.5, 1.0))


def test_no_more_than_a_hundred_detections_of_a_class_and_image_are_kept():
    metric = MeanAveragePrecision("coco")
    many = found([(BOX, i % 2, i / 400) for i in range(300)], [(BOX, 1, 0.3)] * 90)
    metric.update_state(targets([(BOX, 0)], [(BOX, 1)]), many)
    kept = metric.records.detections()
    counts = [np.sum((kept.image == image) & (kept.label == label)) for image in (0, 1) for label in (0, 1)]
    assert counts == [100, 100, 0, 90]
    assert kept.score[kept.image == 0].min() == pytest.approx(100 / 400)
    voc = MeanAveragePrecision("voc2010")
    voc.update_state(targets([(BOX, 0)], [(BOX, 1)]), many)
    assert len(voc.records.detections()) == 390


def test_inclusive_pixels_widen_every_box_by_one():
    # 10 x 10 pixels named by their first and last, and the left half of them: IoU 50/100; without the option 36/81.
    truth, detections = targets([([0, 0, 9, 9], 0)]), found([([0, 0, 4, 9], 0, 0.9)])
    assert measure(truth, detections, inclusive_pixels=True)["mAP@0.50"] == 1.0
    assert measure(truth, detections)["mAP@0.50"] == 0.0
    dot = [5, 5, 5, 5]  # one pixel
    assert measure(targets([(dot, 0)]), found([(dot, 0, 0.9)]), "voc2007", inclusive_pixels=True)["mAP"] == 1.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_neither_batch_size_nor_order_of_images_changes_the_result(protocol):
    rng = np.random.default_rng(0)
    truth, detections = [], []
    for _ in range(12):
        boxes = [(rng.integers(0, 30, 2).tolist(), int(rng.integers(0, 3))) for _ in range(rng.integers(0, 6))]
        boxes = [([x, y, x + 20, y + 20], label) for (x, y), label in boxes]
        truth.append(boxes)
        # Few different scores, so that their ties decide.
        detections.append([([b[0] + 2, *b[1:]], c, float(rng.choice([0.2, 0.5]))) for b, c in boxes + boxes[:2]])

    def run(order, batch):
        metric = MeanAveragePrecision(protocol)
        for i in range(0, len(order), batch):
            part = order[i : i + batch]
            batch_truth = targets(*(truth[j] for j in part), image_id=np.array(part) * 7)
            metric.update_state(batch_truth, found(*(detections[j] for j in part)))
        return metric.result()

    first = run(list(range(12)), 12)
    assert 0 < first["mAP"] < 1
    assert run(list(range(12)), 1) == first
    assert run(rng.permutation(12).tolist(), 5) == first


def test_reset_forgets_all_batches():
    metric = MeanAveragePrecision("coco")
    metric.update_state(targets([(BOX, 0)]), found([]))
    assert metric.result()["mAP"] == 0.0
    metric.reset_state()
    metric.update_state(targets([(BOX, 0)]), found([(BOX, 0, 0.9)]))
    assert metric.result()["mAP"] == 1.0


def test_result_can_be_asked_for_between_batches():
    metric = MeanAveragePrecision("voc2010")
    for detections, expected in (([(BOX, 0, 0.9)], 1.0), ([], 0.5), ([], 1 / 3)):
        metric.update_state(targets([(BOX, 0)]), found(detections))
        assert metric.result()["mAP"] == pytest.approx(expected)


def test_a_detection_costs_28_bytes():
    metric = MeanAveragePrecision("coco")
    metric.update_state(targets([(BOX, 0)]), found([(BOX, 0, 0.9)] * 10))
    kept = metric.records.detections()
    assert sum(getattr(kept, name).nbytes for name in ("image", "label", "boxes", "score")) == 280


def test_lists_and_tensors_measure_as_arrays_do():
    import keras

    truth, detections = targets([(BOX, 0)]), found([(BOX, 0, 0.9)])
    expected = measure(truth, detections)
    as_tensors = ({k: keras.ops.convert_to_tensor(v) for k, v in part.items()} for part in (truth, detections))
    assert measure(*as_tensors, class_names=["a"])["mAP"] == expected["mAP"]
    assert measure(*({k: v.tolist() for k, v in part.items()} for part in (truth, detections))) == expected


@pytest.mark.parametrize(
    ("truth", "detections", "message"),
    [
        (targets([(BOX, 0)]), found([], []), "`targets` holds 1 images and `found` 2"),
        ({"boxes": np.zeros((1, 1, 4))}, found([]), "`targets` lacks 'labels'"),
        (targets([(BOX, 0)]), targets([(BOX, 0)]), "`found` lacks 'scores'"),
        ({"boxes": np.zeros((1, 4)), "labels": np.zeros(1)}, found([]), "pass a padded batch"),
        (targets([(BOX, 0)], crowd=np.zeros((1, 5))), found([]), r"targets\['crowd'\] has shape \(1, 5\)"),
        (targets([], [(BOX, 0)]), found([], [(BOX, 0, np.nan)]), "NaN in image 1 of the batch"),
        (targets([(BOX, 0)]), found([(BOX, 3, 0.5)]), "`found` holds label 3, but `class_names` names 2"),
        (targets([(BOX, 2)]), found([]), "`targets` holds label 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(truth, detections, message):
    with pytest.raises(ValueError, match=message) as error:
        measure(truth, detections, class_names=["a", "b"])
    assert "\n" not in str(error.value)


def test_a_refused_batch_leaves_no_trace():
    metric = MeanAveragePrecision("coco")
    with pytest.raises(ValueError, match="NaN"):
        metric.update_state(targets([(BOX, 0)]), found([(BOX, 0, np.nan)]))
    metric.update_state(targets([(BOX, 0)]), found([(BOX, 0, 0.9)]))
    assert metric.result()["mAP"] == 1.0
    assert metric.records.num_images == 1


def test_a_mistyped_protocol_is_answered_with_the_nearest_one():
    with pytest.raises(ValueError, match="Did you mean 'voc2007'"):
        MeanAveragePrecision("voc207")
