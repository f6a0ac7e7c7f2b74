"""The proposals of a data set's images: searched, read from a file, or given as arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.data.annotations import Annotations, Sample
from kzoo.data.store import pixels_of
from kzoo.messages import unknown_name
from kzoo.proposals import MODES, read_file, search_images


def proposals_of(
    annotations: Annotations,
    source: str | Path | Mapping[str, np.ndarray] | Sequence[np.ndarray],
    max_proposals: int = 2000,
    **search: Any,
) -> list[np.ndarray]:
    """Proposals of each image, in the order of `annotations.samples`.

    Args:
        annotations: what a reader returned.
        source: "fast" or "quality" for selective search, kept on disk; an .npz or .json file; a mapping from the
            image's name (with or without suffix) or id; or a list of arrays, one an image.
        max_proposals: of an image at most, the first ones.
        **search: `folder`, `workers`, `progress` and so on of `kzoo.proposals.search_images`.

    Returns:
        a list of (P, 4) float32 xyxy, in pixels of the original images.

    Raises:
        ValueError: for an unknown source, or one that lacks an image of the data set, naming it.
    """
    samples = annotations.samples
    if isinstance(source, str) and source in MODES:
        images = [sample.image if sample.pixels is None else pixels_of(sample) for sample in samples]
        return search_images(images, source, max_proposals, **search)
    if isinstance(source, str | Path):
        if not Path(source).is_file():
            named = unknown_name("kind of proposals", source, MODES)
            raise ValueError(f"{named} Or give an existing .npz or .json file, or arrays.")
        source = read_file(source)
    if isinstance(source, Mapping):
        source = {str(key): boxes for key, boxes in source.items()}
        found = [_named(source, sample) for sample in samples]
        lacking = [sample.name for sample, boxes in zip(samples, found, strict=True) if boxes is None]
        if lacking:
            raise ValueError(
                f"No proposals for {lacking[0]}, nor for {len(lacking) - 1} others of {len(samples)} images. Keys must "
                "be the images' names or ids; an image without any proposal needs an array (0, 4)."
            )
    else:
        found = list(source)
        if len(found) != len(samples):
            raise ValueError(f"{len(found)} arrays of proposals for {len(samples)} images: give one each.")
    return [_checked(boxes, sample.name)[:max_proposals] for boxes, sample in zip(found, samples, strict=True)]


class PaddedProposals:
    """Hands tf.data the proposals of image i as (P, 4), padded with zeros, in pixels of the image as it was decoded."""

    def __init__(self, annotations: Annotations, proposals: Sequence[np.ndarray]):
        self._proposals = proposals
        self._sizes = [sample.size for sample in annotations.samples]
        self.most = max([1, *map(len, proposals)])

    def read(self, index: Any, image: Any) -> Any:
        """(P, 4) float32 for the image (H, W, 3) of sample `index`; graph code."""
        import tensorflow as tf

        def of(index: np.ndarray, shape: np.ndarray) -> np.ndarray:
            height, width = self._sizes[int(index)]
            boxes = self._proposals[int(index)] * np.array([shape[1] / width, shape[0] / height] * 2, np.float32)
            return np.pad(boxes, ((0, self.most - len(boxes)), (0, 0)))

        boxes = tf.numpy_function(of, [index, tf.shape(image)], tf.float32, stateful=False)
        return tf.ensure_shape(boxes, (self.most, 4))


def _named(source: Mapping[str, np.ndarray], sample: Sample) -> np.ndarray | None:
    for key in (sample.name, Path(sample.name).name, Path(sample.name).stem, str(sample.image_id)):
        if key in source:
            return source[key]
    return None


def _checked(boxes: np.ndarray, name: str) -> np.ndarray:
    boxes = np.asarray(boxes, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ValueError(f"{name}: proposals must be finite numbers (P, 4). Received shape: {boxes.shape}.")
    return boxes
