"""The widget of the explorer: its controls, and what happens when one of them moves."""

import contextlib
import html
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from PIL import Image
from torch import Tensor

from segutils import drawing
from segutils.display import grid_jpeg
from segutils.evaluation import crop_iou, match_instances, precision_recall
from segutils.explorer.markup import code_block, curve, picture_tag, score_strip, swatch
from segutils.explorer.painting import Painter, fit_to_screen, to_jpeg
from segutils.explorer.sliding import PicturedBox
from segutils.explorer.view import Tally, View, as_code, describe, take_tally
from segutils.predictions import Prediction, label_name, mask_crops

STRIP = (0.1, 0.5, 0.8, 0.95)
"""The score thresholds of the pictures that stand in for the explorer where it cannot run."""


class Explorer(PicturedBox):
    """The box that `explore` returns: the controls, the picture, and what is counted."""

    def __init__(
        self, image: Tensor, prediction: Prediction, categories: Sequence[str], target: Prediction | None
    ) -> None:
        self._image, self._prediction, self._categories, self._target = image, prediction, categories, target
        small, small_prediction, small_target = fit_to_screen(image, prediction, target)
        self._painter = Painter(small, small_prediction, categories, small_target)
        self._texts = drawing.label_texts(prediction, categories)
        self._things = [] if target is None else mask_crops(target["masks"])
        self._matched_at = self._matches = self._shown = None
        self._waiting = False

        self.score_threshold, score = _slider("Score threshold", 0.5, 0.05, 1.0)
        self.mask_threshold, mask = _slider("Mask threshold", 0.5, 0.05, 0.95)
        self.alpha, alpha = _slider("Opacity", 0.45, 0.0, 1.0)
        found, true = (Counter(p["labels"].tolist() if p else []) for p in (prediction, target))
        most_first = sorted(found | true, key=lambda label: (-found[label], label))
        self.classes = {label: _checkbox("", True, "auto") for label in most_first}
        place = {"height": "24px", "margin": "0 2px"}
        self.swatches = {
            label: widgets.HTML(swatch(self._painter.class_colors[label]), layout=place)
            for label in most_first
        }
        names = ["masks", "outlines", "boxes", "labels", "dropped"] + ["missed"] * (target is not None)
        self.shown = {name: _checkbox(name, name != "dropped", "100px") for name in names}
        self.all, self.none = (
            _button(name, f"Show {name.lower()} of the classes") for name in ("All", "None")
        )
        self.save = _button("Save picture", "Write the picture, in its full size, to a PNG file")
        self.picture, self.strip, self.status, self.curve, self.code = (widgets.HTML() for _ in range(5))
        self.status.add_class("segutils-status")

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
        row = {"flex": "none", "align_items": "center"}
        classes = [widgets.HBox([self.swatches[i], box], layout=row) for i, box in self.classes.items()]
        side = [
            widgets.HTML(f"<b>Classes ({len(self.classes)})</b>"),
            widgets.VBox(classes, layout={"max_height": "220px", "overflow": "auto"}),
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
            crops = mask_crops(self._prediction["masks"], view.mask_threshold)
            iou = crop_iou(crops, self._things, self._target.get("iscrowd"))
            self._matches = match_instances(iou, self._prediction, self._target)
            self._matched_at = view.mask_threshold
            texts = drawing.label_texts(self._prediction, self._categories)
            signs = ["✓" if row >= 0 else "✗" if row == -1 else "–" for row in self._matches.tolist()]
            self._texts = [f"{sign} {text}" for sign, text in zip(signs, texts)]
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
        self.status.value = sentence
        for label, box in self.classes.items():
            box.description = counts[label]
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
        rows = [
            i for i in tally.kept + tally.dropped if self._matches[i] != -2
        ]  # not what lies in crowd regions
        hits, scores = self._matches[rows] >= 0, self._prediction["scores"][rows]
        precision, recall = (values.tolist() for values in precision_recall(hits, scores, tally.total))
        return curve(precision, recall, len(tally.kept) - len(tally.ignored), tally.total)

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
        self.status.value = f"Writing {path} ..."
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
        self.status.value = html.escape(text)

    def still(self) -> tuple[bytes, str, str, str]:
        """The view at four score thresholds, side by side, and what it says in words."""
        arrays, titles = [], []
        for threshold in STRIP:
            view = self.view._replace(score_threshold=threshold)
            tally = self.tally(view)
            arrays.append(np.moveaxis(self._painter.paint(view, tally, self._texts), 0, -1))
            titles.append(f"score >= {threshold}: {len(tally.kept)} kept, {len(tally.dropped)} dropped")
        sentence = describe(self.tally(self.view), self._target is not None)
        jpeg = grid_jpeg(arrays, titles, columns=2)
        return jpeg, "image/jpeg", "; ".join(titles), f"Threshold explorer. {sentence}"


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
        value=value, min=0, max=1, step=0.01, readout=False, tooltip=name, layout={"width": "205px"}
    )
    number = widgets.BoundedFloatText(
        value=value, min=low, max=high, step=0.01, description=name, tooltip=name,
        style={"description_width": "initial"}, layout={"width": "185px"},
    )  # fmt: skip

    def follow(change: dict) -> None:
        number.value = round(change["new"], 4)  # which keeps to the limits
        slider.value = number.value

    slider.observe(follow, "value")
    number.observe(follow, "value")
    return slider, widgets.HBox([number, slider])


def _checkbox(name: str, value: bool, width: str) -> widgets.Checkbox:
    layout = {"width": width, "height": "24px", "min_height": "24px", "margin": "0 2px"}
    return widgets.Checkbox(description=name, value=value, indent=False, layout=layout)


def _button(name: str, tooltip: str) -> widgets.Button:
    return widgets.Button(description=name, tooltip=tooltip, layout={"width": "auto", "flex": "none"})
