"""Two models behind one call: the bundled tabletop Mask R-CNN and torchvision's COCO models.

The bundled model follows torchvision's conventions (weights enum, `meta`, `transforms()`, `register_model`), so that
`torchvision.models.get_model("maskrcnn_tabletop", weights="DEFAULT")` works once `segutils` is imported, and every
line a reader learns on it works on `maskrcnn_resnet50_fpn` as well.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models._api import Weights, WeightsEnum, register_model
from torchvision.models.detection import (
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.transforms._presets import ObjectDetection

from segutils.downloads import cached_file, read_weights
from segutils.images import DATA_DIR, check_float_range
from segutils.predictions import Prediction, filter_model_output
from segutils.roi_masks import RoIMasks, check_fraction
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

    TABLETOP_V1 = Weights(
        url="maskrcnn_tabletop-d4a5e6fe.pth",
        transforms=ObjectDetection,
        meta={
            "categories": list(CATEGORIES),
            "min_size": (64, 64),
            "recipe": "python -m segutils.training tabletop",
            "_docs": "Trained from nothing on drawn tabletop scenes; measured figures are in data/README.md.",
        },
    )
    DEFAULT = TABLETOP_V1


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


@torch.inference_mode()
def predict(
    model: MaskRCNN, images: Sequence[Tensor], score_threshold: float | None = None
) -> list[Prediction]:
    """Run any Mask R-CNN of torchvision on pictures, and leave its masks as small as the network makes them.

    Boxes, labels and scores are those of `model(images)`. `masks` is a `RoIMasks` instead of a float picture for each
    instance; cut at any threshold, it gives the same boolean masks.

    Args:
        model: in eval mode.
        images: pictures [3, H, W], uint8 or float 0 to 1, of any sizes. They are moved to the model's device.
        score_threshold: report instances with at least this score (0 to 1), as `filter_model_output` would. No masks
            are computed for the others. None leaves it at the threshold in the model, 0.05 unless it was built
            with another.

    Returns:
        One dict for each picture, with `boxes`, `labels`, `scores` and `masks`.

    Raises:
        TypeError, ValueError: the model is no Mask R-CNN or is in training mode; a picture is not as described, or
            so long and thin that nothing would be left of its shorter side; the threshold is no number from 0 to 1;
            the model's weights hold NaN or infinite numbers, with which it would find nothing and not say why.
    """
    if not (isinstance(model, GeneralizedRCNN) and model.roi_heads.has_mask()):
        raise TypeError(f"predict takes a Mask R-CNN of torchvision, not {type(model).__name__}.")
    if model.training:
        raise ValueError("The model is in training mode. Call model.eval() first.")
    if score_threshold is not None:
        check_fraction("score_threshold", score_threshold)
    if not isinstance(images, Sequence | Tensor) or isinstance(images, Tensor) and images.ndim == 3:
        raise TypeError(
            f"predict takes a list of pictures, not {type(images).__name__}. Put the picture in a list: "
            "predict(model, [image])."
        )
    if len(images) == 0:
        raise ValueError("There is no picture to look at: the list is empty.")
    totals = [value.sum(dtype=torch.float32) for value in model.state_dict().values()]
    if not torch.isfinite(torch.stack(totals)).all():
        raise ValueError(
            "The model's weights hold NaN or infinite numbers: it would find nothing. Load the model again; after a "
            "training of your own, look where the loss became NaN."
        )
    weight = next(model.parameters())
    pictures = [
        _as_input(image, number, model.transform.max_size).to(weight)  # its device and dtype
        for number, image in enumerate(images, start=1)
    ]

    # What model(images) does, step by step, except for the pasting at the end.
    batch, _ = model.transform(pictures)
    features = model.backbone(batch.tensors)
    if isinstance(features, Tensor):
        features = OrderedDict([("0", features)])
    proposals, _ = model.rpn(batch, features)
    heads, sizes = model.roi_heads, batch.image_sizes
    pooled = heads.box_head(heads.box_roi_pool(features, proposals, sizes))
    found = zip(*heads.postprocess_detections(*heads.box_predictor(pooled), proposals, sizes))
    predictions = [dict(zip(("boxes", "scores", "labels"), values)) for values in found]
    if score_threshold is not None:
        predictions = filter_model_output(predictions, score_threshold)
    pooled = heads.mask_roi_pool(features, [p["boxes"] for p in predictions], sizes)
    logits = heads.mask_predictor(heads.mask_head(pooled))
    all_probs = maskrcnn_inference(logits, [p["labels"] for p in predictions])

    output = []
    for picture, size, prediction, probs in zip(pictures, sizes, predictions, all_probs):
        full_size = tuple(picture.shape[-2:])
        boxes = resize_boxes(prediction["boxes"], size, full_size)
        masks = RoIMasks(probs, boxes, full_size)
        output.append(
            {"boxes": boxes, "labels": prediction["labels"], "scores": prediction["scores"], "masks": masks}
        )
    return output


def _as_input(image: Tensor, number: int, max_size: int) -> Tensor:
    """Check a picture, and make it float 0 to 1."""
    if not isinstance(image, Tensor):
        raise TypeError(
            f"Picture {number} must be a tensor [3, H, W], not {type(image).__name__}. "
            "Read files with load_image(path)."
        )
    shape = list(image.shape)
    if len(shape) != 3 or shape[0] != 3 or 0 in shape:
        hint = (
            " It looks like [H, W, 3]: use image.permute(2, 0, 1)."
            if len(shape) == 3 and shape[2] == 3
            else ""
        )
        raise ValueError(f"Picture {number} must be [3, H, W], not {shape}.{hint}")
    if min(shape[1:]) * max_size < max(shape[1:]):
        raise ValueError(
            f"Picture {number} is {shape[2]} x {shape[1]} pixels: made small enough for the model, nothing of its "
            "shorter side would be left. Cut it into pieces."
        )
    if image.dtype == torch.uint8:
        return image / 255  # as weights.transforms() does
    if not image.is_floating_point():
        raise TypeError(f"Picture {number} must hold uint8 or float values, not {image.dtype}.")
    try:
        check_float_range(image)
    except ValueError as error:
        raise ValueError(f"Picture {number}: {error}") from None
    return image.detach()
