"""The semantic family's figures of data/README.md, and why one needs the other. They take some minutes.

`python3 run.py bench -k semantic` prints mean IoU and pixel accuracy on 500 scenes that nothing was chosen by, of the
FCN and of the Mask R-CNN's instances made into class maps, and who counts right where things of one class touch.
"""

from collections import Counter
from itertools import combinations

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
from segutils.training import TEST_SEEDS


@torch.inference_mode()
def class_map_of(model, weights, image):
    """A picture's class map, in the picture's own size."""
    logits = model(weights.transforms()(image)[None])["out"]
    return interpolate(logits, size=image.shape[1:], mode="bilinear", align_corners=False)[0].argmax(0)


def touching(target) -> set[int]:
    """The classes of which two things touch, or are no more than two pixels apart."""
    grown = max_pool2d(target["masks"][:, None].float(), 3, stride=1, padding=1)[:, 0].bool()
    pairs = combinations(range(len(grown)), 2)
    same = [(a, b) for a, b in pairs if target["labels"][a] == target["labels"][b]]
    return {int(target["labels"][a]) for a, b in same if (grown[a] & grown[b]).any()}


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
    asked, right = 0, Counter()
    for seed in tqdm(TEST_SEEDS, disable=None):
        image, target = render_scene(seed)
        class_map, [found] = class_map_of(*fcn, image), predict(detector, [image], 0.5)
        for name, answer in (("fcn", class_map), ("mask", to_semantic(found))):
            confusions[name] += confusion_matrix(answer, to_semantic(target), len(CATEGORIES))
        classes = touching(target)
        if classes and asked < 100:
            asked += 1
            true, instances = Counter(target["labels"].tolist()), Counter(found["labels"].tolist())
            right["pieces"] += all(count == true[kind] for kind, count in counted(class_map, classes).items())
            right["instances"] += all(instances[kind] == true[kind] for kind in classes)

    print(f"\n\n{len(TEST_SEEDS)} unseen scenes, 640x480 pixels\n")
    print("| | FCN | instances of the Mask R-CNN |\n|---|---|---|")
    for title, figure in (("mean IoU", mean_iou), ("pixel accuracy", pixel_accuracy)):
        print(f"| {title} | {figure(confusions['fcn']):.3f} | {figure(confusions['mask']):.3f} |")
    for kind, (a, b) in enumerate(zip(class_iou(confusions["fcn"]), class_iou(confusions["mask"]))):
        print(f"| IoU, {CATEGORIES[kind]} | {a:.3f} | {b:.3f} |")
    print(
        f"\nOf the first {asked} in which things of one class touch, all things of these classes are counted right in"
    )
    print(
        f"{right['pieces']} by connected pieces of the FCN's class map, and in {right['instances']} by instances"
    )


def segmenting(name):
    model, weights = load_semantic_model("tabletop", device="cpu")
    image = render_scene(0)[0]
    return lambda: class_map_of(model, weights, image)


def test_semantic_speed():
    print(f"\n\na class map of a scene, 640x480: {duration(measure(segmenting, '', warm_up=('',)).seconds)}")
