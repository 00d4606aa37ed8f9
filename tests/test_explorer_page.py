"""The explorer's module in a real Chromium, without a page around it: what it computes is what Python computes."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import test_browser
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from segutils import RoIMasks
from segutils.evaluation import count_mistakes, crowd_rows, mask_iou, match_instances, precision_recall
from segutils.explorer.packing import pack, to_size
from segutils.explorer.view import Tally, View, as_code, describe, take_tally
from segutils.predictions import mask_crops

MODULE = Path(__file__).resolve().parents[1] / "segutils" / "explorer" / "explorer.js"
CATEGORIES = ("__background__", "coin", "N/A", "playing card", " banana\n(ripe) ")
ROUNDING = 0.5 / 255 + 2e-5  # of soft values that are sent as one byte
THRESHOLDS = [round(0.05 * i, 2) for i in range(1, 20)]

# Loads the module, and keeps it for the calls that follow. Arrays come back as text, which is quicker than as numbers.
LOAD = """async source => {
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    window.explorer = await import(url);
    window.sent = ({ values, ...rest }) => {
        const bytes = new Uint8Array(values.buffer);
        let text = "";
        for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
        return { ...rest, values: btoa(text), bytes: values.BYTES_PER_ELEMENT };
    };
}"""

# A Path2D that can be looked at: its rings, [[x, y], ...] each.
RECORD = """
    const Real = Path2D;
    window.Path2D = class {
        rings = [];
        moveTo(x, y) { this.rings.push([[x, y]]); }
        lineTo(x, y) { this.rings.at(-1).push([x, y]); }
        closePath() {}
    };
    try { return draw(); } finally { window.Path2D = Real; }
"""

chromium = test_browser.chromium


@pytest.fixture(scope="module")
def call(chromium):
    """Run lines of JavaScript, with `explorer` the module and `given` what is handed over: what they return."""
    page = chromium.new_page()
    page.evaluate(LOAD, MODULE.read_text("utf-8"))

    def call(lines: str, given: object = None):
        script = (
            f"text => {{ const given = JSON.parse(text); return JSON.stringify((() => {{ {lines} }})()); }}"
        )
        return json.loads(page.evaluate(script, json.dumps(given)))

    yield call
    page.close()


def grey(height: int = 60, width: int = 80) -> torch.Tensor:
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def prediction_of(masks, boxes=None, labels=None, scores=None) -> dict:
    """A prediction that has everything, whatever is handed in."""
    count = len(masks)
    return {
        "boxes": torch.zeros(count, 4) if boxes is None else boxes,
        "labels": torch.ones(count, dtype=torch.int64) if labels is None else labels,
        "scores": torch.linspace(1, 0.1, count) if scores is None else scores,
        "masks": masks,
    }


def pasted(crop: dict, size: tuple[int, int]) -> np.ndarray:
    """A crop, or a field, as the module gives it, in a picture: [H, W]."""
    left, top, width, height = (crop[key] for key in ("left", "top", "width", "height"))
    assert left >= 0 and top >= 0 and left + width <= size[1] and top + height <= size[0]
    values = np.frombuffer(base64.b64decode(crop["values"]), {1: np.uint8, 2: np.uint16}[crop["bytes"]])
    picture = np.zeros(size, np.int32)
    picture[top : top + height, left : left + width] = values.reshape(height, width)
    return picture


# --- masks ---------------------------------------------------------------------------------------------------


def some_boxes(random: np.random.Generator, height: int, width: int) -> torch.Tensor:
    """Boxes of all kinds: within the picture, across its rims, beyond it, tiny, huge, and without an area."""
    kinds = []
    for spread, low, high in (
        (1, 0.02, 0.5),
        (1.6, 0, 0.4),
        (1, 0, 0.02),
        (1, 1, 5),
        (4, 0.1, 0.5),
        (1, 0, 0),
    ):
        middle = (random.random((5, 2)) - 0.5) * spread + 0.5
        sides = random.uniform(low, high, (5, 2))
        kinds.append(np.concatenate([middle - sides / 2, middle + sides / 2], axis=1))
    boxes = np.concatenate(kinds) * (width, height, width, height)
    special = [
        [0, 0, width, height],
        [-0.5, -0.5, 0.2, 0.2],
        [3, 4, 3, 4],
        [9e3, 9e3, 1e4, 1e4],
        [-9e3, 5, 9e3, 9],
    ]
    return torch.from_numpy(np.concatenate([boxes, special])).float()


def some_probs(random: np.random.Generator, count: int, side: int) -> torch.Tensor:
    """Soft masks of all kinds: noise, blobs with blurred and with sharp edges, all 0, all 1."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    probs = random.random((count, side, side))
    for i in range(0, count, 2):
        (across, down), slope = random.normal(0, 0.2, 2), random.choice([5, 20, 200])
        far = np.hypot(x - across, 1.5 * (y - down)) - random.uniform(0.1, 0.6)
        probs[i] = 1 / (1 + np.exp(slope * far))
    probs[1], probs[3] = 0, 1
    return torch.from_numpy(probs).float()[:, None]


