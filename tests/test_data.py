"""data/: the drawn scenes are what the generator draws, and their COCO file says what lies in them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from segutils import load_image, load_model, render_scene, sample_images
from segutils.tabletop import CATEGORIES
from segutils.tabletop.recipes import TEST_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import make_data as maker  # noqa: E402

SCENES = maker.SCENES


@pytest.fixture(scope="module")
def coco():
    return COCO(ROOT / "data" / "scenes" / "instances.json")


def masks_of(coco, name):
    """Labels and boolean masks of a scene, read by pycocotools."""
    image = next(image for image in coco.dataset["images"] if image["file_name"] == f"{name}.png")
    found = coco.loadAnns(coco.getAnnIds(image["id"]))
    masks = np.array([coco.annToMask(a) for a in found], bool).reshape(-1, image["height"], image["width"])
    return [a["category_id"] for a in found], torch.from_numpy(masks)


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_is_what_its_seed_draws(coco, name):
    image, target = render_scene(SCENES[name])
    assert torch.equal(load_image(sample_images()[name]), image)
    labels, masks = masks_of(coco, name)
    assert labels == target["labels"].tolist()
    assert torch.equal(masks, target["masks"].bool())


def test_the_coco_file_is_complete(coco):
    assert {c["id"]: c["name"] for c in coco.dataset["categories"]} == dict(enumerate(CATEGORIES[1:], 1))
    assert 8 <= len(coco.dataset["images"]) <= 12
    assert json.loads((ROOT / "data" / "scenes" / "instances.json").read_text()) == maker.annotations()


def test_no_scene_was_trained_or_measured_on():
    used = [*TRAINING_SEEDS, *VALIDATION_SEEDS, *TEST_SEEDS]
    assert not set(SCENES.values()) & set(used)


def test_the_scenes_show_what_their_names_say(coco):
    assert masks_of(coco, "empty")[0] == []
    assert len(masks_of(coco, "crowded")[0]) >= 12
    labels, masks = masks_of(coco, "two_touching")
    grown = torch.nn.functional.max_pool2d(masks[:, None].float(), 3, 1, 1)[:, 0].bool()
    pairs = [(i, j) for i in range(len(labels)) for j in range(i) if labels[i] == labels[j]]
    assert any((grown[i] & masks[j]).any() for i, j in pairs)


def test_the_half_hidden_thing_is_found_but_not_at_0_8(coco):
    labels, masks = masks_of(coco, "half_hidden")
    model, weights = load_model("tabletop", device="cpu")
    with torch.inference_mode():
        found = model([weights.transforms()(load_image(sample_images()["half_hidden"]))])[0]
    doubtful = (found["scores"] >= 0.3) & (found["scores"] < 0.8)
    hits = [
        label
        for label, mask, score in zip(found["labels"], found["masks"][:, 0] > 0.5, doubtful, strict=True)
        if score
        for true, thing in zip(labels, masks, strict=True)
        if label == true and (mask & thing).sum() / (mask | thing).sum() > 0.5
    ]
    assert len(hits) == 1


def test_data_readme_lists_what_the_tool_would_write():
    assert maker.table() in (ROOT / "data" / "README.md").read_text("utf-8")
