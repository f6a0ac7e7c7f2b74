"""YOLO v1 on any data (Redmon et al., You Only Look Once, CVPR 2016).

    python recipes/yolo.py --data path/to/dataset --weights imagenet --image-size 384 512 --grid 12 16

This is the small-data variant: MobileNet under YOLO's cells and loss, AdamW and a cosine schedule; docs/results.md has
what it reached. A cell learns one object, so crowds need a fine grid. The paper's own training, section 2.2, on VOC
07+12 (63.4 mAP; Fast YOLO, --backbone fast_yolo, 52.7), is meant for a GPU and was not run whole with kzoo;
recipes/yolo_pretrain.py makes its weights:

    python recipes/yolo.py --paper --data path/to/VOC --train-split trainval --weights yolo_pretrain.weights.h5

SGD, momentum 0.9, decay 5e-4, batch 64, 0.001 rising to 0.01 in the first epoch, 75 epochs of 0.01, 30 of 0.001, 30 of
0.0001; shifted edges, exposure and saturation. Writes yolo.keras and .tflite files in float32 and int8, and prints the
measures of all three.
"""

import argparse

import keras

import kzoo

PAPER_EPOCHS = ((75, 1e-2), (30, 1e-3), (30, 1e-4))


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--paper", action="store_true", help="the paper's network, schedule and augmentation")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--backbone", default=None, help="mobilenet; yolo with --paper")
    parser.add_argument("--weights", default=None, help="imagenet, or a file of the backbone's weights")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, nargs=2, default=None, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--grid", type=int, nargs=2, default=None, metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--boxes-per-cell", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=None, help="100; 135 with --paper")
    parser.add_argument("--batch-size", type=int, default=None, help="8; 64 with --paper")
    parser.add_argument(
        "--learning-rate", type=float, default=None, help="of the small variant: 3e-4 with weights, else 1e-3"
    )
    parser.add_argument("--augment", default=None, help="light; yolo with --paper; no_up for images without an up")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument("--output", type=kzoo.training.output_name, default="yolo")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    paper = options.paper
    size = tuple(options.image_size or ((448, 448) if paper else (384, 384)))
    common = {"image_size": size, "batch_size": options.batch_size or (64 if paper else 8), "limit": options.limit}
    augment = options.augment or ("yolo" if paper else "light")
    train = kzoo.data.load(options.data, split=options.train_split, augment=augment, **common)
    test = kzoo.data.load(options.data, split="test", **common)

    model = kzoo.models.YOLO(
        train.num_classes,
        image_size=size,
        backbone=options.backbone or ("yolo" if paper else "mobilenet"),
        weights=options.weights,
        width=options.width,
        grid=None if options.grid is None else tuple(options.grid),
        boxes_per_cell=options.boxes_per_cell,
        class_names=train.class_names,
    )
    epochs = options.epochs or (sum(count for count, _ in PAPER_EPOCHS) if paper else 100)
    optimizer = paper_optimizer if paper else small_optimizer
    # With frozen batch norm nothing holds the scale of what pretrained layers say: they bear small steps only.
    rate = options.learning_rate or (3e-4 if options.weights else 1e-3)
    model.compile(optimizer(rate, epochs, train.steps_per_epoch))
    model.fit(train, epochs=epochs, verbose=2, shuffle=False)
    model.save(f"{options.output}.keras")

    results = {"keras": kzoo.metrics.evaluate(model, test)}
    # Under JAX train here, then write the files with `kzoo export yolo.keras`: only TensorFlow writes them.
    kinds = (("float32", None), ("int8", "int8")) if keras.backend.backend() == "tensorflow" else ()
    for kind, quantization in kinds:
        path = f"{options.output}_{kind}.tflite"
        kzoo.export.litert(model, path, quantization=quantization, calibration=train)
        results[kind] = kzoo.metrics.evaluate(kzoo.export.load(path), test)
    for name, result in results.items():
        classes = ", ".join(f"{label} {measures['AP@0.50']:.3f}" for label, measures in result["per_class"].items())
        print(f"{name:8s} mAP {result['mAP']:.4f}  mAP@0.50 {result['mAP@0.50']:.4f}  (AP@0.50 {classes})", flush=True)
    return results


def paper_optimizer(_, epochs: int, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Section 2.2's three rates, in their proportions where epochs are fewer, after ten stairs up to the first."""
    total = sum(count for count, _ in PAPER_EPOCHS)
    stairs = [steps_per_epoch * stair // 10 for stair in range(1, 11)]
    rising = [1e-3 + 9e-3 * stair / 10 for stair in range(10)]
    ends = [epochs * steps_per_epoch * end // total for end in (75, 105)]
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [*stairs, *ends], [*rising, *(rate for _, rate in PAPER_EPOCHS)]
    )
    return kzoo.training.caffe_sgd(rate)


def small_optimizer(learning_rate: float, epochs: int, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """AdamW, three epochs up to the learning rate and a cosine down."""
    steps = epochs * steps_per_epoch
    warmup = min(3 * steps_per_epoch, steps // 4)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.01, warmup_target=learning_rate, warmup_steps=warmup
    )
    return keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0)


if __name__ == "__main__":
    main()
