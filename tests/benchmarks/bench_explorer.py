"""One tick of the threshold explorer: in the kernel beside the article's way, and in the browser.

`python3 run.py bench -k explorer` prints the tables and draws the plot. Nothing is asserted, since machines differ.

A tick of the article's way filters, makes boolean masks, draws them with torchvision and saves a matplotlib figure as
PNG, all at the size of the picture. The floor is what no explorer that sends JPEG can do without: copying the picture
at the size of the screen, and encoding it. The score slider goes to and fro where half of the instances are kept, as it
does in the article's way: one instance comes or goes at each tick, or 20 ("far"). "All kept" is its lower end. The mask
slider goes through its whole range, half of the instances kept. In the browser the time runs from the press of a key to
the first frame with the new picture.
"""

import io
import itertools
import math
import statistics
import time
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from bench_masks import PICTURES, articles_boolean, found, ours, paste, torchvisions_drawing
from browser import jupyterlab, launch, open_notebook, run_all_cells
from measuring import duration, ratio
from playwright.sync_api import sync_playwright
from torch import Tensor
from torchvision.transforms.v2.functional import resize as resize_to

from segutils import CATEGORIES, explore, filter_model_output, load_image, sample_images
from segutils.explorer.painting import fit_to_screen, to_jpeg

COUNT = 100
PLOT = Path(__file__).parents[2] / "output" / "bench_explorer.png"
ROOT = Path(__file__).resolve().parents[2]


def photograph(image_size: tuple[int, int]) -> Tensor:
    return resize_to(load_image(sample_images()["coffee"]), list(image_size), antialias=True)


def thresholds(image_size: tuple[int, int], count: int) -> list[float]:
    """Up and down around the threshold that keeps half. At each tick one instance comes or goes."""
    scores, half, reach = found(image_size, count)["scores"], count // 2, min(10, count // 4)
    up_and_down = [*range(-reach, reach), *range(reach, -reach, -1)]
    return [math.floor(10_000 * scores[half + step].item()) / 10_000 for step in up_and_down]


