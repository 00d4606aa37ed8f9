"""Ground truth from files: what labelling tools write, as pictures with masks that are read when they are asked for."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from segutils.annotations.coco import read_coco
from segutils.annotations.cvat import read_cvat
from segutils.annotations.files import read_bytes
from segutils.annotations.labelme import read_labelme
from segutils.annotations.masks import read_masks
from segutils.annotations.pictures import Finder, read_picture
from segutils.annotations.records import Picture, Problem, Reading, Thing
from segutils.annotations.via import read_via
from segutils.annotations.writing import write_coco, write_labelme
from segutils.annotations.yolo import looks_like_yolo, read_yolo
from segutils.rle import decode_rle


class Annotations(Sequence):
    """Pictures and their targets. It has a length; `annotations[3]` and loops give pairs of picture and target.

    categories: the names of the classes, which labels index: `categories[label]`. Unused numbers are called "N/A".
    problems: what the files hold that cannot be used, and so was left out: a list of `Problem`, to be printed.
    pictures: what was read, a `Picture` for each pair, with its `things`: outlines, boxes and RLEs in pixels of the
        upright picture, and where they stand in the file. No picture is read and no mask filled to look at them.
    folder: where the pictures are.

    A target is torchvision's training dict: `boxes` float [N, 4], `labels` int64 [N], `masks` uint8 [N, H, W],
    `iscrowd` int64 [N] (1 for regions with many things, none of them marked), `area` float [N] in pixels, and
    `image_id`. Boxes and areas are those of the file where it has any, else the masks'.
    """

    def __init__(
        self,
        pictures: list[Picture],
        categories: list[str],
        problems: list[Problem],
        folder: Path,
        masks: Sequence[Path] = (),
    ) -> None:
        self.pictures, self.categories, self.problems, self.folder = pictures, categories, problems, folder
        self._masks = masks  # pictures, but not of things
        self._labels = {name: number for number, name in reversed([*enumerate(categories)])}

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        things = sum(len(picture.things) for picture in self.pictures)
        counts = {"picture": len(self), "thing": things, "problem": len(self.problems)}
        texts = (f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
        return f"Annotations({', '.join(texts)})"

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Read a picture, and make its target.

        Raises `ImageLoadError` or `FileNotFoundError` when the picture cannot be read any more, and `ValueError` when
        it has changed its size.
        """
        picture = self.pictures[index]
        image = read_picture(picture)
        if tuple(image.shape[1:]) != picture.size:
            height, width = picture.size
            raise ValueError(
                f"'{picture.path}' is {image.shape[2]} x {image.shape[1]} pixels, but its annotations were made for "
                f"{width} x {height} (width x height). Was it resized or turned?"
            )
        masks = torch.zeros(len(picture.things), *picture.size, dtype=torch.uint8)
        boxes, areas = [], []
        for mask, thing in zip(masks, picture.things):
            left, top, crop = decode_rle(thing.rle)
            mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
            x, y, width, height = thing.box or (left, top, crop.shape[1], crop.shape[0])
            boxes.append([x, y, x + width, y + height])
            areas.append(int(crop.sum()) if thing.area is None else thing.area)
        return image, {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([self._labels[thing.name] for thing in picture.things], dtype=torch.int64),
            "masks": masks,
            "iscrowd": torch.tensor([thing.crowd for thing in picture.things], dtype=torch.int64),
            "area": torch.tensor(areas, dtype=torch.float32),
            "image_id": picture.image_id,
        }

    def unlabelled(self) -> list[Path]:
        """The pictures in the folder that have no annotations, sorted: backgrounds, or forgotten."""
        known = {path.resolve() for path in (*(picture.path for picture in self.pictures), *self._masks)}
        return [path for path in Finder(self.folder).all() if path.resolve() not in known]

    def to_coco(self) -> dict:
        """All of it in the format of COCO's files of annotations: `json.dump` writes it, `load_annotations` reads it.

        Polygons stay polygons, other masks become RLEs; the masks are the same, pixel for pixel. Pictures that are
        inside a LabelMe file are named, but have to be saved beside by hand.
        """
        return write_coco(self.pictures, self.categories, self.folder)

    def to_labelme(self, folder: str | Path) -> list[Path]:
        """Write a LabelMe file for each picture, in the folders that the pictures are in, and return their paths.

        Polygons stay polygons, other masks become polygons: a hole is joined to the outline by a cut of no width. Read
        back by `load_annotations`, the masks are the same, pixel for pixel. Crowds get a flag, "iscrowd".

        Raises `FileExistsError` before anything is written when one of the files is there already.
        """
        return write_labelme(self.pictures, self.folder, Path(folder).expanduser())


