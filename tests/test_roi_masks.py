"""RoIMasks against torchvision's own paste: the same boolean masks, bit for bit, for a fraction of the memory."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from segutils import roi_masks
from segutils.roi_masks import Crop, RoIMasks, check_fraction

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SIZES = st.tuples(st.integers(1, 90), st.integers(1, 90))  # height, width


@st.composite
def instances(draw) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Masks, boxes and the size of a picture: boxes of a pixel, of the whole picture and across its border too."""
    height, width = size = draw(SIZES)
    count, side = draw(st.integers(0, 4)), draw(st.sampled_from([1, 2, 14, 28]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    probs = torch.rand(count, 1, side, side, generator=generator)
    kind = draw(st.sampled_from(["noise", "0 and 1", "smooth", "steps"]))
    if kind == "0 and 1":
        probs = probs.round()
    elif kind == "steps":  # many values lie on the threshold, or a rounding away from it
        probs = (probs * 4).round() / 4
    elif kind == "smooth":
        probs = torch.sigmoid(8 * torch.nn.functional.avg_pool2d(probs - 0.5, 3, 1, 1))
    coordinate = st.floats(-20, 110, width=32)
    boxes = []
    for _ in range(count):
        x, y = draw(coordinate), draw(coordinate)
        # torchvision itself fails on boxes that lie beside the picture; a model clips its boxes anyway.
        x, y = min(max(x, -15.0), width - 1.0), min(max(y, -15.0), height - 1.0)
        right = max(x + draw(st.floats(0, 130, width=32)), 0.0)
        bottom = max(y + draw(st.floats(0, 130, width=32)), 0.0)
        boxes.append([x, y, right, bottom])
    return probs, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), size


THRESHOLDS = st.one_of(st.sampled_from([0, 0.25, 0.5, 0.75, 1]), st.floats(0, 1))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=400, deadline=None)
@given(instances(), THRESHOLDS)
def test_pasted_masks_equal_torchvisions_bit_for_bit(device, given_instances, threshold):
    probs, boxes, size = given_instances
    probs, boxes = probs.to(device), boxes.to(device)
    masks = RoIMasks(probs, boxes, size)
    soft = paste_masks_in_image(probs, boxes, size)
    expected = soft > threshold
    assert masks.shape == soft.shape
    pasted = masks.paste(threshold)
    assert pasted.dtype == torch.bool and pasted.device == probs.device
    assert torch.equal(pasted, expected[:, 0])
    assert torch.equal(masks > threshold, expected)
    for crop, mask in zip(masks.crops(threshold), expected[:, 0], strict=True):
        height, width = crop.mask.shape
        assert 0 <= crop.left <= size[1] - width and 0 <= crop.top <= size[0] - height
        mask = mask.clone()
        inside = mask[crop.top : crop.top + height, crop.left : crop.left + width]
        assert torch.equal(inside, crop.mask)
        inside[:] = False
        assert not mask.any()  # nothing lies outside the crop


@pytest.mark.parametrize("device", DEVICES)
def test_it_holds_in_a_large_picture(device):
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(12, 2, generator=generator) * 600
    sides = torch.rand(12, 2, generator=generator) * 700
    boxes = (
        torch.cat([corners, corners + sides], 1).clamp(max=torch.tensor([1200, 900, 1200, 900])).to(device)
    )
    noise = torch.nn.functional.avg_pool2d(torch.rand(12, 1, 28, 28, generator=generator), 5, 1, 2)
    probs = torch.sigmoid((noise - 0.45) * 30).to(device)
    soft = paste_masks_in_image(probs, boxes, (900, 1200))
    masks = RoIMasks(probs, boxes, (900, 1200))
    # Values of the pasted masks themselves as thresholds: there, the last bit decides.
    values = soft[(soft > 0.2) & (soft < 0.8)][::20_000].tolist()
    assert len(values) >= 20
    for threshold in (0.1, 0.5, 0.9, *values):
        assert torch.equal(masks > threshold, soft > threshold)


