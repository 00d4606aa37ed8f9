"""Where a model contradicts the labels. Either may be wrong, so these are doubts, each with what was measured.

Only instances with a score of at least `SURE` have a say. `bench -k doctor` counts what they find.

- A thing may be unlabelled where the model finds one, no label covers half of it, and no label of its class has it for
  its counterpart (below). The suspicion is its score.
- A label looks wrong where the model sees something else in the same place (a mask IoU of at least `SAME_PLACE`), and
  nothing of the label's class. The suspicion is its score.
- A mask fits badly where its counterpart lies elsewhere: the instance of its class whose box overlaps most, each the
  other's best. Either the boxes around both masks have an IoU below `BOX_FITS`, or the centres of both masks lie more
  than `NEAR` apart, in sides of the label's box. A centre is the mean of many pixels, and so steadier than a box. The
  suspicion is 1 less the IoU of the boxes. The IoU of the masks has no say: those of thin things are what the model
  does worst.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.ops import box_iou

from segutils.doctor.finding import Finding, Look
from segutils.evaluation import crop_iou
from segutils.inference import predict
from segutils.predictions import mask_crops
from segutils.rle import encode_rle
from segutils.roi_masks import Crop

SURE = 0.8
SAME_PLACE = 0.5
SAME_THING = 0.2
BOX_FITS = 0.7
NEAR = 0.1


class Opinion(NamedTuple):
    """What a model sees in a picture, of the classes that the annotations know."""

    names: list[str]
    scores: list[float]
    crops: list[Crop]

    @classmethod
    def ask(
        cls, model: MaskRCNN, model_categories: Sequence[str], categories: Sequence[str], image: Tensor
    ) -> "Opinion":
        with torch.inference_mode():
            [prediction] = predict(model, [image], SURE)
        names = [model_categories[label] for label in prediction["labels"].tolist()]
        found = zip(names, prediction["scores"].tolist(), mask_crops(prediction["masks"]))
        known = [one for one in found if one[0] in categories[1:] and one[2].mask.any()]
        return cls(*map(list, zip(*known))) if known else cls([], [], [])


def doubt_with_model(look: Look, opinion: Opinion) -> Iterator[Finding]:
    things = look.picture.things
    inside = crop_iou(opinion.crops, look.crops, torch.ones(len(things)))  # the share of a find in each label
    iou = crop_iou(opinion.crops, look.crops)
    fits = box_iou(_boxes(opinion.crops), _boxes(look.crops))
    rles = encode_rle(opinion.crops, look.picture.size)
    partners = _partners(opinion, look, fits)
    for row, (name, score) in enumerate(zip(opinion.names, opinion.scores)):
        if row not in partners.values() and not (inside[row] >= 0.5).any():
            yield look.finding(
                None,
                "things",
                f"may lack a {name!r}, which the model sees with a score of {score:.2f} where nothing is labelled",
                "If it is there, label it.",
                "missing",
                suspicion=score,
                rle=rles[row],
            )
    for column, thing in enumerate(things):
        if thing.crowd:
            continue
        alike = torch.tensor([name == thing.name for name in opinion.names], dtype=torch.bool)
        there = iou[:, column] >= SAME_PLACE
        if (there & ~alike).any() and not (there & alike).any():
            row = int((iou[:, column] * ~alike).argmax())
            score = opinion.scores[row]
            yield look.finding(
                thing,
                "class",
                f"is {thing.name!r}, and the model sees a {opinion.names[row]!r} there (score {score:.2f}, "
                f"IoU {iou[row, column]:.2f})",
                "Correct the name if the model is right.",
                "wrong class",
                suspicion=score,
            )
        elif (row := partners.get(column)) is not None:
            away = _distance(opinion.crops[row], look.crops[column])
            if fits[row, column] < BOX_FITS or away > NEAR:
                yield look.finding(
                    thing,
                    "mask",
                    f"fits badly to the {thing.name!r} that the model sees: the boxes around both masks have an "
                    f"IoU of {fits[row, column]:.2f}, and their centres lie {away:.0%} of the box apart",
                    "Draw it again if the model is right.",
                    "bad fit",
                    suspicion=1 - fits[row, column].item(),
                )


def _partners(opinion: Opinion, look: Look, fits: Tensor) -> dict[int, int]:
    """For the number of a label that of the instance of its class that is meant for the same thing."""
    names = [thing.name for thing in look.picture.things]
    alike = torch.tensor([[name == other for other in names] for name in opinion.names], dtype=torch.bool)
    if alike.numel() == 0:
        return {}
    fits = fits * alike
    best = fits.argmax(dim=0)
    return {
        column: row
        for column, row in enumerate(best.tolist())
        if fits[row, column] >= SAME_THING and fits[row].argmax() == column
    }


def _distance(crop: Crop, label: Crop) -> float:
    """How far apart the centres of two masks are, in sides of the box around the second."""
    (x, y), (left, top) = _centre(crop), _centre(label)
    x1, y1, x2, y2 = _boxes([label])[0].tolist()
    return math.hypot((x - left) / (x2 - x1), (y - top) / (y2 - y1))


def _centre(crop: Crop) -> tuple[float, float]:
    """The mean x and y of a mask's pixels."""
    rows, columns = torch.nonzero(crop.mask, as_tuple=True)
    return crop.left + columns.float().mean().item(), crop.top + rows.float().mean().item()


def _boxes(crops: list[Crop]) -> Tensor:
    """The boxes around the pixels, float32 [N, 4]."""
    boxes = []
    for left, top, mask in crops:
        rows, columns = torch.nonzero(mask.any(dim=1)), torch.nonzero(mask.any(dim=0))
        boxes.append(
            [left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1]
        )
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
