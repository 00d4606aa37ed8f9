"""The course as pages: what `python3 run.py site` writes, and how it looks in a browser that opens the files."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import test_browser
import yaml
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import expect

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import pages as tool  # noqa: E402

import run  # noqa: E402

COURSE = tool.notebooks()
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
MAX_PAGE = 1_500_000  # bytes, with all that it shows

chromium = test_browser.chromium


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The whole site."""
    folder = tmp_path_factory.mktemp("course") / "site"
    tool.build(folder)
    return folder


@pytest.fixture(scope="module")
def soups(site) -> dict[Path, BeautifulSoup]:
    """Every page of the site, read."""
    return {path: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in site.rglob("*.html")}


@pytest.fixture
def page(chromium):
    """A window. Nothing may go wrong in it, and nothing may be asked of a network."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("request", lambda request: re.match("file:|data:", request.url) or wrong.append(request.url))
    yield page
    context.close()
    assert wrong == []


def stored(notebook) -> list[str]:
    """The description of every picture in the outputs of a notebook."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [(o, mime) for o in outputs for mime in o.get("data", {}) if mime.startswith("image/")]
    return [output.metadata.get(mime, {}).get("alt") for output, mime in pictures]


def weight(path: Path, soup: BeautifulSoup) -> int:
    """The bytes of a page and of all that it shows."""
    tags = soup.select("img[src], script[src], link[rel=stylesheet]")
    files = {path.parent / (tag.get("src") or tag["href"]) for tag in tags}
    return sum(file.stat().st_size for file in {path, *files})


def faults(soups: dict[Path, BeautifulSoup]) -> list[str]:
    """Addresses on pages that lead nowhere, and what a page would fetch from elsewhere."""
    found = []
    for path, soup in soups.items():
        for tag in soup.select("[href], [src]"):
            url = tag.get("href") or tag.get("src") or ""
            if re.match("https?:", url) and tag.name == "a":
                continue
            file, _, fragment = url.partition("#")
            target = (path.parent / unquote(file)).resolve() if file else path
            if url == "data:,":  # no icon
                continue
            if re.match("[a-z]*:|//", url) or not target.is_file():
                found.append(f"{path.name}: {url}")
            elif fragment and not soups[target].find(id=unquote(fragment)):
                found.append(f"{path.name}: {url}: no such heading")
    return found


# --- what is on the pages ------------------------------------------------------------------------------------


def test_every_stored_description_reaches_its_picture(site, soups):
    count = 0
    for path in COURSE:
        alts = stored(nbformat.read(path, as_version=4))
        pictures = soups[site / tool.address(path)].select("figure img")
        assert [picture["alt"] for picture in pictures] == alts, path.name
        assert all(alts)
        count += len(alts)
    assert count == len(list(site.glob("notebooks/*/*.png"))) + len(list(site.glob("notebooks/*/*.jpg")))


def test_every_picture_is_described_and_has_its_size(soups):
    for path, soup in soups.items():
        for picture in soup.select("img"):
            assert picture["alt"] or picture.find_parent(class_="cards"), path.name  # a card says it in words
            assert int(picture["width"]) > 0 and int(picture["height"]) > 0


def test_all_code_and_all_text_outputs_are_there(site, soups):
    for path in COURSE:
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        soup = soups[site / tool.address(path)]
        code = [block.get_text().strip("\n") for block in soup.select(".cell .code")]
        assert code == [re.sub(r"^# @title .*\n", "", cell.source).strip("\n") for cell in cells], path.name
        printed = [output.text for cell in cells for output in cell.outputs if output.output_type == "stream"]
        shown = soup.get_text()
        assert all(text.strip("\n") in shown for text in printed), path.name


def test_solutions_are_folded_with_what_they_print_and_draw(site, soups):
    for path in COURSE:
        cells = nbformat.read(path, as_version=4).cells
        solutions = [cell for cell in cells if "solution" in cell.metadata.get("tags", [])]
        folded = soups[site / tool.address(path)].find_all("summary", string="Solution")
        assert len(folded) == len(solutions) > 0
        for summary, cell in zip(folded, solutions):
            assert summary.parent.name == "details" and not summary.parent.has_attr("open")
            assert len(summary.parent.select(".output, figure, .table")) == len(cell.outputs)
            assert not summary.parent.find_next_siblings()


