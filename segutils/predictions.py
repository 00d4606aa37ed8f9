"""Predictions: what a Mask R-CNN found, looked at, filtered, and made into boolean masks.

A prediction is torchvision's own dict, one per picture:

    boxes   float [N, 4]        x1, y1, x2, y2 in pixels
    labels  int64 [N]           numbers of classes; 0 is the background
    scores  float [N]           0 to 1, best first
    masks   float [N, 1, H, W]  soft, 0 to 1; or bool [N, H, W]; or a RoIMasks, which `predict` gives

The functions here take the model's whole output, a list of such dicts. They change nothing they are given.
"""

import math
import textwrap
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segutils.roi_masks import Crop, RoIMasks, check_fraction

PER_INSTANCE = ("boxes", "labels", "scores", "masks", "keypoints", "keypoints_scores", "area", "iscrowd")
"""The keys that hold one row per instance. Every other key (`image_id`, `size`) belongs to the picture."""

Prediction = dict[str, Tensor | RoIMasks]


def inspect_model_output(output: list[Prediction], categories: Sequence[str] | None = None) -> None:
    """Print, for each picture, how many instances were found, of which classes, and the best and worst score.

    categories: the names of the classes, `weights.meta["categories"]`. Without them the numbers are printed.

    Raises `TypeError` or `ValueError` when `output` is not a model's output (see `filter_model_output`).
    """
    check_output(output, needs=("labels", "scores"))
    print(f"{_count(len(output), 'picture')}")
    for number, prediction in enumerate(output, start=1):
        scores = prediction["scores"].detach()
        if len(scores) == 0:
            print(f"picture {number}: no instances")
            continue
        counts = Counter(label_name(label, categories) for label in prediction["labels"].tolist())
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        classes = [f"{count} x {name}" for name, count in ranked]
        best, worst = scores.max().item(), scores.min().item()
        spread = f"scores {best:.2f} to {worst:.2f}" if len(scores) > 1 else f"score {best:.2f}"
        # Lines break between classes, never inside "2 x playing card": notebooks break where they like.
        parts = [part.replace(" ", "\xa0") for part in (*classes, spread)]
        line = f"picture {number}: {_count(len(scores), 'instance')}: {', '.join(parts[:-1])}; {parts[-1]}"
        print(textwrap.fill(line, 100, subsequent_indent="    ").replace("\xa0", " "))


def filter_model_output(
    output: list[Prediction], score_threshold: float, *, labels: Sequence[int] | None = None
) -> list[Prediction]:
    """Keep the instances whose score is at least `score_threshold` (0 to 1).

    labels: the numbers of the classes to keep, `[categories.index("coin")]`; without them all are kept.

    Returns a new list of new dicts. The keys in `PER_INSTANCE` are filtered, all others passed on as they
    are. A picture in which nothing is left keeps its keys, with no rows: `masks` is then [0, 1, H, W]. A
    `RoIMasks` stays one: nothing is pasted.

    What is filtered out is gone from the result: to use a lower threshold, filter the model's output again.

    Raises `TypeError` or `ValueError` when the threshold is no number from 0 to 1, when `output` is not a
    list of predictions, when a prediction's keys differ in length, when scores are NaN, or when `labels` are not
    whole numbers.
    """
    check_fraction("score_threshold", score_threshold)
    check_output(output, needs=("scores",) if labels is None else ("scores", "labels"))
    if labels is not None and (
        isinstance(labels, str | bytes)
        or not isinstance(labels, Sequence)
        or not all(isinstance(label, int) and not isinstance(label, bool) for label in labels)
    ):
        raise TypeError(
            f'labels are numbers of classes, for example [categories.index("coin")], not {labels!r}.'
        )
    filtered = []
    for prediction in output:
        keep = prediction["scores"] >= score_threshold
        if labels is not None:
            wanted = torch.tensor(list(labels), dtype=torch.int64, device=keep.device)
            keep &= torch.isin(prediction["labels"], wanted)
        filtered.append(
            {key: value[keep] if key in PER_INSTANCE else value for key, value in prediction.items()}
        )
    return filtered


