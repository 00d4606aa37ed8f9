"""Drawing instances on pictures, and the colours of their classes."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage.color import deltaE_ciede2000, rgb2lab
from unchanged import unchanged

from segutils import drawing
from segutils.drawing import CLASS_COLORS, class_color, class_colors, draw_classes, draw_instances
from segutils.roi_masks import RoIMasks

CATEGORIES = ("__background__", "banana", "book", "cell phone", "coin")


# --- colours ------------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("vision", VISION)
def test_class_colors_differ_for_colour_blind_readers(vision):
    rgb = np.array(CLASS_COLORS) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(VISION[vision]).T).clip(0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    difference = deltaE_ciede2000(lab[:, None], lab[None])
    np.fill_diagonal(difference, math.inf)
    assert difference.min() > 10  # from about 2 on, two colours side by side can be told apart


def test_class_color_is_fixed_and_begins_again():
    assert len(set(CLASS_COLORS)) == 12
    assert [class_color(label) for label in range(1, 13)] == list(CLASS_COLORS)
    assert class_color(13) == class_color(1) == class_color(torch.tensor(1))
    assert (0, 0, 0) not in CLASS_COLORS


def of_classes(labels, scores=None):
    """What `class_colors` asks of a prediction."""
    p = {"labels": torch.tensor(labels, dtype=torch.int64)}
    return p if scores is None else p | {"scores": torch.tensor(scores)}


def test_classes_of_one_picture_have_different_colors():
    one, two, three, four = CLASS_COLORS[:4]
    assert class_colors(of_classes([4, 2, 2])) == {2: two, 4: four}
    assert class_colors(of_classes([13, 1])) == {1: one, 13: two}  # without scores, the lower label first
    assert class_colors(of_classes([1, 13], [0.5, 0.5])) == {1: one, 13: two}
    assert class_colors(of_classes([1, 13, 2], [0.8, 0.9, 0.7])) == {13: one, 1: two, 2: three}
    assert class_colors(of_classes([12, 24])) == {
        12: CLASS_COLORS[11],
        24: one,
    }  # after the last comes the first
    assert class_colors(of_classes([])) == {}
    generator = torch.Generator().manual_seed(0)
    for count in range(1, 13):
        labels = (torch.randperm(90, generator=generator)[:count] + 1).tolist()
        assert len(set(class_colors(of_classes(labels)).values())) == count
    assert set(class_colors(of_classes(list(range(1, 92)))).values()) == set(CLASS_COLORS)


def test_a_score_threshold_changes_no_class_color():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        labels = torch.randint(1, 91, (40,), generator=generator)
        scores = torch.randint(0, 20, (40,), generator=generator) / 20
        colors = class_colors({"labels": labels, "scores": scores})
        for threshold in (0.3, 0.6, 0.9):
            kept = {"labels": labels[scores >= threshold], "scores": scores[scores >= threshold]}
            expected = {label: colors[label] for label in kept["labels"].tolist()}
            assert class_colors(kept) == expected


def test_draw_gives_each_class_in_the_picture_its_own_color():
    p = squares((5, 5, 45, 100), (55, 5, 95, 100), (105, 5, 145, 100))
    p["labels"] = torch.tensor([13, 1, 13])
    drawn = draw_instances(GREY, p, alpha=1, **BARE)
    assert [pixel(drawn, x, 50) for x in (25, 75, 125)] == [CLASS_COLORS[i] for i in (0, 1, 0)]


def test_text_on_every_color_can_be_read():
    def luminance(color):
        return sum(
            weight * (v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4)
            for v, weight in zip(color, (0.2126, 0.7152, 0.0722), strict=True)
        )

    for color in CLASS_COLORS:
        light, dark = sorted((luminance(color), luminance(drawing._ink(color))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # what WCAG 2 asks of text


# --- draw_instances -----------------------------------------------------------------------------------------


def squares(*frames, size=(120, 160), scores=True, soft=False):
    """A prediction whose masks fill their boxes; frames are x1, y1, x2, y2."""
    masks = torch.zeros(len(frames), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, frames, strict=True):
        mask[y1:y2, x1:x2] = True
    p = {
        "boxes": torch.tensor(frames, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(1, len(frames) + 1),
        "scores": torch.linspace(0.9, 0.6, len(frames)),
        "masks": masks[:, None] * 0.9 if soft else masks,
    }
    return p if scores else {k: v for k, v in p.items() if k != "scores"}


GREY = torch.full((3, 120, 160), 100, dtype=torch.uint8)
BARE = {"boxes": False, "labels": False}


def pixel(image, x, y):
    return tuple(image[:, y, x].tolist())


def blend(color, under, alpha):
    return tuple(round(u + alpha * (c - u)) for c, u in zip(color, under, strict=True))


def close(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) <= 1


def test_draw_blends_masks_and_changes_nothing_given():
    p = squares((10, 20, 60, 80))
    before = {k: v.clone() for k, v in p.items()}
    image = GREY.clone()
    drawn = draw_instances(image, p, CATEGORIES, alpha=0.5, **BARE)
    assert drawn.dtype == torch.uint8 and drawn.shape == GREY.shape and drawn.is_contiguous()
    assert close(pixel(drawn, 30, 50), blend(CLASS_COLORS[0], (100, 100, 100), 0.5))
    assert pixel(drawn, 100, 50) == (100, 100, 100)
    assert torch.equal(image, GREY)
    assert all(torch.equal(p[k], before[k]) for k in before)


def test_draw_outlines_masks_in_full_color():
    drawn = draw_instances(GREY, squares((10, 20, 60, 80)), alpha=0, **BARE)
    assert pixel(drawn, 35, 50) == (100, 100, 100)
    edge = drawn[:, 50, 6:14].permute(1, 0).tolist()
    assert min(math.dist(color, CLASS_COLORS[0]) for color in edge) < 60  # the line itself
    assert min(sum(color) for color in edge) < 300  # and its dark rim


def test_draw_outlines_large_masks_evenly():
    disc = torch.hypot(torch.arange(1920.0)[:, None] - 952, torch.arange(2560.0) - 1272) < 640
    p = {"labels": torch.tensor([1]), "masks": disc[None]}
    large = draw_instances(GREY.repeat(1, 16, 16), p, alpha=0.5, **BARE)
    assert close(pixel(large, 1272, 952), blend(CLASS_COLORS[0], (100, 100, 100), 0.5))
    assert pixel(large, 100, 100) == pixel(large, 1272, 952 + 40 * 16 + 30) == (100, 100, 100)
    # Around the disc, whichever way the outline runs, lies a line of the same colour and width.
    widths = []
    for angle in torch.arange(0, 2 * math.pi, 0.1).tolist():
        radii = torch.arange(600.0, 680)
        xs, ys = (1272 + math.cos(angle) * radii).round().int(), (952 + math.sin(angle) * radii).round().int()
        along = large[:, ys, xs].T.float()
        widths.append(int(((along - torch.tensor(CLASS_COLORS[0])).norm(dim=1) < 30).sum()))
    assert 7 <= min(widths) and max(widths) <= 9  # 2 pixels in a picture of 640, 8 in this one


def test_draw_shows_both_instances_where_they_overlap():
    large, small = (10, 10, 110, 110), (60, 60, 90, 90)
    for frames in [(large, small), (small, large)]:  # whatever the order of the list
        drawn = draw_instances(GREY, squares(*frames), alpha=0.5, **BARE)
        colors = dict(zip(frames, CLASS_COLORS, strict=False))
        below = blend(colors[large], (100, 100, 100), 0.5)
        assert close(pixel(drawn, 30, 30), below)
        assert close(pixel(drawn, 75, 75), blend(colors[small], below, 0.5))


def test_draw_colors_by_class_or_by_instance():
    p = squares((5, 5, 45, 100), (55, 5, 95, 100), (105, 5, 145, 100))
    p["labels"] = torch.tensor([4, 4, 2])

    def colors(**options):
        drawn = draw_instances(GREY, p, alpha=1, **options, **BARE)
        return [pixel(drawn, x, 50) for x in (25, 75, 125)]

    assert colors() == [class_color(4), class_color(4), class_color(2)]
    assert colors(color_by="instance") == list(CLASS_COLORS[:3])


def test_draw_boxes_and_labels_can_be_left_out():
    p = squares((30, 40, 90, 100))
    p["masks"] &= False
    nothing = draw_instances(GREY, p, CATEGORIES, **BARE)
    assert torch.equal(nothing, GREY)
    box = draw_instances(GREY, p, CATEGORIES, labels=False)
    changed = (box != GREY).any(0)
    assert (
        changed[40, 30:90].all()
        and changed[99, 30:90].all()
        and changed[40:100, 30].all()
        and changed[40:100, 89].all()
    )
    assert changed.sum() == 2 * 60 + 2 * 58
    label = draw_instances(GREY, p, CATEGORIES, boxes=False)
    ys, xs = torch.where((label != GREY).any(0))
    assert ys.max() < 40 and ys.min() > 20 and xs.min() >= 30  # stands on the box


def test_draw_masks_and_outlines_can_be_left_out():
    p = squares((10, 20, 60, 80))
    fill = draw_instances(GREY, p, CATEGORIES, outlines=False, boxes=False, labels=False)
    changed = (fill != GREY).any(0)
    assert changed[20:80, 10:60].all() and changed.sum() < 64 * 54  # the mask and its soft edge, no rim
    assert pixel(fill, 11, 50) == pixel(fill, 35, 50)
    line = draw_instances(GREY, p, CATEGORIES, masks=False, boxes=False, labels=False)
    assert torch.equal(line, draw_instances(GREY, p, CATEGORIES, alpha=0, boxes=False, labels=False))
    assert pixel(line, 35, 50) == (100, 100, 100) and pixel(line, 10, 50) != (100, 100, 100)
    neither = draw_instances(GREY, p, CATEGORIES, masks=False, outlines=False, boxes=False, labels=False)
    assert torch.equal(neither, GREY)


def test_draw_cuts_soft_masks_at_the_mask_threshold():
    p = squares((10, 20, 60, 80), soft=True)
    ramp = torch.linspace(0, 1, 50).expand(60, 50)
    p["masks"][0, 0, 20:80, 10:60] = ramp
    for threshold in (0.2, 0.5, 0.9):
        cut = p | {"masks": p["masks"][:, 0] > threshold}
        expected = draw_instances(GREY, cut, CATEGORIES)
        assert torch.equal(draw_instances(GREY, p, CATEGORIES, mask_threshold=threshold), expected)
        # Boolean masks are cut already.
        assert torch.equal(draw_instances(GREY, cut, CATEGORIES, mask_threshold=0.7), expected)


def texts_drawn(monkeypatch, *args, **options):
    """The labels that `draw_instances` draws, with their places."""
    pills, paint_label = [], drawing._paint_label

    def record(canvas, label, color):
        width, height = drawing._pill_size(label.text, label.font_size)
        pills.append((label.text, (label.left, label.top, label.left + width, label.top + height)))
        paint_label(canvas, label, color)

    with monkeypatch.context() as patched:
        patched.setattr(drawing, "_paint_label", record)
        draw_instances(*args, **options)
    return pills


def test_draw_labels_say_name_and_score(monkeypatch):
    p = squares((10, 20, 60, 80), (70, 20, 150, 80))
    p["labels"] = torch.tensor([4, 500])
    assert [t for t, _ in texts_drawn(monkeypatch, GREY, p, CATEGORIES)] == [
        "coin 0.90",
        "id 500 (unknown) 0.60",
    ]
    assert [t for t, _ in texts_drawn(monkeypatch, GREY, p)] == ["label 4 0.90", "label 500 0.60"]
    del p["scores"]  # annotations have none
    assert [t for t, _ in texts_drawn(monkeypatch, GREY, p, CATEGORIES)] == ["coin", "id 500 (unknown)"]
    p["labels"] = torch.tensor([-1, 1])
    assert [t for t, _ in texts_drawn(monkeypatch, GREY, p, CATEGORIES)] == ["id -1 (unknown)", "banana"]


def test_draw_labels_keep_clear_of_each_other_and_inside(monkeypatch):
    frames = [(0, 0, 80, 60), (4, 2, 84, 62), (100, 90, 160, 120), (98, 88, 158, 118), (0, 60, 70, 120)]
    places = [place for _, place in texts_drawn(monkeypatch, GREY, squares(*frames), CATEGORIES)]
    assert len(places) == len(frames)
    for i, (x1, y1, x2, y2) in enumerate(places):
        assert 0 <= x1 < x2 <= 160 and 0 <= y1 < y2 <= 120
        for u1, v1, u2, v2 in places[:i]:
            assert x2 <= u1 or u2 <= x1 or y2 <= v1 or v2 <= y1


def test_draw_labels_do_not_bury_a_crowd_of_small_instances(monkeypatch):
    frames = [(x, y, x + 8, y + 8) for y in range(0, 120, 10) for x in range(0, 160, 10)]
    p = squares(*frames)
    p["labels"][:] = 4
    covered = torch.zeros(120, 160, dtype=torch.bool)
    for _, (x1, y1, x2, y2) in texts_drawn(monkeypatch, GREY, p, CATEGORIES):
        covered[y1:y2, x1:x2] = True
    assert (covered & p["masks"].any(0)).sum() < 0.1 * p["masks"].sum()


def random_frames(count, size, largest, rng):
    """Boxes here and there, also beyond the picture, some of them empty or twice there."""
    low = rng.uniform(-5, (size[1], size[0]), (count, 2))
    frames = np.concatenate([low, low + rng.uniform(0.5, largest, (count, 2))], axis=1).astype(np.float32)
    if rng.random() < 0.5:
        frames = frames.round()
    frames[rng.random(count) < 0.1] = frames[:1]
    return [tuple(frame) for frame in frames.tolist()]


def placed_by_looking_at_all(texts, frames, size, unit):
    """Where labels have to lie: each place is compared with every box, and with every label that is there."""
    font_size, labels, taken = max(8, round(11 * unit)), {}, []
    for i, (text, frame) in enumerate(zip(texts, frames, strict=True)):
        if frame[0] == frame[2] or frame[1] == frame[3]:
            continue
        width, height = drawing._pill_size(text, font_size)
        best, least = None, 0.75
        for x, y in drawing._places(frame, width, height, size):
            if any(x < u + w and x + width > u and y < v + h and y + height > v for u, v, w, h in taken):
                continue
            hidden = 0
            for x1, y1, x2, y2 in frames:
                across, down = min(x + width, x2) - max(x, x1), min(y + height, y2) - max(y, y1)
                hidden += max(across, 0) * max(down, 0) / max((x2 - x1) * (y2 - y1), 1)
            hidden = max(round(hidden, 6), 0.1)
            if hidden < least or (hidden == least and best is None):
                best, least = (x, y), hidden
        if best:
            labels[i] = drawing.Label(*best, text, font_size)
            taken.append((*best, width, height))
    return labels


@pytest.mark.parametrize("largest", [10, 60, 400])
def test_labels_lie_where_looking_at_all_would_put_them(largest):
    rng, some = np.random.default_rng(largest), 0
    for count in (0, 1, 2, 10, 40, 100) * 2:
        size = tuple(rng.integers(20, 1000, 2).tolist())
        frames = random_frames(count, size, largest, rng)
        texts = [str(rng.choice(["x 0.50", "coin 0.93", "id 500 (unknown) 0.60"])) for _ in frames]
        labels = drawing._place_labels(texts, frames, size, max(size) / 640)
        assert labels == placed_by_looking_at_all(texts, frames, size, max(size) / 640)
        some += len(labels)
    assert some > 100


FONTS = Path(drawing.DEJAVU).parent  # matplotlib's: STIX has letters that DejaVu lacks


@pytest.fixture
def fonts(monkeypatch):
    """Sets the fonts of this machine to some of matplotlib's."""
    monkeypatch.setattr(drawing, "_warned", set())
    caches = (drawing._other_fonts, drawing._font_with, drawing._runs)

    def use(*files):
        monkeypatch.setattr(drawing, "findSystemFonts", lambda: [str(file) for file in files])
        for function in caches:
            function.cache_clear()

    yield use
    for function in caches:
        function.cache_clear()


