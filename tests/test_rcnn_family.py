"""The benchmark of the R-CNN family: finished models are not done again, and the table shows what was measured."""

import importlib.util
import json
from pathlib import Path

import pytest
from made_data import voc

pytest.importorskip("tensorflow", reason="benchmarks read data with TensorFlow")


@pytest.fixture
def benchmark():
    path = Path(__file__).parents[1] / "benchmarks" / "rcnn_family.py"
    spec = importlib.util.spec_from_file_location("rcnn_family", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRAINED = {"training_seconds": 120.0, "training_cpu_seconds": 180.0}


def measured(name: str, image_seconds: float) -> dict:
    return {"model": name, "image_seconds": image_seconds, "mAP": 0.25, "mAP@0.50": 0.5, "search_seconds": 1.5}


def test_finished_models_are_shown_beside_the_published_numbers(benchmark, tmp_path, capsys):
    times = {"rcnn": 4.0, "sppnet": 0.5, "fast_rcnn": 0.25, "faster_rcnn": 0.125}
    for name, seconds in times.items():
        (tmp_path / f"{name}.training.json").write_text(json.dumps(TRAINED), encoding="utf-8")
        (tmp_path / f"{name}.json").write_text(json.dumps(measured(name, seconds)), encoding="utf-8")
    results = benchmark.main(["--data", "not read", "--output", str(tmp_path)])
    assert [r["model"] for r in results] == list(times)
    shown = capsys.readouterr().out
    assert "| R-CNN | 2.0 (3.0) | 4.000 | 5.500 | 0.500 | 0.250 | 84.0 | 47.0 |" in shown
    assert "| Faster R-CNN | 2.0 (3.0) | 0.125 | 1.625 | 0.500 | 0.250 | - | 0.2 |" in shown
    assert (tmp_path / "table.md").read_text(encoding="utf-8").strip() in shown
    assert (tmp_path / "rcnn_family.png").stat().st_size > 10_000


@pytest.mark.slow
def test_all_four_train_score_and_are_timed(benchmark, tmp_path, monkeypatch):
    pytest.importorskip("cv2", reason="selective search needs OpenCV")
    monkeypatch.setenv("KZOO_PROPOSALS_DIR", str(tmp_path / "kept"))
    data = voc(tmp_path / "squares", images=2)
    command = f"--data {data} --backbone tiny --image-size 64 96 --units 16 --crop-size 32 --crops 40 --windows 40"
    command += f" --svm-epochs 1 --epochs 1 --batch-size 2 --timed 1 --output {tmp_path / 'out'}"
    results = benchmark.main(command.split())
    for result in results:
        assert 0 <= result["mAP"] <= result["mAP@0.50"] <= 1
        assert result["image_seconds"] > 0
        assert (result["search_seconds"] > 0) == (result["model"] != "faster_rcnn")
    assert {r["model"] for r in results} == set(benchmark.TITLES)
