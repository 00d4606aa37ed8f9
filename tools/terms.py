"""Links from the notebooks to docs/terms.md: each term is linked where the notebook that explains it first uses it.

`run.py build` writes them (see `generate` in tools/notebooks.py). A term's row says which notebook that is: the first
one in its last column. Its names are those before the first bar: "**AP**, average precision" has two.
"""

import re
from functools import cache
from pathlib import Path

from nbformat import NotebookNode

TERMS = Path(__file__).resolve().parents[1] / "docs" / "terms.md"
ADDRESS = "../docs/terms.md"
ROW = re.compile(r'^\| <a id="(.+?)"></a>(.+?) \| .+ \| \[.+?\]\(\.\./notebooks/(.+?)\)', re.M)
LINK = re.compile(rf"\[([^]]+)\]\({re.escape(ADDRESS)}#[^)]+\)")
# Where no term is looked for: code, mathematics, headings, links, tables, tags, and what is said once more at the end.
OTHER = [r"```[\s\S]*?```", r"`[^`]*`", r"\$[^$]*\$", r"^## Key points[\s\S]*?(?=^#|\Z)", r"^#.*$"]
OTHER = re.compile("|".join([*OTHER, r"!?\[[^]]*\]\([^)]*\)", r"^\|.*$", r"<[^>]*>"]), re.M)


@cache
def terms() -> list[tuple[str, list[str], str]]:
    """Anchor, names and notebook of each term. The longest come first: "mask" is not to be found in "Mask R-CNN"."""
    rows = ROW.findall(TERMS.read_text("utf-8"))
    found = [(anchor, names.replace("*", "").split(", "), notebook) for anchor, names, notebook in rows]
    return sorted(found, key=lambda term: -max(map(len, term[1])))


def link_terms(notebook: NotebookNode, path: Path) -> None:
    """Link the terms that a notebook explains, each once, in place; links from before are placed anew.

    Raises `ValueError` when a term is not in its text.
    """
    opening, *others = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    for cell in (opening, *others):
        cell.source = LINK.sub(r"\1", cell.source)
    for anchor, names, name in terms():
        if name == path.name and not any(link_first(cell, anchor, names) for cell in [*others, opening]):
            raise ValueError(
                f"{path.name} nowhere says {' or '.join(names)}. Correct the row in {TERMS.name}."
            )


def link_first(cell: NotebookNode, anchor: str, names: list[str]) -> bool:
    """Link the first use of a term in a cell, whatever the case, and in the plural too. Is there one?"""
    word = re.compile(rf"(?<![\w`-])(?:{'|'.join(map(re.escape, names))})(?:e?s)?(?![\w`-])", re.I)
    taken = [found.span() for found in OTHER.finditer(cell.source)]
    for found in word.finditer(cell.source):
        start, end = found.span()
        if any(first <= start < end <= last and (first, last) != (start, end) for first, last in taken):
            continue
        cell.source = f"{cell.source[:start]}[{found[0]}]({ADDRESS}#{anchor}){cell.source[end:]}"
        return True
    return False
