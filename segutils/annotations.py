"""Ground truth from files: pictures with the masks that somebody drew, read when they are asked for."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from segutils.images import load_image
from segutils.rle import decode_rle
from segutils.roi_masks import Crop


class Annotations(Sequence):
    """Pictures and their targets. It has a length; `annotations[3]` and loops give pairs of picture and target.

    categories: the names of the classes, which labels index: `categories[label]`. Unused numbers are called "N/A".

    A target is torchvision's training dict: `boxes` float [N, 4], `labels` int64 [N], `masks` uint8 [N, H, W],
    `iscrowd` int64 [N] (1 for regions with many things, none of them marked), `area` float [N] in pixels, and
    `image_id`.
    """

    def __init__(
        self, folder: Path, images: list[dict], annotations: dict[int, list[dict]], categories: list[str]
    ):
        self.categories = categories
        self._folder, self._images, self._annotations = folder, images, annotations

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Read a picture, and make its target.

        Raises `ImageLoadError` or `FileNotFoundError` when the picture cannot be read, and `ValueError` when it has
        another size than the file of annotations says, or an annotation has no mask that can be read.
        """
        about = self._images[index]
        path = self._folder / about["file_name"]
        image = load_image(path)
        size = about["height"], about["width"]
        if tuple(image.shape[1:]) != size:
            raise ValueError(
                f"'{path}' is {image.shape[2]} x {image.shape[1]} pixels, but its annotations were made for "
                f"{size[1]} x {size[0]} (width x height). Was it resized or turned?"
            )
        annotations = self._annotations[about["id"]]
        masks = torch.zeros(len(annotations), *size, dtype=torch.uint8)
        for mask, annotation in zip(masks, annotations):
            left, top, crop = _read_mask(annotation, size, about["file_name"])
            mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop

        def column(key: str, dtype: torch.dtype) -> Tensor:
            return torch.tensor([annotation[key] for annotation in annotations], dtype=dtype)

        boxes = column("bbox", torch.float32).reshape(-1, 4)
        return image, {
            "boxes": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1),
            "labels": column("category_id", torch.int64),
            "masks": masks,
            "iscrowd": torch.tensor([a.get("iscrowd", 0) for a in annotations], dtype=torch.int64),
            "area": column("area", torch.float32),
            "image_id": about["id"],
        }


def load_annotations(json_file: str | Path, images: str | Path) -> Annotations:
    """Open a file of annotations in COCO's format: masks as polygons or RLEs, crowd regions included.

    Labels are the file's category ids. Pictures are read when they are asked for, not before.

    Args:
        json_file: the file.
        images: the folder of the pictures.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file or folder.
        ValueError: it is not in COCO's format; an annotation belongs to no picture or to no category; a category has
            the number 0, which is the background's.
    """
    json_file, folder = Path(json_file).expanduser(), Path(images).expanduser()
    if not folder.is_dir():
        raise NotADirectoryError(
            f"images='{images}' is not a folder. It should be the one with the pictures."
        )
    try:
        coco = json.loads(json_file.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"'{json_file}' is not a JSON file that can be read: {error}.") from error
    keys = ("images", "annotations", "categories")
    missing = [key for key in keys if not isinstance(coco, dict) or not isinstance(coco.get(key), list)]
    if missing:
        raise ValueError(
            f"'{json_file}' is not in COCO's format: it has no list of {' and no list of '.join(missing)}."
        )
    numbers = {category["id"]: category["name"] for category in coco["categories"]}
    if min(numbers, default=1) < 1:
        raise ValueError(
            f"'{json_file}': the category '{numbers[min(numbers)]}' has the id {min(numbers)}, but labels start at 1, "
            "since 0 is the background. Add 1 to all ids of categories."
        )
    categories = ["__background__"] + [numbers.get(n, "N/A") for n in range(1, max(numbers, default=0) + 1)]
    known, annotations = {image["id"] for image in coco["images"]}, defaultdict(list)
    for annotation in coco["annotations"]:
        where = f"'{json_file}': annotation {annotation.get('id')}"
        lacking = [key for key in ("image_id", "category_id", "bbox", "area") if key not in annotation]
        if lacking:
            raise ValueError(f"{where} has no {' and no '.join(lacking)}.")
        if annotation["image_id"] not in known:
            raise ValueError(f"{where} belongs to image {annotation['image_id']}, which is not in the file.")
        if annotation["category_id"] not in numbers:
            raise ValueError(f"{where} has category {annotation['category_id']}, which is not in the file.")
        annotations[annotation["image_id"]].append(annotation)
    return Annotations(folder, coco["images"], annotations, categories)


def _read_mask(annotation: dict, size: tuple[int, int], file_name: str) -> Crop:
    """The mask of an annotation, from polygons or from an RLE."""
    segmentation = annotation.get("segmentation")
    where = f"Annotation {annotation.get('id')} of '{file_name}'"
    try:
        if isinstance(segmentation, dict):
            if tuple(segmentation["size"]) != size:
                height, width = segmentation["size"]
                raise ValueError(
                    f"its RLE is for {width} x {height} pixels, the picture has {size[1]} x {size[0]}"
                )
            return decode_rle(segmentation)
        if not segmentation or min(map(len, segmentation)) < 6 or any(len(ring) % 2 for ring in segmentation):
            raise ValueError(
                "its segmentation must be an RLE, or polygons with x and y of at least three points, "
                f"not {segmentation!r:.60}"
            )
        return _fill(segmentation, size)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{where} has no mask that can be read: {error}.") from error


def _fill(polygons: list[list[float]], size: tuple[int, int]) -> Crop:
    """Fill polygons as COCO's own tools do, pixel by pixel."""
    filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size)))
    return Crop(0, 0, torch.from_numpy(np.ascontiguousarray(filled)).bool())
