"""Two or more libraries that do the same work, in turn, each in a process of its own.

TensorFlow and PyTorch do not load into one process reliably, and in turn whatever else the machine does hits all alike.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence

KINDS = ("clock", "CPU")
PRECISIONS = ("float32", "mixed_bfloat16")


class Side:
    """A process that calls `make(*arguments)` and runs a part of what it returned when asked to.

    `make` must be a function of a module, import its library itself, and return the number of parameters and
    {part: function}.
    """

    def __init__(self, make: Callable[..., tuple[int, dict]], *arguments):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, end = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(make, arguments, end), daemon=True)
        self.process.start()
        end.close()
        try:
            self.parameters: int = self.pipe.recv()
        except EOFError:
            raise SystemExit(f"{make.__name__} failed: its error stands above.") from None

    def run(self, part: str) -> tuple[float, float]:
        """Seconds by the clock and of CPU time (all threads)."""
        self.pipe.send(part)
        return self.pipe.recv()

    def stop(self) -> None:
        self.pipe.close()
        self.process.join()


def _serve(make: Callable[..., tuple[int, dict]], arguments: Sequence, pipe) -> None:
    parameters, functions = make(*arguments)
    pipe.send(parameters)
    while True:
        try:
            part = pipe.recv()
        except EOFError:
            return
        wall, cpu = time.perf_counter(), time.process_time()
        functions[part]()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))


def torch_precision(precision: str):
    """What PyTorch computes in: a context for forward passes, alike to Keras' policy of that name."""
    import torch

    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16")


def compare(sides: dict[str, Side], parts: Sequence[str], runs: int, batch: int, warm_up: int = 2) -> None:
    """Runs every part of every side `runs` times, in turn; prints milliseconds of an image and the ratios.

    The first side is ours: a ratio above 1 says that it is faster.
    """
    ours = next(iter(sides))
    print(", ".join(f"{name}: {side.parameters:,} parameters" for name, side in sides.items()), flush=True)
    for part in parts:
        times = {name: [] for name in sides}
        for run in range(runs + warm_up):
            for name, side in list(sides.items()):
                try:
                    seconds = side.run(part)
                except EOFError:
                    print(f"{part:14s} {name} failed: its error stands above", flush=True)
                    del sides[name], times[name]
                    continue
                if run >= warm_up:
                    times[name].append([1e3 * s / batch for s in seconds])
        for name, pairs in times.items():
            clock, cpu = (statistics.median(values) for values in zip(*pairs, strict=True))
            line = f"{part:14s} {name:30s} {clock:8.1f} ms an image, {cpu:8.1f} of CPU"
            if name != ours:
                ratios = [
                    statistics.median(theirs[k] / mine[k] for mine, theirs in zip(times[ours], pairs, strict=True))
                    for k in range(len(KINDS))
                ]
                line += f"; {ratios[0]:.2f} times {ours}'s by the clock, {ratios[1]:.2f} in CPU time"
            print(line, flush=True)
    for side in sides.values():
        side.stop()
