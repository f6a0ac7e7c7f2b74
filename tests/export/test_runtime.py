import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from PIL import Image

from kzoo import export
from kzoo.export.metadata import attach


@pytest.fixture(scope="module", params=["tflite", "saved_model", "keras"])
def detector(request, model, litert_file, saved_model_folder, tmp_path_factory):
    if request.param == "tflite":
        return export.load(litert_file(), threads=1)
    if request.param == "saved_model":
        return export.load(saved_model_folder)
    file = tmp_path_factory.mktemp("keras") / "model.keras"
    model.save(file)
    return export.load(file)


def test_every_format_knows_its_classes_and_size(detector):
    assert detector.image_size == (64, 96)
    assert detector.class_names == ["red", "blå"]
    assert detector.num_classes == 2
    assert detector.name == "ssd"


def test_every_format_detects_as_the_model_does(detector, model, data):
    images, targets = data[0]
    expected, found = model.detect(images), detector.detect(images)
    assert set(found) == {"boxes", "labels", "scores", "num_detections"}
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_allclose(found[name], values, atol=1e-3)
    best_two = np.sort(found["labels"][:, :2], axis=1)
    np.testing.assert_array_equal(best_two, np.sort(targets["labels"], axis=1))


def test_boxes_come_back_in_pixels_of_the_image_given(detector, data):
    images, targets = data[0]
    large = np.stack([np.asarray(Image.fromarray(x.astype(np.uint8)).resize((288, 128))) for x in images[:3]])
    found = detector.detect(large)  # three times as wide, twice as high
    for row in range(3):
        truth = targets["boxes"][row] * [3, 2, 3, 2]
        boxes = found["boxes"][row, :2]
        nearest = boxes[np.abs(boxes[None] - truth[:, None]).sum(-1).argmin(1)]
        assert np.abs(nearest - truth).max() < 12  # 4 pixels of the network's image


def test_images_of_different_sizes_go_as_a_list(detector, data):
    image = data[0][0][0].astype(np.uint8)
    found = detector.detect([image, np.asarray(Image.fromarray(image).resize((48, 32)))])
    assert found["boxes"].shape[0] == 2
    assert found["boxes"][0].max() > 48
    assert found["boxes"][1].max() <= 48


def test_no_image_gives_no_detection(detector):
    found = detector.detect(np.zeros((0, 64, 96, 3), np.uint8))
    assert [found[name].shape for name in ("boxes", "labels", "scores", "num_detections")] == [
        (0, 200, 4),
        (0, 200),
        (0, 200),
        (0,),
    ]


@pytest.mark.parametrize("shape", [(64, 96, 3), (2, 64, 96), (2, 64, 96, 1), (2, 0, 96, 3)])
def test_images_of_another_layout_are_refused_in_one_line(detector, shape):
    with pytest.raises(ValueError, match=r"images: expected RGB \(B, H, W, 3\)") as error:
        detector.detect(np.zeros(shape))
    assert "\n" not in str(error.value)
    assert ("images[None]" in str(error.value)) == (len(shape) == 3)


def test_a_tflite_file_runs_without_tensorflow_and_keras(litert_file, data, tmp_path):
    np.save(tmp_path / "images.npy", data[0][0][:2])
    code = """if True:
        import sys
        import numpy as np
        from kzoo.export import load, operators, read_metadata
        detector = load(sys.argv[1], threads=1)
        found = detector.detect(np.load(sys.argv[2]))
        assert operators(sys.argv[1])["NON_MAX_SUPPRESSION_V4"] == 1
        heavy = {"tensorflow", "keras", "jax", "torch", "matplotlib"} & set(sys.modules)
        print(found["num_detections"].min() > 0, detector.class_names, sorted(heavy))
    """
    command = [sys.executable, "-X", "utf8", "-c", code, litert_file("int8"), tmp_path / "images.npy"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.stdout.strip() == "True ['red', 'blå'] []", done.stderr


def test_a_run_folder_loads_its_best_model(model, tmp_path):
    model.save(tmp_path / "best.keras")
    assert export.load(tmp_path).path == tmp_path / "best.keras"


def test_missing_and_foreign_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"x")
    (tmp_path / "broken.tflite").write_bytes(b"not a flatbuffer")
    (tmp_path / "folder").mkdir()
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]).save(tmp_path / "dense.keras")
    for name, message in {
        "no.tflite": "no such file",
        "a.onnx": "cannot tell the format from '.onnx'",
        "broken.tflite": "not a LiteRT model that runs here",
        "folder": "neither a SavedModel nor best.keras",
        "dense.keras": "is no detector",
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            export.load(tmp_path / name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)


def test_a_tflite_file_that_is_no_detector_is_refused(tmp_path):
    from kzoo.export.to_litert import convert

    image = keras.Input((8, 8, 3))
    classifier = keras.Model(image, {"logits": keras.layers.GlobalAveragePooling2D()(image)})
    file = tmp_path / "classifier.tflite"
    file.write_bytes(attach(convert(classifier, (8, 8)), {}))
    with pytest.raises(ValueError, match=r"is no detector of kzoo, its outputs \['logits'\] lack boxes, labels"):
        export.load(file)


def test_threads_take_turns_at_one_file(detector, data):
    images = data[0][0]
    expected = detector.detect(images)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: detector.detect(images), range(16)):
            for key, values in expected.items():
                np.testing.assert_array_equal(found[key], values)


def test_threads_must_be_positive(litert_file):
    with pytest.raises(ValueError, match="threads must be 1 or more, got 0"):
        export.load(litert_file(), threads=0)
