"""The rules of CONTRIBUTING.md for notebooks, as code: each takes a notebook and returns its complaints.

python tests/notebook_rules.py notebooks/00_start_here.ipynb   every complaint about one notebook, or several
"""

import ast
import base64
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from numbers_in_prose import EXCEPTIONS, numbers

MAX_NOTEBOOK = 1_500_000  # bytes
MAX_PICTURE = 300_000  # bytes
MAX_MINUTES = 45
MAX_ASSERTS = 4
PICTURES = ("image/png", "image/jpeg")
# Which model it is, asked by code (in a condition), and told apart by prose.
BRANCHES = [r"(?<!\[')\btabletop\b", r"\bin (\w+\.)*(categories\b|meta\b)", "SEGUTILS_MODEL"]
CASES = [r"\*with (?:tabletop|coco)\b[^*]*\*", r"\(with (?:tabletop|coco)\b[^)]*\)"]


def header(notebook: NotebookNode) -> Iterator[str]:
    """The first cell: a title, goals, what is needed, and minutes."""
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
        return
    if int(minutes(notebook)) > MAX_MINUTES:
        yield f"'**Time**: {minutes(notebook)} minutes' is more than {MAX_MINUTES}"
    if abs(int(minutes(notebook)) - reading_time(notebook)) > 5:
        spent = ", ".join(f"{count} {what}" for what, count in time_spent(notebook).items())
        yield f"'**Time**: {minutes(notebook)} minutes', but it is about {reading_time(notebook):.0f}: {spent}"


def time_spent(notebook: NotebookNode) -> dict[str, int]:
    """What a learner reads, looks at and does. What is folded away, solutions above all, isn't counted."""
    unfolded = [cell for cell in code_cells(notebook) if not source_hidden(cell)]
    drawn = [o for cell in unfolded for o in cell.outputs if set(PICTURES) & set(o.get("data", {}))]
    return {
        "words": len(re.findall(r"\S*\w\S*", re.sub(r"\]\(.*?\)", "]", prose(notebook)))),
        "lines of code": sum(len(cell.source.splitlines()) for cell in unfolded),
        "pictures": len(drawn) + len(re.findall(r"(?<!\[)!\[", prose(notebook))),  # "[![" is a badge
        "exercises": sum("exercise" in tags(cell) for cell in unfolded),
    }


def reading_time(notebook: NotebookNode) -> float:
    """Minutes: 120 words or 8 lines of code in one, two for a picture, six for an exercise."""
    words, lines, looks, exercises = time_spent(notebook).values()
    return words / 120 + lines / 8 + 2 * looks + 6 * exercises


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


def asserts(notebook: NotebookNode) -> Iterator[str]:
    """At most four asserts, those of torch.testing and solutions included: where they are the lesson."""
    found = [
        f"{start(cell)} {line.strip()}"
        for cell in code_cells(notebook)
        for line in re.findall(r"^\s*(?:assert\b|[\w.]*\.assert_\w+\().*", cell.source, re.M)
    ]
    if len(found) > MAX_ASSERTS:
        yield f"{len(found)} asserts, more than {MAX_ASSERTS}: {'; '.join(found)}"


def one_model(notebook: NotebookNode) -> Iterator[str]:
    """No code asks which model was loaded, and no prose tells the models apart case by case.

    The generated cell does ask: it warns a reader who runs another model that the text is about the bundled one.
    """
    for cell in code_cells(notebook):
        if "google.colab" in cell.source:
            continue
        for node in ast.walk(tree(cell)):
            # what decides in if, while, assert, x if y else z and [... if y], and what is kept in a name for it
            conditions = [getattr(node, "test", None), *getattr(node, "ifs", [])]
            if isinstance(node, ast.Assign) and isinstance(
                node.value, ast.Compare | ast.BoolOp | ast.UnaryOp
            ):
                conditions.append(node.value)
            for code in (ast.unparse(condition) for condition in conditions if condition):
                if re.search("|".join(BRANCHES), code, re.I):
                    yield f"{start(cell)} a branch on the model: {code}"
    for found in re.findall("|".join(CASES), prose(notebook), re.I):
        yield f"prose for one of the models only: {found}"


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
    """Each picture has an alt text, and below an unfolded cell a text follows that says what to notice."""
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
        if not all(alt.strip() for _, _, alt in pictures(cell)):
            yield f"{start(cell)} a picture without alt text: show(picture, alt=...) or show(figure, alt=...)"
        if not source_hidden(cell) and (following is None or following.cell_type != "markdown"):
            yield f"{start(cell)} a picture that no text follows to say what to notice"


