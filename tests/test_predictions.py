"""Looking at, filtering and binarising predictions, without changing them."""

import math

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image
from unchanged import unchanged

from segutils.predictions import (
    boolean_masks,
    filter_model_output,
    get_boolean_mask,
    inspect_model_output,
    label_name,
    mask_crops,
)
from segutils.roi_masks import RoIMasks

CATEGORIES = ("__background__", "banana", "book", "cell phone", "coin", "N/A")


def prediction(scores, labels=None, height=4, width=6) -> dict[str, torch.Tensor]:
    """A prediction with soft masks, in the form torchvision gives it."""
    count = len(scores)
    return {
        "boxes": torch.arange(count * 4.0).reshape(count, 4),
        "labels": torch.tensor([4] * count if labels is None else labels, dtype=torch.int64),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "masks": torch.linspace(0, 1, count * height * width).reshape(count, 1, height, width),
    }


def random_roi_masks(count, size=(30, 40)):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 25
    boxes = torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 30], 1)
    return RoIMasks(torch.rand(count, 1, 28, 28, generator=generator), boxes, size)


def copy_of(output):
    return [{k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in p.items()} for p in output]


def assert_same(output, before):
    assert len(output) == len(before)
    for p, q in zip(output, before, strict=True):
        assert list(p) == list(q)
        for key in q:
            if isinstance(q[key], torch.Tensor):
                assert (
                    torch.equal(torch.nan_to_num(p[key]), torch.nan_to_num(q[key]))
                    and p[key].dtype == q[key].dtype
                )
            else:
                assert p[key] is q[key]


# --- inspect_model_output -----------------------------------------------------------------------------------


def test_inspect_prints_what_was_found(capsys):
    output = [
        prediction([0.99, 0.9, 0.755, 0.62], [4, 4, 1, 4]),
        prediction([]),
        prediction([0.875], [3]),
    ]
    before = copy_of(output)
    assert inspect_model_output(output, CATEGORIES) is None
    assert capsys.readouterr().out == (
        "3 pictures\n"
        "picture 1: 4 instances: 3 x coin, 1 x banana; scores 0.99 to 0.62\n"
        "picture 2: no instances\n"
        "picture 3: 1 instance: 1 x cell phone; score 0.88\n"
    )
    assert_same(output, before)


def test_inspect_works_without_names_and_order(capsys):
    inspect_model_output([prediction([0.3, 0.9], [2, 7])])  # the article's call
    assert (
        capsys.readouterr().out
        == "1 picture\npicture 1: 2 instances: 1 x label 2, 1 x label 7; scores 0.90 to 0.30\n"
    )


def test_inspect_wraps_long_lines_between_classes(capsys):
    inspect_model_output([prediction([0.9] * 30, list(range(101, 131)))])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) > 1 and max(map(len, lines)) <= 100
    assert all(line.startswith("    1 x label") for line in lines[1:-1])
    classes = ", ".join(f"1 x label {label}" for label in range(101, 131))
    joined = " ".join(line.strip() for line in lines)
    assert joined == f"picture 1: 30 instances: {classes}; scores 0.90 to 0.90"


def test_inspect_names_unknown_classes(capsys):
    inspect_model_output([prediction([0.9, 0.8, 0.7], [500, -1, 5])], CATEGORIES)
    out = capsys.readouterr().out
    assert "1 x id -1 (unknown), 1 x id 5 (unknown), 1 x id 500 (unknown)" in out
    assert "coin" not in out


def test_inspect_accepts_gradients_and_no_pictures(capsys):
    p = prediction([0.9])
    p["scores"].requires_grad_()
    inspect_model_output([p], CATEGORIES)
    inspect_model_output([], CATEGORIES)
    assert capsys.readouterr().out.endswith("score 0.90\n0 pictures\n")


def test_label_name():
    assert label_name(4, CATEGORIES) == "coin"
    assert label_name(0, CATEGORIES) == "__background__"
    assert label_name(4) == "label 4"
    with pytest.raises(TypeError, match="categories is the list of class names"):
        label_name(1, "coin")
    with pytest.raises(TypeError, match="categories is the list of class names"):
        label_name(1, {1: "coin"})


# --- filter_model_output ------------------------------------------------------------------------------------


def test_filter_keeps_scores_at_and_above_the_threshold():
    output = [prediction([0.95, 0.8, 0.79999, 0.1], [1, 2, 3, 4]), prediction([0.9])]
    before = copy_of(output)
    filtered = filter_model_output(output, 0.8)
    assert_same(output, before)
    assert filtered is not output and filtered[0] is not output[0]
    assert filtered[0]["labels"].tolist() == [1, 2]
    for key, value in filtered[0].items():
        assert torch.equal(value, output[0][key][:2])
    assert_same(filtered[1:], before[1:])


