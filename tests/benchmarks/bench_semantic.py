"""The semantic family's figures of data/README.md, and why one needs the other. They take some minutes.

`python3 run.py bench -k semantic` prints mean IoU and pixel accuracy on 500 scenes that nothing was chosen by, of the
FCN and of the Mask R-CNN's instances made into class maps, and who counts right where things of one class touch.
"""

from collections import Counter
from itertools import combinations, count

import torch
from measuring import duration, measure
from skimage.measure import label as connected
from torch.nn.functional import interpolate, max_pool2d
from tqdm import tqdm

from segutils import (
    class_iou,
    confusion_matrix,
    load_model,
    load_semantic_model,
    mean_iou,
    pixel_accuracy,
    predict,
    render_scene,
    to_semantic,
)
from segutils.tabletop import CATEGORIES
from segutils.tabletop.recipes import TEST_SEEDS


@torch.inference_mode()
def class_map_of(model, weights, image):
    """A picture's class map, in the picture's own size."""
    logits = model(weights.transforms()(image)[None])["out"]
    return interpolate(logits, size=image.shape[1:], mode="bilinear", align_corners=False)[0].argmax(0)


def touching(target) -> set[int]:
    """The classes of which two things touch, if they do so lightly: along at most a tenth of the shorter outline.

    Where two of one class share more of their outlines, one hides part of the other, which is a difficulty of its own:
    then the answer is empty.
    """
    masks = target["masks"][:, None].float()
    grown, shrunk = max_pool2d(masks, 3, 1, 1), -max_pool2d(-masks, 3, 1, 1)
    outlines = (masks - shrunk).flatten(1).sum(1)
    classes = set()
    for a, b in combinations(range(len(masks)), 2):
        contact = (grown[a] * grown[b]).sum() / 2 / min(outlines[a], outlines[b])
        if contact > 0 and target["labels"][a] == target["labels"][b]:
            if contact > 0.1:
                return set()
            classes.add(int(target["labels"][a]))
    return classes


def counted(class_map, classes) -> dict[int, int]:
    """How many connected pieces of each class a class map has; specks of fewer than 40 pixels are left out."""
    counts = {}
    for kind in classes:
        pieces = torch.from_numpy(connected((class_map == kind).numpy()))
        counts[kind] = int((pieces.flatten().bincount()[1:] >= 40).sum())
    return counts


def test_semantic_models():
    fcn, detector = load_semantic_model("tabletop", device="cpu"), load_model("tabletop", device="cpu")[0]
    confusions = {
        name: torch.zeros(len(CATEGORIES), len(CATEGORIES), dtype=torch.int64) for name in ("fcn", "mask")
    }
    for seed in tqdm(TEST_SEEDS, disable=None):
        image, target = render_scene(seed)
        answers = {"fcn": class_map_of(*fcn, image), "mask": to_semantic(predict(detector, [image], 0.5)[0])}
        for name, answer in answers.items():
            confusions[name] += confusion_matrix(answer, to_semantic(target), len(CATEGORIES))
    print(f"\n\n{len(TEST_SEEDS)} unseen scenes, 640x480 pixels\n")
    print("| | FCN | instances of the Mask R-CNN |\n|---|---|---|")
    for title, figure in (("mean IoU", mean_iou), ("pixel accuracy", pixel_accuracy)):
        print(f"| {title} | {figure(confusions['fcn']):.3f} | {figure(confusions['mask']):.3f} |")
    for kind, (a, b) in enumerate(zip(class_iou(confusions["fcn"]), class_iou(confusions["mask"]))):
        print(f"| IoU, {CATEGORIES[kind]} | {a:.3f} | {b:.3f} |")


def test_counting_what_touches():
    """In the first hundred unseen scenes in which things of one class touch: are all of these things counted?"""
    fcn, detector = load_semantic_model("tabletop", device="cpu"), load_model("tabletop", device="cpu")[0]
    asked, right = 0, Counter()
    for seed in count(TEST_SEEDS[0]):
        image, target = render_scene(seed)
        classes = touching(target)
        if not classes:
            continue
        asked += 1
        true = Counter(target["labels"].tolist())
        instances = Counter(predict(detector, [image], 0.5)[0]["labels"].tolist())
        pieces = counted(class_map_of(*fcn, image), classes)
        right["pieces"] += all(pieces[kind] == true[kind] for kind in classes)
        right["instances"] += all(instances[kind] == true[kind] for kind in classes)
        if asked == 100:
            break
    print(
        f"\n\nIn {asked} scenes (seeds {TEST_SEEDS[0]} to {seed}) things of one class touch. All of them are counted in"
    )
    print(f"{right['pieces']} by connected pieces of the FCN's class map, {right['instances']} by instances")


def segmenting(name):
    model, weights = load_semantic_model("tabletop", device="cpu")
    image = render_scene(0)[0]
    return lambda: class_map_of(model, weights, image)


def test_semantic_speed():
    print(f"\n\na class map of a scene, 640x480: {duration(measure(segmenting, '', warm_up=('',)).seconds)}")
