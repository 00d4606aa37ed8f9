"""Figures for `segutils.inside`: boxes, heat maps and masks over the picture that the network sees.

Positions are those of a `Trace`: pixels of the resized picture, (0, 0) at its upper left corner. `picture` is that
picture, float 0 to 1, [3, H, W], without padding: `undo_normalising` makes it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from segutils.inside import Trace, by_level, trace_back
from segutils.predictions import label_name

LEVEL_COLORS = ("#0072B2", "#009E73", "#D55E00", "#8B2FC9", "#7A5C00")
"""A colour for each level of the pyramid, the finest first."""

DOTTED = (0, (1.5, 1.5))


def undo_normalising(model: MaskRCNN, resized: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn what the network sees, float [3, H, W], back into a picture: 0 to 1, without padding.

    `size` is the height and width without padding, as in `Trace.resized_size`.
    """
    mean = torch.tensor(model.transform.image_mean)[:, None, None]
    std = torch.tensor(model.transform.image_std)[:, None, None]
    return (resized.cpu() * std + mean)[:, : size[0], : size[1]].clamp(0, 1)


def panels(
    columns: int, rows: int = 1, titles: Sequence[str] = (), size: tuple[float, float] = (9.0, 3.4)
) -> tuple[Figure, list[Axes]]:
    """A figure with axes in rows and columns, without ticks. `size` is in inches."""
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    axes = grid.flatten().tolist()
    for ax in axes:
        ax.set_axis_off()
    for ax, title in zip(axes, titles):
        ax.set_title(title, fontsize=10.5)
    return figure, axes


def draw_picture(ax: Axes, picture: Tensor, fade: float = 0.0) -> None:
    """Draw the picture. `fade` mixes it with white, from 0 to 1, so that a drawing on it stands out."""
    height, width = picture.shape[1:]
    ax.imshow(picture.permute(1, 2, 0) * (1 - fade) + fade, extent=(0, width, height, 0))
    ax.set_axis_off()


def draw_boxes(
    ax: Axes, boxes: Tensor, color: str, linestyle: str | tuple = "-", linewidth: float = 2.0
) -> None:
    """Outline boxes [N, 4], with a thin white rim that shows on any picture."""
    rim = [patheffects.withStroke(linewidth=1.8 * linewidth, foreground="white")]
    for left, top, right, bottom in boxes.tolist():
        frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color)
        frame.set(linestyle=linestyle, linewidth=linewidth, path_effects=rim)
        ax.add_patch(frame)


def draw_moves(ax: Axes, before: Tensor, after: Tensor, color: str) -> None:
    """Draw boxes [N, 4] as they were, dotted, as they are now, solid, and how two of their corners moved."""
    draw_boxes(ax, before, color, DOTTED, linewidth=1.4)
    draw_boxes(ax, after, color)
    arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    for start, end in zip(before.reshape(-1, 2).tolist(), after.reshape(-1, 2).tolist()):
        ax.annotate("", xy=end, xytext=start, arrowprops=arrow)


def zoom(ax: Axes, boxes: Tensor, picture: Tensor, margin: float = 0.25) -> None:
    """Show only the part of the picture that holds all boxes [N, 4], in the picture's proportions.

    `margin` is the space on each side, as a share of the part.
    """
    height, width = picture.shape[1:]
    left, top = boxes[:, :2].amin(dim=0).tolist()
    right, bottom = boxes[:, 2:].amax(dim=0).tolist()
    scale = max((right - left) / width, (bottom - top) / height) / (1 - 2 * margin) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    ax.set(xlim=(x - scale * width, x + scale * width), ylim=(y + scale * height, y - scale * height))


def draw_heat(ax: Axes, picture: Tensor, scores: Tensor, cell: float) -> None:
    """Draw the picture under a heat map [rows, columns] of scores 0 to 1, whose cells have `cell` pixels a side."""
    rows, columns = scores.shape
    draw_picture(ax, picture)
    extent = (0, columns * cell, rows * cell, 0)
    ax.imshow(scores, "inferno", vmin=0, vmax=1, alpha=0.45 + 0.4 * scores, extent=extent)
    ax.set(xlim=(0, picture.shape[2]), ylim=(picture.shape[1], 0))  # no padding


