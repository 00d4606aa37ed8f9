"""The Python half of the explorer: what is checked, packed, counted, drawn and saved.

`test_explorer_page.py` proves that `explorer.js` computes what Python computes, `test_explorer_use.py` uses it.
"""

import base64
import io
import json
import math
import re
from pathlib import Path

import anywidget
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import test_browser
import torch
from bs4 import BeautifulSoup
from PIL import Image
from playwright.sync_api import expect
from torch.nn.functional import interpolate, max_pool2d, pad
from torchvision.transforms.v2.functional import resize as resize_to
from traitlets import TraitError
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
    predict,
    render_scene,
    slide,
)
from segutils.display import figure_png, grid_jpeg
from segutils.explorer import packing
from segutils.explorer.packing import HEIGHT, MIME, WIDTH, shown_size, to_size
from segutils.explorer.stills import STRIP, draw_view
from segutils.explorer.view import View, as_code, describe, take_tally
from segutils.rle import decode_rle
from segutils.roi_masks import RoIMasks

CATEGORIES = ("__background__", "cup", "key", "coin")
KINDS = ("roi", "soft", "bool")
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
WIDGET = "application/vnd.jupyter.widget-view+json"

chromium = test_browser.chromium


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


def tally(explorer):
    _, prediction, target, matches, *_ = explorer._shown()
    return take_tally(explorer.view, prediction, target, matches)


def words(explorer):
    """What the explorer keeps, in words."""
    return describe(tally(explorer), explorer.data["has_target"])


