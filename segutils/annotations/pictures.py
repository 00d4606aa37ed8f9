"""Finding the pictures that a file of annotations speaks of, wherever they are now, and their sizes."""

import base64
import binascii
import os
import re
import tempfile
import unicodedata
import warnings
from collections import defaultdict
from functools import cached_property
from pathlib import Path

from PIL import Image
from torch import Tensor

from segutils.annotations.files import read_json
from segutils.annotations.records import Fault, Picture, short
from segutils.images import MAX_PIXELS, ImageLoadError, load_image

MAX_PARTS = 100
"""So many folders of a path, from its end, are looked at."""


class Finder:
    """Finds pictures in a folder and the folders in it, never outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """All pictures in the folder, by the name of the file in small letters."""
        found, endings = defaultdict(list), Image.registered_extensions()
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if os.path.splitext(name)[1].lower() in endings:
                    found[_plain(name)].append(Path(folder, name))
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for name, paths in self._by_name.items():
            found[os.path.splitext(name)[0]] += paths
        return found

    def contains(self, file: Path) -> bool:
        return Path(os.path.abspath(self.folder)) in Path(os.path.abspath(file)).parents

    def all(self) -> list[Path]:
        """The pictures in the folder, sorted."""
        return sorted(path for paths in self._by_name.values() for path in paths)

    def find(self, name: str, field: str) -> Path:
        """The picture that a file calls `name`, in whatever way: with folders of another computer, say, or in capitals.

        It is looked for at the end of the path: `C:\\photos\\cups\\a.jpg` may be `cups/a.jpg` or `a.jpg` in the folder.

        Raises `Fault` when there is none, or more than one.
        """
        parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".")][-MAX_PARTS:]
        outside = ".." in parts
        if outside:
            parts = parts[len(parts) - parts[::-1].index("..") :]
        for start in range(len(parts)):
            path = os.path.join(self.folder, *parts[start:])
            if ":" not in parts[start] and os.path.isfile(path):
                return Path(path)
        found = self._by_name.get(_plain(parts[-1]), []) if parts else []
        return self._only(found, parts, name, field, outside)

    def find_stem(self, parts: list[str], name: str, field: str, but: Path | None = None) -> Path:
        """The picture with these folders and name, whatever its ending; not `but`. Raises `Fault` as `find` does."""
        found = [path for path in self._by_stem.get(_plain(parts[-1]), []) if not same_file(path, but)]
        return self._only(found, parts, name, field)

    def has_stem(self, name: str, but: Path | None = None) -> bool:
        """Whether there is a picture with this name, whatever its ending, besides `but`."""
        return any(not same_file(path, but) for path in self._by_stem.get(_plain(name), []))

    def _only(
        self, found: list[Path], parts: list[str], name: str, field: str, outside: bool = False
    ) -> Path:
        """The one picture whose folders fit best."""
        if not found:
            remedy = f"It is not in '{self.folder}' either: say where the pictures are, images='...'."
            if outside:
                remedy = f"Paths out of '{self.folder}' are not followed: name the folder, images='...'."
            raise Fault("picture", field, f"is {short(name)}, and there is no such picture", remedy)
        wanted = [_plain(part) for part in parts[:-1]][::-1]

        def shared(path: Path) -> int:
            have = [_plain(part) for part in path.relative_to(self.folder).parts[:-1]][::-1]
            count = 0
            while count < min(len(wanted), len(have)) and wanted[count] == have[count]:
                count += 1
            return count

        most = max(map(shared, found))
        best = [path for path in found if shared(path) == most]
        if len(best) > 1:
            raise Fault(
                "picture",
                field,
                f"is {short(name)}, and that may be '{best[0]}' or '{best[1]}'",
                "Give the pictures different names, or load each folder by itself.",
            )
        return best[0]


def same_file(path: Path, other: Path | None) -> bool:
    return other is not None and os.path.abspath(path) == os.path.abspath(other)


def _plain(name: str) -> str:
    """For comparing names of files: macOS writes accents in two characters, Windows does not mind capitals."""
    return unicodedata.normalize("NFC", name).lower()


def make_picture(
    path: Path, name: str, source: Path, field: str, stated: tuple[int, int] | None = None
) -> Picture:
    """Look at a picture's header: its size, and whether its annotations were made before it was turned upright.

    stated: the height and width in the file of annotations. Where they are those of the picture as it lies in the
    file, before EXIF's orientation turns it, the annotations are turned too; else they are taken for upright.

    Raises `Fault` when the picture cannot be read, or has another size than was stated.
    """
    try:
        size, orientation = _read_header(path)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, ImageLoadError) else str(error)
        raise Fault(
            "picture", field, f"is '{path}', which {reason.rstrip('.')}", "Mend the picture, or leave it out."
        ) from error
    picture = Picture(path, name, size, source)
    return _fit(picture, stated, orientation, field)


def make_embedded(
    text: str, name: str, source: Path, field: str, stated: tuple[int, int] | None = None
) -> Picture:
    """As `make_picture`, of a picture that LabelMe keeps in its own file, as text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "embedded")
        try:
            path.write_bytes(base64.b64decode(text, validate=False))
            size, orientation = _read_header(path)
        except (binascii.Error, OSError, ValueError) as error:
            reason = error.reason if isinstance(error, ImageLoadError) else str(error)
            raise Fault(
                "picture",
                field,
                f"is a picture inside the file, which cannot be read: it {reason.rstrip('.')}",
                "Put the picture beside the file.",
            ) from error
    return _fit(Picture(source, name, size, source, embedded=True), stated, orientation, field)


def _fit(picture: Picture, stated: tuple[int, int] | None, orientation: int, field: str) -> Picture:
    if stated is None or stated == picture.size:
        return picture
    if orientation in (5, 6, 7, 8) and stated == picture.size[::-1]:
        picture.orientation = orientation
        return picture
    height, width = picture.size
    raise Fault(
        "size",
        field,
        f"is {picture.name!r}, {width} x {height} pixels, but its annotations were made for "
        f"{stated[1]} x {stated[0]} (width x height)",
        "Was it resized or turned? Take the picture that was labelled.",
    )


def _read_header(path: Path) -> tuple[tuple[int, int], int]:
    """Height and width of a picture once upright, and its EXIF orientation. The pixels are not decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                width, height = picture.size
                # Not `picture.getexif()`: PNG's would decode the whole picture, to look behind it as well.
                orientation = Image.Image.getexif(picture).get(274, 1)
        if not 0 < width * height <= MAX_PIXELS:
            raise ValueError
    except Exception:  # noqa: BLE001 Pillow raises nearly everything there is on damaged files
        image = load_image(path)  # which says what is wrong
        return (image.shape[1], image.shape[2]), 1
    return ((width, height) if orientation in (5, 6, 7, 8) else (height, width)), orientation


def read_picture(picture: Picture) -> Tensor:
    """The pixels, as `load_image` reads them."""
    if not picture.embedded:
        return load_image(picture.path)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "embedded")
        path.write_bytes(base64.b64decode(read_json(picture.path)["imageData"], validate=False))
        try:
            return load_image(path)
        except ImageLoadError as error:
            raise ImageLoadError(picture.path, f"holds a picture that {error.reason}") from error
