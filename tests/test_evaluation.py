"""Mask AP: what a perfect, a shifted and a silent model get, and the two libraries in agreement."""

import pytest
import torch
from torch import nn
from torchmetrics.detection import MeanAveragePrecision

from segutils import mean_average_precision, render_scene


class Oracle(nn.Module):
    """Answers with the truth, moved to the right by some pixels; a share of the things it keeps to itself."""

    def __init__(self, targets, shift=0, keep=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.targets, self.shift, self.keep = list(targets), shift, keep
        self.eval()

    def forward(self, images):
        assert all(0 <= image.min() and image.max() <= 1 for image in images)
        target = self.targets.pop(0)
        masks = target["masks"].float().roll(self.shift, -1)[:, None]
        n = int(len(masks) * self.keep)
        boxes = target["boxes"] + torch.tensor([self.shift, 0, self.shift, 0])
        scores = torch.linspace(0.9, 0.1, len(masks))
        prediction = {"boxes": boxes, "labels": target["labels"], "scores": scores, "masks": masks}
        return [{name: value[:n] for name, value in prediction.items()}]


@pytest.fixture(scope="module")
def pairs():
    return [render_scene(seed, (240, 320)) for seed in range(4)]


def targets(pairs):
    return [target for _, target in pairs]


def test_the_truth_gets_1_and_silence_0(pairs):
    perfect = mean_average_precision(Oracle(targets(pairs)), pairs)
    assert perfect["segm_map"] == perfect["segm_map_50"] == perfect["bbox_map"] == 1
    silent = mean_average_precision(Oracle(targets(pairs), keep=0), pairs)
    assert silent["segm_map"] == 0


def test_a_small_shift_costs_little_and_a_large_one_all(pairs):
    near = mean_average_precision(Oracle(targets(pairs), shift=4), pairs)
    far = mean_average_precision(Oracle(targets(pairs), shift=100), pairs)
    assert 0.2 < near["segm_map"] < near["segm_map_50"] <= 1
    assert far["segm_map"] < 0.05


def test_it_agrees_with_pycocotools(pairs):
    ours = mean_average_precision(Oracle(targets(pairs), shift=5), pairs)
    metric = MeanAveragePrecision(iou_type=("bbox", "segm"), backend="pycocotools")
    oracle = Oracle(targets(pairs), shift=5)
    for image, target in pairs:
        found = oracle([image / 255])[0]
        found["masks"] = found["masks"][:, 0] > 0.5
        truth = {"boxes": target["boxes"], "labels": target["labels"], "masks": target["masks"].bool()}
        metric.update([{name: value.detach() for name, value in found.items()}], [truth])
    theirs = metric.compute()
    for name in ("segm_map", "segm_map_50", "segm_map_75", "bbox_map"):
        assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-6)


def test_nothing_handed_in_is_changed(pairs):
    before = [(image.clone(), {k: v.clone() for k, v in target.items()}) for image, target in pairs]
    mean_average_precision(Oracle(targets(pairs)), pairs)
    for (image, target), (old_image, old_target) in zip(pairs, before, strict=True):
        assert torch.equal(image, old_image)
        assert all(torch.equal(target[name], old_target[name]) for name in target)


def test_a_model_in_train_mode_is_refused(pairs):
    with pytest.raises(ValueError, match="train mode: call model.eval"):
        mean_average_precision(Oracle(targets(pairs)).train(), pairs)
