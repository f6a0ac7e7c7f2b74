"""A detector as a TensorFlow SavedModel: for TensorFlow Serving, KServe, and whatever loads one."""

import json
from pathlib import Path

import keras
import tensorflow as tf

from kzoo.export import metadata, writing
from kzoo.layers.kernels import portable_operators


def saved_model(model: keras.Model, path: str | Path) -> Path:
    """Writes the whole detector, pixels in and detections out, as a SavedModel folder.

    Signatures: `serving_default` takes `image` (B, H, W, 3) float32, `serve_uint8` the same in uint8, pixels 0..255 of
    the size in `assets/kzoo.json`; a detector returns `boxes` (B, K, 4) in pixels, `labels`, `scores` (B, K) and
    `num_detections` (B,), a segmenter `labels` and `scores` (B, h, w). `serve_encoded` takes `image_bytes` (B,), whole
    JPEG, PNG, GIF or BMP files of any size, and decodes and resizes them inside the graph: its boxes are in pixels of
    each file's image as it is stored (a JPEG's EXIF orientation is not applied), its label maps as above. A segmenter
    with `tile_size` has no `serve_encoded`: an image larger than a tile is to be taken apart, not resized.

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

    def from_files(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, scale = tf.map_fn(
            lambda content: decode(content, (height, width)),
            image_bytes,
            fn_output_signature=(tf.TensorSpec((height, width, 3), tf.float32), tf.TensorSpec((4,), tf.float32)),
            parallel_iterations=1,  # one large image in memory at a time
        )
        found = network(images, training=False)
        return {**found, "boxes": found["boxes"] * scale[:, None]} if "boxes" in found else found

    pixels = (batch, height, width, 3)
    # Not by Keras' ExportArchive, which writes every weight twice, and a server then holds both.
    served = tf.Module()
    served.kept = [variable.value for variable in network.variables]
    served.serve = tf.function(from_floats, [tf.TensorSpec(pixels, tf.float32, name="image")], autograph=False)
    served.serve_uint8 = tf.function(from_bytes, [tf.TensorSpec(pixels, tf.uint8, name="image")], autograph=False)
    names = ["serve", "serve_uint8"]
    if getattr(model, "tile_size", None) is None:
        files = tf.TensorSpec((batch,), tf.string, name="image_bytes")
        served.serve_encoded = tf.function(from_files, [files], autograph=False)
        names.append("serve_encoded")
    with writing.new_folder(path) as folder:
        with portable_operators():  # nobody knows where it will run, and what will convert it
            signatures = {name: getattr(served, name) for name in names}
            try:
                tf.saved_model.save(served, str(folder), {"serving_default": served.serve, **signatures})
            except tf.errors.OpError as error:  # a full disk, for one
                reason = error.message.split("; ")[-1].split(" [Op:")[0]
                raise OSError(f"{path}: could not be written ({reason})") from error
        (folder / "assets").mkdir(exist_ok=True)
        text = json.dumps(metadata.describe(model), indent=1, ensure_ascii=False) + "\n"
        (folder / "assets" / metadata.FILE_NAME).write_text(text, encoding="utf-8")
    return path


def decode(content: tf.Tensor, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The image in an encoded file as the network sees it.

    Args:
        content: scalar string, a JPEG, PNG, GIF (its first frame) or BMP file.
        size: (height, width) of the network's image.

    Returns:
        The image (*size, 3) float32, RGB 0..255, and (4,) float32: what boxes must be multiplied by to lie in the
        file's own image.
    """
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    shape = tf.cast(tf.shape(image)[:2], tf.float32) / tf.constant(size, tf.float32)
    # Resized from bytes: a copy of a large photo in float32 would take four times its memory.
    return tf.image.resize(image, size, antialias=True), tf.stack([shape[1], shape[0]] * 2)
