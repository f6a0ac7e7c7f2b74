"""R-CNN (Girshick et al., CVPR 2014): selective search, a CNN over warped crops, SVMs, box regression.

    python recipes/rcnn.py --data path/to/dataset --weights imagenet                                   # small data
    python recipes/rcnn.py --data voc/2007 --train-split train+validation --backbone vgg16 --weights imagenet \
        --crop-size 224 --max-proposals 2000 --optimizer sgd --epochs 110                              # as published

The small-data variant crops 96 pixels for a MobileNet and keeps 300 proposals an image. The published one is SGD,
momentum 0.9, weight decay 5e-4, 1e-3 and a tenth of that after every 20,000 steps (code), some 70,000 of them. It is
meant for a GPU (84 hours with VGG16 in the Fast R-CNN paper's table 4; 66.0 mAP on VOC2007 test) and has not been run
whole with kzoo. Writes rcnn.keras.
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
    parser.add_argument("--crop-size", type=int, default=96)
    parser.add_argument("--proposals", default="fast", help="fast, quality, or a file of proposals")
    parser.add_argument("--max-proposals", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8, help="images of a step, which draws 128 regions")
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam", help="sgd is the paper's")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--features", default=None, help="folder for the features of all regions; else a temporary one")
    parser.add_argument("--output", type=kzoo.training.output_name, default="rcnn")
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

    model = kzoo.models.RCNN(
        train.num_classes,
        image_size=tuple(options.image_size),
        crop_size=options.crop_size,
        backbone=options.backbone,
        width=options.width,
        weights=options.weights,
        max_proposals=options.max_proposals,
        class_names=train.class_names,
    )
    # Section 2.3: SGD with a tenth of the rate that the backbone was trained with. Adam's is low for the same reason:
    # the backbone learns through fc layers that know nothing yet, and at 5e-4 it forgets.
    steps = keras.optimizers.schedules.PiecewiseConstantDecay([20_000, 40_000, 60_000], [1e-3, 1e-4, 1e-5, 1e-6])
    paper = kzoo.training.caffe_sgd(steps)
    model.compile(paper if options.optimizer == "sgd" else keras.optimizers.Adam(1e-4))
    report = model.fit(train, epochs=options.epochs, folder=options.features, verbose=2)
    model.save(f"{options.output}.keras")
    print(", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in report["seconds"].items()))

    result = kzoo.metrics.evaluate(model, test)
    classes = ", ".join(f"{label} {measures['AP']:.3f}" for label, measures in result["per_class"].items())
    print(f"mAP {result['mAP']:.4f}  mAP@0.50 {result['mAP@0.50']:.4f}  ({classes})")
    return result


if __name__ == "__main__":
    main()
