"""How good is a model: mask AP through torchmetrics, on pictures with known masks."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from segutils.predictions import get_boolean_mask


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
