"""IoU, matching, precision and recall: by hand on little things, and in agreement with pycocotools."""

import contextlib
import io
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection.roi_heads import paste_masks_in_image
from unchanged import unchanged

from segutils import (
    confusion_matrix,
    count_mistakes,
    expected_calibration_error,
    filter_model_output,
    mask_iou,
    match_instances,
    precision_recall,
    reliability,
    render_scene,
)
from segutils.roi_masks import RoIMasks


def drawn(*pictures):
    """Boolean masks of words, one for each row: "##.. ...." is a mask of 2 x 4."""
    return torch.tensor([[[pixel == "#" for pixel in row] for row in p.split()] for p in pictures])


def iou_of(*rows):
    return torch.tensor(rows, dtype=torch.float64)


# --- mask_iou -----------------------------------------------------------------------------------------------

LEFT, RIGHT, ALL, NOTHING = "##.. ##..", "..## ..##", "#### ####", ".... ...."


def test_iou_by_hand():
    iou = mask_iou(drawn(LEFT, RIGHT, ALL), drawn(LEFT, ALL, "#... #...", ".##. ...."))
    assert iou.dtype == torch.float64
    assert torch.equal(iou, iou_of([1, 0.5, 0.5, 1 / 5], [0, 0.5, 0, 1 / 5], [0.5, 1, 0.25, 0.25]))


def test_iou_with_an_empty_mask_is_0():
    assert torch.equal(mask_iou(drawn(NOTHING, LEFT), drawn(NOTHING, ALL)), iou_of([0, 0], [0, 0.5]))


def test_iou_of_masks_that_touch_or_interlock_is_0():
    assert mask_iou(drawn("##.. ...."), drawn("..## ....", ".... ##..", "...# ..##")).sum() == 0
    assert mask_iou(drawn("#.#. .#.#"), drawn(".#.# #.#.")) == 0


@pytest.mark.parametrize(("n", "m"), [(0, 2), (2, 0), (0, 0), (2, 3)])
def test_iou_has_a_row_for_each_mask_and_a_column_for_each_other(n, m):
    masks, others = drawn(LEFT, RIGHT)[:n], drawn(LEFT, RIGHT, ALL)[:m]
    assert mask_iou(masks, others).shape == (n, m)
    empty = RoIMasks(torch.rand(0, 1, 28, 28), torch.rand(0, 4), (2, 4))
    assert mask_iou(empty, others).shape == (0, m)


def random_roi_masks(seed, count, size):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 15
    boxes = torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 20 + 1], 1)
    return RoIMasks(torch.rand(count, 1, 28, 28, generator=generator), boxes, size)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6])
def test_iou_is_the_same_for_all_kinds_of_masks(threshold):
    first, second = random_roi_masks(0, 4, (30, 40)), random_roi_masks(1, 5, (30, 40))
    expected = mask_iou(first.paste(threshold), second.paste(threshold))
    assert 0.1 < expected.max() < 1
    kinds = [
        (m, paste_masks_in_image(m.probs, m.boxes, m.image_size), m.paste(threshold)) for m in (first, second)
    ]
    for masks in kinds[0]:
        for others in kinds[1]:
            assert torch.equal(mask_iou(masks, others, threshold), expected)


def test_iou_cuts_soft_masks_above_the_threshold():
    soft = torch.tensor([[[[0.2, 0.5, 0.6, 0.9]]]])
    line = torch.ones(1, 1, 4, dtype=torch.bool)
    shares = {threshold: mask_iou(soft, line, threshold).item() for threshold in (0, 0.2, 0.55, 0.9, 1)}
    assert shares == {0: 1, 0.2: 0.75, 0.55: 0.5, 0.9: 0, 1: 0}
    assert mask_iou(soft, line) == 0.5  # one half is not above one half
    assert mask_iou(line, line, 0.9) == 1  # boolean already: the threshold has no say


