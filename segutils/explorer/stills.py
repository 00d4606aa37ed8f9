"""A view of the explorer as a picture: to save it in full size, and where the explorer itself cannot run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from segutils import drawing
from segutils.display import grid_jpeg
from segutils.explorer.packing import shown_size, to_size
from segutils.explorer.view import View, take_tally
from segutils.predictions import Prediction, label_name, mask_crops
from segutils.roi_masks import Crop

STRIP = (0.1, 0.5, 0.8, 0.95)
"""The score thresholds of the pictures that stand in for the explorer."""

WHITE = (255, 255, 255)  # of what was missed
SIGNS = {-1: "✗ ", -2: "– "}  # of what was matched with nothing, or lies in a crowd region


class Shown(NamedTuple):
    """A picture, and all that may be drawn on it."""

    image: Tensor
    prediction: Prediction
    target: Prediction | None
    matches: Tensor | None  # of `match_instances`, where there is a target
    categories: Sequence[str]
    colors: dict[int, drawing.Color]  # of each label


def draw_view(shown: Shown, view: View) -> np.ndarray:
    """Draw what the explorer shows: uint8 [3, H, W], as large as the picture."""
    image, prediction, target, matches, categories, colors = shown
    canvas, tally = drawing.to_canvas(image), take_tally(view, prediction, target, matches)
    kept = sorted(tally.kept)  # in the order of the prediction, as draw_instances does
    dropped = tally.dropped if view.dropped else []
    missed = tally.missed if view.missed else []
    labels = prediction["labels"].tolist()

    def cut(rows: list[int]) -> list[Crop]:
        return mask_crops(prediction["masks"][rows], view.mask_threshold)

    def colors_of(rows: list[int]) -> list[drawing.Color]:
        return [colors[labels[i]] for i in rows]

    things, whites = mask_crops(target["masks"][missed]) if missed else [], [WHITE] * len(missed)
    outline = {"alpha": 0.0, "outlines": True, "thickness": 0.6}
    drawing.paint_masks(canvas, cut(dropped), colors_of(dropped), dashed=True, **outline)
    drawing.paint_masks(canvas, things, whites, **outline)
    if view.masks or view.outlines:
        alpha = view.alpha if view.masks else 0.0
        drawing.paint_masks(canvas, cut(kept), colors_of(kept), alpha=alpha, outlines=view.outlines)
    every_frame = drawing.frames_of(prediction, [])
    frames = [every_frame[i] for i in kept]
    if view.boxes:
        drawing.paint_boxes(canvas, frames, colors_of(kept))
    if view.labels:
        texts = drawing.label_texts(prediction, categories)
        if matches is not None:
            texts = [SIGNS.get(row, "✓ ") + text for row, text in zip(matches.tolist(), texts)]
        names = [f"missed: {label_name(int(target['labels'][row]), categories)}" for row in missed]
        texts, frames = [texts[i] for i in kept] + names, frames + drawing.frames_of({}, things)
        drawing.paint_labels(canvas, texts, frames, colors_of(kept) + whites)
    return canvas


def four_pictures(shown: Shown, view: View) -> tuple[bytes, str]:
    """The view at four score thresholds, side by side, as JPEG; and what it shows in words."""
    size = shown_size(shown.image)
    small = shown._replace(
        image=F.resize(shown.image, list(size), antialias=True),
        prediction=to_size(shown.prediction, size),
        target=shown.target and to_size(shown.target, size),
    )
    arrays, titles = [], []
    for threshold in STRIP:
        at = view._replace(score_threshold=threshold)
        tally = take_tally(at, shown.prediction, shown.target, shown.matches)
        arrays.append(np.moveaxis(draw_view(small, at), 0, -1))
        titles.append(f"score >= {threshold}: {len(tally.kept)} kept, {len(tally.dropped)} dropped")
    return grid_jpeg(arrays, titles, columns=2, quality=80, subsampling=2), "; ".join(titles)
