"""Masks as PNG files: one for each thing, or one for each picture that numbers them, also as Pascal VOC does."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import label as connected
from skimage.measure import regionprops

from segutils.annotations.pictures import Finder, make_picture
from segutils.annotations.records import Fault, Picture, Problem, Reading, noting, short
from segutils.annotations.shapes import MASK_MODES, make_thing, mask_piece
from segutils.images import ImageLoadError, load_mask

UNNAMED = "thing"
"""The class of what has no name."""

VOID = 255
"""VOC's number for the rim between things, which belongs to none of them."""

_WORDS = "masks?|labels?|instances?|objects?|seg|segmentation|gt|things?"


def read_masks(
    path: Path, finder: Finder, problems: list[Problem], categories: Sequence[str] | None = None
) -> Reading:
    """Masks belong to the picture whose name they begin with, or whose name their folder has.

    - `cups.png`, `cups_mask.png`: the things are numbered from 1; 0 is the background. A palette does not matter.
    - `cups_key_1.png`, `cups_key_2.png`, or `cups/key_1.png`: one thing each, of the class `key`: all but 0.
    - `SegmentationObject/cups.png` and `SegmentationClass/cups.png`: VOC's, numbers of things and of their classes.

    Names of classes are those of `categories`, by number; if there is just one, all things are of that.
    """
    unnamed = categories[1] if categories is not None and len(categories) == 2 else UNNAMED
    names = dict(enumerate(categories or ()))
    objects = path / "SegmentationObject" if (path / "SegmentationObject").is_dir() else path
    classes = objects.parent / "SegmentationClass" if objects.name == "SegmentationObject" else None
    by_picture: dict[Path, list[tuple[Path, str]]] = defaultdict(list)
    for file in sorted(objects.rglob("*.png")) if objects.is_dir() else [objects]:
        with noting(problems, file):
            found = _find_picture(file, finder)
            if found is not None:
                by_picture[found[0]].append((file, found[1]))
    pictures = []
    for image, files in by_picture.items():
        with noting(problems, files[0][0]):
            numbers = [_read(file) for file, _ in files]
            picture = make_picture(image, image.name, files[0][0], "the picture", numbers[0].shape)
            if len(files) == 1 and not files[0][1]:
                labels = _read_classes(classes, files[0][0], numbers[0].shape) if classes else None
                _add_numbered(picture, files[0][0], numbers[0], labels, names, unnamed, problems)
            else:
                for (file, rest), one in zip(files, numbers):
                    with noting(problems, file):
                        _add_one(picture, file, rest, one, unnamed)
            pictures.append(picture)
    return Reading(pictures, masks=[file for files in by_picture.values() for file, _ in files])


def _find_picture(file: Path, finder: Finder) -> tuple[Path, str] | None:
    """The picture of a mask, and what its name says besides; None where the file seems to be a picture itself.

    Raises `Fault` where no picture fits.
    """
    stem, parts = file.stem, list(file.parts[:-1])
    options = [(stem, "")]
    if found := re.fullmatch(rf"(.+?)[-_ .]({_WORDS})", stem, re.IGNORECASE):
        options.append((found[1], ""))
    options += [(stem[: at.start()], stem[at.end() :]) for at in reversed([*re.finditer(r"[-_ .]", stem)])]
    above = [part for part in parts if not re.fullmatch(_WORDS, part, re.IGNORECASE)]
    if above:
        options.append((above[-1], stem))
    for name, rest in options:
        if name and finder.has_stem(name, but=file):
            picture = finder.find_stem([*parts, name], file.name, "the picture", but=file)
            if name == stem and _mode(file) not in MASK_MODES and _mode(picture) in MASK_MODES:
                return None  # it is the other way round
            return picture, rest
    if finder.contains(file):
        return None
    raise Fault(
        "picture",
        "the picture",
        f"of {short(file.name)} is not in '{finder.folder}'",
        "Its name should be the mask's, or begin it: say where the pictures are, images='...'.",
    )


