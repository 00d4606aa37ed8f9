"""Pictures out: show them in a notebook, and draw instances on them."""

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage.measure import find_contours
from torch import Tensor

from segutils.images import to_rgb
from segutils.predictions import Prediction, boolean_masks, check_fraction, check_prediction, label_name

CLASS_COLORS: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # green
    (213, 94, 0),  # vermilion
    (0, 114, 178),  # blue
    (204, 121, 167),  # pink
    (240, 228, 66),  # yellow
    (136, 68, 51),  # brown
    (136, 119, 255),  # lavender
    (68, 238, 255),  # cyan
    (187, 221, 170),  # pale green
    (85, 17, 238),  # violet
)
"""Twelve colours that people with any of the three colour-vision deficiencies can tell apart.

The first seven are Okabe and Ito's (2008), without black. The other five were chosen one after the other,
each as different as can be from all before it: CIEDE2000, the smallest over normal vision and simulated
protanopia, deuteranopia and tritanopia (Machado and others, 2009).
"""


def class_color(label: int) -> tuple[int, int, int]:
    """Give a class its colour, always the same: RGB, 0 to 255. After twelve classes they begin again."""
    return CLASS_COLORS[(int(label) - 1) % len(CLASS_COLORS)]  # label 0 is the background


# --- show ---------------------------------------------------------------------------------------------------

_DPI = 100
_GAP = 0.08  # inches between pictures
_TITLE_SIZE = 10.5  # points
_LINE = 0.2  # inches that a line of a title takes


def show(
    imgs,
    titles: str | Sequence[str] | None = None,
    *,
    columns: int | None = None,
    alt: str | None = None,
) -> None:
    """Show one picture, or many side by side, without axes.

    imgs: one picture, a list of them, or a batch [N, 3, H, W]. A picture is

    - a tensor [3, H, W], [1, H, W] or [H, W]: uint8 0 to 255, float 0 to 1, or bool (white where True),
    - a NumPy array [H, W, 3], [H, W, 1] or [H, W], of the same kinds,
    - a Pillow picture.

    A boolean tensor [N, H, W] is N masks. Sizes may differ. One channel is shown in grey.

    titles: one for each picture. columns: pictures in a row; by default up to three, then a square grid.
    alt: a description for people who cannot see the picture; by default the titles.

    Raises `TypeError` or `ValueError` for anything else: no picture, floats beyond 0 to 1, NaN, other shapes.
    """
    arrays = [_to_array(img) for img in _as_list(imgs)]
    titles = [titles] if isinstance(titles, str) else None if titles is None else [str(t) for t in titles]
    if titles is not None and len(titles) != len(arrays):
        raise ValueError(f"There are {len(arrays)} pictures but {len(titles)} titles. Give each its own.")
    if columns is not None and (isinstance(columns, bool) or not isinstance(columns, int) or columns < 1):
        raise ValueError(f"columns is a whole number of at least 1, not {columns!r}.")
    figure = _lay_out(arrays, titles, columns)
    if "inline" in matplotlib.get_backend():
        _put_in_notebook(figure, alt if alt is not None else "; ".join(titles or []))
    else:
        plt.show()
    plt.close(figure)  # or matplotlib would keep it, and warn after twenty


def _lay_out(arrays: list[np.ndarray], titles: list[str] | None, columns: int | None) -> plt.Figure:
    """Place the pictures on a new figure: in a row all have one height, and full rows have one width."""
    count = len(arrays)
    columns = columns or (count if count <= 3 else math.ceil(math.sqrt(count)))
    rows = [range(start, min(start + columns, count)) for start in range(0, count, columns)]
    aspects = [array.shape[1] / array.shape[0] for array in arrays]  # width / height
    row_width, tallest = (6.4, 5.2) if count == 1 else (9.0, 4.0)

    # Everything is measured in inches and placed by hand: no title is cut off, no space is left over.
    heights, widths = [], []
    for row in rows:
        height = min((row_width - _GAP * (len(row) - 1)) / sum(aspects[i] for i in row), tallest)
        if heights and len(row) < columns:  # an incomplete last row is no taller than the one above
            height = min(height, heights[-1])
        heights.append(max(height, 0.2))
        widths += [max(height * aspects[i], 0.5) for i in row]
    texts = [_wrap(title, width) for title, width in zip(titles or [""] * count, widths, strict=True)]
    heads = [max(_LINE * (texts[i].count("\n") + 1) + 0.05 if texts[i] else 0 for i in row) for row in rows]
    total_width = max(sum(widths[i] for i in row) + _GAP * (len(row) - 1) for row in rows)
    total_height = sum(heights) + sum(heads) + _GAP * (len(rows) - 1)

    figure = plt.figure(figsize=(total_width, total_height), dpi=_DPI, facecolor="white")
    bottom = total_height
    for row, height, head in zip(rows, heights, heads, strict=True):
        left, bottom = 0.0, bottom - head - height
        for i in row:
            box = (left / total_width, bottom / total_height, widths[i] / total_width, height / total_height)
            axes = figure.add_axes(box)
            axes.imshow(arrays[i], cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
            axes.set_title(texts[i], fontsize=_TITLE_SIZE, pad=4, parse_math=False)
            left += widths[i] + _GAP
        bottom -= _GAP
    return figure


def _wrap(title: str, width: float) -> str:
    """Break a title into lines that fit `width` inches; a letter is about 0.6 of the font size wide."""
    letters = max(8, int(width * 72 / (0.6 * _TITLE_SIZE)))
    return "\n".join(textwrap.fill(line, letters) for line in title.splitlines())


def _put_in_notebook(figure: plt.Figure, alt: str) -> None:
    """Put the figure under the cell as JPEG: a photograph takes a fifth of the space it takes as PNG."""
    from IPython import display  # only a notebook gets here, and it has IPython

    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=_DPI, pil_kwargs={"quality": 85, "subsampling": 0})
    display.display(display.Image(buffer.getvalue(), format="jpeg", alt=alt or None))


