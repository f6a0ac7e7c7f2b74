"""RetinaNet on any data (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017).

    python recipes/retinanet.py --data path/to/dataset --weights imagenet --image-size 384 512

This is the small-data variant: MobileNet, AdamW and a cosine schedule. The paper's own training, section 4.1, on COCO
(R50, 600 pixels: 34.3 AP), meant for several GPUs and not run whole with kzoo:

    python recipes/retinanet.py --paper --data coco/2017 --test-split validation --weights imagenet --image-size 600 600

SGD, momentum 0.9, weight decay 1e-4, batch 16, 90,000 steps of 0.01, a tenth after 60,000 and 80,000, flips only.
docs/results.md has what the small variant reached. Writes retinanet.keras and .tflite files in float32 and int8, and
prints the COCO measures of all three.
"""

import argparse

import keras

import kzoo


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--paper", action="store_true", help="ResNet50 and the paper's schedule")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--backbone", default=None, help="mobilenet; resnet50 with --paper")
    parser.add_argument("--weights", default=None, help="imagenet, or a file of the backbone's weights")
    parser.add_argument("--image-size", type=int, nargs=2, default=(384, 384), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--loss", default="focal", help="focal, weighted_cross_entropy, cross_entropy, hard_negative")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=90_000, help="with --paper, in place of epochs")
    parser.add_argument("--batch-size", type=int, default=None, help="8; 16 with --paper")
    parser.add_argument(
        "--learning-rate", type=float, default=None, help="of the small variant: 3e-4 with weights, else 1e-3"
    )
    parser.add_argument("--augment", default=None, help="light; flip with --paper; no_up for images without an up")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--output", type=kzoo.training.output_name, default="retinanet")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    size = tuple(options.image_size)
    batch = options.batch_size or (16 if options.paper else 8)
    common = {"image_size": size, "batch_size": batch, "limit": options.limit}
    augment = options.augment or ("flip" if options.paper else "light")
    train = kzoo.data.load(options.data, split=options.train_split, augment=augment, **common)
    test = kzoo.data.load(options.data, split=options.test_split, **common)

    model = kzoo.models.RetinaNet(
        train.num_classes,
        image_size=size,
        backbone=options.backbone or ("resnet50" if options.paper else "mobilenet"),
        weights=options.weights,
        # Small objects that overlap no anchor by half are learned as well; the paper leaves them out.
        claim="none" if options.paper else "best",
        loss=options.loss,
        class_names=train.class_names,
    )
    steps = options.steps if options.paper else options.epochs * train.steps_per_epoch
    # With frozen batch norm nothing holds the scale of what pretrained layers say: they bear small steps only.
    rate = options.learning_rate or (3e-4 if options.weights else 1e-3)
    model.compile(paper_optimizer(steps) if options.paper else small_optimizer(rate, steps, train))
    epochs = -(-steps // train.steps_per_epoch)
    model.fit(train, epochs=epochs, steps_per_epoch=min(steps, train.steps_per_epoch), verbose=2, shuffle=False)
    model.save(f"{options.output}.keras")

    results = {"keras": kzoo.metrics.evaluate(model, test)}
    # Under JAX train here, then write the files with `kzoo export retinanet.keras`: only TensorFlow writes them.
    kinds = (("float32", None), ("int8", "int8")) if keras.backend.backend() == "tensorflow" else ()
    for kind, quantization in kinds:
        path = f"{options.output}_{kind}.tflite"
        kzoo.export.litert(model, path, quantization=quantization, calibration=train)
        results[kind] = kzoo.metrics.evaluate(kzoo.export.load(path), test)
    for name, result in results.items():
        classes = ", ".join(f"{label} {measures['AP']:.3f}" for label, measures in result["per_class"].items())
        print(f"{name:8s} mAP {result['mAP']:.4f}  mAP@0.50 {result['mAP@0.50']:.4f}  ({classes})", flush=True)
    return results


def paper_optimizer(steps: int) -> keras.optimizers.Optimizer:
    """Section 4.1, optimization, after ten stairs up to the first rate over 500 steps, as the authors' code rises."""
    first = min(500, steps // 4)
    stairs = [first * stair // 10 for stair in range(1, 11)]
    rising = [1e-2 * (1 / 3 + 2 / 3 * stair / 10) for stair in range(10)]
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [*stairs, steps * 2 // 3, steps * 8 // 9], [*rising, 1e-2, 1e-3, 1e-4]
    )
    return kzoo.training.caffe_sgd(rate, weight_decay=1e-4)


def small_optimizer(learning_rate: float, steps: int, train) -> keras.optimizers.Optimizer:
    """AdamW, three epochs up to the learning rate and a cosine down."""
    warmup = min(3 * train.steps_per_epoch, steps // 4)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.01, warmup_target=learning_rate, warmup_steps=warmup
    )
    return keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0)


if __name__ == "__main__":
    main()
