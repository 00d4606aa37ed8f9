"""Make `semantic_results.json`: what torchmetrics says about random class maps. `test_semantic.py` reads it.

torchmetrics is no dependency of the course. To make the file anew:

    python -m venv judge && judge/bin/pip install torchmetrics==1.9.0
    judge/bin/python tests/make_semantic_results.py
"""

import json
from pathlib import Path

import numpy as np
import torch

CASES = 8


def random_maps(seed: int) -> tuple[int, list[tuple[torch.Tensor, torch.Tensor]]]:
    """The number of classes, and three pairs of class maps, int64 [20, 30]: predicted and true.

    Some seven of ten pixels are right. The last class is in no map.
    """
    random = np.random.default_rng(seed)
    classes = 4 + seed
    pairs = []
    for _ in range(3):
        true = random.integers(0, classes - 1, (20, 30))
        predicted = np.where(random.random((20, 30)) < 0.7, true, np.roll(true, 3, 1))
        pairs.append((torch.from_numpy(predicted), torch.from_numpy(true)))
    return classes, pairs


def torchmetrics_says(classes: int, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> dict:
    """The confusion matrix, mean IoU and pixel accuracy of all pairs together."""
    from torchmetrics.classification import (
        MulticlassAccuracy,
        MulticlassConfusionMatrix,
        MulticlassJaccardIndex,
    )

    predicted, true = (torch.stack(maps) for maps in zip(*pairs))
    return {
        "confusion": MulticlassConfusionMatrix(classes)(predicted, true).tolist(),
        "mean_iou": MulticlassJaccardIndex(classes)(predicted, true).item(),
        "accuracy": MulticlassAccuracy(classes, average="micro")(predicted, true).item(),
    }


if __name__ == "__main__":
    said = [torchmetrics_says(*random_maps(seed)) for seed in range(CASES)]
    lines = ",\n".join(f" {json.dumps(one)}" for one in said)
    Path(__file__).with_name("semantic_results.json").write_text(f"[\n{lines}\n]\n", "utf-8")
