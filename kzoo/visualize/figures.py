"""matplotlib without a display and without global state: figures that nobody has to close."""

from pathlib import Path
from typing import TYPE_CHECKING

from kzoo import messages
from kzoo.visualize.draw import colour
from kzoo.visualize.fonts import other_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINES = 20  # more classes than this are drawn as thin grey lines without a legend


def figure(columns: int = 1, rows: int = 1, width: float = 6.4, height: float = 4.4) -> tuple["Figure", list["Axes"]]:
    """Returns a figure and its axes, row by row; `width` and `height` are inches an axis."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(messages.missing_package("matplotlib", "tensorflow", "Drawing charts")) from error
    # A Figure made by hand is not registered with pyplot: no window, no backend switch, freed with its last reference.
    made = Figure(figsize=(columns * width, rows * height), dpi=110, layout="constrained")
    FigureCanvasAgg(made)
    axes = list(made.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes:
        axis.grid(True, color="#dddddd", linewidth=0.7)
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return made, axes


def write(made: "Figure", path: str | Path) -> Path:
    """Writes a figure, making its folder, and returns the path."""
    from matplotlib.text import Text

    for text in made.findobj(Text):
        file = other_file(text.get_text())
        if file:
            text.get_fontproperties().set_file(file)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path)
    return path


def class_colour(label: int) -> tuple[float, float, float]:
    """The colour of a class as matplotlib takes it: the same as on the pictures."""
    red, green, blue = colour(label)
    return red / 255, green / 255, blue / 255
