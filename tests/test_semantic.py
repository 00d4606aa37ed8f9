"""The semantic family: the bundled FCN, class maps from instances, and what mean IoU and pixel accuracy count."""

import json
import math
from pathlib import Path

import pytest
import torch
from make_semantic_results import random_maps
from torchvision.models import get_model, get_model_weights
from torchvision.models.segmentation import FCN_ResNet50_Weights, fcn_resnet50
from unchanged import unchanged

from segutils import (
    RoIMasks,
    class_iou,
    confusion_matrix,
    get_boolean_mask,
    load_model,
    load_semantic_model,
    mean_iou,
    pixel_accuracy,
    predict,
    render_scene,
    to_semantic,
)
from segutils.images import DATA_DIR
from segutils.models import downloads
from segutils.models.semantic import FCN_Tabletop_Weights
from segutils.tabletop import CATEGORIES

WEIGHTS = FCN_Tabletop_Weights.DEFAULT
RESULTS = json.loads(Path(__file__).with_name("semantic_results.json").read_text("utf-8"))


# --- class maps -----------------------------------------------------------------------------------------------


def two_squares():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, :4, :4] = masks[1, 2:, 2:6] = True
    return {"labels": torch.tensor([3, 5]), "scores": torch.tensor([0.6, 0.9]), "masks": masks}


def test_the_higher_score_lies_on_top():
    p = two_squares()
    with unchanged(p):
        class_map = to_semantic(p)
    assert class_map.dtype == torch.int64 and class_map.shape == (6, 8)
    assert class_map[0].tolist() == [3, 3, 3, 3, 0, 0, 0, 0]
    assert class_map[3].tolist() == [3, 3, 5, 5, 5, 5, 0, 0]
    turned = p | {"scores": torch.tensor([0.9, 0.6])}
    assert to_semantic(turned)[3].tolist() == [3, 3, 3, 3, 5, 5, 0, 0]
    annotation = {key: p[key] for key in ("labels", "masks")}
    assert torch.equal(to_semantic(annotation), class_map)


def test_all_kinds_of_masks_give_the_same_class_map():
    [found] = predict(load_model("tabletop", device="cpu")[0], [render_scene(68)[0]], 0.5)
    class_map = to_semantic(found)
    assert len(class_map.unique()) > 3
    [boolean] = get_boolean_mask([found])
    assert torch.equal(to_semantic(boolean), class_map)
    assert torch.equal(to_semantic(boolean | {"masks": boolean["masks"][:, None] * 0.9}), class_map)
    assert (to_semantic(found, 0.9) > 0).sum() < (class_map > 0).sum()


def test_a_class_map_of_nothing_is_background():
    nothing = {
        "labels": torch.zeros(0, dtype=torch.int64),
        "scores": torch.zeros(0),
        "masks": RoIMasks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), (6, 8)),
    }
    assert torch.equal(to_semantic(nothing), torch.zeros(6, 8, dtype=torch.int64))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scores": torch.tensor([0.5])}, ValueError, "keys of different lengths"),
        ({"scores": torch.tensor([0.5, math.nan])}, ValueError, "scores that are NaN"),
        ({"masks": torch.zeros(2, 3, 6, 8)}, ValueError, r"masks must be \[N, 1, H, W\] or \[N, H, W\]"),
    ],
)
def test_unsound_predictions_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        to_semantic(two_squares() | change)
    with pytest.raises(ValueError, match="mask_threshold must be a number from 0 to 1, not 50"):
        to_semantic(two_squares(), 50)
    with pytest.raises(ValueError, match="has no masks"):
        to_semantic({"labels": torch.tensor([1])})


# --- mean IoU and pixel accuracy ------------------------------------------------------------------------------


def test_two_classes_by_hand():
    true = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1]])
    predicted = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0]])
    confusion = confusion_matrix(predicted, true, 2)
    assert confusion.tolist() == [[5, 1], [1, 1]]
    assert pixel_accuracy(confusion) == 6 / 8
    assert class_iou(confusion).tolist() == pytest.approx([5 / 7, 1 / 3])
    assert mean_iou(confusion) == pytest.approx((5 / 7 + 1 / 3) / 2)