def numbers(explorer):
    """Kept, of how many, and with a target: hits, false alarms, missed, precision, recall."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", words(explorer))]


def pixels(jpeg):
    return np.array(Image.open(io.BytesIO(jpeg))).astype(int)


def run(text, image, prediction, categories):
    """Run what "Copy as code" copies, as in a notebook of the course, and return the picture that it shows."""
    pictures = []
    names = {name: getattr(segutils, name) for name in segutils.__all__}
    names |= {"image": image, "prediction": prediction, "categories": categories, "show": pictures.append}
    exec(text, names)
    [picture] = pictures
    return picture.numpy()


def move_everything(explorer):
    for name in ("score_threshold", "mask_threshold", "alpha"):
        trait = explorer.traits()[name]
        for value in (trait.min, 0.31, trait.max, 0.5):
            setattr(explorer, name, value)
    for name in ("masks", "outlines", "boxes", "labels", "dropped", "missed"):
        setattr(explorer, name, not getattr(explorer, name))
    explorer.classes = []
    explorer.classes = explorer.data["classes"]


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


def shown_of(image, prediction, target=None, categories=CATEGORIES):
    return explore(image, prediction, categories, target)._shown()


def send(explorer, message):
    """Send what the front end sends, and return what it is answered."""
    answers = []
    explorer.send = answers.append
    explorer._handle_custom_msg(message, [])
    return answers


def save_picture(explorer):
    """Press "Save picture", and return what the status says then."""
    [answer] = send(explorer, {"type": "save"})
    assert answer["type"] == "saved"
    return answer["text"]


# --- what is kept -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_kept_and_dropped_follow_the_score_threshold(kind):
    prediction = cones(kind)
    explorer = explore(grey(), prediction, CATEGORIES)
    for threshold in (0.05, 0.25, 0.26, 0.5, 0.51, 0.75, 0.875, 0.88, 1.0, 0.5):
        explorer.score_threshold = threshold
        kept = len(kept_of(explorer.view, prediction)["labels"])
        assert words(explorer) == f"Kept {kept} of 5 instances."
        assert [len(tally(explorer).kept), len(tally(explorer).dropped)] == [kept, 5 - kept]


@pytest.mark.parametrize("score", [0.9, 0.7, 0.35, 0.6, 0.05, 1.0])
def test_a_score_at_the_threshold_is_kept(score):
    prediction = cones(scores=(score,) * 5)
    explorer = explore(grey(), prediction, CATEGORIES)
    for threshold in (score, prediction["scores"][0].item()):
        explorer.score_threshold = min(max(threshold, 0.05), 1.0)
        assert len(filter_model_output([prediction], threshold)[0]["scores"]) == 5
        assert words(explorer) == "Kept 5 of 5 instances."


def test_counts_agree_with_the_filter_on_a_real_scene(scene):
    image, prediction, categories, _ = scene
    explorer = explore(image, prediction, categories)
    for threshold in (0.05, 0.14, 0.62, 0.97, 1.0):
        explorer.score_threshold = threshold
        kept = len(kept_of(explorer.view, prediction)["scores"])
        assert numbers(explorer) == [kept, len(prediction["scores"])]


def test_scores_need_not_be_sorted():
    prediction = rows(cones(), [4, 2, 0, 3, 1])
    explorer = explore(grey(), prediction, CATEGORIES, truth())
    in_order = explore(grey(), cones(), CATEGORIES, truth())
    for threshold in (0.1, 0.5, 0.6):
        explorer.score_threshold = in_order.score_threshold = threshold
        assert words(explorer) == words(in_order)
        order = tally(explorer).kept + tally(explorer).dropped
        assert prediction["scores"][order].tolist() == cones()["scores"].tolist()


def test_masks_of_every_kind_give_the_same_counts():
    explorers = [explore(grey(), cones(kind), CATEGORIES, truth()) for kind in KINDS]
    for threshold in (0.1, 0.5, 0.8):
        for explorer in explorers:
            explorer.score_threshold = threshold
        assert len({words(explorer) for explorer in explorers}) == 1


def test_masks_are_never_pasted(monkeypatch, tmp_path):
    target = truth()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RoIMasks, "paste", lambda *args, **options: pytest.fail("pasted"))
    explorer = explore(grey(), cones(), CATEGORIES, target)
    move_everything(explorer)
    explorer._repr_mimebundle_()
    explorer.save("page.html")
    assert save_picture(explorer).startswith("Saved explored_1.png")


def test_classes_that_are_not_chosen_are_left_out_of_all_counts():
    prediction, target = cones(), truth()
    explorer = explore(grey(), prediction, CATEGORIES, target)
    explorer.mask_threshold, explorer.score_threshold = 0.45, 0.1
    assert numbers(explorer) == [5, 5, 3, 2, 1, 0.6, 0.75]
    explorer.classes = [1, 3]
    assert numbers(explorer) == [3, 3, 2, 1, 0, 0.67, 1]
    # Without keys it looks as if there had never been any.
    without = explore(grey(), rows(prediction, [0, 2, 3]), CATEGORIES, rows(target, target["labels"] != 2))
    without.mask_threshold, without.score_threshold = 0.45, 0.1
    assert words(without) == words(explorer)
    assert np.array_equal(
        draw_view(without._shown(), without.view), draw_view(explorer._shown(), explorer.view)
    )
    explorer.classes = []
    assert words(explorer).startswith("Kept 0 of 0 instances: 0 hits, 0 false alarms, 0 missed.")
    explorer.classes = [3, 1, 2]
    assert numbers(explorer) == [5, 5, 3, 2, 1, 0.6, 0.75]


# --- values: set in a cell, or by the browser ---------------------------------------------------------------

NUMBERS = [("score_threshold", 0.05, 1.0), ("mask_threshold", 0.05, 0.95), ("alpha", 0.0, 1.0)]


@pytest.mark.parametrize(("name", "low", "high"), NUMBERS)
def test_numbers_are_set_and_read(name, low, high):
    explorer = explore(grey(), cones(), CATEGORIES)
    usual = 0.45 if name == "alpha" else 0.5
    assert getattr(explorer, name) == getattr(explorer.view, name) == explorer.data["view"][name] == usual
    for value in (low, high, 0.62, 0.875):
        setattr(explorer, name, value)
        assert getattr(explorer, name) == getattr(explorer.view, name) == value
        assert explorer.get_state([name]) == {name: value}  # what the browser hears
    explorer.set_state({name: 0.33})  # what the browser says
    assert getattr(explorer, name) == getattr(explorer.view, name) == 0.33
    for wrong in (low - 0.01, high + 0.01, 62, math.nan, math.inf, "0.5", None, torch.tensor(0.5)):
        with pytest.raises(TraitError, match=name):
            setattr(explorer, name, wrong)
        assert getattr(explorer, name) == 0.33


def test_switches_classes_picture_and_price_are_set_and_read():
    explorer = explore([grey()] * 3, [cones()] * 3, CATEGORIES)
    for name, value in (
        *((name, False) for name in ("masks", "outlines", "boxes", "labels", "missed")),
        *(("dropped", True), ("classes", [3]), ("picture", 2), ("price", 2.5)),
    ):
        assert getattr(explorer, name) == explorer.data["view"][name] != value
        setattr(explorer, name, value)
        assert explorer.get_state([name]) == {name: value}
    explorer.set_state({"classes": [2, 3], "picture": 1, "boxes": True})
    assert (explorer.classes, explorer.picture, explorer.boxes) == ([2, 3], 1, True)
    assert explorer.view.classes == (2, 3)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("classes", [3, 7], r"labels that occur here: 1 \(cup\), 2 \(key\), 3 \(coin\)\. 7 does not"),
        ("classes", ["coin"], "classes"),
        ("classes", 3, "classes"),
        ("picture", 2, "picture is a number from 0 to 1, not 2"),
        ("picture", -1, "picture is a number from 0 to 1, not -1"),
        ("price", 0, "price"),
        ("price", math.nan, "price must be a number, not nan"),
        ("boxes", "no", "boxes"),
    ],
)
def test_values_that_are_none_are_refused(name, value, message):
    explorer = explore([grey()] * 2, [cones()] * 2, CATEGORIES)
    before = getattr(explorer, name)
    with pytest.raises(TraitError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_sums_of_steps_look_like_round_numbers():
    explorer = explore(grey(), cones(), CATEGORIES)
    explorer.score_threshold = explorer.mask_threshold = 0.1 + 0.2
    assert explorer.score_threshold == explorer.mask_threshold == 0.3
    assert explorer.as_code().count("0.3") == 2 and "0.30" not in explorer.as_code()
    explorer.score_threshold = 0.7500000000000001
    assert words(explorer) == "Kept 2 of 5 instances."  # one of them has a score of 0.75


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


def at_screen_size(image, prediction):
    size = shown_size(image)
    return resize_to(image, list(size), antialias=True), to_size(prediction, size)


def assert_drawn_as_draw_instances_does(image, prediction, categories=CATEGORIES):
    shown = shown_of(image, prediction, categories=categories)
    for look in LOOKS:
        view = view_of(prediction, **look)
        assert np.array_equal(draw_view(shown, view), drawn(view, image, prediction, categories)), look


@pytest.mark.parametrize("size", ["screen", "whole"])
def test_a_real_scene_is_drawn_as_draw_instances_does(scene, size):
    image, prediction, categories, _ = scene
    if size == "screen":
        image, prediction = at_screen_size(image, prediction)
    assert_drawn_as_draw_instances_does(image, prediction, categories)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["screen", "whole"])
def test_masks_of_every_kind_are_drawn_as_draw_instances_does(kind, size):
    image, prediction = grey(), cones(kind)
    if size == "screen":
        image, prediction = at_screen_size(image, prediction)
        assert image.shape == (3, 120, 160)
    assert_drawn_as_draw_instances_does(image, prediction)


def test_only_soft_masks_follow_the_mask_threshold():
    for kind in KINDS:
        shown, view = shown_of(grey(), cones(kind)), view_of(cones(kind))
        before, after = (draw_view(shown, view._replace(mask_threshold=value)) for value in (0.5, 0.75))
        assert np.array_equal(before, after) == (kind == "bool")


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
    assert_drawn_as_draw_instances_does(grey(), prediction)
    assert_drawn_as_draw_instances_does(*at_screen_size(grey(), prediction))


def texts_drawn(monkeypatch, shown, view):
    """The labels in a picture of a view, with their colours."""
    drawings, paint = {}, drawing._paint_label

    def record(canvas, label, color):
        drawings[label.text] = color
        paint(canvas, label, color)

    with monkeypatch.context() as patched:
        patched.setattr(drawing, "_paint_label", record)
        draw_view(shown, view)
    return drawings


def test_labels_say_which_instances_are_hits(monkeypatch):
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    explorer.missed, explorer.classes = False, [1, 3]
    for threshold, expected in (
        (0.8, {"✗ cup 0.88", "✗ cup 0.50", "✗ coin 0.50"}),  # too small to be hits
        (0.45, {"✓ cup 0.88", "✗ cup 0.50", "✓ coin 0.50"}),
    ):
        explorer.mask_threshold = threshold
        assert set(texts_drawn(monkeypatch, explorer._shown(), explorer.view)) == expected


def test_what_is_missed_is_named(monkeypatch):
    image, prediction = at_screen_size(grey(), cones())  # where there is room for all labels
    explorer = explore(image, prediction, CATEGORIES, to_size(truth(), image.shape[1:]))
    assert texts_drawn(monkeypatch, explorer._shown(), explorer.view)["missed: key"] == (255, 255, 255)
    explorer.missed = False
    assert "missed: key" not in texts_drawn(monkeypatch, explorer._shown(), explorer.view)


def changed_by(explorer, name):
    """Where a switch changes the picture by much: bool [H, W], and the picture with it."""
    shown, view = explorer._shown(), explorer.view._replace(labels=False)
    pictures = [draw_view(shown, view._replace(**{name: value})).astype(int) for value in (False, True)]
    return (abs(pictures[1] - pictures[0]) > 40).any(0), pictures[1]


def rim(mask, width=4):
    """The pixels near the border of a mask."""
    mask = pad(mask[None].float(), (width,) * 4)  # so that it ends where the picture ends
    grown, shrunk = (max_pool2d(sign * mask, 2 * width + 1, 1, width)[0] for sign in (1, -1))
    return (grown + shrunk > 0)[width:-width, width:-width].numpy()


def assert_outlined(explorer, name, masks, colors):
    """The switch draws lines in these colours around these masks, and changes nothing else."""
    changed, picture = changed_by(explorer, name)
    rims = [rim(mask) for mask in masks]
    assert not (changed & ~np.any([np.zeros_like(changed), *rims], axis=0)).any()
    for line, color in zip(rims, colors, strict=True):
        assert (changed & line).sum() > 0.05 * line.sum()  # dashes cover half of a line
        near = abs(picture[:, changed & line] - np.array(color)[:, None]).max(0) < 60
        assert near.any()


def white(count):
    return [(255, 255, 255)] * count


def test_what_is_missed_is_outlined_in_white_unless_switched_off():
    image, prediction = at_screen_size(grey(), cones())
    target = to_size(truth(), image.shape[1:])
    explorer, masks = explore(image, prediction, CATEGORIES, target), target["masks"]
    assert explorer.missed
    assert_outlined(explorer, "missed", masks[[3]], white(1))
    explorer.score_threshold = 0.8
    assert_outlined(explorer, "missed", masks[1:], white(3))
    explorer.classes = [1, 3]  # nobody looks for keys
    assert_outlined(explorer, "missed", masks[[2]], white(1))
    explorer.classes = [1]
    assert_outlined(explorer, "missed", [], [])


def test_what_is_dropped_is_outlined_in_the_colour_of_its_class_when_asked():
    image, prediction = at_screen_size(grey(), cones())
    _, small = at_screen_size(grey(), cones("bool"))
    explorer, masks = explore(image, prediction, CATEGORIES), small["masks"]
    cup, key, coin = (drawing.class_color(label) for label in (1, 2, 3))
    assert not explorer.dropped
    assert_outlined(explorer, "dropped", masks[4:], [key])
    explorer.score_threshold = 0.6
    assert_outlined(explorer, "dropped", masks[2:], [cup, coin, key])
    explorer.classes = [1, 2]
    assert_outlined(explorer, "dropped", masks[[2, 4]], [cup, key])
    explorer.score_threshold = 0.05
    assert_outlined(explorer, "dropped", [], [])


def test_outlines_of_dropped_instances_have_gaps():
    image, prediction = at_screen_size(grey(), rows(cones(), [0]))
    view = view_of(prediction, boxes=False, labels=False, masks=False)
    shown = shown_of(image, prediction)
    kept, dropped = (
        (draw_view(shown, view._replace(score_threshold=score, dropped=True)) != image.numpy()).any(0)
        for score in (0.5, 1.0)
    )
    assert 0.3 * kept.sum() < dropped.sum() < 0.7 * kept.sum()


def test_outlines_of_dropped_instances_follow_the_mask_threshold():
    shown, view = shown_of(grey(), cones()), view_of(cones(), score_threshold=1.0, dropped=True)
    pictures = [draw_view(shown, view._replace(mask_threshold=value)) for value in (0.2, 0.5, 0.8)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert not np.array_equal(pictures[one], pictures[other])


def test_these_outlines_are_thin_in_larger_pictures_too(scene):
    image, prediction, categories, target = scene
    shown = shown_of(image, prediction, target, categories)
    shown = shown._replace(matches=torch.full_like(shown.matches, -1))
    view = view_of(prediction, score_threshold=1.0, labels=False, missed=True)
    assert len(take_tally(view, prediction, target, shown.matches).missed) == 13
    rims = np.any([rim(mask) for mask in target["masks"]], axis=0)
    assert not (draw_view(shown, view) != image.numpy()).any(0)[~rims].any()


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
    explorer.mask_threshold = mask_threshold
    labels = explorer.data["classes"]
    for score_threshold in (0.05, 0.3, 0.65, 0.95, 1.0):
        explorer.score_threshold = score_threshold
        for left_out in ([], labels[:1], labels[1:3], labels):
            explorer.classes = [label for label in labels if label not in left_out]
            expected = expected_numbers(explorer.view, prediction, target)
            assert numbers(explorer) == pytest.approx(expected, abs=1e-9)


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
            explorer.score_threshold, explorer.mask_threshold = score_threshold, mask_threshold
            expected = expected_numbers(explorer.view, prediction, target)
            assert numbers(explorer) == pytest.approx(expected, abs=1e-9)


def test_the_browser_is_told_what_was_counted_on_masks_of_full_size(scene):
    image, prediction, categories, target = scene
    explorer = explore(image, prediction, categories, target)
    for threshold in (0.5, 0.2, 0.85):
        explorer.set_state({"mask_threshold": threshold})
        iou = mask_iou(prediction["masks"], target["masks"], threshold)
        expected = match_instances(iou, prediction, target).tolist()
        assert explorer.counted == {"mask_threshold": threshold, "matches": [expected]}
    before = explorer.counted
    explorer.score_threshold, explorer.alpha, explorer.classes = 0.9, 0.1, []
    assert explorer.counted is before  # none of these changes what matches what
    assert explore(image, prediction, categories).counted == {}


def test_of_several_pictures_those_are_counted_that_were_shown(monkeypatch):
    counts, crops_of = [], segutils.explorer.widget.mask_crops
    explorer = explore([grey()] * 3, [cones(), NOTHING, cones()], CATEGORIES, [truth()] * 3)
    first = explorer.counted["matches"][0]
    assert explorer.counted == {"mask_threshold": 0.5, "matches": [first, None, None]} and len(first) == 5
    explorer.picture = 1
    assert explorer.counted == {"mask_threshold": 0.5, "matches": [first, [], None]}
    assert words(explorer).startswith("Kept 0 of 0 instances: 0 hits, 0 false alarms, 4 missed.")
    monkeypatch.setattr(
        segutils.explorer.widget, "mask_crops", lambda *args: counts.append(args) or crops_of(*args)
    )
    explorer.picture = 0
    assert explorer.counted["matches"][0] == first and not counts  # known already
    explorer.mask_threshold = 0.2
    assert explorer.counted["matches"][1:] == [None, None] and explorer.counted["mask_threshold"] == 0.2


def test_counts_of_one_are_in_the_singular():
    one = rows(cones(), [0])
    target = rows(truth(), [0])
    assert words(explore(grey(), one, CATEGORIES)) == "Kept 1 of 1 instance."
    assert words(explore(grey(), one, CATEGORIES, target)) == (
        "Kept 1 of 1 instance: 1 hit, 0 false alarms, 0 missed. Precision 1.00, recall 1.00."
    )
    assert words(explore(grey(), one, CATEGORIES, rows(truth(), [1]))) == (
        "Kept 1 of 1 instance: 0 hits, 1 false alarm, 1 missed. Precision 0.00, recall 0.00."
    )


def test_precision_and_recall_may_be_undefined():
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    explorer.score_threshold = 1.0
    assert words(explorer) == (
        "Kept 0 of 5 instances: 0 hits, 0 false alarms, 4 missed. "
        "Precision undefined (nothing is kept), recall 0.00."
    )
    explorer = explore(grey(), cones(), CATEGORIES, rows(truth(), []))
    assert words(explorer) == (
        "Kept 4 of 5 instances: 0 hits, 4 false alarms, 0 missed. "
        "Precision 0.00, recall undefined (there is nothing to find)."
    )
    explorer.classes = []
    assert words(explorer) == (
        "Kept 0 of 0 instances: 0 hits, 0 false alarms, 0 missed. "
        "Precision undefined (nothing is kept), recall undefined (there is nothing to find)."
    )


def test_a_target_may_have_masks_of_any_kind():
    explorers = [
        explore(grey(), cones(), CATEGORIES, {key: cones(kind)[key] for key in ("labels", "masks")})
        for kind in KINDS
    ]
    assert numbers(explorers[0]) == [4, 5, 4, 0, 1, 1, 0.8]
    assert len({words(explorer) for explorer in explorers}) == 1
    assert all(explorer.data["pictures"][0]["things"] for explorer in explorers)


def test_without_a_target_nothing_is_said_about_one():
    explorer = explore(grey(), cones(), CATEGORIES)
    assert not explorer.data["has_target"] and explorer.data["pictures"][0]["things"] is None
    assert not re.search("hit|miss|alarm|recall", words(explorer))


# --- copy as code -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", LOOKS)
def test_copied_code_draws_the_same_picture(scene, look):
    image, prediction, categories, _ = scene
    view = view_of(prediction, **look)
    text = as_code(view, view_of(prediction).classes, categories)
    assert text.count("\n") == 1
    shown = shown_of(image, prediction, categories=categories)
    assert np.array_equal(run(text, image, prediction, categories), draw_view(shown, view))


def test_classes_that_share_a_color_get_different_ones_which_stay():
    # Of torchvision's COCO model: its classes 1, 13 and 25 would all have the first colour.
    image, names = grey(), [str(label) for label in range(40)]
    prediction = cones(labels=(13, 1, 13, 2, 1), scores=(0.9, 0.7, 0.5, 0.4, 0.3))
    target = truth() | {"labels": torch.tensor([13, 1, 2, 25])}
    explorer = explore(image, prediction, names, target)
    first, second, third, fourth = map(list, drawing.CLASS_COLORS[:4])
    # In the order of their best scores.
    assert explorer.data["colors"] == {"13": first, "1": second, "2": third, "25": fourth}
    explorer.missed = False  # which draw_instances does not know, nor the signs
    plain = explorer._shown()._replace(target=None, matches=None)
    for threshold in (0.05, 0.35, 0.6, 0.8):
        explorer.score_threshold = threshold
        expected = draw_view(plain, explorer.view)
        assert np.array_equal(run(explorer.as_code(), image, prediction, names), expected)


def test_code_says_what_was_changed():
    image, prediction = grey(), cones()
    explorer = explore(image, prediction, CATEGORIES)
    assert explorer.as_code() == (
        "kept = filter_model_output([prediction], 0.5)[0]\nshow(draw_instances(image, kept, categories))"
    )
    explorer.score_threshold, explorer.mask_threshold, explorer.alpha = 0.2, 0.35, 0.7
    explorer.boxes, explorer.classes = False, [3, 2]
    assert explorer.as_code() == (
        "kept = filter_model_output([prediction], 0.2, labels=[2, 3])[0]  # key, coin\n"
        "show(draw_instances(image, kept, categories, mask_threshold=0.35, alpha=0.7, boxes=False))"
    )
    expected = draw_view(explorer._shown(), explorer.view)
    assert np.array_equal(run(explorer.as_code(), image, prediction, CATEGORIES), expected)


def test_code_of_several_pictures_draws_the_one_that_is_shown():
    images, predictions = [grey(), grey() // 2], [cones(), cones(scores=(0.9, 0.8, 0.7, 0.6, 0.4))]
    explorer = explore(images, predictions, CATEGORIES)
    explorer.picture = 1
    assert explorer.as_code() == (
        "kept = filter_model_output([predictions[1]], 0.5)[0]\nshow(draw_instances(images[1], kept, categories))"
    )


def test_copied_code_draws_unsorted_predictions_too():
    image, prediction = grey(), rows(cones(), [4, 2, 0, 3, 1])
    explorer = explore(image, prediction, CATEGORIES)
    for threshold in (0.05, 0.4):
        explorer.score_threshold = threshold
        expected = draw_view(explorer._shown(), explorer.view)
        assert np.array_equal(run(explorer.as_code(), image, prediction, CATEGORIES), expected)


NASTY = ("__background__", 'it\'s a "cup" \\', "<b>key</b> & </script><!--<script>", "two\nlines = 1 / 0")


def test_copied_code_survives_any_name():
    image, prediction = grey(), cones()
    explorer = explore(image, prediction, NASTY)
    for label in (1, 2, 3):
        explorer.classes = [other for other in (1, 2, 3) if other != label]
        assert explorer.as_code().count("\n") == 1
        expected = draw_view(explorer._shown(), explorer.view)
        assert np.array_equal(run(explorer.as_code(), image, prediction, NASTY), expected)


# --- what the browser gets ----------------------------------------------------------------------------------


def bytes_of(text):
    return np.frombuffer(base64.b64decode(text), np.uint8)


def test_the_payload_can_be_written_as_json_and_says_everything(scene):
    image, prediction, categories, target = scene
    explorer = explore(image, prediction, categories, target)
    data = explorer.data
    assert json.loads(json.dumps(data)) == data
    assert set(data) == {
        *("version", "categories", "colors", "classes", "has_target", "several", "view", "pictures")
    }
    assert data["version"] == 1 and data["has_target"] is True and data["several"] is False
    labels = set(prediction["labels"].tolist()) | set(target["labels"].tolist())
    assert set(data["classes"]) == labels
    assert data["categories"] == {str(label): categories[label] for label in labels}
    assert data["colors"] == {
        str(label): list(color) for label, color in drawing.class_colors(prediction).items()
    }
    assert data["view"]["classes"] == data["classes"] == explorer.classes
    assert {name: getattr(explorer, name) for name in data["view"]} == data["view"]
    [picture] = data["pictures"]
    assert picture["size"] == [667, 500] and picture["full_size"] == [640, 480]
    assert picture["labels"] == prediction["labels"].tolist()
    assert torch.equal(torch.tensor(picture["scores"]), prediction["scores"])
    assert torch.equal(torch.tensor(picture["boxes"]), to_size(prediction, (500, 667))["boxes"])


@pytest.mark.parametrize(
    ("size", "shown", "sharp"),
    [
        ((1, 1), (2, 2), (1, 1)),
        ((1, 2000), (1, 860), (1, 1720)),
        ((2000, 1), (500, 1), (1000, 1)),
        ((3000, 4000), (500, 667), (1000, 1334)),
        ((480, 640), (500, 667), (480, 640)),
        ((200, 300), (400, 600), (200, 300)),
        ((500, 860), (500, 860), (500, 860)),
        ((250, 1720), (125, 860), (250, 1720)),
    ],
)
def test_pictures_of_all_sizes_fit_on_the_screen(size, shown, sharp):
    height, width = size
    box = (width / 4, height / 4, width / 2 + 1, height / 2 + 1)
    prediction = cones(boxes=[box], labels=[1], scores=[0.9], size=size)
    image = torch.zeros(1, dtype=torch.uint8).expand(3, height, width)
    [one] = explore(image, prediction, CATEGORIES).data["pictures"]
    [several] = explore([image], [prediction], CATEGORIES).data["pictures"]
    for picture, expected in ((one, sharp), (several, tuple(min(pair) for pair in zip(shown, size)))):
        assert picture["size"] == [*shown[::-1]] and picture["full_size"] == [width, height]
        assert Image.open(io.BytesIO(base64.b64decode(picture["jpeg"]))).size == expected[::-1]
    assert 1 <= shown[0] <= min(HEIGHT, max(1, 2 * height)) and 1 <= shown[1] <= min(WIDTH, 2 * width)
    scale = max(shown) / max(size)
    assert abs(shown[0] - scale * height) <= 1 and abs(shown[1] - scale * width) <= 1


def test_the_packed_picture_looks_like_the_picture(scene):
    image, prediction, categories, _ = scene
    jpeg = base64.b64decode(explore(image, prediction, categories).data["pictures"][0]["jpeg"])
    assert Image.open(io.BytesIO(jpeg)).format == "JPEG"
    assert abs(pixels(jpeg) - image.permute(1, 2, 0).numpy()).mean() < 3


@pytest.mark.parametrize("side", [14, 28, 56])
def test_roi_masks_are_packed_as_they_are(side):
    prediction = cones()
    probs = torch.rand(5, 1, side, side, generator=torch.Generator().manual_seed(side))
    prediction["masks"] = RoIMasks(probs, prediction["boxes"], (60, 80))
    masks = explore(grey(), prediction, CATEGORIES).data["pictures"][0]["masks"]
    assert masks["kind"] == "roi" and masks["side"] == side and set(masks) == {"kind", "side", "values"}
    values = bytes_of(masks["values"]).reshape(5, 1, side, side)
    assert abs(values / 255 - probs.numpy()).max() <= 0.5001 / 255


def test_masks_stay_in_their_own_boxes():
    prediction = cones() | {"boxes": cones()["boxes"] + 10}
    picture = explore(grey(), prediction, CATEGORIES).data["pictures"][0]
    assert torch.equal(torch.tensor(picture["masks"]["boxes"]), 2 * prediction["masks"].boxes)
    assert torch.equal(torch.tensor(picture["boxes"]), 2 * prediction["boxes"])


def test_soft_masks_are_packed_without_their_zeros():
    prediction = cones("soft")
    prediction["masks"][2] = 0
    masks = explore(grey(), prediction, CATEGORIES).data["pictures"][0]["masks"]
    expected = to_size(prediction, (120, 160))["masks"][:, 0]
    assert masks["kind"] == "soft" and masks["frames"][2] == [0, 0, 0, 0]
    values, start = bytes_of(masks["values"]), 0
    for mask, (left, top, width, height) in zip(expected, masks["frames"], strict=True):
        part, start = values[start : start + width * height], start + width * height
        whole = np.zeros((120, 160))
        whole[top : top + height, left : left + width] = part.reshape(height, width) / 255
        assert abs(whole - mask.numpy()).max() <= 0.5001 / 255
        assert not part.size or part.reshape(height, width)[[0, -1]].any(axis=1).all()
    assert start == len(values)


def pasted(counts, height, width):
    left, top, mask = decode_rle({"size": [height, width], "counts": counts})
    whole = torch.zeros(height, width, dtype=torch.bool)
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return whole


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_boolean_masks_and_things_are_packed_as_rle(dtype):
    prediction, target = cones("bool"), truth() | {"iscrowd": torch.tensor([0, 1, 0, 0])}
    prediction["masks"] = prediction["masks"].to(dtype)
    picture = explore(grey(), prediction, CATEGORIES, target).data["pictures"][0]
    things = picture["things"]
    assert picture["masks"]["kind"] == "boolean"
    for rle, given in ((picture["masks"]["rle"], prediction), (things["rle"], target)):
        expected = to_size(given, (120, 160))["masks"].bool()
        assert torch.equal(torch.stack([pasted(counts, 120, 160) for counts in rle]), expected)
    assert things["labels"] == target["labels"].tolist() and things["crowds"] == [False, True, False, False]
    assert things["full_areas"] == target["masks"].sum(dim=(1, 2)).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("found", "things"), [(0, None), (0, 0), (0, 4), (1, None), (1, 1), (5, 0), (5, 4), (5, None)]
)
def test_few_or_no_instances_and_things(kind, found, things):
    target = None if things is None else rows(truth(), list(range(things)))
    prediction = rows(cones(kind), list(range(found)))
    explorer = explore(grey(), prediction, CATEGORIES, target)
    move_everything(explorer)
    explorer.score_threshold = 0.05
    assert words(explorer).startswith(f"Kept {found} of {found} instance")
    labels = set(prediction["labels"].tolist()) | set([] if target is None else target["labels"].tolist())
    assert set(explorer.data["classes"]) == labels
    picture = explorer.data["pictures"][0]
    assert len(picture["boxes"]) == len(picture["scores"]) == found
    assert (things is None) == (picture["things"] is None)
    assert things is None or len(picture["things"]["rle"]) == things


def test_classes_are_those_of_prediction_and_target_the_most_frequent_first():
    labels = (3, 2, 3, 2, 3)
    target = {"labels": torch.tensor([1, 3]), "masks": torch.ones(2, 60, 80, dtype=torch.bool)}
    assert explore(grey(), cones(labels=labels), CATEGORIES).data["classes"] == [3, 2]
    assert explore(grey(), cones(labels=labels), CATEGORIES, target).data["classes"] == [3, 2, 1]


def test_labels_beyond_the_categories_are_named_by_their_number():
    prediction = cones(labels=(1, 100, 100, 3, -1))
    explorer = explore(grey(), prediction, CATEGORIES)
    assert explorer.data["categories"] == {
        "100": "id 100 (unknown)",
        "-1": "id -1 (unknown)",
        "1": "cup",
        "3": "coin",
    }
    explorer.score_threshold, explorer.classes = 0.1, [100, -1, 3]
    assert explorer.as_code().splitlines()[0].endswith("# id -1 (unknown), coin, id 100 (unknown)")
    assert_drawn_as_draw_instances_does(grey(), prediction)


def test_boxes_and_masks_are_brought_to_the_size_of_the_screen_alike():
    masks = torch.zeros(1, 1000, 2000, dtype=torch.bool)
    masks[0, 200:800, 300:700] = True
    expected = torch.zeros(430, 860, dtype=torch.bool)
    expected[86:344, 129:301] = True
    assert shown_size(grey(1000, 2000)) == (430, 860)
    for given in (masks, masks[:, None] * 0.75):
        prediction = {"boxes": torch.tensor([[300.0, 200.0, 700.0, 800.0]]), "masks": given, "image_id": 7}
        with unchanged(prediction):
            small = to_size(prediction, (430, 860))
        assert small["boxes"].tolist()[0] == pytest.approx([129, 86, 301, 344]) and small["image_id"] == 7
        assert small["masks"].dtype == given.dtype
        assert torch.equal(small["masks"].squeeze() > 0.5, expected)


def test_masks_take_the_nearest_pixels():
    masks = cones("bool", boxes=[(33, 71, 1203, 651)], labels=[1], scores=[0.9], size=(701, 1303))["masks"]
    size = shown_size(grey(701, 1303))
    expected = interpolate(masks[None].float(), size, mode="nearest-exact")[0] > 0.5
    assert torch.equal(to_size({"masks": masks}, size)["masks"], expected)


def test_long_pictures_have_one_scale_for_each_side():
    boxes = torch.tensor([[0.0, 0, 3000, 10]])
    prediction = {"boxes": boxes, "masks": RoIMasks(torch.ones(1, 1, 28, 28), boxes, (10, 3000))}
    assert shown_size(grey(10, 3000)) == (3, 860)
    small = to_size(prediction, (3, 860))
    for scaled in (small["boxes"], small["masks"].boxes):
        assert scaled.tolist()[0] == pytest.approx([0, 0, 860, 3])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_devices_do_not_hinder(kind, device):
    prediction, target = cones(kind), truth()
    expected = explore(grey(), prediction, CATEGORIES, target)
    prediction, target = ({k: v.to(device) for k, v in p.items()} for p in (prediction, target))
    for value in (
        *prediction.values(),
        *(getattr(prediction["masks"], name, None) for name in ("probs", "boxes")),
    ):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            value.requires_grad_()
    explorer = explore(grey().to(device), prediction, CATEGORIES, target)
    move_everything(explorer)
    move_everything(expected)
    assert explorer.data == expected.data and explorer.counted == expected.counted
    assert explorer._repr_mimebundle_()[0]["image/jpeg"] == expected._repr_mimebundle_()[0]["image/jpeg"]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_handed_in_is_changed(kind, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    image, prediction, target, categories = grey(), cones(kind), truth(), list(CATEGORIES)
    prediction["image_id"] = 7
    with unchanged(image, prediction, target, categories):
        explorer = explore(image, prediction, categories, target)
        move_everything(explorer)
        explorer._repr_mimebundle_()
        explorer.save("page.html")
        save_picture(explorer)


# --- several pictures ---------------------------------------------------------------------------------------


def test_several_pictures_share_classes_and_colours():
    first, second = cones(labels=(13, 13, 13, 13, 2)), rows(cones(labels=(1, 1, 3, 3, 3)), [0, 1])
    targets = [truth() | {"labels": torch.tensor([13, 13, 2, 25])}, truth()]
    names = [str(label) for label in range(40)]
    data = explore([grey(), grey(90, 40)], [first, to_size(second, (90, 40))], names, [
        targets[0], to_size(targets[1], (90, 40))
    ]).data  # fmt: skip
    assert data["several"] and data["has_target"] and len(data["pictures"]) == 2
    assert data["classes"] == [13, 1, 2, 3, 25]
    assert len({tuple(color) for color in data["colors"].values()}) == 5
    assert [picture["size"] for picture in data["pictures"]] == [[160, 120], [80, 180]]
    assert [len(picture["things"]["rle"]) for picture in data["pictures"]] == [4, 4]
    alone = explore([grey()], [cones()], CATEGORIES)
    assert alone.data["several"] and not alone.data["has_target"] and alone.counted == {}


def test_the_picture_that_is_shown_is_drawn_and_saved(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    images = [grey(), grey(90, 40)]
    predictions = [cones(), to_size(rows(cones(), [0, 1]), (90, 40))]
    explorer = explore(images, predictions, CATEGORIES)
    assert explorer._repr_mimebundle_()[0]["text/plain"] == (
        "Threshold explorer, picture 1 of 2. Kept 4 of 5 instances."
    )
    explorer.picture = 1
    data, metadata = explorer._repr_mimebundle_()
    assert data["text/plain"] == "Threshold explorer, picture 2 of 2. Kept 2 of 2 instances."
    assert metadata["image/jpeg"]["alt"].startswith("score >= 0.1: 2 kept, 0 dropped; ")
    assert save_picture(explorer).startswith("Saved explored_1.png, 40 x 90 pixels")
    assert np.array_equal(
        np.moveaxis(np.array(Image.open("explored_1.png")), -1, 0),
        drawn(explorer.view, images[1], predictions[1]),
    )


# --- the widget, and where it cannot run --------------------------------------------------------------------


def test_it_is_a_widget_that_brings_its_front_end_along():
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    assert isinstance(explorer, anywidget.AnyWidget)
    state = explorer.get_state()
    assert "export default {" in state["_esm"] and "_css" not in state
    assert "export function render" not in state["_esm"]  # anywidget would call it instead
    assert set(state["data"]["view"]) | {"data", "counted"} <= set(state)
    assert explorer._ipython_display_ is None  # ipywidgets 7 would show no picture


def test_it_shows_four_pictures_where_widgets_cannot_run():
    image, prediction = grey(), cones()
    explorer = explore(image, prediction, CATEGORIES)
    explorer.mask_threshold, explorer.classes, explorer.score_threshold = 0.3, [1, 3], 0.6
    before = explorer.get_state()
    data, metadata = explorer._repr_mimebundle_()
    assert explorer.get_state() == before
    assert set(data) == {WIDGET, MIME, "text/plain", "image/jpeg"}  # and no HTML, which GitHub would prefer
    assert data[WIDGET]["model_id"] == explorer.model_id
    assert data["text/plain"] == "Threshold explorer. Kept 1 of 3 instances."
    counts = [(3, 0), (3, 0), (1, 2), (0, 3)]
    titles = [f"score >= {t}: {kept} kept, {lost} dropped" for t, (kept, lost) in zip(STRIP, counts)]
    assert metadata == {"image/jpeg": {"alt": "; ".join(titles)}}
    small, small_prediction = at_screen_size(image, prediction)
    views = [explorer.view._replace(score_threshold=threshold) for threshold in STRIP]
    arrays = [np.moveaxis(drawn(view, small, small_prediction), 0, -1) for view in views]
    jpeg = base64.b64decode(data["image/jpeg"])
    assert Image.open(io.BytesIO(jpeg)).format == "JPEG"
    expected = grid_jpeg(arrays, titles, columns=2, quality=80, subsampling=2)
    assert np.array_equal(pixels(jpeg), pixels(expected))


def test_it_leaves_the_view_as_it_is_for_pages_that_bring_it_to_life():
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    explorer.mask_threshold, explorer.dropped, explorer.classes = 0.3, True, [2]
    left = explorer._repr_mimebundle_()[0][MIME]
    assert left["view"] == explorer.data["view"] | {"mask_threshold": 0.3, "dropped": True, "classes": [2]}
    assert left | {"view": None} == explorer.data | {"view": None}


def test_a_notebook_keeps_small_pictures_of_many_and_nothing_that_is_too_much(monkeypatch):
    noise = torch.randint(
        0, 256, (3, 480, 640), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    boxes = [(0, 0, 640, 480)]
    prediction = cones(boxes=boxes, labels=[1], scores=[0.9], size=(480, 640))
    explorer = explore([noise] * 2, [prediction] * 2, CATEGORIES)
    left = explorer._repr_mimebundle_()[0][MIME]
    for picture, whole in zip(left["pictures"], explorer.data["pictures"], strict=True):
        assert Image.open(io.BytesIO(base64.b64decode(picture["jpeg"]))).size == (360, 270)
        assert picture | {"jpeg": None} == whole | {"jpeg": None}
        assert len(picture["jpeg"]) < len(whole["jpeg"]) / 2
    monkeypatch.setattr(packing, "MAX_BYTES", len(json.dumps(left)) - 1)
    data, _ = explorer._repr_mimebundle_()
    assert set(data) == {WIDGET, "text/plain", "image/jpeg"}


def test_four_pictures_of_nothing():
    data, metadata = explore(grey(1, 2000), rows(cones(size=(1, 2000)), []), CATEGORIES)._repr_mimebundle_()
    assert "image/jpeg" in data and data["text/plain"] == "Threshold explorer. Kept 0 of 0 instances."
    assert metadata["image/jpeg"]["alt"].count("0 kept, 0 dropped") == 4


def test_what_a_scene_leaves_is_small_enough_for_a_notebook(scene):
    image, prediction, categories, target = scene
    data, metadata = explore(image, prediction, categories, target)._repr_mimebundle_()
    assert len(data["image/jpeg"]) < 300_000 and len(json.dumps(data[MIME])) < 150_000
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


# --- save a picture -----------------------------------------------------------------------------------------


def test_save_writes_the_whole_picture(monkeypatch, tmp_path, scene):
    monkeypatch.chdir(tmp_path)
    image, prediction, categories, _ = scene
    explorer = explore(image, prediction, categories)
    explorer.score_threshold, explorer.mask_threshold = 0.2, 0.3
    said = save_picture(explorer)
    assert said == f"Saved explored_1.png, 640 x 480 pixels, in the folder {tmp_path}."
    saved = np.array(Image.open("explored_1.png"))
    assert np.array_equal(saved, np.moveaxis(drawn(explorer.view, image, prediction, categories), 0, -1))
    explorer.alpha = 0.9
    assert save_picture(explorer).startswith("Saved explored_2.png, ")
    second = np.array(Image.open("explored_2.png"))
    assert np.array_equal(second, np.moveaxis(drawn(explorer.view, image, prediction, categories), 0, -1))
    assert np.array_equal(np.array(Image.open("explored_1.png")), saved)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["explored_1.png", "explored_2.png"]


def test_save_draws_what_is_missed_too(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    explorer = explore(grey(), cones(), CATEGORIES, truth())
    explorer.mask_threshold = 0.45
    save_picture(explorer)
    saved = np.moveaxis(np.array(Image.open("explored_1.png")), -1, 0)
    assert np.array_equal(saved, draw_view(explorer._shown(), explorer.view))
    assert not np.array_equal(saved, draw_view(explorer._shown(), explorer.view._replace(missed=False)))


def test_save_overwrites_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 4):
        Path(f"explored_{number}.png").write_text("mine")
    explorer = explore(grey(), cones(), CATEGORIES)
    for number in (3, 5):
        assert save_picture(explorer).startswith(f"Saved explored_{number}.png, 80 x 60 pixels")
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
        said = save_picture(explorer)
    assert said == f"explored_1.png could not be written in the folder {tmp_path}: No space left on device."
    assert list(tmp_path.iterdir()) == []  # nothing half-written
    assert save_picture(explorer).startswith("Saved explored_1.png")


def test_save_that_is_interrupted_leaves_no_picture_that_looks_whole(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    explorer = explore(grey(), cones(), CATEGORIES)

    def interrupt(picture, path, **options):
        Path(path).write_text("half of a picture")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        explorer._save_picture()
    assert not list(tmp_path.glob("*.png"))


def test_save_says_that_the_disk_is_read_only(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    explorer = explore(grey(), cones(), CATEGORIES)

    def refuse(*args, **options):
        raise OSError(30, "Read-only file system")  # so says Linux even of files that are not there

    monkeypatch.setattr(Image.Image, "save", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    said = save_picture(explorer)
    assert said.endswith(f"could not be written in the folder {tmp_path}: Read-only file system.")


def test_other_messages_are_passed_over(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    explorer = explore(grey(), cones(), CATEGORIES)
    assert send(explorer, {"type": "delete everything"}) == send(explorer, {}) == []
    assert not list(tmp_path.iterdir())


# --- save a page --------------------------------------------------------------------------------------------


def test_a_page_holds_module_and_data_and_nothing_from_elsewhere(tmp_path, scene):
    image, prediction, categories, target = scene
    explorer = explore(image, prediction, categories, target)
    explorer.score_threshold, explorer.alpha = 0.8, 0.2
    path = explorer.save(tmp_path / "new folder" / "a & b.html")
    assert path == tmp_path / "new folder" / "a & b.html" and path.stat().st_size < 400_000
    page = BeautifulSoup(path.read_text("utf-8"), "html.parser")
    assert page.html["lang"] == "en" and page.title.text == page.h1.text == "Threshold explorer: a & b"
    assert page.find("meta", attrs={"name": "viewport"}) and "light dark" in page.style.text
    data, module = page.find_all("script")
    assert json.loads(data.text) == explorer._repr_mimebundle_()[0][MIME]
    assert module["type"] == "module" and "export function showExplorer(" in module.text
    assert not page.find_all(["link", "img", "iframe"]) and not re.search(
        "https?://(?!www.w3.org)", path.read_text()
    )


def test_a_page_survives_any_name(tmp_path):
    explorer = explore(grey(), cones(), NASTY)
    page = BeautifulSoup(explorer.save(tmp_path / "page.html").read_text("utf-8"), "html.parser")
    data, module = page.find_all("script")
    assert list(json.loads(data.text)["categories"].values()) == list(NASTY[1:])
    assert "</script" not in module.text


def test_a_page_lives_without_a_kernel(chromium, tmp_path):
    explorer = explore(grey(), cones(), NASTY, truth())
    explorer.score_threshold = 0.6
    path, errors = explorer.save(tmp_path / "page.html"), []
    page = chromium.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    expect(page.get_by_role("slider", name="Score threshold")).to_be_visible()
    expect(page.locator("body")).to_contain_text(words(explorer))
    page.close()
    assert errors == []


def test_a_page_that_is_there_is_replaced_as_a_whole_or_not_at_all(monkeypatch, tmp_path):
    explorer = explore(grey(), cones(), CATEGORIES)
    path = tmp_path / "page.html"
    path.write_text("an earlier page")
    write_text = Path.write_text

    def fail(path, text, **options):
        write_text(path, text[:1000])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_text", fail)
        with pytest.raises(OSError, match="No space left"):
            explorer.save(path)
    assert path.read_text() == "an earlier page" and list(tmp_path.iterdir()) == [path]
    explorer.save(str(path))
    assert path.read_text().startswith("<!doctype html>") and list(tmp_path.iterdir()) == [path]


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


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            ([grey()] * 2, GOOD),
            TypeError,
            "For a list of pictures, explore takes a list of predictions, not dict",
        ),
        (([grey()] * 2, [GOOD]), ValueError, "There are 2 pictures, but 1 predictions. Give each its own"),
        (([grey()] * 2, [GOOD] * 2, [TARGET]), ValueError, "There are 2 pictures, but 1 targets"),
        (([grey()] * 2, [GOOD] * 2, TARGET), TypeError, "takes a list of targets, not dict"),
        (([grey()], [GOOD], []), ValueError, "There are 1 pictures, but 0 targets"),
        (([], []), ValueError, "There is no picture to explore: the list is empty"),
        (([grey(), grey() / 255], [GOOD] * 2), TypeError, "^Picture 2 of 2: The picture must be uint8"),
        (([grey(), grey()], [GOOD, {}]), ValueError, "^Picture 2 of 2: The prediction has no boxes"),
        (([grey()] * 2, [GOOD] * 2, [TARGET, None]), TypeError, "^Picture 2 of 2: The target must be a dict"),
        (([grey(), grey(80, 60)], [GOOD] * 2), ValueError, "Picture 2 of 2: .* but the picture is 60 x 80"),
        ((torch.stack([grey()] * 2), [GOOD] * 2), TypeError, "hand in a list of pictures as well"),
        ((grey(), GOOD, [TARGET]), TypeError, "The target must be a dict"),
    ],
)
def test_lists_that_do_not_fit_are_refused(given, error, message):
    image, prediction, *target = given
    with pytest.raises(error, match=message):
        explore(image, prediction, CATEGORIES, *target)


def test_a_target_that_says_there_are_no_crowds_is_taken():
    explorer = explore(grey(), GOOD, CATEGORIES, TARGET | {"iscrowd": torch.zeros(4, dtype=torch.int64)})
    assert numbers(explorer) == numbers(explore(grey(), GOOD, CATEGORIES, TARGET))


def test_what_lies_in_a_crowd_region_is_neither_a_hit_nor_a_false_alarm(monkeypatch):
    crowd = {"labels": GOOD["labels"][2:3], "masks": GOOD["masks"][2:3]}
    target = {key: torch.cat([TARGET[key], value]) for key, value in crowd.items()}
    for iscrowd, sentence, sign in (
        (0, "4 hits, 1 false alarm, 1 missed. Precision 0.80, recall 0.80.", "✓"),
        (1, "3 hits, 1 false alarm, 1 missed, 1 ignored in crowd regions. Precision 0.75, recall 0.75.", "–"),
    ):
        counted = target | {"iscrowd": torch.tensor([0, 0, 0, 0, iscrowd])}
        with unchanged(counted):
            explorer = explore(grey(), GOOD, CATEGORIES, counted)
            explorer.score_threshold = 0.05
        assert words(explorer) == f"Kept 5 of 5 instances: {sentence}"
        assert f"{sign} cup 0.50" in texts_drawn(monkeypatch, explorer._shown(), explorer.view)
