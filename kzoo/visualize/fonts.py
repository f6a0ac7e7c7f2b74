"""Fonts for class names of any script: DejaVu, or what the machine has for characters that DejaVu lacks."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_ALWAYS = "az09.%"  # scores stand beside names: a font of one script alone will not do
_FIRST_OTHER = 0x0530  # Latin, Greek and Cyrillic come before it, and DejaVu has them all


def font(size: int, text: str = "") -> Font:
    """Returns a bold font of that size in pixels, in which the text can be read if the machine has one.

    Chinese, Japanese and Korean want a font of the system, and bring their own weight.
    """
    return _font(size, other_file(text))


@functools.cache
def _font(size: int, file: Path | None) -> Font:
    file = file or _dejavu()
    return ImageFont.truetype(str(file), size) if file else ImageFont.load_default(size)


def other_file(text: str) -> Path | None:
    """The font file to write this text with, if not DejaVu: the one with most of the characters that DejaVu lacks."""
    if all(ord(character) < _FIRST_OTHER for character in text) or _dejavu() is None:
        return None
    lacking = np.setdiff1d([ord(character) for character in text], _characters(_dejavu()))
    counts = {file: int(np.isin(lacking, characters).sum()) for file, characters in _others().items()}
    best = max(counts, key=counts.get, default=None)  # of equals the first
    return best if best is not None and counts[best] else None


@functools.cache
def _others() -> dict[Path, np.ndarray]:
    """The characters beyond DejaVu's of each font that has some; looked for once, as there may be hundreds of files."""
    from matplotlib import font_manager

    # Not matplotlib's own list, which is that of the day on which it first ran.
    files = [*map(Path, sorted(font_manager.findSystemFonts())), *sorted(_dejavu().parent.glob("STIX*.ttf"))]
    known = _characters(_dejavu())
    found = {file: np.setdiff1d(_characters(file), known) for file in files}
    return {file: characters for file, characters in found.items() if len(characters)}


def _characters(file: Path) -> np.ndarray:
    """The code points that a font has; none if it cannot be read, scaled, or write a score."""
    from matplotlib.ft2font import FT2Font

    if "lastresort" in file.name.lower():  # has a box for every character there is
        return np.zeros(0, int)
    try:
        face = FT2Font(str(file))
    except (OSError, RuntimeError, ValueError):
        return np.zeros(0, int)
    codes = face.get_charmap()
    usable = face.scalable and all(ord(one) in codes for one in _ALWAYS)
    return np.fromiter(codes, int) if usable else np.zeros(0, int)


@functools.cache
def _dejavu() -> Path | None:
    """matplotlib brings it."""
    spec = importlib.util.find_spec("matplotlib")  # finds the folder without importing the package
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return path if path.is_file() else None
