"""The command line: one line for each error, and every command on a real model of the smallest size."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_checks import fails
from made_data import voc

from kzoo import cli
from kzoo.cli import targets
from kzoo.cli.train import train as train_command

COMMANDS = ("demo", "models", "check", "train", "evaluate", "predict", "export", "benchmark")  # the contract's


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return voc(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """The folder of a run that trained one epoch, and what was printed."""
    runs = tmp_path_factory.mktemp("runs")
    command = (
        f"train ssd --data {data} --backbone tiny --image-size 64 --epochs 1 --batch-size 2 --run-dir {runs} --name r"
    )
    assert cli.run(command.split()) == 0
    return runs / "r"


@pytest.fixture(scope="module")
def exported(trained):
    assert cli.run(["export", str(trained), "--images", "2"]) == 0
    return trained / "exports" / "r.tflite"


# === Help


def test_help_is_instant_and_loads_no_heavy_package():
    code = (
        "import sys; from kzoo.cli import run; assert run(['--help']) == 0; assert run(['train', '--help']) == 0;"
        "print(sorted({'keras', 'tensorflow', 'numpy', 'matplotlib', 'PIL', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(capsys, command):
    assert cli.run([command, "--help"]) == 0
    assert f"kzoo {command}" in capsys.readouterr().out.split("Example")[1]


def test_the_command_line_alone_shows_its_commands_once(capsys):
    assert cli.run([]) in (0, 2)  # versions of the parser differ
    output = capsys.readouterr().out
    assert all(command in output for command in COMMANDS)
    assert output.count("Usage") == 1


def test_the_version_is_printed(capsys):
    import kzoo

    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"kzoo {kzoo.__version__}\n"


def test_the_defaults_in_the_help_are_those_of_the_library():
    import typing

    from kzoo.training import TrainConfig

    config = TrainConfig(data="x")
    shown = {}
    hints = typing.get_type_hints(train_command, include_extras=True)
    for name, hint in ((name, hint) for name, hint in hints.items() if name != "return"):
        help_text = hint.__metadata__[0].help or ""
        default = re.search(r"\\\[(\S+)\]$", help_text)
        if default and hasattr(config, name) and getattr(config, name) is not None:
            shown[name] = default.group(1)
    assert {"epochs", "batch_size", "optimizer", "schedule", "weight_decay", "split", "val_split"} <= set(shown)
    for name, text in shown.items():
        value = getattr(config, name)
        assert text in (str(value), f"{value:g}" if isinstance(value, float) else ""), name


# === Errors


def test_a_mistyped_command_is_answered_with_the_nearest_one(capsys):
    assert "Did you mean 'train'?" in fails(capsys, "trian")


def test_a_mistyped_option_is_answered_with_the_nearest_one(capsys):
    assert "--epochs" in fails(capsys, "train", "ssd", "--data", "digits", "--epoch", "3")


def test_a_mistyped_model_is_answered_with_the_nearest_one(capsys):
    assert "Did you mean 'ssd300'?" in fails(capsys, "train", "sssd300", "--data", "digits")


def test_a_training_without_data_says_what_to_add(capsys):
    assert "--data DATA" in fails(capsys, "train", "ssd")


def test_a_missing_data_set_is_named(capsys, tmp_path):
    assert "nowhere" in fails(capsys, "train", "ssd", "--data", tmp_path / "nowhere")


def test_a_mistyped_run_is_answered_with_the_nearest_one(capsys, trained):
    assert "Did you mean 'r'?" in fails(capsys, "evaluate", trained.parent / "rr")


def test_a_missing_file_is_named(capsys, tmp_path):
    assert "nowhere.tflite" in fails(capsys, "benchmark", tmp_path / "nowhere.tflite")


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["evaluate", "{run}", "--protocol", "coc"], "Did you mean 'coco'?"),
        (["evaluate", "{run}", "--split", "tset"], "'test'"),
        (["evaluate", "{run}", "--cells"], "--cells measures masks"),
        (["export", "{run}", "--format", "savedmodel"], "Did you mean 'saved_model'?"),
        (["export", "{run}", "--quantization", "int9"], "Did you mean 'int8'?"),
        (["export", "{run}", "--format", "saved_model", "--quantization", "int8"], "not quantized"),
        (["train", "ssd", "--data", "x", "--image-size", "30y"], "300x400"),
        (["train", "ssd", "--data", "x", "--epochs", "many"], "--epochs"),
        (["train", "ssd", "--data", "{data}", "--optimizer", "adamm"], "Did you mean 'adam"),
        (["train", "--resume", "{data}"], "no run folder"),
        (["evaluate", "{data}"], "holds neither"),
        (["predict", "{run}", "nothing.jpg"], "nothing.jpg"),
        (["predict", "{run}", "{data}/ImageSets"], "holds no image"),
        (["predict", "{run}"], "IMAGE|FOLDER"),
    ],
)
def test_wrong_arguments_get_one_line_with_the_remedy(capsys, trained, data, arguments, remedy):
    assert remedy in fails(capsys, *(one.format(run=trained, data=data) for one in arguments))


def test_the_validation_is_scored_where_there_is_no_test_split(capsys, trained, tmp_path):
    data = voc(tmp_path / "two", images=3)
    for name in ("test", "trainval"):
        (data / "ImageSets" / "Main" / f"{name}.txt").unlink()
    assert cli.run(["evaluate", str(trained), "--data", str(data)]) == 0
    assert "has no split 'test': 'val' is taken" in capsys.readouterr().err


def test_a_fault_of_kzoo_itself_is_told_apart(capsys, monkeypatch):
    monkeypatch.setattr(targets, "find", lambda target: {}["x"])
    assert "--debug" in fails(capsys, "benchmark", "x", code=1)


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("KZOO_DEBUG", "")
    with pytest.raises(ValueError, match="No model given"):
        cli.run(["train", "--data", "x", "--debug"])


def test_an_interrupt_is_no_error_and_leaves_with_130(monkeypatch, capsys):
    import kzoo.training

    def train(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(kzoo.training, "train", train)
    assert cli.run(["train", "ssd", "--data", "d"]) == 130
    captured = capsys.readouterr()
    assert "--resume" in captured.out
    assert "error" not in captured.err


def test_brackets_in_a_message_are_no_markup(capsys):
    assert "[red]x[/red]" in fails(capsys, "benchmark", "[red]x[/red]")


@pytest.mark.parametrize(
    ("text", "size"), [(None, None), ("300", 300), ("300x400", (300, 400)), ("300X400", (300, 400))]
)
def test_image_sizes_are_read(text, size):
    assert targets.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "300x", "1x2x3", "-5"])
def test_what_is_no_image_size_is_refused(text):
    with pytest.raises(ValueError, match="--image-size"):
        targets.parse_size(text)


# === Training and what follows


def test_a_training_leaves_the_whole_run_folder(trained):
    present = {path.name for path in trained.iterdir()}
    assert {
        "config.yaml",
        "results.csv",
        "results.png",
        "best.keras",
        "last.keras",
        "precision_recall.png",
        "f1.png",
        "confusion_matrix.png",
        "labels.png",
        "training_batch.jpg",
        "predictions.jpg",
        "report.html",
        "evaluation.json",
    } <= present


def passed_on(monkeypatch, *arguments):
    """What `kzoo train` hands to the library."""
    import kzoo.training

    calls = []

    def train(model, data, *, resume, **settings):
        calls.append({"model": model, "data": data, "resume": resume, **settings})
        return kzoo.training.Run(Path("r"))

    monkeypatch.setattr(kzoo.training, "train", train)
    assert cli.run(["train", *map(str, arguments), "--no-report"]) == 0
    return calls[0]


def test_only_what_was_asked_for_reaches_the_library(monkeypatch):
    settings = passed_on(
        monkeypatch,
        "ssd",
        "--data",
        "d",
        "--val-split",
        "0.1",
        "--augment",
        "flip,jitter",
        "--image-size",
        "30x40",
        "--no-xla",
    )
    assert settings == {
        "model": "ssd",
        "data": "d",
        "resume": None,
        "val_split": 0.1,
        "augment": ["flip", "jitter"],
        "image_size": (30, 40),
        "xla": False,
    }


def test_further_arguments_of_the_model_are_passed_on(monkeypatch, capsys):
    arguments = ("--data", "x", "--option", "scales=[0.1,0.3]", "--option", "width=0.5")
    assert passed_on(monkeypatch, "ssd", *arguments)["model_options"] == {"scales": [0.1, 0.3], "width": 0.5}
    assert "is no NAME=VALUE" in fails(capsys, "train", "ssd", "--data", "x", "--option", "scales")


def test_none_means_no_validation(monkeypatch):
    assert passed_on(monkeypatch, "ssd", "--data", "d", "--val-split", "none")["val_split"] is None


def test_a_run_is_resumed_with_its_own_settings(monkeypatch, trained):
    settings = passed_on(monkeypatch, "--resume", "r", "--run-dir", trained.parent, "--epochs", 2)
    assert settings == {"model": None, "data": None, "resume": str(trained), "epochs": 2}


def test_evaluate_prints_the_table_and_writes_json(capsys, trained, tmp_path):
    assert cli.run(["evaluate", str(trained), "--json", str(tmp_path / "s.json"), "--protocol", "voc2007"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"mAP +0\.\d{4}", output)
    assert re.search(r"bright +3 ", output)
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["protocol"] == "voc2007"
    assert scores["images"] == 6
    assert [row["class"] for row in scores["per_class"]] == ["bright", "dark"]


def test_data_without_any_class_of_the_detector_is_refused(capsys, trained, tmp_path):
    other = voc(tmp_path / "other", images=2)
    for path in (other / "Annotations").iterdir():
        path.write_text(re.sub("bright|dark", "grey", path.read_text()))
    assert "bright, dark" in fails(capsys, "evaluate", trained, "--data", other)


def test_data_of_more_classes_is_scored_on_those_of_the_detector(capsys, trained, tmp_path):
    more = voc(tmp_path / "more", images=3)
    path = more / "Annotations" / "0.xml"
    path.write_text(path.read_text().replace("dark", "grey"))
    before = (trained / "evaluation.json").read_text()
    assert cli.run(["evaluate", str(trained), "--data", str(more)]) == 0
    assert "1 box;" in capsys.readouterr().err
    assert (trained / "evaluation.json").read_text() == before  # other data does not speak for the run


def test_an_exported_file_scores_as_its_run(capsys, trained, exported, data, tmp_path):
    for name, model in (("a", trained), ("b", exported)):
        arguments = ["evaluate", model, "--data", data, "--json", tmp_path / name, "--limit", 4]
        assert cli.run([str(one) for one in arguments]) == 0
    a, b = (json.loads((tmp_path / name).read_text())["scores"]["mAP"] for name in "ab")
    assert a == pytest.approx(b, abs=1e-3)


def test_an_export_is_verified_and_noted_in_the_run(trained, exported):
    (entry,) = [e for e in json.loads((trained / "exports.json").read_text()) if e["file"] == str(exported)]
    assert entry["bytes"] == exported.stat().st_size
    # After one epoch many boxes score as good as alike, so that a few may be paired otherwise.
    assert entry["verification"]["label_agreement"] > 0.95
    assert entry["verification"]["images"] == 2
    assert "r.tflite" in (trained / "report.html").read_text(encoding="utf-8")


def test_a_file_for_mediapipe_has_a_name_and_outputs_of_its_own(trained, exported):
    assert cli.run(["export", str(trained), "--format", "mediapipe", "--no-verify"]) == 0
    from kzoo.export import load

    file = trained / "exports" / "r-mediapipe.tflite"
    assert load(file).class_names == load(exported).class_names
    assert b"detection_boxes" in file.read_bytes()


def test_predict_from_a_tflite_file_needs_no_tensorflow(exported, data, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    code = (
        "import sys; from kzoo.cli import run; code = run(sys.argv[1:]);"
        "print(sorted({'keras', 'tensorflow', 'matplotlib'} & set(sys.modules))); sys.exit(code)"
    )
    arguments = ["predict", exported, data / "JPEGImages", bad, "--output", tmp_path / "out", "--score", "0.02"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "bad.jpg" in done.stderr  # told, and passed over
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [Path(one["file"]).name for one in found["unreadable"]] == ["bad.jpg"]
    assert [one["width"] for one in found["images"]] == [96] * 6
    assert {c["name"] for c in found["categories"]} == {"bright", "dark"}
    for one in found["detections"]:
        assert one["name"] == ["bright", "dark"][one["label"]]
        assert one["score"] >= 0.02
        assert 0 <= one["box"][0] <= one["box"][2] <= 96
    assert len(list((tmp_path / "out").glob("*.png"))) == 6


def test_check_lists_faults_and_is_strict_on_request(capsys, tmp_path):
    folder = voc(tmp_path / "broken", images=2)
    (folder / "JPEGImages" / "1.png").unlink()
    assert cli.run(["check", str(folder), "--json", str(tmp_path / "r.json")]) == 0
    assert "1.png" in capsys.readouterr().out
    assert "1.png" in (tmp_path / "r.json").read_text()
    assert cli.run(["check", str(folder), "--strict"]) == 1


def test_benchmark_prints_one_table(capsys, exported):
    assert cli.run(["benchmark", str(exported), "--runs", "1"]) == 0
    assert "r.tflite" in capsys.readouterr().out


@pytest.mark.slow
def test_models_lists_the_zoo(capsys):
    import kzoo

    assert cli.run(["models"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in kzoo.models.names())
    # 31.4 billion multiply-adds and 26.3 million parameters: what is counted elsewhere for SSD300 on VOC.
    row = next(line for line in output.splitlines() if line.startswith("ssd300"))
    assert "62.7" in row
    assert "26.3" in row


@pytest.mark.slow
def test_the_demo_walks_through(tmp_path):
    assert cli.run(["demo", "--quick", "--output", str(tmp_path / "demo")]) == 0
    assert (tmp_path / "demo" / "exports" / "demo-int8.tflite").is_file()
    assert "demo-int8.tflite" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")


def test_the_documents_name_exported_files_as_they_are_called():
    from kzoo.cli.export import FORMATS, default_output

    kinds = [None, "float16", "dynamic", "int8"]
    called = {default_output(Path("runs/ssd"), form, kind).as_posix() for form in FORMATS for kind in kinds}
    root = Path(__file__).parents[1]
    documents = [root / "README.md", *(root / "docs").glob("*.md"), *(root / "export").rglob("README.md")]
    named = {name for file in documents for name in re.findall(r"runs/ssd/exports/[\w.-]+", file.read_text("utf-8"))}
    assert named
    assert named <= called
