"""A view of the explorer: what its controls say, which instances that keeps, and what it costs."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from segutils.evaluation import crowd_rows
from segutils.predictions import Prediction, label_name


class View(NamedTuple):
    """What the controls say."""

    score_threshold: float
    mask_threshold: float
    classes: tuple[int, ...]
    alpha: float
    masks: bool
    outlines: bool
    boxes: bool
    labels: bool
    dropped: bool
    missed: bool


class Tally(NamedTuple):
    """What a view keeps, drops and misses. Instances are rows of the prediction, best score first."""

    kept: list[int]
    dropped: list[int]
    hits: list[int]  # of the kept; none without a target
    ignored: list[int]  # of the kept, those that lie in crowd regions: neither hits nor false alarms
    missed: list[int]  # rows of the target
    total: int  # things of the chosen classes in the target


def take_tally(
    view: View, prediction: Prediction, target: Prediction | None = None, matches: Tensor | None = None
) -> Tally:
    """Sort the instances of the chosen classes into kept and dropped; with a target, find hits and misses.

    matches: [N], from `match_instances` for the whole prediction. It holds for every score threshold, since better
    scores choose first.
    """
    labels = prediction["labels"].tolist()
    order = prediction["scores"].argsort(descending=True, stable=True).tolist()
    chosen = [i for i in order if labels[i] in view.classes]
    # Compared as tensors: 0.9 in float32 is less than Python's 0.9, which has more digits.
    likely = (prediction["scores"] >= view.score_threshold).tolist()
    kept = [i for i in chosen if likely[i]]
    if target is None:
        return Tally(kept, chosen[len(kept) :], [], [], [], 0)
    true = zip(target["labels"].tolist(), crowd_rows(target).tolist())
    things = [row for row, (label, crowd) in enumerate(true) if label in view.classes and not crowd]
    found = {i: int(matches[i]) for i in kept if matches[i] >= 0}
    missed = sorted(set(things) - set(found.values()))
    ignored = [i for i in kept if matches[i] == -2]
    return Tally(kept, chosen[len(kept) :], list(found), ignored, missed, len(things))


def as_code(
    view: View, all_classes: Sequence[int], categories: Sequence[str], picture: int | None = None
) -> str:
    """The two lines of Python that draw a view, in the names that the course uses.

    picture: the place of what is shown among several pictures.

    One difference is possible with models of more than twelve classes. The explorer chooses the colours once, from all
    classes; where one of them is unticked, `draw_instances` may give its colour to another.
    """
    labels = sorted(view.classes)
    chosen = "" if len(labels) == len(all_classes) else f", labels={labels}"
    names = ", ".join(" ".join(label_name(label, categories).split()) for label in labels)
    options = {"mask_threshold": (view.mask_threshold, 0.5), "alpha": (view.alpha, 0.45)}
    options |= {name: (getattr(view, name), True) for name in ("masks", "outlines", "boxes", "labels")}
    changed = "".join(f", {name}={value}" for name, (value, usual) in options.items() if value != usual)
    image, prediction = "image", "prediction"
    if picture is not None:
        image, prediction = f"images[{picture}]", f"predictions[{picture}]"
    return (
        f"kept = filter_model_output([{prediction}], {view.score_threshold}{chosen})[0]"
        + (f"  # {names}" if chosen and names else "")
        + f"\nshow(draw_instances({image}, kept, categories{changed}))"
    )


def describe(tally: Tally, has_target: bool) -> str:
    """What a view keeps, in a sentence or two."""
    count = len(tally.kept) + len(tally.dropped)
    text = f"Kept {len(tally.kept)} of {count} {'instance' if count == 1 else 'instances'}"
    if not has_target:
        return f"{text}."
    hits, kept = len(tally.hits), len(tally.kept) - len(tally.ignored)
    wrong = f"{kept - hits} false {'alarm' if kept - hits == 1 else 'alarms'}"
    precision = f"{hits / kept:.2f}" if kept else "undefined (nothing is kept)"
    recall = f"{hits / tally.total:.2f}" if tally.total else "undefined (there is nothing to find)"
    ignored = f", {len(tally.ignored)} ignored in crowd regions" if tally.ignored else ""
    return (
        f"{text}: {hits} {'hit' if hits == 1 else 'hits'}, {wrong}, {len(tally.missed)} missed{ignored}. "
        f"Precision {precision}, recall {recall}."
    )
