"""The picture of the explorer: views drawn at the size of the screen, from patches that are kept."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from segutils import drawing
from segutils.explorer.view import Tally, View
from segutils.predictions import Prediction, mask_crops
from segutils.roi_masks import Crop, RoIMasks

HEIGHT, WIDTH = 500, 860
"""The shown picture fits into this, in pixels, so that sliders and picture are on a laptop's screen together."""

WHITE = (255, 255, 255)  # of what was not kept


class Painter:
    """Draws views at one size, and keeps the patch of each instance until its look changes.

    Things of the target are counted on from the instances: of N instances, thing 0 is number N.
    """

    def __init__(
        self, image: Tensor, prediction: Prediction, categories: Sequence[str], target: Prediction | None
    ) -> None:
        self.canvas = drawing.to_canvas(image)
        self.size, self.unit = self.canvas.shape[1:], drawing.line_unit(self.canvas)
        self.soft_masks = prediction["masks"]
        self.things = [] if target is None else mask_crops(target["masks"])
        names = [] if target is None else drawing.label_texts({"labels": target["labels"]}, categories)
        self.missed_texts = [f"missed: {name}" for name in names]
        everything = prediction
        if (
            target is not None
        ):  # its classes choose last, so that the others get what draw_instances gives them
            last = torch.full((len(target["labels"]),), -1.0)
            everything = {
                "labels": torch.cat([prediction["labels"], target["labels"]]),
                "scores": torch.cat([prediction["scores"], last]),
            }
        self.class_colors = drawing.class_colors(everything)
        self.colors = [self.class_colors[label] for label in prediction["labels"].tolist()]
        self.colors += [WHITE] * len(self.things)
        self.frames = drawing.frames_of(prediction, []) + drawing.frames_of({}, self.things)
        self.sides = [drawing.box_sides(frame, self.size, self.unit) for frame in self.frames]
        self.inks = np.array(self.colors, np.uint8).reshape(-1, 3, 1, 1)
        self.look = self.texts = None  # what the patches below were made for
        self.crops: dict[int, Crop] = {}
        self.areas: dict[int, int] = {}
        self.masks: dict[int, drawing.Patch] = {}
        self.ghosts: dict[int, drawing.Patch] = {}
        self.pills: dict[int, drawing.Patch] = {}
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
                self.ghosts[i] = drawing.mask_patch(self.crops[i], WHITE, **look)
            patches["ghost", i] = self.ghosts[i]
        if view.masks or view.outlines:
            look = {"alpha": view.alpha if view.masks else 0.0, "outlines": view.outlines, "unit": self.unit}
            for i in sorted(kept, key=lambda i: -self.areas[i]):  # small ones come to lie over large ones
                if i not in self.masks:
                    self.masks[i] = drawing.mask_patch(self.crops[i], self.colors[i], **look)
                patches["mask", i] = self.masks[i]
        canvas = self._lay_all(patches)
        if view.boxes:
            for i in kept:
                for rows, columns in self.sides[i]:
                    canvas[:, rows, columns] = self.inks[i]
        if view.labels:
            for i, label in drawing.place_labels(self.spots, kept + missed).items():
                if i not in self.pills:
                    self.pills[i] = drawing.label_patch(label, self.colors[i])
                drawing.lay(canvas, self.pills[i]._replace(left=label.left, top=label.top))
        return canvas

    def _lay_all(self, patches: dict[tuple, drawing.Patch]) -> np.ndarray:
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
                drawing.lay(part, patch._replace(left=patch.left - left, top=patch.top - top))
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
            self.spots = drawing.label_spots(texts + self.missed_texts, self.frames, self.size, self.unit)
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
