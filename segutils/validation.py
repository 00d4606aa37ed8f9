"""Judging a detector while it learns: its losses on pictures that it doesn't learn from, and its precision."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import tee

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from segutils.average_precision import evaluate
from segutils.evaluation import crowd_rows
from segutils.inference import predict
from segutils.targets import Pairs, Target, check_pair


class CheckedPairs(Dataset):
    """A dataset whose items are checked as they're read, with pictures as float 0 to 1.

    Item `(number of the pass, index)` is the same whenever it's read, whatever the dataset draws at random.
    """

    def __init__(self, pairs: Pairs, model: nn.Module, name: str, seed: int = 0) -> None:
        self.pairs, self.name, self.seed = pairs, name, seed
        self.classes = _count_classes(model)
        self.needs = ("masks",) if isinstance(model, MaskRCNN) else ()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Target]:
        number, index = key if isinstance(key, tuple) else (0, key)
        with _random_state_of(self.seed, number, index):
            pair = self.pairs[index]
        check_pair(pair, f"{self.name}[{index}]", self.classes, self.needs)
        image, target = pair
        return image / 255 if image.dtype == torch.uint8 else image, target


@contextmanager
def _random_state_of(*key: int) -> Iterator[None]:
    """Seed the generators of torch, numpy and Python from whole numbers, and put them back afterwards."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPU's as well
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def _count_classes(model: nn.Module) -> int | None:
    """Classes of a detector of torchvision, the background included; None where that can't be known."""
    if hasattr(model, "roi_heads"):
        return model.roi_heads.box_predictor.cls_score.out_features
    head = getattr(getattr(model, "head", None), "classification_head", None)
    return getattr(head, "num_classes", None) or getattr(head, "num_columns", None)  # RetinaNet, FCOS; SSD


@torch.no_grad()
def validation_loss(model: nn.Module, pairs: Pairs) -> dict[str, float]:
    """Compute the losses of a detector on pictures that it doesn't learn from: their means over the pictures.

    torchvision's detectors give losses in train mode only, in which batch norms would learn and dropout would drop.
    Here only the parts that compute losses are in that mode, for as long as it takes; pictures are resized as in eval
    mode, and the sampling of proposals is the same every time. The model is left as it was, and so is torch's
    generator of random numbers.

    Args:
        model: as for `train`, in any mode.
        pairs: pairs of picture and target, as for `train`.

    Returns:
        `loss`, the sum, and its parts: of a Mask R-CNN `loss_classifier`, `loss_box_reg`, `loss_mask`,
        `loss_objectness`, `loss_rpn_box_reg`.

    Raises:
        TypeError, ValueError: as `check_targets` does, or there is no pair.
    """
    if len(pairs) == 0:
        raise ValueError("There is no picture to validate on.")
    if not isinstance(pairs, CheckedPairs):
        pairs = CheckedPairs(pairs, model, "pairs")
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    sums: dict[str, float] = {}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        model.eval()
        for module in modes:
            if module is model or isinstance(module, RegionProposalNetwork | RoIHeads):
                module.training = True
        try:
            for index in range(len(pairs)):
                image, target = pairs[index]
                for name, term in compute_losses(model, [image], [target]).items():
                    sums[name] = sums.get(name, 0.0) + term.item() / len(pairs)
        finally:
            for module, mode in modes.items():
                module.training = mode
    return {"loss": sum(sums.values())} | sums


@torch.no_grad()
def validate(model: nn.Module, pairs: CheckedPairs) -> dict[str, float]:
    """The model's losses on pairs, and if it's a detector its average precision, as names and figures."""
    row = {f"validation_{name}": value for name, value in validation_loss(model, pairs).items()}
    if isinstance(getattr(model, "transform", None), GeneralizedRCNNTransform):
        has_masks, device = isinstance(model, MaskRCNN), next(model.parameters()).device
        model.eval()
        pictures, truths = tee(pairs[index] for index in range(len(pairs)))
        images = ([image.to(device)] for image, _ in pictures)
        found = ((predict(model, image) if has_masks else model(image))[0] for image in images)
        figures = evaluate(found, (target for _, target in truths), iou_type="segm" if has_masks else "bbox")
        row |= {name: figures[name] for name in ("AP", "AP50")}
    return row


def compute_losses(model: nn.Module, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    """The model's losses on pictures and targets, whose crowd regions are left out."""
    device, rows = next(model.parameters()).device, ("boxes", "labels", "masks", "keypoints")
    kept = [~crowd_rows(target) for target in targets]
    targets = [
        {name: target[name][keep].to(device) for name in rows if name in target}
        for target, keep in zip(targets, kept)
    ]
    return model([image.to(device) for image in images], targets)
