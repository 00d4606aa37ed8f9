"""COCO's run-length encoding (RLE) of masks, from crops and back into crops: nothing of full size on the way.

An RLE lists how long the runs of a mask are, column by column from the top left: so many pixels outside, so many
inside, and so on. Files hold these counts as text, "counts", beside the "size" of the picture, [height, width]
(common/maskApi.c in github.com/cocodataset/cocoapi). A run in the text is written as the difference to the run before
the last, 5 bits to a character, the lowest first.
"""

from collections.abc import Sequence

import numpy as np
import torch

from segutils.roi_masks import Crop

RLE = dict
"""{"size": [height, width], "counts": text, or a list of numbers}, as in COCO's files."""


def encode_rle(crops: Sequence[Crop], image_size: tuple[int, int]) -> list[RLE]:
    """Encode masks of one picture, as `pycocotools.mask.encode` does with the pasted masks (its bytes as a str).

    crops: from `mask_crops`, on the CPU. image_size: height and width of the picture.

    Raises `ValueError` when a crop does not lie within the picture.
    """
    height, width = image_size
    ends, lengths = [], []
    for number, (left, top, mask) in enumerate(crops):
        rows, columns = mask.shape
        if min(left, top) < 0 or left + columns > width or top + rows > height:
            raise ValueError(
                f"A crop of {columns} x {rows} pixels at ({left}, {top}) does not lie within a picture of "
                f"{width} x {height}."
            )
        # A run ends at each pixel that differs from the one above it. Above and below the crop all is outside.
        pixels = np.zeros((rows + 2, columns), dtype=bool)
        pixels[1:-1] = mask.numpy()
        row, column = np.divmod(np.flatnonzero(pixels[1:] != pixels[:-1]), max(columns, 1))
        places = np.sort((left + column) * height + top + row)
        if rows == height:
            # A run that goes on from the foot of a column to the head of the next has two ends in one place there.
            joined = np.flatnonzero(places[1:] == places[:-1])
            places = np.delete(places, np.concatenate([joined, joined + 1]))
        if len(places) == 0 or places[-1] < height * width:
            places = np.append(places, height * width)
        ends.append(places + number * height * width)  # as if the pictures lay one after another
        lengths.append(len(places))
    counts = np.diff(np.concatenate([np.zeros(1, dtype=np.int64), *ends]))
    return [{"size": [int(height), int(width)], "counts": text} for text in _write(counts, lengths)]


def decode_rle(rle: RLE) -> Crop:
    """Turn an RLE back into its mask, cut down to a rectangle around its pixels.

    Takes compressed RLEs (`counts` is text or bytes) and plain ones (a list of numbers).

    Raises `ValueError` when the counts are damaged or do not fill the picture, and `TypeError` when it is no RLE.
    """
    if not isinstance(rle, dict) or "size" not in rle or "counts" not in rle:
        raise TypeError(f'An RLE is a dict with "size" and "counts", not {rle!r:.60}.')
    height, width = rle["size"]
    counts = rle["counts"]
    counts = _read(counts) if isinstance(counts, str | bytes) else np.array(counts, dtype=np.int64)
    # Each count is looked at before they are added: the sum of large ones would run over and might fit by chance.
    if (counts < 0).any() or (counts > height * width).any() or counts.sum() != height * width:
        raise ValueError(
            f"The counts of the RLE are damaged: they add up to {counts.sum()} pixels, and the size {width} x {height} "
            f"has {height * width}."
        )
    places = np.cumsum(counts)
    starts, ends = places[:-1:2], places[1::2] - 1  # the first and the last pixel of each run
    starts, ends = starts[ends >= starts], ends[ends >= starts]
    if len(starts) == 0:
        return Crop(0, 0, torch.zeros(0, 0, dtype=torch.bool))
    left, right = starts[0] // height, ends[-1] // height + 1
    top, bottom = (starts % height).min(), (ends % height).max() + 1
    if (starts // height != ends // height).any():
        top, bottom = 0, height  # a run goes on in the next column
    # The runs in a picture that is no larger than the crop: steps up and down, added up.
    rows = bottom - top
    starts, ends = ((p // height - left) * rows + p % height - top for p in (starts, ends))
    steps = np.zeros((right - left) * rows + 1, dtype=np.int8)
    steps[starts] = 1
    steps[ends + 1] -= 1
    mask = np.cumsum(steps[:-1], dtype=np.int8).view(bool).reshape(right - left, rows).T
    return Crop(int(left), int(top), torch.from_numpy(np.ascontiguousarray(mask)))


def _write(counts: np.ndarray, lengths: list[int]) -> list[str]:
    """Write the counts of many masks as text, all at once. They lie one after another, so many of each mask."""
    bounds = np.cumsum([0, *lengths])
    rest = counts.copy()
    rest[2:] -= counts[:-2]
    first = np.arange(len(counts)) - np.repeat(bounds[:-1], lengths) < 3
    rest[first] = counts[first]  # the first three of a mask are written as they are
    parts, more = [], np.ones(len(rest), dtype=bool)
    used = []
    while more.any():
        low, rest = rest & 31, rest >> 5
        used.append(more)
        # The last five bits hold the sign as well: it has to be that of the rest, 0 or -1.
        goes_on = ~(((rest == 0) & (low < 16)) | ((rest == -1) & (low >= 16)))
        parts.append(low + 32 * goes_on + 48)
        more = more & goes_on
    if not parts:
        return []
    characters, used = np.stack(parts, axis=1).astype(np.uint8), np.stack(used, axis=1)
    text = characters[used].tobytes().decode("ascii")
    ends = np.concatenate([[0], np.cumsum(used.sum(axis=1))])[bounds].tolist()
    return [text[start:end] for start, end in zip(ends, ends[1:])]


def _read(text: str | bytes) -> np.ndarray:
    """Read counts that are written as text."""
    damaged = "The counts of the RLE are damaged: "
    values = (
        np.frombuffer(text.encode() if isinstance(text, str) else text, dtype=np.uint8).astype(np.int64) - 48
    )
    if ((values < 0) | (values > 63)).any():
        raise ValueError(f"{damaged}they hold a letter that does not belong there.")
    last = np.flatnonzero(values & 32 == 0)  # of the letters of each number
    if len(values) != (last[-1] + 1 if len(last) else 0):
        raise ValueError(f"{damaged}they are cut short.")
    first = np.append(0, last + 1)[:-1]
    if (last - first > 11).any():
        raise ValueError(f"{damaged}a number is too large.")
    place = np.arange(len(values)) - np.repeat(first, last - first + 1)
    counts = np.add.reduceat((values & 31) << (5 * place), first)
    counts -= (values[last] >> 4 & 1) << (5 * (last - first + 1))  # a negative number
    # Each is the difference to the one before the last: add up the even ones, and the odd ones.
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts
