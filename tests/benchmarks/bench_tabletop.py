"""How good the bundled model is: the figures of data/README.md. They take some minutes.

`python3 run.py bench` prints them: AP and calibration on 500 scenes that nothing was chosen by, and the photograph
of the coins. What the model sees on ordinary photographs is counted in a folder with COCO annotations (`images/` and
`instances.json`) that the environment variable SEGUTILS_PHOTOGRAPHS names.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from coins import changed, mask_ious, photograph
from torchvision.ops import box_convert, box_iou
from tqdm import tqdm

from segutils import (
    evaluate,
    expected_calibration_error,
    filter_model_output,
    get_boolean_mask,
    load_image,
    load_model,
    mask_iou,
    match_instances,
    predict,
    reliability,
    render_scene,
)
from segutils.predictions import mask_crops
from segutils.rle import encode_rle
from segutils.tabletop import CATEGORIES
from segutils.tabletop.recipes import TEST_SEEDS


def test_average_precision():
    model, _ = load_model("tabletop")
    predictions, targets = [], []
    for seed in tqdm(TEST_SEEDS, disable=None):
        image, target = render_scene(seed)
        predictions += predict(model, [image])
        targets.append(target | {"masks": encode_rle(mask_crops(target["masks"].bool()), image.shape[1:])})
    mask, box = (evaluate(predictions, targets, CATEGORIES, iou_type) for iou_type in ("segm", "bbox"))
    print(f"\n\n{len(TEST_SEEDS)} unseen scenes, 640x480 pixels\n\n| | mask | box |\n|---|---|---|")
    for name in ("AP", "AP50", "AP75"):
        print(f"| {name} | {mask[name]:.3f} | {box[name]:.3f} |")
    for name, mask_ap in mask["per_class"].items():
        print(f"| AP, {name} | {mask_ap:.3f} | {box['per_class'][name]:.3f} |")


def test_coins():
    model, _ = load_model("tabletop", device="cpu")
    print("\n\n| The photograph | coins | other things | mean mask IoU |\n|---|---|---|---|")
    for name, (image, true) in changed(photograph()).items():
        with torch.inference_mode():
            found = get_boolean_mask(filter_model_output(model([image]), 0.5))[0]
        coins = found["labels"] == CATEGORIES.index("coin")
        iou = mask_ious(found["masks"][coins], true).max(1).values.mean()
        print(f"| {name} | {int(coins.sum())} | {int((~coins).sum())} | {iou:.3f} |")


def test_reliability():
    model, _ = load_model("tabletop")
    hits, scores = [], []
    for seed in tqdm(TEST_SEEDS, disable=None):
        image, target = render_scene(seed)
        prediction = predict(model, [image])[0]
        iou = mask_iou(prediction["masks"], target["masks"].bool())
        hits.append(match_instances(iou, prediction, target) >= 0)
        scores.append(prediction["scores"])
    hits, scores = torch.cat(hits), torch.cat(scores)
    print("\n\n| Score | instances | mean score | share that is right |\n|---|---|---|---|")
    for low, (count, mean, share) in enumerate(zip(*reliability(hits, scores))):
        print(f"| {low / 10:.1f} to {(low + 1) / 10:.1f} | {count} | {mean:.3f} | {share:.3f} |")
    print(f"\nexpected calibration error: {expected_calibration_error(hits, scores):.3f}")


def test_ordinary_photographs():
    folder = Path(os.environ.get("SEGUTILS_PHOTOGRAPHS", ""))
    if not (folder / "instances.json").is_file():
        pytest.skip("SEGUTILS_PHOTOGRAPHS names no folder with images/ and instances.json")
    model, _ = load_model("tabletop")
    coco = json.loads((folder / "instances.json").read_text("utf-8"))
    names = {category["id"]: category["name"] for category in coco["categories"]}
    finds = []  # score, whether the picture has such a thing, whether it is one
    for picture in tqdm(coco["images"], disable=None):
        prediction = predict(model, [load_image(folder / "images" / picture["file_name"])])[0]
        things = [a for a in coco["annotations"] if a["image_id"] == picture["id"]]
        boxes = torch.tensor([a["bbox"] for a in things]).reshape(-1, 4)
        overlap = box_iou(prediction["boxes"].cpu(), box_convert(boxes, "xywh", "xyxy")) >= 0.5
        for row, label, score in zip(overlap, prediction["labels"].tolist(), prediction["scores"].tolist()):
            alike = torch.tensor(
                [names[a["category_id"]] == CATEGORIES[label] for a in things], dtype=torch.bool
            )
            finds.append((score, bool(alike.any()), bool((row & alike).any())))
    there = sum(names[a["category_id"]] in CATEGORIES for a in coco["annotations"])
    print(f"\n\n{len(coco['images'])} photographs, in which {there} things of the model's classes are marked")
    print("\n| Score at least | finds | of a class that is not there | right |\n|---|---|---|---|")
    for threshold in (0.3, 0.5, 0.8):
        kept = [find for find in finds if find[0] >= threshold]
        absent, right = sum(not there for _, there, _ in kept), sum(hit for *_, hit in kept)
        print(f"| {threshold} | {len(kept)} | {absent} | {right} |")
