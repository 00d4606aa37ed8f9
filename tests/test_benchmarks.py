"""The benchmarks do what they say: both ways give the same result, and what is measured is the work."""

import time

import bench_explorer
import bench_masks
import pytest
import test_browser
import torch
from measuring import duration, measure, ratio, size

CASE = ((120, 160), 12)

chromium = test_browser.chromium


def test_both_ways_give_the_same_masks_and_nearly_the_same_pictures():
    expected = bench_masks.their_paste(*CASE)()[:, 0]
    for mask, crop in zip(expected, bench_masks.our_crops(*CASE)(), strict=True):
        height, width = crop.mask.shape
        assert torch.equal(mask[crop.top : crop.top + height, crop.left : crop.left + width], crop.mask)
        assert mask.sum() == crop.mask.sum()
    theirs, [mine] = bench_masks.their_filter(*CASE)(), bench_masks.our_filter(*CASE)()
    assert 0 < len(mine["masks"]) < CASE[1] and torch.equal(theirs["masks"], mine["masks"])
    for their_way, our_way in (
        (bench_masks.their_drawing, bench_masks.our_drawing),
        (bench_masks.their_article, bench_masks.our_article),
    ):
        image, theirs, mine = bench_masks.picture(CASE[0]), their_way(*CASE)(), our_way(*CASE)()
        changed = [(drawn != image).any(0) for drawn in (theirs, mine)]
        assert (changed[0] & changed[1]).sum() > 0.9 * changed[0].sum()


@pytest.mark.parametrize("way", [bench_explorer.articles_tick, bench_explorer.ten_lines_tick])
def test_every_tick_draws_and_encodes_anew(way):
    tick = way(*CASE)
    assert len({tick(threshold) for threshold in (0.1, 0.4, 0.7)}) == 3


def test_every_press_of_a_key_moves_the_explorer_and_is_timed(chromium, tmp_path):
    page = bench_explorer.explore(*bench_explorer.scene(*CASE)).save(tmp_path / "page.html")
    opening, times = bench_explorer.page_times(chromium, page, presses=3)
    assert 0 < opening < 60 and list(times) == ["Score threshold", "Mask threshold"]
    for painted_and_shown in times.values():
        for seconds in painted_and_shown.values():
            assert len(seconds) == 3 and 0 < min(seconds) <= max(seconds) < 60


def sleeping(seconds):
    def work():
        time.sleep(seconds)
        return bytearray(30_000_000 if seconds > 0.1 else 1)

    return work


def test_time_and_memory_are_measured():
    measured = measure(sleeping, 0.15, warm_up=(0,))
    assert 0.15 <= measured.seconds < 1
    assert 25e6 < measured.memory < 100e6


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.345, "12.3 s"), (1, "1.0 s"), (0.5, "500 ms"), (0.05, "50.0 ms"), (1e-4, "0.1 ms")],
)
def test_duration(value, text):
    assert duration(value) == text


def test_size_and_ratio():
    assert [size(value) for value in (9.6e9, 53e6, 1.25e6)] == ["9.6 GB", "53 MB", "1.2 MB"]
    assert [ratio(*pair) for pair in ((10, 0.1), (10, 5), (10, 10), (10, 20), (0, 1))] == [
        "1/100", "1/2", "1.00", "2.00", "inf",
    ]  # fmt: skip