def soft_masks(masks: RoIMasks, size: tuple[int, int]) -> np.ndarray:
    """torchvision's soft masks, [N, H, W]. It cannot paste what lies beyond the picture: nothing is there then."""
    soft = np.zeros((len(masks), *size), np.float32)
    for one, probs, box in zip(soft, masks.probs, masks.boxes):
        if box[0] < size[1] + 1 and box[1] < size[0] + 1 and box[2] > -2 and box[3] > -2:
            one[:] = paste_masks_in_image(probs[None], box[None], size)[0, 0]
    return soft


def compared_pixels(shown: int, full: int) -> np.ndarray:
    """Where masks are compared, in full size: everywhere if it is shown, else at the pixels that are shown."""
    return np.arange(full) if shown >= full else ((np.arange(shown) + 0.5) * full / shown).astype(int)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (90, 500), (2000, 400)])
@pytest.mark.parametrize("side", [14, 28, 56])
def test_masks_are_enlarged_and_cut_as_python_does_it(call, side, height, width):
    random = np.random.default_rng(side * height)
    boxes = some_boxes(random, height, width)
    masks = RoIMasks(some_probs(random, len(boxes), side), boxes, (height, width))
    payload = pack([grey(height, width)], [prediction_of(masks, boxes)], CATEGORIES)
    size = tuple(payload["pictures"][0]["size"][::-1])
    shown = to_size({"masks": masks}, size)["masks"]
    soft = soft_masks(shown, size)
    sent = call(
        """return explorer.unpack(given.payload).pictures[0].instances.map(instance => {
            const field = instance.soft();
            const areas = given.thresholds.map(threshold => {
                const { values, area, ...frame } = explorer.cut(instance, threshold);
                if (Object.keys(frame).some(key => frame[key] !== field[key])) return "lies elsewhere";
                if (values.length !== field.values.length) return "differs in size";
                if (values.some((value, i) => value !== Number(field.values[i] > threshold * 65535))) return "is wrong";
                return area;
            });
            return { ...sent(field), areas, compared: sent(instance.compared()) };
        });""",
        {"payload": payload, "thresholds": THRESHOLDS},
    )
    fields = np.stack([pasted(one, size) for one in sent])
    assert np.abs(fields / 65535 - soft).max() <= ROUNDING
    rows, columns = (compared_pixels(*sides) for sides in zip(size, (height, width)))
    full = soft_masks(masks, (height, width))[:, rows[:, None], columns]
    compared = np.stack([pasted(one["compared"], full.shape[1:]) for one in sent])
    assert np.abs(compared / 65535 - full).max() <= ROUNDING
    for number, threshold in enumerate(THRESHOLDS):
        found, expected = fields > threshold * 65535, np.zeros(fields.shape, bool)
        assert [one["areas"][number] for one in sent] == found.sum(axis=(1, 2)).tolist()
        for picture, (left, top, mask) in zip(expected, shown.crops(threshold), strict=True):
            picture[top : top + len(mask), left : left + mask.shape[1]] = mask
        unequal = found != expected
        assert (np.abs(soft[unequal] - threshold) <= 1 / 255).all()
        assert unequal.sum() < 0.01 * found.sum()


