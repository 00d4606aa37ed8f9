"""Showing pictures."""

import io
import math
import warnings

import IPython.display
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from unchanged import unchanged

from segutils import show


@pytest.fixture
def shown(monkeypatch):
    """What `show` had drawn when it called `plt.show`: (title, array, box in inches) of each picture."""
    panels = []

    def look():
        figure = plt.gcf()
        figure.canvas.draw()
        size = figure.get_size_inches()
        for axes in figure.axes:
            assert not axes.axison
            box = axes.get_position()
            inches = (box.x0 * size[0], box.y0 * size[1], box.x1 * size[0], box.y1 * size[1])
            panels.append((axes.get_title(), axes.images[0].get_array().data, inches))
            words = axes.title.get_window_extent()
            if axes.get_title():
                assert words.y1 <= figure.bbox.y1 and words.y0 >= box.y1 * figure.bbox.height

    monkeypatch.setattr(plt, "show", look)
    yield panels
    assert plt.get_fignums() == []


GRADIENT = torch.arange(0, 240, 10, dtype=torch.uint8).reshape(1, 4, 6)
RGB = torch.cat([GRADIENT, GRADIENT.flip(1), GRADIENT.flip(2)])


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (RGB, RGB),
        (RGB / 255, RGB),
        ((RGB / 255).double().requires_grad_(), RGB),
        (GRADIENT, GRADIENT[0]),
        (GRADIENT[0], GRADIENT[0]),
        (GRADIENT[0] > 100, (GRADIENT[0] > 100) * 255),
        (RGB.permute(1, 2, 0).numpy(), RGB),
        (GRADIENT.permute(1, 2, 0).numpy(), GRADIENT[0]),
        (GRADIENT[0].numpy() / 255, GRADIENT[0]),
        (Image.fromarray(RGB.permute(1, 2, 0).numpy()), RGB),
        (Image.fromarray(np.array([[0, 65535]], np.uint16)), torch.tensor([[[0, 255]]] * 3)),
    ],
)
def test_show_takes_pictures_of_many_kinds(shown, picture, expected):
    assert show(picture) is None
    ((_, array, _),) = shown
    expected = expected.permute(1, 2, 0) if expected.ndim == 3 else expected
    assert array.dtype == np.uint8
    assert np.array_equal(array, expected.numpy())


@pytest.mark.parametrize(
    ("pictures", "count"),
    [
        ([RGB, RGB[:, :2], GRADIENT], 3),
        ((RGB, RGB), 2),
        (torch.stack([RGB] * 5), 5),
        (torch.rand(4, 1, 8, 8), 4),  # soft masks
        (torch.ones(3, 8, 8, dtype=torch.bool), 3),  # three boolean masks, not a colour picture
        (np.zeros((2, 8, 8, 3), np.uint8), 2),
        ([RGB, Image.new("RGB", (5, 5)), np.zeros((4, 4), bool)], 3),
    ],
)
def test_show_takes_many(shown, pictures, count):
    show(pictures, [f"picture {i}" for i in range(count)])
    assert [title for title, _, _ in shown] == [f"picture {i}" for i in range(count)]


def test_show_leaves_the_pictures_alone():
    before = RGB.clone()
    show([RGB, RGB / 255])
    assert torch.equal(RGB, before)


def boxes_of(shown):
    return np.array([box for _, _, box in shown])


def test_show_keeps_proportions_and_one_height_in_a_row(shown):
    show([torch.zeros(3, 30, 40), torch.zeros(3, 60, 30)])
    x0, y0, x1, y1 = boxes_of(shown).T
    assert np.allclose((x1 - x0) / (y1 - y0), [40 / 30, 30 / 60])
    assert np.allclose(y0, y0[0]) and np.allclose(y1, y1[0])
    assert x0[1] > x1[0]


@pytest.mark.parametrize(
    ("count", "columns", "expected"),
    [
        (3, None, [3]),
        (4, None, [2, 2]),
        (7, None, [3, 3, 1]),
        (10, None, [4, 4, 2]),
        (5, 5, [5]),
        (3, 1, [1, 1, 1]),
        (2, 8, [2]),
    ],
)
def test_show_makes_a_grid(shown, count, columns, expected):
    show([torch.zeros(3, 30, 40)] * count, columns=columns)
    boxes = boxes_of(shown)
    tops = boxes[:, 3].round(6)
    assert [int((tops == top).sum()) for top in sorted(set(tops), reverse=True)] == expected
    assert np.allclose(boxes[:, 2] - boxes[:, 0], boxes[0, 2] - boxes[0, 0])  # the last row is no larger
    assert boxes.min() > -1e-6 and boxes[:, 2].max() <= 9 + 1e-6


def test_show_wraps_titles_and_takes_them_literally(shown):
    show(
        [RGB, RGB],
        ["costs $5 or $6", "a very long title that does not fit over one picture of this width at all"],
    )
    assert shown[0][0] == "costs $5 or $6"
    assert shown[1][0].count("\n") >= 1
    show(RGB, "one title")
    assert shown[2][0] == "one title"


def test_show_many_times_keeps_no_figure_open():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(25):
            show(GRADIENT)
    assert plt.get_fignums() == []


