"""Every model of the zoo says the same in Keras, as a SavedModel and as a LiteRT file: the table of docs/results.md."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="exported files need TensorFlow")
import kzoo

PATH = Path(__file__).parents[1] / "benchmarks" / "agreement.py"
EXPORTED = [name for name in kzoo.models.names() if "max_proposals" not in kzoo.models.arguments(name)]


@pytest.fixture(scope="module")
def agreement():
    spec = importlib.util.spec_from_file_location("agreement", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_the_files_of_a_trained_model_find_what_keras_finds(agreement, name, tmp_path):
    row = agreement.compare(name, 200, tmp_path)
    assert row["problems"] == []
    assert row["int8_quality"] > 0.8 * row["quality"] - 0.01


SOUND = {"label_agreement": 1.0, "max_box_error_px": 1e-4, "max_score_error": 1e-5}
PIXELS = {"label_agreement": 1.0, "score_agreement": 0.9985, "image_agreement": 0.95, "max_score_error": 0.08}


@pytest.mark.parametrize(
    ("name", "result", "compared", "fault"),
    [
        ("ssd", SOUND, 0, "nothing to compare"),
        ("ssd", SOUND | {"label_agreement": 0.99}, 100, "label_agreement"),
        ("ssd", SOUND | {"max_box_error_px": 2e-3}, 100, "px"),
        ("ssd", SOUND | {"max_score_error": 2e-4}, 100, "in score"),
        ("unet", PIXELS, 100, "score_agreement"),
        ("deconvnet", PIXELS | {"label_agreement": 0.9998}, 100, "label_agreement"),
        ("deconvnet", PIXELS | {"image_agreement": 0.89}, 100, "image_agreement"),
    ],
)
def test_what_departs_is_named(agreement, name, result, compared, fault):
    (problem,) = agreement.departures(name, result, compared)
    assert fault in problem


def test_what_agrees_has_no_departures(agreement):
    assert agreement.departures("ssd", SOUND, 100) == []
    assert agreement.departures("deconvnet", PIXELS, 100) == []