def test_labels_of_one_picture_have_letters_of_one_size():
    frames = [(10, 50, 30, 70), (100, 100, 400, 300), (200, 20, 280, 60)]
    labels = drawing._place_labels(["key 0.67", "a", "playing card 1.00"], frames, (400, 500), unit=1.0)
    sizes = [label.font_size for label in labels.values()]
    assert len(sizes) == 3 and set(sizes) == {11}


def written(text, font_size=20):
    """How much of each pixel of a label is ink: black on white."""
    width, height = drawing._pill_size(text, font_size)
    canvas = np.full((3, height, width), 255, np.uint8)
    drawing._paint_label(canvas, drawing.Label(0, 0, text, font_size), (255, 255, 255))
    return 1 - canvas[0] / 255


def written_in(file, text, shape, **options):
    """The same by Pillow: a text in the middle of a label of this shape."""
    letters = Image.new("L", shape[::-1])
    font = ImageFont.truetype(str(file), 20, **options)
    middle = (shape[1] / 2, shape[0] / 2)
    ImageDraw.Draw(letters).text(middle, text, fill=255, font=font, anchor="mm")
    return np.array(letters) / 255


def inside(ink):
    return ink[:, 8:-8]  # without the round corners


def test_labels_are_written_in_dejavu_whatever_fonts_there_are(fonts):
    fonts(FONTS / "STIXGeneral.ttf")
    for text in ("coin 0.93", "playing card 1.00", "✓ tasse à café", "✗ кошка"):
        ink = written(text)
        expected = written_in(drawing.DEJAVU, text, ink.shape, layout_engine=ImageFont.Layout.BASIC)
        assert abs(inside(ink) - inside(expected)).max() < 0.01


