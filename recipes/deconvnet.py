"""DeconvNet in two stages (Noh et al., ICCV 2015, section 4.2): single objects in their middle first, then whole views.

    python recipes/deconvnet.py --data camvid --balance root

A data set's name, or any folder of images and masks with splits to train on and to measure. The first stage shows
windows around one region of a class, as large as 1.2 times the region, with all else void; it has no epochs unless
--epochs gives it some. The second shows whole images under augmentation, as the paper's shows proposals. Narrow by
default, from scratch: then the encoder learns before both stages, under the scores of an FCN-8s, and stays as it is in
them. Through the decoder it learns little and unlearns much (docs/experiments.md); the paper starts it from VGG16's
weights, and trains the whole:

    python recipes/deconvnet.py --data path/to/VOC2012 --background --width 1 --image-size 224 224 --weights imagenet \\
        --epochs 0 10 40 --batch-size 64 --learning-rate 0.01

with a rate that falls by ten where validation stalls; published on VOC2012 test: 69.6 mIoU. That was not run with kzoo;
docs/results.md holds what was measured with the first command.
"""

import argparse

import keras
import numpy as np

import kzoo
from kzoo.images import VOID, resize
from kzoo.tiling import nearest
from kzoo.training import class_weights


class CentredObjects(keras.utils.PyDataset):
    """Batches of single objects: of each image a class, and a window of 1.2 times the box of its pixels.

    Pixels of other classes are void, but for those of class 0 where that is the background (`background`).
    """

    def __init__(self, images, masks, size, batch_size: int, steps: int, background: bool = False, seed: int = 0):
        super().__init__()
        self.images, self.masks, self.size, self.background = images, masks, size, background
        self.batch_size, self.steps, self.rng = batch_size, steps, np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int):
        pairs = [self._object(i) for i in self.rng.integers(len(self.images), size=self.batch_size)]
        return tuple(np.stack(part) for part in zip(*pairs, strict=True))

    def _object(self, i: int):
        image, mask = self.images[i], self.masks[i]
        labels = np.setdiff1d(mask, [VOID, *([0] if self.background else [])])
        if len(labels) == 0:
            return resize(image, self.size), nearest(mask[None], self.size)[0]
        label = self.rng.choice(labels)
        window = []
        for axis, side in ((1, mask.shape[0]), (0, mask.shape[1])):
            places = np.flatnonzero((mask == label).any(axis=axis))
            middle, half = (places[0] + places[-1] + 1) / 2, 0.6 * (places[-1] + 1 - places[0])
            window.append(slice(max(0, int(middle - half)), min(side, int(np.ceil(middle + half)))))
        image, mask = image[tuple(window)], mask[tuple(window)]
        keep = (mask == label) | (self.background & (mask == 0))
        image = resize(image, self.size)
        mask = nearest(np.where(keep, mask, VOID)[None], self.size)[0]
        return (image[:, ::-1], mask[:, ::-1]) if self.rng.random() < 0.5 else (image, mask)


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--weights", default=None, help="imagenet, or a file of VGG16 weights")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--image-size", type=int, nargs=2, default=(192, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--epochs", type=int, nargs=3, default=(30, 0, 35), metavar=("ENCODER", "OBJECTS", "VIEWS"))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=0.1, help="of the two stages")
    parser.add_argument("--augment", default="street")
    parser.add_argument("--balance", default="none", help="weigh rare classes more: median, or root of that")
    parser.add_argument("--background", action="store_true", help="class 0 is what belongs to no object, as in VOC")
    parser.add_argument("--limit", type=int, default=None, help="use so many images of each split only")
    parser.add_argument(
        "--precision",
        default="float32",
        help="or mixed_bfloat16: half the time with AMX, two thirds with AVX-512's bfloat16",
    )
    parser.add_argument("--output", type=kzoo.training.output_name, default="deconvnet")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(options.precision)

    size = tuple(options.image_size)
    common = {"image_size": size, "batch_size": options.batch_size, "limit": options.limit, "task": "segmentation"}
    train = kzoo.data.load(options.data, options.train_split, augment=options.augment, start_epoch=0, **common)
    test = kzoo.data.load(options.data, options.test_split, **common)
    weights = class_weights(options.balance, np.stack([sample.counts for sample in train.annotations.samples]))

    learned = {
        "image_size": size,
        "loss": "cross_entropy" if weights is None else "weighted_cross_entropy",
        "class_weights": weights,
        "class_names": train.class_names,
    }
    model = kzoo.models.DeconvNet(train.num_classes, width=options.width, weights=options.weights, **learned)
    steps = train.steps_per_epoch
    encoder = encoder_of(model)
    if options.epochs[0] > 0:
        fcn = kzoo.models.FCN8s(train.num_classes, backbone=encoder, **learned)
        rate = keras.optimizers.schedules.CosineDecay(1e-3, options.epochs[0] * steps, alpha=0.01)
        fcn.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=10.0))
        fcn.fit(train, epochs=options.epochs[0], steps_per_epoch=steps, verbose=2, shuffle=False)
        encoder.trainable = False
    if options.epochs[1] > 0:
        plain = kzoo.data.load(options.data, options.train_split, **common)
        objects = centred_objects(plain, options.background)
        learn(model, objects, options.epochs[1], steps, options.learning_rate)
    if options.epochs[2] > 0:
        learn(model, train, options.epochs[2], steps, options.learning_rate)
    encoder.trainable = True
    model.compile()  # whoever loads the file trains the whole of it
    model.save(f"{options.output}.keras")

    result = kzoo.metrics.evaluate(model, test)
    for label, measures in result["per_class"].items():
        print(f"{label:16s} IoU {measures['IoU']:.3f}")
    print(f"mIoU {result['mIoU']:.4f}, pixels {result['pixel_accuracy']:.4f}")
    return result


def centred_objects(plain, background: bool) -> CentredObjects:
    """Single objects of a split's images, all of which lie in memory from here on."""
    batches = [(np.asarray(images), np.asarray(targets["masks"])) for images, targets in plain]
    images, masks = (np.concatenate(part) for part in zip(*batches, strict=True))
    return CentredObjects(images, masks, plain.image_size, plain.batch_size, len(batches), background)


def learn(model: keras.Model, data, epochs: int, steps: int, learning_rate: float) -> None:
    model.compile(sgd(learning_rate, epochs * steps))
    model.fit(data, epochs=epochs, steps_per_epoch=steps, verbose=2, shuffle=False)


def encoder_of(model: kzoo.models.DeconvNet) -> keras.Model:
    """The encoder as a backbone that shares its layers with `model`."""
    filled = model.get_layer("block1_conv1").input
    maps = {f"C{block}": model.get_layer(f"block{block}_pool").output[0] for block in (3, 4, 5)}
    images = keras.Input(filled.shape[1:])
    return keras.Model(images, keras.Model(filled, maps)(model.get_layer("normalize")(images)))


def sgd(learning_rate: float, steps: int) -> keras.optimizers.Optimizer:
    """The paper's optimizer, but rising first and then along a cosine, and with a tenth of its decay (Keras' own)."""
    warmup = min(100, steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.01, warmup_target=learning_rate, warmup_steps=warmup
    )
    return keras.optimizers.SGD(rate, momentum=0.9, weight_decay=5e-4, clipnorm=10.0)


if __name__ == "__main__":
    main()
