import keras
import numpy as np
import pytest
from keras import ops

from kzoo import export, models
from kzoo.export import flatbuffer, metadata, to_litert, writing
from kzoo.export.quantize import float_scopes

SIZE = (64, 96)


def test_the_float_file_finds_what_keras_finds(model, litert_file):
    images = np.random.default_rng(5).uniform(0, 255, (3, *SIZE, 3)).astype("float32")
    expected, found = model.detect(images), export.load(litert_file()).detect(images)
    assert expected["num_detections"].min() > 20  # low scores, but many
    np.testing.assert_array_equal(found["num_detections"], expected["num_detections"])
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-3)


@pytest.mark.parametrize(
    ("quantization", "size_ratio", "map_tolerance", "box_tolerance"),
    # int8 is judged by its mAP: eight bits for the logarithm of a large box's size can move one border by pixels.
    [("float16", 0.60, 0.001, 0.1), ("dynamic", 0.40, 0.01, 1.0), ("int8", 0.40, 0.015, None)],
)
def test_a_quantized_file_is_smaller_and_scores_nearly_the_same(
    model, data, litert_file, quantization, size_ratio, map_tolerance, box_tolerance
):
    file = litert_file(quantization)
    assert file.stat().st_size < size_ratio * litert_file().stat().st_size
    result = export.verify(file, model, data)
    assert result["mAP@0.50_keras"] > 0.95  # a model that finds nothing would agree with anything
    assert abs(result["mAP_exported"] - result["mAP_keras"]) <= map_tolerance
    assert result["label_agreement"] > 0.98
    assert box_tolerance is None or result["max_box_error_px"] < box_tolerance


def test_the_whole_detector_is_in_the_file_with_builtin_operators_only(litert_file):
    for quantization in export.QUANTIZATIONS:
        operators = export.operators(litert_file(quantization))
        assert operators["NON_MAX_SUPPRESSION_V4"] == 1
        assert operators["CONV_2D"] > 5
        assert not [name for name in operators if name.startswith("custom:")]


def test_int8_runs_the_convolutions_in_int8_and_the_postprocessing_in_float(litert_file):
    types = _types(litert_file("int8"))
    assert set(types["CONV_2D"]) == {"INT8"}
    for name in ("SOFTMAX", "TOPK_V2", "EXP", "NON_MAX_SUPPRESSION_V4", "CONCATENATION"):
        assert set(types[name]) == {"FLOAT32"}, name


def test_inputs_and_outputs_stay_float_and_fixed(litert_file):
    from ai_edge_litert.interpreter import Interpreter

    for quantization in export.QUANTIZATIONS:
        interpreter = Interpreter(str(litert_file(quantization)))
        assert list(interpreter.get_signature_list()) == ["serving_default"]
        runner = interpreter.get_signature_runner("serving_default")
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        assert {k: (tuple(v["shape"]), v["dtype"]) for k, v in inputs.items()} == {"image": ((1, *SIZE, 3), np.float32)}
        assert {k: (tuple(v["shape"]), v["dtype"]) for k, v in outputs.items()} == {
            "boxes": ((1, 200, 4), np.float32),
            "labels": ((1, 200), np.int32),
            "scores": ((1, 200), np.float32),
            "num_detections": ((1,), np.int32),
        }


def test_an_operator_that_litert_lacks_is_refused_by_name_and_nothing_is_written(tmp_path):
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(image, {"boxes": ops.erf(image), "scores": ops.cumprod(image, axis=1)}, name="bad")
    with pytest.raises(ValueError, match=r"bad\.tflite: not written.* lacks: Cumprod, Erf\.") as error:
        export.litert(model, tmp_path / "bad.tflite")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_under_mixed_precision_is_written_in_float32(tmp_path):
    keras.utils.set_random_seed(1)
    arguments = {"backbone": "tiny", "width": 0.25, "image_size": (32, 48)}
    plain = models.create("ssd", 2, **arguments)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = models.create("ssd", 2, **arguments)
        mixed.set_weights(plain.get_weights())
        assert mixed.layers[1].compute_dtype == "float16"
        detector = export.load(export.litert(mixed, tmp_path / "mixed.tflite"))
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy("float32")
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 48, 3))
    expected, found = plain.detect(images), detector.detect(images)
    assert expected["num_detections"].min() > 0
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)


def test_a_functional_model_under_mixed_precision_is_rebuilt_in_float32():
    image = keras.Input((8, 8, 3))
    policy = keras.DTypePolicy("mixed_bfloat16")
    model = keras.Model(image, keras.layers.Dense(4, dtype=policy)(keras.layers.Conv2D(2, 3, dtype=policy)(image)))
    rebuilt = writing.as_float32(model)
    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}
    for a, b in zip(rebuilt.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert writing.as_float32(rebuilt) is rebuilt


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "int8"}, "int8 needs images to calibrate on: give calibration=data"),
        ({"quantization": "int8", "calibration": []}, "no image to calibrate on"),
        (
            {"quantization": "int8", "calibration": np.zeros((2, 9, 9))},
            r"expected RGB images .* got the shape \(9, 9\)",
        ),
        ({"quantization": "flaot16"}, "Unknown quantization 'flaot16'. Did you mean 'float16'?"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        export.litert(model, tmp_path / "a.tflite", **arguments)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_name_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"a\.onnx: .* ends in \.tflite"):
        export.litert(model, tmp_path / "a.onnx")
    (tmp_path / "b.tflite").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        export.litert(model, tmp_path / "b.tflite")


