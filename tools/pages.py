"""For maintainers: the course as pages, to read in a browser without Jupyter, a server or a network.

python3 run.py site [FOLDER]   write the pages into site/, or into another folder; open index.html there

README.md becomes index.html. The notebooks, the texts in docs/ and whatever these link to lie in the site as they lie
in the repository: `notebooks/05_draw.ipynb` is `notebooks/05_draw.html`, its pictures are in `notebooks/05_draw/`.
"""

import base64
import html
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from PIL import Image, ImageOps

from notebooks import BINDER, ROOT, colab_link, is_generated, notebooks, repository, title

README = ROOT / "README.md"
TEMPLATE = Path(__file__).parent / "site"  # index.html.j2, style.css, page.js
EXPLORER = "application/vnd.segutils.explorer+json"  # what explorer.js brings to life
EXPLORER_JS = ROOT / "segutils" / "explorer" / "explorer.js"
SUFFIXES = {
    ".ipynb": ".html",
    ".md": ".html",
    ".png": ".webp",
    "": ".txt",
}  # of a file: of its page or copy
PICTURES = {"image/png": "png", "image/jpeg": "jpg"}
THUMBNAIL = (480, 300)  # pixels, about twice as many as a card is wide, for sharp screens
TABLE = re.compile(r"^\| Notebook \|.*\n\|---.*\n(?:\|.*\n)+", re.M)  # of notebooks, in README.md
ROW = re.compile(r"^\| \[(.+?)\]\(notebooks/(.+?)\) \| (.+?) \| (\d+) \|", re.M)


def build(site: Path) -> list[Path]:
    """Write all pages and what they show into a folder, in place of what an earlier build has left there.

    Returns the pages. Raises `ValueError` where a page could not show what it should: for a link to a file that does
    not exist, a picture without a description, and mathematics (to set it takes a script from elsewhere).
    """
    if site.exists() and any(site.iterdir()) and not (site / "assets" / "page.js").exists():
        raise ValueError(
            f"{site} holds other things than pages of the course. Name a new or an empty folder."
        )
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(TEMPLATE, site / "assets", ignore=shutil.ignore_patterns("*.j2"))
    waiting, pages = [README, *notebooks(), *texts()], {}
    while waiting:
        source = waiting.pop(0)
        if source not in pages:
            pages[source] = site / address(source)
            pages[source].parent.mkdir(parents=True, exist_ok=True)
            if pages[source].suffix == ".html":
                waiting += write_page(source, site)
            elif source.suffix == ".png":
                pages[source].write_bytes(webp(Image.open(source)))
            else:
                shutil.copyfile(source, pages[source])
    return [page for page in pages.values() if page.suffix == ".html"]


def texts() -> list[Path]:
    """What there is to read beside the notebooks."""
    return sorted(ROOT.glob("docs/*.md"))


def address(source: Path) -> Path:
    """Where in the site a file of the repository has its page, or its copy."""
    if source == README:
        return Path("index.html")
    return source.relative_to(ROOT).with_suffix(SUFFIXES.get(source.suffix, source.suffix))


def write_page(source: Path, site: Path) -> list[Path]:
    """Write the page of a notebook or of a Markdown file, with its pictures. Returns the files that it links to."""
    renderer = Renderer(source)
    course, target = notebooks(), site / address(source)
    if source in course:
        notebook = nbformat.read(source, as_version=4)
    else:
        notebook = new_notebook(cells=[*markdown_cells(source, site)])
    for number, cell in enumerate(notebook.cells):
        prepare(cell, renderer, first=number == 0)
    take_pictures(notebook, source, target.with_suffix(""))

    here = course.index(source) if source in course else len(course)
    page = {
        "heading": heading(source),
        "course_heading": heading(README),
        "is_index": source == README,
        "up": "../" * (len(address(source).parts) - 1),
        "contents": [found for found in renderer.headings if found[0] in (2, 3)],
        "course": [entry(path, source) for path in course],
        "texts": [entry(path, source) for path in texts()],
        "explorer_js": explorer_js(notebook),
        "elsewhere": elsewhere(source) if source in course and repository() else {},
        "previous": [entry(path, source) for path in course[:here][-1:] if source in course],
        "next": [entry(path, source) for path in course[here + 1 :][:1]],
    }
    exporter = HTMLExporter(template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)])
    text, _ = exporter.from_notebook_node(notebook, {"page": page})
    target.write_bytes(text.encode("utf-8"))
    return renderer.linked


