"""Two ways to call workers, one for this computer and one for a cluster. Both take blocks, and give reports.

A worker that dies takes nothing with it but its block, which is handed out again. A picture may be what kills it: so
a block that has killed two is done picture by picture, and a picture that has killed two becomes a row with an error.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch

from segutils.folder.worker import Block, Worker

TRIES = 2
"""How many workers a block may kill."""

# Ctrl-C goes to every process in a terminal. Workers leave it to the one that started them, even while they begin.
_COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from segutils.folder.worker import serve; serve()"
)


class Blocks:
    """The blocks still to do."""

    def __init__(self, paths: Sequence[str], size: int) -> None:
        starts = range(0, len(paths), size)
        self._waiting = deque(
            {"name": f"{number:06}", "paths": paths[start : start + size]}
            for number, start in enumerate(starts)
        )
        self._deaths: dict[str, int] = {}  # name of a block -> workers it has killed

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Block | None:
        """The next block; None when there is none."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def put_back(self, block: Block, how: str) -> None:
        """A worker died over a block. how: as in "killed by signal 9"."""
        name, paths = block["name"], block["paths"]
        deaths = self._deaths[name] = self._deaths.get(name, 0) + 1
        if deaths < TRIES:
            self._waiting.appendleft(block)
        elif len(paths) > 1:
            self._waiting.extendleft(
                {"name": f"{name}-{number:03}", "paths": [path]} for number, path in enumerate(paths)
            )
        else:
            error = f"The process that had this picture in hand ended, {deaths} times; the last time it was {how}."
            self._waiting.appendleft(block | {"error": error})


def run_local(blocks: Blocks, arguments: tuple, workers: int | None = None) -> Iterator[dict]:
    """Run workers on this computer, each in a process of its own.

    The processes are new ones, not forks: a fork of a process in which torch has threads hangs. Nor do they import the
    script that called this, so the script needs no `if __name__ == "__main__"`.

    arguments: those of `Worker`. workers: how many; without it one a core, or a single one where there is a GPU.

    Gives a report for each block as it is done. When the iterator is closed, the workers are stopped at once.
    """
    if workers is None:
        workers = 1 if torch.cuda.is_available() else _count_cores()
    crew = [_LocalWorker(arguments) for _ in range(min(workers, len(blocks)))]
    reports: queue.SimpleQueue = queue.SimpleQueue()

    def look_after(worker: _LocalWorker) -> None:
        try:
            while block := blocks.take():
                report = worker.ask(block)
                if worker.stopped:
                    return
                if report is None:
                    blocks.put_back(block, worker.how_it_ended())
                else:
                    reports.put(report)
            reports.put(None)
        except BaseException as error:
            reports.put(error)

    threads = [threading.Thread(target=look_after, args=[worker], daemon=True) for worker in crew]
    try:
        for thread in threads:
            thread.start()
        while threads:
            try:
                report = reports.get(timeout=1)  # on Windows, Ctrl-C has to wait for the time-out
            except queue.Empty:
                continue
            if isinstance(report, BaseException):
                raise report
            if report is None:
                threads.pop()
            else:
                yield report
    finally:
        for worker in crew:
            worker.stop()


