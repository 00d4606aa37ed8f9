"""From masks to numbers, outlines and files that other programs read. No mask is pasted into a picture of full size."""

import csv
import html
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.draw import polygon2mask
from skimage.measure import approximate_polygon, find_contours, label, regionprops
from torch import Tensor
from torchvision.ops import box_convert

from segutils.predictions import Prediction, check_prediction, label_name, mask_crops, to_semantic
from segutils.rle import encode_rle
from segutils.roi_masks import Crop, RoIMasks

LENGTHS = ("perimeter", "major_axis", "minor_axis", "equivalent_diameter")
"""The columns of `measure_instances` that are lengths, and so come in millimetres too."""


class Table(dict):
    """Columns by name, NumPy arrays of one length. It shows itself as a table, and `pandas.DataFrame(table)` works.

    What is shown is rounded, and its rows are numbered from 1, as in a label image; the columns hold the full numbers.
    """

    def columns(self, *names: str) -> "Table":
        """The table with some of its columns, in this order: `table.columns("name", "area")`."""
        if missing := [name for name in names if name not in self]:
            raise KeyError(f"The table has no column {missing[0]!r}. It has: {', '.join(self)}.")
        return Table({name: self[name] for name in names})

    def rows(self, which: slice | Sequence[int] | np.ndarray) -> "Table":
        """The table with some of its rows: `table.rows(table["area"] > 500)`, `table.rows(slice(8))`."""
        return Table({name: column[which] for name, column in self.items()})

    def to_csv(self, path: str | Path) -> None:
        """Write the table as a CSV file, with the names of the columns in its first line."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self)
            writer.writerows(zip(*(column.tolist() for column in self.values())))

    def _texts(self) -> list[list[str]]:
        """What is shown, row by row: the names of the columns, then their values. The first column numbers the rows."""
        columns = {"": map(str, range(1, 1 + len(next(iter(self.values()), ()))))}
        columns |= {name: _rounded(column) for name, column in self.items()}
        return [list(columns), *map(list, zip(*columns.values()))]

    def __repr__(self) -> str:
        texts = self._texts()
        widths = [max(map(len, column)) for column in zip(*texts)]
        return "\n".join("  ".join(text.rjust(width) for text, width in zip(row, widths)) for row in texts)

    def _repr_html_(self) -> str:
        def row(texts: list[str], tag: str) -> str:
            number, *cells = map(html.escape, texts)
            return f"<tr><th>{number}</th>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"

        head, *body = self._texts()
        return f"<table>{row(head, 'th')}{''.join(row(texts, 'td') for texts in body)}</table>"


def measure_instances(
    prediction: Prediction,
    image: Tensor | None = None,
    pixel_size: float | None = None,
    categories: Sequence[str] | None = None,
    mask_threshold: float = 0.5,
) -> Table:
    """Measure each instance of a picture by its mask, with scikit-image's `regionprops`.

    Args:
        prediction: one dict with `labels` and `masks`, perhaps `scores`; a target will do as well. Soft masks are cut
            at `mask_threshold` (0 to 1).
        image: uint8 [3, H, W], for the mean colours.
        pixel_size: the side of a pixel in millimetres, for lengths and areas in millimetres.
        categories: the names of the classes, `weights.meta["categories"]`.

    Returns:
        A table with a row for each instance, in the order of the prediction. Lengths are in pixels, places are counted
        from the top left corner of the picture, as in boxes.

        - `label`, `name`, and `score` where there are scores;
        - `area`: the pixels of the mask; `perimeter`: the length of its outline, those of holes included;
        - `x`, `y`: the centre of mass; `x1`, `y1`, `x2`, `y2`: the box around its pixels;
        - `major_axis`, `minor_axis`, `orientation`, `eccentricity`: those of the ellipse with the same second moments;
          the orientation is that of the major axis, in degrees from 0 to 180, anticlockwise from the horizontal; the
          eccentricity is 0 for a circle and nears 1 for a line;
        - `solidity`: the area as a share of the convex hull's; `equivalent_diameter`: of a circle with the same area;
        - `touches_border`: whether it comes to within a pixel of the border of the picture, so that part of it may be
          cut off. (Of 281 things that the border cuts in 240 drawn scenes, the bundled model's masks reach it in 134,
          end one pixel before it in 83, and earlier in the rest. Those of whole things came so close twice.)
        - `pieces`, `holes`: how many there are; pixels that touch at a corner belong together;
        - `red`, `green`, `blue`: the mean colour, 0 to 255, with `image` alone;
        - `area_mm2`, `perimeter_mm` and so on, with `pixel_size` alone.

        An empty mask has an area of 0 and NaN for what it has not.

    Raises:
        TypeError, ValueError: the prediction is not sound, the picture has another size, or `pixel_size` is no number
            above 0.
    """
    check_prediction(prediction, needs=("labels", "masks"))
    height, width = prediction["masks"].shape[-2:]
    if image is not None and (image.dtype != torch.uint8 or image.shape != (3, height, width)):
        raise ValueError(
            f"The picture must be uint8 [3, {height}, {width}], of the masks' size, not {image.dtype} "
            f"{list(image.shape)}."
        )
    if pixel_size is not None and (
        isinstance(pixel_size, bool)
        or not isinstance(pixel_size, int | float)
        or not 0 < pixel_size < math.inf
    ):
        raise ValueError(f"pixel_size is the side of a pixel in millimetres, above 0, not {pixel_size!r}.")
    labels = prediction["labels"].tolist()
    table = Table(label=np.array(labels, dtype=np.int64))
    table["name"] = np.array([label_name(number, categories) for number in labels], dtype=object)
    if "scores" in prediction:
        table["score"] = prediction["scores"].detach().cpu().double().numpy()
    crops = mask_crops(prediction["masks"], mask_threshold)
    # An empty mask first: so the columns are there, with their types, where there is no instance.
    rows = [_measure(crop, (height, width), image) for crop in [_EMPTY, *crops]]
    table |= {name: np.array([row[name] for row in rows])[1:] for name in rows[0]}
    if pixel_size is not None:
        table["area_mm2"] = table["area"] * pixel_size**2
        table |= {f"{name}_mm": table[name] * pixel_size for name in LENGTHS}
    return table


_EMPTY = Crop(0, 0, torch.zeros(0, 0, dtype=torch.bool))


def _measure(crop: Crop, image_size: tuple[int, int], image: Tensor | None) -> dict[str, float]:
    """One row of the table."""
    left, top, mask = crop
    mask = mask.numpy()
    nan, area = math.nan, int(mask.sum())
    names = ("perimeter", "x", "y", "x1", "y1", "x2", "y2", "major_axis", "minor_axis", "orientation")
    row = {"area": area} | dict.fromkeys((*names, "eccentricity", "solidity"), nan)
    row |= {"equivalent_diameter": nan, "touches_border": False, "pieces": 0, "holes": 0}
    if area:
        [region] = regionprops(mask.astype(np.uint8))
        y1, x1, y2, x2 = np.array(region.bbox) + (top, left, top, left)
        pieces = int(label(mask, connectivity=2).max())
        row |= {
            "perimeter": region.perimeter,
            "x": region.centroid[1] + left + 0.5,  # scikit-image counts from the centre of the first pixel
            "y": region.centroid[0] + top + 0.5,
            **{"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)},
            "major_axis": region.axis_major_length,
            "minor_axis": region.axis_minor_length,
            "orientation": (math.degrees(region.orientation) - 90) % 180,  # there, 0 is along the columns
            "eccentricity": region.eccentricity,
            "solidity": region.solidity,
            "equivalent_diameter": region.equivalent_diameter_area,
            "touches_border": bool(min(x1, y1, image_size[1] - x2, image_size[0] - y2) <= 1),
            "pieces": pieces,
            "holes": pieces - int(region.euler_number),
        }
    if image is not None:
        part = image[:, top : top + mask.shape[0], left : left + mask.shape[1]].cpu().numpy()
        colors = part[:, mask].mean(axis=1).tolist() if area else (nan, nan, nan)
        row |= dict(zip(("red", "green", "blue"), colors))
    return row


def _rounded(column: np.ndarray) -> list[str]:
    """A column as texts. Its floats have equally many decimals, fewer the larger they are; NaN is left empty."""
    if column.dtype == bool:
        return ["yes" if value else "no" for value in column]
    if column.dtype.kind != "f":
        return [str(value) for value in column]
    largest = np.abs(column[np.isfinite(column)]).max(initial=0)
    decimals = 2 if largest < 10 else 1 if largest < 1000 else 0
    return ["" if math.isnan(value) else f"{value:.{decimals}f}" for value in column]


Polygon = list[np.ndarray]
"""One piece of a mask: its outline, then the outlines of its holes, each float [P, 2], x and y, not closed."""


def to_polygons(
    masks: Tensor | RoIMasks, tolerance: float = 0.25, mask_threshold: float = 0.5
) -> list[list[Polygon]]:
    """Turn each mask of one picture into polygons: for each mask a list of pieces, holes included.

    Points are counted from the top left corner of the picture, as in boxes, so the centre of the first pixel is
    (0.5, 0.5). The outline runs halfway between the pixels inside and those outside (`skimage.measure.find_contours`);
    points that lie within `tolerance` pixels of a straight line are left out (Douglas and Peucker 1973). With 0 the
    mask comes back exactly; see `from_polygons`.
    """
    everything = []
    for left, top, mask in mask_crops(masks, mask_threshold):
        pieces = label(mask.numpy(), connectivity=2)
        polygons = []
        for number in range(1, pieces.max(initial=0) + 1):
            padded = np.pad(pieces == number, 1).astype(float)
            rings = []
            for contour in find_contours(padded, 0.5, fully_connected="high"):
                simple = approximate_polygon(contour, tolerance)
                ring = (simple if len(simple) > 3 else contour)[:-1, ::-1]
                rings.append(ring + (left - 0.5, top - 0.5))
            # The outline of the piece spans all the others.
            polygons.append(sorted(rings, key=lambda ring: -np.ptp(ring[:, 0])))
        everything.append(polygons)
    return everything


def from_polygons(polygons: list[Polygon], image_size: tuple[int, int]) -> Tensor:
    """Fill the polygons of one mask: bool [H, W], True where the centre of a pixel lies inside and in no hole."""
    mask = torch.zeros(image_size, dtype=torch.bool)
    for ring in (ring for polygon in polygons for ring in polygon):
        left, top = np.floor(ring.min(axis=0)).astype(int).clip(min=0)
        right, bottom = np.ceil(ring.max(axis=0)).astype(int)
        part = mask[top:bottom, left:right]
        part ^= torch.from_numpy(polygon2mask(part.shape, ring[:, ::-1] - (top + 0.5, left + 0.5)))
    return mask


def to_coco(
    predictions: Sequence[Prediction], image_ids: Sequence[int] | None = None, mask_threshold: float = 0.5
) -> list[dict]:
    """Predictions in the format of COCO's results files: a dict for each instance. `json.dump` writes it.

    It has no boxes: with them COCO's tools would take the box for the area, and count other things as small.

    Args:
        predictions: one dict for each picture, with `labels`, `scores` and `masks`.
        image_ids: the numbers of the pictures in the file of annotations; without them they are counted from 1.
    """
    results = []
    for image_id, one in _numbered(predictions, image_ids, ("labels", "scores", "masks")):
        rles = encode_rle(mask_crops(one["masks"], mask_threshold), one["masks"].shape[-2:])
        for found in zip(one["labels"].tolist(), one["scores"].tolist(), rles):
            results.append(
                {"image_id": image_id} | dict(zip(("category_id", "score", "segmentation"), found))
            )
    return results


def to_coco_dataset(
    targets: Sequence[Prediction],
    file_names: Sequence[str],
    categories: Sequence[str],
    image_ids: Sequence[int] | None = None,
    mask_threshold: float = 0.5,
) -> dict:
    """Targets, or predictions taken for the truth, in the format of COCO's files of annotations.

    `load_annotations` reads them back, once `json.dump` has written them.

    Args:
        targets: one dict for each picture, with `labels` and `masks`. `area` and `iscrowd` are taken over.
        file_names: of the pictures, as many as targets.
        categories: the names of the classes, `weights.meta["categories"]`.
        image_ids: the numbers of the pictures; without them they are counted from 1.
    """
    if len(file_names) != len(targets):
        raise ValueError(f"There are {len(targets)} targets but {len(file_names)} names of files.")
    images, annotations = [], []
    for (image_id, one), name in zip(_numbered(targets, image_ids, ("labels", "masks")), file_names):
        size = one["masks"].shape[-2:]
        images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
        crops = mask_crops(one["masks"], mask_threshold)
        for row, (crop, rle) in enumerate(zip(crops, encode_rle(crops, size))):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(one["labels"][row]),
                    "segmentation": rle,
                    "bbox": _xywh(crop),
                    "area": float(one["area"][row]) if "area" in one else float(crop.mask.sum()),
                    "iscrowd": int(one["iscrowd"][row]) if "iscrowd" in one else 0,
                }
            )
    classes = [{"id": n, "name": name} for n, name in enumerate(categories) if n > 0 and name != "N/A"]
    return {"images": images, "annotations": annotations, "categories": classes}


def _numbered(
    many: Sequence[Prediction], image_ids: Sequence[int] | None, needs: Sequence[str]
) -> list[tuple[int, Prediction]]:
    """Predictions with the numbers of their pictures; each is checked."""
    if isinstance(many, dict):
        raise TypeError(
            "This takes a list with one dict for each picture. Put the dict in a list: [prediction]."
        )
    image_ids = range(1, len(many) + 1) if image_ids is None else image_ids
    if len(image_ids) != len(many):
        raise ValueError(f"There are {len(many)} pictures but {len(image_ids)} image_ids.")
    for number, one in enumerate(many, start=1):
        check_prediction(one, needs, f"Picture {number}")
    return list(zip(map(int, image_ids), many))


def _xywh(crop: Crop) -> list[float]:
    """The box around the pixels of a crop as COCO writes it: x, y, width, height."""
    rows, columns = torch.where(crop.mask)
    if len(rows) == 0:
        return [0.0, 0.0, 0.0, 0.0]
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    box = torch.tensor(box) + torch.tensor([crop.left, crop.top, crop.left, crop.top])
    return box_convert(box.double(), "xyxy", "xywh").tolist()


def to_labelme(prediction: Prediction, image_path: str, categories: Sequence[str]) -> dict:
    """One picture's instances in the format of LabelMe, to be corrected there by hand. `json.dump` writes it.

    A polygon for each piece; pieces of one instance share a `group_id`. LabelMe knows no holes: a hole is joined to the
    outline by a cut of no width.

    image_path: of the picture, from the folder in which the JSON file will lie.
    """
    check_prediction(prediction, needs=("labels", "masks"))
    shapes = []
    for row, (number, polygons) in enumerate(
        zip(prediction["labels"].tolist(), to_polygons(prediction["masks"]))
    ):
        for polygon in polygons:
            shapes.append(
                {
                    "label": label_name(number, categories),
                    "points": cut_open(polygon).tolist(),
                    "group_id": row + 1 if len(polygons) > 1 else None,
                    "shape_type": "polygon",
                    "flags": {},
                }
            )
    height, width = prediction["masks"].shape[-2:]
    about = {"version": "5.5.0", "flags": {}, "imagePath": image_path, "imageData": None}
    return about | {"imageHeight": height, "imageWidth": width, "shapes": shapes}


def cut_open(polygon: Polygon) -> np.ndarray:
    """One ring out of an outline and its holes: at the nearest points in to the hole, around it, and out again."""
    ring, *holes = polygon
    for hole in holes:
        distances = np.linalg.norm(ring[:, None] - hole, axis=2)
        i, j = np.unravel_index(distances.argmin(), distances.shape)
        ring = np.concatenate([ring[: i + 1], hole[j:], hole[: j + 1], ring[i:]])
    return ring


def save_label_image(prediction: Prediction, path: str | Path, mask_threshold: float = 0.5) -> None:
    """Write a picture of numbers, PNG with 16 bits: 0 where there is nothing, else the instance's row, from 1.

    Where instances overlap, the one with the higher score is on top. `load_mask` reads it; so do ImageJ, CellProfiler
    and napari.

    Raises `ValueError` when the path does not end in .png, or there are more than 65,535 instances.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(
            f"A label image is saved as PNG, since JPEG would change the numbers: not as '{path}'."
        )
    check_prediction(prediction, needs=("labels", "masks"))
    count = len(prediction["labels"])
    if count > 65_535:
        raise ValueError(f"A picture with 16 bits holds 65,535 numbers, but there are {count} instances.")
    numbers = torch.arange(1, count + 1, device=prediction["labels"].device)
    numbered = to_semantic(prediction | {"labels": numbers}, mask_threshold)
    Image.fromarray(numbered.cpu().numpy().astype(np.uint16)).save(path)