READERS = {
    "coco": read_coco,
    "labelme": read_labelme,
    "via": read_via,
    "cvat": read_cvat,
    "yolo": read_yolo,
    "masks": read_masks,
}
NAMES = {
    **{
        "coco": "COCO JSON",
        "labelme": "LabelMe JSON",
        "via": "VIA JSON",
        "cvat": "CVAT XML",
        "yolo": "YOLO text",
    },
    "masks": "mask PNG",
}
ONE_FILE = ("coco", "via", "cvat")
"""The formats that have one file for all pictures."""


def load_annotations(
    path: str | Path,
    images: str | Path | None = None,
    format: str | None = None,
    categories: Sequence[str] | None = None,
) -> Annotations:
    """Read what a labelling tool has written. Pixels are read when they are asked for, not before.

    COCO JSON, LabelMe JSON, JSON of the VGG Image Annotator (VIA 2 and 3), XML of "CVAT for images 1.1", text files of
    YOLO's segmentation, and masks as PNG files, one for each thing or numbered, also Pascal VOC's. Polygons,
    rectangles, circles, ellipses and masks become masks, all filled by pycocotools; shapes of one group are one thing.

    Args:
        path: a file of annotations, or the folder with all of them.
        images: the folder of the pictures; without it they are looked for where the annotations are, or in a folder
            `images` that lies beside `labels`, `masks` or `annotations`. They may have been moved: a file that says
            `C:\\photos\\a.jpg` means `a.jpg`, somewhere in the folder. Nothing outside is read.
        format: "coco", "labelme", "via", "cvat", "yolo" or "masks"; without it the content decides.
        categories: the names of the classes, "__background__" first, which labels shall index: a model's
            `weights.meta["categories"]`, or those of the training set for the set that judges. Without it labels are
            COCO's category ids; CVAT's and YOLO's classes in their order, from 1; else the names, sorted.

    What cannot be used, an annotation or a picture, is left out, and stands in `annotations.problems`.

    Annotations of a photograph taken sideways are turned upright with it, if the file states the size that it had
    before; where none is stated, they are taken to be upright.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file or folder.
        ValueError: the file cannot be read at all; nothing in it can be used; a category of COCO's has the number 0,
            which is the background's.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder '{path}'.")
    if images is not None and not Path(images).expanduser().is_dir():
        raise NotADirectoryError(
            f"images='{images}' is not a folder. It should be the one with the pictures."
        )
    if format is not None and format not in READERS:
        raise ValueError(f"format={format!r} is not known. It is one of {', '.join(READERS)}.")
    format, path = recognise(path, format)
    if format == "masks" and (path / "masks").is_dir():
        path /= "masks"
    folder = Path(images).expanduser() if images is not None else _home_of(path)
    problems: list[Problem] = []
    reading = READERS[format](path, Finder(folder), problems, categories)
    pictures = _once(reading, problems)
    if not pictures:
        said = " ".join(str(problem) for problem in problems[:3]) or "There is no picture in it."
        more = f" And {len(problems) - 3} more." if len(problems) > 3 else ""
        raise ValueError(f"Nothing in '{path}' can be used. {said}{more}")
    for number, picture in enumerate(pictures, start=1):
        picture.image_id = number if picture.image_id is None else picture.image_id
    if categories is not None:
        categories = list(categories)
        _keep_known(pictures, categories, problems)
    elif reading.categories is None:
        names = {thing.name for picture in pictures for thing in picture.things}
        categories = ["__background__", *sorted(names)]
    else:
        categories = reading.categories
    return Annotations(pictures, categories, problems, folder, reading.masks)


def recognise(path: Path, format: str | None = None) -> tuple[str, Path]:
    """The format of a file, or of those in a folder, told by their content, and the file or the folder to read.

    format: that alone is looked for in a folder. Raises `ValueError` where there is none, or more than one.
    """
    if path.is_file():
        return format or _sniff(path) or "coco", path
    found: dict[str, list[Path]] = {}
    for ending in ("json", "xml", "txt"):
        for file in sorted(path.rglob(f"*.{ending}")):
            if (kind := _sniff(file)) and format in (None, kind):
                found.setdefault(kind, []).append(file)
    if format is not None and format not in ONE_FILE:
        return format, path
    if len(found) > 1:
        kinds = [f"{NAMES[kind]} ('{files[0].name}')" for kind, files in found.items()]
        raise ValueError(
            f"'{path}' holds {' and '.join(kinds)}. Name the one to read, format='{min(found)}'."
        )
    if not found and format is None and any(path.rglob("*.png")):
        return "masks", path
    if not found:
        wanted = NAMES[format] if format else "annotations that are known"
        raise ValueError(f"In '{path}' there is no file with {wanted}. Unpack it if it is a ZIP file.")
    [(kind, files)] = found.items()
    if kind not in ONE_FILE:
        return kind, path
    if len(files) > 1:
        raise ValueError(
            f"'{path}' holds {len(files)} files of {NAMES[kind]}: {', '.join(file.name for file in files[:5])}. "
            "Give the path of one."
        )
    return kind, files[0]


def _sniff(file: Path) -> str | None:
    """The format of a file by its content, or None."""
    content = read_bytes(file)
    if content.startswith((b"\x89PNG", b"II*\0", b"MM\0*")):
        return "masks"
    if content.startswith(b"PK\3\4"):
        raise ValueError(f"'{file}' is a ZIP file. Unpack it, and give the path of the folder.")
    content = (
        content.replace(b"\0", b"").removeprefix(b"\xef\xbb\xbf").lstrip()
    )  # of UTF-16 the letters remain
    if content.startswith(b"<"):
        return "cvat" if b"<annotations" in content or file.parent.name != "Annotations" else None
    if b"{" in content[:3]:
        marks = {
            "labelme": (b'"shapes"',),
            "coco": (b'"annotations"', b'"images"'),
            "via": (b'"regions"', b'"filename"'),
        }
        for kind, words in marks.items():
            if all(word in content for word in words):
                return kind
        return "via" if b'"fid_list"' in content or b'"_via_img_metadata"' in content else None
    return "yolo" if file.suffix == ".txt" and looks_like_yolo(file) else None


HOMES = {
    "annotations": (".",),
    "labels": ("images",),
    "masks": ("images", "."),
    "SegmentationObject": ("JPEGImages",),
}
"""Where the pictures are, seen from the folder above the annotations'."""


