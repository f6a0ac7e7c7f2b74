"""Small data sets on disk, made to measure."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ORIENTATION = 0x0112


def write_image(path: Path, size=(60, 80), seed: int | None = None, orientation: int | None = None) -> Path:
    """Writes a random image of `size` = (height, width), each path another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()) if seed is None else seed)
    image = Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION] = orientation
    image.save(path, exif=exif)
    return path


@pytest.fixture
def image_file():
    """Returns `write_image`."""
    return write_image


@pytest.fixture
def voc(tmp_path):
    """Returns a function that writes an image with its XML: voc("a", [("cat", (1, 1, 10, 10))]) -> the folder."""

    def write(name: str, objects=(), size=(60, 80), stated="same", filename=None, image=True, orientation=None) -> Path:
        root = tmp_path / "voc"
        (root / "Annotations").mkdir(parents=True, exist_ok=True)
        (root / "JPEGImages").mkdir(exist_ok=True)
        if image:
            write_image(root / "JPEGImages" / f"{name}.jpg", size, orientation=orientation)
        height, width = size if stated == "same" else stated
        lines = ["<annotation>", f"<filename>{filename or name + '.jpg'}</filename>"]
        lines += [f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
        for label, corners, *difficult in objects:
            box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
            flag = f"<difficult>{int(bool(difficult and difficult[0]))}</difficult>"
            lines.append(f"<object><name>{label}</name>{flag}<bndbox>{box}</bndbox></object>")
        (root / "Annotations" / f"{name}.xml").write_text("\n".join([*lines, "</annotation>"]))
        return root

    return write


@pytest.fixture
def voc_split(tmp_path):
    """Returns a function that writes ImageSets/Main/<split>.txt."""

    def write(split: str, names: list[str]) -> None:
        folder = tmp_path / "voc" / "ImageSets" / "Main"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")

    return write


@pytest.fixture
def coco(tmp_path):
    """Returns a function that writes a COCO split of images and annotations: coco("train2017", images, annotations)."""

    def write(split: str, images: list[dict], annotations: list[dict], categories=((1, "cat"), (7, "dog"))) -> Path:
        root = tmp_path / "coco"
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        for entry in images:
            if not entry.pop("absent", False):
                write_image(root / split / entry["file_name"])
        content = {
            "images": images,
            "annotations": [{"id": i + 1, **annotation} for i, annotation in enumerate(annotations)],
            "categories": [{"id": number, "name": name} for number, name in categories],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        return root

    return write


@pytest.fixture
def yolo(tmp_path):
    """Returns a function that writes an image with its label file below images/<split> and labels/<split>."""

    def write(name: str, lines: str | None, split: str = "train", size=(60, 80), image=True) -> Path:
        root = tmp_path / "yolo"
        if image:
            write_image(root / "images" / split / f"{name}.png", size)
        if lines is not None:
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            (root / "labels" / split / f"{name}.txt").write_text(lines)
        (root / "classes.txt").write_text("cat\ndog\n")
        return root

    return write
