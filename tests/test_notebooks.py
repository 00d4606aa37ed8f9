"""The structure of the notebooks: what running them cannot tell."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import notebook_rules
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_rules import MAX_NOTEBOOK, RULES, minutes, numbers_in_prose, prose, time_spent

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from folding import fold_solutions  # noqa: E402

import notebooks as tool  # noqa: E402

COURSE = tool.notebooks()
README = (ROOT / "README.md").read_text("utf-8")
ROWS = re.findall(r"^\| \[(.+?)\]\(notebooks/(.+?)\) \| (.+?) \| (\d+) \|", README, re.M)

# Notebooks that do not keep a rule yet. Who mends one deletes its name here: a name too many fails as well.
NOT_YET: dict[str, str] = {}

each_notebook = pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        pytest.param(
            path,
            rule,
            id=f"{path.stem}-{rule.__name__}",
            marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason="not rewritten yet")
            if rule.__name__ in NOT_YET.get(path.stem, "").split()
            else [],
        )
        for path in COURSE
        for rule in RULES
    ],
)
def test_notebook_keeps_the_rule(path, rule):
    assert list(rule(read(path))) == []


def test_what_is_not_yet_kept_are_rules_and_notebooks():
    assert NOT_YET.keys() <= {path.stem for path in COURSE}
    assert set(" ".join(NOT_YET.values()).split()) <= {rule.__name__ for rule in RULES}


@each_notebook
def test_generated_parts_are_current(path):
    """Links to the neighbours, first code cell, badge: as `run.py build` would write them."""
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
    found = [(title, name, minute) for title, name, _, minute in ROWS]
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

**Time**: 20 minutes."""


def code(source, *outputs, tags=(), **metadata):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags), **metadata})


def picture(size=10, mime="image/jpeg", alt="a square"):
    data = {mime: base64.b64encode(bytes(size)).decode()}
    return new_output("display_data", data=data, metadata={mime: {"alt": alt} if alt else {}})


def exercise():
    folded = {"tags": ["solution"], "cellView": "form", "collapsed": True}
    folded["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    return [
        new_markdown_cell("### Exercise 1: a number"),
        code("answer = 1", tags=["exercise"]),
        code("print('Not yet')", tags=["check"]),
        new_markdown_cell("**Solution**: unfold the cell below."),
        code("# @title Solution\nanswer = 2", picture(), **folded),
    ]