@pytest.mark.parametrize("kind", ["soft", "boolean", "RoIMasks"])
@pytest.mark.parametrize(
    ("threshold", "error"), [(80, ValueError), (-0.1, ValueError), ("0.5", TypeError), (True, TypeError)]
)
def test_iou_checks_the_threshold(kind, threshold, error):
    masks = {
        "soft": torch.rand(1, 1, 4, 6),
        "boolean": drawn(LEFT),
        "RoIMasks": random_roi_masks(0, 1, (4, 6)),
    }
    with pytest.raises(error, match="mask_threshold must be a number from 0 to 1, not"):
        mask_iou(masks[kind], masks[kind], threshold)


def test_iou_refuses_pictures_of_different_sizes():
    sizes = r"different sizes \(width x height\): 40 x 30 and 4 x 2\.$"
    for masks in (random_roi_masks(0, 2, (30, 40)), torch.rand(2, 1, 30, 40)):
        with pytest.raises(ValueError, match=sizes):
            mask_iou(masks, drawn(LEFT))
    with pytest.raises(ValueError, match="2 x 4 and 4 x 2"):
        mask_iou(drawn(LEFT).mT, drawn(LEFT))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (drawn(LEFT).numpy(), r"a tensor \[N, H, W\] or a RoIMasks, not ndarray. torch.as_tensor makes one"),
        (drawn(LEFT).tolist(), "a tensor .*, not list. torch.as_tensor makes one"),
        (None, "a tensor .*, not NoneType"),
        (
            {"masks": drawn(LEFT)},
            r'the masks alone, not a whole prediction or target. Write prediction\["masks"\]',
        ),
    ],
)
def test_iou_refuses_what_are_no_masks(masks, message):
    with pytest.raises(TypeError, match=f"masks must be {message}"):
        mask_iou(masks, drawn(LEFT))
    with pytest.raises(TypeError, match=f"others must be {message}"):
        mask_iou(drawn(LEFT), masks)


def test_iou_takes_masks_of_one_number_and_refuses_those_of_several():
    masks = drawn(LEFT, ALL)
    for number in (1, 255):
        assert torch.equal(mask_iou(masks.to(torch.uint8) * number, masks), mask_iou(masks, masks))
    voc = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    message = (
        "others must hold one number besides 0, .* hold 0, 1, 255. Make them boolean, for example masks == 1"
    )
    with unchanged(voc), pytest.raises(ValueError, match=message):
        mask_iou(voc == 1, voc)
    with pytest.raises(ValueError, match="these hold -1, 0, 1, 2, 3, ...."):
        mask_iou(torch.arange(-1, 5).reshape(1, 1, 6), voc)
    with pytest.raises(ValueError, match=r"masks must be \[N, 1, H, W\] or \[N, H, W\], not \[2, 4\]"):
        mask_iou(masks[0], masks)
    with pytest.raises(ValueError, match="Soft masks hold values from 0 to 1; these go from nan to nan"):
        mask_iou(torch.full((1, 2, 4), math.nan), masks)


def test_iou_changes_nothing():
    things = [random_roi_masks(0, 3, (30, 40)), torch.rand(2, 1, 30, 40), torch.rand(2, 30, 40) > 0.5]
    with unchanged(things):
        for masks in things:
            for others in things:
                mask_iou(masks, others)


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))


def random_masks(random, count, height, width):
    """Masks that are empty, dense or sparse; most of them are the one before, with a rectangle redrawn."""
    masks, mask = [], torch.zeros(height, width, dtype=torch.bool)
    for _ in range(count):
        mask = mask.clone() if random.random() < 0.7 else torch.zeros_like(mask)
        (top, bottom), (left, right) = (sorted(random.integers(0, side + 1, 2)) for side in mask.shape)
        part = mask[top:bottom, left:right]
        part[:] = torch.from_numpy(random.random(part.shape) < random.choice([0, 0.1, 0.5, 1]))
        masks.append(mask)
    order = random.permutation(count)
    return torch.stack(masks)[order]