def test_filter_does_not_rely_on_order():
    filtered = filter_model_output([prediction([0.1, 0.9, 0.5], [1, 2, 3])], 0.5)
    assert filtered[0]["labels"].tolist() == [2, 3]


def test_filter_bounds_keep_all_or_only_the_certain():
    output = [prediction([1.0, 0.5, 0.0])]
    assert len(filter_model_output(output, 0)[0]["scores"]) == 3
    assert len(filter_model_output(output, 1)[0]["scores"]) == 1


def test_filter_result_shares_no_memory_with_the_output():
    output = [prediction([0.9, 0.8])]
    before = copy_of(output)
    for value in filter_model_output(output, 0.5)[0].values():
        value.zero_()
    assert_same(output, before)


def test_filter_again_with_a_lower_threshold_brings_nothing_back():
    output = [prediction([0.9, 0.6])]
    assert len(filter_model_output(filter_model_output(output, 0.8), 0.5)[0]["scores"]) == 1
    assert len(filter_model_output(output, 0.5)[0]["scores"]) == 2


def test_empty_results_keep_their_shape_and_can_be_used_again():
    output = filter_model_output([prediction([0.7, 0.6]), prediction([])], 0.8)
    for p in output:
        assert p["masks"].shape == (0, 1, 4, 6) and p["boxes"].shape == (0, 4)
    output = get_boolean_mask(filter_model_output(output, 0.1))
    for p in output:
        assert p["masks"].shape == (0, 4, 6) and p["masks"].dtype == torch.bool
    assert filter_model_output([], 0.5) == []


def test_filter_passes_on_what_belongs_to_the_picture():
    size = torch.tensor([480, 640])  # as long as there are instances, and still no row per instance
    output = [prediction([0.9, 0.1]) | {"image_id": 7, "size": size, "area": torch.tensor([3.0, 4.0])}]
    filtered = filter_model_output(output, 0.5)[0]
    assert filtered["image_id"] == 7 and filtered["size"] is size
    assert filtered["area"].tolist() == [3.0]


def test_roi_masks_are_filtered_unpasted_and_then_pasted(monkeypatch):
    p = prediction([0.9, 0.8, 0.1])
    boxes = torch.tensor([[0.0, 0.0, 3.0, 3.0]] * 3)
    output = [p | {"boxes": boxes, "masks": RoIMasks(torch.rand(3, 1, 28, 28), boxes, (4, 6))}]
    with monkeypatch.context() as patch:
        patch.setattr(RoIMasks, "paste", lambda *_: pytest.fail("pasted"))
        filtered = filter_model_output(output, 0.5)
    assert isinstance(filtered[0]["masks"], RoIMasks) and len(filtered[0]["masks"]) == 2
    expected = output[0]["masks"].paste(0.3)[:2]
    assert torch.equal(get_boolean_mask(filtered, 0.3)[0]["masks"], expected)
    assert len(output[0]["masks"]) == 3


def test_a_paste_that_is_too_large_is_refused():
    masks = RoIMasks(torch.rand(3, 1, 28, 28), torch.rand(3, 4), (30_000, 40_000))
    output = [{"masks": masks}]
    with unchanged(output):
        with pytest.raises(MemoryError, match="3 masks of 30000 x 40000 pixels would take 3.6 GB"):
            get_boolean_mask(output)


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([4], [0.95, 0.6]),
        ([1, 3], [0.9, 0.8]),
        ((4, 1), [0.95, 0.9, 0.6]),
        (range(1, 4), [0.9, 0.8]),
        ([4, 4], [0.95, 0.6]),
        ([CATEGORIES.index("coin")], [0.95, 0.6]),
        ([2], []),  # found, but with a score that is too low
        ([500, -1], []),
        ([], []),
        (None, [0.95, 0.9, 0.8, 0.6]),
    ],
)
def test_filter_keeps_the_classes_asked_for(labels, scores):
    output = [prediction([0.95, 0.9, 0.8, 0.6, 0.3, 0.2], [4, 1, 3, 4, 4, 2]) | {"image_id": 7}]
    with unchanged(output, labels):
        filtered = filter_model_output(output, 0.5, labels=labels)[0]
    assert filtered["scores"].tolist() == pytest.approx(scores)
    keep = torch.isin(output[0]["scores"], filtered["scores"])
    for key in ("boxes", "labels", "masks"):
        assert torch.equal(filtered[key], output[0][key][keep])
    assert filtered["image_id"] == 7


