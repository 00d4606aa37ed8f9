"""COCO's average precision: by hand on little things, and equal to pycocotools on random ones."""

import contextlib
import io
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from unchanged import unchanged

from segutils import RoIMasks, evaluate, render_scene
from segutils.average_precision import FIGURES
from segutils.predictions import mask_crops
from segutils.rle import encode_rle

SIZE = 150
NAMES = ["__background__", "cup", "N/A", "key", "coin"]
LABELS = [1, 3, 4]


def stacked(instances):
    """Boolean masks, their boxes and labels, as a dict of tensors."""
    masks, boxes, labels = zip(*instances) if instances else ((), (), ())
    return {
        "labels": torch.tensor(labels, dtype=torch.int64),
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "masks": torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, SIZE, SIZE)),
    }


def random_thing(random):
    """A rectangle of any size, full or with holes."""
    width, height = np.exp(random.uniform(np.log(3), np.log(SIZE), 2)).astype(int)
    left, top = random.integers(0, [SIZE - width + 1, SIZE - height + 1])
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[top : top + height, left : left + width] = random.random((height, width)) < random.choice([0.7, 1])
    return mask, [left, top, left + width, top + height], random.choice(LABELS)


def random_case(random):
    """Predictions and targets of one to three pictures.

    Most instances are things of the target, moved; a few have another class. Scores have ties. Now and then there are
    more than 100 instances, crowd regions, or areas that are not those of the masks.
    """
    with_areas, with_crowds = random.random(2) < (0.5, 0.6)
    predictions, targets = [], []
    for _ in range(random.integers(1, 4)):
        things = [random_thing(random) for _ in range(random.integers(0, 7))]
        found = []
        for _ in range(random.choice([0, 3, 9, 120], p=[0.1, 0.45, 0.42, 0.03])):
            mask, (x1, y1, x2, y2), label = random_thing(random)
            if things and random.random() < 0.8:
                mask, (x1, y1, x2, y2), right = things[random.integers(len(things))]
                down, across = random.integers(-4, 5, 2) * (random.random() < 0.7)
                mask = np.roll(mask, (down, across), (0, 1))
                x1, y1, x2, y2 = x1 + across, y1 + down, x2 + across, y2 + down
                label = right if random.random() < 0.85 else label
            found.append((mask, [x1, y1, x2, y2], label))
        scores = torch.from_numpy(random.integers(1, 20, len(found)) / 20).float()
        predictions.append(stacked(found) | {"scores": scores})
        target = stacked(things)
        if with_areas:
            areas = np.where(random.random(len(things)) < 0.5, 1000, random.integers(1, 12000, len(things)))
            target["area"] = torch.from_numpy(areas).float()
        if with_crowds:
            target["iscrowd"] = torch.from_numpy((random.random(len(things)) < 0.25).astype(np.int64))
        targets.append(target)
    return predictions, targets


def coco_annotations(pictures, iou_type, results):
    """Instances in COCO's format, from the masks of full size."""
    annotations = []
    for image_id, picture in enumerate(pictures):
        for row, label in enumerate(picture["labels"].tolist()):
            mask = np.asfortranarray(picture["masks"][row].numpy().astype(np.uint8))
            x1, y1, x2, y2 = picture["boxes"][row].double().tolist()
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label}
            if not results or iou_type == "segm":  # a result with a box would be measured by it
                annotation["segmentation"] = coco_mask.encode(mask)
            if not results or iou_type == "bbox":
                annotation["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            if results:
                annotation["score"] = picture["scores"][row].item()
            else:
                own = float(mask.sum()) if iou_type == "segm" else (x2 - x1) * (y2 - y1)
                annotation["area"] = picture["area"][row].item() if "area" in picture else own
                annotation["iscrowd"] = picture["iscrowd"][row].item() if "iscrowd" in picture else 0
            annotations.append(annotation)
    return annotations


def pycocotools_figures(predictions, targets, iou_type, labels=LABELS):
    """The twelve figures, and the AP of each class: -1 where there is nothing to find."""
    results = coco_annotations(predictions, iou_type, results=True)
    sizes = [target["masks"].shape[-2:] for target in targets]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [
                {"id": n, "height": height, "width": width} for n, (height, width) in enumerate(sizes)
            ],
            "categories": [{"id": label} for label in labels],
            "annotations": coco_annotations(targets, iou_type, results=False),
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results) if results else COCO(), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [*evaluation.stats, *evaluation.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))]


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_it_equals_pycocotools(iou_type):
    random = np.random.default_rng(3)
    seen = []
    for _ in range(60):
        predictions, targets = random_case(random)
        result = evaluate(predictions, targets, NAMES, iou_type)
        ours = np.array([result[name] for name in FIGURES] + list(result["per_class"].values()))
        theirs = np.array(pycocotools_figures(predictions, targets, iou_type))
        assert np.array_equal(np.isnan(ours), theirs == -1)
        assert np.allclose(np.nan_to_num(ours, nan=-1), theirs, rtol=0, atol=1e-8)
        seen.append(ours)
    seen = np.array(seen)  # so that it can fail: figures of all sizes, in every column
    assert ((seen > 0.05) & (seen < 0.95)).sum(axis=0).min() > 2 and np.isnan(seen).sum() > 50


