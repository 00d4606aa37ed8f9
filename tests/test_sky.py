"""The drawn skies: what they are made of, and that their masks are true."""

import hashlib

import numpy as np
import pytest
import torch

from segutils import check_targets
from segutils.sky import MIN_AREA, SKY_CATEGORIES, bright_regions, render_sky

SEEDS = range(60)


@pytest.fixture(scope="module")
def skies():
    return [render_sky(seed) for seed in SEEDS]


def test_pictures_and_targets_are_what_a_detector_learns_from(skies):
    check_targets(skies, SKY_CATEGORIES)
    for image, target in skies:
        assert image.shape == (3, 160, 160) and image.dtype == torch.uint8 and image.is_contiguous()
        assert target["masks"].shape == (len(target["labels"]), 160, 160)
        assert int(target["masks"].sum(0).max()) <= 1
        assert (target["masks"].sum((1, 2)) >= MIN_AREA).all()


def test_the_same_seed_gives_the_same_sky_and_another_another(skies):
    for seed, (image, target) in zip(SEEDS[:10], skies):
        again, target_again = render_sky(seed)
        assert torch.equal(image, again)
        assert all(torch.equal(target[name], target_again[name]) for name in target)
    assert len({hashlib.sha256(image.numpy().tobytes()).hexdigest() for image, _ in skies}) == len(skies)


def test_global_random_state_is_neither_used_nor_changed():
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.random.get_rng_state()
    render_sky(3)
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.random.get_rng_state(), before[1])


def test_skies_are_varied(skies):
    labels = torch.cat([target["labels"] for _, target in skies])
    counts = [len(target["labels"]) for _, target in skies]
    sides = torch.cat([target["boxes"][:, 2:] - target["boxes"][:, :2] for _, target in skies]).max(1).values
    assert set(labels.tolist()) == {1, 2} and (labels == 2).float().mean() < 0.2
    assert min(counts) <= 2 and max(counts) >= 18
    assert sides.min() < 8 and sides.max() > 50


def test_masks_lie_on_what_is_bright(skies):
    """The light within each mask stands out from the sky beyond all masks, and nearly all that's bright is in one."""
    for image, target in skies:
        grey = image.float().mean(0)
        free = ~target["masks"].bool().any(0)
        sky = grey[free].median()
        for mask in target["masks"].bool():
            assert grey[mask].mean() > sky + 22
        assert (grey[free] > sky + 60).float().mean() < 0.02  # specks, too small for a label


def test_a_sky_of_another_size_is_as_full_and_its_things_are_as_large():
    small = [render_sky(seed, 160)[1] for seed in range(60)]
    large = [render_sky(seed, 480)[1] for seed in range(7)]
    assert large[0]["masks"].shape[1:] == (480, 480)
    per_pixel = [sum(len(t["labels"]) for t in skies) / len(skies) for skies in (small, large)]
    assert 0.5 < per_pixel[1] / per_pixel[0] / 9 < 2
    medians = [
        torch.cat([t["masks"].sum((1, 2)).float() for t in skies]).median() for skies in (small, large)
    ]
    assert 0.7 < medians[0] / medians[1] < 1.4
    for seed in range(10):
        image, target = render_sky(seed, 32)
        assert image.shape == (3, 32, 32) and target["masks"].shape[1:] == (32, 32)


def test_a_negative_seed_and_a_tiny_size_are_refused():
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        render_sky(-1)
    with pytest.raises(ValueError, match="size must be at least 32 pixels, got 10"):
        render_sky(0, 10)


def test_bright_regions_are_the_bright_discs_and_touching_ones_are_split():
    y, x = torch.meshgrid(torch.arange(60), torch.arange(90), indexing="ij")
    image = torch.full((60, 90), 12.0)
    for row, column in ((30, 20), (30, 60), (30, 75)):  # the last two touch
        image += 200 * torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 30)
    image = image.clamp(max=255).to(torch.uint8).expand(3, -1, -1)
    regions, light = bright_regions(image)
    assert regions.shape == light.shape == (60, 90)
    numbers = {int(regions[30, column]) for column in (20, 60, 75)}
    assert numbers == {1, 2, 3} == set(regions[regions > 0].tolist())
    assert regions[5, 5] == 0 and abs(light[5, 5]) < 1
    assert ((regions > 0) == (light > 15)).all()
