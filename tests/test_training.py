"""The training loop learns, can be interrupted, and says what is wrong."""

import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_validation import picture
from torch import nn
from torch.utils.data import DataLoader
from unchanged import unchanged

from segutils import maskrcnn_tabletop, train


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


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"batch_size": 17}, "the dataset has 16 items, fewer than one batch of 17"),
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"every": 2.5}, "every must be a whole number of at least 1, not 2.5"),
        ({"patience": 2}, "patience needs validation"),
        ({"patience": 0, "validation": Greys()}, "patience must be a whole number of at least 1, not 0"),
        ({"validation": []}, "There is no picture to validate on"),
        (
            {"validation": (pair for pair in Greys())},
            r"validation must have a length and items validation\[i\]",
        ),
        ({"dataset": DataLoader(Greys())}, r"items dataset\[i\], not DataLoader; give its dataset"),
        ({"dtype": torch.float16}, "dtype must be torch.float32 or torch.bfloat16, not torch.float16"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        train(Line(), **{"dataset": Greys(), "steps": 4, "checkpoint": tmp_path / "c.pth"} | settings)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_checkpoint_of_this_run_is_left_alone(tmp_path):
    foreign, other = tmp_path / "foreign.pth", tmp_path / "other.pth"
    torch.save(Line().state_dict(), foreign)
    with pytest.raises(
        ValueError, match="foreign.pth is no checkpoint of an interrupted run.*name another file"
    ):
        train(Line(), Greys(), steps=4, checkpoint=foreign)
    train(Line(), Greys(), steps=4, checkpoint=other)

    class Named(Line):
        def __init__(self):
            super().__init__()
            self.second = nn.Parameter(torch.zeros(1))

    with pytest.raises(ValueError, match="other.pth is of another model"):
        train(Named(), Greys(), steps=4, checkpoint=other)
    foreign.write_bytes(b"")
    with pytest.raises(ValueError, match="is no checkpoint"):
        train(Line(), Greys(), steps=4, checkpoint=foreign)


def test_a_wrong_target_stops_the_run_whoever_reads_it():
    class Wrong(Greys):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            return image, target | {"labels": torch.tensor([int(index != 5)])}

    for workers in (0, 1):
        with pytest.raises(ValueError, match=r"dataset\[5\]: label 0 is 0. Labels go from 1"):
            train(Line(), Wrong(), steps=4, workers=workers)
    with pytest.raises(ValueError, match=r"validation\[5\]: label 0 is 0"):
        train(Line(), Greys(), steps=4, validation=Wrong())


def test_the_best_weights_on_validation_are_returned_and_patience_ends_the_run(tmp_path):
    class Black(Greys):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            return torch.zeros_like(image), target

    settings = {"steps": 40, "every": 4, "validation": Black(), "checkpoint": tmp_path / "c.pth"}
    best, history = train(Line(), Greys(), patience=2, **settings)  # away from black
    assert best.weight.item() == 0
    judged = [row["validation_loss"] for row in history if "validation_loss" in row]
    assert history[-1]["step"] == 8 and judged == sorted(judged) and judged[0] == 0
    again, longer = train(Line(), Greys(), patience=2, **settings)
    assert longer == history and again.weight.item() == 0  # it stays ended
    last, whole = train(Line(), Greys(), **settings)
    assert whole[-1]["step"] == 40 and whole[:9] == history and last.weight.item() == 0
    saved = torch.load(tmp_path / "c.pth", weights_only=True)
    assert saved["best"]["weight"] == 0 < saved["average"]["module.weight"]
    towards, _ = train(Line(), Greys(), steps=8, validation=Greys(), every=4, peak_rate=0.1)
    assert towards.weight.item() > 0


def test_arithmetic_is_bfloat16_only_where_the_machine_has_units_for_it(monkeypatch):
    class Watched(Line):
        seen = None

        def forward(self, images, targets):
            Watched.seen = torch.is_autocast_enabled("cpu")
            return super().forward(images, targets)

    for has, dtype, expected in (
        ({"amx_bf16": True}, None, True),
        ({"avx512_bf16": True}, None, True),
        ({"avx2": True}, None, False),
        ({"amx_bf16": True}, torch.float32, False),
        ({}, torch.bfloat16, True),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        train(Watched(), Greys(), steps=1, dtype=dtype)
        assert Watched.seen == expected, (has, dtype)
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # older than torch 2.10
    train(Watched(), Greys(), steps=1)
    assert not Watched.seen


# ------------------------------------------------------------------------------------------------
# A Mask R-CNN
# ------------------------------------------------------------------------------------------------


class Pictures:
    """Pictures of 64 x 64 with two squares and some noise, different each time they are read."""

    killed_at = None  # the item at whose reading the process ends itself, as if somebody had pulled the plug
    read = 0

    def __len__(self):
        return 6

    def __getitem__(self, index):
        Pictures.read += 1
        if Pictures.read == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        image, target = picture(index)
        return (image + torch.rand(3, 64, 64) / 20).clamp(0, 1), target


def train_small(checkpoint, killed_at=None):
    """Train the bundled architecture for four steps. Run in another process as well."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = maskrcnn_tabletop(min_size=64, max_size=64, box_detections_per_img=5)
    Pictures.killed_at = killed_at
    return train(
        model,
        Pictures(),
        steps=4,
        every=2,
        batch_size=2,
        validation=[picture(9)],
        checkpoint=checkpoint,
        dtype=torch.float32,
    )


def test_a_killed_run_ends_with_the_same_weights_as_one_that_was_not(tmp_path):
    code = f"import test_training; test_training.train_small({str(tmp_path / 'c.pth')!r}, killed_at=6)"
    path = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "c.pth", weights_only=True)["history"][-1]["step"] == 2
    torch.rand(3)
    resumed, history = train_small(tmp_path / "c.pth")
    whole, whole_history = train_small(None)
    assert history == whole_history and {"AP", "AP50", "validation_loss_mask"} < set(history[-1])
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_frozen_parts_stay_as_they_are_with_their_statistics():
    torch.manual_seed(0)
    model = maskrcnn_tabletop(min_size=64, max_size=64)
    model.backbone.requires_grad_(False)
    trained, _ = train(model, Pictures(), steps=3, batch_size=2, dtype=torch.float32)
    before = model.state_dict()
    same = {key for key, value in trained.state_dict().items() if torch.equal(value, before[key])}
    assert {key for key in before if key.startswith("backbone")} <= same
    assert not {key for key in same if key.startswith("roi_heads") and "num_batches" not in key}
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad=False: there is nothing to train"):
        train(model, Pictures(), steps=1)
