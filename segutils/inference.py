"""Inference: any Mask R-CNN of torchvision on pictures, stage by stage, its masks left as small as they are."""

from collections import OrderedDict
from collections.abc import Sequence

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
        TypeError, ValueError: the model is no Mask R-CNN or is in training mode; a picture is not as described, or
            so long and thin that nothing would be left of its shorter side; the threshold is no number from 0 to 1;
            the model's weights hold NaN or infinite numbers, with which it would find nothing and not say why.
    """
    if not (isinstance(model, GeneralizedRCNN) and model.roi_heads.has_mask()):
        raise TypeError(f"predict takes a Mask R-CNN of torchvision, not {type(model).__name__}.")
    if model.training:
        raise ValueError("The model is in training mode. Call model.eval() first.")
    if score_threshold is not None:
        check_fraction("score_threshold", score_threshold)
    if not isinstance(images, Sequence | Tensor) or isinstance(images, Tensor) and images.ndim == 3:
        raise TypeError(
            f"predict takes a list of pictures, not {type(images).__name__}. Put the picture in a list: "
            "predict(model, [image])."
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

    # What model(images) does, step by step, except for the pasting at the end.
    batch, _ = model.transform(pictures)
    features = model.backbone(batch.tensors)
    if isinstance(features, Tensor):
        features = OrderedDict([("0", features)])
    proposals, _ = model.rpn(batch, features)
    heads, sizes = model.roi_heads, batch.image_sizes
    pooled = heads.box_head(heads.box_roi_pool(features, proposals, sizes))
    found = zip(*heads.postprocess_detections(*heads.box_predictor(pooled), proposals, sizes))
    predictions = [dict(zip(("boxes", "scores", "labels"), values)) for values in found]
    if score_threshold is not None:
        predictions = filter_model_output(predictions, score_threshold)
    pooled = heads.mask_roi_pool(features, [p["boxes"] for p in predictions], sizes)
    logits = heads.mask_predictor(heads.mask_head(pooled))
    all_probs = maskrcnn_inference(logits, [p["labels"] for p in predictions])

    output = []
    for picture, size, prediction, probs in zip(pictures, sizes, predictions, all_probs):
        full_size = tuple(picture.shape[-2:])
        boxes = resize_boxes(prediction["boxes"], size, full_size)
        masks = RoIMasks(probs, boxes, full_size)
        output.append(
            {"boxes": boxes, "labels": prediction["labels"], "scores": prediction["scores"], "masks": masks}
        )
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