def test_filter_keeps_classes_of_each_picture():
    output = [prediction([0.9, 0.8], [1, 4]), prediction([]), prediction([0.7], [1])]
    filtered = filter_model_output(output, 0, labels=[4])
    assert [p["labels"].tolist() for p in filtered] == [[4], [], []]
    assert filtered[2]["masks"].shape == (0, 1, 4, 6)
    assert filter_model_output([], 0, labels=[4]) == []


def test_filter_keeps_classes_of_roi_masks():
    masks = random_roi_masks(4)
    p = prediction([0.9, 0.8, 0.7, 0.1], [4, 1, 4, 4]) | {"masks": masks}
    with unchanged(p):
        filtered = filter_model_output([p], 0.5, labels=[4])[0]
    assert isinstance(filtered["masks"], RoIMasks)
    assert torch.equal(filtered["masks"].paste(), masks.paste()[[0, 2]])
    assert len(filter_model_output([p], 0.5, labels=[])[0]["masks"]) == 0


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ("coin", "'coin'"),
        (["coin"], r"\['coin'\]"),
        ([4, "coin"], r"\[4, 'coin'\]"),
        ("", "''"),
        (4, "4"),
        (0, "0"),
        (True, "True"),
        ([True], r"\[True\]"),
        ([4.0], r"\[4\.0\]"),
        (4.0, r"4\.0"),
        ([None], r"\[None\]"),
        ([[4]], r"\[\[4\]\]"),
        (torch.tensor([4]), r"tensor\(\[4\]\)"),
        (np.array([4]), r"array\(\[4\]\)"),
    ],
)
def test_classes_are_asked_for_by_number(labels, named):
    output = [prediction([0.9])]
    message = rf'labels are numbers of classes, for example \[categories\.index\("coin"\)\], not {named}\.$'
    with unchanged(output):
        with pytest.raises(TypeError, match=message):
            filter_model_output(output, 0.5, labels=labels)


def test_filter_needs_labels_only_when_asked_for_classes():
    output = [{"scores": torch.tensor([0.9, 0.1])}]
    assert len(filter_model_output(output, 0.5)[0]["scores"]) == 1
    for labels in ([4], []):
        with pytest.raises(ValueError, match="Picture 1 of the output has no labels. Its keys are: scores"):
            filter_model_output(output, 0.5, labels=labels)


BAD_THRESHOLDS = [
    (80, ValueError, r"must be a number from 0 to 1, not 80\. Write 0\.8, not 80\."),
    (1.5, ValueError, "must be a number from 0 to 1, not 1.5"),
    (-1, ValueError, "not -1"),
    (math.nan, ValueError, "not nan"),
    (math.inf, ValueError, "not inf"),
    ("0.8", TypeError, r"not '0\.8' \(str\)"),
    (None, TypeError, r"not None \(NoneType\)"),
    (True, TypeError, r"not True \(bool\)"),
    (torch.tensor(0.5), TypeError, "Tensor"),
]


@pytest.mark.parametrize(("threshold", "error", "message"), BAD_THRESHOLDS)
def test_thresholds_are_checked(threshold, error, message):
    output = [prediction([0.9, 0.1])]
    before = copy_of(output)
    with pytest.raises(error, match=f"score_threshold .*{message}"):
        filter_model_output(output, threshold)
    with pytest.raises(error, match=f"mask_threshold .*{message}"):
        get_boolean_mask(output, threshold)
    assert_same(output, before)


def test_numpy_numbers_are_thresholds():
    assert len(filter_model_output([prediction([0.9, 0.1])], np.float32(0.5))[0]["scores"]) == 1


EACH = pytest.mark.parametrize(
    "function",
    [inspect_model_output, lambda output: filter_model_output(output, 0.5), get_boolean_mask],
    ids=["inspect", "filter", "boolean"],
)


@EACH
def test_one_dict_is_not_an_output(function):
    with pytest.raises(TypeError, match=r"Put the dict in a list: \[output\]"):
        function(prediction([0.9]))


@EACH
@pytest.mark.parametrize("output", [None, torch.zeros(2), "output"])
def test_other_types_are_no_output(function, output):
    with pytest.raises(TypeError, match="must be a list with one dict per picture, not"):
        function(output)


@EACH
def test_items_must_be_dicts(function):
    with pytest.raises(TypeError, match="Picture 2 of the output must be a dict .* not Tensor"):
        function([prediction([0.9]), torch.zeros(3)])


