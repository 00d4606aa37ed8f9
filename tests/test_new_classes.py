"""Predictors for other classes, and more classes beside the old ones."""

from functools import partial

import pytest
import torch
from torchvision.models.detection import (
    FasterRCNN,
    fasterrcnn_mobilenet_v3_large_320_fpn,
    retinanet_resnet50_fpn,
)
from unchanged import unchanged

from segutils import add_classes, evaluate, load_model, predict, render_scene, replace_predictors, train
from segutils.inference import (
    classify_proposals,
    extract_features,
    pool_proposals,
    predict_masks,
    prepare_images,
    propose_boxes,
)
from segutils.models import MODELS
from segutils.tabletop import CATEGORIES

SKY = ["__background__", "galaxy", "star"]
box_model = partial(fasterrcnn_mobilenet_v3_large_320_fpn, weights=None, weights_backbone=None)


@pytest.fixture(scope="module")
def tabletop():
    return load_model("tabletop", device="cpu")[0]


@pytest.mark.parametrize("name", [*MODELS, "boxes"])
def test_predictors_of_every_architecture_are_replaced(name):
    with torch.device("meta"):  # shapes are enough
        model = (MODELS[name][0] if name in MODELS else box_model)()
    before = {key: value.shape for key, value in model.state_dict().items()}
    new = replace_predictors(model, SKY)
    assert {key: value.shape for key, value in model.state_dict().items()} == before
    changed = {k: tuple(v.shape) for k, v in new.state_dict().items() if v.shape != before[k]}
    wide, hidden = model.roi_heads.box_predictor.cls_score.in_features, None
    expected = {"box_predictor.cls_score.weight": (3, wide), "box_predictor.cls_score.bias": (3,)}
    expected |= {"box_predictor.bbox_pred.weight": (12, wide), "box_predictor.bbox_pred.bias": (12,)}
    if name != "boxes":
        hidden = model.roi_heads.mask_predictor.conv5_mask.out_channels
        expected |= {"mask_predictor.mask_fcn_logits.weight": (3, hidden, 1, 1)}
        expected |= {"mask_predictor.mask_fcn_logits.bias": (3,)}
    assert changed == {f"roi_heads.{key}": shape for key, shape in expected.items()}


def test_all_but_the_predictors_is_kept(tabletop):
    frozen = replace_predictors(tabletop, SKY)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    with unchanged(tabletop.state_dict()):
        torch.manual_seed(0)
        one = replace_predictors(tabletop, SKY)
        torch.manual_seed(0)
        two = replace_predictors(frozen.train(), SKY)
    old = tabletop.state_dict()
    for key, value in one.state_dict().items():
        assert torch.equal(value, old[key]) == ("predictor" not in key), key
        if "predictor" in key:
            assert torch.equal(value, two.state_dict()[key]), key
    layer = one.roi_heads.mask_predictor.conv5_mask
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert not layer.training and two.roi_heads.mask_predictor.conv5_mask.training
    assert {n.split(".")[1] for n, p in two.named_parameters() if p.requires_grad} == {
        "box_predictor",
        "mask_predictor",
    }
    assert (predict(one, [render_scene(3)[0]])[0]["labels"] < len(SKY)).all()


def test_added_classes_leave_the_old_ones_as_they_were(tabletop):
    with unchanged(tabletop.state_dict(), CATEGORIES):
        wide, names = add_classes(tabletop, CATEGORIES, ["galaxy", "star"])
    old = tabletop.state_dict()
    assert names == [*CATEGORIES, "galaxy", "star"]
    again, _ = add_classes(tabletop, CATEGORIES, ["galaxy", "star"])
    for key, value in wide.state_dict().items():
        assert torch.equal(value[: len(old[key])] if value.ndim else value, old[key]), key
        assert torch.equal(value, again.state_dict()[key])


