"""The structure of the notebooks: what running them cannot tell."""

import base64
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_rules import MAX_NOTEBOOK, RULES, minutes, prose

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import notebooks as tool  # noqa: E402

COURSE = tool.notebooks()
README = (ROOT / "README.md").read_text("utf-8")
ROWS = re.findall(
    r"^\| \[(.+?)\]\(notebooks/(.+?)\) \| (.+?) \| (.+?) \| \[Colab\]\((.+?)\) \|$", README, re.M
)

each_notebook = pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@each_notebook
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_notebook_keeps_the_rule(rule, path):
    assert list(rule(read(path))) == []


@each_notebook
def test_generated_parts_are_current(path):
    """Badge, links to the neighbours, first code cell: as `run.py build` would write them."""
    notebook = read(path)
    tool.generate(notebook, path)
    assert notebook == read(path)


@each_notebook
def test_notebook_is_valid_and_not_too_large(path):
    nbformat.validate(read(path))
    assert path.stat().st_size <= MAX_NOTEBOOK
    assert b"\r" not in path.read_bytes()


@each_notebook
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)|<img[^>]*src=\"([^\"]+)\"", prose(read(path))):
        target = "".join(target)
        if not re.match(r"https?:|data:|attachment:", target):
            assert (path.parent / target).exists(), target


def test_readme_lists_every_notebook_with_its_title_minutes_and_address():
    found = [(title, name, minute) for title, name, _, minute, _ in ROWS]
    assert found == [(tool.title(path), path.name, minutes(read(path))) for path in COURSE]
    assert len(ROWS) == len(re.findall(r"^\|.*\.ipynb", README, re.M))
    assert README == tool.generated_readme(README)


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    assert not re.search(r"!\[\s*\]", README), "a picture without alt text"


# --- can each rule fail? -----------------------------------------------------------------------------------

HEADER = """\
# 99 A toy

What it is about.

**You will be able to**

- do this,
- and that, which takes
  two lines.

**You need** nothing.

**Time**: 8 minutes."""


def code(source, *outputs, tags=(), **metadata):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags), **metadata})


def picture(size=10, mime="image/jpeg", alt="a square"):
    data = {mime: base64.b64encode(bytes(size)).decode()}
    return new_output("display_data", data=data, metadata={mime: {"alt": alt} if alt else {}})


def exercise():
    solution = {"tags": ["solution"], "cellView": "form", "jupyter": {"source_hidden": True}}
    return [
        new_markdown_cell("### An exercise"),
        code("answer = 1", tags=["exercise"]),
        code("print('Not yet')", tags=["check"]),
        new_markdown_cell("**Solution**: unfold the cell below."),
        code("# @title Solution\nassert True", **solution),
    ]


def toy() -> nbformat.NotebookNode:
    """A small notebook that keeps every rule."""
    cells = [
        new_markdown_cell(HEADER),
        code("show(x, 'a square')", picture()),
        new_markdown_cell("## What to notice\n\n```\n# no title\n```\n\n![a square](square.png)"),
        code("timing()", tags=["nbval-ignore-output"]),
        code("assert True"),
        new_markdown_cell("## Key points\n\n- It is a toy."),
        new_markdown_cell("## Exercises"),
        *exercise(),
        *exercise(),
        new_markdown_cell("That is all."),
    ]
    notebook = new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    return notebook


def edit(number, old, new):
    """Replace text in one cell."""

    def apply(notebook):
        assert old in notebook.cells[number].source
        notebook.cells[number].source = notebook.cells[number].source.replace(old, new)

    return apply


def output(number, **fields):
    """Add an output to one cell."""
    return lambda notebook: notebook.cells[number].outputs.append(new_output(**fields))


