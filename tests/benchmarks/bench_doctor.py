"""How much the doctor finds: faults planted in drawn scenes, whose truth is exact.

`python3 run.py bench -k doctor`. Each fault is planted a hundred times: in one thing, or one picture, of a set of two
scenes. It counts as found when a finding of the right kind names that thing or picture. The thresholds of
`segutils/doctor` were chosen on other scenes, seeds below 30,010. SEGUTILS_DOCTOR_SETS plants fewer of each;
SEGUTILS_DOCTOR_SEED starts at another seed; SEGUTILS_DOCTOR_MISSES=1 prints what was not found.
"""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from segutils import CATEGORIES, check_dataset, load_annotations, load_model, render_scene, to_coco_dataset
from segutils.annotations import Annotations
from segutils.measuring import cut_open, to_polygons
from segutils.rle import decode_rle

SETS = int(os.environ.get("SEGUTILS_DOCTOR_SETS", 100))
FIRST_SEED = int(os.environ.get("SEGUTILS_DOCTOR_SEED", 31_000))

PLURALS = {"leaf": "leaves", "mouse": "mice", "scissors": "scissor"}

Plant = Callable[[dict, dict, Path, random.Random], None]
"""Changes a file of annotations, one annotation in it, or the pictures in the folder."""


def pick(coco: dict, one: dict) -> dict:
    """The picture of an annotation."""
    return next(image for image in coco["images"] if image["id"] == one["image_id"])


def rings(one: dict, change: Callable[[float, float], tuple[float, float]]) -> None:
    """Change the points of all polygons."""
    one["segmentation"] = [
        [value for x, y in zip(ring[::2], ring[1::2]) for value in change(x, y)]
        for ring in one["segmentation"]
    ]


def save(image: Tensor, path: Path) -> None:
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, compress_level=1)


def damage_picture(coco, one, folder, rng):
    path = folder / pick(coco, one)["file_name"]
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(20, len(data) - 100)])


def turn_picture(coco, one, folder, rng):
    path = folder / pick(coco, one)["file_name"]
    image, _ = render_scene(int(path.stem))
    save(image.rot90(1, (1, 2)), path)


def resize_picture(coco, one, folder, rng):
    path = folder / pick(coco, one)["file_name"]
    image, _ = render_scene(int(path.stem))
    save(image[:, ::2, ::2], path)


def add_copy(coco, one, folder, rng):
    coco["annotations"].append({**copy.deepcopy(one), "id": 9999, "category_id": rng.choice([1, 2, 3])})


def swap_polygon_and_leave(coco, one, folder, rng):
    rings(one, lambda x, y: (y, x))


def shift(coco, one, folder, rng):
    x, y, width, height = one["bbox"]
    angle = torch.tensor(rng.random() * 2 * torch.pi)
    dx, dy = 0.15 * width * float(angle.cos()), 0.15 * height * float(angle.sin())
    rings(one, lambda px, py: (min(max(px + dx, 0), 640), min(max(py + dy, 0), 480)))
    del one["bbox"], one["area"]


def similar(change):
    def plant(coco, one, folder, rng):
        name = CATEGORIES[one["category_id"]]
        coco["categories"].append({"id": 40, "name": change(name)})
        one["category_id"] = 40

    return plant


def box(change):
    def plant(coco, one, folder, rng):
        one["bbox"] = change(*one["bbox"])

    return plant


def other_class(coco, one, folder, rng):
    one["category_id"] = rng.choice([n for n in range(1, len(CATEGORIES)) if n != one["category_id"]])


STRUCTURAL: dict[str, tuple[Plant, set[str]]] = {  # and the kinds of findings that count
    "picture cut short": (damage_picture, {"picture"}),
    "picture missing": (lambda c, a, f, r: (f / pick(c, a)["file_name"]).unlink(), {"picture"}),
    "picture of another size": (resize_picture, {"size"}),
    "picture turned": (turn_picture, {"size"}),
    "polygon empty": (lambda c, a, f, r: a.update(segmentation=[[]]), {"shape"}),
    "polygon of two points": (
        lambda c, a, f, r: a.update(segmentation=[a["segmentation"][0][:4]]),
        {"shape"},
    ),
    "polygon is a line": (lambda c, a, f, r: rings(a, lambda x, y: (x, x / 2)), {"empty"}),
    "polygon outside": (lambda c, a, f, r: rings(a, lambda x, y: (x + 700, y)), {"outside"}),
    "polygon in shares of the sides": (
        lambda c, a, f, r: rings(a, lambda x, y: (x / 640, y / 480)),
        {"normalised"},
    ),
    "x and y of the polygon swapped": (swap_polygon_and_leave, {"box", "outside"}),
    "box as x1, y1, x2, y2": (box(lambda x, y, w, h: [x, y, x + w, y + h]), {"box"}),
    "x and y of the box swapped": (box(lambda x, y, w, h: [y, x, h, w]), {"box"}),
    "box in shares of the sides": (box(lambda x, y, w, h: [x / 640, y / 480, w / 640, h / 480]), {"box"}),
    "unknown class": (lambda c, a, f, r: a.update(category_id=77), {"class"}),
    "class 0": (lambda c, a, f, r: a.update(category_id=0), {"class"}),
    "class differs in case": (similar(str.title), {"class"}),
    "class in the plural": (similar(lambda name: PLURALS.get(name, name + "s")), {"class"}),
    "duplicate id": (
        lambda c, a, f, r: a.update(id=next(o["id"] for o in c["annotations"] if o is not a)),
        {"duplicate"},
    ),
    "duplicate annotation": (add_copy, {"duplicate"}),
    "annotation for the background": (
        lambda c, a, f, r: (
            c["categories"].append({"id": 50, "name": "background"}),
            a.update(category_id=50),
        ),
        {"class"},
    ),
}
SUSPECTED: dict[str, tuple[Plant, set[str]]] = {
    "label missing": (lambda c, a, f, r: c["annotations"].remove(a), {"missing"}),
    "wrong class": (other_class, {"wrong class"}),
    "mask shifted by 15 % of the box": (shift, {"bad fit"}),
}


