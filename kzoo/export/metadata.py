"""What an exported file says about itself: model, input size, class names; readable without TensorFlow.

A SavedModel carries `assets/kzoo.json`. A .tflite file carries `kzoo.json` and `labels.txt` (one class name a line) in
a zip archive behind the model, the place where TFLite's own metadata puts associated files: `unzip -p model.tflite
labels.txt` reads it, and the runtime ignores it.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import kzoo

if TYPE_CHECKING:
    import keras

FILE_NAME = "kzoo.json"
LABELS_NAME = "labels.txt"
QUANTIZATIONS = (None, "float16", "dynamic", "int8")


def describe(model: "keras.Model", quantization: str | None = None) -> dict:
    """What goes into the file of `model` (a detector or a segmenter): plain JSON values."""
    class_names = getattr(model, "class_names", None)
    height, width = image_size(model)
    segments = hasattr(model, "segment")
    tile_size = getattr(model, "tile_size", None)
    how = {"tile_size": None if tile_size is None else list(tile_size), "stride": model.stride} if segments else {}
    return {
        "kzoo": kzoo.__version__,
        "name": model.name,
        "model": type(model).__name__,
        "task": "segmentation" if segments else "detection",
        "image_size": [height, width],
        "num_classes": getattr(model, "num_classes", None) or (len(class_names) if class_names else None),
        "class_names": None if class_names is None else [str(name) for name in class_names],
        "quantization": quantization,
        **how,
    }


def image_size(model: "keras.Model") -> tuple[int, int]:
    """The fixed (height, width) of a model's input.

    Raises:
        ValueError: if the model accepts any size; an exported file needs one.
    """
    size = getattr(model, "image_size", None) or model.input_shape[1:3]
    if len(size) != 2 or None in size:
        raise ValueError(
            f"Model {model.name!r} has no fixed input size, got {size}. Create it with image_size=(height, width)."
        )
    return int(size[0]), int(size[1])


def attach(flatbuffer: bytes, metadata: dict) -> bytes:
    """Appends the metadata to the bytes of a .tflite file. The same input gives the same bytes."""
    buffer = io.BytesIO(flatbuffer)
    entries = {FILE_NAME: json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"}
    if metadata.get("class_names"):
        entries[LABELS_NAME] = "".join(f"{name}\n" for name in metadata["class_names"])
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, text in entries.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # ZipInfo's date is fixed, so that files can be compared
    return buffer.getvalue()


def read_metadata(path: str | Path) -> dict:
    """The metadata of a .tflite file or SavedModel folder; empty for a file that another tool wrote.

    A .tflite file with no `kzoo.json` but with a `labels.txt`, as TFLite's metadata writers make it, gives its class
    names.

    Raises:
        ValueError: if there is no such file or folder.
    """
    path = Path(path)
    if path.is_dir():
        file = path / "assets" / FILE_NAME
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Give a .tflite file or a SavedModel folder.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if FILE_NAME in names:
                return json.loads(archive.read(FILE_NAME))
            if LABELS_NAME in names:
                class_names = archive.read(LABELS_NAME).decode("utf-8").splitlines()
                return {"class_names": class_names, "num_classes": len(class_names)}
    except zipfile.BadZipFile:  # no archive behind the model
        pass
    return {}
