"""Pictures out: show one in a notebook, or many side by side."""

import io
import math
import textwrap
from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from segutils.images import check_float_range, to_rgb

_DPI = 100
_MAX_PNG = 300_000  # bytes: a larger figure holds photographs
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
    """Show one picture, or many side by side, without axes; or a figure that matplotlib has drawn.

    imgs: one picture, a list of them, or a batch [N, 3, H, W]. A picture is

    - a tensor [3, H, W], [1, H, W] or [H, W]: uint8 0 to 255, float 0 to 1, or bool (white where True),
    - a NumPy array [H, W, 3], [H, W, 1] or [H, W], of the same kinds,
    - a Pillow picture.

    A boolean tensor [N, H, W] is N masks. Sizes may differ. One channel is shown in grey.

    titles: one for each picture. columns: pictures in a row; by default up to three, then a square grid.
    alt: a description for people who cannot see the picture; by default the titles.

    A matplotlib `Figure` is shown as it is and closed: `show(figure, alt="Precision falls as recall grows.")`. It
    brings its own titles.

    Raises `TypeError` or `ValueError` for anything else: no picture, floats beyond 0 to 1, NaN, other shapes.
    """
    if isinstance(imgs, Figure):
        if titles is not None or columns is not None:
            raise TypeError("A figure brings its own titles and columns. Call show(figure, alt=...).")
        _show_figure(imgs, alt)
        return
    arrays = [to_array(img) for img in _as_list(imgs)]
    titles = [titles] if isinstance(titles, str) else None if titles is None else [str(t) for t in titles]
    if titles is not None and len(titles) != len(arrays):
        raise ValueError(f"There are {len(arrays)} pictures but {len(titles)} titles. Give each its own.")
    if columns is not None and (isinstance(columns, bool) or not isinstance(columns, int) or columns < 1):
        raise ValueError(f"columns is a whole number of at least 1, not {columns!r}.")
    if "inline" in matplotlib.get_backend():
        alt = alt if alt is not None else "; ".join(titles or [])
        _display(grid_jpeg(arrays, titles, columns), "jpeg", alt)
    else:
        figure = _lay_out(arrays, titles, columns)
        plt.show()
        plt.close(figure)  # or matplotlib would keep it, and warn after twenty


def _show_figure(figure: Figure, alt: str | None) -> None:
    """Show a figure, with a description where there is a place for it, and close it."""
    if "inline" in matplotlib.get_backend():
        picture, format = figure_png(figure), "png"
        if len(picture) > _MAX_PNG:
            picture, format = _figure_jpeg(figure), "jpeg"
        _display(picture, format, alt)
    else:
        plt.show()
    plt.close(figure)


def figure_png(figure: Figure) -> bytes:
    """Encode a figure as Jupyter itself does it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _figure_jpeg(figure: Figure) -> bytes:
    """Encode a figure that holds photographs: as JPEG it takes half the space or less."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", bbox_inches="tight", pil_kwargs={"quality": 85, "subsampling": 0})
    return buffer.getvalue()


def _display(picture: bytes, format: str, alt: str | None) -> None:
    """Put an encoded picture below the cell of a notebook, with its description."""
    from IPython import display  # only a notebook gets here, and it has IPython

    # As metadata, since older versions of IPython, Colab's among them, know no Image(alt=...).
    metadata = {"alt": alt} if alt else None
    display.display(display.Image(picture, format=format, metadata=metadata))


def grid_jpeg(
    arrays: list[np.ndarray], titles: list[str] | None, columns: int | None, **options: int
) -> bytes:
    """Lay pictures out as `show` does, as JPEG: a photograph takes a fifth of the space it takes as PNG.

    options: of Pillow's JPEG, in place of a quality of 85 and a subsampling of 0.
    """
    figure, buffer = _lay_out(arrays, titles, columns), io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=_DPI, pil_kwargs={"quality": 85, "subsampling": 0} | options)
    plt.close(figure)
    return buffer.getvalue()


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


def to_array(img) -> np.ndarray:
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
    check_float_range(torch.from_numpy(array))
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)
