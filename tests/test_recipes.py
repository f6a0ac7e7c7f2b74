"""Each recipe runs whole, in small: a step or two on made pictures."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from made_data import voc

pytest.importorskip("tensorflow", reason="recipes read data with TensorFlow")
RECIPES = Path(__file__).parents[1] / "recipes"


def recipe(name: str):
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path):
    return str(voc(tmp_path / "squares"))


def test_ssd_mobilenet_trains_exports_and_scores_any_folder(data, tmp_path):
    output = str(tmp_path / "run")
    command = f"--data {data} --image-size 64 96 --epochs 1 --batch-size 3 --backbone tiny --output {output}"
    results = recipe("ssd_mobilenet").main(command.split())
    assert set(results) == {"keras", "float32", "int8"}
    np.testing.assert_allclose(results["float32"]["mAP"], results["keras"]["mAP"], atol=1e-3)
    assert all(Path(f"{output}{end}").is_file() for end in (".keras", "_float32.tflite", "_int8.tflite"))


def test_ssd300_follows_the_papers_schedule_on_a_voc_folder(data, tmp_path):
    command = f"--data {data} --steps 2 --batch-size 2 --width 0.05 --weights none --output {tmp_path / 'm.keras'}"
    result = recipe("ssd300_voc").main(command.split())
    assert 0 <= result["mAP"] <= 1
    assert set(result["per_class"]) == {"bright", "dark"}


def test_faster_rcnn_trains_exports_and_scores_any_folder(data, tmp_path):
    output = str(tmp_path / "run")
    command = f"--data {data} --image-size 64 96 --epochs 1 --batch-size 3 --backbone tiny --output {output}"
    results = recipe("faster_rcnn").main(command.split())
    assert set(results) == {"keras", "float32", "int8"}
    np.testing.assert_allclose(results["float32"]["mAP"], results["keras"]["mAP"], atol=2e-3)
    assert all(Path(f"{output}{end}").is_file() for end in (".keras", ".jpg", "_float32.tflite", "_int8.tflite"))


@pytest.mark.slow
def test_faster_rcnn_follows_the_papers_schedule(data, tmp_path):
    command = f"--paper --data {data} --steps 2 --width 0.05 --weights none --image-size 64 96 --protocol voc2007"
    result = recipe("faster_rcnn").main([*command.split(), "--output", str(tmp_path / "m")])["keras"]
    assert 0 <= result["mAP"] <= 1
    assert set(result["per_class"]) == {"bright", "dark"}


@pytest.mark.parametrize(
    "schedule",
    [
        "--epochs 1 --backbone tiny",
        pytest.param("--paper --steps 2 --width 0.05 --weights none", marks=pytest.mark.slow),
    ],
)
def test_fast_rcnn_trains_on_proposals_of_a_file(data, tmp_path, schedule):
    proposals = {str(i): np.array([[4, 4, 28, 28], [30, 10, 60, 50]], "float32") for i in range(6)}
    np.savez(tmp_path / "proposals.npz", **proposals)
    command = f"--data {data} --image-size 64 96 --max-proposals 8 --proposals {tmp_path / 'proposals.npz'} {schedule}"
    result = recipe("fast_rcnn").main([*command.split(), "--output", str(tmp_path / "m.keras")])
    assert 0 <= result["mAP"] <= 1