def tag(number, name):
    return lambda notebook: notebook.cells[number].metadata.tags.append(name)


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
HTML = {"output_type": "display_data", "data": {"text/html": "<img src='data:x'>"}}
BREAKS = {
    "does not start with a title": edit(0, "# 99", "99"),
    "no '**You will be able to**'": edit(0, "You will be able to", "Goals"),
    "not two to four points": edit(0, "- and that", "  and that"),
    "no '**You need** ...'": edit(0, "**You need**", "You need"),
    "no '**Time**: ... minutes'": edit(0, "8 minutes", "not long"),
    "'**Time**: 28 minutes', but it is about 7": edit(0, "8 minutes", "28 minutes"),
    "there are 2 '#' titles": edit(2, "## What", "# What"),
    "a heading of level 3 follows one of level 1": edit(2, "## What", "### What"),
    "not executed from top to bottom": lambda nb: nb.cells[3].update(execution_count=7),
    "an error without the tag": output(4, **ERROR),
    "the tag without an error": tag(4, "raises-exception"),
    "output on stderr": output(4, output_type="stream", name="stderr", text="Warning"),
    "the kernelspec is not python3": lambda nb: nb.metadata.kernelspec.update(name="mine"),
    "metadata other than": lambda nb: nb.metadata.update(widgets={}),
    "with the same id": lambda nb: nb.cells[1].update(id="cell-0"),
    "fewer than half": lambda nb: [cell.update(source="1\n" * 7) for cell in nb.cells[1:]],
    "more than 20 lines": edit(4, "assert True", "assert True\n" * 21),
    "a trailing ';'": edit(1, "square')", "square');"),
    "an absolute path: /home/ada/x.png": edit(1, "x,", "'/home/ada/x.png',"),
    "an absolute path: C:\\Users": output(4, output_type="stream", name="stdout", text="C:\\Users\\ada"),
    "of 301 kB, more than 300 kB": lambda nb: nb.cells[1].outputs.append(picture(300_600)),
    "a Markdown picture without alt text": edit(2, "![a square]", "![]"),
    "an <img> without alt text": output(4, **HTML),
    "a picture shown without alt text": lambda nb: nb.cells[1].outputs.append(picture(alt="")),
    "a picture that no text follows": lambda nb: nb.cells[3].outputs.append(picture(mime="image/png")),
    "unchecked output, more than one in ten": tag(1, "nbval-ignore-output"),
    "unchecked output, and no assert": edit(4, "assert", "print"),
    "nbval-skip or an nbval comment": edit(4, "assert", "# NBVAL_SKIP\nassert"),
    "the last two parts are": edit(6, "Exercises", "Now you"),
    "not two or three times exercise, check, solution": lambda nb: nb.cells[9].metadata.tags.clear(),
    "not folded as CONTRIBUTING.md says": lambda nb: nb.cells[11].metadata.pop("jupyter"),
    "a solution without an assert": edit(11, "assert True", "print()"),
    "no cell before it that starts with '**Solution**'": edit(10, "**Solution**", "Solution"),
}  # fmt: skip


def complaints(notebook) -> list[str]:
    return [complaint for rule in RULES for complaint in rule(notebook)]


def test_the_toy_keeps_every_rule():
    assert complaints(toy()) == []


@pytest.mark.parametrize("complaint", BREAKS)
def test_a_broken_rule_is_noticed(complaint):
    notebook = toy()
    BREAKS[complaint](notebook)
    assert any(complaint in found for found in complaints(notebook)), complaints(notebook)


