"""Scanned digits on made-up backgrounds: a detection and segmentation data set that needs no download.

The digits are the 1797 real 8x8 scans that scikit-learn ships (UCI "Optical Recognition of Handwritten Digits"),
enlarged, turned and sheared a little, and drawn in varied colours on flat, graded, striped, blotchy or checked grounds.
"""

import dataclasses
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIZE = 160  # pixels, height and width of an image
SEED = 20160
# split -> (number of images, number of source digits); no source digit is in two splits.
SPLITS = {"train": (1200, 1197), "val": (150, 200), "test": (300, 400)}
INK = 0.4  # share of ink from which a pixel belongs to the digit
MOST_OVERLAP = 0.06  # of the smaller of two boxes
LEAST_CONTRAST = 75.0  # grey levels between a digit and the mean of what lies behind it


@dataclasses.dataclass(eq=False)
class DigitsConfig(tfds.core.BuilderConfig):
    """What a picture shows.

    Attributes:
        most: digits a picture, at least one.
        smallest, largest: pixels, the longer side of a digit's ink before it is turned and stretched.
    """

    most: int = 6
    smallest: float = 22
    largest: float = 64


SEVERAL = DigitsConfig(name="several", description="One to six digits a picture.")
SINGLE = DigitsConfig(
    name="single",
    description="One large digit a picture, for classification + localization.",
    most=1,
    smallest=40,
    largest=96,
)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of `digits`; `digits/single` has one large digit a picture."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 - the form that TFDS asks for
    BUILDER_CONFIGS = [SEVERAL, SINGLE]  # noqa: RUF012 - likewise; the first is the default

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="jpeg"),
                    "image/id": np.int64,
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                            "source": np.int64,  # row of sklearn.datasets.load_digits
                        }
                    ),
                    # 0 background, digit + 1 where its ink is
                    "segmentation_mask": tfds.features.LabeledImage(
                        labels=["background", *map(str, range(10))], shape=(SIZE, SIZE, 1), encoding_format="png"
                    ),
                }
            ),
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            supervised_keys=None,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        from sklearn.datasets import load_digits

        scans, labels = load_digits(return_X_y=True)
        scans = (scans.reshape(-1, 8, 8) / 16.0).astype(np.float32)
        sources = source_splits(labels)
        return {split: self._generate_examples(split, sources[split], scans, labels) for split in SPLITS}

    def _generate_examples(self, split: str, sources: np.ndarray, scans: np.ndarray, labels: np.ndarray):
        first = sum(
            count for name, (count, _) in SPLITS.items() if list(SPLITS).index(name) < list(SPLITS).index(split)
        )
        for i in range(SPLITS[split][0]):
            image_id = first + i
            rng = np.random.default_rng([SEED, image_id])
            image, mask, boxes, used = compose(rng, sources, scans, labels, self.builder_config)
            yield (
                image_id,
                {
                    "image": _jpeg(image),
                    "image/id": image_id,
                    "objects": [
                        {
                            "bbox": tfds.features.BBox(*(box[[1, 0, 3, 2]] / SIZE)),  # ymin, xmin, ymax, xmax
                            "label": int(labels[source]),
                            "source": int(source),
                        }
                        for box, source in zip(boxes, used, strict=True)
                    ],
                    "segmentation_mask": mask[..., None],
                },
            )


