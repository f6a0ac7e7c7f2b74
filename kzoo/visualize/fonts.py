"""Fonts for class names of any script: DejaVu, or what the machine has for characters that DejaVu lacks."""

import functools
import importlib.util
from pathlib import Path

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
    """The font file to write this text with, if not DejaVu, which stays where no other has more of the characters."""
    others = frozenset(character for character in text if ord(character) >= _FIRST_OTHER)
    return _best_file(others) if others and _dejavu() else None


@functools.cache
def _best_file(characters: frozenset[str]) -> Path | None:
    from matplotlib import font_manager

    dejavu = _dejavu()
    if _covered(str(dejavu), characters) == len(characters):
        return None
    # Looked for anew: matplotlib's own list is that of the day on which it first ran.
    files = [*sorted(font_manager.findSystemFonts()), *sorted(str(path) for path in dejavu.parent.glob("STIX*.ttf"))]
    found = {Path(file): _covered(file, characters) for file in [str(dejavu), *files]}
    best = max(found, key=found.get)  # of equals the first, so DejaVu before all
    return None if best == dejavu else best


def _covered(file: str, characters: frozenset[str]) -> int:
    """How many of the characters a font has; -1 if it cannot be read, scaled, or write a score."""
    from matplotlib.ft2font import FT2Font

    if "lastresort" in file.lower():  # has a box for every character there is
        return -1
    try:
        face = FT2Font(file)
    except (OSError, RuntimeError, ValueError):
        return -1
    if not face.scalable or not all(face.get_char_index(ord(one)) for one in _ALWAYS):
        return -1
    return sum(face.get_char_index(ord(one)) > 0 for one in characters)


@functools.cache
def _dejavu() -> Path | None:
    """matplotlib brings it."""
    spec = importlib.util.find_spec("matplotlib")  # finds the folder without importing the package
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return path if path.is_file() else None
