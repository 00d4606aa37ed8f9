"""What labelling tools write: LabelMe, VIA, CVAT, YOLO and masks, told apart, read, and written again."""

import base64
import io
import json
import re

import make_reader_results as other
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy.ndimage import binary_dilation
from unchanged import unchanged

from segutils import ImageLoadError, load_annotations

WIDTH, HEIGHT = 24, 16
SQUARE = [[2, 1], [8, 1], [8, 5], [2, 5]]
DONUT = np.pad(np.ones((9, 9), bool) ^ np.pad(np.ones((3, 3), bool), 3), ((4, 3), (10, 5)))


def draw(path, size=(WIDTH, HEIGHT), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "white").save(path, **options)
    return path


def box_mask(left, top, right, bottom, size=(HEIGHT, WIDTH)):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def png(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def read(path, *args, **options):
    """Class and mask of each thing of the first picture, and the problems as text."""
    annotations = load_annotations(path, *args, **options)
    _, target = annotations[0]
    names = [annotations.categories[label] for label in target["labels"]]
    return names, target["masks"].numpy().astype(bool), [str(problem) for problem in annotations.problems]


def same(masks, *expected):
    return len(masks) == len(expected) and all(map(np.array_equal, masks, expected))


# --- LabelMe ------------------------------------------------------------------------------------------------


def labelme(folder, *shapes, name="a.json", **changes):
    record = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "a.png",
        "imageData": None,
    }
    record |= {"imageHeight": HEIGHT, "imageWidth": WIDTH} | changes
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(record), "utf-8")
    return folder / name


def shape(label="cup", points=SQUARE, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}} | more


def test_labelme_shapes(tmp_path):
    draw(tmp_path / "a.png")
    file = labelme(
        tmp_path,
        shape(),
        shape("key", [[8, 5], [2, 1]], "rectangle"),
        shape("coin", [[12, 8], [12, 3]], "circle"),
        shape("donut", [[10, 4], [18, 12]], "mask", mask=png(DONUT[4:13, 10:19])),
        shape(flags={"iscrowd": True}, shape_type=None),
    )
    with unchanged(tmp_path):
        annotations = load_annotations(file)
        [(_, target)] = annotations
    assert annotations.problems == []
    assert annotations.categories == ["__background__", "coin", "cup", "donut", "key"]
    assert target["labels"].tolist() == [2, 4, 1, 3, 2] and target["iscrowd"].tolist() == [0, 0, 0, 0, 1]
    masks = target["masks"].numpy()
    for row in (0, 1, 4):
        assert np.array_equal(masks[row], box_mask(2, 1, 8, 5))
    assert np.array_equal(masks[3], DONUT)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    distance = np.hypot(x - 12, y - 8)
    assert masks[2][distance < 4.7].all() and not masks[2][distance > 5.3].any()
    assert target["boxes"][0].tolist() == [2, 1, 8, 5] and target["area"][0] == 24


def test_labelme_groups_are_one_thing(tmp_path):
    draw(tmp_path / "a.png")
    pieces = [shape(points=[[x, 2], [x + 3, 2], [x + 3, 6], [x, 6]], group_id=1) for x in (1, 10)]
    names, masks, problems = read(labelme(tmp_path, pieces[0], shape("key", group_id=1), pieces[1]))
    assert names == ["cup", "key"] and problems == []
    assert same(masks, box_mask(1, 2, 4, 6) | box_mask(10, 2, 13, 6), box_mask(2, 1, 8, 5))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape(kind="linestrip"), "shape_type is 'linestrip', which has no inside. Draw it as a polygon"),
        (shape(kind="circle"), "points of the circle are 4, not 2"),
        (shape(points=[[1, 1], [1, 1]], kind="circle"), "radius is 0. Delete the shape"),
        (shape(points=[[1, 1]]), "points has 1 point. A polygon needs three"),
        (shape(points=[[1, 1], [2, None], [3, 3]]), "points is .* It should be a list of x and y"),
        (shape(points={}), "points is {}. It should be a list"),
        (shape(label=" "), "label is ' '. Give it the name of a class"),
        (shape(label="_background_"), ".* and the background needs no mask"),
        (shape(group_id=[1]), r"group_id is \[1\]. It should be a whole number or a text"),
        (shape(points=[[0, 0], [2, 2]], kind="mask", mask="%"), "mask is damaged"),
        (shape(points=[[0, 0], [2, 2]], kind="mask", mask="aaaa"), "mask is no mask that can be read"),
        (shape(points=[[0, 0], [5, 5]], kind="mask", mask=png(DONUT)), "mask has 24 x 16 pixels, and its"),
        (shape(points=[[30, 0], [39, 0], [39, 9]]), ".* outside the picture of 24 x 16"),
        ("cup", r"label should be in a record, but there is 'cup'"),
    ],
)
def test_labelme_shapes_that_cannot_be_used_are_listed(tmp_path, wrong, message):
    draw(tmp_path / "a.png")
    file = labelme(tmp_path, wrong, shape("key"))
    names, _, [problem] = read(file)
    assert names == ["key"] and re.search(rf"'{re.escape(str(file))}', shapes\[0\]: {message}", problem)


