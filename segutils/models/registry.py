"""The models that `load_model` knows by name: how each is built, and what its weights are called."""

from functools import partial
from typing import Any

from torchvision.models.detection import (
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from segutils.models.maskrcnn import MaskRCNN_Tabletop_Weights, maskrcnn_tabletop


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
