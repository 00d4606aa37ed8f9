"""The explorer as people use it: with a mouse, a finger, a keyboard or a screen reader, in pages of all sizes.

It runs in a page that is opened from the file system, and here and there as a widget with a stand-in for the kernel.
tests/test_explorer_page.py holds what it computes against Python; tests/test_browser.py runs it in JupyterLab.
"""

import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import test_browser
import torch
from PIL import Image
from playwright.sync_api import expect
from test_site import violations
from torch.nn.functional import max_pool2d

from segutils import load_model, predict, render_scene
from segutils.explorer.packing import pack
from segutils.roi_masks import RoIMasks

MODULE = Path(__file__).resolve().parents[1] / "segutils" / "explorer" / "explorer.js"
CATEGORIES = ("__background__", "cup", "key", "coin")
KINDS = ("roi", "soft", "bool")
PAD, LINE = 12, 55  # pixels: where the strip's line begins, and how far down it is

chromium = test_browser.chromium
expect.set_options(timeout=30_000)

# --- pages ---------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Explorer</title>
<meta name="viewport" content="width=device-width">
<style>:root { color-scheme: light dark; } a { color: inherit; }
body { margin: 16px; font-family: system-ui, sans-serif; } main { STYLE }
</style><main><h1 style="font-size: 18px; line-height: 24px; margin: 0 0 4px">Explorer</h1>
<a href="#before">before</a>ELEMENTS<a href="#after">after</a></main>
<script type="module">MODULE
for (const element of document.querySelectorAll(".explorer"))
    window.close = showExplorer(element, JSON.parse(element.nextElementSibling.textContent));