def test_labelme_pictures_inside_the_file(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    data = base64.b64encode(buffer.getvalue()).decode()
    annotations = load_annotations(labelme(tmp_path, shape(), imagePath="..\\x\\gone.png", imageData=data))
    picture, target = annotations[0]
    assert np.array_equal(picture.permute(1, 2, 0).numpy(), np.array(image)) and len(target["labels"]) == 1
    [written] = annotations.to_labelme(tmp_path / "again")
    assert torch.equal(load_annotations(written)[0][0], picture)
    broken = labelme(tmp_path, shape(), imagePath="gone.png", imageData=data[:200])
    with pytest.raises(ImageLoadError, match="a.json' holds a picture that is damaged or cut short"):
        load_annotations(broken)[0]
    with pytest.raises(ValueError, match="imageData is a picture inside the file, which cannot be read"):
        load_annotations(labelme(tmp_path, shape(), imagePath="gone.png", imageData="aaaa"))


# --- where the pictures are ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "b/a.png",
        "./b/a.png",
        "C:\\Users\\me\\photos\\b\\a.png",
        "/home/me/photos/a.png",
        "..\\photos\\b\\a.png",
        "A.PNG",
        "gone.png",  # the picture has been renamed, and the file of annotations with it
    ],
)
def test_pictures_are_found_where_they_are_now(tmp_path, said):
    draw(tmp_path / "photos" / "b" / "a.png")
    draw(tmp_path / "photos" / "c" / "other.png")
    file = labelme(tmp_path / "labels", shape(), imagePath=said)
    [picture] = load_annotations(file, images=tmp_path / "photos").pictures
    assert picture.path == tmp_path / "photos" / "b" / "a.png"


def test_of_two_pictures_of_one_name_the_folder_decides(tmp_path):
    for folder in "bc":
        draw(tmp_path / "photos" / folder / "a.png")
        labelme(tmp_path / "labels", shape(), imagePath="a.png", name=f"{folder}/a.json")
    annotations = load_annotations(tmp_path / "labels", images=tmp_path / "photos")
    assert [picture.path.parent.name for picture in annotations.pictures] == ["b", "c"]
    file = labelme(tmp_path / "labels", shape(), imagePath="a.png", name="a.json")
    with pytest.raises(ValueError, match="a.png', and that may be .* Give the pictures different names"):
        load_annotations(file, images=tmp_path / "photos")


@pytest.mark.parametrize(
    "said", ["../secret.png", "b/../../secret.png", "{}/secret.png", "https://x.org/s.png"]
)
def test_no_picture_outside_the_folder_is_read(tmp_path, said):
    draw(tmp_path / "secret.png")
    draw(tmp_path / "photos" / "b" / "other.png")
    file = labelme(tmp_path / "photos", shape(), imagePath=said.format(tmp_path))
    with pytest.raises(ValueError, match="there is no such picture"):
        load_annotations(file)


def test_one_picture_with_two_entries(tmp_path):
    draw(tmp_path / "a.png")
    labelme(tmp_path, shape())
    labelme(tmp_path, shape("key"), name="b.json")
    annotations = load_annotations(tmp_path)
    assert len(annotations) == 1 and "Put the things of both into one" in str(annotations.problems[0])