def draw_set(number: int, folder: Path) -> dict:
    """Two scenes and their truth as COCO JSON with polygons, in a folder of their own."""
    targets, names = [], []
    for seed in (FIRST_SEED + 2 * number, FIRST_SEED + 2 * number + 1):
        image, target = render_scene(seed)
        names.append(f"{seed}.png")
        save(image, folder / names[-1])
        targets.append(target)
    coco = to_coco_dataset(targets, names, CATEGORIES)
    polygons = [pieces for target in targets for pieces in to_polygons(target["masks"].bool())]
    for one, pieces in zip(coco["annotations"], polygons):
        one["segmentation"] = [cut_open(piece).ravel().tolist() for piece in pieces]
    return coco


def examine(coco: dict, folder: Path, *model) -> tuple[list, list, Annotations]:
    file = folder / "instances.json"
    file.write_text(json.dumps(coco), "utf-8")
    annotations = load_annotations(file)
    report = check_dataset(annotations, *model)
    return report.faults, report.doubts, annotations


def names_it(finding, coco: dict, one: dict, folder: Path) -> bool:
    """Whether a finding is about this annotation, or its picture."""
    words = str(finding)
    if finding.kind in ("picture", "size", "missing"):
        return pick(coco, one)["file_name"] in words
    same_class = finding.kind == "class" and repr(coco["categories"][-1]["name"]) in words
    return same_class or finding.annotation.split(" (")[0] in (f"annotation {one['id']}", "annotation 9999")


def test_recall(tmp_path):
    model, weights = load_model("tabletop", device="cpu")
    opinion = model, weights.meta["categories"]
    found = dict.fromkeys([*STRUCTURAL, *SUSPECTED], 0)
    clean = {"sets": 0, "things": 0, "faults": 0, "doubts": 0, "missing": 0, "wrong class": 0, "bad fit": 0}
    planted, number = 0, 0
    with tqdm(total=SETS, disable=None) as progress:
        while planted < SETS:
            folder = tmp_path / str(number)
            folder.mkdir()
            truth = draw_set(number, folder)
            number += 1
            # of a thing in the very corner, x, y, width, height is x1, y1, x2, y2
            if sum(min(one["bbox"][:2]) > 2 for one in truth["annotations"]) < 2:
                shutil.rmtree(folder)
                continue
            faults, doubts, annotations = examine(truth, folder, *opinion)
            clean["sets"] += 1
            clean["things"] += len(truth["annotations"])
            clean["faults"] += len(faults)
            for doubt in doubts:
                if doubt.kind in clean:
                    clean[doubt.kind] += 1
                    clean["doubts"] += 1
            for row, (name, (plant, kinds)) in enumerate((STRUCTURAL | SUSPECTED).items()):
                rng = random.Random(1000 * number + row)
                coco, place = copy.deepcopy(truth), folder / "planted"
                place.mkdir()
                for image in coco["images"]:
                    shutil.copy(folder / image["file_name"], place)
                one = rng.choice([a for a in coco["annotations"] if min(a["bbox"][:2]) > 2])
                before = copy.deepcopy(one)
                plant(coco, one, place, rng)
                faults, doubts, _ = examine(coco, place, *(opinion if name in SUSPECTED else ()))
                among = doubts if name in SUSPECTED else faults
                hit = any(f.kind in kinds and names_it(f, coco, one, place) for f in among)
                if name == "label missing" and hit:
                    hit = any(f.kind == "missing" and _covers(f, before) for f in among)
                found[name] += hit
                if not hit and os.environ.get("SEGUTILS_DOCTOR_MISSES"):
                    print("missed:", name, number, one["id"], [str(f) for f in among])
                shutil.rmtree(place)
            shutil.rmtree(folder)
            planted += 1
            progress.update()
    lines = ["| Planted | found of " + f"{SETS} |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in found.items()]
    things = f"On the {2 * clean['sets']} untouched scenes with {clean['things']} things: {clean['faults']} faults and "
    kinds = ", ".join(f"{clean[kind]} {kind}" for kind in ("missing", "wrong class", "bad fit"))
    lines += [
        "",
        f"{things}{clean['doubts']} doubts ({kinds}), {clean['doubts'] / clean['things']:.1%} of the things.",
    ]
    print("\n\n" + "\n".join(lines))


def _covers(finding, one: dict) -> bool:
    """Whether a doubt about a missing label is about this thing."""
    left, top, mask = decode_rle(finding.rle)
    x, y, width, height = one["bbox"]
    wide = min(left + mask.shape[1], x + width) - max(left, x)
    tall = min(top + mask.shape[0], y + height) - max(top, y)
    return wide > 0 and tall > 0 and wide * tall >= 0.5 * width * height
