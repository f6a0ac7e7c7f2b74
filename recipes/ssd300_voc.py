"""SSD300 on PASCAL VOC 07+12, as in the paper (Liu et al., ECCV 2016, section 3.1): VGG16, 8732 default boxes.

    python recipes/ssd300_voc.py

Schedule of the authors' code for 07+12: SGD, momentum 0.9, weight decay 5e-4, batch 32, 1e-3 for 80,000 steps, 1e-4 for
20,000 and 1e-5 for 20,000. Published: 74.3 mAP on VOC2007 test (77.2 with the later augmentation, which is used here).
Meant for a GPU; nobody has run it whole with kzoo yet, so there is no score of ours. Downloads VOC through TensorFlow
Datasets and ImageNet weights through Keras. Smaller: --data FOLDER --steps 50 --width 0.125 --weights none.
"""

import argparse
import dataclasses

import keras

import kzoo
from kzoo.data.readers import read


def training_images(folder: str | None):
    """VOC 2007 and 2012 trainval together, or the split "trainval" of one folder."""
    if folder is not None:
        return read(folder, "trainval")
    parts = [read("voc/2007", "train+validation"), read("voc/2012", "train+validation")]
    return dataclasses.replace(parts[0], samples=[sample for part in parts for sample in part.samples])


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=None, help="a VOC folder instead of VOC 07+12 from TensorFlow Datasets")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a file of VGG16 weights")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=120_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--output", type=kzoo.training.output_name, default="ssd300_voc")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    common = {"image_size": 300, "batch_size": options.batch_size, "limit": options.limit}
    train = kzoo.data.from_annotations(training_images(options.data), augment="ssd", start_epoch=0, **common)
    test = kzoo.data.load(options.data or "voc/2007", split="test", **common)

    model = kzoo.models.SSD300(
        train.num_classes,
        weights=None if options.weights == "none" else options.weights,
        width=options.width,
        class_names=train.class_names,
    )
    boundaries = [options.steps * 2 // 3, options.steps * 5 // 6]
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [1e-3, 1e-4, 1e-5])
    model.compile(kzoo.training.caffe_sgd(rate))
    epochs = -(-options.steps // train.steps_per_epoch)
    model.fit(train, epochs=epochs, steps_per_epoch=min(options.steps, train.steps_per_epoch), verbose=2, shuffle=False)
    model.save(f"{options.output}.keras")

    result = kzoo.metrics.evaluate(model, test, protocol="voc2007")
    for name, measures in result["per_class"].items():
        print(f"{name:12s} AP {measures['AP']:.3f}")
    print(f"mAP {result['mAP']:.4f} (VOC2007, 11 points)")
    return result


if __name__ == "__main__":
    main()
