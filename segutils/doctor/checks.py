"""What can be checked without a model. What the readers of annotations refuse comes on top: `Annotations.problems`."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from torchvision.ops import box_iou

from segutils.annotations import Annotations
from segutils.doctor.finding import Finding, Look, fingerprint, look_at
from segutils.evaluation import crop_iou

SAME = 0.9
"""Two masks with a larger IoU are of one thing."""
TINY = 16
"""A thing with fewer pixels is a slip of the mouse, as a rule."""
BOX_FITS = 0.5
"""The box of a mask and the one in the file have at least this IoU: tools round, and some keep boxes drawn by hand."""
EXACT = 1
"""So many pixels apart are two boxes, at most, that are the same one, rounded."""
BEYOND = 2
"""So many pixels a point may lie outside the picture: hands are not that steady."""


def find_unreadable(look: Look) -> Iterator[Finding]:
    if look.image is None:
        yield look.finding(None, "picture", f"{look.error}", "Mend the picture, or leave it out.", "picture")


def find_duplicates(look: Look) -> Iterator[Finding]:
    """The same thing labelled twice, by one name or two."""
    iou = crop_iou(look.crops, look.crops).triu(diagonal=1)
    for i, j in torch.nonzero(iou >= SAME).tolist():
        first, second = look.picture.things[i], look.picture.things[j]
        if first.crowd or second.crowd:
            continue
        names = "" if first.name == second.name else f", as {second.name!r} and as {first.name!r}"
        yield look.finding(
            second,
            "mask",
            f"is that of {first.where}{names} (IoU {iou[i, j]:.2f})",
            "Delete one of the two.",
            "duplicate",
        )


def find_normalised(look: Look) -> Iterator[Finding]:
    """Shares of the sides taken for pixels, where the readers let them pass, since they fill the very first pixel."""
    for thing in look.picture.things:
        if thing.polygons and all(0 <= points.min() and points.max() <= 1 for points in thing.polygons):
            yield look.finding(
                thing,
                "polygon",
                "lies between 0 and 1: shares of the width and the height, not pixels",
                "Multiply x by the width and y by the height, or export the annotations in pixels.",
                "normalised",
            )


def find_wrong_boxes(look: Look) -> Iterator[Finding]:
    """Boxes in the file that are not around their masks; most often x, y, width and height were mixed up."""
    for thing, (left, top, mask) in zip(look.picture.things, look.crops):
        if thing.box is None:
            continue
        tall, wide = look.picture.size
        true = [left, top, left + mask.shape[1], top + mask.shape[0]]
        x, y, width, height = thing.box
        literal = [x, y, x + width, y + height]
        readings = {
            "x1, y1, x2, y2": [x, y, width, height],
            "y, x, height, width": [y, x, y + height, x + width],
            "shares of the picture's sides": [x * wide, y * tall, (x + width) * wide, (y + height) * tall],
            "the centre, width, height": [x - width / 2, y - height / 2, x + width / 2, y + height / 2],
        }
        best = max(readings, key=lambda name: _overlap(readings[name], true))
        # Of a thing in the corner or on the diagonal, a mixed-up box overlaps; but read rightly, it's exact.
        mixed_up = _apart(literal, true, look.picture.size) > 2 * EXACT and any(
            _apart(reading, true, look.picture.size) <= EXACT for reading in readings.values()
        )
        if _overlap(literal, true) >= BOX_FITS and not mixed_up:
            continue
        guess = f"It looks like {best}. " if _overlap(readings[best], true) >= 0.8 else ""
        box = ", ".join(f"{value:g}" for value in thing.box)
        yield look.finding(
            thing,
            "bbox",
            f"is [{box}], and the mask goes from ({left}, {top}) to ({true[2]}, {true[3]})",
            f"{guess}It should be x, y, width, height, in pixels: correct it, or leave it out.",
            "box",
        )


def _overlap(box: list[float], other: list[float]) -> float:
    return box_iou(torch.tensor([box]).float(), torch.tensor([other]).float()).nan_to_num().item()


def _apart(box: list[float], other: list[float], size: tuple[int, int]) -> float:
    """How far apart the sides of two boxes are at most, within the picture."""
    limits = (size[1], size[0]) * 2
    return max(abs(min(max(a, 0), limit) - b) for a, b, limit in zip(box, other, limits))


def find_mostly_outside(look: Look) -> Iterator[Finding]:
    yield from (finding for share, finding in _outside(look) if share > 0.5)


def find_partly_outside(look: Look) -> Iterator[Finding]:
    yield from (finding for share, finding in _outside(look) if share <= 0.5)


def _outside(look: Look) -> Iterator[tuple[float, Finding]]:
    """Outlines that leave the picture, and how much of the box around them lies outside."""
    height, width = look.picture.size
    for thing in look.picture.things:
        if thing.polygons is None:
            continue
        points = np.concatenate(thing.polygons)
        low, high = points.min(axis=0), points.max(axis=0)
        if min(low) >= -BEYOND and (high <= (width + BEYOND, height + BEYOND)).all():
            continue
        inside = np.clip(np.minimum(high, (width, height)) - np.maximum(low, 0), 0, None)
        share = 1 - float((inside / np.maximum(high - low, 1e-9)).prod())
        yield (
            share,
            look.finding(
                thing,
                "polygon",
                f"goes from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}), beyond the picture of "
                f"{width} x {height} pixels",
                "Was it drawn on a larger copy, or are x and y swapped? If it only hangs over, all is well.",
                "outside",
                suspicion=min(1.0, 0.3 + share),
            ),
        )


def find_tiny(look: Look) -> Iterator[Finding]:
    for thing, crop in zip(look.picture.things, look.crops):
        if (area := int(crop.mask.sum())) < TINY:
            yield look.finding(
                thing,
                "mask",
                f"covers {area} pixel{'s' * (area != 1)}",
                "Was it a slip of the mouse? Delete it, or draw it again.",
                "tiny",
                suspicion=0.8,
            )


def find_empty_pictures(look: Look) -> Iterator[Finding]:
    if not look.picture.things:
        yield look.finding(
            None,
            "picture",
            "has no thing",
            "All is well if there is nothing in it; if it was forgotten, label it.",
            "unlabelled",
            suspicion=0.5,
        )


def find_forgotten_pictures(annotations: Annotations) -> Iterator[Finding]:
    for path in annotations.unlabelled():
        yield Finding(
            str(path),
            "",
            "picture",
            "has no annotations",
            "Label it. If there is nothing to label in it, list it without things, as a background.",
            "unlabelled",
            suspicion=0.5,
        )


def find_similar_names(annotations: Annotations) -> Iterator[Finding]:
    """Two classes that differ in capitals, in the plural, or in a hyphen: one class, written in two ways."""
    used = Counter(thing.name for picture in annotations.pictures for thing in picture.things)
    alike: dict[str, list[str]] = defaultdict(list)
    names = [name for name in dict.fromkeys(annotations.categories[1:]) if name != "N/A"]
    for name in names:
        alike[_plain(name)].append(name)
    for name in names:
        for plural in _plurals(_plain(name)) & set(alike):
            alike[_plain(name)] += alike.pop(plural)
    for group in (group for group in alike.values() if len(group) > 1):
        rare, *others = sorted(group, key=lambda name: used[name])
        places = ((n, thing) for n, picture in enumerate(annotations.pictures) for thing in picture.things)
        number, thing = next(((n, thing) for n, thing in places if thing.name == rare), (None, None))
        yield Finding(
            str(annotations.pictures[number or 0].source),
            thing.where if thing else "",
            "class",
            f"{rare!r} is much like {' and '.join(map(repr, others))} "
            f"({', '.join(f'{used[name]}' for name in [rare, *others])} things)",
            "Give them one name, or names that differ by more.",
            "class",
            picture=number,
            rle=thing.rle if thing else None,
        )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


IRREGULAR = {
    "mouse": "mice",
    "person": "people",
    "man": "men",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
}


def _plurals(name: str) -> set[str]:
    """How the plural of a name may be written, in English."""
    plurals = {name + "s"}
    if name.endswith(("s", "x", "z", "ch", "sh", "o")):
        plurals.add(name + "es")
    for ending, plural in {"y": "ies", "f": "ves", "fe": "ves", **IRREGULAR}.items():
        if name.endswith(ending):
            plurals.add(name.removesuffix(ending) + plural)
    return plurals


def find_duplicate_ids(annotations: Annotations) -> Iterator[Finding]:
    """COCO's tools keep one annotation of those that share an id, in silence."""
    seen: dict[tuple[str, str], str] = {}
    for number, picture in enumerate(annotations.pictures):
        for thing in picture.things:
            key = (str(picture.source), thing.where)
            if thing.where.startswith("annotation ") and key in seen:
                yield Finding(
                    str(picture.source),
                    thing.where,
                    "id",
                    f"is that of another annotation too: in '{seen[key]}' and in '{picture.path.name}'",
                    "Give each annotation its own id.",
                    "duplicate",
                    picture=number,
                    rle=thing.rle,
                )
            seen.setdefault(key, picture.path.name)


def find_shared_pictures(
    prints: dict[bytes, int], annotations: Annotations, validation: Annotations
) -> Iterator[Finding]:
    """Pictures for judging that are in the training set, too. prints: number of each picture by its fingerprint."""
    for number, picture in enumerate(validation.pictures):
        image = look_at(number, picture).image
        if image is not None and (index := prints.get(fingerprint(image))) is not None:
            yield Finding(
                str(annotations.pictures[index].source),
                annotations.pictures[index].path.name,
                "picture",
                f"has the same pixels as '{picture.path}', which is for validation",
                "Take it out of one of the two: a model is judged on what it has not seen.",
                "shared",
                picture=index,
            )


PICTURE_CHECKS = (  # whether what they find is a fault
    (find_unreadable, True),
    (find_duplicates, True),
    (find_normalised, True),
    (find_wrong_boxes, True),
    (find_mostly_outside, True),
    (find_partly_outside, False),
    (find_tiny, False),
    (find_empty_pictures, False),
)
SET_CHECKS = (
    (find_similar_names, True),
    (find_duplicate_ids, True),
    (find_forgotten_pictures, False),
)
