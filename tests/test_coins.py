"""What the README promises: 24 coins in a photograph that the bundled model has never seen, however it is held."""

import pytest
import torch
from coins import changed, classical_masks, mask_ious, photograph

from segutils import filter_model_output, get_boolean_mask, load_model
from segutils.tabletop import CATEGORIES

VARIANTS = changed(photograph())


@pytest.fixture(scope="module")
def model():
    return load_model("tabletop", device="cpu")[0]


def test_the_classical_segmentation_has_24_coins():
    masks = classical_masks()
    assert masks.shape == (24, 303, 384)
    assert masks.sum((1, 2)).min() > 1000 and masks.sum(0).max() == 1


@pytest.mark.parametrize("name", VARIANTS)
def test_24_coins_none_split_nothing_else(model, name):
    image, true = VARIANTS[name]
    with torch.inference_mode():
        output = model([image])
    found = get_boolean_mask(filter_model_output(output, 0.5))[0]
    assert [CATEGORIES[label] for label in found["labels"]] == ["coin"] * 24
    best, which = mask_ious(found["masks"], true).max(1)
    assert len(which.unique()) == 24 and best.min() >= 0.75


def test_the_masks_agree_with_the_classical_segmentation(model):
    with torch.inference_mode():
        found = get_boolean_mask(filter_model_output(model([photograph()]), 0.5))[0]
    assert mask_ious(found["masks"], classical_masks()).max(1).values.mean() >= 0.90
