"""Labels to begin with: what a model finds in pictures of one's own, as LabelMe files to be corrected by hand."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torchvision.models.detection import MaskRCNN

from segutils.annotations.pictures import Finder
from segutils.images import ImageLoadError, load_image
from segutils.inference import predict
from segutils.measuring import cut_open, to_polygons
from segutils.predictions import label_name, mask_crops
from segutils.rle import encode_rle
from segutils.roi_masks import Crop

MARK = "segutils_draft"
"""The field of a draft that holds the SHA-256 of its shapes. LabelMe keeps fields that it does not know, and writes the
shapes in its own way: once a person has saved the file, the two do not fit any more."""

MIN_IOU = 0.95
TOLERANCES = (8, 6, 4.5, 3.5, 2.5, 2, 1.5, 1, 0.7, 0.5, 0.25, 0)
"""In pixels. Of the polygons that keep `MIN_IOU` with the mask, those with the fewest points to drag are taken."""


class Drafts(NamedTuple):
    """What `draft_labels` did."""

    written: list[Path]
    """LabelMe files."""
    kept: list[Path]
    """Those that were there already and are not drafts, or no longer: a person has been at work."""
    failed: dict[Path, str]
    """Pictures that cannot be read, and why."""


def draft_labels(
    model: MaskRCNN,
    folder: str | Path,
    out: str | Path,
    categories: Sequence[str],
    score_threshold: float = 0.5,
) -> Drafts:
    """Write what a model finds in each picture of a folder, sub-folders too, as a LabelMe file to be corrected.

    Polygons have as few points as an IoU of 0.95 with the mask allows. A file that a person has made or saved is never
    overwritten; a draft that nobody has saved is, by a newer one.

    Args:
        model: in eval mode.
        folder: with the pictures.
        out: for the files, which are named as the pictures are; `folder` puts each beside its picture, where LabelMe
            looks for it.
        categories: the names of the model's classes, `weights.meta["categories"]`.
        score_threshold: instances with at least this score are drafted, 0 to 1. To delete a wrong one is less work than
            to draw one anew.

    Raises:
        NotADirectoryError: `folder` is none.
        ValueError: there is no picture in it, or two would get the same file.
    """
    folder, out = Path(folder).expanduser(), Path(out).expanduser()
    if not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is not a folder. It should be the one with the pictures.")
    pictures = Finder(folder).all()
    if not pictures:
        raise ValueError(f"There is no picture in '{folder}'.")
    files = [out / path.relative_to(folder).with_suffix(".json") for path in pictures]
    file, times = Counter(files).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"{times} pictures would get '{file}'. Give them names that differ by more than the ending."
        )
    drafts = Drafts([], [], {})
    for picture, file in zip(pictures, files):
        if file.exists() and not _is_untouched(file):
            drafts.kept.append(file)
            continue
        try:
            image = load_image(picture)
        except ImageLoadError as error:
            drafts.failed[picture] = error.reason
            continue
        with torch.inference_mode():
            [prediction] = predict(model, [image], score_threshold)
        path = Path(os.path.relpath(picture, file.parent)).as_posix()
        _write_whole(file, _draft(prediction, path, categories))
        drafts.written.append(file)
    return drafts


def _draft(prediction: dict, image_path: str, categories: Sequence[str]) -> dict:
    """A LabelMe file."""
    height, width = prediction["masks"].shape[-2:]
    shapes = []
    found = zip(prediction["labels"].tolist(), prediction["scores"].tolist(), mask_crops(prediction["masks"]))
    for number, (label, score, crop) in enumerate(found, start=1):
        rings = few_points(crop, (height, width)) if crop.mask.any() else []
        for ring in rings:
            shapes.append(
                {
                    "label": label_name(label, categories),
                    "points": ring.round(2).tolist(),
                    "group_id": number if len(rings) > 1 else None,
                    "description": f"score {score:.2f}",
                    "shape_type": "polygon",
                    "flags": {},
                }
            )
    about = {"version": "5.5.0", "flags": {}, "imagePath": image_path, "imageData": None}
    return about | {"imageHeight": height, "imageWidth": width, "shapes": shapes, MARK: _fingerprint(shapes)}


def few_points(crop: Crop, image_size: tuple[int, int]) -> list[np.ndarray]:
    """Polygons [P, 2] that fill to a mask with an IoU of at least 0.95 with this one, and have few points."""
    left, top, mask = crop
    [truth] = encode_rle([crop], image_size)
    best: list[np.ndarray] = []
    for tolerance in TOLERANCES:
        [pieces] = to_polygons(mask[None], tolerance)
        rings = [cut_open(piece) + (left, top) for piece in pieces]
        filled = coco_mask.merge(
            coco_mask.frPyObjects([ring.ravel().tolist() for ring in rings], *image_size)
        )
        close = coco_mask.iou([filled], [truth], [False])[0, 0] >= MIN_IOU
        if close and (not best or sum(map(len, rings)) < sum(map(len, best))):
            best = rings
    return best


def _is_untouched(file: Path) -> bool:
    """Whether a file is a draft just as it was written. One that cannot be read is somebody else's."""
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.get(MARK) == _fingerprint(record.get("shapes"))


def _fingerprint(shapes: object) -> str:
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()


def _write_whole(file: Path, record: dict) -> None:
    """Write all of it or nothing, should the run be stopped: half a file would look like a person's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(".json.half")
    half.write_text(json.dumps(record, indent=1), "utf-8")
    os.replace(half, file)
