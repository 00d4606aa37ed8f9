"""Instances on a picture: masks, outlines, boxes and labels, in the colours of their classes."""

import math
import unicodedata
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from segutils.display import to_array
from segutils.predictions import Prediction, check_prediction, label_name, mask_crops
from segutils.roi_masks import Crop, check_fraction

CLASS_COLORS: tuple[tuple[int, int, int], ...] = (
    (136, 119, 255),  # lavender
    (230, 159, 0),  # orange
    (213, 94, 0),  # vermilion
    (68, 238, 255),  # cyan
    (187, 221, 170),  # pale green
    (85, 17, 238),  # violet
    (86, 180, 233),  # sky blue
    (204, 121, 167),  # pink
    (0, 158, 115),  # green
    (0, 114, 178),  # blue
    (240, 228, 66),  # yellow
    (136, 68, 51),  # brown
)
"""Twelve colours that people with any of the three colour-vision deficiencies can tell apart.

Seven are Okabe and Ito's (2008), without black: orange, sky blue, green, yellow, blue, vermilion and pink. The others
were chosen one after the other, each as different as can be from all before it: CIEDE2000, the smallest over normal
vision and simulated protanopia, deuteranopia and tritanopia (Machado and others, 2009).

Their order suits the bundled model: no class has the colour of its own things. Coins took cyan, which differs most
from the coins of drawn scenes; the others, without the dull brown, are placed so that the smallest median difference
(CIEDE2000) between a class's colour and the pixels of its things in 200 scenes is as large as can be, 37.
"""

Color = tuple[int, int, int]  # red, green, blue, 0 to 255
Frame = tuple[float, float, float, float]  # x1, y1, x2, y2


def class_color(label: int) -> Color:
    """Give a class its own colour, always the same: RGB, 0 to 255. After twelve classes they begin again.

    In a picture that holds two classes with the same colour, one of them takes another: see `class_colors`.
    """
    return CLASS_COLORS[(int(label) - 1) % len(CLASS_COLORS)]  # label 0 is the background


def class_colors(prediction: Prediction) -> dict[int, Color]:
    """Give each class in one picture a colour, RGB, 0 to 255: no two the same, as long as the twelve suffice.

    The classes choose in turn, the one with the best score first (without `scores`, as in annotations, and where
    scores are equal, the lower label first). Each takes its own colour, see `class_color`, or the next free one. So a
    higher score threshold, which drops the last classes, changes no colour of the others.

    prediction: one dict with `labels`, and `scores` if there are any.

    Returns the colour of each label, in the order of choosing.

    Raises `TypeError` or `ValueError` when the prediction is not as described.
    """
    check_prediction(prediction, needs=("labels",))
    labels = prediction["labels"].tolist()
    scores = prediction["scores"].tolist() if "scores" in prediction else [0.0] * len(labels)
    colors: dict[int, Color] = {}
    for _, label in sorted(zip(scores, labels, strict=True), key=lambda pair: (-pair[0], pair[1])):
        if label not in colors:
            own = CLASS_COLORS.index(class_color(label))
            turns = CLASS_COLORS[own:] + CLASS_COLORS[:own]
            colors[label] = next((color for color in turns if color not in colors.values()), turns[0])
    return colors