def test_labels_use_a_font_that_has_the_letters(fonts, tmp_path):
    broken = tmp_path / "Regular.ttf"
    broken.write_bytes(b"no font")
    fonts(broken, FONTS / "LastResortHE-Regular.ttf", FONTS / "cmr10.ttf", FONTS / "STIXGeneral.ttf")
    text = "\u210a\u210a\u210a"  # script g
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing.paint_labels(np.zeros((3, 100, 100), np.uint8), [text], [(0, 0, 50, 50)], [(0, 0, 0)])
        ink = written(text)
    expected = written_in(FONTS / "STIXGeneral.ttf", text, ink.shape)
    assert inside(expected).any() and abs(inside(ink) - inside(expected)).max() < 0.01


def test_labels_mix_fonts(fonts):
    stix = str(FONTS / "STIXGeneral.ttf")
    fonts(stix)
    # An accent that both fonts have stays with its letter; space and score are DejaVu's again.
    text, accented = "✓ \u210a\u0301 0.93", "\u210a\u0301"
    assert drawing._runs(text) == [(drawing.DEJAVU, "✓ "), (stix, accented), (drawing.DEJAVU, " 0.93")]
    lengths = [drawing._length(part, 20) for part in ("✓ ", accented, " 0.93")]
    assert drawing._length(text, 20) == sum(lengths)
    ink, left = written(text), 7.0
    for length in lengths:  # each part is where its length says
        assert ink[:, round(left) : round(left + length)].max() > 0.8
        left += length