@cache
def heading(source: Path) -> str:
    """The title of a notebook or of a Markdown file."""
    if source.suffix == ".ipynb":
        return title(source)
    return re.search(r"^# (.+)", source.read_text("utf-8"), re.M)[1]


def entry(path: Path, source: Path) -> dict:
    """A line in a list of pages: title, address, and whether it is the page at hand."""
    return {"heading": heading(path), "address": address(path).as_posix(), "here": path == source}


def elsewhere(source: Path) -> dict[str, str]:
    """Where a notebook can be run without installing anything."""
    binder = f"{BINDER}/{repository()}/HEAD?labpath=notebooks/{source.name}"
    return {"Colab": colab_link(source), "Binder": binder}


def markdown_cells(source: Path, site: Path) -> Iterator[NotebookNode]:
    """A Markdown file as cells: one, except for README.md, where the table of notebooks becomes a cell of cards."""
    text = source.read_text("utf-8")
    if source != README:
        yield new_markdown_cell(text)
        return
    before, after = TABLE.split(text)
    yield new_markdown_cell(before)
    cards = []
    for name, file, gain, minutes in ROW.findall(TABLE.search(text)[0]):
        path = ROOT / "notebooks" / file
        card = {"heading": name, "minutes": minutes, "address": address(path).as_posix()}
        card["gain"] = gain[0].upper() + gain[1:]
        cards.append(card | {"thumbnail": write_thumbnail(path, site)})
    yield new_markdown_cell("", metadata={"cards": cards})
    yield new_markdown_cell(after)


# --- cells ---------------------------------------------------------------------------------------------------


def prepare(cell: NotebookNode, renderer: "Renderer", first: bool) -> None:
    """Work out what a page shows of a cell, for the template, in place."""
    cell.metadata.setdefault("tags", [])
    for card in cell.metadata.get("cards", []):
        card.gain = MarkdownWithMath(renderer).render(card.gain)
    if cell.cell_type == "markdown":
        # A page has links of its own to its neighbours.
        lines = [line for line in cell.source.split("\n") if not is_generated(line)]
        cell.metadata.html = without_empty_headings(MarkdownWithMath(renderer).render("\n".join(lines)))
        cell.metadata.kind = "opening" if first else "key-points" if lines[0] == "## Key points" else ""
        return
    hidden = cell.metadata.get("jupyter", {})
    name, rest = re.match(r"(?:# @title (.+)\n)?([\s\S]*)", cell.source).groups()
    cell.source, cell.metadata.title = rest, name or "Code"
    cell.metadata.folded = hidden.get("source_hidden", False)
    cell.metadata.solution = hidden.get("outputs_hidden", False)
    for output in cell.outputs:
        data = output.get("data", {})
        if "text/html" in data:
            data["text/html"] = without_empty_headings(data["text/html"])
        if EXPLORER in data:
            data[EXPLORER] = json.dumps(data[EXPLORER], separators=(",", ":")).replace("<", "\\u003c")


def without_empty_headings(text: str) -> str:
    """HTML whose tables have no heading cells without a heading, which confuse screen readers."""
    return text.replace("<th></th>", "<td></td>")


def explorer_js(notebook: NotebookNode) -> str:
    """The module that brings explorers to life, for a page that has some: inline, since browsers load no modules from
    the file system."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    if EXPLORER_JS.exists() and any(EXPLORER in output.get("data", {}) for output in outputs):
        return EXPLORER_JS.read_text("utf-8").replace("</script", "<\\/script")
    return ""


def take_pictures(notebook: NotebookNode, source: Path, folder: Path) -> None:
    """Write the pictures in the outputs into a folder; each output gets address, size and description, in place."""
    for number, (output, mime) in enumerate(pictures_of(notebook), start=1):
        alt = output.metadata.get(mime, {}).get("alt")
        if not alt:
            raise ValueError(f"{source.name}: picture {number} has no description. Use show(..., alt='...').")
        file = folder / f"{number:02}.{PICTURES[mime]}"
        folder.mkdir(exist_ok=True)
        file.write_bytes(base64.b64decode(output.data[mime]))
        width, height = Image.open(file).size
        address = f"{folder.name}/{file.name}"
        output.metadata.picture = {"src": address, "alt": alt, "width": width, "height": height}


def pictures_of(notebook: NotebookNode) -> list[tuple[NotebookNode, str]]:
    """The outputs that hold a picture, each with its type."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [(output, mime) for output in outputs for mime in PICTURES if mime in output.get("data", {})]


