"""Two models behind one call: the bundled tabletop Mask R-CNN and torchvision's COCO models.

The bundled model follows torchvision's conventions (weights enum, `meta`, `transforms()`, `register_model`), so that
`torchvision.models.get_model("maskrcnn_tabletop", weights="DEFAULT")` works once `segutils` is imported, and every
line a reader learns on it works on `maskrcnn_resnet50_fpn` as well.
"""

import os
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models._api import WeightsEnum
from torchvision.models.detection import (
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from segutils.models.downloads import cached_file
from segutils.models.maskrcnn import BundledWeights, MaskRCNN_Tabletop_Weights, maskrcnn_tabletop


def _maskrcnn_coco(**kwargs: Any) -> MaskRCNN:
    """torchvision's `maskrcnn_resnet50_fpn` as it builds it for its weights, without fetching them.

    With `weights=None` it would build another one: batch norms that learn, and that add 1e-5 to the variance. The
    trained ones are frozen, and add nothing.
    """
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None)
    model = MaskRCNN(backbone, num_classes=91, **kwargs)
    overwrite_eps(model, 0.0)
    return model


MODELS = {
    "tabletop": (maskrcnn_tabletop, MaskRCNN_Tabletop_Weights.DEFAULT),
    "coco": (_maskrcnn_coco, MaskRCNN_ResNet50_FPN_Weights.DEFAULT),
    "coco_v2": (
        partial(maskrcnn_resnet50_fpn_v2, weights_backbone=None),
        MaskRCNN_ResNet50_FPN_V2_Weights.DEFAULT,
    ),
}
"""What `load_model` knows: name -> builder, which downloads nothing, and weights."""


def load_model(
    name: str | None = None, device: str | torch.device | None = None
) -> tuple[MaskRCNN, WeightsEnum]:
    """Load a trained Mask R-CNN, ready for inference.

    Args:
        name: `"tabletop"`, which is bundled; `"coco"` or `"coco_v2"`, torchvision's ResNet-50 models, downloaded
            once (about 170 MB) into torch's cache. None takes the environment variable `SEGUTILS_MODEL`, or
            else `"tabletop"`.
        device: where the model shall run. None takes CUDA if there is a GPU for it, else the CPU.

    Returns:
        The model in eval mode on its device, and its weights: `weights.transforms()` prepares pictures,
        `weights.meta["categories"]` names the labels.

    Raises:
        ValueError: there is no model of this name, or the bundled file is damaged.
        DownloadError: the weights of a COCO model could not be fetched. Nothing else is loaded in their place.
    """
    name = name or os.environ.get("SEGUTILS_MODEL") or "tabletop"
    if name not in MODELS:
        raise ValueError(f"There is no model {name!r}. Choose one of {', '.join(MODELS)}.")
    build, weights = MODELS[name]
    return trained(build(), weights, device), weights


def trained(model: nn.Module, weights: WeightsEnum, device: str | torch.device | None) -> nn.Module:
    """Put weights into a model, bundled or fetched ones, and make it ready for inference on its device."""
    if isinstance(weights, BundledWeights):
        state = weights.get_state_dict()
    else:
        state = torch.load(cached_file(weights.url), map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    return model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