def test_show_leaves_other_figures_open():
    figure = plt.figure()
    show(GRADIENT)
    assert plt.get_fignums() == [figure.number]
    plt.close(figure)


@pytest.fixture
def notebook(monkeypatch):
    """Pretend to be in a notebook, and collect what appears under the cell."""
    outputs = []
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    monkeypatch.setattr(IPython.display, "display", outputs.append)
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("would show every other open figure too"))
    return outputs


def test_show_in_a_notebook_is_a_small_jpeg_with_a_description(notebook):
    photo = Image.fromarray(skimage.data.astronaut()).resize((640, 480))
    show(photo, alt="an astronaut")
    show([skimage.data.astronaut(), skimage.data.coffee(), skimage.data.coins()] * 2, list("abcdef"))
    bundles = [output._repr_mimebundle_() for output in notebook]
    assert [metadata for _, metadata in bundles] == [
        {"image/jpeg": {"alt": "an astronaut"}},
        {"image/jpeg": {"alt": "a; b; c; d; e; f"}},
    ]
    for output in notebook:
        assert len(output.data) < 300_000
    assert Image.open(io.BytesIO(notebook[0].data)).size == (640, 480)  # as many pixels as the picture has
    assert plt.get_fignums() == []


def test_show_in_a_notebook_is_a_png_with_a_description_for_a_figure(notebook):
    figure, axes = plt.subplots(figsize=(4, 3))
    axes.plot([0, 1], [1, 0])
    show(figure, alt="a line that falls")
    show(plt.figure())
    described, plain = [output._repr_mimebundle_() for output in notebook]
    assert described[1] == {"image/png": {"alt": "a line that falls"}}
    assert set(plain[0]) == {"image/png"} and not plain[1]
    width, height = Image.open(io.BytesIO(notebook[0].data)).size
    assert 300 < width <= 400 and 200 < height <= 300  # figure.dpi is 100, and the empty margin is cut off
    assert plt.get_fignums() == []


def test_show_in_a_notebook_is_a_jpeg_for_a_figure_that_holds_photographs(notebook):
    figure, axes = plt.subplots(figsize=(6, 5))
    axes.imshow(np.random.default_rng(0).random((500, 600, 3)))
    show(figure, alt="noise")
    [(data, described)] = [output._repr_mimebundle_() for output in notebook]
    assert set(data) == {"image/jpeg"} and described == {"image/jpeg": {"alt": "noise"}}
    assert plt.get_fignums() == []


def test_show_outside_notebooks_opens_the_window_of_a_figure(monkeypatch):
    figure, seen = plt.figure(), []
    monkeypatch.setattr(plt, "show", lambda: seen.append(plt.get_fignums()))
    show(figure, alt="nothing")
    assert seen == [[figure.number]] and plt.get_fignums() == []


@pytest.mark.parametrize(
    ("pictures", "error", "message"),
    [
        ([], ValueError, "There is no picture to show: the list is empty"),
        (torch.zeros(0, 3, 4, 4), ValueError, "There is no picture to show"),
        (torch.rand(3, 4, 4) * 255, ValueError, r"go from .* to 2\d\d.*Divide it by 255"),
        (torch.full((3, 4, 4), -2.0), ValueError, "go from -2 to -2. If it was normalised, undo that first"),
        (torch.tensor([[0.5, math.nan], [math.inf, 0]]), ValueError, "2 values that are NaN or infinite"),
        (torch.zeros(4, 5, 6), ValueError, r"must be \[3, H, W\] or \[H, W\], not \[4, 5, 6\]"),
        (torch.zeros(5, 6, 3), ValueError, r"not \[5, 6, 3\]. It looks like \[H, W, 3\]: use image.permute"),
        (
            np.zeros((3, 5, 6)),
            ValueError,
            r"must be \[H, W, 3\].* It looks like \[3, H, W\]: use torch.from_numpy",
        ),
        (torch.zeros(3), ValueError, r"not \[3\]"),
        (torch.zeros(3, 0, 4), ValueError, r"not \[3, 0, 4\]"),
        ([RGB, torch.zeros(1, 3, 4, 4)], ValueError, r"not \[1, 3, 4, 4\]"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), TypeError, "uint8, float or bool values, not int64"),
        ("cat.jpg", TypeError, r"not str. Read files with load_image\(path\)"),
        (None, TypeError, "not NoneType"),
        ({"boxes": torch.zeros(1, 4)}, TypeError, "not dict"),
    ],
)
def test_show_refuses(pictures, error, message):
    with unchanged(pictures), pytest.raises(error, match=message):
        show(pictures)
    assert plt.get_fignums() == []


def test_show_refuses_bad_options():
    with pytest.raises(ValueError, match="There are 2 pictures but 1 titles"):
        show([RGB, RGB], "one")
    with pytest.raises(ValueError, match="There are 1 pictures but 2 titles"):
        show(RGB, ["one", "two"])
    for columns in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="columns is a whole number of at least 1"):
            show(RGB, columns=columns)
    figure = plt.figure()
    for options in ({"titles": "a line"}, {"columns": 1}):
        with pytest.raises(TypeError, match="A figure brings its own titles and columns"):
            show(figure, **options)
    plt.close(figure)
    assert plt.get_fignums() == []
