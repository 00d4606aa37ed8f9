"""Kill `segutils.folder` again and again, and compare what comes out with a run that nobody killed.

python tests/kill_folder.py [ROUNDS] [ENGINE]     10 rounds of "local" unless told otherwise; the other engine is "ray"

In each round the command is killed at a moment that a seed chooses, then started anew, and then a process that does its
work is killed, at another such moment. Only processes that this script has started, and theirs, are killed.
"""

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from torchvision.transforms.functional import to_pil_image

from segutils import render_scene
from segutils.folder import read_rows

PICTURES = 48


def main(rounds: str = "10", engine: str = "local") -> int:
    """Print a line for each round. Returns how many didn't end with the rows of the quiet run."""
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary) / "photos"
        photos.mkdir()
        for seed in range(PICTURES):
            to_pil_image(render_scene(seed % 12)[0]).save(photos / f"{seed:02}.jpg")
        (photos / "00.jpg").write_text("no picture")
        run(photos, Path(temporary) / "quiet", "local").wait()
        expected = list(read_rows(Path(temporary) / "quiet"))
        for seed in range(int(rounds)):
            dice, out = random.Random(seed), Path(temporary) / f"out {seed}"
            log = [kill(photos, out, engine, dice, whom) for whom in ("the command", "a worker")]
            status = run(photos, out, engine).wait()  # 1, since one picture is none
            equal = status == 1 and list(read_rows(out)) == expected
            wrong += not equal
            rows = "equal" if equal else f"DIFFER, or the last run did not finish: exit status {status}"
            print(f"{engine}, round {seed}: {'; '.join(log)}; rows {rows}", flush=True)
    return wrong


def run(photos: Path, out: Path, engine: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "segutils.folder", photos, out, "--engine", engine, "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def kill(photos: Path, out: Path, engine: str, dice: random.Random, whom: str) -> str:
    """Start the command, kill it or one of its workers when so many parts are there and so much time has gone by."""
    process = run(photos, out, engine)
    parts = count_parts(out) + dice.randint(0, 5)
    while process.poll() is None and count_parts(out) < parts:
        wait(process, 0.02)
    wait(process, dice.uniform(0, 0.5))
    victims = [psutil.Process(process.pid)] if process.poll() is None else []
    below = victims[0].children(recursive=True) if victims else []
    if whom == "a worker":
        # Ray's actors are called by what they do; here, they are all the processes below the command.
        victims = [one for one in below if engine == "local" or "_Actor" in name(one)]
    if not victims:
        process.wait()
        return f"{whom} was gone already"
    dice.choice(victims).kill()
    said = f"{whom} killed at {count_parts(out)} parts"
    if whom == "the command":
        process.wait()
        left = psutil.wait_procs(below, timeout=60)[1]
        return said + (f", {len(left)} PROCESSES LEFT" if left else ", its processes ended")
    return f"{said}, exit status {process.wait()}"


def count_parts(out: Path) -> int:
    return len(list(out.glob("run-*/part-*.jsonl")))


def wait(process: subprocess.Popen, seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