</script></html>"""
ELEMENT = """<div class="explorer"></div><script type="application/json">PAYLOAD</script>"""

# Keeps what is written on canvases, and what the status says, from the start.
LISTEN = """window.written = [];
for (const { prototype } of [CanvasRenderingContext2D, OffscreenCanvasRenderingContext2D]) {
    const write = prototype.fillText;
    prototype.fillText = function (text, ...rest) {
        window.written.push(String(text));
        return write.call(this, text, ...rest);
    };
}
window.heard = [];
new MutationObserver(changes => changes.forEach(({ target }) => {
    if (target.closest?.("[role=status]")) window.heard.push(target.textContent);
})).observe(document, { childList: true, subtree: true });"""


@pytest.fixture
def open_page(chromium, tmp_path):
    """Open a page with explorers for some payloads. Nothing may go wrong in it, nor be asked of a network."""
    contexts, wrong, numbers = [], [], itertools.count()

    def open_page(*payloads: dict, size=(1280, 720), style="", **options):
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on(
            "request", lambda request: re.match("file:|data:|blob:", request.url) or wrong.append(request.url)
        )
        page.add_init_script(LISTEN)
        elements = "".join(
            ELEMENT.replace("PAYLOAD", json.dumps(one).replace("</", "<\\/")) for one in payloads
        )
        file = tmp_path / f"page_{next(numbers)}.html"
        html = PAGE.replace("STYLE", style).replace("ELEMENTS", elements)
        file.write_text(
            html.replace("MODULE", MODULE.read_text("utf-8").replace("</script", "<\\/script")), "utf-8"
        )
        page.goto(file.as_uri())
        if payloads and "display: none" not in style:
            painted(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def painted(page):
    """Wait until the picture is there, and what was asked for has been drawn."""
    page.wait_for_function(
        "[...document.querySelectorAll('.stage canvas')].every(canvas => canvas.style.width)"
    )
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def field(page, name, role="spinbutton"):
    return page.get_by_role(role, name=name).first


def set_to(page, name, value):
    """Type a number into a field, and wait until all is as it says."""
    number = field(page, name)
    number.fill(str(value))
    number.press("Enter")
    number.blur()
    told(page)


def told(page):
    """Wait until the explorer has told what it shows: the words for all to see and for some to hear are the same."""
    painted(page)
    page.wait_for_function("""() => [...document.querySelectorAll('.segutils-explorer')].every(root => {
        const [score, mask] = [...root.querySelectorAll('[type=number]')].map(one => one.valueAsNumber.toFixed(2));
        const counts = root.querySelector('.counts').textContent, alt = root.querySelector('.stage img').alt;
        const pictures = [...root.querySelectorAll('.thumb')]; // which are counted one after the other
        return pictures.every(one => one.innerText)
            && alt.includes(`threshold ${score}, mask threshold ${mask}. ${counts}`);
    })""")


def status(page):
    return page.get_by_role("status").first.text_content()


def alt(page):
    return page.locator(".stage img").first.get_attribute("alt")


def code(page):
    return page.locator("code").first.text_content()


def strip_words(page):
    return page.locator(".strip").first.get_attribute("aria-label")


def curve_words(page):
    return page.locator(".curve").first.get_attribute("aria-label")


def names(page):
    """The entries of the list of instances: each instance, and what became of it."""
    return page.locator("select").first.locator("optgroup option").all_text_contents()


def class_counts(page):
    return page.locator(".classes").first.locator("label").all_text_contents()


def pixels(locator) -> np.ndarray:
    """What is to be seen of an element: int [H, W, 3]."""
    return np.array(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def picture(page) -> np.ndarray:
    page.mouse.move(1, 1)
    painted(page)
    return pixels(page.locator(".stage").first)


def on_strip(page, score, height=0):
    """Where a score stands in the window, and so many marks above its lowest one."""
    box = page.locator(".strip").first.bounding_box()
    return box["x"] + PAD + score * (box["width"] - 2 * PAD), box["y"] + LINE - 7 - 9 * height


def in_picture(page, x, y):
    """Where a place of a picture of 80 x 60 pixels is in the window."""
    box = page.locator(".stage").first.bounding_box()
    return box["x"] + x / 80 * box["width"], box["y"] + y / 60 * box["height"]


# --- payloads ------------------------------------------------------------------------------------------------

BOXES = ((2, 4, 42, 34), (30, 10, 70, 50), (5, 30, 35, 58), (50, 2, 78, 30), (20, 20, 60, 44))


def grey(height=60, width=80):
    return torch.full((3, height, width), 100, dtype=torch.uint8)


def cones(
    kind="roi", boxes=BOXES, labels=(1, 2, 1, 3, 2), scores=(0.875, 0.75, 0.5, 0.5, 0.25), size=(60, 80)
):
    """A prediction with masks that grow smaller as the mask threshold rises; the three kinds are equal at 0.5."""
    along = torch.linspace(-1, 1, 28)
    cone = (1 - torch.hypot(along[:, None], along)).clamp(min=0)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = RoIMasks(cone.repeat(len(boxes), 1, 1, 1), boxes, size)
    if kind != "roi":
        masks = masks.paste(0.5)
    if kind == "soft":
        inner = cones("roi", boxes.tolist(), labels, scores, size)["masks"].paste(0.8)
        masks = (0.6 * masks + 0.3 * inner)[:, None]
    return {
        "boxes": boxes,
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "masks": masks,
    }


def rows(prediction, wanted):
    return {key: value[wanted] for key, value in prediction.items()}


def truth(wanted=(0, 1, 3)):
    """What `cones` shows, as a target: some of the instances, and a key in the corner that none of them is."""
    found = rows(cones("bool"), list(wanted))
    corner = torch.zeros(1, 60, 80, dtype=torch.bool)
    corner[:, 40:58, 62:78] = True
    return {
        "labels": torch.cat([found["labels"], torch.tensor([2])]),
        "masks": torch.cat([found["masks"], corner]),
    }


def packed(prediction=None, target=None, categories=CATEGORIES, image=None):
    """One picture with `cones`, unless something else is handed in."""
    prediction = cones() if prediction is None else prediction
    targets = None if target is None else [target]
    return pack([grey() if image is None else image], [prediction], categories, targets)


def gallery(has_target=True):
    """Three pictures: `cones`, nothing at all, and all five right."""
    predictions = [cones(), rows(cones(), []), cones()]
    targets = [truth(), rows(truth(), []), cones("bool")] if has_target else None
    return pack([grey(), grey() // 2, grey(40, 80) * 2], predictions, CATEGORIES, targets, several=True)


@pytest.fixture(scope="module")
def scene():
    """A drawn table, and what the bundled model finds on it."""
    image, target = render_scene(75)
    model, weights = load_model("tabletop", device="cpu")
    return packed(predict(model, [image])[0], target, weights.meta["categories"], image)


# --- mouse ---------------------------------------------------------------------------------------------------


def test_the_threshold_is_dragged_on_the_strip(open_page):
    page = open_page(packed(target=truth()))
    page.mouse.move(*on_strip(page, 0.5, 3))
    page.mouse.down()
    for score in (0.55, 0.6, 0.62):
        page.mouse.move(*on_strip(page, score, 3))
    expect(field(page, "Score threshold")).to_have_value("0.62")
    page.mouse.move(*on_strip(page, -0.5, 20))  # wherever the pointer goes
    expect(field(page, "Score threshold")).to_have_value("0.05")
    page.mouse.move(*on_strip(page, 0.7))
    page.mouse.up()
    page.mouse.move(*on_strip(page, 0.9))  # nothing moves any more
    told(page)
    assert status(page).startswith("Kept 2 of 5 instances: ") and "[prediction], 0.7)" in code(page)
    expect(field(page, "Score threshold", "slider")).to_have_value("0.7")
    page.mouse.click(*on_strip(page, 0.33, 2))
    expect(field(page, "Score threshold")).to_have_value("0.33")


def test_a_click_on_a_mark_opens_its_card_and_a_drag_from_it_moves_the_threshold(open_page):
    page = open_page(packed(target=truth()))
    card = page.locator(".card")
    page.mouse.click(*on_strip(page, 0.755))
    expect(card.locator("b")).to_have_text("key 0.75")
    expect(field(page, "Score threshold")).to_have_value("0.5")
    page.mouse.click(*on_strip(page, 0.505, 1))  # one of two that stand one above the other
    expect(card.locator("b")).to_have_text("coin 0.50")
    page.mouse.move(*on_strip(page, 0.755))
    page.mouse.down()
    page.mouse.move(*on_strip(page, 0.6), steps=5)
    page.mouse.up()
    expect(field(page, "Score threshold")).to_have_value("0.6")
    expect(card.locator("b")).to_have_text("coin 0.50")
    expect(card.locator("dd").first).to_have_text("dropped: its score is below the threshold")


def test_the_threshold_is_dragged_along_the_curve(open_page):
    page = open_page(packed(target=truth()))
    set_to(page, "Mask threshold", 0.45)
    box = page.locator(".curve").bounding_box()

    def place(recall, precision):
        return box["x"] + 34 + 150 * recall, box["y"] + 112 - 100 * precision

    page.mouse.move(*place(0.25, 0.9))
    page.mouse.down()
    expect(field(page, "Score threshold")).to_have_value("0.87")  # the hundredth below 0.875
    page.mouse.move(*place(0.8, 0.5), steps=4)
    expect(field(page, "Score threshold")).to_have_value("0.25")
    page.mouse.up()
    told(page)
    assert curve_words(page) == "Precision over recall; here recall is 0.75 and precision 0.60"
    dot = page.locator(".curve circle")
    assert (float(dot.get_attribute("cx")), float(dot.get_attribute("cy"))) == pytest.approx((146.5, 52))


def test_what_the_pointer_means_lights_up_in_the_picture_and_on_the_strip(open_page):
    page = open_page(packed(target=truth()))
    tip, plain, strip = page.locator(".tip"), picture(page), pixels(page.locator(".strip"))
    page.mouse.move(*in_picture(page, 22, 19))
    expect(tip).to_have_text("\u2713 cup 0.88")
    ringed = pixels(page.locator(".strip"))
    x = on_strip(page, 0.875)[0] - page.locator(".strip").bounding_box()["x"]
    changed = np.flatnonzero((ringed != strip).any(2).any(0))
    assert changed.min() > x - 12 and changed.max() < x + 12
    page.mouse.move(*on_strip(page, 0.755))
    expect(tip).to_have_text("\u2713 key 0.75")
    painted(page)
    lit = (pixels(page.locator(".stage")) != plain).any(2)
    down, across = np.nonzero(lit)
    scale = plain.shape[1] / 80
    assert across.min() > 28 * scale and across.max() < 72 * scale and down.max() < 52 * scale
    page.mouse.move(*in_picture(page, 1, 1))
    expect(tip).to_be_hidden()
    assert (picture(page) == plain).all() and (pixels(page.locator(".strip")) == strip).all()


def test_a_click_in_the_picture_opens_a_card_and_one_on_the_ground_closes_it(open_page):
    page = open_page(packed(target=truth()))
    card, choice = page.get_by_role("group", name="Instance"), page.get_by_role("combobox", name="Instance")
    page.mouse.click(*in_picture(page, 22, 19))
    expect(card).to_be_visible()
    painted(page)
    assert card.locator("dt").all_text_contents() == ["verdict", "box", "area", "best match"]
    area = cones()["masks"].paste()[0].sum()
    assert card.locator("dd").all_text_contents()[:3] == ["hit", "40 x 30 at (2, 4)", f"{area} pixels"]
    expect(choice).to_have_value("instance 0")
    page.mouse.click(*in_picture(page, 70, 50))  # what is missed can be clicked, too
    expect(card.locator("dd").first).to_have_text("missed")
    expect(choice).to_have_value("thing 3")
    page.mouse.click(*in_picture(page, 1, 1))
    expect(card).to_be_hidden()
    expect(choice).to_have_value("")


def test_a_name_stands_for_its_instance(open_page):
    page = open_page(packed())
    tip, plain = page.locator(".tip"), picture(page)
    page.mouse.move(*in_picture(page, 40, 8.5))  # where no mask is, but the name of the second
    expect(tip).to_have_text("key 0.75")
    painted(page)
    assert (pixels(page.locator(".stage")) != plain).any()
    page.mouse.click(*in_picture(page, 40, 8.5))
    expect(page.locator(".card b")).to_have_text("key 0.75")
    page.get_by_role("button", name="Close the card").click()
    page.get_by_role("checkbox", name="labels").uncheck()
    painted(page)
    page.mouse.move(*in_picture(page, 1, 1))
    page.mouse.move(*in_picture(page, 40, 8.5))
    expect(tip).to_be_hidden()


def test_the_wheel_scrolls_the_page_until_the_picture_is_zoomed(open_page):
    page = open_page(packed(), size=(1280, 400))
    whole = page.locator(".stage img").bounding_box()
    page.mouse.move(*in_picture(page, 20, 20))
    page.mouse.wheel(0, 60)
    page.wait_for_function("scrollY == 60")
    page.mouse.wheel(0, -60)
    page.wait_for_function("scrollY == 0")
    before = in_picture(page, 20, 20)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function(
        "!document.querySelector('.stage img').style.transform.startsWith('translate(0px')"
    )
    zoomed = page.locator(".stage img").bounding_box()
    # A turn of a wheel is about half as large again, and what is under the pointer stays there.
    assert zoomed["width"] / whole["width"] == pytest.approx(np.exp(0.4), abs=0.01)
    x = zoomed["x"] + 20 / 80 * zoomed["width"], zoomed["y"] + 20 / 60 * zoomed["height"]
    assert x == pytest.approx(before, abs=1)
    page.mouse.wheel(0, -100)
    painted(page)
    assert page.locator(".stage img").bounding_box()["width"] > 1.2 * zoomed["width"]
    assert page.evaluate("scrollY") == 0
    for _ in range(5):
        page.mouse.wheel(0, 400)
        painted(page)
    page.mouse.wheel(0, 60)
    page.wait_for_function("scrollY > 0")


def test_a_zoomed_picture_is_moved_and_keeps_within_its_frame(open_page):
    page = open_page(packed(target=truth()))
    page.mouse.dblclick(*in_picture(page, 1, 1))
    frame, image = page.locator(".stage").bounding_box(), page.locator(".stage img")
    page.wait_for_function("document.querySelector('.stage img').getBoundingClientRect().width > 300")
    assert image.bounding_box()["width"] == pytest.approx(2 * frame["width"], abs=1)
    start = image.bounding_box()["x"]
    page.mouse.move(*in_picture(page, 60, 30))
    page.mouse.down()
    page.mouse.move(*in_picture(page, 40, 30), steps=4)
    page.mouse.up()
    painted(page)
    assert image.bounding_box()["x"] == pytest.approx(start - frame["width"] / 4, abs=1)
    expect(page.locator(".card")).to_be_hidden()  # a drag is no click
    page.mouse.move(*in_picture(page, 70, 50))
    page.mouse.down()
    page.mouse.move(5, 5, steps=4)
    page.mouse.up()
    painted(page)
    box = image.bounding_box()
    assert box["x"] + box["width"] == pytest.approx(frame["x"] + frame["width"], abs=1)
    assert box["y"] + box["height"] == pytest.approx(frame["y"] + frame["height"], abs=1)
    page.mouse.click(*in_picture(page, 60, 40))  # where the key that is missed is now
    expect(page.locator(".card dd").first).to_have_text("missed")
    page.get_by_role("button", name="Fit").click()
    painted(page)
    assert image.bounding_box() == pytest.approx(frame, abs=1)


# --- fingers -------------------------------------------------------------------------------------------------


def touch(page):
    """Put fingers on the page: a function of what happens and where each finger is."""
    session = page.context.new_cdp_session(page)

    def move(kind, *places):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    return move


def test_a_tap_opens_a_card_and_one_on_the_strip_moves_the_threshold(open_page):
    page = open_page(packed(target=truth()), size=(390, 844), has_touch=True, is_mobile=True)
    page.touchscreen.tap(*in_picture(page, 22, 19))
    expect(page.locator(".card b")).to_have_text("cup 0.88")
    expect(page.locator(".tip")).to_be_hidden()
    page.touchscreen.tap(*in_picture(page, 1, 1))
    expect(page.locator(".card")).to_be_hidden()
    page.touchscreen.tap(*on_strip(page, 0.6, 2))
    expect(field(page, "Score threshold")).to_have_value(re.compile("0.(59|6|61)$"))
    finger = touch(page)
    finger("Start", on_strip(page, 0.6, 2))
    for score in (0.65, 0.7, 0.8, 0.9):
        finger("Move", on_strip(page, score, 2))
    finger("End")
    expect(field(page, "Score threshold")).to_have_value(re.compile("0.(89|9|91)$"))


def test_two_fingers_zoom_and_one_scrolls_the_page_or_moves_what_is_zoomed(open_page):
    page = open_page(packed(target=truth()), size=(390, 600), has_touch=True, is_mobile=True)
    finger, image, frame = touch(page), page.locator(".stage img"), page.locator(".stage").bounding_box()
    finger("Start", in_picture(page, 35, 30), in_picture(page, 45, 30))
    for apart in (8, 12, 16, 20):
        finger("Move", in_picture(page, 40 - apart, 30), in_picture(page, 40 + apart, 30))
    finger("End")
    painted(page)
    box = image.bounding_box()
    assert box["width"] / frame["width"] == pytest.approx(4, rel=0.1)
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    assert middle == pytest.approx(in_picture(page, 40, 30), abs=12)
    expect(page.locator(".card")).to_be_hidden()
    finger("Start", in_picture(page, 40, 30))
    for x in (38, 34, 30):
        finger("Move", in_picture(page, x, 30))
    finger("End")
    painted(page)
    assert image.bounding_box()["x"] == pytest.approx(box["x"] - frame["width"] / 8, abs=12)
    assert page.evaluate("[scrollY, visualViewport.scale]") == [0, 1]
    page.get_by_role(
        "button", name="Fit"
    ).click()  # a tap so soon would be taken for the second of a double tap
    painted(page)  # from then on a finger scrolls the page again
    finger("Start", in_picture(page, 40, 50))
    for y in (45, 35, 25, 10):
        finger("Move", in_picture(page, 40, y))
    finger("End")
    page.wait_for_function("scrollY > 20")
    expect(page.locator(".card")).to_be_hidden()


# --- keyboard ------------------------------------------------------------------------------------------------

FOCUSED = """() => {
    const one = document.activeElement;
    if (!one.closest(".segutils-explorer")) return null;
    return one.getAttribute("aria-label") || one.closest("label")?.innerText || one.innerText;
}"""


def press_tab(page, key="Tab"):
    """Go through the explorer from one end to the other: the names of all that has the focus on the way."""
    page.get_by_role("link", name="before" if key == "Tab" else "after").focus()
    found = []
    while True:
        page.keyboard.press(key)
        name = page.evaluate(FOCUSED)
        if name is None or len(found) > 100:
            return found
        found.append(name)


ORDER = (
    ["Score threshold"] * 2
    + ["Mask threshold"] * 2
    + ["Picture. Plus and minus zoom, the arrow keys move, 0 fits."]
    + ["Zoom out", "Zoom in", "Fit", "Save picture", "Copy as code", "The code that draws this view"]
)
PANEL = (
    ["Show all of the classes", "Show none of the classes"]
    + ["cup: 2 kept, 0 dropped", "key: 1 kept, 1 dropped", "coin: 1 kept, 0 dropped"]
    + ["masks", "outlines", "boxes", "labels", "dropped", "missed", "Opacity", "Opacity"]
)


def test_the_tab_key_walks_through_all_of_it_and_out_again(open_page):
    page = open_page(packed(target=truth()), style="padding: 0")
    walk = press_tab(page)
    assert walk == [*ORDER, "Instance", *PANEL]
    assert press_tab(page, "Shift+Tab")[::-1] == walk
    page.get_by_role("combobox").select_option("instance 0")
    walk.insert(walk.index("Instance") + 1, "Close the card")
    assert press_tab(page) == walk


def test_the_tab_key_stops_once_at_all_pictures(open_page):
    page = open_page(gallery())
    told(page)
    walk = press_tab(page)
    assert walk[: len(ORDER)] == ORDER and walk[len(ORDER) + 1] == "Instance"
    assert walk[-2:] == ["Price of a miss, in false alarms", "Cheapest threshold: 0.05"]
    assert press_tab(page, "Shift+Tab")[::-1] == walk


@pytest.mark.parametrize(
    ("name", "low", "high"), [("Score threshold", 0.05, 1), ("Mask threshold", 0.05, 0.95), ("Opacity", 0, 1)]
)
def test_sliders_follow_the_keys(open_page, name, low, high):
    page = open_page(packed())
    slider, number = field(page, name, "slider"), field(page, name)
    first = float(number.input_value())
    assert float(slider.get_attribute("min")) == low and float(slider.get_attribute("max")) == high
    slider.focus()
    for key, expected in [
        ("ArrowRight", first + 0.01),
        ("ArrowUp", first + 0.02),
        ("ArrowLeft", first + 0.01),
        ("ArrowDown", first),
        ("Home", low),
        ("ArrowLeft", low),
        ("End", high),
        ("ArrowRight", high),
        ("PageDown", None),
        ("PageUp", high),
    ]:
        page.keyboard.press(key)
        painted(page)
        value = float(slider.input_value())
        assert value == pytest.approx(expected) if expected is not None else low < value <= high - 0.05
        assert number.input_value() == slider.input_value()  # and no digits that nobody asked for
        assert len(number.input_value()) <= 4


def test_number_fields_take_what_they_can(open_page):
    page = open_page(packed(target=truth()))
    number, slider = field(page, "Score threshold"), field(page, "Score threshold", "slider")
    for typed, expected in [
        ("0.6", "0.6"), ("7", "1"), ("-3", "0.05"), ("0", "0.05"), ("0.333", "0.33"), (".7", "0.7"), ("1e-1", "0.1"),
        ("", "0.1"), ("e", "0.1"), ("0.5", "0.5"),
    ]:  # fmt: skip
        number.focus()
        page.keyboard.press("Control+A")
        page.keyboard.press("Delete")
        page.keyboard.type(typed)
        assert typed in ("e", "", number.input_value())  # nothing is changed under one's hands
        page.keyboard.press("Enter" if typed else "Tab")
        painted(page)
        assert number.input_value() == expected, typed
        assert slider.input_value() == expected
    number.focus()
    page.keyboard.press("ArrowUp")
    told(page)
    assert status(page).startswith("Kept 2 of 5 instances") and number.input_value() == "0.51"


def test_escape_closes_the_card_and_the_focus_stays_in_reach(open_page):
    page = open_page(packed(target=truth()))
    card, choice = page.locator(".card"), page.get_by_role("combobox")
    choice.select_option("instance 0")
    card.get_by_role("button", name="Close the card").focus()
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(choice).to_be_focused()
    choice.select_option("instance 0")
    card.get_by_role("button", name="Close the card").press("Enter")
    expect(card).to_be_hidden()
    expect(choice).to_be_focused()
    page.mouse.click(*in_picture(page, 22, 19))
    slider = field(page, "Mask threshold", "slider")
    slider.focus()
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(slider).to_be_focused()


def test_the_close_button_keeps_the_focus_while_the_card_changes(open_page):
    page = open_page(packed(target=truth()))
    page.get_by_role("combobox").select_option("instance 0")
    close = page.get_by_role("button", name="Close the card")
    close.focus()
    page.mouse.click(*on_strip(page, 0.9, 3))
    expect(page.locator(".card dd").first).to_have_text("dropped: its score is below the threshold")
    page.get_by_role("button", name="Close the card").focus()
    page.evaluate("""() => {
        const slider = document.querySelectorAll("[type=range]")[1];
        slider.value = 0.4;
        slider.dispatchEvent(new Event("input"));
    }""")
    expect(page.locator(".card")).to_contain_text("at 0.40")
    expect(page.get_by_role("button", name="Close the card")).to_be_focused()


def test_the_list_of_instances_names_each_and_opens_its_card(open_page):
    page = open_page(packed(target=truth()))
    choice = page.get_by_role("combobox", name="Instance")
    groups = choice.locator("optgroup")
    assert [group.get_attribute("label") for group in groups.all()] == ["Kept", "Dropped", "Missed"]
    assert names(page) == [
        "\u2713 cup 0.88", "\u2713 key 0.75", "\u2717 cup 0.50", "\u2713 coin 0.50", "dropped: key 0.25", "missed: key",
    ]  # fmt: skip
    choice.focus()
    titles = ["cup 0.88", "key 0.75", "cup 0.50", "coin 0.50", "key 0.25", "key"]
    for title in titles:
        page.keyboard.press("ArrowDown")
        expect(page.locator(".card b")).to_have_text(title)
        expect(choice).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator(".card")).to_be_hidden()


def test_keys_zoom_and_move_the_picture_and_leave_the_page_alone_else(open_page):
    page = open_page(packed(target=truth()), size=(1280, 400))
    stage, image = page.locator(".stage"), page.locator(".stage img")
    stage.focus()
    whole = image.bounding_box()
    start = page.evaluate("scrollY")
    for key, size in (("+", 1.5), ("=", 2.25), ("-", 1.5), ("+", 2.25), ("0", 1)):
        page.keyboard.press(key)
        painted(page)
        assert image.bounding_box()["width"] == pytest.approx(size * whole["width"], abs=1)
    page.keyboard.press("+")
    before = image.bounding_box()
    for key, x, y in (
        ("ArrowRight", -60, 0),
        ("ArrowDown", 0, -60),
        ("ArrowLeft", 60, 0),
        ("ArrowUp", 0, 60),
    ):
        page.keyboard.press(key)
        painted(page)
        after = image.bounding_box()
        within = [
            max(-0.25 * whole[side], min(step, 0.25 * whole[side]))
            for side, step in (("width", x), ("height", y))
        ]
        assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx(within, abs=1)
        before = after
    assert page.evaluate("scrollY") == start
    for _ in range(20):
        page.keyboard.press("+")
    painted(page)
    assert image.bounding_box()["width"] == pytest.approx(16 * whole["width"], rel=0.01)
    for name, size in (("Fit", 1), ("Zoom in", 1.5), ("Zoom out", 1), ("Zoom out", 1)):
        page.get_by_role("button", name=name).press("Enter")
        painted(page)
        assert image.bounding_box()["width"] == pytest.approx(size * whole["width"], abs=1)
    stage.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(f"scrollY > {start}")  # as long as all of the picture is there


def test_arrow_keys_walk_through_the_pictures(open_page):
    page = open_page(gallery())
    told(page)
    radios = page.get_by_role("radio")
    assert [label.inner_text().split("\n") for label in page.locator(".thumb").all()] == [
        ["1 missed", "1 false alarm"], ["1 missed", "0 false alarms"], ["no mistakes"],
    ]  # fmt: skip
    expect(radios.first).to_be_checked()
    radios.first.focus()
    page.keyboard.press("ArrowRight")
    expect(radios.nth(1)).to_be_focused()
    told(page)
    assert status(page) == (
        "Picture 3 of 3. Kept 4 of 5 instances: 4 hits, 0 false alarms, 1 missed. Precision 1.00, recall 0.80. "
        "All 3 pictures, the worst first: 7 hits, 1 false alarm, 2 missed."
    )
    # Its order changes, and the focus goes along.
    page.locator(".explorer").evaluate("""() => {
        const slider = document.querySelector("[type=range]");
        slider.value = 0.8;
        slider.dispatchEvent(new Event("input"));
    }""")
    told(page)
    page.wait_for_function("document.querySelector('.thumb').innerText.startsWith('4 missed')")
    focused = page.evaluate("document.activeElement.closest('label').querySelector('img').alt")
    assert focused == "Picture 3"
    expect(radios.first).to_be_checked()
    page.keyboard.press("ArrowLeft")  # from the first to the last
    expect(page.locator(".counts")).to_contain_text("Picture 2 of 3. Kept 0 of 0 instances: 0 hits")


# --- screen readers ------------------------------------------------------------------------------------------


def test_everything_has_a_name_and_a_role(open_page, scene):
    page = open_page(scene, scene | {"several": True})
    page.get_by_role("combobox").first.select_option("instance 0")
    told(page)
    for box in page.locator(".segutils-explorer").all():
        tree = box.aria_snapshot()
        for name in ("Score threshold", "Mask threshold", "Opacity"):
            assert f'slider "{name}"' in tree and f'spinbutton "{name}"' in tree
        for name in ("masks", "outlines", "boxes", "labels", "dropped", "missed"):
            assert f'checkbox "{name}"' in tree
        for name in ("Save picture", "Copy as code", "Zoom in", "Zoom out", "Fit"):
            assert f'button "{name}"' in tree
        for name in ("all", "none"):
            assert f'button "Show {name} of the classes"' in tree
        assert re.search(r'checkbox "[\w ]+: \d+ kept, \d+ dropped" \[checked\]', tree)
        assert 'combobox "Instance"' in tree and 'group "Classes"' in tree
        assert 'img "The picture at score threshold 0.50, mask threshold 0.50. ' in tree
        assert 'img "Scores of ' in tree and 'img "Precision over recall; here recall is ' in tree
        assert "- status: " in tree and not re.search(
            r"- (slider|spinbutton|checkbox|button|radio|img)\b(?! \")", tree
        )
    first, second = (box.aria_snapshot() for box in page.locator(".segutils-explorer").all())
    assert 'img "The soft mask of this ' in first and 'img "IoU over the mask threshold: IoU ' in first
    assert 'radio "Picture 1' in second and 'slider "Price of a miss, in false alarms"' in second
    price = page.get_by_role("slider", name="Price of a miss")
    assert price.get_attribute("aria-valuetext") == "1 false alarm"
    price.press("End")
    painted(page)
    assert price.get_attribute("aria-valuetext") == "10 false alarms"


def test_the_status_is_told_once_per_stop(open_page):
    page = open_page(packed(target=truth()))
    told(page)
    assert page.evaluate("heard") == []  # what is there from the start is not read out
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now()") + 1000)
    slider = field(page, "Score threshold", "slider")
    slider.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
        page.clock.run_for(50)
    assert field(page, "Score threshold").input_value() == "0.8"
    assert "hit" in page.locator(".counts").text_content() and page.evaluate("heard") == []
    before = alt(page)
    page.clock.run_for(1000)
    assert page.evaluate("heard") == [page.locator(".counts").text_content()] == [status(page)]
    assert alt(page) != before and "score threshold 0.80" in alt(page)
    page.mouse.move(*in_picture(page, 22, 19))  # looking at things is no news
    page.clock.run_for(1000)
    page.mouse.click(*in_picture(page, 22, 19))
    page.clock.run_for(1000)
    assert len(page.evaluate("heard")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark", "forced"])
@pytest.mark.parametrize("kind", ["one", "gallery"])
def test_axe_finds_nothing(open_page, scene, scheme, kind):
    look = {"forced_colors": "active"} if scheme == "forced" else {"color_scheme": scheme}
    page = open_page(scene if kind == "one" else gallery(), **look)
    told(page)
    assert violations(page) == []
    page.get_by_role("combobox").select_option(index=1)
    painted(page)
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    painted(page)
    assert violations(page) == []


def luminance(color):
    linear = np.where(color <= 10, color / 255 / 12.92, ((color / 255 + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("sharpness", [1, 2])
@pytest.mark.parametrize("scheme", ["light", "dark", "forced"])
def test_marks_on_the_strip_stand_out(open_page, scheme, sharpness):
    """Of each kind, in each of the colours: so many of their pixels reach a contrast of 3 : 1 with the page."""
    look = {"forced_colors": "active"} if scheme == "forced" else {"color_scheme": scheme}
    count = 16
    box, mask = torch.tensor([[5.0, 5, 25, 25]]), torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[:, 5:25, 5:25] = True
    prediction = {
        "boxes": box.repeat(3 * count, 1),
        "labels": torch.arange(1, count + 1).repeat(3),
        "scores": torch.arange(3 * count) / (3 * count + 1) + 0.02,
        "masks": mask.repeat(3 * count, 1, 1),
    }
    truth = {"labels": torch.arange(1, count + 1), "masks": mask.repeat(count, 1, 1)}
    payload = packed(prediction, truth, [str(i) for i in range(count + 1)])
    payload["view"]["score_threshold"] = float(prediction["scores"][count]) - 0.001
    page = open_page(payload, device_scale_factor=sharpness, **look)
    told(page)
    assert status(page).startswith(
        f"Kept {2 * count} of {3 * count} instances: {count} hits, {count} false alarms"
    )
    page.mouse.move(1, 1)
    strip, width = pixels(page.locator(".strip")), page.locator(".strip").bounding_box()["width"]
    ground = strip[0, -1]
    for score in prediction["scores"].tolist():
        x = sharpness * (PAD + (np.floor(round(100 * score, 4)) + 0.5) / 100 * (width - 2 * PAD))
        y, reach = sharpness * (LINE - 7), 6 * sharpness
        mark = strip[int(y - reach) : int(y + reach), int(x - reach) : int(x + reach)].reshape(-1, 3)
        stands_out = sum(contrast(color, ground) >= 3 for color in mark)
        assert stands_out >= 10 * sharpness**2, (score, stands_out)


def test_nothing_moves_by_itself(open_page):
    page = open_page(gallery(), reduced_motion="reduce")
    page.get_by_role("combobox").select_option(index=1)
    page.get_by_role("button", name="Zoom in").click()
    assert page.evaluate("document.getAnimations().length") == 0
    moving = page.locator(".segutils-explorer *").evaluate_all(
        "all => all.map(getComputedStyle).filter(s => s.transitionDuration != '0s' || s.animationName != 'none').length"
    )
    assert moving == 0


# --- sizes ---------------------------------------------------------------------------------------------------

WINDOWS = [(1280, 720), (1920, 1080), (800, 900), (390, 844)]
COLUMN = "max-width: 900px; margin: 0 auto"  # as in the pages of the course
LONG = (
    "__background__",
    "a rather long name of a class, as people give them",
    "Donaudampfschifffahrtskapitaen" * 3,
    "x",
)

# What sticks out of its frame, or of the window, and what lies over something else.
FAULTS = """() => {
    const root = document.querySelector(".segutils-explorer"), found = [];
    const isThere = one => one.checkVisibility() && !one.closest(".quiet");
    const all = [...root.querySelectorAll("*")].filter(one => isThere(one) && !(one instanceof SVGElement));
    const name = one => one.className || `${one.tagName} ${one.textContent.slice(0, 20)}`;
    for (const one of all) {
        const box = one.getBoundingClientRect();
        if (box.right > innerWidth + 0.5 && !one.closest(".gallery")) found.push(`${name(one)} is beyond the window`);
        if (one.matches("pre, .gallery, .classes, .stage, option, optgroup, select")) continue;
        if (one.clientWidth && one.scrollWidth > one.clientWidth + 1) found.push(`${name(one)} is too narrow`);
    }
    const parts = ".field, .strip, .counts, .body > div > *, .panel > *, .tip";
    const blocks = [...root.querySelectorAll(parts)].filter(isThere).map(one => [one, one.getBoundingClientRect()]);
    blocks.forEach(([one, a], i) => blocks.slice(i + 1).forEach(([other, b]) => {
        if (one.contains(other) || other.contains(one)) return;
        const apart = a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
        if (!apart) found.push(`${name(one)} and ${name(other)} overlap`);
    }));
    for (const svg of root.querySelectorAll("svg")) for (const text of svg.querySelectorAll("text")) {
        const [frame, box] = [svg.getBoundingClientRect(), text.getBoundingClientRect()];
        if (isThere(svg) && (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 2))
            found.push(`${text.textContent} sticks out`);
    }
    if (document.documentElement.scrollWidth > innerWidth) found.push("the page scrolls sideways");
    return found;
}"""


KINDS_OF_PAGES = [
    "scene",
    "gallery",
    "many classes",
    "long names",
    "456 instances",
    "one instance",
    "nothing",
]
KINDS_OF_PAGES += ["portrait", "tiny", "wide"]


@pytest.fixture(scope="module")
def payloads(scene):
    """Pictures and predictions of all kinds."""
    many = 27
    wide = (10, 5, 60, 50)
    flat = {
        "boxes": [wide] * many,
        "labels": range(1, many + 1),
        "scores": np.linspace(0.99, 0.02, many).tolist(),
    }
    crowd = [(x, y, x + 30, y + 24) for x in range(0, 1700, 75) for y in range(0, 950, 48)][:456]
    crowded = {
        "boxes": crowd,
        "labels": [1 + i % 3 for i in range(456)],
        "scores": [i / 456 for i in range(456)],
    }
    crowded["size"] = (968, 1720)
    kinds = {
        "scene": scene,
        "gallery": gallery(),
        "many classes": packed(cones(**flat), None, ["-"] + [f"class {i}" * (1 + i % 2) for i in range(1, 28)]),
        "long names": packed(cones(), truth(), LONG),
        "456 instances": packed(cones(**crowded), cones(**crowded), image=grey(968, 1720)),
        "one instance": packed(rows(cones(), [0]), rows(truth(), [0])),
        "nothing": packed(rows(cones(), []), rows(truth(), [])),
    }  # fmt: skip
    for name, size in (("portrait", (1200, 500)), ("tiny", (30, 40)), ("wide", (500, 3000))):
        boxes = (torch.tensor(BOXES) * torch.tensor([size[1] / 80, size[0] / 60]).repeat(2)).tolist()
        parts = {"boxes": boxes, "size": size}
        kinds[name] = packed(cones(**parts), cones("bool", **parts), image=grey(*size))
    return kinds


@pytest.mark.parametrize("kind", KINDS_OF_PAGES)
def test_nothing_is_clipped_and_nothing_overlaps(open_page, payloads, kind):
    for style in ("", COLUMN):
        page = open_page(payloads[kind], style=style)
        told(page)
        choice = page.get_by_role("combobox")
        values = page.locator("option").evaluate_all("all => all.map(one => one.value)")
        for window, value in itertools.product(WINDOWS, dict.fromkeys([*values[:2], values[-1]])):
            page.set_viewport_size({"width": window[0], "height": window[1]})
            choice.select_option(value)
            painted(page)
            assert page.evaluate(FAULTS) == [], (window, value)


@pytest.mark.parametrize("style", ["", COLUMN])
@pytest.mark.parametrize(
    "kind", ["scene", "gallery", "many classes", "456 instances", "portrait", "tiny", "wide"]
)
def test_all_that_matters_is_in_a_window_of_1280_by_720(open_page, payloads, kind, style):
    page = open_page(payloads[kind], style=style)
    told(page)

    def is_in_window(selector):
        box = page.locator(selector).first.bounding_box()
        return box["x"] >= 0 and box["x"] + box["width"] <= 1280 and box["y"] + box["height"] <= 720

    parts = [".field", ".strip", ".counts", ".stage", ".tools", ".classes", ".ticks", ".card", "pre"]
    parts += [".curve", ".gallery", "[aria-label^=Price]", "text=Cheapest threshold"]
    for index in (None, 1, page.locator("option").count() - 1):
        if index is not None:
            page.get_by_role("combobox").select_option(index=index)
            painted(page)
        shown = [
            part for part in parts if page.locator(part).count() and page.locator(part).first.is_visible()
        ]
        assert [part for part in shown if not is_in_window(part)] == []
        assert index is None or ".card" in shown
        # Where there is room, the card stands beside all of this, and else in the place of classes and switches.
        assert ".classes" in shown or index is not None and (style or kind in ("456 instances", "wide"))


def test_sharp_screens_get_sharp_pictures(open_page, scene):
    page = open_page(scene, device_scale_factor=2)
    told(page)
    for selector in (".stage canvas", ".strip"):
        box = page.locator(selector).bounding_box()
        canvas = page.locator(selector).evaluate("canvas => [canvas.width, canvas.height]")
        assert canvas == pytest.approx([2 * box["width"], 2 * box["height"]], abs=1)
    plain = open_page(scene)
    told(plain)
    for selector in (".stage", ".strip", ".side", "pre"):
        assert page.locator(selector).bounding_box() == pytest.approx(
            plain.locator(selector).bounding_box(),
            abs=2,  # letters have sizes of their own there
        )
    # The picture itself has all of its pixels.
    image = page.locator(".stage img").evaluate("image => [image.naturalWidth, image.clientWidth]")
    assert image == [640, 667]


def test_it_follows_the_size_of_the_window(open_page, scene):
    page = open_page(scene)
    told(page)
    stage, first = page.locator(".stage"), page.locator(".stage").bounding_box()
    for size in ((1280, 600), (1500, 900), (850, 720), (390, 844), (1280, 720)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        painted(page)
        box, canvas = stage.bounding_box(), page.locator(".stage canvas").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(4 / 3, abs=0.01) and canvas == box
        assert page.locator(".strip").evaluate("canvas => canvas.width == canvas.clientWidth")
        assert page.evaluate(FAULTS) == []
        assert (box["height"] < first["height"]) == (size[1] < 720 or size[0] < 900)
    assert stage.bounding_box() == first
    page.get_by_role("button", name="Zoom in").click()
    painted(page)
    before = page.locator(".stage img").bounding_box()
    page.set_viewport_size({"width": 1280, "height": 600})
    painted(page)
    smaller, box = page.locator(".stage img").bounding_box(), stage.bounding_box()
    assert smaller["width"] == pytest.approx(1.5 * box["width"], abs=1)  # and of the same part
    shares = [(one["x"] - frame["x"]) / frame["width"] for one, frame in ((before, first), (smaller, box))]
    assert shares[0] == pytest.approx(shares[1], abs=0.01) and shares[0] < -0.2


def test_a_scrollbar_does_not_come_and_go_for_ever(open_page, scene):
    """Where the picture makes the page so high that it gets a scrollbar, which makes the picture smaller."""
    page = open_page(scene, size=(870, 900))
    told(page)
    stage, width = page.locator(".stage"), page.locator(".stage").bounding_box()["width"]
    page.evaluate("document.querySelector('main').style.marginRight = '15px'")
    page.wait_for_function(f"document.querySelector('.stage').clientWidth == {width - 15}")
    page.evaluate("document.querySelector('main').style.marginRight = '0'")
    painted(page)
    assert stage.bounding_box()["width"] == width - 15
    page.set_viewport_size({"width": 910, "height": 900})
    page.wait_for_function(f"document.querySelector('.stage').clientWidth == {width + 40}")


def test_it_follows_the_theme_of_the_page(open_page):
    page = open_page(packed(target=truth()), color_scheme="light")
    told(page)
    strip = page.locator(".strip")

    def colors():
        """Of the line and of what stands below it, the darkest first."""
        painted(page)
        return sorted({tuple(color) for color in pixels(strip)[LINE:].reshape(-1, 3).tolist()}, key=sum)

    assert colors()[0] == (0, 0, 0) and colors()[-1] == (255, 255, 255)
    page.emulate_media(color_scheme="dark")
    assert colors()[-1] == (255, 255, 255) and colors()[0] == (18, 18, 18)
    page.emulate_media(color_scheme="light")
    # A page that has a theme of its own, as JupyterLab does, says so on its body or its root.
    page.add_style_tag(content=".night { color: #0f0; background: #000; }")
    page.evaluate("document.body.className = 'night'")
    assert colors()[-1] == (0, 255, 0) and colors()[0] == (0, 0, 0)


def test_explorers_in_one_page_are_strangers(open_page):
    page = open_page(packed(target=truth()), gallery(), gallery())
    told(page)
    first, second, third = page.locator(".segutils-explorer").all()
    second.get_by_role("slider", name="Score threshold").press("End")
    second.locator(".thumb").nth(2).click()
    expect(second.locator(".counts")).to_contain_text("Kept 0 of ")
    expect(second.locator("code")).to_contain_text("], 1.0)")
    for other in (first, third):
        expect(other.locator("code")).to_contain_text("], 0.5)")
    expect(third.get_by_role("radio").first).to_be_checked()
    first.get_by_role("combobox").focus()
    first.get_by_role("combobox").select_option("instance 0")
    expect(first.locator(".card")).to_be_visible()
    expect(second.locator(".card")).to_be_hidden()
    second.locator(".strip").hover()
    page.keyboard.press("Escape")  # meant for the one that has the focus
    expect(first.locator(".card")).to_be_hidden()


def test_an_explorer_may_be_hidden_at_first(open_page):
    page = open_page(packed(target=truth()), style="display: none")
    assert page.locator("[role=status]").text_content().startswith("Kept 4 of 5")
    page.evaluate("document.querySelector('main').style.display = 'block'")
    painted(page)
    shown = picture(page)
    assert (shown == picture(open_page(packed(target=truth())))).all()
    page.evaluate("document.querySelector('main').style.display = 'none'")
    page.evaluate("document.querySelector('[type=range]').value = 0.8")
    page.evaluate("document.querySelector('[type=range]').dispatchEvent(new Event('input'))")
    page.wait_for_function("document.querySelector('[role=status]').textContent.startsWith('Kept 1 of 5')")
    page.evaluate("document.querySelector('main').style.display = 'block'")
    set_to(page, "Score threshold", 0.5)
    assert (picture(page) == shown).all()


# --- what is shown -------------------------------------------------------------------------------------------


def test_kept_and_dropped_follow_the_score_threshold(open_page):
    page = open_page(packed())
    for threshold in (0.05, 0.25, 0.26, 0.75, 0.88, 1, 0.5):
        set_to(page, "Score threshold", threshold)
        labels, scores = cones()["labels"].tolist(), cones()["scores"].tolist()
        kept = [label for label, score in zip(labels, scores) if score >= threshold]
        assert status(page) == f"Kept {len(kept)} of 5 instances."
        counts = [
            f"{CATEGORIES[label]}: {kept.count(label)} kept, {labels.count(label) - kept.count(label)} dropped"
            for label in (1, 2, 3)
        ]
        assert class_counts(page) == counts
        assert alt(page) == (
            f"The picture at score threshold {threshold:.2f}, mask threshold 0.50. {status(page)} {'; '.join(counts)}."
        )
        marks = "dots: kept, rings: dropped"
        assert strip_words(page) == f"Scores of 5 instances; {marks}; the threshold is at {threshold:.2f}"
        assert f"score ({marks})" in page.evaluate("written")
        assert sum(name.startswith("dropped: ") for name in names(page)) == 5 - len(kept)


def test_a_score_at_the_threshold_is_kept(open_page):
    scores = (0.9, 0.7, 0.6, 0.35, 0.05)
    page = open_page(packed(cones(scores=scores)))
    for count, score in enumerate(scores, 1):
        set_to(page, "Score threshold", score)
        assert status(page) == f"Kept {count} of 5 instances."


def test_scores_need_not_be_sorted(open_page):
    pages = [open_page(packed(rows(cones(), order), truth())) for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1])]
    for threshold in (0.1, 0.6):
        for page in pages:
            set_to(page, "Score threshold", threshold)
        first, second = ((status(page), class_counts(page), curve_words(page)) for page in pages)
        assert first == second and names(pages[0]) == names(pages[1])
        assert (pixels(pages[0].locator(".curve")) == pixels(pages[1].locator(".curve"))).all()


def test_the_strip_shows_each_score_where_it_belongs(open_page):
    payload = packed(cones(scores=(1.0, 0.505, 0.501, 0.3, 0.0)))
    page = open_page(payload)
    told(page)
    strip, corner = pixels(page.locator(".strip")), page.locator(".strip").bounding_box()
    spots = [(0.995, 0, "cup 1.00"), (0.505, 0, "key 0.50"), (0.505, 1, "cup 0.50")]
    spots += [(0.305, 0, "dropped: coin 0.30"), (0.005, 0, "dropped: key 0.00")]
    for score, height, name in spots:
        x, y = on_strip(page, score, height)
        page.mouse.move(x, y)
        expect(page.locator(".tip")).to_have_text(name)
        color = strip[round(y - corner["y"]), round(x - corner["x"])].tolist()
        label = next(label for label, one in payload["categories"].items() if one in name)
        assert (color == payload["colors"][label]) == ("dropped" not in name)
    x = round(PAD + 0.5 * (corner["width"] - 2 * PAD))
    assert (strip[25:LINE, x] == strip[LINE + 1, x]).all() and (strip[30, x - 3] != strip[30, x]).any()


def test_switches_draw_what_they_say(open_page):
    page = open_page(packed(target=truth()))
    set_to(page, "Score threshold", 0.6)
    first = picture(page)
    for name in ("masks", "outlines", "boxes", "labels", "dropped", "missed"):
        switch = page.get_by_role("checkbox", name=name, exact=True)
        assert switch.is_checked() == (name != "dropped")
        switch.click()
        assert (picture(page) != first).any(2).sum() > 50, name
        assert (f"{name}=False" in code(page)) == (name not in ("dropped", "missed"))
        switch.click()
        assert (picture(page) == first).all()
    set_to(page, "Opacity", 1)
    # A pixel in a mask alone: now it has the colour of its class, and nothing of the picture.
    assert picture(page)[19 * 4, 20 * 4].tolist() == packed()["colors"]["1"] != first[19 * 4, 20 * 4].tolist()
    set_to(page, "Opacity", 0)
    page.get_by_role("checkbox", name="outlines").uncheck()
    assert abs(picture(page)[19 * 4, 20 * 4] - 100).max() < 3


def test_only_soft_masks_follow_the_mask_threshold(open_page):
    for kind in KINDS:
        page = open_page(packed(cones(kind)))
        page.get_by_role("checkbox", name="dropped", exact=True).check()
        before = picture(page)
        set_to(page, "Mask threshold", 0.75)
        assert (picture(page) == before).all() == (kind == "bool")
        set_to(page, "Mask threshold", 0.5)
        assert (picture(page) == before).all()


def test_masks_of_every_kind_give_the_same_counts(open_page):
    pages = [open_page(packed(cones(kind), truth())) for kind in KINDS]
    for threshold in (0.1, 0.8):
        for page in pages:
            set_to(page, "Score threshold", threshold)
        assert len({(status(page), alt(page), strip_words(page), curve_words(page)) for page in pages}) == 1
        assert all(
            (pixels(page.locator(".strip")) == pixels(pages[0].locator(".strip"))).all() for page in pages
        )


def test_a_step_that_keeps_the_same_instances_leaves_the_picture(open_page):
    page = open_page(packed())
    before = picture(page)
    set_to(page, "Score threshold", 0.4)
    assert (picture(page) == before).all()
    assert "score threshold 0.40" in alt(page) and "at 0.40" in strip_words(page)
    assert "[prediction], 0.4)" in code(page)
    set_to(page, "Score threshold", 0.6)
    assert (picture(page) != before).any()


def points(page):
    """(recall, precision) of the line, and of the point on it."""
    curve, dot = page.locator(".curve"), page.locator(".curve circle")

    def there(x, y):
        return (float(x) - 34) / 150, (112 - float(y)) / 100

    line = [there(*point.split(",")) for point in curve.locator("polyline").get_attribute("points").split()]
    return line, [there(dot.get_attribute("cx"), dot.get_attribute("cy"))] if dot.is_visible() else []


def test_classes_that_are_not_ticked_are_left_out_everywhere(open_page):
    page = open_page(packed(target=truth()))
    set_to(page, "Mask threshold", 0.45)
    set_to(page, "Score threshold", 0.1)
    whole = "Kept 5 of 5 instances: 3 hits, 2 false alarms, 1 missed. Precision 0.60, recall 0.75."
    assert status(page) == whole and len(points(page)[0]) == 5
    page.get_by_role("combobox").select_option("instance 1")  # a key
    page.get_by_role("checkbox", name="key: 2 kept").uncheck()
    told(page)
    assert (
        status(page) == "Kept 3 of 3 instances: 2 hits, 1 false alarm, 0 missed. Precision 0.67, recall 1.00."
    )
    counts = ["cup: 2 kept, 0 dropped", "key: not shown", "coin: 1 kept, 0 dropped"]
    assert class_counts(page) == counts and alt(page).endswith(f"{'; '.join(counts)}.")
    assert strip_words(page).startswith("Scores of 3 instances; ") and len(points(page)[0]) == 3
    assert len(names(page)) == 3 and not any("key" in name for name in names(page))
    assert "labels=[1, 3])[0]  # cup, coin\n" in code(page)
    expect(page.locator(".card")).to_be_hidden()
    page.mouse.move(*in_picture(page, 70, 50))  # where a key is missed
    painted(page)
    expect(page.locator(".tip")).to_be_hidden()
    # Without keys it looks as if there had never been any.
    wanted = [0, 2, 3]
    without = open_page(packed(rows(cones(), wanted), rows(truth(), truth()["labels"] != 2)))
    set_to(without, "Mask threshold", 0.45)
    set_to(without, "Score threshold", 0.1)
    assert status(without) == status(page) and (picture(without) == picture(page)).all()
    for selector in (".strip", ".curve"):
        assert (pixels(without.locator(selector)) == pixels(page.locator(selector))).all()
    page.get_by_role("checkbox", name="key").check()
    expect(page.get_by_role("status")).to_have_text(whole)


def test_all_and_none(open_page):
    page = open_page(packed())
    before = picture(page)
    page.get_by_role("button", name="Show none of the classes").click()
    expect(page.get_by_role("status")).to_have_text("Kept 0 of 0 instances.")
    assert class_counts(page) == ["cup: not shown", "key: not shown", "coin: not shown"]
    assert names(page) == [] and abs(picture(page) - 100).max() < 3
    page.get_by_role("button", name="Show all of the classes").click()
    expect(page.get_by_role("status")).to_have_text("Kept 4 of 5 instances.")
    assert (picture(page) == before).all()
    one = open_page(packed(cones(labels=(1,) * 5)))
    expect(one.get_by_role("button", name="of the classes")).to_have_count(0)  # there is nothing to choose


def test_labels_say_which_instances_are_hits(open_page):
    page = open_page(packed(target=truth()))
    for threshold, expected in (
        (
            0.8,
            ["\u2717 cup 0.88", "\u2717 key 0.75", "\u2717 cup 0.50", "\u2717 coin 0.50"],
        ),  # too small to be hits
        (0.45, ["\u2713 cup 0.88", "\u2713 key 0.75", "\u2717 cup 0.50", "\u2713 coin 0.50"]),
    ):
        set_to(page, "Mask threshold", threshold)
        assert names(page)[:4] == expected
        assert set(page.evaluate("written")) >= {*expected, "missed: key"}


@pytest.mark.parametrize(
    ("found", "things", "words"),
    [(0, 4, "nothing is kept"), (5, 0, "there is nothing to find"), (0, 0, "there is nothing to find")],
)
def test_the_curve_says_why_it_has_no_point(open_page, found, things, words):
    page = open_page(packed(rows(cones(), list(range(found))), rows(truth(), list(range(things)))))
    told(page)
    assert points(page) == ([], [])
    assert curve_words(page) == f"Precision over recall; {words}"
    expect(page.locator(".curve")).to_contain_text(words)
    box = page.locator(".curve").bounding_box()
    page.mouse.click(box["x"] + 100, box["y"] + 60)  # and there is nothing to click
    expect(field(page, "Score threshold")).to_have_value("0.5")


def test_the_curve_has_no_point_when_nothing_is_kept(open_page):
    page = open_page(packed(target=truth()))
    set_to(page, "Score threshold", 1)
    line, point = points(page)
    assert len(line) == 5 and point == []
    assert curve_words(page) == "Precision over recall; nothing is kept"
    set_to(page, "Score threshold", 0.8)
    assert points(page) == (line, [pytest.approx((0.25, 1))])
    expect(page.locator(".curve")).not_to_contain_text("nothing is kept")


def changed_by(page, name):
    """Where a switch changes the picture by much: bool [H, W], and the picture with it. It is left as it was."""
    switch, pictures = page.get_by_role("checkbox", name=name, exact=True), {}
    was = switch.is_checked()
    for value in (not was, was):
        switch.set_checked(value)
        pictures[value] = picture(page)
    return (abs(pictures[True] - pictures[False]) > 40).any(-1), pictures[True]


def rim(mask, width=8):
    """The pixels near the border of a mask of 80 x 60 pixels, in the picture that is four times as large."""
    large = mask[None].float().repeat_interleave(4, 1).repeat_interleave(4, 2)
    grown, shrunk = (max_pool2d(sign * large, 2 * width + 1, 1, width)[0] for sign in (1, -1))
    return (grown + shrunk > 0).numpy()


def assert_outlined(page, name, masks, color, share=0.08):
    """The switch draws lines of a colour around these masks, and changes nothing else. share: of the pixels there, a
    band of 17, in which a line of 1.4 pixels and its rim change two by much."""
    changed, shown = changed_by(page, name)
    rims = [rim(mask) for mask in masks]
    assert not (changed & ~np.any([np.zeros_like(changed), *rims], axis=0)).any()
    for line in rims:
        assert (changed & line).sum() > share * line.sum()
        assert (abs(shown[changed & line] - color).max(1) < 60).sum() > 20


def test_what_is_missed_is_outlined_in_white_unless_switched_off(open_page):
    page, masks = open_page(packed(target=truth())), truth()["masks"]
    for name in ("labels", "boxes", "masks", "outlines"):
        page.get_by_role("checkbox", name=name, exact=True).uncheck()
    assert page.get_by_role("checkbox", name="missed").is_checked()
    assert_outlined(page, "missed", masks[[3]], 255)
    set_to(page, "Score threshold", 0.8)
    assert_outlined(page, "missed", masks[1:], 255)
    page.get_by_role("checkbox", name="key").uncheck()  # nobody looks for keys
    assert_outlined(page, "missed", masks[[2]], 255)
    page.get_by_role("checkbox", name="coin").uncheck()
    assert_outlined(page, "missed", [], 255)


def test_what_is_dropped_is_outlined_in_its_colour_when_asked(open_page):
    payload, masks = packed(), cones("bool")["masks"]
    page = open_page(payload)
    assert not page.get_by_role("checkbox", name="dropped", exact=True).is_checked()
    dashes = 0.04  # half of a line is gaps
    assert_outlined(page, "dropped", masks[4:], payload["colors"]["2"], dashes)
    set_to(page, "Score threshold", 0.8)
    page.get_by_role("checkbox", name="cup").uncheck()
    page.get_by_role("checkbox", name="key").uncheck()
    assert_outlined(page, "dropped", masks[[3]], payload["colors"]["3"], dashes)
    set_to(page, "Score threshold", 0.05)
    assert_outlined(page, "dropped", [], 0)


def test_counts_of_one_are_in_the_singular(open_page):
    one = rows(cones(), [0])
    for target, words in (
        (None, "."),
        (rows(truth(), [0]), ": 1 hit, 0 false alarms, 0 missed. Precision 1.00, recall 1.00."),
        (rows(truth(), [1]), ": 0 hits, 1 false alarm, 1 missed. Precision 0.00, recall 0.00."),
    ):
        page = open_page(packed(one, target))
        assert status(page) == f"Kept 1 of 1 instance{words}"
        assert strip_words(page).startswith("Scores of 1 instance; ")


def test_precision_and_recall_may_be_undefined(open_page):
    page = open_page(packed(target=truth()))
    set_to(page, "Score threshold", 1)
    assert status(page) == (
        "Kept 0 of 5 instances: 0 hits, 0 false alarms, 4 missed. "
        "Precision undefined (nothing is kept), recall 0.00."
    )
    page = open_page(packed(target=rows(truth(), [])))
    assert status(page) == (
        "Kept 4 of 5 instances: 0 hits, 4 false alarms, 0 missed. "
        "Precision 0.00, recall undefined (there is nothing to find)."
    )


def use_everything(page):
    """Move and click all that there is."""
    for name in ("Score threshold", "Mask threshold", "Opacity"):
        slider = field(page, name, "slider")
        for key in ("Home", "End", "ArrowLeft", "PageDown"):
            slider.press(key)
    for box in page.get_by_role("checkbox").all():
        box.click()
    for name in ("None", "All", "Fit", "Copy as code"):
        page.get_by_text(name, exact=True).last.click() if page.get_by_text(
            name, exact=True
        ).count() else None
    for box in page.get_by_role("checkbox").all():
        box.check()
    for i in range(page.locator("option").count()):
        page.get_by_role("combobox").select_option(index=i)
        painted(page)
    for x, y in itertools.product((1, 22, 40, 70), (1, 19, 50)):
        page.mouse.move(*in_picture(page, x, y))
        page.mouse.click(*in_picture(page, x, y))
    for score in (0, 0.25, 0.5, 1):
        page.mouse.click(*on_strip(page, score))


FEW = [("roi", 0, None), ("soft", 0, 0), ("bool", 0, 4), ("soft", 1, None), ("bool", 1, 1), ("roi", 5, 0)]


@pytest.mark.parametrize(("kind", "found", "things"), [*FEW, *((kind, 5, 4) for kind in KINDS)])
def test_few_or_no_instances_and_things(open_page, kind, found, things):
    target = None if things is None else rows(truth(), list(range(things)))
    page = open_page(packed(rows(cones(kind), list(range(found))), target))
    use_everything(page)
    set_to(page, "Mask threshold", 0.5)
    set_to(page, "Score threshold", 0.05)
    assert status(page).startswith(f"Kept {found} of {found} instance")
    assert len([name for name in names(page) if not name.startswith("missed")]) == found
    assert " ." not in alt(page) and "NaN" not in page.locator(".segutils-explorer").inner_html()


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (3000, 40), (30, 40), (501, 861)])
def test_pictures_of_all_sizes(open_page, size):
    height, width = size
    boxes = [(width / 4, height / 4, width / 2 + 1, height / 2 + 1), (0, 0, width, height)]
    prediction = cones(boxes=boxes, labels=[1, 2], scores=[0.9, 0.8], size=size)
    payload = packed(prediction, prediction, image=grey(height, width))
    page = open_page(payload)
    use_everything(page)
    set_to(page, "Score threshold", 0.05)
    stage, [shown] = page.locator(".stage").bounding_box(), payload["pictures"]
    assert 1 <= stage["width"] <= 1248 and 1 <= stage["height"] <= 720 - 200
    scale = max(stage["width"], stage["height"]) / max(shown["size"])
    assert scale <= 2
    assert [stage["width"], stage["height"]] == pytest.approx([scale * side for side in shown["size"]], abs=1)
    assert page.evaluate(FAULTS) == []


def test_without_a_target_nothing_is_said_about_one(open_page):
    page = open_page(packed(), gallery(has_target=False))
    told(page)
    page.get_by_role("combobox").first.select_option("instance 0")
    told(page)
    for box in page.locator(".segutils-explorer").all():
        assert not re.search("hit|miss|alarm|recall|truth|match|IoU|worst", box.aria_snapshot())
        assert box.locator(".curve").count() == 0
    assert page.locator(".thumb").all_inner_texts() == ["4 kept", "0 kept", "4 kept"]
    assert not re.search("[\u2713\u2717]", " ".join([*page.evaluate("written"), *names(page)]))
    expect(page.locator(".body > div > .heading")).to_have_text("All 3 pictures: 8 kept.")


def test_what_lies_in_a_crowd_region_is_neither_a_hit_nor_a_false_alarm(open_page):
    crowd = {key: cones("bool")[key][2:3] for key in ("labels", "masks")}
    target = {key: torch.cat([truth()[key], value]) for key, value in crowd.items()}
    page = open_page(packed(target=target | {"iscrowd": torch.tensor([0, 0, 0, 0, 1])}))
    set_to(page, "Score threshold", 0.05)
    assert status(page) == (
        "Kept 5 of 5 instances: 3 hits, 1 false alarm, 1 missed, 1 ignored in crowd regions. "
        "Precision 0.75, recall 0.75."
    )
    assert "dots: hits, crosses: false alarms, rings: dropped or ignored" in strip_words(page)
    assert "\u2013 cup 0.50" in names(page)
    page.get_by_role("combobox").select_option("instance 2")
    painted(page)
    assert page.locator(".card dd").all_text_contents()[::3] == ["ignored", "crowd, IoU 1.00"]


NASTY = ("__background__", 'it\'s a "cup" \\', "<b>key</b> & </code>", "two\nlines = 1 / 0")


def test_names_of_classes_are_never_html(open_page):
    page = open_page(packed(target=truth(), categories=NASTY))
    page.get_by_role(
        "checkbox", name='it\'s a "cup" \\: 2 kept, 0 dropped'
    ).uncheck()  # so that the code names the others
    page.get_by_role("combobox").select_option("instance 1")
    told(page)
    expect(page.locator(".card b")).to_have_text("<b>key</b> & </code> 0.75")
    page.mouse.move(*on_strip(page, 0.755))
    expect(page.locator(".tip")).to_have_text("\u2713 <b>key</b> & </code> 0.75")
    assert page.locator("b:text-is('key')").count() == 0 and page.locator("code").count() == 1
    assert class_counts(page)[1] == "<b>key</b> & </code>: 1 kept, 1 dropped"
    assert "<b>key</b> & </code>: 1 kept, 1 dropped" in alt(page)
    assert names(page)[0] == "\u2713 <b>key</b> & </code> 0.75"
    assert code(page).count("\n") == 1 and "# <b>key</b> & </code>, two lines = 1 / 0\n" in code(page)


def test_long_names_are_cut_in_the_picture_alone(open_page):
    page = open_page(packed(target=truth(), categories=LONG))
    told(page)
    assert "\u2713 a rather long name of a \u2026 0.88" in page.evaluate("written")
    assert names(page)[0] == f"\u2713 {LONG[1]} 0.88" and class_counts(page)[0].startswith(LONG[1])


# --- cards ---------------------------------------------------------------------------------------------------


def square(x, y, width=12, height=12):
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[y : y + height, x : x + width] = True
    return mask


def of_squares(places, labels):
    masks = torch.stack([square(*place) for place in places])
    sides = [(x, y, x + (rest or [12])[0], y + (rest or [12, 12])[-1]) for x, y, *rest in places]
    return {"boxes": torch.tensor(sides).float(), "labels": torch.tensor(labels), "masks": masks}


def test_cards_say_what_became_of_an_instance(open_page):
    places = [(2, 2), (2, 2, 12, 10), (20, 2), (40, 2), (60, 2), (2, 30), (20, 30)]
    prediction = of_squares(places, [1, 1, 2, 1, 1, 1, 2])
    prediction["scores"] = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.55, 0.3, 0.2])
    target = of_squares([(2, 2), (20, 2), (46, 2), (2, 30), (20, 30), (60, 40)], [1, 1, 1, 1, 2, 3])
    page = open_page(packed(prediction, target))
    told(page)

    def card(value):
        page.get_by_role("combobox").select_option(value)
        painted(page)
        terms, words = (page.locator(f".card {tag}").all_text_contents() for tag in ("dt", "dd"))
        return {term: word for term, word in zip(terms, words, strict=True) if term not in ("box", "area")}

    dropped = "dropped: its score is below the threshold"
    assert [card(f"instance {row}") for row in range(7)] == [
        {"verdict": "hit", "best match": "IoU 1.00"},
        {
            "verdict": "false alarm",
            "best match": "IoU 0.83",
            "rival": "the one with score 0.90 took its match",
        },
        {"verdict": "false alarm", "best match": "cup, IoU 1.00", "why": "another class: the truth says cup"},
        {
            "verdict": "false alarm",
            "best match": "IoU 0.33",
            "why": "the mask doesn't fit well enough: a hit needs an IoU of 0.5",
        },
        {"verdict": "false alarm", "overlaps": "nothing that is there"},
        {"verdict": dropped, "best match": "IoU 1.00"},
        {"verdict": dropped, "best match": "IoU 1.00"},
    ]
    assert [card(f"thing {row}") for row in (1, 2, 3, 5)] == [
        {"verdict": "missed", "nearest": "key 0.70, IoU 1.00", "why": "it was found under another name"},
        {
            "verdict": "missed",
            "nearest": "cup 0.60, IoU 0.33",
            "why": "its mask doesn't fit well enough: a hit needs an IoU of 0.5",
        },
        {
            "verdict": "missed",
            "nearest": "cup 0.30, IoU 1.00",
            "why": "it was found, but below the score threshold",
        },
        {"verdict": "missed", "why": "nothing was reported here"},
    ]
    card("thing 3")
    set_to(page, "Score threshold", 0.25)  # now it is found, and its card stays
    assert page.locator(".card dd").first.text_content() == "found"
    assert page.locator("optgroup[label=Found] option").all_text_contents() == ["found: cup"]
    expect(page.get_by_role("combobox")).to_have_value("thing 3")


def test_the_lens_shows_where_the_mask_is_cut(open_page):
    payload = packed(target=truth())
    page = open_page(payload)
    page.get_by_role("combobox").select_option("instance 0")
    canvas = page.get_by_role("img", name="The soft mask of this cup, with its outline at 0.50")
    first = pixels(canvas)
    assert (first.max(2) < 5).mean() > 0.2  # around it
    assert (abs(first - payload["colors"]["1"]).max(2) < 60).mean() > 0.008  # its outline
    assert (first.max(2) - first.min(2) < 5).mean() > 0.8  # all else is grey
    plot = page.get_by_role("img", name="IoU over the mask threshold: IoU 1.00 at 0.50; best 1.00 at 0.50")
    dot = plot.locator("circle")
    assert (float(dot.get_attribute("cx")), float(dot.get_attribute("cy"))) == pytest.approx((70, 8), abs=1)
    assert len(plot.locator("polyline").get_attribute("points").split()) == 91
    set_to(page, "Mask threshold", 0.8)
    canvas = page.get_by_role("img", name="The soft mask of this cup, with its outline at 0.80")
    assert (pixels(canvas) != first).any()
    plot = page.get_by_role(
        "img", name=re.compile("IoU over the mask threshold: IoU 0.[12]. at 0.80; best 1.00 at 0.50")
    )
    assert float(plot.locator("circle").get_attribute("cx")) == 100
    expect(page.locator(".card")).to_contain_text(
        "grey: the soft mask; line: cut at 0.80; dots: the box; dashes: the truth"
    )


# --- several pictures ----------------------------------------------------------------------------------------


def test_the_price_of_a_miss_sets_the_cheapest_threshold(open_page):
    page = open_page(gallery())
    told(page)
    price = page.get_by_role("slider", name="Price of a miss, in false alarms")
    button = page.get_by_role("button", name="Cheapest threshold")
    # Two of the alarms have scores of 0.5 and of 0.25; hits with these scores are lost together with them.
    for key, words, threshold in (
        ("Home", "A miss costs 0.1 false alarms", "0.51"),
        ("End", "A miss costs 10 false alarms", "0.05"),
    ):
        price.press(key)
        expect(page.locator(".side")).to_contain_text(words)
        expect(button).to_have_text(f"Cheapest threshold: {threshold}")
        button.click()
        expect(field(page, "Score threshold")).to_have_value(str(float(threshold)))
    painted(page)
    strip, x = pixels(page.locator(".strip")), on_strip(page, 0.05)[0] - 16
    mark = strip[LINE + 2 : LINE + 10, round(x) - 5 : round(x) + 5].reshape(-1, 3)
    assert (abs(mark - [213, 94, 0]).max(1) < 20).sum() > 10


def test_a_picture_is_never_shown_with_the_masks_of_another(open_page):
    page = open_page(gallery())
    told(page)
    # The picture and what is drawn on it, whenever something is drawn.
    page.evaluate("""() => {
        window.frames_seen = [];
        const context = document.querySelector(".stage canvas").getContext("2d"), clear = context.clearRect;
        context.clearRect = function (...all) {
            const image = document.querySelector(".stage img");
            window.frames_seen.push([image.complete && image.naturalWidth > 0, image.naturalHeight]);
            return clear.apply(this, all);
        };
    }""")
    for index, height in ((1, 60), (2, 40), (0, 60), (2, 40)):
        page.locator(".thumb", has=page.locator(f"img[alt='Picture {index + 1}']")).click()
        expect(page.locator(".counts")).to_contain_text(f"Picture {index + 1} of 3.")
        told(page)
        page.wait_for_function(f"document.querySelector('.stage img').naturalHeight == {height}")
        box = page.locator(".stage").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(80 / height, abs=0.02)
    assert all(is_whole for is_whole, _ in page.evaluate("frames_seen"))
    assert picture(page).mean() > 150


# --- copying and saving --------------------------------------------------------------------------------------


def test_the_code_is_copied(open_page):
    page = open_page(packed(target=truth()), permissions=["clipboard-read", "clipboard-write"])
    set_to(page, "Mask threshold", 0.35)
    page.get_by_role("checkbox", name="boxes").uncheck()
    page.get_by_role("button", name="Copy as code").press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_focused()
    assert page.evaluate("navigator.clipboard.readText()").splitlines() == [
        "kept = filter_model_output([prediction], 0.5)[0]",
        "show(draw_instances(image, kept, categories, mask_threshold=0.35, boxes=False))",
    ]


def test_a_page_saves_what_it_shows(open_page):
    page = open_page(packed(target=truth()), device_scale_factor=2)
    page.get_by_role("button", name="Zoom in").click()
    shown = picture(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save picture").click()
    assert download.value.suggested_filename == "explored.png"
    saved = np.array(Image.open(download.value.path()).convert("RGB")).astype(int)
    assert saved.shape == shown.shape and abs(saved - shown).mean() < 1
    height, width = saved.shape[:2]
    expect(page.get_by_role("status")).to_have_text(
        f"Saved explored.png, {width} x {height} pixels, among your downloads."
    )


# --- as a widget ---------------------------------------------------------------------------------------------

# A stand-in for the kernel's side of the widget: values, listeners, and a record of what is said to it.
START = """async ([source, payload]) => {
    const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    const values = { data: payload, ...payload.view }, listeners = {};
    window.model = {
        sets: [], saves: 0, sent: [], listeners,
        get: name => values[name],
        set(name, value) { this.sets.push([name, value]); this.change(name, value); },
        save_changes() { this.saves++; },
        send(message) { this.sent.push(message); },
        on: (event, listener) => (listeners[event] ??= []).push(listener),
        off: (event, listener) => (listeners[event] = listeners[event].filter(one => one != listener)),
        fire: (event, ...rest) => (listeners[event] ?? []).forEach(listener => listener(...rest)),
        change(name, value) { values[name] = value; this.fire(`change:${name}`); },
    };
    const element = document.querySelector("main").appendChild(document.createElement("div"));
    window.end = module.default.render({ model, el: element });
}"""


@pytest.fixture
def open_widget(open_page):
    def open_widget(payload):
        page = open_page()
        page.evaluate(START, [MODULE.read_text("utf-8"), payload])
        told(page)
        return page

    return open_widget


def test_the_kernel_hears_of_a_value_once_a_frame(open_widget):
    page = open_widget(packed(target=truth()))
    page.evaluate("""() => {
        const [score, mask] = document.querySelectorAll("[type=range]");
        for (const [slider, value] of [[score, 0.6], [mask, 0.3], [score, 0.7], [score, 0.75], [mask, 0.35]]) {
            slider.value = value;
            slider.dispatchEvent(new Event("input"));
        }
    }""")
    painted(page)
    assert page.evaluate("[model.sets, model.saves]") == [
        [["score_threshold", 0.75], ["mask_threshold", 0.35]],
        1,
    ]
    page.mouse.move(*in_picture(page, 22, 19))  # looking is nothing that it would want to know
    page.mouse.click(*in_picture(page, 22, 19))
    page.get_by_role("button", name="Zoom in").click()
    painted(page)
    assert page.evaluate("model.saves") == 1
    page.get_by_role("checkbox", name="boxes").uncheck()
    page.get_by_role("checkbox", name="coin").uncheck()
    painted(page)
    assert page.evaluate("model.sets").pop() == ["classes", [1, 2]]
    assert page.evaluate("model.sets")[-2] == ["boxes", False]


def test_it_follows_the_kernel(open_widget):
    page = open_widget(gallery())
    for name, value in (
        ("score_threshold", 0.8), ("mask_threshold", 0.4), ("alpha", 0.9), ("classes", [1]), ("price", 4),
        ("masks", False), ("outlines", False), ("boxes", False), ("labels", False), ("dropped", True),
        ("missed", False), ("picture", 2),
    ):  # fmt: skip
        page.evaluate("([name, value]) => model.change(name, value)", [name, value])
    told(page)
    for name, value in (("Score threshold", "0.8"), ("Mask threshold", "0.4"), ("Opacity", "0.9")):
        assert field(page, name).input_value() == field(page, name, "slider").input_value() == value
    for name in ("masks", "outlines", "boxes", "labels", "dropped", "missed", "cup:", "key:", "coin:"):
        switch = page.get_by_role("checkbox", name=re.compile(f"^{name}"))
        assert switch.is_checked() == (name in ("dropped", "cup:"))
    assert status(page).startswith("Picture 3 of 3. Kept 1 of 2 instances: 1 hit, 0 false alarms, 1 missed.")
    assert "A miss costs 4 false alarms" in page.locator(".side").inner_text()
    assert page.get_by_role("slider", name="Price").get_attribute("aria-valuetext") == "4 false alarms"
    checked = page.evaluate(
        "document.querySelector('[type=radio]:checked').parentElement.querySelector('img').alt"
    )
    assert checked == "Picture 3"
    assert page.evaluate("[model.sets, model.saves]") == [[], 0]  # and says nothing back


def test_the_count_of_the_kernel_wins_for_its_mask_threshold(open_widget):
    page = open_widget(packed(target=truth()))
    own = status(page)
    assert own.startswith("Kept 4 of 5 instances: 3 hits, 1 false alarm")
    page.get_by_role("combobox").select_option("instance 0")
    counted = {"mask_threshold": 0.5, "matches": [[-1, -1, -1, 2, -1]]}
    page.evaluate("counted => model.change('counted', counted)", counted)
    expect(page.get_by_role("status")).to_contain_text("1 hit, 3 false alarms, 3 missed")
    assert (
        names(page)[0] == "\u2717 cup 0.88" and page.locator(".card dd").first.text_content() == "false alarm"
    )
    assert curve_words(page).endswith("here recall is 0.25 and precision 0.25")
    set_to(page, "Mask threshold", 0.51)
    assert "3 hits" in status(page)
    set_to(page, "Mask threshold", 0.5)
    assert "1 hit, " in status(page)
    page.evaluate("model.change('counted', { mask_threshold: 0.5, matches: [null] })")
    expect(page.get_by_role("status")).to_have_text(own)


def test_the_kernel_saves_and_says_so(open_widget):
    page = open_widget(packed(target=truth()))
    before = status(page)
    page.get_by_role("button", name="Save picture").click()
    assert page.evaluate("model.sent") == [{"type": "save"}]
    expect(page.get_by_role("status")).to_have_text("Writing ...")
    page.evaluate("model.fire('msg:custom', { type: 'saved', text: 'Saved <b>explored_1.png</b>.' })")
    for place in (page.get_by_role("status"), page.locator(".counts")):
        expect(place).to_have_text("Saved <b>explored_1.png</b>.")
    page.mouse.move(*in_picture(page, 22, 19))
    painted(page)
    expect(page.locator(".counts")).to_have_text(
        "Saved <b>explored_1.png</b>."
    )  # until something else is to be said
    set_to(page, "Score threshold", 0.45)  # which keeps as many
    assert status(page) == before == page.locator(".counts").text_content()


def test_what_is_closed_leaves_nothing_behind(open_widget):
    page = open_widget(gallery())
    page.evaluate("""() => {
        document.querySelector("[type=range]").value = 0.7;
        document.querySelector("[type=range]").dispatchEvent(new Event("input"));
        end();
    }""")
    assert page.evaluate("Object.values(model.listeners).flat().length") == 0
    assert page.locator(".segutils-explorer").count() == 0
    page.set_viewport_size({"width": 900, "height": 700})
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.body.className = 'night'")
    page.evaluate(
        "() => new Promise(done => setTimeout(done, 700))"
    )  # longer than anything that may still be waiting
    assert page.evaluate("model.saves") == 0
