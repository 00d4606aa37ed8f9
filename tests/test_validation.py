"""Losses on validation pictures: the model isn't touched, and the number is torchvision's own."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from unchanged import unchanged

from segutils import make_target, maskrcnn_tabletop, validation_loss
from segutils.models.maskrcnn import SmallBackbone
from segutils.validation import CheckedPairs, validate

PARTS = {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}


def picture(seed):
    """A picture of 64 x 64 with two squares, and its target."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, 64, 64, generator=generator) / 4
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 4:28, 4:28], masks[1, 34:60, 30:60] = True, True
    image[:, masks[0]] += 0.7
    image[0, masks[1]] += 0.6
    return image, make_target(masks, [1, 2])


@pytest.fixture
def model():
    """The bundled architecture with random weights, whose batch norms and dropout would betray a train mode."""
    torch.manual_seed(0)
    model = maskrcnn_tabletop(min_size=64, max_size=64)
    model.roi_heads.box_head = nn.Sequential(model.roi_heads.box_head, nn.Dropout(0.5))
    return model


def test_the_loss_is_torchvision_s_and_the_model_is_left_alone(model):
    pairs = [picture(seed) for seed in range(2)]
    model.train().roi_heads.eval()  # a mixture, which has to come back
    modes = [module.training for module in model.modules()]
    with unchanged(model.state_dict(), torch.get_rng_state(), pairs):
        first, second = validation_loss(model, pairs), validation_loss(model, pairs)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert first == second
    assert set(first) == PARTS | {"loss"}
    assert first["loss"] == pytest.approx(sum(first[name] for name in PARTS))

    model.train()  # another way there: all in train mode, but for the layers that behave otherwise in it
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()
    model.transform.eval()  # in train mode it throws dice for a size, were there several
    torch.manual_seed(0)
    with torch.no_grad():
        losses = [model([image], [target]) for image, target in pairs]
    for name in PARTS:
        assert first[name] == pytest.approx(sum(one[name].item() for one in losses) / 2, rel=1e-5)


def test_an_error_leaves_the_modes_as_they_were(model):
    image, target = picture(0)
    model.train()
    with pytest.raises(ValueError, match=r"^pairs\[1\]: box 0 is"):
        validation_loss(
            model, [(image, target), (image, target | {"boxes": target["boxes"][:, [2, 3, 0, 1]]})]
        )
    assert all(module.training for module in model.modules())
    with pytest.raises(ValueError, match=r"^pairs\[0\] has no masks"):
        validation_loss(model, [(image, {key: target[key] for key in ("boxes", "labels")})])
    with pytest.raises(ValueError, match=r"^pairs\[0\]: label 0 is 12. Labels go from 1 to 11"):
        validation_loss(model, [(image, target | {"labels": torch.tensor([12, 1])})])
    with pytest.raises(ValueError, match="no picture to validate on"):
        validation_loss(model, [])


def test_crowds_do_not_count_and_uint8_pictures_do(model):
    image, target = picture(0)
    alone = {key: value[:1] for key, value in target.items()}
    image = (image * 255).round() / 255
    crowd = target | {"iscrowd": torch.tensor([0, 1])}
    expected = validation_loss(model, [(image, alone)])
    assert validation_loss(model, [(image, crowd)]) == expected
    assert validation_loss(model, [((image * 255).round().byte(), crowd)]) == expected
    assert validation_loss(model, [(image, target)]) != expected


def test_a_picture_with_nothing_in_it_has_a_loss(model):
    empty = make_target(torch.zeros(0, 64, 64, dtype=torch.bool), [])
    losses = validation_loss(model, [(picture(0)[0], empty)])
    assert losses["loss_mask"] == losses["loss_box_reg"] == 0 < losses["loss_objectness"]


def other_detectors():
    anchors = AnchorGenerator(((16,), (32,), (64,), (128,)), ((1.0,),) * 4)
    settings = {"min_size": 64, "max_size": 64, "num_classes": 3}
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 3, 2)
    yield FasterRCNN(SmallBackbone(), rpn_anchor_generator=anchors, box_roi_pool=pool, **settings)
    yield RetinaNet(SmallBackbone(), anchor_generator=anchors, **settings)
    single = AnchorGenerator(((8,), (16,), (32,), (64,)), ((1.0,),) * 4)
    yield FCOS(SmallBackbone(), anchor_generator=single, **settings)


def test_other_detectors_of_torchvision_are_judged_too():
    pairs = [picture(0)]
    for model in other_detectors():
        with unchanged(model.state_dict()):
            row = validate(model, CheckedPairs(pairs, model, "validation"))
        parts = [row[name] for name in row if name.startswith("validation_") and name != "validation_loss"]
        assert len(parts) >= 2 and row["validation_loss"] == pytest.approx(sum(parts))
        assert 0 <= row["AP"] <= row["AP50"] <= 1
        with pytest.raises(ValueError, match="Labels go from 1 to 2"):
            image, target = pairs[0]
            validation_loss(model, [(image, target | {"labels": torch.tensor([1, 3])})])
