"""What comes after the network: torchvision's way and ours, side by side.

`python3 run.py bench -k masks` prints the table and draws the plot. It takes a quarter of an hour, and torchvision's
way up to 12 GB of memory in the largest picture. Each number is measured in a process of its own, on one thread: the
memory from the first run, the time as the median of three runs or more. Nothing is asserted except that both ways
give the same masks, since machines differ.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import psutil
import torch
from measuring import Measured, duration, measure, ratio, size
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.utils import draw_segmentation_masks

from segutils import RoIMasks, class_color, draw_instances, filter_model_output, get_boolean_mask

PICTURES = {"640x480": (480, 640), "1080p": (1080, 1920), "12 MP": (3000, 4000)}
COUNTS = (10, 30, 100)
WARM_UP = ((48, 64), 10)
PLOT = Path(__file__).parents[2] / "output" / "bench_masks.png"


def found(image_size: tuple[int, int], count: int) -> dict[str, Tensor]:
    """What a network may have found: wavy discs in boxes whose sides are 2 to 32 % of the picture's."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    whole = torch.tensor([image_size[1], image_size[0]])
    sides = 0.02 + 0.3 * random(count, 2)
    corners = random(count, 2) * (1 - sides)
    axis = torch.linspace(-1, 1, 28)
    angle, radius = torch.atan2(axis[:, None], axis), torch.hypot(axis[:, None], axis)
    waves = torch.cos(
        torch.randint(2, 6, (count, 1, 1), generator=generator) * angle + 6 * random(count, 1, 1)
    )
    return {
        "boxes": torch.cat([corners * whole, (corners + sides) * whole], dim=1),
        "labels": torch.randint(1, 12, (count,), generator=generator),
        "scores": random(count).sort(descending=True).values,
        "masks": torch.sigmoid(14 * (0.85 + 0.12 * waves - radius))[:, None],
    }


def ours(image_size: tuple[int, int], count: int) -> dict[str, Tensor | RoIMasks]:
    """The same as `predict` returns it."""
    prediction = found(image_size, count)
    return prediction | {"masks": RoIMasks(prediction["masks"], prediction["boxes"], image_size)}


