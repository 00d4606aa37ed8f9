"""COCO's average precision, from predictions and targets: `evaluate`.

faster-coco-eval does the counting, a quick twin of pycocotools. It is given each mask as an RLE, made straight from its
crop, so that nothing of the picture's size is made or kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from segutils.evaluation import crowd_rows
from segutils.predictions import Prediction, check_prediction, label_name, mask_crops
from segutils.rle import RLE, encode_rle
from segutils.roi_masks import RoIMasks

FIGURES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
"""COCO's twelve figures, in the order in which its tools print them."""


def evaluate(
    predictions: Iterable[Prediction],
    targets: Iterable[Prediction],
    categories: Sequence[str] | None = None,
    iou_type: str = "segm",
) -> dict[str, float | dict[str, float]]:
    """Compute COCO's average precision and recall of predictions.

    Do not filter the predictions first: AP needs the low scores too. Instances of equal score count in the order of the
    lists.

    Args:
        predictions: one dict for each picture, with `labels`, `scores`, and `masks` or `boxes`.
        targets: one dict for each picture, in the same order, with `labels`, and `masks` or `boxes`. `iscrowd` marks
            regions to be ignored; `area`, in pixels, decides what is small, medium or large, and is counted in the
            mask (or the box) where it is missing. Both may be generators, so that one picture is in memory at a time.
        categories: the names of the classes, `weights.meta["categories"]`. Without them classes are called "label 4",
            and those that occur are counted.
        iou_type: "segm" compares masks, which may be a list of COCO's RLEs as well; soft ones are cut at 0.5. "bbox"
            compares boxes.

    Returns:
        The figures named in `FIGURES`, 0 to 1: `AP` is the mean over IoU thresholds from 0.50 to 0.95, `AP50` at 0.50,
        `AP_small` that of things of less than 32 x 32 pixels, `AR_10` the mean recall with the ten best instances of
        each class in a picture (100 where nothing else is said). NaN where there is nothing to find. `per_class` gives
        the AP of each class by name. Equal to pycocotools (Lin and others 2014, arXiv 1405.0312), whose -1 is NaN here.

    Raises:
        TypeError, ValueError: the lists differ in length or are empty; a dict lacks a key, or what is in it is not as
            described; masks differ in size from the target's; a label is none of the categories. The message names
            the picture, counted from 1.
    """
    from faster_coco_eval import COCO, COCOeval_faster  # of the extra "evaluation"; nobody else needs it

    found, true, images = [], [], []
    pairs = pair_up(predictions, targets, iou_type, categories)
    for number, (prediction, target) in enumerate(pairs, start=1):
        if iou_type == "segm":
            sizes = []
            for which, one, instances in (("prediction", prediction, found), ("target", target, true)):
                regions, areas, size = _encode(one["masks"], f"The {which} of picture {number}")
                sizes.append(size)
                instances.append([{"segmentation": rle, "area": a} for rle, a in zip(regions, areas)])
            check_sizes(number, *sizes)
            size = sizes[0] or sizes[1] or (1, 1)
        else:
            size = (1, 1)  # asked for, and not used
            for which, one, instances in (("prediction", prediction, found), ("target", target, true)):
                boxes = _to_xywh(one["boxes"], f"The {which} of picture {number}")
                instances.append([{"bbox": box, "area": box[2] * box[3]} for box in boxes])
        images.append({"id": number, "height": size[0], "width": size[1]})
        _describe(found[-1], number, prediction["labels"], score=prediction["scores"].tolist())
        own = {"area": target["area"].tolist()} if "area" in target else {}
        _describe(true[-1], number, target["labels"], iscrowd=crowd_rows(target).long().tolist(), **own)

    labels = _class_numbers([*found, *true], categories)
    classes = [{"id": label, "name": label_name(label, categories)} for label in labels]
    truth, results = (
        COCO({"images": images, "categories": classes, "annotations": _number(instances)})
        for instances in (true, found)
    )
    evaluation = COCOeval_faster(truth, results, iou_type)
    evaluation.run()
    figures = [float("nan") if value == -1 else float(value) for value in evaluation.stats[:12]]
    # By IoU threshold, recall, class, range of areas (the first is all), number of instances (the last is 100).
    precision = np.asarray(evaluation.eval["precision"]).reshape(evaluation.eval["counts"])[:, :, :, 0, -1]
    per_class = precision.mean(axis=(0, 1)).tolist() if labels else []
    return dict(zip(FIGURES, figures)) | {
        "per_class": {c["name"]: float("nan") if ap == -1 else ap for c, ap in zip(classes, per_class)}
    }


def pair_up(
    predictions: Iterable[Prediction],
    targets: Iterable[Prediction],
    iou_type: str,
    categories: Sequence[str] | None = None,
) -> Iterator[tuple[Prediction, Prediction]]:
    """Go through predictions and targets side by side, and check that they are sound and have what is compared.

    Raises `TypeError` or `ValueError` as `evaluate` does.
    """
    if iou_type not in ("segm", "bbox"):
        raise ValueError(f'iou_type must be "segm" (masks) or "bbox" (boxes), not {iou_type!r}.')
    key = {"segm": "masks", "bbox": "boxes"}[iou_type]
    for name, many in (("predictions", predictions), ("targets", targets)):
        if isinstance(many, dict) or not isinstance(many, Iterable):
            hint = f" Put it in a list: [{name[:-1]}]." if isinstance(many, dict) else ""
            raise TypeError(
                f"{name} must be a list with one dict for each picture, not {type(many).__name__}.{hint}"
            )
    number, missing = 0, object()
    for number, pair in enumerate(zip_longest(predictions, targets, fillvalue=missing), start=1):
        if pair[0] is missing or pair[1] is missing:
            less, more = ("prediction", "target") if pair[0] is missing else ("target", "prediction")
            raise ValueError(
                f"Picture {number} has a {more} but no {less}: there are only {number - 1} {less}s. Give one of each "
                "for every picture, in the same order; where nothing is found or nothing is there, they have no rows."
            )
        _check_picture(pair[0], ("labels", "scores", key), f"The prediction of picture {number}", categories)
        _check_picture(pair[1], ("labels", key), f"The target of picture {number}", categories)
        yield pair
    if number == 0:
        raise ValueError("There is nothing to evaluate: the lists of predictions and targets are empty.")