def test_iou_equals_that_of_pycocotools():
    random, seen = np.random.default_rng(0), []
    for _ in range(300):
        n, m, height, width = random.integers(1, [5, 5, 30, 30])
        masks = random_masks(random, n + m, height, width)
        codes = [rle(mask) for mask in masks]
        theirs = torch.from_numpy(coco_mask.iou(codes[:n], codes[n:], [0] * m))
        ours = mask_iou(masks[:n], masks[n:])
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
        seen.append(ours.flatten())
    seen = torch.cat(seen)
    assert min((seen == 0).sum(), ((seen > 0) & (seen < 0.5)).sum(), (seen > 0.5).sum()) > 100


# --- match_instances ----------------------------------------------------------------------------------------


def found(scores, labels=None):
    return {
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels or [1] * len(scores), dtype=torch.int64),
    }


def true(*labels):
    return {"labels": torch.tensor(labels, dtype=torch.int64)}


def test_the_best_score_chooses_first_and_takes_the_largest_iou():
    iou = iou_of([0.9, 0.0], [0.8, 0.6])
    assert match_instances(iou, found([0.9, 0.8]), true(1, 1)).tolist() == [0, 1]
    assert match_instances(iou, found([0.8, 0.9]), true(1, 1)).tolist() == [-1, 0]
    iou = iou_of([0.6, 0.7, 0.5])
    assert match_instances(iou, found([0.9]), true(1, 1, 1)).tolist() == [1]


def test_a_thing_is_matched_once():
    iou = iou_of([0.6], [0.9], [0.8])
    assert match_instances(iou, found([0.9, 0.8, 0.7]), true(1)).tolist() == [0, -1, -1]


def test_only_things_of_the_own_class_are_matched():
    iou = iou_of([0.9, 0.6], [0.9, 0.9])
    assert match_instances(iou, found([0.9, 0.8], [2, 1]), true(1, 2)).tolist() == [1, 0]
    assert match_instances(iou, found([0.9, 0.8], [3, 4]), true(1, 2)).tolist() == [-1, -1]


def test_an_iou_as_large_as_the_threshold_is_a_hit():
    iou = iou_of([0.5])
    assert match_instances(iou, found([0.9]), true(1)).tolist() == [0]
    assert match_instances(iou, found([0.9]), true(1), 0.5).tolist() == [0]
    assert match_instances(iou, found([0.9]), true(1), 0.51).tolist() == [-1]
    assert match_instances(iou_of([1]), found([0.9]), true(1), 1).tolist() == [0]


def test_among_equal_scores_the_first_chooses_first():
    iou = iou_of([0.6], [0.9], [0.7])
    assert match_instances(iou, found([0.3, 0.9, 0.9]), true(1)).tolist() == [-1, 0, -1]


def test_among_equal_ious_the_last_thing_is_taken_as_in_coco():
    iou = mask_iou(drawn("####", "##.."), drawn("##..", "..##"))
    assert torch.equal(iou, iou_of([0.5, 0.5], [1, 0]))
    assert match_instances(iou, found([0.9, 0.8]), true(1, 1)).tolist() == [1, 0]


def test_nothing_found_and_nothing_there_can_be_matched():
    nothing = match_instances(torch.zeros(0, 2), found([]), true(1, 1))
    assert nothing.shape == (0,) and nothing.dtype == torch.int64
    assert match_instances(torch.zeros(2, 0), found([0.9, 0.8]), true()).tolist() == [-1, -1]
    assert match_instances(torch.zeros(0, 0), found([]), true()).shape == (0,)


def test_matching_changes_nothing():
    iou, prediction, target = iou_of([0.6, 0.9], [0.9, 0.8]), found([0.7, 0.8]), true(1, 1)
    with unchanged(iou, prediction, target):
        matches = match_instances(iou, prediction, target)
        matches[:] = 7


@pytest.mark.parametrize("shape", [(3, 2), (2,), (2, 3, 1), (2, 2), (0, 3)])
def test_ious_that_do_not_fit_are_refused(shape):
    message = r"iou must be \[2, 3\], instances by things in the target, not \[" + ", ".join(map(str, shape))
    with pytest.raises(ValueError, match=message):
        match_instances(torch.zeros(shape), found([0.9, 0.8]), true(1, 1, 1))