def enlarged(
    kind: str, height: int, width: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A mask and its box of this size, somewhere across the border of a picture of 500 x 600 or inside it."""
    noise = torch.rand(1, 1, 28, 28, generator=generator)
    probs = {
        "noise": noise,
        "steps": (noise * 4).round() / 4,  # plateaus at the threshold
        "level": torch.full_like(noise, 0.5),
        "a few at the threshold": torch.where(noise > 0.995, 0.5, (noise > 0.5).float()),
    }[kind]
    corner = torch.rand(2, generator=generator) * torch.tensor([600, 500]) - torch.tensor([width, height]) / 3
    # torchvision makes the box larger by 30/28, in whole pixels.
    return probs, torch.cat([corner, corner + torch.tensor([width, height]) * 28 / 30])[None]


@pytest.mark.parametrize("kind", ["noise", "steps", "level", "a few at the threshold"])
def test_where_rounding_decides_only_rows_are_computed_anew_and_bit_for_bit(kind, monkeypatch):
    rows, wholes, different = [], [], 0
    row, interpolate = roi_masks._row, roi_masks.F.interpolate
    monkeypatch.setattr(roi_masks, "_row", lambda *args: rows.append(args) or row(*args))
    counted = SimpleNamespace(
        interpolate=lambda *args, **how: (
            (how["mode"] == "bilinear" and wholes.append(how)) or interpolate(*args, **how)
        )
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        height, width = (torch.randint(1, 500, (2,), generator=generator) ** 2 // 500 + 1).tolist()
        probs, box = enlarged(kind, height, width, generator)
        soft = paste_masks_in_image(probs, box, (500, 600))
        values = soft[(soft > 0) & (soft < 1)]
        # The value of a pixel as threshold: in its row, and in others with luck, the last bit decides.
        picked = values[torch.randint(len(values), (2,), generator=generator)].tolist() if len(values) else []
        for threshold in (0.5, *picked):
            with monkeypatch.context() as patch:
                patch.setattr(roi_masks, "F", counted)
                pasted = RoIMasks(probs, box, (500, 600)) > threshold
            different += not torch.equal(pasted, soft > threshold)
    assert different == 0
    # Rows alone, and where too many are near the threshold the whole: both ways have been gone.
    assert len(rows) > (0 if kind == "level" else 50) and len(wholes) > 10


def test_crops_are_small():
    disc = torch.zeros(1, 1, 28, 28)
    disc[..., 7:21, 7:21] = 1  # a quarter of the box
    [crop] = RoIMasks(disc, torch.tensor([[100.0, 200.0, 500.0, 600.0]]), (3000, 4000)).crops()
    assert isinstance(crop, Crop) and crop.mask.sum() / crop.mask.numel() > 0.97
    [nothing] = RoIMasks(disc / 4, torch.tensor([[100.0, 200.0, 500.0, 600.0]]), (3000, 4000)).crops()
    assert nothing.mask.shape == (0, 0) and (nothing.left, nothing.top) == (0, 0)


@pytest.mark.parametrize(
    "box",
    [
        [-50, 5, -20, 20],
        [5, -50, 20, -30],
        [200, 5, 230, 20],
        [5, 95, 20, 140],
        [30, 9, 10, 5],
        [1e6, 0, 9e6, 9e6],
    ],
)
def test_boxes_beside_the_picture_or_turned_round_give_nothing(box):
    masks = RoIMasks(torch.ones(1, 1, 28, 28), torch.tensor([box], dtype=torch.float32), (90, 120))
    assert not (masks > 0.5).any() and masks.crops()[0].mask.numel() == 0


def some(count=5, size=(40, 60)) -> RoIMasks:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 20
    return RoIMasks(
        torch.rand(count, 1, 28, 28, generator=generator), torch.cat([corners, corners + 15], 1), size
    )


def test_it_has_a_length_and_is_indexed_like_a_tensor():
    masks, full = some(), some() > 0.5
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    for rows in (
        scores >= 0.7,
        slice(1, 3),
        slice(None, None, 2),
        [4, 0],
        torch.tensor([3, 3]),
        np.array([1, 2]),
        [],
    ):
        picked = masks[rows]
        assert isinstance(picked, RoIMasks) and len(picked) == len(full[rows])
        assert torch.equal(picked > 0.5, full[rows])
    for row in (0, 4, -1):
        assert torch.equal(masks[row] > 0.5, full[row][None])
    assert [len(one) for one in masks] == [1] * 5  # a loop ends
    with pytest.raises(IndexError):
        masks[5]
    with pytest.raises(TypeError, match=r"indexed by rows alone: masks\[0\]"):
        masks[:, 0]
    assert len(masks[scores > 1]) == 0 and (masks[scores > 1] > 0.5).shape == (0, 1, 40, 60)


def test_it_tells_its_size_and_moves_between_devices():
    masks = some(3)
    assert masks.shape == (3, 1, 40, 60) and masks.nbytes == 3 * (28 * 28 + 4) * 4
    assert repr(masks) == "RoIMasks(3 of 28 x 28, for a picture of 40 x 60: 9,456 bytes)"
    for device in DEVICES:
        moved = masks.to(device)
        assert moved.probs.device.type == moved.boxes.device.type == device
        assert torch.equal(moved.cpu().probs, masks.probs)


def test_nothing_given_is_changed_and_gradients_do_not_hinder():
    masks = some()
    probs, boxes = masks.probs.clone(), masks.boxes.clone()
    with_gradients = RoIMasks(masks.probs.requires_grad_(), masks.boxes.requires_grad_(), (40, 60))
    assert not with_gradients.paste().requires_grad
    assert torch.equal(masks.probs, probs) and torch.equal(masks.boxes, boxes)
    with pytest.raises(AttributeError):
        masks.boxes = boxes


def test_float64_and_float16_masks_work_too():
    for dtype in (torch.float64, torch.float16):
        masks = RoIMasks(some().probs.to(dtype), some().boxes, (40, 60))
        assert torch.equal(masks > 0.5, paste_masks_in_image(masks.probs, masks.boxes, (40, 60)) > 0.5)


def test_a_paste_that_is_too_large_is_refused_with_the_numbers():
    masks = some(200, (3000, 4000))
    with pytest.raises(MemoryError) as caught:
        masks > 0.5  # noqa: B015
    message = str(caught.value)
    assert re.search(r"200 masks of 3000 x 4000 pixels would take 2\.4 GB, more than the 2\.0 GB", message)
    for way_out in ("filter_model_output", "166 would fit", "draw_instances", "masks.crops()", "max_bytes="):
        assert way_out in message
    assert len(masks.crops()) == 200  # which needs no such thing
    small = some(3)
    assert small.paste(max_bytes=3 * 40 * 60).shape == (3, 40, 60)
    with pytest.raises(MemoryError, match="2 would fit"):
        small.paste(max_bytes=3 * 40 * 60 - 1)


PROBS, BOXES = torch.rand(2, 1, 28, 28), torch.tensor([[0.0, 0, 5, 5], [1, 1, 9, 9]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((PROBS.numpy(), BOXES, (9, 9)), TypeError, "probs must be a tensor of floats, not ndarray"),
        ((PROBS > 0.5, BOXES, (9, 9)), TypeError, "probs must be a tensor of floats, not torch.bool"),
        ((PROBS, BOXES.long(), (9, 9)), TypeError, "boxes must be a tensor of floats, not torch.int64"),
        (
            (PROBS[:, 0], BOXES, (9, 9)),
            ValueError,
            r"probs must be \[N, 1, M, M\], for example \[2, 1, 28, 28\]",
        ),
        ((torch.rand(2, 1, 9, 8), BOXES, (9, 9)), ValueError, r"not \[2, 1, 9, 8\]"),
        ((PROBS, BOXES[:1], (9, 9)), ValueError, r"boxes must be \[2, 4\], as many as probs, not \[1, 4\]"),
        ((PROBS, BOXES, (0, 9)), ValueError, "image_size is the height and width of a picture"),
        ((PROBS * 3, BOXES, (9, 9)), ValueError, "probs hold values from 0 to 1; these go from"),
        ((PROBS * math.nan, BOXES, (9, 9)), ValueError, "these go from nan to nan"),
        ((PROBS, BOXES * math.inf, (9, 9)), ValueError, "Some boxes hold NaN or infinite"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        RoIMasks(*arguments)


@pytest.mark.parametrize("method", [RoIMasks.crops, RoIMasks.paste, RoIMasks.__gt__])
def test_thresholds_are_checked(method):
    with pytest.raises(
        ValueError, match=r"mask_threshold must be a number from 0 to 1, not 50. Write 0.5, not 50."
    ):
        method(some(), 50)
    with pytest.raises(TypeError, match="mask_threshold must be a number from 0 to 1, not None"):
        method(some(), None)
    check_fraction("x", np.float32(0.5))
