"""The widget of the explorer: what Python and the browser tell each other, and what Python writes to files."""

import base64
import contextlib
import html
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from PIL import Image
from torch import Tensor

from segutils.evaluation import crop_iou, match_instances
from segutils.explorer.packing import MIME, VIEW, for_a_notebook, pack, shared_colors
from segutils.explorer.stills import Shown, draw_view, four_pictures
from segutils.explorer.view import View, as_code, describe, take_tally
from segutils.predictions import Prediction, mask_crops

MODULE = Path(__file__).with_name("explorer.js")

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 16px; font-family: system-ui, sans-serif; }}
h1 {{ font-size: 1.1rem; margin: 0 0 8px; }}
</style>
<main>
<h1>{title}</h1>
<div id="explorer"></div>
</main>
<script type="application/json" id="data">{data}</script>
<script type="module">
{module}
showExplorer(document.getElementById("explorer"), JSON.parse(document.getElementById("data").textContent));
</script>
</html>
"""


class Explorer(anywidget.AnyWidget):
    """What `explore` returns. Its values are those of its controls: read them, or set them and the controls move.

    score_threshold: 0.05 to 1. mask_threshold: 0.05 to 0.95. alpha: 0 to 1.
    classes: the labels that count. masks, outlines, boxes, labels, dropped, missed: what is drawn.
    picture, price: of several pictures, the one that is shown (from 0), and how many false alarms a miss is worth.

    Setting a value that is none of these raises `traitlets.TraitError`.
    """

    _esm = MODULE
    data = traitlets.Dict().tag(sync=True)
    counted = traitlets.Dict().tag(sync=True)
    score_threshold = traitlets.Float(VIEW["score_threshold"], min=0.05, max=1.0).tag(sync=True)
    mask_threshold = traitlets.Float(VIEW["mask_threshold"], min=0.05, max=0.95).tag(sync=True)
    alpha = traitlets.Float(VIEW["alpha"], min=0.0, max=1.0).tag(sync=True)
    price = traitlets.Float(VIEW["price"], min=0.01).tag(sync=True)
    picture = traitlets.Int(VIEW["picture"]).tag(sync=True)
    classes = traitlets.List(traitlets.Int()).tag(sync=True)
    masks, outlines, boxes, labels, dropped, missed = (
        traitlets.Bool(VIEW[name]).tag(sync=True)
        for name in ("masks", "outlines", "boxes", "labels", "dropped", "missed")
    )

    # What ipywidgets 7, which Colab has, calls instead of _repr_mimebundle_, and would show no picture.
    _ipython_display_ = None

    def __init__(
        self,
        pictures: Sequence[tuple[Tensor, Prediction, Prediction | None]],
        categories: Sequence[str],
        *,
        has_target: bool,
        several: bool,
    ) -> None:
        images, predictions, targets = zip(*pictures)
        true = targets if has_target else None
        self._pictures, self._categories = pictures, categories
        self._colors = shared_colors(predictions, true or [])
        data = pack(images, predictions, categories, true, several=several)
        super().__init__(data=data, classes=data["classes"])
        self._count()
        self.observe(self._count, ["mask_threshold", "picture"])
        self.on_msg(self._answer)

    @traitlets.validate("score_threshold", "mask_threshold", "alpha", "price")
    def _check_number(self, proposal: dict) -> float:
        name, value = proposal["trait"].name, proposal["value"]
        if not math.isfinite(value):
            raise traitlets.TraitError(f"{name} must be a number, not {value}.")
        return round(value, 9)  # sums of steps such as 0.30000000000000004 become what they should be

    @traitlets.validate("classes")
    def _check_classes(self, proposal: dict) -> list[int]:
        unknown = sorted(set(proposal["value"]) - set(self.data["classes"]))
        if unknown:
            known = ", ".join(
                f"{label} ({self.data['categories'][str(label)]})" for label in self.data["classes"]
            )
            raise traitlets.TraitError(f"classes are labels that occur here: {known}. {unknown[0]} does not.")
        return proposal["value"]

    @traitlets.validate("picture")
    def _check_picture(self, proposal: dict) -> int:
        last = len(self._pictures) - 1
        if not 0 <= proposal["value"] <= last:
            raise traitlets.TraitError(f"picture is a number from 0 to {last}, not {proposal['value']}.")
        return proposal["value"]

    @property
    def view(self) -> View:
        """What the controls say now."""
        return View(**{name: getattr(self, name) for name in View._fields} | {"classes": tuple(self.classes)})

    def as_code(self) -> str:
        """The two lines of Python that draw what is shown, without what needs a target."""
        picture = self.picture if self.data["several"] else None
        return as_code(self.view, self.data["classes"], self._categories, picture)

    def save(self, path: str | Path) -> Path:
        """Write a page with the explorer alive in it: one file that needs no kernel, no server and no network.

        path: the file, "table.html" for instance. Its folder is made if need be; a file there is replaced.

        Returns the path. Raises `OSError` when the file cannot be written; nothing half-written is left then.
        """
        path = Path(path)
        title = html.escape(f"Threshold explorer: {path.stem}")
        data = json.dumps(self._payload(), separators=(",", ":")).replace("<", "\\u003c")
        module = MODULE.read_text("utf-8").replace("</script", "<\\/script")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.part")
        try:
            unfinished.write_text(PAGE.format(title=title, data=data, module=module), encoding="utf-8")
            return unfinished.replace(path)
        finally:
            with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed
                unfinished.unlink(missing_ok=True)

    def _payload(self) -> dict:
        """What the browser gets, with the view as it is now."""
        return self.data | {"view": {name: getattr(self, name) for name in self.data["view"]}}

    def _shown(self) -> Shown:
        """The picture that is shown, with all that belongs to it."""
        image, prediction, target = self._pictures[self.picture]
        matches = (
            None if target is None else torch.tensor(self.counted["matches"][self.picture], dtype=torch.int64)
        )
        return Shown(image, prediction, target, matches, self._categories, self._colors)

    def _count(self, _change: object = None) -> None:
        """Match the shown picture's instances on masks of full size. Till then the browser goes by its own."""
        _, prediction, target = self._pictures[self.picture]
        if target is None:
            return
        is_known = self.counted.get("mask_threshold") == self.mask_threshold
        matches = list(self.counted["matches"]) if is_known else [None] * len(self._pictures)
        if matches[self.picture] is None:
            crops = mask_crops(prediction["masks"], self.mask_threshold)
            iou = crop_iou(crops, mask_crops(target["masks"]), target.get("iscrowd"))
            matches[self.picture] = match_instances(iou, prediction, target).tolist()
            self.counted = {"mask_threshold": self.mask_threshold, "matches": matches}

    def _answer(self, _widget: object, message: dict, _buffers: object) -> None:
        if message.get("type") == "save":
            self.send({"type": "saved", "text": self._save_picture()})

    def _save_picture(self) -> str:
        """Write the view in the size of the picture to a new file in the notebook's folder, and say what came of it."""
        paths = (Path(f"explored_{number}.png") for number in itertools.count(1))
        path = next(path for path in paths if not path.exists())
        picture = Image.fromarray(np.moveaxis(draw_view(self._shown(), self.view), 0, -1).copy())
        unfinished = path.with_name(f"{path.name}.part")
        try:
            picture.save(unfinished, format="png")
            unfinished.rename(path)
        except OSError as error:
            with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed
                unfinished.unlink(missing_ok=True)
            return f"{path} could not be written in the folder {Path.cwd()}: {error.strerror or error}."
        return f"Saved {path}, {picture.width} x {picture.height} pixels, in the folder {Path.cwd()}."

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        """The widget; and for where it cannot run: words, four pictures, and what a page brings to life."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        shown = self._shown()
        words = describe(take_tally(self.view, *shown[1:4]), has_target=shown.target is not None)
        which = f", picture {self.picture + 1} of {len(self._pictures)}" if self.data["several"] else ""
        jpeg, alt = four_pictures(shown, self.view)
        data |= {
            "text/plain": f"Threshold explorer{which}. {words}",
            "image/jpeg": base64.b64encode(jpeg).decode(),
        }
        payload = for_a_notebook(self._payload())
        return data | ({MIME: payload} if payload else {}), metadata | {"image/jpeg": {"alt": alt}}
