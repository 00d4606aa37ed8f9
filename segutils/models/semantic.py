"""The semantic family: one class for each pixel, from the bundled small FCN or torchvision's `fcn_resnet50`."""

import os
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models._api import Weights, WeightsEnum, register_model
from torchvision.models.segmentation import FCN_ResNet50_Weights, fcn_resnet50
from torchvision.models.segmentation.fcn import FCN, FCNHead
from torchvision.transforms._presets import SemanticSegmentation

from segutils.models import is_file_name, trained
from segutils.models.maskrcnn import TABLETOP_CATEGORIES, BundledWeights, SmallBackbone


class JoinedPyramid(nn.Module):
    """The first three stages of `SmallBackbone`, enlarged to the finest and put together: 192 channels, stride 4."""

    out_channels = 3 * SmallBackbone.out_channels

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = SmallBackbone(stages=3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first, *others = self.pyramid(x).values()
        size = first.shape[-2:]
        enlarged = [interpolate(level, size=size, mode="bilinear", align_corners=False) for level in others]
        return {"out": torch.cat([first, *enlarged], dim=1)}


class FCN_Tabletop_Weights(BundledWeights):
    """Weights trained on scenes of `segutils.tabletop`; they lie in the repository, nothing is downloaded."""

    TABLETOP_V1 = Weights(
        url="fcn_tabletop-200348c6.pth",
        transforms=partial(SemanticSegmentation, resize_size=320),
        meta={
            "categories": list(TABLETOP_CATEGORIES),
            "min_size": (64, 64),
            "recipe": "python -m segutils.tabletop.recipes semantic",
            "_docs": "Trained on drawn tabletop scenes; measured figures are in data/README.md.",
        },
    )
    DEFAULT = TABLETOP_V1


@register_model()
def fcn_tabletop(*, weights: FCN_Tabletop_Weights | None = None, progress: bool = True) -> FCN:
    """A fully convolutional network (Long and others 2015, arXiv 1411.4038) small enough for a CPU.

    Args:
        weights: `FCN_Tabletop_Weights.DEFAULT`, `"DEFAULT"`, or None for random weights.
        progress: there is no download to show; taken because torchvision's builders take it.
    """
    weights = FCN_Tabletop_Weights.verify(weights)
    backbone = JoinedPyramid()
    model = FCN(backbone, FCNHead(backbone.out_channels, len(TABLETOP_CATEGORIES)))
    if weights is not None:
        model.load_state_dict(weights.get_state_dict())
    return model


SEMANTIC_MODELS = {
    "tabletop": (fcn_tabletop, FCN_Tabletop_Weights.DEFAULT),
    # With the auxiliary head, whose weights are in the file too.
    "coco": (partial(fcn_resnet50, weights_backbone=None, aux_loss=True), FCN_ResNet50_Weights.DEFAULT),
}
"""What `load_semantic_model` knows: name -> builder, which downloads nothing, and weights."""


def load_semantic_model(
    name: str | None = None, device: str | torch.device | None = None
) -> tuple[FCN, WeightsEnum]:
    """Load a trained FCN, ready for inference: `model(batch)["out"]` are logits, [B, classes, H, W].

    Args:
        name: `"tabletop"`, which is bundled, or `"coco"`, torchvision's `fcn_resnet50` (20 classes of Pascal VOC,
            trained on COCO), downloaded once (135 MB) into torch's cache. None takes the environment variable
            `SEGUTILS_MODEL` (`"coco_v2"` gives `"coco"` too), or else `"tabletop"`; so does a file there, which
            holds a Mask R-CNN.
        device: where the model shall run. None takes CUDA if there is a GPU for it, else the CPU.

    Returns:
        The model in eval mode on its device, and its weights: `weights.transforms()` prepares pictures,
        `weights.meta["categories"]` names the classes.

    Raises:
        ValueError: there is no model of this name, or the bundled file is damaged.
        DownloadError: the weights of the COCO model could not be fetched. Nothing else is loaded in their place.
    """
    chosen = os.environ.get("SEGUTILS_MODEL") or "tabletop"
    name = name or ("tabletop" if is_file_name(chosen) else chosen.replace("coco_v2", "coco"))
    if name not in SEMANTIC_MODELS:
        raise ValueError(f"There is no semantic model {name!r}. Choose one of {', '.join(SEMANTIC_MODELS)}.")
    build, weights = SEMANTIC_MODELS[name]
    # Channels last: the convolutions like it as well, and the best of many classes is found in a third of the time.
    return trained(build(), weights, device).to(memory_format=torch.channels_last), weights
