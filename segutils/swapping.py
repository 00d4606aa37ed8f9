"""Where is AP lost? Run a Mask R-CNN with one of its stages swapped for the truth, and see what that gains."""

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import box_iou

from segutils.evaluation import crowd_rows
from segutils.inference import (
    classify_proposals,
    extract_features,
    make_predictions,
    pool_proposals,
    predict_masks,
    prepare_images,
    propose_boxes,
    select_detections,
)
from segutils.predictions import Prediction, boolean_masks, check_prediction
from segutils.roi_masks import RoIMasks

STAGES = ("proposals", "boxes", "classes", "masks")
"""What can be swapped for the truth."""


@torch.inference_mode()
def predict_with_truth(model: MaskRCNN, image: Tensor, target: Prediction, *swapped: str) -> Prediction:
    """Do what `predict` does for one picture, but take the truth for some stages; the others get it as their input.

    An instance stands for the thing whose box overlaps its own most, whatever the classes, at an IoU of at least 0.5.
    Instances that stand for no thing stay as they are, and so do all scores.

    Args:
        model: in eval mode.
        image: uint8 or float 0 to 1, [3, H, W].
        target: its `boxes`, `labels` and `masks`. Crowd regions are left out.
        swapped: one or more of

            "proposals"  the region proposals are the things' boxes, and nothing else;
            "boxes"      each instance gets the box of its thing, and its mask is computed in there;
            "classes"    each instance gets the class of its thing, and the mask of that class;
            "masks"      each instance gets the mask of its thing.

    Raises:
        TypeError, ValueError: as `prepare_images` does; the target is not sound; there is no such stage.
    """
    unknown = [name for name in swapped if name not in STAGES]
    if unknown or not swapped:
        raise ValueError(
            f"Swap one or more of {', '.join(STAGES)} for the truth, not {unknown or 'nothing'}."
        )
    check_prediction(target, needs=("boxes", "labels", "masks"), where="The target")
    batch = prepare_images(model, [image])
    if target["masks"].shape[-2:] != batch.original_sizes[0]:
        raise ValueError(
            f"The masks of the target are {target['masks'].shape[-1]} x {target['masks'].shape[-2]} pixels (width x "
            f"height), but the picture is {batch.original_sizes[0][1]} x {batch.original_sizes[0][0]}."
        )
    device, real = batch.tensors.device, ~crowd_rows(target)
    boxes, labels = (target[key][real].to(device) for key in ("boxes", "labels"))
    boxes = resize_boxes(boxes, batch.original_sizes[0], batch.image_sizes[0])

    features = extract_features(model, batch)
    proposals = [boxes] if "proposals" in swapped else propose_boxes(model, batch, features)
    head_output = classify_proposals(model, pool_proposals(model, batch, features, proposals))
    [found] = select_detections(model, batch, proposals, *head_output)
    iou = box_iou(found["boxes"], boxes)
    near = (iou >= 0.5).any(dim=1)
    thing = iou[near].argmax(dim=1) if len(boxes) else torch.zeros(0, dtype=torch.int64, device=device)
    if "boxes" in swapped:
        found["boxes"][near] = boxes[thing]
    if "classes" in swapped:
        found["labels"][near] = labels[thing]
    prediction = make_predictions(batch, [found], predict_masks(model, batch, features, [found]))[0]
    if "masks" in swapped:
        masks = prediction["masks"].paste()
        masks[near] = boolean_masks(target["masks"][real]).to(device)[thing]
        prediction["masks"] = masks
    return prediction


def shrink_masks(target: Prediction, side: int = 28) -> RoIMasks:
    """A target's masks as the mask head is taught them: cut out by their boxes, and made `side` x `side` numbers.

    What they differ from the target's own masks, no mask head of this size can get right.

    target: `boxes` and `masks`.
    """
    check_prediction(target, needs=("boxes", "masks"), where="The target")
    masks = boolean_masks(target["masks"])
    rows = torch.arange(len(masks), device=masks.device)
    probs = project_masks_on_boxes(masks, target["boxes"], rows, side)
    return RoIMasks(probs[:, None].clamp(0, 1), target["boxes"], tuple(masks.shape[-2:]))