@pytest.mark.parametrize("seed", range(len(RESULTS)))
def test_they_equal_torchmetrics(seed):
    classes, pairs = random_maps(seed)
    theirs = RESULTS[seed]
    confusion = sum(confusion_matrix(predicted, true, classes) for predicted, true in pairs)
    assert confusion.tolist() == theirs["confusion"]
    assert mean_iou(confusion) == pytest.approx(theirs["mean_iou"], abs=1e-6)
    assert pixel_accuracy(confusion) == pytest.approx(theirs["accuracy"], abs=1e-6)
    assert class_iou(confusion)[-1].isnan()


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), r"differ in shape: \[2, 3\] and \[3, 2\]"),
        (torch.full((2, 2), 4), torch.zeros(2, 2), "numbers from 0 to 3; these go from 0 to 4"),
        (torch.zeros(2, 2), torch.full((2, 2), -1), "these go from -1 to 0"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(predicted, true, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(predicted, true, 4)


# --- the models -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def semantic():
    return load_semantic_model("tabletop", device="cpu")


def test_the_bundled_model_follows_torchvision_s_conventions(semantic):
    model, weights = semantic
    assert weights is WEIGHTS and not model.training
    assert weights.meta["categories"] == list(CATEGORIES)
    assert get_model_weights("fcn_tabletop") is FCN_Tabletop_Weights
    again = get_model("fcn_tabletop", weights="DEFAULT").eval()
    batch = weights.transforms()(render_scene(5)[0])[None]
    with torch.inference_mode():
        logits = model(batch)["out"]
        assert logits.shape == (1, len(CATEGORIES), *batch.shape[2:])
        torch.testing.assert_close(
            again(batch)["out"], logits, atol=1e-3, rtol=1e-3
        )  # in another memory format


def test_the_bundled_file_is_small_half_precision_and_named_by_its_hash():
    file = DATA_DIR / "weights" / WEIGHTS.url
    assert file.stat().st_size <= 4e6
    assert downloads.is_whole(file)
    assert sum(f.stat().st_size for f in (DATA_DIR / "weights").glob("*.pth")) <= 16e6


def test_it_knows_what_lies_where(semantic):
    """A few scenes that nothing was trained on or chosen by; the benchmark takes 500 of them."""
    model, weights = semantic
    confusion = torch.zeros(len(CATEGORIES), len(CATEGORIES), dtype=torch.int64)
    for seed in range(20_000, 20_008):
        image, target = render_scene(seed)
        with torch.inference_mode():
            logits = model(weights.transforms()(image)[None])["out"]
        large = torch.nn.functional.interpolate(logits, size=image.shape[1:], mode="bilinear")
        confusion += confusion_matrix(large.argmax(1)[0], to_semantic(target), len(CATEGORIES))
    assert mean_iou(confusion) > 0.7 and pixel_accuracy(confusion) > 0.95


def test_the_environment_chooses_the_model(monkeypatch):
    monkeypatch.setattr(downloads, "urlopen", lambda *_, **__: pytest.fail("a download was tried"))
    monkeypatch.setenv("SEGUTILS_MODEL", "")
    assert load_semantic_model()[1] is WEIGHTS
    monkeypatch.setenv("SEGUTILS_MODEL", "resnet")
    with pytest.raises(ValueError, match="no semantic model 'resnet'. Choose one of tabletop, coco"):
        load_semantic_model()


def test_the_coco_model_is_torchvision_s_own(tmp_path, monkeypatch):
    """With random weights in the cache; their hash cannot be the true one, so that check is moved aside."""
    weights = FCN_ResNet50_Weights.DEFAULT
    torch.manual_seed(0)
    stand_in = fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True).state_dict()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("SEGUTILS_MODEL", "coco_v2")  # for which there is one semantic model, too
    file = tmp_path / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    torch.save(stand_in, file)
    monkeypatch.setattr(downloads, "file_hash", lambda path: path.stem.rsplit("-", 1)[1])
    ours, found = load_semantic_model(device="cpu")
    assert found is weights
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: stand_in)
    theirs = fcn_resnet50(weights=weights).eval()
    x = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x)["out"], theirs(x)["out"], atol=1e-3, rtol=1e-3)
    assert sum(p.numel() for p in ours.parameters()) == weights.meta["num_params"]
