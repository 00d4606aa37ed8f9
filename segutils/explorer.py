"""The threshold explorer: move a slider and see at once which instances stay, which go, and what that costs.

The network never runs again. A slider only changes which of its instances are drawn, and where their masks are cut. So
each instance is drawn once, as a patch (see `display`), at the size of the screen; a tick of the slider copies the
picture, lays the patches of the kept instances on it, and sends it as JPEG. Positions that the slider passes while this
goes on are skipped: the front end sends the next one when the kernel is done, and it sends the newest.
"""

import base64
import contextlib
import html
import io
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from segutils import display
from segutils.evaluation import crop_iou, match_instances, precision_recall
from segutils.predictions import Prediction, boolean_masks, check_prediction, label_name, mask_crops
from segutils.roi_masks import RoIMasks

HEIGHT, WIDTH = 500, 860
"""The shown picture fits into this, in pixels, so that sliders and picture are on a laptop's screen together."""

STRIP = (0.1, 0.5, 0.8, 0.95)
"""The score thresholds of the pictures that stand in for the explorer where it cannot run."""

WHITE = (255, 255, 255)  # of what was not kept


def explore(
    image: Tensor, prediction: Prediction, categories: Sequence[str], target: Prediction | None = None
) -> "Explorer":
    """Open the threshold explorer on one prediction.

    image: uint8 [3, H, W], the picture that the model was given.
    prediction: what `predict` returns for it, one dict with boxes, labels, scores, and masks of any kind. Boolean masks
        do not follow the mask threshold.
    categories: the names of the classes, `weights.meta["categories"]`.
    target: the true labels and masks, if they are known. Then hits, false alarms and misses are counted too, at mask
        IoU 0.5 and as COCO counts them (see `match_instances`).

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
    display.frames_of(prediction, [])  # refuses boxes that are none
    return Explorer(image.cpu(), prediction, categories, target)


def _to_cpu(prediction: Prediction, keys: Sequence[str]) -> Prediction:
    values = {key: prediction[key].cpu() for key in keys}
    return {key: value.detach() if isinstance(value, Tensor) else value for key, value in values.items()}


# --- what a view keeps --------------------------------------------------------------------------------------


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
        return Tally(kept, chosen[len(kept) :], [], [], 0)
    things = [row for row, label in enumerate(target["labels"].tolist()) if label in view.classes]
    found = {i: int(matches[i]) for i in kept if matches[i] >= 0}
    missed = sorted(set(things) - set(found.values()))
    return Tally(kept, chosen[len(kept) :], list(found), missed, len(things))


def as_code(view: View, all_classes: Sequence[int], categories: Sequence[str]) -> str:
    """The two lines of Python that draw a view, in the names that the course uses."""
    labels = sorted(view.classes)
    chosen = "" if len(labels) == len(all_classes) else f", labels={labels}"
    names = ", ".join(" ".join(label_name(label, categories).split()) for label in labels)
    options = {"mask_threshold": (view.mask_threshold, 0.5), "alpha": (view.alpha, 0.45)}
    options |= {name: (getattr(view, name), True) for name in ("masks", "outlines", "boxes", "labels")}
    changed = "".join(f", {name}={value}" for name, (value, usual) in options.items() if value != usual)
    return (
        f"kept = filter_model_output([prediction], {view.score_threshold}{chosen})[0]"
        + (f"  # {names}" if chosen and names else "")
        + f"\nshow(draw_instances(image, kept, categories{changed}))"
    )


# --- drawing ------------------------------------------------------------------------------------------------


class Painter:
    """Draws views at one size, and keeps the patch of each instance until its look changes.

    Things of the target are counted on from the instances: of N instances, thing 0 is number N.
    """

    def __init__(
        self, image: Tensor, prediction: Prediction, categories: Sequence[str], target: Prediction | None
    ) -> None:
        self.canvas = display.to_canvas(image)
        self.size, self.unit = self.canvas.shape[1:], display.line_unit(self.canvas)
        self.soft_masks = prediction["masks"]
        self.things = [] if target is None else mask_crops(target["masks"])
        names = [] if target is None else display.label_texts({"labels": target["labels"]}, categories)
        self.missed_texts = [f"missed: {name}" for name in names]
        self.colors = [display.class_color(label) for label in prediction["labels"].tolist()]
        self.colors += [WHITE] * len(self.things)
        self.frames = display.frames_of(prediction, []) + display.frames_of({}, self.things)
        self.sides = [display.box_sides(frame, self.size, self.unit) for frame in self.frames]
        self.inks = np.array(self.colors, np.uint8).reshape(-1, 3, 1, 1)
        self.look = self.texts = None  # what the patches below were made for
        self.crops: dict[int, display.Crop] = {}
        self.areas: dict[int, int] = {}
        self.masks: dict[int, display.Patch] = {}
        self.ghosts: dict[int, display.Patch] = {}
        self.pills: dict[int, display.Patch] = {}
        self.painted, self.laid = self.canvas.copy(), {}  # the masks that were drawn last

    def paint(self, view: View, tally: Tally, texts: list[str]) -> np.ndarray:
        """Draw a view on a copy of the picture: uint8 [3, H, W]. texts: the label of each instance."""
        kept = sorted(tally.kept)  # in the order of the prediction, as draw_instances does
        missed = [len(texts) + row for row in tally.missed] if view.missed else []
        ghosts = (tally.dropped if view.dropped else []) + missed
        self._get_ready(view, texts, kept + ghosts)
        patches = {}
        for i in ghosts:
            if i not in self.ghosts:  # a thin white outline
                look = {"alpha": 0.0, "outlines": True, "unit": 0.6 * self.unit}
                self.ghosts[i] = display.mask_patch(self.crops[i], WHITE, **look)
            patches["ghost", i] = self.ghosts[i]
        if view.masks or view.outlines:
            look = {"alpha": view.alpha if view.masks else 0.0, "outlines": view.outlines, "unit": self.unit}
            for i in sorted(kept, key=lambda i: -self.areas[i]):  # small ones come to lie over large ones
                if i not in self.masks:
                    self.masks[i] = display.mask_patch(self.crops[i], self.colors[i], **look)
                patches["mask", i] = self.masks[i]
        canvas = self._lay_all(patches)
        if view.boxes:
            for i in kept:
                for rows, columns in self.sides[i]:
                    canvas[:, rows, columns] = self.inks[i]
        if view.labels:
            for i, label in display.place_labels(self.spots, kept + missed).items():
                if i not in self.pills:
                    self.pills[i] = display.label_patch(label, self.colors[i])
                display.lay(canvas, self.pills[i]._replace(left=label.left, top=label.top))
        return canvas

    def _lay_all(self, patches: dict[tuple, display.Patch]) -> np.ndarray:
        """Lay patches on a copy of the picture, in their order: uint8 [3, H, W].

        Most were there last time. Only the rectangle around what has come and gone since is painted anew.
        """
        changed = [patch for key, patch in patches.items() if self.laid.get(key) is not patch]
        changed += [patch for key, patch in self.laid.items() if patches.get(key) is not patch]
        if changed:
            left, top = (max(0, min(corner)) for corner in zip(*(patch[:2] for patch in changed)))
            right = max(patch.left + patch.stays.shape[1] for patch in changed)
            bottom = max(patch.top + patch.stays.shape[0] for patch in changed)
            part = self.painted[:, top:bottom, left:right]
            part[:] = self.canvas[:, top:bottom, left:right]
            for patch in patches.values():
                display.lay(part, patch._replace(left=patch.left - left, top=patch.top - top))
            self.laid = patches
        return self.painted.copy()

    def _get_ready(self, view: View, texts: list[str], drawn: list[int]) -> None:
        """Forget what another view looked like, and cut the masks that are drawn for the first time."""
        look = (view.mask_threshold, view.alpha, view.masks, view.outlines)
        if self.look is None or look[0] != self.look[0]:
            self.crops, self.ghosts = dict(enumerate(self.things, start=len(texts))), {}
        if look != self.look:
            self.look, self.masks = look, {}
        if texts != self.texts:
            self.spots = display.label_spots(texts + self.missed_texts, self.frames, self.size, self.unit)
            self.texts, self.pills = texts, {}
        new = [i for i in drawn if i not in self.crops]
        if new:
            for i, crop in zip(new, mask_crops(self.soft_masks[new], view.mask_threshold)):
                self.crops[i], self.areas[i] = crop, np.count_nonzero(crop.mask.numpy())


def fit_to_screen(
    image: Tensor, prediction: Prediction, target: Prediction | None
) -> tuple[Tensor, Prediction, Prediction | None]:
    """Bring picture, prediction and target to the size of the screen. Small pictures are enlarged, twice at most."""
    height, width = image.shape[1:]
    scale = min(HEIGHT / height, WIDTH / width, 2)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    across, down = size[1] / width, size[0] / height
    scales = torch.tensor([across, down, across, down])
    boxes, masks = prediction["boxes"] * scales, _resized(prediction["masks"], scales, size)
    if target is not None:
        target = target | {"masks": _resized(target["masks"], scales, size)}
    return F.resize(image, size, antialias=True), prediction | {"boxes": boxes, "masks": masks}, target


def _resized(masks: Tensor | RoIMasks, scales: Tensor, size: tuple[int, int]) -> Tensor | RoIMasks:
    if isinstance(masks, RoIMasks):
        return RoIMasks(masks.probs, masks.boxes * scales, size)
    # The nearest pixels: soft and boolean masks keep their kind.
    rows, columns = (
        ((torch.arange(new) + 0.5) * old / new).long() for new, old in zip(size, masks.shape[-2:])
    )
    return masks[..., rows[:, None], columns]


def to_jpeg(canvas: np.ndarray) -> bytes:
    """Encode uint8 [3, H, W] as JPEG."""
    buffer = io.BytesIO()
    picture = Image.merge("RGB", [Image.fromarray(channel) for channel in canvas])
    picture.save(buffer, format="jpeg", quality=85, subsampling=0)
    return buffer.getvalue()


# --- what stands around the picture -------------------------------------------------------------------------


def describe(tally: Tally, has_target: bool) -> str:
    """What a view keeps, in a sentence or two."""
    count = len(tally.kept) + len(tally.dropped)
    text = f"Kept {len(tally.kept)} of {count} {'instance' if count == 1 else 'instances'}"
    if not has_target:
        return f"{text}."
    hits, kept = len(tally.hits), len(tally.kept)
    wrong = f"{kept - hits} false {'alarm' if kept - hits == 1 else 'alarms'}"
    precision = f"{hits / kept:.2f}" if kept else "undefined (nothing is kept)"
    recall = f"{hits / tally.total:.2f}" if tally.total else "undefined (there is nothing to find)"
    return (
        f"{text}: {hits} {'hit' if hits == 1 else 'hits'}, {wrong}, {len(tally.missed)} missed. "
        f"Precision {precision}, recall {recall}."
    )


def score_strip(
    view: View, tally: Tally, scores: list[float], colors: list[display.Color], has_target: bool
) -> str:
    """The scores of all instances as dots on a line from 0 to 1, with the threshold, as SVG."""
    stacks, dots, kept, right = Counter(), [], set(tally.kept), set(tally.hits)
    rows = tally.kept + tally.dropped
    columns = [_column(scores[i]) for i in rows]
    step = min(8.0, 34 / max(Counter(columns).values(), default=1))
    for i, column in zip(rows, columns):
        x, y = f"{2 + 0.96 * (column + 0.5):.2f}%", 41 - step * stacks[column]
        stacks[column] += 1
        color = "rgb({},{},{})".format(*colors[i])
        if i in right or (i in kept and not has_target):
            dots.append(f'<circle cx="{x}" cy="{y:.1f}" r="3.5" fill="{color}"/>')
        elif i in kept:
            style = f'fill="{color}" font-size="15" font-weight="bold" text-anchor="middle"'
            dots.append(f'<text x="{x}" y="{y + 4.5:.1f}" {style}>×</text>')
        else:
            dots.append(f'<circle cx="{x}" cy="{y:.1f}" r="3" fill="none" stroke="{color}" opacity="0.8"/>')
    at = f"{2 + 96 * view.score_threshold:.2f}%"
    line = 'stroke="currentColor"'
    ticks = "".join(
        f'<line x1="{2 + 96 * v}%" x2="{2 + 96 * v}%" y1="47" y2="51" {line}/>'
        f'<text x="{2 + 96 * v}%" y="62" text-anchor="middle">{v:g}</text>'
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    marks = (
        "dots: hits, crosses: false alarms, rings: dropped" if has_target else "dots: kept, rings: dropped"
    )
    return (
        f'<svg role="img" aria-label="Scores of {len(rows)} instances; {marks}; the threshold is at '
        f'{view.score_threshold:.2f}" width="100%" height="66" font-size="11" fill="currentColor" '
        f'style="display:block;overflow:visible">'
        f'<line x1="2%" x2="98%" y1="47" y2="47" {line}/>{ticks}{"".join(dots)}'
        f'<line x1="{at}" x2="{at}" y1="14" y2="52" {line} stroke-width="2" stroke-dasharray="4 2"/>'
        f'<text x="2%" y="10">score ({marks})</text></svg>'
    )


def _column(score: float) -> int:
    return min(int(round(100 * score, 4)), 99)  # 0.29 in float32 is a little less than 0.29


def curve(precision: Sequence[float], recall: Sequence[float], kept: int, total: int) -> str:
    """Precision over recall for every score threshold, with the point where `kept` instances are kept, as SVG."""

    def place(x: float, y: float) -> str:
        return f"{34 + 150 * x:.1f},{112 - 100 * y:.1f}"

    line = 'stroke="currentColor"'
    points = " ".join(place(x, y) for x, y in zip(recall, precision)) if total else ""
    spot, where = "", "nothing is kept" if total else "there is nothing to find"
    if kept and total:
        x, y = place(recall[kept - 1], precision[kept - 1]).split(",")
        spot = f'<circle cx="{x}" cy="{y}" r="5" fill="#D55E00" stroke="white" stroke-width="1.5"/>'
        where = f"here recall is {recall[kept - 1]:.2f} and precision {precision[kept - 1]:.2f}"
    return (
        f'<svg role="img" aria-label="Precision over recall; {where}" width="200" height="146" font-size="11" '
        f'fill="currentColor"><path d="M34 12V112H184" fill="none" {line}/>'
        '<text x="30" y="16" text-anchor="end">1</text><text x="30" y="115" text-anchor="end">0</text>'
        '<text x="184" y="126" text-anchor="middle">1</text>'
        '<text x="109" y="138" text-anchor="middle">recall</text>'
        '<text transform="translate(12 62) rotate(-90)" text-anchor="middle">precision</text>'
        f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="2"/>{spot}</svg>'
    )


# To people who hear the page, the handles of ipywidgets' sliders have no name, and values with many digits. This runs
# whenever a new picture is there, and gives each handle name and value of the number field beside it.
_DESCRIBE_SLIDERS = """
for (const slider of this.closest('.segutils-explorer')?.querySelectorAll('.widget-slider') ?? []) {
    const handle = slider.querySelector('[role=slider]'), field = slider.parentElement;
    handle.setAttribute('aria-label', field.querySelector('label').textContent);
    handle.setAttribute('aria-valuetext', field.querySelector('input').value);
}
"""


def picture_tag(jpeg: bytes, size: Sequence[int], alt: str) -> str:
    """An `img` of a JPEG picture, no wider than its place."""
    data = base64.b64encode(jpeg).decode()
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(alt)}" width="{size[1]}" height="{size[0]}" '
        f'decoding="sync" style="max-width:100%;height:auto;display:block" onload="{_DESCRIBE_SLIDERS}">'
    )


# The way of copying that needs no permission, and no secure connection. It leaves the code selected.
_COPY = (
    "getSelection().selectAllChildren(this.parentElement.querySelector('code'));"
    "document.execCommand('copy');this.textContent='Copied'"
)


def code_block(code: str) -> str:
    """Two lines of code with a button that copies them."""
    return (
        '<div style="display:flex;gap:12px;align-items:center;min-width:0">'
        f'<button class="jupyter-button widget-button" style="flex:none" onclick="{_COPY}">Copy as code</button>'
        '<pre style="margin:0;padding:0;white-space:pre;overflow-x:auto;line-height:1.4;font-size:12px">'
        f"<code>{html.escape(code)}</code></pre></div>"
    )


# --- the widget ---------------------------------------------------------------------------------------------


class Explorer(widgets.VBox):
    """The box that `explore` returns: the controls, the picture, and what is counted."""

    def __init__(
        self, image: Tensor, prediction: Prediction, categories: Sequence[str], target: Prediction | None
    ) -> None:
        self._image, self._prediction, self._categories, self._target = image, prediction, categories, target
        small, small_prediction, small_target = fit_to_screen(image, prediction, target)
        self._painter = Painter(small, small_prediction, categories, small_target)
        self._texts = display.label_texts(prediction, categories)
        self._things = [] if target is None else mask_crops(target["masks"])
        self._matched_at = self._matches = self._shown = None
        self._waiting = False

        self.score_threshold, score = _slider("Score threshold", 0.5, 0.05, 1.0)
        self.mask_threshold, mask = _slider("Mask threshold", 0.5, 0.05, 0.95)
        self.alpha, alpha = _slider("Opacity", 0.45, 0.0, 1.0)
        found, true = (Counter(p["labels"].tolist() if p else []) for p in (prediction, target))
        most_first = sorted(found | true, key=lambda label: (-found[label], label))
        self.classes = {label: _checkbox("", True, "auto") for label in most_first}
        names = ["masks", "outlines", "boxes", "labels", "dropped"] + ["missed"] * (target is not None)
        self.shown = {name: _checkbox(name, name != "dropped", "100px") for name in names}
        self.all, self.none = (
            _button(name, f"Show {name.lower()} of the classes") for name in ("All", "None")
        )
        self.save = _button("Save picture", "Write the picture, in its full size, to a PNG file")
        self.picture, self.strip, self.status, self.curve, self.code = (widgets.HTML() for _ in range(5))

        super().__init__(self._arrange(score, mask, alpha))
        self.layout.max_width = f"{max(self._painter.size[1] + 300, 900)}px"
        self.add_class("segutils-explorer")
        sliders = (self.score_threshold, self.mask_threshold, self.alpha)
        for control in (*sliders, *self.classes.values(), *self.shown.values()):
            control.observe(self._update, "value")
        self.all.on_click(lambda _: self._choose(True))
        self.none.on_click(lambda _: self._choose(False))
        self.save.on_click(lambda _: self._save())
        self._update()

    def _arrange(self, *fields: widgets.HBox) -> list[widgets.Widget]:
        """Sliders above the picture, all else at its side, or below it where the page is narrow."""
        score, mask, alpha = fields
        side = [
            widgets.HTML(f"<b>Classes ({len(self.classes)})</b>"),
            widgets.VBox(list(self.classes.values()), layout={"max_height": "220px", "overflow": "auto"}),
            *([widgets.HBox([self.all, self.none])] if len(self.classes) > 1 else []),
            widgets.HTML("<b>Drawn</b>"),
            widgets.HBox(list(self.shown.values()), layout={"flex_flow": "row wrap"}),
            alpha,
            *([self.curve] if self._target is not None else []),
        ]
        self.picture.layout = {
            "flex": "1 1 420px",
            "max_width": f"{self._painter.size[1]}px",
            "margin": "0",
        }
        self.code.layout = {"flex": "1 1 0", "min_width": "0"}
        wrap = {"flex_flow": "row wrap", "grid_gap": "4px 16px"}
        return [
            widgets.HBox([score, mask], layout=wrap),
            self.strip,
            self.status,
            widgets.HBox([self.picture, widgets.VBox(side, layout={"flex": "0 0 270px"})], layout=wrap),
            widgets.HBox([self.save, self.code], layout={"align_items": "center", "grid_gap": "0 8px"}),
        ]

    @property
    def view(self) -> View:
        """What the controls say now."""
        classes = tuple(label for label, box in self.classes.items() if box.value)
        shown = {name: box.value for name, box in self.shown.items()}
        thresholds = (self.score_threshold.value, self.mask_threshold.value)
        return View(*thresholds, classes, self.alpha.value, **{"missed": False, **shown})

    def as_code(self) -> str:
        """The two lines of Python that draw what is shown, without what needs a target."""
        return as_code(self.view, list(self.classes), self._categories)

    def tally(self, view: View) -> Tally:
        """What a view keeps, drops and misses."""
        if self._target is not None and view.mask_threshold != self._matched_at:
            iou = crop_iou(mask_crops(self._prediction["masks"], view.mask_threshold), self._things)
            self._matches = match_instances(iou, self._prediction, self._target)
            self._matched_at = view.mask_threshold
            texts = display.label_texts(self._prediction, self._categories)
            self._texts = [f"{'✓' if row >= 0 else '✗'} {text}" for row, text in zip(self._matches, texts)]
        return take_tally(view, self._prediction, self._target, self._matches)

    def _update(self, _change: object = None) -> None:
        if self._waiting:
            return
        view, has_target = self.view, self._target is not None
        tally = self.tally(view)
        sentence, counts = describe(tally, has_target), self._count_classes(tally)
        shown = (tally, view._replace(score_threshold=0.0))
        if shown != self._shown:  # often a step of the slider neither keeps nor drops anything
            self._shown, self._jpeg = shown, to_jpeg(self._painter.paint(view, tally, self._texts))
        self.picture.value = picture_tag(self._jpeg, self._painter.size, _alt(view, sentence, counts))
        self.status.value = f'<div role="status">{sentence}</div>'
        for label, box in self.classes.items():
            swatch = "background:rgb({},{},{});border-radius:3px".format(*display.class_color(label))
            box.description = f'<span style="{swatch}">&emsp;</span> {html.escape(counts[label])}'
        scores = self._prediction["scores"].tolist()
        self.strip.value = score_strip(view, tally, scores, self._painter.colors, has_target)
        self.curve.value = self._curve(tally) if has_target else ""
        self.code.value = code_block(self.as_code())

    def _count_classes(self, tally: Tally) -> dict[int, str]:
        """ "coin: 21 kept, 3 dropped" for each class."""
        labels = self._prediction["labels"].tolist()
        kept, dropped = (Counter(labels[i] for i in rows) for rows in (tally.kept, tally.dropped))
        counts = {}
        for label, box in self.classes.items():
            count = f"{kept[label]} kept, {dropped[label]} dropped" if box.value else "not shown"
            counts[label] = f"{label_name(label, self._categories)}: {count}"
        return counts

    def _curve(self, tally: Tally) -> str:
        rows = tally.kept + tally.dropped
        hits, scores = self._matches[rows] >= 0, self._prediction["scores"][rows]
        precision, recall = (values.tolist() for values in precision_recall(hits, scores, tally.total))
        return curve(precision, recall, len(tally.kept), tally.total)

    def _choose(self, wanted: bool) -> None:
        """Tick all classes, or none, and draw once."""
        self._waiting = True
        for box in self.classes.values():
            box.value = wanted
        self._waiting = False
        self._update()

    def _save(self) -> None:
        """Draw the view in the size of the picture, and write it to a new file in the folder of the notebook."""
        view, paths = self.view, (Path(f"explored_{number}.png") for number in itertools.count(1))
        path = next(path for path in paths if not path.exists())
        self.status.value = f'<div role="status">Writing {path} ...</div>'
        painter = Painter(self._image, self._prediction, self._categories, self._target)
        canvas = painter.paint(view, self.tally(view), self._texts)
        picture = Image.fromarray(np.moveaxis(canvas, 0, -1).copy())
        draft = path.with_suffix(".png.new")
        try:
            picture.save(draft, format="png")
            draft.rename(path)
            text = f"Saved {path}, {picture.width} x {picture.height} pixels, in the folder {Path.cwd()}."
        except OSError as error:
            with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed
                draft.unlink(missing_ok=True)
            text = f"{path} could not be written in the folder {Path.cwd()}: {error.strerror or error}."
        self.status.value = f'<div role="status">{html.escape(text)}</div>'

    def _strip_pictures(self) -> tuple[bytes, str]:
        """The view at four score thresholds, side by side, as JPEG, and what it says in words."""
        arrays, titles = [], []
        for threshold in STRIP:
            view = self.view._replace(score_threshold=threshold)
            tally = self.tally(view)
            arrays.append(np.moveaxis(self._painter.paint(view, tally, self._texts), 0, -1))
            titles.append(f"score >= {threshold}: {len(tally.kept)} kept, {len(tally.dropped)} dropped")
        return display.grid_jpeg(arrays, titles, columns=2), "; ".join(titles)

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        """The widget, and pictures and a sentence for where it cannot run."""
        jpeg, alt = self._strip_pictures()
        data = super()._repr_mimebundle_(**kwargs)
        sentence = describe(self.tally(self.view), self._target is not None)
        data["text/plain"] = f"Threshold explorer. {sentence}"
        data["image/jpeg"] = base64.b64encode(jpeg).decode()
        return data, {"image/jpeg": {"alt": alt}}


def _alt(view: View, sentence: str, counts: dict[int, str]) -> str:
    """The picture in words."""
    thresholds = f"score threshold {view.score_threshold:.2f}, mask threshold {view.mask_threshold:.2f}"
    classes = f" {'; '.join(counts.values())}." if counts else ""
    return f"The picture at {thresholds}. {sentence}{classes}"


def _slider(name: str, value: float, low: float, high: float) -> tuple[widgets.FloatSlider, widgets.HBox]:
    """A slider in steps of 0.01 that keeps to `low` and `high`, and a number field that goes with it."""
    # From 0 to 1 whatever the limits, like the strip of scores. And a browser's slider that began at 0.05 could not
    # stand at 0.5: it would count its steps to 0.49999999999999994, and report that as a change.
    slider = widgets.FloatSlider(
        value=value, min=0, max=1, step=0.01, readout=False, tooltip=name, layout={"width": "260px"}
    )
    number = widgets.BoundedFloatText(
        value=value, min=low, max=high, step=0.01, description=name, tooltip=name,
        style={"description_width": "initial"}, layout={"width": "160px"},
    )  # fmt: skip

    def follow(change: dict) -> None:
        number.value = round(change["new"], 4)  # which keeps to the limits
        slider.value = number.value

    slider.observe(follow, "value")
    number.observe(follow, "value")
    return slider, widgets.HBox([number, slider])


def _checkbox(name: str, value: bool, width: str) -> widgets.Checkbox:
    layout = {"width": width, "height": "24px", "min_height": "24px", "margin": "0 2px"}
    return widgets.Checkbox(
        description=name, value=value, indent=False, description_allow_html=True, layout=layout
    )


def _button(name: str, tooltip: str) -> widgets.Button:
    return widgets.Button(description=name, tooltip=tooltip, layout={"width": "auto", "flex": "none"})
