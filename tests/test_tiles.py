"""Large pictures in pieces: nothing is lost at the seams, nothing is there twice."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from segutils import CATEGORIES, load_model, mask_iou, match_instances, predict, predict_tiles, render_scene
from segutils.tiles import _spans


@pytest.fixture(scope="module")
def model():
    return load_model("tabletop", device="cpu")[0]


@pytest.fixture(scope="module")
def table():
    """Four drawn scenes side by side, 1280 x 960, and all their things."""
    scenes = [render_scene(seed) for seed in range(10_000, 10_004)]
    rows = [torch.cat([scenes[i][0], scenes[i + 1][0]], -1) for i in (0, 2)]
    image = torch.cat(rows, -2)
    height, width = scenes[0][0].shape[1:]
    masks, labels = [], []
    for (_, target), (top, left) in zip(scenes, [(0, 0), (0, width), (height, 0), (height, width)]):
        whole = torch.zeros(len(target["labels"]), *image.shape[1:], dtype=torch.bool)
        whole[:, top : top + height, left : left + width] = target["masks"].bool()
        masks.append(whole)
        labels.append(target["labels"])
    return image, {"masks": torch.cat(masks), "labels": torch.cat(labels)}


def test_where_one_tile_holds_all_it_is_predict(model):
    image, _ = render_scene(3)
    whole, tiled = predict(model, [image])[0], predict_tiles(model, image, tile=640)
    for name in ("boxes", "labels", "scores"):
        assert torch.equal(whole[name], tiled[name])
    assert torch.equal(whole["masks"].paste(0.5), tiled["masks"].paste(0.5))


def test_a_large_table_is_found_as_well_as_its_four_parts(model, table):
    """Tiles whose seams cut through the scenes find what the scenes, one by one, show; and no more that is wrong."""
    image, target = table
    tiled = predict_tiles(model, image, tile=480, overlap=200, score_threshold=0.5)
    hits = _hits(tiled, target)
    height, width = image.shape[1] // 2, image.shape[2] // 2
    alone = []
    for top, left in ((0, 0), (0, width), (height, 0), (height, width)):
        there = np.s_[:, top : top + height, left : left + width]
        part = predict(model, [image[there]], 0.5)[0]
        alone.append(_hits(part, target | {"masks": target["masks"][there]}))
    alone = torch.cat(alone)
    assert alone.sum() >= 15
    assert hits.sum() >= 0.9 * alone.sum()
    assert (~hits).sum() <= (~alone).sum() + 2


def _hits(prediction, target):
    return match_instances(mask_iou(prediction["masks"], target["masks"]), prediction, target) >= 0


def test_what_lies_in_an_overlap_is_there_once(model):
    """A coin in the middle of each seam, and where four tiles meet: all tiles that show it report it."""
    scene, target = render_scene(14)
    coin = target["labels"].tolist().index(CATEGORIES.index("coin"))
    x1, y1, x2, y2 = target["boxes"][coin].int().tolist()
    piece, mask = scene[:, y1:y2, x1:x2], target["masks"][coin, y1:y2, x1:x2].bool()
    image = scene.flatten(1).median(1).values[:, None, None].repeat(1, 700, 700)
    spans = _spans(700, 400, 100)
    middle = round(spans[0].own_stop)
    places = [(middle, middle), (middle, 150), (150, middle), (550, middle), (150, 150)]
    for y, x in places:
        top, left = y - piece.shape[1] // 2, x - piece.shape[2] // 2
        here = image[:, top : top + piece.shape[1], left : left + piece.shape[2]]
        here[:, mask] = piece[:, mask]
    tiled = predict_tiles(model, image, tile=400, overlap=100, score_threshold=0.5)
    boxes = tiled["boxes"][tiled["labels"] == CATEGORIES.index("coin")]
    for y, x in places:
        around = (boxes[:, 0] < x) & (x < boxes[:, 2]) & (boxes[:, 1] < y) & (y < boxes[:, 3])
        assert around.sum() == 1


def test_masks_and_boxes_are_in_the_pictures_own_coordinates(model, table):
    tiled = predict_tiles(model, table[0], tile=560, overlap=200, score_threshold=0.8)
    assert tiled["masks"].image_size == tuple(table[0].shape[1:])
    assert torch.equal(tiled["masks"].boxes, tiled["boxes"])
    best = box_iou(tiled["boxes"], _boxes(table[1]["masks"])).max(1).values
    assert best.median() > 0.8


def _boxes(masks):
    return torch.stack(
        [torch.stack([m.nonzero().min(0).values.flip(0), m.nonzero().max(0).values.flip(0)]) for m in masks]
    ).reshape(-1, 4)


def test_a_picture_with_nothing_in_it(model):
    tiled = predict_tiles(model, torch.zeros(3, 300, 500, dtype=torch.uint8), tile=200, overlap=50)
    assert len(tiled["labels"]) == len(tiled["masks"]) == 0 and tiled["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(1000, 160, 60), (641, 640, 0), (640, 640, 100), (50, 640, 9)]
)
def test_tiles_cover_the_side_and_share_enough(length, tile, overlap):
    spans = _spans(length, tile, overlap)
    assert spans[0].start == 0 and spans[-1].stop == length
    assert all(span.stop - span.start == min(tile, length) for span in spans)
    assert all(left.stop - right.start >= overlap for left, right in zip(spans, spans[1:]))
    assert all(left.own_stop == right.own_start for left, right in zip(spans, spans[1:]))
    assert (len(spans) - 1) * (tile - overlap) < max(length - overlap, 1)  # no more than it takes


@pytest.mark.parametrize(("tile", "overlap"), [(100, 100), (100, -1), (0, 0)])
def test_sizes_that_do_not_fit_together_are_named(model, tile, overlap):
    with pytest.raises(ValueError, match=f"which is {tile} pixels, not {overlap}"):
        predict_tiles(model, torch.zeros(3, 300, 500), tile, overlap)


def test_a_bad_picture_gets_the_message_of_predict(model):
    with pytest.raises(ValueError, match=r"Picture 1 must be \[3, H, W\]"):
        predict_tiles(model, torch.zeros(300, 500, 3))


@pytest.mark.parametrize(
    ("name", "value"), [("tile", 12.5), ("tile", "640"), ("overlap", None), ("overlap", True)]
)
def test_sizes_that_are_no_whole_numbers_are_named(model, name, value):
    with pytest.raises(TypeError, match=f"{name} must be a whole number of pixels, not {value!r}"):
        predict_tiles(model, torch.zeros(3, 300, 500), **{"tile": 200, "overlap": 50} | {name: value})
