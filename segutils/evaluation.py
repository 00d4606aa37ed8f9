"""How good is a model: class maps compared, masks compared, and instances matched with what is really there."""

import operator

import torch
from torch import Tensor
from torchvision.ops import box_iou

from segutils.predictions import Prediction, check_prediction, mask_crops
from segutils.roi_masks import Crop, RoIMasks, check_fraction


def confusion_matrix(predicted: Tensor, true: Tensor, num_classes: int) -> Tensor:
    """Count pixels by true class (rows) and predicted class (columns): int64 [C, C]. Add them up over pictures.

    predicted, true: class maps of one shape, whole numbers from 0 to num_classes - 1.

    Pixels to ignore (255 in PASCAL VOC) have to be left out of both first: `keep = true != 255`, then `predicted[keep]`
    and `true[keep]`.

    Raises `TypeError` when the maps are no tensors or `num_classes` is no whole number, and `ValueError` when the maps
    differ in shape, or hold other numbers.
    """
    for name, class_map in (("predicted", predicted), ("true", true)):
        _check_tensor(name, class_map, "of class numbers, for example [H, W]")
    _check_count("num_classes", num_classes, at_least=1)
    if predicted.shape != true.shape:
        raise ValueError(f"The maps differ in shape: {list(predicted.shape)} and {list(true.shape)}.")
    for name, class_map in (("predicted", predicted), ("true", true)):
        broken = class_map[class_map != class_map.round()] if class_map.is_floating_point() else class_map[:0]
        if broken.numel():  # NaN is among them
            raise ValueError(
                f"Class maps hold whole numbers, but {name} holds {broken[0]:.3g}. Of a model's output [N, C, H, W] "
                "the class numbers are output.argmax(1)."
            )
    pairs = torch.stack([true.flatten(), predicted.flatten()]).long()
    if pairs.numel() and not (0 <= int(pairs.min()) and int(pairs.max()) < num_classes):
        hint = "Is num_classes the number of all classes, the background included?"
        if pairs[0].max() == 255:
            hint = (
                "In PASCAL VOC, 255 marks pixels to ignore. Leave them out: keep = true != 255, then "
                f"confusion_matrix(predicted[keep], true[keep], {num_classes})."
            )
        raise ValueError(
            f"Class maps hold numbers from 0 to {num_classes - 1}; these go from {pairs.min()} to {pairs.max()}. {hint}"
        )
    return torch.bincount(pairs[0] * num_classes + pairs[1], minlength=num_classes**2).reshape(
        num_classes, -1
    )


def pixel_accuracy(confusion: Tensor) -> float:
    """The share of pixels that got their true class, 0 to 1; NaN when there are no pixels."""
    return (confusion.diag().sum() / confusion.sum()).item()


def class_iou(confusion: Tensor) -> Tensor:
    """For each class, pixels that both maps give it, over pixels that either does: [C], NaN where neither does."""
    both = confusion.diag()
    return both / (confusion.sum(dim=0) + confusion.sum(dim=1) - both)


def mean_iou(confusion: Tensor) -> float:
    """The mean of `class_iou` over the classes that occur, 0 to 1 (Long and others 2015, arXiv 1411.4038)."""
    return class_iou(confusion).nanmean().item()


def mask_iou(
    masks: Tensor | RoIMasks,
    others: Tensor | RoIMasks,
    mask_threshold: float = 0.5,
    iscrowd: Tensor | None = None,
) -> Tensor:
    """IoU (intersection over union) of each of N masks with each of M others: float64 [N, M], 0 to 1.

    Masks are soft, boolean, or a `RoIMasks`, of one picture; soft ones are cut at `mask_threshold` (0 to 1). It is 0
    where both masks are empty. Masks of whole numbers are taken too, as long as one number stands for the thing, 1 or
    255, and 0 for the rest.

    iscrowd: [M], the target's, where it has crowd regions. How much of a mask lies in such a region is then given
    instead of their IoU, as COCO does, since the region is larger than any thing in it.

    Raises `TypeError` or `ValueError` when the threshold is no number from 0 to 1, when masks are none, when the two
    belong to pictures of different sizes, or when `iscrowd` is not [M].
    """
    _check_masks("masks", masks)
    _check_masks("others", others)
    crops, other_crops = mask_crops(masks, mask_threshold), mask_crops(others, mask_threshold)
    if masks.shape[-2:] != others.shape[-2:]:
        sizes = " and ".join(f"{m.shape[-1]} x {m.shape[-2]}" for m in (masks, others))
        raise ValueError(f"The masks belong to pictures of different sizes (width x height): {sizes}.")
    if iscrowd is not None:
        _check_tensor("iscrowd", iscrowd, "[M], one number for each of the others")
        if list(iscrowd.shape) != [len(others)]:
            raise ValueError(
                f"iscrowd must be [{len(others)}], one number for each of the others, not {list(iscrowd.shape)}."
            )
    return crop_iou(crops, other_crops, iscrowd)


