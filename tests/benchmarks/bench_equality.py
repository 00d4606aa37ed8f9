"""`evaluate` against pycocotools, at length: on drawn scenes, on photographs and on little random things.

`python3 run.py bench -k equality` prints the largest difference in any figure. The photographs are those that the
environment variable SEGUTILS_PHOTOGRAPHS names (a folder with `images/` and COCO's `instances.json`). The masks of the
scenes are in memory all at once, and take several GB.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from test_average_precision import NAMES, pycocotools_figures, random_case
from torchvision.ops import masks_to_boxes

from segutils import CATEGORIES, evaluate, load_annotations, render_scene
from segutils.average_precision import FIGURES, named_labels

TYPES = ("segm", "bbox")
SCENES, RANDOM_CASES = 500, 2000


def perturbed(target: dict, labels: list[int], seed: int) -> dict:
    """What a network may have found in place of the truth: shifted, eroded, dropped, doubled, mislabelled."""
    random = np.random.default_rng(seed)
    masks, found = [], []
    for mask, label in zip(target["masks"].numpy().astype(bool), target["labels"].tolist()):
        for _ in range(random.choice([0, 1, 2], p=[0.15, 0.7, 0.15])):
            moved = np.roll(mask, random.integers(-6, 7, 2) * (random.random() < 0.7), (0, 1))
            if random.random() < 0.3:
                moved = binary_erosion(moved, iterations=int(random.integers(1, 4)))
            if moved.any():
                masks.append(moved)
                found.append(random.choice(labels) if random.random() < 0.1 else label)
    shape = target["masks"].shape[-2:]
    masks = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, *shape))
    scores = torch.from_numpy(random.integers(1, 20, len(found)) / 20).float()
    boxes = masks_to_boxes(masks)
    boxes[:, 2:] += 1
    return {
        "boxes": boxes,
        "labels": torch.tensor(found, dtype=torch.int64),
        "masks": masks,
        "scores": scores,
    }


def largest_difference(predictions, targets, categories, iou_type) -> tuple[float, float]:
    """The largest difference in any figure, and the AP."""
    result = evaluate(predictions, targets, categories, iou_type)
    ours = np.array([result[name] for name in FIGURES] + list(result["per_class"].values()))
    theirs = np.array(pycocotools_figures(predictions, targets, iou_type, named_labels(categories)))
    assert np.array_equal(np.isnan(ours), theirs == -1)
    return float(np.abs(np.nan_to_num(ours, nan=-1) - theirs).max()), result["AP"]


def compare(name: str, targets: list[dict], categories) -> None:
    predictions = [perturbed(one, named_labels(categories), seed) for seed, one in enumerate(targets)]
    for iou_type in TYPES:
        difference, ap = largest_difference(predictions, targets, categories, iou_type)
        print(f"| {len(targets)} {name}, {iou_type} | {ap:.3f} | {difference:.1e} |", flush=True)
        assert difference < 1e-8 and 0.1 < ap < 0.9


def test_equality_on_drawn_scenes():
    print("\n\n| | AP | largest difference |\n|---|---|---|")
    compare("drawn scenes", [render_scene(30_000 + seed)[1] for seed in range(SCENES)], CATEGORIES)


def test_equality_on_photographs():
    folder = Path(os.environ.get("SEGUTILS_PHOTOGRAPHS", ""))
    if not (folder / "instances.json").is_file():
        pytest.skip("SEGUTILS_PHOTOGRAPHS names no folder with images/ and instances.json")
    annotations = load_annotations(folder / "instances.json", images=folder / "images")
    compare("photographs", [target for _, target in annotations], annotations.categories)


def test_equality_on_little_things():
    random = np.random.default_rng(4)
    for iou_type in TYPES:
        differences = [
            largest_difference(*random_case(random), NAMES, iou_type)[0] for _ in range(RANDOM_CASES)
        ]
        print(f"| {RANDOM_CASES} random cases, {iou_type} | | {max(differences):.1e} |", flush=True)
        assert max(differences) < 1e-8
