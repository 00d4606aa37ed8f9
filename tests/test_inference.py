"""predict: what model(images) finds, for any Mask R-CNN of torchvision, with masks that stay small."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import (
    MaskRCNN,
    fasterrcnn_mobilenet_v3_large_320_fpn,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from unchanged import unchanged

from segutils import (
    RoIMasks,
    draw_instances,
    filter_model_output,
    get_boolean_mask,
    load_image,
    load_model,
    predict,
    render_scene,
    sample_images,
)
from segutils.inference import (
    classify_proposals,
    extract_features,
    make_predictions,
    pool_proposals,
    predict_masks,
    prepare_images,
    propose_boxes,
    select_detections,
)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SMALL = {
    "min_size": 128,
    "max_size": 192,
    "rpn_post_nms_top_n_test": 40,
    "box_score_thresh": 0.0,
    "box_detections_per_img": 20,
}


def one_map() -> MaskRCNN:
    """A Mask R-CNN on a backbone that gives one feature map instead of a pyramid."""
    backbone = torch.nn.Conv2d(3, 16, 7, stride=8, padding=3)
    backbone.out_channels = 16
    pools = {
        f"{name}_roi_pool": MultiScaleRoIAlign(["0"], output_size=size, sampling_ratio=2)
        for name, size in (("box", 7), ("mask", 14))
    }
    anchors = AnchorGenerator(((16, 32, 64),), ((0.5, 1.0, 2.0),))
    return MaskRCNN(backbone, num_classes=3, rpn_anchor_generator=anchors, **pools, **SMALL)


BUILDERS = {
    "tabletop": lambda: load_model("tabletop", device="cpu")[0],
    "v1": lambda: maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **SMALL),
    "v2": lambda: maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **SMALL),
    "one map": one_map,
}


@pytest.fixture(scope="module")
def pictures():
    """Of three sizes; in the last, nothing is to be found."""
    coins = load_image(sample_images()["coins"])
    return [render_scene(68)[0], coins, torch.full((3, 50, 70), 128, dtype=torch.uint8)]


@pytest.fixture(scope="module", params=[(name, device) for name in BUILDERS for device in DEVICES], ids=str)
def run(request, pictures):
    """A model, and what torchvision's own call gives."""
    name, device = request.param
    torch.manual_seed(0)
    model = BUILDERS[name]().eval().to(device)
    with torch.inference_mode():
        return model, model([(picture / 255).to(device) for picture in pictures])


def same(output, expected, mask_thresholds=(0.5,)):
    """Equal in all keys, and bit for bit in the masks cut at some thresholds."""
    assert len(output) == len(expected)
    for found, wanted in zip(output, expected, strict=True):
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in ("boxes", "labels", "scores"))
        assert isinstance(found["masks"], RoIMasks) and found["masks"].shape == wanted["masks"].shape
        for threshold in mask_thresholds:
            assert torch.equal(found["masks"] > threshold, wanted["masks"] > threshold)


def test_it_equals_the_model(run, pictures):
    model, expected = run
    assert sum(len(found["scores"]) for found in expected[:2]) > 20
    before = [picture.clone() for picture in pictures]
    same(predict(model, pictures), expected, (0, 0.1, 0.5, 0.9, 1))  # uint8
    same(predict(model, [picture / 255 for picture in pictures]), expected)  # float
    same(predict(model, tuple((picture / 255).double() for picture in pictures)), expected)
    same(predict(model, pictures[1][None]), model_alone(model, pictures[1]))  # a batch [1, 3, H, W]
    assert all(torch.equal(a, b) for a, b in zip(pictures, before))
    assert model.roi_heads.score_thresh in (0.0, 0.05) and not model.training


