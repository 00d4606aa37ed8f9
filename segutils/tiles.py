"""Large pictures in pieces: small things, lost when a model makes the whole picture small, keep their size."""

import math
from itertools import product
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from segutils.evaluation import mask_iou
from segutils.inference import predict
from segutils.predictions import Prediction
from segutils.roi_masks import RoIMasks

TILES_AT_ONCE = 4


def predict_tiles(
    model: MaskRCNN, image: Tensor, tile: int = 640, overlap: int = 128, score_threshold: float | None = None
) -> Prediction:
    """Run a Mask R-CNN on overlapping square tiles of a picture, and join what they show.

    A tile reports what is centred in its own part of the picture, which ends in the middle of the overlap with its
    neighbours, or a little beyond. Two reports of different tiles are of one thing if their masks have an IoU of at
    least 0.5, or if the class is the same and half of the smaller mask lies in the other. The one that no edge of a
    tile cuts is kept, or else the one with the better score. So a thing up to `overlap` pixels long is seen whole; a
    longer one may come out in pieces.

    Args:
        model: in eval mode.
        image: uint8 or float 0 to 1, [3, H, W].
        tile: side of the tiles in pixels.
        overlap: how many pixels neighbours share at least; less than `tile`.
        score_threshold: as in `predict`.

    Returns:
        One prediction for the whole picture, as from `predict`, the best score first. Where one tile holds all of it,
        it's exactly that of `predict`.

    Raises:
        TypeError, ValueError: as `predict` does; or `tile` and `overlap` are no whole numbers, or do not fit together.
    """
    for name, pixels in (("tile", tile), ("overlap", overlap)):
        if isinstance(pixels, bool) or not isinstance(pixels, Integral):
            raise TypeError(f"{name} must be a whole number of pixels, not {pixels!r}.")
    if not 0 <= overlap < tile:
        raise ValueError(
            f"overlap must be from 0 to less than the side of a tile, which is {tile} pixels, not {overlap}."
        )
    if not isinstance(image, Tensor) or image.ndim != 3 or max(image.shape[1:]) <= tile:
        return predict(model, [image], score_threshold)[0]  # which also says what is wrong with a picture
    height, width = image.shape[1:]
    places = list(product(_spans(height, tile, overlap), _spans(width, tile, overlap)))
    found = []
    for first in range(0, len(places), TILES_AT_ONCE):
        part = places[first : first + TILES_AT_ONCE]
        pieces = [image[:, rows.start : rows.stop, columns.start : columns.stop] for rows, columns in part]
        for (rows, columns), prediction in zip(part, predict(model, pieces, score_threshold)):
            found.append(_place(prediction, rows, columns, (height, width), margin=overlap / 4))
    return _join(found)


class Span(NamedTuple):
    """Where a tile lies along one side of the picture, in pixels: what it shows, and the part that is its own."""

    start: int
    stop: int
    own_start: float
    own_stop: float


def _spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Spread tiles evenly along a side, as few as share at least `overlap` pixels."""
    count = 1 if length <= tile else math.ceil((length - overlap) / (tile - overlap))
    starts = [round(i * (length - tile) / max(count - 1, 1)) for i in range(count)]
    stops = [min(start + tile, length) for start in starts]
    seams = [(start + stop) / 2 for start, stop in zip(starts[1:], stops)]
    return [Span(*ends) for ends in zip(starts, stops, [-math.inf, *seams], [*seams, math.inf])]


def _place(
    prediction: Prediction, rows: Span, columns: Span, image_size: tuple[int, int], margin: float
) -> dict:
    """A tile's own instances, in the picture's coordinates, and which of them an inner edge of the tile cuts."""
    boxes = prediction["boxes"] + prediction["boxes"].new_tensor([columns.start, rows.start] * 2)
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
    own = (x >= columns.own_start - margin) & (x < columns.own_stop + margin)
    own &= (y >= rows.own_start - margin) & (y < rows.own_stop + margin)
    height, width = image_size
    cut = torch.zeros_like(own)
    for side, edge, at_rim in (
        (boxes[:, 0] - columns.start, 1, columns.start == 0),
        (boxes[:, 1] - rows.start, 1, rows.start == 0),
        (columns.stop - boxes[:, 2], 1, columns.stop == width),
        (rows.stop - boxes[:, 3], 1, rows.stop == height),
    ):
        cut |= (side < edge) & (not at_rim)
    placed = prediction | {"boxes": boxes, "masks": RoIMasks(prediction["masks"].probs, boxes, image_size)}
    return {name: value[own] for name, value in (placed | {"cut": cut}).items()}


def _join(found: list[dict]) -> Prediction:
    """Put the tiles' instances into one prediction, and leave out those that another tile shows better."""
    whole = {name: torch.cat([one[name] for one in found]) for name in ("boxes", "labels", "scores", "cut")}
    probs = torch.cat([one["masks"].probs for one in found])
    masks = RoIMasks(probs, whole["boxes"], found[0]["masks"].image_size)
    number = torch.cat([torch.full_like(one["labels"], i) for i, one in enumerate(found)])
    # By the rule for crowds, an overlap is a share of the first mask alone.
    inside = mask_iou(masks, masks, iscrowd=torch.ones_like(whole["labels"]))
    half = torch.maximum(inside, inside.T) >= 0.5
    same = (mask_iou(masks, masks) >= 0.5) | half & (whole["labels"][:, None] == whole["labels"]).cpu()
    same &= (number[:, None] != number).cpu()
    kept: list[int] = []
    for i in sorted(range(len(number)), key=lambda i: (bool(whole["cut"][i]), -whole["scores"][i].item())):
        if not same[i, kept].any():
            kept.append(i)
    rows = torch.tensor(kept, dtype=torch.int64, device=number.device)
    rows = rows[whole["scores"][rows].argsort(descending=True, stable=True)]
    return {
        "boxes": whole["boxes"][rows],
        "labels": whole["labels"][rows],
        "scores": whole["scores"][rows],
        "masks": masks[rows],
    }
