"""The minutes and the plans in docs/teaching.md, computed from the notebooks.

python tools/teaching.py   write them anew; `run.py build` does so too, and tests/test_teaching.py compares

Between `<!-- generated: minutes NOTEBOOK -->` and `<!-- end -->` stand the minutes of a notebook's parts, between
`<!-- generated: plan ROUTE -->` and `<!-- end -->` the table of a route. A minute is what the rule of CONTRIBUTING.md
counts (tests/notebook_rules.py). To change a route, edit ROUTES.
"""

import math
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))
from notebook_rules import reading_time  # noqa: E402

GUIDE = ROOT / "docs" / "teaching.md"
NOTEBOOKS = ROOT / "notebooks"
ALWAYS = ("Opening", "Key points")  # what every stop at a notebook has

# When it begins and ends, and its stops. A stop is a notebook with the parts that are taught ("only") or left out
# ("without"), named by the first words of their headings, or it's something else, with its minutes.
ROUTES = {
    "90 minutes": (
        "9:00",
        "10:30",
        [
            ("00_start_here", "without", ["The course", "Exercise 2"]),
            ("03_run_mask_rcnn", "only", ["Load a model", "Prepare", "Run it", "One instance", "Something"]),
            ("Break", 10),
            # What a high threshold loses, 06 shows live.
            ("04_filter_and_masks", "only", ["More than", "Filter", "Choosing", "Exercise 1"]),
            ("06_explore_thresholds", "only", ["Run the network", "What the score"]),
        ],
    ),
    "half a day": (
        "9:00",
        "12:30",
        [
            ("Arrive; everybody runs the first cells of 00", 10),
            ("00_start_here", "without", ["Is everything", "The course", "Exercise 2"]),
            ("01_what_is_segmentation", "only", ["One picture", "Can a class map", "Which question"]),
            ("Break", 10),
            ("03_run_mask_rcnn", "without", ["Everyday", "Exercise 2"]),
            ("04_filter_and_masks", "without", ["Exercise 2"]),
            ("Break", 15),
            ("06_explore_thresholds", "only", ["Run the network", "What the score", "Choose on twenty"]),
            ("08_measure", "only", ["Count", "What a pixel", "What mustn't", "Exercise 2"]),
        ],
    ),
    "a day": (
        "9:00",
        "17:00",
        [
            ("Arrive; everybody runs the first cells of 00", 10),
            ("00_start_here", "without", ["Is everything", "The course", "Exercise 2"]),
            ("01_what_is_segmentation", "without", ["How the two", "Exercise 2"]),
            ("02_load_and_show", "only", ["A picture is", "Channels", "0 to 255", "A phone", "Exercise 1"]),
            ("Break", 15),
            ("03_run_mask_rcnn", "without", ["Everyday", "Exercise 2"]),
            ("04_filter_and_masks", "without", ["Exercise 2"]),
            ("Lunch", 60),
            ("05_draw", "only", ["Something to draw", "What torchvision", "Boxes", "Where masks", "Truth"]),
            ("06_explore_thresholds", "only", ["Run the network", "What the score", "Choose on twenty"]),
            ("08_measure", "only", ["Count", "What a pixel", "What mustn't"]),
            ("Break", 15),
            ("09a_evaluate", "without", ["How good is a class map", "Exercise 2"]),
            ("Break", 10),
            ("10a_fine_tune", "without", ["What it cost", "Exercise 1", "Exercise 2"]),
            ("A picture of yours: the last exercise of any notebook", 40),
            ("The ten questions, in pairs", 25),
        ],
    ),
}


def parts(notebook: NotebookNode) -> dict[str, float]:
    """The minutes of each part of a notebook, from one `##` heading or exercise to the next."""
    found = {"Opening": []}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            [*found.values()][-1].append(cell)
            continue
        for piece in re.split(r"(?m)^(?=##)", cell.source):
            if heading := re.match(r"##(?!#) *(.+)|### *(Exercise \d+: .+)", piece):
                found[heading[1] or heading[2]] = []
            [*found.values()][-1].append(new_markdown_cell(piece))
    return {heading: reading_time(new_notebook(cells=cells)) for heading, cells in found.items()}


def minutes_of(path: Path) -> str:
    """One line: the parts of a notebook and their minutes."""
    counted = {k: v for k, v in parts(_read(path)).items() if k not in (*ALWAYS, "Exercises")}
    return (
        "Minutes: " + "; ".join(f"{heading} **{max(1, round(m))}**" for heading, m in counted.items()) + "."
    )


def plan(route: str) -> str:
    """A route as a table. A stop lasts whole five minutes, and what's left until the end is for questions."""
    begin, end, stops = ROUTES[route]
    now, rows = _minute(begin), ["| Time | Minutes | What | Parts |", "|---|---|---|---|"]
    for stop in stops:
        row, lasts = _row(*stop)
        rows.append(f"| {_clock(now)} | {lasts} | {row} |")
        now += lasts
    if now > _minute(end):
        raise ValueError(
            f"The route '{route}' ends at {_clock(now)}, after {end}. Leave something out in ROUTES."
        )
    if now < _minute(end):
        rows.append(f"| {_clock(now)} | {_minute(end) - now} | Questions, and time in hand | |")
    return "\n".join([*rows, f"| {end} | | End | |"])


def generated(text: str) -> str:
    """docs/teaching.md with everything between its markers made anew."""

    def block(match: re.Match) -> str:
        kind, name = match[1], match[2]
        if kind == "minutes" and not (NOTEBOOKS / f"{name}.ipynb").exists():
            return match[0]  # notes on a notebook that is still being written
        body = plan(name) if kind == "plan" else minutes_of(NOTEBOOKS / f"{name}.ipynb")
        return f"<!-- generated: {kind} {name} -->\n\n{body}\n\n<!-- end -->"

    return re.sub(r"<!-- generated: (plan|minutes) (.+?) -->.*?<!-- end -->", block, text, flags=re.S)


def main() -> None:
    GUIDE.write_bytes(generated(GUIDE.read_text("utf-8")).encode("utf-8"))


def _row(what: str, kind: str | int, names: list[str] | None = None) -> tuple[str, int]:
    """The last two cells of a row, and the minutes of the stop."""
    if names is None:
        return f"{what} | ", kind
    notebook = _read(NOTEBOOKS / f"{what}.ipynb")
    counted = parts(notebook)
    named = {name: [heading for heading in counted if heading.startswith(name)] for name in names}
    for name, headings in named.items():
        if len(headings) != 1:
            raise ValueError(f"{what} has {len(headings)} parts that begin with '{name}': mend ROUTES.")
    chosen = [heading for [heading] in named.values()]
    taught = [h for h in counted if h in ALWAYS or (h in chosen) == (kind == "only")]
    listed = "; ".join(re.sub(r"^(Exercise \d+): .*", r"\1", heading) for heading in chosen)
    title = notebook.cells[0].source.split("\n")[0].removeprefix("# ")
    lasts = 5 * math.ceil(sum(counted[heading] for heading in taught) / 5)
    link = f"[{title}](../notebooks/{what}.ipynb)"
    return f"{link} | {listed if kind == 'only' else f'all but: {listed}'}", lasts


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return 60 * int(hours) + int(minutes)


def _clock(minute: int) -> str:
    return f"{minute // 60}:{minute % 60:02}"


if __name__ == "__main__":
    main()