def test_letters_that_no_font_has_are_named_once(fonts):
    fonts()
    p, names = squares((10, 20, 60, 80)), ["__background__", "\u676f\u5b50"]
    with pytest.warns(UserWarning, match="these letters.*: \u5b50 \u676f  Install a font") as record:
        draw_instances(GREY, p, names)
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_instances(GREY, p, names)
    with pytest.warns(UserWarning, match="in their place: \u4e66  Install"):
        draw_instances(GREY, p, ["__background__", "\u676f\u4e66"])


def test_draw_takes_soft_masks_grey_and_float_pictures():
    p = squares((10, 20, 60, 80))
    expected = draw_instances(GREY, p, CATEGORIES)
    assert torch.equal(draw_instances(GREY, squares((10, 20, 60, 80), soft=True), CATEGORIES), expected)
    assert torch.equal(draw_instances(GREY / 255, p, CATEGORIES), expected)
    assert torch.equal(draw_instances(GREY[:1], p, CATEGORIES), expected)
    target = p | {"masks": p["masks"].to(torch.uint8)}
    assert torch.equal(draw_instances(GREY, target, CATEGORIES), expected)
    in_files = p | {"masks": p["masks"].to(torch.uint8) * 255}
    assert torch.equal(draw_instances(GREY, in_files, CATEGORIES), expected)
    without_boxes = {k: v for k, v in p.items() if k != "boxes"}
    assert torch.equal(draw_instances(GREY, without_boxes, CATEGORIES), expected)


