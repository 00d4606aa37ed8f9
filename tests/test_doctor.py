"""The doctor: what it finds in annotations, with and without a model, and how it says so."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from unchanged import unchanged

from segutils import DATA_DIR, check_dataset, load_annotations, load_model
from segutils.doctor.__main__ import main
from segutils.rle import decode_rle, encode_rle
from segutils.roi_masks import Crop

SCENES = DATA_DIR / "scenes" / "instances.json"


def square(x, y, side=20):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def write(folder, annotations=(), names=("cup", "key"), pictures=("a.png", "b.png")):
    """Pictures of 80 x 60 pixels, unlike each other, with a cup in each; then some more annotations."""
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name in pictures:
        Image.fromarray(random.integers(0, 255, (60, 80, 3), np.uint8)).save(folder / name)
    cups = [
        {"id": n, "image_id": n, "category_id": 1, "segmentation": square(5, 5), "bbox": [5, 5, 20, 20]}
        for n in range(1, len(pictures) + 1)
    ]
    coco = {
        "images": [
            {"id": n, "file_name": name, "height": 60, "width": 80} for n, name in enumerate(pictures, 1)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
        "annotations": cups + [{"id": 9, "image_id": 1, "category_id": 2} | one for one in annotations],
    }
    (folder / "file.json").write_text(json.dumps(coco), "utf-8")
    return folder / "file.json"


def test_nothing_is_wrong_with_the_scenes():
    report = check_dataset(load_annotations(SCENES))
    assert report.faults == []
    assert [doubt.annotation for doubt in report.doubts] == ["empty.png"]
    assert report.facts["pictures"] == "10, of 640 x 480 (10)"


def test_a_clean_set_is_clean_and_nothing_is_changed(tmp_path):
    file = write(tmp_path)
    with unchanged(tmp_path):
        report = check_dataset(load_annotations(file))
    assert (report.faults, report.doubts) == ([], [])
    assert str(report).startswith("No faults\nNo doubts\nFacts\n")
    assert report.facts["classes"] == "cup (2)" and report.facts["without a thing"] == "key"
    assert report.facts["small (32 x 32 px)"] == "2 things have less area in the picture as it is"


FAULTS = {
    "a duplicate": (
        square(5, 5),
        None,
        "duplicate",
        "that of annotation 1, as 'key' and as 'cup' (IoU 1.00)",
    ),
    "xyxy": (square(30, 30), [30, 30, 50, 50], "box", "It looks like x1, y1, x2, y2."),
    "xyxy, near the corner": (square(4, 3), [4, 3, 24, 23], "box", "It looks like x1, y1, x2, y2."),
    "swapped, near the diagonal": (square(28, 34), [34, 28, 20, 20], "box", "It looks like y, x, height"),
    "swapped": (square(50, 10), [10, 50, 20, 20], "box", "It looks like y, x, height, width."),
    "normalised": (square(40, 30), [0.5, 0.5, 0.25, 1 / 3], "box", "It looks like shares of"),
    "centre": (square(40, 30), [50, 40, 20, 20], "box", "It looks like the centre, width, height"),
    "another's box": (
        square(50, 30),
        [1, 1, 9, 9],
        "box",
        "is [1, 1, 9, 9], and the mask goes from (50, 30) to",
    ),
    "mostly outside": (square(72, 52), None, "outside", "goes from (72, 52) to (92, 72), beyond the picture"),
    "all outside": (square(90, 90), None, "outside", "outside the picture of 80 x 60 pixels"),
    "a line": ([[30, 30, 50, 50, 40, 40]], None, "empty", "covers no pixel"),
    "shares": ([[0, 0, 1, 0, 1, 1, 0, 1]], None, "normalised", "lies between 0 and 1"),
    "no class": ({"category_id": 7}, None, "class", "category_id is 7"),
    "same id": (
        {"id": 2, "segmentation": square(40, 30)},
        None,
        "duplicate",
        "id is that of another annotation too",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(tmp_path, name):
    what, box, kind, words = FAULTS[name]
    one = what if isinstance(what, dict) else {"segmentation": what}
    file = write(tmp_path, [one | ({} if box is None else {"bbox": box})])
    [fault] = check_dataset(load_annotations(file)).faults
    assert fault.kind == kind and words in str(fault)
    assert fault.file == str(file) and "annotation" in fault.annotation and fault.remedy


def test_a_box_drawn_by_hand_is_none(tmp_path):
    file = write(tmp_path, [{"segmentation": square(40, 30), "bbox": [38, 28, 24, 24]}])
    assert check_dataset(load_annotations(file)).faults == []


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (("cup", "Cup"), True),
        (("cup", "cups"), True),
        (("cell phone", "cell-phones"), True),
        (("leaf", "leaves"), True),
        (("cup", "cap"), False),
        (("mice", "mouse"), True),
        (("bus", "buses"), True),
        (("cap", "cape"), False),
    ],
)
def test_names_of_one_class(tmp_path, names, alike):
    report = check_dataset(load_annotations(write(tmp_path, [{"segmentation": square(40, 30)}], names)))
    assert [fault.kind for fault in report.faults] == ["class"] * alike


def test_no_two_of_cocos_names_are_alike(tmp_path):
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    names = MaskRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"][1:]
    names = [name for name in names if name != "N/A"]
    assert check_dataset(load_annotations(write(tmp_path, names=names))).faults == []


def test_a_picture_that_ends_early(tmp_path):
    file = write(tmp_path)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    [fault] = check_dataset(load_annotations(file)).faults
    assert fault.kind == "picture" and "a.png" in str(fault)


def test_doubts_come_in_the_order_of_suspicion(tmp_path):
    file = write(tmp_path, [{"segmentation": square(66, 30)}, {"id": 10, "segmentation": square(50, 50, 2)}])
    Image.open(tmp_path / "b.png").save(tmp_path / "copy.bmp")
    coco = json.loads(file.read_text("utf-8"))
    coco["images"].append({"id": 3, "file_name": "copy.bmp", "height": 60, "width": 80})
    file.write_text(json.dumps(coco), "utf-8")
    Image.new("RGB", (9, 9)).save(tmp_path / "forgotten.png")
    report = check_dataset(load_annotations(file))
    assert report.faults == []
    assert [doubt.kind for doubt in report.doubts] == ["twice", "tiny", "outside", "unlabelled", "unlabelled"]
    assert "has the same pixels as" in str(report.doubts[0]) and "b.png" in str(report.doubts[0])


def test_a_picture_for_training_and_for_validation(tmp_path):
    training = load_annotations(write(tmp_path / "training"))
    validation = load_annotations(write(tmp_path / "validation", pictures=("other.bmp",)))
    [fault] = check_dataset(training, validation=validation).faults
    assert fault.kind == "shared" and fault.annotation == "a.png" and "other.bmp" in str(fault)


def test_the_worst_faults_come_first(tmp_path):
    file = write(tmp_path, [{"segmentation": square(72, 52)}, {"id": 10, "segmentation": square(5, 5)}])
    (tmp_path / "b.png").unlink()
    kinds = [fault.kind for fault in check_dataset(load_annotations(file)).faults]
    assert kinds == ["picture", "duplicate", "outside"]


def change(folder, **changes):
    """A copy of the annotations of one scene, with the fields of its first annotation changed; `id=None` deletes it."""
    coco = json.loads(SCENES.read_text("utf-8"))
    image = next(image for image in coco["images"] if image["file_name"] == "coins_in_rows.png")
    coco["images"] = [image]
    coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] == image["id"]]
    if changes == {"id": None}:
        del coco["annotations"][0]
    else:
        coco["annotations"][0] |= changes
    file = folder / "file.json"
    file.write_text(json.dumps(coco), "utf-8")
    shutil.copy(SCENES.parent / image["file_name"], folder)
    return load_annotations(file)


def test_a_model_has_doubts(tmp_path):
    model, weights = load_model("tabletop", device="cpu")
    names = weights.meta["categories"]
    clean = check_dataset(change(tmp_path), model, names)
    assert (clean.faults, clean.doubts) == ([], [])
    assert clean.facts["small (32 x 32 px)"].endswith("after the model's resize")
    missing = check_dataset(change(tmp_path, id=None), model, names)
    [doubt] = missing.doubts
    assert doubt.kind == "missing" and doubt.suspicion > 0.8 and doubt.rle is not None
    [doubt] = check_dataset(change(tmp_path, category_id=names.index("donut")), model, names).doubts
    assert doubt.kind == "wrong class" and "is 'donut', and the model sees a 'coin' there" in str(doubt)
    drawn = missing.draw(missing.doubts[0])
    assert drawn.dtype == torch.uint8 and drawn.shape == (3, 360, 480)


@pytest.mark.parametrize(("dx", "dy"), [(0.15, 0), (0, -0.15), (0.11, 0.11)])
def test_a_mask_beside_its_thing_is_doubted_and_nothing_else_is(tmp_path, dx, dy):
    model, weights = load_model("tabletop", device="cpu")
    annotations = change(tmp_path)
    thing = annotations.pictures[0].things[0]
    left, top, crop = decode_rle(thing.rle)
    height, width = crop.shape
    moved = Crop(left + round(dx * width), top + round(dy * height), crop)
    [rle] = encode_rle([moved], annotations.pictures[0].size)
    report = check_dataset(
        change(tmp_path, segmentation=rle, bbox=None, area=None), model, weights.meta["categories"]
    )
    assert [doubt.kind for doubt in report.doubts] == ["bad fit"]
    assert "their centres lie 1" in str(report.doubts[0])


def test_a_report_names_files_from_the_folder_on(tmp_path):
    (tmp_path / "pictures").mkdir()
    file = write(tmp_path / "pictures", [{"segmentation": square(5, 5)}])
    report = check_dataset(load_annotations(file))
    assert "'file.json', annotation 9 (a.png): mask is that of" in str(report)
    assert str(tmp_path) not in str(report) and str(tmp_path) in str(report.faults[0])


def test_in_a_notebook_the_worst_are_drawn(tmp_path, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("segutils.doctor.show", lambda pictures, titles, columns: shown.extend(titles))
    report = check_dataset(load_annotations(write(tmp_path, [{"segmentation": square(5, 5)}])))
    report._ipython_display_()
    assert shown == ["a.png, annotation 9 (a.png): duplicate"]
    assert capsys.readouterr().out == f"{report}\n"


def test_in_a_shell(tmp_path, capsys):
    assert main(str(SCENES)) == 0
    assert main(str(write(tmp_path, [{"segmentation": square(5, 5)}]))) == 1
    assert "1 fault\n" in capsys.readouterr().out
    assert main(str(write(tmp_path / "training")), "--validation", str(SCENES)) == 0
    assert main(str(tmp_path / "nothing.json")) == 2
    (tmp_path / "broken.json").write_text("{", "utf-8")
    assert main(str(tmp_path / "broken.json")) == 1
    assert "broken.json" in capsys.readouterr().err


def test_the_command(tmp_path):
    file = write(tmp_path, [{"segmentation": square(90, 90)}])
    done = subprocess.run([sys.executable, "-m", "segutils.doctor", file], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "") and done.stdout.startswith("1 fault\n")
