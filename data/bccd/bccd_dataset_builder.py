"""BCCD: 364 photographs of blood smears with boxes around red cells, white cells and platelets."""

import os
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from kzoo.data import sources
from kzoo.data.readers import voc

COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"
URL = f"https://github.com/Shenggan/BCCD_Dataset/archive/{COMMIT}.zip"
# The archive is packed on request, so its own checksum may change; what is in it may not (see `content_digest`).
CONTENT = "6f4ddb2f42119d0e7078ef25239287e7f30c0962ce8bb808f6978a17ab3c344f"
SPLITS = ("train", "val", "test")
CLASSES = ("Platelets", "RBC", "WBC")
LOCAL = "KZOO_BCCD_DIR"  # environment variable: a folder or zip archive that is already here


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of `bccd`.

    Args:
        source: a folder or zip archive of it, used instead of a download; None: $KZOO_BCCD_DIR, else download.
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
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                    "objects": tfds.features.Sequence(
                        {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=CLASSES)}
                    ),
                    # what was annotated but is no box, so that readers can tell
                    "left_out": tfds.features.Sequence(
                        {"kind": tfds.features.Text(), "detail": tfds.features.Text()},
                    ),
                }
            ),
            homepage="https://github.com/Shenggan/BCCD_Dataset",
            license="MIT",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        folder = sources.local(self._source, LOCAL)
        root = find_root(folder or sources.download(dl_manager.download_and_extract, URL, LOCAL))
        if content_digest(root) != CONTENT:
            raise ValueError(f"{root} is not the BCCD data set of commit {COMMIT[:7]}: files are missing or changed.")
        return {split: self._generate_examples(root, split) for split in SPLITS}

    def _generate_examples(self, root: Path, split: str):
        annotations = voc.read(root, split, list(CLASSES))
        left_out: dict[str, list[dict[str, str]]] = {}
        for fault in annotations.faults:
            if fault.action == "image left out":
                raise ValueError(f"{root / fault.file}: {fault.kind}: {fault.detail}")
            if fault.action == "box left out":
                found = {"kind": fault.kind, "detail": f"{fault.file}, {fault.detail}"}
                left_out.setdefault(Path(fault.file).stem, []).append(found)
        for sample in annotations.samples:
            height, width = sample.size
            relative = sample.boxes[:, [1, 0, 3, 2]] / np.array([height, width, height, width], np.float32)
            yield (
                sample.name,
                {
                    "image": sample.image,
                    "image/filename": sample.name,
                    "objects": [
                        {"bbox": tfds.features.BBox(*map(float, box)), "label": int(label)}
                        for box, label in zip(relative, sample.labels, strict=True)
                    ],
                    "left_out": left_out.get(sample.image.stem, []),
                },
            )


def find_root(folder: Path) -> Path:
    """The folder with JPEGImages/ and Annotations/, at or below `folder`.

    Raises:
        ValueError: if there is none.
    """
    return sources.find_root(folder, "BCCD", (("JPEGImages/", "Annotations/"),), "BCCD")


def content_digest(root: Path) -> str:
    """What is to be `CONTENT`: over all images, annotations and lists of splits (their lines sorted)."""
    return sources.content_digest(root, "JPEGImages/*.jpg", "Annotations/*.xml", "ImageSets/Main/*.txt")