def test_pictures_without_labels(tmp_path):
    draw(tmp_path / "a.png")
    forgotten = draw(tmp_path / "new" / "b.jpg")
    labelme(tmp_path, shape())
    (tmp_path / "notes.txt").write_text("nothing")
    assert load_annotations(tmp_path).unlabelled() == [forgotten]


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("drawn", ["before", "upright"])
def test_annotations_of_turned_photographs(tmp_path, orientation, drawn):
    exif = Image.Exif()
    exif[274] = orientation
    draw(tmp_path / "a.jpg", exif=exif)
    mask = box_mask(2, 1, 8, 5) | DONUT
    shapes = [shape(), shape("donut", [[0, 0], [23, 15]], "mask", mask=png(mask))]
    expected = [box_mask(2, 1, 8, 5), mask]
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    if orientation > 4:
        if drawn == "upright":
            shapes[1] = shape("donut", [[0, 0], [15, 23]], "mask", mask=png(mask.T))
            expected = [box_mask(2, 1, 8, 5, (WIDTH, HEIGHT)), mask.T]
            size = {"imageHeight": WIDTH, "imageWidth": HEIGHT}
        else:
            expected = []
            for one in (box_mask(2, 1, 8, 5), mask):
                picture = Image.fromarray(one)
                picture.getexif()[274] = orientation
                expected.append(np.array(ImageOps.exif_transpose(picture)))
    annotations = load_annotations(labelme(tmp_path, *shapes, imagePath="a.jpg", **size))
    image, target = annotations[0]
    assert annotations.pictures[0].orientation == (
        orientation if orientation > 4 and drawn == "before" else 1
    )
    assert same(target["masks"].numpy().astype(bool), *expected)
    assert tuple(image.shape[1:]) == expected[0].shape


# --- VIA ----------------------------------------------------------------------------------------------------


def via_2(folder, *regions, project=True, **more):
    files = {"a.png123": {"filename": "a.png", "size": 123, "regions": list(regions), "file_attributes": {}}}
    record = {"_via_img_metadata": files, "_via_settings": {}, **more} if project else files
    (folder / "via.json").write_text(json.dumps(record), "utf-8")
    return folder / "via.json"


def region(name="polygon", label="cup", **numbers):
    numbers = numbers or {"all_points_x": [2, 8, 8, 2], "all_points_y": [1, 1, 5, 5]}
    return {"shape_attributes": {"name": name, **numbers}, "region_attributes": {"label": label}}


@pytest.mark.parametrize("project", [True, False])
def test_via_2(tmp_path, project):
    draw(tmp_path / "a.png")
    file = via_2(
        tmp_path,
        region(),
        region("rect", "key", x=2, y=1, width=6, height=4),
        region("circle", "coin", cx=12, cy=8, r=5),
        region("ellipse", "coin", cx=12, cy=8, rx=5, ry=2, theta=np.pi / 2),
        region("point", cx=3, cy=3),
        region(label=""),
        project=project,
    )
    names, masks, problems = read(file)
    assert names == ["cup", "key", "coin", "coin"]
    assert same(masks[:2], box_mask(2, 1, 8, 5), box_mask(2, 1, 8, 5))
    tall = np.argwhere(masks[3])
    assert np.ptp(tall, axis=0).tolist() == [9, 3]  # turned: higher than wide
    assert re.search(r"a.png, regions\[4\]: name is 'point', which has no inside", problems[0])
    assert re.search(r"a.png, regions\[5\]: region_attributes name no class", problems[1])


def test_via_2_says_which_attribute_and_option_is_the_class(tmp_path):
    draw(tmp_path / "a.png")
    several = region() | {"region_attributes": {"colour": "red", "Type": "2", "iscrowd": "1"}}
    ticked = region() | {"region_attributes": {"Type": {"1": True, "2": False}}}
    unclear = region() | {"region_attributes": {"colour": "red", "shape": "round"}}
    attributes = {"region": {"Type": {"type": "radio", "options": {"1": "cup", "2": "key"}}}, "file": {}}
    file = via_2(tmp_path, several, ticked, unclear, _via_attributes=attributes)
    annotations = load_annotations(file)
    assert [thing.name for thing in annotations.pictures[0].things] == ["key", "cup"]
    assert annotations[0][1]["iscrowd"].tolist() == [1, 0]
    assert "are 'colour, shape', and none of these names is a class's. Call the" in str(
        annotations.problems[0]
    )