def toy() -> nbformat.NotebookNode:
    """A small notebook that keeps every rule."""
    seconds = new_output("stream", text="0.25 s")
    cells = [
        new_markdown_cell(HEADER),
        code("show(x, alt='a square')", picture()),
        new_markdown_cell(
            "## What to notice\n\n```\n# no title, and 88 is no number\n```\n\n![a square](square.png)"
        ),
        code("seconds, answer = timing()", seconds, tags=["nbval-ignore-output"]),
        code("print(answer, 0.5, 83, '98')  # 99", new_output("stream", text="1,234 of 83% below 0.50\n")),
        new_markdown_cell("## Key points\n\n- It is a toy. Half of 1234 are twelve."),
        new_markdown_cell("## Exercises"),
        *exercise(),
        new_markdown_cell("### Exercise 2: a picture of yours"),
        code("mine = None", tags=["exercise", "open"]),
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
    "no '**Time**: ... minutes'": edit(0, "20 minutes", "not long"),
    "'**Time**: 46 minutes' is more than 45": edit(0, "20 minutes", "46 minutes"),
    "'**Time**: 10 minutes', but it is about 17: ": edit(0, "20 minutes", "10 minutes"),
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
    "more than 20 lines": edit(4, "print", "\n" * 20 + "print"),
    "5 asserts, more than 4": edit(4, "print", "assert 1\n" * 4 + "torch.testing.assert_close(1, 1)\nprint"),
    "a branch on the model: not tabletop or x": edit(4, "print", "assert not tabletop or x\nprint"),
    "a branch on the model: 'coin' in categories": edit(4, "print", "ours = 'coin' in categories\nprint"),
    "a branch on the model: 'cat' in weights.meta['categories']": edit(
        4, "answer,", "1 if 'cat' in weights.meta['categories'] else 2,"
    ),
    "a branch on the model: name in coco.categories": edit(
        4, "answer,", "[name for name in found if name in coco.categories],"
    ),
    "for one of the models only: *With tabletop:*": edit(2, "## What to notice", "*With tabletop:* a coin."),
    "for one of the models only: (With COCO, a cat.)": edit(2, "## What to notice", "(With COCO, a cat.)"),
    "a trailing ';'": edit(1, "square')", "square');"),
    "an absolute path: /home/ada/x.png": edit(1, "x,", "'/home/ada/x.png',"),
    "an absolute path: C:\\Users": output(4, output_type="stream", name="stdout", text="C:\\Users\\ada"),
    "of 301 kB, more than 300 kB": lambda nb: nb.cells[1].outputs.append(picture(300_600)),
    "a Markdown picture without alt text": edit(2, "![a square]", "![]"),
    "an <img> without alt text": output(4, **HTML),
    "a picture without alt text": lambda nb: nb.cells[1].outputs.append(picture(alt="")),
    "83, '98')  # 99] a picture without alt text": lambda nb: nb.cells[4].outputs.append(
        picture(mime="image/png", alt="")
    ),
    "a picture that no text follows": lambda nb: nb.cells[3].outputs.append(picture(mime="image/png")),
    "unchecked output, more than one in ten": tag(1, "nbval-ignore-output"),
    "no checked output in the next cell": lambda nb: nb.cells[4].outputs.clear(),
    "the next cell shows nothing that was made here": edit(4, "answer", "other"),
    "nbval-skip or an nbval comment": edit(4, "print", "# NBVAL_SKIP\nprint"),
    "the last two parts are": edit(6, "Exercises", "Now you"),
    "at least one of either kind: ['exercise', 'solution', 'open']": lambda nb: nb.cells[9].metadata.tags.clear(),
    "at least one of either kind: ['exercise', 'check', 'solution', 'exercise']": lambda nb: (
        nb.cells[13].metadata.tags.remove("open")
    ),
    "at least one of either kind: ['open', 'check', 'solution', 'open']": tag(8, "open"),
    "at least one of either kind: ['open']": lambda nb: nb.cells.__delitem__(slice(7, 12)),
    "no cell before it that starts with '**Solution**'": edit(10, "**Solution**", "Solution"),
    "first line is not '# @title Solution'": edit(11, "# @title Solution", "# Solution"),
    "not folded: 'run.py build' folds it": lambda nb: nb.cells[11].metadata.jupyter.pop("outputs_hidden"),
    "[# @title Solution] a solution that is not folded": lambda nb: nb.cells[11].metadata.pop("collapsed"),
    "82%, in '... ## Key points - It is a toy. 82 % of 1234 are twelve. ...', is in no code": edit(5, "Half", "82 %"),
    "1234, in '... That is all 1,234. ...'": edit(14, "all", "all 1,234"),
    "7, in '... 7 squares ...'": edit(1, "a square", "7 squares"),
}  # fmt: skip


def complaints(notebook) -> list[str]:
    return [complaint for rule in RULES for complaint in rule(notebook)]


def test_the_toy_keeps_every_rule():
    assert complaints(toy()) == []


def test_time_is_spent_on_what_is_not_folded():
    assert time_spent(toy()) == {"words": 61, "lines of code": 6, "pictures": 2, "exercises": 2}


@pytest.mark.parametrize("complaint", BREAKS)
def test_a_broken_rule_is_noticed(complaint):
    notebook = toy()
    BREAKS[complaint](notebook)
    assert any(complaint in found for found in complaints(notebook)), complaints(notebook)


def test_a_writer_sees_every_complaint_about_a_notebook(tmp_path):
    notebook, file = toy(), tmp_path / "toy.ipynb"
    for number, old, new in ((0, "20 minutes", "10 minutes"), (14, "all", "all 1,234")):
        edit(number, old, new)(notebook)
    nbformat.write(notebook, file)
    command = [sys.executable, notebook_rules.__file__, str(file)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 1
    lines = answer.stdout.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["header", "numbers_in_prose"], answer


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("83% and 83 % and 83 per cent of 1,234 or 1234, below 0.50; 0.5; eighty-three", []),
        ("84% of 1,235, below 0.51; 0.500; eighty-four", ["84%", "1235", "0.51", "0.500", "84"]),
        ("28x28, -7, 2e-3 to 3e-3, 10th", ["28", "28", "7", "0.002", "0.003", "10"]),
        ("twelve, thirteen, a hundred and five, two hundred thousand, hundreds", ["13", "105", "200000"]),
        ("0.25 seconds: nobody checks that", ["0.25"]),
        ("99, in a comment, and 98, in a string", ["99", "98"]),
        ("uint8, SHA-256, 3D, 0x0112, values from 0 to 255, scores from 0 to 1", []),
        ("exercise 2, step 3, notebooks 12 and 13, and 04\n\n7. a point\n\n```\n88\n```", []),
        (
            "[07 Inside](07_inside.ipynb), [a page](https://example.org/77), <br height=6>, https://example.org/5",
            [],
        ),
        ("[a page of 77](https://example.org), `x[6]`", ["77", "6"]),
    ],
)
def test_numbers_in_prose_are_those_that_the_cells_nearby_show(text, missing):
    notebook = toy()
    notebook.cells[2].source = text
    found = [re.match(r"(\S+), in ", complaint)[1] for complaint in numbers_in_prose(notebook)]
    assert sorted(found) == sorted(missing)


