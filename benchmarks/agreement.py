"""Every model of the zoo, small and briefly trained, as SavedModel and LiteRT files: do all find the same, how fast?

    python benchmarks/agreement.py [--models ssd unet ...] [--steps 200] [--json table.json]

Trains each model for `--steps` batches on the embedded handwritten digits (small ones and large ones; for segmenters
the pixels of their boxes), exports it, and compares every file with the Keras model on test pictures. The SavedModel
and the float32 file must agree to 1e-3 px and 1e-4 in score, detection by detection (a segmenter pixel by pixel but
for one in ten thousand; DeconvNet's scores in nine of ten images: where two values of a pooling window are equal but
for their last bits, a sum's order decides the switch, and with it a part of the image); the int8 file is judged by its
mAP@0.50 or mean IoU. Ends with 1 where a file departs. Times
are milliseconds from pixels to the end on this machine.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import kzoo

SIZE = (96, 96)
LARGE = 24  # pixels; digits are 10 to 38 large
BOX_PX, SCORE, PIXELS = 1e-3, 1e-4, 1e-4
IMAGES_OF_SWITCHES = 0.9
# What makes a model small, where "backbone": "tiny" and "width": 0.5 are not the way.
SMALL = {
    "ssd300": {"width": 0.125},
    "ssd512": {"width": 0.125},
    "fast_yolo": {"width": 0.25, "grid": 6},
    "yolo": {"backbone": "tiny", "width": 0.5, "grid": 6},
    "retinanet": {"backbone": "tiny", "width": 0.5, "channels": 32},
    "localizer": {"backbone": "tiny", "width": 0.5},
    "deconvnet": {"width": 0.125},
    "unet": {"width": 0.125, "depth": 3, "padding": "same"},
}
COLUMNS = {
    "model": "model",
    "detections": "compared",
    "saved_model_px": "SavedModel px",
    "saved_model_score": "score",
    "litert_px": "LiteRT px",
    "litert_score": "score",
    "quality": "mAP@0.50 or mIoU",
    "int8_quality": "int8",
    "float32_mb": "MB",
    "int8_mb": "int8",
    "float32_ms_1": "ms, 1 thread",
    "float32_ms_2": "2",
    "int8_ms_1": "int8, 1",
    "int8_ms_2": "2",
}


def create(name: str):
    arguments = SMALL.get(name)
    if arguments is None:
        known = kzoo.models.arguments(name)
        arguments = {key: value for key, value in (("backbone", "tiny"), ("width", 0.5)) if key in known}
    keras.utils.set_random_seed(0)
    model = kzoo.models.create(name, 2, image_size=SIZE, **arguments)
    model.class_names = ["paper", "digit"] if hasattr(model, "segment") else ["small", "large"]
    return model


def pictures(split: str, count: int, segments: bool):
    """(images, targets) of the digits: small and large ones, or masks of their boxes."""
    data = kzoo.data.load("digits", split=split, image_size=SIZE, batch_size=16, limit=count)
    batches = [(images.numpy(), {k: v.numpy() for k, v in targets.items()}) for images, targets in data]
    images = np.concatenate([images for images, _ in batches])
    targets = {key: np.concatenate([targets[key] for _, targets in batches]) for key in ("boxes", "labels")}
    sides = (targets["boxes"][..., 2:] - targets["boxes"][..., :2]).max(-1)
    targets["labels"] = np.where(targets["labels"] < 0, -1, sides > LARGE).astype(np.int32)
    if not segments:
        return images, targets
    masks = np.zeros((len(images), *SIZE), np.int32)
    for mask, boxes, labels in zip(masks, targets["boxes"], targets["labels"], strict=True):
        for x1, y1, x2, y2 in np.rint(boxes[labels >= 0]).astype(int):
            mask[y1:y2, x1:x2] = 1
    return images, {"masks": masks}


def compare(name: str, steps: int, folder: Path) -> dict:
    model = create(name)
    segments = hasattr(model, "segment")
    images, targets = pictures("train", 256, segments)
    model.compile(keras.optimizers.Adam(2e-3))
    epochs = max(1, round(steps * 16 / len(images)))
    model.fit(images, targets["masks"] if segments else targets, batch_size=16, epochs=epochs, verbose=0)
    data = pictures("test", 48, segments)
    row: dict = {"model": name, "problems": []}
    files = {
        "saved_model": kzoo.export.saved_model(model, folder / name),
        "litert": kzoo.export.litert(model, folder / f"{name}.tflite"),
        "int8": kzoo.export.litert(model, folder / f"{name}-int8.tflite", "int8", calibration=images[:32]),
    }
    measure = "mIoU" if segments else "mAP@0.50"
    for kind, file in files.items():
        result = kzoo.export.verify(file, model, data)
        if kind == "int8":
            row |= {"quality": result[f"{measure}_keras"], "int8_quality": result[f"{measure}_exported"]}
            continue
        row |= {f"{kind}_px": result.get("max_box_error_px"), f"{kind}_score": result["max_score_error"]}
        row["detections"] = result.get("detections", data[0].shape[0] * SIZE[0] * SIZE[1])
        row["problems"] += [f"{kind}: {problem}" for problem in departures(name, result, row["detections"])]
    for kind, timed in zip(("float32", "int8"), kzoo.export.benchmark([files["litert"], files["int8"]]), strict=True):
        row |= {f"{kind}_mb": timed["size_mb"]}
        row |= {f"{kind}_ms_{n}": timed[column] for n, column in ((1, "ms_1_thread"), (2, "ms_2_threads"))}
    return row


def departures(name: str, result: dict, compared: int) -> list[str]:
    """What `kzoo.export.verify` found too different between a float file and Keras."""
    shares = {"label_agreement": 1.0}
    if "score_agreement" in result:  # a segmenter, pixel by pixel
        shares = {"label_agreement": 1 - PIXELS, "score_agreement": 1 - PIXELS}
        if name == "deconvnet":
            shares = {"label_agreement": 1 - PIXELS, "image_agreement": IMAGES_OF_SWITCHES}
    elif result["max_box_error_px"] > BOX_PX or result["max_score_error"] > SCORE:
        return [f"off by {result['max_box_error_px']:.2g} px, {result['max_score_error']:.2g} in score"]
    few = [f"{key} {result[key]:.4%} of {compared}" for key, share in shares.items() if result[key] < share]
    return few if compared else ["nothing to compare"]


def cell(key: str, value) -> str:
    if value is None:
        return "-"
    if isinstance(value, str | int):
        return str(value)
    if key.endswith(("px", "score")):
        return f"{value:.0e}"
    return f"{value:.3f}" if key.endswith("quality") else f"{value:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=kzoo.models.names(), help="names; all by default")
    parser.add_argument("--steps", type=int, default=200, help="batches to train each model for [200]")
    parser.add_argument("--json", type=Path, help="write the table as JSON")
    options = parser.parse_args()
    rows, problems = [], []
    print("| " + " | ".join(COLUMNS.values()) + " |")
    print("|" + " --- |" * len(COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            start = time.perf_counter()
            if "max_proposals" in kzoo.models.arguments(name):
                print(f"{name}: left out, it wants proposals beside the image", file=sys.stderr, flush=True)
                continue
            rows.append(compare(name, options.steps, Path(folder)))
            problems += [f"{name}: {one}" for one in rows[-1]["problems"]]
            print("| " + " | ".join(cell(key, rows[-1].get(key)) for key in COLUMNS) + " |", flush=True)
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    for problem in problems:
        print(f"DEPARTS {problem}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