def via_3(folder):
    """One region of each kind, then three that cannot be used, and a video."""
    regions = [
        [7, 2, 1, 8, 1, 8, 5, 2, 5],
        [2, 2, 1, 6, 4],
        [3, 12, 8, 5],
        [4, 12, 8, 5, 2],
        [8, 2, 3, 5, 1, 8, 3, 5, 5],
        [9, 7, 8, 17, 8, 12, 3],
        [1, 3, 3],
        [2, 1, 1],
        [],
    ]
    record = {
        "project": {"pid": "x"},
        "attribute": {"1": {"aname": "kind", "type": 4, "options": {"0": "cup", "1": "key"}}},
        "file": {
            "1": {"fid": "1", "fname": "a.png", "type": 2},
            "2": {"fid": "2", "fname": "v.mp4", "type": 4},
        },
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
        "metadata": {
            f"m{n}": {"vid": "1", "flg": 0, "z": [], "xy": xy, "av": {"1": str(n % 2)}}
            for n, xy in enumerate(regions)
        },
    }
    (folder / "via.json").write_text(json.dumps(record), "utf-8")
    return folder / "via.json"


def test_via_3(tmp_path):
    draw(tmp_path / "a.png")
    names, masks, problems = read(via_3(tmp_path))
    assert names == ["cup", "key", "cup", "key", "cup", "key"]
    for row in (0, 1, 4):
        assert np.array_equal(masks[row], box_mask(2, 1, 8, 5))
    assert np.array_equal(masks[2], masks[5]) and 70 < masks[2].sum() < 86
    assert 24 <= masks[3].sum() <= 38
    for problem, message in zip(
        problems,
        [
            "view '2': type of 'v.mp4' is no picture's .* Save the frames as pictures",
            "metadata 'm6': xy is 1, which has no inside",
            "metadata 'm7': xy has 2 numbers, not 4",
            "metadata 'm8': xy is empty: it is about the whole picture",
        ],
        strict=True,
    ):
        assert re.search(message, problem)


# --- CVAT ---------------------------------------------------------------------------------------------------


def cvat(folder, shapes, head="", size=f'width="{WIDTH}" height="{HEIGHT}"'):
    (folder / "annotations.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>{head}<annotations><version>1.1</version><meta><task><labels>'
        "<label><name>key</name></label><label><name>cup</name></label></labels></task></meta>"
        f'<image id="0" name="b/a.png" {size}>{shapes}</image></annotations>',
        "utf-8",
    )
    return folder / "annotations.xml"


def test_cvat(tmp_path):
    draw(tmp_path / "images" / "a.png")
    runs = np.flatnonzero(np.diff(np.concatenate([[0], DONUT[4:13, 10:19].ravel(), [0]])))
    runs = np.diff(np.concatenate([[0], runs, [81]] if runs[-1] < 81 else [[0], runs]))
    file = cvat(
        tmp_path,
        '<polygon label="cup" points="2.0,1.0;8.0,1.0;8.0,5.0;2.0,5.0" z_order="0"/>'
        '<box label="key" xtl="2" ytl="1" xbr="8" ybr="5"/>'
        '<box label="key" xtl="3" ytl="0" xbr="7" ybr="6" rotation="90"/>'
        '<ellipse label="cup" cx="12" cy="8" rx="5" ry="2" rotation="90"/>'
        f'<mask label="donut" left="10" top="4" width="9" height="9" rle="{", ".join(map(str, runs))}"/>'
        '<polygon label="cup" points="1,2;4,2;4,6;1,6" group_id="3"/>'
        '<polygon label="cup" points="10,2;13,2;13,6;10,6" group_id="3">'
        '<attribute name="is_crowd">true</attribute></polygon>'
        '<polyline label="cup" points="1,2;4,2;4,6"/><tag label="cup"/>'
        '<polygon label="cup" points="1;2"/><mask label="cup" left="0" top="0" width="2" height="2" rle="9"/>'
        '<box label="cup" xtl="a" ytl="1" xbr="2" ybr="3"/>',
    )
    annotations = load_annotations(file)
    _, target = annotations[0]
    assert annotations.categories == ["__background__", "key", "cup", "donut"]
    assert target["labels"].tolist() == [2, 1, 1, 2, 3, 2] and target["iscrowd"].tolist() == [
        0,
        0,
        0,
        0,
        0,
        1,
    ]
    masks = target["masks"].numpy().astype(bool)
    assert same(masks[:3], *[box_mask(2, 1, 8, 5)] * 3)
    assert np.ptp(np.argwhere(masks[3]), axis=0).tolist() == [9, 3]
    assert same(masks[4:], DONUT, box_mask(1, 2, 4, 6) | box_mask(10, 2, 13, 6))
    for problem, message in zip(
        map(str, annotations.problems),
        [
            "polyline 8: shape is a 'polyline', which has no inside",
            "tag 9: shape is a 'tag'",
            "polygon 10: points is .* x and y of each point",
            "mask 11: rle is damaged .* add up to 9",
            "box 12: xtl is 'a'. It should be a number",
        ],
        strict=True,
    ):
        assert re.search(f"b/a.png, {message}", problem)


