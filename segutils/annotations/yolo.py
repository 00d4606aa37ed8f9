"""Text files of YOLO's segmentation: one for each picture, a line for each thing, in shares of width and height."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segutils.annotations.coco import MAX_ID
from segutils.annotations.files import read_text
from segutils.annotations.pictures import Finder, make_picture
from segutils.annotations.records import Fault, Picture, Problem, Reading, noting, short
from segutils.annotations.shapes import BACKGROUND, make_thing, polygon

NAMES = ("classes.txt", "obj.names", "labels.txt")
"""Files with the name of a class on each line."""


def read_yolo(
    path: Path, finder: Finder, problems: list[Problem], categories: Sequence[str] | None = None
) -> Reading:
    """The names are those in data.yaml, classes.txt or obj.names, there or in the two folders above; else `categories`,
    without the background."""
    names = _find_names(path if path.is_dir() else path.parent, problems)
    if names is None and categories is not None:
        names = list(categories[1:])
    pictures, highest = [], -1
    for file in list_labels(path):
        with noting(problems, file):
            try:
                lines = read_text(file).splitlines()
            except (OSError, ValueError) as error:
                said = str(error).removeprefix(f"'{file}' ").rstrip(".")
                raise Fault("file", "", said, "Mend the file, or delete it.") from error
            parts = file.relative_to(path).with_suffix("").parts if file != path else (file.stem,)
            parts = ["images" if part == "labels" else part for part in parts]
            found = finder.find_stem(parts, file.stem, "the picture")
            picture = make_picture(found, found.name, file, "the picture")
            pictures.append(picture)
            for number, line in enumerate(lines, start=1):
                with noting(problems, file, f"line {number}"):
                    if line.strip():
                        highest = max(highest, _read_line(line, picture, names, f"line {number}"))
    if names is None:
        names = [f"class {number}" for number in range(highest + 1)]
        if names:
            problems.append(
                Fault(
                    "class", "the names", "of the classes are nowhere", "Put a data.yaml beside the files."
                ).at(path)
            )
    names = [name for name in dict.fromkeys(names) if name.lower() not in BACKGROUND]
    return Reading(pictures, ["__background__", *names])


def list_labels(path: Path) -> list[Path]:
    """The files with labels: of a folder, all text files but those with names or lists of pictures."""
    if path.is_file():
        return [path]
    return [file for file in sorted(path.rglob("*.txt")) if file.name not in NAMES and looks_like_yolo(file)]


def looks_like_yolo(file: Path) -> bool:
    """Whether a text file begins with a number of a class and then numbers, or is empty."""
    with file.open("rb") as opened:
        start = opened.read(200)
    return not start.strip() or re.match(rb"\s*\d+(\s+[-+.\deE]+){2,}", start) is not None


def _read_line(line: str, picture: Picture, names: list[str] | None, where: str) -> int:
    """Add the thing, and return its number."""
    number, *values = line.split()
    if not number.isdecimal() or not number.isascii() or len(number) > 6 or int(number) > MAX_ID:
        raise Fault("class", "the class", f"is {short(number)}", "It should be a whole number from 0 up.")
    label = int(number)
    if names is not None and label >= len(names):
        raise Fault(
            "class",
            "the class",
            f"is {label}, and there are {len(names)} names, counted from 0",
            "Add the name, or correct the number.",
        )
    try:
        shares = [float(value) for value in values]
    except ValueError:
        raise Fault(
            "shape", "the points", f"are {short(line)}", "They should be numbers from 0 to 1."
        ) from None
    if len(shares) == 4:
        raise Fault(
            "shape",
            "the points",
            "are a box (x, y, width, height), not an outline",
            "Export the labels for segmentation, not for detection.",
        )
    if len(shares) % 2:
        raise Fault(
            "shape",
            "the points",
            f"are {len(shares)} numbers, one too many for x and y",
            "Is the last one a score? Save predictions without it.",
        )
    points = polygon(shares, "the points")
    if np.abs(points).max() > 1.5:
        raise Fault(
            "normalised",
            "the points",
            f"go up to {points.max():g}",
            "They should be shares of the width and the height, from 0 to 1, not pixels.",
        )
    height, width = picture.size
    name = names[label] if names is not None else f"class {label}"
    picture.things.append(make_thing(picture, name, [points * (width, height)], where, "the points"))
    return label


def _find_names(folder: Path, problems: list[Problem]) -> list[str] | None:
    for place in (folder, *folder.absolute().parents[:2]):
        for file in [place / "data.yaml", *sorted(place.glob("*.yaml")), *(place / name for name in NAMES)]:
            if not file.is_file():
                continue
            try:
                text = read_text(file)
            except (OSError, ValueError) as error:
                fault = Fault("file", "", str(error).removeprefix(f"'{file}' ").rstrip("."), "Mend the file.")
                problems.append(fault.at(file))
                continue
            names = names_in_yaml(text) if file.suffix == ".yaml" else [x.strip() for x in text.splitlines()]
            if names is not None:
                while names and not names[-1]:
                    names.pop()
                return [name or f"class {number}" for number, name in enumerate(names)]
    return None


def names_in_yaml(text: str) -> list[str] | None:
    """The list under `names:` in a data.yaml, in any of the forms it is written in; None where there is none.

    YAML as a whole is not read: this is the only part that matters here.
    """
    found = re.search(
        r"^names[ \t]*:[ \t]*(.*(?:\n(?:[ \t]+.*|[ \t]*-.*|[ \t]*|[\]}].*))*)", text, re.MULTILINE
    )
    if found is None:
        return None
    body = re.sub(r"(^|\s)#.*", "", found[1]).strip()
    if body[:1] in ("[", "{"):
        entries = re.findall(r"""\s*(?:\d+\s*:\s*)?("[^"]*"|'[^']*'|[^,\[\]{}\n]+)""", body[1:])
    else:
        entries = [re.sub(r"^\s*(-|\d+\s*:)\s*", "", line) for line in body.splitlines() if line.strip()]
    numbers = re.findall(r"(?:^|[{,])\s*(\d+)\s*:", body, re.MULTILINE)
    entries = [entry.strip().strip("\"'").strip() for entry in entries]
    entries = [entry for entry in entries if entry]
    if numbers and len(numbers) == len(entries) and max(map(int, numbers)) <= MAX_ID:
        by_number = dict(zip(map(int, numbers), entries))
        return [by_number.get(number, "") for number in range(max(by_number) + 1)]
    return entries
