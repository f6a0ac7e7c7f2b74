"""The report of a run: what is measured and drawn for it, and one HTML file that needs nothing but itself."""

from kzoo.report.measure import draw_batch, draw_data, draw_images, draw_measurement, measure, summarize
from kzoo.report.writing import write

__all__ = ["draw_batch", "draw_data", "draw_images", "draw_measurement", "measure", "summarize", "write"]