# --- the tool that builds them -----------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    """A folder with two toy notebooks, a README and a pyproject.toml, for tools/notebooks.py to work on."""
    (tmp_path / "pyproject.toml").write_text('Repository = "https://github.com/OWNER/segutils"\n')
    (tmp_path / "README.md").write_text(
        "git clone https://github.com/OWNER/segutils\n[x](https://github.com/pytorch/vision)\n"
        f"[Colab]({tool.COLAB}/github/OWNER/segutils/blob/main/notebooks/00_a.ipynb)\n"
    )
    for name, title in (("00_a", "00 First"), ("02_b", "02 Second")):
        cells = [
            new_markdown_cell(f"# {title}\n\nText."),
            new_code_cell("print(6 * 7)"),
            new_markdown_cell("End."),
        ]
        nbformat.write(new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    for name, file in (("README", "README.md"), ("PYPROJECT", "pyproject.toml")):
        monkeypatch.setattr(tool, name, tmp_path / file)
    return tmp_path


def test_build_executes_and_links_and_cleans(course, capsys):
    tool.main("build")
    first, second = (read(course / name) for name in ("00_a.ipynb", "02_b.ipynb"))
    badge = f"({tool.COLAB}/github/OWNER/segutils/blob/main/notebooks/00_a.ipynb)"
    link = "Next: [02 Second](02_b.ipynb)"
    opening = f"[![Open in Colab]({tool.COLAB}/assets/colab-badge.svg)]{badge}"
    assert first.cells[0].source == f"# 00 First\n\n{opening}\n\n{link}\n\nText."
    assert first.cells[1].source == tool.FIRST_CODE_CELL.format(repository="OWNER/segutils")
    assert first.cells[-1].source == f"End.\n\n{link}"
    assert "Previous: [00 First](00_a.ipynb)" in second.cells[0].source
    assert second.cells[2].outputs[0].text == "42\n"
    assert [cell.execution_count for cell in second.cells[1:3]] == [1, 2]
    assert "version" not in first.metadata.language_info

    before = (course / "02_b.ipynb").read_bytes()
    tool.main("build", str(course / "02_b.ipynb"))
    assert (course / "02_b.ipynb").read_bytes() == before
    tool.main("verify")


def test_a_notebook_that_fails_is_left_as_it_was(course):
    notebook = read(course / "00_a.ipynb")
    notebook.cells[1].source = "1 / 0"
    nbformat.write(notebook, course / "00_a.ipynb")
    before = (course / "00_a.ipynb").read_bytes()
    with pytest.raises(SystemExit, match="(?s)ZeroDivisionError.*00_a.ipynb was left as it was"):
        tool.main("build")
    assert (course / "00_a.ipynb").read_bytes() == before
    assert {path.suffix for path in course.iterdir()} == {".toml", ".md", ".ipynb"}


def test_verify_notices_what_changes_from_run_to_run(course):
    notebook = read(course / "00_a.ipynb")
    notebook.metadata.language_info = {"name": "python", "version": "3.11.7"}
    nbformat.write(notebook, course / "00_a.ipynb")
    with pytest.raises(SystemExit, match="metadata that changes from run to run"):
        tool.main("verify")


def test_colab_sets_the_address_everywhere(course):
    tool.main("colab", "jane/seg.course")
    assert tool.repository() == "jane/seg.course"
    readme = (course / "README.md").read_text()
    assert "git clone https://github.com/jane/seg.course\n" in readme
    assert "/github/jane/seg.course/blob/main/notebooks/00_a.ipynb" in readme
    assert "https://github.com/pytorch/vision" in readme
    for path in course.glob("*.ipynb"):
        text = path.read_text("utf-8")
        assert "OWNER" not in text
        assert f"/github/jane/seg.course/blob/main/notebooks/{path.name}" in text
        assert "https://github.com/jane/seg.course segutils-course" in text


@pytest.mark.parametrize("address", ["jane", "https://github.com/jane/course", "jane/course/x", "jane/"])
def test_colab_refuses_what_is_no_address(course, address):
    before = {path: path.read_bytes() for path in course.iterdir()}
    with pytest.raises(SystemExit, match="Give the address as OWNER/REPO, for example jane/segutils, not "):
        tool.main("colab", address)
    assert {path: path.read_bytes() for path in course.iterdir()} == before


def test_the_tool_shows_its_help():
    with pytest.raises(SystemExit, match="run.py build"):
        tool.main("biuld")
