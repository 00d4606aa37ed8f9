"""From the shapes that tools write to masks. pycocotools fills them all, so that a mask does not depend on the tool."""

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from segutils.annotations.records import Fault, Picture, Thing, check_number, short
from segutils.images import MAX_PIXELS
from segutils.rle import RLE, decode_rle, encode_rle
from segutils.roi_masks import Crop

Piece = np.ndarray | RLE
"""A polygon, float [P, 2], or an RLE: part of a thing, in the coordinates of the file."""

MAX_OUTLINE = 2_000_000
"""The longest outline that is filled, in pixels: pycocotools takes some 100 bytes for each."""

MASK_MODES = ("1", "L", "P", "I", "I;16")
"""Pillow's modes of pictures that have one number for each pixel."""

BACKGROUND = ("__background__", "_background_", "background", "__ignore__")


def polygon(points: Any, field: str) -> np.ndarray:
    """Check points, [[x, y], ...] or [x, y, x, y, ...], and make an array [P, 2] of them. Raises `Fault`."""
    if (
        isinstance(points, list)
        and points
        and all(isinstance(p, list | tuple) and len(p) == 2 for p in points)
    ):
        points = [value for point in points for value in point]
    if (
        not isinstance(points, list)
        or len(points) % 2
        or not {type(value) for value in points} <= {int, float}
    ):
        raise Fault("shape", field, f"is {short(points)}", "It should be a list of x and y of each point.")
    if len(points) < 6:
        count = f"{len(points) // 2} point{'s' * (len(points) != 2)}"
        raise Fault(
            "shape", field, f"has {count}", "A polygon needs three or more: delete it, or draw it again."
        )
    return np.array([check_number(value, field) for value in points]).reshape(-1, 2)


def rectangle(x1: float, y1: float, x2: float, y2: float, degrees: float = 0) -> np.ndarray:
    """Two opposite corners as a polygon; then turned clockwise about its centre."""
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=float)
    return _turned(corners, corners.mean(axis=0), math.radians(degrees))


def ellipse(cx: float, cy: float, rx: float, ry: float, radians: float = 0) -> np.ndarray:
    """An ellipse, turned clockwise about its centre, as a polygon that strays from it by a twentieth of a pixel."""
    radius = max(rx, ry)
    if min(rx, ry) <= 0:
        raise Fault("empty", "radius", f"is {min(rx, ry):g}", "Delete the shape, or draw it again.")
    corners = min(720, max(12, math.ceil(math.pi * math.sqrt(radius / 0.1))))
    angles = np.arange(corners) * (2 * np.pi / corners)
    points = np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], axis=1)
    return _turned(points, np.array([cx, cy]), radians)


def _turned(points: np.ndarray, centre: np.ndarray, radians: float) -> np.ndarray:
    if not radians:
        return points
    cos, sin = math.cos(radians), math.sin(radians)
    return (points - centre) @ np.array(
        [[cos, sin], [-sin, cos]]
    ) + centre  # y runs down, so this is clockwise


def mask_piece(mask: np.ndarray, left: int, top: int, size: tuple[int, int]) -> RLE:
    """A mask bool [h, w] whose corner lies at (left, top), as an RLE of the picture. What lies beyond is cut off."""
    height, width = size
    x, y = max(0, -left), max(0, -top)
    mask = mask[y : max(y, height - top), x : max(x, width - left)]
    crop = Crop(max(left, 0), max(top, 0), torch.from_numpy(np.ascontiguousarray(mask)))
    if 0 in mask.shape:
        crop = Crop(0, 0, torch.zeros(0, 0, dtype=torch.bool))
    return encode_rle([crop], size)[0]


