"""The drawn world: exact ground truth, the same for a seed, sane on strange input."""

import hashlib

import numpy as np
import pytest
import torch
from torchvision.ops import masks_to_boxes

from segutils.tabletop import CATEGORIES, render_scene, scene
from segutils.tabletop.elsewhere import STRANGERS, render_elsewhere
from segutils.tabletop.pieces import Patch
from segutils.tabletop.things import THINGS

SEEDS = range(12)


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed) for seed in SEEDS]


def test_categories_are_torchvision_s_kind():
    assert CATEGORIES[0] == "__background__"
    assert len(CATEGORIES) >= 11
    assert set(THINGS) == set(CATEGORIES[1:])
    assert {"coin", "cup", "cell phone", "book", "donut", "banana", "mouse", "scissors"} < set(CATEGORIES)


def test_a_scene_is_a_picture_and_torchvision_s_target(scenes):
    for image, target in scenes:
        assert image.dtype == torch.uint8 and image.shape == (3, 480, 640)
        n = len(target["labels"])
        assert target["boxes"].dtype == torch.float32 and target["boxes"].shape == (n, 4)
        assert target["labels"].dtype == torch.int64
        assert target["masks"].dtype == torch.uint8 and target["masks"].shape == (n, 480, 640)
        assert set(target["masks"].unique().tolist()) <= {0, 1}
        assert n <= 14
        assert all(1 <= label < len(CATEGORIES) for label in target["labels"].tolist())


def test_boxes_fit_their_masks_and_no_pixel_has_two_owners(scenes):
    for _, target in scenes:
        if len(target["labels"]):
            tight = masks_to_boxes(target["masks"].bool())
            tight[:, 2:] += 1  # torchvision names the last pixel, a box ends behind it
            assert torch.equal(target["boxes"], tight)
        assert int(target["masks"].sum(0).max()) <= 1
        assert (target["masks"].sum((1, 2)) >= 40).all()


def test_the_same_seed_gives_the_same_scene_and_another_another(scenes):
    for seed, (image, target) in zip(SEEDS, scenes, strict=True):
        again, target_again = render_scene(seed)
        assert torch.equal(image, again)
        assert all(torch.equal(target[name], target_again[name]) for name in target)
    digests = {hashlib.sha256(image.numpy().tobytes()).hexdigest() for image, _ in scenes}
    assert len(digests) == len(scenes)


def test_global_random_state_is_neither_used_nor_changed():
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.random.get_rng_state()
    first = render_scene(3)[0]
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.random.get_rng_state(), before[1])
    np.random.seed(2)
    assert torch.equal(render_scene(3)[0], first)


def test_the_world_is_varied():
    labels, counts, sides, empty, grey = set(), [], [], 0, 0
    for seed in range(150):
        image, target = render_scene(seed, (240, 320))
        labels |= set(target["labels"].tolist())
        counts.append(len(target["labels"]))
        empty += counts[-1] == 0
        grey += bool((image[0] == image[1]).all() and (image[0] == image[2]).all())
        if counts[-1]:
            sides.append((target["boxes"][:, 2:] - target["boxes"][:, :2]).max(1).values * 2)
    sides = torch.cat(sides)
    assert labels == set(range(1, len(CATEGORIES)))
    assert max(counts) >= 13 and empty >= 1
    assert 20 <= grey <= 80
    assert sides.min() < 40 and sides.max() > 250  # in pixels of a picture 480 high


def test_the_share_that_must_stay_visible_is_kept(monkeypatch):
    """Where all of every thing must stay visible, each mask has the area of a whole thing; by default fewer do."""
    whole = set()
    coverage = scene.coverage

    def recording(edge, px):
        cover = coverage(edge, px)
        whole.add(int((cover >= 0.5).sum()))
        return cover

    monkeypatch.setattr(scene, "coverage", recording)
    counts = {}
    for share in (1.0, scene.MIN_VISIBLE):
        monkeypatch.setattr(scene, "MIN_VISIBLE", share)
        areas = [render_scene(seed, (240, 320))[1]["masks"].sum((1, 2)).tolist() for seed in range(30)]
        counts[share] = sum(map(len, areas)), sum(area in whole for one in areas for area in one)
    assert counts[1.0][0] == counts[1.0][1]
    assert counts[0.25][0] > counts[1.0][0] and counts[0.25][1] < counts[0.25][0]


@pytest.mark.parametrize("size", [(64, 64), (96, 200), (333, 257), (720, 960)])
def test_other_sizes(size):
    for seed in range(4):
        image, target = render_scene(seed, size)
        assert image.shape == (3, *size)
        assert target["masks"].shape[1:] == size
        assert (target["boxes"] >= 0).all()


def test_a_negative_seed_and_a_tiny_size_are_refused():
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        render_scene(-1)
    with pytest.raises(ValueError, match="at least 64 x 64 pixels, got 480 x 10"):
        render_scene(0, (480, 10))


def test_pictures_from_elsewhere_are_sound_varied_and_repeatable():
    counts = []
    for seed in range(30):
        image, target = render_elsewhere(seed, (120, 160))
        again, target_again = render_elsewhere(seed, (120, 160))
        assert torch.equal(image, again) and torch.equal(target["masks"], target_again["masks"])
        assert image.shape == (3, 120, 160) and image.dtype == torch.uint8
        assert (target["masks"].sum((1, 2)) >= 40).all() and not (target["masks"].sum(0) > 1).any()
        counts.append(len(target["labels"]))
    assert counts.count(0) > 15 and max(counts) >= 3  # most show nothing that the model knows


@pytest.mark.parametrize("draw", dict.fromkeys(STRANGERS), ids=lambda draw: draw.__name__)
def test_every_stranger_can_be_seen(draw):
    rng = np.random.default_rng(0)
    for _ in range(20):
        surface = draw(Patch.at(np.array([40.0, 40.0]), 70, rng.random() * 7, rng), rng)
        assert (surface.edge < 0).any() and (surface.edge > 0).any()
        assert np.isfinite(surface.height).all() and 0 <= surface.colour.min() <= surface.colour.max() <= 1
