"""Stages swapped for the truth: what is swapped is the truth, what is not stays the network's."""

import pytest
import torch
from torchvision.ops import box_iou
from unchanged import unchanged

from segutils import evaluate, load_model, mask_iou, predict, predict_with_truth, render_scene, shrink_masks


@pytest.fixture(scope="module")
def model():
    return load_model("tabletop", device="cpu")[0]


@pytest.fixture(scope="module")
def scene():
    return render_scene(10)  # the network finds every thing, and some that are none


def test_boxes_classes_and_masks_are_those_of_the_things(model, scene):
    image, target = scene
    swapped = {}
    with unchanged(image, target):
        for stage in ("boxes", "classes", "masks"):
            swapped[stage] = predict_with_truth(model, image, target, stage)
    [plain] = predict(model, [image])
    for one in swapped.values():
        assert torch.equal(one["scores"], plain["scores"])
    assert torch.equal(swapped["boxes"]["labels"], plain["labels"])
    assert torch.equal(swapped["masks"]["boxes"], swapped["classes"]["boxes"])
    nearest = (swapped["boxes"]["boxes"][:, None] - target["boxes"]).abs().amax(dim=2).amin(dim=1)
    alone = box_iou(plain["boxes"], target["boxes"]).amax(dim=1) < 0.5
    assert len(target["boxes"]) <= (nearest < 0.01).sum() and (nearest >= 0.01).sum() == alone.sum() > 0
    whole = mask_iou(swapped["masks"]["masks"], target["masks"]).amax(dim=1) == 1
    assert torch.equal(whole, nearest < 0.01)
    assert not torch.equal(swapped["boxes"]["masks"].probs, plain["masks"].probs)


def test_all_true_together_find_everything(model):
    image, target = render_scene(4)
    found = predict_with_truth(model, image, target, "proposals", "boxes", "classes", "masks")
    assert evaluate([found], [target])["AR_100"] == 1


def test_proposals_are_the_boxes_of_the_things(model):
    image, target = render_scene(4)
    found = predict_with_truth(model, image, target, "proposals")
    best = mask_iou(found["masks"], target["masks"]).amax(dim=0)
    assert best.min() > 0.5
    nothing = {key: value[:0] for key, value in target.items()}
    assert len(predict_with_truth(model, image, nothing, "proposals")["scores"]) == 0
    assert len(predict_with_truth(model, image, nothing, "masks", "boxes")["scores"]) > 0


def test_crowd_regions_stand_for_nothing(model, scene):
    image, target = scene
    crowds = target | {"iscrowd": torch.ones_like(target["labels"])}
    found, [plain] = predict_with_truth(model, image, crowds, "boxes"), predict(model, [image])
    assert torch.equal(found["boxes"], plain["boxes"])


def test_masks_of_28_x_28_lose_little(scene):
    _, target = scene
    with unchanged(target):
        small = shrink_masks(target)
    assert small.probs.shape == (len(target["labels"]), 1, 28, 28)
    lost = 1 - mask_iou(small, target["masks"]).diag()
    coarser = 1 - mask_iou(shrink_masks(target, 7), target["masks"]).diag()
    assert 0 < lost.max() < 0.2 and lost.mean() < coarser.mean()
    assert len(shrink_masks({key: value[:0] for key, value in target.items()})) == 0


def test_bad_input_is_refused(model, scene):
    image, target = scene
    with pytest.raises(
        ValueError, match=r"one or more of proposals, boxes, classes, masks .*, not \['scores'\]"
    ):
        predict_with_truth(model, image, target, "scores")
    with pytest.raises(ValueError, match="not nothing"):
        predict_with_truth(model, image, target)
    with pytest.raises(ValueError, match="The target has no masks"):
        predict_with_truth(model, image, {key: target[key] for key in ("boxes", "labels")}, "boxes")
    with pytest.raises(
        ValueError, match="masks of the target are 640 x 480 .*, but the picture is 320 x 480"
    ):
        predict_with_truth(model, image[..., :320], target, "boxes")
