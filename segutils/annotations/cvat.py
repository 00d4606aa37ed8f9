"""CVAT's XML, "CVAT for images 1.1": one file for all pictures."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from segutils.annotations.files import read_xml
from segutils.annotations.pictures import Finder, make_picture
from segutils.annotations.records import (
    Fault,
    Picture,
    Problem,
    Reading,
    check_number,
    is_crowd,
    noting,
    short,
)
from segutils.annotations.shapes import (
    BACKGROUND,
    Piece,
    check_name,
    ellipse,
    make_thing,
    mask_piece,
    polygon,
    rectangle,
)
from segutils.images import MAX_PIXELS
from segutils.rle import decode_rle


def read_cvat(
    path: Path, finder: Finder, problems: list[Problem], categories: Sequence[str] | None = None
) -> Reading:
    root = read_xml(path)
    if root.tag == "annotation":
        raise ValueError(
            f"'{path}' is in Pascal VOC's format, which has boxes and no masks. VOC's masks are PNG files, in "
            "SegmentationObject."
        )
    if root.tag != "annotations":
        raise ValueError(f"'{path}' is not in CVAT's format: it begins with <{root.tag[:40]}>.")
    if root.find("track") is not None:
        raise ValueError(
            f'\'{path}\' has tracks: it was exported as "CVAT for video". Export it again as "CVAT for images 1.1", '
            "which has the shapes frame by frame."
        )
    pictures = []
    for number, image in enumerate(root.iterfind("image")):
        name = image.get("name", "")
        with noting(problems, path, f"image {image.get('id', number)}"):
            if not name:
                raise Fault("value", "name", "is missing", "Export the annotations again.")
            stated = None
            if image.get("width") and image.get("height"):
                stated = int(_number(image, "height", 1)), int(_number(image, "width", 1))
            picture = make_picture(finder.find(name, "name"), name, path, "name", stated)
            _read_shapes(image, picture, path, problems)
            pictures.append(picture)
    listed = [(name.text or "").strip() for name in root.iterfind("meta//labels/label/name")]
    used = sorted({thing.name for picture in pictures for thing in picture.things})
    names = [name for name in dict.fromkeys(listed + used) if name and name.lower() not in BACKGROUND]
    return Reading(pictures, ["__background__", *names])


def _read_shapes(image: Element, picture: Picture, path: Path, problems: list[Problem]) -> None:
    groups: dict[tuple, list[tuple[str, Piece, bool]]] = defaultdict(list)
    for number, shape in enumerate(image):
        where = f"{picture.name}, {shape.tag[:40]} {number + 1}"
        with noting(problems, path, where):
            name = check_name(shape.get("label"))
            group = shape.get("group_id", "0")
            marks = [a.text for a in shape.iterfind("attribute") if a.get("name") in ("is_crowd", "iscrowd")]
            piece = _read_shape(shape, picture)
            key = (name, "alone", number) if group in ("", "0") else (name, "group", group)
            groups[key].append((where, piece, any(map(is_crowd, marks))))
    for (name, *_), pieces in groups.items():
        where = ", ".join(
            [pieces[0][0], *(place.removeprefix(f"{picture.name}, ") for place, *_ in pieces[1:])]
        )
        with noting(problems, path, where):
            crowd = any(crowd for *_, crowd in pieces)
            thing = make_thing(picture, name, [piece for _, piece, _ in pieces], where, "points", crowd)
            picture.things.append(thing)


def _read_shape(shape: Element, picture: Picture) -> Piece:
    if shape.tag == "polygon":
        said = shape.get("points", "")
        try:
            points = [[float(value) for value in point.split(",")] for point in said.split(";")]
        except ValueError:
            raise Fault("shape", "points", f"is {short(said)}", "It should be x,y;x,y;...") from None
        return polygon(points, "points")
    if shape.tag == "box":
        corners = [_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr")]
        return rectangle(*corners, _rotation(shape))
    if shape.tag == "ellipse":
        numbers = [_number(shape, key) for key in ("cx", "cy", "rx", "ry")]
        return ellipse(*numbers, math.radians(_rotation(shape)))
    if shape.tag == "mask":
        return _read_mask(shape, picture)
    raise Fault(
        "shape",
        "shape",
        f"is a {short(shape.tag)}, which has no inside",
        "Draw it as a polygon, a rectangle or an ellipse, or with the brush.",
    )


def _read_mask(shape: Element, picture: Picture) -> Piece:
    """A mask in a box. Its runs go along the rows, where COCO's go down the columns."""
    left, top, width, height = (int(_number(shape, key)) for key in ("left", "top", "width", "height"))
    if not (0 < width and 0 < height and width * height <= MAX_PIXELS):
        raise Fault("size", "width", f"and height of the mask are {width} x {height}", "Draw the mask again.")
    try:
        counts = [int(count) for count in shape.get("rle", "").split(",")]
        if max(counts) > MAX_PIXELS:
            raise ValueError("a count is too large")
        crop = decode_rle({"size": [width, height], "counts": counts})
    except (ValueError, IndexError, OverflowError) as error:
        raise Fault(
            "shape", "rle", f"is damaged ({str(error).rstrip('.')})", "Draw the mask again."
        ) from error
    return mask_piece(crop.mask.numpy().T, left + crop.top, top + crop.left, picture.drawn_size)


def _rotation(shape: Element) -> float:
    """In degrees, clockwise."""
    return _number(shape, "rotation") if shape.get("rotation") else 0.0


def _number(element: Element, key: str, low: float = -1e9) -> float:
    said = element.get(key)
    try:
        number = float(said)
    except (TypeError, ValueError):
        raise Fault("value", key, f"is {short(said)}", "It should be a number.") from None
    return check_number(number, key, low)
