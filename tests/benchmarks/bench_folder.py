"""A folder of pictures by one worker and by two, here and on Ray.

`python3 run.py bench -k folder` prints the table. It needs two idle cores, a quarter of an hour, and Ray for its lines
(`pip install -e ".[ray]"`). The rates are steady ones, without the start and the end of a run: those of
the parts that were finished between the time at which every worker had finished some, and the last.
"""

import time
from pathlib import Path

import psutil
import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from segutils import render_scene, segment_folder
from segutils.folder import read_rows
from segutils.folder.engines import Blocks

SIZES = {"640 x 480": ((480, 640), 240), "12 megapixels": ((3000, 4000), 48)}
DIFFERENT = 24  # scenes that are drawn; the files of a folder are these, over and over
TINY = 5000


def make_folder(folder: Path, size: tuple[int, int], count: int) -> Path:
    """A folder of drawn scenes as JPEG files, enlarged where the size asks for it."""
    folder.mkdir()
    for number in range(count):
        file = folder / f"{number:04}.jpg"
        if number >= DIFFERENT:
            file.hardlink_to(folder / f"{number % DIFFERENT:04}.jpg")
            continue
        image = render_scene(number)[0]
        if size != (480, 640):
            image = torch.nn.functional.interpolate(image[None].float(), size, mode="bilinear")[0].byte()
        to_pil_image(image).save(file, quality=90)
    return folder


def run(photos: Path, out: Path, engine: str, workers: int) -> tuple[float, float]:
    """Run an engine over a folder. Returns its pictures a second, and the seconds until it was at that rate."""
    began = time.time()
    segment_folder(photos, out, engine=engine, workers=workers)
    parts = sorted(out.glob("run-0001/*.jsonl"), key=lambda part: part.stat().st_mtime)
    finished = [part.stat().st_mtime for part in parts]
    pictures = [part.read_text().count("\n") for part in parts]
    first = 2 * workers - 1  # by then each worker has finished a part, or nearly two
    last = len(parts) - workers  # after it some have nothing left to do
    rate = sum(pictures[first + 1 : last + 1]) / (finished[last] - finished[first])
    return rate, finished[first] - began - sum(pictures[: first + 1]) / rate


def test_engines(tmp_path):
    ways = [("local", 1), ("local", 2)]
    try:
        import ray  # noqa: F401

        ways += [("ray", 1), ("ray", 2)]
    except ModuleNotFoundError:
        print("\nRay isn't installed: its lines are missing.")
    print("\n\n| pictures | engine | workers | pictures a second | start | quicker than local 1 from |")
    print("|---|---|---|---|---|---|")
    busy = []
    for name, (size, count) in SIZES.items():
        photos = make_folder(tmp_path / name, size, count)
        measured, rows = {}, {}
        for engine, workers in ways:
            busy.append(psutil.cpu_percent(2))
            out = tmp_path / f"{name} {engine} {workers}"
            rate, start = measured[engine, workers] = run(photos, out, engine, workers)
            rows[engine, workers] = list(read_rows(out))
            assert rows[engine, workers] == rows["local", 1]
            print(
                f"| {name} | {engine} | {workers} | {rate:.1f} | {start:.1f} s | {pays(measured)} |",
                flush=True,
            )
        print(f"local 2 / local 1: {measured['local', 2][0] / measured['local', 1][0]:.2f} (bar: 1.7)")
        if ("ray", 2) in measured:
            print(f"Ray 2 / local 2: {measured['ray', 2][0] / measured['local', 2][0]:.2f} (bar: 0.9)")
    print(
        f"the rows of all engines are equal; before the runs the processor was {max(busy):.0f} % busy at most"
    )


def pays(measured: dict[tuple[str, int], tuple[float, float]]) -> str:
    """From how many pictures on the last way is quicker than one local worker."""
    (rate, start), (slow, early) = list(measured.values())[-1], measured["local", 1]
    return "" if rate <= slow else f"{max(0, start - early) / (1 / slow - 1 / rate):.0f} pictures"


def test_many_tiny_pictures_in_bounded_memory(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(TINY):
        if number < DIFFERENT:
            picture = to_pil_image(torch.full((3, 24, 32), number, dtype=torch.uint8))
            picture.save(photos / f"{number:04}.png")
        else:
            (photos / f"{number:04}.png").hardlink_to(photos / f"{number % DIFFERENT:04}.png")
    most, process = {}, psutil.Process()
    real = Blocks.take

    def take(blocks):
        for one in [process, *process.children()]:
            most.setdefault(one.pid, []).append(one.memory_info().rss / 1e6)
        return real(blocks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blocks, "take", take)
        segment_folder(photos, tmp_path / "out", workers=2)
    print(f"\n\n{TINY:,} tiny pictures: megabytes of each process after a tenth of them, and at the end")
    for history in most.values():
        early, late = history[len(history) // 10], history[-1]
        print(f"{early:8.0f} {late:8.0f}")
        assert late < early + 100
    assert sum(1 for _ in read_rows(tmp_path / "out")) == TINY
