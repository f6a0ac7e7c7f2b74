"""kzoo's COCO measure beside pycocotools and faster-coco-eval, on the same made-up detections.

    python benchmarks/mean_average_precision.py --images 5000 --detections 100 --classes 80 [--skip pycocotools]

Every image has some objects; about half of its detections lie near one of them, most with its class, the others
anywhere, so that matching has as much to do as after a real detector. Times start from arrays: kzoo's `update_state`
and `result`; the peers' `loadRes`, `evaluate`, `accumulate` and `summarize` (their lists of dicts are built beforehand,
untimed).
"""

import argparse
import contextlib
import io
import time

import numpy as np

SUMMARY = (
    *("mAP", "mAP@0.50", "mAP@0.75", "mAP_small", "mAP_medium", "mAP_large"),
    *("AR@1", "AR@10", "AR@100", "AR_small", "AR_medium", "AR_large"),
)


def synthetic(images: int, detections: int, classes: int, objects: int, seed: int) -> tuple[dict, dict]:
    """Returns (targets, found), padded: about `objects` true boxes and exactly `detections` found ones an image."""
    rng = np.random.default_rng(seed)
    n = 2 * objects
    side = np.exp(rng.uniform(np.log(8), np.log(300), (images, n, 2)))
    corner = rng.uniform(0, 640, (images, n, 2))
    boxes = np.concatenate([corner, corner + side], axis=2)
    # A photograph shows few kinds of things, each often.
    kinds = rng.integers(0, classes, (images, 4))
    labels = np.take_along_axis(kinds, rng.integers(0, 4, (images, n)), axis=1)
    count = rng.integers(0, n + 1, images)
    valid = np.arange(n) < count[:, None]
    area = np.prod(side, axis=2) * rng.uniform(0.4, 1.0, (images, n))

    source = rng.integers(0, np.maximum(count, 1)[:, None], (images, detections))
    near = (rng.random((images, detections)) < 0.5) & (count > 0)[:, None]
    quality = np.where(near, rng.random((images, detections)), 0)
    chosen = np.take_along_axis(boxes, source[..., None], axis=1)
    size = np.tile(chosen[..., 2:] - chosen[..., :2], 2)
    moved = chosen + rng.normal(0, 1, size.shape) * size * (0.3 * (1 - quality) + 0.02)[..., None]
    far = rng.uniform(0, 600, (images, detections, 2))
    far = np.concatenate([far, far + np.exp(rng.uniform(2, 5.5, far.shape))], axis=2)
    found = np.where(near[..., None], moved, far)
    found[..., 2:] = np.maximum(found[..., 2:], found[..., :2])
    right = near & (rng.random(near.shape) < 0.8)
    found_labels = np.where(
        right, np.take_along_axis(labels, source, axis=1), rng.integers(0, classes, (images, detections))
    )
    scores = np.clip(0.6 * quality + rng.normal(0.2, 0.15, quality.shape), 0.001, 0.999).round(4)
    order = np.argsort(-scores, axis=1, kind="stable")
    targets = {
        "boxes": (boxes * valid[..., None]).astype(np.float32),
        "labels": np.where(valid, labels, -1).astype(np.int32),
        "area": (area * valid).astype(np.float32),
        "crowd": (rng.random((images, n)) < 0.02) & valid,
        "image_id": np.arange(images),
    }
    return targets, {
        "boxes": np.take_along_axis(found, order[..., None], axis=1).astype(np.float32),
        "labels": np.take_along_axis(found_labels, order, axis=1).astype(np.int32),
        "scores": np.take_along_axis(scores, order, axis=1).astype(np.float32),
    }


def time_kzoo(targets: dict, found: dict, batch: int) -> tuple[np.ndarray, float]:
    from kzoo.metrics import MeanAveragePrecision

    start = time.perf_counter()
    metric = MeanAveragePrecision("coco")
    for i in range(0, len(found["labels"]), batch):
        metric.update_state(*({k: v[i : i + batch] for k, v in part.items()} for part in (targets, found)))
    result = metric.result()
    return np.array([result[name] for name in SUMMARY]), time.perf_counter() - start


def time_peer(name: str, targets: dict, found: dict, classes: int) -> tuple[np.ndarray, float]:
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    dataset, results = as_coco(targets, found, classes)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        start = time.perf_counter()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return np.array(evaluation.stats[:12]), time.perf_counter() - start


def as_coco(targets: dict, found: dict, classes: int) -> tuple[dict, list[dict]]:
    def rows(part: dict) -> tuple[np.ndarray, list[list[float]], tuple[np.ndarray, ...]]:
        place = np.nonzero(part["labels"] >= 0)
        boxes = part["boxes"][place].astype(np.float64)
        return place[0], np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist(), place

    image, boxes, place = rows(targets)
    columns = (targets[k][place].tolist() for k in ("labels", "area", "crowd"))
    annotations = [
        {"id": i + 1, "image_id": im, "bbox": box, "category_id": label, "area": area, "iscrowd": int(crowd)}
        for i, (im, box, label, area, crowd) in enumerate(zip(image.tolist(), boxes, *columns, strict=True))
    ]
    image, boxes, place = rows(found)
    columns = (found[k][place].tolist() for k in ("labels", "scores"))
    results = [
        {"image_id": im, "bbox": box, "category_id": label, "score": score}
        for im, box, label, score in zip(image.tolist(), boxes, *columns, strict=True)
    ]
    images = [{"id": i} for i in range(len(targets["labels"]))]
    return {"images": images, "categories": [{"id": c} for c in range(classes)], "annotations": annotations}, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="an image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--objects", type=int, default=7, help="true boxes an image, on average")
    parser.add_argument("--batch", type=int, default=16, help="images in one update_state of kzoo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--skip", nargs="*", default=[], choices=["pycocotools", "faster-coco-eval"])
    args = parser.parse_args()

    peers = [name for name in ("pycocotools", "faster-coco-eval") if name not in args.skip]
    print(f"{'seed':>4}  {'measure':<17} {'seconds':>8} {'x kzoo':>7}  {'mAP':>7}  max difference of the 12")
    for seed in args.seeds:
        targets, found = synthetic(args.images, args.detections, args.classes, args.objects, seed)
        ours, seconds = time_kzoo(targets, found, args.batch)
        print(f"{seed:>4}  {'kzoo':<17} {seconds:>8.2f} {1:>7.1f}  {ours[0]:>7.4f}", flush=True)
        for name in peers:
            theirs, peer_seconds = time_peer(name, targets, found, args.classes)
            difference = np.abs(ours - theirs).max()
            ratio = peer_seconds / seconds
            print(
                f"{seed:>4}  {name:<17} {peer_seconds:>8.2f} {ratio:>7.1f}  {theirs[0]:>7.4f}  {difference:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
