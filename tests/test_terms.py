"""The links from the notebooks to docs/terms.md."""

import re
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))
import terms  # noqa: E402

PAGE = """\
| Term | Meaning | More in |
|---|---|---|
| <a id="mask"></a>**mask** | pixels | [98](../notebooks/98.ipynb), [99](../notebooks/99.ipynb) |
| <a id="soft-mask"></a>**soft mask** | numbers | [98](../notebooks/98.ipynb) |
| <a id="ap"></a>**AP**, average precision | area | [98](../notebooks/98.ipynb) |
| <a id="roimasks"></a>**`RoIMasks`** | small masks | [98](../notebooks/98.ipynb) |
"""


@pytest.fixture(autouse=True)
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(terms, "TERMS", tmp_path / "terms.md")
    terms.TERMS.write_text(PAGE, "utf-8")
    terms.terms.cache_clear()
    yield
    terms.terms.cache_clear()


def linked(*texts, name="98.ipynb"):
    notebook = new_notebook(
        cells=[new_markdown_cell("# Title\n\nAbout a mask."), *map(new_markdown_cell, texts)]
    )
    terms.link_terms(notebook, Path(name))
    return [cell.source for cell in notebook.cells]


def link(text, anchor):
    return f"[{text}](../docs/terms.md#{anchor})"


def test_each_term_is_linked_once_where_it_is_first_used_after_the_opening():
    opening, first, second = linked(
        "## Soft masks and AP\n\n**Soft masks** aren't masks, nor is `mask` or a [mask](a.md). "
        "AP is average precision.",
        "A `RoIMasks` holds a mask and a soft mask.",
    )
    assert opening == "# Title\n\nAbout a mask."
    assert first == (
        f"## Soft masks and AP\n\n**{link('Soft masks', 'soft-mask')}** aren't {link('masks', 'mask')}, nor is `mask` "
        f"or a [mask](a.md). {link('AP', 'ap')} is average precision."
    )
    assert second == f"A {link('`RoIMasks`', 'roimasks')} holds a mask and a soft mask."


def test_links_are_placed_anew():
    before = linked("AP of a soft mask, a mask, a `RoIMasks`.")
    notebook = new_notebook(
        cells=[new_markdown_cell("# Title"), new_code_cell("mask"), *map(new_markdown_cell, before)]
    )
    for _ in range(2):
        terms.link_terms(notebook, Path("98.ipynb"))
        assert notebook.cells[1].source == "mask"
        assert sum(cell.source.count("terms.md") for cell in notebook.cells) == 4


def test_a_word_in_the_opening_is_linked_if_it_is_nowhere_else_and_not_in_the_key_points():
    opening, points = linked(
        "## Key points\n\n- A soft mask, AP, `RoIMasks`.\n\n## Exercises\n\nAP, soft mask, `RoIMasks`"
    )
    assert opening == f"# Title\n\nAbout a {link('mask', 'mask')}."
    assert points.startswith("## Key points\n\n- A soft mask, AP, `RoIMasks`.\n\n## Exercises\n\n[AP]")


def test_a_term_that_its_notebook_does_not_use_is_an_error():
    with pytest.raises(
        ValueError, match="98.ipynb nowhere says AP or average precision. Correct the row in terms.md"
    ):
        linked("A soft mask, a `RoIMasks`; SNAP and a half-AP aren't it.")
    assert "terms.md" not in "".join(linked("A mask.", name="99.ipynb"))


def test_all_rows_of_the_page_are_read(monkeypatch):
    monkeypatch.undo()
    terms.terms.cache_clear()
    text = terms.TERMS.read_text("utf-8")
    found = terms.terms()
    assert len(found) == len(re.findall(r"^\| .*\*\*", text, re.M)) > 50
    assert len({anchor for anchor, *_ in found}) == len(found)
    assert all((ROOT / "notebooks" / name).exists() for *_, name in found)