def jumps(image_size: tuple[int, int], count: int) -> list[float]:
    """From one end of those to the other."""
    steps = thresholds(image_size, count)
    return [steps[0], steps[len(steps) // 2]]


def articles_tick(image_size, count):
    image, prediction = photograph(image_size), paste(found(image_size, count), image_size)
    scores = itertools.cycle(thresholds(image_size, count))

    def tick():
        kept = articles_boolean(filter_model_output([prediction], next(scores))[0])
        figure, ax = plt.subplots()
        ax.imshow(torchvisions_drawing(image, kept).permute(1, 2, 0).numpy())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        return buffer.getvalue()

    return tick


def floor(image_size, count):
    image = fit_to_screen(photograph(image_size), ours(image_size, count), None)[0].numpy()
    return lambda: to_jpeg(image.copy())


def explorer(image_size, count):
    return explore(photograph(image_size), ours(image_size, count), CATEGORIES)


def move(box, slider, values):
    values = itertools.cycle(values)

    def tick():
        slider.value = next(values)
        return box.picture.value

    return tick


def score_tick(image_size, count):
    box = explorer(image_size, count)
    return move(box, box.score_threshold, thresholds(image_size, count))


def jump(image_size, count):
    box = explorer(image_size, count)
    return move(box, box.score_threshold, jumps(image_size, count))


def all_kept(image_size, count):
    """At the lower end: all, and all but the last."""
    box, scores = explorer(image_size, count), found(image_size, count)["scores"]
    return move(box, box.score_threshold, (scores[scores >= 0.05][-2].item(), 0.05))


def mask_tick(image_size, count):
    box = explorer(image_size, count)
    return move(box, box.mask_threshold, [round(0.1 + 0.035 * step, 3) for step in range(24)])


WAYS = {
    "the article's way": articles_tick,
    "mask slider": mask_tick,
    "score slider, far": jump,
    "score slider, all kept": all_kept,
    "score slider": score_tick,
    "floor: copy and JPEG": floor,
}


def kernel_times() -> dict[str, dict[str, float]]:
    """Seconds that a tick takes: the median of 40, taken in turns, since a machine is now faster and now slower."""
    torch.set_num_threads(1)
    results = {}
    print(f"\n\n| a tick with {COUNT} instances | " + " | ".join(WAYS) + " |")
    print("|---" * (len(WAYS) + 1) + "|")
    for name in ("1080p", "12 MP"):
        ways = {key: way for key, way in WAYS.items() if name == "1080p" or way is not articles_tick}
        ticks = {key: way(PICTURES[name], COUNT) for key, way in ways.items()}
        times = {key: [] for key in ticks}
        for turn in range(42):
            for key, tick in ticks.items():
                if ways[key] is not articles_tick or turn < 7:  # which takes a second or more
                    start = time.perf_counter()
                    tick()
                    times[key].append(time.perf_counter() - start)
        results[name] = {key: statistics.median(all_[2:]) for key, all_ in times.items()}
        cells = [duration(results[name][way]) if way in ways else "" for way in WAYS]
        print(f"| {name} | {' | '.join(cells)} |")
    at_1080p, at_12mp = results["1080p"], results["12 MP"]
    for way in [name for name, way in WAYS.items() if way not in (articles_tick, floor)]:
        article = ratio(at_1080p["the article's way"], at_1080p[way])
        over_floor, larger = at_1080p[way] / at_1080p["floor: copy and JPEG"], at_12mp[way] / at_1080p[way]
        print(f"{way}: {article} of the article's way, {over_floor:.1f} floors; 12 MP {larger:.2f} of 1080p")
    return results


# --- in the browser ------------------------------------------------------------------------------------------

CELL = f"""
import sys
sys.path[:0] = {[str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "benchmarks")]!r}
from bench_explorer import COUNT, PICTURES, explorer
explorer(PICTURES["1080p"], COUNT)
"""

# Notes when a key goes down, and when the picture that replaces the old one has been decoded and is shown.
WATCH = """box => {
    let pressed = null, last = box.querySelector('img');
    window.delays = [];
    document.addEventListener('keydown', () => { pressed = performance.now(); }, true);
    new MutationObserver(async () => {
        const image = box.querySelector('img');
        if (!image || image === last) return;
        last = image;
        const start = pressed;
        await image.decode();
        requestAnimationFrame(() => window.delays.push(performance.now() - start));
    }).observe(box, {childList: true, subtree: true});
}"""


def browser_times(folder: Path) -> dict[str, list[float]]:
    """Seconds from each of 40 presses of an arrow key to the new picture, for both sliders."""
    (folder / "state").mkdir()
    (folder / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "notebooks" / "explorer.ipynb")
    times = {}
    with sync_playwright() as playwright, jupyterlab(folder, folder / "state") as address:
        chromium = launch(playwright)
        if chromium is None:
            pytest.skip("needs Chromium, Chrome or Edge, and none was found on this machine")
        page = chromium.new_page(base_url=address, viewport={"width": 1366, "height": 900})
        page.set_default_timeout(120_000)
        open_notebook(page, "", "notebooks/explorer.ipynb")
        run_all_cells(page)
        box = page.locator(".segutils-explorer")
        box.get_by_role("slider", name="Score threshold").wait_for()
        box.evaluate(WATCH)
        for name in ("Score threshold", "Mask threshold"):
            box.get_by_role("slider", name=name).focus()
            page.evaluate("() => { window.delays = []; }")
            for press in range(40):
                page.keyboard.press("ArrowLeft")
                page.wait_for_function("count => window.delays.length > count", arg=press)
                page.wait_for_timeout(100)  # as long as a person's finger rests
            times[name] = [delay / 1000 for delay in page.evaluate("window.delays")]
        chromium.close()
    return times


def test_explorer_ticks(tmp_path):
    kernel = kernel_times()
    browser = browser_times(tmp_path)
    print("\n| key press to new picture, 1080p | median | slowest of 40 |\n|---|---|---|")
    for name, times in browser.items():
        print(f"| {name} | {duration(statistics.median(times))} | {duration(max(times))} |")
    draw_plot(kernel, browser)
    print(f"\nPlot: {PLOT}")


def draw_plot(kernel: dict[str, dict[str, float]], browser: dict[str, list[float]]) -> None:
    """Bars for a tick in the kernel, logarithmic, and every key press in the browser as a dot."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=(3, 2), layout="constrained")
    figure.suptitle(f"One tick of the explorer, {COUNT} instances", fontsize=12)
    names = list(reversed(WAYS))
    for offset, (picture, color) in zip((0.2, -0.2), {"1080p": "#0072B2", "12 MP": "#56B4E9"}.items()):
        for row, name in enumerate(names):
            if name in kernel[picture]:
                seconds = kernel[picture][name]
                label = picture if name == names[0] else None
                axes[0].barh(row + offset, 1000 * seconds, height=0.38, color=color, label=label)
                axes[0].annotate(
                    duration(seconds),
                    (1000 * seconds, row + offset),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                )
    axes[0].set(xscale="log", yticks=range(len(names)), yticklabels=names, xticks=[])
    axes[0].set_title("in the kernel (logarithmic)", fontsize=11)
    axes[0].minorticks_off()
    axes[0].margins(x=0.2)
    axes[0].legend(frameon=False, loc="lower right")
    generator = torch.Generator().manual_seed(0)
    for row, times in enumerate(browser.values()):
        x = row + 0.24 * (torch.rand(len(times), generator=generator) - 0.5)
        axes[1].plot(x, [1000 * t for t in times], "o", color="#0072B2", alpha=0.5, markersize=4)
        middle = 1000 * statistics.median(times)
        axes[1].plot([row - 0.22, row + 0.22], [middle] * 2, color="#D55E00", linewidth=2)
        axes[1].annotate(f"median {middle:.0f} ms", (row + 0.24, middle), va="center", color="#D55E00")
    labels = [name.replace(" ", "\n") for name in browser]
    axes[1].set(xticks=range(len(browser)), xticklabels=labels, xlim=(-0.5, 1.9), ylim=(0, None))
    axes[1].set_title("key press to new picture (ms)", fontsize=11)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=120)
    plt.close(figure)
