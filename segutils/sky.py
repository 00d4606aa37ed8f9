"""Deep skies, drawn: galaxies and stars with exact masks, as `skimage.data.hubble_deep_field()` shows them.

`render_sky(seed)` draws one piece of sky and its ground truth, at the scale of that photograph. Light adds up: each
galaxy is a sum of discs whose brightness falls off as that of real ones does, modulated by spiral arms and bright
knots; then what was summed is developed as the photograph was, so that cores turn white and outskirts keep their colour.

A thing's mask is where its own light, without that of its neighbours, exceeds a fixed level: its isophote. A pixel that
two could claim goes to the one that is brighter there. What covers too few pixels is drawn but not labelled: a sky is
full of specks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segutils.tabletop.camera import clip_to
from segutils.tabletop.pieces import Patch, any_of
from segutils.targets import make_target

SKY_CATEGORIES = ("__background__", "galaxy", "star")
MIN_AREA = 30  # pixels; what is smaller is drawn but not labelled

_SKY, _WHITE = 11.5, 243.0  # grey value of the empty sky, and how much light can add to it
_LEVEL = 22 / _WHITE  # of the isophotes: five times the noise
_AT_LEVEL = -np.log(1 - _LEVEL)  # the light that gives this grey value

# From old stars to young ones: ellipticals are made of the former, arms and knots of the latter.
_OLD = "ff9a5c ffb078 ffc490 ffd9b0 ff8050 f5e0c8 ff6048"
_PALE = "e8ecec d9e4ea f2ede0 cfe0e8 e6dcea"
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
    claims, labels = [], []  # where in the picture each thing lies, and how bright it is there
    for label, patch, glow in _things(size, rng):
        window, inner = clip_to(light.shape, patch)
        light[window] += glow[inner]
        claims.append((window, _develop(glow[inner]).mean(-1)))
        labels.append(label)
    owner, numbers = _share(claims, size)
    masks = torch.from_numpy(owner) == torch.tensor(numbers, dtype=torch.int64)[:, None, None]
    return _photograph(light, rng), make_target(masks, [labels[number] for number in numbers])


def _hue(colours: str, rng: np.random.Generator) -> np.ndarray:
    """The light that is seen as one of these colours where it's bright, and deeper where it's faint."""
    return any_of(colours, rng) ** 1.6


def _clouds(shape: tuple[int, ...], width: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise with a standard deviation of 1, its lumps about `width` pixels across."""
    waves = np.fft.rfft2(rng.standard_normal(shape))
    down, across = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    waves *= np.exp(-((down**2 + across**2) * (2.2 * width) ** 2))
    clouds = np.fft.irfft2(waves, shape)
    return (clouds - clouds.mean()) / (clouds.std() + 1e-9)


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
        numbers = [
            number for number in numbers if areas[number] >= MIN_AREA
        ]  # their pixels go to what's behind