def check_sizes(number: int, size: tuple[int, int] | None, true_size: tuple[int, int] | None) -> None:
    """Raise `ValueError` when masks of a prediction and its target differ in height or width; None is not known."""
    if size and true_size and size != true_size:
        sizes = " and ".join(f"{width} x {height}" for height, width in (size, true_size))
        raise ValueError(
            f"The masks of picture {number} differ in size between prediction and target (width x height): {sizes}. "
            "Were both made for one picture, of one size?"
        )


def _check_picture(
    one: Prediction, needs: Sequence[str], where: str, categories: Sequence[str] | None
) -> None:
    """Raise `TypeError` or `ValueError` unless a prediction or target is sound, and its labels have names."""
    rles = one["masks"] if isinstance(one, dict) and isinstance(one.get("masks"), list) else None
    if rles is not None:
        one = {key: value for key, value in one.items() if key != "masks"}
        needs = [key for key in needs if key != "masks"]
        if not all(isinstance(rle, dict) and {"size", "counts"} <= rle.keys() for rle in rles):
            raise TypeError(
                f"{where}: masks is a list, but not of COCO's RLEs, which are dicts with size and counts: {rles!r:.60}"
            )
    check_prediction(one, needs, where)
    labels = one["labels"]
    if rles is not None and len(rles) != len(labels):
        raise ValueError(f"{where} has {len(rles)} masks (RLEs), but {len(labels)} labels.")
    for key in ("labels", "scores", "area", "iscrowd"):
        if key in one and one[key].ndim != 1:
            raise ValueError(f"{where}: {key} must be [N], not {list(one[key].shape)}. Use {key}.flatten().")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"{where}: labels must be whole numbers (int64), not {labels.dtype}.")
    if categories is None:
        return
    known = set(named_labels(categories))
    unknown = sorted(set(labels.tolist()) - known)
    if unknown:
        raise ValueError(
            f"{where} has the label {unknown[0]}, which is none of the {len(known)} classes in categories "
            f"({min(known, default=0)} to {max(known, default=0)}; 0 is the background). Do the labels and the "
            "categories belong together?"
        )


def named_labels(categories: Sequence[str]) -> list[int]:
    """The labels that categories give a name to: neither the background nor what is "N/A"."""
    return [label for label, name in enumerate(categories) if label > 0 and name != "N/A"]


def _encode(
    masks: Tensor | RoIMasks | list[RLE], where: str
) -> tuple[list[RLE], list[float], tuple[int, int] | None]:
    """Masks as RLEs, their areas in pixels, and the height and width of the picture, if that can be known."""
    from faster_coco_eval.core.mask import area

    if isinstance(masks, list):
        sizes = {tuple(rle["size"]) for rle in masks}
        if len(sizes) > 1:
            listed = " and ".join(f"{width} x {height}" for height, width in sorted(sizes))
            raise ValueError(f"{where} has RLEs of different sizes (width x height): {listed}.")
        return masks, [float(area(rle)) for rle in masks], next(iter(sizes), None)
    size = tuple(masks.shape[-2:])
    if isinstance(masks, Tensor) and not masks.is_floating_point():
        masks = masks.bool()  # quicker than to compare whole numbers with a half
    try:
        crops = mask_crops(masks)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None
    return encode_rle(crops, size), [float(np.count_nonzero(crop.mask.numpy())) for crop in crops], size


def _to_xywh(boxes: Tensor, where: str) -> list[list[float]]:
    """Boxes x1, y1, x2, y2 as COCO's x, y, width and height."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{where}: boxes must be [N, 4], not {list(boxes.shape)}.")
    boxes = boxes.detach().double().cpu()
    if not torch.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(
            f"{where} has boxes that are none. They are x1, y1, x2, y2, with x1 <= x2 and y1 <= y2; of x, y, width and "
            'height torchvision.ops.box_convert(boxes, "xywh", "xyxy") makes them.'
        )
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()


def _describe(instances: list[dict], number: int, labels: Tensor, **columns: list) -> None:
    """Write down the picture and the label of each instance, and what is in the columns."""
    for row, (instance, label) in enumerate(zip(instances, labels.tolist())):
        instance |= {"image_id": number, "category_id": label, "iscrowd": 0}
        instance |= {name: column[row] for name, column in columns.items()}


def _class_numbers(pictures: list[list[dict]], categories: Sequence[str] | None) -> list[int]:
    """The labels of the classes to count: those in categories, or those that occur."""
    if categories is not None:
        return named_labels(categories)
    return sorted({instance["category_id"] for instances in pictures for instance in instances})


def _number(pictures: list[list[dict]]) -> list[dict]:
    """The instances of all pictures as one list, numbered from 1: COCO's tools take 0 for no match."""
    return [
        instance | {"id": number}
        for number, instance in enumerate((i for instances in pictures for i in instances), start=1)
    ]
