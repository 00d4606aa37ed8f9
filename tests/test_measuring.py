"""Numbers, outlines and files from masks: by hand on shapes that are known, and read back by others' tools."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from skimage.draw import ellipse
from skimage.measure import regionprops_table
from unchanged import unchanged

from segutils import (
    RoIMasks,
    from_polygons,
    load_annotations,
    load_mask,
    measure_instances,
    render_scene,
    save_label_image,
    to_coco,
    to_coco_dataset,
    to_labelme,
    to_polygons,
)

NAMES = ["__background__", "cup", "N/A", "key"]


def drawn(*pictures):
    """Boolean masks of words, one for each row: "##.. ...." is a mask of 2 x 4."""
    return torch.tensor([[[pixel == "#" for pixel in row] for row in p.split()] for p in pictures])


def instances(masks, labels=None, scores=None):
    count = len(masks)
    return {
        "labels": torch.tensor(labels or [1] * count, dtype=torch.int64),
        "scores": torch.tensor(scores or [0.9] * count),
        "masks": masks,
    }


def random_prediction(seed=0, count=8, size=(90, 100)):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 80 - 10
    boxes = torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 50 + 3], dim=1)
    probs = torch.rand(count, 1, 28, 28, generator=generator)
    return instances(RoIMasks(probs, boxes, size), [1, 3] * (count // 2), [0.9, 0.8] * (count // 2))


# --- measure_instances --------------------------------------------------------------------------------------


def test_a_small_thing_by_hand():
    mask = drawn("...... .####. .#..#. .####. .....#")
    image = torch.zeros(3, 5, 6, dtype=torch.uint8)
    image[0], image[1] = 200, torch.arange(6)
    prediction = instances(mask, [3], [0.5])
    with unchanged(prediction, image):
        table = measure_instances(prediction, image, pixel_size=0.5, categories=NAMES)
    row = {name: column.tolist()[0] for name, column in table.items()}
    assert (row["label"], row["name"], row["score"], row["area"]) == (3, "key", 0.5, 11)
    assert [row[side] for side in ("x1", "y1", "x2", "y2")] == [1, 1, 6, 5]
    assert (row["x"], row["y"]) == pytest.approx((30 / 11 + 0.5, 24 / 11 + 0.5))
    assert (row["pieces"], row["holes"], row["touches_border"]) == (1, 1, True)
    assert (row["red"], row["blue"]) == (200, 0) and row["green"] == pytest.approx(30 / 11)
    assert row["area_mm2"] == 11 / 4 and row["perimeter_mm"] == row["perimeter"] / 2
    assert row["equivalent_diameter_mm"] == pytest.approx(math.sqrt(11 / math.pi))


@pytest.mark.parametrize(("turn", "orientation"), [(0, 0), (30, 30), (90, 90), (150, 150)])
def test_an_ellipse_has_its_axes_and_its_orientation(turn, orientation):
    mask = np.zeros((1, 240, 300), dtype=bool)
    mask[0][ellipse(120, 150, 40, 90, mask[0].shape, rotation=math.radians(turn))] = True
    table = measure_instances({"labels": torch.tensor([1]), "masks": torch.from_numpy(mask)})
    assert "score" not in table and "red" not in table and "area_mm2" not in table
    values = {name: float(column[0]) for name, column in table.items() if name != "name"}
    assert values["area"] == pytest.approx(math.pi * 40 * 90, rel=0.01)
    assert values["major_axis"] == pytest.approx(180, rel=0.01)
    assert values["minor_axis"] == pytest.approx(80, rel=0.01)
    assert abs((values["orientation"] - orientation + 90) % 180 - 90) < 0.5
    assert values["eccentricity"] == pytest.approx(math.sqrt(1 - (40 / 90) ** 2), abs=0.01)
    assert values["solidity"] > 0.98 and not values["touches_border"]
    assert (values["x"], values["y"]) == pytest.approx((150.5, 120.5))  # the centre of the pixel


def test_crops_give_what_scikit_image_gives_for_whole_masks():
    prediction = random_prediction()
    table = measure_instances(prediction)
    for row, mask in enumerate(prediction["masks"].paste()):
        names = ("area", "perimeter", "axis_major_length", "eccentricity", "solidity", "centroid")
        theirs = regionprops_table(mask.numpy().astype(np.uint8), properties=names)
        ours = ("area", "perimeter", "major_axis", "eccentricity", "solidity")
        for name, their_name in zip(ours, names):
            assert table[name][row] == pytest.approx(theirs[their_name][0])
        assert table["x"][row] == pytest.approx(theirs["centroid-1"][0] + 0.5)
        assert table["touches_border"][row] == bool(mask.sum() - mask[2:-2, 2:-2].sum())


def test_nothing_and_empty_masks_have_all_columns():
    image, options = torch.zeros(3, 2, 4, dtype=torch.uint8), {"pixel_size": 2, "categories": NAMES}
    full = measure_instances(instances(drawn("##.. ....", ".... ....")), image, **options)
    none = measure_instances(instances(drawn("##..  ....")[:0]), image, **options)
    assert list(none) == list(full) and all(len(column) == 0 for column in none.values())
    assert [none[name].dtype for name in none] == [full[name].dtype for name in full]
    assert full["area"].tolist() == [2, 0] and full["pieces"].tolist() == [1, 0]
    assert math.isnan(full["perimeter"][1]) and math.isnan(full["red"][1]) and not full["touches_border"][1]


def test_pieces_and_holes_are_counted():
    pictures = ["#.#. .... #.#.", "##.. ##.. ..##", "#### #.## ##.#", ".##. #..# .##."]
    table = measure_instances(instances(drawn(*pictures)))
    assert table["pieces"].tolist() == [4, 1, 1, 1]
    assert table["holes"].tolist() == [0, 0, 1, 1]


def test_the_table_shows_itself_and_goes_to_csv(tmp_path):
    table = measure_instances(instances(drawn("##.. ....", ".... ...."), [1, 2]), categories=["", "<cup>"])
    text = table._repr_html_()
    assert text.count("<tr>") == 3 and "<td>&lt;cup&gt;</td>" in text and "nan" not in text
    assert "<tr><th>2</th><td>2</td>" in text
    table.to_csv(tmp_path / "table.csv")
    rows = list(csv.DictReader(open(tmp_path / "table.csv", encoding="utf-8")))
    assert [row["area"] for row in rows] == ["2", "0"] and rows[0]["name"] == "<cup>"
    assert list(rows[0]) == list(table)


def test_some_columns_and_rows_of_a_table():
    table = measure_instances(
        instances(drawn("##.. ....", "#... ...."), [1, 3], [0.5, 0.25]), categories=NAMES
    )
    with unchanged(table):
        small = table.columns("area", "name", "touches_border").rows(table["area"] < 2)
        assert {name: column.tolist() for name, column in small.items()} == {
            "area": [1],
            "name": ["key"],
            "touches_border": [True],
        }
        assert table.rows([1, 0])["score"].tolist() == [0.25, 0.5]
        assert repr(table.columns("area", "score")) == "   area  score\n1     2   0.50\n2     1   0.25"
    nothing = table.rows(slice(0))
    assert list(nothing) == list(table) and repr(nothing.columns("area")) == "  area"
    assert nothing._repr_html_().count("<tr>") == 1
    with pytest.raises(KeyError, match="The table has no column 'aera'. It has: label, name, score, area, "):
        table.columns("aera")


def test_a_mask_near_the_border_may_be_cut_off():
    masks = torch.zeros(5, 20, 30, dtype=torch.bool)
    boxes = [(2, 2, 18, 28), (1, 2, 18, 28), (2, 1, 18, 28), (2, 2, 19, 28), (2, 2, 18, 29)]
    for mask, (top, left, bottom, right) in zip(masks, boxes):
        mask[top:bottom, left:right] = True
    assert measure_instances(instances(masks))["touches_border"].tolist() == [False, True, True, True, True]


def test_bad_input_is_refused():
    prediction = instances(drawn("##.. ...."))
    for size in (0, -1, math.nan, math.inf, True, "1"):
        with pytest.raises(
            ValueError, match="pixel_size is the side of a pixel in millimetres, above 0, not"
        ):
            measure_instances(prediction, pixel_size=size)
    for picture, what in (
        (torch.zeros(3, 4, 2, dtype=torch.uint8), r"torch.uint8 \[3, 4, 2\]"),
        (torch.zeros(3, 2, 4), r"torch.float32 \[3, 2, 4\]"),  # its colours would be 0 to 1
    ):
        with pytest.raises(ValueError, match=rf"uint8 \[3, 2, 4\], of the masks' size, not {what}"):
            measure_instances(prediction, picture)
    with pytest.raises(ValueError, match="has no masks"):
        measure_instances({"labels": prediction["labels"]})


# --- polygons -----------------------------------------------------------------------------------------------


def test_polygons_without_tolerance_come_back_exactly():
    random = np.random.default_rng(0)
    masks = torch.from_numpy(random.random((200, 9, 12)) < random.random((200, 1, 1)))
    with unchanged(masks):
        everything = to_polygons(masks, tolerance=0)
    assert all(torch.equal(from_polygons(p, (9, 12)), mask) for p, mask in zip(everything, masks))


def test_pieces_and_holes_have_rings_of_their_own():
    everything = to_polygons(drawn("####..# #..#..# ####...", "....... ....... ......."))
    assert [[len(piece) for piece in polygons] for polygons in everything] == [[2, 1], []]
    outline = everything[0][0][0]
    assert outline.min(axis=0).tolist() == [0, 0] and outline.max(axis=0).tolist() == [4, 3]


def test_polygons_of_drawn_scenes_come_back_nearly():
    for seed in range(20_000, 20_004):
        masks = render_scene(seed)[1]["masks"].bool()
        for polygons, mask in zip(to_polygons(masks), masks):
            back = from_polygons(polygons, mask.shape)
            assert (back & mask).sum() >= 0.98 * (back | mask).sum()
            assert sum(len(ring) for piece in polygons for ring in piece) < mask.sum() ** 0.5 * 8


# --- files --------------------------------------------------------------------------------------------------


def test_results_in_coco_s_format():
    predictions = [random_prediction(0), random_prediction(1)]
    with unchanged(predictions):
        results = to_coco(predictions, image_ids=[7, 3])
    assert json.loads(json.dumps(results)) == results
    assert [result["image_id"] for result in results] == [7] * 8 + [3] * 8
    pasted = torch.cat([p["masks"].paste() for p in predictions])
    for result, mask, label in zip(results, pasted, [1, 3] * 8):
        assert result["category_id"] == label and "bbox" not in result
        expected = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        assert result["segmentation"] == {"size": [90, 100], "counts": expected["counts"].decode()}
    assert [result["image_id"] for result in to_coco(predictions)] == [1] * 8 + [2] * 8


def test_a_dataset_in_coco_s_format_comes_back(tmp_path):
    image, target = render_scene(3)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "scene.png")
    target = target | {"iscrowd": torch.arange(len(target["labels"])) % 2}
    names = ["__background__", *[f"class {n}" for n in range(1, 12)]]
    with unchanged(target):
        dataset = to_coco_dataset([target], ["scene.png"], names)
    (tmp_path / "scene.json").write_text(json.dumps(dataset), "utf-8")
    annotations = load_annotations(tmp_path / "scene.json", images=tmp_path)
    assert annotations.categories == names and len(annotations) == 1
    back, found = annotations[0]
    assert torch.equal(back, image)
    for key in ("boxes", "labels", "masks", "iscrowd"):
        assert torch.equal(found[key], target[key]), key
    assert found["area"].tolist() == target["masks"].sum(dim=(1, 2)).tolist() and found["image_id"] == 1


def test_files_need_as_many_names_as_pictures():
    prediction = random_prediction()
    with pytest.raises(ValueError, match="There are 1 targets but 2 names of files"):
        to_coco_dataset([prediction], ["a", "b"], NAMES)
    with pytest.raises(ValueError, match="There are 1 pictures but 2 image_ids"):
        to_coco([prediction], image_ids=[1, 2])
    with pytest.raises(TypeError, match=r"Put the dict in a list: \[prediction\]"):
        to_coco(prediction)
    with pytest.raises(ValueError, match="Picture 1 has no scores"):
        to_coco([{key: prediction[key] for key in ("labels", "masks")}])


def test_labelme_gets_polygons_with_holes_cut_open():
    masks = drawn("####..# #..#..# ####...", "####... ####... .......")
    prediction = instances(masks, [1, 3])
    with unchanged(prediction):
        labelme = to_labelme(prediction, "a.jpg", NAMES)
    assert json.loads(json.dumps(labelme)) == labelme
    assert (labelme["imagePath"], labelme["imageHeight"], labelme["imageWidth"]) == ("a.jpg", 3, 7)
    assert [(s["label"], s["group_id"]) for s in labelme["shapes"]] == [("cup", 1), ("cup", 1), ("key", None)]
    rings = [np.array(shape["points"]) for shape in labelme["shapes"]]
    assert torch.equal(from_polygons([rings[:1], rings[1:2]], (3, 7)), masks[0])
    assert torch.equal(from_polygons([rings[2:]], (3, 7)), masks[1])


def test_a_label_image_numbers_the_instances(tmp_path):
    masks = drawn("##.. ##..", ".##. .##.", "...# ....")
    prediction = instances(masks, [3, 3, 1], [0.5, 0.9, 0.1])
    with unchanged(prediction):
        save_label_image(prediction, tmp_path / "numbers.png")
    assert load_mask(tmp_path / "numbers.png").tolist() == [[1, 2, 2, 3], [1, 2, 2, 0]]
    assert Image.open(tmp_path / "numbers.png").mode == "I;16"
    many = {"labels": torch.ones(300).long(), "masks": torch.eye(300, dtype=torch.bool)[:, None]}
    save_label_image(many, tmp_path / "many.png")
    assert load_mask(tmp_path / "many.png").tolist() == [list(range(1, 301))]
    with pytest.raises(ValueError, match="saved as PNG, since JPEG would change the numbers: not as 'a.jpg'"):
        save_label_image(prediction, "a.jpg")
