"""What the writers of all formats share: the model to write, in float32, and files that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import keras

from kzoo.messages import name_file


def inference_model(model: keras.Model) -> keras.Model:
    """The graph from raw pixels to detections, in float32.

    A model trained under mixed precision is built anew from its configuration, with the same weights: float16 graphs do
    not convert, and neither do they run on phones.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Export needs the TensorFlow backend, this is {keras.backend.backend()!r}. Save the model as .keras, "
            "then export it under KERAS_BACKEND=tensorflow."
        )
    model = as_float32(model)
    network = model.inference_model() if hasattr(model, "inference_model") else model
    if len(network.inputs) > 1:
        wanted = " and ".join(one.name for one in network.inputs)
        raise ValueError(
            f"{model.name} wants {wanted}, and an exported file takes an image alone. A model that makes its own "
            "proposals, as faster_rcnn does, can be exported."
        )
    return network


def as_float32(model: keras.Model) -> keras.Model:
    """`model` itself if it computes in float32 throughout, else a float32 copy with its weights."""
    if all(layer.compute_dtype == "float32" for layer in _layers(model)):
        return model
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        copy = type(model).from_config(_float32_config(model.get_config()))
    finally:
        keras.config.set_dtype_policy(before)
    copy.set_weights(model.get_weights())
    return copy


def _layers(model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _float32_config(config):
    """The same configuration with every dtype policy of lower precision replaced by float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {key: _float32_config(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_float32_config(value) for value in config)
    return "float32" if config in ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16") else config


def write_file(path: str | Path, content: bytes) -> Path:
    """Writes a file whole: a reader, or a crash, never meets half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)  # mkstemp's 0600 would keep a web server from reading it
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            name_file(error, path)
        raise
    return path


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which takes the place of `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        fresh = work / "new"
        fresh.mkdir()
        yield fresh
        had_one = path.exists()
        if had_one:
            os.replace(path, work / "old")
        try:
            os.replace(fresh, path)
        except OSError:
            if had_one:
                os.replace(work / "old", path)
            raise
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