def _read(file: Path) -> np.ndarray:
    try:
        return load_mask(file).numpy()
    except ImageLoadError as error:
        raise Fault("file", "the mask", error.reason.rstrip("."), "Mend the file, or delete it.") from error


def _read_classes(classes: Path, file: Path, size: tuple[int, ...]) -> np.ndarray | None:
    if not (classes / file.name).is_file():
        return None
    labels = _read(classes / file.name)
    if labels.shape != size:
        raise Fault(
            "size",
            "the classes",
            f"in '{classes / file.name}' are {labels.shape[1]} x {labels.shape[0]} pixels",
            f"The things are {size[1]} x {size[0]}: make both the same.",
        )
    return labels


def _add_numbered(
    picture: Picture,
    file: Path,
    numbers: np.ndarray,
    labels: np.ndarray | None,
    names: dict[int, str],
    unnamed: str,
    problems: list[Problem],
) -> None:
    found, places = np.unique(numbers, return_inverse=True)
    things = [number for number in found.tolist() if number != 0]
    if len(things) > 1 and VOID in things and 254 not in things and _mode(file) == "P":
        things.remove(VOID)
    _check_numbers(things, places.reshape(numbers.shape))
    regions = {found[region.label - 1]: region for region in regionprops(places.reshape(numbers.shape) + 1)}
    for number in things:
        with noting(problems, file, f"number {number}"):
            region = regions[number]
            top, left, bottom, right = region.bbox
            name = unnamed
            if labels is not None:
                inside = labels[top:bottom, left:right][region.image]
                classes, counts = np.unique(inside[inside != VOID], return_counts=True)
                most = int(classes[counts.argmax()]) if len(classes) else 0
                name = names.get(most, f"class {most}") if most else "background"
            piece = mask_piece(region.image, left, top, picture.drawn_size)
            thing = make_thing(picture, name, [piece], f"number {number}", "the mask")
            picture.things.append(thing)


def _check_numbers(things: list[int], places: np.ndarray) -> None:
    """Refuse what is no picture of numbers: a photograph, or a mask whose edges were blurred or saved as JPEG."""
    if len(things) <= 20:
        return
    pieces = connected(places, background=0, connectivity=2)
    if len(things) > 5_000 or pieces.max() > 3 * len(things):
        raise Fault(
            "value",
            "the mask",
            f"holds {len(things)} numbers, scattered over {pieces.max()} spots",
            "Is it a photograph, or were its edges blurred? Save masks as PNG, without smoothing.",
        )


def _mode(file: Path) -> str:
    """Pillow's mode of a picture; "" where it cannot be read."""
    try:
        with Image.open(file) as picture:
            return picture.mode
    except Exception:  # noqa: BLE001 Pillow raises nearly everything there is on damaged files
        return ""


def _add_one(picture: Picture, file: Path, rest: str, mask: np.ndarray, unnamed: str) -> None:
    values = np.unique(mask[mask != 0]).tolist()
    if mask.shape != picture.drawn_size:
        raise Fault(
            "size",
            "the mask",
            f"is {mask.shape[1]} x {mask.shape[0]} pixels",
            f"The picture is {picture.drawn_size[1]} x {picture.drawn_size[0]}: take the one that was labelled.",
        )
    if len(values) > 1:
        raise Fault(
            "value",
            "the mask",
            f"holds the numbers {short(values)}, and should be of one thing",
            "There are several masks for the picture, so each should have one number besides 0.",
        )
    name = re.sub(r"[-_ .]*\d*$", "", rest)
    if not re.fullmatch(r"[^\W\d][^\d]{0,40}", name) or re.fullmatch(_WORDS, name, re.IGNORECASE):
        name = unnamed
    piece = mask_piece(mask != 0, 0, 0, picture.drawn_size)
    picture.things.append(make_thing(picture, name, [piece], file.name, "the mask"))
