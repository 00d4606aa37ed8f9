"""What drawn things are made of: a patch of pixels with places on it, outlines as distances, colours, noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Patch(NamedTuple):
    """A square of pixels around one thing and, for each pixel, its place on the thing.

    `u` runs across the thing and `v` along it; the thing's longer half is 1. `px` is pixels per such unit.
    """

    left: int
    top: int
    u: np.ndarray
    v: np.ndarray
    px: float

    def scaled(self, factor: float) -> tuple[np.ndarray, np.ndarray, float]:
        """`u`, `v` and `px` in which the thing is drawn `factor` times smaller."""
        return self.u * factor, self.v * factor, self.px / factor

    @staticmethod
    def at(centre: np.ndarray, length: float, angle: float, rng: np.random.Generator) -> Patch:
        px = length / 2
        reach = int(np.ceil(px * 1.12)) + 2
        left, top = (np.floor(centre) - reach).astype(int)
        x = left + np.arange(2 * reach + 1) + 0.5 - centre[0]
        y = (top + np.arange(2 * reach + 1) + 0.5 - centre[1])[:, None]
        u = (x * np.cos(angle) + y * np.sin(angle)) / px
        v = (y * np.cos(angle) - x * np.sin(angle)) / px
        tilt = (rng.random(2) - 0.5) * 0.16  # mild perspective: one side of the thing is a little nearer
        depth = 1 + tilt[0] * u + tilt[1] * v
        return Patch(int(left), int(top), u / depth, v / depth, px)


class Surface(NamedTuple):
    edge: np.ndarray  # [h, w] distance to the outline in the thing's units, negative inside
    height: np.ndarray  # [h, w] in the thing's units
    colour: np.ndarray  # [h, w, 3] in 0..1
    gloss: float  # strength of the highlight in 0..1


def rgb(code: str) -> np.ndarray:
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255


def any_of(codes: str, rng: np.random.Generator) -> np.ndarray:
    """One of several hexadecimal colours, varied a little."""
    return np.clip(
        rgb(str(rng.choice(codes.split()))) * (0.9 + 0.14 * rng.random() + 0.08 * rng.random(3)), 0, 1
    )


def plain(like: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.broadcast_to(colour, (*like.shape, 3)).copy()


def paint(on: np.ndarray, colour: np.ndarray, amount: np.ndarray) -> None:
    on += (colour - on) * amount[..., None]


def circle(u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    return np.sqrt(u * u + v * v) - radius


def rectangle(u: np.ndarray, v: np.ndarray, half_u: float, half_v: float, corner: float = 0.0) -> np.ndarray:
    """Distance to a rectangle with rounded corners around the origin."""
    du, dv = np.abs(u) - (half_u - corner), np.abs(v) - (half_v - corner)
    outside = np.sqrt(np.maximum(du, 0) ** 2 + np.maximum(dv, 0) ** 2)
    return outside + np.minimum(np.maximum(du, dv), 0) - corner


def bar(u: np.ndarray, v: np.ndarray, start: tuple, end: tuple, radius: float) -> np.ndarray:
    """Distance to a thick line with round ends."""
    (a, b), (c, d) = start, end
    along = np.clip(((u - a) * (c - a) + (v - b) * (d - b)) / ((c - a) ** 2 + (d - b) ** 2), 0, 1)
    return circle(u - a - along * (c - a), v - b - along * (d - b), radius)


def dome(edge: np.ndarray, rim: float) -> np.ndarray:
    """Height of a body whose edge is rounded over a width `rim`, flat further in."""
    depth = np.clip(1 + edge / rim, 0, 1)
    return rim * np.sqrt(1 - depth * depth)


def covered(edge: np.ndarray, px: float) -> np.ndarray:
    """How much a printed shape covers each pixel; cheaper than `coverage`, for details."""
    return np.clip(0.5 - edge * px, 0, 1)


def noise(shape: tuple[int, int], cells: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise, about -1 to 1: random values on a grid of `cells` (rows, columns), eased in between."""
    ways = []
    for length, count in zip(shape, cells, strict=True):
        place = np.linspace(0, count, length, endpoint=False) + rng.random()
        index, part = np.floor(place).astype(int), place % 1
        part = part * part * (3 - 2 * part)
        way = np.zeros((length, int(count) + 3))
        way[np.arange(length), index] = 1 - part
        way[np.arange(length), index + 1] = part
        ways.append(way)
    return ways[0] @ (rng.random((ways[0].shape[1], ways[1].shape[1])) * 2 - 1) @ ways[1].T
