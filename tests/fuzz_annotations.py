"""Broken files of annotations, thousands of them, through load_annotations. `python tests/fuzz_annotations.py COUNT`
prints a report in JSON.

They are made from small whole ones, one of each format, by a random number generator with a seed: bytes are changed,
the end is cut off, parts are repeated, or a value is exchanged for one that nobody expects there.
"""

import json
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import test_readers as make
from fuzz import most_memory

from segutils import load_annotations
from segutils.images import ImageLoadError

# What is written in place of a value. Some are valid in JSON alone, some in XML or text alone.
VALUES = [
    *(
        "null",
        "true",
        "-1",
        "0",
        "1",
        "2.5",
        "1e9",
        "1e400",
        "NaN",
        "-Infinity",
        "9" * 400,
        "[]",
        "{}",
        '""',
        '"a"',
    ),
    *(
        "[[]]",
        "[[1, 2], [3]]",
        '{"size": [1000000, 1000000], "counts": [1]}',
        '"../../etc/passwd"',
        '"\\u0000"',
    ),
    *(
        '"C:\\\\a.png"',
        "[" * 3000,
        '"' + "a/" * 3000 + '"',
        "[2305843009213693952, 6917529027641081856]",
        "&#0;",
    ),
    *(
        '{"size": [16, 24], "counts": "oooooooooo1"}',
        "\u20ac",
        "1" * 17,
        "-0.0",
        '"<"',
        "1,2;3,4;5,1e7",
        "16777217",
    ),
]


def whole_files(folder: Path) -> dict[str, Path]:
    """A folder for each format, with a picture: format -> what to load."""
    paths = {}
    for name in ("coco", "labelme", "via 2", "via 3", "cvat", "yolo", "masks"):
        place = folder / name.replace(" ", "_")
        make.draw(place / "a.png")
        paths[name] = place
    mask = make.png(make.DONUT[4:13, 10:19])
    make.labelme(
        paths["labelme"],
        make.shape(),
        make.shape("key", [[8, 5], [2, 1]], "rectangle"),
        make.shape("coin", [[12, 8], [12, 3]], "circle"),
        make.shape("donut", [[10, 4], [18, 12]], "mask", mask=mask),
        make.shape(group_id=3, flags={"iscrowd": True}),
    )
    made = load_annotations(paths["labelme"])
    coco = made.to_coco()
    coco["annotations"][0]["segmentation"] = {"size": [16, 24], "counts": [17, 30, 337]}
    (paths["coco"] / "coco.json").write_text(json.dumps(coco, indent=1), "utf-8")
    make.via_2(
        paths["via 2"],
        make.region(),
        make.region("rect", x=2, y=1, width=6, height=4),
        make.region("ellipse", cx=12, cy=8, rx=5, ry=2, theta=1.5),
        _via_attributes={"region": {"label": {"type": "radio", "options": {"cup": "", "key": ""}}}},
    )
    make.via_3(paths["via 3"])
    make.cvat(
        paths["cvat"],
        '<polygon label="cup" points="2.0,1.0;8.0,1.0;8.0,5.0;2.0,5.0" group_id="2"/>'
        '<box label="key" xtl="3" ytl="0" xbr="7" ybr="6" rotation="90"/>'
        '<ellipse label="cup" cx="12" cy="8" rx="5" ry="2"/>'
        '<mask label="donut" left="10" top="4" width="4" height="4" rle="3, 5, 8"/>',
    )
    (paths["yolo"] / "a.txt").write_text(f"1 {make.LINE}\n0 {make.LINE}\n")
    (paths["yolo"] / "data.yaml").write_text("names:\n  0: cup\n  1: key\n")
    make.save_mask(paths["masks"] / "a_mask.png", make.numbered(make.DONUT, make.box_mask(2, 1, 8, 5)))
    return paths


def change_bytes(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice([1, 2, 8, 64])):
        changed[random.integers(len(changed))] = random.integers(256)
    return bytes(changed)


def cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(len(content))]


def repeat_or_drop(content: bytes, random: np.random.Generator) -> bytes:
    start, end = sorted(random.integers(len(content), size=2))
    return content[:end] + content[start:] if random.random() < 0.5 else content[:start] + content[end:]


def exchange_values(content: bytes, random: np.random.Generator) -> bytes:
    """One or two values, in JSON, XML or text, become others; in binary files some bytes."""
    for _ in range(random.choice([1, 2])):
        spots = [*re.finditer(rb'(?<=: )[^,\n\]}]+|(?<=[\[,] )-?[\d.]+|(?<==")[^"]*|(?<= )[\d.]+', content)]
        if not spots or not content.isascii():
            return change_bytes(content, random)
        spot = spots[random.integers(len(spots))]
        value = VALUES[random.integers(len(VALUES))].encode()
        content = content[: spot.start()] + value + content[spot.end() :]
    return content


MUTATIONS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    *(exchange_values, change_bytes, exchange_values, cut, exchange_values, repeat_or_drop),
)


def report(count: int) -> dict:
    """Put `count` broken files through load_annotations, and tell what came of them."""
    outcomes, wrong, slowest, hungriest = Counter(), [], (0.0, ""), (0, "")
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        paths = whole_files(Path(folder))
        whole = {
            name: {file: file.read_bytes() for file in path.iterdir() if file.name != "a.png"}
            for name, path in paths.items()
        }
        for path in paths.values():
            len([*load_annotations(path)])  # what happens once in a process is done
        before = process.memory_info().rss
        for number in range(count):
            name = list(paths)[number % len(paths)]
            random = np.random.default_rng(number)
            mutate = MUTATIONS[number // len(paths) % len(MUTATIONS)]
            file, content = [*whole[name].items()][random.integers(len(whole[name]))]
            what = f"{number}: {name}, {mutate.__name__}"
            broken = mutate(content, random)
            file.write_bytes(broken)
            start = time.process_time()  # work, not waiting: a busy machine changes nothing
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    named = None if random.random() < 0.5 else name.split()[0]
                    annotations = load_annotations(paths[name], format=named)
                    for problem in annotations.problems:
                        if folder not in str(problem) or not problem.remedy or not problem.wrong:
                            wrong.append(f"{what}: {problem}")
                    outcomes["problems"] += len(annotations.problems) > 0
                    outcomes["things"] += sum(len(picture.things) for picture in annotations.pictures)
                    for _, target in annotations:
                        if not target["masks"].flatten(1).any(1).all() or (target["labels"] < 1).any():
                            wrong.append(f"{what}: a thing without pixels or class")
                    json.dumps(annotations.to_coco())
                outcomes["annotations"] += 1
            except (ValueError, ImageLoadError) as error:
                if folder not in str(error) or type(error) not in (ValueError, ImageLoadError):
                    wrong.append(f"{what}: {type(error).__name__}: {error}")
                outcomes["error"] += 1
            except BaseException as error:  # noqa: BLE001
                wrong.append(f"{what}: {type(error).__name__}: {error}")
            slowest = max(slowest, (time.process_time() - start, what))
            hungriest = max(hungriest, (most_memory(process) - before, what), key=lambda entry: entry[0])
            file.write_bytes(content)
    return {"outcomes": dict(outcomes), "wrong": wrong, "slowest": slowest, "hungriest": hungriest}


if __name__ == "__main__":
    print(json.dumps(report(int(sys.argv[1]))))