def test_headings_follow_one_another(soups):
    for path, soup in soups.items():
        levels = [int(tag.name[1]) for tag in soup.select("h1, h2, h3, h4, h5, h6")]
        assert levels[0] == 1 and levels.count(1) == 1, path.name
        assert all(after - before <= 1 for before, after in zip(levels, levels[1:])), path.name


def test_no_page_has_an_id_twice(soups):
    for path, soup in soups.items():
        ids = [tag["id"] for tag in soup.select("[id]")]
        assert len(ids) == len(set(ids)), path.name


def test_contents_name_the_headings(site, soups):
    soup = soups[site / "notebooks" / "04_filter_and_masks.html"]
    listed = [(link["href"], link.get_text()) for link in soup.select(".contents a")]
    assert listed == [(f"#{tag['id']}", tag.get_text()) for tag in soup.select("h2, h3")]


def test_links_hold_and_nothing_comes_from_elsewhere(soups):
    assert faults(soups) == []


@pytest.mark.parametrize(
    "html",
    [
        '<a href="nowhere.html">x</a>',
        '<a href="index.html#nothing">x</a>',
        '<img src="nothing.png">',
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
    ],
)
def test_a_link_that_does_not_hold_is_found(tmp_path, html):
    page = tmp_path / "index.html"
    page.write_text(html)
    assert len(faults({page: BeautifulSoup(html, "html.parser")})) == 1


def test_the_first_page_leads_to_all_others(site, soups):
    known, waiting = set(), [site / "index.html"]
    while waiting:
        page = waiting.pop()
        if page not in known:
            known.add(page)
            links = soups[page].select("main a[href], .menu a[href]")
            targets = [(page.parent / unquote(link["href"].partition("#")[0])).resolve() for link in links]
            waiting += [target for target in targets if target in soups]
    assert known == set(soups)
    for path in [*COURSE, *tool.texts()]:
        assert site / tool.address(path) in soups


def test_cards_are_the_rows_of_the_readme(site, soups):
    cards = soups[site / "index.html"].select(".cards a")
    assert [card["href"] for card in cards] == [tool.address(path).as_posix() for path in COURSE]
    assert [card.get_text() for card in cards] == [tool.title(path) for path in COURSE]


def test_neighbours_are_linked_once(site, soups):
    for before, after in zip(COURSE, COURSE[1:]):
        there, back = soups[site / tool.address(before)], soups[site / tool.address(after)]
        assert there.select_one("footer [rel=next]")["href"].endswith(f"{after.stem}.html")
        assert back.select_one("footer [rel=prev]")["href"].endswith(f"{before.stem}.html")
        assert "Previous: " not in there.main.get_text() + back.main.get_text()


def test_pages_are_light(soups):
    for path, soup in soups.items():
        assert weight(path, soup) < MAX_PAGE, path.name


# --- what cannot become a page -------------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    """A course of one README and one notebook, for tools/pages.py to work on."""
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "README", tmp_path / "README.md")
    monkeypatch.setattr(tool, "notebooks", lambda: [tmp_path / "notebooks" / "00_toy.ipynb"])
    monkeypatch.setattr(tool, "repository", lambda: None)
    monkeypatch.setattr(tool, "heading", tool.heading.__wrapped__)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text(
        "# Toys\n\n| Notebook | Afterwards you can | Minutes |\n|---|---|---|\n"
        "| [00 A toy](notebooks/00_toy.ipynb) | play | 5 |\n\n## Code\n\nIn [toys](toys.py).\n"
    )
    (tmp_path / "toys.py").write_text("")
    return tmp_path


def write(course: Path, *cells) -> Path:
    """Write the notebook, and return where its page will be."""
    notebook = new_notebook(cells=[new_markdown_cell("# 00 A toy\n\nText."), *cells])
    nbformat.write(notebook, course / "notebooks" / "00_toy.ipynb")
    return course / "site" / "notebooks" / "00_toy.html"