def draw_instances(
    image: Tensor,
    prediction: Prediction,
    categories: Sequence[str] | None = None,
    *,
    mask_threshold: float = 0.5,
    alpha: float = 0.45,
    color_by: str = "class",
    masks: bool = True,
    outlines: bool = True,
    boxes: bool = True,
    labels: bool = True,
) -> Tensor:
    """Draw the instances of one prediction on a picture: masks, outlines, boxes, and "name score" labels.

    image: [3, H, W], uint8 or float 0 to 1 (every picture that `show` takes will do).
    prediction: one dict with `labels`, and `boxes` or `masks` or both. Masks are boolean [N, H, W], soft
        [N, 1, H, W], or a `RoIMasks`. Without `scores`, as in annotations, a label is the name alone.
    categories: the names of the classes, `weights.meta["categories"]`.
    mask_threshold: where soft masks are cut, 0 to 1. Boolean ones stay as they are.
    alpha: how strongly masks cover the picture, from 0 (not at all) to 1 (opaque).
    color_by: "class" (each class has its colour, see `class_colors`) or "instance" (each instance its own;
        after twelve they begin again).
    masks, outlines, boxes, labels: whether to draw them.

    Small instances are painted over large ones, and colours mix where masks overlap, so both stay visible.
    Labels keep clear of each other; one that finds no place without hiding an instance is left out. Letters that DejaVu
    Sans lacks, such as Chinese ones, are written in a font of this machine that has them. A warning names those that
    none has.

    Returns a new uint8 tensor [3, H, W] on the CPU.

    Raises `TypeError` or `ValueError` when the picture, the prediction or an option is not as described, or
    when the masks are not of the picture's size.
    """
    if isinstance(prediction, list | tuple):
        raise TypeError(
            "draw_instances takes the prediction of one picture, but got the list of all. Use output[0]."
        )
    check_prediction(prediction, needs=("labels",))
    if "boxes" not in prediction and "masks" not in prediction:
        raise ValueError("The prediction has neither masks nor boxes: there is nothing to draw.")
    check_fraction("alpha", alpha)
    check_fraction("mask_threshold", mask_threshold)
    if color_by not in ("class", "instance"):
        raise ValueError(f'color_by is "class" or "instance", not {color_by!r}.')
    canvas = to_canvas(image)
    crops = _crops_of(prediction, canvas.shape[1:], mask_threshold)
    frames = frames_of(prediction, crops)
    if color_by == "class":
        color_of = class_colors(prediction)
        colors = [color_of[label] for label in prediction["labels"].tolist()]
    else:
        colors = [CLASS_COLORS[i % len(CLASS_COLORS)] for i in range(len(crops))]
    if masks or outlines:
        paint_masks(canvas, crops, colors, alpha=alpha if masks else 0.0, outlines=outlines)
    if boxes:
        paint_boxes(canvas, frames, colors)
    if labels:
        paint_labels(canvas, label_texts(prediction, categories), frames, colors)
    return torch.from_numpy(canvas)


def draw_classes(image: Tensor, class_map: Tensor, *, alpha: float = 0.7) -> Tensor:
    """Draw a class map on a picture: each class in its own colour, see `class_colors`; 0, the background, not at all.

    image: [3, H, W], as for `draw_instances`.
    class_map: [H, W], whole numbers from 0, for example from `to_semantic`.
    alpha: how strongly the colours cover the picture, from 0 (not at all) to 1 (opaque).

    Returns a new uint8 tensor [3, H, W] on the CPU.

    Raises `TypeError` or `ValueError` when the picture or `alpha` is not as described, when the class map is none, or
    when the two differ in size.
    """
    if not isinstance(class_map, Tensor) or class_map.ndim != 2 or class_map.is_floating_point():
        found = (
            f"{class_map.dtype} {list(class_map.shape)}" if isinstance(class_map, Tensor) else type(class_map)
        )
        raise TypeError(
            f"A class map is a tensor [H, W] of whole numbers, not {found}. "
            "Of a model's output [N, C, H, W], output.argmax(1)[0] makes one."
        )
    present = class_map.unique()
    present = present[present > 0]
    per_class = {"labels": present, "masks": class_map == present[:, None, None]}
    return draw_instances(image, per_class, boxes=False, labels=False, alpha=alpha)


def to_canvas(image) -> np.ndarray:
    """Copy a picture, of any kind that `show` takes, to a uint8 array [3, H, W] to draw on."""
    array = to_array(image)
    return np.stack([array] * 3) if array.ndim == 2 else np.moveaxis(array, -1, 0).copy()