def test_matching_names_missing_keys():
    with pytest.raises(ValueError, match="The prediction has no scores"):
        match_instances(iou_of([1]), true(1), true(1))
    with pytest.raises(ValueError, match="The target has no labels. Its keys are: boxes"):
        match_instances(iou_of([1]), found([0.9]), {"boxes": torch.zeros(1, 4)})


@pytest.mark.parametrize("kind", [np.asarray, torch.Tensor.tolist])
def test_matching_refuses_what_is_no_tensor(kind):
    iou, prediction, target = iou_of([1]), found([0.9]), true(1)
    with pytest.raises(TypeError, match=r"iou must be a tensor \[N, M\], .*torch.as_tensor makes one"):
        match_instances(kind(iou), prediction, target)
    with pytest.raises(TypeError, match="The prediction: scores must be a tensor"):
        match_instances(iou, prediction | {"scores": kind(prediction["scores"])}, target)
    with pytest.raises(TypeError, match="The target: labels must be a tensor"):
        match_instances(iou, prediction, {"labels": kind(target["labels"])})
    with pytest.raises(TypeError, match="The prediction must be a dict .*, not list"):
        match_instances(iou, [prediction], target)


def test_matching_refuses_nan_and_columns():
    iou, prediction, target = iou_of([1], [0.6]), found([0.9, 0.8]), true(1)
    with pytest.raises(ValueError, match=r"iou has 1 values that are NaN. Make it with mask_iou or box_iou"):
        match_instances(iou_of([1], [math.nan]), prediction, target)
    with pytest.raises(ValueError, match=r"scores that are NaN \(not a number\): 1 of 2"):
        match_instances(iou, found([0.9, math.nan]), target)
    column = prediction | {"scores": prediction["scores"][:, None]}
    with pytest.raises(
        ValueError, match=r"The prediction: scores must be \[N\], .*not \[2, 1\]. Use scores.flatten"
    ):
        match_instances(iou, column, target)
    with pytest.raises(ValueError, match=r"The target: labels must be \[N\], .*not \[1, 1\]"):
        match_instances(iou, prediction, {"labels": target["labels"][:, None]})


def test_what_lies_in_a_crowd_region_is_ignored():
    """A thing of its own goes before the region; only a region of the same class counts; many may lie in one."""
    masks = drawn("#... ....", "##.. ....", "..#. ....", "...# ....", ".... ####")
    prediction = found([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 1, 2, 1])
    target = true(1, 1) | {"masks": drawn("##.. ....", "#### ...."), "iscrowd": torch.tensor([0, 1])}
    iou = mask_iou(masks, target["masks"], iscrowd=target["iscrowd"])
    assert torch.equal(iou, iou_of([1 / 2, 1], [1, 1], [0, 1], [0, 1], [0, 0]))
    assert match_instances(iou, prediction, target).tolist() == [0, -2, -2, -1, -1]
    misses, false_alarms = count_mistakes(
        prediction | {"masks": masks}, target, torch.tensor([0.0, 0.75, 0.95])
    )
    assert misses.tolist() == [0, 0, 1] and false_alarms.tolist() == [2, 0, 0]


def test_iscrowd_must_fit_the_others():
    with pytest.raises(
        ValueError, match=r"iscrowd must be \[2\], one number for each of the others, not \[1\]"
    ):
        mask_iou(drawn(LEFT), drawn(LEFT, ALL), iscrowd=torch.tensor([1]))
    with pytest.raises(TypeError, match="iscrowd must be a tensor .*, not list"):
        mask_iou(drawn(LEFT), drawn(LEFT), iscrowd=[1])
    for other in (ALL, NOTHING):
        assert mask_iou(drawn(NOTHING), drawn(other), iscrowd=torch.tensor([1])) == 0


