"""How good is a model: mask AP through torchmetrics, on pictures with known masks."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from segutils.predictions import get_boolean_mask


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
