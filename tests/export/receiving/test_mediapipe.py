"""Files of form="mediapipe": the same findings through kzoo, through the Python client and through MediaPipe Tasks."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import kzoo_lite
from kzoo import export, images, models

FILES = ("detector", "detector-int8", "segmenter", "segmenter-int8")
# Runs where MediaPipe is installed, which may be another Python (the one that MEDIAPIPE_PYTHON names).
SCRIPT = """
import json, sys
import mediapipe as mp
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision

folder, *pictures = sys.argv[1:]
said = {}
for name in ("detector", "detector-int8"):
    options = vision.ObjectDetectorOptions(
        tasks.BaseOptions(model_asset_path=f"{folder}/{name}.tflite"), score_threshold=0.05, max_results=200)
    with vision.ObjectDetector.create_from_options(options) as detector:
        said[name] = [
            [
                {"name": one.categories[0].category_name, "score": one.categories[0].score,
                 "box": [one.bounding_box.origin_x, one.bounding_box.origin_y,
                         one.bounding_box.width, one.bounding_box.height]}
                for one in detector.detect(mp.Image.create_from_file(picture)).detections
            ]
            for picture in pictures
        ]
for name in ("segmenter", "segmenter-int8"):
    options = vision.ImageSegmenterOptions(
        tasks.BaseOptions(model_asset_path=f"{folder}/{name}.tflite"),
        output_category_mask=True, output_confidence_masks=True)
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        said[name + " labels"] = list(segmenter.labels)
        said[name] = []
        for picture in pictures:
            result = segmenter.segment(mp.Image.create_from_file(picture))
            said[name].append({
                "mask": result.category_mask.numpy_view().squeeze().tolist(),
                "confidence": [mask.numpy_view().squeeze().tolist() for mask in result.confidence_masks]})
json.dump(said, open(f"{folder}/said.json", "w"))
"""


@pytest.fixture(scope="module")
def file(model, segmenter, data, tmp_path_factory):
    """A function: one of `FILES` -> its path, each written once and all in one folder."""
    folder = tmp_path_factory.mktemp("mediapipe")

    def file(name):
        path = folder / f"{name}.tflite"
        if not path.exists():
            network = model if name.startswith("detector") else segmenter
            quantization = "int8" if name.endswith("int8") else None
            export.litert(network, path, quantization, calibration=data, samples=24, form="mediapipe")
        return path

    return file


@pytest.fixture(scope="module")
def said(file, pictures):
    """What MediaPipe says of the picture that has the networks' own size: it resizes otherwise than kzoo does."""
    python = os.environ.get("MEDIAPIPE_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import mediapipe"], capture_output=True).returncode:
        pytest.skip("mediapipe is not installed (set MEDIAPIPE_PYTHON)")
    (folder,) = {file(name).parent for name in FILES}
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run([python, folder / "script.py", folder, *pictures[:1]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "said.json").read_text())


@pytest.mark.parametrize("name", ["detector", pytest.param("detector-int8", marks=pytest.mark.receiving)])
def test_the_file_finds_the_same_as_the_file_of_kzoos_form(file, litert_file, pictures, name):
    plain = export.load(litert_file("int8" if name.endswith("int8") else None))
    detector, client = export.load(file(name)), kzoo_lite.Model(file(name))
    assert (detector.class_names, detector.image_size) == (["red", "blå"], (64, 96))
    for path in pictures:
        image = images.read_image(path)
        expected, found, alone = plain.detect([image]), detector.detect([image]), client(image)
        assert expected["scores"][0, 1] > 0.5
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, atol=1e-3)
            if key != "num_detections":
                np.testing.assert_allclose(alone[key], values[0, : len(alone["labels"])], atol=1e-3)


def test_the_segmenter_labels_the_same_as_the_model(file, segmenter, pictures):
    exported, client = export.load(file("segmenter")), kzoo_lite.Model(file("segmenter"))
    for path in pictures:
        image = images.read_image(path)
        expected, found = segmenter.segment(image[None]), exported.segment(image[None])
        assert len(np.unique(expected["labels"])) == 3
        assert (found["labels"] == expected["labels"]).mean() > 0.9999
        np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
        np.testing.assert_array_equal(client(image)["labels"], found["labels"][0])


@pytest.mark.receiving
@pytest.mark.parametrize("name", ["detector", "detector-int8"])
def test_mediapipes_object_detector_finds_the_same_objects_with_their_names(file, said, pictures, name):
    expected = export.load(file(name)).detect([images.read_image(pictures[0])])
    (found,) = said[name]
    sure = expected["scores"][0] > 0.05
    assert sure.sum() >= 2
    assert [one["name"] for one in found] == [["red", "blå"][label] for label in expected["labels"][0, sure]]
    np.testing.assert_allclose([one["score"] for one in found], expected["scores"][0, sure], atol=1e-4)
    boxes = expected["boxes"][0, sure]
    boxes[:, 2:] -= boxes[:, :2]
    cut = boxes - [one["box"] for one in found]  # MediaPipe gives left, top, width, height, cut to whole pixels
    assert (cut > -0.01).all()
    assert (cut < 1.01).all()


@pytest.mark.receiving
@pytest.mark.parametrize("name", ["segmenter", "segmenter-int8"])
def test_mediapipes_image_segmenter_labels_the_same_pixels(file, said, pictures, name):
    expected = export.load(file(name)).segment(images.read_image(pictures[0])[None])
    (found,) = said[name]
    assert said[f"{name} labels"] == ["floor", "red", "blå"]
    assert len(np.unique(expected["labels"])) == 3
    assert (np.array(found["mask"]) == expected["labels"][0]).mean() > 0.999
    confidence = np.array(found["confidence"])
    assert confidence.shape == (3, 64, 96)
    # MediaPipe brings an older runtime, whose int8 operators round otherwise: by one step of a logit, at most. Of two
    # classes, one up and one down, that moves a score by half a step, since the softmax is nowhere steeper than 1/4.
    tolerance = step_of_logits(file(name)) / 2 if "int8" in name else 1e-4
    np.testing.assert_allclose(confidence.max(0), expected["scores"][0], rtol=0, atol=tolerance)


def step_of_logits(path) -> float:
    """The scale of the int8 tensor that the last convolution of a segmenter makes."""
    from ai_edge_litert.interpreter import Interpreter

    tensors = Interpreter(str(path)).get_tensor_details()
    (step,) = {one["quantization"][0] for one in tensors if "/score" in one["name"] and len(one["shape"]) == 4} - {0.0}
    return step


def test_a_segmenter_that_labels_the_centre_only_is_refused(tmp_path):
    tiled = models.create("unet", 2, image_size=(60, 76), width=0.0625, depth=2)
    with pytest.raises(ValueError, match=r"labels 20 x 36 pixels of 60 x 76.*padding='same'"):
        export.litert(tiled, tmp_path / "m.tflite", form="mediapipe")
    with pytest.raises(ValueError, match=r"Unknown form 'mediapip'. Did you mean 'mediapipe'\?"):
        export.litert(tiled, tmp_path / "m.tflite", form="mediapip")