@EACH
def test_losses_of_a_model_in_training_mode(function):
    losses = {"loss_classifier": torch.tensor(0.7), "loss_mask": torch.tensor(0.6)}
    for output in (losses, [losses]):
        with pytest.raises(ValueError, match=r"training mode\. Call model\.eval\(\)"):
            function(output)


@EACH
def test_nan_scores_are_counted(function):
    output = [prediction([0.9]), prediction([0.9, math.nan, math.nan])]
    before = copy_of(output)
    with pytest.raises(
        ValueError, match=r"Picture 2 of the output has scores that are NaN \(not a number\): 2 of 3"
    ):
        function(output)
    assert_same(output, before)


@EACH
def test_lengths_must_agree(function):
    output = [prediction([0.9, 0.8, 0.7])]
    output[0]["scores"] = output[0]["scores"][:2]
    with unchanged(output):
        with pytest.raises(ValueError, match="different lengths: boxes 3, labels 3, scores 2, masks 3"):
            function(output)


@EACH
@pytest.mark.parametrize(
    "labels", [[1, 2], np.array([1, 2]), torch.tensor(1)], ids=["list", "numpy", "scalar"]
)
def test_rows_must_be_tensors(function, labels):
    with pytest.raises(TypeError, match="labels must be a tensor with one row per instance, not"):
        function([prediction([0.9, 0.8]) | {"labels": labels}])


@EACH
@pytest.mark.parametrize("masks", [[torch.zeros(4, 6)] * 2, np.zeros((2, 4, 6)), None])
def test_masks_must_be_tensors_or_alike(function, masks):
    output = [prediction([0.9, 0.8]) | {"masks": masks}]
    hint = r" ndarray\. Use torch\.from_numpy\(masks\)\.$" if isinstance(masks, np.ndarray) else ""
    with unchanged(output):
        with pytest.raises(TypeError, match=f"masks must be a tensor with one row per instance, not{hint}"):
            function(output)


def test_missing_keys_are_named():
    with pytest.raises(ValueError, match="Picture 1 of the output has no scores. Its keys are: labels"):
        filter_model_output([{"labels": torch.tensor([1])}], 0.5)
    with pytest.raises(ValueError, match="has no labels and no scores. Its keys are: boxes"):
        inspect_model_output([{"boxes": torch.zeros(1, 4)}])
    with pytest.raises(ValueError, match="has no masks. Its keys are: boxes"):
        get_boolean_mask([{"boxes": torch.zeros(1, 4)}])


# --- get_boolean_mask ---------------------------------------------------------------------------------------


def test_boolean_mask_is_strictly_above_the_threshold():
    soft = torch.tensor([[[[0.0, 0.25, 0.5], [0.51, 0.75, 1.0]]]])
    output = [prediction([0.9]) | {"masks": soft, "image_id": 3}]
    before = copy_of(output)
    boolean = get_boolean_mask(output)
    assert_same(output, before)
    assert boolean[0]["masks"].tolist() == [[[False, False, False], [True, True, True]]]
    assert boolean[0]["masks"].dtype == torch.bool
    assert get_boolean_mask(output, 0.25)[0]["masks"].sum() == 4
    assert get_boolean_mask(output, 1)[0]["masks"].sum() == 0
    assert [boolean[0][key] is output[0][key] for key in ("boxes", "labels", "scores", "image_id")] == [
        True
    ] * 4


@pytest.mark.parametrize(("height", "width"), [(1, 5), (5, 1), (1, 1)])
def test_boolean_mask_keeps_sides_of_one_pixel(height, width):
    output = [prediction([0.9, 0.8], height=height, width=width)]
    once = get_boolean_mask(output)
    twice = get_boolean_mask(once)
    assert once[0]["masks"].shape == twice[0]["masks"].shape == (2, height, width)


def test_boolean_mask_takes_other_kinds_of_masks():
    soft = prediction([0.9, 0.8])["masks"]
    expected = soft[:, 0] > 0.5
    assert torch.equal(boolean_masks(soft[:, 0]), expected)
    assert torch.equal(boolean_masks(expected, 0.9), expected)  # boolean already: the threshold has no say
    assert torch.equal(boolean_masks(expected[:, None]), expected)
    assert torch.equal(boolean_masks(expected.to(torch.uint8)), expected)
    assert torch.equal(boolean_masks(expected.to(torch.uint8) * 255), expected)  # as many mask files have it
    assert torch.equal(boolean_masks(soft.half()), soft.half()[:, 0] > 0.5)