def _line_unit(canvas: np.ndarray) -> float:
    """How many times larger than in a picture of 640 pixels lines and letters are: they grow with the picture."""
    return max(canvas.shape[1:]) / 640


def label_texts(prediction: Prediction, categories: Sequence[str] | None) -> list[str]:
    """ "coin 0.93" for each instance; without `scores`, as in annotations, "coin"."""
    names = [label_name(label, categories) for label in prediction["labels"].tolist()]
    if "scores" not in prediction:
        return names
    return [f"{name} {score:.2f}" for name, score in zip(names, prediction["scores"].tolist(), strict=True)]


def _crops_of(prediction: Prediction, size: tuple[int, int], mask_threshold: float) -> list[Crop]:
    """Cut every mask down to the rectangle around it: all later work is then done on few pixels."""
    if "masks" not in prediction:
        return [Crop(0, 0, torch.zeros(0, 0, dtype=torch.bool))] * len(prediction["labels"])
    crops = mask_crops(prediction["masks"], mask_threshold)
    height, width = prediction["masks"].shape[-2:]
    if (height, width) != tuple(size):
        raise ValueError(
            f"The masks are {width} x {height} pixels (width x height), but the picture is "
            f"{size[1]} x {size[0]}. Draw on the picture that the model was given."
        )
    return crops


def frames_of(prediction: Prediction, crops: list[Crop]) -> list[Frame]:
    """The boxes of the prediction; without any, the rectangles around the masks."""
    if "boxes" not in prediction:
        return [(x, y, x + mask.shape[1], y + mask.shape[0]) for x, y, mask in crops]
    boxes = prediction["boxes"].detach().cpu().float()
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be [N, 4], not {list(boxes.shape)}.")
    if not torch.isfinite(boxes).all():
        raise ValueError("Some boxes hold NaN or infinite numbers.")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(
            "Boxes are x1, y1, x2, y2 with x1 <= x2 and y1 <= y2. Some of these are not: are they x, y, w, h?"
        )
    return [tuple(box) for box in boxes.tolist()]