def square(*boxes, labels=None, scores=None):
    """Full rectangles in a picture of 40 x 40, by their boxes."""
    masks = torch.zeros(len(boxes), 40, 40, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = True
    one = {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels or [1] * len(boxes), dtype=torch.int64),
        "masks": masks,
    }
    return one if scores is None else one | {"scores": torch.tensor(scores)}


LEFT, RIGHT = (0, 0, 10, 10), (20, 0, 30, 10)


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_by_hand(iou_type):
    target = square(LEFT, RIGHT)
    right = evaluate([square(LEFT, RIGHT, scores=[0.9, 0.8])], [target], NAMES, iou_type)
    assert right["AP"] == right["AP50"] == right["AP_small"] == right["AR_10"] == 1
    assert right["AR_1"] == 0.5 and math.isnan(right["AP_large"])
    assert list(right["per_class"]) == ["cup", "key", "coin"]
    assert right["per_class"]["cup"] == 1 and math.isnan(right["per_class"]["key"])
    half = evaluate([square(LEFT, scores=[0.9])], [target], NAMES, iou_type)
    assert half["AP"] == pytest.approx(51 / 101)  # precision 1 at the recalls 0.00 to 0.50
    shifted = evaluate([square((2, 0, 12, 10), scores=[0.9])], [square(LEFT)], NAMES, iou_type)
    assert shifted["AP50"] == 1 and shifted["AP75"] == 0
    assert shifted["AP"] == pytest.approx(4 / 10)  # IoU is 80 / 120: 0.50, 0.55, 0.60 and 0.65 are reached


def test_what_lies_in_a_crowd_region_costs_nothing():
    prediction = square(LEFT, RIGHT, (31, 0, 39, 9), scores=[0.7, 0.9, 0.8])
    target = square(LEFT, (15, 0, 40, 40))
    assert evaluate([prediction], [target])["AP"] < 0.3
    assert evaluate([prediction], [target | {"iscrowd": torch.tensor([0, 1])}])["AP"] == 1


def test_all_kinds_of_masks_give_the_same():
    target = square(LEFT, RIGHT)
    boxes = torch.tensor([[1.0, 0, 10, 9], [20, 0, 28, 12]])
    roi = RoIMasks(torch.full((2, 1, 28, 28), 0.9), boxes, (40, 40))
    found = {"labels": torch.tensor([1, 1]), "scores": torch.tensor([0.9, 0.8])}
    kinds = [roi, roi.paste(), roi.paste()[:, None] * 0.8, roi.paste().to(torch.uint8) * 255]
    kinds.append(encode_rle(mask_crops(roi), (40, 40)))
    results = [evaluate([found | {"masks": masks}], [target]) for masks in kinds]
    assert 0.3 < results[0]["AP"] < 0.9
    for result in results[1:]:
        assert repr(result) == repr(results[0])  # NaN is equal to itself


def test_generators_are_taken_and_classes_are_named_by_number_without_categories():
    pictures = [square(LEFT), square(LEFT, RIGHT, labels=[4, 4])]
    scores = [torch.tensor([0.9]), torch.tensor([0.8, 0.7])]
    result = evaluate((p | {"scores": s} for p, s in zip(pictures, scores)), iter(pictures))
    assert result["per_class"] == {"label 1": 1, "label 4": 1} and result["AP"] == 1


def test_nothing_found_or_nothing_there():
    nothing = square()
    silent = evaluate([nothing | {"scores": torch.tensor([])}], [square(LEFT)], NAMES)
    assert silent["AP"] == 0 and silent["AR_100"] == 0 and silent["per_class"]["cup"] == 0
    for prediction in (nothing | {"scores": torch.tensor([])}, square(LEFT, scores=[0.9])):
        result = evaluate([prediction], [nothing], NAMES)
        assert all(math.isnan(value) for value in [result["AP"], *result["per_class"].values()])
    assert evaluate([nothing | {"scores": torch.tensor([])}], [nothing])["per_class"] == {}


def test_nothing_handed_in_is_changed():
    _, target = render_scene(0, (240, 320))
    prediction = target | {"scores": torch.linspace(0.9, 0.1, len(target["labels"]))}
    rles = prediction | {"masks": encode_rle(mask_crops(target["masks"]), (240, 320))}
    with unchanged(prediction, rles, target):
        assert evaluate([prediction], [target])["AP"] == evaluate([rles], [target])["AP"] == 1


