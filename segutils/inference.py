"""Inference: any Mask R-CNN of torchvision on pictures, stage by stage, its masks left as small as they are.

`predict` goes through the stages in the order of this file. Called one after the other they do the same, and show what
passes from each to the next:

    batch = prepare_images(model, images)
    features = extract_features(model, batch)
    proposals = propose_boxes(model, batch, features)
    pooled = pool_proposals(model, batch, features, proposals)
    class_logits, box_deltas = classify_proposals(model, pooled)
    detections = select_detections(model, batch, proposals, class_logits, box_deltas)
    mask_logits = predict_masks(model, batch, features, detections)
    predictions = make_predictions(batch, detections, mask_logits)

Each calls the part of the model that does the work, and none computes gradients.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.models.detection.transform import resize_boxes

from segutils.images import check_float_range
from segutils.predictions import Prediction, filter_model_output
from segutils.roi_masks import RoIMasks, check_fraction


@torch.inference_mode()
def predict(
    model: MaskRCNN, images: Sequence[Tensor], score_threshold: float | None = None
) -> list[Prediction]:
    """Run any Mask R-CNN of torchvision on pictures, and leave its masks as small as the network makes them.

    Boxes, labels and scores are those of `model(images)`. `masks` is a `RoIMasks` instead of a float picture for each
    instance; cut at any threshold, it gives the same boolean masks.

    Args:
        model: in eval mode.
        images: pictures [3, H, W], uint8 or float 0 to 1, of any sizes. They are moved to the model's device.
        score_threshold: report instances with at least this score (0 to 1), as `filter_model_output` would. No masks
            are computed for the others. None leaves it at the threshold in the model, 0.05 unless it was built
            with another.

    Returns:
        One dict for each picture, with `boxes`, `labels`, `scores` and `masks`.

    Raises:
        TypeError, ValueError: as `prepare_images` does; or the threshold is no number from 0 to 1.
    """
    if score_threshold is not None:
        check_fraction("score_threshold", score_threshold)
    batch = prepare_images(model, images)
    features = extract_features(model, batch)
    proposals = propose_boxes(model, batch, features)
    head_output = classify_proposals(model, pool_proposals(model, batch, features, proposals))
    detections = select_detections(model, batch, proposals, *head_output)
    if score_threshold is not None:
        detections = filter_model_output(detections, score_threshold)
    mask_logits = predict_masks(model, batch, features, detections)
    return make_predictions(batch, detections, mask_logits)


class Batch(NamedTuple):
    """Pictures as the network sees them. The first two fields are those of torchvision's `ImageList`."""

    tensors: Tensor  # float [N, 3, H, W], normalised; each picture fills the top left corner, the rest is 0
    image_sizes: list[tuple[int, int]]  # height and width of each resized picture, without the padding
    original_sizes: list[tuple[int, int]]  # height and width of each picture before


@torch.no_grad()
def prepare_images(model: MaskRCNN, images: Sequence[Tensor]) -> Batch:
    """Normalise pictures, resize them to the size the model works at, and pad them to one size: one batch.

    Args:
        model: a Mask R-CNN of torchvision in eval mode.
        images: pictures [3, H, W], uint8 or float 0 to 1, of any sizes. They are moved to the model's device.

    Raises:
        TypeError, ValueError: the model is no Mask R-CNN or is in training mode; a picture is not as described, or
            so long and thin that nothing would be left of its shorter side; the model's weights hold NaN or infinite
            numbers, with which it would find nothing and not say why.
    """
    if not (isinstance(model, GeneralizedRCNN) and model.roi_heads.has_mask()):
        raise TypeError(f"This takes a Mask R-CNN of torchvision, not {type(model).__name__}.")
    if model.training:
        raise ValueError("The model is in training mode. Call model.eval() first.")
    if not isinstance(images, Sequence | Tensor) or isinstance(images, Tensor) and images.ndim == 3:
        raise TypeError(
            f"The model takes a list of pictures, not {type(images).__name__}. Put the picture in a list: "
            "[image]."
        )
    if len(images) == 0:
        raise ValueError("There is no picture to look at: the list is empty.")
    totals = [value.sum(dtype=torch.float32) for value in model.state_dict().values()]
    if not torch.isfinite(torch.stack(totals)).all():
        raise ValueError(
            "The model's weights hold NaN or infinite numbers: it would find nothing. Load the model again; after a "
            "training of your own, look where the loss became NaN."
        )
    weight = next(model.parameters())
    pictures = [
        _as_input(image, number, model.transform.max_size).to(weight)  # its device and dtype
        for number, image in enumerate(images, start=1)
    ]
    batch, _ = model.transform(pictures)
    return Batch(batch.tensors, batch.image_sizes, [tuple(picture.shape[-2:]) for picture in pictures])


