"""Masks as the network gives them: 28 x 28 values for each box, put into the picture only when asked.

torchvision pastes each of these small masks into a float32 picture of full size: 4 bytes for every pixel of the
photograph, for every instance, however small it is. `RoIMasks` keeps the small ones and enlarges each to the size of
its box, no further. The boolean masks are the same, bit for bit.
"""

from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

MAX_BYTES = 2_000_000_000
"""How much memory `RoIMasks.paste` takes at most, unless it is told otherwise: 2 GB."""

# Two ways of mixing four numbers from 0 to 1 in float32 differ by less than this: six roundings of 3e-8 each.
_ROUNDING = 4e-7

# Where height + width are no more than this, `F.interpolate` goes another way, with roundings of its own: those of a
# place in the mask, 0 to m, count as well.
_SMALL = 128

# A call of `_row` takes as long as `F.interpolate` takes for so many pixels.
_CALL = 15_000

# What `_mixing` makes for lengths up to this is kept, 30 kB at most for each: most things are no larger, so the same
# lengths come again and again, and making it takes as long as the rest of the work.
_KEPT = 256


class Crop(NamedTuple):
    """A piece of a boolean mask that holds all its True pixels: mask[0, 0] belongs at (left, top)."""

    left: int
    top: int
    mask: Tensor  # bool [h, w]


