"""Is a dataset fit to train on? What a program can find: faults, doubts that a person should look at, and facts.

cleanlab and the like find wrong labels of whole pictures, of boxes and of pixels, but not of instances. `with_model`
says what is measured here, and `python3 run.py bench -k doctor` counts how much of it is found.
"""

import os
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from segutils.annotations import Annotations
from segutils.annotations.pictures import read_picture
from segutils.display import show
from segutils.doctor.checks import PICTURE_CHECKS, SET_CHECKS, find_shared_pictures
from segutils.doctor.finding import Finding, Look, fingerprint, look_at
from segutils.doctor.with_model import Opinion, doubt_with_model
from segutils.drawing import draw_instances
from segutils.images import resize
from segutils.rle import decode_rle

WORST_FIRST = (
    "file",
    "picture",
    "shared",
    "size",
    "class",
    "duplicate",
    "box",
    "normalised",
    "outside",
    "shape",
)
"""The kinds of faults, those first that spoil most; the others follow."""

SMALL = 32
"""COCO calls things small whose area is below that of a square with this side."""

_LISTED = 50  # findings that the text lists of each sort
_DRAWN = 6  # large enough to see what is meant


@dataclass(frozen=True)
class Report:
    """What `check_dataset` returns. `print(report)` shows it as text; in a notebook it draws the worst, too.

    The text names files from the folder of the pictures on.

    faults: a training would fail, or learn what is wrong: the worst first.
    doubts: perhaps all is well, but somebody should look: the most suspicious first.
    facts: what is in the dataset, by name.
    """

    faults: list[Finding]
    doubts: list[Finding]
    facts: dict[str, str]
    annotations: Annotations

    def __str__(self) -> str:
        lines = []
        for name, findings in (("fault", self.faults), ("doubt", self.doubts)):
            lines.append(f"{len(findings) or 'No'} {name}{'s' * (len(findings) != 1)}")
            lines += [f"  {finding}" for finding in findings[:_LISTED]]
            if len(findings) > _LISTED:
                lines.append(f"  and {len(findings) - _LISTED} more: report.{name}s has all of them")
        width = max(map(len, self.facts))
        lines += ["Facts", *(f"  {name:{width}}  {fact}" for name, fact in self.facts.items())]
        return "\n".join(lines).replace(f"'{self.annotations.folder}{os.sep}", "'")

    __repr__ = __str__

    def draw(self, finding: Finding) -> Tensor:
        """The picture that a finding is about, uint8 [3, H, W], its thing outlined and all else dimmed.

        Raises `ValueError` without one.
        """
        if finding.picture is None:
            raise ValueError(f"There is no picture to draw for this: {finding}")
        image = read_picture(self.annotations.pictures[finding.picture])
        if finding.rle is None:
            return resize(image, 480)
        left, top, crop = decode_rle(finding.rle)
        mask = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
        mask[0, top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        box = torch.tensor([[left, top, left + crop.shape[1], top + crop.shape[0]]], dtype=torch.float32)
        bright = torch.zeros(image.shape[1:], dtype=torch.bool)
        bright[max(top - 12, 0) : top + crop.shape[0] + 12, max(left - 12, 0) : left + crop.shape[1] + 12] = (
            True
        )
        image = torch.where(bright, image, image // 2)
        drawn = {"boxes": box, "labels": torch.tensor([1]), "masks": mask}
        return resize(draw_instances(image, drawn, alpha=0.3, labels=False), 480)

    def _ipython_display_(self) -> None:
        print(self)
        drawable = [
            one for one in self.faults + self.doubts if one.picture is not None and one.kind != "picture"
        ]
        if worst := drawable[:_DRAWN]:
            names = [self.annotations.pictures[finding.picture].path.name for finding in worst]
            titles = [f"{name}, {one.annotation or one.field}: {one.kind}" for name, one in zip(names, worst)]
            show([self.draw(finding) for finding in worst], titles, columns=2)


def check_dataset(
    annotations: Annotations,
    model: MaskRCNN | None = None,
    model_categories: list[str] | None = None,
    validation: Annotations | None = None,
) -> Report:
    """Look for what ruins trainings. Every picture is read once; nothing is changed.

    Args:
        annotations: from `load_annotations`, whose `problems` are among the faults.
        model: in eval mode; it is asked for its opinion, too: things that nobody labelled, labels that look wrong,
            masks that fit badly. It must know the classes: a bundled model, or one trained on the data's better part.
        model_categories: the names of its classes, `weights.meta["categories"]`; without them, those of the
            annotations. Classes are compared by name; those that one of the two lacks are left alone.
        validation: the pictures to judge by, which training must not see: are some of them in both?
    """
    faults = [Finding(**vars(problem)) for problem in annotations.problems]
    doubts: list[Finding] = []
    for check, found in ((check, {True: faults, False: doubts}[is_fault]) for check, is_fault in SET_CHECKS):
        found += check(annotations)
    prints: dict[bytes, int] = {}
    for index, picture in enumerate(annotations.pictures):
        look = look_at(index, picture)
        for check, is_fault in PICTURE_CHECKS:
            (faults if is_fault else doubts).extend(check(look))
        if look.image is None:
            continue
        first = prints.setdefault(fingerprint(look.image), index)
        if first != index:
            doubts.append(_twice(look, annotations.pictures[first].path))
        if model is not None:
            names = annotations.categories if model_categories is None else model_categories
            doubts += doubt_with_model(look, Opinion.ask(model, names, annotations.categories, look.image))
    if validation is not None:
        faults += find_shared_pictures(prints, annotations, validation)
    order = {kind: place for place, kind in enumerate(WORST_FIRST)}
    faults.sort(key=lambda finding: order.get(finding.kind, len(order)))
    doubts.sort(key=lambda finding: -finding.suspicion)
    return Report(faults, doubts, _facts(annotations, model), annotations)


def _twice(look: Look, first) -> Finding:
    return look.finding(
        None,
        "picture",
        f"has the same pixels as '{first}'",
        "Keep one, or make sure that both land on the same side when you split.",
        "twice",
        suspicion=0.95,
    )


def _facts(annotations: Annotations, model: MaskRCNN | None) -> dict[str, str]:
    pictures = annotations.pictures
    things = [(picture, thing) for picture in pictures for thing in picture.things if not thing.crowd]
    crowds = sum(thing.crowd for picture in pictures for thing in picture.things)
    classes = Counter(thing.name for _, thing in things)
    sizes = Counter(picture.size for picture in pictures)
    numbers = sorted(sum(not thing.crowd for thing in picture.things) for picture in pictures)
    small = sum(
        int(decode_rle(thing.rle).mask.sum()) * _scale(model, picture.size) ** 2 < SMALL**2
        for picture, thing in things
    )
    where = "after the model's resize" if model is not None else "in the picture as it is"
    unused = [name for name in annotations.categories[1:] if name not in classes and name != "N/A"]
    return {
        "pictures": f"{len(pictures)}, of {_listed(sizes, lambda size: f'{size[1]} x {size[0]}')}",
        "things": f"{len(things)}" + (f", and {crowds} regions with many" if crowds else ""),
        "classes": _listed(classes, str) or "none",
        **({"without a thing": ", ".join(unused)} if unused else {}),
        "things in a picture": f"{numbers[0]} to {numbers[-1]}, median {numbers[len(numbers) // 2]}",
        f"small ({SMALL} x {SMALL} px)": f"{small} things have less area {where}",
    }


def _listed(counter: Counter, name) -> str:
    most = [f"{name(key)} ({count})" for key, count in counter.most_common(12)]
    return ", ".join(most) + (f" and {len(counter) - 12} more" if len(counter) > 12 else "")


def _scale(model: MaskRCNN | None, size: tuple[int, int]) -> float:
    """How much larger a picture is when the network sees it."""
    if model is None:
        return 1.0
    return min(model.transform.min_size[-1] / min(size), model.transform.max_size / max(size))
