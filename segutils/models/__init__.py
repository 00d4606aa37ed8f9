"""Two models behind one call: the bundled tabletop Mask R-CNN and torchvision's COCO models.

The bundled model follows torchvision's conventions (weights enum, `meta`, `transforms()`, `register_model`), so that
`torchvision.models.get_model("maskrcnn_tabletop", weights="DEFAULT")` works once `segutils` is imported, and every
line a reader learns on it works on `maskrcnn_resnet50_fpn` as well.
"""

import os
from pathlib import Path

import torch
from torch import nn
from torchvision.models._api import Weights, WeightsEnum
from torchvision.models.detection import MaskRCNN

from segutils.models.downloads import cached_file
from segutils.models.maskrcnn import BundledWeights, MaskRCNN_Tabletop_Weights, maskrcnn_tabletop
from segutils.models.registry import MODELS
from segutils.models.saving import load_saved, save_model

__all__ = ["MODELS", "MaskRCNN_Tabletop_Weights", "load_model", "maskrcnn_tabletop", "save_model"]


def load_model(
    name: str | Path | None = None, device: str | torch.device | None = None
) -> tuple[MaskRCNN, WeightsEnum | Weights]:
    """Load a trained Mask R-CNN, ready for inference.

    Args:
        name: `"tabletop"`, which is bundled; `"coco"` or `"coco_v2"`, torchvision's ResNet-50 models, downloaded
            once (about 170 MB) into torch's cache; or the path of a file that `save_model` wrote. None takes the
            environment variable `SEGUTILS_MODEL`, or else `"tabletop"`.
        device: where the model shall run. None takes CUDA if there is a GPU for it, else the CPU.

    Returns:
        The model in eval mode on its device, and its weights: `weights.transforms()` prepares pictures,
        `weights.meta["categories"]` names the labels.

    Raises:
        ValueError: there is no model of this name; a file is damaged, or not of `save_model`.
        FileNotFoundError: there is no file at this path.
        DownloadError: the weights of a COCO model could not be fetched. Nothing else is loaded in their place.
    """
    name = name or os.environ.get("SEGUTILS_MODEL") or "tabletop"
    if is_file_name(name):
        model, weights = load_saved(Path(name))
        return _ready(model, device), weights
    if name not in MODELS:
        raise ValueError(
            f"There is no model {name!r}. Choose one of {', '.join(MODELS)}, or name a file of save_model, *.pth."
        )
    build, weights = MODELS[name]
    return trained(build(), weights, device), weights


def trained(model: nn.Module, weights: WeightsEnum, device: str | torch.device | None) -> nn.Module:
    """Put weights into a model, bundled or fetched ones, and make it ready for inference on its device."""
    if isinstance(weights, BundledWeights):
        state = weights.get_state_dict()
    else:
        state = torch.load(cached_file(weights.url), map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    return _ready(model, device)


def is_file_name(name: str | Path) -> bool:
    """Does this name a file of one's own, and no model that's listed?"""
    return str(name) not in MODELS and (Path(name).suffix != "" or len(Path(name).parts) > 1)


def _ready(model: nn.Module, device: str | torch.device | None) -> nn.Module:
    return model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
