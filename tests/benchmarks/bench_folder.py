"""A folder of pictures by one worker and by two, here and on Ray; and where one worker's time goes.

`python3 run.py bench -k folder` prints the tables, and writes them to data/folder.csv, which notebook 12b reads. It
needs two idle cores, a quarter of an hour, and Ray for its lines (`pip install -e ".[ray]"`). The rates are steady
ones, without the start and the end of a run: those of the parts that were finished between the time at which every
worker had finished some, and the last.
"""

import csv
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from segutils import DATA_DIR, load_image, load_model, predict, render_scene, segment_folder
from segutils.folder import read_rows
from segutils.folder.engines import Blocks
from segutils.folder.results import describe_instances
from segutils.inference import prepare_images

SIZES = {"640 x 480": ((480, 640), 240), "12 megapixels": ((3000, 4000), 48)}
DIFFERENT = 24  # scenes that are drawn; the files of a folder are these, over and over
FEW = 16  # of these, where they're done again and again
TINY = 5000
TABLE = DATA_DIR / "folder.csv"
COLUMNS = ("question", "pictures", "what", "milliseconds a picture", "pictures with other finds")


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


def write_down(question: str, rows: list[tuple]) -> None:
    """Put rows into the table, in place of those it has for the question."""
    kept = []
    if TABLE.exists():
        with TABLE.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.reader(file) if row[0] not in ("question", question)]
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(kept, key=lambda row: row[0]) + [(question, *row) for row in rows])


def test_stages(tmp_path):
    """Where one worker's time goes. It's processor time on one thread: other work on the machine hardly counts."""
    model, weights = load_model("tabletop", device="cpu")
    torch.set_num_threads(1)
    print("\n\n| pictures | stage | milliseconds a picture, median |\n|---|---|---|")
    rows = []
    for name, (size, _) in SIZES.items():
        took = defaultdict(list)
        for path in sorted(make_folder(tmp_path / name, size, DIFFERENT).iterdir()):
            marks = [time.process_time()]
            image = load_image(path)
            marks.append(time.process_time())
            prepare_images(model, [image])
            marks.append(time.process_time())
            [found] = predict(model, [image], 0.5)  # prepares once more, which is taken off below
            marks.append(time.process_time())
            json.dumps(describe_instances(found, weights.meta["categories"]))
            marks.append(time.process_time())
            decode, prepare, network, after = (b - a for a, b in zip(marks, marks[1:]))
            for stage, seconds in zip(
                ("decode", "prepare", "network", "describe"), (decode, prepare, network - prepare, after)
            ):
                took[stage].append(1000 * seconds)
        rows += [(name, stage, f"{statistics.median(values[2:]):.1f}", "") for stage, values in took.items()]
        for row in rows[-4:]:
            print("|", " | ".join(row[:3]), "|")
    write_down("stages", rows)


def test_one_process():
    """What one process can do to be faster: all in turns, the best of four times each, and what it changes."""
    model, _ = load_model("tabletop", device="cpu")
    last, _ = load_model("tabletop", device="cpu")
    last.to(memory_format=torch.channels_last)
    images = [render_scene(number)[0] for number in range(FEW)]

    def run_all(network=model, batch=1, threads=1, half=False):
        torch.set_num_threads(threads)
        try:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                starts = range(0, FEW, batch)
                return [
                    one for start in starts for one in predict(network, images[start : start + batch], 0.5)
                ]
        finally:
            torch.set_num_threads(1)

    ways = {
        "one thread": {},
        "two threads": {"threads": 2},
        "batches of 2": {"batch": 2},
        "batches of 8": {"batch": 8},
        "channels last": {"network": last},
        "bfloat16": {"half": True},
    }
    best, finds = dict.fromkeys(ways, float("inf")), {}
    for _ in range(5):  # the first time warms up
        for way, options in ways.items():
            began = time.perf_counter()
            found = run_all(**options)
            if way in finds:
                best[way] = min(best[way], time.perf_counter() - began)
            finds[way] = [[one["labels"].tolist(), one["scores"].tolist()] for one in found]
    print(f"\n\n| way | milliseconds a picture | pictures of {FEW} with other finds |\n|---|---|---|")
    rows = []
    for way, seconds in best.items():
        others = sum(a != b for a, b in zip(finds[way], finds["one thread"]))
        rows.append(("640 x 480", way, f"{1000 * seconds / FEW:.1f}", str(others)))
        print("|", " | ".join(rows[-1][1:]), "|")
    write_down("one process", rows)


def test_engines(tmp_path):
    ways = [("local", 1), ("local", 2)]
    try:
        import ray  # noqa: F401

        ways += [("ray", 1), ("ray", 2)]
    except ModuleNotFoundError:
        print("\nRay isn't installed: its lines are missing.")
    print("\n\n| pictures | engine | workers | pictures a second | start | quicker than local 1 from |")
    print("|---|---|---|---|---|---|")
    busy, table = [], []
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
            table.append((name, f"{engine} {workers}", f"{1000 / rate:.1f}", "0"))
        print(f"local 2 / local 1: {measured['local', 2][0] / measured['local', 1][0]:.2f} (bar: 1.7)")
        if ("ray", 2) in measured:
            print(f"Ray 2 / local 2: {measured['ray', 2][0] / measured['local', 2][0]:.2f} (bar: 0.9)")
    write_down("engines", table)
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
