"""Targets made from masks are sound, and a wrong one is named before a model learns from it."""

import pytest
import torch
from unchanged import unchanged

from segutils import check_targets, make_target, render_scene
from segutils.tabletop import CATEGORIES


def test_a_target_is_made_from_masks():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 1:4, 2] = True  # a column of one pixel
    masks[1, 5, 0:8] = True
    with unchanged(masks):
        target = make_target(masks, [3, 1])
    assert target["boxes"].tolist() == [[2, 1, 3, 4], [0, 5, 8, 6]]
    assert target["labels"].tolist() == [3, 1] and target["labels"].dtype == torch.int64
    assert target["masks"].dtype == torch.uint8 and torch.equal(target["masks"].bool(), masks)
    check_targets([(torch.zeros(3, 6, 8), target)], ["__background__", "a", "b", "c"])


def test_a_picture_with_nothing_in_it_has_a_target():
    target = make_target(torch.zeros(0, 6, 8, dtype=torch.uint8), [])
    assert target["boxes"].shape == (0, 4) and target["masks"].shape == (0, 6, 8)
    assert target["labels"].shape == (0,) and target["labels"].dtype == torch.int64
    check_targets([(torch.zeros(3, 6, 8, dtype=torch.uint8), target)], ["__background__", "a"])


def test_ids_become_masks_as_the_docstring_says():
    ids = torch.tensor([[0, 1, 1], [2, 2, 0]])
    masks = ids == torch.arange(1, ids.max() + 1)[:, None, None]
    assert make_target(masks, [1, 1])["boxes"].tolist() == [[1, 0, 3, 1], [0, 1, 2, 2]]


@pytest.mark.parametrize(
    "masks, labels, message",
    [
        (torch.ones(2, 4, 4), [1, 1], "must be a tensor, bool or uint8, not torch.float32.*use masks > 0.5"),
        (torch.ones(4, 4, dtype=torch.bool), [1], r"must be \[N, H, W\] not \[4, 4\]"),
        (torch.ones(1, 4, 4, dtype=torch.uint8) * 255, [1], "mask 0 holds values from 255 to 255.*masks > 0"),
        (torch.zeros(1, 4, 4, dtype=torch.bool), [1], "mask 0 has no pixel. Leave out things"),
        (torch.ones(1, 4, 4, dtype=torch.bool), [1, 2], "1 masks, but 2 labels"),
        (torch.ones(1, 4, 4, dtype=torch.bool), [1.5], "labels must be whole numbers"),
    ],
)
def test_masks_that_are_none_are_refused(masks, labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make_target(masks, labels)


def test_the_drawn_world_is_sound():
    dataset = [render_scene(seed) for seed in (1, 2, 3)]
    with unchanged(dataset):
        check_targets(dataset, CATEGORIES)


def good():
    masks = torch.zeros(2, 20, 30, dtype=torch.uint8)
    masks[0, 2:8, 3:9] = 1
    masks[1, 12:18, 13:25] = 1
    return torch.rand(3, 20, 30), make_target(masks, [1, 2])


def second_box(*box):
    return torch.tensor([[3.0, 2, 9, 8], box])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"boxes": torch.tensor([])}, r"boxes must be a tensor \[N, 4\], not \[0\].*torch.zeros\(0, 4\)"),
        ({"boxes": [[1, 2, 3, 4]]}, r"boxes must be a tensor \[N, 4\], not list"),
        ({"boxes": torch.tensor([[3, 2, 9, 8], [13, 12, 25, 18]])}, "boxes must be float.*boxes.float()"),
        ({"boxes": second_box(13, 12, 13, 18)}, r"box 1 is \[13, 12, 13, 18\].*x1 < x2 and y1 < y2"),
        ({"boxes": second_box(13, 12, 12, 6)}, r"box 1 is \[13, 12, 12, 6\].*box_convert"),
        ({"boxes": second_box(13, 12, float("nan"), 18)}, "box 1 is .*nan.*division by zero"),
        ({"boxes": second_box(13, 12, 60, 18)}, r"box 1 is .*beyond the picture of 30 x 20 pixels.*resized"),
        ({"boxes": second_box(13, 12, 25, 18)[[1, 0]]}, "mask 0 lies outside box 0.*same order"),
        ({"boxes": second_box(13, 12, 25, 18)[:1]}, "keys of different lengths: boxes 1, labels 2, masks 2"),
        ({"labels": torch.tensor([1, 2], dtype=torch.int32)}, "labels must be int64.*labels.flatten"),
        ({"labels": torch.tensor([[1], [2]])}, r"labels must be int64 \[N\], not torch.int64 \[2, 1\]"),
        ({"labels": torch.tensor([0, 1])}, "label 0 is 0. Labels go from 1 to 2, and 0 is the background"),
        ({"labels": torch.tensor([1, 3])}, "label 1 is 3. Labels go from 1 to 2"),
        ({"masks": torch.zeros(2, 20, 30)}, "masks must be a tensor, bool or uint8, not torch.float32"),
        ({"masks": torch.ones(2, 20, 30, dtype=torch.uint8) * 255}, "mask 0 holds values from 255 to 255"),
        ({"masks": torch.zeros(2, 20, 30, dtype=torch.bool)}, "mask 0 has no pixel"),
        (
            {"masks": torch.ones(2, 30, 20, dtype=torch.bool)},
            r"masks must be \[N, H, W\] of the picture, 20 x 30",
        ),
        ({"image": torch.rand(20, 30, 3)}, r"the picture must be \[3, H, W\], not \[20, 30, 3\]"),
        ({"image": torch.rand(3, 20, 30) * 255}, "holds values from 0 to 1.*Divide it by 255"),
        ({"image": torch.full((3, 20, 30), float("nan"))}, "values that are NaN"),
        ({"image": torch.zeros(3, 20, 30, dtype=torch.int64)}, "uint8 or float 0 to 1, not torch.int64"),
    ],
)
def test_a_wrong_item_is_named_with_what_to_do(changes, message):
    image, target = good()
    image = changes.pop("image", image)
    with pytest.raises((TypeError, ValueError), match=rf"^dataset\[1\].*{message}") as caught:
        check_targets([good(), (image, target | changes)], ["__background__", "a", "b"])
    assert len(str(caught.value)) < 320


def test_an_item_of_another_form_is_named():
    image, target = good()
    for item, message in (
        (image, r"dataset\[0\] must be a pair of picture and target, not Tensor"),
        ((image, target["boxes"]), r"dataset\[0\] must be a dict"),
        ((image, {"boxes": target["boxes"]}), r"dataset\[0\] has no labels"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            check_targets([item], ["__background__", "a", "b"])
    with pytest.raises(TypeError, match="categories is a list of class names"):
        check_targets([(image, target)], 3)
    with pytest.raises(ValueError, match="The first of the categories is '__background__'"):
        check_targets([(image, target)], ["a", "b"])


def test_detectors_of_boxes_need_no_masks_and_tools_may_round_by_a_pixel():
    image, target = good()
    del target["masks"]
    target["boxes"] = second_box(-0.5, 12, 30.5, 18)
    check_targets([(image, target)], ["__background__", "a", "b"])
