"""Which errors cost how much: the six types of TIDE (Bolya and others 2020, arXiv 2008.08115).

Each instance that is no hit is one error, the first of these that fits, and each thing that nothing stands for is a
miss. IoU is compared with things of the instance's own class, or of other classes:

    location    0.1 to 0.5 with a thing of its class: nearly there
    class       at least 0.5 with a thing of another class
    duplicate   at least 0.5 with a thing of its class, which another instance has hit
    background  at most 0.1 with any thing
    both        the rest: 0.1 to 0.5 with a thing of another class
    missed      a thing that is neither hit, nor would be by mending a location or a class
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import nan
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

from segutils.average_precision import check_sizes, pair_up
from segutils.evaluation import crop_iou, crowd_rows, match_instances, precision_recall
from segutils.predictions import Prediction, mask_crops
from segutils.rle import RLE, decode_rle
from segutils.roi_masks import Crop, RoIMasks

NEAR, FAR = 0.5, 0.1
"""The two IoU thresholds above."""

MAX_INSTANCES = 100
"""So many instances of a picture count."""

ERROR_TYPES = ("class", "location", "both", "duplicate", "background", "missed")


class Error(NamedTuple):
    """One error. Rows and pictures are counted from 0, as lists are indexed."""

    type: str  # one of ERROR_TYPES
    picture: int
    instance: int | None  # a row of the prediction; None for what was missed
    thing: int | None  # the row of the target that it is about; None for background that touches nothing
    score: float  # NaN for what was missed
    iou: float  # with that thing; 0 for what was missed


class ErrorReport(NamedTuple):
    """What `find_errors` returns."""

    ap: float  # at IoU 0.5, 0 to 1
    gains: dict[str, float]  # by type: how much higher it would be if all of them were mended (dAP)
    errors: list[Error]  # the most confident first, what was missed last


class _Verdict(NamedTuple):
    """An instance, as the average precision sees it."""

    label: int
    score: float
    hit: bool
    error: Error | None  # None for hits
    mended_label: int | None  # the class in which it would be a hit, once mended; None if it would be gone


def find_errors(
    predictions: Iterable[Prediction],
    targets: Iterable[Prediction],
    categories: Sequence[str] | None = None,
    iou_type: str = "segm",
) -> ErrorReport:
    """Sort all errors by type, and price each type by mending it.

    Mending a class or a location makes a hit of the error with the best score for its thing, and removes the others,
    or all if the thing is hit already. Duplicates, background and both are removed. What was missed is no longer asked
    for. Nothing is filtered first, and of each picture the 100 best instances count. What lies in crowd regions is no
    error.

    Gains do not add up to 1 - AP: mending two types together gains more, or less, than one after the other.

    AP is that of TIDE: at IoU 0.5, the mean over all classes that occur in predictions or targets, and 0 for a class
    that is not in the targets.

    Args:
        predictions, targets, categories, iou_type: as for `evaluate`.

    Raises:
        TypeError, ValueError: as `evaluate` does.
    """
    verdicts: list[_Verdict] = []
    missed: list[tuple[Error, int]] = []  # and the label of each
    things: list[int] = []  # the labels of all
    for picture, (prediction, target) in enumerate(pair_up(predictions, targets, iou_type, categories)):
        if iou_type == "segm":
            check_sizes(picture + 1, *(_image_size(one["masks"]) for one in (prediction, target)))
        things += target["labels"][~crowd_rows(target)].tolist()
        for found, all_of_them in zip(_judge(picture, prediction, target, iou_type), (verdicts, missed)):
            all_of_them += found
    ap = _mean_ap([(v.label, v.score, v.hit) for v in verdicts], things)
    gains = {}
    for kind in ERROR_TYPES:
        points, left = [], list(things)
        for v in verdicts:
            if v.error is None or v.error.type != kind:
                points.append((v.label, v.score, v.hit))
            elif v.mended_label is not None:
                points.append((v.mended_label, v.score, True))
        if kind == "missed":
            for _, label in missed:
                left.remove(label)
        gains[kind] = max(_mean_ap(points, left) - ap, 0.0)
    errors = sorted((v.error for v in verdicts if v.error), key=lambda error: -error.score)
    return ErrorReport(ap, gains, errors + [error for error, _ in missed])


def _judge(
    picture: int, prediction: Prediction, target: Prediction, iou_type: str
) -> tuple[list[_Verdict], list[tuple[Error, int]]]:
    """The instances of one picture, best first, without those to ignore; and what was missed, with its label."""
    best = prediction["scores"].argsort(descending=True, stable=True)[:MAX_INSTANCES]
    kept = {name: prediction[name][best] for name in ("labels", "scores")}
    crowds = crowd_rows(target)
    if iou_type == "segm":
        crops = _to_crops(prediction["masks"])
        iou = crop_iou([crops[row] for row in best.tolist()], _to_crops(target["masks"]), crowds)
    else:
        iou = _box_iou(prediction["boxes"][best].double(), target["boxes"].double(), crowds)
    true = {name: target[name] for name in ("labels", "iscrowd") if name in target}
    matches = match_instances(iou, kept, true, NEAR).tolist()
    labels = target["labels"].tolist()
    hit, mendable = {match for match in matches if match >= 0}, set()
    # Only real things are compared from here on.
    iou = torch.where(crowds, 0, iou)
    same = kept["labels"][:, None] == target["labels"]
    was_hit = torch.tensor([thing in hit for thing in range(len(labels))], dtype=torch.bool)
    overlaps = zip(
        *(
            _largest(torch.where(chosen, iou, 0))
            for chosen in (same, ~same, same & was_hit, torch.ones_like(same))
        )
    )
    verdicts = []
    rows = zip(best.tolist(), kept["labels"].tolist(), kept["scores"].tolist(), matches, overlaps)
    for row, label, score, match, (own, other, taken, nearest) in rows:
        if match >= 0:
            verdicts.append(_Verdict(label, score, True, None, None))
        elif match == -1:
            if FAR <= own[0] <= NEAR:
                kind, (overlap, thing) = "location", own
            elif other[0] >= NEAR:
                kind, (overlap, thing) = "class", other
            elif taken[0] >= NEAR:
                kind, (overlap, thing) = "duplicate", taken
            else:
                kind, (overlap, thing) = "background" if nearest[0] <= FAR else "both", nearest
            mended_label = None
            if kind in ("location", "class") and thing not in hit | mendable:
                mendable.add(thing)
                mended_label = labels[thing]
            thing = thing if overlap > 0 else None
            error = Error(kind, picture, row, thing, score, overlap)
            verdicts.append(_Verdict(label, score, False, error, mended_label))
    missed = [
        (Error("missed", picture, None, thing, nan, 0.0), label)
        for thing, label in enumerate(labels)
        if not crowds[thing] and thing not in hit | mendable
    ]
    return verdicts, missed


def _image_size(masks: Tensor | RoIMasks | list[RLE]) -> tuple[int, int] | None:
    if isinstance(masks, list):
        return tuple(masks[0]["size"]) if masks else None
    return tuple(masks.shape[-2:])


def _to_crops(masks: Tensor | RoIMasks | list[RLE]) -> list[Crop]:
    return [decode_rle(rle) for rle in masks] if isinstance(masks, list) else mask_crops(masks)


def _largest(iou: Tensor) -> list[tuple[float, int]]:
    """For each row the largest value and its column; 0 and -1 where there are no columns."""
    if iou.shape[1] == 0:
        return [(0.0, -1)] * len(iou)
    values, columns = iou.max(dim=1)
    return list(zip(values.tolist(), columns.tolist()))


def _box_iou(boxes: Tensor, others: Tensor, crowds: Tensor) -> Tensor:
    """IoU of boxes; for crowd regions, the share of the box that lies in them."""
    corners = (
        torch.maximum(boxes[:, None, :2], others[:, :2]),
        torch.minimum(boxes[:, None, 2:], others[:, 2:]),
    )
    shared = (corners[1] - corners[0]).clamp(min=0).prod(dim=2)
    return torch.where(crowds, shared / box_area(boxes)[:, None], box_iou(boxes, others))


def _mean_ap(points: list[tuple[int, float, bool]], things: list[int]) -> float:
    """AP, the mean over classes, from (label, score, hit) of each instance and the labels of all things."""
    totals = Counter(things)
    aps = []
    for label in totals.keys() | {label for label, *_ in points}:
        mine = [(score, hit) for other, score, hit in points if other == label]
        aps.append(_average_precision(mine, totals[label]) if totals[label] and mine else 0.0)
    return sum(aps) / len(aps) if aps else nan


def _average_precision(points: list[tuple[float, bool]], total: int) -> float:
    """The mean of the best precision that is reached with a recall of 0.00, 0.01, ... 1.00 or more."""
    scores, hits = zip(*points)
    scores, hits = torch.tensor(scores, dtype=torch.float64), torch.tensor(hits)
    precision, recall = precision_recall(hits, scores, total)
    envelope = precision.flip(0).cummax(0).values.flip(0)
    reached = torch.searchsorted(recall, torch.arange(101, dtype=torch.float64) / 100)
    return torch.cat([envelope, torch.zeros(1)])[reached].mean().item()
