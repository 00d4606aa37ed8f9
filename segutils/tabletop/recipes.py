"""The recipes of the bundled weights: `python -m segutils.tabletop.recipes tabletop` (or `semantic`).

Drawing a scene takes about as long as a training step needs for it, so a few thousand pictures are drawn once, kept on
disk, and varied while training: flipped, turned, cropped, scaled, recoloured, blurred. Scenes for training, for
choosing between runs and for the final figures have separate ranges of seeds.

The detector is trained three times: on tables alone, and then twice on tables and on pictures of everything else, from
which it learns when to say nothing.
"""

import argparse
import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F
from tqdm.auto import tqdm

from segutils.models.maskrcnn import MaskRCNN_Tabletop_Weights, maskrcnn_tabletop
from segutils.models.semantic import fcn_tabletop
from segutils.predictions import to_semantic
from segutils.tabletop.elsewhere import render_elsewhere
from segutils.tabletop.scene import render_scene
from segutils.targets import make_target
from segutils.training import train

TRAINING_SEEDS = range(1_000_000, 2_000_000)
VALIDATION_SEEDS = range(10_000, 10_200)  # for choosing between runs
TEST_SEEDS = range(20_000, 20_500)  # for the final figures, looked at once
SCENE_SIZE = (384, 512)  # training scenes are drawn at the size at which the network sees pictures
CROP = 288


