"""Where a script's files go: made sure of before it trains."""

import argparse
import tempfile
from pathlib import Path

ENDINGS = (".keras", ".weights.h5", ".tflite")


def output_name(text: str) -> str:
    """What the names of a script's files begin with, as "runs/first" of runs/first.keras; its folder is made.

    A type for argparse: a training whose files cannot be written ends before it begins.

    Args:
        text: as the user gave it; one of the files' endings is dropped.

    Raises:
        argparse.ArgumentTypeError: if it names no file, or none can be written there.

    Example:
        >>> parser.add_argument("--output", type=kzoo.training.output_name, default="ssd")
    """
    name = next((text.removesuffix(ending) for ending in ENDINGS if text.endswith(ending)), text)
    path = Path(name)
    if not path.name or name.endswith(("/", "\\")):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a file. Give one, as runs/first.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"nothing can be written to {path.parent} ({error.strerror})") from error
    return name