def picture(alt="A dot", **data):
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return new_output("display_data", {"image/png": DOT, "text/plain": "a dot", **data}, metadata=metadata)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (new_code_cell(outputs=[picture(alt=None)]), "picture 2 has no description"),
        (new_markdown_cell("[x](nothing.ipynb)"), "links to nothing.ipynb, which does not exist"),
        (new_markdown_cell("![A dot](https://example.org/x.png)"), "lies elsewhere or has no description"),
        (new_markdown_cell("It costs $a^2$."), "mathematics"),
    ],
)
def test_what_a_page_cannot_show_is_an_error(course, cell, message):
    write(course, new_code_cell(outputs=[picture()]), cell)
    with pytest.raises(ValueError, match=re.escape(message)):
        tool.build(course / "site")


def test_a_folder_with_other_files_is_left_alone(course):
    write(course, new_code_cell(outputs=[picture()]))
    (course / "mine").mkdir()
    (course / "mine" / "diary.txt").write_text("dear")
    with pytest.raises(ValueError, match="other things than pages"):
        tool.build(course / "mine")
    assert (course / "mine" / "diary.txt").read_text() == "dear"


def test_a_second_build_leaves_nothing_of_the_first(course):
    write(course, new_code_cell(outputs=[picture()]))
    tool.build(course / "site")
    old = course / "site" / "notebooks" / "07_old.html"
    old.write_text("old")
    tool.build(course / "site")
    assert not old.exists() and (course / "site" / "index.html").exists()


def test_what_has_no_page_is_linked_on_github_once_the_address_is_known(course, monkeypatch):
    target = write(course, new_code_cell(outputs=[picture()]))
    tool.build(course / "site")
    assert "<p>In toys.</p>" in (course / "site" / "index.html").read_text("utf-8")
    monkeypatch.setattr(tool, "repository", lambda: "jane/toys")
    monkeypatch.setattr(tool, "colab_link", lambda path: f"https://example.org/{path.name}")
    tool.build(course / "site")
    first = (course / "site" / "index.html").read_text("utf-8")
    assert '"https://github.com/jane/toys/blob/HEAD/toys.py"' in first
    links = BeautifulSoup(target.read_text("utf-8"), "html.parser").select(".elsewhere a")
    assert [link["href"] for link in links] == [
        "https://example.org/00_toy.ipynb",
        "https://mybinder.org/v2/gh/jane/toys/HEAD?labpath=notebooks/00_toy.ipynb",
    ]


def test_an_explorer_comes_to_life(course, page, monkeypatch):
    """With a stand-in for the module: what it gets, from a page that is opened from the file system."""
    module = course / "explorer.js"
    module.write_text(
        "export function showExplorer(element, payload) { element.textContent = `${payload.text} </script`; }\n"
        "export default { showExplorer };"
    )
    monkeypatch.setattr(tool, "EXPLORER_JS", module)
    target = write(course, new_code_cell(outputs=[picture(**{tool.EXPLORER: {"text": "</script><b>alive"}})]))
    tool.build(course / "site")
    page.goto(target.as_uri())
    expect(page.locator(".explorer")).to_have_text("</script><b>alive </script")


def test_without_its_module_an_explorer_is_a_picture(course, page, monkeypatch):
    monkeypatch.setattr(tool, "EXPLORER_JS", course / "nothing.js")
    target = write(course, new_code_cell(outputs=[picture(**{tool.EXPLORER: {"text": "alive"}})]))
    tool.build(course / "site")
    page.goto(target.as_uri())
    expect(page.get_by_role("img", name="A dot")).to_be_visible()


# --- in a browser --------------------------------------------------------------------------------------------


def violations(page, rules=None) -> list[str]:
    """What axe finds on a page, with all that is folded unfolded."""
    page.evaluate("document.querySelectorAll('main details').forEach(details => details.open = true)")
    options = {"preload": False, "resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes'][:3]]}" for one in found]


def test_axe_finds_nothing_on_any_page(site, soups, page):
    found = {}
    for path in sorted(soups):
        page.goto(path.as_uri())
        page.emulate_media(color_scheme="light")
        # With the first frames, what can be scrolled becomes reachable by keyboard.
        page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
        )
        found[path.name] = violations(page)
        page.emulate_media(color_scheme="dark")
        found[f"{path.name}, dark"] = violations(page, ["color-contrast"])
    assert {name: one for name, one in found.items() if one} == {}


