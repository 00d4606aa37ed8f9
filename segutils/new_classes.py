"""New classes for a trained detector: other predictors, or wider ones that keep what they know."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

BACKGROUND = "__background__"
_SHARE = 1e-3  # of the background's probability, which a new class starts with


def replace_predictors(model: GeneralizedRCNN, categories: Sequence[str]) -> GeneralizedRCNN:
    """Copy a Faster or Mask R-CNN of torchvision, and give the copy untrained predictors for other classes.

    The predictors are the last layers: one gives each box its class logits and its deltas, one gives each class its
    mask. All before them, which knows edges, textures and shapes, is kept.

    Args:
        model: any of torchvision's with their own predictors, trained or not. It isn't changed.
        categories: the names of the new classes, "__background__" first.

    Returns:
        The copy, on the same device. Its new layers are random: `torch.manual_seed(0)` before makes them the same
        every time.

    Raises:
        TypeError, ValueError: the model has other predictors than these, or the categories are no such names.
    """
    check_categories(categories)
    box, mask = _predictors(model)
    model = copy.deepcopy(model)
    model.roi_heads.box_predictor = _alike(FastRCNNPredictor(box.cls_score.in_features, len(categories)), box)
    if mask is not None:
        widths = mask.conv5_mask.in_channels, mask.conv5_mask.out_channels
        model.roi_heads.mask_predictor = _alike(MaskRCNNPredictor(*widths, len(categories)), mask)
    return model


def add_classes(
    model: GeneralizedRCNN, categories: Sequence[str], new: Sequence[str]
) -> tuple[GeneralizedRCNN, list[str]]:
    """Copy a Faster or Mask R-CNN of torchvision, and widen its predictors by new classes. The old ones stay.

    The weights of the old classes are kept bit for bit. A new class starts as a thousandth of the background, which
    is what its things were taken for so far (Cermelli and others 2020, arXiv 2002.04466): until it's trained, no
    probability of an old class falls by more than a thousandth of itself for each new class, and none of the new
    ones is reported. Its box and its mask start as the mean of the old classes'. Nothing is random.

    To keep the old classes through the training, too, show their pictures along with the new ones.

    Args:
        model: one that knows `categories`. It isn't changed.
        categories: the names of its classes, "__background__" first: `weights.meta["categories"]`. torchvision's
            models don't hold them, so they come along, and go back longer.
        new: the names of the classes to add.

    Returns:
        The copy, on the same device, and the list of all names, the new ones last.

    Raises:
        TypeError, ValueError: the model has other predictors than torchvision's, or another number of classes than
            `categories` has names; a new name is there already.
    """
    if isinstance(new, str) or not isinstance(new, Sequence) or len(new) == 0:
        raise TypeError(f'new is the list of names to add, such as ["galaxy"], not {new!r:.40}.')
    all_names = [*categories, *new]
    check_categories(all_names)
    box, mask = _predictors(model)
    old, count = box.cls_score.out_features, len(new)
    if old != len(categories):
        raise ValueError(
            f"The model has {old} classes (with the background), but categories has {len(categories)} names."
        )
    if old < 2:
        raise ValueError("The model knows nothing but the background. Use replace_predictors instead.")
    model = replace_predictors(model, all_names)
    wide_box, wide_mask = _predictors(model)

    def background(logit: Tensor) -> Tensor:
        return logit[:1].expand(count, *logit.shape[1:])

    def mean_box(deltas: Tensor) -> Tensor:  # four rows a class
        return deltas.unflatten(0, (old, 4))[1:].mean(0).repeat(count, *[1] * (deltas.ndim - 1))

    def mean_mask(channels: Tensor) -> Tensor:
        return channels[1:].mean(0, keepdim=True).expand(count, *channels.shape[1:])

    with torch.no_grad():
        _widen(wide_box.cls_score, box.cls_score, background)
        wide_box.cls_score.bias[old:] += math.log(_SHARE)
        _widen(wide_box.bbox_pred, box.bbox_pred, mean_box)
        if mask is not None:
            wide_mask.conv5_mask.load_state_dict(mask.conv5_mask.state_dict())
            _widen(wide_mask.mask_fcn_logits, mask.mask_fcn_logits, mean_mask)
    return model, all_names


def check_categories(categories: Sequence[str]) -> None:
    """Raise `TypeError` or `ValueError` unless these are names of classes, "__background__" and at least one more."""
    if isinstance(categories, str) or not isinstance(categories, Sequence):
        raise TypeError(f"categories is a list of class names, not {categories!r:.40}.")
    if len(categories) < 2 or not all(isinstance(name, str) for name in categories):
        raise ValueError(
            f"categories holds {BACKGROUND!r} and the name of a class at least, not {categories!r:.60}."
        )
    if categories[0] != BACKGROUND:
        raise ValueError(
            f"The first of the categories is {BACKGROUND!r}, label 0, not {categories[0]!r}: put it in front."
        )
    names = [name for name in categories if name != "N/A"]  # as COCO's list calls numbers without a class
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"categories has {twice[0]!r} twice. Every class needs a name of its own.")


def _predictors(model: GeneralizedRCNN) -> tuple[FastRCNNPredictor, MaskRCNNPredictor | None]:
    heads = getattr(model, "roi_heads", None)
    box, mask = getattr(heads, "box_predictor", None), getattr(heads, "mask_predictor", None)
    if not isinstance(box, FastRCNNPredictor) or not isinstance(mask, MaskRCNNPredictor | None):
        raise TypeError(
            "This takes a Faster or Mask R-CNN with torchvision's own predictors, in "
            f"model.roi_heads.box_predictor and .mask_predictor, not {type(model).__name__} with "
            f"{type(box).__name__} and {type(mask).__name__}."
        )
    return box, mask


def _alike(new: nn.Module, old: nn.Module) -> nn.Module:
    """Give a new layer the device, number format, memory format and mode of the old one."""
    weights = [weight for weight in old.parameters() if weight.ndim == 4 and weight[0, 0].numel() > 1]
    if weights and weights[0].is_contiguous(memory_format=torch.channels_last):
        new = new.to(memory_format=torch.channels_last)
    return new.to(next(old.parameters())).train(old.training)


def _widen(wide: nn.Module, narrow: nn.Module, new_rows) -> None:
    for name in ("weight", "bias"):
        rows = getattr(narrow, name)
        getattr(wide, name).copy_(torch.cat([rows, new_rows(rows)]))