def cell_sizes(trace: Trace) -> list[float]:
    """How many pixels a cell of each level has on a side."""
    return [trace.resized.shape[2] / columns for _, columns, _ in trace.grids]


def feature_figure(trace: Trace, picture: Tensor, channels: int = 3) -> Figure:
    """A row for each level of the pyramid: its cells on the picture, and the channels that vary most.

    The outer fifth on each side counts neither for the choice nor for the colours: near the border some
    values are so large that they drown all others.
    """
    cells = cell_sizes(trace)
    figure, axes = panels(channels + 1, len(cells), size=(9.0, 1.9 * len(cells)))
    height, width = picture.shape[1:]
    for level, (features, cell) in enumerate(zip(trace.features.values(), cells)):
        grid, *maps = axes[level * (channels + 1) : (level + 1) * (channels + 1)]
        draw_picture(grid, picture, fade=0.2)
        color, linewidth = LEVEL_COLORS[level], min(cell / 20, 1)
        grid.vlines(torch.arange(0, width + 1, cell), 0, height, color, linewidth=linewidth)
        grid.hlines(torch.arange(0, height + 1, cell), 0, width, color, linewidth=linewidth)
        grid.set_title(f"level {level}: {cell:.0f} x {cell:.0f} pixels a cell", fontsize=9, color=color)
        _, rows, columns = features.shape
        inner = features[:, rows // 5 : -(rows // 5) or None, columns // 5 : -(columns // 5) or None].flatten(
            1
        )
        for ax, channel in zip(maps, inner.std(dim=1).topk(channels).indices.tolist()):
            low, high = inner[channel].min(), inner[channel].max()
            ax.imshow(features[channel], extent=(0, columns * cell, rows * cell, 0), vmin=low, vmax=high)
            ax.set(xlim=(0, width), ylim=(height, 0))
            ax.set_title(f"channel {channel}", fontsize=9)
    return figure


def anchor_figure(trace: Trace, picture: Tensor, x: float, y: float) -> Figure:
    """A panel for each level: the anchors of one cell, at `x` and `y` from 0 to 1 of the picture's sides."""
    levels = by_level(trace, trace.anchors)
    figure, axes = panels(len(levels), size=(10, 2.2))
    for level, (ax, anchors) in enumerate(zip(axes, levels)):
        rows, columns = anchors.shape[:2]
        draw_picture(ax, picture, fade=0.3)
        draw_boxes(ax, anchors[int(y * rows), int(x * columns)], LEVEL_COLORS[level])
        ax.set_title(f"level {level}", fontsize=10.5, color=LEVEL_COLORS[level])
    return figure


def suppression_figure(picture: Tensor, suppressed: Tensor, kept: Tensor) -> Figure:
    """Two panels, before and after non-maximum suppression: boxes [S, 4] that went, dotted, and [N, 4] that stayed."""
    figure, axes = panels(2, titles=("before", "after"), size=(9.0, 3.1))
    for ax, gone in zip(axes, (suppressed, suppressed[:0])):
        draw_picture(ax, picture, fade=0.3)
        draw_boxes(ax, gone, "#D55E00", DOTTED, linewidth=1.1)
        draw_boxes(ax, kept, "#0072B2")
        zoom(ax, torch.cat([suppressed, kept]), picture, margin=0.05)
    return figure


def heat_figure(trace: Trace, picture: Tensor) -> Figure:
    """A panel for each level of the pyramid: at each cell the objectness of its best anchor, over the picture."""
    levels = by_level(trace, trace.objectness.sigmoid())
    rows = (len(levels) + 1) // 2
    figure, axes = panels(2, rows, size=(9.0, 3.3 * rows))
    for level, (ax, scores, cell) in enumerate(zip(axes, levels, cell_sizes(trace))):
        draw_heat(ax, picture, scores.amax(dim=2), cell)
        ax.set_title(
            f"level {level}: best score {scores.max():.2f}", fontsize=10.5, color=LEVEL_COLORS[level]
        )
    figure.colorbar(axes[0].images[-1], ax=axes, label="objectness of the best anchor", shrink=0.6)
    return figure