def read_png_mask(data: bytes, field: str) -> np.ndarray:
    """A mask bool [h, w] from the bytes of a picture file: all that is not 0. Raises `Fault`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"it has {picture.width} x {picture.height} pixels")
                if picture.mode not in MASK_MODES:
                    raise ValueError(f"it holds colours (mode {picture.mode})")
                return np.asarray(picture) != 0
    except Exception as error:  # Pillow's decoders raise nearly everything there is on damaged files
        raise Fault(
            "shape", field, f"is no mask that can be read ({error})", "Draw the mask again."
        ) from error


def check_rle(rle: Any, size: tuple[int, int], field: str) -> RLE:
    """Check an RLE of a picture of this size, and write it as text. Raises `Fault`."""
    if not isinstance(rle, dict) or not {"size", "counts"} <= set(rle):
        raise Fault("shape", field, f"is {short(rle)}", 'An RLE is a record with "size" and "counts".')
    sides, counts = rle["size"], rle["counts"]
    if list(sides if isinstance(sides, list | tuple) else ()) != list(size):
        said = short(sides)
        if isinstance(sides, list | tuple) and len(sides) == 2:
            said = f"{sides[1]} x {sides[0]}"[:60]
        raise Fault(
            "size",
            f"{field}.size",
            f"is for {said} pixels, and the picture has {size[1]} x {size[0]} (width x height)",
            "Was the picture resized or turned after it was labelled? Export the annotations again.",
        )
    broken = Fault("shape", f"{field}.counts", "", "Export the annotations again.")
    if isinstance(counts, list):
        if not all(type(count) is int and 0 <= count <= MAX_PIXELS for count in counts):
            broken.wrong = "are not whole numbers from 0 up"
            raise broken
    elif not isinstance(counts, str) or not counts.isascii():
        broken.wrong = f"are {short(counts)}, neither text nor a list of numbers"
        raise broken
    try:
        crop = decode_rle({"size": size, "counts": counts})
    except (ValueError, IndexError, OverflowError) as error:
        broken.wrong = f"are damaged ({str(error).rstrip('.')})"
        raise broken from error
    return encode_rle([crop], size)[0]


def make_thing(
    picture: Picture,
    name: Any,
    pieces: Sequence[Piece],
    where: str,
    field: str,
    crowd: bool = False,
    box: list[float] | None = None,
    area: float | None = None,
) -> Thing:
    """Fill the pieces of a thing. All that lies in one of them belongs to it.

    Args:
        picture: the pieces are in the coordinates of its `drawn_size`.
        name: of the class.
        where, field: for messages.

    Raises `Fault` when the name is none, or the mask would have no pixel.
    """
    name = check_name(name)
    size = picture.drawn_size
    for points in pieces:
        if not isinstance(points, dict):
            _check_outline(points, size, field)
    flat = [p.ravel().tolist() for p in pieces if not isinstance(p, dict)]
    rles = [p for p in pieces if isinstance(p, dict)] + (coco_mask.frPyObjects(flat, *size) if flat else [])
    merged = coco_mask.merge(rles) if rles else None
    if merged is None or coco_mask.area(merged) == 0:
        raise _why_empty(pieces, size, field)
    counts = merged["counts"]
    rle = {"size": list(size), "counts": counts if isinstance(counts, str) else counts.decode("ascii")}
    polygons = None if len(flat) < len(pieces) else list(pieces)
    if picture.orientation != 1:
        if polygons is None:
            rle = _turn_rle(rle, picture)
        else:
            polygons = [_turn_points(points, picture) for points in polygons]
            turned = coco_mask.merge(
                coco_mask.frPyObjects([p.ravel().tolist() for p in polygons], *picture.size)
            )
            rle = {"size": list(picture.size), "counts": turned["counts"].decode("ascii")}
        box = None if box is None else _turn_box(box, picture)
    return Thing(name, where, rle, polygons, crowd, box, area)


def check_name(name: Any, field: str = "label") -> str:
    """The name of a class, without blanks around it. Raises `Fault`."""
    if isinstance(name, int) and not isinstance(name, bool):
        name = short(name)
    if not isinstance(name, str) or not name.strip():
        raise Fault("class", field, f"is {short(name)}", "Give it the name of a class.")
    name = name.strip()
    if name.lower() in BACKGROUND:
        raise Fault(
            "class",
            field,
            f"is {name!r}, and the background needs no mask",
            "Delete the annotation, or give it the name of a class.",
        )
    return name


def _check_outline(points: np.ndarray, size: tuple[int, int], field: str) -> None:
    """Refuse what pycocotools would take too much memory for."""
    height, width = size
    low, high = points.min(axis=0), points.max(axis=0)
    if low.min() < -3 * max(size) - 100 or high.max() > 4 * max(size) + 100:
        raise Fault(
            "outside",
            field,
            f"goes from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}), far beyond the picture of "
            f"{width} x {height} pixels",
            "Was it drawn on another picture, or on a larger copy? Draw it again.",
        )
    length = np.abs(points - np.roll(points, 1, axis=0)).sum()
    if length > MAX_OUTLINE:
        raise Fault(
            "shape", field, f"is an outline {length:.3g} pixels long", "Draw it again, with fewer points."
        )


def _why_empty(pieces: Sequence[Piece], size: tuple[int, int], field: str) -> Fault:
    """Say why nothing is inside."""
    height, width = size
    polygons = [p for p in pieces if not isinstance(p, dict)]
    if not polygons:
        return Fault("empty", field, "has no pixel", "Delete the annotation, or draw its mask.")
    points = np.concatenate(polygons)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    span = f"goes from ({left:g}, {top:g}) to ({right:g}, {bottom:g})"
    if min(left, top) >= 0 and max(right, bottom) <= 1:
        return Fault(
            "normalised",
            field,
            f"{span}: shares of the width and the height, not pixels",
            f"Multiply x by {width} and y by {height}, or export the annotations in pixels.",
        )
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        swapped = top >= 0 and left >= 0 and bottom <= width and right <= height
        return Fault(
            "outside",
            field,
            f"{span}, outside the picture of {width} x {height} pixels",
            "Are x and y swapped?" if swapped else "Was it drawn on another picture, or on a larger copy?",
        )
    return Fault(
        "empty",
        field,
        f"{span} and covers no pixel",
        "It is a line, or smaller than a pixel: delete it, or draw it again.",
    )


def _turn_points(points: np.ndarray, picture: Picture) -> np.ndarray:
    """Turn points upright, as EXIF's orientations 5 to 8 turn the picture."""
    height, width = picture.drawn_size
    x, y = points[:, 0], points[:, 1]
    turned = {5: (y, x), 6: (height - y, x), 7: (height - y, width - x), 8: (y, width - x)}
    return np.stack(turned[picture.orientation], axis=1)


def _turn_box(box: list[float], picture: Picture) -> list[float]:
    x, y, width, height = box
    corners = _turn_points(np.array([[x, y], [x + width, y + height]]), picture)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def _turn_rle(rle: RLE, picture: Picture) -> RLE:
    height, width = picture.drawn_size
    left, top, crop = decode_rle(rle)
    mask = crop.numpy()
    rows, columns = mask.shape
    (x1, y1), (x2, y2) = _turn_points(np.array([[left, top], [left + columns, top + rows]]), picture).tolist()
    turned = {5: mask.T, 6: np.rot90(mask, -1), 7: np.rot90(mask, 2).T, 8: np.rot90(mask)}
    return mask_piece(turned[picture.orientation], min(x1, x2), min(y1, y2), picture.size)