class _LocalWorker:
    """A process with a `Worker`, started when there is something to do, and started again when it has died."""

    def __init__(self, arguments: tuple) -> None:
        self._arguments, self._process, self._lock = arguments, None, threading.Lock()
        self.stopped = False

    def ask(self, block: Block) -> dict | None:
        """Have a block done. Gives the report, or None when the process died over it."""
        starts = 0
        while self._process is None or self._process.poll() is not None:
            if starts == TRIES:
                raise RuntimeError(
                    f"A worker ended before it had begun, {starts} times; the last time it was {self.how_it_ended()}. "
                    "When memory runs out, fewer workers help."
                )
            starts += 1
            self._start()
            self._exchange(self._arguments)
        return self._exchange(block)

    def how_it_ended(self) -> str:
        """In words, once the process has died."""
        status = self._process.wait()
        return f"killed by signal {-status}" if status < 0 else f"gone with exit status {status}"

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        with self._lock:
            self.stopped = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _start(self) -> None:
        with self._lock:
            if self.stopped:
                raise RuntimeError("The worker was stopped.")
            # It finds modules where this process finds them, and leaves one core for each of its like.
            own = {"PYTHONPATH": os.pathsep.join(map(str, filter(None, sys.path))), "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | own,
            )

    def _exchange(self, message: Block | tuple) -> dict | None:
        """Send a line, and wait for the answer; None when there comes none."""
        try:
            print(json.dumps(message), file=self._process.stdin, flush=True)
            answer = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):  # the pipe is closed, or the line is empty or cut short
            self._process.wait()
            return None
        if "problem" in answer:
            raise OSError(answer["problem"])
        if "bug" in answer:
            raise RuntimeError(f"A worker met an error that is no fault of a picture:\n{answer['bug']}")
        return answer


def run_ray(blocks: Blocks, arguments: tuple, workers: int | None = None) -> Iterator[dict]:
    """Run workers as actors of Ray: on the cluster that `RAY_ADDRESS` names, else on this computer.

    Every machine of a cluster needs segutils, and has to see both folders under the same paths.

    arguments: those of `Worker`. workers: how many; without it one a GPU, or one a core where there are no GPUs.

    Gives a report for each block as it is done. When the iterator is closed, the actors are stopped.

    Raises `ModuleNotFoundError` when Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use over the network
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'The engine "ray" needs Ray, which is not installed: pip install "segutils[ray]", or in the course\'s '
            'folder pip install -e ".[ray]". The engine "local" does without.'
        ) from error
    with _ray_session(ray):
        resources = ray.cluster_resources()
        on_gpu = resources.get("GPU", 0) >= 1
        count = min(len(blocks), workers or int(resources["GPU" if on_gpu else "CPU"]))
        # Ray's own retries are off: `Blocks` counts them, and knows what to do then.
        actor = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_restarts=0, max_task_retries=0)(_Actor)
        at_work = {}  # what is being waited for -> its actor and block; None for the block while the actor begins

        def hire() -> None:
            new = actor.remote(*arguments)
            at_work[new.ready.remote()] = new, None

        try:
            for _ in range(count):
                hire()
            while at_work:
                [finished], _ = ray.wait(list(at_work))
                worker, block = at_work.pop(finished)
                try:
                    report = ray.get(finished)
                except ray.exceptions.RayActorError as error:
                    if block is None:
                        raise RuntimeError(f"A worker ended before it had begun: {error}") from error
                    blocks.put_back(block, "lost by Ray")
                    hire()
                    continue
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, OSError):
                        raise error.cause from None
                    raise
                if (following := blocks.take()) is not None:
                    at_work[worker.work.remote(following)] = worker, following
                if block is not None:
                    yield report
        finally:
            for worker, _ in at_work.values():
                ray.kill(worker)


class _Actor(Worker):
    """A `Worker` whose methods Ray can call."""

    def ready(self) -> None:
        """Nothing: when this has run, the model is loaded."""

    def work(self, block: Block) -> dict:
        return self(block)


@contextmanager
def _ray_session(ray: ModuleType) -> Iterator[None]:
    """Start Ray for the time of a `with`, unless it is running already, and leave nothing behind.

    A local one is asked for by name: a bare `ray.init()` would join whatever cluster it finds on this computer.
    """
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    # The paths of its sockets may have 107 bytes, and most of them are its own: so a folder with a short name.
    short = "/tmp" if Path("/tmp").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="ray", dir=short, ignore_cleanup_errors=True) as folder:
        if os.environ.get("RAY_ADDRESS", "local") == "local":
            quiet |= {"address": "local", "include_dashboard": False, "_temp_dir": folder}
        try:
            ray.init(**quiet)
            yield
        finally:
            ray.shutdown()


ENGINES = {"local": run_local, "ray": run_ray}


def _count_cores() -> int:
    """The cores that this process may use: a container often has fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