def test_numbers_in_prose_may_be_exceptions_while_they_are_needed(monkeypatch):
    notebook = toy()
    notebook.cells[2].source = "Published in\nMarch 2017, and mended in 2018."
    reasons = [("99", "in March 2017", "a year"), ("98", "in 2018", "in another notebook")]
    monkeypatch.setattr(notebook_rules, "EXCEPTIONS", reasons)
    [complaint] = numbers_in_prose(notebook)
    assert complaint.startswith("2018, in ")
    monkeypatch.setattr(
        notebook_rules, "EXCEPTIONS", [*reasons, ("99", "2018", "a year"), ("99", "83%", "a toy")]
    )
    assert list(numbers_in_prose(notebook)) == [
        "the exception '83%' in numbers_in_prose.py is no longer needed"
    ]


# --- the tool that builds them -----------------------------------------------------------------------------


def test_solutions_are_folded():
    notebook = toy()
    for key in ("jupyter", "cellView", "collapsed"):
        del notebook.cells[11].metadata[key]
    assert len(complaints(notebook)) == 1
    fold_solutions(notebook)
    assert notebook == toy()


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    """A folder with two toy notebooks, a README and a pyproject.toml, for tools/notebooks.py to work on."""
    (tmp_path / "pyproject.toml").write_text('Repository = "https://github.com/OWNER/segutils"\n')
    (tmp_path / "README.md").write_text(
        "Toys.\n\n![sliders](docs/explorer.png)\n\n"
        "[x](https://github.com/pytorch/vision)\n\n| Notebook | Afterwards you can | Minutes |\n|---|---|---|\n"
        "| [00 First](notebooks/00_a.ipynb) | read | 5 |\n| [02 Second](notebooks/02_b.ipynb) | write | 15 |\n"
    )
    for name, title, stated in (("00_a", "00 First", 5), ("02_b", "02 Second", 15)):
        cells = [
            new_markdown_cell(f"# {title}\n\nText.\n\n**Time**: {stated} minutes."),
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
    link = "Next: [02 Second](02_b.ipynb)"
    assert first.cells[0].source == f"# 00 First\n\n{link}\n\nText.\n\n**Time**: 5 minutes."
    assert first.cells[1].source == f"{tool.TITLE}import sys\n\n{tool.CANNOT_FETCH}"
    assert first.cells[1].metadata["jupyter"] == {"source_hidden": True}
    assert first.cells[-1].source == f"End.\n\n{link}"
    assert "Previous: [00 First](00_a.ipynb)" in second.cells[0].source
    assert second.cells[2].outputs[0].text == "42\n"
    assert [cell.execution_count for cell in second.cells[1:3]] == [1, 2]
    assert "version" not in first.metadata.language_info

    before = (course / "02_b.ipynb").read_bytes()
    tool.main("build", str(course / "02_b.ipynb"))
    assert (course / "02_b.ipynb").read_bytes() == before
    tool.main("verify")


def test_a_new_notebook_is_linked_from_its_neighbours_and_may_end_with_code(course):
    tool.main("build")
    second = (course / "02_b.ipynb").read_text("utf-8")
    cells = [new_markdown_cell("# 01 Between\n\n**Time**: 1 minute."), new_code_cell("print(1)")]
    nbformat.write(new_notebook(cells=cells), course / "01_new.ipynb")
    tool.main("build", str(course / "01_new.ipynb"))
    first, new = (read(course / name) for name in ("00_a.ipynb", "01_new.ipynb"))
    assert first.cells[-1].source == "End.\n\nNext: [01 Between](01_new.ipynb)"
    links = "Previous: [00 First](00_a.ipynb) | Next: [02 Second](02_b.ipynb)"
    assert [cell.source for cell in new.cells[2:]] == ["print(1)", links]
    changed = (course / "02_b.ipynb").read_text("utf-8")
    assert changed == second.replace(
        "Previous: [00 First](00_a.ipynb)", "Previous: [01 Between](01_new.ipynb)"
    )


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


def test_colab_and_binder_are_linked_once_the_address_is_known(course):
    tool.main("build")
    before = {path.name: path.read_text("utf-8") for path in course.iterdir()}
    assert not any(re.search("colab.research|mybinder", text) for text in before.values())

    for name in ("jane/seg.course", "ada/lovelace"):  # a second name replaces the first
        tool.main("colab", name)
        assert tool.repository() == name
        addresses = {path.name: f"{name}/blob/main/notebooks/{path.name}" for path in course.glob("*.ipynb")}
        readme = (course / "README.md").read_text("utf-8")
        assert (
            "[x](https://github.com/pytorch/vision)\n\n| Notebook | Afterwards you can | Minutes | W"
            in readme
        )
        owner, repo = name.split("/")
        page = f"https://{owner}.github.io/{repo}/notebooks/06_explore_thresholds.html"
        assert f"\n\n[![sliders](docs/explorer.png)]({page})\n\n" in readme
        assert re.findall(r"\| (\w+) \| \d+ \| \[Colab\]\((.+?)\), \[Binder\]\((.+?)\) \|\n", readme) == [
            (
                verb,
                f"{tool.COLAB}/github/{address}",
                f"{tool.BINDER}/{name}/HEAD?labpath=notebooks/{notebook}",
            )
            for verb, (notebook, address) in zip(("read", "write"), sorted(addresses.items()))
        ]
        for path in course.glob("*.ipynb"):
            opening, fetch = (cell.source for cell in read(path).cells[:2])
            badge = f"[![Open in Colab]({tool.COLAB}/assets/colab-badge.svg)]"
            assert f"\n\n{badge}({tool.COLAB}/github/{addresses[path.name]})\n\n" in opening
            assert opening.count("Open in Colab") == 1
            assert f"https://github.com/{name} segutils-course" in fetch

    tool.main("colab", "OWNER/segutils")  # and without an address the links are gone again
    assert {path.name: path.read_text("utf-8") for path in course.iterdir()} == before


def first_cell(code: str) -> str:
    notebook = new_notebook(cells=[new_markdown_cell("# 99"), new_code_cell(code), new_markdown_cell("End.")])
    tool.generate(notebook, tool.notebooks()[0])
    return notebook.cells[1].source


@pytest.mark.parametrize(("code", "packages"), [
    ("import numpy as np, torch.nn\n%time from skimage.data import coins", ""),
    ("def f():\n    import faster_coco_eval.core.mask", "faster-coco-eval"),
    ("import zlib, cv2\nfrom pandas.api import types", "cv2 pandas"),
    ("from segutils import show, judge", "pandas"),
    ("from segutils.judging import secret", "pandas"),
    ("from segutils import show\nfrom segutils.display import to_array\nimport segutils", ""),
])  # fmt: skip
def test_what_colab_lacks_is_installed_there(course, monkeypatch, code, packages):
    monkeypatch.setattr(tool, "ROOT", course)
    (course / "segutils").mkdir()
    entrance = "from segutils.display import show\nfrom segutils.judging import judge\n"
    for name, source in [
        ("__init__", entrance),
        ("display", "import torch"),
        ("judging", "def judge():\n    import pandas"),
    ]:
        (course / "segutils" / f"{name}.py").write_text(source)
    assert "pip" not in first_cell(code)  # in a copy that cannot be fetched
    tool.set_repository("jane/course")
    assert re.findall(r"\n    %pip install -q (.+)", first_cell(code)) == ([packages] if packages else [])


@pytest.mark.parametrize("address", ["OWNER/segutils", "jane/course"])
def test_the_first_cell_says_when_another_model_is_in_use(course, address, monkeypatch, capsys):
    tool.set_repository(address)
    assert "print" not in first_cell("print('no model here')")
    code = TransformerManager().transform_cell(first_cell("model, weights = load_model()"))
    for name in (None, "", "tabletop", "coco"):
        monkeypatch.delenv("SEGUTILS_MODEL", raising=False)
        if name is not None:
            monkeypatch.setenv("SEGUTILS_MODEL", name)
        exec(code, {})
        assert capsys.readouterr().out == (
            "The text of this notebook describes the bundled model's pictures; you run 'coco'.\n"
            if name == "coco"
            else ""
        )


def test_a_copy_without_an_address_says_in_colab_what_to_do(course, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    with pytest.raises(RuntimeError, match="Put the course on GitHub, .* run.py colab OWNER/REPO"):
        exec(first_cell("1"), {})


@pytest.mark.parametrize("address", ["jane", "https://github.com/jane/course", "jane/course/x", "jane/"])
def test_colab_refuses_what_is_no_address(course, address):
    before = {path: path.read_bytes() for path in course.iterdir()}
    with pytest.raises(SystemExit, match="Give the address as OWNER/REPO, for example jane/segutils, not "):
        tool.main("colab", address)
    assert {path: path.read_bytes() for path in course.iterdir()} == before


def test_the_tool_shows_its_help():
    with pytest.raises(SystemExit, match="run.py build"):
        tool.main("biuld")