def picture(image_size: tuple[int, int]) -> Tensor:
    return torch.randint(
        0, 256, (3, *image_size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


# --- torchvision's way, with the article's two functions between its calls -----------------------------------


def paste(prediction: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
    return prediction | {"masks": paste_masks_in_image(prediction["masks"], prediction["boxes"], image_size)}


def articles_filter(prediction: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value[prediction["scores"] >= 0.8] for key, value in prediction.items()}


def articles_boolean(prediction: dict[str, Tensor]) -> dict[str, Tensor]:
    return prediction | {"masks": (prediction["masks"] > 0.5).squeeze(1)}


def torchvisions_drawing(image: Tensor, prediction: dict[str, Tensor]) -> Tensor:
    colors = [class_color(label) for label in prediction["labels"].tolist()]
    return draw_segmentation_masks(image, prediction["masks"], alpha=0.45, colors=colors)


def their_paste(image_size, count):
    prediction = found(image_size, count)
    return lambda: paste(prediction, image_size)["masks"] > 0.5


def their_filter(image_size, count):
    prediction = found(image_size, count)
    soft = torch.zeros(count, 1, *image_size)  # filled one by one: pasting would take twice the memory
    for row in range(count):
        one = {key: value[row : row + 1] for key, value in prediction.items()}
        soft[row] = paste(one, image_size)["masks"][0]
    prediction["masks"] = soft
    return lambda: articles_boolean(articles_filter(prediction))


def their_drawing(image_size, count):
    image, [prediction] = picture(image_size), get_boolean_mask([ours(image_size, count)])
    return lambda: torchvisions_drawing(image, prediction)


def their_article(image_size, count):
    image, prediction = picture(image_size), found(image_size, count)
    return lambda: torchvisions_drawing(
        image, articles_boolean(articles_filter(paste(prediction, image_size)))
    )


# --- our way -------------------------------------------------------------------------------------------------


def our_crops(image_size, count):
    masks = ours(image_size, count)["masks"]
    return lambda: masks.crops()


def our_filter(image_size, count):
    prediction = ours(image_size, count)
    return lambda: get_boolean_mask(filter_model_output([prediction], 0.8))


def our_drawing(image_size, count):
    image, prediction = picture(image_size), ours(image_size, count)
    return lambda: draw_instances(image, prediction, boxes=False, labels=False)


def our_article(image_size, count):
    """Without boolean masks of full size in between: `draw_instances` needs none."""
    image, prediction = picture(image_size), ours(image_size, count)
    return lambda: draw_instances(image, filter_model_output([prediction], 0.8)[0], boxes=False, labels=False)


STAGES = {
    "paste + threshold": (their_paste, our_crops),
    "filter 0.8 + boolean": (their_filter, our_filter),
    "draw": (their_drawing, our_drawing),
    "all of it, as in the article": (their_article, our_article),
}


def test_both_ways_give_the_same_masks():
    """At 12 megapixels, one instance at a time, since torchvision's do not fit into memory together."""
    image_size = PICTURES["12 MP"]
    prediction, roi_masks = found(image_size, 100), ours(image_size, 100)["masks"]
    for row in range(100):
        soft = paste_masks_in_image(
            prediction["masks"][row : row + 1], prediction["boxes"][row : row + 1], image_size
        )
        assert torch.equal(roi_masks[row] > 0.5, soft > 0.5)


def test_time_and_memory():
    results: dict[tuple, tuple[Measured, Measured]] = {}
    print("\n\n| stage | picture | instances | torchvision | ours | ratio | torchvision | ours | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for stage, ways in STAGES.items():
        for name, image_size in PICTURES.items():
            for count in COUNTS:
                needed = 11 * count * image_size[0] * image_size[1]
                if needed > psutil.virtual_memory().available:
                    print(f"| {stage} | {name} | {count} | not measured: needs {size(needed)} of memory |")
                    continue
                theirs, mine = (measure(way, image_size, count, warm_up=WARM_UP) for way in ways)
                results[stage, name, count] = theirs, mine
                cells = (
                    *(duration(theirs.seconds), duration(mine.seconds), ratio(theirs.seconds, mine.seconds)),
                    *(size(theirs.memory), size(mine.memory), ratio(theirs.memory, mine.memory)),
                )
                print(f"| {stage} | {name} | {count} |", " | ".join(cells), "|", flush=True)
    draw_plot(results)
    print(f"\nPlot: {PLOT}")


def draw_plot(results: dict[tuple, tuple[Measured, Measured]]) -> None:
    """Time and memory of all stages together, for the largest number of instances, over the size of the picture."""
    stage, count = list(STAGES)[-1], COUNTS[-1]
    names = [name for name in PICTURES if (stage, name, count) in results]
    pixels = [PICTURES[name][0] * PICTURES[name][1] / 1e6 for name in names]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    figure.suptitle(f"After the network, {count} instances: paste, filter at 0.8, boolean, draw", fontsize=12)
    labels = ("time (logarithmic)", "added memory (logarithmic)")
    for ax, field, label, text in zip(axes, (0, 1), labels, (duration, size)):
        for way, name, color in ((0, "torchvision", "#D55E00"), (1, "segutils", "#0072B2")):
            values = [results[stage, name, count][way][field] for name in names]
            ax.plot(pixels, values, marker="o", color=color, linewidth=2, label=name)
            for x, value in zip(pixels, values):
                above = 8 if way == 0 else -16
                ax.annotate(
                    text(value), (x, value), (0, above), textcoords="offset points", ha="center", color=color
                )
        ax.set(xscale="log", yscale="log", xlabel="picture")
        ax.set_title(label, fontsize=11)
        ax.set_xticks(pixels, names)
        ax.minorticks_off()
        ax.set_yticks([])
        ax.margins(x=0.15, y=0.2)
        ax.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=120)
    plt.close(figure)
