"""The zoo: `names()`, `create(name, ...)`, and each model's own constructor."""

import inspect
import typing
from collections.abc import Mapping
from pathlib import Path

from kzoo.messages import unknown_name
from kzoo.models.base import Detector
from kzoo.models.deconvnet import DeconvNet
from kzoo.models.fast_rcnn import FastRCNN
from kzoo.models.faster_rcnn import FasterRCNN
from kzoo.models.fcn import FCN, FCN8s, FCN16s, FCN32s
from kzoo.models.files import read_keras_file
from kzoo.models.localizer import Localizer
from kzoo.models.rcnn import RCNN
from kzoo.models.region_svm import RegionSVM
from kzoo.models.retinanet import RetinaNet
from kzoo.models.segmenter import Segmenter
from kzoo.models.sppnet import SPPNet
from kzoo.models.ssd import SSD, SSD300, SSD512
from kzoo.models.unet import UNet
from kzoo.models.yolo import YOLO, FastYOLO

_MODELS = {
    "deconvnet": DeconvNet,
    "fast_rcnn": FastRCNN,
    "fast_yolo": FastYOLO,
    "faster_rcnn": FasterRCNN,
    "fcn16s": FCN16s,
    "fcn32s": FCN32s,
    "fcn8s": FCN8s,
    "localizer": Localizer,
    "rcnn": RCNN,
    "retinanet": RetinaNet,
    "sppnet": SPPNet,
    "ssd": SSD,
    "ssd300": SSD300,
    "ssd512": SSD512,
    "unet": UNet,
    "yolo": YOLO,
}

_FCN_PAPER = "Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015"
_YOLO_PAPER = "Redmon et al., You Only Look Once: Unified, Real-Time Object Detection, CVPR 2016"
_SSD_PAPER = "Liu et al., SSD: Single Shot MultiBox Detector, ECCV 2016"
# Measured with the commands in docs/results.md.
_FACTS = {
    "deconvnet": {
        "paper": "Noh et al., Learning Deconvolution Network for Semantic Segmentation, ICCV 2015",
        "scores": {"CamVid, a quarter of the width at 192 x 256, mIoU": 0.471},
    },
    "fast_rcnn": {
        "paper": "Girshick, Fast R-CNN, ICCV 2015",
        "scores": {"BCCD, MobileNet at 384 x 512, COCO mAP": 0.399},
    },
    "fast_yolo": {"paper": _YOLO_PAPER, "scores": {}},
    "faster_rcnn": {
        "paper": "Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, "
        "NIPS 2015",
        "scores": {"BCCD, MobileNet at 384 x 512, COCO mAP": 0.623},
    },
    "fcn16s": {"paper": _FCN_PAPER, "scores": {}},
    "fcn32s": {"paper": _FCN_PAPER, "scores": {}},
    "fcn8s": {"paper": _FCN_PAPER, "scores": {"CamVid, MobileNet at 240 x 320, mIoU": 0.505}},
    "localizer": {
        "paper": "classification + localization on AlexNet (Krizhevsky et al., NIPS 2012)",
        "scores": {
            "single digits, MobileNet at 128 x 128, accuracy": 0.973,
            "single digits, MobileNet at 128 x 128, mean IoU": 0.804,
        },
    },
    "rcnn": {
        "paper": "Girshick et al., Rich Feature Hierarchies for Accurate Object Detection and Semantic Segmentation, "
        "CVPR 2014",
        "scores": {"BCCD, MobileNet on crops of 96, COCO mAP": 0.345},
    },
    "sppnet": {
        "paper": "He et al., Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition, ECCV 2014",
        "scores": {"BCCD, MobileNet at 384 x 512, COCO mAP": 0.324},
    },
    "retinanet": {
        "paper": "Lin et al., Focal Loss for Dense Object Detection, ICCV 2017",
        "scores": {"BCCD, MobileNet at 384 x 512, COCO mAP": 0.606},
    },
    "ssd": {
        "paper": _SSD_PAPER,
        "scores": {"BCCD, MobileNet at 384 x 512, COCO mAP": 0.603, "digits, tiny at 160 x 160, COCO mAP": 0.730},
    },
    "ssd300": {"paper": _SSD_PAPER, "scores": {}},
    "ssd512": {"paper": _SSD_PAPER, "scores": {}},
    "unet": {
        "paper": "Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015",
        "scores": {
            "ISBI 2012, a quarter of the width, Rand F-score": 0.973,
            "CamVid, half the width at 240 x 320, mIoU": 0.601,
        },
    },
    "yolo": {"paper": _YOLO_PAPER, "scores": {"BCCD, MobileNet at 384 x 512, mAP@0.50": 0.796}},
}


