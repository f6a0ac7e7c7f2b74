"""ISBI 2012: the 30 labelled slices of the challenge's stack of electron micrographs, with cells' membranes."""

import os
import re
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageSequence

from kzoo.data import sources
from kzoo.data.readers.headers import DECODE_ERRORS, describe

COMMIT = "238a567ae843f7c03e5cc5d3f233cd3f93f0da17"
URL = f"https://raw.githubusercontent.com/alexklibisz/isbi-2012/{COMMIT}/data/"
STACKS = {"image": "train-volume.tif", "label": "train-labels.tif"}
BLOBS = {  # git's names of what is in them
    "image": "358e48bed4f747c20da43251eb7138727d98cec3",
    "label": "74ab9858c0be80842c94c41c6fb980aab49e9558",
}
SHAPE = (30, 512, 512)  # slices, height, width
CLASSES = ("membrane", "cell")  # 0 and 255 in the stack, 0 and 1 here
SPLITS = {"train": range(24), "test": range(24, 30)}
LOCAL = "KZOO_ISBI2012_DIR"  # environment variable: a folder or zip archive that is already here


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of `isbi2012`.

    Args:
        source: a folder or zip archive with both stacks, or with the slices as PNG in image/ and label/, used instead
            of a download; None: $KZOO_ISBI2012_DIR, else download.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 - the form that TFDS asks for

    def __init__(self, *, source: str | os.PathLike | None = None, **kwargs):
        self._source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(*SHAPE[1:], 1), encoding_format="png"),
                    "image/filename": tfds.features.Text(),
                    "image/id": np.int64,  # the slice's number, 0..29
                    "segmentation_mask": tfds.features.LabeledImage(
                        labels=list(CLASSES), shape=(*SHAPE[1:], 1), encoding_format="png"
                    ),
                }
            ),
            homepage="http://brainiac2.mit.edu/isbi_challenge/",
            license="the challenge's terms",
            disable_shuffling=True,  # neighbouring slices stay neighbours
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        folder = sources.local(self._source, LOCAL)
        slices = downloaded(dl_manager) if folder is None else of_folder(folder)
        return {split: self._generate_examples(slices, numbers) for split, numbers in SPLITS.items()}

    def _generate_examples(self, slices: dict[str, np.ndarray], numbers: range):
        for number in numbers:
            yield (
                number,
                {
                    "image": slices["image"][number][..., None],
                    "image/filename": f"slice {number}",
                    "image/id": number,
                    "segmentation_mask": slices["label"][number][..., None] // 255,
                },
            )


def downloaded(dl_manager: tfds.download.DownloadManager) -> dict[str, np.ndarray]:
    """Downloads both stacks: {"image", "label"}, each (30, 512, 512) uint8.

    Raises:
        ValueError: if one cannot be had, or is not the one that is expected.
    """
    paths = {}
    for kind, name in STACKS.items():
        paths[kind] = sources.download(dl_manager.download, URL + name, LOCAL, "a folder with both stacks")
        if sources.git_blob_id(paths[kind]) != BLOBS[kind]:
            raise ValueError(f"{paths[kind]} is not {name} as of commit {COMMIT[:7]}. Delete it and try again.")
    return {kind: read_stack(path, [path], kind) for kind, path in paths.items()}


def of_folder(folder: Path) -> dict[str, np.ndarray]:
    """Reads the stacks, or the slices, of a folder: {"image", "label"}, each (30, 512, 512) uint8.

    Raises:
        ValueError: if there are none, or they are not 30 of 512 x 512 pixels, labelled with 0 and 255.
    """
    root = sources.find_root(folder, "data", (tuple(STACKS.values()), ("image/", "label/")), "ISBI 2012")
    if (root / STACKS["image"]).is_file() and (root / STACKS["label"]).is_file():
        return {kind: read_stack(root / name, [root / name], kind) for kind, name in STACKS.items()}
    files = {kind: sorted((root / kind).glob("*.png"), key=_number) for kind in STACKS}
    if [path.name for path in files["image"]] != [path.name for path in files["label"]]:
        raise ValueError(f"{root}: image/ and label/ hold PNG files of different names. Name them alike.")
    return {kind: read_stack(root / kind, paths, kind) for kind, paths in files.items()}


def _number(path: Path) -> tuple[int, str]:
    return int(re.sub(r"\D", "", path.stem) or 0), path.name


def read_stack(where: Path, paths: list[Path], kind: str) -> np.ndarray:
    """All pages of these files, which are or lie in `where`: (30, 512, 512) uint8.

    Raises:
        ValueError: if a file cannot be read, or what was read is not what `kind` ("image" or "label") has to be.
    """
    pages = []
    for path in paths:
        try:
            with Image.open(path) as image:
                pages += [np.array(page) for page in ImageSequence.Iterator(image)]
        except DECODE_ERRORS as error:
            raise ValueError(f"{path}: not a readable image ({describe(error)}). Get it again.") from error
    wrong = [page for page in pages if page.shape != SHAPE[1:] or page.dtype != np.uint8]
    if len(pages) != SHAPE[0] or wrong:
        found = f"{len(pages)} slices" + (f", one of shape {wrong[0].shape} and {wrong[0].dtype}" if wrong else "")
        raise ValueError(f"{where} is not the challenge's stack: expected 30 slices of 512 x 512 bytes, found {found}.")
    slices = np.stack(pages)
    if kind == "label" and not np.isin(slices, (0, 255)).all():
        raise ValueError(f"{where} is not the challenge's stack: expected labels 0 and 255 only.")
    return slices