@torch.no_grad()
def extract_features(model: MaskRCNN, batch: Batch) -> dict[str, Tensor]:
    """Run the backbone: a pyramid of feature maps, float [N, C, h, w] by name, the finest first.

    A backbone without a pyramid gives a single map, named "0".
    """
    features = model.backbone(batch.tensors)
    return OrderedDict([("0", features)]) if isinstance(features, Tensor) else features


@torch.no_grad()
def propose_boxes(model: MaskRCNN, batch: Batch, features: dict[str, Tensor]) -> list[Tensor]:
    """Run the region proposal network: for each picture boxes [P, 4] that may hold a thing, the likeliest first.

    Boxes are x1, y1, x2, y2 in pixels of the resized picture, here and in the stages that follow.
    """
    proposals, _ = model.rpn(batch, features)
    return proposals


@torch.no_grad()
def pool_proposals(
    model: MaskRCNN, batch: Batch, features: dict[str, Tensor], proposals: list[Tensor]
) -> Tensor:
    """Cut a small square out of the feature maps for each proposal, by RoIAlign: float [P, C, 7, 7].

    P counts the proposals of all pictures, one picture after the other.
    """
    return model.roi_heads.box_roi_pool(features, proposals, batch.image_sizes)


@torch.no_grad()
def classify_proposals(model: MaskRCNN, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Run the box head: what is in each proposal, and how its box should move if it is that.

    Returns:
        class logits, float [P, K], for the background and each class; box deltas, float [P, 4 * K], four for each of
        them.
    """
    return model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))


@torch.no_grad()
def select_detections(
    model: MaskRCNN, batch: Batch, proposals: list[Tensor], class_logits: Tensor, box_deltas: Tensor
) -> list[dict[str, Tensor]]:
    """Move the boxes, and keep the best: by score, by non-maximum suppression within each class, and by number.

    Returns:
        For each picture a dict with `boxes` [N, 4] in the resized picture, `scores` [N] and `labels` [N], the best
        score first.
    """
    found = model.roi_heads.postprocess_detections(class_logits, box_deltas, proposals, batch.image_sizes)
    return [dict(zip(("boxes", "scores", "labels"), values)) for values in zip(*found)]


@torch.no_grad()
def predict_masks(
    model: MaskRCNN, batch: Batch, features: dict[str, Tensor], detections: list[dict[str, Tensor]]
) -> Tensor:
    """Run the mask head on the detections' boxes: mask logits, float [N, K, 28, 28], a mask for every class.

    N counts the detections of all pictures, one picture after the other.
    """
    heads = model.roi_heads
    pooled = heads.mask_roi_pool(features, [found["boxes"] for found in detections], batch.image_sizes)
    return heads.mask_predictor(heads.mask_head(pooled))


@torch.no_grad()
def make_predictions(
    batch: Batch, detections: list[dict[str, Tensor]], mask_logits: Tensor
) -> list[Prediction]:
    """Take each detection's mask of its own class, as values from 0 to 1, and bring the boxes to the original size.

    Returns:
        One dict for each picture, with `boxes`, `labels`, `scores` and `masks`, a `RoIMasks`.
    """
    all_probs = maskrcnn_inference(mask_logits, [found["labels"] for found in detections])
    output = []
    for found, probs, size, full_size in zip(detections, all_probs, batch.image_sizes, batch.original_sizes):
        boxes = resize_boxes(found["boxes"], size, full_size)
        masks = RoIMasks(probs, boxes, full_size)
        output.append({"boxes": boxes, "labels": found["labels"], "scores": found["scores"], "masks": masks})
    return output


def _as_input(image: Tensor, number: int, max_size: int) -> Tensor:
    """Check a picture, and make it float 0 to 1."""
    if not isinstance(image, Tensor):
        raise TypeError(
            f"Picture {number} must be a tensor [3, H, W], not {type(image).__name__}. "
            "Read files with load_image(path)."
        )
    shape = list(image.shape)
    if len(shape) != 3 or shape[0] != 3 or 0 in shape:
        hint = (
            " It looks like [H, W, 3]: use image.permute(2, 0, 1)."
            if len(shape) == 3 and shape[2] == 3
            else ""
        )
        raise ValueError(f"Picture {number} must be [3, H, W], not {shape}.{hint}")
    if min(shape[1:]) * max_size < max(shape[1:]):
        raise ValueError(
            f"Picture {number} is {shape[2]} x {shape[1]} pixels: made small enough for the model, nothing of its "
            "shorter side would be left. Cut it into pieces."
        )
    if image.dtype == torch.uint8:
        return image / 255  # as weights.transforms() does
    if not image.is_floating_point():
        raise TypeError(f"Picture {number} must hold uint8 or float values, not {image.dtype}.")
    try:
        check_float_range(image)
    except ValueError as error:
        raise ValueError(f"Picture {number}: {error}") from None
    return image.detach()
