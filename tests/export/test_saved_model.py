import errno
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kzoo import export, images, models
from kzoo.export import writing


def test_every_weight_is_written_once(model, saved_model_folder):
    written = [shape for name, shape in tf.train.list_variables(str(saved_model_folder / "variables" / "variables"))]
    sizes = sum(int(np.prod(shape)) for shape in written if shape)
    assert sizes == pytest.approx(model.count_params(), rel=0.01)  # and a few numbers of TensorFlow's own


def test_signatures_take_float_and_byte_images_in_batches_of_any_size(model, data, saved_model_folder):
    signatures = tf.saved_model.load(str(saved_model_folder)).signatures
    images = data[0][0][:3].astype(np.uint8)
    expected = model.detect(images)
    for count in (1, 3):
        floats = signatures["serving_default"](image=tf.constant(images[:count], tf.float32))
        whole = signatures["serve_uint8"](image=tf.constant(images[:count]))
        for name, values in expected.items():
            np.testing.assert_allclose(floats[name], values[:count], atol=1e-3)
            np.testing.assert_allclose(whole[name], values[:count], atol=1e-3)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP"])
def test_encoded_files_of_any_size_are_decoded_and_resized_inside_the_graph(model, data, saved_model_folder, format):
    function = tf.saved_model.load(str(saved_model_folder)).signatures["serve_encoded"]
    contents, expected = [], []
    for image, size in zip(data[0][0], ((96, 64), (150, 90), (33, 70)), strict=False):
        buffer = io.BytesIO()
        Image.fromarray(image.astype(np.uint8)).resize(size).save(buffer, format)
        contents.append(buffer.getvalue())
        pixels = images.read_image(io.BytesIO(buffer.getvalue()))
        decoded = tf.io.decode_image(buffer.getvalue(), channels=3).numpy()
        if format == "JPEG":  # whose decoders smooth colours differently
            assert np.abs(decoded.astype(int) - pixels).mean() < 2
        else:
            np.testing.assert_array_equal(decoded, pixels)
        expected.append(model.detect(decoded[None]))
    found = function(image_bytes=tf.constant(contents))
    for row, one in enumerate(expected):
        count = int((one["scores"][0] > 0.05).sum())
        assert count >= 1
        np.testing.assert_array_equal(found["labels"][row, :count], one["labels"][0, :count])
        np.testing.assert_allclose(found["scores"][row, :count], one["scores"][0, :count], atol=1e-3)
        np.testing.assert_allclose(found["boxes"][row, :count], one["boxes"][0, :count], atol=0.05)


def test_a_broken_encoded_file_is_an_error_and_not_a_grey_image(saved_model_folder):
    function = tf.saved_model.load(str(saved_model_folder)).signatures["serve_encoded"]
    buffer = io.BytesIO()
    Image.new("RGB", (96, 64), "red").save(buffer, "JPEG")
    for content in (b"", b"no image", buffer.getvalue()[: len(buffer.getvalue()) // 2]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            function(image_bytes=tf.constant([content]))


def test_a_segmenter_that_wants_tiles_takes_no_files(tmp_path):
    """Resized into one tile, an image would get a mask of the wrong size and place, without a word."""
    for tiled in (False, True):
        unet = models.create("unet", 2, image_size=(64, 64), padding="same", width=0.0625, depth=2, tiled=tiled)
        found = tf.saved_model.load(str(export.saved_model(unet, tmp_path / "unet"))).signatures
        assert ("serve_encoded" in found) is not tiled
        assert found["serve_uint8"](image=tf.zeros((2, 64, 64, 3), tf.uint8))["labels"].shape == (2, 64, 64)


def test_the_folder_says_what_is_in_it(saved_model_folder):
    described = json.loads((saved_model_folder / "assets" / "kzoo.json").read_text(encoding="utf-8"))
    assert described["class_names"] == ["red", "blå"]
    assert described["image_size"] == [64, 96]
    assert described == export.read_metadata(saved_model_folder)


def test_an_older_savedmodel_is_replaced_whole(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "saved_model.pb").write_bytes(b"old")
    (tmp_path / "out" / "stale").write_bytes(b"old")
    export.saved_model(model, tmp_path / "out")
    assert not (tmp_path / "out" / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert export.load(tmp_path / "out").num_classes == 2


def test_a_file_or_a_folder_of_something_else_is_left_alone(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and holds no SavedModel"):
        export.saved_model(model, tmp_path)
    with pytest.raises(ValueError, match="this is a file"):
        export.saved_model(model, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")

    def write():
        with writing.new_folder(tmp_path / "out") as folder:
            (folder / "half").write_text("new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_a_full_disk_names_the_file(model, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        message = "{{node SaveV2}} .x/variables; No space left on device [Op:SaveV2]"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match=r"served: could not be written \(No space left on device\)"):
        export.saved_model(model, tmp_path / "served")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_file_that_is_written_whole(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kzoo.export.writing.os.replace", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*model.tflite'"):
        writing.write_file(tmp_path / "model.tflite", b"content")
    assert list(tmp_path.iterdir()) == []
