"""Pictures: boxes and masks on images, grids of images, curves and label statistics.

Images go in and come out as NumPy arrays (H, W, 3); charts are written to a file. matplotlib loads on first use and
draws without a display.
"""

from kzoo.visualize.cells import cell_panels
from kzoo.visualize.charts import confusion_matrix, f1_curves, precision_recall, training_curves
from kzoo.visualize.draw import colour, draw_boxes
from kzoo.visualize.grids import batch_grid, comparison_grid, grid, save
from kzoo.visualize.labels import best_default_box_iou, label_statistics
from kzoo.visualize.masks import draw_mask, mask_comparison, mask_grid, mask_statistics, palette, with_legend
from kzoo.visualize.proposals import draw_proposals, proposal_recall, region_stages

__all__ = [
    "batch_grid",
    "best_default_box_iou",
    "cell_panels",
    "colour",
    "comparison_grid",
    "confusion_matrix",
    "draw_boxes",
    "draw_mask",
    "draw_proposals",
    "f1_curves",
    "grid",
    "label_statistics",
    "mask_comparison",
    "mask_grid",
    "mask_statistics",
    "palette",
    "precision_recall",
    "proposal_recall",
    "region_stages",
    "save",
    "training_curves",
    "with_legend",
]
