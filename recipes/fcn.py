"""FCN in stages: 32s, then 16s from its weights, then 8s (Long et al., CVPR 2015, section 4.3).

    python recipes/fcn.py --data camvid --backbone mobilenet --weights imagenet
    python recipes/fcn.py --data path/to/VOC2012 --image-size 500 500 --paper

A data set's name, or any folder of images and masks with splits to train on and to measure. The first command is for
small data on a CPU; the second is the schedule of the authors' code: VGG16 from ImageNet weights, SGD with momentum .99
and one image a step, 100,000 steps a stage, each at a hundredth of the rate before. Published on VOC2011 val: 59.4,
62.4 and 62.7 mIoU for the stages. That schedule was not run whole with kzoo; docs/results.md holds what was measured
with the first command.
"""

import argparse

import keras
import numpy as np

import kzoo
from kzoo.training import caffe_sgd, class_weights, load_matching_weights


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--weights", default=None, help="imagenet, or a file of the backbone's weights")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, nargs=2, default=(180, 240), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--epochs", type=int, nargs=3, default=(20, 10, 30), metavar=("32s", "16s", "8s"))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--augment", default="street")
    parser.add_argument("--balance", default="none", help="weigh rare classes more: median, or root of that")
    parser.add_argument("--paper", action="store_true", help="the paper's optimizer, batch and steps")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--output", type=kzoo.training.output_name, default="fcn")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    size = tuple(options.image_size)
    common = {"image_size": size, "limit": options.limit, "task": "segmentation"}
    batch_size, augment = (1, "none") if options.paper else (options.batch_size, options.augment)
    train = kzoo.data.load(
        options.data, options.train_split, batch_size=batch_size, augment=augment, start_epoch=0, **common
    )
    test = kzoo.data.load(options.data, options.test_split, batch_size=options.batch_size, **common)
    weights = class_weights(options.balance, np.stack([sample.counts for sample in train.annotations.samples]))

    results, model = {}, None
    stages = zip((32, 16, 8), options.epochs, (1.0, 1e-2, 1e-4) if options.paper else (1.0, 1.0, 1.0), strict=True)
    for stride, epochs, share in stages:
        coarser, name = model, f"fcn{stride}s"
        model = kzoo.models.FCN(
            train.num_classes,
            image_size=size,
            finest_stride=stride,
            backbone=options.backbone,
            width=options.width,
            weights=("imagenet" if options.paper else options.weights) if coarser is None else None,
            loss="cross_entropy" if weights is None else "weighted_cross_entropy",
            class_weights=weights,
            class_names=train.class_names,
            name="fcn",
            **({} if coarser is None else fine_tuning(coarser)),
        )
        if coarser is not None:
            print(load_matching_weights(model, f"{options.output}{2 * stride}s.keras"))
        if options.paper:
            # The code's 1e-10, 1e-12 and 1e-14 are for a loss summed over some 190,000 pixels; ours is their mean.
            optimizer = caffe_sgd(2e-5 * share, momentum=0.99)
            steps, epochs = 1000, 100
        else:
            steps = train.steps_per_epoch
            rate = keras.optimizers.schedules.CosineDecay(options.learning_rate * share, epochs * steps, alpha=0.01)
            optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0)
        model.compile(optimizer)
        model.fit(train, epochs=epochs, steps_per_epoch=steps, verbose=2, shuffle=False)
        model.save(f"{options.output}{stride}s.keras")
        results[name] = kzoo.metrics.evaluate(model, test)
        print(f"{name}: mIoU {results[name]['mIoU']:.4f}, pixels {results[name]['pixel_accuracy']:.4f}", flush=True)
    for label, measures in results["fcn8s"]["per_class"].items():
        print(f"{label:16s} IoU {measures['IoU']:.3f}")
    return results


def fine_tuning(model) -> dict:
    """What the first stage decided from its pretrained weights holds for the others, which take them over."""
    return {key: model.get_config()[key] for key in ("frozen_stages", "frozen_batch_norm")}


if __name__ == "__main__":
    main()
