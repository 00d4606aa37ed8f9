"""What a model brings along when it learns something else: from drawn tables to drawn skies.

`python3 run.py bench -k transfer` fills data/transfer.csv: some 2500 training steps in all. A run is written down when
it's finished, and isn't done again while its lines are there; delete the file to begin anew.

The recipe was chosen with the seeds 0 to 2, so what the start is worth is measured with others, and judged on skies
that nobody looked at before.
"""

import csv
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from skimage.data import hubble_deep_field
from torch import nn
from torch.utils.data import ConcatDataset, Dataset

from segutils import (
    CATEGORIES,
    DATA_DIR,
    SKY_CATEGORIES,
    add_classes,
    evaluate,
    load_model,
    make_target,
    maskrcnn_tabletop,
    predict,
    predict_tiles,
    render_scene,
    render_sky,
    replace_predictors,
    train,
)
from segutils.sky import bright_regions

TABLE = DATA_DIR / "transfer.csv"
COLUMNS = (
    *("question", "variant", "seed", "step", "AP on skies", "AP50 on skies", "AP on tables"),
    *("AP on 100 other skies", "AP50 on 100 other skies", "seconds a step"),
    *("of the 50 brightest", "finds", "on empty sky"),
)
STEPS = 150
RECIPE = {"peak_rate": 2e-3, "dtype": torch.float32}
UNSEEN_SKIES, OTHER_SKIES = range(10_000_000, 10_000_030), range(11_000_000, 11_000_100)
UNSEEN_TABLES = range(20_000, 20_040)

# What is not trained, by how the names of its parameters begin.
FROZEN = {
    "nothing": (),
    "half of the backbone": ("backbone.stem", "backbone.stages.0", "backbone.stages.1"),
    "the backbone": ("backbone",),
    "the backbone and the RPN": ("backbone", "rpn"),
    "all but the predictors": ("backbone", "rpn", "roi_heads.box_head", "roi_heads.mask_head"),
}


class Drawn(Dataset):
    """Pictures drawn when they're read. `shift` is added to the labels; with `few`, there are only so many."""

    def __init__(
        self, draw: Callable, count: int, first: int, shift: int = 0, few: int | None = None
    ) -> None:
        self.draw, self.count, self.first, self.shift = draw, count, first, shift
        self.stored = None if few is None else [draw(first + i) for i in range(few)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple:
        if self.stored is None:
            image, target = self.draw(self.first + index)
            return image, target | {"labels": target["labels"] + self.shift}
        image, target = self.stored[index % len(self.stored)]  # flipped and turned, as one does with few
        turns, flip = int(torch.randint(4, ())), [-1] if torch.rand(()) < 0.5 else []
        image, masks = (x.rot90(turns, (-2, -1)).flip(flip) for x in (image, target["masks"]))
        return image.contiguous(), make_target(masks.contiguous(), target["labels"])


def skies(seed: int, count: int = 4 * STEPS, **options) -> Drawn:
    return Drawn(render_sky, count, 100_000 * (seed + 1), **options)


def small_table(seed: int) -> tuple:
    return render_scene(seed, (384, 512))


@cache
def unseen(shift: int = 0) -> list[tuple]:
    pairs = Drawn(render_sky, len(UNSEEN_SKIES), UNSEEN_SKIES[0], shift)
    return [pairs[i] for i in range(len(pairs))]


def fresh(seed: int, start: str = "tables", frozen: tuple[str, ...] = ()) -> nn.Module:
    """The bundled model, or one with random weights, with new predictors for skies."""
    torch.manual_seed(seed)
    model = replace_predictors(
        load_model("tabletop")[0] if start == "tables" else maskrcnn_tabletop(), SKY_CATEGORIES
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen or ("-",)))
    return model


def judge(model: nn.Module, draw: Callable, seeds: range) -> dict:
    pairs = (draw(seed) for seed in seeds)
    found, targets = zip(*((predict(model, [image])[0], target) for image, target in pairs))
    return evaluate(found, targets)


def tables_ap(model: nn.Module) -> float:
    return judge(model, render_scene, UNSEEN_TABLES)["AP"]


def with_old_predictors(model: nn.Module) -> nn.Module:
    """The trained body below the predictors for tables: what it has forgotten."""
    old = load_model("tabletop")[0]
    for name, part in model.named_children():
        if name != "roi_heads":
            setattr(old, name, part)
    old.roi_heads.box_head, old.roi_heads.mask_head = model.roi_heads.box_head, model.roi_heads.mask_head
    return old.eval()