def _home_of(path: Path) -> Path:
    """The folder in which pictures are looked for, when it is not named."""
    folder = path if path.is_dir() else path.parent
    folder = folder if folder.name else Path(os.path.abspath(folder))
    if (folder / "SegmentationObject").is_dir() and (folder / "JPEGImages").is_dir():
        return folder / "JPEGImages"
    for place in (folder, *list(folder.parents)[:2]):
        for other in HOMES.get(place.name, ()):
            home = place.parent / other / folder.relative_to(place)
            for candidate in (home, place.parent / other):
                if candidate.is_dir():
                    return candidate
    return folder


def _once(reading: Reading, problems: list[Problem]) -> list[Picture]:
    """The pictures, each once: two entries for one file would hide half of the things."""
    seen: dict[Path, Picture] = {}
    for picture in reading.pictures:
        if picture.path in seen:
            problems.append(
                Problem(
                    str(picture.source),
                    "",
                    "picture",
                    f"{picture.name!r} is '{picture.path}', and so is {seen[picture.path].name!r} "
                    f"in '{seen[picture.path].source}'",
                    "Put the things of both into one entry.",
                    "picture",
                )
            )
        else:
            seen[picture.path] = picture
    return list(seen.values())


def _keep_known(pictures: list[Picture], categories: list[str], problems: list[Problem]) -> None:
    """Leave out things whose class is not among the categories, and say so."""
    for picture in pictures:
        known: list[Thing] = []
        for thing in picture.things:
            if thing.name in categories[1:]:
                known.append(thing)
                continue
            close = difflib.get_close_matches(
                thing.name.lower(), [name.lower() for name in categories[1:]], 1
            )
            meant = [name for name in categories[1:] if close and name.lower() == close[0]]
            problems.append(
                Problem(
                    str(picture.source),
                    thing.where,
                    "class",
                    f"is {thing.name!r}, which is not among the categories",
                    f"Did you mean {meant[0]!r}?" if meant else f"They are {', '.join(categories[1:])}.",
                    "class",
                )
            )
        picture.things = known
