"""For maintainers: make what lies in data/, and list it.

python tools/make_data.py   draw data/scenes (pictures and COCO annotations), list every file of data/ with its SHA-256
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from segutils.tabletop import CATEGORIES, render_scene  # noqa: E402

DATA = ROOT / "data"
SCENES = {  # name -> seed; none of them is a seed for training, choosing or measuring
    "coins_in_rows": 4,
    "crowded": 68,
    "desk": 51,
    "donuts": 24,
    "empty": 168,
    "grey": 317,
    "half_hidden": 537,
    "leaves": 15,
    "scissors": 35,
    "two_touching": 116,
}
MIT = "drawn for this course; MIT"
ORIGIN = {
    ".png": MIT,
    ".json": MIT,
    ".pth": "trained for this course; MIT",
    ".csv": "measured for this course; MIT",
}


def annotations() -> dict:
    """The scenes in COCO's format: images, categories, and annotations with run-length encoded masks."""
    coco = {
        "info": {"description": "Tabletop scenes drawn by segutils.tabletop"},
        "licenses": [{"id": 1, "name": "MIT"}],
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CATEGORIES) if i],
    }
    for image_id, (name, seed) in enumerate(SCENES.items(), start=1):
        image, target = render_scene(seed)
        height, width = image.shape[1:]
        coco["images"].append(
            {"id": image_id, "file_name": f"{name}.png", "height": height, "width": width, "license": 1}
        )
        for box, label, mask in zip(target["boxes"].tolist(), target["labels"].tolist(), target["masks"]):
            encoded = rle.encode(np.asfortranarray(mask.numpy()))
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": label,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": encoded["counts"].decode()},
                }
            )
    return coco


def table() -> str:
    """A Markdown table of all files in data/ but README.md and the reader's own photos."""
    rows = ["| File | Origin and licence | SHA-256 |", "|---|---|---|"]
    for path in sorted(DATA.rglob("*")):
        name = path.relative_to(DATA).as_posix()
        if path.is_file() and name != "README.md" and not name.startswith("photos/"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append(f"| `{name}` | {ORIGIN[path.suffix]} | `{digest}` |")
    return "\n".join(rows)


def main() -> None:
    folder = DATA / "scenes"
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in SCENES.items():
        image, _ = render_scene(seed)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{name}.png", optimize=True)
    (folder / "instances.json").write_bytes(json.dumps(annotations()).encode())
    readme = DATA / "README.md"
    text = readme.read_text("utf-8")
    text = re.sub(r"^\| File \|.*?(?=\n\n|\Z)", lambda _: table(), text, flags=re.M | re.S)
    readme.write_bytes(text.encode())


if __name__ == "__main__":
    main()
