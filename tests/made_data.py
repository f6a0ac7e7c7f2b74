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
