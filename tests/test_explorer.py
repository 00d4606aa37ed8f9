"""The threshold explorer, without a browser: set the value of a control, and read what stands in the widgets."""

import base64
import html
import io
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate, max_pool2d, pad
from unchanged import unchanged

import segutils
from segutils import (
    draw_instances,
    drawing,
    explore,
    filter_model_output,
    load_model,
    mask_iou,
    match_instances,
    precision_recall,
    predict,
    render_scene,
    slide,
)
from segutils.display import figure_png, grid_jpeg
from segutils.explorer.painting import HEIGHT, WIDTH, Painter, fit_to_screen, to_jpeg
from segutils.explorer.view import View, as_code, take_tally
from segutils.explorer.widget import STRIP
from segutils.roi_masks import RoIMasks

CATEGORIES = ("__background__", "cup", "key", "coin")
KINDS = ("roi", "soft", "bool")
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


# --- little predictions, and what the explorer says of them --------------------------------------------------


def grey(height=60, width=80):
    return torch.full((3, height, width), 100, dtype=torch.uint8)


BOXES = ((2, 4, 42, 34), (30, 10, 70, 50), (5, 30, 35, 58), (50, 2, 78, 30), (20, 20, 60, 44))


def cones(
    kind="roi", boxes=BOXES, labels=(1, 2, 1, 3, 2), scores=(0.875, 0.75, 0.5, 0.5, 0.25), size=(60, 80)
):
    """A prediction with masks that grow smaller as the mask threshold rises; the three kinds are equal at 0.5."""
    along = torch.linspace(-1, 1, 28)
    cone = (1 - torch.hypot(along[:, None], along)).clamp(min=0)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = RoIMasks(cone.repeat(len(boxes), 1, 1, 1), boxes, size)
    if kind != "roi":
        masks = masks.paste(0.5)
    if kind == "soft":
        inner = cones("roi", boxes.tolist(), labels, scores, size)["masks"].paste(0.8)
        masks = (0.6 * masks + 0.3 * inner)[:, None]
    return {
        "boxes": boxes,
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "masks": masks,
    }


def rows(prediction, wanted):
    return {key: value[wanted] for key, value in prediction.items()}


NOTHING = rows(cones(), [])


def truth(wanted=(0, 1, 3)):
    """What `cones` shows, as a target: some of the instances, and a key in the corner that none of them is."""
    found = rows(cones("bool"), list(wanted))
    corner = torch.zeros(1, 60, 80, dtype=torch.bool)
    corner[:, 40:58, 62:78] = True
    return {
        "labels": torch.cat([found["labels"], torch.tensor([2])]),
        "masks": torch.cat([found["masks"], corner]),
    }


@pytest.fixture(scope="module")
def scene():
    """A drawn table, what the bundled model finds on it, the names of the classes, and what is there."""
    image, target = render_scene(1)
    model, weights = load_model("tabletop", device="cpu")
    return image, predict(model, [image])[0], weights.meta["categories"], target