def test_the_stages_one_after_the_other_give_the_same(run, pictures):
    model, expected = run
    batch = prepare_images(model, pictures)
    features = extract_features(model, batch)
    proposals = propose_boxes(model, batch, features)
    pooled = pool_proposals(model, batch, features, proposals)
    class_logits, box_deltas = classify_proposals(model, pooled)
    detections = select_detections(model, batch, proposals, class_logits, box_deltas)
    mask_logits = predict_masks(model, batch, features, detections)
    same(make_predictions(batch, detections, mask_logits), expected)

    assert batch.original_sizes == [tuple(picture.shape[1:]) for picture in pictures]
    assert len(batch.tensors) == len(proposals) == len(detections) == len(pictures)
    for size, boxes, found in zip(batch.image_sizes, proposals, detections):
        inside = torch.tensor([*size[::-1], *size[::-1]], device=boxes.device)
        assert all(((corners >= 0) & (corners <= inside)).all() for corners in (boxes, found["boxes"]))
    tensors = (*features.values(), *proposals, pooled, class_logits, box_deltas, mask_logits)
    assert not any(tensor.requires_grad or tensor.is_inference() for tensor in (batch.tensors, *tensors))
    classes = class_logits.shape[1]
    assert pooled.shape[0] == class_logits.shape[0] == sum(len(boxes) for boxes in proposals)
    assert box_deltas.shape[1] == 4 * classes and mask_logits.shape[1] == classes


def model_alone(model, picture):
    with torch.inference_mode():
        return model([(picture / 255).to(next(model.parameters()).device)])


def test_a_score_threshold_is_like_filtering_afterwards(run, pictures):
    model, expected = run
    scores = torch.cat([found["scores"] for found in expected]).sort(descending=True).values
    # Some score itself, so that "at least" is put to the test.
    for threshold in (0.0, scores[len(scores) // 4].item(), scores[0].item(), 1.0):
        wanted = filter_model_output(expected, threshold)
        found = predict(model, pictures, threshold)
        for a, b in zip(found, wanted, strict=True):
            assert all(torch.equal(a[key], b[key]) for key in ("boxes", "labels", "scores"))
            assert len(a["masks"]) == len(b["masks"])
            # Fewer masks in one go may be added up in another order: the last digit is free.
            differing = (a["masks"] > 0.5) ^ (b["masks"] > 0.5)
            near = (b["masks"] - 0.5).abs() < 1e-5
            assert not (differing & ~near).any()


def test_a_score_threshold_spares_the_mask_head_the_work(pictures):
    model = load_model("tabletop", device="cpu")[0]
    worked_on = []
    handle = model.roi_heads.mask_head.register_forward_hook(
        lambda _, rois, __: worked_on.append(len(rois[0]))
    )
    all_of_them, likely = predict(model, pictures[:1]), predict(model, pictures[:1], 0.8)
    handle.remove()
    assert worked_on == [len(all_of_them[0]["scores"]), len(likely[0]["scores"])]
    assert 0 < worked_on[1] < worked_on[0]


def test_the_helpers_take_what_predict_gives(run, pictures, capsys):
    model, expected = run
    threshold = expected[0]["scores"].median().item()
    output = predict(model, pictures)
    filtered = filter_model_output(output, threshold)
    same(filtered, filter_model_output(expected, threshold))
    assert all(isinstance(found["masks"], RoIMasks) for found in filtered)  # nothing was pasted
    ours, theirs = get_boolean_mask(filtered), get_boolean_mask(filter_model_output(expected, threshold))
    for found, wanted, picture, small in zip(ours, theirs, pictures, filtered, strict=True):
        assert torch.equal(found["masks"], wanted["masks"])
        drawn = draw_instances(picture, wanted)
        assert torch.equal(draw_instances(picture, small), drawn)


def test_no_gradients_and_nothing_of_the_picture_s_size_is_kept(pictures):
    model = load_model("tabletop", device="cpu")[0]
    large = torch.nn.functional.interpolate(pictures[0][None] / 255, size=(1500, 2000))[0].requires_grad_()
    [found] = predict(model, [large])
    assert not any(found[key].requires_grad for key in ("boxes", "scores"))
    assert 0 < found["masks"].nbytes < 10_000 * len(found["scores"])
    assert found["masks"].shape[2:] == (1500, 2000)


GREY = torch.zeros(3, 40, 60)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "the list is empty"),
        (None, TypeError, r"The model takes a list of pictures, not NoneType. .* in a list: \[image\]"),
        (Image.new("RGB", (4, 4)), TypeError, "a list of pictures, not Image. Put the picture in a list"),
        ([Image.new("RGB", (4, 4))], TypeError, "Picture 1 must be a tensor .* not Image"),
        (np.zeros((40, 60, 3)), TypeError, "a list of pictures, not ndarray"),
        (torch.zeros(40, 60), ValueError, r"Picture 1 must be \[3, H, W\], not \[60\]"),
        (GREY, TypeError, r"not Tensor. Put the picture in a list: \[image\]"),
        (
            ["cat.jpg"],
            TypeError,
            r"Picture 1 must be a tensor \[3, H, W\], not str. Read files with load_image",
        ),
        ([GREY, np.zeros((40, 60, 3))], TypeError, "Picture 2 must be a tensor .* not ndarray"),
        ([GREY, torch.zeros(40, 60, 3)], ValueError, r"Picture 2 .* not \[40, 60, 3\]. .* use image.permute"),
        ([torch.zeros(1, 40, 60)], ValueError, r"Picture 1 must be \[3, H, W\], not \[1, 40, 60\]"),
        ([torch.zeros(4, 40, 60)], ValueError, r"not \[4, 40, 60\]"),
        ([torch.zeros(3, 0, 60)], ValueError, r"not \[3, 0, 60\]"),
        ([torch.zeros(1, 3, 40, 60)], ValueError, r"not \[1, 3, 40, 60\]"),
        ([GREY.to(torch.uint16)], TypeError, "Picture 1 must hold uint8 or float values, not torch.uint16"),
        ([GREY.long()], TypeError, "Picture 1 must hold uint8 or float values, not torch.int64"),
        ([GREY + 200], ValueError, "Picture 1: A float picture .* go from 200 to 200. Divide it by 255"),
        ([GREY - 2], ValueError, "go from -2 to -2. If it was normalised, undo that first"),
        ([GREY * torch.nan], ValueError, "Picture 1: The picture has 7200 values that are NaN"),
        (
            [GREY, GREY + torch.inf],
            ValueError,
            "Picture 2: The picture has 7200 values that are NaN or infinite",
        ),
        ([torch.zeros(3, 2, 3000)], ValueError, "Picture 1 is 3000 x 2 pixels: .* Cut it into pieces"),
    ],
)
def test_pictures_are_checked(images, error, message):
    model = load_model("tabletop", device="cpu")[0]
    with unchanged(images), pytest.raises(error, match=message):
        predict(model, images)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "part", ["backbone.stem.0.weight", "rpn.head.cls_logits.bias", "backbone.stem.1.running_var"]
)
def test_broken_weights_do_not_pass_for_an_empty_picture(pictures, part, number):
    model = load_model("tabletop", device="cpu")[0]
    assert len(predict(model, pictures[:1])[0]["scores"]) > 0
    values = model.state_dict()[part]
    values[(0,) * values.ndim] = number
    with torch.inference_mode(), unchanged(*pictures[:1]):
        with pytest.raises(
            ValueError, match="model's weights hold NaN or infinite numbers: it would find nothing"
        ):
            predict(model, pictures[:1])


