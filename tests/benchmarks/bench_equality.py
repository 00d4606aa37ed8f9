"""`evaluate` against pycocotools, at length: on drawn scenes, on photographs and on little random things.

`python3 run.py bench -k equality` prints the largest difference in any figure. The photographs are those that the
environment variable SEGUTILS_PHOTOGRAPHS names (a folder with `images/` and COCO's `instances.json`).
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
from segutils.average_precision import FIGURES
from segutils.average_precision import named_labels as labels_of

TYPES = ("segm", "bbox")


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
    """The largest difference in any figure, and the AP.

    `predictions` and `targets` are functions that return generators, so that one picture is in memory at a time.
    """
    result = evaluate(predictions(), targets(), categories, iou_type)
    ours = np.array([result[name] for name in FIGURES] + list(result["per_class"].values()))
    theirs = np.array(pycocotools_figures(predictions(), targets(), iou_type, labels_of(categories)))
    assert np.array_equal(np.isnan(ours), theirs == -1)
    return float(np.abs(np.nan_to_num(ours, nan=-1) - theirs).max()), result["AP"]


def compare(name: str, count: int, target_of, categories) -> None:
    labels = labels_of(categories)
    for iou_type in TYPES:
        difference, ap = largest_difference(
            lambda: (perturbed(target_of(row), labels, row) for row in range(count)),
            lambda: (target_of(row) for row in range(count)),
            categories,
            iou_type,
        )
        print(f"| {count} {name}, {iou_type} | {ap:.3f} | {difference:.1e} |", flush=True)
        assert difference < 1e-8 and 0.1 < ap < 0.9


def test_equality_on_drawn_scenes():
    print("\n\n| | AP | largest difference |\n|---|---|---|")
    compare("drawn scenes", 500, lambda seed: render_scene(30_000 + seed)[1], CATEGORIES)


def test_equality_on_photographs():
    folder = Path(os.environ.get("SEGUTILS_PHOTOGRAPHS", ""))
    if not (folder / "instances.json").is_file():
        pytest.skip("SEGUTILS_PHOTOGRAPHS names no folder with images/ and instances.json")
    annotations = load_annotations(folder / "instances.json", images=folder / "images")
    compare("photographs", len(annotations), lambda row: annotations[row][1], annotations.categories)


def test_equality_on_little_things():
    random = np.random.default_rng(4)
    for iou_type in TYPES:
        worst = 0.0
        for _ in range(2000):
            predictions, targets = random_case(random)
            difference, _ = largest_difference(lambda p=predictions: p, lambda t=targets: t, NAMES, iou_type)
            worst = max(worst, difference)
        print(f"| 2000 random cases, {iou_type} | | {worst:.1e} |", flush=True)
        assert worst < 1e-8
