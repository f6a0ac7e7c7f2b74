"""Reading .keras files: why one cannot be read, in one line."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import keras


def read_keras_file(
    path: str | Path, compile: bool = True, custom_objects: Mapping | None = None, safe_mode: bool = True
) -> keras.Model:
    """What a .keras file holds.

    Args:
        compile, custom_objects, safe_mode: as of `keras.models.load_model`.

    Raises:
        ValueError: if the file is missing or damaged, or holds what Keras does not know, naming it.
    """
    if not Path(path).is_file():
        hint = " It is a folder: give the .keras file in it." if Path(path).is_dir() else ""
        raise ValueError(f"{path}: no such file. Give a .keras file, as model.save writes it.{hint}")
    try:
        return keras.models.load_model(path, custom_objects, compile, safe_mode)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        unknown = re.search(r"Could not locate class '([^']+)'", reason)
        if unknown:
            name = unknown[1]
            raise ValueError(
                f"{path}: holds a {name}, which Keras does not know. Give custom_objects={{{name!r}: {name}}}, or "
                "register the class by @keras.saving.register_keras_serializable."
            ) from error
        if "safe_mode" in reason:
            raise ValueError(
                f"{path}: holds Python code (a Lambda layer), which is run on loading. If you trust the file, give "
                "safe_mode=False."
            ) from error
        raise ValueError(f"{path}: not a readable Keras file ({reason[:200]}).") from error
