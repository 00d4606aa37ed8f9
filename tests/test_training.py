"""The training loop learns, can be interrupted, and says what is wrong."""

import numpy as np
import pytest
import torch
from torch import nn

from segutils import training
from segutils.downloads import read_weights
from segutils.models import maskrcnn_tabletop
from segutils.models.semantic import fcn_tabletop
from segutils.training import PixelLoss, StoredScenes, save_weights, train


class Line(nn.Module):
    """A 'detector' of one weight: enough to watch the loop without waiting for a Mask R-CNN."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images, targets):
        return {"loss": sum((self.weight - image.mean()) ** 2 for image in images).mean() / len(images)}


class Threes:
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return torch.full((3, 4, 4), 3.0), {"labels": torch.tensor([index])}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return StoredScenes(tmp_path_factory.mktemp("scenes"), 4)


def test_stored_scenes_give_sound_targets(scenes):
    for seed in range(6):
        scenes.seed = seed
        for index in range(len(scenes)):
            image, target = scenes[index]
            n = len(target["labels"])
            assert image.shape == (3, training.CROP, training.CROP) and image.dtype == torch.float32
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


def test_a_scene_is_varied_anew_in_every_pass_and_repeatable(scenes):
    scenes.seed = 0
    first, again = scenes[1][0], scenes[1][0]
    scenes.seed = 1
    other = scenes[1][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_scenes_drawn_once_are_not_drawn_again(scenes, tmp_path, monkeypatch):
    StoredScenes(tmp_path, 2)
    monkeypatch.setattr(training, "render_scene", lambda *_: pytest.fail("drawn again"))
    kept = StoredScenes(tmp_path, 2)
    assert np.array_equal(kept.images[:2], scenes.images[:2])


def test_the_ranges_of_seeds_do_not_meet():
    ranges = training.TRAINING_SEEDS, training.VALIDATION_SEEDS, training.TEST_SEEDS
    for one in ranges:
        assert not any(one is not other and set(one[:: len(one) - 1]) & set(other) for other in ranges)
    assert len(training.TEST_SEEDS) == 500


def test_training_lowers_the_loss_and_returns_the_average_in_eval_mode(tmp_path):
    trained = train(Line(), Threes(), steps=60, checkpoint=tmp_path / "c.pth", peak_rate=0.2, save_every=60)
    assert not trained.training
    assert 0 < trained.weight.item() < 3


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    seen = []
    whole = train(Line(), Threes(), steps=12, checkpoint=tmp_path / "whole.pth", save_every=4)

    def stop(step, model):
        seen.append(step)
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Line(), Threes(), steps=12, checkpoint=tmp_path / "c.pth", save_every=4, after_saving=stop)
    resumed = train(Line(), Threes(), steps=12, checkpoint=tmp_path / "c.pth", save_every=4)
    assert seen == [4, 8]
    assert torch.equal(resumed.weight, whole.weight)
    assert not list(tmp_path.glob("*.part"))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    checkpoint = tmp_path / "c.pth"
    train(Line(), Threes(), steps=4, checkpoint=checkpoint, save_every=4)
    before = checkpoint.read_bytes()

    class Broken(Line):
        def forward(self, images, targets):
            loss = super().forward(images, targets)["loss"]
            return {"loss": loss * (float("nan") if self.weight > 0.01 else 1)}

    with pytest.raises(FloatingPointError, match="the loss is nan at step [1-7]: lower peak_rate"):
        train(Broken(), Threes(), steps=8, checkpoint=tmp_path / "other.pth", peak_rate=0.2)
    assert not (tmp_path / "other.pth").exists()
    with pytest.raises(ValueError, match="is of a run of 4 steps, not 8: ask for as many, or delete it"):
        train(Line(), Threes(), steps=8, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_a_dataset_without_a_whole_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the dataset has 16 items, fewer than one batch of 17"):
        train(Line(), Threes(), steps=4, checkpoint=tmp_path / "c.pth", batch_size=17)
    assert not list(tmp_path.iterdir())


def test_the_tabletop_model_trains_on_stored_scenes_and_its_weights_come_back(scenes, tmp_path):
    torch.manual_seed(0)
    model = maskrcnn_tabletop(_skip_resize=True)
    trained = train(model, scenes, steps=2, checkpoint=tmp_path / "c.pth", batch_size=2)
    file = save_weights(trained, tmp_path / "weights", "toy")
    assert list(file.parent.iterdir()) == [file]
    state = read_weights(file)
    assert {v.dtype for v in state.values()} == {torch.float16, torch.int64}
    maskrcnn_tabletop().load_state_dict(state)
    assert file.stat().st_size < 8e6
