"""What stands around the picture of the explorer, as HTML and SVG."""

import base64
import html
from collections import Counter
from collections.abc import Sequence

from segutils.drawing import Color
from segutils.explorer.view import Tally, View


def score_strip(view: View, tally: Tally, scores: list[float], colors: list[Color], has_target: bool) -> str:
    """The scores of all instances as dots on a line from 0 to 1, with the threshold, as SVG."""
    stacks, dots, right = Counter(), [], set(tally.hits)
    kept = set(tally.kept) - set(tally.ignored)
    rows = tally.kept + tally.dropped
    columns = [_column(scores[i]) for i in rows]
    step = min(8.0, 34 / max(Counter(columns).values(), default=1))
    for i, column in zip(rows, columns):
        x, y = f"{2 + 0.96 * (column + 0.5):.2f}%", 41 - step * stacks[column]
        stacks[column] += 1
        color = "rgb({},{},{})".format(*colors[i])
        if i in right or (i in kept and not has_target):
            dots.append(f'<circle cx="{x}" cy="{y:.1f}" r="3.5" fill="{color}"/>')
        elif i in kept:
            style = f'fill="{color}" font-size="15" font-weight="bold" text-anchor="middle"'
            dots.append(f'<text x="{x}" y="{y + 4.5:.1f}" {style}>×</text>')
        else:
            dots.append(f'<circle cx="{x}" cy="{y:.1f}" r="3" fill="none" stroke="{color}" opacity="0.8"/>')
    at = f"{2 + 96 * view.score_threshold:.2f}%"
    line = 'stroke="currentColor"'
    ticks = "".join(
        f'<line x1="{2 + 96 * v}%" x2="{2 + 96 * v}%" y1="47" y2="51" {line}/>'
        f'<text x="{2 + 96 * v}%" y="62" text-anchor="middle">{v:g}</text>'
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    marks = "dots: hits, crosses: false alarms" if has_target else "dots: kept"
    marks += ", rings: dropped or ignored" if tally.ignored else ", rings: dropped"
    return (
        f'<svg role="img" aria-label="Scores of {len(rows)} instances; {marks}; the threshold is at '
        f'{view.score_threshold:.2f}" width="100%" height="66" font-size="11" fill="currentColor" '
        f'style="display:block;overflow:visible">'
        f'<line x1="2%" x2="98%" y1="47" y2="47" {line}/>{ticks}{"".join(dots)}'
        f'<line x1="{at}" x2="{at}" y1="14" y2="52" {line} stroke-width="2" stroke-dasharray="4 2"/>'
        f'<text x="2%" y="10">score ({marks})</text></svg>'
    )


def _column(score: float) -> int:
    return min(int(round(100 * score, 4)), 99)  # 0.29 in float32 is a little less than 0.29


def curve(precision: Sequence[float], recall: Sequence[float], kept: int, total: int) -> str:
    """Precision over recall for every score threshold, with the point where `kept` instances are kept, as SVG."""

    def place(x: float, y: float) -> str:
        return f"{34 + 150 * x:.1f},{112 - 100 * y:.1f}"

    line = 'stroke="currentColor"'
    points = " ".join(place(x, y) for x, y in zip(recall, precision)) if total else ""
    spot, where = "", "nothing is kept" if total else "there is nothing to find"
    if kept and total:
        x, y = place(recall[kept - 1], precision[kept - 1]).split(",")
        spot = f'<circle cx="{x}" cy="{y}" r="5" fill="#D55E00" stroke="white" stroke-width="1.5"/>'
        where = f"here recall is {recall[kept - 1]:.2f} and precision {precision[kept - 1]:.2f}"
    return (
        f'<svg role="img" aria-label="Precision over recall; {where}" width="200" height="146" font-size="11" '
        f'fill="currentColor"><path d="M34 12V112H184" fill="none" {line}/>'
        '<text x="30" y="16" text-anchor="end">1</text><text x="30" y="115" text-anchor="end">0</text>'
        '<text x="184" y="126" text-anchor="middle">1</text>'
        '<text x="109" y="138" text-anchor="middle">recall</text>'
        '<text transform="translate(12 62) rotate(-90)" text-anchor="middle">precision</text>'
        f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="2"/>{spot}</svg>'
    )


# For people who hear the page. The handles of ipywidgets' sliders have no name, and values with many digits; and a
# change of the status is read out only if its element was there before, with this role. So whenever a new picture is
# there, this gives each handle the name and the value of the number field beside it, and the status its role.
_DESCRIBE = """
const box = this.closest('.segutils-explorer');
box?.querySelector('.segutils-status > .widget-html-content')?.setAttribute('role', 'status');
for (const slider of box?.querySelectorAll('.widget-slider') ?? []) {
    const handle = slider.querySelector('[role=slider]'), field = slider.parentElement;
    handle.setAttribute('aria-label', field.querySelector('label').textContent);
    handle.setAttribute('aria-valuetext', field.querySelector('input').value);
}
"""


def swatch(color: Color) -> str:
    """A small square of a class's colour."""
    style = "display:block;margin-top:4px;width:16px;height:16px;border-radius:3px;background:rgb({},{},{})"
    return f'<span style="{style.format(*color)}"></span>'


def picture_tag(jpeg: bytes, size: Sequence[int], alt: str) -> str:
    """The picture of the explorer, JPEG, as an `img`."""
    return image_tag(jpeg, "image/jpeg", alt, f' width="{size[1]}" height="{size[0]}" onload="{_DESCRIBE}"')


def image_tag(picture: bytes, mime: str, alt: str, more: str = "") -> str:
    """An `img` of an encoded picture, no wider than its place."""
    data = base64.b64encode(picture).decode()
    return (
        f'<img src="data:{mime};base64,{data}" alt="{html.escape(alt)}"{more} decoding="sync" '
        'style="max-width:100%;height:auto;display:block">'
    )


# The way of copying that needs no permission, and no secure connection. It leaves the code selected.
_COPY = (
    "getSelection().selectAllChildren(this.parentElement.querySelector('code'));"
    "document.execCommand('copy');this.textContent='Copied'"
)


def code_block(code: str) -> str:
    """Two lines of code with a button that copies them."""
    return (
        '<div style="display:flex;gap:12px;align-items:center;min-width:0">'
        f'<button class="jupyter-button widget-button" style="flex:none" onclick="{_COPY}">Copy as code</button>'
        '<pre style="margin:0;padding:0;white-space:pre;overflow-x:auto;line-height:1.4;font-size:12px">'
        f"<code>{html.escape(code)}</code></pre></div>"
    )