def crop_iou(crops: list[Crop], others: list[Crop], iscrowd: Tensor | None = None) -> Tensor:
    """`mask_iou` of masks that have been cut down to their rectangles."""
    crowds = [False] * len(others) if iscrowd is None else iscrowd.bool().tolist()
    iou = torch.zeros(len(crops), len(others), dtype=torch.float64)
    frames, other_frames = (
        torch.tensor([(x, y, x + m.shape[1], y + m.shape[0]) for x, y, m in c]).reshape(-1, 4)
        for c in (crops, others)
    )
    areas, other_areas = ([int(torch.count_nonzero(crop.mask)) for crop in c] for c in (crops, others))
    for i, j in torch.nonzero(box_iou(frames, other_frames)).tolist():  # the others share no pixel
        left, top = torch.maximum(frames[i, :2], other_frames[j, :2]).tolist()
        right, bottom = torch.minimum(frames[i, 2:], other_frames[j, 2:]).tolist()
        mask, other = (m[top - y : bottom - y, left - x : right - x] for x, y, m in (crops[i], others[j]))
        shared = int(torch.count_nonzero(mask & other))
        whole = areas[i] if crowds[j] else areas[i] + other_areas[j] - shared
        iou[i, j] = shared / max(whole, 1)  # both may be empty
    return iou


def match_instances(
    iou: Tensor, prediction: Prediction, target: Prediction, iou_threshold: float = 0.5
) -> Tensor:
    """Find out which instances are hits: for each, the row of the target that it matches, or -1: int64 [N].

    As COCO does it: the best score chooses first, among the things of its own class that are still free and whose
    IoU with it is at least `iou_threshold`, and takes the one with the largest. What lower scores do changes nothing
    for the higher ones.

    An instance without a match that lies in a crowd region of its class gets -2 and is to be ignored: many things are
    there, none marked, so nobody knows whether it is right. Any number of instances may lie in one.

    iou: [N, M], from `mask_iou`; for boxes from `torchvision.ops.box_iou`, as long as there are no crowd regions.
    prediction, target: dicts with `labels`; the prediction with `scores` too. Rows of the target in which `iscrowd` is
        1, if it has that key, are crowd regions: hand `iscrowd` to `mask_iou` too.

    Raises `TypeError` or `ValueError` when the threshold is no number from 0 to 1, when `iou` does not fit the two or
    holds NaN, when a key is missing, or when scores are NaN.
    """
    check_prediction(prediction, needs=("labels", "scores"))
    check_prediction(target, needs=("labels",), where="The target")
    for where, one, keys in (
        ("The prediction", prediction, ("labels", "scores")),
        ("The target", target, ("labels",)),
    ):
        for key in keys:
            if one[key].ndim != 1:
                raise ValueError(
                    f"{where}: {key} must be [N], one number for each instance, not {list(one[key].shape)}. "
                    f"Use {key}.flatten()."
                )
    _check_tensor("iou", iou, "[N, M], instances by things in the target")
    if list(iou.shape) != [len(prediction["labels"]), len(target["labels"])]:
        raise ValueError(
            f"iou must be [{len(prediction['labels'])}, {len(target['labels'])}], instances by things in the target, "
            f"not {list(iou.shape)}."
        )
    if iou.isnan().any():
        raise ValueError(
            f"iou has {int(iou.isnan().sum())} values that are NaN. Make it with mask_iou or box_iou."
        )
    check_fraction("iou_threshold", iou_threshold)
    device = prediction["labels"].device
    matches, iou = torch.full((len(iou),), -1, device=device), iou.to(device)
    possible = (iou >= iou_threshold) & (prediction["labels"][:, None] == target["labels"].to(device))
    crowds = crowd_rows(target).to(device)
    in_crowd = (possible & crowds).any(dim=1)
    possible &= ~crowds
    for i in prediction["scores"].argsort(descending=True, stable=True).tolist():
        if possible[i].any():
            left = torch.where(possible[i], iou[i], -1)
            # Of equal ones the last, as in COCO's own tools.
            best = int(torch.nonzero(left == left.max())[-1])
            matches[i] = best
            possible[:, best] = False
        elif in_crowd[i]:
            matches[i] = -2
    return matches


def crowd_rows(target: Prediction) -> Tensor:
    """Which rows of a target are crowd regions: bool [M], none where it has no `iscrowd`."""
    labels = target["labels"]
    return target["iscrowd"].bool() if "iscrowd" in target else torch.zeros_like(labels, dtype=torch.bool)