def test_a_model_that_wants_more_than_an_image_is_refused(tmp_path):
    model = models.create("fast_rcnn", 2, image_size=64, backbone="tiny", width=0.25, max_proposals=8)
    for write in (export.saved_model, export.litert):
        with pytest.raises(
            ValueError, match="fast_rcnn wants image and proposals, and an exported file takes an image"
        ):
            write(model, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_fixed_size_is_refused(tmp_path):
    image = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="no fixed input size"):
        export.litert(keras.Model(image, keras.layers.Conv2D(1, 1)(image)), tmp_path / "a.tflite")


def test_the_metadata_is_in_the_file_and_readable_as_a_zip(litert_file):
    import zipfile

    assert export.read_metadata(litert_file("int8")) == {
        "kzoo": "0.1.0",
        "name": "ssd",
        "model": "SSD",
        "task": "detection",
        "image_size": [64, 96],
        "num_classes": 2,
        "class_names": ["red", "blå"],
        "quantization": "int8",
    }
    with zipfile.ZipFile(litert_file("int8")) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "red\nblå\n"


def test_a_file_without_metadata_has_none(litert_file, tmp_path):
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(litert_file().read_bytes().split(b"PK\x03\x04")[0])
    assert export.read_metadata(bare) == {}
    detector = export.load(bare)
    assert (detector.class_names, detector.num_classes, detector.image_size) == (None, None, SIZE)


def test_class_names_of_another_writer_are_read(tmp_path):
    file = tmp_path / "other.tflite"
    file.write_bytes(metadata.attach(b"model", {"class_names": ["a b", "c"]}))
    assert export.read_metadata(file)["class_names"] == ["a b", "c"]


def test_attaching_the_same_metadata_gives_the_same_bytes():
    assert metadata.attach(b"model", {"name": "x"}) == metadata.attach(b"model", {"name": "x"})


def test_calibration_takes_batches_single_images_and_arrays_of_any_size_up_to_the_number_of_samples():
    batch = np.full((3, 10, 20, 3), 7, np.uint8)
    one, some = (batch, {}), [(batch, {}), (batch, {})]  # (images, targets)
    for given, count in ((some, 5), (one, 3), (list(batch), 3), (batch, 3), ([batch, batch], 5), ((batch, batch), 5)):
        inputs = list(to_litert.calibration_inputs(given, (8, 12), samples=5))
        assert [x.shape for x in inputs] == [(1, 8, 12, 3)] * count
        assert all(x.dtype == np.float32 and (np.abs(x - 7) < 1e-4).all() for x in inputs)


def test_calibration_stops_reading_when_it_has_enough():
    def endless():
        while True:
            yield np.zeros((2, 4, 4, 3)), {}

    assert len(list(to_litert.calibration_inputs(endless(), (4, 4), samples=3))) == 3


def test_only_what_lies_between_operators_with_weights_is_quantized():
    def op(name, inputs, outputs, label):
        return flatbuffer.Operator(name, inputs, outputs, (label,))

    graph = [
        op("MUL", (0,), (1,), "rescale"),
        op("CONV_2D", (1, 90), (2,), "stem"),
        op("ADD", (2, 91), (3,), "residual"),
        op("NON_MAX_SUPPRESSION_V4", (3,), (4,), "rpn_postprocess/nms"),
        op("FULLY_CONNECTED", (4, 92), (5,), "postprocess/folded;head"),
        op("CONV_2D", (5, 93), (6,), "boxes_unquantized"),
        op("RESHAPE", (6,), (7,), "StatefulPartitionedCall:0"),
    ]
    assert set(float_scopes(graph)) == {
        "^rescale;$",
        "^rpn_postprocess/nms;$",
        "^boxes_unquantized;$",
        "^StatefulPartitionedCall:0;$",
    }


def test_yolos_last_convolutions_stay_float_in_an_int8_file(tmp_path):
    yolo = models.YOLO(2, image_size=64, backbone="tiny", grid=4)
    images = np.random.default_rng(3).uniform(0, 255, (4, 64, 64, 3)).astype("float32")
    file = export.litert(yolo, tmp_path / "yolo.tflite", quantization="int8", calibration=[(images, {})])
    types = _types(file)["CONV_2D"]
    assert types.count("FLOAT32") == 3  # classes, boxes, confidences
    assert types.count("INT8") == len(types) - 3 > 3


def test_yolos_separable_convolutions_stay_float_too(tmp_path):
    yolo = models.YOLO(2, image_size=64, backbone="mobilenet", width=0.25, grid=4)
    images = np.random.default_rng(3).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    file = export.litert(yolo, tmp_path / "yolo.tflite", quantization="int8", calibration=[(images, {})])
    types = _types(file)
    assert types["CONV_2D"].count("FLOAT32") == 5  # the last three, and two pointwise ones
    assert types["DEPTHWISE_CONV_2D"].count("FLOAT32") == 2
    assert types["DEPTHWISE_CONV_2D"].count("INT8") > 10


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "a.tflite"
    file.write_bytes(b"old")

    def broken_replace(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(writing.os, "replace", broken_replace)
    with pytest.raises(OSError, match="disk full"):
        writing.write_file(file, b"new")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tflite"]


def _types(file) -> dict[str, list[str]]:
    """The type of the first input of each operator, by operator name."""
    from ai_edge_litert import schema_py_generated as schema

    content = file.read_bytes()
    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    names = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    types: dict[str, list[str]] = {}
    for operator in flatbuffer.read_operators(content):
        types.setdefault(operator.name, []).append(names[graph.Tensors(operator.inputs[0]).Type()])
    return types
