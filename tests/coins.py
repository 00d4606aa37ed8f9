"""The photograph of 24 coins: its classical segmentation, and the ways in which the tests change it."""

import numpy as np
import torch
from skimage.filters import sobel
from skimage.measure import label, regionprops
from skimage.segmentation import watershed
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from segutils import load_image, sample_images


def photograph() -> Tensor:
    """float32 [3, 303, 384] in 0..1."""
    return load_image(sample_images()["coins"]) / 255


def classical_masks() -> Tensor:
    """Boolean masks [24, 303, 384] from a watershed on the edges, between dark table and bright coins."""
    grey = (photograph()[0] * 255).round().numpy().astype(np.uint8)
    markers = np.zeros(grey.shape, np.int32)
    markers[grey < 30], markers[grey > 150] = 1, 2
    patches = regionprops(label(watershed(sobel(grey), markers) == 2))
    masks = []
    for patch in (patch for patch in patches if patch.area > 100):
        top, left, bottom, right = patch.bbox
        masks.append(torch.zeros(grey.shape, dtype=torch.bool))
        masks[-1][top:bottom, left:right] = torch.from_numpy(patch.image_filled)
    return torch.stack(masks)


def changed(image: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """name -> the changed photograph, and the classical masks changed alike."""
    masks = classical_masks()
    pairs = {
        "as it is": (image, masks),
        "turned by 90 degrees": (image.rot90(1, (-2, -1)), masks.rot90(1, (-2, -1))),
        "turned by 180 degrees": (image.rot90(2, (-2, -1)), masks.rot90(2, (-2, -1))),
        "mirrored": (image.flip(-1), masks.flip(-1)),
    }
    for scale in (0.75, 0.9, 1.1, 1.25, 1.5):
        size = [round(side * scale) for side in image.shape[1:]]
        scaled = F.resize(image, size, antialias=True).clamp(0, 1)
        pairs[f"scaled by {scale}"] = (scaled, F.resize(masks, size, F.InterpolationMode.NEAREST_EXACT))
    for contrast in (2 / 3, 4 / 3):
        pairs[f"contrast times {contrast:.2f}"] = (F.adjust_contrast(image, contrast), masks)
    return pairs


def mask_ious(found: Tensor, true: Tensor) -> Tensor:
    """IoU of every found mask [M, H, W] with every true one [N, H, W]: [M, N]."""
    found, true = found.flatten(1).float(), true.flatten(1).float()
    common = found @ true.T
    return common / (found.sum(1)[:, None] + true.sum(1)[None] - common)
