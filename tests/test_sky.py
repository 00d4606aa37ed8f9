"""The drawn sky: the same for the same seed, with a truth that's exact and that a model can learn from."""

import pytest
import torch

from segutils import SKY_CATEGORIES, render_sky
from segutils.sky import MIN_AREA
from segutils.targets import check_targets


@pytest.fixture(scope="module")
def skies():
    return [render_sky(seed) for seed in range(30)]


def test_the_same_seed_gives_the_same_sky(skies):
    image, target = render_sky(7)
    assert torch.equal(image, skies[7][0])
    assert all(torch.equal(value, skies[7][1][name]) for name, value in target.items())
    assert not torch.equal(image, skies[8][0])


def test_pictures_and_targets_have_the_form_that_training_needs(skies):
    check_targets(skies, SKY_CATEGORIES)
    for image, target in skies:
        assert image.dtype == torch.uint8 and image.shape == (3, 160, 160)
        assert target["masks"].shape == (len(target["labels"]), 160, 160)


def test_no_two_masks_share_a_pixel_and_none_is_too_small(skies):
    for _, target in skies:
        assert target["masks"].sum(0).max() <= 1
        assert (target["masks"].sum((1, 2)) >= MIN_AREA).all()


def test_there_are_galaxies_and_stars_of_many_sizes(skies):
    labels = torch.cat([target["labels"] for _, target in skies])
    areas = torch.cat([target["masks"].sum((1, 2)) for _, target in skies])
    assert {SKY_CATEGORIES[label] for label in labels.tolist()} == {"galaxy", "star"}
    assert (labels == SKY_CATEGORIES.index("galaxy")).sum() > 10 * len(skies) > 0
    assert areas.float().quantile(0.95) > 10 * MIN_AREA


def test_marked_things_are_brighter_than_the_sky_around_them(skies):
    for image, target in skies:
        grey, owned = image.float().mean(0), target["masks"].bool()
        empty = grey[~owned.any(0)].median()
        assert all(grey[mask].mean() > empty + 10 for mask in owned)


def test_another_size_has_as_many_things_for_its_area():
    counts = [len(render_sky(seed, size=320)[1]["labels"]) for seed in range(6)]
    image, _ = render_sky(0, size=320)
    assert image.shape == (3, 320, 320)
    assert 25 < sum(counts) / len(counts) < 120


@pytest.mark.parametrize(("seed", "size", "named"), [(-1, 160, "got -1"), (0, 15, "got 15")])
def test_a_bad_seed_or_size_is_named(seed, size, named):
    with pytest.raises(ValueError, match=named):
        render_sky(seed, size)
