"""Each recipe runs whole, in small: a step or two on made pictures."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from made_data import masks, voc, write_array

import kzoo

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
    command = f"--data {data} --steps 2 --batch-size 2 --width 0.05 --weights none --output {tmp_path / 'm'}"
    result = recipe("ssd300_voc").main(command.split())
    assert 0 <= result["mAP"] <= 1
    assert set(result["per_class"]) == {"bright", "dark"}


@pytest.mark.slow
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
    result = recipe("fast_rcnn").main([*command.split(), "--output", str(tmp_path / "m")])
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
    output = tmp_path / name
    command = (
        f"--data {data} --backbone tiny --width 0.5 --image-size 64 96 --epochs 1 --batch-size 3 --output {output}"
    )
    command += f" --proposals {own_proposals(data, tmp_path)} {own}"
    result = recipe(name).main(command.split())
    assert 0 <= result["mAP"] <= 1
    assert (tmp_path / f"{name}.keras").is_file()


@pytest.fixture
def mask_data(tmp_path):
    return str(masks(tmp_path / "masks"))


def test_unet_trains_exports_and_scores_any_folder_of_masks(mask_data, tmp_path):
    output = str(tmp_path / "run")
    command = f"--data {mask_data} --image-size 32 48 --width 0.06 --depth 2 --epochs 1 --batch-size 3 --balance root"
    results = recipe("unet").main([*command.split(), "--output", output])
    assert set(results) == {"keras", "float32", "int8"}
    assert 0 < results["keras"]["mIoU"] <= 1
    np.testing.assert_allclose(results["float32"]["mIoU"], results["keras"]["mIoU"], atol=1e-3)
    assert set(results["keras"]["per_class"]) == {"ground", "bright", "dark"}
    assert all(Path(f"{output}{end}").is_file() for end in (".keras", "_float32.tflite", "_int8.tflite"))


def test_fcn_goes_from_32s_to_8s(mask_data, tmp_path):
    command = f"--data {mask_data} --image-size 48 64 --backbone tiny --epochs 1 1 1 --batch-size 3"
    results = recipe("fcn").main([*command.split(), "--output", str(tmp_path / "fcn")])
    assert list(results) == ["fcn32s", "fcn16s", "fcn8s"]
    assert all(0 < result["mIoU"] <= 1 for result in results.values())
    assert (tmp_path / "fcn8s.keras").is_file()


@pytest.mark.slow
def test_deconvnet_learns_single_objects_first(mask_data, tmp_path):
    module = recipe("deconvnet")
    image = np.arange(40 * 60 * 3, dtype="float32").reshape(40, 60, 3) % 256
    mask = np.zeros((40, 60), "int32")
    mask[10:20, 30:50] = 2
    objects = module.CentredObjects(image[None], mask[None], (12, 24), 4, steps=3, background=True)
    images, labels = objects[0]
    assert len(objects) == 3
    assert images.shape == (4, 12, 24, 3)
    # The window of 1.2 times the box: a sixth of either side is around it.
    assert all((one[1:-1, 2:-2] == 2).all() and set(np.unique(one)) == {0, 2} for one in labels)
    alone = module.CentredObjects(image[None], mask[None], (12, 24), 8, steps=1)
    assert {tuple(np.unique(one)) for one in alone[0][1]} <= {(0, 255), (2, 255), (0,)}

    network = kzoo.models.DeconvNet(3, image_size=(40, 60), width=0.03)
    encoder, variables = module.encoder_of(network), len(network.trainable_variables)
    assert {key: tuple(x.shape[1:3]) for key, x in encoder.output.items()} == {"C3": (8, 8), "C4": (4, 4), "C5": (2, 2)}
    encoder.trainable = False
    assert len(network.trainable_variables) == variables - 4 * 13  # kernel, bias and batch norm of VGG16's convolutions

    command = f"--data {mask_data} --image-size 40 40 --width 0.03 --epochs 1 1 1 --batch-size 3 --background"
    result = module.main([*command.split(), "--output", str(tmp_path / "m")])
    assert 0 < result["mIoU"] <= 1


def test_unet_isbi_prints_its_row_of_the_table(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for i in range(9):
        label = np.full((64, 64), 255, np.uint8)
        label[:, rng.integers(20, 40)] = label[rng.integers(20, 40)] = 0
        write_array(tmp_path / "stack" / "image" / f"{i}.png", np.where(label, 180, 30).astype(np.uint8))
        write_array(tmp_path / "stack" / "label" / f"{i}.png", label)
    module = recipe("unet_isbi")
    training, testing = module.slices(str(tmp_path / "stack"))
    assert [sample.image.stem for sample in testing.samples] == ["3", "4", "5", "6", "7", "8"]
    assert [sample.image.stem for sample in training.samples] == ["0", "1", "2"]
    command = f"--data {tmp_path / 'stack'} --image-size 32 --depth 2 --width 0.06 --steps 3 --batch-size 2"
    result = module.main([*command.split(), "--no-weight-map", "--output", str(tmp_path / "m")])
    assert 0 <= result["rand_fscore"] <= 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("yes      no ")

    # The file scores like the network that was saved, and so does the mean of it with itself.
    data, first = command.split()[:2], str(tmp_path / "m.keras")
    assert module.main([*data, "--score", first]) == result
    assert capsys.readouterr().out.splitlines()[-1].startswith("-        - ")
    assert module.main([*data, "--score", first, first]) == result
    with pytest.raises(SystemExit):
        module.main([*data, "--start", first, "--output", f"{tmp_path}/./m"])
    assert "--output" in capsys.readouterr().err.splitlines()[-1]
    for wrong in (["--settle", "1"], ["--settle", "-0.1"], ["--steps", "0"]):
        with pytest.raises(SystemExit):
            module.main([*data, *wrong])
        assert "--settle" in capsys.readouterr().err.splitlines()[-1]
    start = ["--start", first, "--learning-rate", "0", "--steps", "3", "--no-weight-map"]
    module.main([*data, *start, "--output", str(tmp_path / "new/n")])  # in crops of the file's size
    before, after = (kzoo.models.load(tmp_path / file).trainable_weights for file in ("m.keras", "new/n.keras"))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_unet_isbi_splits_the_named_stack_like_a_folder(monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    for i in range(30):
        label = np.full((512, 512), 255, np.uint8)
        label[i] = 0
        write_array(tmp_path / "stack" / "image" / f"{i}.png", label)
        write_array(tmp_path / "stack" / "label" / f"{i}.png", label)
    monkeypatch.setenv("KZOO_ISBI2012_DIR", str(tmp_path / "stack"))
    monkeypatch.setenv("KZOO_DATA_DIR", str(tmp_path / "kept"))
    module = recipe("unet_isbi")
    for by_name, by_folder in zip(module.slices("isbi2012"), module.slices(str(tmp_path / "stack")), strict=True):
        assert by_name.class_names == by_folder.class_names == ["membrane", "cell"]
        assert [s.name.split()[-1] for s in by_name.samples] == [s.image.stem for s in by_folder.samples]


class ByBrightness:
    """Says that a pixel is a cell with the probability of its brightness, and keeps the sizes of what it saw."""

    def __init__(self, slope: float = 1.0):
        self.sizes = []
        self.slope = slope

    def segment(self, views):
        bright = self.slope * views[..., 0] / 255
        self.sizes.append(bright.shape[1:])
        return {"labels": (bright > 0.5).astype(int), "scores": np.maximum(bright, 1 - bright)}


def test_unet_isbi_turns_each_view_back_before_the_mean(monkeypatch):
    module = recipe("unet_isbi")
    images = np.random.default_rng(0).uniform(0, 255, (1, 6, 6, 3)).astype("float32")
    monkeypatch.setattr(module.kzoo.data, "from_annotations", lambda *_, **__: [(images, {"masks": images[..., 0]})])
    for views in (1, 4, 8):
        _, cells = module.probabilities([ByBrightness()], None, views)
        np.testing.assert_allclose(cells, images[..., 0] / 255, atol=1e-6)


def test_unet_isbi_means_over_networks(monkeypatch):
    module = recipe("unet_isbi")
    images = np.random.default_rng(0).uniform(0, 255, (1, 6, 6, 3)).astype("float32")
    monkeypatch.setattr(module.kzoo.data, "from_annotations", lambda *_, **__: [(images, {"masks": images[..., 0]})])
    _, cells = module.probabilities([ByBrightness(), ByBrightness(slope=0.5)], None, 2)
    np.testing.assert_allclose(cells, 0.75 * images[..., 0] / 255, atol=1e-6)


def test_unet_isbi_sees_each_scale_and_brings_it_back():
    module, model = recipe("unet_isbi"), ByBrightness()
    ramp = np.linspace(0, 255, 32 * 16).reshape(32, 16, 1)  # which no change of scale bends, but at the borders
    found = module.cell_probability(model, ramp, 0.75, 0, False)
    assert model.sizes == [(24, 12)]
    np.testing.assert_allclose(found[3:-3, 3:-3], ramp[3:-3, 3:-3, 0] / 255, atol=2e-3)  # a row is .03
    assert module.cell_probability(model, ramp, 0.75, 1, True).shape == (32, 16)
    assert model.sizes[-1] == (12, 24)


def test_unet_isbi_moves_maps_by_fractions_of_a_pixel():
    module = recipe("unet_isbi")
    ramp = np.arange(5.0)[None, :, None] * 10 + np.arange(4.0)
    np.testing.assert_allclose(module.moved(ramp, (0, 0)), ramp)
    np.testing.assert_allclose(module.moved(ramp, (-1, 0))[:, :-1], ramp[:, 1:])  # up
    np.testing.assert_allclose(module.moved(ramp, (0.25, -0.5))[:, 1:, :-1], ramp[:, 1:, :-1] - 2.5 + 0.5)
    np.testing.assert_allclose(module.moved(ramp, (0.25, -0.5))[:, 0, 0], 0.5)  # the border's row goes on


def test_unet_isbi_finds_where_the_labels_lie():
    module = recipe("unet_isbi")
    cells = np.clip(np.random.default_rng(0).normal(0.5, 0.2, (2, 40, 40)), 0, 1)
    masks = (module.moved(cells, (-0.5, 0.25)) > 0.4).astype(int)
    assert module.best_pixels(masks, cells) == ((-0.5, 0.25), 0.4)


def test_unet_isbi_scores_cells_by_hand():
    mask = np.ones((1, 4, 9), int)
    mask[:, :, 4] = 0
    module = recipe("unet_isbi")
    exact = module.cell_scores(mask, np.where(mask == 1, 0.9, 0.1), 0.5, warping=True)
    assert (exact["rand_fscore"], exact["warping_error"]) == (1.0, 0.0)
    thick = np.where(mask == 1, 0.9, 0.1)
    thick[:, :, 3:6] = 0.1  # borders are thinned before the score
    assert module.cell_scores(mask, thick, 0.5)["rand_fscore"] == 1.0
    merged = module.cell_scores(mask, np.full(mask.shape, 0.9), 0.5)
    assert (merged["rand_split"], merged["rand_merge"]) == (1.0, 0.5)


@pytest.mark.slow
def test_retinanet_trains_exports_and_scores_any_folder(data, tmp_path):
    output = str(tmp_path / "run")
    command = f"--data {data} --image-size 64 96 --epochs 1 --batch-size 3 --backbone tiny --output {output}"
    module = recipe("retinanet")
    results = module.main(command.split())
    assert set(results) == {"keras", "float32", "int8"}
    np.testing.assert_allclose(results["float32"]["mAP"], results["keras"]["mAP"], atol=1e-3)


def test_the_papers_rates_rise_in_stairs_and_fall_by_tenths():
    def rates(optimizer, steps):
        schedule = optimizer._learning_rate
        return [round(float(schedule(step)), 6) for step in steps]

    retinanet = recipe("retinanet").paper_optimizer(90_000)
    assert rates(retinanet, [0, 501, 60_000, 60_001, 80_001]) == [0.003333, 0.01, 0.01, 0.001, 0.0001]
    yolo = recipe("yolo").paper_optimizer(None, 135, 100)
    assert rates(yolo, [0, 50, 101, 7500, 7501, 10_501]) == [0.001, 0.0046, 0.01, 0.01, 0.001, 0.0001]


def test_yolo_trains_exports_and_draws_its_cells(data, tmp_path):
    output = str(tmp_path / "run")
    command = f"--data {data} --paper --image-size 64 96 --epochs 1 --batch-size 3 --width 0.05 --output {output}"
    results = recipe("yolo").main(command.split())
    assert set(results) == {"keras", "float32", "int8"}
    np.testing.assert_allclose(results["float32"]["mAP"], results["keras"]["mAP"], atol=1e-3)
    picture = tmp_path / "cells.png"
    recipe("yolo_picture").main([f"{output}.keras", "--data", data, "--output", str(picture)])
    assert picture.stat().st_size > 1000


def test_yolos_pretraining_makes_weights_that_yolo_takes(tmp_path):
    import kzoo
    from kzoo.visualize import save

    rng = np.random.default_rng(0)
    for name in ("bright", "dark"):
        for i in range(2):
            save(rng.uniform(0, 255 if name == "bright" else 60, (40, 50, 3)), tmp_path / "images" / name / f"{i}.png")
    output = tmp_path / "new" / "pretrained"
    command = f"{tmp_path / 'images'} --image-size 32 --width 0.05 --epochs 1 --batch-size 2 --output {output}"
    result = recipe("yolo_pretrain").main(command.split())
    assert np.isfinite(result["loss"])
    kzoo.models.YOLO(2, 64, width=0.05, weights=f"{output}.weights.h5")


def test_the_localizer_learns_exports_and_is_graded(data, tmp_path):
    output = str(tmp_path / "run")
    command = f"--data {data} --image-size 64 --width 0.5 --epochs 1 --batch-size 3 --output {output}"
    results = recipe("localizer").main(command.split())
    assert {"accuracy", "mean_IoU", "IoU>0.5", "IoU>0.7", "IoU>0.9"} <= set(results["keras"])
    assert results["int8"]["images"] == results["keras"]["images"] > 0


def test_the_losses_are_compared_in_a_csv_a_table_and_a_plot(data, tmp_path):
    output = tmp_path / "new" / "compared"
    command = f"--data {data} --image-size 64 96 --epochs 2 --every 2 --batch-size 3 --backbone tiny --width 0.25"
    losses = ["focal", "hard_negative"]
    results = recipe("focal_comparison").main([*command.split(), "--losses", *losses, "--output", str(output)])
    assert list(results) == losses
    with output.with_suffix(".csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["loss"], row["epoch"]) for row in rows] == [(loss, str(epoch)) for loss in losses for epoch in (1, 2)]
    assert rows[0]["val_mAP"] == ""  # not measured after the first epoch
    assert float(rows[1]["val_mAP"]) == results["focal"]["mAP"]
    lines = output.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| focal", "| hard_negative"]
    assert output.with_suffix(".png").stat().st_size > 1000
