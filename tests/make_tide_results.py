"""Make `tide_results.json`: what TIDE's own code says about random pictures. `test_error_types.py` reads it.

tidecv 1.0.1 needs OpenCV and plots with seaborn, so it is no dependency of the course. To make the file anew:

    python -m venv tide && tide/bin/pip install tidecv==1.0.1 numpy pycocotools opencv-python-headless matplotlib pandas seaborn
    tide/bin/python tests/make_tide_results.py
"""  # noqa: E501

import json
from pathlib import Path

import numpy as np

SIZE, CASES = 48, 60


def random_pictures(seed: int) -> list[dict]:
    """One to six pictures: boxes of things, boxes found, labels and scores; no two scores are equal.

    Boxes are whole numbers, x1, y1, x2, y2. Most of those found are a thing's, moved; some have another class.
    """
    random = np.random.default_rng(seed)
    classes = random.integers(1, 5)

    def box() -> list[int]:
        width, height = random.integers(6, 26, 2)
        x, y = random.integers(0, [SIZE - width + 1, SIZE - height + 1])
        return [int(x), int(y), int(x + width), int(y + height)]

    pictures = []
    for _ in range(random.integers(1, 7)):
        things = [box() for _ in range(random.integers(0, 6))]
        labels = random.integers(1, classes + 1, len(things)).tolist()
        found, found_labels = [], []
        for _ in range(random.integers(0, 9)):
            one, label = box(), int(random.integers(1, classes + 1))
            if things and random.random() < 0.8:
                which = random.integers(len(things))
                moved = np.array(things[which]) + np.tile(random.integers(-5, 6, 2), 2) * random.integers(
                    0, 3
                )
                x1, y1, x2, y2 = moved.clip(0, SIZE).tolist()
                if x2 - x1 > 2 and y2 - y1 > 2:
                    one, label = [x1, y1, x2, y2], labels[which] if random.random() < 0.7 else label
            found.append(one)
            found_labels.append(label)
        pictures.append({"things": things, "labels": labels, "found": found, "found_labels": found_labels})
    scores = random.permutation(sum(len(picture["found"]) for picture in pictures)) / 100 + 0.01
    for picture in pictures:
        picture["scores"], scores = scores[: len(picture["found"])].tolist(), scores[len(picture["found"]) :]
    return pictures


def tide_says(pictures: list[dict]) -> dict | None:
    """AP50, the gain of each type, and how many errors of each there are; None where TIDE divides by zero."""
    from tidecv import TIDE, Data

    truth, results = Data("truth"), Data("results")
    for number, picture in enumerate(pictures):
        truth.add_image(number, str(number))
        results.add_image(number, str(number))
        for (x1, y1, x2, y2), label in zip(picture["things"], picture["labels"]):
            truth.add_ground_truth(number, label, box=[x1, y1, x2 - x1, y2 - y1])
        for (x1, y1, x2, y2), label, score in zip(
            picture["found"], picture["found_labels"], picture["scores"]
        ):
            results.add_detection(number, label, score, box=[x1, y1, x2 - x1, y2 - y1])
    try:
        run = TIDE().evaluate(truth, results, pos_threshold=0.5, mode=TIDE.BOX, name="run")
        gains = {error.short_name: gain for error, gain in run.fix_main_errors().items()}
    except ZeroDivisionError:
        return None
    counts = {error.short_name: len(found) for error, found in run.error_dict.items()}
    return {"AP50": run.ap, "dAP": gains, "counts": counts}


if __name__ == "__main__":
    said = [tide_says(random_pictures(seed)) for seed in range(CASES)]
    Path(__file__).with_name("tide_results.json").write_text(json.dumps(said, indent=1) + "\n", "utf-8")