def look_at_photograph(model: nn.Module) -> dict[str, int]:
    """How many of the 50 brightest things' peaks lie within a mask; how many masks hold nothing bright."""
    image = torch.from_numpy(hubble_deep_field()).permute(2, 0, 1)
    regions, light = bright_regions(image)
    total = np.bincount(regions.ravel(), weights=light.ravel())[1:]
    peaks = [np.argmax(light * (regions == region)) for region in 1 + np.argsort(-total)[:50]]
    found = predict_tiles(model, image, tile=160, overlap=60, score_threshold=0.5)
    masks = found["masks"].paste().numpy()
    empty = sum(not (regions[mask] > 0).any() for mask in masks)
    return {
        "of the 50 brightest": int(masks.any(axis=0).ravel()[peaks].sum()),
        "finds": len(found["labels"]),
        "on empty sky": empty,
    }


def noted(question: str, variant: str, seed: int) -> bool:
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n", "utf-8")
    key = [question, variant, str(seed)]
    with TABLE.open(encoding="utf-8", newline="") as file:
        return any(row[:3] == key for row in csv.reader(file))


def note(question: str, variant: str, seed: int, history: list[dict], **figures: float) -> None:
    """Write a line for every validation; what is known of the end alone goes into the last."""
    judged = [
        {"AP on skies": row["AP"], "AP50 on skies": row["AP50"], "step": row["step"]}
        for row in history
        if "AP" in row
    ]
    judged[-1] |= figures
    with TABLE.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        for row in judged:
            row = {
                name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()
            }
            writer.writerow({"question": question, "variant": variant, "seed": seed} | row)
            print(question, variant, seed, row)


@pytest.mark.parametrize("seed", range(3, 6))
@pytest.mark.parametrize("start", ["tables", "random", "tables, predictors only"])
def test_what_the_start_is_worth(start, seed):
    if noted("start", start, seed):
        return
    frozen = FROZEN["all but the predictors"] if "only" in start else ()
    model = fresh(seed, start.split(",")[0], frozen)
    trained, history = train(model, skies(seed), steps=STEPS, validation=unseen(), every=25, **RECIPE)
    other = judge(trained, render_sky, OTHER_SKIES)
    figures = look_at_photograph(trained) | {
        f"{key} on 100 other skies": other[key] for key in ("AP", "AP50")
    }
    if seed == 3 and start != "random":
        figures["AP on tables"] = tables_ap(with_old_predictors(trained))
    note("start", start, seed, history, **figures)


@pytest.mark.parametrize("few", [4, 8, 16, 64])
@pytest.mark.parametrize("start", ["tables", "random"])
def test_few_pictures(start, few):
    if noted("few pictures", f"{few} from {start}", 0):
        return
    _, history = train(
        fresh(0, start), skies(0, 200, few=few), steps=50, validation=unseen(), every=50, **RECIPE
    )
    note("few pictures", f"{few} from {start}", 0, history)


@pytest.mark.parametrize("what", FROZEN)
def test_what_to_freeze(what):
    if noted("frozen", what, 0):
        return
    model = fresh(0, frozen=FROZEN[what])
    start = time.process_time()
    train(model, skies(0, few=8), steps=8, **RECIPE)
    seconds = (time.process_time() - start) / 8
    _, history = train(model, skies(0), steps=50, validation=unseen(), every=50, **RECIPE)
    note("frozen", what, 0, history, **{"seconds a step": seconds})


@pytest.mark.parametrize("replay", [False, True])
def test_new_classes_beside_the_old(replay):
    """As many skies in both cases; with replay there is a table for every sky, and twice as many steps."""
    variant = "with tables replayed" if replay else "skies alone"
    if noted("add classes", variant, 0):
        return
    old, _ = load_model("tabletop")
    shift = len(CATEGORIES) - 1
    torch.manual_seed(0)
    model, _ = add_classes(old, CATEGORIES, SKY_CATEGORIES[1:])
    pairs = skies(0, shift=shift)
    if not noted("add classes", "before", 0):
        note(
            "add classes",
            "before",
            0,
            [{"step": 0, "AP": 0.0, "AP50": 0.0}],
            **{"AP on tables": tables_ap(model)},
        )
    if replay:
        pairs = ConcatDataset([pairs, Drawn(small_table, len(pairs), 2_000_000)])
    steps = len(pairs) // 4
    trained, history = train(model, pairs, steps=steps, validation=unseen(shift), every=steps, **RECIPE)
    note("add classes", variant, 0, history, **{"AP on tables": tables_ap(trained)})
