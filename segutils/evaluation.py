"""How good is a model: class maps compared, instances matched, and mask AP through torchmetrics."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional as F

from segutils.predictions import Prediction, check_prediction, get_boolean_mask, mask_crops
from segutils.roi_masks import Crop, RoIMasks, check_fraction


def confusion_matrix(predicted: Tensor, true: Tensor, num_classes: int) -> Tensor:
    """Count pixels by true class (rows) and predicted class (columns): int64 [C, C]. Add them up over pictures.

    predicted, true: class maps of one shape, whole numbers from 0 to num_classes - 1.

    Raises `ValueError` when the maps differ in shape, or hold other numbers.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"The maps differ in shape: {list(predicted.shape)} and {list(true.shape)}.")
    pairs = torch.stack([true.flatten(), predicted.flatten()]).long()
    if pairs.numel() and not (0 <= int(pairs.min()) and int(pairs.max()) < num_classes):
        raise ValueError(
            f"Class maps hold numbers from 0 to {num_classes - 1}; these go from {pairs.min()} to {pairs.max()}."
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


def mask_iou(masks: Tensor | RoIMasks, others: Tensor | RoIMasks, mask_threshold: float = 0.5) -> Tensor:
    """IoU (intersection over union) of each of N masks with each of M others: float64 [N, M], 0 to 1.

    Masks are soft, boolean, or a `RoIMasks`, of one picture; soft ones are cut at `mask_threshold` (0 to 1). It is 0
    where both masks are empty.

    Raises `TypeError` or `ValueError` when the threshold is no number from 0 to 1, when masks are none, or when the
    two belong to pictures of different sizes.
    """
    crops, other_crops = mask_crops(masks, mask_threshold), mask_crops(others, mask_threshold)
    if masks.shape[-2:] != others.shape[-2:]:
        sizes = " and ".join(f"{m.shape[-1]} x {m.shape[-2]}" for m in (masks, others))
        raise ValueError(f"The masks belong to pictures of different sizes (width x height): {sizes}.")
    return crop_iou(crops, other_crops)


def crop_iou(crops: list[Crop], others: list[Crop]) -> Tensor:
    """`mask_iou` of masks that have been cut down to their rectangles."""
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
        iou[i, j] = shared / max(areas[i] + other_areas[j] - shared, 1)
    return iou


def match_instances(
    iou: Tensor, prediction: Prediction, target: Prediction, iou_threshold: float = 0.5
) -> Tensor:
    """Find out which instances are hits: for each, the row of the target that it matches, or -1: int64 [N].

    As COCO does it: the best score chooses first, among the things of its own class that are still free and whose
    IoU with it is at least `iou_threshold`, and takes the one with the largest. What lower scores do changes nothing
    for the higher ones.

    iou: [N, M], from `mask_iou`; for boxes from `torchvision.ops.box_iou`.
    prediction, target: dicts with `labels`; the prediction with `scores` too.

    Raises `TypeError` or `ValueError` when the threshold is no number from 0 to 1, when `iou` does not fit the two, or
    when the target has crowd regions (`iscrowd`).
    """
    check_prediction(prediction, needs=("labels", "scores"))
    check_prediction(target, needs=("labels",), where="The target")
    if list(iou.shape) != [len(prediction["labels"]), len(target["labels"])]:
        raise ValueError(
            f"iou must be [{len(prediction['labels'])}, {len(target['labels'])}], instances by things in the target, "
            f"not {list(iou.shape)}."
        )
    if "iscrowd" in target and bool(target["iscrowd"].any()):
        raise ValueError(
            "The target has crowd regions (iscrowd = 1), which stand for many things at once. Leave them out: "
            '{key: target[key][target["iscrowd"] == 0] for key in ("labels", "masks")}.'
        )
    check_fraction("iou_threshold", iou_threshold)
    device = prediction["labels"].device
    matches, iou = torch.full((len(iou),), -1, device=device), iou.to(device)
    possible = (iou >= iou_threshold) & (prediction["labels"][:, None] == target["labels"].to(device))
    for i in prediction["scores"].argsort(descending=True, stable=True).tolist():
        if possible[i].any():
            left = torch.where(possible[i], iou[i], -1)
            # Of equal ones the last, as in COCO's own tools.
            best = int(torch.nonzero(left == left.max())[-1])
            matches[i] = best
            possible[:, best] = False
    return matches


def precision_recall(hits: Tensor, scores: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Precision and recall when only the best k instances are kept, for k = 1 to N: two tensors [N], 0 to 1.

    Precision is the share of the kept instances that are hits, recall the share of the `total` things that are hit
    (NaN when there are none).

    hits: bool [N], for example `match_instances(...) >= 0`. scores: [N], in the same order.

    Raises `TypeError` or `ValueError` when `hits` is not boolean, when the two differ in length, or when there are more
    hits than things.
    """
    if hits.dtype != torch.bool:
        raise TypeError(f"hits must be bool, not {hits.dtype}. Of matches make hits by: matches >= 0.")
    if hits.shape != scores.shape or hits.ndim != 1:
        raise ValueError(
            f"hits and scores must be of one length, not {list(hits.shape)} and {list(scores.shape)}."
        )
    if int(hits.sum()) > total:
        raise ValueError(f"There are {int(hits.sum())} hits, but only {total} things to find.")
    ranked = hits[scores.argsort(descending=True, stable=True)].cumsum(0).double()
    return ranked / torch.arange(1, len(ranked) + 1, device=ranked.device), ranked / total


def mean_average_precision(
    model: nn.Module, pairs: Iterable[tuple[Tensor, dict[str, Tensor]]], **settings
) -> dict[str, Tensor]:
    """COCO's average precision of a model's boxes and masks.

    Nothing is filtered first: AP needs the low scores too.

    Args:
        model: a Mask R-CNN in eval mode.
        pairs: pictures, uint8 [3, H, W], and their targets with `boxes`, `labels` and `masks` [N, H, W].
        **settings: handed to `torchmetrics.detection.MeanAveragePrecision`, for instance `class_metrics=True`.

    Returns:
        What `MeanAveragePrecision.compute()` returns; `segm_map` and `segm_map_50` are mask AP and AP50, 0 to 1.

    Raises:
        ValueError: the model is in train mode.
    """
    from torchmetrics.detection import MeanAveragePrecision  # heavy, and needed by nobody else

    if model.training:
        raise ValueError("the model is in train mode: call model.eval() first")
    device = next(model.parameters()).device
    metric = MeanAveragePrecision(iou_type=("bbox", "segm"), backend="faster_coco_eval", **settings)
    for image, target in pairs:
        with torch.inference_mode():
            output = get_boolean_mask(model([F.to_dtype(image, scale=True).to(device)]))
        truth = {name: target[name] for name in ("boxes", "labels")} | {"masks": target["masks"].bool()}
        metric.update([{name: value.cpu() for name, value in output[0].items()}], [truth])
    return metric.compute()
