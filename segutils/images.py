"""Pictures in: one gate that turns any picture file into the same kind of tensor."""

import difflib
import math
import os
import re
import struct
import warnings
from pathlib import Path

import matplotlib.cbook
import numpy as np
import skimage
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as F

_PACKAGE = Path(__file__).resolve().parent
# An installed wheel carries the data inside the package; a clone of the repository has it beside the package.
DATA_DIR: Path = _PACKAGE / "data" if (_PACKAGE / "data").is_dir() else _PACKAGE.parent / "data"

MAX_PIXELS = 80_000_000
"""The largest picture `load_image` opens, in pixels: 240 MB when decoded. Pillow warns just above this."""

_SKIMAGE_SAMPLES = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "hubble": "hubble_deep_field.jpg",
    "ihc": "ihc.png",
}


def load_image(path: str | Path) -> Tensor:
    """Read a picture file into a uint8 RGB tensor [3, H, W] with values 0 to 255.

    Whatever is in the file, the result has the same form:

    - a photo taken sideways is turned upright (EXIF orientation);
    - transparent parts are laid on white;
    - grey, black-and-white, palette and CMYK pictures become RGB;
    - 16-bit pictures are scaled to 8 bits (value / 257), not clipped;
    - of an animation, or of a file with several pages, the first frame is taken.

    `path` may begin with `~`. Every format that Pillow knows is read: PNG, JPEG, WebP, GIF, BMP, TIFF and
    more.

    Raises `FileNotFoundError` or `IsADirectoryError` when there is no such file, and `ValueError` when the
    path is a web address, or the file is empty, damaged, larger than `MAX_PIXELS`, or not a picture.
    """
    path = _existing_file(path)
    try:
        with warnings.catch_warnings():
            # Pillow's own warning about large pictures: our own check is stricter and says more.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:  # reads the header only
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"it has {width} x {height} pixels")
                rgb = to_rgb(ImageOps.exif_transpose(picture))
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"'{path}' is too large ({error}). At most {MAX_PIXELS // 1_000_000} million pixels are opened: "
            "make the picture smaller, or cut it into pieces."
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"'{path}' is not a picture that can be read. {_guess_content(path)}") from error
    except (OSError, SyntaxError, EOFError, IndexError, struct.error) as error:
        if isinstance(error, PermissionError):
            raise
        raise ValueError(
            f"'{path}' is damaged or cut short ({error}). Copy or download the file again."
        ) from error
    except ValueError as error:
        raise ValueError(f"'{path}' cannot be turned into RGB. {error}") from error
    return F.pil_to_tensor(rgb).contiguous()


