"""The training loop learns, can be interrupted, and says what is wrong."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from unchanged import unchanged

from segutils.training import train


class Line(nn.Module):
    """A 'detector' of one weight: enough to watch the loop without waiting for a Mask R-CNN."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images, targets):
        return {"loss_line": sum((self.weight - image.mean()) ** 2 for image in images).mean() / len(images)}


class Greys:
    """Pictures of one grey with one thing, the same whenever they are read."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        target = {"boxes": torch.tensor([[0.0, 0, 2, 2]]), "labels": torch.tensor([1])}
        return torch.full((3, 4, 4), 0.5 + index / 100), target


class Noisy(Greys):
    """Greys with something drawn at random, from each of the generators in use."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        noise = torch.rand(()) + random.random() + np.random.rand()
        return image * noise.float() / 4, target


def test_training_lowers_the_loss_and_returns_a_copy_in_eval_mode():
    model = Line()
    with unchanged(model.state_dict()):
        trained, history = train(model, Greys(), steps=60, peak_rate=0.2)
    assert model.training and not trained.training
    assert 0 < trained.weight.item() < 0.7
    assert [row["step"] for row in history] == list(range(61))
    assert history[0] == {"step": 0} and set(history[1]) == {"step", "loss", "loss_line"}
    assert history[-1]["loss"] < 0.1 * history[1]["loss"]


def test_a_part_of_the_loss_can_count_more():
    (counted, _), (left_out, history) = (
        train(Line(), Greys(), steps=1, loss_weights={"loss_line": weight}) for weight in (1.0, 0.0)
    )
    assert counted.weight.item() > 0 == left_out.weight.item()
    assert history[1]["loss"] == 0 < history[1]["loss_line"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, workers):
    class Interrupted(Noisy):
        left = 37

        def __getitem__(self, index):
            Interrupted.left -= 1
            if Interrupted.left < 0:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    settings = {"steps": 12, "every": 3}
    torch.manual_seed(0)
    whole, whole_history = train(Line(), Noisy(), **settings)
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        train(Line(), Interrupted(), checkpoint=tmp_path / "sub" / "c.pth", **settings)
    torch.manual_seed(1)  # whatever the second process begins with
    resumed, history = train(
        Line(), Noisy(), checkpoint=tmp_path / "sub" / "c.pth", workers=workers, **settings
    )
    assert torch.equal(resumed.weight, whole.weight) and history == whole_history
    assert [file.name for file in (tmp_path / "sub").iterdir()] == ["c.pth"]
    torch.manual_seed(2)
    assert not torch.equal(train(Line(), Noisy(), **settings)[0].weight, whole.weight)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    checkpoint = tmp_path / "c.pth"
    train(Line(), Greys(), steps=4, checkpoint=checkpoint, every=4)
    before = checkpoint.read_bytes()

    class Broken(Line):
        def forward(self, images, targets):
            loss = super().forward(images, targets)["loss_line"]
            return {"loss_line": loss * (float("nan") if self.weight > 0.01 else 1)}

    with pytest.raises(
        FloatingPointError, match="the loss is nan, its gradient nan at step [1-7]: lower peak_rate"
    ):
        train(Broken(), Greys(), steps=8, checkpoint=tmp_path / "other.pth", peak_rate=0.2)
    assert not (tmp_path / "other.pth").exists()
    with pytest.raises(ValueError, match="is of a run with steps 4, not 8: ask for the same, or delete it"):
        train(Line(), Greys(), steps=8, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_a_dataset_without_a_whole_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the dataset has 16 items, fewer than one batch of 17"):
        train(Line(), Greys(), steps=4, checkpoint=tmp_path / "c.pth", batch_size=17)
    assert not list(tmp_path.iterdir())
