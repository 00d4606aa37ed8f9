"""The rules of CONTRIBUTING.md for notebooks, as code: each takes a notebook and returns its complaints."""

import base64
import re
from collections.abc import Iterator
from html.parser import HTMLParser

from nbformat import NotebookNode

MAX_NOTEBOOK = 1_500_000  # bytes
MAX_PICTURE = 300_000  # bytes
PICTURES = ("image/png", "image/jpeg")


def header(notebook: NotebookNode) -> Iterator[str]:
    """The first cell: a title, goals, what is needed, minutes, and the Colab badge."""
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell does not start with a title: '# ...'"
    goals = re.search(r"^\*\*You will be able to\*\*\n\n((?:- .+\n?(?:  .+\n?)*)+)", first.source, re.M)
    if not goals:
        yield "the first cell has no '**You will be able to**' with a list below"
    elif not 2 <= len(re.findall(r"^- ", goals[1], re.M)) <= 4:
        yield "'You will be able to' has not two to four points"
    if not re.search(r"^\*\*You need\*\* .+", first.source, re.M):
        yield "the first cell has no '**You need** ...'"
    if minutes(notebook) is None:
        yield "the first cell has no '**Time**: ... minutes'"
    elif abs(int(minutes(notebook)) - reading_time(notebook)) > 5:
        yield f"'**Time**: {minutes(notebook)} minutes', but it is about {reading_time(notebook):.0f}"


def reading_time(notebook: NotebookNode) -> float:
    """Minutes that a learner needs: 180 words or 15 lines of code a minute, and three for each exercise."""
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    lines = sum(len(cell.source.splitlines()) for cell in code_cells(notebook))
    exercises = sum("exercise" in tags(cell) for cell in code_cells(notebook))
    return words / 180 + lines / 15 + 3 * exercises


def minutes(notebook: NotebookNode) -> str | None:
    """The number in '**Time**: 10 minutes', as text; None when there is none."""
    found = re.search(r"^\*\*Time\*\*: (?:about )?(\d+) minutes?", notebook.cells[0].source, re.M)
    return found[1] if found else None


def headings(notebook: NotebookNode) -> Iterator[str]:
    """One title, and no level of heading skipped."""
    levels = [len(marks) for marks in re.findall(r"^(#{1,6}) ", prose(notebook), re.M)]
    if levels.count(1) != 1:
        yield f"there are {levels.count(1)} '#' titles, not one"
    for above, below in zip(levels, levels[1:]):
        if below > above + 1:
            yield f"a heading of level {below} follows one of level {above}"


def execution(notebook: NotebookNode) -> Iterator[str]:
    """Executed from top to bottom, without errors, other than deliberate ones, and without warnings."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"not executed from top to bottom: {counts}"
    for cell in code_cells(notebook):
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed != ("raises-exception" in tags(cell)):
            yield f"{start(cell)} an error without the tag 'raises-exception', or the tag without an error"
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"{start(cell)} output on stderr"


def metadata(notebook: NotebookNode) -> Iterator[str]:
    """The kernel is python3, cells have ids, and no state of widgets is stored."""
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec is not python3"
    if set(notebook.metadata) - {"kernelspec", "language_info"}:
        yield f"metadata other than kernelspec and language_info: {sorted(notebook.metadata)}"
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) != len(ids):
        yield "cells without an id, or with the same id"


def cell_lengths(notebook: NotebookNode) -> Iterator[str]:
    """Half of the code cells have at most 6 lines, none more than 20."""
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    if sum(length <= 6 for length in lengths) < len(lengths) / 2:
        yield f"fewer than half of the code cells have at most 6 lines: {lengths}"
    for cell in code_cells(notebook):
        if len(cell.source.splitlines()) > 20:
            yield f"{start(cell)} more than 20 lines"


def code_habits(notebook: NotebookNode) -> Iterator[str]:
    """No trailing semicolon, and no path of one person's machine in code, prose or outputs."""
    for cell in code_cells(notebook):
        if re.search(r";\s*(#.*)?$", cell.source, re.M):
            yield f"{start(cell)} a trailing ';'"
    for cell in notebook.cells:
        texts = [cell.source]
        for output in cell.get("outputs", []):
            texts += [
                output.get("text", ""),
                *(str(v) for k, v in output.get("data", {}).items() if k[:5] == "text/"),
            ]
            texts += output.get("traceback", [])
        found = re.search(
            r"(?<![\w.:/])(/(home|Users|root|tmp|work|mnt|var|usr|opt)/|[A-Z]:\\)\S*", "\n".join(texts)
        )
        if found:
            yield f"{start(cell)} an absolute path: {found[0]}"


