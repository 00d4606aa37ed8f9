"""Pictures of everything else: what photographs show that are not of a table, drawn as the tabletop world is.

A detector that has only ever seen tables takes a window for a book and a wheel for a coin. `render_elsewhere(seed)`
draws walls, skies, streets, foliage, furniture, bottles, people, wheels and writing, which belong to no class. On a
third of its pictures lie things that do, so that a busy background alone does not mean "nothing here".
"""

import colorsys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from segutils.tabletop.camera import any_light, cast_shadow, coverage, lay, photograph
from segutils.tabletop.pieces import (
    Patch,
    Surface,
    bar,
    circle,
    covered,
    dome,
    noise,
    paint,
    plain,
    rectangle,
)
from segutils.tabletop.scene import lay_things, layout
from segutils.tabletop.things import CATEGORIES, THINGS
from segutils.targets import make_target

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"


def render_elsewhere(seed: int, size: tuple[int, int] = (480, 640)) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw one picture that shows no table. Two of three have no instance at all, the others up to six.

    Takes and returns what `render_scene` does.
    """
    height, width = size
    rng = np.random.default_rng((seed, 1))
    light = any_light(rng)
    canvas = _ground(height, width, rng)
    if rng.random() < 0.6:  # a second ground: the street under the sky, the floor under the wall
        other = _ground(height, width, rng)
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        bend = 0.25 * noise((height, width), (1, 6), rng) if rng.random() < 0.4 else 0.0
        edge = y - (rng.random() - 0.3) + rng.normal() * 0.3 * x + bend
        canvas += (other - canvas) * np.clip(edge * height / 4, 0, 1)[..., None]
    count = int(rng.choice([0, 4, 12, 30, 60], p=[0.08, 0.22, 0.35, 0.25, 0.1]))
    longest = min(size) * (1.6 if count < 10 else 1.1 if count < 40 else 0.6)
    same = STRANGERS[rng.integers(len(STRANGERS))] if rng.random() < 0.25 else None  # a crowd of one kind
    for k in range(count):
        if k == count // 2 and rng.random() < 0.3:
            _defocus(canvas, rng)
        draw = same or STRANGERS[rng.integers(len(STRANGERS))]
        length = longest * (0.06 + 0.94 * rng.random() ** 2.2)
        _put(canvas, draw, rng.random(2) * (width, height), length, light, rng)
    if rng.random() < 0.25:
        _write(canvas, rng)
    owner, labels = np.zeros(size, np.uint8), []
    if rng.random() < 1 / 3:
        owner, labels = lay_things(canvas, layout(height, width, rng)[:6], light, rng)
    elif rng.random() < 0.15:  # one of our own things, so close that it fills the picture
        draw = THINGS[CATEGORIES[rng.integers(1, len(CATEGORIES))]]
        _put(canvas, draw, rng.random(2) * (width, height), min(size) * rng.uniform(2.5, 4), light, rng)
    if rng.random() < 0.15 and not labels:
        _defocus(canvas, rng)
    numbers = torch.arange(1, len(labels) + 1)
    return photograph(canvas, rng), make_target(torch.from_numpy(owner) == numbers[:, None, None], labels)


Draw = Callable[[Patch, np.random.Generator], Surface]


def _put(
    canvas: np.ndarray,
    draw: Draw,
    centre: np.ndarray,
    length: float,
    light: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Draw one thing at a place of the picture, upright or not, from above or from the side."""
    upright = rng.random() < 0.6  # most of what stands in the world stands upright
    angle = rng.normal() * 0.1 if upright else rng.random() * 2 * np.pi
    patch = Patch.at(centre, length, angle, rng)
    if rng.random() < 0.4:  # seen from the side: sheared and squeezed
        squeeze, shear = 1 + rng.random(), rng.normal() * 0.5
        patch = patch._replace(u=patch.u * squeeze + shear * patch.v)
    surface = draw(patch, rng)
    alpha = coverage(surface.edge, patch.px)
    if rng.random() < 0.5:
        cast_shadow(canvas, alpha, patch._replace(px=patch.px * 0.5), light, rng)
    lay(canvas, surface, patch, alpha, light)