def test_draw_takes_arrays_and_pillow_pictures():
    p, array = squares((10, 20, 60, 80)), np.arange(120 * 160 * 3).reshape(120, 160, 3).astype(np.uint8)
    expected = draw_instances(torch.from_numpy(array).permute(2, 0, 1), p, CATEGORIES)
    for picture in (array, array / 255, Image.fromarray(array)):
        with unchanged(picture, p):
            assert torch.equal(draw_instances(picture, p, CATEGORIES), expected)


@pytest.mark.parametrize("size", [(1, 40), (40, 1)])
def test_draw_keeps_sides_of_one_pixel(size):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    masks = torch.zeros(2, *size, dtype=torch.bool)
    masks.view(2, -1)[0, :10], masks.view(2, -1)[1, 20:30] = True, True
    p = {"labels": torch.tensor([1, 2]), "masks": masks}
    drawn = draw_instances(image, p, alpha=1, **BARE)
    assert torch.equal(draw_instances(image, p | {"masks": masks[:, None].float()}, alpha=1, **BARE), drawn)
    assert [tuple(drawn.flatten(1)[:, i].tolist()) for i in (5, 15, 25)] == [
        class_color(1),
        (0, 0, 0),
        class_color(2),
    ]


def test_draw_boxes_alone():
    p = {k: v for k, v in squares((10, 20, 60, 80)).items() if k != "masks"}
    drawn = draw_instances(GREY, p, CATEGORIES)
    assert pixel(drawn, 35, 60) == (100, 100, 100) and pixel(drawn, 10, 60) != (100, 100, 100)


