"""Sliders that answer: `explore`, the threshold explorer, and `slide`, a slider above a figure of your own.

Move a slider of the explorer and see at once which instances stay, which go, and what that costs.

The network never runs again: thresholds only pick from what it has reported, and cut its small masks elsewhere. All of
that is done by the browser (`explorer.js`), which gets the picture, the masks and the truth once, so that nothing waits
for a kernel. Python checks what it is given, packs it, counts on masks of full size, and writes files.
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
from segutils.roi_masks import RoIMasks


def explore(
    image: Tensor | Sequence[Tensor],
    prediction: Prediction | Sequence[Prediction],
    categories: Sequence[str],
    target: Prediction | Sequence[Prediction] | None = None,
) -> Explorer:
    """Open the threshold explorer on one prediction, or on those of several pictures.

    image: uint8 [3, H, W], the picture that the model was given; or a list of pictures.
    prediction: what `predict` returns for it, one dict with boxes, labels, scores, and masks of any kind. Boolean masks
        do not follow the mask threshold. Of several pictures, a list of such dicts, what `predict` returns.
    categories: the names of the classes, `weights.meta["categories"]`.
    target: the true labels and masks, if they are known (of several pictures, a list). Then hits, false alarms and
        misses are counted too, at mask IoU 0.5 and as COCO counts them (see `match_instances`); crowd regions
        (`iscrowd`) are ignored.

    Returns a widget, which shows itself as the last line of a cell. Its values, such as `score_threshold`, can be read
    and set; `save("page.html")` writes it to a page that needs no kernel. GitHub, nbviewer and printed pages show four
    pictures instead. Nothing that is handed in is changed.

    Raises `TypeError` or `ValueError` when a picture, a prediction or a target is not as described, when their sizes
    differ, or when lists differ in length.
    """
    if not isinstance(image, list | tuple):
        if isinstance(prediction, list | tuple):
            raise TypeError(
                "explore takes the prediction of one picture, but got the list of all. Use output[0], or hand in a "
                "list of pictures as well."
            )
        picture = _check(image, prediction, target, has_target=target is not None)
        return Explorer([picture], categories, has_target=target is not None, several=False)
    for name, others in (("predictions", prediction), ("targets", target)):
        if name == "targets" and target is None:
            continue
        if not isinstance(others, list | tuple):
            raise TypeError(
                f"For a list of pictures, explore takes a list of {name}, not {type(others).__name__}."
            )
        if len(others) != len(image):
            raise ValueError(f"There are {len(image)} pictures, but {len(others)} {name}. Give each its own.")
    if not image:
        raise ValueError("There is no picture to explore: the list is empty.")
    pictures = []
    for number, three in enumerate(zip(image, prediction, target or [None] * len(image)), start=1):
        try:
            pictures.append(_check(*three, has_target=target is not None))
        except (TypeError, ValueError) as error:
            raise type(error)(f"Picture {number} of {len(image)}: {error}") from None
    return Explorer(pictures, categories, has_target=target is not None, several=True)


def slide(slider: widgets.ValueWidget, draw: Callable[[float], Figure], alt: str) -> Slide:
    """Show a slider, and below it the figure that belongs to its value.

    slider: any widget with a value, such as `widgets.FloatSlider`.
    draw: takes the value and returns a matplotlib figure, which is closed once it is shown.
    alt: what there is to see, for people who cannot see it.

    Returns a box of widgets, which shows itself as the last line of a cell. GitHub, nbviewer and printed pages show
    the figure for the value that the slider has when it is shown.
    """
    return Slide(slider, draw, alt)


def _check(
    image: Tensor, prediction: Prediction, target: Prediction | None, has_target: bool
) -> tuple[Tensor, Prediction, Prediction | None]:
    """Refuse what cannot be explored; give back what is needed of the rest, on the CPU and without gradients."""
    is_picture = isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3
    if not is_picture or len(image) != 3 or image.numel() == 0:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"The picture must be uint8 [3, H, W], as load_image gives it, not {found}.")
    check_prediction(prediction, needs=("boxes", "labels", "scores", "masks"))
    prediction = _to_cpu(prediction, ("boxes", "labels", "scores", "masks"))
    if has_target:
        check_prediction(target, needs=("labels", "masks"), where="The target")
        target = _to_cpu(target, ("labels", "masks", *(["iscrowd"] if "iscrowd" in target else [])))
    for name, one in (("prediction", prediction), ("target", target)):
        if one is None:
            continue
        masks = one["masks"]
        if masks.shape[-2:] != image.shape[1:]:
            raise ValueError(
                f"The masks of the {name} are {masks.shape[-1]} x {masks.shape[-2]} pixels (width x height), but the "
                f"picture is {image.shape[2]} x {image.shape[1]}."
            )
        if isinstance(masks, Tensor):
            boolean_masks(masks)  # refuses NaN and logits
    frames_of(prediction, [])  # refuses boxes that are none
    return image.cpu(), prediction, target


def _to_cpu(prediction: Prediction, keys: Sequence[str]) -> Prediction:
    values = {key: prediction[key].cpu() for key in keys}
    masks = values["masks"]
    if isinstance(masks, RoIMasks):
        values["masks"] = RoIMasks(masks.probs.detach(), masks.boxes.detach(), masks.image_size)
    return {key: value.detach() if isinstance(value, Tensor) else value for key, value in values.items()}