def random_picture(random, classes, noisy):
    """A prediction and a target: rectangles in heaps, on a grid of 4 pixels, where many IoU are equal, or noisy."""
    heaps = random.integers([1, 1, 2, 2], [5, 5, 6, 6], (2, 4)) * 4  # left, top, width, height

    def instances(count):
        which = random.integers(2, size=count)
        masks = torch.zeros(count, 48, 48, dtype=torch.bool)
        for mask, (x, y, w, h) in zip(masks, heaps[which]):
            dx, dy, dw, dh = random.integers(-1, 2, 4) * 4 * (random.random(4) < 0.3)
            mask[y + dy : y + dy + h + dh, x + dx : x + dx + w + dw] = True
        if noisy:
            masks &= torch.from_numpy(random.random(masks.shape) < 0.95)
        labels = (
            np.where(random.random(count) < 0.8, which % classes, random.integers(classes, size=count)) + 1
        )
        return {"labels": torch.from_numpy(labels), "masks": masks}

    prediction, target = instances(random.integers(0, 9)), instances(random.integers(0, 6))
    scores = random.integers(1, 10, len(prediction["labels"])) / 16  # some are equal
    return prediction | {"scores": torch.from_numpy(scores).float()}, target


def random_pictures(classes=3, noisy=False, count=300):
    random = np.random.default_rng(0)
    return [random_picture(random, classes, noisy) for _ in range(count)]


def coco_dataset(instances, classes):
    """What pycocotools takes: one list of annotations for all pictures, numbered from 1."""
    annotations = []
    for image_id, picture in enumerate(instances):
        for row, (label, mask) in enumerate(zip(picture["labels"].tolist(), picture["masks"])):
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label, "row": row}
            annotation |= {"segmentation": rle(mask), "area": int(mask.sum())}
            annotation["iscrowd"] = int(picture["iscrowd"][row]) if "iscrowd" in picture else 0
            if "scores" in picture:
                annotation["score"] = picture["scores"][row].item()
            annotations.append(annotation)
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": image_id, "height": 48, "width": 48} for image_id in range(len(instances))],
        "categories": [{"id": label} for label in range(1, classes + 1)],
        "annotations": annotations,
    }
    dataset.createIndex()
    return dataset


def coco_evaluation(pairs, classes, thresholds):
    with contextlib.redirect_stdout(io.StringIO()):
        predictions, targets = zip(*pairs)
        evaluation = COCOeval(coco_dataset(targets, classes), coco_dataset(predictions, classes), "segm")
        evaluation.params.iouThrs, evaluation.params.maxDets = np.array(thresholds), [1000]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def coco_matches(evaluation, pairs, number):
    """For each picture what `match_instances` should give, at the threshold with this number."""
    matches = [torch.full((len(prediction["labels"]),), -1) for prediction, _ in pairs]
    for result in filter(None, evaluation.evalImgs):
        for found_id, true_id in zip(result["dtIds"], result["dtMatches"][number].astype(int)):
            if true_id:
                row, thing = evaluation.cocoDt.anns[found_id]["row"], evaluation.cocoGt.anns[true_id]
                matches[result["image_id"]][row] = -2 if thing["iscrowd"] else thing["row"]
    return matches