@pytest.mark.parametrize("soft", [False, True])
def test_draw_nothing_gives_a_copy(soft):
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "scores": torch.zeros(0),
        "masks": torch.zeros(0, 1, 120, 160) if soft else torch.zeros(0, 120, 160, dtype=torch.bool),
    }
    drawn = draw_instances(GREY, empty, CATEGORIES)
    assert torch.equal(drawn, GREY) and drawn.data_ptr() != GREY.data_ptr()


def test_draw_survives_the_edges():
    whole = squares((0, 0, 160, 120))
    assert draw_instances(GREY, whole, CATEGORIES).shape == GREY.shape
    beyond = whole | {"boxes": torch.tensor([[-50.0, -50.0, 500.0, 500.0]])}
    assert draw_instances(GREY, beyond, CATEGORIES).shape == GREY.shape
    empty_mask = squares((5, 5, 5, 5))
    assert torch.equal(draw_instances(GREY, empty_mask, CATEGORIES), GREY)
    one = squares((0, 0, 1, 1), size=(1, 1))
    assert draw_instances(torch.zeros(3, 1, 1), one, CATEGORIES).shape == (3, 1, 1)


def test_draw_accepts_gradients():
    p = squares((10, 20, 60, 80), soft=True)
    for key in ("boxes", "scores", "masks"):
        p[key].requires_grad_()
    assert not draw_instances(GREY, p, CATEGORIES).requires_grad


def without(p, key):
    return {k: v for k, v in p.items() if k != key}


GOOD = squares((10, 20, 60, 80))