def names() -> list[str]:
    """The names that `create` knows."""
    return sorted(_MODELS)


def create(name: str, num_classes: int, **kwargs) -> Detector | Segmenter:
    """Creates a model by name: `create("ssd300", num_classes=3, backbone="mobilenet", weights=None)`.

    The keyword arguments are those of the model's constructor.

    Raises:
        ValueError: for an unknown name, with the nearest valid one.
    """
    valid = arguments(name)
    for key in kwargs:
        if key not in valid:
            raise ValueError(unknown_name(f"argument of {name}", key, valid))
    return _MODELS[name](num_classes, **kwargs)


def load(
    path: str | Path, custom_objects: Mapping | None = None, compile: bool = True, safe_mode: bool = True
) -> Detector | Segmenter:
    """Loads a model of the zoo that `model.save("model.keras")` wrote, compiled as it was saved.

    The same as `keras.models.load_model`, which knows the zoo only once this module is imported. Its layers have the
    policy that holds when it is loaded: `keras.config.set_dtype_policy("mixed_float16")` before, to train it on as it
    was trained, nothing to run it in float32.

    Args:
        path, custom_objects, compile, safe_mode: as of `keras.models.load_model`.

    Raises:
        ValueError: if the file is missing or holds something else.
    """
    model = read_keras_file(path, compile, custom_objects, safe_mode)
    if not isinstance(model, Detector | Segmenter):
        raise ValueError(f"{path}: holds a {type(model).__name__}, which is no model of kzoo.")
    return model


def trains_in_stages(name: str) -> bool:
    """Is it R-CNN or SPP-net: a network, then SVMs and box regression, each trained for itself?"""
    return issubclass(_class_of(name), RegionSVM)


def _class_of(name: str) -> type:
    if name not in _MODELS:
        raise ValueError(unknown_name("model", name, names()))
    constructor = _MODELS[name]
    return constructor if isinstance(constructor, type) else typing.get_type_hints(constructor)["return"]


def arguments(name: str) -> list[str]:
    """The keyword arguments that `create(name, ...)` takes."""
    return [key for key in inspect.signature(_class_of(name)).parameters if key not in ("num_classes", "kwargs")]


def task(name: str) -> str:
    """What a model learns: "detection" from boxes, "segmentation" from masks."""
    return "segmentation" if issubclass(_class_of(name), Segmenter) else "detection"


def info(name: str) -> dict:
    """What is known of a model: {"paper": reference, "scores": {data set and settings: score measured by us}}."""
    if name not in _MODELS:
        raise ValueError(unknown_name("model", name, names()))
    return _FACTS[name]


__all__ = [
    "FCN",
    "RCNN",
    "SSD",
    "SSD300",
    "SSD512",
    "YOLO",
    "DeconvNet",
    "Detector",
    "FCN8s",
    "FCN16s",
    "FCN32s",
    "FastRCNN",
    "FastYOLO",
    "FasterRCNN",
    "Localizer",
    "RetinaNet",
    "SPPNet",
    "Segmenter",
    "UNet",
    "create",
    "info",
    "load",
    "names",
    "task",
]
