"""Training targets: made from masks, and checked before a model learns from them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.ops import masks_to_boxes

from segutils.images import check_float_range
from segutils.new_classes import check_categories
from segutils.predictions import check_prediction

Target = dict[str, Tensor]
Pairs = Dataset | Sequence[tuple[Tensor, Target]]


def make_target(masks: Tensor, labels: Tensor | Sequence[int]) -> Target:
    """Make torchvision's training target from masks and their labels.

    Args:
        masks: one for each thing, [N, H, W], bool or whole numbers of 0 and 1; [0, H, W] where there is none. Of a
            picture `ids` that numbers the things from 1, `ids == torch.arange(1, ids.max() + 1)[:, None, None]`.
        labels: the class of each, N whole numbers from 1.

    Returns:
        `boxes` float32 [N, 4] (x1, y1, x2, y2; they end behind the last pixel, so that one pixel is one wide,
        which `torchvision.ops.masks_to_boxes` makes 0), `labels` int64 [N], `masks` uint8 [N, H, W].

    Raises:
        TypeError, ValueError: the masks are not as described, one has no pixel, or there are not as many labels.
    """
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() and len(labels):
        raise TypeError(f"labels must be whole numbers, not {labels.dtype}.")
    _check_masks(masks, "The target", "")
    if len(labels) != len(masks):
        raise ValueError(f"There are {len(masks)} masks, but {len(labels)} labels. Give each mask its own.")
    return {"boxes": _boxes_around(masks), "labels": labels.long(), "masks": masks.to(torch.uint8)}


def check_targets(dataset: Pairs, categories: Sequence[str]) -> None:
    """Read every item of a dataset, and check that a detector can learn from it. Silence means that all is well.

    A wrong target seldom stops a training: the loss falls, and the model learns nonsense.

    Args:
        dataset: `dataset[i]` is a pair of picture ([3, H, W], uint8 or float 0 to 1) and target: a dict with `boxes`
            float [N, 4] (x1, y1, x2, y2 in pixels), `labels` int64 [N], and `masks` [N, H, W], bool or uint8 of 0 and 1
            (or none, for detectors of boxes). `iscrowd` marks regions that training leaves out.
        categories: the names of the classes, "__background__" first.

    Raises:
        TypeError, ValueError: what is wrong with the categories or with the first bad item, which is named, and what
            to do.
    """
    check_categories(categories)
    for index in range(len(dataset)):
        check_pair(dataset[index], f"dataset[{index}]", len(categories))


def check_pair(
    pair: tuple[Tensor, Target], where: str, classes: int | None = None, needs: Sequence[str] = ()
) -> None:
    """Check one item as `check_targets` does. Messages begin with `where`.

    classes: their number, the background included; None if it is not known. needs: keys besides boxes and labels.
    """
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise TypeError(f"{where} must be a pair of picture and target, not {type(pair).__name__}.")
    image, target = pair
    if not isinstance(image, Tensor) or not (image.is_floating_point() or image.dtype == torch.uint8):
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"{where}: the picture must be a tensor, uint8 or float 0 to 1, not {kind}.")
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"{where}: the picture must be [3, H, W], not {list(image.shape)}.")
    if image.is_floating_point():
        try:
            check_float_range(image)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    if isinstance(target, dict) and "boxes" in target:
        _check_boxes(target["boxes"], image, where)  # first: an empty list has a shape that fits nothing
    check_prediction(target, ("boxes", "labels", *needs), where)
    labels = target["labels"]
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise TypeError(
            f"{where}: labels must be int64 [N], not {labels.dtype} {list(labels.shape)}. Use labels.flatten().long()."
        )
    for row, label in enumerate(labels.tolist()):
        if label < 1 or classes is not None and label >= classes:
            highest = "" if classes is None else f" to {classes - 1}"
            raise ValueError(
                f"{where}: label {row} is {label}. Labels go from 1{highest}, and 0 is the background: is "
                f'"__background__" the first of the categories, and {label} one of them?'
            )
    if "masks" in target:
        masks = target["masks"]
        _check_masks(masks, where, f" of the picture, {image.shape[1]} x {image.shape[2]},", image.shape[1:])
        around = _boxes_around(masks)
        low = torch.maximum(around[:, :2], target["boxes"][:, :2])
        high = torch.minimum(around[:, 2:], target["boxes"][:, 2:])
        for row in (high <= low).any(1).nonzero()[:1].flatten().tolist():
            raise ValueError(
                f"{where}: mask {row} lies outside box {row}. Are masks and boxes in the same order? "
                "make_target(masks, labels) makes boxes that fit."
            )


def _check_boxes(boxes: Tensor, image: Tensor, where: str) -> None:
    if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.shape[1] != 4:
        shape = list(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
        raise ValueError(
            f"{where}: boxes must be a tensor [N, 4], not {shape}. With nothing in the picture, use torch.zeros(0, 4)."
        )
    if not boxes.is_floating_point():
        raise TypeError(f"{where}: boxes must be float, not {boxes.dtype}. Use boxes.float().")
    height, width = image.shape[1:]
    for row, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = box
        listed = "[" + ", ".join(f"{value:g}" for value in box) + "]"
        if not boxes[row].isfinite().all():
            raise ValueError(f"{where}: box {row} is {listed}. Look for a division by zero where it is made.")
        if x2 <= x1 or y2 <= y1:
            raise ValueError(
                f"{where}: box {row} is {listed}: x1, y1, x2, y2, with x1 < x2 and y1 < y2. Leave out what has no "
                'width or height; of x, y, width and height torchvision.ops.box_convert(boxes, "xywh", "xyxy") makes '
                "such boxes."
            )
        if min(x1, y1) < -1 or x2 > width + 1 or y2 > height + 1:  # a pixel is forgiven: tools round
            raise ValueError(
                f"{where}: box {row} is {listed}, beyond the picture of {width} x {height} pixels. Was the picture "
                "resized without its boxes, or are they not in pixels?"
            )


def _check_masks(masks: Tensor, where: str, of: str, size: Sequence[int] | None = None) -> None:
    """Masks must be [N, H, W] of 0 and 1, of this size, each with a pixel."""
    if not isinstance(masks, Tensor) or masks.is_floating_point() or masks.is_complex():
        kind = masks.dtype if isinstance(masks, Tensor) else type(masks).__name__
        raise TypeError(
            f"{where}: masks must be a tensor, bool or uint8, not {kind}. Of soft masks, use masks > 0.5."
        )
    if masks.ndim != 3 or 0 in masks.shape[1:] or size is not None and tuple(masks.shape[1:]) != tuple(size):
        raise ValueError(f"{where}: masks must be [N, H, W]{of} not {list(masks.shape)}.")
    for row, mask in enumerate(masks):
        if mask.dtype != torch.bool and (mask.min() < 0 or mask.max() > 1):
            raise ValueError(
                f"{where}: mask {row} holds values from {mask.min()} to {mask.max()}. Only 0 and 1 are allowed: "
                "use masks > 0."
            )
        if not mask.any():
            raise ValueError(
                f"{where}: mask {row} has no pixel. Leave out things that are not in the picture."
            )


def _boxes_around(masks: Tensor) -> Tensor:
    boxes = masks_to_boxes(masks)
    boxes[:, 2:] += 1  # torchvision names the last pixel; a box ends behind it
    return boxes
