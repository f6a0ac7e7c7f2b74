"""The report: one HTML file that shows what a run folder holds, and nothing else."""

import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest

from kzoo import report, run_files
from kzoo.report import boxes, document, files, page


class Document(HTMLParser):
    """Text, tags and addresses of an HTML document; complains about tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def folder(tmp_path):
    """A run folder with all that a report can show."""
    picture = np.zeros((4, 4, 3), np.uint8)
    from kzoo.visualize import save

    for name in run_files.PICTURES.values():
        save(picture, tmp_path / name)
    (tmp_path / "config.yaml").write_text("model: ssd\ndata: <bccd>\nepochs: 3\n", encoding="utf-8")
    rows = "epoch,loss,val_mAP,val_AP/cat,seconds\n1,2.5,0.125,0.1,30\n2,1.5,0.25,0.2,31\n"
    (tmp_path / "results.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "left_out.csv").write_text("file,kind\na<b>.xml,zero area\n", encoding="utf-8")
    contents = {
        run_files.EVALUATION: {
            "split": "test",
            "protocol": "coco",
            "images": 7,
            "scores": {"mAP": 0.51234, "mAP@0.50": 0.75, "mAP_large": -1.0},
            "per_class": [{"class": "<script>alert(1)</script>", "objects": 3, "AP": 0.5}],
        },
        run_files.SUMMARY: {
            "model": "ssd",
            "parameters": 2_500_000,
            "gflops": 1.25,
            "class_names": ["a"],
            "bytes": 1e7,
        },
        run_files.EXPORTS: [
            {
                "file": "m.tflite",
                "format": "LiteRT",
                "quantization": "int8",
                "bytes": 812_000,
                "verification": {"mAP_keras": 0.5, "mAP_exported": 0.49},
            }
        ],
        run_files.ENVIRONMENT: {"keras": "3.15"},
    }
    for name, content in contents.items():
        files.write_json(tmp_path / name, content)
    return tmp_path


def test_the_report_shows_every_part_of_the_run(folder):
    path = report.write(folder)
    assert path == folder / "report.html"
    seen = Document(path.read_text(encoding="utf-8"))
    assert seen.tags.count("img") == len(run_files.PICTURES)
    for text in (
        "0.5123",  # mAP, four digits
        "2 of 3",  # epochs
        "1 min 01 s",
        "2.50 M",
        "812 kB",
        "0.49",
        "zero area",
        "<bccd>",
        "3.15",
        "COCO",
    ):
        assert text in seen.text


def test_everything_from_outside_is_escaped(folder):
    text = report.write(folder, title="<b>run</b>").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>run</b>" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "a&lt;b&gt;.xml" in text


def test_the_report_needs_neither_network_nor_script(folder):
    seen = Document(report.write(folder).read_text(encoding="utf-8"))
    assert all(source.startswith(("data:image/", "#s")) for source in seen.sources)
    assert {"script", "link", "iframe"}.isdisjoint(seen.tags)


def test_an_empty_folder_gives_a_report_without_sections(tmp_path):
    seen = Document(report.write(tmp_path).read_text(encoding="utf-8"))
    assert "h2" not in seen.tags
    assert "img" not in seen.tags


def test_damaged_files_are_left_out(folder):
    for name in (run_files.EVALUATION, run_files.EXPORTS, run_files.SUMMARY, run_files.ENVIRONMENT):
        (folder / name).write_text("{", encoding="utf-8")
    (folder / "config.yaml").write_text("a: [", encoding="utf-8")
    seen = Document(report.write(folder).read_text(encoding="utf-8"))
    assert "Scores" not in seen.text
    assert "Training" in seen.text


def test_a_run_without_an_epoch_says_so(tmp_path):
    (tmp_path / "config.yaml").write_text("model: ssd\nepochs: 3\n", encoding="utf-8")
    assert "No epoch" in Document(report.write(tmp_path).read_text(encoding="utf-8")).text


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        report.write(tmp_path / "nowhere")


def test_classes_without_ground_truth_show_a_dash_and_not_minus_one(folder):
    seen = Document(report.write(folder).read_text(encoding="utf-8"))
    assert "-1" not in seen.text
    assert "mAP_large\N{EN DASH}" in seen.text


def test_json_knows_neither_nan_nor_numpy(tmp_path):
    path = files.write_json(
        tmp_path / "a" / "b.json", {"x": np.float32(0.5), "y": [math.nan, np.arange(2)], 3: tmp_path}
    )
    assert json.loads(path.read_text()) == {"x": 0.5, "y": [None, [0, 1]], "3": str(tmp_path)}


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3725, "1 h 02 min")])
def test_durations_in_words(seconds, words):
    assert document.duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (math.nan, "\N{EN DASH}"),
        (True, "yes"),
        (3.0, "3"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (0.12345, "0.1235"),
        (1e-5, "1e-05"),
    ],
)
def test_numbers_as_text(value, text):
    assert page.number(value) == text


class Detector:
    """Finds one box in the first image and none in the others."""

    image_size, class_names = (64, 64), ["cat", "dog"]

    def detect(self, images):
        boxes = np.zeros((len(images), 1, 4), np.float32)
        labels, scores = np.full((len(images), 1), -1, np.int32), np.zeros((len(images), 1), np.float32)
        boxes[0], labels[0], scores[0] = [10, 10, 40, 40], 1, 0.9
        return {"boxes": boxes, "labels": labels, "scores": scores, "num_detections": np.sum(labels >= 0, axis=1)}


@pytest.fixture
def dataset():
    """Two images of 128 x 128, seen by the network at half their size; a dog in the first, a cat in the second."""
    from kzoo.data import Annotations, Sample

    true = np.array([[20, 20, 80, 80]], np.float32)
    no, area = np.zeros(1, bool), np.full(1, 3600, np.float32)
    samples = [
        Sample(
            None, f"{i}.png", i, (128, 128), true, np.array([1 - i], np.int32), no, no, area, np.full((128, 128, 3), 90)
        )
        for i in range(2)
    ]

    class Batches(list):
        class_names = Detector.class_names
        annotations = Annotations(samples, class_names, "val")

    targets = {
        "boxes": np.stack([true / 2] * 2),
        "labels": np.array([[1], [0]]),
        "image_id": np.arange(2),
        "transform": np.tile([0.5, 0.5, 0, 0], (2, 1)),
    }
    return Batches([(np.zeros((2, 64, 64, 3), np.float32), targets)])


def test_a_detector_is_measured_and_its_pictures_drawn(tmp_path, dataset):
    metric, evaluation = boxes.measure(Detector(), dataset)
    assert evaluation["images"] == 2
    assert evaluation["split"] == "val"
    assert evaluation["scores"]["mAP"] == pytest.approx(0.5)  # the dog found exactly, the cat not at all
    assert [(row["class"], row["objects"], row["AP"]) for row in evaluation["per_class"]] == [
        ("cat", 1, 0),
        ("dog", 1, 1),
    ]
    boxes.draw_measurement(tmp_path, metric, evaluation)
    boxes.draw_images(tmp_path, metric, evaluation, dataset.annotations)
    boxes.draw_data(tmp_path, dataset.annotations)
    boxes.draw_batch(tmp_path, dataset)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == set(run_files.PICTURES.values()) - {run_files.PICTURES["curves"]}


def test_a_detector_of_one_box_an_image_is_measured_as_a_localizer(dataset):
    _, evaluation = boxes.measure(Detector(), dataset)
    scores = evaluation["scores"]
    assert (scores["accuracy"], scores["mean_IoU"], scores["localized"]) == (0.5, 0.5, 0.5)
    assert scores["IoU>0.5, decent"] == scores["IoU>0.7, pretty good"] == scores["IoU>0.9, almost perfect"] == 0.5
    assert [(row["accuracy"], row["mean_IoU"]) for row in evaluation["per_class"]] == [(0, 0), (1, 1)]

    class OfTwo(Detector):
        def detect(self, images):
            return {key: np.concatenate([x, x], 1) if x.ndim > 1 else x for key, x in super().detect(images).items()}

    assert "accuracy" not in boxes.measure(OfTwo(), dataset)[1]["scores"]


def test_no_picture_of_worst_images_stays_from_a_worse_measurement(tmp_path, dataset):
    old = tmp_path / run_files.PICTURES["worst"]
    old.write_bytes(b"")
    perfect = type(dataset)([(dataset[0][0][:1], {k: v[:1] for k, v in dataset[0][1].items()})])
    metric, evaluation = boxes.measure(Detector(), perfect)
    boxes.draw_images(tmp_path, metric, evaluation, dataset.annotations)
    assert not old.exists()


def test_compute_is_counted_from_kernels_and_shapes():
    import keras
    from keras import layers

    from kzoo.report.compute import gflops

    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, layers.Conv2D(6, 3, padding="same", groups=2)(inner_input))
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)  # 8*8*4 outputs of 3*3*3
    y = inner(x)  # 8*8*6 outputs of 3*3*2
    y = layers.DepthwiseConv2D(3, padding="same")(y)  # 8*8*6 outputs of 3*3
    y = layers.SeparableConv2D(5, 3, padding="same")(y)  # 8*8*(6*9 + 6*5)
    y = layers.Conv2DTranspose(2, 2, strides=2)(y)  # 16*16*2 outputs of 5 (kernel 2, stride 2: each input once)
    y = layers.Dense(7)(layers.Flatten()(y))  # 512 * 7
    macs = 64 * 4 * 27 + 64 * 6 * 18 + 64 * 6 * 9 + 64 * (54 + 30) + 512 * 5 + 512 * 7
    assert gflops(keras.Model(image, y)) == pytest.approx(2 * macs / 1e9)


def test_a_layer_used_twice_is_counted_twice():
    import keras
    from keras import layers

    from kzoo.report.compute import gflops

    image, shared = keras.Input((4, 4, 3)), layers.Conv2D(3, 1)
    assert gflops(keras.Model(image, shared(shared(image)))) == pytest.approx(2 * 2 * 16 * 9 / 1e9)