def test_masks_with_boxes_of_their_own_lie_there(call):
    masks = RoIMasks(torch.ones(1, 1, 28, 28), torch.tensor([[10.0, 20, 30, 50]]), (60, 80))
    prediction = prediction_of(masks, torch.tensor([[0.0, 0, 80, 60]]))
    payload = pack([grey()], [prediction], CATEGORIES)
    crop = call("return sent(explorer.cut(explorer.unpack(given).pictures[0].instances[0], 0.5))", payload)
    shown = to_size(prediction, (120, 160))["masks"]
    assert (pasted(crop, (120, 160)) == shown.paste()[0].numpy()).all()


def test_soft_masks_of_full_size_are_cut_as_python_does_it(call):
    random = np.random.default_rng(0)
    soft = torch.from_numpy(random.random((6, 60, 80))).float() ** 3
    soft[0], soft[1, :, 30:], soft[2] = 0, 0, 1
    prediction = prediction_of(soft[:, None])
    payload = pack([grey()], [prediction], CATEGORIES)
    cuts = call(
        """return explorer.unpack(given.payload).pictures[0].instances.map(instance =>
            given.thresholds.map(threshold => sent(explorer.cut(instance, threshold))));""",
        {"payload": payload, "thresholds": THRESHOLDS},
    )
    shown = to_size(prediction, (120, 160))["masks"][:, 0].numpy()
    for values, crops in zip(shown, cuts, strict=True):
        for threshold, crop in zip(THRESHOLDS, crops, strict=True):
            unequal = pasted(crop, (120, 160)) != (values > threshold)
            assert (np.abs(values[unequal] - threshold) <= 1 / 255).all()


def some_masks(random: np.random.Generator, count: int, height: int, width: int) -> torch.Tensor:
    """Boolean masks of all kinds: single pixels, noise, stripes, rectangles that touch the rim; empty and full ones."""
    masks = np.zeros((count, height, width), bool)
    for i, mask in enumerate(masks):
        top, left = random.integers(0, height), random.integers(0, width)
        bottom, right = random.integers(top, height) + 1, random.integers(left, width) + 1
        part = mask[top:bottom, left:right]
        part[:] = [random.random(part.shape) < random.random(), True, False, True][i % 4]
        if i % 4 == 2:
            part[:: random.integers(1, 4), :: random.integers(1, 4)] = True
    masks[0], masks[1] = False, True
    return torch.from_numpy(masks)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (7, 9), (271, 333), (130, 1700)])
def test_boolean_masks_and_things_are_unpacked_exactly(call, height, width):
    masks = some_masks(np.random.default_rng(height), 40, height, width)
    target = {"labels": torch.ones(40, dtype=torch.int64), "masks": masks}
    payload = pack([grey(height, width)], [prediction_of(masks)], CATEGORIES, [target])
    size = tuple(payload["pictures"][0]["size"][::-1])
    cuts, compared, things = call(
        """const { instances, things } = explorer.unpack(given).pictures[0];
        const cuts = [0.05, 0.95].map(threshold => instances.map(one => sent(explorer.cut(one, threshold))));
        const compared = instances.map(one => sent(one.compared()));
        const truth = things.map(one => ({ ...one, mask: sent(one.mask), compared: sent(one.compared) }));
        return [cuts, compared, truth];""",
        payload,
    )
    shown = to_size(target, size)["masks"]
    for crops in (*cuts, [thing["mask"] for thing in things]):
        for crop, expected in zip(crops, shown.numpy(), strict=True):
            assert (pasted(crop, size) == expected).all()
            assert crop["area"] == expected.sum()
    rows, columns = (compared_pixels(*sides) for sides in zip(size, (height, width)))
    for one, thing, mask in zip(compared, things, masks[:, rows[:, None], columns].numpy(), strict=True):
        assert (pasted(one, mask.shape) == 65535 * mask).all()
        assert (pasted(thing["compared"], mask.shape) == mask).all() and thing["compared"][
            "area"
        ] == mask.sum()
    for thing, (left, top, mask), full in zip(things, mask_crops(shown), masks, strict=True):
        assert thing["box"] == [left, top, left + mask.shape[1], top + mask.shape[0]]
        assert thing["area"] == mask.sum() and thing["fullArea"] == full.sum()


# --- outlines ------------------------------------------------------------------------------------------------