def test_tiny_and_thin_pictures_run():
    model = load_model("tabletop", device="cpu")[0]
    longest = model.transform.max_size  # at most so many times as long as wide: exactly so many must do, too
    for height, width in ((1, 1), (1, 500), (500, 1), (1, longest), (7, 7 * longest)):
        [found] = predict(model, [torch.rand(3, height, width)])
        assert found["masks"].shape[2:] == (height, width)


def test_the_model_and_the_threshold_are_checked():
    model = load_model("tabletop", device="cpu")[0]
    for threshold, error in ((80, "Write 0.8, not 80"), (-1, "not -1"), (float("nan"), "not nan")):
        with pytest.raises(ValueError, match=f"score_threshold must be .*{error}"):
            predict(model, [GREY], threshold)
    for threshold in ("0.8", True):
        with pytest.raises(
            TypeError, match=f"score_threshold must be a number from 0 to 1, not {threshold!r}"
        ):
            predict(model, [GREY], threshold)
    with pytest.raises(ValueError, match=r"in training mode. Call model.eval\(\)"):
        predict(model.train(), [GREY])
    assert model.training  # it is for the reader to change that
    without_masks = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).eval()
    for other, kind in ((without_masks, "FasterRCNN"), (torch.nn.Linear(1, 1), "Linear"), ("coco", "str")):
        with pytest.raises(TypeError, match=f"takes a Mask R-CNN of torchvision, not {kind}"):
            predict(other, [GREY])
