"""Deep skies, drawn: galaxies and stars with exact masks, as `skimage.data.hubble_deep_field()` shows them.

`render_sky(seed)` draws one piece of sky and its ground truth, at the scale of that photograph. Light adds up: each
galaxy is a sum of discs whose brightness falls off as that of real ones does, with spiral arms and bright knots. Then
the sum is developed as the photograph was, so that cores turn white and outskirts keep their colour.

A thing's mask is where its own light, without its neighbours', exceeds a fixed level: its isophote. A pixel that two
could claim goes to the one that is brighter there. What covers too few pixels is drawn but not labelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from skimage import feature, filters, segmentation
from torch import Tensor

from segutils.tabletop.camera import clip_to
from segutils.tabletop.pieces import Patch, any_of
from segutils.targets import make_target

SKY_CATEGORIES = ("__background__", "galaxy", "star")
MIN_AREA = 30  # pixels; what is smaller is drawn but not labelled

_SKY, _WHITE = 11.5, 243.0  # grey value of the empty sky, and how much light can add to it
_LEVEL = 22 / _WHITE  # of the isophotes: five times the noise
_REACH = 2.6  # how far a galaxy's light is drawn, in radii of its isophote
_AT_LEVEL = -np.log(1 - _LEVEL)  # the light that gives this grey value

# From old stars to young ones: ellipticals are made of the former, arms and knots of the latter.
_OLD = "ff9a5c ffa878 ffbc94 ffd0b0 ff8050 ffdcc8 ff6048"
_PALE = "e8ecf0 d4e4f0 f4e6e6 cfe0f0 e6d8f0"
_YOUNG = "94c4f4 7cb8f4 b4dcf0 a8b0f8 c4b0f4 8cd4e4 78acf4"
_RARE = "ff5868 ff80a8 ff5444 d088e0 ff8c6c"


def render_sky(seed: int, size: int = 160) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw a square piece of deep sky with galaxies and stars in it.

    Args:
        seed: any whole number >= 0. The same seed and size give the same picture.
        size: height and width of the picture in pixels, at least 32. Things stay as large as they are.

    Returns:
        The picture, uint8 [3, size, size], and torchvision's training target: `boxes` float32 [N, 4] (xyxy, pixels),
        `labels` int64 [N] (indices of `SKY_CATEGORIES`), `masks` uint8 [N, size, size] of 0 and 1. No two masks share
        a pixel, and each has at least 30. A few skies hold nothing but specks: N is 0 and the shapes stay.

    Raises:
        ValueError: `seed` is negative or `size` is too small.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    if size < 32:
        raise ValueError(f"size must be at least 32 pixels, got {size}")
    rng = np.random.default_rng((seed, 2))
    light = np.zeros((size, size, 3))
    _sow_specks(light, rng)
    claims, labels = [], []  # where in the picture each thing lies and how bright it is there; its class
    for label, patch, glow in _things(size, rng):
        brightness = _develop(glow).mean(-1)
        if (brightness > _LEVEL).sum() < 1.3 * MIN_AREA:
            continue  # hardly anything is left so small that its label is in doubt
        window, inner = clip_to(light.shape, patch)
        light[window] += glow[inner]
        claims.append((window, brightness[inner]))
        labels.append(label)
    owner, numbers = _share(claims, size)
    masks = torch.from_numpy(owner) == torch.tensor(numbers, dtype=torch.int64)[:, None, None]
    return _photograph(light, rng), make_target(masks, [labels[number] for number in numbers])


def _hue(colours: str, rng: np.random.Generator) -> np.ndarray:
    """The light that is seen as one of these colours where it's bright, and deeper where it's faint."""
    return any_of(colours, rng) ** 1.6


@cache
def _cloud_field() -> np.ndarray:
    """Smooth noise, float64 [512, 512], with a standard deviation of 1 and lumps a few pixels across."""
    waves = np.fft.rfft2(np.random.default_rng(0).standard_normal((512, 512)))
    down, across = np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)
    field = np.fft.irfft2(waves * np.exp(-(down**2 + across**2) * 28))
    return field / field.std()


def _clouds(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Some piece of the field: a new one for every galaxy would take longer than all the rest."""
    top, left = rng.integers(513 - np.array(shape))
    return _cloud_field()[top : top + shape[0], left : left + shape[1]]


