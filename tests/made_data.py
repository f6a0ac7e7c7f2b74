"""Data sets made by the tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def voc(folder: Path, images: int = 6) -> Path:
    """A VOC folder: pictures of one bright square or one dark one, 96 x 64."""
    rng = np.random.default_rng(0)
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for i in range(images):
        x, y = int(rng.integers(4, 50)), int(rng.integers(4, 30))
        pixels = np.full((64, 96, 3), 120, np.uint8)
        pixels[y : y + 24, x : x + 24] = 250 if i % 2 else 10
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{i}.png")
        name = "bright" if i % 2 else "dark"
        (folder / "Annotations" / f"{i}.xml").write_text(
            f"<annotation><filename>{i}.png</filename><size><width>96</width><height>64</height><depth>3</depth></size>"
            f"<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + 24}</xmax>"
            f"<ymax>{y + 24}</ymax></bndbox></object></annotation>",
            encoding="utf-8",
        )
    for split in ("train", "val", "trainval", "test"):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(
            "\n".join(map(str, range(images))), encoding="utf-8"
        )
    return folder


def write_array(path: Path, array: np.ndarray, mode: str | None = None) -> None:
    """Writes an array as an image file; mode "P" gives it a palette whose colours are not its numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette([k * 7 % 256 for k in range(768)])
    image.save(path)


def masks(folder: Path, images: int = 6, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """A folder of images and masks: bright squares on the left and dark ones on the right, 48 x 64, void at the top."""
    rng = np.random.default_rng(0)
    for split in splits:
        for i in range(images):
            mask = np.zeros((48, 64), np.uint8)
            for label, left in ((1, 0), (2, 32)):
                x, y = left + int(rng.integers(2, 12)), int(rng.integers(4, 26))
                mask[y : y + 18, x : x + 16] = label
            pixels = np.choose(mask, (120, 240, 10))[..., None] + rng.integers(-9, 9, (48, 64, 3))
            mask[:2] = 255
            write_array(folder / split / "images" / f"{i}.png", pixels.clip(0, 255).astype(np.uint8))
            write_array(folder / split / "masks" / f"{i}.png", mask)
    (folder / "classes.txt").write_text("ground\nbright\ndark\n", encoding="utf-8")
    return folder