def test_cvat_files_that_are_refused(tmp_path):
    draw(tmp_path / "a.png")
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    with pytest.raises(ValueError, match="annotations.xml' is not an XML file .* it has a DOCTYPE"):
        load_annotations(cvat(tmp_path, '<box label="&b;" xtl="2" ytl="1" xbr="8" ybr="5"/>', head=bomb))
    file = tmp_path / "annotations.xml"
    file.write_text('<annotations><track id="0" label="cup"/></annotations>')
    with pytest.raises(ValueError, match='has tracks: .* Export it again as "CVAT for images 1.1"'):
        load_annotations(file)
    file.write_text("<annotation><object/></annotation>")
    with pytest.raises(ValueError, match="is in Pascal VOC's format, which has boxes and no masks"):
        load_annotations(file)
    file.write_text("<annotations><image>")
    with pytest.raises(ValueError, match="is not an XML file that can be read: no element found"):
        load_annotations(file)


# --- YOLO ---------------------------------------------------------------------------------------------------


def yolo(folder, text, names=None, name="train/a.txt"):
    draw(folder / "images" / "train" / "a.png")
    draw(folder / "images" / "val" / "a.png")
    (folder / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "labels" / name).write_text(text)
    if names:
        (folder / "data.yaml").write_text(f"path: ../x # here\ntrain: images/train\n{names}\nnc: 2\n")
    return folder / "labels" / "train"


LINE = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in SQUARE)


@pytest.mark.parametrize(
    "names",
    [
        "names: ['cup', \"green key\"]",
        "names: [cup, green key]",
        "names:\n- cup\n- green key",
        "names:\n  - cup # a comment\n  - 'green key'\n",
        "names:\n  0: cup\n  1: green key",
        "names: {0: cup, 1: 'green key'}",
        "names: [\n  'cup',\n  'green key',\n]",
    ],
)
def test_yolo(tmp_path, names):
    folder = yolo(tmp_path, f"1 {LINE}\n\n0 {LINE}\n", names)
    annotations = load_annotations(folder)
    _, target = annotations[0]
    assert annotations.categories == ["__background__", "cup", "green key"] and annotations.problems == []
    assert target["labels"].tolist() == [2, 1]
    assert same(target["masks"].numpy().astype(bool), *[box_mask(2, 1, 8, 5)] * 2)
    assert annotations.pictures[0].path == tmp_path / "images" / "train" / "a.png"


def test_yolo_of_a_whole_data_set_and_without_names(tmp_path):
    yolo(tmp_path, f"1 {LINE}")
    yolo(tmp_path, "", name="val/a.txt")
    annotations = load_annotations(tmp_path)
    assert [picture.path.parent.name for picture in annotations.pictures] == ["train", "val"]
    assert annotations.categories == ["__background__", "class 0", "class 1"]
    assert "Put a data.yaml beside the files" in str(annotations.problems[0])
    assert [len(target["labels"]) for _, target in annotations] == [1, 0]
    named = load_annotations(tmp_path, categories=["__background__", "cup", "key"])
    assert named.problems == [] and named.pictures[0].things[0].name == "key"
    (tmp_path / "classes.txt").write_text("cup\nkey\n")
    assert load_annotations(tmp_path).categories == ["__background__", "cup", "key"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"7 {LINE}", "the class is 7, and there are 2 names, counted from 0"),
        (f"x {LINE}", "the class is 'x'. It should be a whole number"),
        ("0 .5 .5 .2 .2", "are a box .* Export the labels for segmentation"),
        (f"0 {LINE} .9", "one too many for x and y. Is the last one a score"),
        ("0 2 1 8 1 8 5", "go up to 8. They should be shares .* not pixels"),
        ("0 .1 .1 .2 .2 a b", "They should be numbers from 0 to 1"),
        ("0 .1 .1 .2 .2 nan .1", "is nan. It should be a finite number"),
    ],
)
def test_yolo_lines_that_cannot_be_used_are_listed(tmp_path, line, message):
    names, _, [problem] = read(yolo(tmp_path, f"1 {LINE}\n{line}\n", "names: [cup, key]"))
    assert names == ["key"] and re.search(f"a.txt', line 2: .*{message}", problem)


