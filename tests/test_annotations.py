"""Ground truth in COCO's format: polygons, RLEs and crowds, and what is wrong with a file."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from unchanged import unchanged

from segutils import DATA_DIR, load_annotations

SQUARE = [[2, 1, 6, 1, 6, 5, 2, 5]]


def write(folder, **changes):
    """Two pictures, and a file with a polygon, one of two parts, and a crowd; then some changes."""
    for name, size in (("a.png", (8, 6)), ("b.png", (5, 4))):
        Image.new("RGB", size, "white").save(folder / name)
    coco = {
        "images": [
            {"id": 30, "file_name": "a.png", "height": 6, "width": 8},
            {"id": 7, "file_name": "b.png", "height": 4, "width": 5},
        ],
        "categories": [{"id": 4, "name": "key"}, {"id": 2, "name": "cup"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 30,
                "category_id": 4,
                "segmentation": SQUARE,
                "bbox": [2, 1, 4, 4],
                "area": 16.5,
            },
            {
                **{"id": 2, "image_id": 30, "category_id": 2, "iscrowd": 1, "bbox": [0, 0, 1, 6], "area": 6},
                "segmentation": {"size": [6, 8], "counts": [0, 6, 42]},
            },
        ],
    }
    for path, value in changes.items():
        *keys, last = path.split("__")
        part = coco
        for key in keys:
            part = part[int(key) if key.isdigit() else key]
        if value is None:
            del part[last]
        else:
            part[last] = value
    (folder / "file.json").write_text(json.dumps(coco), "utf-8")
    return folder / "file.json"


def test_pictures_and_targets(tmp_path):
    file = write(tmp_path)
    with unchanged(tmp_path):
        annotations = load_annotations(str(file), images=str(tmp_path))
        (image, target), (_, nothing) = annotations
    assert annotations.categories == ["__background__", "N/A", "cup", "N/A", "key"] and len(annotations) == 2
    assert image.shape == (3, 6, 8) and target["image_id"] == 30
    assert target["boxes"].tolist() == [[2, 1, 6, 5], [0, 0, 1, 6]]
    assert [annotations.categories[label] for label in target["labels"]] == ["key", "cup"]
    assert target["iscrowd"].tolist() == [0, 1] and target["area"].tolist() == [16.5, 6]
    expected = torch.zeros(2, 6, 8, dtype=torch.uint8)
    expected[0, 1:5, 2:6] = expected[1, :, 0] = 1
    assert torch.equal(target["masks"], expected)
    assert nothing["masks"].shape == (0, 4, 5) and nothing["boxes"].shape == (0, 4)
    assert nothing["labels"].dtype == torch.int64


def test_masks_are_those_of_pycocotools():
    file = DATA_DIR / "scenes" / "instances.json"
    annotations, coco = load_annotations(file, images=DATA_DIR / "scenes"), COCO(file)
    assert len(annotations) == len(coco.imgs) > 5
    for _, target in annotations:
        theirs = [coco.annToMask(a) for a in coco.loadAnns(coco.getAnnIds(imgIds=[target["image_id"]]))]
        assert np.array_equal(target["masks"].numpy(), np.array(theirs).reshape(target["masks"].shape))


def test_polygons_are_filled_as_by_pycocotools(tmp_path):
    random = np.random.default_rng(0)
    polygons = [(random.random(2 * n) * 7).tolist() for n in (3, 5, 8)]
    file = write(tmp_path, annotations__0__segmentation=polygons)
    coco = COCO(file)
    assert np.array_equal(
        load_annotations(file, tmp_path)[0][1]["masks"][0].numpy(), coco.annToMask(coco.anns[1])
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "is not in COCO's format: it has no list of images"),
        ({"annotations": 3, "categories": None}, "no list of annotations and no list of categories"),
        (
            {"categories__0__id": 0},
            "category 'key' has the id 0, but labels start at 1, since 0 is the background",
        ),
        (
            {"categories__0__id": 10**9},
            "has the id 1000000000, .* end at 10000. Number the categories from 1",
        ),
    ],
)
def test_a_faulty_file_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_annotations(write(tmp_path, **changes), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations__0__image_id": 5}, "annotation 1: image_id is 5, which is not in the file"),
        ({"annotations__0__image_id": None}, "annotation 1: image_id is missing"),
        (
            {"annotations__0__category_id": 5},
            r"annotation 1: category_id is 5, which is not .* The categories are 2 \(cup\), 4 \(key\)",
        ),
        (
            {"annotations__0__segmentation": {"size": [8, 6], "counts": [48]}},
            "annotation 1: segmentation.size is for 6 x 8 pixels, and the picture has 8 x 6 .* Was the picture resized",
        ),
        (
            {"annotations__0__segmentation": {"size": [6, 8], "counts": [47]}},
            "annotation 1: segmentation.counts are damaged .* add up to 47 pixels",
        ),
        ({"annotations__0__segmentation": {"size": [6, 8], "counts": [48]}}, "has no pixel. Delete"),
        ({"annotations__0__segmentation": {"counts": "a"}}, 'An RLE is a record with "size" and "counts"'),
        ({"annotations__0__segmentation": []}, r"segmentation is \[\]. It should be an RLE, or polygons"),
        ({"annotations__0__segmentation": None}, "is None. It should be .* The annotation is a box alone"),
        (
            {"annotations__0__segmentation": [[1, 2, 3, 4]]},
            "segmentation has 2 points. A polygon needs three",
        ),
        ({"annotations__0__segmentation": [[1, 2, 3, 4, 5]]}, "should be a list of x and y of each point"),
        ({"annotations__0__segmentation": [[1, 2, 3, 4, 5, "6"]]}, "should be a list of x and y"),
        ({"annotations__0__segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, "is nan. It should be a finite"),
        (
            {"annotations__0__segmentation": [[1, 1, 5, 1, 3, 1]]},
            r"goes from \(1, 1\) to \(5, 1\) and covers no pixel. It is a line, or smaller than a pixel",
        ),
        (
            {"annotations__0__segmentation": [[1, 6, 2, 6, 2, 8]]},
            "outside the picture of 8 x 6 pixels. Are x and y swapped?",
        ),
        (
            {"annotations__0__segmentation": [[20, 6, 22, 6, 22, 8]]},
            "outside the picture of 8 x 6 pixels. Was it drawn on another picture",
        ),
        ({"annotations__0__segmentation": [[0, 0, 1e9, 0, 0, 9]]}, "far beyond the picture of 8 x 6 pixels"),
        (
            {"annotations__0__segmentation": [[0.1, 0.1, 0.4, 0.1, 0.4, 0.4]]},
            "shares of the width and the height, not pixels. Multiply x by 8 and y by 6",
        ),
    ],
)
def test_a_faulty_annotation_is_left_out_and_listed(tmp_path, changes, message):
    file = write(tmp_path, **changes)
    annotations = load_annotations(file, tmp_path)
    [problem] = annotations.problems
    assert re.search(message, str(problem)) and problem.file == str(file)
    assert annotations[0][1]["labels"].tolist() == [2] and len(annotations) == 2  # the others can be used


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images__0__width": 9}, r"a.png', 8 x 6 pixels, but its annotations were made for 9 x 6"),
        ({"images__0__id": 7.5}, "id is 7.5. It should be a whole number or a text"),
        ({"images__0__file_name": None}, "images.0.: file_name is missing"),
        ({"images__0__file_name": "c.png"}, "is 'c.png', and there is no such picture. .* say where"),
        ({"images__0__file_name": "../c.png"}, "Paths out of '.*' are not followed"),
        ({"images__0__file_name": "file.json"}, "file.json', which is not a picture that can be read"),
    ],
)
def test_a_picture_that_cannot_be_used_is_left_out_and_listed(tmp_path, changes, message):
    annotations = load_annotations(write(tmp_path, **changes), tmp_path)
    assert re.search(message, str(annotations.problems[0]))
    assert [picture.name for picture in annotations.pictures] == ["b.png"]


@pytest.mark.parametrize(("said", "expected"), [([0, 1], [0, 1]), ([1, 0], [1, 0]), (["b", "a"], [1, 2])])
def test_ids_of_pictures_stay_where_they_are_numbers(tmp_path, said, expected):
    file = write(tmp_path, images__0__id=said[0], images__1__id=said[1], annotations__0__image_id=said[0])
    annotations = load_annotations(file, tmp_path)
    assert [target["image_id"] for _, target in annotations] == expected
    assert [image["id"] for image in annotations.to_coco()["images"]] == expected


def test_an_outline_that_would_fill_the_memory_is_refused(tmp_path):
    zigzag = [value for _ in range(60_000) for value in (-20, 1, 30, 5)]
    file = write(tmp_path, annotations__0__segmentation=[zigzag])
    [problem] = load_annotations(file, tmp_path).problems
    assert "segmentation is an outline 6.48e+06 pixels long. Draw it again" in str(problem)


def test_boxes_and_areas_are_those_of_the_mask_where_the_file_has_none(tmp_path):
    file = write(
        tmp_path, annotations__0__bbox=None, annotations__0__area=None, annotations__1__bbox=[1, 2, 0, 3]
    )
    annotations = load_annotations(file, tmp_path)
    target = annotations[0][1]
    assert target["boxes"].tolist() == [[2, 1, 6, 5], [0, 0, 1, 6]] and target["area"].tolist() == [16, 6]
    assert ["bbox" in str(problem) for problem in annotations.problems] == [True]  # the one without a width


def test_missing_files(tmp_path):
    file = write(tmp_path)
    with pytest.raises(
        NotADirectoryError, match="nowhere' is not a folder. It should be the one with the pictures"
    ):
        load_annotations(file, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="There is no file or folder '.*other.json'"):
        load_annotations(tmp_path / "other.json", tmp_path)
    annotations = load_annotations(file, tmp_path)
    Image.new("RGB", (6, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png' is 6 x 8 pixels, but its annotations were made for 8 x 6"):
        annotations[0]
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match="There is no file '.*a.png'"):
        annotations[0]
    (tmp_path / "b.png").unlink()
    with pytest.raises(ValueError, match="Nothing in '.*file.json' can be used. .*a.png.*b.png"):
        load_annotations(file, tmp_path)
    file.write_text("{", "utf-8")
    with pytest.raises(ValueError, match="is not a JSON file that can be read"):
        load_annotations(file, tmp_path)