def webp(picture: Image.Image) -> bytes:
    """Encode a picture as WebP: without loss, or with one that nobody sees, whichever is smaller."""
    files = io.BytesIO(), io.BytesIO()
    picture.convert("RGB").save(files[0], "webp", lossless=True)
    picture.convert("RGB").save(files[1], "webp", quality=90)
    return min((file.getvalue() for file in files), key=len)


def write_thumbnail(path: Path, site: Path) -> str:
    """Write a small picture for the card of a notebook: of its pictures the one whose shape needs the least cut."""
    encoded = [output.data[mime] for output, mime in pictures_of(nbformat.read(path, as_version=4))]
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in encoded]
    shape = THUMBNAIL[0] / THUMBNAIL[1]
    best = min(pictures, key=lambda picture: abs(picture.width / picture.height - shape))
    file = site / "assets" / "cards" / f"{path.stem}.webp"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(webp(ImageOps.fit(best.convert("RGB"), THUMBNAIL)))
    return file.relative_to(site).as_posix()


class Renderer(IPythonRenderer):
    """Renders the Markdown of one source; collects its headings and the files of the repository that it links to."""

    def __init__(self, source: Path):
        super().__init__(escape=False)
        self.source = source
        self.headings: list[tuple[int, str, str]] = []  # level, id, HTML of the text
        self.linked: list[Path] = []

    def heading(self, text: str, level: int, **attrs) -> str:
        """A heading with the id that Jupyter gives it in a notebook, and GitHub in a Markdown file."""
        plain = html.unescape(re.sub(r"<.+?>", "", text))
        if self.source.suffix == ".md":
            plain = re.sub(r"[^\w\- ]", "", plain.lower())
        id, taken = plain.replace(" ", "-"), {found[1] for found in self.headings}
        id = next(name for name in (id, *(f"{id}-{n}" for n in range(1, 99))) if name not in taken)
        self.headings.append((level, id, text))
        return f'<h{level} id="{html.escape(id)}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link; one to a file of the repository leads to its page. What has no page is only named."""
        path = self._file(url)
        if path is None:
            return super().link(text, url, title)
        if path.is_dir() and (path / "README.md").exists():
            path = path / "README.md"
        if path.is_dir() or path.suffix not in (*SUFFIXES, ".jpg"):
            place = f"https://github.com/{repository()}/blob/HEAD/{path.relative_to(ROOT).as_posix()}"
            return super().link(text, place, title) if repository() else text
        self.linked.append(path)
        _, hash, fragment = url.partition("#")
        return super().link(text, self._from_here(path) + hash + fragment, title)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """A picture of the repository, with its size, so that nothing moves when it arrives."""
        path = self._file(url)
        if path is None or not text:
            raise ValueError(f"{self.source.name}: the picture {url} lies elsewhere or has no description.")
        self.linked.append(path)
        width, height = Image.open(path).size
        return (
            f'<img src="{self._from_here(path)}" alt="{html.escape(text)}" width="{width}" height="{height}"'
            ' loading="lazy">'
        )

    def _no_mathematics(self, *args, **attrs) -> str:
        raise ValueError(f"{self.source.name} has mathematics between dollar signs: no page can set {args}.")

    inline_math = block_math = latex_environment = _no_mathematics

    def _file(self, url: str) -> Path | None:
        """The file that a link names; None for what lies on the web or on the same page."""
        if re.match(r"[a-z]+:|#", url):
            return None
        path = (self.source.parent / unquote(url.partition("#")[0])).resolve()
        if not path.exists() or ROOT not in path.parents:
            raise ValueError(f"{self.source.name} links to {url}, which does not exist.")
        return path

    def _from_here(self, path: Path) -> str:
        return "../" * (len(address(self.source).parts) - 1) + address(path).as_posix()


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site").resolve()
    print(f"{len(build(folder))} pages. The first is {folder / 'index.html'}")