def _as_list(imgs) -> list:
    """Tell one picture from many."""
    if isinstance(imgs, list | tuple):
        pictures = list(imgs)
    elif isinstance(imgs, Tensor | np.ndarray) and imgs.ndim == 4:
        pictures = list(imgs)
    elif isinstance(imgs, Tensor) and imgs.ndim == 3 and imgs.dtype == torch.bool:
        pictures = list(imgs)
    else:
        pictures = [imgs]
    if not pictures:
        raise ValueError("There is no picture to show: the list is empty.")
    return pictures


def _to_array(img) -> np.ndarray:
    """Check one picture and make a uint8 array of it: [H, W] if it has one channel, [H, W, 3] if three."""
    if isinstance(img, Image.Image):
        return np.asarray(to_rgb(img))
    if isinstance(img, Tensor):
        array, order = img.detach().cpu(), "[3, H, W]"
        array = (array.float() if array.is_floating_point() else array).numpy()
        hint = " It looks like [H, W, 3]: use image.permute(2, 0, 1)." if array.shape[-1:] == (3,) else ""
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    elif isinstance(img, np.ndarray):
        array, order = img, "[H, W, 3]"
        hint = " It looks like [3, H, W]: use torch.from_numpy(image)." if array.shape[:1] == (3,) else ""
    else:
        raise TypeError(
            f"A picture is a tensor, a NumPy array or a Pillow picture, not {type(img).__name__}. "
            "Read files with load_image(path)."
        )
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] != 3) or array.size == 0:
        kind = type(img).__name__
        raise ValueError(f"A {kind} to show must be {order} or [H, W], not {list(img.shape)}.{hint}")
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"A picture holds uint8, float or bool values, not {array.dtype}.")
    return _float_to_uint8(array)


def _float_to_uint8(array: np.ndarray) -> np.ndarray:
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        count = int((~np.isfinite(array)).sum())
        raise ValueError(f"The picture has {count} values that are NaN or infinite.")
    if low < -1e-3 or high > 1 + 1e-3:  # leaves room for rounding
        hint = "Divide it by 255." if 0 <= low and high <= 255 else "If it was normalised, undo that first."
        raise ValueError(
            f"A float picture holds values from 0 to 1; these go from {low:.3g} to {high:.3g}. {hint}"
        )
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)


# --- draw ---------------------------------------------------------------------------------------------------


