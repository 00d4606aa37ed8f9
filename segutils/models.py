"""Two models behind one call: the bundled tabletop Mask R-CNN and torchvision's COCO models.

The bundled model follows torchvision's conventions (weights enum, `meta`, `transforms()`, `register_model`), so that
`torchvision.models.get_model("maskrcnn_tabletop", weights="DEFAULT")` works once `segutils` is imported, and every
line a reader learns on it works on `maskrcnn_resnet50_fpn` as well.
"""

import hashlib
import os
import re
import socket
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models._api import Weights, WeightsEnum, register_model
from torchvision.models.detection import (
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.transforms._presets import ObjectDetection

from segutils.images import DATA_DIR
from segutils.tabletop import CATEGORIES


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a short cut around them (He et al. 2015, arXiv 1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Conv2dNormActivation(channels, channels, 3),
            Conv2dNormActivation(channels, channels, 3, activation_layer=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class SmallBackbone(nn.Module):
    """A little residual network with a feature pyramid: 64 channels on strides 4, 8, 16 and 32.

    Plain 3x3 convolutions rather than MobileNet's depthwise ones: on a CPU they learn more in an hour.
    """

    out_channels = 64

    def __init__(self) -> None:
        super().__init__()
        widths, depths = (40, 80, 128, 192), (1, 2, 2, 1)
        self.stem = Conv2dNormActivation(3, 24, 3, stride=2)
        stages = []
        for before, width, depth in zip((24, *widths), widths, depths):
            blocks = [ResidualBlock(width) for _ in range(depth)]
            stages.append(nn.Sequential(Conv2dNormActivation(before, width, 3, stride=2), *blocks))
        self.stages = nn.ModuleList(stages)
        self.fpn = FeaturePyramidNetwork(list(widths), self.out_channels, norm_layer=nn.BatchNorm2d)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = OrderedDict()
        x = self.stem(x)
        for i, stage in enumerate(self.stages):
            features[str(i)] = x = stage(x)
        return self.fpn(features)


class MaskRCNN_Tabletop_Weights(WeightsEnum):
    """Weights trained on scenes of `segutils.tabletop`; they lie in the repository, nothing is downloaded."""

    TABLETOP_V1 = Weights(
        url="maskrcnn_tabletop-d4a5e6fe.pth",  # a file in data/weights; its name ends with its SHA-256
        transforms=ObjectDetection,
        meta={
            "categories": list(CATEGORIES),
            "min_size": (64, 64),
            "recipe": "python -m segutils.training tabletop",
            "_docs": "Trained from nothing on drawn tabletop scenes; measured figures are in data/README.md.",
        },
    )
    DEFAULT = TABLETOP_V1

    def get_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The weights, float32, read from the repository instead of from a URL. Arguments are ignored."""
        saved = read_weights(DATA_DIR / "weights" / self.url)
        return {name: value.float() if value.is_floating_point() else value for name, value in saved.items()}


@register_model()
def maskrcnn_tabletop(
    *, weights: MaskRCNN_Tabletop_Weights | None = None, progress: bool = True, **kwargs: Any
) -> MaskRCNN:
    """A Mask R-CNN small enough for a CPU: a 64-channel feature pyramid, 384-pixel pictures, narrow heads.

    Args:
        weights: `MaskRCNN_Tabletop_Weights.DEFAULT`, `"DEFAULT"`, or None for random weights.
        progress: there is no download to show; taken because torchvision's builders take it.
        **kwargs: handed to `torchvision.models.detection.MaskRCNN`, for instance `box_score_thresh`.
    """
    weights = MaskRCNN_Tabletop_Weights.verify(weights)
    backbone = SmallBackbone()
    channels = backbone.out_channels
    # One anchor size a pyramid level, from the smallest thing to the largest, in pixels of the resized picture.
    anchors = AnchorGenerator(((24,), (48,), (96,), (192,)), ((0.5, 1.0, 2.0),) * 4)
    # Boxes of 80 to 160 pixels are pooled from stride 8, 10 to 20 cells across: about what the mask head looks at.
    pool = partial(MultiScaleRoIAlign, ["0", "1", "2", "3"], canonical_scale=160)
    settings = {
        "min_size": 384,
        "max_size": 640,
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(channels, anchors.num_anchors_per_location()[0]),
        "rpn_pre_nms_top_n_train": 300,
        "rpn_post_nms_top_n_train": 200,
        "rpn_pre_nms_top_n_test": 300,
        "rpn_post_nms_top_n_test": 200,
        "rpn_batch_size_per_image": 128,
        "box_roi_pool": pool(output_size=7, sampling_ratio=2),
        "box_head": TwoMLPHead(channels * 7 * 7, 256),
        "box_predictor": FastRCNNPredictor(256, len(CATEGORIES)),
        "box_batch_size_per_image": 64,
        "mask_roi_pool": pool(output_size=14, sampling_ratio=1),
        "mask_head": MaskRCNNHeads(channels, (64, 64, 64), 1, norm_layer=nn.BatchNorm2d),
        "mask_predictor": MaskRCNNPredictor(64, 64, len(CATEGORIES)),
    }
    model = MaskRCNN(backbone, **(settings | kwargs))
    if weights is not None:
        model.load_state_dict(weights.get_state_dict())
    return model


_MODELS = {
    "tabletop": (maskrcnn_tabletop, MaskRCNN_Tabletop_Weights.DEFAULT),
    "coco": (maskrcnn_resnet50_fpn, MaskRCNN_ResNet50_FPN_Weights.DEFAULT),
    "coco_v2": (maskrcnn_resnet50_fpn_v2, MaskRCNN_ResNet50_FPN_V2_Weights.DEFAULT),
}


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
        ValueError: there is no model of this name, or its file is damaged.
        ConnectionError: a COCO model could not be downloaded. Nothing else is loaded in its place.
    """
    name = name or os.environ.get("SEGUTILS_MODEL") or "tabletop"
    if name not in _MODELS:
        raise ValueError(f"there is no model {name!r}: choose one of {', '.join(_MODELS)}")
    build, weights = _MODELS[name]
    if name == "tabletop":
        model = build(weights=weights)
    else:
        model = build(weights=None, weights_backbone=None)  # else torchvision downloads a backbone of its own
        model.load_state_dict(read_weights(_download(weights.url)))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return model.eval().to(device), weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict onto the CPU after checking that the file is whole.

    Args:
        path: a file named as torchvision names its weights, `NAME-HASH.pth`, HASH being the first 8 or more digits
            of the file's SHA-256.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file's SHA-256 is not the one in its name.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"the weights {path} are missing: restore the file, for instance with 'git checkout'"
        )
    named, found = re.search(r"-([0-9a-f]{8,})\.pth$", path.name), file_hash(path)
    if not named or not found.startswith(named[1]):
        raise ValueError(
            f"{path} is damaged: its SHA-256 begins with {found[:8]}, which is not what its name says. "
            "Delete the file, then run this again (a bundled file comes back with 'git checkout')."
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _download(url: str) -> Path:
    """The file of a URL in torch's cache, fetched with a progress bar if it is not there yet."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if path.exists():
        return path
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torch waits for ever on a proxy that does not answer
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))
    except OSError as error:
        raise ConnectionError(
            f"could not download {url} ({error}). Fetch it where there is a network and put it at {path}, or use "
            "the bundled model: load_model('tabletop')."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path