def _photograph(light: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Develop the light, lay it on the dark of the sky, and add the grain."""
    size = len(light)
    exposure = np.exp(rng.normal() * 0.08)
    grain = rng.standard_normal((size + 2, size + 2, 4))
    grain = (
        grain[1:-1, 1:-1]
        + 0.13
        * (  # neighbours resemble each other a little
            grain[2:, 1:-1] + grain[:-2, 1:-1] + grain[1:-1, 2:] + grain[1:-1, :-2]
        )
    )
    grain = 3.3 * grain[..., 3:] + 2.1 * grain[..., :3]
    sky = np.array([0.9, 1.1, 0.9]) * _SKY + rng.normal() * 1.2
    picture = sky + grain + _WHITE * _develop(light * exposure)
    picture = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


# ---------------------------------------------------------------------------------------------------------------
# What there is in a sky
# ---------------------------------------------------------------------------------------------------------------


def _things(size: int, rng: np.random.Generator):
    """Yield label, patch and light [h, w, 3] of all that's large enough to be worth a label."""
    count = rng.poisson(size * size / 25600 * rng.choice([4, 18, 28, 40], p=[0.1, 0.3, 0.4, 0.2]))
    turn = rng.random() * np.pi  # spikes come from the telescope, so all stars share their direction
    places = []
    for _ in range(count):
        if places and rng.random() < 0.25:  # in company
            place = places[rng.integers(len(places))] + rng.normal(size=2) * 11
        else:
            place = (rng.random(2) * 1.06 - 0.03) * size
        places.append(place)
        if rng.random() < 0.025:
            yield 2, *_draw_star(place, turn, rng)
            continue
        diameter = min(5.5 * (1 - rng.random()) ** (-1 / 1.7), 58)  # twice as large is three times as rare
        kinds = _KINDS if diameter > 12 else _SMALL_KINDS
        yield 1, *kinds[rng.integers(len(kinds))](place, diameter / 2, rng)


def _sow_specks(light: np.ndarray, rng: np.random.Generator) -> None:
    """Add the far and faint: some hundred specks of a few pixels each."""
    size, reach = len(light), 5
    count = rng.poisson(size * size / 25600 * rng.uniform(160, 340))
    centre = rng.random((2, count)) * (size + 2 * reach)  # counted from a rim around the picture
    corner = np.floor(centre).astype(int)
    steps = np.arange(-reach, reach + 1)
    y = (corner[0] - centre[0] + 0.5)[:, None, None] + steps[:, None]
    x = (corner[1] - centre[1] + 0.5)[:, None, None] + steps
    angle = rng.random((count, 1, 1)) * np.pi
    long = 0.75 + 0.9 * rng.random((count, 1, 1)) ** 2
    short = np.maximum(long * rng.uniform(0.4, 1, (count, 1, 1)), 0.62)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    shape = np.exp(-((along / long) ** 2 + (across / short) ** 2) / 2)
    peak = np.minimum(0.055 * (1 - rng.random(count)) ** (-1 / 1.1), 1.1 / (long * short).ravel())
    palette = np.array([_hue(c, rng) for c in (_YOUNG,) * 9 + (_PALE,) * 4 + (_RARE, _OLD, _OLD)])
    glow = shape[..., None] * (peak[:, None] * palette[rng.integers(len(palette), size=count)])[:, None, None]
    wide = np.zeros((size + 4 * reach, size + 4 * reach, 3))
    rows = corner[0][:, None, None] + reach + steps[:, None]
    columns = corner[1][:, None, None] + reach + steps
    np.add.at(wide, (rows, columns), glow)
    light += wide[2 * reach : -2 * reach, 2 * reach : -2 * reach]


def _around(place: np.ndarray, radius: float, rng: np.random.Generator) -> Patch:
    """A patch with room for a halo; `u` and `v` are 1 where the isophote of what is drawn in it shall be."""
    patch = Patch.at(place, 2 * radius * 2.6 + 4, rng.random() * 2 * np.pi, rng)
    u, v, _ = patch.scaled(patch.px / radius)
    return patch._replace(u=u, v=v, px=radius)


def _fall(patch: Patch, u: np.ndarray, v: np.ndarray, peak: float, sersic: float) -> np.ndarray:
    """Light of a disc that falls off from its middle, after Sersic (1963), and meets the level at radius 1.

    I = peak * exp(-(r / h) ** (1 / n)): n = 0.5 is a Gaussian, 1 a disc galaxy, larger an elliptical.
    """
    blur = 0.8 / patch.px  # as the telescope's: less than a pixel
    r = np.sqrt(u * u + v * v + blur * blur)
    fall = peak * np.exp(-np.log(peak / _AT_LEVEL) * r ** (1 / sersic))
    return fall * np.clip((2.6 - r) / 0.8, 0, 1)


def _peak(radius: float, rng: np.random.Generator) -> float:
    """Large things are bright as well, more often than not."""
    return float((1.1 + 0.03 * radius) * np.exp(rng.normal() * 0.5) + 0.2)


def _draw_elliptical(place: np.ndarray, radius: float, rng: np.random.Generator) -> tuple[Patch, np.ndarray]:
    """A smooth ball of old stars, redder further out."""
    patch = _around(place, radius, rng)
    colour = _hue(_OLD if rng.random() < 0.75 else _PALE, rng)
    squeeze = max(rng.uniform(0.5, 1), 1.5 / radius if radius > 1.5 else 1)
    peak, sersic = 1.8 * _peak(radius, rng), rng.uniform(0.6, 1.3)
    glow = [
        _fall(patch, patch.u * redder, patch.v * redder / squeeze, peak * part, sersic)
        for redder, part in zip((0.95, 1.0, 1.04), np.maximum(colour, 0.12), strict=True)
    ]
    return patch, np.stack(glow, -1)


def _draw_spiral(place: np.ndarray, radius: float, rng: np.random.Generator) -> tuple[Patch, np.ndarray]:
    """A disc with arms and knots around a bulge, seen from above or at a slant."""
    patch = _around(place, radius, rng)
    u, v = patch.u, patch.v / rng.uniform(0.45, 1)
    r = np.sqrt(u * u + v * v) + 1e-9
    arms, pitch = int(rng.choice([1, 2, 2, 3, 4])), rng.uniform(0.22, 0.5) * rng.choice([-1, 1])
    wave = np.cos(arms * (np.arctan2(v, u) - np.log(r + 0.08) / np.tan(pitch)) + rng.random() * 7)
    wave = wave + 0.6 * _clouds(u.shape, 2.4, rng)
    strength = rng.uniform(0.25, 0.6)
    arm = 1 + strength * np.clip(r / 0.25, 0, 1) * np.clip(wave, -1.25, 1.6)
    disc = _fall(patch, u, v, _peak(radius, rng) + 0.2, rng.uniform(0.35, 0.7)) * arm
    hue = np.clip(0.5 + 0.35 * wave, 0, 1)[..., None]
    young = _hue(_YOUNG if rng.random() < 0.6 else _PALE, rng)
    old = _hue(_OLD + " " + _PALE if rng.random() < 0.8 else _RARE, rng)
    bulge = _fall(patch, u / 0.35, v / 0.35, rng.uniform(0.3, 1.6), 1.0)
    return patch, disc[..., None] * (hue * young + (1 - hue) * (0.5 * young + 0.5 * old)) + bulge[
        ..., None
    ] * old


def _draw_edge_on(place: np.ndarray, radius: float, rng: np.random.Generator) -> tuple[Patch, np.ndarray]:
    """A disc from the side: a needle, sometimes bent, with a small bulge."""
    patch = _around(place, radius, rng)
    thin = max(rng.uniform(0.14, 0.4), 1.25 / radius)
    v = patch.v + rng.normal() * 0.1 * patch.u**2
    knots = 1 + 0.2 * _clouds(v.shape, 2.4, rng)
    disc = _fall(patch, patch.u, v / thin, _peak(radius, rng) + 0.25, rng.uniform(0.4, 0.75)) * knots
    bulge = _fall(patch, patch.u / 0.3, v / min(1.6 * thin, 0.3), rng.uniform(0.15, 1), 0.8)
    colour = _hue(str(rng.choice([_YOUNG, _PALE, _PALE, _OLD])), rng)
    return patch, disc[..., None] * colour + bulge[..., None] * _hue(_OLD + " " + _PALE, rng)


def _draw_irregular(place: np.ndarray, radius: float, rng: np.random.Generator) -> tuple[Patch, np.ndarray]:
    """A lumpy body of no shape in particular; now and then one with a tail, pulled out by a neighbour."""
    patch = _around(place, radius, rng)
    u, v = patch.u, patch.v + rng.normal() * 0.3 * patch.u**2
    young = _hue(str(rng.choice([_YOUNG, _YOUNG, _PALE, _RARE])), rng)
    lumps = np.exp(0.5 * _clouds(u.shape, 2.4, rng))
    body = _fall(patch, u, v / max(rng.uniform(0.4, 1), min(1.3 / radius, 1)), _peak(radius, rng), 0.6)
    glow = (body * lumps)[..., None] * young
    for _ in range(rng.integers(1, 2 + int(min(radius, 12) / 2))):
        x, y = rng.normal(size=2) * 0.4
        knot = _fall(patch, (u - x) / 0.3, (v - y) / 0.3, rng.uniform(0.15, 1.1), 0.5)
        glow += knot[..., None] * _hue(str(rng.choice([_YOUNG, _YOUNG, _PALE, _RARE])), rng)
    if radius > 5 and rng.random() < 0.35:
        bend = v - rng.normal() * 0.5 * u**2
        tail = rng.uniform(0.2, 0.5) * np.exp(-((bend / 0.16) ** 2)) * np.clip(u / 0.3, 0, 1)
        glow += (tail * np.clip((rng.uniform(1.2, 2.2) - u) / 0.6, 0, 1))[..., None] * young
    return patch, glow


_KINDS = (_draw_elliptical, _draw_spiral, _draw_spiral, _draw_edge_on, _draw_irregular)
_SMALL_KINDS = (_draw_elliptical, _draw_elliptical, _draw_edge_on, _draw_irregular, _draw_irregular)


def _draw_star(place: np.ndarray, turn: float, rng: np.random.Generator) -> tuple[Patch, np.ndarray]:
    """A point of light, with the spikes that the telescope's struts make of it: one cross reddish, one bluish."""
    peak = float(np.exp(rng.uniform(np.log(4), np.log(25))))
    length = 1.7 * peak**0.5  # of the spikes, where they've fallen to a third
    reach = int(6 * length) + 4
    left, top = np.floor(place).astype(int) - reach
    x = left + np.arange(2 * reach + 1) + 0.5 - place[0]
    y = (top + np.arange(2 * reach + 1) + 0.5 - place[1])[:, None]
    r = np.sqrt(x * x + y * y)
    core = peak * np.exp(-r * r / 4) + 0.07 * peak * np.exp(-r / (0.3 * length))
    glow = core[..., None] * _hue("ffffff e8f0ff ffe8d8 ffd8e8", rng)
    for angle, colours in ((turn, "ff4060 ff5878 ff7050"), (turn + np.pi / 4, "40a0c0 5080ff 60b0ff")):
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        for a, b in ((along, across), (across, along)):
            bright = np.exp(-np.abs(a) / (0.45 * length)) + 0.12 * np.exp(-np.abs(a) / (1.4 * length))
            spike = 0.16 * peak * bright * np.exp(-((b / (0.9 + 0.9 / (1 + a * a / 9))) ** 2))
            glow += spike[..., None] * _hue(colours, rng)
    return Patch(int(left), int(top), x + 0 * y, y + 0 * x, 1.0), glow * np.clip(2 - 2 * r / reach, 0, 1)[
        ..., None
    ]
