"""The symptoms of notebooks 13a and 13b: each still happens, so that a pitfall which a library has mended is found out.

Where a cause is taken away, the symptom goes. The notebooks show more pictures; here they are few and small.
"""

import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from torch.autograd.graph import saved_tensors_hooks
from torchvision.ops import box_convert, box_iou, masks_to_boxes
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, Mask
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from segutils import (
    CATEGORIES,
    SKY_CATEGORIES,
    check_targets,
    draw_instances,
    evaluate,
    filter_model_output,
    load_image,
    load_model,
    make_target,
    maskrcnn_tabletop,
    predict,
    render_scene,
    render_sky,
    replace_predictors,
    resize,
    train,
    validation_loss,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model():
    return load_model("tabletop", device="cpu")[0]


@pytest.fixture(scope="module")
def table():
    return render_scene(10_067)


@pytest.fixture(scope="module")
def tables():
    return [render_scene(seed) for seed in range(10_000, 10_006)]


@pytest.fixture(scope="module")
def sky():
    return render_sky(3)


@torch.inference_mode()
def find(model, picture):
    return model([picture])[0]


def count(model, picture):
    return int((find(model, picture)["scores"] >= 0.5).sum())


@torch.no_grad()
def losses(model, picture, target):
    torch.manual_seed(0)
    return {name: loss.item() for name, loss in deepcopy(model).train()([picture], [target]).items()}


def perfect(target):
    return target | {"scores": torch.ones(len(target["labels"]))}


# --- 13a: running a model ----------------------------------------------------------------------------------


def test_nothing_is_found(model, table):
    picture, target = table
    pixels = picture.permute(1, 2, 0).contiguous()
    reshaped = pixels.reshape(picture.shape) / 255
    assert count(model, picture / 255) == len(target["labels"])
    for wrong in (picture.float(), picture / 255 / 255, reshaped):
        assert count(model, wrong) == 0
    with pytest.raises(ValueError, match="Divide it by 255"):
        predict(model, [picture.float()])
    for silent in (picture / 255 / 255, reshaped):
        predict(model, [silent])


def test_everything_is_found_when_strict_is_false_and_nothing_fits(model, table):
    torch.manual_seed(0)
    mine = maskrcnn_tabletop(weights=None).eval()
    saved = {f"module.{name}": weight for name, weight in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="Missing key"):
        mine.load_state_dict(saved)
    report = mine.load_state_dict(saved, strict=False)
    scores = find(mine, table[0] / 255)["scores"]
    assert len(scores) == 100 and scores.max() < 0.2
    # torch doesn't list the counters of batch norms as missing
    weights = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(report.missing_keys) == weights and set(report.unexpected_keys) == saved.keys()
    mine.load_state_dict({name.removeprefix("module."): weight for name, weight in saved.items()})
    assert count(mine, table[0] / 255) == len(table[1]["labels"])


def test_boxes_of_a_resized_picture(model, table):
    picture, target = table
    [found] = predict(model, [resize(picture, 320)], score_threshold=0.5)
    draw_bounding_boxes(picture, found["boxes"])  # silent
    assert box_iou(target["boxes"], found["boxes"]).amax(dim=1).mean() < 0.2
    assert box_iou(target["boxes"], found["boxes"] * 2).amax(dim=1).mean() > 0.7
    with pytest.raises(ValueError, match="Draw on the picture that the model was given"):
        draw_instances(picture, found)


def test_width_and_height_for_a_corner(table):
    picture, target = table
    boxes = target["boxes"]
    coco = box_convert(boxes, "xyxy", "xywh")
    assert (coco[:, :2] > coco[:, 2:]).any()
    assert box_iou(coco, boxes).diag().mean() < 0.1  # silent
    with pytest.raises(ValueError, match="box_convert"):
        check_targets([(picture, target | {"boxes": coco})], CATEGORIES)
    with pytest.raises(ValueError, match="box_convert"):
        evaluate([perfect(target) | {"boxes": coco}], [target], CATEGORIES, iou_type="bbox")


def test_a_phone_photograph_on_its_side(table, tmp_path):
    picture = table[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "phone.png", exif=exif)
    lying = np.array(Image.open(tmp_path / "phone.png"))
    assert np.array_equal(lying, picture.permute(1, 2, 0))
    upright = load_image(tmp_path / "phone.png")
    assert upright.equal(picture.rot90(k=-1, dims=(1, 2)))
    with pytest.raises(ValueError, match="same height and width"):
        draw_segmentation_masks(upright, table[1]["masks"].bool())
    draw_segmentation_masks(upright, F.resize(table[1]["masks"].bool(), list(upright.shape[1:])))  # silent


def test_ids_are_blended(table):
    target = table[1]
    numbers = torch.arange(1, len(target["masks"]) + 1)
    ids = (target["masks"] * numbers[:, None, None]).amax(dim=0, keepdim=True)
    quarter = (ids == 1).sum() / 4
    blended = F.resize(ids, [240, 320])
    nearest = F.resize(ids, [240, 320], interpolation=F.InterpolationMode.NEAREST)
    assert (blended == 1).sum() > 1.2 * quarter
    assert (nearest == 1).sum().item() == pytest.approx(quarter.item(), rel=0.05)
    with pytest.raises(TypeError, match="cannot be blended"):
        resize(ids, 320)


def test_squeeze_takes_the_only_instance_along(model):
    masks = find(model, render_scene(10_021)[0] / 255)["masks"][:1]
    assert masks.squeeze().ndim == 2 and masks.squeeze(1).ndim == 3


def test_wrong_colours_cost_ap_in_silence(model, tables):
    """No error, and things are found; 13a has the figures of twenty tables."""
    targets = [target for _, target in tables]

    def ap(change):
        found = [find(model, change(picture / 255)) for picture, _ in tables]
        return evaluate(found, targets, CATEGORIES)["AP"]

    right = ap(lambda picture: picture)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    assert 0.5 < ap(lambda picture: F.normalize(picture, mean, std)) < right
    assert 0.5 < ap(lambda picture: picture.flip(0)) != right
    with pytest.raises(ValueError, match="If it was normalised, undo that first"):
        predict(model, [F.normalize(tables[0][0] / 255, mean, std)])


def test_train_mode_changes_scores_though_no_weight_moves(model, table):
    skies, picture = [render_sky(seed) for seed in range(4)], table[0] / 255
    used = deepcopy(model).train()
    with torch.no_grad():
        for sky, target in skies:
            used([sky / 255], [target])
    assert count(used.eval(), picture) != count(model, picture)
    before, after = model.state_dict(), used.state_dict()
    changed = {name.split(".")[-1] for name in before if not before[name].equal(after[name])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
    used = deepcopy(model)
    validation_loss(used, skies)
    assert find(used, picture)["scores"].equal(find(model, picture)["scores"])


def test_a_jpeg_is_another_picture(table, tmp_path):
    for name in ("table.png", "table.jpg"):
        Image.fromarray(table[0].permute(1, 2, 0).numpy()).save(tmp_path / name)
    assert load_image(tmp_path / "table.png").equal(table[0])
    assert not load_image(tmp_path / "table.jpg").equal(table[0])


def test_a_float32_score_is_not_pythons():
    score = torch.tensor(0.9)
    assert (score >= 0.9).item() and not score.item() >= 0.9


def test_eval_keeps_what_a_backward_pass_needs(model, table):
    kept, picture = [], table[0] / 255
    with saved_tensors_hooks(lambda tensor: kept.append(tensor.nbytes) or tensor, lambda tensor: tensor):
        found = model([picture])[0]
        assert sum(kept) > 50e6 and found["scores"].requires_grad
        kept.clear()
        assert not find(model, picture)["scores"].requires_grad
        assert kept == []


def test_torchvisions_masks_are_as_large_as_the_picture(model, table):
    soft, [compact] = find(model, table[0] / 255)["masks"], predict(model, [table[0]])
    assert soft.nbytes == len(soft) * table[0][0].numel() * 4
    assert compact["masks"].nbytes < soft.nbytes / 100


def test_thresholds_need_no_second_run(model, table):
    runs, thresholds = [], (0.3, 0.9)
    hook = model.backbone.register_forward_hook(lambda *_: runs.append(1))
    try:
        again = [predict(model, [table[0]], score_threshold=threshold)[0] for threshold in thresholds]
        assert len(runs) == len(thresholds)
        output = predict(model, [table[0]])
        assert len(runs) == len(thresholds) + 1
    finally:
        hook.remove()
    for threshold, found in zip(thresholds, again):
        assert filter_model_output(output, threshold)[0]["scores"].equal(found["scores"])


# --- 13b: training and judging -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fresh(model):
    torch.manual_seed(0)
    return replace_predictors(model, SKY_CATEGORIES)


def test_a_standardised_black_picture_makes_the_loss_nan(fresh, sky):
    black = torch.zeros(3, 160, 160)
    standardised = (black - black.mean()) / black.std()
    assert all(np.isnan(list(losses(fresh, standardised, sky[1]).values())))
    assert np.isfinite(list(losses(fresh, black / 0.01, sky[1]).values())).all()
    with pytest.raises(ValueError, match="NaN"):
        check_targets([(standardised, sky[1])], SKY_CATEGORIES)


def test_a_rate_belongs_to_its_optimiser(fresh, sky):
    def explodes(optimiser, rate):
        torch.manual_seed(0)
        learner, seen = deepcopy(fresh).train(), []
        optimiser = optimiser(learner.parameters(), lr=rate)
        for _ in range(4):
            loss = sum(learner([sky[0] / 255], [sky[1]]).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen.append(loss.item())
        return max(seen) > seen[0]

    assert explodes(torch.optim.AdamW, 0.02)
    assert not explodes(torch.optim.SGD, 0.02)
    assert not explodes(torch.optim.AdamW, 5e-4)


def test_a_loss_is_zero_or_negative(model, table):
    picture, target = table
    bright = target | {"masks": target["masks"] * 255}
    zeros = target | {"labels": torch.zeros_like(target["labels"])}
    assert all(loss > 0 for loss in losses(model, picture / 255, target).values())
    assert losses(model, picture / 255, bright)["loss_mask"] < 0
    without = losses(model, picture / 255, zeros)
    assert without["loss_mask"] == without["loss_box_reg"] == 0 < without["loss_classifier"]
    for wrong, says in ((bright, "Only 0 and 1 are allowed"), (zeros, "0 is the background")):
        with pytest.raises(ValueError, match=says):
            check_targets([(picture, wrong)], CATEGORIES)


def test_masks_to_boxes_is_a_pixel_short(fresh, sky):
    trail = torch.zeros(1, 160, 160, dtype=torch.uint8)
    trail[0, 80, 30:120] = 1
    thin = {"boxes": masks_to_boxes(trail), "labels": torch.tensor([1]), "masks": trail}
    assert thin["boxes"].tolist() == [[30, 80, 119, 80]]
    scale = 384 / 160  # the error speaks of the resized picture
    with pytest.raises(AssertionError, match=rf"Found invalid box \[{30 * scale:.1f}, {80 * scale:.1f}, "):
        losses(fresh, sky[0] / 255, thin)
    made = make_target(trail, [1])
    assert made["boxes"].tolist() == [[30, 80, 120, 81]]
    assert np.isfinite(list(losses(fresh, sky[0] / 255, made).values())).all()


def test_classes_counted_from_0(model, tables):
    truth = [target for _, target in tables]
    output = [predict(model, [picture])[0] for picture, _ in tables]
    from_zero = [one | {"labels": (one["labels"] - 1).clamp(min=1)} for one in truth]

    def as_one(things):
        return [one | {"labels": torch.ones_like(one["labels"])} for one in things]

    assert evaluate(output, from_zero, CATEGORIES)["AP"] < 0.2 < evaluate(output, truth, CATEGORIES)["AP"]
    assert evaluate(as_one(output), as_one(from_zero), CATEGORIES)["AP"] > 0.5


def test_a_picture_flipped_without_its_target(model, table):
    picture, target = table
    flipped = F.horizontal_flip(picture)
    boxes = BoundingBoxes(target["boxes"], format="XYXY", canvas_size=picture.shape[1:])
    both = {"boxes": F.horizontal_flip(boxes), "masks": F.horizontal_flip(Mask(target["masks"]))}
    check_targets([(flipped, target), (flipped, target | both)], CATEGORIES)  # silent
    wrong, right = (losses(model, flipped / 255, target | new)["loss_mask"] for new in ({}, both))
    assert wrong > 4 * right
    assert F.horizontal_flip(target["boxes"]).equal(
        target["boxes"].flip(-1)
    )  # unwrapped, boxes are "flipped" as pixels


def test_the_truth_judged_against_itself(tables):
    truth = [target for _, target in tables]
    right = [perfect(target) for target in truth]

    def aps(answers):
        return [evaluate(answers, truth, CATEGORIES, iou_type=kind)["AP"] for kind in ("segm", "bbox")]

    assert aps(right) == [1, 1]
    twice = aps([{key: torch.cat([value, value]) for key, value in one.items()} for one in right])
    assert max(twice) < 0.95
    lost = aps([{key: value[one["labels"] <= 5] for key, value in one.items()} for one in right])
    assert max(lost) < 0.9
    masks, boxes = aps([one | {"boxes": one["boxes"] / 2} for one in right])
    assert masks == 1 and boxes < 0.1
    masks, boxes = aps([one | {"boxes": masks_to_boxes(one["masks"])} for one in right])
    assert masks == 1 and 0.9 < boxes < 1
    assert max(aps(right[1:] + right[:1])) < 0.1


def test_a_crowd_that_lost_its_mark():
    masks = torch.zeros(3, 20, 60, dtype=torch.uint8)
    for thing in range(3):
        masks[thing, 5:15, 20 * thing + 5 : 20 * thing + 15] = 1
    found = perfect(make_target(masks, [1, 1, 2]))
    heap = make_target(torch.stack([masks[:2].amax(dim=0), masks[2]]), [1, 2])
    names = ["__background__", "a", "b"]
    assert evaluate([found], [heap | {"iscrowd": torch.tensor([1, 0])}], names)["AP"] == 1
    assert evaluate([found], [heap | {"iscrowd": torch.tensor([0, 0])}], names)["AP"] < 0.6


def test_the_first_id_is_no_background():
    full = torch.tensor([[1, 1, 2], [1, 3, 3]])
    assert full.unique()[1:].tolist() == [2, 3]


def test_a_seed_after_the_layers_comes_too_late(model):
    def first_weights(seed):
        if seed:
            torch.manual_seed(0)
        network = replace_predictors(model, SKY_CATEGORIES)
        torch.manual_seed(0)
        torch.rand(1)
        return network.roi_heads.box_predictor.cls_score.weight

    assert first_weights(True).equal(first_weights(True))
    torch.manual_seed(1)
    assert not first_weights(False).equal(first_weights(True))
    np.random.seed(0)
    first = np.random.rand()
    torch.manual_seed(0)
    assert np.random.rand() != first  # torch's seed isn't NumPy's


def test_train_returns_a_copy(fresh, sky):
    before = deepcopy(fresh.state_dict())
    tuned, _ = train(fresh, [sky], steps=1, batch_size=1, dtype=torch.float32)
    assert all(value.equal(before[name]) for name, value in fresh.state_dict().items())
    assert not all(value.equal(before[name]) for name, value in tuned.state_dict().items())


def test_the_class_loss_starts_at_chance(fresh, sky):
    assert losses(fresh, sky[0] / 255, sky[1])["loss_classifier"] == pytest.approx(np.log(3), abs=0.15)


@pytest.mark.parametrize("name", ["13a_pitfalls_running", "13b_pitfalls_training"])
def test_each_symptom_can_be_looked_up_alone(name):
    """Right after the first cells, the ones above the first heading, each section has all the names that it uses."""
    parts = [[]]
    for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown" and re.search("^## ", cell.source, re.M):
            parts.append([cell.source])
        elif cell.cell_type == "code":
            parts[-1].append(cell.source)
    first, *sections = parts
    for heading, *code in sections:
        checked = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--select=F821", "--isolated", "--no-cache", "-"],
            input="\n".join([*first, *code]),
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, (heading.splitlines()[0], checked.stdout)
