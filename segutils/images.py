"""Pictures in: one gate that turns any picture file into the same kind of tensor, and one for files of masks."""

import difflib
import io
import math
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import matplotlib.cbook
import numpy as np
import skimage
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as F

_PACKAGE = Path(__file__).resolve().parent
# An installed wheel carries the data inside the package; a clone of the repository has it beside the package.
DATA_DIR: Path = _PACKAGE / "data" if (_PACKAGE / "data").is_dir() else _PACKAGE.parent / "data"

MAX_PIXELS = 50_000_000
"""The largest picture `load_image` opens, in pixels: what large phone cameras take, and 150 MB when decoded."""

_SKIMAGE_SAMPLES = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "hubble": "hubble_deep_field.jpg",
    "ihc": "ihc.png",
}


class ImageLoadError(ValueError):
    """A file cannot be read as a picture. `path` is the file, `reason` says why and what to do."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"'{path}' {reason}")
        self.path, self.reason = path, reason


def load_image(path: str | Path) -> Tensor:
    """Read a picture file into a uint8 RGB tensor [3, H, W] with values 0 to 255.

    Whatever is in the file, the result has the same form:

    - a photo taken sideways is turned upright (EXIF orientation);
    - transparent parts are laid on white;
    - grey, black-and-white, palette and CMYK pictures become RGB;
    - a colour profile (ICC), such as a camera's Adobe RGB, is followed, and the colours become sRGB;
    - 16-bit pictures are scaled to 8 bits (value / 257), not clipped;
    - of an animation, or of a file with several pages, the first frame is taken.

    `path` may begin with `~`. Every format that Pillow knows is read: PNG, JPEG, WebP, GIF, BMP, TIFF and
    more.

    Raises `FileNotFoundError` or `IsADirectoryError` when there is no such file, and `ImageLoadError` when the
    path is a web address, or the file is empty, damaged, larger than `MAX_PIXELS`, or not a picture. A colour profile
    that is damaged or made for another kind of picture is ignored, with a warning that names the file.
    """
    image, problem = _read("load_image", path, _to_tensor)
    if problem:
        warnings.warn(
            f"'{path}' has a colour profile that is ignored, so its colours may be a little off: {problem}. "
            "To get rid of this warning, save the picture again as sRGB with a photo editor.",
            stacklevel=2,
        )
    return image


def load_mask(path: str | Path) -> Tensor:
    """Read a mask file into whole numbers, int64 [H, W]: for each pixel, the number of its class or instance.

    The numbers are those in the file, neither scaled nor looked up:

    - a palette picture gives the palette's indices, not its colours;
    - a grey picture of 8, 16 or 32 bits gives its values, a black-and-white one 0 and 1;
    - a mask taken sideways is turned upright, as its photo is (EXIF orientation);
    - of a file with several pages, the first is taken.

    Keep masks as PNG: JPEG changes numbers a little, above all along the edges.

    Raises what `load_image` raises, and `ImageLoadError` for pictures in colour, with transparency or of
    floating-point numbers: what number a colour stands for is not in the file.
    """
    return _read("load_mask", path, _to_numbers)


_Result = TypeVar("_Result")


def _read(function: str, path: str | Path, convert: Callable[[Image.Image], _Result]) -> _Result:
    """Open a picture file, turn it upright and convert it; if that cannot be done, say what is wrong with it."""
    path = _existing_file(function, path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures, of which our own check says more, and of odd details in a file.
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:  # reads the header only
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"it has {width} x {height} pixels")
                ImageOps.exif_transpose(picture, in_place=True)
                return convert(picture)
    except (PermissionError, ImageLoadError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageLoadError(
            path,
            f"is too large ({error}). At most {MAX_PIXELS // 1_000_000} million pixels are opened: "
            "make the picture smaller, or cut it into pieces.",
        ) from error
    except UnidentifiedImageError as error:
        raise ImageLoadError(path, f"is not a picture that can be read. {_guess_content(path)}") from error
    except _NoRange as error:
        raise ImageLoadError(path, f"cannot be turned into RGB. {error}") from error
    except _NoMask as error:
        raise ImageLoadError(path, f"is not a mask. {error}") from error
    except Exception as error:  # Pillow's decoders raise nearly everything there is on damaged files
        raise ImageLoadError(
            path, f"is damaged or cut short ({error}). Copy or download the file again."
        ) from error


def _to_tensor(picture: Image.Image) -> tuple[Tensor, str]:
    """Make a tensor [3, H, W] of a Pillow picture, and say what is wrong with its colour profile, if anything is.

    It is done strip by strip, so that the picture is never in memory three times.
    """
    picture.load()
    transform, problem = None, ""
    if picture.info.get("icc_profile"):
        try:
            transform = _srgb_transform(picture.info["icc_profile"], picture.mode)
        except (ImageCms.PyCMSError, ImportError) as error:  # ImportError: a Pillow without LittleCMS
            problem = str(error)
    width, height = picture.size
    image = torch.empty(3, height, width, dtype=torch.uint8)
    rows = max(1, 2_000_000 // width)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height)))
        if transform:
            strip = _apply(transform, strip)
        image[:, top : top + rows] = F.pil_to_tensor(to_rgb(strip))
    return image, problem


def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Make the step from a colour profile to sRGB, for pictures of a mode; None where the profile is sRGB itself.

    Raises `PyCMSError` when the profile is damaged, or made for pictures of another kind.
    """
    source = ImageCms.getOpenProfile(io.BytesIO(profile))
    kind = source.profile.xcolor_space.strip()
    # Grey values are colours as well, with red, green and blue alike; the other way round it is not so.
    fits = {
        "RGB": mode not in ("CMYK", "LAB"),
        "GRAY": Image.getmodebase(mode) == "L",
        "CMYK": mode == "CMYK",
    }
    if not fits.get(kind):
        raise ImageCms.PyCMSError(f"the profile is for {kind} pictures, and this one has mode {mode}")
    source_mode = "L" if kind == "GRAY" else kind
    # Relative colorimetric, with black kept black: every colour that sRGB has stays what it was, to be measured. The
    # perceptual intent would shift them all, to make room for those that sRGB lacks.
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        source_mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=0x2000 | 0x0400,  # black point compensation and fine tables; Pillow names them since 10.3
    )
    if kind != "CMYK":
        # There are many sRGB profiles, which differ in their bytes and roundings. One that moves no colour by more than
        # a level is sRGB, and such a picture keeps its numbers.
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
        probe = Image.fromarray(colors).convert(source_mode)
        before, after = (np.asarray(p, dtype=int) for p in (probe.convert("RGB"), _apply(transform, probe)))
        if abs(after - before).max() <= 1:
            return None
    return transform


