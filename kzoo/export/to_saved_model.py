"""A detector as a TensorFlow SavedModel: for TensorFlow Serving, KServe, and whatever loads one."""

import json
from pathlib import Path

import keras
import tensorflow as tf

from kzoo.export import metadata, writing


def saved_model(model, path: str | Path) -> Path:
    """Writes the whole detector, pixels in and detections out, as a SavedModel folder.

    Signatures: `serving_default` takes `image` (B, H, W, 3) float32, `serve_uint8` the same in uint8, pixels 0..255 of
        the size
    in `assets/kzoo.json`; both return `boxes` (B, K, 4) in pixels, `labels`, `scores` (B, K) and `num_detections` (B,).

    Args:
        model: a detector of `kzoo.models` under the TensorFlow backend.
        path: the folder to write. A SavedModel that is already there is replaced; anything else is left alone.

    Returns:
        The folder.

    Raises:
        ValueError: if `path` is a file, or a folder that holds something else than a SavedModel.
    """
    path = Path(path)
    if path.is_file():
        raise ValueError(f"{path}: a SavedModel is a folder, and this is a file. Give another path.")
    if path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").exists():
        raise ValueError(f"{path}: the folder is not empty and holds no SavedModel to replace. Give another path.")
    height, width = metadata.image_size(model)
    network = writing.inference_model(model)
    batch = network.input_shape[0]

    def from_bytes(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return network(tf.cast(image, tf.float32), training=False)

    def from_floats(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return network(image, training=False)

    archive = keras.export.ExportArchive()
    archive.track(network)
    # Keras serves the endpoint named "serve" as serving_default too.
    archive.add_endpoint("serve", from_floats, [tf.TensorSpec((batch, height, width, 3), tf.float32, name="image")])
    archive.add_endpoint("serve_uint8", from_bytes, [tf.TensorSpec((batch, height, width, 3), tf.uint8, name="image")])
    with writing.new_folder(path) as folder:
        archive.write_out(str(folder), verbose=False)
        (folder / "assets").mkdir(exist_ok=True)
        text = json.dumps(metadata.describe(model), indent=1, ensure_ascii=False) + "\n"
        (folder / "assets" / metadata.FILE_NAME).write_text(text, encoding="utf-8")
    return path