def test_helpers_can_be_called_twice_on_the_same_output():
    output = [prediction([0.9, 0.6]), prediction([0.7])]
    with unchanged(output):
        first, second = get_boolean_mask(output), get_boolean_mask(output)
        assert (
            output[0]["masks"].dtype == torch.float32
        )  # a second threshold starts from the soft masks again
    assert_same(first, second)
    with unchanged(first):
        assert_same(get_boolean_mask(first), first)
        assert_same(
            filter_model_output(filter_model_output(first, 0.65), 0.65), filter_model_output(first, 0.65)
        )


def test_boolean_mask_works_on_annotations_and_gradients():
    target = {"labels": torch.tensor([1]), "masks": torch.ones(1, 3, 3, dtype=torch.uint8)}  # no scores
    assert get_boolean_mask([target])[0]["masks"].all()
    p = prediction([0.9])
    p["masks"].requires_grad_()
    assert get_boolean_mask([p])[0]["masks"].numpy().shape == (1, 4, 6)
    assert p["masks"].requires_grad


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.full((1, 1, 2, 2), 7.0), "these go from 7 to 7. If they are logits"),
        (torch.full((1, 2, 2), -0.5), "these go from -0.5 to -0.5"),
        (torch.full((1, 1, 2, 2), math.nan), "these go from nan to nan"),
        (torch.zeros(1, 3, 2, 2), r"must be \[N, 1, H, W\] or \[N, H, W\], not \[1, 3, 2, 2\]"),
        (torch.zeros(1, 2), r"not \[1, 2\]"),
    ],
)
def test_boolean_mask_refuses_what_is_no_soft_mask(masks, message):
    output = [prediction([0.9]) | {"masks": masks}]
    before = copy_of(output)
    with pytest.raises(ValueError, match=message):
        get_boolean_mask(output)
    assert_same(output, before)


# --- mask_crops ---------------------------------------------------------------------------------------------


def pasted(crops, height, width):
    masks = torch.zeros(len(crops), height, width, dtype=torch.bool)
    for picture, (left, top, mask) in zip(masks, crops, strict=True):
        assert mask.dtype == torch.bool
        assert 0 <= left <= width - mask.shape[1] and 0 <= top <= height - mask.shape[0]
        picture[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return masks


def kinds_of_masks():
    roi_masks = random_roi_masks(20)
    soft = paste_masks_in_image(roi_masks.probs, roi_masks.boxes, roi_masks.image_size)
    sparse = torch.rand(20, 1, 30, 40, generator=torch.Generator().manual_seed(1)) ** 200
    return {
        "RoIMasks": roi_masks,
        "soft": soft,
        "soft without a channel": soft[:, 0],
        "sparse": sparse,
        "boolean": soft[:, 0] > 0.5,
        "boolean with a channel": soft > 0.5,
        "whole numbers": (soft[:, 0] > 0.5).to(torch.uint8),
        "none": soft[:0],
        "no RoIMasks": roi_masks[:0],
    }


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", kinds_of_masks())
def test_crops_that_are_pasted_give_the_masks(kind, threshold):
    masks = kinds_of_masks()[kind]
    with unchanged(masks):
        crops = mask_crops(masks, threshold)
    assert torch.equal(pasted(crops, 30, 40), boolean_masks(masks, threshold))


@pytest.mark.parametrize("kind", ["soft", "sparse", "boolean"])
def test_crops_are_as_small_as_can_be(kind):
    crops = [crop.mask for crop in mask_crops(kinds_of_masks()[kind])]
    assert len({crop.shape for crop in crops}) > 5
    for crop in crops:
        assert all(side.any() for side in (crop[0], crop[-1], crop[:, 0], crop[:, -1]))


@pytest.mark.parametrize(
    "masks",
    [
        torch.zeros(2, 1, 4, 6),
        torch.full((2, 1, 4, 6), 0.5),
        torch.zeros(2, 4, 6, dtype=torch.bool),
        torch.zeros(2, 0, 6, dtype=torch.bool),
        RoIMasks(torch.zeros(2, 1, 28, 28), torch.tensor([[1.0, 1.0, 5.0, 3.0]] * 2), (4, 6)),
    ],
    ids=["soft", "at the threshold", "boolean", "no pixels", "RoIMasks"],
)
def test_crops_of_empty_masks_are_empty(masks):
    assert [crop.mask.shape for crop in mask_crops(masks)] == [(0, 0), (0, 0)]


def test_a_crop_by_hand():
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, 1, 2] = mask[0, 2, 4] = True
    ((left, top, crop),) = mask_crops(mask)
    assert (left, top) == (2, 1)
    assert crop.tolist() == [[True, False, False], [False, False, True]]
