"""Notebooks opened, run and used in a real JupyterLab, as a reader would."""

import os
import re
import shutil
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import jupyterlab, launch, open_notebook, run_all_cells
from PIL import Image
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None and os.environ.get("CI"):
            pytest.fail("No Chromium, Chrome or Edge on this machine, and CI must not go without.")
        if browser is None:
            pytest.skip("needs Chromium, Chrome or Edge, and none was found on this machine")
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, tmp_path):
    """A window on JupyterLab, which serves a copy of the notebooks. Nothing may go wrong in it."""
    copies, state = tmp_path / "course" / "notebooks", tmp_path / "state"
    state.mkdir()
    shutil.copytree(ROOT / "notebooks", copies, ignore=shutil.ignore_patterns(".*"))
    errors = []
    with jupyterlab(copies.parent, state) as address:
        context = chromium.new_context(base_url=address, viewport={"width": 1366, "height": 900})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and errors.append(message))
        yield page
        context.close()
    # The badge of Colab lies elsewhere, and a computer without a network cannot load it.
    assert [e for e in errors if isinstance(e, str) or e.location["url"].startswith(address)] == []


def run(page, name):
    """Open a notebook and run it from top to bottom, without an error."""
    open_notebook(page, "", f"notebooks/{name}.ipynb")
    cells = run_all_cells(page)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error"] == []


def test_the_first_notebook_runs_in_jupyterlab(page):
    run(page, "00_start_here")
    picture = page.locator(".jp-OutputArea-output img").first
    picture.scroll_into_view_if_needed()
    assert picture.is_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth") >= 200


def kept_and_shown(box):
    """What the explorer says it keeps, and what it draws over the picture."""
    drawn = box.locator(".stage canvas").evaluate("canvas => canvas.toDataURL()")
    return box.locator(".counts").inner_text(), drawn


IN_KERNEL = """async code => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const future = kernel.requestExecute({ code });
    let printed = "";
    future.onIOPub = message => { printed += message.content.text ?? message.content.evalue ?? ""; };
    await future.done;
    return printed.trim();
}"""


def test_the_explorer_follows_the_keyboard_and_the_kernel(page, tmp_path):
    run(page, "06_explore_thresholds")
    box = page.locator(".segutils-explorer").first
    box.scroll_into_view_if_needed()
    status = box.get_by_role("status")
    expect(status).to_contain_text("Kept ")

    # Everything that can be used has a name, and everything that is shown has words.
    tree = box.aria_snapshot()
    for name in ("Score threshold", "Mask threshold", "Opacity"):
        assert f'slider "{name}"' in tree and f'spinbutton "{name}"' in tree
    for name in ("masks", "outlines", "boxes", "labels", "dropped", "missed"):
        assert f'checkbox "{name}"' in tree
    for name in ("Save picture", "Copy as code"):
        assert f'button "{name}"' in tree
    assert re.search(r'checkbox "[\w ]+: \d+ kept, \d+ dropped" \[checked\]', tree)
    assert 'img "The picture at score threshold 0.50, mask threshold 0.50. Kept ' in tree
    assert 'img "Scores of ' in tree and 'img "Precision over recall; ' in tree and "- status" in tree
    assert not re.search(r"- (slider|spinbutton|checkbox|button|img)(?! \")", tree), "something has no name"

    # A screen reader reads changes of an element that was there before.
    status.evaluate("status => { window.firstStatus = status; }")
    slider, number = (box.get_by_role(role, name="Score threshold") for role in ("slider", "spinbutton"))
    before = kept_and_shown(box)
    slider.focus()
    page.keyboard.press("End")
    expect(number).to_have_value("1")
    expect(status).not_to_have_text(before[0])
    assert kept_and_shown(box)[1] != before[1]
    for _ in range(60):  # faster than anyone can type: the newest value wins, in the browser and in Python
        page.keyboard.press("ArrowLeft")
    expect(number).to_have_value("0.4")
    expect(box.locator("img").first).to_have_attribute("alt", re.compile("score threshold 0.40,"))
    assert page.evaluate(IN_KERNEL, "print(explorer.score_threshold)") == "0.4"

    # And from Python back. Values that cannot be are refused, and change nothing.
    page.evaluate(IN_KERNEL, "explorer.score_threshold = 0.5")
    expect(number).to_have_value("0.5")
    expect(status).to_have_text(before[0])
    assert kept_and_shown(box) == before
    assert "score_threshold" in page.evaluate(IN_KERNEL, "explorer.score_threshold = 50")
    expect(number).to_have_value("0.5")

    # While the kernel is busy, nothing waits for it.
    start = f"code => {{ window.busy = ({IN_KERNEL})(code).then(() => {{ window.over = true; }}); }}"
    page.evaluate(start, "import time; time.sleep(20)")
    slider.focus()
    page.keyboard.press("Home")
    expect(number).to_have_value("0.05")
    expect(status).not_to_have_text(before[0])
    assert kept_and_shown(box)[1] != before[1]
    assert not page.evaluate("window.over ?? false"), "the explorer waited until the kernel was free"
    page.evaluate("window.busy")
    page.evaluate(IN_KERNEL, "explorer.score_threshold = 0.5")
    expect(number).to_have_value("0.5")

    box.get_by_role("slider", name="Mask threshold").focus()
    page.keyboard.press("ArrowRight")
    expect(box.locator("img").first).to_have_attribute("alt", re.compile("mask threshold 0.51"))
    assert kept_and_shown(box)[1] != before[1]
    box.get_by_role("checkbox", name="boxes").focus()
    page.keyboard.press("Space")
    expect(box.locator("code")).to_contain_text("mask_threshold=0.51, boxes=False))")
    box.get_by_role("button", name="Copy as code").press("Enter")
    expect(box.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[0] == "kept = filter_model_output([prediction], 0.5)[0]"

    box.get_by_role("button", name="Save picture").press("Enter")
    expect(status).to_contain_text("Saved explored_1.png")
    assert page.evaluate("window.firstStatus.isConnected")
    with Image.open(tmp_path / "course" / "notebooks" / "explored_1.png") as saved:
        assert saved.format == "PNG" and f"{saved.width} x {saved.height}" in status.inner_text()

    # Everybody can read it, in the light and in the dark.
    box.get_by_role("combobox", name="Instance").select_option(index=1)
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme
        )
        page.wait_for_function("theme => document.body.dataset.jpThemeName == theme", arg=theme)
        options = {"preload": False, "resultTypes": ["violations"]}
        found = Axe().run(page, context=".segutils-explorer", options=options).response["violations"]
        assert [one["id"] for one in found] == [], theme


def test_the_explorer_leaves_pictures_where_it_cannot_run(page):
    """A notebook that was not run shows four pictures, which came with it, instead of a widget."""
    open_notebook(page, "", "notebooks/06_explore_thresholds.ipynb")
    expect(page.locator(".segutils-explorer")).to_have_count(0)
    expect(page.get_by_text("Error displaying widget")).to_have_count(0)
    cell = page.locator(".jp-CodeCell", has_text="explore(image, prediction, categories, target)").first
    picture = cell.locator(".jp-OutputArea-output img")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("image => image.complete && image.naturalWidth") >= 800