def funnel_figure(counts: dict[str, int]) -> Figure:
    """One bar for each step, centred, as wide as the logarithm of what is left after it."""
    figure, [ax] = panels(1, size=(7.5, 0.42 * len(counts) + 0.3))
    widths = torch.tensor([float(count) for count in counts.values()]).add(1).log10().tolist()
    places = range(len(counts))
    ax.barh(places, widths, left=[-width / 2 for width in widths], color="#9CC9E8", height=0.8)
    for place, (step, count) in zip(places, counts.items()):
        ax.text(0, place, f"{count:,}", ha="center", va="center", fontsize=11, fontweight="bold")
        ax.text(-max(widths) / 2 - 0.1, place, step, ha="right", va="center", fontsize=10.5)
    ax.set(ylim=(len(counts) - 0.5, -0.5), xlim=(-max(widths) / 2 - 2.6, max(widths) / 2 + 0.1))
    return figure


def life_figure(
    trace: Trace, picture: Tensor, instance: int, categories: Sequence[str] | None = None
) -> Figure:
    """Where one instance came from: its boxes on the picture, and what was read and computed on the way.

    With no such instance the figure shows the picture, and says how many there are.
    """
    figure = plt.figure(figsize=(9.6, 4.3), layout="constrained")
    grid = figure.add_gridspec(2, 4, width_ratios=(1.25, 1.25, 1.05, 0.75))
    main = figure.add_subplot(grid[:, :2])
    draw_picture(main, picture, fade=0.3)
    count = len(trace.prediction["scores"])
    if not 0 <= instance < count:
        main.set_title(f"There is no instance {instance}: the network reported {count}.", fontsize=10.5)
        return figure

    origin = trace_back(trace, instance)
    color, cell = LEVEL_COLORS[origin.anchor_level], cell_sizes(trace)[origin.anchor_level]
    corner = (origin.column * cell, origin.row * cell)
    main.add_patch(Rectangle(corner, cell, cell, facecolor=color, edgecolor="white"))
    draw_boxes(main, trace.anchors[[origin.anchor]], color, DOTTED)
    draw_boxes(main, trace.proposals[[origin.proposal]], color, "--")
    draw_boxes(main, trace.detected_boxes[[instance]], "black", linewidth=2.4)
    zoom(
        main, torch.stack([trace.anchors[origin.anchor], trace.detected_boxes[instance]]), picture, margin=0.1
    )
    name = label_name(origin.label, categories)
    main.set_title(f"instance {instance}: {name} {trace.prediction['scores'][instance]:.3f}", fontsize=11)
    main.text(
        0.5,
        -0.03,
        "cell, filled    anchor, dotted    proposal, dashed    final box, solid",
        transform=main.transAxes,
        ha="center",
        va="top",
        fontsize=9.5,
    )

    seen, read, told, mask = (figure.add_subplot(grid[row, column]) for row in (0, 1) for column in (2, 3))
    draw_heat(
        seen, picture, by_level(trace, trace.objectness.sigmoid())[origin.anchor_level].amax(dim=2), cell
    )
    seen.add_patch(Rectangle(corner, cell, cell, fill=False, edgecolor="white", linewidth=1.8))
    seen.set_title(
        f"anchor: level {origin.anchor_level},\nrow {origin.row}, column {origin.column}", fontsize=9.5
    )
    pooled = trace.pooled[origin.proposal]
    read.imshow(pooled[pooled.flatten(1).std(dim=1).argmax()])
    read.set_title(f"RoI: proposal {origin.proposal},\nread from level {origin.proposal_level}", fontsize=9.5)
    scores = trace.class_logits[origin.proposal].softmax(-1)
    best = scores.topk(min(4, len(scores)))
    names = [label_name(label, categories).strip("_") for label in best.indices.tolist()]
    bars = told.barh(names, best.values, color="#9CC9E8")
    told.bar_label(bars, fmt="%.2f", padding=2, fontsize=8.5)
    told.set(xlim=(0, 1.3), xticks=[])
    told.invert_yaxis()
    told.spines[:].set_visible(False)
    told.tick_params(left=False, labelsize=9)
    told.set_title("class: the best four", fontsize=9.5)
    mask.imshow(trace.mask_logits[instance, origin.label].sigmoid(), "gray", vmin=0, vmax=1)
    mask.set_title(f"mask: {mask.images[0].get_size()[0]} x {mask.images[0].get_size()[1]}", fontsize=9.5)
    for ax in (seen, read, mask):
        ax.set_axis_off()
    return figure


