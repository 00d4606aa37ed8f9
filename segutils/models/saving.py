"""A trained model in one file, and back: `save_model`, and what `load_model` does with a path."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torchvision.models._api import Weights
from torchvision.models.detection import MaskRCNN
from torchvision.transforms._presets import ObjectDetection

from segutils.models.registry import MODELS
from segutils.new_classes import check_categories, replace_predictors

SETTINGS = {
    "transform": ("min_size", "max_size", "image_mean", "image_std", "fixed_size", "_skip_resize"),
    "rpn": ("nms_thresh", "score_thresh", "min_size", "_pre_nms_top_n", "_post_nms_top_n"),
    "roi_heads": ("score_thresh", "nms_thresh", "detections_per_img"),
}
"""What a file keeps besides weights: for each part of the model, attributes that its results hang on."""


def save_model(model: MaskRCNN, path: str | Path, categories: Sequence[str], *, half: bool = False) -> Path:
    """Write a Mask R-CNN to one file, from which `load_model(path)` gives it back, names of the classes included.

    The file takes 13 MB for the bundled architecture, about 180 MB for torchvision's ResNet-50. It appears under its
    name when it's whole, and loading it runs no code that might be hidden in it.

    Args:
        model: one that `load_model` builds, trained on, with other predictors or more classes if you like. Sizes and
            thresholds that were changed are kept too.
        path: the file, "galaxies.pth" for instance. Its folder is made if need be; a file there is replaced.
        categories: the names of its classes, "__background__" first.
        half: keep weights as float16: half the size. Scores and masks then differ in the third or fourth digit;
            without it, the model that comes back gives the same results, bit for bit.

    Raises:
        TypeError, ValueError: the model is of another architecture, or has another number of classes than
            `categories` has names; its weights are not finite, or in float16 wouldn't be.
    """
    check_categories(categories)
    path, weights = Path(path), model.state_dict()
    architecture = _recognise(model, categories)
    if half:
        weights = {name: v.half() if v.is_floating_point() else v for name, v in weights.items()}
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(
                f"{name} holds numbers that are NaN or infinite{', or too large for half=True' if half else ''}."
            )
    settings = {
        part: {name: getattr(getattr(model, part), name) for name in names}
        for part, names in SETTINGS.items()
    }
    content = {"architecture": architecture, "categories": list(categories), "settings": settings}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    torch.save(content | {"weights": weights}, unfinished)
    return unfinished.replace(path)


def load_saved(path: Path) -> tuple[MaskRCNN, Weights]:
    """Build the model in a file of `save_model`, on the CPU, and its `weights`. Raises what `load_model` does."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} (looked for in {path.absolute().parent}).")
    try:
        with zipfile.ZipFile(path) as archive:  # torch doesn't compare the check sums in the file
            damaged = archive.testzip()
        saved = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read: it's damaged, or no file of save_model ({type(error).__name__}). Copy it again, "
            "or save the model again."
        ) from error
    if damaged:
        raise ValueError(f"{path} is damaged: {damaged} in it is not what was written. Copy it again.")
    if not isinstance(saved, dict) or set(saved) != {"architecture", "categories", "settings", "weights"}:
        raise ValueError(
            f"{path} was not written by save_model(model, path, categories), which keeps what belongs to the weights. "
            "Load it into a model as you did where it was made, and save that with save_model."
        )
    if saved["architecture"] not in MODELS:
        raise ValueError(f"{path} is of a newer segutils: it holds the architecture {saved['architecture']}.")
    model = replace_predictors(MODELS[saved["architecture"]][0](), saved["categories"])
    for part, settings in saved["settings"].items():
        for name, value in settings.items():
            setattr(getattr(model, part), name, value)
    model.load_state_dict(saved["weights"])
    meta = {"categories": saved["categories"], "architecture": saved["architecture"]}
    return model, Weights(url=str(path), transforms=ObjectDetection, meta=meta)


def _recognise(model: nn.Module, categories: Sequence[str]) -> str:
    """The name in `MODELS` of a model's architecture."""
    if isinstance(model, MaskRCNN):
        classes = model.roi_heads.box_predictor.cls_score.out_features
        if classes != len(categories):
            raise ValueError(
                f"The model has {classes} classes (with the background), but categories has {len(categories)} names."
            )
        for name, (build, _) in MODELS.items():
            with torch.device("meta"):  # shapes without numbers
                candidate = replace_predictors(build(), categories)
            if _plan(candidate) == _plan(model):
                return name
    raise TypeError(
        f"save_model keeps Mask R-CNNs as load_model builds them ({', '.join(MODELS)}), with predictors from "
        f"replace_predictors or add_classes. This {type(model).__name__} differs. Keep its weights with "
        "torch.save(model.state_dict(), path), and the code that builds it."
    )


def _plan(model: MaskRCNN) -> tuple:
    """Everything that is not in the weights or in `SETTINGS`: shapes, layers, anchors."""
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    anchors = model.rpn.anchor_generator
    layers = [repr(module) for module in (model.backbone, model.rpn, model.roi_heads)]
    return shapes, layers, tuple(map(tuple, anchors.sizes)), tuple(map(tuple, anchors.aspect_ratios))
