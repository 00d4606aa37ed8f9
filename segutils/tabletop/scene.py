"""A table seen from above: where things lie, the light on them, their shadows, and the camera.

`render_scene(seed)` draws one picture and its ground truth. One light shines on the heights of the things (see
`things`), so that coins get their relief and cups their hollow; then each is laid on the table with its shadow. The
camera comes last: blur, noise, sometimes no colour, and JPEG.

All arithmetic is float64 or integer, so a seed gives the same picture on any machine.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segutils.tabletop.camera import any_light, cast_shadow, clip_to, coverage, lay, photograph
from segutils.tabletop.pieces import Patch
from segutils.tabletop.things import CATEGORIES, THINGS, draw_clutter, draw_table
from segutils.targets import make_target

MIN_VISIBLE = 0.25  # a thing of which less than this share can be seen is not laid down at all
SMALLEST, LARGEST = 20, 350  # the longer side of a thing in pixels, in a picture 480 pixels high


def render_scene(seed: int, size: tuple[int, int] = (480, 640)) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw one table with 0 to 14 things on it.

    Args:
        seed: any whole number >= 0. The same seed and size give the same picture everywhere.
        size: height and width of the picture in pixels, each at least 64.

    Returns:
        The picture, uint8 [3, H, W], and torchvision's training target: `boxes` float32 [N, 4] (xyxy, pixels),
        `labels` int64 [N] (indices of `CATEGORIES`), `masks` uint8 [N, H, W] of 0 and 1, visible pixels only, so no
        two masks share a pixel. About one table in fifty is empty: N is 0 and the shapes stay.

    Raises:
        ValueError: `seed` is negative or `size` is too small.
    """
    height, width = size
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    if min(height, width) < 64:
        raise ValueError(f"size must be at least 64 x 64 pixels, got {height} x {width}")
    rng = np.random.default_rng(seed)
    light = any_light(rng)
    canvas = draw_table(height, width, rng)
    for _ in range(rng.choice([0, 1, 3, 6])):
        _lay_clutter(canvas, light, rng)
    owner, labels = lay_things(canvas, layout(height, width, rng), light, rng)
    numbers = torch.arange(1, len(labels) + 1)
    return photograph(canvas, rng), make_target(torch.from_numpy(owner) == numbers[:, None, None], labels)


def lay_things(
    canvas: np.ndarray,
    places: list[tuple[int, float, np.ndarray, float]],
    light: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[int]]:
    """Lay things on a picture, from the bottom of the pile to its top, except those of which too little would show.

    Returns a map, uint8 [H, W], that says which thing each pixel shows, 0 for none, and the label of each thing.
    """
    owner = np.zeros(canvas.shape[:2], np.uint8)  # which thing a pixel shows: 0 is the table
    labels: list[int] = []
    needed: list[float] = []  # how many pixels of it must stay visible
    seen: list[int] = []  # how many are visible so far
    for label, thing_size, centre, angle in places:
        patch = Patch.at(centre, thing_size, angle, rng)
        surface = THINGS[CATEGORIES[label]](patch, rng)
        alpha = coverage(surface.edge, patch.px)
        solid = alpha >= 0.5
        window, inner = clip_to(canvas.shape, patch)
        need = max(40.0, MIN_VISIBLE * solid.sum())  # of the whole thing, parts outside the picture included
        shown = int(solid[inner].sum())
        hidden = np.bincount(owner[window][solid[inner]], minlength=len(labels) + 1)[1:]
        if shown < need or any(s - h < n for s, h, n in zip(seen, hidden, needed, strict=True) if h):
            continue
        cast_shadow(canvas, alpha, patch, light, rng)
        lay(canvas, surface, patch, alpha, light)
        owner[window][solid[inner]] = len(labels) + 1
        labels.append(label)
        needed.append(need)
        seen = [*(seen - hidden), shown]
    return owner, labels


# ---------------------------------------------------------------------------------------------------------------
# Where things lie
# ---------------------------------------------------------------------------------------------------------------

# How long each thing is beside the others. Softened on purpose: a model should not learn classes from sizes alone.
_RELATIVE_SIZE = {
    "banana": 1.25,
    "book": 1.5,
    "cell phone": 1.15,
    "coin": 0.6,
    "cup": 1.05,
    "donut": 0.9,
    "key": 0.9,
    "leaf": 1.1,
    "mouse": 0.95,
    "playing card": 1.0,
    "scissors": 1.4,
}


def layout(height: int, width: int, rng: np.random.Generator) -> list[tuple[int, float, np.ndarray, float]]:
    """Label, length in pixels, centre (x, y) and angle of every thing, from the bottom of the pile to its top."""
    scale = min(height, width) / 480
    if rng.random() < 0.02:
        return []
    if rng.random() < 0.2:  # a collection laid out in rows, each thing of one kind, as collectors do
        label = int(rng.integers(1, len(CATEGORIES)))
        if rng.random() < 0.35:
            label = CATEGORIES.index("coin")
        columns, rows = int(rng.integers(2, 6)), int(rng.integers(1, 4))
        pitch = min(width / columns, height / rows)
        corner = (rng.random(2) * 0.8 + 0.1) * (width - columns * pitch, height - rows * pitch)
        places = [(c, r) for r in range(rows) for c in range(columns)][:14]
        length = pitch * (0.6 + 0.42 * rng.random())
        turn = rng.random() * 7
        return [
            (
                label,
                float(np.clip(length * (0.85 + 0.2 * rng.random()), SMALLEST * scale, LARGEST * scale)),
                corner + (np.array(place) + 0.5 + (rng.random(2) - 0.5) * 0.18) * pitch,
                turn + (rng.random() - 0.5) * 0.7,
            )
            for place in places
        ]
    count = int(rng.integers(1, 15))
    kinds = rng.integers(1, len(CATEGORIES), size=int(rng.integers(1, 7)))
    # Few things may be large, many must be small: the base length shrinks with their number.
    base = 260 / np.sqrt(count + 1.5) * (0.6 + 1.3 * rng.random())
    things = []
    for _ in range(count):
        label = int(rng.choice(kinds))
        length = base * _RELATIVE_SIZE[CATEGORIES[label]] ** rng.random() * (0.75 + 0.5 * rng.random())
        length = float(np.clip(length, SMALLEST, LARGEST)) * scale
        centre = (0.04 + 0.92 * rng.random(2)) * (width, height)
        things.append((label, length, centre, rng.random() * 2 * np.pi))
    return things


def _lay_clutter(canvas: np.ndarray, light: np.ndarray, rng: np.random.Generator) -> None:
    """Lay down something that belongs to no class."""
    height, width, _ = canvas.shape
    length = (25 + 190 * rng.random() ** 1.6) * min(height, width) / 480
    patch = Patch.at(rng.random(2) * (width, height), length, rng.random() * 7, rng)
    surface, flat = draw_clutter(patch, rng)
    alpha = coverage(surface.edge, patch.px) * (0.45 if flat else 1.0)
    if not flat:
        cast_shadow(canvas, alpha, patch._replace(px=patch.px * 0.35), light, rng)
    lay(canvas, surface, patch, alpha, light)
