"""Faster R-CNN with ResNet50 and a feature pyramid beside torchvision's `fasterrcnn_resnet50_fpn`.

    pip install torch torchvision
    python benchmarks/faster_rcnn.py [--size 320] [--batch 2] [--counts torchvision] [--from-scratch]

Times a training step (forward, four losses, backward, SGD with momentum) and inference. Each side has a process of its
own and works in turn, on the same images, with random weights and the same number of threads. Both use the same numbers
of proposals and regions: torchvision's (512 regions drawn from an image, 1000 proposals in inference) or kzoo's (128
and 300). As in fine-tuning, C1 and C2 stay and batch norm keeps its statistics, unless --from-scratch. Prints medians
of wall time and of CPU time, and their ratio.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable

import numpy as np

# (anchors a level to the NMS, proposals) in training and in inference, regions drawn from an image
COUNTS = {"torchvision": ((2000, 2000), (1000, 1000), 512), "kzoo": ((2000, 1000), (1000, 300), 128)}
CLASSES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 320), ("batch", 2), ("threads", 2), ("runs", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--counts", choices=list(COUNTS), default="torchvision")
    parser.add_argument("--from-scratch", action="store_true", help="train every layer and batch norm")
    a = parser.parse_args()
    sides = {name: Side(make, a) for name, make in (("kzoo", _kzoo), ("torchvision", _torchvision))}
    print(f"{a.size} x {a.size}, batches of {a.batch}, {a.threads} threads, counts of {a.counts}")
    for part in ("training step", "inference"):
        times = {name: [] for name in sides}
        for run in range(a.runs + 2):
            for name, side in sides.items():
                seconds = side.run(part)
                if run >= 2:  # the first two trace and warm up
                    times[name].append([1e3 * s / a.batch for s in seconds])
        medians = {name: [statistics.median(t) for t in zip(*ts, strict=True)] for name, ts in times.items()}
        for name, (wall, cpu) in medians.items():
            print(f"{part:14s} {name:12s} {wall:7.0f} ms an image, {cpu:7.0f} ms of CPU")
        wall, cpu = (theirs / ours for theirs, ours in zip(medians["torchvision"], medians["kzoo"], strict=True))
        print(f"{part:14s} torchvision / kzoo: {wall:.2f} by the clock, {cpu:.2f} in CPU time", flush=True)
    for side in sides.values():
        side.stop()


class Side:
    """A process that makes its model and then runs a part of it whenever it is asked to."""

    def __init__(self, make: Callable, a: argparse.Namespace):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, end = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(make, a, end))
        self.process.start()
        end.close()

    def run(self, part: str) -> tuple[float, float]:
        """Seconds by the clock and of CPU."""
        self.pipe.send(part)
        return self.pipe.recv()

    def stop(self) -> None:
        self.pipe.close()
        self.process.join()


def _serve(make: Callable, a: argparse.Namespace, pipe) -> None:
    functions = make(a, *_batch(a))
    while True:
        try:
            part = pipe.recv()
        except EOFError:
            return
        wall, cpu = time.perf_counter(), time.process_time()
        functions[part]()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))


def _batch(a) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (a.batch, a.size, a.size, 3)).astype("float32")
    corner = rng.uniform(0, a.size / 2, (a.batch, 8, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, a.size / 2, corner.shape)], -1).astype("float32")
    return images, boxes, rng.integers(0, CLASSES, (a.batch, 8)).astype("int32")


def _kzoo(a, images, boxes, labels) -> dict[str, Callable]:
    import keras
    import tensorflow as tf

    import kzoo

    tf.config.threading.set_intra_op_parallelism_threads(a.threads)
    train, test, regions = COUNTS[a.counts]
    model = kzoo.models.FasterRCNN(
        CLASSES,
        a.size,
        "resnet50",
        train_proposals=train,
        test_proposals=test,
        regions_per_image=regions,
        frozen_stages=0 if a.from_scratch else 2,
        frozen_batch_norm=not a.from_scratch,
        iou_threshold=0.5,
    )
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9))
    targets = {"boxes": boxes, "labels": labels}
    inference = model.inference_model()
    return {
        "training step": lambda: model.train_on_batch(images, targets),
        "inference": lambda: inference.predict_on_batch(images),
    }


def _torchvision(a, images, boxes, labels) -> dict[str, Callable]:
    import torch
    from torchvision.models import resnet50
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops import FrozenBatchNorm2d

    torch.set_num_threads(a.threads)
    train, test, regions = COUNTS[a.counts]
    norm = torch.nn.BatchNorm2d if a.from_scratch else FrozenBatchNorm2d
    backbone = _resnet_fpn_extractor(resnet50(weights=None, norm_layer=norm), 5 if a.from_scratch else 3)
    model = FasterRCNN(
        backbone,
        CLASSES + 1,
        min_size=a.size,
        max_size=a.size,
        rpn_pre_nms_top_n_train=train[0],
        rpn_post_nms_top_n_train=train[1],
        rpn_pre_nms_top_n_test=test[0],
        rpn_post_nms_top_n_test=test[1],
        box_batch_size_per_image=regions,
    )
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)
    inputs = [torch.tensor(image.transpose(2, 0, 1) / 255) for image in images]
    targets = [
        {"boxes": torch.tensor(b), "labels": torch.tensor(one + 1, dtype=torch.int64)}
        for b, one in zip(boxes, labels, strict=True)
    ]

    def step():
        model.train()
        optimizer.zero_grad()
        sum(model(inputs, targets).values()).backward()
        optimizer.step()

    def infer():
        model.eval()
        with torch.inference_mode():
            model(inputs)

    return {"training step": step, "inference": infer}


if __name__ == "__main__":
    main()
