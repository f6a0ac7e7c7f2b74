"""The report of a run: what is measured and drawn for it, and one HTML file that needs nothing but itself.

What differs between boxes and masks stands in `boxes` and `masks`, which have the same functions: `measure`,
`draw_measurement`, `draw_images`, `draw_data`, `draw_batch`; `of(model)` is the one for it.
"""

from types import ModuleType
from typing import Any

from kzoo.report.summary import summarize
from kzoo.report.writing import write

__all__ = ["of", "summarize", "write"]


def of(model: Any) -> ModuleType:
    """The module that measures and draws for this model: `kzoo.report.masks` of a segmenter, else `.boxes`."""
    from kzoo.report import boxes, masks

    return masks if hasattr(model, "segment") else boxes