def winding(rings: list[list], height: int, width: int) -> np.ndarray:
    """How often the rings go around the middle of each pixel, clockwise on the screen: int [H, W]."""
    times = np.zeros((height, width), int)
    middles = np.arange(width) + 0.5
    for ring in rings:
        for (x, y), (next_x, next_y) in zip(ring, ring[1:] + ring[:1]):
            for row in range(height):
                if (y <= row + 0.5) != (next_y <= row + 0.5):  # the ring crosses the row's middle here
                    across = x + (next_x - x) * (row + 0.5 - y) / (next_y - y)
                    times[row, middles > across] += 1 if next_y < y else -1
    return times


def area(rings: list[list]) -> float:
    """The area within rings; of those that go the other way around, what they take away."""
    total = 0.0
    for ring in rings:
        x, y = np.array(ring).T
        total += ((x * np.roll(y, -1)) - (np.roll(x, -1) * y)).sum() / 2
    return total


def rings_of(call, values: np.ndarray, level: float) -> list[list]:
    """The outline of a field with its corner at (0, 0), as rings of points."""
    given = {
        "height": values.shape[0],
        "width": values.shape[1],
        "values": values.flatten().tolist(),
        "level": level,
    }
    return call(
        f"const draw = () => explorer.contour({{ left: 0, top: 0, ...given }}, given.level).rings; {RECORD}",
        given,
    )


