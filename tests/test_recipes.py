"""The recipes of the bundled weights: scenes on disk are sound, and models train on them."""

import copy

import numpy as np
import pytest
import torch
from test_validation import picture

from segutils.models import maskrcnn_tabletop
from segutils.models.downloads import read_weights
from segutils.models.semantic import fcn_tabletop
from segutils.tabletop import recipes
from segutils.tabletop.elsewhere import render_elsewhere
from segutils.tabletop.recipes import PixelLoss, StoredScenes
from segutils.training import train
from segutils.validation import validation_loss


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return StoredScenes(tmp_path_factory.mktemp("scenes"), 4, 2)


def test_stored_scenes_give_sound_targets(scenes):
    for seed in range(6):
        torch.manual_seed(seed)
        for index in range(len(scenes)):
            image, target = scenes[index]
            n = len(target["labels"])
            assert image.shape == (3, recipes.CROP, recipes.CROP) and image.dtype == torch.float32
            assert image.min() >= 0 and image.max() <= 1
            assert target["boxes"].shape == (n, 4) and target["masks"].shape == (n, *image.shape[1:])
            assert (target["labels"] > 0).all() and target["labels"].dtype == torch.int64
            assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()


def test_a_semantic_model_is_asked_for_the_class_of_every_pixel(scenes):
    torch.manual_seed(0)
    images, targets = zip(*(scenes[index] for index in range(2)))
    model = PixelLoss(fcn_tabletop())
    losses = model(list(images), list(targets))
    assert list(losses) == ["loss_pixels"] and losses["loss_pixels"] > 0.5
    losses["loss_pixels"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    trained = PixelLoss(fcn_tabletop(weights="DEFAULT")).eval()
    with torch.inference_mode():
        assert trained(list(images), list(targets))["loss_pixels"] < 0.3  # near the truth, pixel by pixel


def test_a_scene_is_varied_anew_whenever_it_is_read_and_repeatable(scenes):
    torch.manual_seed(0)
    first, other = scenes[1][0], scenes[1][0]
    torch.manual_seed(0)
    again = scenes[1][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_scenes_drawn_once_are_not_drawn_again(scenes, tmp_path, monkeypatch):
    StoredScenes(tmp_path, 2)
    monkeypatch.setattr(recipes, "render_scene", lambda *_: pytest.fail("drawn again"))
    kept = StoredScenes(tmp_path, 2)
    assert len(kept) == 2
    assert np.array_equal(kept.images[:2], scenes.images[:2])


def test_pictures_from_elsewhere_follow_the_scenes(scenes):
    for index in (4, 5):
        image, target = render_elsewhere(recipes.TRAINING_SEEDS[index - 4], recipes.SCENE_SIZE)
        assert np.array_equal(scenes.images[index], image)
        assert scenes.labels[index].astype(bool).sum() == 1 + len(target["labels"])


def test_the_ranges_of_seeds_do_not_meet():
    ranges = recipes.TRAINING_SEEDS, recipes.VALIDATION_SEEDS, recipes.TEST_SEEDS
    for one in ranges:
        assert not any(one is not other and set(one[:: len(one) - 1]) & set(other) for other in ranges)
    assert len(recipes.TEST_SEEDS) == 500


def test_the_tabletop_model_trains_on_stored_scenes_and_its_weights_come_back(scenes, tmp_path):
    torch.manual_seed(0)
    model = maskrcnn_tabletop(_skip_resize=True)
    settings = recipes.TRAINING | {"batch_size": 2}
    trained, _ = train(model, scenes, steps=2, checkpoint=tmp_path / "c.pth", **settings)
    file = recipes.save_weights(trained, tmp_path / "weights", "toy")
    assert list(file.parent.iterdir()) == [file]
    state = read_weights(file)
    assert {v.dtype for v in state.values()} == {torch.float16, torch.int64}
    maskrcnn_tabletop().load_state_dict(state)
    assert file.stat().st_size < 8e6


def test_masks_count_twice_in_copies_while_they_train():
    model, pairs = maskrcnn_tabletop(min_size=64, max_size=64), [picture(0)]
    once = validation_loss(model, pairs)
    model.register_forward_hook(recipes._count_masks_twice)
    twice = validation_loss(copy.deepcopy(model), pairs)
    assert twice["loss_mask"] == 2 * once["loss_mask"] > 0
    assert twice["loss"] == pytest.approx(once["loss"] + once["loss_mask"])
    assert twice["loss_box_reg"] == once["loss_box_reg"]
    assert set(model.eval()([pairs[0][0]])[0]) == {"boxes", "labels", "scores", "masks"}
