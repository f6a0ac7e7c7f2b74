"""COCO's twelve numbers and every class's AP equal pycocotools' to 1e-9."""

import contextlib
import io
import json

import numpy as np
import pytest

from kzoo.metrics import MeanAveragePrecision

pytest.importorskip("pycocotools", reason="the peer pycocotools is not installed (pip install 'kzoo[dev]')")
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SUMMARY = (
    *("mAP", "mAP@0.50", "mAP@0.75", "mAP_small", "mAP_medium", "mAP_large"),
    *("AR@1", "AR@10", "AR@100", "AR_small", "AR_medium", "AR_large"),
)


def pycocotools_result(images: list[dict], num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the twelve numbers, AP of each class, AP@0.50 of each class, as pycocotools finds them."""
    annotations, results = [], []
    for image in images:
        for box, label, area, crowd in zip(*(image[k] for k in ("boxes", "labels", "area", "crowd")), strict=True):
            annotations.append(
                # Its matching takes annotation id 0 for "none", hence ids from 1.
                {
                    "id": len(annotations) + 1,
                    "image_id": image["image_id"],
                    "category_id": int(label),
                    "bbox": xywh(box),
                }
                | {"area": float(area), "iscrowd": int(crowd)}
            )
        for box, label, score in zip(image["found"], image["found_labels"], image["scores"], strict=True):
            results.append(
                {"image_id": image["image_id"], "category_id": int(label), "bbox": xywh(box), "score": float(score)}
            )
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image["image_id"]} for image in images],
        "categories": [{"id": c} for c in range(num_classes)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        return run(truth, found)


def run(truth: COCO, found: COCO) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    evaluation = COCOeval(truth, found, "bbox")
    if not found.anns:  # what `loadRes` cannot make: a result without detections
        found.dataset = {
            "images": truth.dataset["images"],
            "categories": truth.dataset["categories"],
            "annotations": [],
        }
        found.createIndex()
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    return evaluation.stats, precision.mean(axis=(0, 1)), precision[0].mean(axis=0)


def xywh(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]


def padded(rows: list, width: int, shape: tuple[int, ...] = (), fill=0, dtype=np.float64) -> np.ndarray:
    out = np.full((len(rows), width, *shape), fill, dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = np.asarray(row, dtype).reshape(-1, *shape)
    return out


def our_result(images: list[dict], num_classes: int, batch_size: int) -> dict:
    metric = MeanAveragePrecision("coco", class_names=[f"class {c}" for c in range(num_classes)])
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        n, k = (max(len(image[key]) for image in batch) + 1 for key in ("boxes", "found"))
        column = {key: [image[key] for image in batch] for key in batch[0]}
        metric.update_state(
            {
                "boxes": padded(column["boxes"], n, (4,)),
                "labels": padded(column["labels"], n, fill=-1, dtype=np.int32),
                "area": padded(column["area"], n),
                "crowd": padded(column["crowd"], n, dtype=bool),
                "image_id": np.array(column["image_id"]),
            },
            {
                "boxes": padded(column["found"], k, (4,)),
                "labels": padded(column["found_labels"], k, fill=-1, dtype=np.int32),
                "scores": padded(column["scores"], k),
            },
        )
    return metric.result()


def check_equal(images: list[dict], num_classes: int, batch_size: int = 3) -> dict:
    ours = our_result(images, num_classes, batch_size)
    stats, per_class, per_class_50 = pycocotools_result(images, num_classes)
    np.testing.assert_allclose([ours[name] for name in SUMMARY], stats, rtol=0, atol=1e-9)
    for key, theirs in (("AP", per_class), ("AP@0.50", per_class_50)):
        np.testing.assert_allclose([c[key] for c in ours["per_class"].values()], theirs, rtol=0, atol=1e-9)
    return ours


def random_boxes(rng: np.random.Generator, count: int, size: int, whole: bool) -> np.ndarray:
    corner = rng.uniform(0, size, (count, 2))
    side = np.exp(rng.uniform(0, np.log(size), (count, 2)))
    boxes = np.concatenate([corner, corner + side], axis=1)
    return np.floor(boxes) if whole else boxes.astype(np.float32).astype(np.float64)


def random_image(rng: np.random.Generator, image_id: int, num_classes: int, size: int, whole: bool) -> dict:
    count = int(rng.integers(0, 9)) * int(rng.random() < 0.8)
    boxes = random_boxes(rng, count, size, whole)
    labels = rng.integers(0, num_classes, count)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if rng.random() < 0.5:  # as of masks: smaller than the box, now and then just on a range's border
        area = np.where(rng.random(count) < 0.3, rng.choice([1024.0, 9216.0], count), area * rng.uniform(0.2, 1, count))
    near = boxes[rng.integers(0, count, 3 * count)] if count else boxes
    near = near + rng.normal(0, size * 0.02, near.shape)
    far = random_boxes(rng, int(rng.integers(0, 8)), size, whole)
    exact = boxes[rng.random(count) < 0.3]
    found = np.concatenate([near, far, exact]) * int(rng.random() < 0.85)
    found = np.floor(found) if whole else found.astype(np.float32).astype(np.float64)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])  # some of zero area
    found = found[rng.permutation(len(found))][: int(rng.random() < 0.9) * len(found)]
    scores = rng.random(len(found))
    return {
        "image_id": image_id,
        "boxes": boxes,
        "labels": labels,
        "area": area,
        "crowd": rng.random(count) < 0.15,
        "found": found,
        "found_labels": rng.integers(0, num_classes, len(found)),
        "scores": np.round(scores, 1) if rng.random() < 0.5 else scores,  # many ties
    }


@pytest.mark.parametrize("seed", range(8))
def test_random_data_sets_measure_as_pycocotools_says(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        num_classes, size = int(rng.integers(1, 5)), int(rng.choice([40, 200, 640]))
        whole = rng.random() < 0.5  # whole pixels make many equal IoUs and some of exactly 0.5
        ids = rng.permutation(50)[: rng.integers(1, 12)].tolist()
        images = [random_image(rng, i, num_classes, size, whole) for i in ids]
        check_equal(images, num_classes, batch_size=int(rng.integers(1, 5)))


def test_more_than_a_hundred_detections_of_a_class_are_cut_as_pycocotools_cuts_them():
    rng = np.random.default_rng(1)
    images = []
    for i in range(4):
        image = random_image(rng, i, 2, 200, whole=True)
        count = 260
        image["found"] = random_boxes(rng, count, 200, whole=True)
        image["found"][::7] = random_boxes(rng, 1, 200, whole=True)
        image["boxes"] = image["found"][rng.integers(0, count, 60)] + rng.integers(-2, 3, (60, 4))
        image["labels"], image["crowd"] = rng.integers(0, 2, 60), rng.random(60) < 0.1
        image["area"] = np.prod(image["boxes"][:, 2:] - image["boxes"][:, :2], axis=1)
        image["found_labels"], image["scores"] = rng.integers(0, 2, count), np.round(rng.random(count), 2)
        images.append(image)
    ours = check_equal(images, 2)
    assert ours["AR@1"] < ours["AR@10"] < ours["AR@100"]


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_true_boxes_with_equal_iou_the_one_that_pycocotools_takes_is_taken(reverse):
    # The first detection lies midway between both boxes, the second reaches only the right one.
    boxes = np.array([[0, 0, 40, 40], [10, 0, 50, 40]], float)[:: -1 if reverse else 1]
    image = {
        "image_id": 0,
        "boxes": boxes,
        "labels": [0, 0],
        "area": [1600, 1600],
        "crowd": [False, False],
        "found": np.array([[5, 0, 45, 40], [20, 0, 60, 40]], float),
        "found_labels": [0, 0],
        "scores": [0.9, 0.8],
    }
    assert check_equal([image], 1)["AR@100"] == pytest.approx(0.45 if reverse else 0.3)


def test_pairs_looked_at_in_small_chunks_measure_the_same(monkeypatch):
    monkeypatch.setattr("kzoo.metrics.overlaps.CHUNK", 7)
    rng = np.random.default_rng(3)
    check_equal([random_image(rng, i, 2, 200, whole=True) for i in range(12)], 2, batch_size=5)


def test_difficult_boxes_are_ignored_like_boxes_of_no_area_range():
    rng = np.random.default_rng(2)
    images = [random_image(rng, i, 2, 200, whole=True) for i in range(20)]
    for image in images:
        image["crowd"][:] = False
    difficult = [rng.random(len(image["labels"])) < 0.3 for image in images]
    theirs = [image | {"area": np.where(d, -1.0, image["area"])} for image, d in zip(images, difficult, strict=True)]
    metric = MeanAveragePrecision()
    for image, d in zip(images, difficult, strict=True):
        targets = {key: image[key][None] for key in ("boxes", "labels", "area")} | {"difficult": d[None]}
        found = {"boxes": image["found"], "labels": image["found_labels"], "scores": image["scores"]}
        metric.update_state(targets, {key: value[None] for key, value in found.items()})
    ours = metric.result()
    assert sum(map(sum, difficult)) > 5
    np.testing.assert_allclose([ours[name] for name in SUMMARY], pycocotools_result(theirs, 2)[0], rtol=0, atol=1e-9)


def test_the_coco_sample_measures_as_pycocotools_says(shared_data):
    folder = shared_data("coco_val100")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "instances_val2014_100.json"))
        found = truth.loadRes(str(folder / "fakebbox100_results.json"))
        stats, per_class, _ = run(truth, found)
    label = {category: i for i, category in enumerate(sorted(truth.getCatIds()))}
    results = json.loads((folder / "fakebbox100_results.json").read_text())
    images = {
        i: {k: [] for k in ("boxes", "labels", "area", "crowd", "found", "found_labels", "scores")} for i in truth.imgs
    }
    for a in truth.dataset["annotations"]:
        image, (x, y, w, h) = images[a["image_id"]], a["bbox"]
        image["boxes"].append([x, y, x + w, y + h])
        image["labels"].append(label[a["category_id"]])
        image["area"].append(a["area"])
        image["crowd"].append(bool(a["iscrowd"]))
    for r in results:
        image, (x, y, w, h) = images[r["image_id"]], r["bbox"]
        image["found"].append([x, y, x + w, y + h])
        image["found_labels"].append(label[r["category_id"]])
        image["scores"].append(r["score"])
    ours = our_result([{"image_id": i} | image for i, image in images.items()], len(label), batch_size=8)
    assert ours["mAP"] > 0.4
    np.testing.assert_allclose([ours[name] for name in SUMMARY], stats, rtol=0, atol=1e-9)
    np.testing.assert_allclose([c["AP"] for c in ours["per_class"].values()], per_class, rtol=0, atol=1e-9)
