"""COCO's JSON: one file for all pictures, masks as polygons or RLEs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segutils.annotations.files import read_json
from segutils.annotations.pictures import Finder, make_picture
from segutils.annotations.records import (
    Fault,
    Picture,
    Problem,
    Reading,
    check_number,
    get,
    get_number,
    get_size,
    is_crowd,
    noting,
    short,
)
from segutils.annotations.shapes import Piece, check_name, check_rle, make_thing, polygon

KEYS = ("images", "annotations", "categories")

MAX_ID = 10_000
"""The highest id of a category: labels are these ids, and the list of names is as long."""


def read_coco(
    path: Path, finder: Finder, problems: list[Problem], categories: Sequence[str] | None = None
) -> Reading:
    coco = read_json(path)
    missing = [key for key in KEYS if not isinstance(coco, dict) or not isinstance(coco.get(key), list)]
    if missing:
        raise ValueError(
            f"'{path}' is not in COCO's format: it has no list of {' and no list of '.join(missing)}."
        )
    names = _read_categories(path, coco["categories"], problems)
    categories = ["__background__"] + [names.get(n, "N/A") for n in range(1, max(names, default=0) + 1)]

    pictures: dict[Any, Picture | None] = {}  # by id; None where the picture cannot be used
    for number, image in enumerate(coco["images"]):
        where = f"images[{number}]"
        with noting(problems, path, where):
            key = get(image, "id", (int, str))
            if key in pictures:
                raise Fault("value", "id", f"is {short(key)}, as of another picture", "Give each its own id.")
            pictures[key] = None
            name, stated = get(image, "file_name", str), get_size(image, "height", "width")
            file = finder.find(name, "file_name")
            pictures[key] = make_picture(file, name, path, "file_name", stated)
    usable = [(key, picture) for key, picture in pictures.items() if picture]
    if all(isinstance(key, int) for key, _ in usable):
        for key, picture in usable:
            picture.image_id = key

    for number, annotation in enumerate(coco["annotations"]):
        said = annotation.get("id") if isinstance(annotation, dict) else None
        where = f"annotations[{number}]" if said is None else f"annotation {short(said)}"
        with noting(problems, path, where):
            key = get(annotation, "image_id", (int, str))
            if key not in pictures:
                raise Fault(
                    "value",
                    "image_id",
                    f"is {short(key)}, which is not in the file",
                    'Give it the id of one of the "images".',
                )
            label = get(annotation, "category_id", int)
            if label not in names:
                raise Fault(
                    "class",
                    "category_id",
                    f"is {short(label)}, which is not in the file",
                    f"The categories are {_listed(names)}.",
                )
            picture = pictures[key]
            if picture is None:
                continue  # the picture's own problem is noted
            pieces = _read_segmentation(annotation, picture)
            box, area = None, None
            with noting(problems, path, where):  # without these the thing can still be used
                box = _read_box(annotation)
            with noting(problems, path, where):
                area = get_number(annotation, "area", 0) if annotation.get("area") is not None else None
            crowd = is_crowd(annotation.get("iscrowd"))
            thing = make_thing(picture, names[label], pieces, where, "segmentation", crowd, box, area)
            picture.things.append(thing)
    return Reading([picture for _, picture in usable], categories)


def _read_categories(path: Path, categories: list, problems: list[Problem]) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, category in enumerate(categories):
        where = f"categories[{number}]"
        with noting(problems, path, where):
            label, name = get(category, "id", int), get(category, "name", str)
            if label in names:
                raise Fault("class", "id", f"is {label}, that of {names[label]!r} too", "Number them anew.")
            if label == 0 and name.lower() in ("background", "__background__", "_background_"):
                continue  # some tools list it
            if not 1 <= label <= MAX_ID:
                raise ValueError(
                    f"'{path}': the category '{name}' has the id {short(label)}, but labels start at 1, since 0 is the "
                    f"background, and end at {MAX_ID}. Number the categories from 1."
                )
            names[label] = check_name(name, "name")
    return names


def _listed(names: dict[int, str]) -> str:
    listed = [f"{number} ({name})" for number, name in sorted(names.items())]
    return ", ".join(listed[:10]) + (", ..." if len(listed) > 10 else "")


def _read_segmentation(annotation: dict, picture: Picture) -> Sequence[Piece]:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return [check_rle(segmentation, picture.drawn_size, "segmentation")]
    if not isinstance(segmentation, list) or not segmentation:
        is_box = " The annotation is a box alone." if annotation.get("bbox") else ""
        raise Fault(
            "shape",
            "segmentation",
            f"is {short(segmentation)}",
            f"It should be an RLE, or polygons: draw the thing's outline.{is_box}",
        )
    if not any(isinstance(ring, list) for ring in segmentation):
        segmentation = [segmentation]  # a single polygon without its brackets
    return [polygon(ring, "segmentation") for ring in segmentation]


def _read_box(annotation: dict) -> list[float] | None:
    box = annotation.get("bbox")
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or not {type(value) for value in box} <= {int, float}:
        raise Fault("value", "bbox", f"is {short(box)}", "It should be x, y, width, height.")
    box = [check_number(value, "bbox") for value in box]
    if min(box[2:]) <= 0:
        raise Fault(
            "value",
            "bbox",
            f"is {short(box)}, without width or height",
            "It should be x, y, width, height; the box around the mask is taken instead.",
        )
    return box