# --- masks --------------------------------------------------------------------------------------------------


def save_mask(path, mask, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(mask.astype(np.uint8))
    if palette:
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    picture.save(path)


def numbered(*masks):
    return sum(number * mask for number, mask in enumerate(masks, start=1))


@pytest.mark.parametrize("name", ["masks/a.png", "masks/a_mask.png", "a_mask.png", "PedMasks/a-labels.png"])
@pytest.mark.parametrize("palette", [False, True])
def test_masks_with_numbers(tmp_path, name, palette):
    draw(tmp_path / "a.jpg")
    squares = box_mask(2, 1, 8, 5), box_mask(9, 1, 12, 3) | box_mask(20, 1, 24, 3)
    save_mask(tmp_path / name, numbered(*squares), palette)
    names, masks, problems = read(tmp_path)
    assert names == ["thing", "thing"] and same(masks, *squares) and problems == []
    names, _, _ = read(tmp_path, categories=["__background__", "cup"])
    assert names == ["cup", "cup"]


@pytest.mark.parametrize(
    "files",
    [["a_key_1.png", "a_cup_2.png"], ["a/key_1.png", "a/cup_1.png"], ["a/masks/key.png", "a/masks/cup.png"]],
)
@pytest.mark.parametrize("value", [1, 255])
def test_masks_one_a_thing(tmp_path, files, value):
    draw(tmp_path / "images" / "a.png")
    squares = box_mask(2, 1, 8, 5), box_mask(7, 3, 12, 9)
    for file, mask in zip(files, squares):
        save_mask(tmp_path / "masks" / file, value * mask)
    names, masks, problems = read(tmp_path / "masks")
    assert names == ["cup", "key"] and same(masks, *squares[::-1]) and problems == []


def test_pictures_and_masks_in_one_folder_named_from_here(tmp_path, monkeypatch):
    square = box_mask(2, 1, 8, 5)
    for name in "ab":
        draw(tmp_path / "set" / f"{name}.png")
    save_mask(tmp_path / "set" / "a_mask.png", square)
    monkeypatch.chdir(tmp_path)
    for place, images in (("set", None), (tmp_path / "set", "set"), ("set", tmp_path / "set")):
        _, masks, problems = read(place, images)
        assert same(masks, square) and problems == []
        assert [path.name for path in load_annotations(place, images).unlabelled()] == ["b.png"]
    monkeypatch.chdir(tmp_path / "set")
    assert same(read(".")[1], square)


@pytest.mark.parametrize("folders", [("images", "masks"), ("pictures", "truth"), (".", "masks")])
def test_masks_called_as_their_pictures(tmp_path, folders):
    square = box_mask(2, 1, 8, 5)
    draw(tmp_path / folders[0] / "a.png")
    save_mask(tmp_path / folders[1] / "a.png", square)
    annotations = load_annotations(tmp_path)
    assert [picture.path.parent for picture in annotations.pictures] == [tmp_path / folders[0]]
    assert same(read(tmp_path)[1], square) and annotations.problems == []


def test_masks_of_voc(tmp_path):
    draw(tmp_path / "JPEGImages" / "a.jpg")
    draw(tmp_path / "JPEGImages" / "b.jpg")
    squares = box_mask(2, 1, 8, 5), box_mask(12, 3, 16, 9)
    rim = 255 * box_mask(8, 1, 9, 5)
    save_mask(tmp_path / "SegmentationObject" / "a.png", numbered(*squares) + rim, palette=True)
    save_mask(tmp_path / "SegmentationClass" / "a.png", 15 * squares[0] + 2 * squares[1] + rim, palette=True)
    names, masks, problems = read(tmp_path)
    assert names == ["class 15", "class 2"] and same(masks, *squares) and problems == []
    classes = ["__background__", *(f"number {n}" for n in range(1, 21))]
    assert read(tmp_path, categories=classes)[0] == ["number 15", "number 2"]


def test_masks_that_cannot_be_used_are_listed(tmp_path):
    draw(tmp_path / "images" / "a.png")
    draw(tmp_path / "images" / "b.png")
    masks = tmp_path / "masks"
    save_mask(masks / "a_cup_1.png", box_mask(2, 1, 8, 5))
    save_mask(masks / "a_cup_2.png", numbered(box_mask(2, 1, 8, 5), box_mask(9, 1, 12, 3)))
    save_mask(masks / "a_cup_3.png", box_mask(2, 1, 8, 5).T)
    save_mask(masks / "a_cup_4.png", box_mask(0, 0, 0, 0))
    save_mask(masks / "b.png", np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH)))
    draw(masks / "c.png")
    names, _, problems = read(masks)
    assert names == ["cup"]
    for message in (
        r"a_cup_2.png': the mask holds the numbers \[1, 2\], and should be of one thing",
        "a_cup_3.png': the mask is 16 x 24 pixels. The picture is 24 x 16",
        "a_cup_4.png': the mask has no pixel",
        "b.png': the mask holds .* numbers, scattered .* Is it a photograph",
        "c.png': the picture of 'c.png' is not in",
    ):
        assert sum(re.search(message, problem) is not None for problem in problems) == 1, (message, problems)
    assert len(problems) == 5
    Image.new("RGB", (WIDTH, HEIGHT)).save(masks / "b.png")
    assert "it holds colours" in "".join(read(masks)[2]).lower()