@pytest.mark.parametrize(
    ("prediction", "options", "error", "message"),
    [
        ([GOOD], {}, TypeError, r"the prediction of one picture, but got the list of all. Use output\[0\]"),
        (GOOD["masks"], {}, TypeError, "must be a dict"),
        (without(GOOD, "labels"), {}, ValueError, "has no labels"),
        (without(without(GOOD, "boxes"), "masks"), {}, ValueError, "neither masks nor boxes"),
        ({"loss_mask": torch.tensor(0.3)}, {}, ValueError, r"Call model.eval\(\)"),
        (GOOD | {"labels": torch.tensor([1, 2])}, {}, ValueError, "different lengths: boxes 1, labels 2"),
        (
            GOOD | {"scores": torch.tensor([math.nan])},
            {},
            ValueError,
            r"scores that are NaN \(not a number\): 1 of 1",
        ),
        (
            squares((1, 1, 5, 5), size=(28, 30)),
            {},
            ValueError,
            "masks are 30 x 28 pixels .* picture is 160 x 120",
        ),
        (
            GOOD | {"masks": torch.rand(1, 1, 28, 28)},  # what a mask head gives
            {},
            ValueError,
            "masks are 28 x 28 pixels .* picture is 160 x 120. Draw on the picture that the model was given",
        ),
        (
            GOOD | {"masks": RoIMasks(torch.rand(1, 1, 28, 28), GOOD["boxes"], (240, 320))},
            {},
            ValueError,
            "masks are 320 x 240 pixels .* picture is 160 x 120",
        ),
        (
            GOOD | {"masks": np.zeros((1, 120, 160))},
            {},
            TypeError,
            r"not ndarray. Use torch.from_numpy\(masks\)",
        ),
        (GOOD | {"masks": torch.zeros(1, 120, 160, 1)}, {}, ValueError, r"not \[1, 120, 160, 1\]"),
        (GOOD | {"masks": GOOD["masks"] * 3.0}, {}, ValueError, "Soft masks hold values from 0 to 1"),
        (GOOD | {"boxes": torch.tensor([])}, {}, ValueError, "different lengths: boxes 0, labels 1"),
        (GOOD | {"masks": torch.zeros(1, 3, 120, 160)}, {}, ValueError, r"masks must be \[N, 1, H, W\]"),
        (GOOD | {"boxes": torch.zeros(1, 5)}, {}, ValueError, r"boxes must be \[N, 4\], not \[1, 5\]"),
        (GOOD | {"boxes": torch.full((1, 4), math.nan)}, {}, ValueError, "boxes hold NaN"),
        (GOOD | {"boxes": torch.tensor([[60.0, 80.0, 20.0, 30.0]])}, {}, ValueError, "are they x, y, w, h"),
        (GOOD, {"alpha": 5}, ValueError, "alpha must be a number from 0 to 1, not 5"),
        (GOOD, {"color_by": "label"}, ValueError, 'color_by is "class" or "instance", not \'label\''),
        (GOOD, {"categories": "coin"}, TypeError, "categories is the list of class names"),
    ],
)
def test_draw_refuses(prediction, options, error, message):
    with unchanged(GREY, prediction), pytest.raises(error, match=message):
        draw_instances(GREY, prediction, **options)


def test_draw_refuses_bad_pictures():
    with pytest.raises(ValueError, match="Divide it by 255"):
        draw_instances(GREY.float(), GOOD)
    with pytest.raises(ValueError, match="57600 values that are NaN"):
        draw_instances(GREY * math.nan, GOOD)
    with pytest.raises(TypeError, match="uint8, float or bool values, not uint16"):
        draw_instances(GREY.to(torch.uint16), GOOD)
    with pytest.raises(ValueError, match=r"must be \[3, H, W\]"):
        draw_instances(torch.zeros(4, 120, 160), GOOD)


# --- class maps ---------------------------------------------------------------------------------------------


def test_a_class_map_is_drawn_in_the_colours_of_its_classes():
    image = torch.full((3, 40, 60), 200, dtype=torch.uint8)
    class_map = torch.zeros(40, 60, dtype=torch.int64)
    class_map[5:15, 5:15], class_map[20:30, 20:30], class_map[20:30, 40:50] = (
        2,
        5,
        5,
    )  # the last two are one class
    with unchanged(image, class_map):
        drawn = draw_classes(image, class_map, alpha=1)
    for (y, x), label in {(10, 10): 2, (25, 25): 5, (25, 45): 5}.items():
        assert drawn[:, y, x].tolist() == list(class_color(label))
    assert torch.equal(drawn[:, :, 33:37], image[:, :, 33:37])  # between the two pieces
    assert torch.equal(draw_classes(image, torch.zeros_like(class_map)), image)
    # Where there is no background, no class is taken for it.
    assert draw_classes(image, torch.full_like(class_map, 3), alpha=1)[:, 20, 30].tolist() == list(
        class_color(3)
    )
    assert 0 < (draw_classes(image, class_map)[:, 10, 10] - drawn[:, 10, 10].float()).abs().max() < 100


@pytest.mark.parametrize(
    "class_map, error, message",
    [
        (torch.zeros(40, 60), TypeError, r"whole numbers, not torch.float32 \[40, 60\]. Of a model's output"),
        (
            torch.zeros(1, 40, 60, dtype=torch.int64),
            TypeError,
            r"\[H, W\] of .* not torch.int64 \[1, 40, 60\]",
        ),
        (np.zeros((40, 60), int), TypeError, "not <class 'numpy.ndarray'>"),
        (torch.ones(40, 61, dtype=torch.int64), ValueError, "61 x 40"),
    ],
)
def test_what_is_no_class_map_is_refused(class_map, error, message):
    with pytest.raises(error, match=message):
        draw_classes(torch.zeros(3, 40, 60, dtype=torch.uint8), class_map)
