"""SPP-net (He et al., ECCV 2014): one feature map an image, pyramid pooling, SVMs, box regression.

    python recipes/sppnet.py --data path/to/dataset --weights imagenet                                   # small data
    python recipes/sppnet.py --data voc/2007 --train-split train+validation --backbone vgg16 --weights imagenet \
        --scales 480 576 688 864 1200 --max-proposals 2000 --optimizer sgd --epochs 144                # as published

The small-data variant looks at one scale and keeps 1000 proposals an image. The published one is SGD, momentum 0.9,
weight decay 5e-4, 30,000 steps each of 1e-3, 1e-4 and 1e-5 (code). It is meant for a GPU (25
hours with VGG16 in the Fast R-CNN paper's table 4; 63.1 mAP on VOC2007 test) and has not been run whole with kzoo.
Writes sppnet.keras.
"""

import argparse

import keras

import kzoo


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--backbone", default="mobilenet")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--weights", default=None, help="imagenet, or a file of the backbone's weights")
    parser.add_argument("--image-size", type=int, nargs=2, default=(375, 500), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--scales", type=int, nargs="+", default=(480,), help="shorter sides that images are resized to"
    )
    parser.add_argument("--proposals", default="fast", help="fast, quality, or a file of proposals")
    parser.add_argument("--max-proposals", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8, help="images of a step, which draws 128 regions")
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam", help="sgd is the paper's")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--features", default=None, help="folder for the features of all regions; else a temporary one")
    parser.add_argument("--output", type=kzoo.training.output_name, default="sppnet")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    common = {
        "image_size": tuple(options.image_size),
        "batch_size": options.batch_size,
        "proposals": options.proposals,
        "max_proposals": options.max_proposals,
        "limit": options.limit,
    }
    train = kzoo.data.load(options.data, split=options.train_split, **common)
    test = kzoo.data.load(options.data, split="test", **common)

    model = kzoo.models.SPPNet(
        train.num_classes,
        image_size=tuple(options.image_size),
        scales=options.scales,
        backbone=options.backbone,
        width=options.width,
        weights=options.weights,
        max_proposals=options.max_proposals,
        class_names=train.class_names,
    )
    # Only the fully connected layers are fine-tuned (section 4.1).
    steps = keras.optimizers.schedules.PiecewiseConstantDecay([30_000, 60_000], [1e-3, 1e-4, 1e-5])
    paper = kzoo.training.caffe_sgd(steps)
    model.compile(paper if options.optimizer == "sgd" else keras.optimizers.Adam(5e-4))
    report = model.fit(train, epochs=options.epochs, folder=options.features, verbose=2)
    model.save(f"{options.output}.keras")
    print(", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in report["seconds"].items()))

    result = kzoo.metrics.evaluate(model, test)
    classes = ", ".join(f"{label} {measures['AP']:.3f}" for label, measures in result["per_class"].items())
    print(f"mAP {result['mAP']:.4f}  mAP@0.50 {result['mAP@0.50']:.4f}  ({classes})")
    return result


if __name__ == "__main__":
    main()