# --- told apart ---------------------------------------------------------------------------------------------


def test_formats_are_told_apart_or_named(tmp_path):
    draw(tmp_path / "one" / "a.png")
    file = labelme(tmp_path / "one", shape())
    cvat(tmp_path / "one", '<box label="key" xtl="2" ytl="1" xbr="8" ybr="5"/>')
    (tmp_path / "one" / "settings.json").write_text('{"theme": "dark"}')
    with pytest.raises(ValueError, match=r"holds LabelMe JSON \('a.json'\) and CVAT XML .* format='cvat'"):
        load_annotations(tmp_path / "one")
    assert read(tmp_path / "one", format="cvat")[0] == ["key"]
    assert read(file)[0] == ["cup"]
    annotations = load_annotations(tmp_path / "one", format="labelme")
    assert len(annotations) == 1 and "settings.json': shapes are no list" in str(annotations.problems[0])
    with pytest.raises(ValueError, match="format='voc' is not known. It is one of coco, labelme, via"):
        load_annotations(file, format="voc")
    with pytest.raises(ValueError, match="there is no file with VIA JSON"):
        load_annotations(tmp_path / "one", format="via")


def test_folders_without_annotations(tmp_path):
    with pytest.raises(ValueError, match="there is no file with annotations that are known"):
        load_annotations(tmp_path)
    draw(tmp_path / "a.png")
    with pytest.raises(ValueError, match="Nothing in .* can be used. There is no picture in it"):
        load_annotations(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"PK\3\4....")
    with pytest.raises(ValueError, match="a.zip' is a ZIP file. Unpack it"):
        load_annotations(tmp_path / "a.zip")
    for name in ("train.json", "val.json"):
        (tmp_path / name).write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(
        ValueError, match="holds 2 files of COCO JSON: train.json, val.json. Give the path of one"
    ):
        load_annotations(tmp_path)


def test_things_of_other_classes_are_left_out_and_listed(tmp_path):
    draw(tmp_path / "a.png")
    file = labelme(tmp_path, shape("key"), shape("Cup"), shape("spoon"))
    annotations = load_annotations(file, categories=("__background__", "cup", "key"))
    assert annotations[0][1]["labels"].tolist() == [2]
    assert "class is 'Cup', which is not among the categories. Did you mean 'cup'?" in str(
        annotations.problems[0]
    )
    assert "class is 'spoon', which is not among the categories. They are cup, key." in str(
        annotations.problems[1]
    )


