"""U-Net's training step and prediction beside PyTorch's, on the same cores in the same run.

    pip install torch segmentation-models-pytorch
    python benchmarks/unet.py --threads 2

Peers: a plain PyTorch U-Net of the same layers, widths and parameters (checked), and segmentation-models-pytorch's
Unet with a VGG11 encoder without pretrained weights, which is not ours: its time stands beside its parameters, as a
landmark. With --precision mixed_bfloat16 all compute in bfloat16, PyTorch under `torch.autocast`. All take turns;
medians are printed.
"""

import argparse

import numpy as np
from sides import PRECISIONS, Side, compare, torch_precision

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--image-size", type=int, default=256)
parser.add_argument("--batch-size", type=int, default=4)
parser.add_argument("--width", type=float, default=0.25)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--precision", choices=PRECISIONS, default="float32")
parser.add_argument("--no-smp", action="store_true")


def kzoo_unet(options, images, masks):
    import keras
    import tensorflow as tf

    from kzoo.models import UNet

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.config.set_dtype_policy(options.precision)
    model = UNet(2, options.image_size, "same", options.width, dropout=0.0, batch_norm=True)
    model.compile(keras.optimizers.Adam(1e-3))
    network = tf.function(lambda x: model(x, training=False))
    pixels = tf.constant(images)
    return sum(w.shape.num_elements() for w in model.trainable_weights), {
        "train": lambda: model.train_on_batch(images, masks),
        "predict": lambda: network(pixels).numpy(),
    }


def plain_torch(width: float):
    """The same network, as one would write it in PyTorch."""
    import torch
    from torch import nn

    filters = [max(2, round(64 * width * 2**level)) for level in range(5)]

    def block(inputs: int, outputs: int) -> nn.Sequential:
        parts = []
        for channels in (inputs, outputs):
            convolution = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
            parts += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        return nn.Sequential(*parts)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.ModuleList(block(a, b) for a, b in zip([3, *filters[:3]], filters[:4], strict=True))
            self.bottom = block(filters[3], filters[4])
            self.rise = nn.ModuleList(nn.ConvTranspose2d(filters[k + 1], filters[k], 2, 2) for k in (3, 2, 1, 0))
            self.up = nn.ModuleList(block(2 * filters[k], filters[k]) for k in (3, 2, 1, 0))
            self.score = nn.Conv2d(filters[0], 2, 1)

        def forward(self, x):
            skips = []
            for part in self.down:
                x = part(x)
                skips.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.bottom(x)
            for rise, part in zip(self.rise, self.up, strict=True):
                x = part(torch.cat([skips.pop(), torch.relu(rise(x))], dim=1))
            return self.score(x)

    return Network()


def of_plain_torch(options, images, masks):
    return torch_peer(plain_torch(options.width), options, images, masks)


def of_smp(options, images, masks):
    import segmentation_models_pytorch as smp

    channels = [max(2, round(1024 * options.width / 2**k)) for k in range(5)]
    network = smp.Unet("vgg11", encoder_weights=None, decoder_channels=channels, classes=2)
    return torch_peer(network, options, images, masks)


def torch_peer(network, options, images, masks):
    import torch

    torch.set_num_threads(options.threads)
    channels_last = torch.channels_last  # the faster layout on a CPU
    network = network.to(memory_format=channels_last)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=channels_last) / 127.5 - 1
    labels = torch.from_numpy(masks).long()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def train():
        network.train()
        optimizer.zero_grad()
        with torch_precision(options.precision):
            loss = torch.nn.functional.cross_entropy(network(pixels), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict():
        network.eval()
        with torch.inference_mode(), torch_precision(options.precision):
            return network(pixels).float().numpy()

    return sum(p.numel() for p in network.parameters()), {"train": train, "predict": predict}


def main(arguments: list[str] | None = None) -> None:
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size)
    images, masks = rng.uniform(0, 255, (*shape, 3)).astype("float32"), rng.integers(0, 2, shape).astype("int32")
    text = "batches of {batch_size}, {image_size} x {image_size}, {threads} threads, {precision}"
    print(text.format(**vars(options)), flush=True)
    peers = {"kzoo": kzoo_unet, "plain PyTorch U-Net": of_plain_torch, "smp Unet, VGG11": of_smp}
    if options.no_smp:
        del peers["smp Unet, VGG11"]
    sides = {name: Side(make, options, images, masks) for name, make in peers.items()}
    if sides["kzoo"].parameters != sides["plain PyTorch U-Net"].parameters:
        raise SystemExit(f"Not the same network: {[side.parameters for side in sides.values()]} parameters.")
    compare(sides, ("train", "predict"), options.rounds, options.batch_size)


if __name__ == "__main__":
    main()
