"""What the commands write to the terminal: tables, notes, and errors in one line."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def error(text: str) -> None:
    """One red line on stderr, whatever the text holds."""
    err.print(f"[bold red]error:[/] [red]{escape(one_line(text))}[/]")


def warn(text: str) -> None:
    err.print(f"[yellow]warning: {escape(one_line(text))}[/]")


def say(text: str = "") -> None:
    """A plain line; nothing in it is markup."""
    out.print(text, markup=False)


def one_line(text: str) -> str:
    return " ".join(str(text).split())


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table; numbers stand right-aligned, None as a hyphen. It never cuts a cell: piped output stays whole."""
    shown = Table(header_style="bold", box=None, pad_edge=False)
    for i, name in enumerate(columns):
        numeric = any(isinstance(row[i], int | float) for row in rows)
        shown.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(escape(cell(value)) for value in row))
    # A pipe has no width: a narrow default would break lines that a script reads.
    Console(width=None if out.is_terminal else 200, highlight=False).print(shown)


def cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"
    return str(value)


def quiet_tensorflow() -> None:
    """Silences TensorFlow's start-up messages; must run before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TFDS_DISABLE_PROGRESS_BAR", "1")
    import logging

    for name in ("tensorflow", "absl", "h5py"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def quiet_native() -> Iterator[None]:
    """Hides what C++ libraries write to stderr around loading and converting: it is no news for the user.

    Python's own stderr is what it was: errors and warnings of kzoo still show. With --debug nothing is hidden.
    """
    if os.environ.get("KZOO_DEBUG"):
        yield
        return
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all, as in some services
        yield
        return
    python_stderr = sys.stderr
    if _is_native(python_stderr):  # else something else captures it already
        sys.stderr = os.fdopen(os.dup(saved), "w", buffering=1)
    with tempfile.TemporaryFile() as hidden:
        try:
            os.dup2(hidden.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            if sys.stderr is not python_stderr:
                sys.stderr.close()
                sys.stderr = python_stderr


def _is_native(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError):  # an object in memory has no number
        return False
