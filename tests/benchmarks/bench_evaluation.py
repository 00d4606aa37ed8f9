"""Files and figures from masks: without pasting them, and with.

`python3 run.py bench -k evaluation` prints two tables, each measured on one thread in a process of its own. Masks as
COCO's RLEs: 100 instances of a photograph, straight from their crops, against pasting and `pycocotools.mask.encode`.
And `evaluate` on scenes with 20 instances each, against faster-coco-eval alone on ready RLEs. With ready RLEs it has
the same work to do, checks aside. Masks as the network gives them have to be cut and encoded first, which takes longer
than to count: cutting alone is the floor of that row.
"""

import numpy as np
import torch
from bench_masks import PICTURES, WARM_UP, found, ours
from faster_coco_eval import COCO, COCOeval_faster
from measuring import duration, measure, ratio, size
from pycocotools import mask as coco_mask
from torch import Tensor

from segutils import RoIMasks, evaluate, to_coco
from segutils.predictions import mask_crops
from segutils.rle import encode_rle

SCENES, INSTANCES, SIZE = 500, 20, (480, 640)


def their_rles(image_size, count):
    masks = ours(image_size, count)["masks"]

    def work():
        # One mask at a time: all of them together would not fit into memory.
        pasted = (masks[row].paste()[0].numpy() for row in range(count))
        return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in pasted]

    return work


def our_rles(image_size, count):
    prediction = ours(image_size, count)
    return lambda: to_coco([prediction])


def scenes(kind: str, count: int) -> tuple[list[dict], list[dict]]:
    """Predictions, and the same with boxes moved a little as targets, with masks as RLEs or as the network has them."""
    predictions, targets = [], []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        prediction = found(SIZE, INSTANCES)
        order = torch.randperm(INSTANCES, generator=generator)
        prediction["masks"], prediction["boxes"] = prediction["masks"][order], prediction["boxes"][order]
        moved = prediction["boxes"] + 6 * torch.rand(INSTANCES, 1, generator=generator)
        for boxes, many in ((prediction["boxes"], predictions), (moved, targets)):
            masks: RoIMasks | list | Tensor = RoIMasks(prediction["masks"], boxes, SIZE)
            if kind == "RLE":
                masks = encode_rle(mask_crops(masks), SIZE)
            many.append(prediction | {"boxes": boxes, "masks": masks})
    return predictions, targets


def library_alone(count):
    predictions, targets = scenes("RLE", count)
    images = [{"id": n, "height": SIZE[0], "width": SIZE[1]} for n in range(1, count + 1)]
    categories = [{"id": label} for label in range(1, 12)]

    def annotations(pictures, scored):
        rows = []
        for image_id, one in enumerate(pictures, start=1):
            for label, score, rle in zip(one["labels"].tolist(), one["scores"].tolist(), one["masks"]):
                row = {"image_id": image_id, "category_id": label, "segmentation": rle, "iscrowd": 0}
                row |= {"score": score} if scored else {"id": len(rows) + 1, "area": coco_mask.area(rle)}
                rows.append(row)
        return rows

    truth, results = annotations(targets, False), annotations(predictions, True)

    def work():
        dataset = COCO({"images": images, "categories": categories, "annotations": truth})
        evaluation = COCOeval_faster(dataset, dataset.loadRes([dict(row) for row in results]), "segm")
        evaluation.run()
        return evaluation.stats

    return work


def our_evaluation(kind, count):
    predictions, targets = scenes(kind, count)
    return lambda: evaluate(predictions, targets)


def cutting_alone(count):
    pictures = [one for many in scenes("network", count) for one in many]
    return lambda: [mask_crops(one["masks"]) for one in pictures]


def encoding_alone(count):
    pictures = [one for many in scenes("network", count) for one in many]
    return lambda: [encode_rle(mask_crops(one["masks"]), SIZE) for one in pictures]


def test_both_ways_give_the_same():
    for image_size in list(PICTURES.values())[:2]:
        theirs = [code["counts"].decode() for code in their_rles(image_size, 20)()]
        assert theirs == [result["segmentation"]["counts"] for result in our_rles(image_size, 20)()]
    stats = library_alone(20)()
    for kind in ("RLE", "network"):
        result = our_evaluation(kind, 20)()
        assert abs(result["AP"] - stats[0]) < 1e-8 and 0.2 < result["AP"] < 0.99


def test_rles_of_100_instances():
    print(
        "\n\n| picture | paste + encode | to_coco | ratio | paste + encode | to_coco |\n|---|---|---|---|---|---|"
    )
    for name, image_size in PICTURES.items():
        theirs, mine = (measure(way, image_size, 100, warm_up=WARM_UP) for way in (their_rles, our_rles))
        cells = duration(theirs.seconds), duration(mine.seconds), ratio(theirs.seconds, mine.seconds)
        print(f"| {name} |", " | ".join((*cells, size(theirs.memory), size(mine.memory))), "|", flush=True)


def test_evaluation():
    alone = measure(library_alone, SCENES, warm_up=(5,))
    print(
        f"\n\n{SCENES} scenes of {SIZE[1]} x {SIZE[0]}, {INSTANCES} instances each\n\n| | time | ratio |\n|---|---|---|"
    )
    print(f"| faster-coco-eval alone, on ready RLEs | {duration(alone.seconds)} | 1 |", flush=True)
    ways = {
        "evaluate, on ready RLEs": (our_evaluation, "RLE", SCENES),
        "cutting network masks": (cutting_alone, SCENES),
        "cutting them and making their RLEs": (encoding_alone, SCENES),
        "evaluate, on network masks": (our_evaluation, "network", SCENES),
    }
    for name, (way, *arguments) in ways.items():
        mine = measure(way, *arguments, warm_up=(*arguments[:-1], 5))
        print(f"| {name} | {duration(mine.seconds)} | {mine.seconds / alone.seconds:.2f} |", flush=True)