def test_a_file_in_a_folder_that_cannot_be_read_is_listed(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    labelme(tmp_path, shape())
    text = labelme(tmp_path, shape(), imagePath="b.png", name="b.json").read_text()
    (tmp_path / "b.json").write_text(text[:-20])
    annotations = load_annotations(tmp_path)
    assert len(annotations) == 1
    assert re.search("b.json': .*is not a JSON file that can be read", str(annotations.problems[0]))
    assert repr(annotations) == "Annotations(1 picture, 1 thing, 1 problem)"


# --- written and read again ---------------------------------------------------------------------------------


def test_there_and_back_every_mask_stays_the_same(tmp_path):
    random = np.random.default_rng(0)
    shapes = []
    for number in range(12):
        noise = random.random((HEIGHT, WIDTH)) < 0.6  # holes, pieces and corners that touch
        shapes.append(shape(f"class {number}", [[0, 0], [WIDTH - 1, HEIGHT - 1]], "mask", mask=png(noise)))
    shapes += [shape("donut", [[0, 0], [23, 15]], "mask", mask=png(DONUT), flags={"iscrowd": True})]
    shapes += [shape("a", group_id=1), shape("a", (np.array(SQUARE) + [9.3, 7.7]).tolist(), group_id=1)]
    draw(tmp_path / "sub" / "a.png")
    first = load_annotations(labelme(tmp_path, *shapes), images=tmp_path)
    (tmp_path / "one.json").write_text(json.dumps(first.to_coco()))
    second = load_annotations(tmp_path / "one.json", images=tmp_path)
    [written] = second.to_labelme(tmp_path / "labels")
    assert written == tmp_path / "labels" / "sub" / "a.json"
    assert json.loads(written.read_text())["imagePath"] == "../../sub/a.png"
    third = load_annotations(tmp_path / "labels", images=tmp_path, categories=first.categories)
    (tmp_path / "two.json").write_text(json.dumps(third.to_coco()))
    fourth = load_annotations(tmp_path / "two.json", images=tmp_path)
    target = first[0][1]
    for annotations in (second, third, fourth):
        again = annotations[0][1]
        assert annotations.problems == [] and annotations.categories == first.categories
        for key in ("labels", "iscrowd", "masks"):
            assert torch.equal(again[key], target[key]), key
    with pytest.raises(FileExistsError, match="a.json' is there already, and is not overwritten"):
        second.to_labelme(tmp_path / "labels")


# --- other programs ----------------------------------------------------------------------------------------


def stored(thing):
    mask = np.repeat(np.arange(len(thing["counts"])) % 2, thing["counts"])
    return mask.astype(bool).reshape(other.HEIGHT, other.WIDTH)


@pytest.mark.parametrize("program", ["supervision", "datumaro"])
def test_other_programs_read_the_same(tmp_path, program):
    """The same things, in the same order and groups. datumaro's masks are filled by pycocotools as well, and equal ours
    but for a pixel or two where a box is turned; supervision rounds the corners and takes the outline's pixels in."""
    results, different = json.loads(other.RESULTS.read_text("utf-8"))[program], 0
    draw(tmp_path / "picture.png", (other.WIDTH, other.HEIGHT))
    for seed, theirs in enumerate(results):
        if program == "supervision":
            (tmp_path / "file").write_text(
                json.dumps(other.random_labelme(seed) | {"imagePath": "picture.png"})
            )
        else:
            (tmp_path / "file").write_text(other.random_cvat(seed).replace(f"{seed}.png", "picture.png"))
        names, masks, problems = read(tmp_path / "file")
        assert names == [thing["name"] for thing in theirs] and problems == []
        for mask, thing in zip(masks, map(stored, theirs)):
            if program == "datumaro":
                different += (mask != thing).any()
                assert (mask != thing).sum() <= 2
            else:
                beyond = mask & ~binary_dilation(thing, np.ones((5, 5)))
                beyond |= thing & ~binary_dilation(mask, np.ones((5, 5)))
                assert beyond.sum() <= 1  # the tip of a needle
    assert len(results) == other.CASES and sum(map(len, results)) > 100 and different <= 3