def draw_instances(
    image: Tensor,
    prediction: Prediction,
    categories: Sequence[str] | None = None,
    *,
    alpha: float = 0.45,
    color_by: str = "class",
    boxes: bool = True,
    labels: bool = True,
) -> Tensor:
    """Draw the instances of one prediction on a picture: masks, outlines, boxes, and "name score" labels.

    image: [3, H, W], uint8 or float 0 to 1 (every picture that `show` takes will do).
    prediction: one dict with `labels`, and `boxes` or `masks` or both; masks are boolean [N, H, W] or soft
        [N, 1, H, W], which are cut at 0.5. Without `scores`, as in annotations, a label is the name alone.
    categories: the names of the classes, `weights.meta["categories"]`.
    alpha: how strongly masks cover the picture, from 0 (not at all) to 1 (opaque).
    color_by: "class" (each class has its colour, see `class_color`) or "instance" (each instance its own;
        after twelve they begin again).
    boxes, labels: whether to draw them.

    Small instances are painted over large ones, and colours mix where masks overlap, so both stay visible.
    Labels keep clear of each other; one that finds no place without hiding an instance is left out.

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
    if color_by not in ("class", "instance"):
        raise ValueError(f'color_by is "class" or "instance", not {color_by!r}.')
    canvas = _to_array(image)
    canvas = np.stack([canvas] * 3, axis=-1) if canvas.ndim == 2 else canvas.copy()
    class_ids = prediction["labels"].tolist()
    crops = _mask_crops(prediction, canvas.shape[:2])
    frames = _frames(prediction, crops)
    if color_by == "class":
        colors = [class_color(label) for label in class_ids]
    else:
        colors = [CLASS_COLORS[i % len(CLASS_COLORS)] for i in range(len(class_ids))]

    big_first = sorted(range(len(crops)), key=lambda i: -crops[i][2].sum())
    unit = max(canvas.shape) / 640  # lines and letters grow with the picture
    for i in big_first:
        x, y, mask = crops[i]
        _blend(canvas, x, y, mask * alpha, colors[i])
    for i in big_first:
        _draw_outline(canvas, crops[i], colors[i], max(1.2, 1.8 * unit))
    if boxes:
        for frame, color in zip(frames, colors, strict=True):
            _draw_box(canvas, frame, color, max(1, round(unit)))
    if labels:
        names = [label_name(label, categories) for label in class_ids]
        if "scores" in prediction:
            scores = prediction["scores"].tolist()
            names = [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]
        _draw_labels(canvas, names, frames, colors, unit)
    return torch.from_numpy(canvas).permute(2, 0, 1).contiguous()


Crop = tuple[int, int, np.ndarray]  # left, top, boolean mask of the rectangle that holds the instance
Frame = tuple[float, float, float, float]  # x1, y1, x2, y2


def _mask_crops(prediction: Prediction, size: tuple[int, int]) -> list[Crop]:
    """Cut every mask down to the rectangle around it: all later work is then done on few pixels."""
    if "masks" not in prediction:
        return [(0, 0, np.zeros((0, 0), bool))] * len(prediction["labels"])
    masks = boolean_masks(prediction["masks"])
    if masks.shape[1:] != size:
        raise ValueError(
            f"The masks are {masks.shape[2]} x {masks.shape[1]} pixels (width x height), but the picture is "
            f"{size[1]} x {size[0]}. Draw on the picture that the model was given."
        )
    crops = []
    for mask in masks.cpu().numpy():
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(ys) == 0:
            crops.append((0, 0, mask[:0, :0]))
        else:
            crops.append((int(xs[0]), int(ys[0]), mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]))
    return crops


def _frames(prediction: Prediction, crops: list[Crop]) -> list[Frame]:
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


def _blend(canvas: np.ndarray, left: int, top: int, cover: np.ndarray, color: tuple[int, int, int]) -> None:
    """Mix a colour into `canvas`, in place. cover: [h, w], 0 (keep the picture) to 1 (the colour alone)."""
    height, width = cover.shape
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + width, canvas.shape[1]), min(top + height, canvas.shape[0])
    if x1 >= x2 or y1 >= y2:
        return
    part = canvas[y1:y2, x1:x2]
    weight = cover[y1 - top : y2 - top, x1 - left : x2 - left, None].astype(np.float32)
    part[:] = np.rint(part + weight * (np.asarray(color, np.float32) - part))


def _smooth(size: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw, int], None]) -> np.ndarray:
    """Draw white on black at a multiple of the size [h, w], then shrink it: the cover of each pixel, 0 to 1.

    Pillow draws lines with hard steps; this gives them soft edges. Very large pictures, where nobody sees the
    steps, are drawn at their own size.
    """
    scale = max(1, min(4, int(math.sqrt(8_000_000 / max(math.prod(size), 1)))))
    large = Image.new("L", (size[1] * scale, size[0] * scale))
    draw(ImageDraw.Draw(large), scale)
    return np.asarray(large.reduce(scale), np.float32) / 255


def _draw_outline(canvas: np.ndarray, crop: Crop, color: tuple[int, int, int], width: float) -> None:
    left, top, mask = crop
    if mask.size == 0:
        return
    margin = math.ceil(width) + 2
    # Contours run through pixel centres, half a pixel from the corners that Pillow counts from.
    contours = [c[:, ::-1] + 0.5 for c in find_contours(np.pad(mask, margin).astype(np.float32), 0.5)]
    size = (mask.shape[0] + 2 * margin, mask.shape[1] + 2 * margin)

    def line(line_width: float) -> np.ndarray:
        def draw(pen: ImageDraw.ImageDraw, scale: int) -> None:
            for contour in contours:
                points = [tuple(point) for point in (contour * scale).tolist()]
                pen.line(points, fill=255, width=round(line_width * scale), joint="curve")

        return _smooth(size, draw)

    # A dark rim sets the colour off from a background of the same colour.
    _blend(canvas, left - margin, top - margin, 0.45 * line(width + 1.6), (0, 0, 0))
    _blend(canvas, left - margin, top - margin, line(width), color)


def _draw_box(canvas: np.ndarray, frame: Frame, color: tuple[int, int, int], width: int) -> None:
    if _area(frame) == 0:  # nothing was found, as where a mask is empty
        return
    x1, y1, x2, y2 = (round(v) for v in frame)
    # Kept inside the picture, so that a box around the whole picture still shows.
    x1, y1 = max(x1, 0), max(y1, 0)
    x2, y2 = max(min(x2, canvas.shape[1]), x1 + width), max(min(y2, canvas.shape[0]), y1 + width)
    for left, top, w, h in (
        (x1, y1, x2 - x1, width),
        (x1, y2 - width, x2 - x1, width),
        (x1, y1 + width, width, y2 - y1 - 2 * width),
        (x2 - width, y1 + width, width, y2 - y1 - 2 * width),
    ):
        _blend(canvas, left, top, np.full((max(h, 0), w), 0.85), color)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans from matplotlib, so that labels look the same on every machine."""
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)