def waves(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth field with hills, holes and saddles, 0 to 65535."""
    y, x = np.mgrid[:height, :width]
    field = sum(
        np.sin(x * random.normal(0, 0.3) + y * random.normal(0, 0.3) + random.uniform(0, 6)) for _ in range(4)
    )
    return ((field / 8 + 0.5).clip(0, 1) * 65535).astype(int)


@pytest.mark.parametrize("seed", range(12))
def test_outlines_wind_once_around_every_pixel_of_the_mask_and_around_no_other(call, seed):
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 40, 2)
    noise = random.integers(0, 65536, (height, width))
    mask = some_masks(random, 4, height, width)[seed % 4].numpy().astype(int)
    full = np.full((height, width), 65535)
    fields = [(noise, 30000.5), (waves(random, height, width), 32767.5), (mask, 0.5)]
    for values, level in [*fields, (full, 0.05 * 65535), (full, 0.95 * 65535), (0 * full, 0.5)]:
        rings = rings_of(call, values, level)
        assert (
            winding(rings, height, width) == (values > level)
        ).all()  # so even-odd and nonzero agree as well


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_the_area_of_an_outline_is_that_of_the_mask(call, threshold):
    for seed in range(10):
        field, level = waves(np.random.default_rng(seed), 120, 160), threshold * 65535
        field[[0, -1]] = field[:, [0, -1]] = 0
        rings, mask = rings_of(call, field, level), field > level
        assert abs(area(rings) - mask.sum()) < 0.1 * sum(len(ring) for ring in rings)


def test_a_ring_is_one_subpath_and_a_hole_goes_the_other_way(call):
    y, x = np.mgrid[:40, :60]
    field = (65535 * np.clip(1.5 - np.abs(np.hypot(x - 15, y - 20) - 8) / 4, 0, 1)).astype(int)  # a ring
    field[10:30, 40:50] = 65535
    areas = sorted(area([ring]) for ring in rings_of(call, field, 32767.5))
    assert areas == pytest.approx([-np.pi * 4**2, 20 * 10 - 0.5, np.pi * 12**2], rel=0.02)


def test_straight_and_touching_masks_have_the_outlines_one_would_draw(call):
    corners = rings_of(call, np.array([[65535, 0], [0, 65535]]), 60000)
    assert len(corners) == 2  # together only where the mean of the four is above the level
    assert len(rings_of(call, np.array([[65535, 32000], [32000, 65535]]), 40000)) == 1
    (ring,) = rings_of(call, np.ones((2, 3), int), 0.5)
    assert area([ring]) == 6 - 4 * 0.5 * 0.5**2


@pytest.mark.parametrize("rule", ["evenodd", "nonzero"])
def test_filled_outlines_are_the_masks_but_for_their_rims(call, rule):
    random = np.random.default_rng(5)
    boxes = some_boxes(random, 60, 80)
    masks = RoIMasks(some_probs(random, len(boxes), 28), boxes, (60, 80))
    target = {"labels": torch.ones(20, dtype=torch.int64), "masks": some_masks(random, 20, 60, 80)}
    payload = pack([grey()], [prediction_of(masks, boxes)], CATEGORIES, [target])
    drawn = call(
        """const { instances, things, width, height } = explorer.unpack(given.payload).pictures[0];
        const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        const filled = path => {
            context.clearRect(0, 0, width, height);
            context.fill(path, given.rule);
            const values = context.getImageData(0, 0, width, height).data.filter((_, i) => i % 4 === 3);
            return sent({ left: 0, top: 0, width, height, values });
        };
        return [
            ...instances.map(one => [filled(explorer.outline(one, 0.4)), sent(explorer.cut(one, 0.4))]),
            ...things.map(one => [filled(explorer.thingOutline(one)), sent(one.mask)]),
        ];""",
        {"payload": payload, "rule": rule},
    )
    wrong = total = 0
    for filled, crop in drawn:
        filled, mask = pasted(filled, (120, 160)), pasted(crop, (120, 160)).astype(bool)
        around = np.pad(mask, 1)
        around = np.stack([around[y : y + 120, x : x + 160] for y in range(3) for x in range(3)])
        assert (filled[around.all(axis=0)] >= 250).all() and (filled[~around.any(axis=0)] <= 5).all()
        wrong, total = wrong + np.count_nonzero((filled >= 128) != mask), total + np.count_nonzero(mask)
    assert wrong < 0.01 * total


def test_outlines_and_cuts_are_kept_for_the_last_threshold(call):
    masks = RoIMasks(torch.ones(1, 1, 28, 28), torch.tensor([[10.0, 20, 30, 50]]), (60, 80))
    target = {"labels": torch.ones(1, dtype=torch.int64), "masks": torch.ones(1, 60, 80, dtype=torch.bool)}
    same = call(
        """const picture = explorer.unpack(given).pictures[0], [one] = picture.instances, [thing] = picture.things;
        return [
            ...[explorer.outline, explorer.cut].flatMap(make => {
                const first = make(one, 0.4);
                return [first === make(one, 0.4), first !== make(one, 0.5), first !== make(one, 0.4)];
            }),
            one.soft() === one.soft(),
            explorer.thingOutline(thing) === explorer.thingOutline(thing),
            explorer.matchAll(picture, 0.4) === explorer.matchAll(picture, 0.4),
        ];""",
        pack([grey()], [prediction_of(masks)], CATEGORIES, [target]),
    )
    assert all(same)


# --- matches and counts --------------------------------------------------------------------------------------


def some_problem(random: np.random.Generator) -> tuple[dict, dict]:
    """Rectangles on a coarse grid: many IoUs are equal, some are 0.5 exactly, and many scores are equal as well."""
    sides = []
    for count in random.integers(0, 14, 2):
        masks = torch.zeros(count, 12, 16, dtype=torch.bool)
        for mask in masks:
            top, left = 2 * random.integers(0, 5), 2 * random.integers(0, 7)
            mask[top : top + 2 * random.integers(1, 4), left : left + 2 * random.integers(0, 5)] = True
        sides.append({"labels": torch.from_numpy(random.choice([1, 3], count)), "masks": masks})
    prediction, target = sides
    scores = torch.from_numpy(random.choice([0.05, 0.3, 0.5, 0.9, 1.0], len(prediction["labels"]))).float()
    prediction = prediction_of(prediction["masks"], None, prediction["labels"], scores)
    if random.random() < 0.7:
        crowds = torch.from_numpy(random.random(len(target["labels"])) < 0.25)
        target["iscrowd"] = (crowds & target["masks"].any(-1).any(-1)).long()
    return prediction, target


@pytest.fixture(scope="module")
def problems() -> list[tuple[dict, dict]]:
    random = np.random.default_rng(1)
    return [some_problem(random) for _ in range(200)]


@pytest.fixture(scope="module")
def gallery(problems) -> dict:
    """The problems as the pictures of one payload."""
    predictions, targets = zip(*problems)
    return pack([grey(12, 16)] * len(problems), predictions, CATEGORIES, targets, several=True)


def matches_of(prediction: dict, target: dict) -> torch.Tensor:
    iou = mask_iou(prediction["masks"], target["masks"], iscrowd=target.get("iscrowd"))
    return match_instances(iou, prediction, target)


def test_ious_and_matches_are_those_of_python(call, problems, gallery):
    found = call(
        """return explorer.unpack(given).pictures.map(picture => [
            [...explorer.ious(picture, 0.5)], [...explorer.matchAll(picture, 0.5)]]);""",
        gallery,
    )
    kinds = set()
    for (prediction, target), (ious, matches) in zip(problems, found, strict=True):
        iou = mask_iou(prediction["masks"], target["masks"], iscrowd=target.get("iscrowd"))
        iou[prediction["labels"][:, None] != target["labels"]] = 0
        assert ious == iou.flatten().tolist()
        assert matches == matches_of(prediction, target).tolist()
        kinds |= set(matches)
    assert {-2, -1, 0, 5} <= kinds


VIEWS = [
    {"score_threshold": threshold, "mask_threshold": 0.5, "classes": classes}
    for threshold in (0.05, 0.3, 0.31, 0.9, 1.0)
    for classes in ([1, 3], [3], [])
]


def test_tallies_are_those_of_python(call, problems, gallery):
    found = call(
        """return explorer.unpack(given.gallery).pictures.map(picture => given.views.map(view => [
            explorer.tally(picture, view, explorer.matchAll(picture, 0.5)), explorer.tally(picture, view, null)]));""",
        {"gallery": gallery, "views": VIEWS},
    )
    for (prediction, target), tallies in zip(problems, found, strict=True):
        matches = matches_of(prediction, target)
        for view, (known, unknown) in zip(VIEWS, tallies, strict=True):
            usual = View(**{**dict.fromkeys(View._fields), **view})
            assert known == take_tally(usual, prediction, target, matches)._asdict()
            assert unknown == take_tally(usual, prediction)._asdict()


def test_sentences_are_those_of_python(call):
    random = np.random.default_rng(2)
    tallies = [
        Tally(*(list(range(count)) for count in random.integers(0, 9, 5)), int(random.integers(0, 9)))
        for _ in range(500)
    ]
    tallies = [
        t for t in tallies if len(t.hits) + len(t.ignored) <= len(t.kept) and len(t.hits) <= max(t.total, 0)
    ]
    tallies += [
        Tally([0] * kept, [], [0] * hits, [], [], kept) for kept in range(1, 42) for hits in range(kept + 1)
    ]
    found = call(
        "return given.map(tally => [true, false].map(target => explorer.describe(tally, target)))",
        [tally._asdict() for tally in tallies],
    )
    assert found == [[describe(tally, True), describe(tally, False)] for tally in tallies]


def test_code_is_that_of_python(call):
    random = np.random.default_rng(3)
    payload = pack(
        [grey()] * 4,
        [prediction_of(torch.ones(1, 60, 80), labels=torch.tensor([i])) for i in (3, 1, 4, 99)],
        CATEGORIES,
    )
    views = []
    for _ in range(200):
        chosen = [int(label) for label in random.permutation([1, 3, 4, 99])[: random.integers(0, 5)]]
        scores, masks = random.integers(5, 101) / 100, random.integers(5, 96) / 100
        masks, alpha = random.choice([masks, 0.5]), random.choice([0.45, 0.0, 1.0, 0.07])
        shown = {
            name: bool(random.random() < 0.7)
            for name in ("masks", "outlines", "boxes", "labels", "dropped", "missed")
        }
        views.append(View(float(scores), float(masks), tuple(chosen), float(alpha), **shown))
    for several, picture in ((False, None), (True, 3)):
        scene = {"payload": payload | {"several": several}}
        found = call(
            "const scene = explorer.unpack(given.payload);"
            "return given.views.map(view => explorer.asCode(scene, view))",
            scene | {"views": [view._asdict() | {"picture": picture} for view in views]},
        )
        assert found == [as_code(view, payload["classes"], CATEGORIES, picture) for view in views]


def test_precision_and_recall_are_those_of_python(call):
    random = np.random.default_rng(4)
    hits = [random.random(count) < 0.6 for count in (0, 1, 7, 100)]
    totals = [int(one.sum()) + extra for one in hits for extra in (0, 3)]
    given = [[one.tolist(), total] for one, total in zip(np.repeat(np.array(hits, object), 2), totals)]
    found = call("return given.map(([hits, total]) => explorer.precisionRecall(hits, total))", given)
    for (one, total), curve in zip(given, found, strict=True):
        hits = torch.tensor(one, dtype=torch.bool)
        expected = precision_recall(hits, torch.linspace(1, 0, len(hits)), total)
        for name, values in zip(("precision", "recall"), expected):
            assert [np.nan if value is None else value for value in curve[name]] == pytest.approx(
                values.tolist(), nan_ok=True, abs=0
            )


@pytest.mark.parametrize("classes", [[1, 3], [1], []])
def test_costs_are_counted_as_python_counts_mistakes(call, problems, gallery, classes):
    view = {"score_threshold": 0.5, "mask_threshold": 0.5, "classes": classes}
    found = call(
        """const scene = explorer.unpack(given.gallery);
        const one = { ...scene, pictures: scene.pictures.slice(7, 8) }, counted = [];
        counted[7] = Int32Array.from(one.pictures[0].instances, () => -1);
        return [
            ...[0.2, 1, 5].map(price => explorer.costs(scene, given.view, price)),
            explorer.costs(one, given.view, 1, counted),
        ].map(({ thresholds, cost, best }) => [[...thresholds], [...cost], best]);""",
        {"gallery": gallery, "view": view},
    )
    thresholds = torch.arange(5, 101, dtype=torch.float64) / 100
    misses = alarms = 0
    for problem in problems:
        prediction, target = (
            {k: v[torch.isin(one["labels"], torch.tensor(classes))] for k, v in one.items()}
            for one in problem
        )
        more = count_mistakes(prediction, target, thresholds)
        misses, alarms = misses + more[0], alarms + more[1]
    *sums, replaced = found
    for price, (places, cost, best) in zip((0.2, 1, 5), sums, strict=True):
        expected = (price * misses + alarms).double()
        assert places == thresholds.tolist()
        assert cost == pytest.approx(expected.tolist()) and best == int(np.argmin(cost))
    prediction, target = problems[7]  # with the matches that were handed over, all of its instances are wrong
    chosen = torch.isin(prediction["labels"], torch.tensor(classes))
    kept = (prediction["scores"][chosen] >= thresholds[:, None].float()).sum(dim=1)
    things = torch.isin(target["labels"], torch.tensor(classes)) & ~crowd_rows(target)
    assert len(kept) and replaced[1] == (kept + things.sum()).tolist()


def test_the_curve_of_ious_is_that_of_python(call):
    random = np.random.default_rng(6)
    boxes = torch.tensor([[5.0, 5, 60, 50], [-20, 10, 30, 80], [40, 30, 79, 59]])
    masks = RoIMasks(some_probs(random, 6, 28)[[0, 2, 4]], boxes, (60, 80))
    target = {"labels": torch.tensor([1, 3, 3, 1]), "iscrowd": torch.tensor([0, 1, 0, 0])}
    target["masks"] = some_masks(random, 7, 60, 80)[[1, 3, 5, 6]]
    for prediction, rounding in ((prediction_of(masks, boxes), 0.01), (prediction_of(masks.paste()), 0)):
        found = call(
            """const picture = explorer.unpack(given).pictures[0], { instances, things } = picture;
            const at = [...Array(91).keys()].map(k => (k + 5) / 100);
            return instances.map((one, i) => things.map((thing, j) => [
                [...explorer.iouCurve(picture, i, j)],
                at.map(threshold => explorer.overlap(one, thing, threshold)),
                at.map(threshold => explorer.ious(picture, threshold)[4 * i + j]),
                [explorer.overlap(one, thing, 1 / 3), explorer.ious(picture, 1 / 3)[4 * i + j]],
            ]));""",
            pack([grey()], [prediction], CATEGORIES, [target]),
        )
        same_class = target["labels"] == 1
        for step, threshold in [*enumerate(np.arange(5, 96) / 100), (None, 1 / 3)]:
            expected = mask_iou(prediction["masks"], target["masks"], threshold, target["iscrowd"])
            for i, things in enumerate(found):
                for j, (curve, overlaps, ious, between) in enumerate(things):
                    overlap, iou = between if step is None else (overlaps[step], ious[step])
                    assert overlap == pytest.approx(float(expected[i, j]), abs=rounding)
                    assert iou == (overlap if same_class[j] else 0)
                    assert len(curve) == 91 and curve == overlaps