@pytest.mark.parametrize("crowds", [False, True], ids=["", "with crowds"])
@pytest.mark.parametrize("noisy", [True, False], ids=["noisy", "with equal IoUs"])
def test_matches_equal_those_of_pycocotools(noisy, crowds):
    pairs, thresholds = random_pictures(noisy=noisy), (0.5, 0.75)
    if crowds:
        random = np.random.default_rng(1)
        for _, target in pairs:
            target["iscrowd"] = torch.from_numpy((random.random(len(target["labels"])) < 0.3).astype(int))
    evaluation = coco_evaluation(pairs, 3, thresholds)
    hits = misses = ignored = beaten = other_class = equal = 0
    wrong = []
    for number, threshold in enumerate(thresholds):
        theirs = coco_matches(evaluation, pairs, number)
        for picture, ((prediction, target), expected) in enumerate(zip(pairs, theirs)):
            iou = mask_iou(prediction["masks"], target["masks"], iscrowd=target.get("iscrowd"))
            matches = match_instances(iou, prediction, target, threshold)
            if not torch.equal(matches, expected):
                wrong.append((threshold, picture, matches.tolist(), expected.tolist()))
            near = iou >= threshold
            same = near & (prediction["labels"][:, None] == target["labels"])
            hit = expected >= 0
            hits, misses = hits + hit.sum(), misses + (~hit).sum()
            ignored += (expected == -2).sum()
            beaten += (same.any(1) & ~hit).sum()
            other_class += (near.any(1) & ~same.any(1)).sum()
            best = torch.where(same, iou, -1)
            equal += sum(((row == row.max()) & (row > 0)).sum() > 1 for row in best if len(row))
    assert min(hits, misses, beaten, other_class) > 100  # so that it can fail
    assert noisy or equal > 50
    assert not crowds or ignored > 100
    assert not wrong, f"{len(wrong)} of {2 * len(pairs)} differ; the first (ours, theirs): {wrong[0]}"


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.7])
def test_what_lower_scores_do_changes_nothing_for_higher_ones(threshold):
    kept = 0
    for prediction, target in random_pictures(count=100):
        iou = mask_iou(prediction["masks"], target["masks"])
        matches = match_instances(iou, prediction, target, threshold)
        for score in prediction["scores"].unique().tolist():
            keep = prediction["scores"] >= score
            first = {key: value[keep] for key, value in prediction.items()}
            assert torch.equal(match_instances(iou[keep], first, target, threshold), matches[keep])
            kept += 0 < keep.sum() < len(keep)
    assert kept > 100


def test_mistakes_by_hand():
    found = {"labels": torch.tensor([1, 1, 2]), "scores": torch.tensor([0.9, 0.8, 0.3])}
    found["masks"] = drawn(LEFT, LEFT, RIGHT)
    target = {"labels": torch.tensor([1, 2]), "masks": drawn(LEFT, RIGHT)}
    misses, alarms = count_mistakes(found, target, torch.tensor([0.0, 0.3, 0.31, 0.8, 0.9, 1.0]))
    assert misses.tolist() == [0, 0, 1, 1, 1, 2] and misses.dtype == torch.int64
    assert alarms.tolist() == [1, 1, 1, 1, 0, 0] and alarms.dtype == torch.int64


@pytest.mark.parametrize("mask_threshold", [0.3, 0.5, 0.8])
def test_mistakes_equal_those_of_a_filtered_prediction(mask_threshold):
    torch.manual_seed(0)
    target = render_scene(1)[1]
    count = len(target["labels"])
    found = {"masks": target["masks"][:, None] * torch.rand(count, 1, 480, 640), "labels": target["labels"]}
    found["scores"] = torch.rand(count)
    thresholds = torch.tensor([0.0, 0.2, 0.55, 0.9])
    misses, alarms = count_mistakes(found, target, thresholds, mask_threshold)
    for threshold, missed, wrong in zip(thresholds, misses, alarms):
        [kept] = filter_model_output([found], threshold.item())
        iou = mask_iou(kept["masks"], target["masks"], mask_threshold)
        hits = (match_instances(iou, kept, target) >= 0).sum()
        assert (missed, wrong) == (count - hits, len(kept["scores"]) - hits)


def test_mistakes_where_nothing_is_found_or_nothing_is_there():
    something = {"labels": torch.tensor([1]), "scores": torch.tensor([0.5]), "masks": drawn(ALL)}
    nothing = {
        "labels": torch.tensor([], dtype=torch.int64),
        "scores": torch.tensor([]),
        "masks": drawn(ALL)[:0],
    }
    thresholds = torch.tensor([0.4, 0.6])
    for found, target, missed, wrong in (
        (nothing, something, [1, 1], [0, 0]),
        (something, nothing, [0, 0], [1, 0]),
        (nothing, nothing, [0, 0], [0, 0]),
    ):
        misses, alarms = count_mistakes(found, target, thresholds)
        assert (misses.tolist(), alarms.tolist()) == (missed, wrong)


# --- precision_recall ---------------------------------------------------------------------------------------


def test_precision_and_recall_by_hand():
    hits, scores = torch.tensor([False, True, True, False]), torch.tensor([0.8, 0.9, 0.7, 0.1])
    with unchanged(hits, scores):
        precision, recall = precision_recall(hits, scores, 4)
    assert torch.equal(precision, torch.tensor([1, 1 / 2, 2 / 3, 2 / 4], dtype=torch.float64))
    assert torch.equal(recall, torch.tensor([1 / 4, 1 / 4, 2 / 4, 2 / 4], dtype=torch.float64))


