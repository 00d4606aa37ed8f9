"""Time and memory of one way of doing something, in a process of its own and on one thread."""

import math
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import psutil
import torch


class Measured(NamedTuple):
    seconds: float  # median
    memory: int  # bytes that the process grew by while the work was done, at most


def measure(way: Callable[..., Callable[[], object]], *arguments, warm_up: tuple) -> Measured:
    """Measure `way(*arguments)()`. Calling `way` prepares, which is not measured; calling its result does the work.

    `way(*warm_up)()`, a small case of the same, is run before, so that what happens once in a process is done.

    Raises `BrokenProcessPool` when the process was killed, as happens when memory runs out.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, way, arguments, warm_up).result()


def _measure(way: Callable[..., Callable[[], object]], arguments: tuple, warm_up: tuple) -> Measured:
    torch.set_num_threads(1)
    with torch.inference_mode():
        way(*warm_up)()
        work = way(*arguments)
        memory = _added_memory(work)
        times = []
        while len(times) < 3 or (len(times) < 25 and sum(times) < 2):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return Measured(statistics.median(times), memory)


def _added_memory(work: Callable[[], object]) -> int:
    process, finished = psutil.Process(), threading.Event()
    before = most = process.memory_info().rss

    def watch() -> None:
        nonlocal most
        while not finished.wait(0.001):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = work()  # kept, since it is part of what the work takes
    most = max(most, process.memory_info().rss)
    finished.set()
    watcher.join()
    del result
    return most - before


def duration(seconds: float) -> str:
    """0.0123 -> "12.3 ms", 4.56 -> "4.6 s"."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.{1 if seconds < 0.1 else 0}f} ms"


def size(bytes_: float) -> str:
    """1234567 -> "1.2 MB"."""
    return f"{bytes_ / 1e9:.1f} GB" if bytes_ >= 1e9 else f"{bytes_ / 1e6:.{1 if bytes_ < 1e7 else 0}f} MB"


def ratio(theirs: float, ours: float) -> str:
    """How many times ours goes into theirs: "1/120", or "2.0" when ours is the larger."""
    share = ours / theirs if theirs > 0 else math.inf
    return f"1/{1 / share:.0f}" if 0 < share < 0.67 else f"{share:.2f}"