def precision_recall(hits: Tensor, scores: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Precision and recall when only the best k instances are kept, for k = 1 to N: two tensors [N], 0 to 1.

    Precision is the share of the kept instances that are hits, recall the share of the `total` things that are hit
    (NaN when there are none).

    hits: bool [N], for example `match_instances(...) >= 0`. scores: [N], in the same order.

    Raises `TypeError` or `ValueError` when the two are no tensors, when `hits` is not boolean, when they differ in
    length, when scores are NaN, when `total` is no whole number, or when there are more hits than things.
    """
    _check_hits(hits, scores)
    _check_count("total", total, at_least=0)
    if int(hits.sum()) > total:
        raise ValueError(f"There are {int(hits.sum())} hits, but only {total} things to find.")
    ranked = hits[scores.argsort(descending=True, stable=True)].cumsum(0).double()
    return ranked / torch.arange(1, len(ranked) + 1, device=ranked.device), ranked / total


def count_mistakes(
    prediction: Prediction, target: Prediction, thresholds: Tensor, mask_threshold: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Count misses and false alarms of one picture at many score thresholds: two tensors, int64 [T].

    A hit is what `match_instances` says it is, at mask IoU 0.5; what lies in crowd regions is ignored. Add the counts
    up over pictures to choose a threshold.

    prediction, target: dicts with `labels` and `masks`; the prediction with `scores` too. thresholds: [T], 0 to 1.

    Raises what `mask_iou` and `match_instances` raise.
    """
    iou = mask_iou(prediction["masks"], target["masks"], mask_threshold, target.get("iscrowd"))
    matches = match_instances(iou, prediction, target)
    kept = prediction["scores"] >= thresholds[:, None].to(prediction["scores"])  # one row for each threshold
    things = int((~crowd_rows(target)).sum())
    return things - (kept & (matches >= 0)).sum(dim=1), (kept & (matches == -1)).sum(dim=1)


def reliability(hits: Tensor, scores: Tensor, bins: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Compare scores with what comes true: sort instances by score into equal bins from 0 to 1.

    hits: bool [N], for example `match_instances(...) >= 0`. scores: [N], 0 to 1, in the same order.

    Returns, for each bin, the number of instances int64 [bins], their mean score and the share of hits among them, both
    float64 [bins], NaN where a bin is empty. Of instances with a score of 0.8, 80% should be hits (Guo and others 2017,
    arXiv 1706.04599; for detectors Kueppers and others 2020, arXiv 2004.13546).

    Raises `TypeError` or `ValueError` when the two are no tensors, when `hits` is not boolean, when they differ in
    length, when scores are NaN, or when `bins` is no whole number of at least 1.
    """
    _check_hits(hits, scores)
    _check_count("bins", bins, at_least=1)
    scores = scores.double()
    which = (scores * bins).long().clamp(max=bins - 1)  # a score of 1 belongs to the last bin
    counts = torch.bincount(which, minlength=bins)
    mean_scores, shares = (
        torch.bincount(which, weights=values.double(), minlength=bins) / counts for values in (scores, hits)
    )
    return counts, mean_scores, shares


def expected_calibration_error(hits: Tensor, scores: Tensor, bins: int = 10) -> float:
    """How far, on average over instances, a bin's mean score is from its share of hits: 0 (best) to 1.

    Takes and raises what `reliability` does; NaN when there are no instances.
    """
    counts, mean_scores, shares = reliability(hits, scores, bins)
    return ((mean_scores - shares).abs().nan_to_num() * counts).sum().div(counts.sum()).item()


def _check_tensor(name: str, value: Tensor, form: str) -> None:
    """Raise `TypeError` unless `value`, called `name`, is a tensor; `form` says what it should look like."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a tensor {form}, not {type(value).__name__}. "
            "torch.as_tensor makes one of an array or a list."
        )


def _check_hits(hits: Tensor, scores: Tensor) -> None:
    """Raise `TypeError` or `ValueError` unless both are [N]: whether each instance hits, and its score."""
    _check_tensor("hits", hits, "[N] of bool")
    _check_tensor("scores", scores, "[N]")
    if hits.dtype != torch.bool:
        raise TypeError(f"hits must be bool, not {hits.dtype}. Of matches make hits by: matches >= 0.")
    if hits.shape != scores.shape or hits.ndim != 1:
        raise ValueError(
            f"hits and scores must be of one length, not {list(hits.shape)} and {list(scores.shape)}."
        )
    if scores.isnan().any():
        raise ValueError(
            f"scores has {int(scores.isnan().sum())} values that are NaN (not a number), of {len(scores)}. "
            "Look for NaN in the picture or in the model's weights."
        )


def _check_count(name: str, value: int, at_least: int) -> None:
    """Raise `TypeError` or `ValueError` unless `value`, called `name`, is a whole number, and large enough."""
    try:
        operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be a whole number, not {value!r:.40} ({type(value).__name__})."
        ) from None
    if value < at_least:
        raise ValueError(f"{name} must be {at_least} or more, not {value}.")


def _check_masks(name: str, masks: Tensor | RoIMasks) -> None:
    """Raise `TypeError` or `ValueError` unless masks are a tensor or a `RoIMasks`, and say clearly what is in them."""
    if isinstance(masks, RoIMasks):
        return
    if isinstance(masks, dict):
        raise TypeError(
            f'{name} must be the masks alone, not a whole prediction or target. Write prediction["masks"].'
        )
    _check_tensor(name, masks, "[N, H, W] or a RoIMasks")
    if masks.is_floating_point() or masks.dtype == torch.bool or masks.numel() == 0:
        return
    if ((masks != 0) & (masks != masks.max())).any():
        numbers = masks.unique().tolist()
        listed = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
        raise ValueError(
            f"{name} must hold one number besides 0, for the pixels of the thing; these hold {listed}. "
            "Make them boolean, for example masks == 1. In PASCAL VOC, 255 marks pixels to ignore."
        )