def test_equal_scores_keep_their_order():
    precision, _ = precision_recall(torch.tensor([False, True, True]), torch.tensor([0.5, 0.5, 0.9]), 2)
    assert precision.tolist() == [1, 1 / 2, 2 / 3]


def test_recall_of_no_things_is_nan():
    precision, recall = precision_recall(torch.tensor([False, False]), torch.tensor([0.9, 0.8]), 0)
    assert precision.tolist() == [0, 0]
    assert recall.isnan().tolist() == [True, True]


@pytest.mark.parametrize("total", [0, 3])
def test_no_instances_have_an_empty_curve(total):
    precision, recall = precision_recall(torch.zeros(0, dtype=torch.bool), torch.zeros(0), total)
    assert precision.shape == recall.shape == (0,)


HITS, SCORES = torch.tensor([True, False]), torch.tensor([0.9, 0.8])


@pytest.mark.parametrize(
    ("hits", "scores", "total", "error", "message"),
    [
        (
            HITS.numpy(),
            SCORES,
            2,
            TypeError,
            "hits must be a tensor .*, not ndarray. torch.as_tensor makes one",
        ),
        (HITS.tolist(), SCORES, 2, TypeError, "hits must be a tensor .*, not list"),
        (HITS, SCORES.numpy(), 2, TypeError, "scores must be a tensor .*, not ndarray"),
        (HITS, SCORES.tolist(), 2, TypeError, "scores must be a tensor .*, not list"),
        (
            HITS.long(),
            SCORES,
            2,
            TypeError,
            "hits must be bool, not torch.int64. Of matches make hits by: matches >= 0",
        ),
        (HITS, SCORES[:1], 2, ValueError, r"of one length, not \[2\] and \[1\]"),
        (HITS[:, None], SCORES[:, None], 2, ValueError, r"of one length, not \[2, 1\] and \[2, 1\]"),
        (
            HITS,
            SCORES * math.nan,
            2,
            ValueError,
            "scores has 2 values that are NaN .*, of 2. Look for NaN in",
        ),
        (HITS, SCORES, 2.0, TypeError, r"total must be a whole number, not 2.0 \(float\)"),
        (HITS, SCORES, None, TypeError, "total must be a whole number, not None"),
        (HITS, SCORES, -1, ValueError, "total must be 0 or more, not -1"),
        (HITS, SCORES, 0, ValueError, "There are 1 hits, but only 0 things to find"),
    ],
)
def test_precision_and_recall_refuse(hits, scores, total, error, message):
    with pytest.raises(error, match=message):
        precision_recall(hits, scores, total)


@pytest.mark.parametrize("total", [2, np.int64(2), torch.tensor(2)])
def test_precision_and_recall_take_whole_numbers_of_all_kinds(total):
    precision, recall = precision_recall(HITS, SCORES, total)
    assert precision.tolist() == [1, 0.5] and recall.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("number", "threshold"), [(0, 0.5), (1, 0.75)])
def test_the_area_under_the_curve_is_the_ap_of_pycocotools(number, threshold):
    pairs = random_pictures(classes=1, noisy=True)
    evaluation = coco_evaluation(pairs, 1, (0.5, 0.75))
    hits = [
        match_instances(mask_iou(prediction["masks"], target["masks"]), prediction, target, threshold) >= 0
        for prediction, target in pairs
    ]
    scores = torch.cat([prediction["scores"] for prediction, _ in pairs])
    total = sum(len(target["labels"]) for _, target in pairs)
    precision, recall = precision_recall(torch.cat(hits), scores, total)
    envelope = precision.flip(0).cummax(0).values.flip(0)
    reached = torch.searchsorted(recall, torch.from_numpy(evaluation.params.recThrs))
    ours = torch.cat([envelope, torch.zeros(1)])[reached].mean().item()
    assert 0.03 < ours < 0.9
    assert ours == pytest.approx(evaluation.eval["precision"][number].mean(), abs=1e-12)
    assert recall[-1].item() == evaluation.eval["recall"][number].item()


