"""The first notebook, opened and run in a real JupyterLab, as a reader would."""

import os
import shutil
from pathlib import Path

import pytest
from browser import jupyterlab, launch, open_notebook, run_all_cells
from playwright.sync_api import sync_playwright

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
    """A window on JupyterLab, which serves a copy of the notebooks."""
    copies, state = tmp_path / "course" / "notebooks", tmp_path / "state"
    state.mkdir()
    shutil.copytree(ROOT / "notebooks", copies, ignore=shutil.ignore_patterns(".*"))
    with jupyterlab(copies.parent, state) as address:
        page = chromium.new_page(base_url=address, viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(120_000)
        yield page
        page.close()


def test_the_first_notebook_runs_in_jupyterlab(page):
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_notebook(page, "", "notebooks/00_start_here.ipynb")
    cells = run_all_cells(page)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert errors == []

    picture = page.locator(".jp-OutputArea-output img").first
    picture.scroll_into_view_if_needed()
    assert picture.is_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth") >= 200
