"""JSON of the VGG Image Annotator, VIA 2 and VIA 3: one file for all pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segutils.annotations.files import read_json
from segutils.annotations.pictures import Finder, make_picture
from segutils.annotations.records import (
    Fault,
    Picture,
    Problem,
    Reading,
    get,
    get_number,
    is_crowd,
    noting,
    short,
)
from segutils.annotations.shapes import ellipse, make_thing, polygon, rectangle

CLASS_ATTRIBUTES = ("class", "label", "category", "name", "type", "object")
"""What people call the attribute that holds the class, where regions have several."""

CROWD_ATTRIBUTES = ("iscrowd", "is_crowd", "crowd")

POINT, RECTANGLE, CIRCLE, ELLIPSE, LINE, POLYLINE, POLYGON, EXTREME_RECTANGLE, EXTREME_CIRCLE = range(1, 10)
"""The shapes of VIA 3, by the first number of a region."""


def read_via(
    path: Path, finder: Finder, problems: list[Problem], categories: Sequence[str] | None = None
) -> Reading:
    record = read_json(path)
    if not isinstance(record, dict):
        raise ValueError(f"'{path}' is not in VIA's format: it holds {short(record)}.")
    if isinstance(record.get("metadata"), dict) and isinstance(record.get("view"), dict):
        return _read_3(path, record, finder, problems)
    return _read_2(path, record, finder, problems)


def _read_2(path: Path, project: dict, finder: Finder, problems: list[Problem]) -> Reading:
    """A project, or the annotations alone, which are a part of it."""
    files = project.get("_via_img_metadata", project)
    attributes = project.get("_via_attributes")
    defined = attributes.get("region") if isinstance(attributes, dict) else None
    if not isinstance(files, dict) or not any(isinstance(f, dict) and "regions" in f for f in files.values()):
        raise ValueError(f"'{path}' is not in VIA's format: it has no pictures with \"regions\".")
    pictures = []
    for key, file in files.items():
        with noting(problems, path, short(key)):
            name, regions = get(file, "filename", str), get(file, "regions", (list, dict))
            picture = make_picture(finder.find(name, "filename"), name, path, "filename")
            pictures.append(picture)
            for number, region in regions.items() if isinstance(regions, dict) else enumerate(regions):
                where = f"{name}, regions[{number}]"
                with noting(problems, path, where):
                    said = get(region, "region_attributes", dict)
                    points = _shape_2(get(region, "shape_attributes", dict))
                    _add(picture, _texts(said, defined), points, where)
    return Reading(pictures)


def _shape_2(shape: dict) -> np.ndarray:
    kind = get(shape, "name", str)

    def number(key: str) -> float:
        return get_number(shape, key)

    if kind == "polygon":
        xs, ys = get(shape, "all_points_x", list), get(shape, "all_points_y", list)
        if len(xs) != len(ys):
            raise Fault(
                "shape", "all_points_x", f"are {len(xs)}, and all_points_y {len(ys)}", "Draw it again."
            )
        return polygon([value for point in zip(xs, ys) for value in point], "all_points_x")
    if kind == "rect":
        x, y = number("x"), number("y")
        return rectangle(x, y, x + number("width"), y + number("height"))
    if kind == "circle":
        return ellipse(number("cx"), number("cy"), number("r"), number("r"))
    if kind == "ellipse":
        theta = number("theta") if shape.get("theta") is not None else 0
        return ellipse(number("cx"), number("cy"), number("rx"), number("ry"), theta)
    raise _no_inside("name", kind)


def _read_3(path: Path, project: dict, finder: Finder, problems: list[Problem]) -> Reading:
    files, views = get(project, "file", dict, default={}), project["view"]
    defined = {
        key: one for key, one in get(project, "attribute", dict, default={}).items() if isinstance(one, dict)
    }
    pictures: dict[str, Picture] = {}  # by the key of their view
    for key, view in views.items():
        with noting(problems, path, f"view {short(key)}"):
            numbers = get(view, "fid_list", list)
            if len(numbers) != 1:
                raise Fault(
                    "value", "fid_list", f"names {len(numbers)} files", "Show one picture in each view."
                )
            file = get(files, str(numbers[0]), dict)
            if file.get("type", 2) != 2:
                raise Fault(
                    "picture",
                    "type",
                    f"of {short(file.get('fname'))} is no picture's (a video or sound)",
                    "Save the frames as pictures, and label those.",
                )
            name = get(file, "fname", str)
            pictures[key] = make_picture(finder.find(name, "fname"), name, path, "fname")
    for key, one in project["metadata"].items():
        where = f"metadata {short(key)}"
        with noting(problems, path, where):
            view = str(get(one, "vid", (str, int)))
            if view not in views:
                raise Fault("value", "vid", f"is {short(view)}, which is no view of the file", "Delete it.")
            if view not in pictures:
                continue  # the picture's own problem is noted
            said = {
                get(defined.get(number), "aname", str, default=number) if number in defined else number: value
                for number, value in get(one, "av", dict).items()
            }
            by_name = {get(a, "aname", str, default=number): a for number, a in defined.items()}
            points = _shape_3(get(one, "xy", list))
            _add(pictures[view], _texts(said, by_name), points, f"{pictures[view].name}, {where}")
    return Reading(list(pictures.values()))


def _shape_3(numbers: list) -> np.ndarray:
    if not numbers:
        raise Fault(
            "shape", "xy", "is empty: it is about the whole picture", "Draw a region, or ignore this."
        )
    kind, *values = numbers
    if kind == POLYGON:
        return polygon(values, "xy")
    shapes: dict[Any, tuple[int, Callable[..., np.ndarray]]] = {
        RECTANGLE: (4, lambda x, y, width, height: rectangle(x, y, x + width, y + height)),
        CIRCLE: (3, lambda cx, cy, r: ellipse(cx, cy, r, r)),
        ELLIPSE: (4, ellipse),
        EXTREME_RECTANGLE: (8, lambda *v: rectangle(min(v[::2]), min(v[1::2]), max(v[::2]), max(v[1::2]))),
        EXTREME_CIRCLE: (6, _circle_through),
    }
    if not isinstance(kind, int) or kind not in shapes:
        raise _no_inside("xy", kind)
    count, make = shapes[kind]
    if len(values) != count:
        raise Fault("shape", "xy", f"has {len(values)} numbers, not {count}", "Draw it again.")
    return make(*[get_number({"xy": value}, "xy") for value in values])


def _circle_through(x1: float, y1: float, x2: float, y2: float, x3: float, y3: float) -> np.ndarray:
    """The circle through three points."""
    (bx, by), (cx, cy) = (x2 - x1, y2 - y1), (x3 - x1, y3 - y1)
    double = 2 * (bx * cy - by * cx)
    if abs(double) < 1e-9:
        raise Fault("empty", "xy", "is a circle through points on one line", "Draw it again.")
    x = (cy * (bx * bx + by * by) - by * (cx * cx + cy * cy)) / double
    y = (bx * (cx * cx + cy * cy) - cx * (bx * bx + by * by)) / double
    radius = (x * x + y * y) ** 0.5
    return ellipse(x1 + x, y1 + y, radius, radius)


def _no_inside(field: str, kind: Any) -> Fault:
    return Fault(
        "shape",
        field,
        f"is {short(kind)}, which has no inside",
        "Draw it as a polygon, a rectangle, a circle or an ellipse.",
    )


def _texts(said: dict, defined: Any) -> dict[str, str]:
    """The attributes of a region that say something. Of options, the text that a person chose."""
    texts = {}
    for key, value in said.items():
        about = defined.get(key) if isinstance(defined, dict) else None
        options = about.get("options") if isinstance(about, dict) else None
        if isinstance(value, dict):  # boxes that were ticked
            value = ",".join(str(option) for option, ticked in value.items() if ticked)
        if isinstance(value, int) and not isinstance(value, bool):
            value = short(value)
        if isinstance(options, dict) and isinstance(options.get(value), str) and options[value].strip():
            value = options[value]
        if isinstance(value, str) and value.strip():
            texts[str(key)] = value.strip()
    return texts


def _add(picture: Picture, said: dict[str, str], points: np.ndarray, where: str) -> None:
    crowd = any(is_crowd(said.get(key)) for key in CROWD_ATTRIBUTES)
    said = {key: value for key, value in said.items() if key not in CROWD_ATTRIBUTES}
    likely = [key for wanted in CLASS_ATTRIBUTES for key in said if key.lower() == wanted]
    if not said:
        raise Fault(
            "class",
            "region_attributes",
            "name no class",
            f'Give the region an attribute, "{CLASS_ATTRIBUTES[0]}".',
        )
    if len(said) > 1 and not likely:
        raise Fault(
            "class",
            "region_attributes",
            f"are {short(', '.join(said))}, and none of these names is a class's",
            f'Call the attribute with the class "{CLASS_ATTRIBUTES[0]}".',
        )
    picture.things.append(make_thing(picture, said[(likely or [*said])[0]], [points], where, "points", crowd))
