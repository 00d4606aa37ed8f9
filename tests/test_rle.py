"""COCO's run-length encoding: byte for byte that of pycocotools, without masks of full size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from unchanged import unchanged

from segutils import RoIMasks
from segutils.predictions import mask_crops
from segutils.rle import decode_rle, encode_rle
from segutils.roi_masks import Crop


def pycocotools_encode(masks):
    codes = [coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks]
    return [code | {"counts": code["counts"].decode("ascii")} for code in codes]


def paste(crop, size):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[crop.top : crop.top + crop.mask.shape[0], crop.left : crop.left + crop.mask.shape[1]] = crop.mask
    return mask


sizes = st.tuples(st.integers(0, 4), st.integers(1, 30), st.integers(1, 30))


@settings(deadline=None, max_examples=300)
@given(sizes.flatmap(lambda shape: arrays(bool, shape)))
def test_they_are_those_of_pycocotools_and_come_back(masks):
    masks, size = torch.from_numpy(masks), masks.shape[1:]
    crops = mask_crops(masks)
    rles = encode_rle(crops, size)
    assert rles == pycocotools_encode(masks)
    for rle, mask, crop in zip(rles, masks, crops):
        back = decode_rle(rle)
        assert torch.equal(paste(back, size), mask) and torch.equal(back.mask, crop.mask)
        assert back[:2] == crop[:2]


@pytest.mark.parametrize("filled", [0.02, 0.5, 0.98, 1])
def test_large_masks_with_long_counts(filled):
    random = np.random.default_rng(0)
    masks = torch.from_numpy(random.random((2, 700, 900)) < filled)
    masks[:, 200:500, 300:] = masks[:, :300, :600]
    masks[1, :, 100:800] = filled == 1  # a run of half a million pixels
    rles = encode_rle(mask_crops(masks), (700, 900))
    assert rles == pycocotools_encode(masks)
    assert all(torch.equal(paste(decode_rle(rle), (700, 900)), mask) for rle, mask in zip(rles, masks))


def test_small_masks_are_not_pasted(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(8, 2, generator=generator) * 90 - 10
    boxes = torch.cat([corners, corners + torch.rand(8, 2, generator=generator) * 60], dim=1)
    masks = RoIMasks(torch.rand(8, 1, 28, 28, generator=generator), boxes, (90, 100))
    expected = pycocotools_encode(masks.paste())
    monkeypatch.setattr(RoIMasks, "paste", lambda *_: pytest.fail("pasted"))
    with unchanged(masks):
        assert encode_rle(mask_crops(masks), (90, 100)) == expected


def test_a_crop_with_an_empty_rim_gives_the_same():
    mask = torch.zeros(6, 9, dtype=torch.bool)
    mask[2:5, 3:5] = True
    [tight] = encode_rle(mask_crops(mask[None]), (6, 9))
    assert encode_rle([Crop(0, 0, mask), Crop(2, 1, mask[1:, 2:8])], (6, 9)) == [tight, tight]
    assert encode_rle([Crop(0, 0, mask[:1]), Crop(0, 0, mask[:0])], (6, 9)) == pycocotools_encode(
        torch.zeros(2, 6, 9)
    )


def test_counts_that_are_numbers_or_bytes_are_read_too():
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]], dtype=torch.bool)
    plain = {"size": [2, 3], "counts": [1, 4, 1]}
    [rle] = pycocotools_encode([mask])
    for one in (plain, rle, rle | {"counts": rle["counts"].encode()}):
        with unchanged(one):
            assert torch.equal(decode_rle(one).mask, mask)
    assert decode_rle({"size": [2, 3], "counts": [0, 0, 6]}).mask.shape == (0, 0)


@pytest.mark.parametrize(
    ("rle", "error", "message"),
    [
        ([1, 2], TypeError, r'An RLE is a dict with "size" and "counts", not \[1, 2\]'),
        ({"counts": "1"}, TypeError, "An RLE is a dict"),
        ({"size": [2, 3], "counts": [1, 4]}, ValueError, "add up to 5 pixels, and the size 3 x 2 has 6"),
        ({"size": [2, 3], "counts": [-1, 7]}, ValueError, "are damaged"),
        (
            {"size": [2, 3], "counts": [2**62, 2**62, 2**62, 2**62 + 6]},
            ValueError,
            "are damaged",
        ),  # 6 in 64 bits
        ({"size": [2, 3], "counts": "1\u20ac"}, ValueError, "hold a letter that does not belong there"),
        ({"size": [2, 3], "counts": "1 4"}, ValueError, "hold a letter that does not belong there"),
        ({"size": [2, 3], "counts": "1o"}, ValueError, "cut short"),
        ({"size": [2, 3], "counts": "o" * 20 + "1"}, ValueError, "a number is too large"),
        ({"size": [2, 3], "counts": ""}, ValueError, "add up to 0 pixels"),
    ],
)
def test_damaged_ones_are_refused(rle, error, message):
    with pytest.raises(error, match=message):
        decode_rle(rle)


def test_a_crop_must_lie_within_the_picture():
    crop = Crop(3, 0, torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(
        ValueError, match=r"A crop of 4 x 2 pixels at \(3, 0\) does not lie within a picture of 6 x 5"
    ):
        encode_rle([crop], (5, 6))