FOUND, TRUE = square(LEFT, scores=[0.9]), square(LEFT)
RLES = encode_rle(mask_crops(TRUE["masks"]), (40, 40))


@pytest.mark.parametrize(
    ("predictions", "targets", "error", "message"),
    [
        (
            FOUND,
            [TRUE],
            TypeError,
            r"predictions must be a list .*, not dict. Put it in a list: \[prediction\]",
        ),
        ([FOUND], 3, TypeError, "targets must be a list with one dict for each picture, not int"),
        ([], [], ValueError, "There is nothing to evaluate: the lists of predictions and targets are empty"),
        (
            [FOUND, FOUND],
            [TRUE],
            ValueError,
            "Picture 2 has a prediction but no target: there are only 1 targets",
        ),
        ([FOUND], [TRUE, TRUE], ValueError, "Picture 2 has a target but no prediction"),
        ([FOUND, TRUE], [TRUE, TRUE], ValueError, "The prediction of picture 2 has no scores. Its keys are"),
        (
            [FOUND],
            [{"labels": TRUE["labels"]}],
            ValueError,
            "The target of picture 1 has no masks. Its keys are: labels",
        ),
        (
            [FOUND],
            [square(LEFT, labels=[5])],
            ValueError,
            r"The target of picture 1 has the label 5, which is none of the 3 classes in categories \(1 to 4; 0 is",
        ),
        (
            [square(LEFT, labels=[2], scores=[0.9])],
            [TRUE],
            ValueError,
            "prediction of picture 1 has the label 2",
        ),
        ([FOUND], [square(LEFT) | {"labels": torch.zeros(1).long()}], ValueError, "has the label 0"),
        (
            [FOUND | {"masks": FOUND["masks"][..., 1:]}],
            [TRUE],
            ValueError,
            r"The masks of picture 1 differ in size .*\(width x height\): 39 x 40 and 40 x 40",
        ),
        (
            [FOUND | {"masks": encode_rle(mask_crops(TRUE["masks"]), (50, 40))}],
            [TRUE],
            ValueError,
            "The masks of picture 1 differ in size .*: 40 x 50 and 40 x 40",
        ),
        (
            [FOUND],
            [square(LEFT, RIGHT) | {"masks": RLES + encode_rle(mask_crops(TRUE["masks"]), (50, 40))}],
            ValueError,
            r"The target of picture 1 has RLEs of different sizes \(width x height\): 40 x 40 and 40 x 50",
        ),
        ([FOUND | {"masks": RLES * 2}], [TRUE], ValueError, r"picture 1 has 2 masks \(RLEs\), but 1 labels"),
        (
            [FOUND | {"masks": [1]}],
            [TRUE],
            TypeError,
            "The prediction of picture 1: masks is a list, but not of COCO's RLEs",
        ),
        (
            [FOUND | {"masks": TRUE["masks"] * 3.0}],
            [TRUE],
            ValueError,
            "prediction of picture 1: Soft masks hold",
        ),
        (
            [FOUND | {"scores": torch.tensor([[0.9]])}],
            [TRUE],
            ValueError,
            r"The prediction of picture 1: scores must be \[N\], not \[1, 1\]",
        ),
        (
            [FOUND],
            [TRUE | {"labels": torch.ones(1)}],
            TypeError,
            r"labels must be whole numbers \(int64\), not torch.fl",
        ),
        (
            [FOUND | {"scores": torch.tensor([math.nan])}],
            [TRUE],
            ValueError,
            "picture 1 has scores that are NaN",
        ),
    ],
)
def test_bad_input_is_refused_with_the_number_of_the_picture(predictions, targets, error, message):
    with pytest.raises(error, match=message):
        evaluate(predictions, targets, NAMES)


def test_bad_boxes_and_a_bad_kind_are_refused():
    for boxes, message in (
        (torch.zeros(1, 5), r"The target of picture 1: boxes must be \[N, 4\], not \[1, 5\]"),
        (torch.tensor([[20.0, 20, 10, 10]]), "The target of picture 1 has boxes that are none.*box_convert"),
        (torch.full((1, 4), math.nan), "boxes that are none"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate([FOUND], [TRUE | {"boxes": boxes}], iou_type="bbox")
    with pytest.raises(ValueError, match='iou_type must be "segm" .* or "bbox" .*, not \'masks\''):
        evaluate([FOUND], [TRUE], iou_type="masks")
    with pytest.raises(ValueError, match="The prediction of picture 1 has no boxes"):
        evaluate([{key: FOUND[key] for key in ("labels", "scores", "masks")}], [TRUE], iou_type="bbox")