def _defocus(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """What is in the picture so far lies far behind."""
    image = Image.fromarray((np.clip(canvas, 0, 1) * 255).astype(np.uint8))
    canvas[:] = np.asarray(image.filter(ImageFilter.GaussianBlur(1 + 5 * rng.random()))) / 255


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Any colour, most of them dull."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(1.1, 2.2), rng.beta(1.6, 1.3)))


def _mottled(like: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A colour that changes over the thing: from one side to the other, in clouds, in stripes, with a grain."""
    height, width = like.shape
    colour = plain(like, _colour(rng))
    if rng.random() < 0.5:
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        turn = rng.random() * 7
        paint(colour, _colour(rng), np.clip(0.5 + 0.5 * (np.cos(turn) * x + np.sin(turn) * y), 0, 1))
    if rng.random() < 0.6:
        cells = 2 ** rng.uniform(1, 4.5, 2)
        paint(colour, _colour(rng), np.clip(noise(like.shape, tuple(cells), rng), 0, 1) * strength)
    if rng.random() < 0.2:
        pitch, turn = rng.uniform(3, 40), rng.random() * 7
        y, x = np.arange(height)[:, None], np.arange(width)
        wave = np.sin((np.cos(turn) * x + np.sin(turn) * y) * 2 * np.pi / pitch)
        paint(colour, _colour(rng), (wave > rng.uniform(-0.7, 0.7)) * rng.uniform(0.3, 1))
    if rng.random() < 0.4:
        colour = colour * (1 + rng.random() * 0.25 * rng.standard_normal(like.shape))[..., None]
    return np.clip(colour, 0, 1)


def _ground(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """What fills a picture: sky, wall, cloth, grass, foliage, bricks, tiles, float [H, W, 3] in 0..1."""
    shape = (height, width)
    like = np.empty(shape)
    kind = rng.integers(5)
    if kind == 0:
        return _mottled(like, rng)
    if kind == 1:  # clouds, marble, foliage, fur: octaves of noise between the colours of a palette
        stretch = 2 ** rng.normal(0, 0.7, 2)
        fall, value, weight, total = rng.uniform(0.45, 0.95), 0.0, 1.0, 0.0
        for octave in range(int(rng.integers(3, 7))):
            cells = np.clip(2.0**octave * 2 * stretch, 1, (height / 2, width / 2))
            value, total, weight = (
                value + weight * noise(shape, tuple(cells), rng),
                total + weight,
                weight * fall,
            )
        value = np.clip(0.5 + 1.3 * value / total, 0, 1)
        palette = np.array([_colour(rng) for _ in range(int(rng.integers(2, 6)))])
        stops = np.linspace(0, 1, len(palette))
        if rng.random() < 0.3:  # with hard edges between them
            return palette[(value * (len(palette) - 1e-6)).astype(int)]
        return np.stack([np.interp(value, stops, palette[:, c]) for c in range(3)], -1)
    x, y = np.arange(width) - width / 2, (np.arange(height) - height * rng.uniform(-0.5, 1.5))[:, None]
    if rng.random() < 0.5:  # in perspective
        depth = 1 + rng.uniform(0, 0.9) * y / np.abs(y).max()
        x, y = x / depth, y / depth
    turn = rng.choice([0, np.pi / 2, rng.random() * 7])
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    if kind == 2:  # bars, slats, corrugated iron, curtains
        pitch = rng.uniform(6, 90)
        wave = np.sin(x * 2 * np.pi / pitch + rng.random() * 3 * noise(shape, (3, 3), rng))
        ground = _mottled(like, rng)
        paint(ground, _colour(rng), np.clip(0.5 + wave * rng.uniform(0.5, 8), 0, 1))
        return ground
    # bricks, tiles, panes, shelves: each field with a tone of its own
    wide, tall, joint = rng.uniform(12, 150), rng.uniform(10, 150), rng.uniform(0.02, 0.25)
    row = np.floor(y / tall)
    x = x + (row % 2) * wide / 2 * (rng.random() < 0.5)
    column = np.floor(x / wide)
    tones = rng.random((37, 3)) * rng.uniform(0.05, 0.8)
    field = ((column * 7 + row * 13) % 37).astype(int)
    ground = np.clip(_mottled(like, rng) * (0.7 + tones[field]), 0, 1)
    inside = (np.abs(x / wide - column - 0.5) < 0.5 - joint / 2) & (
        np.abs(y / tall - row - 0.5) < 0.5 - joint / 2
    )
    paint(ground, _colour(rng), ~inside * 1.0)
    return ground


def _write(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """A few words, as on signs and shop fronts."""
    height, width, _ = canvas.shape
    for _ in range(int(rng.integers(1, 5))):
        size = int(height * (0.03 + 0.2 * rng.random() ** 2))
        word = "".join(chr(rng.integers(65, 91)) for _ in range(int(rng.integers(2, 12))))
        stamp = Image.new("L", (width, height))
        place = (int(rng.integers(-size, width)), int(rng.integers(0, height)))
        ImageDraw.Draw(stamp).text(place, word, fill=255, font=ImageFont.truetype(str(FONT), size))
        paint(canvas, _colour(rng), np.asarray(stamp) / 255)


def _panel(patch: Patch, rng: np.random.Generator) -> Surface:
    """Walls, windows, doors, cupboards, ovens, screens, boxes: a slab with fields in rows and columns."""
    u, v, px = patch.u, patch.v, patch.px
    half_u, half_v = rng.uniform(0.15, 1), rng.uniform(0.3, 1)
    edge = rectangle(u, v, half_u, half_v, rng.choice([0, 0.02, 0.1]))
    colour = _mottled(u, rng)
    columns, rows = int(rng.integers(1, 7)), int(rng.integers(1, 7))
    pitch_u, pitch_v = 2 * half_u / columns, 2 * half_v / rows
    column, row = np.floor((u + half_u) / pitch_u), np.floor((v + half_v) / pitch_v)
    within = rectangle(
        (u + half_u) - (column + 0.5) * pitch_u,
        (v + half_v) - (row + 0.5) * pitch_v,
        pitch_u * rng.uniform(0.25, 0.48),
        pitch_v * rng.uniform(0.25, 0.48),
        rng.choice([0, 0.02, 0.05]),
    )
    shown = (
        covered(within, px)
        * (rng.random((9, 9)) < rng.uniform(0.4, 1))[row.astype(int) % 9, column.astype(int) % 9]
    )
    shades = rng.uniform(0.5, 1.3, (9, 9))[row.astype(int) % 9, column.astype(int) % 9]
    colour += (np.clip(_colour(rng) * shades[..., None], 0, 1) - colour) * shown[..., None]
    if rng.random() < 0.5:
        knob = circle(u - rng.uniform(-1, 1) * half_u, v - rng.uniform(-1, 1) * half_v, 0.06)
        paint(colour, _colour(rng), covered(knob, px))
    return Surface(edge, dome(edge, 0.03) + 0.03 * shown * rng.choice([-1, 1]), colour, rng.random() * 0.3)


def _turned(patch: Patch, rng: np.random.Generator) -> Surface:
    """Bottles, vases, glasses, lamps: a profile turned around its axis, seen from the side."""
    u, v = patch.u, patch.v
    knots = np.sort(rng.uniform(-1, 1, 5))
    widths = rng.uniform(0.06, 0.6, 5)
    wide = np.interp(v, knots, widths)
    edge = np.maximum((np.abs(u) - wide) * 0.8, np.abs(v) - 1)
    colour = _mottled(u, rng)
    if rng.random() < 0.6:  # a label around it
        paint(
            colour,
            _colour(rng),
            covered(np.abs(v - rng.uniform(-0.3, 0.5)) - rng.uniform(0.1, 0.3), patch.px),
        )
    return Surface(edge, np.sqrt(np.clip(wide**2 - u**2, 0, None)), colour, rng.random() * 0.7)


def _lump(patch: Patch, rng: np.random.Generator) -> Surface:
    """Bushes, clouds, animals, fruit, stones: a lumpy outline."""
    u, v = patch.u, patch.v
    a, squeeze = np.arctan2(v, u), rng.uniform(0.45, 1)
    edge = np.sqrt((u / squeeze) ** 2 + v**2) - 0.75
    for k in range(2, int(rng.integers(3, 12))):
        edge = edge + rng.uniform(0, 0.5) / k * np.cos(k * a + rng.random() * 7)
    edge = edge * squeeze
    rough = rng.random() * 0.1 * noise(u.shape, tuple(2 ** rng.uniform(2, 5, 2)), rng)
    return Surface(edge, dome(edge, rng.uniform(0.05, 0.6)) + rough, _mottled(u, rng), rng.random() * 0.4)


def _stone(patch: Patch, rng: np.random.Generator) -> Surface:
    """Roofs, rocks, signs, sails: what is cut straight on all sides."""
    u, v = patch.u, patch.v
    edge = np.full_like(u, -9.0)
    turn = rng.random() * 7
    for _ in range(int(rng.integers(3, 8))):
        turn += rng.uniform(0.7, 2.1)
        edge = np.maximum(edge, u * np.cos(turn) + v * np.sin(turn) - rng.uniform(0.2, 0.7))
    edge = np.maximum(edge, np.sqrt(u * u + v * v) - 0.98)
    return Surface(edge, dome(edge, rng.uniform(0.02, 0.3)), _mottled(u, rng), rng.random() * 0.3)


def _wheel(patch: Patch, rng: np.random.Generator) -> Surface:
    """Wheels, clocks, plates, lamps: rings in rings, with or without spokes."""
    u, v, px = patch.u, patch.v, patch.px
    r, a = np.sqrt(u * u + v * v), np.arctan2(v, u)
    edge = r - 0.95
    colour = plain(u, _colour(rng))
    for radius in sorted(rng.uniform(0.1, 0.9, int(rng.integers(1, 5))), reverse=True):
        paint(colour, _colour(rng), covered(r - radius, px))
    spokes = int(rng.choice([0, 5, 12, 24]))
    if spokes:
        paint(colour, _colour(rng), covered(np.abs(np.sin(a * spokes / 2)) * r - 0.02, px) * (r < 0.85))
        if rng.random() < 0.5:
            edge = np.maximum(
                edge, np.minimum(0.8 - r, np.abs(np.sin(a * spokes / 2)) * r - 0.03)
            )  # seen through
    height = rng.uniform(-0.5, 0.5) * np.sqrt(np.clip(1 - r**2, 0, 1))
    return Surface(edge, height, colour, rng.random() * 0.4)


def _sticks(patch: Patch, rng: np.random.Generator) -> Surface:
    """Chairs, bicycles, branches, poles, cables: bars that meet."""
    u, v, px = patch.u, patch.v, patch.px
    edge, colour = np.full_like(u, 9.0), plain(u, _colour(rng))
    ends = rng.uniform(-0.9, 0.9, (int(rng.integers(2, 7)), 2))
    for _ in range(int(rng.integers(1, 9))):
        start, end = ends[rng.integers(len(ends))], rng.uniform(-0.9, 0.9, 2)
        stick = bar(u, v, start, end, rng.uniform(0.012, 0.09))
        if rng.random() < 0.3:
            paint(colour, _colour(rng), covered(stick, px))
        edge = np.minimum(edge, stick)
    return Surface(edge, dome(edge, 0.06), colour, rng.random() * 0.4)


def _person(patch: Patch, rng: np.random.Generator) -> Surface:
    """Somebody: a head with hair, a trunk, arms and legs."""
    u, v, px = patch.u, patch.v, patch.px
    skin = np.array([0.95, 0.76, 0.62]) * rng.uniform(0.3, 1)
    shirt, trousers = _mottled(u, rng), _colour(rng)
    sway = rng.uniform(-0.12, 0.12, 4)
    trunk = rectangle(u, v + 0.3, rng.uniform(0.16, 0.28), 0.32, 0.1)
    arms = np.minimum(
        bar(u, v, (-0.2, -0.5), (-0.35 + sway[0], rng.uniform(-0.6, 0.15)), 0.07),
        bar(u, v, (0.2, -0.5), (0.35 + sway[1], rng.uniform(-0.6, 0.15)), 0.07),
    )
    legs = np.minimum(
        bar(u, v, (-0.1, 0), (-0.12 + sway[2], 0.92), 0.09), bar(u, v, (0.1, 0), (0.12 + sway[3], 0.92), 0.09)
    )
    head = np.sqrt((u / 0.8) ** 2 + (v + 0.82) ** 2) - 0.15
    edge = np.minimum(np.minimum(trunk, arms), np.minimum(legs, head))
    colour = plain(u, trousers)
    colour += (shirt - colour) * covered(np.minimum(trunk, arms), px)[..., None]
    paint(colour, skin, covered(head, px))
    paint(colour, _colour(rng) * 0.5, covered(np.maximum(head - 0.02, v + 0.82 + 0.05 * np.cos(9 * u)), px))
    return Surface(edge, dome(edge, 0.12), colour, 0.1)


def _face(patch: Patch, rng: np.random.Generator) -> Surface:
    """A face, of a person or an animal, from near."""
    u, v, px = patch.u, patch.v, patch.px
    edge = np.sqrt((u / rng.uniform(0.65, 0.95)) ** 2 + v**2) - 0.85
    colour = _mottled(u, rng, 0.4)
    for side in (-1, 1):
        eye = np.sqrt(((u - side * 0.28) / 1.4) ** 2 + (v + 0.15) ** 2)
        paint(colour, np.ones(3) * 0.95, covered(eye - 0.09, px))
        paint(colour, _colour(rng) * 0.6, covered(eye - 0.06, px))
        if rng.random() < 0.4:  # ears
            edge = np.minimum(edge, circle(u - side * 0.55, v + 0.7, 0.2))
    paint(
        colour,
        np.array([0.6, 0.25, 0.25]),
        covered(np.abs(v - 0.42) - 0.04, px) * covered(np.abs(u) - 0.25, px),
    )
    paint(colour, _colour(rng) * 0.5, covered(v + 0.5 + 0.1 * np.cos(5 * u), px))
    return Surface(edge, dome(edge, 0.5), colour, 0.1)


def _bowl(patch: Patch, rng: np.random.Generator) -> Surface:
    """Bowls, boats, hats, sofas, cushions: half an ellipse or a fat rectangle, from the side."""
    u, v = patch.u, patch.v
    flat, fat = rng.uniform(0.35, 1), rng.uniform(2, 5)
    edge = ((np.abs(u) ** fat + np.abs(v / flat) ** fat + 1e-9) ** (1 / fat) - 0.95) * flat
    if rng.random() < 0.6:
        edge = np.maximum(edge, -(v + rng.uniform(-0.2, 0.4)))
    return Surface(edge, dome(edge, rng.uniform(0.05, 0.5)), _mottled(u, rng), rng.random() * 0.6)


def _spoilt(patch: Patch, rng: np.random.Generator) -> Surface:
    """One of our own things, bent until it is none."""
    wave, turn = rng.uniform(0.3, 0.6, 2), rng.random(2) * 7
    pace = rng.uniform(3, 6, 2)
    u = patch.u + wave[0] * np.sin(pace[0] * patch.v + turn[0])
    v = patch.v + wave[1] * np.sin(pace[1] * patch.u + turn[1])
    label = rng.choice([i for i in range(1, len(CATEGORIES)) if CATEGORIES[i] != "coin"])
    return THINGS[CATEGORIES[label]](patch._replace(u=u, v=v), rng)


STRANGERS: list[Draw] = [
    _panel,
    _panel,
    _turned,
    _lump,
    _stone,
    _wheel,
    _sticks,
    _person,
    _face,
    _bowl,
    _spoilt,
]