def ignored_cells(notebook: NotebookNode) -> Iterator[str]:
    """At most one cell in ten has unchecked output, and the next cell shows what matters; none is skipped."""
    cells = code_cells(notebook)
    ignored = [i for i, cell in enumerate(cells) if "nbval-ignore-output" in tags(cell)]
    if len(ignored) > max(1, len(cells) // 10):
        yield f"{len(ignored)} of {len(cells)} code cells have unchecked output, more than one in ten"
    for i in ignored:
        following = cells[i + 1] if i + 1 < len(cells) else None
        if not following or i + 1 in ignored or not following.outputs:
            yield f"{start(cells[i])} unchecked output, and no checked output in the next cell"
        elif not names(cells[i], ast.Store) & names(following, ast.Load) - names(following, ast.Store):
            yield f"{start(cells[i])} unchecked output, and the next cell shows nothing that was made here"
    for cell in cells:
        if "nbval-skip" in tags(cell) or re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source):
            yield f"{start(cell)} nbval-skip or an nbval comment: use tags, and run every cell"


def ending(notebook: NotebookNode) -> Iterator[str]:
    """Key points, then two or three exercises: at least one with check and solution, and one that is open."""
    titles = re.findall(r"^## (.+)$", prose(notebook), re.M)
    if titles[-2:] != ["Key points", "Exercises"]:
        yield f"the last two parts are {titles[-2:]}, not 'Key points' and 'Exercises'"
        return
    where = next(
        i for i, cell in enumerate(notebook.cells) if re.search(r"^## Exercises$", cell.source, re.M)
    )
    parts = [
        "open" if "open" in tags(cell) else tag
        for cell in notebook.cells[where:]
        for tag in tags(cell)
        if tag in ("exercise", "check", "solution")
    ]
    kinds = re.findall(r"open|exercise check solution|\w+", " ".join(parts))
    if len(kinds) not in (2, 3) or set(kinds) != {"open", "exercise check solution"}:
        yield (
            "the exercises are not two or three, each either 'exercise' with 'check' and 'solution' or 'exercise' "
            f"with 'open', and at least one of either kind: {parts}"
        )


def solutions(notebook: NotebookNode) -> Iterator[str]:
    """A solution is announced, and folded together with what it prints and draws."""
    for before, cell in zip(notebook.cells, notebook.cells[1:]):
        if "solution" not in tags(cell):
            continue
        if before.cell_type != "markdown" or not before.source.startswith("**Solution**"):
            yield f"{start(cell)} no cell before it that starts with '**Solution**'"
        if not cell.source.startswith("# @title Solution\n"):
            yield f"{start(cell)} a solution whose first line is not '# @title Solution'"
        folded = {
            "jupyter": {"source_hidden": True, "outputs_hidden": True},  # JupyterLab, VS Code
            "cellView": "form",  # Colab: the source
            "collapsed": True,  # Colab: the outputs
        }
        if any(cell.metadata.get(key) != value for key, value in folded.items()):
            yield f"{start(cell)} a solution that is not folded: 'run.py build' folds it"


def numbers_in_prose(notebook: NotebookNode) -> Iterator[str]:
    """Each number in the prose, and in an alt written by hand, is printed or computed with nearby.

    Nearby is the same part of the notebook (from one '##' to the next) or one of the two code cells before and
    after; for the opening and the key points it is the whole notebook. A string or a comment in the code is no
    evidence, nor is what an unchecked cell prints.
    """
    sections, evidence = _sections(notebook), [_evidence(cell) for cell in notebook.cells]
    code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    chapter = (re.match(r"# (\d\d[a-z]?)\b", notebook.cells[0].source) or [None, None])[1]
    excused = [text for where, text, _ in EXCEPTIONS if where == chapter]
    needed = set()
    for i, cell in enumerate(notebook.cells):
        near = [k for k in code if sections[k] & sections[i]]
        near += [k for k in code if k < i][-2:] + [k for k in code if k > i][:2]
        if i == 0 or re.search(r"^## Key points$", cell.source, re.M):
            near = code
        found = set().union(*(evidence[k] for k in {*near, *([i] if cell.cell_type == "code" else [])}))
        for text in _written(cell):
            covered = [(m.span(), e) for e in excused for m in re.finditer(re.escape(e), text)]
            for begin, end, number in numbers(text):
                if number in found:
                    continue
                excuses = [e for (left, right), e in covered if left <= begin and end <= right]
                needed.update(excuses)
                if not excuses:
                    around = text[max(0, begin - 30) : end + 30].strip()
                    yield f"{number}, in '... {around} ...', is in no code or output nearby"
    for text in excused:
        if text not in needed:
            yield f"the exception '{text}' in numbers_in_prose.py is no longer needed"


