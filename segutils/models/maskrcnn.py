"""The bundled model: a Mask R-CNN small enough for a CPU, and its weights, which lie in the repository."""

from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models._api import Weights, WeightsEnum, register_model
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.transforms._presets import ObjectDetection

from segutils.images import DATA_DIR
from segutils.models.downloads import read_weights

TABLETOP_CATEGORIES = (
    "__background__",
    "banana",
    "book",
    "cell phone",
    "coin",
    "cup",
    "donut",
    "key",
    "leaf",
    "mouse",
    "playing card",
    "scissors",
)
"""What the labels of the bundled weights mean: the things of `segutils.tabletop`, in the order of its `CATEGORIES`."""


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
    """A little residual network with a feature pyramid: 64 channels on strides 4, 8, 16 and 32 (one for each stage).

    Plain 3x3 convolutions rather than MobileNet's depthwise ones: on a CPU they learn more in an hour.
    """

    out_channels = 64

    def __init__(self, stages: int = 4) -> None:
        super().__init__()
        widths, depths = (40, 80, 128, 192)[:stages], (1, 2, 2, 1)[:stages]
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


class BundledWeights(WeightsEnum):
    """Weights that lie in the repository. Their `url` is the name of a file, which ends with its SHA-256."""

    def get_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The weights, float32, read from the repository instead of from a URL. Arguments are ignored."""
        saved = read_weights(DATA_DIR / "weights" / self.url)
        return {name: value.float() if value.is_floating_point() else value for name, value in saved.items()}


class MaskRCNN_Tabletop_Weights(BundledWeights):
    """Weights trained on scenes of `segutils.tabletop`; they lie in the repository, nothing is downloaded."""

    TABLETOP_V3 = Weights(
        url="maskrcnn_tabletop-4e653463.pth",
        transforms=ObjectDetection,
        meta={
            "categories": list(TABLETOP_CATEGORIES),
            "min_size": (64, 64),
            "recipe": "python -m segutils.tabletop.recipes tabletop",
            "_docs": "Trained from nothing on drawn tabletop scenes; measured figures are in data/README.md.",
        },
    )
    DEFAULT = TABLETOP_V3


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
    # Boxes of 80 to 160 pixels are classified from stride 8, where they are 10 to 20 cells across.
    pool = partial(MultiScaleRoIAlign, ["0", "1", "2", "3"])
    settings = {
        "min_size": 384,
        "max_size": 640,
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(channels, anchors.num_anchors_per_location()[0]),
        "rpn_pre_nms_top_n_train": 300,
        "rpn_post_nms_top_n_train": 200,
        "rpn_pre_nms_top_n_test": 200,
        "rpn_post_nms_top_n_test": 120,
        "rpn_batch_size_per_image": 128,
        "box_roi_pool": pool(output_size=7, sampling_ratio=2, canonical_scale=160),
        "box_head": TwoMLPHead(channels * 7 * 7, 256),
        "box_predictor": FastRCNNPredictor(256, len(TABLETOP_CATEGORIES)),
        "box_batch_size_per_image": 96,
        # Masks are drawn from finer features than classes: boxes of up to 160 pixels from stride 4.
        "mask_roi_pool": pool(output_size=14, sampling_ratio=2, canonical_scale=320),
        "mask_head": MaskRCNNHeads(channels, (96, 96, 96, 96), 1, norm_layer=nn.BatchNorm2d),
        "mask_predictor": MaskRCNNPredictor(96, 96, len(TABLETOP_CATEGORIES)),
    }
    # Channels last: the order of numbers in which convolutions are faster on a CPU.
    model = MaskRCNN(backbone, **(settings | kwargs)).to(memory_format=torch.channels_last)
    if weights is not None:
        model.load_state_dict(weights.get_state_dict())
    return model
