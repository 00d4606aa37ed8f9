"""LabelMe's JSON: one file for each picture."""

import base64
import binascii
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segutils.annotations.files import read_json
from segutils.annotations.pictures import Finder, make_embedded, make_picture
from segutils.annotations.records import (
    Fault,
    Picture,
    Problem,
    Reading,
    get,
    get_size,
    is_crowd,
    noting,
    short,
)
from segutils.annotations.shapes import (
    Piece,
    check_name,
    ellipse,
    make_thing,
    mask_piece,
    polygon,
    read_png_mask,
    rectangle,
)


def read_labelme(
    path: Path, finder: Finder, problems: list[Problem], categories: Sequence[str] | None = None
) -> Reading:
    """`path`: one file, or a folder with many, in folders of their own too."""
    pictures = []
    for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
        with noting(problems, file):
            try:
                record = read_json(file)
            except (OSError, ValueError) as error:
                if file == path:
                    raise
                said = str(error).removeprefix(f"'{file}' ").rstrip(".")
                raise Fault("file", "", said, "Mend the file, or delete it.") from error
            if not isinstance(record, dict) or not isinstance(record.get("shapes"), list):
                raise Fault("file", "shapes", "are no list", "It is no file of LabelMe's: delete or mend it.")
            picture = _find_picture(file, record, finder, path)
            _read_shapes(file, record["shapes"], picture, problems)
            pictures.append(picture)
    return Reading(pictures)


def _find_picture(file: Path, record: dict, finder: Finder, path: Path) -> Picture:
    """The picture that is named, or one named as the JSON file is, or the one inside the file."""
    stated = get_size(record, "imageHeight", "imageWidth")
    name = get(record, "imagePath", str, default="")
    root = finder.folder if finder.contains(file) else path if path.is_dir() else file.parent
    beside = Path(os.path.relpath(file.parent, root)).as_posix()
    try:
        found = finder.find(f"{beside}/{name}" if ".." not in name else name, "imagePath")
    except Fault as missing:
        data = record.get("imageData")
        if isinstance(data, str) and data:
            return make_embedded(data, name or file.stem, file, "imageData", stated)
        try:
            parts = [*Path(beside).parts, file.stem]
            found = finder.find_stem(parts, name, "imagePath")
        except Fault:
            raise missing from None
    return make_picture(found, name or found.name, file, "imagePath", stated)


def _read_shapes(file: Path, shapes: list, picture: Picture, problems: list[Problem]) -> None:
    groups: dict[Any, list[tuple[int, Piece, bool]]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        with noting(problems, file, f"shapes[{number}]"):
            name = check_name(get(shape, "label", (str, int)))
            group = get(shape, "group_id", (int, str), default=None)
            flags = get(shape, "flags", dict, default={})
            crowd = any(is_crowd(flags.get(key)) for key in ("iscrowd", "is_crowd", "crowd"))
            piece = _read_shape(shape, picture)
            key = (name, f"alone {number}") if group is None else (name, "group", group)
            groups[key].append((number, piece, crowd))
    for (name, *_), pieces in groups.items():
        numbers = [number for number, _, _ in pieces]
        where = ", ".join(f"shapes[{number}]" for number in numbers)
        with noting(problems, file, where):
            crowd = any(crowd for _, _, crowd in pieces)
            thing = make_thing(picture, name, [piece for _, piece, _ in pieces], where, "points", crowd)
            picture.things.append(thing)


def _read_shape(shape: dict, picture: Picture) -> Piece:
    kind = get(shape, "shape_type", str, default="polygon")
    points = get(shape, "points", list)
    if kind in ("polygon", "oriented_rectangle") or kind == "rectangle" and len(points) == 4:
        return polygon(points, "points")
    if kind not in ("rectangle", "circle", "mask"):
        raise Fault(
            "shape",
            "shape_type",
            f"is {short(kind)}, which has no inside",
            "Draw it as a polygon, a rectangle or a circle, or with the brush.",
        )
    if len(points) != 2:
        raise Fault("shape", "points", f"of the {kind} are {len(points)}, not 2", "Draw it again.")
    (x1, y1), (x2, y2) = polygon([*points, points[0]], "points")[:2].tolist()
    if kind == "rectangle":
        return rectangle(x1, y1, x2, y2)
    if kind == "circle":
        radius = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        return ellipse(x1, y1, radius, radius)
    try:
        data = base64.b64decode(get(shape, "mask", str), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Fault("shape", "mask", f"is damaged ({error})", "Draw the mask again.") from error
    mask = read_png_mask(data, "mask")
    rows, columns = mask.shape
    if abs(x2 - x1 + 1 - columns) > 1 or abs(y2 - y1 + 1 - rows) > 1:
        raise Fault(
            "size",
            "mask",
            f"has {columns} x {rows} pixels, and its points, ({x1:g}, {y1:g}) and ({x2:g}, {y2:g}), name others",
            "Draw the mask again.",
        )
    return mask_piece(mask, round(x1), round(y1), picture.drawn_size)