def _apply(transform: ImageCms.ImageCmsTransform, picture: Image.Image) -> Image.Image:
    """Turn the colours of a picture into sRGB: mode RGB, or RGBA where parts are transparent."""
    if picture.mode[0] in "IF":  # more than 8 bits
        picture = to_rgb(picture)
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
    converted = ImageCms.applyTransform(picture.convert(transform.input_mode), transform)
    if picture.mode == "RGBA":
        converted.putalpha(picture.getchannel("A"))
    return converted


def _to_numbers(picture: Image.Image) -> Tensor:
    """Make a tensor [H, W] of the numbers in a Pillow picture."""
    if picture.mode == "F":
        raise _NoMask("It holds floating-point numbers. Round them, and save them as PNG with 8 or 16 bits.")
    if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
        raise _NoMask(
            f"It holds colours or transparency (mode {picture.mode}), not one number for each pixel. Give each colour "
            "its number: image = load_image(path), a mask of zeros, and then for each colour "
            "mask[(image == torch.tensor(color)[:, None, None]).all(0)] = number."
        )
    return torch.from_numpy(np.asarray(picture).astype(np.int64))


class _NoMask(ValueError):
    """A picture does not hold one whole number for each pixel."""


class _NoRange(ValueError):
    """The numbers in a picture do not say what is black and what is white."""


def to_rgb(picture: Image.Image) -> Image.Image:
    """Turn a Pillow picture of any mode into mode RGB, by the rules of `load_image` (EXIF and colour profile apart).

    Raises `ValueError` for pictures whose numbers have no fixed range (32-bit integers beyond 65535, floats).
    """
    if picture.mode.startswith("I"):
        # `convert("RGB")` would clip: a 16-bit value of 1000 would become white instead of nearly black.
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise _NoRange(
                f"The picture holds numbers from {values.min()} to {values.max()}; 0 to 255 (8 bits) or "
                "0 to 65535 (16 bits) can be shown. Scale it first."
            )
        return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise _NoRange(
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

    image: [3, H, W], uint8 or float. Returns a new tensor of the same dtype. Shrinking is antialiased. The
    shorter side is rounded, and never less than one pixel.

    For pictures only: blending neighbours would make nonsense of masks and of maps of class or instance numbers.

    Raises `TypeError` or `ValueError` for anything else, a uint8 map [1, H, W] or uint8 masks [N, H, W] among it.
    """
    if not isinstance(image, Tensor) or image.ndim != 3:
        raise TypeError(f"resize takes one picture, a tensor [3, H, W], not {_describe(image)}.")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(
            f"resize takes pictures (uint8 or float), not {image.dtype}: masks and class numbers cannot be "
            "blended. Resize the picture before the model sees it, and the masks come out in its new size."
        )
    if image.shape[0] != 3:
        raise TypeError(
            f"resize takes pictures [3, H, W], not {list(image.shape)}: masks and class numbers cannot be blended. "
            "Of a grey picture, image.expand(3, -1, -1) makes one that can."
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


def _existing_file(function: str, path: str | Path) -> Path:
    """Check that `path` names a file with something in it, and say what is wrong if it does not."""
    if not isinstance(path, str | Path):
        raise TypeError(f"{function} takes the path of a file (str or Path), not {_describe(path)}.")
    # Two letters or more, so that the drive of a Windows path (C:/) is not taken for a web address.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise ImageLoadError(path, "is a web address. Download the picture, then give the path of the file.")
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        pictures = sorted(p.name for p in path.iterdir() if p.suffix.lower() in Image.registered_extensions())
        found = ", ".join(pictures[:5]) + (", ..." if len(pictures) > 5 else "")
        hint = f"Pictures in it: {found}." if pictures else "There are no pictures in it."
        raise IsADirectoryError(f"'{path}' is a folder, not a picture. {hint}")
    if not path.exists():
        raise FileNotFoundError(_not_found(path))
    if path.stat().st_size == 0:
        raise ImageLoadError(path, "is empty (0 bytes). Copy or download the file again.")
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
