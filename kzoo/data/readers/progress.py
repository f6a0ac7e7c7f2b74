"""A progress bar for reads that take long enough to wonder about."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
WORTH_A_BAR = 2000  # items; below this a read is over before the bar is drawn


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yields the items, drawing a bar on standard error where it is a terminal and the read is long."""
    if total < WORTH_A_BAR or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description, total=total, console=Console(stderr=True), transient=True)


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """[function(item) for item in items] in threads: for work that waits for the disk or leaves Python's lock."""
    if len(items) < 16:
        return [function(item) for item in items]
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(track(pool.map(function, items), description, len(items)))
