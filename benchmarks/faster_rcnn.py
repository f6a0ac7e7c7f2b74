"""Faster R-CNN with ResNet50 and a feature pyramid beside torchvision's `fasterrcnn_resnet50_fpn`.

    pip install torch torchvision
    python benchmarks/faster_rcnn.py [--size 320] [--batch 2] [--counts torchvision|kzoo|own] [--from-scratch]
    python benchmarks/faster_rcnn.py --counts own --from-scratch --data path/to/voc --steps 200

Times a training step (forward, four losses, backward, SGD with momentum) and inference. Both sides work
in turn, on the same images, with random weights and the same number of threads. Both use the same numbers
of proposals and regions, torchvision's (512 regions drawn from an image, 1000 proposals in inference) or kzoo's (128
and 300, as Faster R-CNN's paper), or each its own, as it comes out of the box. As in fine-tuning, C1 and C2 stay and
batch norm keeps its statistics, unless --from-scratch. With --data both first learn from that folder's images, for so
many steps of SGD, and are timed on some of them: how many proposals survive the suppression, and so how many regions
torchvision's second stage has to look at, depends on what its RPN has learned (kzoo's looks at as many as were asked
for). Their mean number is printed. With --precision mixed_bfloat16 both compute in bfloat16,
torchvision under `torch.autocast`. Prints medians of wall time and of CPU time, and their ratio.
"""

import argparse
from collections.abc import Callable

import numpy as np
from sides import PRECISIONS, Side, compare, torch_precision

# (anchors a level to the NMS, proposals) in training and in inference, regions drawn from an image
COUNTS = {"torchvision": ((2000, 2000), (1000, 1000), 512), "kzoo": ((2000, 1000), (1000, 300), 128)}
CLASSES = 20
LEARNING_RATE = 0.005  # on --data
RATE = 1e-7  # while timed: both stay as they started: a detector that diverges on noise has other work to do


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 320), ("batch", 2), ("threads", 2), ("runs", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--counts", choices=[*COUNTS, "own"], default="torchvision")
    parser.add_argument("--from-scratch", action="store_true", help="train every layer and batch norm")
    parser.add_argument("--data", help="a data set that kzoo reads, in place of noise")
    parser.add_argument("--steps", type=int, default=200, help="of training on --data before the timing")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    a = parser.parse_args()
    print(
        f"{a.size} x {a.size}, batches of {a.batch}, {a.threads} threads, counts of {a.counts}, {a.precision}",
        flush=True,
    )
    scenes = _photographs(a) if a.data else _noise(a)
    sides = {name: Side(make, a, *scenes) for name, make in (("kzoo", _kzoo), ("torchvision", _torchvision))}
    compare(sides, ("training step", "inference"), a.runs, a.batch)


def _counts(a, side: str) -> tuple:
    return COUNTS[side if a.counts == "own" else a.counts]


def _photographs(a) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first 100 batches: images (N, size, size, 3) 0..255, boxes (N, M, 4), labels (N, M), -1 behind the last."""
    import kzoo

    pipeline = kzoo.data.load(a.data, "train", a.size, a.batch, task="detection").take(100)
    batches = [(np.asarray(x), np.asarray(y["boxes"]), np.asarray(y["labels"])) for x, y in pipeline]
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def _learn(a, images: np.ndarray, step: Callable[[slice], None]) -> None:
    """So many steps on the batches of --data, over and over; none on noise."""
    for k in range(a.steps if a.data else 0):
        start = k * a.batch % len(images)
        step(slice(start, start + a.batch))


def _noise(a) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (a.batch, a.size, a.size, 3)).astype("float32")
    corner = rng.uniform(0, a.size / 2, (a.batch, 8, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, a.size / 2, corner.shape)], -1).astype("float32")
    return images, boxes, rng.integers(0, CLASSES, (a.batch, 8)).astype("int32")


def _kzoo(a, images, boxes, labels) -> tuple[int, dict[str, Callable]]:
    import keras
    import tensorflow as tf

    import kzoo

    tf.config.threading.set_intra_op_parallelism_threads(a.threads)
    keras.config.set_dtype_policy(a.precision)
    train, test, regions = _counts(a, "kzoo")
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
    model.compile(keras.optimizers.SGD(LEARNING_RATE, momentum=0.9, global_clipnorm=10.0))

    def step(part=slice(a.batch)):
        model.train_on_batch(images[part], {"boxes": boxes[part], "labels": labels[part]})

    _learn(a, images, step)
    model.optimizer.learning_rate = RATE
    timed = images[: a.batch]
    proposals = model.propose(timed)["proposals"]
    print(f"kzoo: {np.mean((proposals[..., 2] > proposals[..., 0]).sum(1)):.0f} proposals an image", flush=True)
    inference = model.inference_model()
    return model.count_params(), {
        "training step": step,
        "inference": lambda: inference.predict_on_batch(timed),
    }


def _torchvision(a, images, boxes, labels) -> tuple[int, dict[str, Callable]]:
    import torch
    from torchvision.models import resnet50
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops import FrozenBatchNorm2d

    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    train, test, regions = _counts(a, "torchvision")
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
    # The start of Fast R-CNN's paper, which kzoo has. With torchvision's own, inference took 174 ms an image in one run
    # and 437 in another, probably as more or fewer untrained scores passed the threshold of 0.05.
    predictor = model.roi_heads.box_predictor
    for layer, deviation in ((predictor.cls_score, 0.01), (predictor.bbox_pred, 0.001)):
        torch.nn.init.normal_(layer.weight, std=deviation)
        torch.nn.init.zeros_(layer.bias)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=LEARNING_RATE, momentum=0.9)
    inputs = [torch.tensor(image.transpose(2, 0, 1) / 255) for image in images]
    targets = [
        {"boxes": torch.tensor(b[one >= 0]), "labels": torch.tensor(one[one >= 0] + 1, dtype=torch.int64)}
        for b, one in zip(boxes, labels, strict=True)
    ]

    def step(part=slice(a.batch)):
        model.train()
        optimizer.zero_grad()
        with torch_precision(a.precision):
            loss = sum(model(inputs[part], targets[part]).values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 10.0)
        optimizer.step()

    def infer():
        model.eval()
        with torch.inference_mode(), torch_precision(a.precision):
            model(inputs[: a.batch])

    _learn(a, images, step)
    optimizer.param_groups[0]["lr"] = RATE
    counts = []
    watch = model.rpn.register_forward_hook(lambda module, seen, found: counts.extend(map(len, found[0])))
    infer()
    watch.remove()
    print(f"torchvision: {np.mean(counts):.0f} proposals an image", flush=True)
    return sum(p.numel() for p in model.parameters()), {"training step": step, "inference": infer}


if __name__ == "__main__":
    main()