def test_axe_finds_what_is_wrong(page, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<!doctype html><title>x</title><p style='color: #ccc; background: #fff'>pale</p>")
    page.goto(bad.as_uri())
    assert [one.split(":")[0] for one in violations(page, ["color-contrast"])] == ["color-contrast"]
    assert any(one.startswith("html-has-lang") for one in violations(page))


@pytest.mark.parametrize("width", [360, 800, 1280, 1920])
def test_no_page_is_wider_than_its_window(soups, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    for path in sorted(soups):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name


def test_code_is_copied(site, page):
    page.goto((site / "notebooks" / "06_explore_thresholds.html").as_uri())
    block = page.locator(".cell > .code").first
    block.hover()
    block.get_by_role("button", name="Copy").click()
    expect(
        page.get_by_role("status").filter(has_text="Copied")
    ).to_be_attached()  # explorers have theirs, too
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("from segutils import draw_instances, explore") and "Copy" not in copied
    assert copied.count("\n") == block.locator("pre").inner_text().rstrip().count("\n") + 1


def test_dark_is_remembered_from_page_to_page(site, page):
    page.emulate_media(color_scheme="light")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    page.goto((site / "index.html").as_uri())
    light = page.evaluate(paper)
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate(paper)
    page.locator(".cards a").first.click()
    expect(page.get_by_role("button", name="Light")).to_be_visible()
    assert page.evaluate(paper) == dark != light


def test_the_list_of_pages_opens_and_closes_by_keyboard(site, page):
    page.goto((site / "index.html").as_uri())
    page.get_by_text("All pages").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    first = page.locator(".menu a").first
    expect(first).to_be_focused()
    page.keyboard.press("Escape")
    expect(first).to_be_hidden()
    expect(page.get_by_text("All pages")).to_be_focused()


def test_what_scrolls_sideways_can_be_reached_by_keyboard(site, page):
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto((site / "notebooks" / "04_filter_and_masks.html").as_uri())
    wide = "[...document.querySelectorAll('pre')].filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth)"
    page.wait_for_function(f"{wide}.length && {wide}.every(e => e.tabIndex == 0)")
    page.set_viewport_size({"width": 1500, "height": 800})
    page.wait_for_function("!document.querySelector('.cell .code pre[tabindex]')")


def test_on_paper_there_is_the_text_alone(site, page):
    page.goto((site / "notebooks" / "04_filter_and_masks.html").as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    for part in ("header", ".contents", "footer", ".code button"):
        expect(page.locator(part).first).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_the_cheat_sheet_is_one_page_of_paper(site, page, paper):
    page.goto((site / "docs" / "cheat_sheet.html").as_uri())
    printed = page.pdf(format=paper, prefer_css_page_size=True)
    assert len(re.findall(rb"/Type /Page\b", printed)) == 1


# --- workflows: their syntax; nothing here runs them ---------------------------------------------------------


def check_workflows(*files: Path) -> subprocess.CompletedProcess:
    """Compare workflows with the schema of GitHub's workflows that check-jsonschema brings along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    return subprocess.run([*command, *map(str, files)], capture_output=True, text=True)


def test_workflows_keep_their_schema(tmp_path):
    assert len(WORKFLOWS) == 2
    done = check_workflows(*WORKFLOWS)
    assert done.returncode == 0, done.stdout
    bad = tmp_path / "bad.yml"
    bad.write_text(WORKFLOWS[0].read_text("utf-8").replace("runs-on:", "runs-in:"))
    assert check_workflows(bad).returncode == 1


def test_workflows_call_commands_that_run_py_has():
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS)
    called = re.findall(r"run\.py (\w+)", text)
    assert sorted(called) == ["site", "test"] and set(called) <= set(run.COMMANDS)


def test_the_matrix_starts_at_the_oldest_python_of_pyproject():
    [tests] = [path for path in WORKFLOWS if path.stem == "tests"]
    matrix = yaml.safe_load(tests.read_text("utf-8"))["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.10", "3.11", "3.12", "3.13"]
    assert 'requires-python = ">=3.10"' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