def roi_figure(trace: Trace, picture: Tensor, proposal: int, points: Tensor) -> Figure:
    """What RoIAlign reads for one proposal: its bins and sampling points, on the picture and on the feature map.

    The third panel holds the means of the bins. `points` are those of `sampling_points`, in cells of the map. Of the
    map's channels the one that varies most in these bins is drawn.
    """
    level, pooled = trace.proposal_levels[proposal].item(), trace.pooled[proposal]
    channel, box = pooled.flatten(1).std(dim=1).argmax().item(), trace.proposals[[proposal]]
    features = list(trace.features.values())[level][channel]
    cell = trace.resized.shape[2] / features.shape[1]
    extent = (-0.5 * cell, (features.shape[1] - 0.5) * cell, (features.shape[0] - 0.5) * cell, -0.5 * cell)
    figure, axes = panels(3, titles=("on the picture", f"on level {level}, channel {channel}", "bin by bin"))
    draw_picture(axes[0], picture)
    axes[1].imshow(features, extent=extent)  # (0, 0) is the centre of the first cell
    (left, top, right, bottom), (rows, columns) = box[0].tolist(), pooled.shape[1:]
    for ax in axes[:2]:
        ax.vlines(torch.linspace(left, right, columns + 1), top, bottom, "white", linewidth=1)
        ax.hlines(torch.linspace(top, bottom, rows + 1), left, right, "white", linewidth=1)
        ax.scatter(*(points.reshape(-1, 2).T * cell), s=5, color="white", edgecolor="black", linewidth=0.4)
        zoom(ax, box, picture, margin=0.05)
    axes[2].imshow(pooled[channel])
    return figure


def head_figure(
    trace: Trace, picture: Tensor, proposal: int, label: int, categories: Sequence[str] | None = None
) -> Figure:
    """Class probabilities of a proposal and of the most doubtful one, and the box a thing of `label` would have.

    Both charts show the classes that are likeliest in the first one, twelve at most.
    """
    scores = trace.class_logits.softmax(-1)
    doubtful = scores.amax(dim=1).argmin().item()
    best = scores[proposal].topk(min(12, scores.shape[1])).indices
    titles = f"proposal {proposal}", f"the most doubtful, {doubtful}", "proposal, dotted; box, solid"
    figure, (*charts, ax) = panels(3, titles=titles, size=(10.0, 3.4))
    names = [label_name(number, categories).strip("_") for number in best.tolist()]
    for chart, row in zip(charts, (proposal, doubtful)):
        bars = chart.barh(names, scores[row, best], color="#9CC9E8")
        chart.bar_label(bars, fmt="%.2f", padding=3, fontsize=8.5)
        chart.set(xlim=(0, 1.25))
        chart.invert_yaxis()
    for place, name in enumerate(names):
        charts[0].text(-0.03, place, name, ha="right", va="center", fontsize=9.5)
    before, after = trace.proposals[[proposal]], trace.class_boxes[[proposal], label]
    draw_picture(ax, picture, fade=0.2)
    draw_moves(ax, before, after, "#0072B2")
    zoom(ax, torch.cat([before, after]), picture, margin=0.1)
    return figure


def masks_figure(masks: Tensor, labels: Sequence[int], categories: Sequence[str] | None = None) -> Figure:
    """The masks [K, M, M], 0 to 1, that one RoI has for twelve classes at most. The first label's is framed."""
    figure, axes = panels(6, 2, size=(9.0, 3.5))
    for ax, label in zip(axes, labels):
        ax.imshow(masks[label], "gray", vmin=0, vmax=1)
        ax.set_title(label_name(label, categories).strip("_"), fontsize=9.5)
    side = masks.shape[-1]
    frame = Rectangle((-0.5, -0.5), side, side, fill=False, edgecolor="#D55E00", linewidth=5)
    axes[0].add_patch(frame)
    return figure
