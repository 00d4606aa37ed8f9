"""One tick of the threshold explorer, from the press of a key to the frame, in a page and in JupyterLab.

`python3 run.py bench -k explorer` prints the tables and draws the plot. Nothing is asserted, since machines differ.

Instances that the bundled model finds on drawn tables are thrown on a photograph, each with a true mask; their scores
are spread evenly. Real key presses move the score threshold from 0.70 to 0.30, then the mask threshold, half of the
instances kept.
A frame is *painted* when the page has handed it over (a task after its `requestAnimationFrame`), and *shown* when
Chromium reports it on the screen (EventLatency in its trace). Both times begin when Chromium gets the key. Chromium has
one core and no GPU.

What it is compared with: the article's way (filter, boolean masks, torchvision's drawing, a matplotlib figure) and
notebook 06's widget in ten lines (filter, `draw_instances`, JPEG). Both draw in the kernel, in the size of the picture.
"""

import io
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import nbformat
import psutil
import pytest
import torch
from bench_masks import PICTURES, articles_boolean, paste, torchvisions_drawing
from browser import jupyterlab, launch, open_notebook, run_all_cells
from measuring import duration, ratio, size
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from torchvision.transforms.v2.functional import resize, to_pil_image

from segutils import (
    CATEGORIES,
    RoIMasks,
    draw_instances,
    explore,
    filter_model_output,
    load_image,
    load_model,
    predict,
    render_scene,
    sample_images,
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
PLOT = ROOT / "output" / "bench_explorer.png"
SLIDERS = ("Score threshold", "Mask threshold")
PRESSES = 40
REST = 100  # milliseconds between two presses, as long as a person's finger rests
CASES = {"100 instances, 1080p": ("1080p", 100), "100, 12 MP": ("12 MP", 100), "456, 1080p": ("1080p", 456)}


@cache
def things(count: int) -> list[tuple[torch.Tensor, ...]]:
    """What the bundled model finds on drawn tables: small masks, labels, and sides of the boxes in pixels."""
    model, _ = load_model()
    found = []
    for seed in itertools.count(100):
        [one] = predict(model, [render_scene(seed)[0]])
        found += zip(one["masks"].probs, one["labels"], one["boxes"][:, 2:] - one["boxes"][:, :2])
        if len(found) >= count:
            return found[:count]


@cache
def scene(image_size: tuple[int, int], count: int) -> tuple:
    """A photograph, instances that lie anywhere on it, names of classes, and the truth, for `explore`."""
    probs, labels, sides = (torch.stack(values) for values in zip(*things(count)))
    generator = torch.Generator().manual_seed(0)
    sides = sides * image_size[0] / 640
    corners = torch.rand(count, 2, generator=generator) * (torch.tensor(image_size[::-1]) - sides)
    boxes = torch.cat([corners, corners + sides], dim=1)
    scores = (
        torch.randperm(count, generator=generator) + 0.5
    ) / count  # so that every tick keeps or drops some
    masks = RoIMasks(probs, boxes, image_size)
    prediction = {"boxes": boxes, "labels": labels, "scores": scores, "masks": masks}
    image = resize(load_image(sample_images()["coffee"]), list(image_size), antialias=True)
    return image, prediction, CATEGORIES, {"labels": labels, "masks": masks}


# --- in the kernel -------------------------------------------------------------------------------------------


def articles_tick(image_size: tuple[int, int], count: int) -> Callable[[float], bytes]:
    image, prediction, _, _ = scene(image_size, count)
    pasted = paste(prediction | {"masks": prediction["masks"].probs}, image_size)

    def tick(threshold: float) -> bytes:
        kept = articles_boolean(filter_model_output([pasted], threshold)[0])
        figure, ax = plt.subplots()
        ax.imshow(torchvisions_drawing(image, kept).permute(1, 2, 0).numpy())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        return buffer.getvalue()

    return tick


def ten_lines_tick(image_size: tuple[int, int], count: int) -> Callable[[float], bytes]:
    image, prediction, categories, _ = scene(image_size, count)

    def tick(threshold: float) -> bytes:
        kept = filter_model_output([prediction], threshold)[0]
        buffer = io.BytesIO()
        to_pil_image(draw_instances(image, kept, categories)).save(buffer, "jpeg")
        return buffer.getvalue()

    return tick


def ten_lines() -> widgets.VBox:
    """The widget of notebook 06, its slider where half of the instances are kept."""
    tick, slider = ten_lines_tick(PICTURES["1080p"], 100), widgets.FloatSlider(value=0.7, max=1, step=0.01)
    screen = widgets.Image(value=tick(0.7), format="jpeg", width=640)
    slider.observe(lambda change: setattr(screen, "value", tick(change["new"])), "value")
    return widgets.VBox([slider, screen])


def kernel_times() -> dict[str, dict[str, float]]:
    """Seconds that a tick takes in the kernel, the median of ten at thresholds from 0.70 down, by way and picture."""
    torch.set_num_threads(1)
    times = {"the article's way, in the kernel": {}, "ten lines, in the kernel": {}}
    for way, name in ((articles_tick, "1080p"), (ten_lines_tick, "1080p"), (ten_lines_tick, "12 MP")):
        tick, taken = way(PICTURES[name], 100), []
        for step in range(11):
            start = time.perf_counter()
            tick(0.7 - 0.04 * step)
            taken.append(time.perf_counter() - start)
        times[list(times)[way is ten_lines_tick]][name] = statistics.median(taken[1:])
    return times


# --- in the browser ------------------------------------------------------------------------------------------

# Notes when a key came, and when the frame with what it changed has been painted.
WATCH = """() => {
    const { port1, port2 } = new MessageChannel();
    let pressed = null;
    port1.onmessage = () => window.painted.push(performance.now() - pressed);
    document.addEventListener("keydown", event => {
        pressed = event.timeStamp;
        if (window.awaited) new MutationObserver(async (_, observer) => {  // a picture from the kernel
            observer.disconnect();
            await window.awaited.decode();
            requestAnimationFrame(() => port2.postMessage(null));
        }).observe(window.awaited, { attributeFilter: ["src"] });
        else requestAnimationFrame(() => port2.postMessage(null));
    }, true);
}"""

# Notes how long it takes from all of the page's data being there to the first frame with picture and masks: the one
# after the canvas has got its size. (To look in each frame whether it has would itself keep the core busy.)
OPENING = """document.addEventListener("readystatechange", () => {
    if (document.readyState !== "interactive") return;
    const start = performance.now(), { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { window.opened = performance.now() - start; };
    new MutationObserver((_, observer) => {
        if (!document.querySelector(".segutils-explorer .stage canvas")?.style.width) return;
        observer.disconnect();
        requestAnimationFrame(() => port2.postMessage(null));
    }).observe(document, { attributes: true, childList: true, subtree: true });
});"""
SLEEP = "() => void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code: CODE})"


@contextmanager
def chromium_on_one_core() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        [driver] = psutil.Process().children()[-1:]  # which starts Chromium, and hands down its cores
        is_able = hasattr(driver, "cpu_affinity")  # not on macOS
        cores = driver.cpu_affinity() if is_able else []
        if is_able:
            driver.cpu_affinity(cores[:1])
        chromium = launch(playwright)
        if is_able:
            driver.cpu_affinity(cores)
        if chromium is None:
            pytest.skip("needs Chromium, Chrome or Edge, and none was found on this machine")
        yield chromium
        chromium.close()


def press_keys(page: Page, slider: Locator, presses: int = PRESSES) -> dict[str, list[float]]:
    """Seconds from each press of an arrow key to its frame, painted and shown."""
    slider.focus()
    page.evaluate("() => { window.painted = []; }")
    page.context.browser.start_tracing(page=page, categories=["input"])
    for press in range(presses):
        page.wait_for_timeout(REST)
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("count => window.painted.length > count", arg=press, polling=5)
    page.wait_for_timeout(REST)  # until the last frame is shown, too
    begun, shown = {}, []
    events = json.loads(page.context.browser.stop_tracing())["traceEvents"]
    for event in sorted(events, key=lambda event: event["ts"]):
        if event["name"] == "EventLatency" and event["ph"] == "b":
            begun[event["id2"]["local"]] = event
        elif event["name"] == "EventLatency":
            start = begun.pop(event["id2"]["local"])
            if start["args"]["event_latency"]["event_type"] == "KEY_PRESSED":
                shown.append((event["ts"] - start["ts"]) / 1e6)
    return {"painted": [delay / 1000 for delay in page.evaluate("window.painted")], "shown": shown}


def move_sliders(page: Page, box: Locator, presses: int = PRESSES) -> dict[str, dict[str, list[float]]]:
    times = {}
    for name in SLIDERS:
        slider = box.get_by_role("slider", name=name)
        slider.fill("0.7")
        times[name] = press_keys(page, slider, presses)
        assert slider.input_value() == f"{0.7 - presses / 100:.2f}".rstrip("0")
        slider.fill("0.5")
    return times


def page_times(chromium: Browser, file: Path, presses: int = PRESSES) -> tuple[float, dict]:
    """Seconds that a saved page takes to open, the median of five, and those of its ticks."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    context.add_init_script(OPENING)
    page, openings = context.new_page(), []
    for _ in range(5):
        page.goto(file.as_uri())
        page.wait_for_function("window.opened", polling=20)
        openings.append(page.evaluate("window.opened") / 1000)
    page.evaluate(WATCH)
    times = move_sliders(page, page.locator(".segutils-explorer"), presses)
    context.close()
    return statistics.median(openings), times


CELLS = (
    f"""
import sys
sys.path[:0] = {[str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "benchmarks")]!r}
from bench_explorer import PICTURES, explore, scene, ten_lines
explore(*scene(PICTURES["1080p"], 100))
""",
    "ten_lines()",
)


def jupyterlab_times(chromium: Browser, folder: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    """The same in JupyterLab, with a kernel that waits and one that is busy, and the key presses of the ten lines."""
    (folder / "state").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "explorer.ipynb")
    with jupyterlab(folder, folder / "state") as address:
        page = chromium.new_page(base_url=address, viewport={"width": 1280, "height": 720})
        page.set_default_timeout(120_000)
        open_notebook(page, "", "explorer.ipynb")
        run_all_cells(page)
        page.evaluate(WATCH)
        box, handle = page.locator(".segutils-explorer"), page.locator(".jp-OutputArea .noUi-handle")
        box.scroll_into_view_if_needed()
        times = {"JupyterLab": move_sliders(page, box)}
        handle.scroll_into_view_if_needed()
        page.evaluate("() => { window.awaited = document.querySelector('.jp-OutputArea img.widget-image'); }")
        times["ten lines"] = {SLIDERS[0]: {"painted": press_keys(page, handle)["painted"]}}
        page.evaluate("() => { window.awaited = null; }")
        box.scroll_into_view_if_needed()
        page.evaluate(SLEEP.replace("CODE", "'import time; time.sleep(60)'"))
        times["JupyterLab, busy"] = move_sliders(page, box)
        page.close()
    return times


def test_explorer_ticks(tmp_path):
    kernel, pages, openings = kernel_times(), {}, {}
    explore(*scene(PICTURES["640x480"], 20)).save(tmp_path / "small.html")
    with chromium_on_one_core() as chromium:
        for name, (picture, count) in CASES.items():
            file = explore(*scene(PICTURES[picture], count)).save(tmp_path / "page.html")
            openings[name], pages[name] = page_times(chromium, file)
        notebook = jupyterlab_times(chromium, tmp_path)
    print("\n\n| a tick with 100 instances | 1080p | 12 MP |\n|---|---|---|")
    for way, times in kernel.items():
        print(
            f"| {way} | "
            + " | ".join(duration(times[p]) if p in times else "" for p in ("1080p", "12 MP"))
            + " |"
        )
    print(f"\n| key press to frame, median (slowest of {PRESSES}) | painted | shown |\n|---|---|---|")
    for name, sliders in (pages | notebook).items():
        for slider, times in sliders.items():
            cells = [
                f"{duration(statistics.median(t))} ({duration(max(t))})" if t else "" for t in times.values()
            ]
            print(f"| {name}: {slider.lower()} | {' | '.join(cells)} |")
    print("\n| opening a page | " + " | ".join(openings) + " |\n" + "|---" * (len(openings) + 1) + "|")
    print("| data to first frame | " + " | ".join(map(duration, openings.values())) + " |")
    print(
        f"\nA saved page, 640 x 480 pixels and 20 instances: {size((tmp_path / 'small.html').stat().st_size)}"
    )
    article = kernel["the article's way, in the kernel"]["1080p"]
    for slider, times in pages["100 instances, 1080p"].items():
        print(f"{slider}: {ratio(article, statistics.median(times['shown']))} of the article's way")
    draw_plot(kernel, pages, notebook)
    print(f"\nPlot: {PLOT}")


def draw_plot(kernel: dict, pages: dict, notebook: dict) -> None:
    """Bars for a tick, logarithmic, and every key press of the explorer as a dot."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(2, 3), layout="constrained")
    figure.suptitle("One tick, 100 instances, 1080p", fontsize=12)
    bars = {way: times["1080p"] for way, times in kernel.items()}
    bars["ten lines, key to frame"] = statistics.median(notebook["ten lines"][SLIDERS[0]]["painted"])
    here = pages["100 instances, 1080p"]
    bars |= {
        f"explorer, {name.lower()}": statistics.median(here[name]["shown"]) for name in reversed(SLIDERS)
    }
    axes[0].barh(range(len(bars)), [1000 * seconds for seconds in bars.values()], color="#0072B2")
    for row, seconds in enumerate(bars.values()):
        axes[0].annotate(
            duration(seconds), (1000 * seconds, row), (4, 0), textcoords="offset points", va="center"
        )
    axes[0].set(xscale="log", yticks=range(len(bars)), yticklabels=list(bars), xticks=[])
    axes[0].set_title("medians (logarithmic)", fontsize=11)
    axes[0].invert_yaxis()
    axes[0].minorticks_off()
    axes[0].margins(x=0.25)
    columns = {
        "page": here,
        "JupyterLab": notebook["JupyterLab"],
        "busy kernel": notebook["JupyterLab, busy"],
    }
    generator = torch.Generator().manual_seed(0)
    for column, (slider, sliders) in enumerate(itertools.product(SLIDERS, columns.values())):
        times = [1000 * seconds for seconds in sliders[slider]["shown"]]
        x = column + 0.3 * (torch.rand(len(times), generator=generator) - 0.5)
        axes[1].plot(x, times, "o", color="#0072B2", alpha=0.4, markersize=3)
        middle = statistics.median(times)
        axes[1].plot([column - 0.3, column + 0.3], [middle] * 2, color="#D55E00", linewidth=2)
        axes[1].annotate(f"{middle:.0f}", (column + 0.33, middle), va="center", color="#D55E00")
    page, lab, busy = (name.replace(" ", "\n") for name in columns)
    ticks = [label for slider in SLIDERS for label in (page, f"{lab}\n\n{slider.lower()}", busy)]
    axes[1].set(xticks=range(len(ticks)), xticklabels=ticks, ylim=(0, None))
    axes[1].set_title("the explorer's key presses, to the frame (ms)", fontsize=11)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=120)
    plt.close(figure)
