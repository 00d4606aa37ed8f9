"""The types of error: by hand, and equal to what TIDE's own code says (`make_tide_results.py`)."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from make_tide_results import SIZE, random_pictures
from unchanged import unchanged

from segutils.error_types import ERROR_TYPES, find_errors
from segutils.predictions import mask_crops
from segutils.rle import encode_rle

NAMES = dict(zip(("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), ERROR_TYPES))
RESULTS = json.loads(Path(__file__).with_name("tide_results.json").read_text("utf-8"))


def instances(boxes, labels, scores=None):
    """Full rectangles in a picture, by their boxes."""
    masks = torch.zeros(len(boxes), SIZE, SIZE, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = True
    one = {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": masks,
    }
    return one if scores is None else one | {"scores": torch.tensor(scores, dtype=torch.float32)}


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_they_equal_those_of_tide(iou_type):
    counted, gained = Counter(), Counter()
    for seed, theirs in enumerate(RESULTS):
        pictures = random_pictures(seed)
        predictions = [instances(p["found"], p["found_labels"], p["scores"]) for p in pictures]
        targets = [instances(p["things"], p["labels"]) for p in pictures]
        report = find_errors(predictions, targets, iou_type=iou_type)
        if theirs is None:  # TIDE divides by zero
            assert 0 <= report.ap <= 1 or math.isnan(report.ap)
            continue
        assert report.ap == pytest.approx(theirs["AP50"] / 100, abs=1e-12)
        counts = Counter(error.type for error in report.errors)
        for their_name, name in NAMES.items():
            assert counts[name] == theirs["counts"][their_name], (seed, name)
            assert report.gains[name] == pytest.approx(theirs["dAP"][their_name] / 100, abs=1e-12), (
                seed,
                name,
            )
            counted[name] += counts[name]
            gained[name] += report.gains[name] > 0
    assert min(counted.values()) > 20 and min(gained.values()) > 5  # so that it can fail


THING, OTHER = (0, 0, 20, 20), (25, 25, 45, 45)


def test_one_of_each():
    prediction = instances(
        [THING, (0, 0, 20, 19), (0, 0, 20, 8), (25, 25, 45, 44), (25, 25, 45, 31), (0, 30, 9, 39)],
        [1, 1, 1, 3, 3, 1],
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
    )
    target = instances([THING, OTHER, (30, 0, 40, 10)], [1, 2, 3])
    with unchanged(prediction, target):
        report = find_errors([instances([], [], []), prediction], [instances([], []), target])
    found = [(e.type, e.picture, e.instance, e.thing) for e in report.errors]
    assert found == [
        ("duplicate", 1, 1, 0),
        ("location", 1, 2, 0),
        ("class", 1, 3, 1),
        ("both", 1, 4, 1),
        ("background", 1, 5, None),
        ("missed", 1, None, 2),
    ]
    assert [e.iou for e in report.errors] == pytest.approx([0.95, 0.4, 0.95, 0.3, 0, 0])
    assert report.errors[0].score == pytest.approx(0.8) and math.isnan(report.errors[-1].score)
    assert report.ap == pytest.approx(1 / 3)  # of the classes 1, 2 and 3 only the first is found
    assert report.gains["class"] == pytest.approx(1 / 3) and report.gains["duplicate"] == 0


def test_a_thing_is_mended_once_by_the_best_score():
    prediction = instances([(0, 0, 20, 8), (0, 0, 20, 9)], [1, 1], [0.5, 0.9])
    report = find_errors([prediction], [instances([THING], [1])])
    assert [e.instance for e in report.errors] == [1, 0] and report.ap == 0
    assert report.gains == dict.fromkeys(ERROR_TYPES, 0) | {"location": 1}


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_what_lies_in_a_crowd_region_is_no_error(iou_type):
    prediction = instances([THING, (26, 26, 30, 30), (40, 40, 48, 48)], [1, 1, 1], [0.5, 0.9, 0.8])
    target = instances([THING, OTHER], [1, 1]) | {"iscrowd": torch.tensor([0, 1])}
    report = find_errors([prediction], [target], iou_type=iou_type)
    assert [(e.type, e.instance) for e in report.errors] == [("background", 2)]


def test_masks_may_be_rles():
    prediction, target = instances([THING, OTHER], [1, 1], [0.9, 0.8]), instances([THING], [1])
    rles = [
        one | {"masks": encode_rle(mask_crops(one["masks"]), (SIZE, SIZE))} for one in (prediction, target)
    ]
    report = find_errors([rles[0]], [rles[1]])
    assert report == find_errors([prediction], [target]) and len(report.errors) == 1
    smaller = target | {"masks": target["masks"][:, 1:]}
    with pytest.raises(ValueError, match="The masks of picture 1 differ in size"):
        find_errors([rles[0]], [smaller])


def test_nothing_divides_by_zero():
    nothing, thing = ([], []), ([THING], [1])
    for found, true, ap, kinds in (
        (nothing, thing, 0, ["missed"]),
        (thing, nothing, 0, ["background"]),
        (thing, thing, 1, []),
        (nothing, nothing, None, []),
    ):
        report = find_errors([instances(*found, [0.9] * len(found[0]))], [instances(*true)])
        assert [error.type for error in report.errors] == kinds
        assert math.isnan(report.ap) if ap is None else report.ap == ap


def test_bad_input_names_the_picture():
    right = instances([THING], [1], [0.9])
    with pytest.raises(ValueError, match="Picture 2 has a prediction but no target"):
        find_errors([right, right], [right])
    with pytest.raises(ValueError, match="The masks of picture 1 differ in size"):
        find_errors([right | {"masks": right["masks"][:, 1:]}], [right])
    with pytest.raises(
        ValueError, match="The target of picture 1 has the label 1, which is none of the 0 classes"
    ):
        find_errors([instances([], [], [])], [right], categories=["__background__"])
    with pytest.raises(ValueError, match='iou_type must be "segm"'):
        find_errors([right], [right], iou_type="mask")