def tree(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from tree(child)


def field(explorer, name):
    [number] = [
        w for w in tree(explorer) if isinstance(w, widgets.BoundedFloatText) and w.description == name
    ]
    return number


def plain(text):
    return html.unescape(re.sub("<[^>]*>", "", text)).strip()


def status(explorer):
    return plain(explorer.status.value)


def numbers(explorer):
    """Kept, of how many, and with a target: hits, false alarms, missed, precision, recall."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", status(explorer))]


def alt(explorer):
    return html.unescape(re.search(' alt="([^"]*)"', explorer.picture.value)[1])


def shown(explorer):
    """The JPEG under the controls."""
    return base64.b64decode(re.search('src="data:image/jpeg;base64,([^"]*)"', explorer.picture.value)[1])


def pixels(jpeg):
    return np.array(Image.open(io.BytesIO(jpeg))).astype(int)


def class_counts(explorer):
    return [box.description for box in explorer.classes.values()]


def strip_counts(explorer):
    """Dots, crosses and rings in the strip of scores."""
    svg = ElementTree.fromstring(explorer.strip.value)
    fills = [circle.get("fill") for circle in svg.iter("circle")]
    crosses = sum(text.text == "×" for text in svg.iter("text"))
    return len(fills) - fills.count("none"), crosses, fills.count("none")


def curve_points(explorer):
    """(recall, precision) of the line, and of the point on it."""
    svg = ElementTree.fromstring(explorer.curve.value)

    def there(x, y):
        return (float(x) - 34) / 150, (112 - float(y)) / 100

    line = [there(*point.split(",")) for point in svg.find("polyline").get("points").split()]
    return line, [there(circle.get("cx"), circle.get("cy")) for circle in svg.iter("circle")]


def code(explorer):
    return html.unescape(re.search("<code>(.*)</code>", explorer.code.value, re.DOTALL)[1])


def run(text, image, prediction, categories):
    """Run what "Copy as code" copies, as in a notebook of the course, and return the picture that it shows."""
    pictures = []
    names = {name: getattr(segutils, name) for name in segutils.__all__}
    names |= {"image": image, "prediction": prediction, "categories": categories, "show": pictures.append}
    exec(text, names)
    [picture] = pictures
    return picture.numpy()


def move_everything(explorer):
    for slider in (explorer.score_threshold, explorer.mask_threshold, explorer.alpha):
        for value in (slider.min, 0.31, slider.max, 0.5):
            slider.value = value
    for box in (*explorer.shown.values(), *explorer.classes.values()):
        box.value = not box.value
    explorer.none.click()
    explorer.all.click()


def view_of(prediction, **changes):
    classes = tuple(sorted(set(prediction["labels"].tolist())))
    return View(0.5, 0.5, classes, 0.45, True, True, True, True, False, False)._replace(**changes)


def kept_of(view, prediction):
    return filter_model_output([prediction], view.score_threshold, labels=list(view.classes))[0]


def drawn(view, image, prediction, categories=CATEGORIES):
    """The picture of a view, by the functions that the course teaches."""
    options = ("mask_threshold", "alpha", "masks", "outlines", "boxes", "labels")
    look = {name: getattr(view, name) for name in options}
    return draw_instances(image, kept_of(view, prediction), categories, **look).numpy()


def painted(painter, view, prediction, categories=CATEGORIES):
    return painter.paint(view, take_tally(view, prediction), drawing.label_texts(prediction, categories))


def counted(monkeypatch, owner, name):
    """The first arguments of all calls of a function, from now on."""
    calls, function = [], getattr(owner, name)

    def record(*args, **options):
        calls.append(args)
        return function(*args, **options)

    monkeypatch.setattr(owner, name, record)
    return calls


# --- what is kept -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_kept_and_dropped_follow_the_score_threshold(kind):
    prediction = cones(kind)
    explorer = explore(grey(), prediction, CATEGORIES)
    for threshold in (0.05, 0.25, 0.26, 0.5, 0.51, 0.75, 0.875, 0.88, 1.0, 0.5):
        explorer.score_threshold.value = threshold
        labels = kept_of(explorer.view, prediction)["labels"].tolist()
        kept, everything = len(labels), prediction["labels"].tolist()
        assert status(explorer) == f"Kept {kept} of 5 instances."
        assert strip_counts(explorer) == (kept, 0, 5 - kept)
        counts = [
            f"{CATEGORIES[label]}: {labels.count(label)} kept, "
            f"{everything.count(label) - labels.count(label)} dropped"
            for label in (1, 2, 3)
        ]
        assert class_counts(explorer) == counts
        assert alt(explorer) == (
            f"The picture at score threshold {threshold:.2f}, mask threshold 0.50. "
            f"Kept {kept} of 5 instances. {'; '.join(counts)}."
        )


@pytest.mark.parametrize("score", [0.9, 0.7, 0.35, 0.6, 0.05, 1.0])
def test_a_score_at_the_threshold_is_kept(score):
    prediction = cones(scores=(score,) * 5)
    explorer = explore(grey(), prediction, CATEGORIES)
    explorer.score_threshold.value = score
    assert len(filter_model_output([prediction], score)[0]["scores"]) == 5
    assert status(explorer) == "Kept 5 of 5 instances."
    assert strip_counts(explorer) == (5, 0, 0)


def test_counts_agree_with_the_filter_on_a_real_scene(scene):
    image, prediction, categories, _ = scene
    explorer = explore(image, prediction, categories)
    for threshold in (0.05, 0.14, 0.62, 0.97, 1.0):
        explorer.score_threshold.value = threshold
        kept = len(kept_of(explorer.view, prediction)["scores"])
        assert numbers(explorer) == [kept, len(prediction["scores"])]
        assert strip_counts(explorer) == (kept, 0, len(prediction["scores"]) - kept)


def test_scores_need_not_be_sorted():
    prediction = rows(cones(), [4, 2, 0, 3, 1])
    explorer = explore(grey(), prediction, CATEGORIES, truth())
    in_order = explore(grey(), cones(), CATEGORIES, truth())
    for threshold in (0.1, 0.5, 0.6):
        explorer.score_threshold.value = in_order.score_threshold.value = threshold
        assert status(explorer) == status(in_order) and class_counts(explorer) == class_counts(in_order)
        assert explorer.curve.value == in_order.curve.value
        tally = take_tally(explorer.view, prediction)
        assert prediction["scores"][tally.kept + tally.dropped].tolist() == cones()["scores"].tolist()


def test_the_strip_shows_each_score_where_it_belongs():
    prediction = cones(scores=(1.0, 0.505, 0.501, 0.3, 0.0))
    explorer = explore(grey(), prediction, CATEGORIES)
    svg = ElementTree.fromstring(explorer.strip.value)
    circles = [(float(c.get("cx")[:-1]), c.get("cy"), c.get("fill")) for c in svg.iter("circle")]
    for (x, _, _), score in zip(circles, prediction["scores"].tolist(), strict=True):
        assert x == pytest.approx(2 + 96 * score, abs=0.5) and 2 <= x <= 98
    assert circles[1][0] == circles[2][0] and circles[1][1] != circles[2][1]  # one above the other
    colors = ["rgb({},{},{})".format(*drawing.class_color(label)) for label in (1, 2, 1)]
    assert [fill for _, _, fill in circles] == colors + ["none", "none"]
    [line] = [line for line in svg.iter("line") if line.get("stroke-dasharray")]
    assert line.get("x1") == line.get("x2") == "50.00%"
    assert svg.get("aria-label").startswith("Scores of 5 instances; dots: kept, rings: dropped;")


# --- sliders and number fields ------------------------------------------------------------------------------

PAIRS = [
    ("score_threshold", "Score threshold", 0.05, 1.0),
    ("mask_threshold", "Mask threshold", 0.05, 0.95),
    ("alpha", "Opacity", 0.0, 1.0),
]


@pytest.mark.parametrize(("name", "words", "low", "high"), PAIRS)
def test_slider_and_number_field_are_linked(name, words, low, high):
    explorer = explore(grey(), cones(), CATEGORIES)
    slider, number = getattr(explorer, name), field(explorer, words)
    usual = 0.45 if name == "alpha" else 0.5
    assert slider.value == number.value == getattr(explorer.view, name) == usual
    slider.value = 0.62
    assert number.value == getattr(explorer.view, name) == 0.62
    number.value = 0.33
    assert slider.value == getattr(explorer.view, name) == 0.33
    slider.value = 0.49999999999999994  # a sum of steps, as the handle stops at
    assert number.value == getattr(explorer.view, name) == 0.5
    number.value = 0.875  # finer than a step
    assert slider.value == number.value == getattr(explorer.view, name) == 0.875
    for control in (slider, number):
        for wanted, value in ((7, high), (-3, low), (high, high), (low, low)):
            control.value = wanted
            assert slider.value == number.value == getattr(explorer.view, name) == value


def test_sums_of_steps_look_like_round_numbers_everywhere():
    explorer = explore(grey(), cones(), CATEGORIES)
    explorer.score_threshold.value = explorer.mask_threshold.value = 0.30000000000000004
    assert code(explorer).count("0.3") == 2 and "0.30" not in code(explorer)
    explorer.score_threshold.value = 0.7500000000000001
    assert status(explorer) == "Kept 2 of 5 instances."  # one of them has a score of 0.75


# --- the picture --------------------------------------------------------------------------------------------

LOOKS = [
    {},
    {"score_threshold": 0.2},
    {"score_threshold": 0.2, "mask_threshold": 0.15},
    {"mask_threshold": 0.85},
    {"score_threshold": 0.1, "alpha": 1.0},
    {"alpha": 0.0},
    {"masks": False},
    {"masks": False, "outlines": False},
    {"outlines": False, "score_threshold": 0.8},
    {"boxes": False},
    {"labels": False, "mask_threshold": 0.3},
    {"masks": False, "outlines": False, "boxes": False, "labels": False},
    {"classes": (3, 9)},
    {"classes": (2, 7), "score_threshold": 0.1},
    {"classes": ()},
    {"score_threshold": 1.0},
]


def assert_painter_equals_draw_instances(image, prediction, categories=CATEGORIES):
    painter = Painter(image, prediction, categories, None)
    views = [view_of(prediction, **look) for look in LOOKS]
    order = torch.randperm(3 * len(views), generator=torch.Generator().manual_seed(0)) % len(views)
    for i in [
        *range(len(views)),
        *order.tolist(),
    ]:  # to and fro between them, so that something could be stale
        expected = drawn(views[i], image, prediction, categories)
        assert np.array_equal(painted(painter, views[i], prediction, categories), expected), LOOKS[i]


@pytest.mark.parametrize("size", ["screen", "whole"])
def test_a_real_scene_is_drawn_as_draw_instances_does(scene, size):
    image, prediction, categories, _ = scene
    if size == "screen":
        image, prediction, _ = fit_to_screen(image, prediction, None)
    assert_painter_equals_draw_instances(image, prediction, categories)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["screen", "whole"])
def test_masks_of_every_kind_are_drawn_as_draw_instances_does(kind, size):
    image, prediction = grey(), cones(kind)
    if size == "screen":
        image, prediction, _ = fit_to_screen(image, prediction, None)
        assert image.shape == (3, 120, 160)
    assert_painter_equals_draw_instances(image, prediction)


def test_the_picture_under_the_sliders_is_what_draw_instances_draws(scene):
    image, prediction, categories, _ = scene
    explorer = explore(image, prediction, categories)
    small, small_prediction, _ = fit_to_screen(image, prediction, None)

    def is_right():
        expected = drawn(explorer.view, small, small_prediction, categories)
        return shown(explorer) == to_jpeg(expected)

    assert is_right()
    for name, value in (
        ("score_threshold", 0.1),
        ("mask_threshold", 0.2),
        ("score_threshold", 0.97),
        ("alpha", 0.9),
        ("mask_threshold", 0.5),
        ("score_threshold", 0.1),
        ("alpha", 0.45),
    ):
        getattr(explorer, name).value = value
        assert is_right(), (name, value)
    for box in (*explorer.shown.values(), *list(explorer.classes.values())[:2]):
        if box is not explorer.shown["dropped"]:
            box.value = not box.value
            assert is_right(), box.description


def test_only_soft_masks_follow_the_mask_threshold():
    for kind in KINDS:
        explorer = explore(grey(), cones(kind), CATEGORIES)
        before = shown(explorer)
        explorer.mask_threshold.value = 0.75
        assert (shown(explorer) == before) == (kind == "bool")
        explorer.mask_threshold.value = 0.5
        assert shown(explorer) == before


def test_masks_of_every_kind_give_the_same_counts():
    explorers = [explore(grey(), cones(kind), CATEGORIES, truth()) for kind in KINDS]
    for threshold in (0.1, 0.5, 0.8):
        for explorer in explorers:
            explorer.score_threshold.value = threshold
        assert len({(status(e), alt(e), e.strip.value, e.curve.value) for e in explorers}) == 1


def test_masks_are_never_pasted(monkeypatch, tmp_path):
    target = truth()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RoIMasks, "paste", lambda *args, **options: pytest.fail("pasted"))
    explorer = explore(grey(), cones(), CATEGORIES, target)
    move_everything(explorer)
    explorer._repr_mimebundle_()
    explorer.save.click()
    assert Path("explored_1.png").exists()


def test_a_step_that_keeps_the_same_instances_does_not_draw_again(monkeypatch):
    paints = counted(monkeypatch, Painter, "paint")
    explorer = explore(grey(), cones(), CATEGORIES)
    before = shown(explorer), alt(explorer), explorer.strip.value, code(explorer)
    explorer.score_threshold.value = 0.4
    assert len(paints) == 1
    after = shown(explorer), alt(explorer), explorer.strip.value, code(explorer)
    assert [old == new for old, new in zip(before, after)] == [True, False, False, False]
    assert "score threshold 0.40" in alt(explorer) and "at 0.40" in explorer.strip.value
    assert "[prediction], 0.4)" in code(explorer)
    explorer.score_threshold.value = 0.6
    assert len(paints) == 2 and shown(explorer) != before[0]


def test_the_status_says_again_what_is_kept_after_a_step_that_draws_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    explorer = explore(grey(), cones(), CATEGORIES)
    explorer.save.click()
    assert status(explorer).startswith("Saved")
    explorer.score_threshold.value = 0.4
    assert status(explorer) == "Kept 4 of 5 instances."


def test_masks_that_were_drawn_before_are_not_made_again(monkeypatch):
    made = counted(monkeypatch, drawing, "mask_patch")
    explorer = explore(grey(), cones(), CATEGORIES)
    assert len(made) == 4
    for threshold, count in ((0.8, 4), (0.2, 5), (1.0, 5), (0.5, 5), (0.1, 5)):
        explorer.score_threshold.value = threshold
        assert len(made) == count
    explorer.classes[1].value = False
    explorer.shown["boxes"].value = False
    assert len(made) == 5
    explorer.alpha.value = 0.8  # now they look different
    assert len(made) == 5 + 3


# --- classes ------------------------------------------------------------------------------------------------


def test_classes_that_are_not_ticked_are_left_out_everywhere():
    prediction, target = cones(), truth()
    explorer = explore(grey(), prediction, CATEGORIES, target)
    explorer.mask_threshold.value, explorer.score_threshold.value = 0.45, 0.1
    assert numbers(explorer) == [5, 5, 3, 2, 1, 0.6, 0.75]
    explorer.classes[2].value = False
    assert numbers(explorer) == [3, 3, 2, 1, 0, 0.67, 1]
    assert class_counts(explorer) == ["cup: 2 kept, 0 dropped", "key: not shown", "coin: 1 kept, 0 dropped"]
    assert alt(explorer).endswith("cup: 2 kept, 0 dropped; key: not shown; coin: 1 kept, 0 dropped.")
    assert strip_counts(explorer) == (2, 1, 0)
    assert len(curve_points(explorer)[0]) == 3
    # Without keys it looks as if there had never been any.
    wanted = [0, 2, 3]
    without = explore(grey(), rows(prediction, wanted), CATEGORIES, rows(target, target["labels"] != 2))
    without.mask_threshold.value, without.score_threshold.value = 0.45, 0.1
    assert (shown(without), without.strip.value, without.curve.value, without.status.value) == (
        shown(explorer),
        explorer.strip.value,
        explorer.curve.value,
        explorer.status.value,
    )
    explorer.classes[2].value = True
    assert numbers(explorer) == [5, 5, 3, 2, 1, 0.6, 0.75]


def test_classes_are_those_of_prediction_and_target_the_most_frequent_first():
    labels = (3, 2, 3, 2, 3)
    target = {"labels": torch.tensor([1, 3]), "masks": torch.ones(2, 60, 80, dtype=torch.bool)}
    assert list(explore(grey(), cones(labels=labels), CATEGORIES).classes) == [3, 2]
    explorer = explore(grey(), cones(labels=labels), CATEGORIES, target)
    assert list(explorer.classes) == [3, 2, 1]
    assert class_counts(explorer)[2] == "cup: 0 kept, 0 dropped"


def test_all_and_none_draw_once(monkeypatch):
    explorer = explore(grey(), cones(), CATEGORIES)
    before = shown(explorer)
    paints = counted(monkeypatch, Painter, "paint")
    explorer.none.click()
    assert len(paints) == 1 and not any(box.value for box in explorer.classes.values())
    assert status(explorer) == "Kept 0 of 0 instances." and strip_counts(explorer) == (0, 0, 0)
    assert set(class_counts(explorer)) == {"cup: not shown", "key: not shown", "coin: not shown"}
    explorer.all.click()
    assert len(paints) == 2 and all(box.value for box in explorer.classes.values())
    assert shown(explorer) == before and status(explorer) == "Kept 4 of 5 instances."
    explorer.score_threshold.value = 0.6  # and then every step counts again
    assert len(paints) == 3


def test_all_and_none_are_offered_when_there_is_a_choice():
    several = explore(grey(), cones(), CATEGORIES)
    one = explore(grey(), cones(labels=(1,) * 5), CATEGORIES)
    assert {several.all, several.none} <= set(tree(several))
    assert not {one.all, one.none} & set(tree(one))


# --- with a target ------------------------------------------------------------------------------------------


def expected_numbers(view, prediction, target):
    """Hits and misses by matching what the filter leaves, with `(labels, masks)` of the chosen classes."""
    kept, everything = kept_of(view, prediction), kept_of(view._replace(score_threshold=0.0), prediction)
    chosen = torch.isin(target["labels"], torch.tensor(view.classes, dtype=torch.int64))
    things = {key: target[key][chosen] for key in ("labels", "masks")}
    matches = match_instances(mask_iou(kept["masks"], things["masks"], view.mask_threshold), kept, things)
    count, hits, total = len(matches), int((matches >= 0).sum()), len(things["labels"])
    shares = [round(hits / whole, 2) for whole in (count, total) if whole]
    return [count, len(everything["scores"]), hits, count - hits, total - hits, *shares]


@pytest.mark.parametrize("mask_threshold", [0.2, 0.5, 0.85])
def test_hits_and_misses_equal_a_matching_of_what_is_kept(scene, mask_threshold):
    image, prediction, categories, target = scene
    explorer = explore(image, prediction, categories, target)
    explorer.mask_threshold.value = mask_threshold
    labels = list(explorer.classes)
    for score_threshold in (0.05, 0.3, 0.65, 0.95, 1.0):
        explorer.score_threshold.value = score_threshold
        for left_out in ([], labels[:1], labels[1:3], labels):
            for label, box in explorer.classes.items():
                box.value = label not in left_out
            expected = expected_numbers(explorer.view, prediction, target)
            assert numbers(explorer) == pytest.approx(expected, abs=1e-9)
            kept, everything, hits, wrong, _ = expected[:5]
            assert strip_counts(explorer) == (hits, wrong, everything - kept)


@pytest.mark.parametrize("seed", range(5))
def test_hits_and_misses_are_right_where_instances_compete(seed):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor(BOXES).repeat(4, 1) + torch.randint(-2, 3, (20, 4), generator=generator)
    labels = torch.randint(1, 3, (20,), generator=generator)
    scores = torch.randint(1, 9, (20,), generator=generator) / 8  # some are equal
    prediction = cones("roi", boxes.tolist(), labels.tolist(), scores.tolist())
    target = rows(cones("bool", boxes.tolist(), labels.tolist(), scores.tolist()), list(range(0, 20, 3)))
    explorer = explore(grey(), prediction, CATEGORIES, target)
    for score_threshold in (0.125, 0.375, 0.5, 0.875):
        for mask_threshold in (0.35, 0.5, 0.6):
            explorer.score_threshold.value, explorer.mask_threshold.value = score_threshold, mask_threshold
            expected = expected_numbers(explorer.view, prediction, target)
            assert numbers(explorer) == pytest.approx(expected, abs=1e-9)


def test_counts_of_one_are_in_the_singular():
    one = rows(cones(), [0])
    target = rows(truth(), [0])
    assert status(explore(grey(), one, CATEGORIES)) == "Kept 1 of 1 instance."
    assert status(explore(grey(), one, CATEGORIES, target)) == (
        "Kept 1 of 1 instance: 1 hit, 0 false alarms, 0 missed. Precision 1.00, recall 1.00."
    )
    assert status(explore(grey(), one, CATEGORIES, rows(truth(), [1]))) == (
        "Kept 1 of 1 instance: 0 hits, 1 false alarm, 1 missed. Precision 0.00, recall 0.00."
    )


def test_precision_and_recall_may_be_undefined():
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    explorer.score_threshold.value = 1.0
    assert status(explorer) == (
        "Kept 0 of 5 instances: 0 hits, 0 false alarms, 4 missed. "
        "Precision undefined (nothing is kept), recall 0.00."
    )
    explorer = explore(grey(), cones(), CATEGORIES, rows(truth(), []))
    assert status(explorer) == (
        "Kept 4 of 5 instances: 0 hits, 4 false alarms, 0 missed. "
        "Precision 0.00, recall undefined (there is nothing to find)."
    )
    explorer.none.click()
    assert status(explorer) == (
        "Kept 0 of 0 instances: 0 hits, 0 false alarms, 0 missed. "
        "Precision undefined (nothing is kept), recall undefined (there is nothing to find)."
    )


def test_labels_say_which_instances_are_hits(monkeypatch):
    written = counted(monkeypatch, drawing, "label_patch")
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    explorer.shown["missed"].value, explorer.classes[2].value = False, False
    for threshold, expected in (
        (0.8, {"✗ cup 0.88", "✗ cup 0.50", "✗ coin 0.50"}),  # too small to be hits
        (0.45, {"✓ cup 0.88", "✗ cup 0.50", "✓ coin 0.50"}),
    ):
        written.clear()
        explorer.mask_threshold.value = threshold
        assert {label.text for label, _ in written} == expected


def test_the_curve_is_precision_over_recall(scene):
    image, prediction, categories, target = scene
    explorer = explore(image, prediction, categories, target)
    explorer.mask_threshold.value = 0.4
    for label in list(explorer.classes)[:3]:
        explorer.classes[label].value = False
        chosen = kept_of(explorer.view._replace(score_threshold=0.0), prediction)
        things = rows(
            {key: target[key] for key in ("labels", "masks")},
            torch.isin(target["labels"], torch.tensor(explorer.view.classes)),
        )
        hits = match_instances(mask_iou(chosen["masks"], things["masks"], 0.4), chosen, things) >= 0
        precision, recall = precision_recall(hits, chosen["scores"], len(things["labels"]))
        line, point = curve_points(explorer)
        if len(things["labels"]) == 0:
            assert point == []
            continue
        assert np.array(line) == pytest.approx(np.array([recall.tolist(), precision.tolist()]).T, abs=1e-3)
        for threshold in (0.05, 0.5, 0.7, 0.98):
            explorer.score_threshold.value = threshold
            kept, _, hits, wrong, missed = expected_numbers(explorer.view, prediction, target)[:5]
            same_line, [spot] = curve_points(explorer)
            assert same_line == line
            assert spot == pytest.approx((hits / (hits + missed), hits / kept), abs=1e-3)
            svg = ElementTree.fromstring(explorer.curve.value)
            words = f"here recall is {hits / (hits + missed):.2f} and precision {hits / kept:.2f}"
            assert svg.get("aria-label") == f"Precision over recall; {words}"


@pytest.mark.parametrize(
    ("found", "things", "words"),
    [
        (0, 4, "nothing is kept"),
        (5, 0, "there is nothing to find"),
        (0, 0, "there is nothing to find"),
    ],
)
def test_the_curve_says_why_it_has_no_point(found, things, words):
    prediction, target = rows(cones(), list(range(found))), rows(truth(), list(range(things)))
    explorer = explore(grey(), prediction, CATEGORIES, target)
    assert "nan" not in explorer.curve.value
    svg = ElementTree.fromstring(explorer.curve.value)
    assert svg.find("circle") is None
    assert svg.get("aria-label") == f"Precision over recall; {words}"


def test_the_curve_has_no_point_when_nothing_is_kept():
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    explorer.score_threshold.value = 1.0
    line, point = curve_points(explorer)
    assert len(line) == 5 and point == []
    assert "Precision over recall; nothing is kept" in explorer.curve.value


def changed_by(explorer, name):
    """Where a switch changes the picture by much: bool [H, W], and the picture with it. It is left as it was."""
    switch, pictures = explorer.shown[name], {}
    was = switch.value
    for value in (not was, was):
        switch.value = value
        pictures[value] = pixels(shown(explorer))
    return (abs(pictures[True] - pictures[False]) > 40).any(-1), pictures[True]


def rim(mask, width=4):
    """The pixels near the border of a mask."""
    mask = pad(mask[None].float(), (width,) * 4)  # so that it ends where the picture ends
    grown, shrunk = (max_pool2d(sign * mask, 2 * width + 1, 1, width)[0] for sign in (1, -1))
    return (grown + shrunk > 0)[width:-width, width:-width].numpy()


def assert_outlined(explorer, name, masks):
    """The switch draws white lines around these masks, and changes nothing else."""
    changed, picture = changed_by(explorer, name)
    rims = [rim(mask) for mask in masks]
    assert not (changed & ~np.any([np.zeros_like(changed), *rims], axis=0)).any()
    for line in rims:
        assert (changed & line).sum() > 0.1 * line.sum()
        assert picture[changed & line].min(1).max() > 180


def test_what_is_missed_is_outlined_in_white_unless_switched_off():
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    masks = fit_to_screen(grey(), cones(), truth())[2]["masks"]
    assert explorer.shown["missed"].value
    explorer.shown["labels"].value = False
    assert_outlined(explorer, "missed", masks[[3]])
    explorer.score_threshold.value = 0.8
    assert_outlined(explorer, "missed", masks[1:])
    explorer.classes[2].value = False  # nobody looks for keys
    assert_outlined(explorer, "missed", masks[[2]])
    explorer.classes[3].value = False
    assert_outlined(explorer, "missed", [])


def test_what_is_dropped_is_outlined_in_white_when_asked():
    explorer = explore(grey(), cones(), CATEGORIES)
    masks = fit_to_screen(grey(), cones("bool"), None)[1]["masks"]
    assert not explorer.shown["dropped"].value
    assert_outlined(explorer, "dropped", masks[4:])
    explorer.score_threshold.value = 0.6
    assert_outlined(explorer, "dropped", masks[2:])
    explorer.classes[3].value = False
    assert_outlined(explorer, "dropped", masks[[2, 4]])
    explorer.score_threshold.value = 0.05
    assert_outlined(explorer, "dropped", [])


def test_these_outlines_are_thin_in_larger_pictures_too(scene):
    image, prediction, categories, target = scene
    painter = Painter(image, prediction, categories, target)
    view = view_of(prediction, score_threshold=1.0, labels=False, missed=True)
    tally = take_tally(view, prediction, target, torch.full((len(prediction["scores"]),), -1))
    assert len(tally.missed) == 13
    picture = painter.paint(view, tally, [""] * len(prediction["scores"]))
    rims = np.any([rim(mask) for mask in target["masks"]], axis=0)
    assert not (picture != image.numpy()).any(0)[~rims].any()


def test_what_is_missed_is_named(monkeypatch):
    written = counted(monkeypatch, drawing, "label_patch")
    explore(grey(), cones(), CATEGORIES, truth())
    assert ("missed: key", (255, 255, 255)) in [(label.text, color) for label, color in written]


def test_outlines_of_dropped_instances_follow_the_mask_threshold():
    explorer = explore(grey(), cones(), CATEGORIES)
    explorer.shown["dropped"].value, explorer.score_threshold.value = True, 1.0
    small, small_prediction, _ = fit_to_screen(grey(), cones(), None)
    for threshold in (0.5, 0.2, 0.8, 0.5):
        explorer.mask_threshold.value = threshold
        fresh = Painter(small, small_prediction, CATEGORIES, None)
        assert shown(explorer) == to_jpeg(painted(fresh, explorer.view, small_prediction))


def test_without_a_target_nothing_is_said_about_one():
    explorer = explore(grey(), cones(), CATEGORIES)
    assert "missed" not in explorer.shown and explorer.curve not in set(tree(explorer))
    assert not explorer.view.missed
    for words in (status(explorer), alt(explorer), explorer.strip.value):
        assert not re.search("hit|miss|alarm|recall", words)


# --- copy as code -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", LOOKS)
def test_copied_code_draws_the_same_picture(scene, look):
    image, prediction, categories, _ = scene
    view = view_of(prediction, **look)
    text = as_code(view, view_of(prediction).classes, categories)
    assert text.count("\n") == 1
    whole = Painter(image, prediction, categories, None)
    assert np.array_equal(
        run(text, image, prediction, categories), painted(whole, view, prediction, categories)
    )


def test_classes_that_share_a_color_get_different_ones_which_stay():
    # Of torchvision's COCO model: its classes 1, 13 and 25 would all have the first colour.
    image, names = grey(), [str(label) for label in range(40)]
    prediction = cones(labels=(13, 1, 13, 2, 1), scores=(0.9, 0.7, 0.5, 0.4, 0.3))
    target = truth() | {"labels": torch.tensor([13, 1, 2, 25])}
    explorer = explore(image, prediction, names, target)
    first, second, third, fourth = ("rgb({},{},{})".format(*color) for color in drawing.CLASS_COLORS[:4])
    swatches = {13: first, 1: second, 2: third, 25: fourth}  # in the order of their best scores
    whole = Painter(image, prediction, names, target)
    for threshold in (0.05, 0.35, 0.6, 0.8):
        explorer.score_threshold.value = threshold
        for label, swatch in explorer.swatches.items():
            assert f"background:{swatches[label]}" in swatch.value
        explorer.shown["missed"].value = False  # which draw_instances does not know
        drawn = run(code(explorer), image, prediction, names)
        assert np.array_equal(drawn, painted(whole, explorer.view, prediction, names))
    explorer.classes[13].value = False
    assert all(f"background:{swatches[label]}" in swatch.value for label, swatch in explorer.swatches.items())


def test_the_code_beside_the_button_draws_the_view():
    image, prediction = grey(), cones()
    explorer = explore(image, prediction, CATEGORIES)
    assert code(explorer) == (
        "kept = filter_model_output([prediction], 0.5)[0]\nshow(draw_instances(image, kept, categories))"
    )
    explorer.score_threshold.value, explorer.mask_threshold.value = 0.2, 0.35
    explorer.alpha.value, explorer.shown["boxes"].value = 0.7, False
    explorer.classes[1].value = False
    assert code(explorer) == (
        "kept = filter_model_output([prediction], 0.2, labels=[2, 3])[0]  # key, coin\n"
        "show(draw_instances(image, kept, categories, mask_threshold=0.35, alpha=0.7, boxes=False))"
    )
    whole = Painter(image, prediction, CATEGORIES, None)
    expected = painted(whole, explorer.view, prediction)
    assert np.array_equal(run(code(explorer), image, prediction, CATEGORIES), expected)
    assert to_jpeg(expected) != shown(explorer)  # which is enlarged


def test_copied_code_draws_unsorted_predictions_too():
    image, prediction = grey(), rows(cones(), [4, 2, 0, 3, 1])
    explorer = explore(image, prediction, CATEGORIES)
    for threshold in (0.05, 0.4):
        explorer.score_threshold.value = threshold
        expected = painted(Painter(image, prediction, CATEGORIES, None), explorer.view, prediction)
        assert np.array_equal(run(code(explorer), image, prediction, CATEGORIES), expected)


NASTY = ("__background__", 'it\'s a "cup" \\', "<b>key</b> & </code>", "two\nlines = 1 / 0")


def test_copied_code_survives_any_name():
    image, prediction = grey(), cones()
    for label in (1, 2, 3):
        explorer = explore(image, prediction, NASTY)
        explorer.classes[label].value = False
        assert code(explorer).count("\n") == 1
        expected = painted(Painter(image, prediction, NASTY, None), explorer.view, prediction, NASTY)
        assert np.array_equal(run(code(explorer), image, prediction, NASTY), expected)


def test_names_of_classes_are_never_html():
    explorer = explore(grey(), cones(), NASTY, truth())
    explorer.classes[1].value = False  # so that the code names the others
    for widget in tree(explorer):
        text = getattr(widget, "value", "")
        if isinstance(text, str):
            assert "<b>key" not in text and "& <" not in text
            assert 'a "cup"' not in text and text.count("</code>") <= 1
        assert not getattr(widget, "description_allow_html", False)
    assert class_counts(explorer)[1] == "<b>key</b> & </code>: 1 kept, 1 dropped"
    assert "<b>key</b> & </code>: 1 kept, 1 dropped" in alt(explorer)
    assert "# <b>key</b> & </code>, two" in code(explorer)


# --- odd things ---------------------------------------------------------------------------------------------

RIM = (
    (0, 0, 80, 60),
    (0, 0, 1, 1),
    (79, 59, 80, 60),
    (0, 20, 3, 50),
    (76, 0, 80, 60),
    (10, 10, 10, 30),
    (60, 58, 62, 60),
)


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_at_the_rim_are_drawn_as_draw_instances_does(kind):
    prediction = cones(
        kind, boxes=RIM, labels=(1, 2, 3, 1, 2, 3, 1), scores=(0.9, 0.8, 0.7, 0.6, 0.6, 0.55, 0.1)
    )
    assert_painter_equals_draw_instances(grey(), prediction)
    small, small_prediction, _ = fit_to_screen(grey(), prediction, None)
    assert_painter_equals_draw_instances(small, small_prediction)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("found", "things"), [(0, None), (0, 0), (0, 4), (1, None), (1, 1), (5, 0), (5, 4), (5, None)]
)
def test_few_or_no_instances_and_things(kind, found, things):
    target = None if things is None else rows(truth(), list(range(things)))
    prediction = rows(cones(kind), list(range(found)))
    explorer = explore(grey(), prediction, CATEGORIES, target)
    move_everything(explorer)
    explorer.score_threshold.value = 0.05
    assert status(explorer).startswith(f"Kept {found} of {found} instance")
    assert sum(strip_counts(explorer)) == found
    labels = set(prediction["labels"].tolist()) | set([] if target is None else target["labels"].tolist())
    assert set(explorer.classes) == labels
    assert " ." not in alt(explorer)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (2, 2)),
        ((1, 2000), (1, 860)),
        ((2000, 1), (500, 1)),
        ((3000, 4000), (500, 667)),
        ((480, 640), (500, 667)),
        ((200, 300), (400, 600)),
        ((500, 860), (500, 860)),
        ((250, 1720), (125, 860)),
    ],
)
def test_pictures_of_all_sizes_fit_on_the_screen(size, expected):
    height, width = size
    box = (width / 4, height / 4, width / 2 + 1, height / 2 + 1)
    prediction = cones(boxes=[box], labels=[1], scores=[0.9], size=size)
    image = torch.zeros(1, dtype=torch.uint8).expand(3, height, width)
    explorer = explore(image, prediction, CATEGORIES)
    explorer.mask_threshold.value = 0.2
    height, width = Image.open(io.BytesIO(shown(explorer))).size[::-1]
    assert (height, width) == expected
    assert 1 <= height <= min(HEIGHT, max(1, 2 * size[0])) and 1 <= width <= min(WIDTH, 2 * size[1])
    scale = max(height, width) / max(size)
    assert abs(height - scale * size[0]) <= 1 and abs(width - scale * size[1]) <= 1
    assert f' width="{width}" height="{height}" ' in explorer.picture.value
    assert explorer.picture.layout.max_width == f"{width}px"


def test_boxes_and_masks_are_brought_to_the_size_of_the_screen_alike():
    prediction = cones("bool", boxes=[(0, 0, 40, 30)], labels=[1], scores=[0.9], size=(1000, 2000))
    prediction["boxes"] = torch.tensor([[300.0, 200.0, 700.0, 800.0]])
    prediction["masks"] = torch.zeros(1, 1000, 2000, dtype=torch.bool)
    prediction["masks"][0, 200:800, 300:700] = True
    for masks in (prediction["masks"], prediction["masks"][:, None] * 0.75):
        image, small, target = fit_to_screen(
            grey(1000, 2000), prediction | {"masks": masks}, {"masks": masks, "labels": torch.tensor([1])}
        )
        assert image.shape == (3, 430, 860) and masks.dtype == small["masks"].dtype
        assert small["boxes"].tolist()[0] == pytest.approx([129, 86, 301, 344])
        expected = torch.zeros(430, 860, dtype=torch.bool)
        expected[86:344, 129:301] = True
        for mask in (small["masks"], target["masks"]):
            assert torch.equal(mask.squeeze() > 0.5, expected)


def test_masks_take_the_nearest_pixels():
    masks = cones("bool", boxes=[(33, 71, 1203, 651)], labels=[1], scores=[0.9], size=(701, 1303))["masks"]
    prediction = {"boxes": torch.zeros(1, 4), "masks": masks}
    image, small, _ = fit_to_screen(grey(701, 1303), prediction, None)
    expected = interpolate(masks[None].float(), image.shape[1:], mode="nearest-exact")[0] > 0.5
    assert torch.equal(small["masks"], expected)


def test_long_pictures_have_one_scale_for_each_side():
    boxes = torch.tensor([[0.0, 0, 3000, 10]])
    prediction = {"boxes": boxes, "masks": RoIMasks(torch.ones(1, 1, 28, 28), boxes, (10, 3000))}
    image, small, _ = fit_to_screen(grey(10, 3000), prediction, None)
    assert image.shape == (3, 3, 860)
    for scaled in (small["boxes"], small["masks"].boxes):
        assert scaled.tolist()[0] == pytest.approx([0, 0, 860, 3])


def test_a_target_may_have_masks_of_any_kind():
    explorers = [
        explore(grey(), cones(), CATEGORIES, {key: cones(kind)[key] for key in ("labels", "masks")})
        for kind in KINDS
    ]
    assert numbers(explorers[0]) == [4, 5, 4, 0, 1, 1, 0.8]
    assert len({status(explorer) for explorer in explorers}) == 1


def test_masks_stay_in_their_own_boxes():
    prediction = cones() | {"boxes": cones()["boxes"] + 10}
    _, small, _ = fit_to_screen(grey(), prediction, None)
    assert torch.equal(small["masks"].boxes, 2 * prediction["masks"].boxes)


def test_labels_beyond_the_categories_are_named_by_their_number():
    prediction = cones(labels=(1, 100, 100, 3, -1))
    explorer = explore(grey(), prediction, CATEGORIES)
    explorer.score_threshold.value = 0.1
    assert class_counts(explorer)[0] == "id 100 (unknown): 2 kept, 0 dropped"
    explorer.classes[1].value = False
    assert code(explorer).splitlines()[0].endswith("# id -1 (unknown), coin, id 100 (unknown)")
    assert_painter_equals_draw_instances(grey(), prediction)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_devices_do_not_hinder(kind, device):
    prediction, target = cones(kind), truth()
    expected = explore(grey(), prediction, CATEGORIES, target)
    prediction, target = ({k: v.to(device) for k, v in p.items()} for p in (prediction, target))
    for value in (*prediction.values(), getattr(prediction["masks"], "probs", None)):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            value.requires_grad_()
    explorer = explore(grey().to(device), prediction, CATEGORIES, target)
    move_everything(explorer)
    move_everything(expected)
    assert shown(explorer) == shown(expected) and status(explorer) == status(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_handed_in_is_changed(kind, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    image, prediction, target, categories = grey(), cones(kind), truth(), list(CATEGORIES)
    prediction["image_id"] = 7
    with unchanged(image, prediction, target, categories):
        explorer = explore(image, prediction, categories, target)
        move_everything(explorer)
        explorer._repr_mimebundle_()
        explorer.save.click()


# --- the widgets --------------------------------------------------------------------------------------------


def test_only_core_widgets_are_used():
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    assert isinstance(explorer, widgets.VBox)
    for widget in tree(explorer):
        assert widget is explorer or type(widget).__module__.startswith("ipywidgets.")
        assert widget._model_module in ("@jupyter-widgets/controls", "@jupyter-widgets/base")
        assert widget._view_module in ("@jupyter-widgets/controls", "@jupyter-widgets/base")
        assert widget._model_name in (
            "VBoxModel",
            "HBoxModel",
            "HTMLModel",
            "CheckboxModel",
            "ButtonModel",
            "FloatSliderModel",
            "BoundedFloatTextModel",
        )


def test_every_control_has_a_name():
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    names = []
    for box in tree(explorer):
        if any(isinstance(child, widgets.FloatSlider) for child in getattr(box, "children", ())):
            number, slider = box.children
            assert isinstance(number, widgets.BoundedFloatText) and slider.tooltip == number.description
            assert not slider.readout
            names.append(number.description)
    assert names == ["Score threshold", "Mask threshold", "Opacity"]
    # A checkbox repeats its description as a tooltip, which shows HTML as it is written.
    for box in (*explorer.classes.values(), *explorer.shown.values()):
        assert box.description and "<" not in box.description and not box.description_allow_html
    assert all(button.tooltip for button in tree(explorer) if isinstance(button, widgets.Button))
    assert "<" not in explorer.status.value and "segutils-status" in explorer.status._dom_classes
    assert "'.segutils-status > .widget-html-content'" in explorer.picture.value
    assert alt(explorer)
    for svg in (explorer.strip, explorer.curve):
        assert ElementTree.fromstring(svg.value).get("role") == "img"
    swatches = [re.search(r"background:(rgb\([^)]*\))", one.value) for one in explorer.swatches.values()]
    assert [swatch[1] for swatch in swatches] == [
        "rgb({},{},{})".format(*drawing.class_color(label)) for label in explorer.classes
    ]


# --- where widgets cannot run -------------------------------------------------------------------------------


def test_it_shows_four_pictures_where_widgets_cannot_run():
    image, prediction = grey(), cones()
    explorer = explore(image, prediction, CATEGORIES)
    explorer.mask_threshold.value, explorer.classes[2].value = 0.3, False
    explorer.score_threshold.value = 0.6
    before = {widget: widget.get_state() for widget in tree(explorer)}
    data, metadata = explorer._repr_mimebundle_()
    assert {widget: widget.get_state() for widget in tree(explorer)} == before
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert data["text/plain"] == "Threshold explorer. Kept 1 of 3 instances."
    counts = [(3, 0), (3, 0), (1, 2), (0, 3)]
    titles = [f"score >= {t}: {kept} kept, {lost} dropped" for t, (kept, lost) in zip(STRIP, counts)]
    assert metadata == {"image/jpeg": {"alt": "; ".join(titles)}}
    small, small_prediction, _ = fit_to_screen(image, prediction, None)
    views = [explorer.view._replace(score_threshold=threshold) for threshold in STRIP]
    arrays = [np.moveaxis(drawn(view, small, small_prediction), 0, -1) for view in views]
    jpeg = base64.b64decode(data["image/jpeg"])
    assert Image.open(io.BytesIO(jpeg)).format == "JPEG"
    assert np.array_equal(pixels(jpeg), pixels(grid_jpeg(arrays, titles, columns=2)))


def test_four_pictures_of_nothing():
    data, metadata = explore(grey(1, 2000), rows(cones(size=(1, 2000)), []), CATEGORIES)._repr_mimebundle_()
    assert "image/jpeg" in data and data["text/plain"] == "Threshold explorer. Kept 0 of 0 instances."
    assert metadata["image/jpeg"]["alt"].count("0 kept, 0 dropped") == 4


def test_the_four_pictures_of_a_scene_are_small_enough_for_a_notebook(scene):
    image, prediction, categories, target = scene
    data, metadata = explore(image, prediction, categories, target)._repr_mimebundle_()
    assert len(data["image/jpeg"]) < 300_000
    kept = int((prediction["scores"] >= 0.5).sum())
    sentence = f"Threshold explorer. Kept {kept} of {len(prediction['scores'])} instances: "
    assert data["text/plain"].startswith(sentence)
    assert metadata["image/jpeg"]["alt"].count("score >= ") == 4


# --- a slider above a figure --------------------------------------------------------------------------------


def line(height):
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, 1], [0, height])
    return figure


def png_of(box):
    return base64.b64decode(re.search('src="data:image/png;base64,([^"]*)"', box.picture.value)[1])


def test_a_figure_follows_its_slider():
    box = slide(widgets.FloatSlider(value=0.5, min=0, max=1, description="height"), line, "a line & more")
    assert 'alt="a line &amp; more"' in box.picture.value
    first = png_of(box)
    assert first == figure_png(line(0.5)) and Image.open(io.BytesIO(first)).format == "PNG"
    box.slider.value = 0.9
    assert png_of(box) == figure_png(line(0.9)) != first
    plt.close("all")


def test_figures_under_a_slider_are_closed():
    plt.close("all")
    box = slide(widgets.SelectionSlider(options=[1, 2, 3]), line, "a line")
    box.slider.value = 3
    assert plt.get_fignums() == []


def test_a_slider_leaves_a_figure_where_widgets_cannot_run():
    box = slide(widgets.FloatSlider(value=0.5, description="height"), line, "a line")
    box.slider.value = 2.0
    data, metadata = box._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id
    assert data["text/plain"] == "height: 2.0" and metadata == {"image/png": {"alt": "a line"}}
    assert base64.b64decode(data["image/png"]) == png_of(box)


# --- save ---------------------------------------------------------------------------------------------------


def test_save_writes_the_whole_picture(monkeypatch, tmp_path, scene):
    monkeypatch.chdir(tmp_path)
    image, prediction, categories, _ = scene
    explorer = explore(image, prediction, categories)
    explorer.score_threshold.value, explorer.mask_threshold.value = 0.2, 0.3
    explorer.save.click()
    assert status(explorer) == f"Saved explored_1.png, 640 x 480 pixels, in the folder {tmp_path}."
    saved = np.array(Image.open("explored_1.png"))
    assert np.array_equal(saved, np.moveaxis(drawn(explorer.view, image, prediction, categories), 0, -1))
    explorer.alpha.value = 0.9
    explorer.save.click()
    assert status(explorer).startswith("Saved explored_2.png, ")
    second = np.array(Image.open("explored_2.png"))
    assert np.array_equal(second, np.moveaxis(drawn(explorer.view, image, prediction, categories), 0, -1))
    assert np.array_equal(np.array(Image.open("explored_1.png")), saved)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["explored_1.png", "explored_2.png"]


def test_save_draws_what_is_missed_too(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    image, prediction, target = grey(), cones(), truth()
    explorer = explore(image, prediction, CATEGORIES, target)
    explorer.mask_threshold.value = 0.45
    explorer.save.click()
    view, texts = explorer.view, ["✓ cup 0.88", "✓ key 0.75", "✗ cup 0.50", "✓ coin 0.50", "✗ key 0.25"]
    whole = Painter(image, prediction, CATEGORIES, target)
    expected = whole.paint(view, explorer.tally(view), texts)
    assert np.array_equal(np.array(Image.open("explored_1.png")), np.moveaxis(expected, 0, -1))
    assert not np.array_equal(expected, whole.paint(view._replace(missed=False), explorer.tally(view), texts))


def test_save_overwrites_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 4):
        Path(f"explored_{number}.png").write_text("mine")
    explorer = explore(grey(), cones(), CATEGORIES)
    for number in (3, 5):
        explorer.save.click()
        assert status(explorer).startswith(f"Saved explored_{number}.png, 80 x 60 pixels")
    assert all(Path(f"explored_{number}.png").read_text() == "mine" for number in (1, 2, 4))
    assert len(list(tmp_path.iterdir())) == 5


def test_save_says_when_it_cannot(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    explorer = explore(grey(), cones(), CATEGORIES)

    def fail(picture, path, **options):
        Path(path).write_text("half of a picture")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Image.Image, "save", fail)
        explorer.save.click()
    assert status(explorer) == (
        f"explored_1.png could not be written in the folder {tmp_path}: No space left on device."
    )
    assert list(tmp_path.iterdir()) == []  # nothing half-written
    explorer.save.click()
    assert status(explorer).startswith("Saved explored_1.png")


def test_save_that_is_interrupted_leaves_no_picture_that_looks_whole(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    explorer = explore(grey(), cones(), CATEGORIES)

    def interrupt(picture, path, **options):
        Path(path).write_text("half of a picture")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        explorer.save.click()
    assert not list(tmp_path.glob("*.png"))


def test_save_says_that_the_disk_is_read_only(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    explorer = explore(grey(), cones(), CATEGORIES)

    def refuse(*args, **options):
        raise OSError(30, "Read-only file system")  # so says Linux even of files that are not there

    monkeypatch.setattr(Image.Image, "save", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    explorer.save.click()
    assert status(explorer).endswith(f"could not be written in the folder {tmp_path}: Read-only file system.")


# --- what is refused ----------------------------------------------------------------------------------------

GOOD, TARGET = cones("bool"), truth()
SOFT = cones("soft")


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (
            grey() / 255,
            TypeError,
            r"must be uint8 \[3, H, W\], as load_image gives it, not torch.float32 \[3, 60, 80\]",
        ),
        (grey()[0], TypeError, r"not torch.uint8 \[60, 80\]"),
        (grey()[:1], TypeError, r"not torch.uint8 \[1, 60, 80\]"),
        (grey().permute(1, 2, 0), TypeError, r"not torch.uint8 \[60, 80, 3\]"),
        (grey()[None], TypeError, r"not torch.uint8 \[1, 3, 60, 80\]"),
        (torch.tensor(0, dtype=torch.uint8), TypeError, r"not torch.uint8 \[\]"),
        (grey().numpy(), TypeError, "not ndarray"),
        (Image.new("RGB", (80, 60)), TypeError, "not Image"),
        ("cat.jpg", TypeError, "not str"),
        (
            grey(80, 60),
            ValueError,
            "prediction are 80 x 60 pixels .width x height., but the picture is 60 x 80",
        ),
    ],
)
def test_other_pictures_are_refused(image, error, message):
    with unchanged(image, GOOD), pytest.raises(error, match=message):
        explore(image, GOOD, CATEGORIES)


def test_pictures_without_pixels_are_refused():
    prediction = rows(GOOD, []) | {"masks": torch.zeros(0, 0, 80, dtype=torch.bool)}
    with pytest.raises((TypeError, ValueError), match=r"picture must be .*\[3, 0, 80\]"):
        explore(grey(0, 80), prediction, CATEGORIES)


@pytest.mark.parametrize(
    ("prediction", "error", "message"),
    [
        ([GOOD], TypeError, "the prediction of one picture, but got the list of all. Use output.0."),
        (
            GOOD["masks"],
            TypeError,
            "The prediction must be a dict with boxes, labels, scores and masks, not Tensor",
        ),
        ({}, ValueError, "The prediction has no boxes and no labels and no scores and no masks"),
        (
            {k: GOOD[k] for k in ("boxes", "labels", "masks")},
            ValueError,
            "has no scores. Its keys are: boxes, labels",
        ),
        ({k: GOOD[k] for k in ("boxes", "labels", "scores")}, ValueError, "has no masks"),
        ({"loss_mask": torch.tensor(0.5)}, ValueError, "the model is in training mode"),
        (GOOD | {"scores": GOOD["scores"] * math.nan}, ValueError, r"scores that are NaN .*: 5 of 5"),
        (
            GOOD | {"scores": GOOD["scores"][:2]},
            ValueError,
            "different lengths: boxes 5, labels 5, scores 2, masks 5",
        ),
        (GOOD | {"masks": GOOD["masks"].numpy()}, TypeError, r"not ndarray. Use torch.from_numpy\(masks\)"),
        (GOOD | {"masks": GOOD["masks"][:, :50]}, ValueError, "masks of the prediction are 80 x 50 pixels"),
        (GOOD | {"masks": torch.rand(5, 3, 60, 80)}, ValueError, r"masks must be \[N, 1, H, W\]"),
        (GOOD | {"boxes": torch.zeros(5, 5)}, ValueError, r"boxes must be \[N, 4\], not \[5, 5\]"),
        (GOOD | {"boxes": torch.full((5, 4), math.nan)}, ValueError, "boxes hold NaN"),
        (GOOD | {"boxes": GOOD["boxes"].flip(1)}, ValueError, "are they x, y, w, h"),
        (SOFT | {"masks": SOFT["masks"] * 3}, ValueError, "Soft masks hold values from 0 to 1"),
    ],
)
def test_other_predictions_are_refused(prediction, error, message):
    with unchanged(prediction), pytest.raises(error, match=message):
        explore(grey(), prediction, CATEGORIES)


def test_bad_masks_are_refused_before_the_slider_reaches_them():
    prediction = cones("soft")
    prediction["masks"][4] = math.nan  # of the instance with a score of 0.25
    with pytest.raises(ValueError, match="Soft masks hold values from 0 to 1"):
        explore(grey(), prediction, CATEGORIES)


def test_names_of_classes_have_to_be_a_list():
    with pytest.raises(TypeError, match="categories is the list of class names"):
        explore(grey(), GOOD, "coin")


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ([TARGET], TypeError, "The target must be a dict with boxes, labels, scores and masks, not list"),
        ({"labels": TARGET["labels"]}, ValueError, "The target has no masks. Its keys are: labels"),
        ({"masks": TARGET["masks"]}, ValueError, "The target has no labels"),
        (TARGET | {"labels": TARGET["labels"][:1]}, ValueError, "The target has keys of different lengths"),
        (
            TARGET | {"masks": TARGET["masks"][..., :70]},
            ValueError,
            "masks of the target are 70 x 60 .* is 80 x 60",
        ),
        (TARGET | {"masks": TARGET["masks"] * 2.0}, ValueError, "Soft masks hold values from 0 to 1"),
    ],
)
def test_other_targets_are_refused(target, error, message):
    with unchanged(target), pytest.raises(error, match=message):
        explore(grey(), GOOD, CATEGORIES, target)


def test_a_target_that_says_there_are_no_crowds_is_taken():
    explorer = explore(grey(), GOOD, CATEGORIES, TARGET | {"iscrowd": torch.zeros(4, dtype=torch.int64)})
    assert numbers(explorer) == numbers(explore(grey(), GOOD, CATEGORIES, TARGET))


def test_what_lies_in_a_crowd_region_is_neither_a_hit_nor_a_false_alarm():
    crowd = {"labels": GOOD["labels"][2:3], "masks": GOOD["masks"][2:3]}
    target = {key: torch.cat([TARGET[key], value]) for key, value in crowd.items()}
    for iscrowd, sentence in (
        (0, "4 hits, 1 false alarm, 1 missed. Precision 0.80, recall 0.80."),
        (1, "3 hits, 1 false alarm, 1 missed, 1 ignored in crowd regions. Precision 0.75, recall 0.75."),
    ):
        counted = target | {"iscrowd": torch.tensor([0, 0, 0, 0, iscrowd])}
        with unchanged(counted):
            explorer = explore(grey(), GOOD, CATEGORIES, counted)
            explorer.score_threshold.value = 0
        assert explorer.status.value == f"Kept 5 of 5 instances: {sentence}"
        strip = explorer.strip.value
        assert strip.count("×</text>") == 1
        assert ("rings: dropped or ignored" in strip) == bool(iscrowd)