def _develop(light: np.ndarray) -> np.ndarray:
    """From light to 0..1: proportional where it's faint, and never more than white."""
    return 1 - np.exp(-light)


def _share(claims: list[tuple], size: int) -> tuple[np.ndarray, list[int]]:
    """Which thing owns each pixel, int64 [size, size], -1 for none, and the numbers of those that own enough."""
    numbers = list(range(len(claims)))
    while True:
        owner, brightest = np.full((size, size), -1), np.full((size, size), _LEVEL)
        for number in numbers:
            window, brightness = claims[number]
            mine = brightness > brightest[window]
            brightest[window][mine] = brightness[mine]
            owner[window][mine] = number
        areas = np.bincount(owner.ravel() + 1, minlength=len(claims) + 1)[1:]
        if all(areas[number] >= MIN_AREA for number in numbers):
            return owner, numbers
        # What's too small gives its pixels to what lies behind it.
        numbers = [number for number in numbers if areas[number] >= MIN_AREA]


def _photograph(light: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Develop the light, lay it on the dark of the sky, and add the grain."""
    grain = rng.standard_normal((*light.shape[:2], 4))
    grain = 3.6 * grain[..., 3:] + 2.2 * grain[..., :3]  # much of it is the same in red, green and blue
    picture = np.array([0.9, 1.1, 0.9]) * _SKY + rng.normal() * 1.2 + grain + _WHITE * _develop(light)
    picture = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def _things(size: int, rng: np.random.Generator) -> Iterator[tuple[int, Patch, np.ndarray]]:
    """Label, patch and light [h, w, 3] of all that may be large enough for a label."""
    turn = rng.random() * np.pi  # spikes come from the telescope, so all stars share their direction
    places = []
    for _ in range(rng.poisson(size * size / 25600 * rng.choice([3, 14, 22, 30], p=[0.1, 0.3, 0.4, 0.2]))):
        if places and rng.random() < 0.2:  # in company
            places.append(places[rng.integers(len(places))] + rng.normal(size=2) * 13)
        else:
            places.append((rng.random(2) * 1.06 - 0.03) * size)
        radius = min(3.2 * (1 - rng.random()) ** (-1 / 1.85), 28)  # few are large
        kinds = _KINDS if radius > 6 else _SMALL_KINDS
        draw, angle = kinds[rng.integers(len(kinds))], rng.random() * 2 * np.pi
        if rng.random() < 0.06:
            draw, angle, radius = _draw_star, turn, 9 * np.exp(0.8 * rng.random())
        patch = Patch.at(places[-1], 2 * _REACH * radius + 4, angle, rng)
        u, v, _ = patch.scaled(patch.px / radius)
        patch = patch._replace(u=u, v=v, px=radius)  # in units of the radius, with room for a halo
        yield 2 if draw is _draw_star else 1, patch, draw(patch, rng)


def _sow_specks(light: np.ndarray, rng: np.random.Generator) -> None:
    """Add the far and faint: some hundred specks of a few pixels each."""
    size, reach = len(light), 5
    count = rng.poisson(size * size / 25600 * rng.uniform(160, 340))
    centre = reach + rng.random((2, count, 1, 1)) * (size + 2 * reach)  # from a rim around the picture
    steps = np.arange(-reach, reach + 1)
    rows, columns = np.floor(centre).astype(int)
    rows, columns = rows + steps[:, None], columns + steps
    y, x = rows + 0.5 - centre[0], columns + 0.5 - centre[1]
    angle = rng.random((count, 1, 1)) * np.pi
    long = 0.7 + 0.9 * rng.random((count, 1, 1)) ** 2
    short = np.maximum(long * rng.uniform(0.4, 1, (count, 1, 1)), 0.58)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    shape = np.exp(-((along / long) ** 2 + (across / short) ** 2) / 2)
    peak = np.minimum(0.1 * (1 - rng.random(count)) ** (-1 / 1.2), 1.6 / (long * short).ravel())
    palette = np.array([_hue(c, rng) for c in (_YOUNG,) * 11 + (_PALE,) * 3 + (_RARE, _OLD)]) ** 1.5
    glow = shape[..., None] * (peak[:, None] * palette[rng.integers(len(palette), size=count)])[:, None, None]
    wide = np.zeros((size + 4 * reach, size + 4 * reach, 3))
    np.add.at(wide, (rows, columns), glow)
    light += wide[2 * reach : -2 * reach, 2 * reach : -2 * reach]


def _fall(patch: Patch, u: np.ndarray, v: np.ndarray, peak: float, sersic: float) -> np.ndarray:
    """Light that falls off from the middle as Sersic (1963) found it, peak * exp(-(r / h) ** (1 / n)).

    n = 0.5 is a Gaussian, 1 a disc galaxy, larger an elliptical; h is such that the isophote has radius 1.
    """
    blur, peak = 0.6 / patch.px, max(peak, 1.5 * _AT_LEVEL)  # the telescope's blur is less than a pixel
    r = np.sqrt(u * u + v * v + blur * blur)
    return peak * np.exp(-np.log(peak / _AT_LEVEL) * r ** (1 / sersic)) * np.clip((_REACH - r) / 0.8, 0, 1)


def _peak(patch: Patch, rng: np.random.Generator) -> float:
    return float((1.1 + 0.03 * patch.px) * np.exp(rng.normal() * 0.5) + 0.2)


def _draw_elliptical(patch: Patch, rng: np.random.Generator) -> np.ndarray:
    """A smooth ball of old stars, redder further out."""
    old = rng.random() < (0.8 if patch.px > 6 else 0.3)
    colour = _hue(_OLD if old else f"{_PALE} {_YOUNG}", rng)
    squeeze = max(rng.uniform(0.5, 1), min(1.5 / patch.px, 1))
    peak, sersic = 1.8 * _peak(patch, rng), rng.uniform(0.6, 1.3)
    layers = zip((0.95, 1.0, 1.04), colour, strict=True)
    return np.stack(
        [_fall(patch, patch.u * k, patch.v * k / squeeze, peak * c, sersic) for k, c in layers], -1
    )


def _draw_spiral(patch: Patch, rng: np.random.Generator) -> np.ndarray:
    """A disc with arms and knots around a bulge, seen from above or at a slant."""
    u, v = patch.u, patch.v / rng.uniform(0.45, 1)
    r = np.sqrt(u * u + v * v)
    arms, pitch = int(rng.choice([1, 2, 2, 3, 4])), rng.uniform(0.22, 0.5) * rng.choice([-1, 1])
    wave = np.cos(arms * (np.arctan2(v, u) - np.log(r + 0.08) / np.tan(pitch)) + rng.random() * 7)
    wave += 0.6 * _clouds(u.shape, rng)
    arm = 1 + rng.uniform(0.25, 0.6) * np.clip(r / 0.25, 0, 1) * np.clip(wave, -1.25, 1.6)
    disc = _fall(patch, u, v, _peak(patch, rng) + 0.2, rng.uniform(0.35, 0.7)) * arm
    young = _hue(_YOUNG if rng.random() < 0.6 else _PALE, rng)
    old = _hue(f"{_OLD} {_PALE}" if rng.random() < 0.8 else _RARE, rng)
    age = np.clip(0.25 - 0.18 * wave, 0, 0.5)[..., None]  # of the stars: young ones in the arms
    bulge = _fall(patch, u / 0.35, v / 0.35, rng.uniform(0.3, 1.6), 1.0)
    return disc[..., None] * ((1 - age) * young + age * old) + bulge[..., None] * old


def _draw_edge_on(patch: Patch, rng: np.random.Generator) -> np.ndarray:
    """A disc from the side: a needle, sometimes bent, with a small bulge."""
    thin = max(rng.uniform(0.14, 0.4), 1.25 / patch.px)
    u, v = patch.u, patch.v + rng.normal() * 0.1 * patch.u**2
    disc = _fall(patch, u, v / thin, _peak(patch, rng) + 0.25, rng.uniform(0.4, 0.75))
    disc *= 1 + 0.2 * _clouds(v.shape, rng)
    bulge = _fall(patch, u / 0.3, v / min(1.6 * thin, 0.3), rng.uniform(0.15, 1), 0.8)
    colour = _hue(str(rng.choice([_YOUNG, _YOUNG, _PALE, _OLD])), rng)
    return disc[..., None] * colour + bulge[..., None] * _hue(f"{_OLD} {_PALE}", rng)


def _draw_irregular(patch: Patch, rng: np.random.Generator) -> np.ndarray:
    """A lumpy body of no shape in particular; now and then one with a tail, pulled out by a neighbour."""
    u, v = patch.u, patch.v + rng.normal() * 0.3 * patch.u**2
    colours = [_YOUNG, _YOUNG, _PALE, _RARE]
    colour, slim = _hue(str(rng.choice(colours)), rng), max(rng.uniform(0.4, 1), min(1.3 / patch.px, 1))
    body = _fall(patch, u, v / slim, _peak(patch, rng), 0.6) * np.exp(0.5 * _clouds(u.shape, rng))
    if patch.px > 5 and rng.random() < 0.35:
        bend = v - rng.normal() * 0.5 * u**2
        tail = rng.uniform(0.2, 0.5) * np.exp(-((bend / 0.16) ** 2)) * np.clip(u / 0.3, 0, 1)
        body += tail * np.clip((rng.uniform(1.2, 2.2) - u) / 0.6, 0, 1)
    glow = body[..., None] * colour
    for _ in range(rng.integers(1, 2 + int(min(patch.px, 12) / 2))):
        x, y = rng.normal(size=2) * 0.4
        knot = _fall(patch, (u - x) / 0.3, (v - y) / 0.3, rng.uniform(0.15, 1.1), 0.5)
        glow += knot[..., None] * _hue(str(rng.choice(colours)), rng)
    return glow


def _draw_star(patch: Patch, rng: np.random.Generator) -> np.ndarray:
    """A point of light, with the spikes that the telescope's struts make of it: one cross reddish, one bluish."""
    u, v, length = patch.u * patch.px, patch.v * patch.px, patch.px / 2.3
    r, peak = np.sqrt(u * u + v * v), (length / 1.7) ** 2
    core = peak * np.exp(-r * r / 5) + 0.11 * peak * np.exp(-r / (0.36 * length))
    glow = core[..., None] * _hue("ffffff e8f0ff ffe8d8 ffd8e8", rng)
    a, b = (u + v) / np.sqrt(2), (u - v) / np.sqrt(2)
    red, blue = "ff4060 ff5878 ff7050", "40a0c0 5080ff 60b0ff"
    for along, across, colours in ((u, v, red), (v, u, red), (a, b, blue), (b, a, blue)):
        along = np.abs(along)
        bright = np.exp(-along / (0.45 * length)) + 0.15 * np.exp(-along / (1.6 * length))
        spike = 0.2 * peak * bright * np.exp(-((across / (0.9 + 0.9 / (1 + along**2 / 9))) ** 2))
        glow += spike[..., None] * _hue(colours, rng)
    return glow * np.clip(2 - 2 * r / (_REACH * patch.px), 0, 1)[..., None]


_KINDS = (_draw_elliptical, _draw_spiral, _draw_spiral, _draw_edge_on, _draw_irregular)
_SMALL_KINDS = (_draw_elliptical, _draw_elliptical, _draw_edge_on, _draw_irregular, _draw_irregular)


# ---------------------------------------------------------------------------------------------------------------
# A photograph, which comes without a truth
# ---------------------------------------------------------------------------------------------------------------


def bright_regions(image: Tensor, level: float = 15) -> tuple[np.ndarray, np.ndarray]:
    """Tell bright things from dark sky without a network: something to hold a model's finds against.

    The picture is smoothed (a Gaussian of 1.5 pixels). What is brighter than the median by `level` grey values is a
    thing, split by a watershed where two peaks meet.

    Args:
        image: uint8 [3, H, W], mostly sky.
        level: grey values, 0 to 255.

    Returns:
        The regions, int [H, W], numbered from 1, with 0 where the sky is dark; and the smoothed light above the sky,
        float [H, W].
    """
    light = filters.gaussian(image.float().mean(dim=0).numpy(), 1.5, preserve_range=True)
    light -= np.median(light)
    bright = light > level
    peaks = feature.peak_local_max(light, min_distance=5, labels=bright.astype(int))
    seeds = np.zeros(bright.shape, int)
    seeds[tuple(peaks.T)] = range(1, len(peaks) + 1)
    return segmentation.watershed(-light, seeds, mask=bright), light