@dataclass(frozen=True, eq=False)
class RoIMasks:
    """The soft masks of one picture's instances, each as large as its box, as the mask head computed them.

    probs: float [N, 1, M, M], 0 to 1; M is 28 in torchvision's models.
    boxes: float [N, 4], x1, y1, x2, y2 in pixels of the picture.
    image_size: height and width of the picture.

    It has a length and is indexed by rows, like a tensor: `masks[scores >= 0.8]`, `masks[:5]`, `masks[[3, 0]]`.
    `masks > 0.5` gives what it gives for torchvision's soft masks, boolean [N, 1, H, W].

    Raises `TypeError` or `ValueError` when the three do not fit together, or hold NaN or values beyond 0 to 1.
    """

    probs: Tensor
    boxes: Tensor
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        for name, value in (("probs", self.probs), ("boxes", self.boxes)):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{name} must be a tensor of floats, not {kind}.")
        shape = list(self.probs.shape)
        if len(shape) != 4 or shape[1] != 1 or shape[2] != shape[3] or shape[2] == 0:
            raise ValueError(
                f"probs must be [N, 1, M, M], for example [{len(self.boxes)}, 1, 28, 28], not {shape}."
            )
        if list(self.boxes.shape) != [shape[0], 4]:
            raise ValueError(
                f"boxes must be [{shape[0]}, 4], as many as probs, not {list(self.boxes.shape)}."
            )
        height, width = self.image_size
        if height < 1 or width < 1:
            raise ValueError(f"image_size is the height and width of a picture, not {self.image_size!r}.")
        object.__setattr__(self, "image_size", (int(height), int(width)))
        if shape[0] > 0:
            low, high = (value.item() for value in torch.aminmax(self.probs.detach()))
            if not (low >= 0 and high <= 1):  # written so that NaN fails too
                raise ValueError(f"probs hold values from 0 to 1; these go from {low:.3g} to {high:.3g}.")
            if not torch.isfinite(self.boxes).all():
                raise ValueError("Some boxes hold NaN or infinite numbers.")

    def __len__(self) -> int:
        return len(self.probs)

    def __getitem__(self, rows: int | slice | list[int] | Tensor) -> "RoIMasks":
        """The masks in some rows. A single number gives a `RoIMasks` of one."""
        if isinstance(rows, tuple):
            raise TypeError("RoIMasks is indexed by rows alone: masks[0], masks[:5] or masks[scores >= 0.8].")
        rows = [rows] if isinstance(rows, int) and not isinstance(rows, bool) else rows
        return RoIMasks(self.probs[rows], self.boxes[rows], self.image_size)

    def __gt__(self, threshold: float) -> Tensor:
        return self.paste(threshold)[:, None]

    def __repr__(self) -> str:
        height, width = self.image_size
        side = self.probs.shape[-1]
        return f"RoIMasks({len(self)} of {side} x {side}, for a picture of {height} x {width}: {self.nbytes:,} bytes)"

    @property
    def shape(self) -> torch.Size:
        """The shape of torchvision's soft masks, which these stand for: [N, 1, H, W]."""
        return torch.Size((len(self), 1, *self.image_size))

    @property
    def nbytes(self) -> int:
        """The memory that these masks take, in bytes: about 3 kB for each."""
        return self.probs.nbytes + self.boxes.nbytes

    def to(self, device: str | torch.device) -> "RoIMasks":
        """The same masks on another device."""
        return RoIMasks(self.probs.to(device), self.boxes.to(device), self.image_size)

    def cpu(self) -> "RoIMasks":
        """The same masks on the CPU."""
        return self.to("cpu")

    def crops(self, threshold: float = 0.5) -> list[Crop]:
        """Enlarge each mask to its box and cut it at `threshold` (0 to 1): where it lies, and bool [h, w].

        A crop is a rectangle around all pixels above the threshold, and not much larger; [0, 0] where there are none.
        Pixels are above the threshold here exactly where they are in torchvision's soft masks (Mask R-CNN, He et
        al. 2017, arXiv 1703.06870; `paste_masks_in_image` in torchvision).

        Raises `TypeError` or `ValueError` when the threshold is no number from 0 to 1.
        """
        check_fraction("mask_threshold", threshold)
        # As torchvision does: a rim of zeros around the mask, and the box larger by as much, in whole pixels.
        padded, scale = expand_masks(self.probs.detach(), padding=1)
        boxes = expand_boxes(self.boxes.detach(), scale).to(torch.int64).tolist()
        size, threshold = self.image_size, float(threshold)
        return [_crop(mask[0], box, size, threshold) for mask, box in zip(padded, boxes)]

    def paste(self, threshold: float = 0.5, max_bytes: int = MAX_BYTES) -> Tensor:
        """Put each mask into a picture of full size: bool [N, H, W], True where above `threshold` (0 to 1).

        Raises `MemoryError` when the result, one byte for each pixel of each mask, would take more than
        `max_bytes`, and `TypeError` or `ValueError` when the threshold is no number from 0 to 1.
        """
        check_fraction("mask_threshold", threshold)
        height, width = self.image_size
        each = height * width
        if len(self) * each > max_bytes:
            raise MemoryError(
                f"{len(self)} masks of {height} x {width} pixels would take {len(self) * each / 1e9:.1f} GB, more than "
                f"the {max_bytes / 1e9:.1f} GB allowed. Keep fewer instances first (filter_model_output; "
                f"{max_bytes // each} would fit), or do without: draw_instances, and masks.crops(), which gives "
                "each mask as large as its box. Or allow more: prediction['masks'].paste(max_bytes=...)."
            )
        if self.probs.device.type == "cpu":
            # NumPy's zeros cost nothing until they are written to, so only the pixels of the crops are paid for.
            pasted = torch.from_numpy(np.zeros((len(self), height, width), dtype=bool))
        else:
            pasted = torch.zeros(len(self), height, width, dtype=torch.bool, device=self.probs.device)
        for picture, (left, top, mask) in zip(pasted, self.crops(threshold)):
            picture[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        return pasted


def check_fraction(name: str, value: float) -> None:
    """Raise `TypeError` or `ValueError` unless `value`, called `name`, is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number from 0 to 1, not {value!r} ({type(value).__name__}).")
    if not 0 <= value <= 1:  # NaN fails too
        hint = f" Write {value / 100:g}, not {value:g}." if 1 < value <= 100 else ""
        raise ValueError(f"{name} must be a number from 0 to 1, not {value:g}.{hint}")


def _crop(mask: Tensor, box: list[int], image_size: tuple[int, int], threshold: float) -> Crop:
    """Enlarge one padded mask [m, m] to its box (x1, y1, x2, y2, all inclusive) and cut it at the threshold."""
    x1, y1, x2, y2 = box
    size = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
    # The rows and columns of the enlarged mask that lie in the picture.
    top, bottom = max(-y1, 0), min(y2 + 1, image_size[0]) - y1
    left, right = max(-x1, 0), min(x2 + 1, image_size[1]) - x1
    quick = mask.device.type == "cpu" and mask.dtype == torch.float32
    if quick and top < bottom and left < right:  # a box beside the picture may be huge
        rounding = _ROUNDING if sum(size) > _SMALL else 1e-6 * len(mask)
        values = mask.numpy()
        down, across = ((_kept_mixing if n <= _KEPT else _mixing)(len(values), n) for n in size)
        wide = values @ across
        # A mixture is never more than the largest of what is mixed.
        top, bottom = _extent((values.T @ down).max(0) > threshold - rounding, top, bottom)
        left, right = _extent(wide.max(0) > threshold - rounding, left, right)
    if top >= bottom or left >= right:
        return Crop(0, 0, torch.zeros(0, 0, dtype=torch.bool, device=mask.device))
    if quick:
        soft = down[:, top:bottom].T @ wide[:, left:right]
        above, nearly = soft > threshold + rounding, soft > threshold - rounding
        if np.count_nonzero(above) == np.count_nonzero(nearly):
            return Crop(x1 + left, y1 + top, torch.from_numpy(above))
        # So near the threshold that rounding decides: there, compute the row just as torchvision does.
        rows = np.flatnonzero((above != nearly).any(axis=1))
        upper, scales = _between(down[:, top + rows])
        if len(rows) * _CALL < size[0] * size[1] and (scales == scales.astype(np.float32)).all():
            for row, first, scale in zip(rows, upper, scales):
                exact = _row(mask[first : first + 2], scale, size[1])
                above[row] = (exact[left:right] > threshold).numpy()
            return Crop(x1 + left, y1 + top, torch.from_numpy(above))
    # A GPU, or many rows near the threshold: compute the whole as torchvision does.
    soft = F.interpolate(mask[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    return Crop(x1 + left, y1 + top, soft[top:bottom, left:right] > threshold)


def _mixing(before: int, after: int) -> np.ndarray:
    """How linear interpolation mixes `before` numbers into `after`: weights, float32 [before, after].

    In two dimensions it is this for the columns, then for the rows: two products of matrices. They take a third of
    the time of `F.interpolate`, which looks up four numbers for every pixel.
    """
    return F.interpolate(torch.eye(before)[None], size=after, mode="linear", align_corners=False)[0].numpy()


_kept_mixing = lru_cache(maxsize=_KEPT)(_mixing)


def _between(mixing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For columns of `_mixing`: the first of the two rows that each mixes, and the scale with which `_row` does it."""
    upper = (mixing > 0).argmax(axis=0).clip(max=len(mixing) - 2)
    share = np.take_along_axis(mixing, upper[None] + 1, axis=0)[0]
    return upper, 1 + 2 * share.astype(np.float64)


def _row(two_rows: Tensor, scale: float, width: int) -> Tensor:
    """Mix two rows of a mask, [2, m], into a row of the enlarged mask, [width], as `F.interpolate` does, bit for bit.

    It is the same operator, called for this row alone. The first row of its result lies at 0.5 * scale - 0.5 between
    the two, so it is the scale that says how they are mixed.
    """
    size = 1, max(width, _SMALL)  # computed as large ones are; columns beyond the width do no harm
    scale_x = np.float32(two_rows.shape[1]) / np.float32(width)
    rows = torch.ops.aten.upsample_bilinear2d(
        two_rows[None, None], size, False, 1 / scale, 1 / float(scale_x)
    )
    return rows[0, 0, 0, :width]


def _extent(wanted: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    """The part of start:stop from the first True to the last."""
    found = np.flatnonzero(wanted)
    return (max(start, int(found[0])), min(stop, int(found[-1]) + 1)) if len(found) else (0, 0)
