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


def own_proposals(data: str, folder: Path) -> str:
    """A file of proposals: the objects themselves, grown, and some beside them; no OpenCV needed."""
    from kzoo.data.readers import read
    from kzoo.proposals import write_file

    grown, beside = np.array([-2, -2, 2, 2]), np.array([-40, -20, -30, -10])
    boxes = {s.name: np.concatenate([s.boxes + grown, s.boxes + beside]).clip(0) for s in read(data, None).samples}
    return str(write_file(folder / "proposals.npz", boxes))


@pytest.mark.parametrize(("name", "own"), [("rcnn", "--crop-size 32"), ("sppnet", "--scales 64")])
def test_rcnn_and_sppnet_train_their_stages_on_any_folder(data, tmp_path, name, own):
    pytest.importorskip("sklearn", reason="the SVMs need scikit-learn")
    output = tmp_path / f"{name}.keras"
    command = (
        f"--data {data} --backbone tiny --width 0.5 --image-size 64 96 --epochs 1 --batch-size 3 --output {output}"
    )
    command += f" --proposals {own_proposals(data, tmp_path)} {own}"
    result = recipe(name).main(command.split())
    assert 0 <= result["mAP"] <= 1
    assert output.is_file()
