"""The training loop learns, can be interrupted, and says what is wrong."""

import pytest
import torch
from torch import nn

from segutils.training import train


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


def test_training_lowers_the_loss_and_returns_the_average_in_eval_mode(tmp_path):
    trained = train(Line(), Threes(), steps=60, checkpoint=tmp_path / "c.pth", peak_rate=0.2, save_every=60)
    assert not trained.training
    assert 0 < trained.weight.item() < 3


def test_a_part_of_the_loss_can_count_more(tmp_path):
    counted, left_out = (
        train(Line(), Threes(), steps=1, checkpoint=tmp_path / f"{weight}.pth", loss_weights={"loss": weight})
        for weight in (1.0, 0.0)
    )
    assert counted.weight.item() > 0 == left_out.weight.item()


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
