"""What lies on a table, drawn piece by piece: eleven kinds of things, tables, and clutter that belongs to no class.

Every thing is described by four maps over its own little square: an edge (negative inside), a height, a colour and a
gloss. `camera` sheds light on them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from segutils.tabletop.pieces import (
    Patch,
    Surface,
    any_of,
    bar,
    circle,
    covered,
    dome,
    noise,
    paint,
    plain,
    rectangle,
    rgb,
)

# ---------------------------------------------------------------------------------------------------------------
# The things. Each takes its patch and draws edge, height, colour, gloss.
# ---------------------------------------------------------------------------------------------------------------


def _banana(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(0.8)
    bend = 0.75 + 0.35 * rng.random()
    u = u - 0.22 * bend
    along = np.arctan2(v, u + bend) / np.arctan2(0.93, bend)  # -1 at one tip, 1 at the other
    out = np.sqrt((u + bend) ** 2 + v**2) - np.sqrt(bend**2 + 0.25) + 0.12
    thick = (0.25 + 0.05 * rng.random()) * np.sqrt(np.clip(1 - along**4, 0, 1)) + 0.02
    stem = rectangle(out, along - 1.0, 0.055, 0.16, 0.04)
    edge = np.minimum(np.maximum(np.abs(out) - thick, np.abs(along) - 1), stem)
    across = out / np.maximum(thick, 0.05)
    height = 0.55 * thick * np.sqrt(np.clip(1 - across**2, 0, 1)) + 0.02 * (np.abs(across - 0.25) < 0.35)
    colour = plain(u, any_of("f2cf3a e9c02c f4d95b d9c64a", rng))
    paint(colour, rgb("8f9a3a"), np.clip((np.abs(along) - 0.55) * 1.6, 0, 0.7 * rng.random()))
    spots = noise(u.shape, (14, 14), rng) > 0.75 - 0.25 * rng.random()
    paint(colour, rgb("7a5222"), 0.6 * spots + 0.25 * (np.abs(across - 0.25) < 0.05))
    paint(colour, rgb("4a3520"), np.clip((np.abs(along) - 0.9) * 12, 0, 0.9))
    return Surface(edge, height, colour, 0.12)


def _book(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1.14)
    wide = 0.64 + 0.14 * rng.random()
    edge = rectangle(u, v, wide, 1.0, 0.03)
    cover = rectangle(u + 0.03, v + 0.03, wide - 0.03, 0.97, 0.02)
    cloth = any_of("8c2f39 1f4e79 2e6b4f d9a441 5b3a6b c8553d 2b2d42 3d7c8c e8dcc4 aa4465", rng)
    colour = plain(u, rgb("efe6d2"))  # the block of pages, seen along two sides
    paint(colour, rgb("b5a88c"), 0.6 * (np.sin((u + v) * 70) > 0))
    paint(colour, cloth, covered(cover, px))
    paint(colour, cloth * 0.55, 0.8 * covered(np.abs(u + wide - 0.13) - 0.02, px) * covered(cover, px))
    trim = rgb("f1d58a") if cloth.sum() < 1.9 else rgb("31302f")
    middle = u - 0.06
    if rng.random() < 0.6:
        paint(colour, trim, 0.9 * covered(np.abs(rectangle(middle, v, wide - 0.2, 0.8, 0.03)) - 0.018, px))
    for row, reach in ((-0.52, 0.3), (-0.36, 0.2 + 0.1 * rng.random())):  # a title of two words
        paint(colour, trim, covered(rectangle(middle, v - row, reach * wide * 1.5, 0.05, 0.02), px))
    emblem = int(rng.integers(3))
    if emblem == 0:
        paint(colour, trim, covered(np.abs(circle(middle, v - 0.22, 0.25)) - 0.05, px))
    elif emblem == 1:
        paint(colour, trim, covered(np.abs(middle) + np.abs(v - 0.22) - 0.3, px))
    else:
        paint(
            colour,
            any_of("f4a259 5b8e7d bc4b51 f7ede2", rng),
            covered(rectangle(middle, v - 0.2, 0.36, 0.3), px),
        )
        paint(colour, cloth, covered(circle(middle, v - 0.2, 0.16), px))
    return Surface(edge, 0.05 * covered(cover, px / 3) + dome(edge, 0.03), colour, 0.06 + 0.1 * rng.random())


def _cell_phone(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1)
    wide = 0.48 + 0.06 * rng.random()
    edge = rectangle(u, v, wide, 1.0, 0.13)
    body = any_of("1c1c1e 2b2f36 c9ccd1 e8d8c3 33415c 6b2737", rng)
    colour = plain(u, body)
    if rng.random() < 0.7:  # face up
        glass = rectangle(u, v, wide - 0.045, 0.95, 0.1)
        top, bottom = (any_of("0b1020 27476e 7b2d5b 156064 f2a65a 151515", rng) for _ in range(2))
        wallpaper = top + (bottom - top) * np.clip(v * 0.5 + 0.5 + 0.3 * u, 0, 1)[..., None]
        paint(colour, rgb("08080a"), covered(edge + 0.02, px))
        colour += (wallpaper - colour) * covered(glass, px)[..., None]
        if rng.random() < 0.75:
            pitch = (wide - 0.07) / 2
            cell_u, cell_v = (u + 2 * pitch) // pitch, (v + 0.62) // pitch
            icon = rectangle(
                (u % pitch) - pitch / 2, ((v + 0.62) % pitch) - pitch / 2, pitch * 0.34, pitch * 0.34, 0.03
            )
            shades = rng.random((5, 9, 3)) * 0.6 + 0.4
            shown = (np.abs(u) < 2 * pitch) & (v > -0.62) & (v < 0.85)
            pick = shades[np.clip(cell_u, 0, 4).astype(int), np.clip(cell_v, 0, 8).astype(int)]
            colour += (pick - colour) * (covered(icon, px) * shown)[..., None]
        paint(colour, rgb("050505"), covered(rectangle(u, v + 0.87, 0.13, 0.03, 0.03), px))
        glare = rng.random() - 0.5
        paint(colour, np.ones(3), 0.2 * covered(glass, px) * ((u + v * 0.6 - glare) % 1.4 < 0.35))
    else:  # on its face: the cameras show
        side = 1 if rng.random() < 0.5 else -1
        paint(colour, body * 0.7, covered(rectangle(u - side * 0.2, v + 0.72, 0.19, 0.2, 0.07), px))
        for du, dv in ((0.11, 0.82), (0.29, 0.82), (0.11, 0.63)):
            paint(colour, rgb("0a0a0c"), covered(circle(u - side * du, v + dv, 0.075), px))
            paint(colour, rgb("4b6a8a"), covered(circle(u - side * du, v + dv, 0.03), px))
        paint(colour, body * 1.25, covered(circle(u, v, 0.1), px))
    return Surface(edge, dome(edge, 0.06), np.clip(colour, 0, 1), 0.35)


def _coin(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1)
    r, a = np.sqrt(u * u + v * v), np.arctan2(v, u)
    old = rng.random() < 0.6  # struck by hand: the outline is not quite round and the face is worn
    edge = r - 0.95
    if old:
        for k in range(2, 7):
            edge = edge + (rng.random() - 0.5) * 0.07 / k * 2 * np.cos(k * a + rng.random() * 7)
    rough = noise(u.shape, (7, 7), rng)
    fine = noise(u.shape, (18, 18), rng)
    relief = np.zeros_like(u)
    motif = int(rng.integers(4))
    if motif == 0:  # a head in profile, looking left or right
        way = 1 if rng.random() < 0.5 else -1
        turned, tipped = way * u, v
        head = np.sqrt((turned / 0.9) ** 2 + (tipped + 0.12) ** 2) - 0.36
        nose = bar(turned, tipped, (-0.3, -0.2), (-0.45, 0.0), 0.07)
        chin = bar(turned, tipped, (-0.22, 0.1), (-0.28, 0.22), 0.1)
        neck = bar(turned, tipped, (0.1, 0.1), (0.15, 0.6), 0.22)
        face = np.minimum(np.minimum(head, nose), np.minimum(chin, neck))
        relief = dome(face, 0.25) * 0.8 + 0.05 * np.sin(26 * tipped + 14 * turned) * (face < 0) * (
            turned > -0.05
        )
    elif motif == 1:  # figures and animals, as on many old coins: a heap of limbs
        for _ in range(int(rng.integers(4, 8))):
            start, end = (rng.random((2, 2)) - 0.5) * 1.05
            relief = np.maximum(relief, dome(bar(u, v, tuple(start), tuple(end), 0.09), 0.09) * 1.3)
    elif motif == 2:  # a star or a flower
        petals = int(rng.integers(4, 9))
        relief = dome(r - 0.25 - 0.3 * np.abs(np.cos(petals * a / 2)), 0.2) * 0.7
    else:  # a value in figures: upright strokes
        for k in range(int(rng.integers(1, 4))):
            x = (k - 1) * 0.36 + 0.12
            relief = np.maximum(relief, dome(np.abs(rectangle(u - x, v, 0.13, 0.34, 0.12)) - 0.06, 0.06))
    if rng.random() < 0.6:  # letters around the face
        teeth = np.sin(a * int(rng.integers(14, 30)) + 3 * noise(u.shape, (5, 5), rng)) > 0
        relief = relief + 0.035 * teeth * (np.abs(r - 0.74) < 0.07)
    rim = dome(np.abs(r - 0.88) - 0.06, 0.06) * rng.random()
    wear = 0.4 + 0.6 * rng.random()
    height = dome(edge, 0.08) + wear * (relief + rim) + (0.05 * rough + 0.025 * fine) * (0.3 + 0.7 * old)
    metal = any_of("c9a441 b8b8b4 a8643a 8a6a45 6b6257 9a9a92 d6bd74 5a5148", rng)
    colour = metal * (1 + (0.22 * rough + 0.12 * fine) * (0.3 + 0.7 * old))[..., None]
    if rng.random() < 0.5:  # dirt stays in the hollows
        colour = (
            colour * (1 - 0.45 * np.clip(1 - (relief + rim) / 0.1, 0, 1) * covered(edge + 0.1, 4))[..., None]
        )
    return Surface(edge, height, np.clip(colour, 0, 1), 0.1 + 0.4 * rng.random() * (not old))


def _cup(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1)
    v = v - 0.26
    wall = circle(u, v, 0.72)
    handle = np.abs(rectangle(u, v + 0.8, 0.2, 0.38, 0.14)) - 0.085
    if rng.random() < 0.4:
        handle = bar(u, v, (0, -0.6), (0, -1.02), 0.15)
    edge = np.minimum(wall, np.maximum(handle, -circle(u, v, 0.7)))
    glaze = any_of("f4f1ea d1495b 30638e edae49 66a182 2f2f38 f2e2d2 8ecae6 e07a5f", rng)
    drink = any_of("3b2314 5a3418 7a3e12 c98b4b 2a1a10 e9dcc0 7f8f3a", rng)
    r = np.sqrt(u * u + v * v)
    inner = 0.58 + 0.05 * rng.random()
    level = inner * (0.8 + 0.15 * rng.random())
    colour = plain(u, glaze)
    if rng.random() < 0.4:
        paint(colour, np.clip(1.3 - glaze, 0, 1), 0.8 * covered(np.abs(r - 0.68) - 0.02, px))
    paint(colour, rgb("f6f3ec") if rng.random() < 0.6 else glaze, covered(r - inner, px))
    colour *= (1 - 0.4 * covered(r - inner, px) * np.clip((r - level) * 6 + 0.4, 0, 1))[..., None]
    paint(colour, drink, covered(r - level, px))
    foam = noise(u.shape, (6, 6), rng) + 0.6 * np.cos(9 * r + 3 * np.arctan2(v, u))
    paint(
        colour,
        np.clip(drink * 1.5 + 0.12, 0, 1),
        0.55 * rng.random() * np.clip(foam, 0, 1) * covered(r - level, px),
    )
    hollow = np.where(r < inner, -0.5 * np.clip(inner - r, 0, inner - level), 0)
    height = np.maximum(dome(wall, 0.1), dome(handle, 0.085)) * 1.2 * (r > inner) + hollow
    return Surface(edge, height, colour, 0.3)


def _donut(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1)
    r, a = np.sqrt(u * u + v * v), np.arctan2(v, u)
    hole = 0.24 + 0.12 * rng.random()
    uneven = 0.02 * np.cos(3 * a + rng.random() * 7) + 0.015 * np.cos(5 * a + rng.random() * 7)
    middle, half = (0.97 + hole) / 2, (0.97 - hole) / 2
    ring = np.abs(r - middle) - half + uneven
    height = 0.75 * np.sqrt(np.clip(half**2 - (r - middle) ** 2, 0, None)) + 0.012 * noise(
        u.shape, (12, 12), rng
    )
    dough = any_of("c98b4b b87333 d9a066 a8672f", rng)
    colour = dough * (1 + 0.12 * noise(u.shape, (9, 9), rng))[..., None]
    if rng.random() < 0.85:
        icing = any_of("f7a1c4 6b3a22 fff1e0 f2c14e 9ad1d4 e4572e cdb4db 3e2417", rng)
        drip = 0.08 * np.cos(int(rng.integers(5, 10)) * a + rng.random() * 7) + 0.05 * noise(
            u.shape, (8, 8), rng
        )
        iced = np.abs(r - middle) - half * 0.74 + drip * 0.8
        paint(colour, icing, covered(iced, px))
        height = height + dome(iced, 0.05) * 0.7
        if rng.random() < 0.65:
            for _ in range(int(rng.integers(12, 30))):
                turn, where = rng.random() * 2 * np.pi, middle + half * (rng.random() - 0.5) * 1.1
                x, y, tilt = where * np.cos(turn), where * np.sin(turn), rng.random() * np.pi
                tip = (x + 0.07 * np.cos(tilt), y + 0.07 * np.sin(tilt))
                window = (np.abs(u - x) < 0.15) & (np.abs(v - y) < 0.15)
                bit = bar(u[window], v[window], (x, y), tip, 0.028)
                sprinkle = any_of("e63946 f1fa8c 2a9d8f ffffff ff7f11 4361ee", rng)
                colour[window] += (sprinkle - colour[window]) * covered(bit, px)[..., None]
    return Surface(ring, height, np.clip(colour, 0, 1), 0.18)


def _key(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1)
    radius = 0.4 + 0.04 * rng.random()
    if rng.random() < 0.5:
        bow = np.abs(circle(u, v + 0.58, radius - 0.1)) - 0.1  # an old door key: a ring
    else:
        bow = np.maximum(
            rectangle(u, v + 0.58, radius, radius - 0.03, 0.2), -circle(u, v + 0.76, 0.11)
        )  # a flat one
    edge = np.minimum(bow, rectangle(u, v - 0.36, 0.115, 0.62, 0.05))
    for k in range(int(rng.integers(2, 4))):
        tooth = rectangle(u - 0.2, v - 0.88 + 0.22 * k, 0.13 + 0.06 * rng.random(), 0.075, 0.02)
        edge = np.minimum(edge, tooth)
    height = dome(edge, 0.07) + 0.02 * noise(u.shape, (10, 10), rng)
    height = height - 0.04 * covered(rectangle(u, v - 0.36, 0.03, 0.5, 0.03), px)
    metal = any_of("c2a14d b9b9b6 8f6b3e 7d7f85 a55d35", rng)
    colour = metal * (1 + 0.12 * noise(u.shape, (6, 6), rng))[..., None]
    return Surface(edge, height, np.clip(colour, 0, 1), 0.45)


def _leaf(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1)
    u = u + 0.12 * (rng.random() - 0.5) * (v**2 - 0.5) * 2  # a leaf is never quite straight
    along = np.clip((v + 1) / 1.75, 0, 1)  # 0 at the tip, 1 where the stalk begins
    lobes = int(rng.choice([0, 0, 5, 7, 9]))
    wide = (0.42 + 0.2 * rng.random()) * np.sin(np.pi * along ** (0.8 + 0.4 * rng.random())) ** 0.9
    if lobes:
        wide = wide * (1 - (0.1 + 0.18 * rng.random()) * np.abs(np.sin(lobes * along * np.pi)))
    blade = np.maximum(np.abs(u) - wide, np.abs(v + 0.125) - 0.875)
    stalk = bar(u, v, (0, 0.6), (0, 0.96), 0.035)
    edge = np.minimum(blade, stalk)
    green = any_of("4f772d 90a955 c1121f e09f3e bc6c25 31572c d4a017 7f4f24 6a994e", rng)
    other = any_of("90a955 e09f3e bc6c25 a7c957 9b2226", rng)
    blend = np.clip(0.5 + noise(u.shape, (4, 4), rng) * 0.9, 0, 1) * rng.random()
    colour = green + (other - green) * blend[..., None]
    colour = colour * (1 + 0.1 * noise(u.shape, (12, 12), rng))[..., None]
    ribs = np.abs(((v + 0.75 * np.abs(u)) * 5.5 + 0.5) % 1 - 0.5)
    veins = np.maximum(covered(np.abs(u) - 0.02, px), np.clip(1 - ribs * 14, 0, 1) * (blade < -0.03))
    paint(colour, np.clip(green * 1.35 + 0.1, 0, 1), 0.55 * veins)
    height = dome(edge, 0.06) + 0.12 * np.abs(u) + 0.03 * ribs + 0.04 * noise(u.shape, (4, 4), rng)
    return Surface(edge, height, np.clip(colour, 0, 1), 0.1)


def _mouse(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1)
    wide = 0.56 + 0.08 * rng.random()
    waist = wide * (1 - 0.08 * np.cos(2.6 * v) + 0.05 * v)
    edge = ((np.abs(u / waist) ** 2.6 + np.abs(v) ** 2.6) ** (1 / 2.6) - 0.98) * wide
    shell_height = 0.5 * np.sqrt(np.clip(1 - (u / waist) ** 2 - 0.8 * v**2, 0, 1))
    shell = any_of("24262b e9e9ea 8d99ae b23a48 3d5a80 f0e6d8 14151a", rng)
    colour = plain(u, shell)
    dark = shell * 0.35
    paint(colour, dark, 0.9 * covered(np.abs(u) - 0.018, px) * covered(v + 0.12, px))
    paint(colour, dark, 0.9 * covered(np.abs(v + 0.12 - 0.1 * u**2) - 0.018, px))
    wheel = rectangle(u, v + 0.55, 0.085, 0.2, 0.08)
    paint(colour, dark * 0.6, covered(wheel - 0.035, px))
    paint(colour, rgb("6c757d"), covered(wheel, px) * (0.5 + 0.5 * (np.sin(v * 60) > 0)))
    if rng.random() < 0.5:
        paint(colour, any_of("e63946 4cc9f0 f1faee 80ed99", rng), covered(circle(u, v - 0.55, 0.07), px))
    return Surface(edge, shell_height + 0.06 * dome(wheel, 0.05), colour, 0.3)


def _pip(u: np.ndarray, v: np.ndarray, suit: int) -> np.ndarray:
    """Outline of a heart, diamond, club or spade, one unit tall."""
    if suit == 1:
        return (np.abs(u) * 1.25 + np.abs(v) - 0.5) * 0.7
    if suit == 2:
        three = np.minimum(circle(u, v + 0.24, 0.21), circle(np.abs(u) - 0.23, v - 0.08, 0.21))
        return np.minimum(three, rectangle(u, v - 0.25, 0.06, 0.25))
    flip = v if suit == 0 else -(v + 0.06)
    lobes = circle(np.abs(u) - 0.2, flip + 0.17, 0.22)
    heart = np.minimum(lobes, np.maximum(np.abs(u) * 0.78 + flip * 0.62 - 0.29, -0.2 - flip))
    return heart if suit == 0 else np.minimum(heart, rectangle(u, v - 0.3, 0.06, 0.2))


def _playing_card(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1.12)
    edge = rectangle(u, v, 0.7, 1.0, 0.08)
    colour = plain(u, rgb("f8f6f0"))
    if rng.random() < 0.72:  # face up
        suit = int(rng.integers(4))
        ink = rgb("c1121f") if suit < 2 else rgb("16161a")
        count = int(rng.integers(1, 9))
        size = 0.62 if count == 1 else 0.36
        spots = {1: [(0, 0)], 2: [(0, -0.5), (0, 0.5)], 3: [(0, -0.55), (0, 0), (0, 0.55)]}.get(count)
        if spots is None:
            rows = (count + 1) // 2
            spots = [(x, y) for y in np.linspace(-0.58, 0.58, rows) for x in (-0.28, 0.28)][:count]
        for x, y in spots:
            window = (np.abs(u - x) < size) & (np.abs(v - y) < size)
            way = 1 if y <= 0.01 else -1
            pip = _pip((u[window] - x) * way / size, (v[window] - y) * way / size, suit) * size
            colour[window] += (ink - colour[window]) * covered(pip, px)[..., None]
        for way in (1, -1):
            corner_u, corner_v = way * u + 0.57, way * v + 0.84
            paint(colour, ink, covered(np.abs(rectangle(corner_u, corner_v, 0.05, 0.075, 0.03)) - 0.018, px))
            paint(colour, ink, covered(_pip(corner_u / 0.15, (corner_v - 0.2) / 0.15, suit) * 0.15, px))
    else:
        back = any_of("9b2226 1d3557 386641 5a189a b5651d", rng)
        pitch = 0.12 + 0.08 * rng.random()
        net = np.minimum(np.abs((u + v) % pitch - pitch / 2), np.abs((u - v) % pitch - pitch / 2))
        field = covered(rectangle(u, v, 0.61, 0.91, 0.05), px)
        paint(colour, back, field * (0.35 + 0.65 * covered(net - pitch * 0.25, px)))
        paint(colour, rgb("f8f6f0"), covered(np.abs(circle(u, v, 0.3)) - 0.05, px))
    bent = 0.05 * rng.random() * v**2
    return Surface(edge, dome(edge, 0.02) + bent, colour, 0.1)


def _scissors(patch: Patch, rng: np.random.Generator) -> Surface:
    u, v, px = patch.scaled(1)
    spread = 0.1 + 0.22 * rng.random()
    steel = np.full_like(u, 9.0)
    grip = np.full_like(u, 9.0)
    for way in (1, -1):
        cos, sin = np.cos(way * spread), np.sin(way * spread)
        a, b = cos * u + sin * (v - 0.1), cos * (v - 0.1) - sin * u
        taper = 0.15 * np.clip((b + 1.08) / 1.1, 0, 1)
        blade = np.maximum(np.abs(a - way * 0.02) - taper, np.abs(b + 0.48) - 0.6)
        steel = np.minimum(steel, np.minimum(blade, bar(a, b, (0, 0), (-way * 0.1, 0.36), 0.11)))
        loop = np.sqrt(((a + way * 0.17) / 0.85) ** 2 + (b - 0.58) ** 2) - 0.225
        grip = np.minimum(grip, np.abs(loop) - 0.095)
    edge = np.minimum(steel, grip)
    colour = plain(u, any_of("c3c7cc aeb4ba 8d939a", rng))
    colour *= (1 + 0.08 * noise(u.shape, (3, 16), rng))[..., None]
    handle = any_of("d62828 1d1d22 f77f00 2a9d8f 3a5a98 ffb703", rng)
    paint(colour, handle, covered(grip, px))
    paint(colour, rgb("55595e"), covered(circle(u, v - 0.1, 0.06), px))
    height = np.maximum(dome(steel, 0.09) * 0.6, dome(grip, 0.09))
    return Surface(edge, height, np.clip(colour, 0, 1), 0.3)


# In the order of their labels, named as COCO spells them, where COCO has them.
THINGS: dict[str, Callable[[Patch, np.random.Generator], Surface]] = {
    "banana": _banana,
    "book": _book,
    "cell phone": _cell_phone,
    "coin": _coin,
    "cup": _cup,
    "donut": _donut,
    "key": _key,
    "leaf": _leaf,
    "mouse": _mouse,
    "playing card": _playing_card,
    "scissors": _scissors,
}

CATEGORIES = ("__background__", *THINGS)

# ---------------------------------------------------------------------------------------------------------------
# Tables, and clutter that belongs to no class
# ---------------------------------------------------------------------------------------------------------------


def draw_table(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """An empty table top, float [H, W, 3] in 0..1."""
    kind = rng.choice(["wood", "cloth", "paper", "stone", "dark cloth", "plain"])
    shape = (height, width)
    unit = min(shape) / 480
    x, y = np.arange(width) / unit, (np.arange(height) / unit)[:, None]
    if rng.random() < 0.5 and kind in ("wood", "cloth"):
        x, y = y, x
    grain = rng.standard_normal(shape) * 0.02
    cloudy = noise(shape, (4, 5), rng)
    if kind == "wood":
        planks = 60 + 90 * rng.random()
        board = np.floor(y / planks + 0 * x).astype(int)
        offset = rng.random(40) * 9
        stretch = (3, 60) if x.ndim == 2 else (60, 3)
        streaks = noise(shape, stretch, rng)
        rings = np.sin((y / planks + 0.35 * cloudy + 0.02 * streaks) * 26 + offset[board % 40] * 7)
        tone = 0.09 * rings + 0.12 * streaks + 0.16 * (offset[board % 40] / 9 - 0.5)
        seam = np.abs(y % planks) < 1.6
        base = any_of("b98b5e 8a5a3b d3a977 6b4a32 c49a6c a0714a", rng)
        return np.clip(base * (1 + tone + grain - 0.5 * seam)[..., None], 0, 1)
    if kind == "cloth":
        pitch = 30 + 70 * rng.random()
        one, two = (
            any_of("f3ede2 dfe7e3 fff8e7 e6e1d8", rng),
            any_of("b23a48 3d6b8e 6a8e5a d9a441 8a6fa8 444a5a", rng),
        )
        bands = ((x % pitch) < pitch / 2) * 0.5 + ((y % pitch) < pitch / 2) * 0.5 * (rng.random() < 0.7)
        weave = 0.05 * np.sin(x * 2.1) * np.sin(y * 2.1)
        return np.clip(
            (one + (two - one) * (bands * 0.85)[..., None]) * (1 + weave + 2 * grain)[..., None], 0, 1
        )
    if kind == "paper":
        base = any_of("f4f0e6 ece7da e3ded2 d8e2dc", rng) * (1 + 0.05 * cloudy + grain)[..., None]
        lines = (y % 28 < 1.3) + 0 * x if rng.random() < 0.5 else np.zeros(shape)
        if rng.random() < 0.3:
            lines = np.maximum((y % 22 < 1.2) + 0 * x, (x % 22 < 1.2) + 0 * y)
        paint(base, rgb("8fa9c4"), 0.6 * lines)
        return np.clip(base, 0, 1)
    if kind == "stone":
        veins = np.abs(noise(shape, (6, 8), rng) + 0.5 * noise(shape, (14, 18), rng))
        sand = Image.fromarray(rng.integers(0, 256, shape, np.uint8)).filter(
            ImageFilter.GaussianBlur(1.5 * unit)
        )
        speckle = np.asarray(sand) / 32 - 4
        base = any_of("8d8d88 b9b4a9 5f6368 d5cfc4 6f7d78", rng)
        tone = 0.1 * cloudy + 0.18 * np.clip(1 - veins * 5, 0, 1) + 0.14 * speckle + grain
        return np.clip(base * (1 + tone)[..., None], 0, 1)
    if kind == "dark cloth":
        weave = 0.12 * np.sin(x * 1.9) * np.sin(y * 1.9)
        base = any_of("23252b 2b1f2e 1d2f2a 3a2a24 20283a", rng)
        return np.clip(base * (1 + weave + 0.35 * cloudy)[..., None] + grain[..., None], 0, 1)
    base = any_of("8a8a8a a3a19b 6e7074 c2bdb3 4c5258 b7a58f", rng)
    return np.clip(base * (1 + (0.06 + 0.2 * rng.random()) * cloudy + grain)[..., None], 0, 1)


def draw_clutter(patch: Patch, rng: np.random.Generator) -> tuple[Surface, bool]:
    """Draw a pencil, a pebble, a scrap of paper, a stain, crumbs or a thread; say if it is flat, like the stain."""
    u, v, px = patch.scaled(1)
    kind = int(rng.integers(6))
    r, a = np.sqrt(u * u + v * v), np.arctan2(v, u)
    flat = False
    if kind == 0:  # pencil
        edge = np.maximum(np.abs(u) - 0.065 * np.clip((v + 1) * 4, 0, 1), np.abs(v) - 1)
        colour = plain(u, any_of("f2c230 d1495b 2e6f95 3a7d44 222222", rng))
        paint(colour, rgb("e5c29f"), covered(v + 0.78, px))
        paint(colour, rgb("2a2a2a"), covered(v + 0.93, px))
        surface = Surface(edge, dome(edge, 0.05), colour, 0.2)
    elif kind == 1:  # pebble: lumpy and smooth, never round
        squeeze = 0.55 + 0.2 * rng.random()
        edge = np.sqrt((u / squeeze) ** 2 + v**2) - 0.85
        for k in (2, 3, 4, 5):
            edge = edge + 0.2 / k * (rng.random() - 0.5) * np.cos(k * a + rng.random() * 7)
        colour = (
            any_of("9a958c 6f6a64 b9a58f 55585c", rng) * (1 + 0.12 * noise(u.shape, (9, 9), rng))[..., None]
        )
        surface = Surface(edge, dome(edge, 0.5), np.clip(colour, 0, 1), 0.08)
    elif kind == 2:  # scrap of paper with a few words
        edge = np.full_like(u, -9.0)
        for k in range(int(rng.integers(3, 6))):
            turn = k * 1.6 + rng.random()
            edge = np.maximum(edge, u * np.cos(turn) + v * np.sin(turn) - 0.35 - 0.3 * rng.random())
        edge = np.maximum(edge, r - 0.98)
        colour = plain(u, any_of("f7f3e8 fff3b0 d8e2dc f2cfc4", rng))
        words = ((v % 0.16) < 0.05) & (np.sin(31 * u + 17 * np.floor(v / 0.16)) > -0.4)
        paint(colour, rgb("55585e"), 0.7 * words * covered(edge + 0.12, px))
        surface = Surface(edge, dome(edge, 0.02), colour, 0.0)
    elif kind == 3:  # the ring that a wet cup leaves
        edge = np.abs(r - 0.85 + 0.02 * np.cos(3 * a)) - 0.035 - 0.02 * np.cos(a + rng.random() * 7)
        surface = Surface(edge, np.zeros_like(u), plain(u, any_of("6b4a2f 5a4632 857060", rng)), 0.0)
        flat = True
    elif kind == 4:  # crumbs
        edge = 0.45 - noise(u.shape, (16, 16), rng) + np.clip(r - 0.5, 0, 1)
        surface = Surface(edge / 8, dome(edge / 8, 0.03), plain(u, any_of("b98b5e 8a5a3b d9c2a0", rng)), 0.0)
    else:  # thread
        wave = 0.28 * np.sin(3 * v + rng.random() * 7) + 0.1 * np.sin(8 * v + rng.random() * 7)
        edge = np.maximum((np.abs(u - wave) - 0.018) * 0.7, np.abs(v) - 1)
        surface = Surface(edge, dome(edge, 0.02), plain(u, any_of("d62828 f1f1f1 2b2d42 2a9d8f", rng)), 0.0)
    return surface, flat
