"""Sliders that answer: `explore`, the threshold explorer, and `slide`, a slider above a figure of your own.

Move a slider of the explorer and see at once which instances stay, which go, and what that costs.

The network never runs again. A slider only changes which of its instances are drawn, and where their masks are cut. So
each instance is drawn once, as a patch (see `drawing`), at the size of the screen; a tick of the slider copies the
picture, lays the patches of the kept instances on it, and sends it as JPEG. Positions that the slider passes while this
goes on are skipped: the front end sends the next one when the kernel is done, and it sends the newest.
"""

from collections.abc import Callable, Sequence

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from segutils.drawing import frames_of
from segutils.explorer.sliding import Slide
from segutils.explorer.widget import Explorer
from segutils.predictions import Prediction, boolean_masks, check_prediction


def explore(
    image: Tensor, prediction: Prediction, categories: Sequence[str], target: Prediction | None = None
) -> Explorer:
    """Open the threshold explorer on one prediction.

    image: uint8 [3, H, W], the picture that the model was given.
    prediction: what `predict` returns for it, one dict with boxes, labels, scores, and masks of any kind. Boolean masks
        do not follow the mask threshold.
    categories: the names of the classes, `weights.meta["categories"]`.
    target: the true labels and masks, if they are known. Then hits, false alarms and misses are counted too, at mask
        IoU 0.5 and as COCO counts them (see `match_instances`); crowd regions (`iscrowd`) are ignored.

    Returns a box of widgets, which shows itself as the last line of a cell. GitHub, nbviewer and printed pages show
    four pictures instead. Nothing that is handed in is changed.

    Raises `TypeError` or `ValueError` when the picture, the prediction or the target is not as described, or when
    their sizes differ.
    """
    is_picture = isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3
    if not is_picture or len(image) != 3 or image.numel() == 0:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"The picture must be uint8 [3, H, W], as load_image gives it, not {found}.")
    if isinstance(prediction, list | tuple):
        raise TypeError(
            "explore takes the prediction of one picture, but got the list of all. Use output[0]."
        )
    check_prediction(prediction, needs=("boxes", "labels", "scores", "masks"))
    prediction = _to_cpu(prediction, ("boxes", "labels", "scores", "masks"))
    if target is not None:
        check_prediction(target, needs=("labels", "masks"), where="The target")
        target = _to_cpu(target, ("labels", "masks", *(["iscrowd"] if "iscrowd" in target else [])))
    for name, masks in (("prediction", prediction["masks"]), ("target", target and target["masks"])):
        if masks is not None and masks.shape[-2:] != image.shape[1:]:
            raise ValueError(
                f"The masks of the {name} are {masks.shape[-1]} x {masks.shape[-2]} pixels (width x height), but the "
                f"picture is {image.shape[2]} x {image.shape[1]}."
            )
        if isinstance(masks, Tensor):
            boolean_masks(masks)  # refuses NaN and logits now, not when a slider reaches them
    frames_of(prediction, [])  # refuses boxes that are none
    return Explorer(image.cpu(), prediction, categories, target)


def slide(slider: widgets.ValueWidget, draw: Callable[[float], Figure], alt: str) -> Slide:
    """Show a slider, and below it the figure that belongs to its value.

    slider: any widget with a value, such as `widgets.FloatSlider`.
    draw: takes the value and returns a matplotlib figure, which is closed once it is shown.
    alt: what there is to see, for people who cannot see it.

    Returns a box of widgets, which shows itself as the last line of a cell. GitHub, nbviewer and printed pages show
    the figure for the value that the slider has when it is shown.
    """
    return Slide(slider, draw, alt)


def _to_cpu(prediction: Prediction, keys: Sequence[str]) -> Prediction:
    values = {key: prediction[key].cpu() for key in keys}
    return {key: value.detach() if isinstance(value, Tensor) else value for key, value in values.items()}
