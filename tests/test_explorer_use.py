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
<style>:root { color-scheme: light dark; } body { margin: 16px; font-family: system-ui, sans-serif; } a { color: inherit; }
main { STYLE }
</style><main><h1 style="font-size: 18px; margin: 0 0 8px">Explorer</h1>
<a href="#before">before</a>ELEMENTS<a href="#after">after</a></main>
<script type="module">MODULE
for (const element of document.querySelectorAll(".explorer"))
    window.close = showExplorer(element, JSON.parse(element.nextElementSibling.textContent));
</script></html>"""
ELEMENT = """<div class="explorer"></div><script type="application/json">PAYLOAD</script>"""

# Keeps what is written on canvases, and what the status says, from the start.
LISTEN = """window.written = [];
const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    window.written.push(String(text));
    return write.call(this, text, ...rest);
};
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
        page.on("request", lambda request: re.match("file:|data:|blob:", request.url) or wrong.append(request.url))
        page.add_init_script(LISTEN)
        elements = "".join(ELEMENT.replace("PAYLOAD", json.dumps(one).replace("</", "<\\/")) for one in payloads)
        file = tmp_path / f"page_{next(numbers)}.html"
        html = PAGE.replace("STYLE", style).replace("ELEMENTS", elements)
        file.write_text(html.replace("MODULE", MODULE.read_text("utf-8").replace("</script", "<\\/script")), "utf-8")
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
    page.wait_for_function("[...document.querySelectorAll('.stage canvas')].every(canvas => canvas.style.width)")
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
        return alt.includes(`threshold ${score}, mask threshold ${mask}. ${counts}`);
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


def cones(kind="roi", boxes=BOXES, labels=(1, 2, 1, 3, 2), scores=(0.875, 0.75, 0.5, 0.5, 0.25), size=(60, 80)):
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
    assert card.locator("dt").all_text_contents() == ["is", "box", "area", "best match"]
    assert card.locator("dd").all_text_contents()[:2] == ["hit", "40 x 30 at (2, 4)"]
    expect(choice).to_have_value("instance 0")
    page.mouse.click(*in_picture(page, 70, 50))  # what is missed can be clicked, too
    expect(card.locator("dd").first).to_have_text("missed")
    expect(choice).to_have_value("thing 3")
    page.mouse.click(*in_picture(page, 1, 1))
    expect(card).to_be_hidden()
    expect(choice).to_have_value("")


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
    page.wait_for_function("!document.querySelector('.stage img').style.transform.startsWith('translate(0px')")
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
    page.get_by_role("button", name="Fit").tap()
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
    for key, x, y in (("ArrowRight", -60, 0), ("ArrowDown", 0, -60), ("ArrowLeft", 60, 0), ("ArrowUp", 0, 60)):
        page.keyboard.press(key)
        painted(page)
        after = image.bounding_box()
        within = [max(-0.25 * whole[side], min(step, 0.25 * whole[side])) for side, step in (("width", x), ("height", y))]
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
        assert "- status: " in tree and not re.search(r"- (slider|spinbutton|checkbox|button|radio|img)\b(?! \")", tree)
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
    assert status(page).startswith(f"Kept {2 * count} of {3 * count} instances: {count} hits, {count} false alarms")
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
