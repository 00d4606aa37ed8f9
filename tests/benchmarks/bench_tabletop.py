"""How good the bundled model is: the figures of data/README.md. They take some minutes.

`python3 run.py bench` prints them: AP on 500 scenes that nothing was chosen by, and the photograph of the coins.
"""

import torch
from coins import changed, mask_ious, photograph
from tqdm import tqdm

from segutils import filter_model_output, get_boolean_mask, load_model, mean_average_precision, render_scene
from segutils.tabletop import CATEGORIES
from segutils.tabletop.recipes import TEST_SEEDS


def test_average_precision():
    model, _ = load_model("tabletop")
    scenes = (render_scene(seed) for seed in tqdm(TEST_SEEDS, disable=None))
    result = mean_average_precision(model, scenes, class_metrics=True)
    print(f"\n\n{len(TEST_SEEDS)} unseen scenes, 640x480 pixels\n\n| | mask | box |\n|---|---|---|")
    for name, key in (("AP", "map"), ("AP50", "map_50"), ("AP75", "map_75")):
        print(f"| {name} | {result[f'segm_{key}']:.3f} | {result[f'bbox_{key}']:.3f} |")
    per_class = zip(result["segm_map_per_class"], result["bbox_map_per_class"], strict=True)
    for label, (mask, box) in zip(result["classes"].tolist(), per_class, strict=True):
        print(f"| AP, {CATEGORIES[label]} | {mask:.3f} | {box:.3f} |")


def test_coins():
    model, _ = load_model("tabletop", device="cpu")
    print("\n\n| The photograph | coins | other things | mean mask IoU |\n|---|---|---|---|")
    for name, (image, true) in changed(photograph()).items():
        with torch.inference_mode():
            found = get_boolean_mask(filter_model_output(model([image]), 0.5))[0]
        coins = found["labels"] == CATEGORIES.index("coin")
        iou = mask_ious(found["masks"][coins], true).max(1).values.mean()
        print(f"| {name} | {int(coins.sum())} | {int((~coins).sum())} | {iou:.3f} |")