def paint_masks(
    canvas: np.ndarray,
    crops: list[Crop],
    colors: list[Color],
    *,
    alpha: float,
    outlines: bool = True,
    thickness: float = 1.0,
    dashed: bool = False,
) -> None:
    """Fill and outline masks on `canvas`, uint8 [3, H, W], in place, small ones over large ones.

    Each mask is blurred, so that its values tell how far a pixel is from the outline: 0 is far outside, 255 deep
    inside. Two tables say what that means: how much of the picture stays, and how much colour comes to it. Dashes leave
    gaps in stripes that run across the picture.
    """
    unit = thickness * _line_unit(canvas)
    tables = _mask_tables(alpha, outlines, unit)
    # In large pictures, where the outline is many pixels wide, a coarser mask tells the distance as well.
    coarse, sigma = max(1, int(unit)), max(1.0, unit)
    margin = math.ceil(2 * sigma) + 1
    by_area = sorted(
        zip(crops, colors, strict=True), key=lambda pair: -np.count_nonzero(pair[0].mask.numpy())
    )
    for (left, top, mask), color in by_area:
        height, width = (-(-(side + 2 * margin) // coarse) * coarse for side in mask.shape)
        padded = np.zeros((height, width), np.uint8)
        inner = padded[margin:, margin:][: mask.shape[0], : mask.shape[1]]
        np.multiply(mask.numpy(), np.uint8(255), out=inner)
        levels = Image.fromarray(padded).reduce(coarse).filter(ImageFilter.GaussianBlur(sigma / coarse))
        levels = np.array(levels)
        if coarse > 1:
            small = torch.from_numpy(levels)[None, None]  # torch enlarges in half of Pillow's time
            levels = interpolate(small, size=(height, width), mode="bilinear", align_corners=False)[
                0, 0
            ].numpy()
        stays, comes = (table.take(levels, mode="clip") for table in tables)
        if dashed:
            steps = np.arange(top, top + height)[:, None] + np.arange(left, left + width)
            gaps = steps // math.ceil(4 * sigma) % 2 == 1
            stays[gaps], comes[gaps] = 256, 0
        _lay(canvas, left - margin, top - margin, stays, np.array(color, np.uint16)[:, None, None] * comes)


def _lay(canvas: np.ndarray, left: int, top: int, stays: np.ndarray, comes: np.ndarray) -> None:
    """Lay colour on `canvas`, uint8 [3, H, W], in place, from the corner (left, top) on. What sticks out is cut off.

    stays: uint16 [h, w], 0 to 256, the share of the picture that stays, in 1/256. comes: uint16 [3, h, w], 256 times
    what is added; together they never reach beyond 255.
    """
    y1, y2 = max(top, 0), min(top + stays.shape[0], canvas.shape[1])
    x1, x2 = max(left, 0), min(left + stays.shape[1], canvas.shape[2])
    if y1 >= y2 or x1 >= x2:
        return
    rows, columns = slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)
    part = canvas[:, y1:y2, x1:x2]
    mixed = part * stays[rows, columns]
    mixed += comes[:, rows, columns]
    mixed >>= 8
    part[:] = mixed


@lru_cache(maxsize=16)
def _mask_tables(alpha: float, outlines: bool, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """For each level, 0 to 255: how much of the picture stays and how much colour comes, in 1/256, uint16."""
    sigma, width = max(1.0, unit), max(1.6, 2.0 * unit)
    # The blur of a straight outline is the normal distribution: how many pixels inside is a level? Negative: outside.
    shares = (min(max(level / 255, 1e-6), 1 - 1e-6) for level in range(256))
    inside = sigma * np.array([NormalDist().inv_cdf(share) for share in shares])
    line = outlines * (width / 2 - abs(inside) + 0.5).clip(0, 1)
    # A dark rim sets the colour off from a background of the same colour.
    rim = outlines * 0.45 * (width / 2 + 0.8 * sigma - abs(inside) + 0.5).clip(0, 1)
    fill = alpha * (inside + 0.5).clip(0, 1)
    # Three coats, one over the other. Each lets a share of what is below it through.
    stays = np.rint(256 * (1 - fill) * (1 - rim) * (1 - line))
    comes = np.rint(256 * (fill * (1 - rim) * (1 - line) + line)).clip(max=256 - stays)
    return stays.astype(np.uint16), comes.astype(np.uint16)


def paint_boxes(canvas: np.ndarray, frames: list[Frame], colors: list[Color]) -> None:
    """Draw boxes on `canvas`, uint8 [3, H, W], in place."""
    width = max(1, round(_line_unit(canvas)))
    for frame, color in zip(frames, colors, strict=True):
        if _is_empty(frame):  # nothing was found, as where a mask is empty
            continue
        x1, y1, x2, y2 = (round(v) for v in frame)
        # Kept inside the picture, so that a box around the whole picture still shows.
        x1, y1 = max(x1, 0), max(y1, 0)
        x2, y2 = max(min(x2, canvas.shape[2]), x1 + width), max(min(y2, canvas.shape[1]), y1 + width)
        ink = np.array(color, np.uint8)[:, None, None]
        canvas[:, y1 : y1 + width, x1:x2] = canvas[:, y2 - width : y2, x1:x2] = ink
        canvas[:, y1:y2, x1 : x1 + width] = canvas[:, y1:y2, x2 - width : x2] = ink


def _is_empty(frame: Frame) -> bool:
    return frame[0] == frame[2] or frame[1] == frame[3]


DEJAVU = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
"""The font of labels: it comes with matplotlib, so that they look the same on every machine."""


@cache
def _font(size: int, file: str = DEJAVU) -> ImageFont.FreeTypeFont:
    # Letters of other scripts often need the finer layout, where Pillow has it.
    engine = ImageFont.Layout.BASIC if file == DEJAVU else None
    return ImageFont.truetype(file, size, layout_engine=engine)


@cache
def _letters(file: str) -> frozenset[int]:
    """The code points that a font has letters for: none if Pillow cannot write with it."""
    try:
        ImageFont.truetype(file, 20)  # refuses fonts that have one size alone, as some of emoji do
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):  # a broken file among the fonts of a machine is no reason to draw nothing
        return frozenset()


@cache
def _other_fonts() -> list[str]:
    """The fonts of this machine, plain ones first."""
    files = [
        file for file in findSystemFonts() if "LastResort" not in file
    ]  # which has a box for every letter
    return sorted(files, key=lambda file: ("Regular" not in file, "Sans" not in file, file))


@cache
def _font_with(letter: str) -> str | None:
    """The file of a font that has a letter: DejaVu Sans, or the first other one; None if there is none."""
    if ord(letter) in _letters(DEJAVU):
        return DEJAVU
    return next((file for file in _other_fonts() if ord(letter) in _letters(file)), None)


@lru_cache(maxsize=4096)
def _runs(text: str) -> list[tuple[str, str]]:
    """Cut a text into runs of one font each: (file of the font, part of the text)."""
    runs: list[tuple[str, str]] = []
    for letter in text:
        file = _font_with(letter) or DEJAVU
        is_mark = unicodedata.category(letter) in (
            "Mn",
            "Mc",
            "Me",
            "Cf",
        )  # accents and the like, and joiners
        if runs and is_mark and ord(letter) in _letters(runs[-1][0]):
            file = runs[-1][0]  # the font of the letter before, to which they belong
        if runs and file == runs[-1][0]:
            runs[-1] = (file, runs[-1][1] + letter)
        else:
            runs.append((file, letter))
    return runs


_warned: set[str] = set()


def _warn_of_missing_letters(texts: list[str]) -> None:
    """Name the letters that no font has, each once."""
    missing = {letter for letter in set("".join(texts)) if _font_with(letter) is None} - _warned
    if missing:
        _warned.update(missing)
        warnings.warn(
            "No font on this machine has these letters, so labels show boxes in their place: "
            f"{' '.join(sorted(missing))}  Install a font that has them, such as one of the Noto fonts, and restart "
            "Python (the kernel).",
            stacklevel=4,  # the line that calls draw_instances
        )


@lru_cache(maxsize=4096)
def _length(text: str, font_size: int) -> float:
    return sum(_font(font_size, file).getlength(part) for file, part in _runs(text))


def _pill_size(text: str, font_size: int) -> tuple[int, int]:
    """Width and height of the coloured ground of a label."""
    return round(_length(text, font_size) + 0.7 * font_size), round(1.4 * font_size)


class Label(NamedTuple):
    """A line of text on a coloured ground with its corner at (left, top)."""

    left: int
    top: int
    text: str
    font_size: int


def paint_labels(canvas: np.ndarray, texts: list[str], frames: list[Frame], colors: list[Color]) -> None:
    """Write the labels of some boxes on `canvas`, uint8 [3, H, W], in place. One that finds no place is left out."""
    _warn_of_missing_letters(texts)
    for i, label in _place_labels(texts, frames, canvas.shape[1:], _line_unit(canvas)).items():
        _paint_label(canvas, label, colors[i])


def _place_labels(
    texts: list[str], frames: list[Frame], size: tuple[int, int], unit: float
) -> dict[int, Label]:
    """Give each label the best place near its box in a picture of `size` (height, width): one after the other."""
    font_size = max(8, round(11 * unit))  # one for all, so that no label stands out by its letters
    labels, taken = {}, np.zeros(size, dtype=bool)
    boxes = np.array(frames).reshape(-1, 4)
    shares = 1 / ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clip(
        min=1
    )  # of a box, per pixel
    for i, (text, frame) in enumerate(zip(texts, frames, strict=True)):
        if _is_empty(frame):
            continue
        width, height = _pill_size(text, font_size)
        corners = np.array(_places(frame, width, height, size))
        ends = corners + (width, height)
        # Only boxes near by are compared, so that memory grows with the number of things, not with its square.
        near = ((boxes[:, :2] < ends.max(axis=0)) & (boxes[:, 2:] > corners.min(axis=0))).all(axis=1)
        x1, y1, x2, y2 = boxes[near].T
        across = np.minimum(ends[:, :1], x2) - np.maximum(corners[:, :1], x1)
        down = np.minimum(ends[:, 1:], y2) - np.maximum(corners[:, 1:], y1)
        hidden = (across.clip(min=0) * down.clip(min=0)) @ shares[near]
        # A tenth of a box does no harm. Rounded, so that equal places stay equal on every machine.
        hidden = hidden.round(6).clip(min=0.1)
        for best in hidden.argsort(kind="stable"):
            if hidden[best] > 0.75:
                break
            left, top = corners[best].tolist()
            ground = taken[top : top + height, left : left + width]
            if not ground.any():
                ground[:] = True
                labels[i] = Label(left, top, text, font_size)
                break
    return labels


def _places(frame: Frame, width: int, height: int, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Where the label of a box may go, best first: above, just inside, below, beside it, deeper inside."""
    x1, y1, x2, y2 = (round(v) for v in frame)
    lefts = (x1, x2 - width, (x1 + x2 - width) // 2)
    places = [(left, top) for top in (y1 - height, y1, y2) for left in lefts]
    places += [(left, top) for left in (x1 - width, x2) for top in (y1, y2 - height, (y1 + y2 - height) // 2)]
    places += [(left, top) for top in range(y1 + height, y2 - height + 1, height) for left in lefts]
    # Pushed back into the picture where they stick out.
    across, down = max(size[1] - width, 0), max(size[0] - height, 0)
    return [(min(max(left, 0), across), min(max(top, 0), down)) for left, top in places]


def _paint_label(canvas: np.ndarray, label: Label, color: Color) -> None:
    """Write a label in black or white on a ground of its colour, with round corners."""
    width, height = _pill_size(label.text, label.font_size)
    letters = Image.new("L", (width, height))
    left = (width - _length(label.text, label.font_size)) / 2
    for file, part in _runs(label.text):
        font = _font(label.font_size, file)
        middle = (left + font.getlength(part) / 2, height / 2)
        ImageDraw.Draw(letters).text(middle, part, fill=255, font=font, anchor="mm")
        left += font.getlength(part)
    ground, ink = _pill(width, height), np.asarray(letters, np.float32) / 255
    ground_color, ink_color = (np.array(c, np.float32)[:, None, None] for c in (color, _ink(color)))
    stays = 256 * ((1 - ground) * (1 - ink))
    comes = 256 * (ground * ground_color * (1 - ink) + ink * ink_color)
    # Rounded down, so that together they never reach beyond 255.
    _lay(canvas, label.left, label.top, stays.astype(np.uint16), comes.astype(np.uint16))


@lru_cache(maxsize=256)
def _pill(width: int, height: int) -> np.ndarray:
    """The ground of a label, with round corners: how much of each pixel it covers, [height, width] from 0 to 1."""
    # Drawn large and then shrunk, since Pillow draws round corners with hard steps.
    scale = 4
    pill, corner = Image.new("L", (width * scale, height * scale)), (width * scale - 1, height * scale - 1)
    ImageDraw.Draw(pill).rounded_rectangle((0, 0, *corner), radius=0.3 * height * scale, fill=255)
    return np.asarray(pill.reduce(scale), np.float32) / 255


def _ink(color: Color) -> Color:
    """Black or white, whichever stands out more (the contrast ratio of WCAG 2)."""
    linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)
