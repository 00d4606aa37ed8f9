"""What checks look at, and what they return."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from segutils.annotations.pictures import read_picture
from segutils.annotations.records import Picture, Problem, Thing
from segutils.images import ImageLoadError
from segutils.rle import RLE, decode_rle
from segutils.roi_masks import Crop


@dataclass(frozen=True)
class Finding(Problem):
    """A fault or a doubt: file, annotation, field, what is wrong with the value, remedy, and kind, as in `Problem`."""

    suspicion: float = 1.0
    """Of a doubt, 0 to 1."""
    picture: int | None = None
    """Its number in the annotations, where it is about one of them."""
    rle: RLE | None = None
    """The mask that it is about."""


class Look(NamedTuple):
    """A picture that is being checked, and its things."""

    index: int
    picture: Picture
    image: Tensor | None
    """uint8 [3, H, W]; None where it cannot be read."""
    error: str
    """Why it cannot be read."""
    crops: list[Crop]
    """The masks of `picture.things`."""

    def finding(
        self,
        thing: Thing | None,
        field: str,
        wrong: str,
        remedy: str,
        kind: str,
        suspicion: float = 1.0,
        rle=None,
    ) -> Finding:
        """About a thing, or with None about the picture."""
        where = self.picture.path.name if thing is None else f"{thing.where} ({self.picture.path.name})"
        rle = thing.rle if thing is not None and rle is None else rle
        return Finding(
            str(self.picture.source), where, field, wrong, remedy, kind, suspicion, self.index, rle
        )


def look_at(index: int, picture: Picture) -> Look:
    image, error = None, ""
    try:
        image = read_picture(picture)
        if tuple(image.shape[1:]) != picture.size:
            image, error = None, "has changed its size since the annotations were read"
    except ImageLoadError as failed:
        error = failed.reason.rstrip(".")
    except OSError as failed:
        error = f"cannot be read any more: {failed}".rstrip(".")
    return Look(index, picture, image, error, [decode_rle(thing.rle) for thing in picture.things])


def fingerprint(image: Tensor) -> bytes:
    """Equal for equal pixels, whatever the name and the format of the file."""
    return hashlib.sha256(str(tuple(image.shape)).encode() + image.numpy().tobytes()).digest()