def test_an_added_class_starts_as_a_thousandth_of_the_background(tabletop):
    wide, _ = add_classes(tabletop, CATEGORIES, ["galaxy"])
    image, _ = render_scene(4)
    batch = prepare_images(tabletop, [image])
    features = extract_features(tabletop, batch)
    proposals = propose_boxes(tabletop, batch, features)
    pooled = pool_proposals(tabletop, batch, features, proposals)
    (logits, deltas), (wide_logits, wide_deltas) = (classify_proposals(m, pooled) for m in (tabletop, wide))
    before, after = logits.softmax(1), wide_logits.softmax(1)
    assert torch.allclose(after[:, -1], after[:, 0] / 1000)
    loss = 1 - after[:, :-1] / before
    assert -1e-5 < loss.min() and 5e-4 < loss.max() < 1.01e-3
    assert torch.allclose(wide_deltas[:, -4:], deltas.unflatten(1, (-1, 4))[:, 1:].mean(1), atol=1e-5)
    found = [{"boxes": proposals[0][:5], "labels": torch.ones(5), "scores": torch.ones(5)}]
    masks, wide_masks = (predict_masks(m, batch, features, found) for m in (tabletop, wide))
    assert torch.allclose(wide_masks[:, :-1], masks, atol=1e-5)
    assert torch.allclose(wide_masks[:, -1], masks[:, 1:].mean(1), atol=1e-4)


def test_average_precision_is_the_same_before_and_after_classes_are_added(tabletop):
    scenes = [render_scene(seed) for seed in range(30_000, 30_006)]
    wide, names = add_classes(tabletop, CATEGORIES, ["galaxy"])
    before, after = (
        evaluate((predict(m, [image])[0] for image, _ in scenes), [t for _, t in scenes], names)
        for m in (tabletop, wide)
    )
    assert before["AP"] > 0.5 and before["AP"] == pytest.approx(after["AP"], abs=1e-3)


def test_an_added_class_can_be_learnt(tabletop):
    wide, names = add_classes(tabletop, CATEGORIES, ["galaxy"])
    wide.transform._skip_resize = True
    for (
        name,
        parameter,
    ) in wide.named_parameters():  # for speed, and the RPN, which has never seen such a thing
        parameter.requires_grad_("predictor" in name or "rpn" in name)
    boxes = torch.tensor([[16.0, 16, 48, 48]])
    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    masks[:, 16:48, 16:48] = 1
    image = torch.full((3, 64, 64), 0.1)
    image[:, 16:48, 16:48] = torch.tensor([0.9, 0.2, 0.9])[:, None, None]
    pairs = [(image, {"boxes": boxes, "labels": torch.tensor([len(names) - 1]), "masks": masks})]
    torch.manual_seed(0)
    trained, _ = train(wide, pairs, steps=12, batch_size=1, peak_rate=1e-2, dtype=torch.float32)
    found = predict(trained, [image])[0]
    assert found["labels"][0] == len(names) - 1 and found["scores"][0] > 0.3


@pytest.mark.parametrize(
    "categories, message",
    [
        ("galaxy", "categories is a list of class names"),
        (3, "categories is a list of class names"),
        (["__background__"], "the name of a class at least"),
        (["galaxy", "star"], "The first of the categories is '__background__', label 0, not 'galaxy'"),
        (["__background__", "star", "star"], "has 'star' twice"),
    ],
)
def test_categories_that_are_none_are_refused(tabletop, categories, message):
    with pytest.raises((TypeError, ValueError), match=message):
        replace_predictors(tabletop, categories)


def test_what_cannot_be_widened_is_refused(tabletop):
    with pytest.raises(ValueError, match="has 12 classes .with the background., but categories has 3 names"):
        add_classes(tabletop, SKY, ["planet"])
    with pytest.raises(ValueError, match="has 'coin' twice"):
        add_classes(tabletop, CATEGORIES, ["coin"])
    with pytest.raises(TypeError, match=r'such as \["galaxy"\], not \'galaxy\''):
        add_classes(tabletop, CATEGORIES, "galaxy")
    with torch.device("meta"):
        other = retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    with pytest.raises(
        TypeError, match="Faster or Mask R-CNN with torchvision's own predictors.*not RetinaNet"
    ):
        replace_predictors(other, SKY)


def test_categories_of_coco_with_its_gaps_are_welcome():
    with torch.device("meta"):
        model = MODELS["coco"][0]()
    names = MODELS["coco"][1].meta["categories"]
    wide, names = add_classes(model, names, ["galaxy"])
    assert names.count("N/A") > 1 and wide.roi_heads.box_predictor.cls_score.out_features == 92
    assert isinstance(wide, FasterRCNN)
