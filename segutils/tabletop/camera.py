"""Light on drawn things, their shadows, and what a camera makes of the picture."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from segutils.tabletop.pieces import Patch, Surface


def any_light(rng: np.random.Generator) -> np.ndarray:
    azimuth, elevation = rng.random() * 2 * np.pi, np.deg2rad(32 + 38 * rng.random())
    return np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    )


def coverage(edge: np.ndarray, px: float) -> np.ndarray:
    """How much of each pixel lies inside an outline, 0 to 1: the outline is straight within a pixel."""
    down, across = np.gradient(edge * px)
    return np.clip(0.5 - edge * px / np.maximum(np.sqrt(down**2 + across**2), 0.3), 0, 1)


def shade(surface: Surface, px: float, light: np.ndarray) -> np.ndarray:
    down, across = np.gradient(surface.height * px)
    norm = np.sqrt(1 + down**2 + across**2)
    diffuse = np.clip((light[2] - across * light[0] - down * light[1]) / norm, 0, None) / light[2]
    half = light + (0, 0, 1)
    half = half / np.sqrt((half**2).sum())
    shine = np.clip((half[2] - across * half[0] - down * half[1]) / norm, 0, 1)
    shine = surface.gloss * (shine**24 - 0.4 * half[2] ** 24)
    lit = surface.colour * (0.38 + 0.62 * np.minimum(diffuse, 1.5))[..., None]
    lit += shine[..., None]
    return np.clip(lit, 0, 1, out=lit)


def clip_to(shape: tuple[int, ...], patch: Patch) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the picture that the patch covers, and the same part counted from the patch's own corner."""
    picture, own = [], []
    for start, length, limit in zip((patch.top, patch.left), patch.u.shape, shape[:2], strict=True):
        low, high = min(max(start, 0), limit), max(min(start + length, limit), 0)
        picture.append(slice(low, max(low, high)))
        own.append(slice(low - start, max(low, high) - start))
    return tuple(picture), tuple(own)


def cast_shadow(
    canvas: np.ndarray, alpha: np.ndarray, patch: Patch, light: np.ndarray, rng: np.random.Generator
) -> None:
    """Darken the picture beside a thing: a soft shadow away from the light and a thin dark seam all around."""
    lift = patch.px * (0.05 + 0.1 * rng.random())
    stamp = np.round(alpha * 255).astype(np.uint8)
    for offset, blur, darkness in ((lift / light[2], 0.6 * lift + 0.5, 0.45), (0.0, 0.25 * lift + 0.8, 0.35)):
        pad = int(np.ceil(3 * blur)) + 4
        soft = Image.fromarray(np.pad(stamp, pad)).filter(ImageFilter.GaussianBlur(blur))
        soft = np.asarray(soft) / 255
        shift = np.round(-light[:2] * offset).astype(int)
        moved = patch._replace(
            left=patch.left - pad + int(shift[0]), top=patch.top - pad + int(shift[1]), u=soft
        )
        window, inner = clip_to(canvas.shape, moved)
        canvas[window] *= 1 - darkness * soft[inner][..., None]


def lay(canvas: np.ndarray, surface: Surface, patch: Patch, alpha: np.ndarray, light: np.ndarray) -> None:
    """Paint a thing onto the picture where its patch lies, lit, and covering as much as `alpha` says."""
    window, inner = clip_to(canvas.shape, patch)
    colour = shade(surface, patch.px, light)
    canvas[window] += (colour[inner] - canvas[window]) * alpha[inner][..., None]


def photograph(canvas: np.ndarray, rng: np.random.Generator) -> Tensor:
    """What a camera makes of the table: uneven light, a colour cast, blur, noise, grey pictures, JPEG."""
    height, width, _ = canvas.shape
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    slope = rng.standard_normal(2) * 0.12
    falloff = 1 + slope[0] * x + slope[1] * y - 0.18 * rng.random() * (x**2 + y**2)
    exposure, contrast = 0.8 + 0.4 * rng.random(), 0.75 + 0.45 * rng.random()
    brightness = (1 - contrast) * (0.5 + (rng.random() - 0.5) * 0.6)
    grain = rng.standard_normal((height, width), np.float32) * (rng.random() ** 2 * 0.035)
    picture = canvas  # from here on in place: at this size, new arrays cost more than sums
    picture *= (255 * exposure * contrast * falloff)[..., None]
    picture *= 1 + (rng.random(3) - 0.5) * 0.16
    picture += (255 * (brightness + grain) + 0.5)[..., None]
    image = Image.fromarray(np.clip(picture, 0, 255, out=picture).astype(np.uint8))
    if rng.random() < 0.3:
        image = image.convert("L").convert("RGB")
    image = image.filter(ImageFilter.GaussianBlur(rng.random() ** 2 * 1.3 * min(height, width) / 480))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(55, 97)))
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).contiguous()