def sizes(notebook: NotebookNode) -> Iterator[str]:
    """No picture is larger than 300 kB. (The notebook as a whole is measured as a file.)"""
    for cell in code_cells(notebook):
        for mime, encoded, _ in pictures(cell):
            size = len(base64.b64decode(encoded))
            if size > MAX_PICTURE:
                yield f"{start(cell)} a picture ({mime}) of {size / 1000:.0f} kB, more than 300 kB"


def descriptions(notebook: NotebookNode) -> Iterator[str]:
    """Pictures are described: in alt texts, and in the text after the cell that draws them."""
    if re.search(r"!\[\s*\]\(", prose(notebook)):
        yield "a Markdown picture without alt text: ![]("
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None]):
        htmls = [cell.source] if cell.cell_type == "markdown" else []
        htmls += [o.data["text/html"] for o in cell.get("outputs", []) if "text/html" in o.get("data", {})]
        for alt in _alts("\n".join(htmls)):
            if not alt:
                yield f"{start(cell)} an <img> without alt text"
        if cell.cell_type != "code" or not pictures(cell):
            continue
        if any(mime == "image/jpeg" and not alt for mime, _, alt in pictures(cell)):
            yield f"{start(cell)} a picture shown without alt text: give `show` titles or alt"
        if following is None or following.cell_type != "markdown":
            yield f"{start(cell)} a picture that no text follows to say what to notice"


def ignored_cells(notebook: NotebookNode) -> Iterator[str]:
    """At most one cell in ten has unchecked output, and an assert follows it; none is skipped."""
    cells = code_cells(notebook)
    ignored = [i for i, cell in enumerate(cells) if "nbval-ignore-output" in tags(cell)]
    if len(ignored) > max(1, len(cells) // 10):
        yield f"{len(ignored)} of {len(cells)} code cells have unchecked output, more than one in ten"
    for i in ignored:
        if i + 1 == len(cells) or not re.search(r"^\s*assert ", cells[i + 1].source, re.M):
            yield f"{start(cells[i])} unchecked output, and no assert in the next cell"
    for cell in cells:
        if "nbval-skip" in tags(cell) or re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source):
            yield f"{start(cell)} nbval-skip or an nbval comment: use tags, and run every cell"


def ending(notebook: NotebookNode) -> Iterator[str]:
    """Key points, then two or three exercises: task, cell, check, and a folded solution that was executed."""
    titles = re.findall(r"^## (.+)$", prose(notebook), re.M)
    if titles[-2:] != ["Key points", "Exercises"]:
        yield f"the last two parts are {titles[-2:]}, not 'Key points' and 'Exercises'"
        return
    where = next(
        i for i, cell in enumerate(notebook.cells) if re.search(r"^## Exercises$", cell.source, re.M)
    )
    parts = [
        tag
        for cell in notebook.cells[where:]
        for tag in tags(cell)
        if tag in ("exercise", "check", "solution")
    ]
    if parts not in ([["exercise", "check", "solution"] * count for count in (2, 3)]):
        yield f"the exercises are not two or three times exercise, check, solution: {parts}"
    for before, cell in zip(notebook.cells, notebook.cells[1:]):
        if "solution" not in tags(cell):
            continue
        folded = cell.metadata.get("jupyter", {}).get("source_hidden") is True
        if (
            not folded
            or cell.metadata.get("cellView") != "form"
            or not cell.source.startswith("# @title Solution")
        ):
            yield f"{start(cell)} not folded as CONTRIBUTING.md says"
        if not re.search(r"^\s*assert ", cell.source, re.M):
            yield f"{start(cell)} a solution without an assert"
        if before.cell_type != "markdown" or not before.source.startswith("**Solution**"):
            yield f"{start(cell)} no cell before it that starts with '**Solution**'"


RULES = [
    header,
    headings,
    execution,
    metadata,
    cell_lengths,
    code_habits,
    sizes,
    descriptions,
    ignored_cells,
    ending,
]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: NotebookNode) -> str:
    """All Markdown, without fenced code."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.M | re.S)


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def pictures(cell: NotebookNode) -> list[tuple[str, str, str]]:
    """The pictures under a cell: MIME type, base64 text, alt text."""
    return [
        (mime, output.data[mime], output.metadata.get(mime, {}).get("alt", ""))
        for output in cell.outputs
        for mime in PICTURES
        if mime in output.get("data", {})
    ]


def start(cell: NotebookNode) -> str:
    """The first line of a cell, to find it again."""
    return f"[{cell.source.splitlines()[0] if cell.source else 'empty cell'}]"


def _alts(html: str) -> list[str]:
    """The alt texts of the <img> elements in a piece of HTML or Markdown; "" where one is missing."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag == "img":
                found.append(dict(attributes).get("alt") or "")

    Reader().feed(html)
    return found
