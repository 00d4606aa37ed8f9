"""Drafts: LabelMe files of what a model finds, which never replace a person's work."""

import json
import shutil
import statistics

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from unchanged import unchanged

from segutils import DATA_DIR, draft_labels, load_annotations, load_image, load_model, mask_iou, predict
from segutils.drafts import few_points
from segutils.roi_masks import Crop


@pytest.fixture(scope="module")
def tabletop():
    model, weights = load_model("tabletop", device="cpu")
    return model, weights.meta["categories"]


def copy(folder, *names):
    folder.mkdir()
    for name in names:
        shutil.copy(DATA_DIR / "scenes" / name, folder)
    return folder


def test_drafts_are_the_models_masks_in_few_points(tmp_path, tabletop):
    model, categories = tabletop
    pictures = copy(tmp_path / "in", "coins_in_rows.png", "scissors.png", "empty.png")
    with unchanged(model), unchanged(pictures):
        drafts = draft_labels(model, pictures, tmp_path / "out", categories)
    assert [path.name for path in drafts.written] == ["coins_in_rows.json", "empty.json", "scissors.json"]
    assert (drafts.kept, drafts.failed) == ([], {})
    annotations = load_annotations(tmp_path / "out", images=pictures, categories=categories)
    assert annotations.problems == []
    points = [
        len(p) for picture in annotations.pictures for thing in picture.things for p in thing.polygons or []
    ]
    assert statistics.median(points) <= 30
    for image, target in annotations:
        [found] = predict(model, [image], 0.5)
        assert sorted(target["labels"].tolist()) == sorted(found["labels"].tolist())
        if len(target["labels"]):
            iou = mask_iou(found["masks"], target["masks"].bool())
            assert iou.max(dim=1).values.min() >= 0.949  # points are rounded to hundredths


@pytest.mark.parametrize("kind", ["dot", "specks", "ring", "disc", "noise"])
def test_few_points_keep_the_mask(kind):
    y, x = np.mgrid[:60, :80]
    mask = {
        "dot": (x == 3) & (y == 59),
        "specks": (x % 20 == 3) & (y % 20 == 3),
        "ring": abs(np.hypot(x - 40, y - 30) - 20) < 4,
        "disc": np.hypot(x - 40, y - 30) < 25,
        "noise": (x < 12) & (y < 12) & (np.random.default_rng(0).random((60, 80)) < 0.5),
    }[kind]
    crop = Crop(5, 2, torch.from_numpy(mask))
    rings = few_points(crop, (70, 90))
    assert rings and all(ring.shape[1] == 2 for ring in rings)
    filled = coco_mask.merge(coco_mask.frPyObjects([ring.ravel().tolist() for ring in rings], 70, 90))
    truth = np.zeros((70, 90), np.uint8, order="F")
    truth[2:62, 5:85] = mask
    assert coco_mask.iou([filled], [coco_mask.encode(truth)], [False])[0, 0] >= 0.95
    if kind == "disc":
        assert len(rings[0]) <= 16


def test_a_persons_work_stays(tmp_path, tabletop):
    model, categories = tabletop
    pictures = copy(tmp_path / "in", "coins_in_rows.png", "leaves.png", "donuts.png")
    draft_labels(model, pictures, pictures, categories)
    corrected, own, old = (pictures / f"{name}.json" for name in ("coins_in_rows", "leaves", "donuts"))
    record = json.loads(corrected.read_text("utf-8"))
    record["shapes"][0]["points"][0][0] += 1
    corrected.write_text(json.dumps(record), "utf-8")
    own.write_text("{ not even JSON", "utf-8")
    before = [file.read_bytes() for file in (corrected, own, old)]
    drafts = draft_labels(model, pictures, pictures, categories, score_threshold=1.0)
    assert drafts.kept == [corrected, own] and drafts.written == [old]
    assert [file.read_bytes() for file in (corrected, own)] == before[:2]
    assert old.read_bytes() != before[2] and json.loads(old.read_bytes())["shapes"] == []
    assert {path.suffix for path in pictures.iterdir()} == {".png", ".json"}


def test_a_picture_in_a_sub_folder_and_one_that_is_none(tmp_path, tabletop):
    model, categories = tabletop
    copy(tmp_path / "in", "empty.png")
    copy(tmp_path / "in" / "more", "coins_in_rows.png")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no picture")
    drafts = draft_labels(model, str(tmp_path / "in"), str(tmp_path / "out"), categories)
    assert [path.name for path in drafts.failed] == ["broken.jpg"] and all(drafts.failed.values())
    file = tmp_path / "out" / "more" / "coins_in_rows.json"
    assert file in drafts.written
    path = (file.parent / json.loads(file.read_text("utf-8"))["imagePath"]).resolve()
    assert path == (tmp_path / "in" / "more" / "coins_in_rows.png").resolve() and load_image(path).ndim == 3


def test_what_cannot_be_done_is_said(tmp_path, tabletop):
    model, categories = tabletop
    with pytest.raises(NotADirectoryError, match="nowhere' is not a folder"):
        draft_labels(model, tmp_path / "nowhere", tmp_path, categories)
    with pytest.raises(ValueError, match="no picture in"):
        draft_labels(model, tmp_path, tmp_path, categories)
    pictures = copy(tmp_path / "in", "empty.png")
    shutil.copy(pictures / "empty.png", pictures / "empty.jpg")
    with pytest.raises(ValueError, match="2 pictures would get"):
        draft_labels(model, pictures, tmp_path / "out", categories)
    assert not (tmp_path / "out").exists()