def _sections(notebook: NotebookNode) -> list[set[int]]:
    """For each cell the parts it belongs to, counted by '##' headings: two for a cell with one in its middle."""
    sections, part = [], 0
    for cell in notebook.cells:
        heads = len(re.findall(r"^## ", cell.source, re.M)) if cell.cell_type == "markdown" else 0
        begins = cell.source.startswith("## ")
        sections.append(set(range(part + begins, part + heads + 1)))
        part += heads
    return sections


def _written(cell: NotebookNode) -> list[str]:
    """The prose of a cell, in one line, without what numbers it; of a code cell the alt texts written in it."""
    if cell.cell_type == "code":
        alts = [k.value for k in ast.walk(tree(cell)) if isinstance(k, ast.keyword) and k.arg == "alt"]
        return [text for alt in alts for text in _literals(alt) if isinstance(text, str)]
    if cell.cell_type != "markdown":
        return []
    text = _unfenced(cell.source)
    text = re.sub(
        r"\[[^\]]*\]\(\d\d[a-z]?_\w+\.ipynb[^)]*\)", "", text
    )  # links to notebooks, with their titles
    text = re.sub(r"\]\([^)]*\)|https?://\S+|</?[a-zA-Z][^>]*>", " ", text)  # where links lead; HTML tags
    text = re.sub(r"\b0 to (1|255)\b", "", text)  # what floats and bytes hold
    text = re.sub(
        r"^\s*\d+\. |^#+ \d+[a-z]?\b|^\*\*Time\*\*.*", "", text, flags=re.M
    )  # lists, titles, minutes
    text = re.sub(
        r"(?i)\b(exercise|step) \d\b|\bnotebooks? \d\d((, | and | to | or )\d\d)*|\b0\d[a-z]?\b", "", text
    )
    return [" ".join(text.split())]


def _evidence(cell: NotebookNode) -> set[str]:
    """The numbers that a code cell computes with and, where its output is checked, those it shows."""
    if cell.cell_type != "code":
        return set()
    texts = [str(value) for value in _literals(tree(cell)) if not isinstance(value, str)]
    for output in cell.outputs if "nbval-ignore-output" not in tags(cell) else []:
        data = output.get("data", {})
        texts += [output.get("text", ""), output.get("evalue", "")]
        texts += [
            re.sub(r"</?[a-zA-Z][^>]*>", " ", text) for mime, text in data.items() if mime.startswith("text/")
        ]
    return {number for text in texts for *_, number in numbers(text)}


def _literals(code: ast.AST) -> list:
    """The numbers and strings written in a piece of code; of an f-string, what stands around its braces."""
    return [node.value for node in ast.walk(code) if isinstance(node, ast.Constant)]


RULES = [
    header,
    headings,
    execution,
    metadata,
    cell_lengths,
    asserts,
    one_model,
    code_habits,
    sizes,
    descriptions,
    ignored_cells,
    ending,
    solutions,
    numbers_in_prose,
]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: NotebookNode) -> str:
    """All Markdown, without fenced code."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return _unfenced(text)


def _unfenced(markdown: str) -> str:
    return re.sub(r"^(```|~~~).*?^\1", "", markdown, flags=re.M | re.S)


def tree(cell: NotebookNode) -> ast.Module:
    """The syntax tree of a code cell, its magics (`!ls`, `%time`) turned into Python."""
    return ast.parse(TransformerManager().transform_cell(cell.source))


def names(cell: NotebookNode, context: type[ast.expr_context]) -> set[str]:
    """The names that a cell sets (ast.Store) or reads (ast.Load)."""
    return {
        node.id
        for node in ast.walk(tree(cell))
        if isinstance(node, ast.Name) and isinstance(node.ctx, context)
    }


def source_hidden(cell: NotebookNode) -> bool:
    return cell.metadata.get("jupyter", {}).get("source_hidden") is True


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


if __name__ == "__main__":
    found = [
        f"{path}: {rule.__name__}: {complaint}"
        for path in sys.argv[1:]
        for rule in RULES
        for complaint in rule(nbformat.read(path, as_version=4))
    ]
    print("\n".join(found) or "The notebooks keep every rule." if sys.argv[1:] else __doc__)
    sys.exit(bool(found))