class StoredScenes(Dataset):
    """Drawn scenes on disk, and behind them pictures from elsewhere, each varied anew whenever it is read.

    Item `i` is a pair of image, float32 [3, 288, 288] in 0..1, and torchvision's training target. How it is varied
    hangs on torch's random numbers, which `train` seeds for each item and each pass. Pictures are kept as uint8; masks
    as one map of uint8 that says which thing each pixel shows, because no two masks share a pixel. `first` says
    with which scene to begin.
    """

    def __init__(self, folder: Path, scenes: int, others: int = 0, first: int = 0) -> None:
        count = scenes + others
        folder.mkdir(parents=True, exist_ok=True)
        self.images = _open_array(folder / "images.npy", (count, 3, *SCENE_SIZE))
        self.owners = _open_array(folder / "owners.npy", (count, *SCENE_SIZE))
        self.labels = _open_array(folder / "labels.npy", (count, 15))  # by owner; 0 where there is none
        for i in tqdm(range(count), desc="drawing pictures", disable=None):
            if self.labels[i, 0]:  # drawn before: the table itself is marked 255
                continue
            render, seed = (render_scene, first + i) if i < scenes else (render_elsewhere, i - scenes)
            self.images[i], target = render(TRAINING_SEEDS[seed], SCENE_SIZE)
            order = torch.arange(1, len(target["labels"]) + 1, dtype=torch.uint8)[:, None, None]
            self.owners[i] = (target["masks"] * order).sum(0)
            self.labels[i, 1 : len(target["labels"]) + 1] = target["labels"]
            self.labels[i, 0] = 255

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng(torch.randint(2**31, (2,)).tolist())
        if rng.random() < 0.2:  # four scenes at half their size, side by side: small things, many of them
            parts = [index, *rng.integers(len(self), size=3)]
            corners = [
                self._cut(int(i), rng, CROP // 2, rng.integers(256, 384, endpoint=True)) for i in parts
            ]
            image = _tile([image for image, _, _ in corners])
            # Owners of the four parts are kept apart by counting on from 15, 30 and 45.
            owner = _tile([(o + 15 * k * (o > 0)) for k, (_, o, _) in enumerate(corners)])
            labels = torch.cat([labels for _, _, labels in corners])
        else:
            side = int(rng.integers(220, 384, endpoint=True))
            image, owner, labels = self._cut(index, rng, CROP, side)
        numbers, areas = owner.unique(return_counts=True)
        numbers = numbers[(numbers > 0) & (areas >= 40)]
        return _recolour(image, rng), make_target(owner == numbers[:, None, None], labels[numbers])

    def _cut(
        self, index: int, rng: np.random.Generator, size: int, side: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A square of `side` pixels out of a scene, scaled to `size`, flipped and turned."""
        height, width = SCENE_SIZE
        for _ in range(3):  # an empty piece of table teaches little: look elsewhere, but not for ever
            top, left = rng.integers((height - side + 1, width - side + 1))
            piece = np.s_[top : top + side, left : left + side]
            if self.owners[index][piece].any():
                break
        image = torch.from_numpy(self.images[index][(slice(None), *piece)].copy())
        owner = torch.from_numpy(self.owners[index][piece].astype(np.int64))
        labels = torch.from_numpy(self.labels[index].astype(np.int64))
        whole = torch.from_numpy(np.bincount(self.owners[index].ravel(), minlength=15))
        left_over = owner.flatten().bincount(minlength=15)
        owner[(left_over < 0.25 * whole)[owner]] = 0  # mostly cut away: nobody would label the rest
        image = F.resize(image, [size, size], antialias=True)
        owner = F.resize(owner[None], [size, size], F.InterpolationMode.NEAREST_EXACT)[0]
        if rng.random() < 0.5:
            image, owner = image.flip(-1), owner.flip(-1)
        turns = int(rng.integers(4))
        return image.rot90(turns, (-2, -1)), owner.rot90(turns, (-2, -1)), labels


def _open_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if path.exists():
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape == shape:
            return array
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _tile(four: list[Tensor]) -> Tensor:
    return torch.cat([torch.cat(four[:2], -1), torch.cat(four[2:], -1)], -2)


def _recolour(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Vary light, contrast, colour, sharpness and noise, as cameras do."""
    image = image.float() / 255
    if rng.random() < 0.3:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if rng.random() < 0.3:  # softer, as a small photograph that was enlarged
        side = int(CROP * rng.uniform(0.45, 0.9))
        image = F.resize(F.resize(image, [side, side], antialias=True), [CROP, CROP])
    image = image ** math.exp(rng.normal() * 0.25)
    mean = image.mean()
    image = (image - mean) * math.exp(rng.normal() * 0.25) + mean + rng.normal() * 0.06
    image = image * torch.from_numpy(rng.normal(1, 0.06, (3, 1, 1)).astype(np.float32))
    if rng.random() < 0.4:
        image = image + torch.from_numpy(rng.standard_normal(image.shape, np.float32)) * (0.04 * rng.random())
    return image.clamp(0, 1)


class PixelLoss(nn.Module):
    """A semantic model that answers, as torchvision's detectors do in train mode, with a dict of its loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # those of weights.transforms()
        logits = self.model(F.normalize(torch.stack(images), mean, std))["out"]
        return {"loss_pixels": cross_entropy(logits.float(), torch.stack([to_semantic(t) for t in targets]))}


# Of both models; a worker varies the pictures while the network learns.
TRAINING = {"batch_size": 8, "peak_rate": 2e-3, "every": 250, "workers": 1, "dtype": torch.bfloat16}


TEMPERATURE = 1.25
"""What the logits of the classes are divided by in the end, so that a score above 0.5 says less than too much."""


def train_tabletop(folder: Path, device: str) -> Path:
    """Train the bundled Mask R-CNN from nothing, and return the file of its weights."""
    model = maskrcnn_tabletop(_skip_resize=True).to(device)
    tables = StoredScenes(folder / "scenes", 6000)
    model, _ = train(model, tables, steps=6000, checkpoint=folder / "tabletop_1.pth", **TRAINING)
    # Wider things to say no to; and twice the weight for the masks, which are what the first run does worst.
    everything = StoredScenes(folder / "everything", 6000, 2500)
    model.register_forward_hook(_count_masks_twice)  # which the copies that are trained keep
    settings = TRAINING | {"peak_rate": 1.5e-3}
    model, _ = train(model, everything, steps=4500, checkpoint=folder / "tabletop_2.pth", **settings)
    # The same once more, on tables that the model hasn't seen.
    unseen = StoredScenes(folder / "unseen", 6000, 2500, first=6000)
    settings["peak_rate"] = 1.2e-3
    model, _ = train(model, unseen, steps=4500, checkpoint=folder / "tabletop_3.pth", **settings)
    with torch.no_grad():
        for parameter in model.roi_heads.box_predictor.cls_score.parameters():
            parameter /= TEMPERATURE
    return save_weights(model, folder, "maskrcnn_tabletop")


def _count_masks_twice(model: nn.Module, _inputs: tuple, output: dict | list) -> dict | list:
    """Double one of the losses, which a detector returns in train mode."""
    return output | {"loss_mask": 2 * output["loss_mask"]} if model.training else output


def train_semantic(folder: Path, device: str) -> Path:
    """Train the bundled FCN, which begins with what the detector has learnt, and return the file of its weights."""
    model = PixelLoss(fcn_tabletop())
    pyramid, learnt = model.model.backbone.pyramid, MaskRCNN_Tabletop_Weights.DEFAULT.get_state_dict()
    pyramid.load_state_dict({key: learnt[f"backbone.{key}"] for key in pyramid.state_dict()})
    tables = StoredScenes(folder / "scenes", 6000)
    model.to(device, memory_format=torch.channels_last)
    model, _ = train(model, tables, steps=3000, checkpoint=folder / "semantic.pth", **TRAINING)
    return save_weights(model.model, folder, "fcn_tabletop")


def save_weights(model: nn.Module, folder: Path, name: str) -> Path:
    """Write a model's state dict in half precision to `folder/NAME-HASH.pth` and return the path.

    HASH is the first 8 digits of the file's SHA-256, as in the names of torchvision's weights.
    """
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    unnamed = folder / f"{name}.part"
    torch.save(state, unnamed)
    digest = hashlib.sha256(unnamed.read_bytes()).hexdigest()
    return unnamed.replace(folder / f"{name}-{digest[:8]}.pth")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m segutils.tabletop.recipes", description=__doc__.splitlines()[0]
    )
    parser.add_argument("recipe", choices=["tabletop", "semantic"])
    parser.add_argument(
        "--folder", type=Path, default=Path("training"), help="for pictures, checkpoints and weights"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    recipe = {"tabletop": train_tabletop, "semantic": train_semantic}[args.recipe]
    print(f"weights in {recipe(args.folder, 'cuda' if torch.cuda.is_available() else 'cpu')}")


if __name__ == "__main__":
    main()
