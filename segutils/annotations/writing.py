"""Annotations into the files of COCO and of LabelMe."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask

from segutils.annotations.records import Picture, Thing
from segutils.measuring import cut_open, to_polygons
from segutils.rle import decode_rle


def write_coco(pictures: Sequence[Picture], categories: Sequence[str], folder: Path) -> dict:
    numbers = {name: number for number, name in reversed([*enumerate(categories)])}
    images, annotations = [], []
    for picture in pictures:
        height, width = picture.size
        name = picture.name if picture.embedded else _relative(picture.path, folder)
        images.append({"id": picture.image_id, "file_name": name, "height": height, "width": width})
        for thing in picture.things:
            box, area = coco_mask.toBbox(thing.rle).tolist(), float(coco_mask.area(thing.rle))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture.image_id,
                    "category_id": numbers[thing.name],
                    "segmentation": thing.rle
                    if thing.polygons is None
                    else [points.ravel().tolist() for points in thing.polygons],
                    "bbox": thing.box or box,
                    "area": area if thing.area is None else thing.area,
                    "iscrowd": int(thing.crowd),
                }
            )
    classes = [{"id": n, "name": name} for n, name in enumerate(categories) if n > 0 and name != "N/A"]
    return {"images": images, "annotations": annotations, "categories": classes}


def write_labelme(pictures: Sequence[Picture], images: Path, folder: Path) -> list[Path]:
    paths = []
    for picture in pictures:
        inside = Path(_relative(picture.path, images)) if not picture.embedded else Path(picture.path.name)
        paths.append(folder / inside.with_suffix(".json"))
    there = [path for path in paths if path.exists()]
    if there:
        raise FileExistsError(f"'{there[0]}' is there already, and is not overwritten. Name another folder.")
    twice = {path for path in paths if paths.count(path) > 1}
    if twice:
        raise FileExistsError(
            f"Two pictures would write '{min(twice)}'. Give them names that differ by more than the ending."
        )
    for picture, path in zip(pictures, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        shapes = [
            {
                "label": thing.name,
                "points": points.tolist(),
                "group_id": number if len(rings) > 1 else None,
                "shape_type": "polygon",
                "flags": {"iscrowd": True} if thing.crowd else {},
            }
            for number, thing in enumerate(picture.things, start=1)
            for rings in [_rings(thing)]
            for points in rings
        ]
        data = json.loads(picture.path.read_bytes())["imageData"] if picture.embedded else None
        name = picture.name if picture.embedded else _relative(picture.path, path.parent)
        height, width = picture.size
        record = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": data}
        path.write_text(json.dumps(record | {"imageHeight": height, "imageWidth": width}, indent=1), "utf-8")
    return paths


def _relative(path: Path, folder: Path) -> str:
    """A path from a folder, with the slashes that every system reads."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _rings(thing: Thing) -> list[np.ndarray]:
    """The polygons of a thing; of a mask, such that fill to the same pixels, with as few points as that allows."""
    if thing.polygons is not None:
        return thing.polygons
    left, top, crop = decode_rle(thing.rle)
    height, width = thing.rle["size"]
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[0, top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    for tolerance in (0.25, 0):
        [polygons] = to_polygons(mask, tolerance)
        rings = [cut_open(polygon) for polygon in polygons]
        filled = coco_mask.merge(
            coco_mask.frPyObjects([ring.ravel().tolist() for ring in rings], height, width)
        )
        if filled["counts"].decode("ascii") == thing.rle["counts"]:
            break
    return rings
