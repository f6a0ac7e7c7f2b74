"""All measures of label maps at once: what a segmenter is scored by where nothing else is asked for."""

from collections.abc import Sequence

import numpy as np

from kzoo.metrics.cells import CellMeasures
from kzoo.metrics.segmentation import BoundaryF1, MeanIoU, label_maps
from kzoo.morphology import connected_components


class SegmentationMeasures:
    """`MeanIoU` and `BoundaryF1`, and on request `CellMeasures`, over a data set.

    Cells are the connected regions of each class but the first, which is what lies between them. Where the targets hold
    "instances" (B, H, W), a number for each object, these are the true cells: in masks, cells that touch are one.

    Args:
        num_classes, ignore_label, class_names: as in `MeanIoU`. Void belongs to no cell.
        cells: also measure cells, the warping error included.

    Attributes:
        mean_iou: the `MeanIoU`, for its confusion matrix.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int | None = 255,
        class_names: Sequence[str] | None = None,
        cells: bool = False,
    ):
        self.ignore_label = ignore_label
        self.mean_iou = MeanIoU(num_classes, ignore_label, class_names)
        self.boundary_f1 = BoundaryF1(num_classes, ignore_label, class_names)
        self.cells = CellMeasures(warping=True) if cells else None

    def reset_state(self) -> None:
        for part in (self.mean_iou, self.boundary_f1, self.cells):
            if part is not None:
                part.reset_state()

    def update_state(self, targets, found) -> None:
        """Adds images; arguments as in `MeanIoU.update_state`, and "instances" in the targets where there are any."""
        true, predicted = label_maps(targets, found)
        self.mean_iou.update_state(true, predicted)
        self.boundary_f1.update_state(true, predicted)
        if self.cells is not None:
            void = np.zeros(true.shape, bool) if self.ignore_label is None else true == self.ignore_label
            numbered = isinstance(targets, dict) and "instances" in targets
            cells = targets["instances"] if numbered else _numbered(true), _numbered(predicted)
            self.cells.update_state(*(np.where(void, 0, one) for one in cells))

    def result(self) -> dict:
        """What the parts return, in one.

        Returns:
            "mIoU", "pixel_accuracy", "mean_accuracy", "mean_dice", "mean_boundary_f1"; with `cells` "rand_fscore",
            "rand_split", "rand_merge", "adapted_rand_error", "SEG", "objects" and "warping_error"; and "per_class" ->
            {name: {"IoU", "accuracy", "Dice", "pixels", "boundary F1"}}. −1 where there was nothing to measure.
        """
        overlap, boundary = self.mean_iou.result(), self.boundary_f1.result()
        classes = {
            name: {**scores, "boundary F1": boundary["per_class"][name]}
            for name, scores in overlap.pop("per_class").items()
        }
        cells = {} if self.cells is None else self.cells.result()
        return {**overlap, "mean_boundary_f1": boundary["mean_boundary_f1"], **cells, "per_class": classes}


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Numbers the cells of each label map (B, H, W)."""
    return np.stack([connected_components(one) for one in labels]) if len(labels) else labels
