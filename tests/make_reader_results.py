"""Make `reader_results.json`: what two other programs read from random files. `test_readers.py` compares.

supervision reads LabelMe's files, and fills polygons by OpenCV, whose outlines are half a pixel wider; datumaro reads
CVAT's. They need other versions of what the course needs, so each has an environment of its own:

    python -m venv one && one/bin/pip install supervision==0.31.2 opencv-python-headless
    one/bin/python tests/make_reader_results.py
    python -m venv two && two/bin/pip install datumaro==1.13.12
    two/bin/python tests/make_reader_results.py
"""

import json
import math
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, CASES = 64, 48, 25
NAMES = ("cup", "key", "leaf")
RESULTS = Path(__file__).with_name("reader_results.json")


def random_points(random: np.random.Generator) -> list[list[float]]:
    """A polygon about a centre, which does not cross itself; some corners lie outside the picture."""
    count = int(random.integers(3, 9))
    angles = np.sort(random.random(count) + np.arange(count)) * 2 * math.pi / count
    radii = random.uniform(6, 20, count)
    x = random.uniform(5, WIDTH - 5) + radii * np.cos(angles)
    y = random.uniform(5, HEIGHT - 5) + radii * np.sin(angles)
    return np.stack([x, y], axis=1).round(2).tolist()


def random_box(random: np.random.Generator) -> list[float]:
    left, top = random.uniform(0, [WIDTH - 20, HEIGHT - 20])
    width, height = random.uniform(4, 20, 2)
    return np.round([left, top, left + width, top + height], 2).tolist()


def random_labelme(seed: int) -> dict:
    random = np.random.default_rng(seed)
    shapes = []
    for _ in range(random.integers(1, 8)):
        kind = "polygon" if random.random() < 0.7 else "rectangle"
        x1, y1, x2, y2 = random_box(random)
        shapes.append(
            {
                "label": str(random.choice(NAMES)),
                "shape_type": kind,
                "points": random_points(random) if kind == "polygon" else [[x2, y1], [x1, y2]],
                "group_id": int(random.integers(2)) if random.random() < 0.4 else None,
                "flags": {},
            }
        )
    about = {"version": "5.5.0", "flags": {}, "imagePath": f"{seed}.png", "imageData": None}
    return about | {"shapes": shapes, "imageHeight": HEIGHT, "imageWidth": WIDTH}


def random_cvat(seed: int) -> str:
    """A file with one picture: polygons, boxes straight and turned, masks; some in groups."""
    random = np.random.default_rng(seed)
    shapes = []
    for _ in range(random.integers(1, 8)):
        about = f'label="{random.choice(NAMES)}" source="manual" occluded="0" z_order="0"'
        kind = random.choice(["polygon", "box", "turned", "mask"])
        if kind == "polygon":
            if random.random() < 0.5:
                about += f' group_id="{random.integers(1, 3)}"'
            points = ";".join(f"{x},{y}" for x, y in random_points(random))
            shapes.append(f'<polygon {about} points="{points}"></polygon>')
        elif kind == "mask":
            left, top, width, height = (int(n) for n in random.integers([0, 0, 3, 3], [40, 30, 20, 15]))
            runs = counts((random.random((height, width)) < 0.6).ravel())
            about += f' left="{left}" top="{top}" width="{width}" height="{height}"'
            shapes.append(f'<mask {about} rle="{", ".join(map(str, runs))}"></mask>')
        else:
            corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), random_box(random)))
            if kind == "turned":
                corners["rotation"] = round(random.uniform(1, 359), 1)
            about += "".join(f' {key}="{value}"' for key, value in corners.items())
            shapes.append(f"<box {about}></box>")
    labels = "".join(f"<label><name>{name}</name><attributes/></label>" for name in NAMES)
    return (
        f"<annotations><version>1.1</version><meta><task><name>t</name><labels>{labels}</labels></task></meta>"
        f'<image id="0" name="{seed}.png" width="{WIDTH}" height="{HEIGHT}">{"".join(shapes)}</image></annotations>'
    )


def counts(mask: np.ndarray) -> list[int]:
    """The lengths of runs of a flat mask, first outside, then inside, and so on."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], mask])))
    return np.diff(np.concatenate([[0], ends, [len(mask)]])).tolist()


def supervision_says(seed: int) -> list[dict]:
    from supervision.dataset.formats.labelme import labelme_shapes_to_detections

    found = labelme_shapes_to_detections(
        random_labelme(seed)["shapes"], {name: n for n, name in enumerate(NAMES)}, (WIDTH, HEIGHT), True
    )
    return [
        {"name": NAMES[label], "counts": counts(mask.ravel())}
        for label, mask in zip(found.class_id, found.mask)
    ]


def datumaro_says(seed: int) -> list[dict]:
    """datumaro keeps the pieces of a group apart, with its number: here those of one class are one thing."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset
    from datumaro.util.mask_tools import rles_to_mask

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "images").mkdir()
        Image.new("RGB", (WIDTH, HEIGHT)).save(Path(folder, "images", f"{seed}.png"))
        Path(folder, "annotations.xml").write_text(random_cvat(seed))
        dataset = Dataset.import_from(folder, "cvat")
        [item] = list(dataset)
        names = [label.name for label in dataset.categories()[AnnotationType.label].items]
        things: dict[tuple, np.ndarray] = {}
        for number, one in enumerate(item.annotations):
            if one.type == AnnotationType.mask:
                mask = one.image.astype(bool)
            else:
                points = one.points if one.type == AnnotationType.polygon else one.as_polygon()
                mask = rles_to_mask([np.asarray(points).ravel().tolist()], WIDTH, HEIGHT).astype(bool)
            key = (names[one.label], f"group {one.group}" if one.group else number)
            things[key] = things[key] | mask if key in things else mask
    return [{"name": name, "counts": counts(mask.ravel())} for (name, _), mask in things.items()]


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for program, ask in {"supervision": supervision_says, "datumaro": datumaro_says}.items():
        if find_spec(program):
            results[program] = [ask(seed) for seed in range(CASES)]
            print(f"{program}: {sum(map(len, results[program]))} things", file=sys.stderr)
    RESULTS.write_text(json.dumps(results) + "\n", "utf-8")