def to_rgb(picture: Image.Image) -> Image.Image:
    """Turn a Pillow picture of any mode into mode RGB, by the rules of `load_image` (EXIF apart).

    Raises `ValueError` for pictures whose numbers have no fixed range (32-bit integers beyond 65535, floats).
    """
    if picture.mode.startswith("I"):
        # `convert("RGB")` would clip: a 16-bit value of 1000 would become white instead of nearly black.
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"The picture holds numbers from {values.min()} to {values.max()}; 0 to 255 (8 bits) or "
                "0 to 65535 (16 bits) can be shown. Scale it first."
            )
        return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ValueError(
            "The picture holds floating-point numbers, whose black and white are not known. "
            "Save it with 8 or 16 bits first."
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def resize(image: Tensor, longest_side: int) -> Tensor:
    """Scale a picture so that its longer side has `longest_side` pixels; the proportions stay.

    image: [C, H, W], uint8 or float. Returns a new tensor of the same dtype. Shrinking is antialiased. The
    shorter side is rounded, and never less than one pixel.

    For pictures only: blending neighbours would make nonsense of boolean masks and of maps of class numbers.

    Raises `TypeError` or `ValueError` for anything else.
    """
    if not isinstance(image, Tensor) or image.ndim != 3:
        raise TypeError(f"resize takes one picture, a tensor [C, H, W], not {_describe(image)}.")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(
            f"resize takes pictures (uint8 or float), not {image.dtype}: masks and class numbers cannot be "
            "blended. Resize the picture before the model sees it, and the masks come out in its new size."
        )
    if isinstance(longest_side, bool) or not isinstance(longest_side, int):
        raise TypeError(f"longest_side is a whole number of pixels, not {longest_side!r}.")
    height, width = image.shape[-2:]
    if longest_side < 1 or min(height, width) < 1:
        raise ValueError(f"Cannot resize {width} x {height} pixels to a longest side of {longest_side}.")
    scale = longest_side / max(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"longest_side={longest_side} would make a picture of {size[1]} x {size[0]} pixels; "
            f"at most {MAX_PIXELS // 1_000_000} million pixels are allowed."
        )
    # By way of floats, because torch's own uint8 kernel (2.15) breaks when the result is a single pixel.
    resized = F.resize(image.float(), size, antialias=True)
    return (resized.round() if image.dtype == torch.uint8 else resized).to(image.dtype)


def check_float_range(image: Tensor) -> None:
    """Raise `ValueError` unless a float picture holds values from 0 to 1, give or take a rounding."""
    low, high = (value.item() for value in torch.aminmax(image))  # NaN if there is any
    bad = image.numel() - int(torch.isfinite(image).sum()) if not math.isfinite(low + high) else 0
    if bad:
        raise ValueError(f"The picture has {bad} values that are NaN or infinite.")
    if low < -1e-3 or high > 1 + 1e-3:
        hint = "Divide it by 255." if 0 <= low and high <= 255 else "If it was normalised, undo that first."
        raise ValueError(
            f"A float picture holds values from 0 to 1; these go from {low:.3g} to {high:.3g}. {hint}"
        )


def sample_images() -> dict[str, Path]:
    """Name the pictures that need no network: name -> file, sorted by name.

    The drawn tabletop scenes lie in `DATA_DIR / "scenes"` ("desk", "empty", "half_hidden" and others). The
    photographs come with scikit-image ("astronaut", "chelsea", "coffee", "coins", "hubble", "ihc") and
    matplotlib ("grace_hopper").

    Raises `FileNotFoundError` when the data folder or a library's photograph is missing.
    """
    if not DATA_DIR.is_dir():
        raise FileNotFoundError(
            f"The data folder '{DATA_DIR}' is missing. It belongs beside the folder 'segutils': clone the "
            "whole repository again, or install the package again."
        )
    samples = {file.stem: file for file in (DATA_DIR / "scenes").glob("*.png")}
    skimage_data = Path(skimage.__file__).parent / "data"
    photographs = {name: skimage_data / file for name, file in _SKIMAGE_SAMPLES.items()}
    photographs["grace_hopper"] = Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    for file in photographs.values():
        if not file.is_file():
            raise FileNotFoundError(
                f"The photograph '{file}' is missing. Install its library again: "
                "pip install --force-reinstall scikit-image matplotlib"
            )
    return dict(sorted((samples | photographs).items()))


def _existing_file(path: str | Path) -> Path:
    """Check that `path` names a file with something in it, and say what is wrong if it does not."""
    if not isinstance(path, str | Path):
        raise TypeError(f"load_image takes the path of a file (str or Path), not {_describe(path)}.")
    # Two letters or more, so that the drive of a Windows path (C:/) is not taken for a web address.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise ValueError(f"'{path}' is a web address. Download the picture, then give the path of the file.")
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        pictures = sorted(p.name for p in path.iterdir() if p.suffix.lower() in Image.registered_extensions())
        found = ", ".join(pictures[:5]) + (", ..." if len(pictures) > 5 else "")
        hint = f"Pictures in it: {found}." if pictures else "There are no pictures in it."
        raise IsADirectoryError(f"'{path}' is a folder, not a picture. {hint}")
    if not path.exists():
        raise FileNotFoundError(_not_found(path))
    if path.stat().st_size == 0:
        raise ValueError(f"'{path}' is empty (0 bytes). Copy or download the file again.")
    return path


def _not_found(path: Path) -> str:
    message = f"There is no file '{path}'."
    if not path.is_absolute():
        message += f" The path starts from the current folder, '{Path.cwd()}'."
    if not path.parent.is_dir():
        return message + f" The folder '{path.parent}' does not exist either."
    names = {name.lower(): name for name in os.listdir(path.parent)}
    close = [names[name] for name in difflib.get_close_matches(path.name.lower(), names)]
    return message + (f" Did you mean {' or '.join(close)}?" if close else "")


def _guess_content(path: Path) -> str:
    """Look at the first bytes of a file that is not a picture and say what it seems to be."""
    with path.open("rb") as file:
        head = file.read(256)
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1"):
        return (
            "It is a HEIC photo, the format of many phones. Run `pip install pillow-heif` and then "
            "`import pillow_heif; pillow_heif.register_heif_opener()`, or save the photo as JPEG."
        )
    if head.startswith((b"\xff\xd8", b"\x89PNG")):
        return "It begins like a JPEG or PNG but is damaged or cut short: copy or download it again."
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "It is an SVG drawing, made of shapes instead of pixels: export it as PNG."
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "It looks like a web page: the download gave a page instead of the picture."
    if start.startswith(b"%pdf"):
        return "It is a PDF document: export the page as PNG."
    if head.isascii() and b"\0" not in head:
        return "It looks like a text file."
    return "Pillow does not know its format: save it as PNG or JPEG."


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    return f"{type(value).__name__} ({value!r:.40})"