def _pill_size(text: str, font_size: int) -> tuple[int, int]:
    """Width and height of the coloured ground of a label."""
    return round(_font(font_size).getlength(text) + 0.7 * font_size), round(1.4 * font_size)


def _draw_labels(
    canvas: np.ndarray, texts: list[str], frames: list[Frame], colors: list[tuple[int, int, int]], unit: float
) -> None:
    """Draw each label at the best free place around its box; in the order of the list, best score first."""
    taken: list[Frame] = []
    for text, frame, color in zip(texts, frames, colors, strict=True):
        if _area(frame) == 0:
            continue
        font_size = _font_size(text, frame, unit)
        width, height = _pill_size(text, font_size)
        places = [(x, y, x + width, y + height) for x, y in _places(frame, width, height, canvas.shape)]
        free = [place for place in places if not any(_overlap(place, other) for other in taken)]
        # The share of each box that the label would hide, added up. A tenth does no harm.
        hidden = [max(sum(_overlap(place, f) / max(_area(f), 1) for f in frames), 0.1) for place in free]
        if hidden and min(hidden) <= 0.75:
            place = free[hidden.index(min(hidden))]
            taken.append(place)
            _draw_pill(canvas, text, font_size, place, color)


def _font_size(text: str, frame: Frame, unit: float) -> int:
    """The largest size, within limits, at which a label is hardly wider than its box."""
    largest, smallest = max(8, round(13 * unit)), max(8, round(9 * unit))
    for size in range(largest, smallest, -1):
        if _pill_size(text, size)[0] <= 1.15 * (frame[2] - frame[0]):
            return size
    return smallest


def _places(frame: Frame, width: int, height: int, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Where the label of a box may go, best first: above, just inside, below, beside it, deeper inside."""
    x1, y1, x2, y2 = (round(v) for v in frame)
    lefts = (x1, x2 - width, (x1 + x2 - width) // 2)
    places = [(left, top) for top in (y1 - height, y1, y2) for left in lefts]
    places += [(left, top) for left in (x1 - width, x2) for top in (y1, y2 - height, (y1 + y2 - height) // 2)]
    places += [(left, top) for top in range(y1 + height, y2 - height + 1, height) for left in lefts]
    # Pushed back into the picture where they stick out.
    across, down = max(shape[1] - width, 0), max(shape[0] - height, 0)
    return [(min(max(left, 0), across), min(max(top, 0), down)) for left, top in places]


def _area(frame: Frame) -> float:
    return (frame[2] - frame[0]) * (frame[3] - frame[1])


def _overlap(a: Frame, b: Frame) -> float:
    """The area that two rectangles share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _draw_pill(
    canvas: np.ndarray, text: str, font_size: int, place: Frame, color: tuple[int, int, int]
) -> None:
    left, top, right, bottom = place
    size = (bottom - top, right - left)

    def pill(pen: ImageDraw.ImageDraw, scale: int) -> None:
        box = (0, 0, size[1] * scale - 1, size[0] * scale - 1)
        pen.rounded_rectangle(box, radius=0.3 * size[0] * scale, fill=255)

    letters = Image.new("L", size[::-1])
    position = (size[1] / 2, size[0] / 2)
    ImageDraw.Draw(letters).text(position, text, fill=255, font=_font(font_size), anchor="mm")
    _blend(canvas, left, top, _smooth(size, pill), color)
    _blend(canvas, left, top, np.asarray(letters, np.float32) / 255, _ink(color))


def _ink(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever stands out more (the contrast ratio of WCAG 2)."""
    linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)