# --- confusion_matrix -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, torch.Tensor.tolist])
def test_maps_that_are_no_tensors_are_refused(kind):
    class_map = torch.tensor([[0, 1], [2, 2]])
    with pytest.raises(
        TypeError, match="predicted must be a tensor of class numbers.*torch.as_tensor makes one"
    ):
        confusion_matrix(kind(class_map), class_map, 3)
    with pytest.raises(TypeError, match="true must be a tensor of class numbers"):
        confusion_matrix(class_map, kind(class_map), 3)


@pytest.mark.parametrize("value", [0.25, math.nan])
def test_maps_of_broken_numbers_are_refused(value):
    class_map, scores = torch.tensor([[0, 1]]), torch.tensor([[1, value]])
    with pytest.raises(
        ValueError, match=rf"whole numbers, but predicted holds {value}. .*output.argmax\(1\)"
    ):
        confusion_matrix(scores, class_map, 3)
    with pytest.raises(ValueError, match=f"whole numbers, but true holds {value}"):
        confusion_matrix(class_map, scores, 3)


def test_pixels_to_ignore_are_refused_with_advice_that_works():
    predicted, true = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 255]], dtype=torch.uint8)
    with pytest.raises(
        ValueError, match="go from 0 to 255. In PASCAL VOC, 255 marks pixels to ignore. Leave"
    ) as refusal:
        confusion_matrix(predicted, true, 3)
    step, call = str(refusal.value).split("Leave them out: ")[1].rstrip(".").split(", then ")
    names = {"true": true, "predicted": predicted, "confusion_matrix": confusion_matrix}
    exec(step, names)
    assert eval(call, names).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="go from 0 to 3. Is num_classes the number of all classes"):
        confusion_matrix(torch.tensor([[3]]), torch.tensor([[0]]), 3)


@pytest.mark.parametrize(
    ("num_classes", "error", "message"),
    [
        (["cup", "coin"], TypeError, "num_classes must be a whole number, not"),
        (2.0, TypeError, r"num_classes must be a whole number, not 2.0 \(float\)"),
        (0, ValueError, "num_classes must be 1 or more, not 0"),
    ],
)
def test_the_number_of_classes_is_checked(num_classes, error, message):
    with pytest.raises(error, match=message):
        confusion_matrix(torch.zeros(2, 2), torch.zeros(2, 2), num_classes)


def test_reliability_by_hand():
    scores = torch.tensor([0.05, 0.62, 0.68, 0.69, 1.0])
    hits = torch.tensor([False, True, False, False, True])
    counts, means, shares = reliability(hits, scores)
    assert counts.tolist() == [1, 0, 0, 0, 0, 0, 3, 0, 0, 1]
    assert means[[0, 6, 9]].tolist() == pytest.approx([0.05, 0.663333, 1.0])
    assert shares[[0, 6, 9]].tolist() == pytest.approx([0, 1 / 3, 1])
    assert means[1].isnan() and shares[1].isnan()
    assert expected_calibration_error(hits, scores) == pytest.approx(
        (0.05 + 3 * (0.663333 - 1 / 3)) / 5, abs=1e-6
    )


def test_scores_that_mean_what_they_say_are_calibrated():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(200_000, generator=generator)
    hits = torch.rand(200_000, generator=generator) < scores
    assert expected_calibration_error(hits, scores) < 0.005
    assert expected_calibration_error(~hits, scores) > 0.4
    assert math.isnan(expected_calibration_error(hits[:0], scores[:0]))


def test_reliability_refuses_what_precision_recall_refuses():
    with pytest.raises(TypeError, match="hits must be bool, not torch.int64"):
        reliability(torch.ones(2, dtype=torch.int64), torch.ones(2))
    with pytest.raises(ValueError, match="bins must be 1 or more, not 0"):
        reliability(torch.ones(2, dtype=torch.bool), torch.ones(2), bins=0)