def get_boolean_mask(output: list[Prediction], mask_threshold: float = 0.5) -> list[Prediction]:
    """Turn soft masks [N, 1, H, W] into boolean ones [N, H, W]: True where above `mask_threshold`.

    A `RoIMasks` is pasted here, so filter first: only what is left takes memory then.

    Returns a new list of new dicts; only `masks` differs. Soft masks [N, H, W] and integer masks of 0 and 1
    are taken too; masks that are boolean already stay as they are, whatever the threshold.

    Raises `TypeError` or `ValueError` when the threshold is no number from 0 to 1, when `output` is not a
    list of predictions with masks, or when soft masks hold NaN or values beyond 0 to 1; `MemoryError` when
    pasting would take more than `roi_masks.MAX_BYTES`.
    """
    check_fraction("mask_threshold", mask_threshold)
    check_output(output, needs=("masks",))
    return [p | {"masks": boolean_masks(p["masks"], mask_threshold)} for p in output]


def boolean_masks(masks: Tensor | RoIMasks, mask_threshold: float = 0.5) -> Tensor:
    """Make boolean masks [N, H, W] of one picture's masks, as `get_boolean_mask` does for a whole output."""
    if isinstance(masks, RoIMasks):
        return masks.paste(mask_threshold)
    if masks.ndim not in (3, 4) or (masks.ndim == 4 and masks.shape[1] != 1):
        raise ValueError(f"masks must be [N, 1, H, W] or [N, H, W], not {list(masks.shape)}.")
    masks = masks.detach()
    if masks.is_floating_point() and masks.numel() > 0:
        low, high = (value.item() for value in torch.aminmax(masks))
        if not (low >= 0 and high <= 1):  # written so that NaN fails too
            raise ValueError(
                f"Soft masks hold values from 0 to 1; these go from {low:.3g} to {high:.3g}. "
                "If they are logits, call torch.sigmoid on them first."
            )
    if masks.dtype != torch.bool:
        # Whole numbers are compared with a whole number: the same answer, many times as fast.
        masks = masks > (mask_threshold if masks.is_floating_point() else math.floor(mask_threshold))
    return masks.squeeze(1) if masks.ndim == 4 else masks


def mask_crops(masks: Tensor | RoIMasks, mask_threshold: float = 0.5) -> list[Crop]:
    """Cut each mask of one picture down to a rectangle around its pixels, on the CPU: where it lies, and bool [h, w].

    masks: soft, boolean or a `RoIMasks`; the first and the last are cut at `mask_threshold` (0 to 1).

    Raises `TypeError` or `ValueError` when the threshold is no number from 0 to 1, or when masks are none.
    """
    check_fraction("mask_threshold", mask_threshold)
    if isinstance(masks, RoIMasks):
        return masks.cpu().crops(mask_threshold)
    crops = []
    for mask in boolean_masks(masks, mask_threshold).cpu().numpy():
        ys = np.flatnonzero(mask.any(axis=1))
        mask = mask[ys[0] : ys[-1] + 1] if len(ys) else mask[:0]
        xs = np.flatnonzero(mask.any(axis=0))
        mask = mask[:, xs[0] : xs[-1] + 1] if len(xs) else mask[:, :0]
        crops.append(Crop(int(xs[0]) if len(xs) else 0, int(ys[0]) if len(ys) else 0, torch.from_numpy(mask)))
    return crops