def source_splits(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Deals the source digits out to the splits, every class in the same proportion: {split: row numbers}."""
    rng = np.random.default_rng(SEED)
    place = np.empty(len(labels))
    for digit in range(10):
        rows = np.flatnonzero(labels == digit)
        place[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    order = np.argsort(place, kind="stable")
    ends = np.cumsum([count for _, count in SPLITS.values()])
    return {split: np.sort(rows) for split, rows in zip(SPLITS, np.split(order, ends[:-1]), strict=True)}


def compose(
    rng: np.random.Generator,
    sources: np.ndarray,
    scans: np.ndarray,
    labels: np.ndarray,
    config: DigitsConfig = SEVERAL,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Draws one picture.

    Args:
        rng: makes the picture; the same generator state gives the same picture.
        sources: (S,) row numbers of the scans to choose from.
        scans: (N, 8, 8) float32, ink 0..1.
        labels: (N,) digits 0..9.
        config: how many digits, of which size.

    Returns:
        image (SIZE, SIZE, 3) uint8; mask (SIZE, SIZE) uint8, digit + 1 on ink, 0 elsewhere; boxes (K, 4) float32 xyxy
        half-open pixels, tight around the ink in the mask; the K row numbers of the scans used.
    """
    image = background(rng)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    boxes, used = [], []
    for source in rng.choice(sources, size=rng.integers(1, config.most + 1), replace=False):
        ink = enlarge(rng, scans[source], config)
        solid = ink >= INK
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        tight = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        corner = _free_corner(rng, tight, solid, boxes, mask)
        if corner is None:
            continue  # the picture is full
        x, y = corner
        window = np.s_[y : y + ink.shape[0], x : x + ink.shape[1]]
        colour = _contrasting_colour(rng, image[window][solid].mean(0))
        image[window] += ink[..., None] * (colour - image[window])
        mask[window][solid] = labels[source] + 1
        boxes.append(tight + np.array([x, y, x, y]))
        used.append(source)
    image += rng.uniform(0, 6) * rng.standard_normal(image.shape, np.float32)  # the camera's noise
    return np.clip(image, 0, 255).astype(np.uint8), mask, np.array(boxes, np.float32), used


def enlarge(rng: np.random.Generator, scan: np.ndarray, config: DigitsConfig = SEVERAL) -> np.ndarray:
    """Enlarges an 8x8 scan to its drawn size, turned, sheared and stretched a little: (h, w) float32, ink 0..1."""
    side = np.exp(rng.uniform(np.log(config.smallest), np.log(config.largest)))
    rows, columns = np.flatnonzero((scan > 0.15).any(1)), np.flatnonzero((scan > 0.15).any(0))
    zoom = side / max(np.ptp(rows) + 1, np.ptp(columns) + 1)
    angle, shear = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(-0.15, 0.15)
    stretch = np.exp(rng.uniform(-0.15, 0.15) * np.array([1, -1]))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(stretch) * zoom  # scan -> picture, x before y
    reach = np.ceil(np.abs(forward) @ np.array([10.0, 10.0])).astype(int)  # a border of one scan pixel all around
    back = np.linalg.inv(forward)
    offset = np.array([5.0, 5.0]) - back @ (reach / 2)
    padded = Image.fromarray(np.pad(scan, 1))
    coefficients = (*back[0], offset[0], *back[1], offset[1])
    drawn = padded.transform(tuple(reach), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    ink = np.asarray(drawn) * 1.6 - 0.3  # steeper edges: a pen, not a fog
    ink = np.clip(ink, 0, 1).astype(np.float32)
    rows, columns = np.flatnonzero((ink > 0).any(1)), np.flatnonzero((ink > 0).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def background(rng: np.random.Generator) -> np.ndarray:
    """Draws an empty picture, (SIZE, SIZE, 3) float32 of about 0..255, of one of six kinds between two colours."""
    kind = rng.choice(["flat", "linear", "radial", "stripes", "blobs", "checks"])
    first = rng.uniform(0, 255, 3).astype(np.float32)
    second = np.clip(first + rng.uniform(-80, 80, 3), 0, 255).astype(np.float32)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    if kind == "flat":
        share = np.zeros_like(x)
    elif kind == "linear":
        share = (along - along.min()) / np.ptp(along)
    elif kind == "radial":
        cx, cy = rng.uniform(0, 1, 2)
        share = np.clip(np.hypot(x - cx, y - cy) / rng.uniform(0.5, 1.2), 0, 1)
    elif kind == "stripes":
        share = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 16) * along)
    elif kind == "blobs":
        cells = int(rng.integers(3, 12))
        coarse = Image.fromarray(rng.uniform(0, 1, (cells, cells)).astype(np.float32))
        share = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    else:
        cells = int(rng.integers(3, 12))
        share = ((np.floor(x * cells) + np.floor(y * cells)) % 2).astype(np.float32)
    grain = rng.uniform(0, 10) * rng.standard_normal((SIZE, SIZE, 1), np.float32)
    return (first + share[..., None] * (second - first) + grain).astype(np.float32)


def _free_corner(rng, tight, solid, boxes, mask, tries: int = 60):
    """A place (x, y) where the ink covers no other ink and its box hardly touches the others; None if none is found."""
    height, width = solid.shape
    taken = np.array(boxes, np.float32).reshape(-1, 4)
    for _ in range(tries):
        x, y = int(rng.integers(0, SIZE - width + 1)), int(rng.integers(0, SIZE - height + 1))
        box = tight + np.array([x, y, x, y])
        shared = np.minimum(box[2:], taken[:, 2:]) - np.maximum(box[:2], taken[:, :2])
        shared = np.prod(np.maximum(shared, 0), axis=1)
        smaller = np.minimum(np.prod(taken[:, 2:] - taken[:, :2], axis=1), np.prod(box[2:] - box[:2]))
        if (shared <= MOST_OVERLAP * smaller).all() and not mask[y : y + height, x : x + width][solid].any():
            return x, y
    return None


def _contrasting_colour(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """A colour that stands out from the mean colour behind the digit."""
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma
    for _ in range(20):
        colour = rng.uniform(0, 255, 3)
        if abs((colour - behind) @ weights) >= LEAST_CONTRAST:
            return colour.astype(np.float32)
    return np.full(3, 0 if behind @ weights > 127 else 255, np.float32)


def _jpeg(image: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=92)
    file.seek(0)
    return file
