"""What every reader makes of a file: pictures, the things in them, and problems."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segutils.rle import RLE


@dataclass(frozen=True)
class Problem:
    """Something in a file that cannot be used, and so was left out. `print(problem)` says it in a sentence or two."""

    file: str
    """The file it stands in."""
    annotation: str
    """Where in it: "annotation 12", "shapes[3]", "line 7"; "" where it is about a picture or the whole file."""
    field: str
    """The name of the field: "segmentation", "imagePath"."""
    wrong: str
    """What is wrong, with the value."""
    remedy: str
    """What to do."""
    kind: str
    """In a word: "picture" (missing, unreadable, twice), "size", "class", "shape" (makes no mask), "outside",
    "normalised", "empty" (no pixel), "value" (missing, or of a wrong type), "file" (cannot be read at all)."""

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"'{self.file}'", self.annotation) if part)
        return f"{where}: {self.field} {self.wrong}. {self.remedy}"


class Fault(ValueError):
    """Raised where an annotation, a picture or a file cannot be used. `noting` turns it into a `Problem`."""

    def __init__(self, kind: str, field: str, wrong: str, remedy: str) -> None:
        super().__init__(f"{field} {wrong}. {remedy}")
        self.kind, self.field, self.wrong, self.remedy = kind, field, wrong, remedy

    def at(self, file: Path, annotation: str = "") -> Problem:
        return Problem(str(file), annotation, self.field, self.wrong, self.remedy, self.kind)


@contextmanager
def noting(problems: list[Problem], file: Path, annotation: str = "") -> Iterator[None]:
    """Note a fault that is found within, and go on behind."""
    try:
        yield
    except Fault as fault:
        problems.append(fault.at(file, annotation))


@dataclass
class Thing:
    """One annotation: a thing, or a crowd of things. All places are in pixels of the upright picture, as in boxes."""

    name: str
    """The name of its class."""
    where: str
    """Where it stands in the file: "annotation 12", "shapes[3]"."""
    rle: RLE
    """Its mask."""
    polygons: list[np.ndarray] | None = None
    """Its outlines, as in the file, each float [P, 2], x and y: the mask is all that lies in one of them. Circles and
    ellipses have been made polygons. None where the file has a mask."""
    crowd: bool = False
    box: list[float] | None = None
    """x, y, width, height, where the file says so."""
    area: float | None = None
    """In pixels, where the file says so."""


@dataclass
class Picture:
    """A picture and what is in it."""

    path: Path
    """Of the picture; of the file of annotations where that holds the picture."""
    name: str
    """As the file of annotations calls it."""
    size: tuple[int, int]
    """Height and width, upright."""
    source: Path
    """The file of annotations."""
    image_id: int | None = None
    """The number of the picture in COCO's file, else counted from 1."""
    embedded: bool = False
    """Whether the picture is inside the file of annotations."""
    orientation: int = 1
    """The EXIF orientation, 5 to 8, where the annotations were made on the picture before it was turned upright, and
    have been turned as well; else 1."""
    things: list[Thing] = field(default_factory=list)

    @property
    def drawn_size(self) -> tuple[int, int]:
        """Height and width of the picture as it was when the annotations were made."""
        return self.size if self.orientation == 1 else self.size[::-1]


@dataclass
class Reading:
    """What a reader returns. `categories`: the names of the classes, where the file lists them. `masks`: files that are
    pictures, but of masks."""

    pictures: list[Picture]
    categories: list[str] | None = None
    masks: list[Path] = field(default_factory=list)


_NOTHING: Any = object()


def get(record: Any, key: str, kind: type | tuple[type, ...], default: Any = _NOTHING) -> Any:
    """A value of a record, of the type it should have; `default` where it is missing or None.

    Raises `Fault` when it is missing, or of another type.
    """
    if not isinstance(record, dict):
        raise Fault("value", key, f"should be in a record, but there is {short(record)}", "Export it again.")
    value = record.get(key)
    if value is None and default is not _NOTHING:
        return default
    if value is None:
        raise Fault("value", key, "is missing", "Export the annotations again, with all their fields.")
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(_KINDS[one] for one in kinds)
        raise Fault("value", key, f"is {short(value)}", f"It should be {wanted}.")
    return value


_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a record",
}


def get_number(record: Any, key: str, low: float = -math.inf) -> float:
    """A finite number of a record, at least `low`."""
    value = get(record, key, (int, float))
    return check_number(value, key, low)


def check_number(value: float, key: str, low: float = -math.inf) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < low:
        least = f" from {low:g} up" if math.isfinite(low) else ""
        raise Fault("value", key, f"is {short(value)}", f"It should be a finite number{least}.")
    return number


def get_size(record: Any, height: str, width: str) -> tuple[int, int] | None:
    """The height and width that a record states, or None where it does not."""
    sides = [get(record, key, (int, float), default=None) for key in (height, width)]
    if None in sides:
        return None
    sides = [check_number(side, key, low=1) for side, key in zip(sides, (height, width))]
    return int(sides[0]), int(sides[1])


def is_crowd(value: Any) -> bool:
    """Whether a field that marks crowds says yes; tools write 1, true, "1" or "true"."""
    return value in (1, True) or isinstance(value, str) and value.strip().lower() in ("1", "true", "yes")


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 1e30 else "a very large number"
    return text if len(text) <= 60 else text[:57] + "..."