def to_semantic(prediction: Prediction, mask_threshold: float = 0.5) -> Tensor:
    """Make a class map of one prediction's instances: int64 [H, W], the label of each pixel, 0 where there is none.

    Where instances overlap, the one with the higher score is on top; without `scores`, as in annotations, the one that
    comes later in the list. Which instance a pixel belongs to is lost: that is what semantic segmentation leaves out.

    Raises `TypeError` or `ValueError` when the threshold is no number from 0 to 1, or when the prediction is not
    sound (see `check_prediction`).
    """
    check_fraction("mask_threshold", mask_threshold)
    check_prediction(prediction, needs=("labels", "masks"))
    labels, masks = prediction["labels"], prediction["masks"]
    class_map = torch.zeros(masks.shape[-2:], dtype=torch.int64, device=labels.device)
    order = prediction["scores"].argsort(stable=True) if "scores" in prediction else torch.arange(len(labels))
    if isinstance(masks, RoIMasks):
        crops = masks.crops(mask_threshold)
    else:
        crops = [Crop(0, 0, mask) for mask in boolean_masks(masks, mask_threshold)]
    for i in order.tolist():
        left, top, mask = crops[i]
        class_map[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = labels[i]
    return class_map


def label_name(label: int, categories: Sequence[str] | None = None) -> str:
    """Name a class: its entry in `categories`, or "id 500 (unknown)"; "label 4" without `categories`."""
    if categories is None:
        return f"label {label}"
    if isinstance(categories, str) or not isinstance(categories, Sequence):
        raise TypeError(
            'categories is the list of class names, for example weights.meta["categories"], '
            f"not {type(categories).__name__}."
        )
    # Looked at by hand, since categories[-1] would quietly name the last class.
    known = 0 <= label < len(categories) and categories[label] != "N/A"
    return categories[label] if known else f"id {label} (unknown)"


def check_output(output: list[Prediction], needs: Sequence[str]) -> None:
    """Raise `TypeError` or `ValueError` unless `output` is a list of sound predictions."""
    if isinstance(output, dict):
        check_prediction(output, (), "The output")  # a dict of losses has a message of its own
        raise TypeError(
            "The output must be a list with one dict per picture. Put the dict in a list: [output]."
        )
    if not isinstance(output, list | tuple):
        raise TypeError(f"The output must be a list with one dict per picture, not {type(output).__name__}.")
    for number, prediction in enumerate(output, start=1):
        check_prediction(prediction, needs, f"Picture {number} of the output")


def check_prediction(prediction: Prediction, needs: Sequence[str], where: str = "The prediction") -> None:
    """Raise `TypeError` or `ValueError` unless a prediction is sound.

    It must be a dict that has the keys in `needs`; its keys in `PER_INSTANCE` must be of one length, and its
    scores not NaN. The messages begin with `where`.
    """
    if not isinstance(prediction, dict):
        raise TypeError(
            f"{where} must be a dict with boxes, labels, scores and masks, not {_type(prediction)}."
        )
    if any(str(key).startswith("loss_") for key in prediction):
        raise ValueError(
            f"{where} is a dict of losses: the model is in training mode. Call model.eval() and run it again."
        )
    missing = [key for key in needs if key not in prediction]
    if missing:
        raise ValueError(
            f"{where} has no {' and no '.join(missing)}. Its keys are: {', '.join(map(str, prediction))}."
        )
    lengths = {}
    for key in PER_INSTANCE:
        if key not in prediction:
            continue
        value = prediction[key]
        if not (
            isinstance(value, Tensor) and value.ndim > 0 or isinstance(value, RoIMasks) and key == "masks"
        ):
            hint = f" Use torch.from_numpy({key})." if isinstance(value, np.ndarray) else ""
            raise TypeError(
                f"{where}: {key} must be a tensor with one row per instance, not {_type(value)}.{hint}"
            )
        lengths[key] = len(value)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise ValueError(f"{where} has keys of different lengths: {listed}. Filter all of them together.")
    if "scores" in lengths:
        bad = int(torch.isnan(prediction["scores"]).sum())
        if bad:
            raise ValueError(
                f"{where} has scores that are NaN (not a number): {bad} of {lengths['scores']}. "
                "Look for NaN in the picture or in the model's weights."
            )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _type(value: object) -> str:
    return "a single number" if isinstance(value, Tensor) and value.ndim == 0 else type(value).__name__
