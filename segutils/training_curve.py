"""The curve of a training: the loss and its parts, and what validation says."""

import io
import sys
import time
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

History = list[dict[str, float]]
"""One dict a step, as `train` returns it."""

# Okabe and Ito's colours, and a line style of its own for each part.
_PARTS = {
    "loss_classifier": ("class", "#E69F00", "-"),
    "loss_box_reg": ("box", "#009E73", "--"),
    "loss_mask": ("mask", "#CC79A7", "-."),
    "loss_objectness": ("proposal: thing or not", "#56B4E9", ":"),
    "loss_rpn_box_reg": ("proposal: box", "#8C6D31", (0, (5, 1, 1, 1, 1, 1))),
}
_PAUSE = 4  # seconds between two drawings while the model learns, of which each takes a fraction of one


def plot_history(history: History, steps: int | None = None) -> Figure:
    """Draw what `train` returns: the loss and its parts over the steps; beside it AP, where there's validation.

    The loss jumps from batch to batch, so its curves are smoothed: each point is a mean over the last twentieth of
    the steps. Dots mark validations.

    Args:
        history: one dict a step.
        steps: how many there are going to be. None: as many as there are.

    Raises:
        ValueError: the history is empty.
    """
    if len(history) == 0:
        raise ValueError("There is nothing to draw: the history is empty.")
    steps = steps or max(int(history[-1]["step"]), 1)
    judged = [row for row in history if "validation_loss" in row]
    precise = [row for row in judged if "AP" in row]
    figure = Figure(figsize=(9.5 if precise else 5.5, 3.4), layout="constrained")
    axes = figure.subplots(1, 2 if precise else 1, squeeze=False)[0]
    _plot_losses(axes[0], [row for row in history if "loss" in row], judged)
    if precise:
        numbers = [row["step"] for row in precise]
        for name, style, color in (("AP50", "s--", "#D55E00"), ("AP", "o-", "#0072B2")):
            values = [row[name] for row in precise]
            axes[1].plot(numbers, values, style, color=color, label=name, markersize=4)
        axes[1].set(title="On validation pictures", ylabel="average precision", ylim=(-0.02, 1.02))
        axes[1].legend(loc="best", frameon=False)
    for ax in axes:
        ax.set(xlabel="step", xlim=(-0.02 * steps, 1.02 * steps))
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _plot_losses(ax: Axes, rows: History, judged: History) -> None:
    numbers = [row["step"] for row in rows]
    width = max(1, len(rows) // 20)
    others = ("step", "loss", "AP", "AP50")
    parts = [n for n in (rows[0] if rows else ()) if n not in others and not n.startswith("validation_")]
    for name in ("loss", *parts) if rows else ():
        values = [row[name] for row in rows]
        # The first points have fewer than `width` before them.
        means = np.convolve(values, np.ones(width))[: len(rows)] / np.arange(1, len(rows) + 1).clip(max=width)
        label, color, line = _PARTS.get(name, (name.removeprefix("loss_"), None, "-"))
        if name == "loss":
            label, color = "total", "black"
        ax.plot(numbers, means, label=label, color=color, ls=line, lw=2 if name == "loss" else 1.2)
    if judged:
        places, losses = [row["step"] for row in judged], [row["validation_loss"] for row in judged]
        ax.plot(places, losses, "o-", color="#0072B2", markersize=4, label="total, validation")
    ax.set(title="Loss, smoothed", ylabel="loss")
    ax.set_ylim(bottom=0)
    if ax.lines:
        ax.legend(loc="upper right", fontsize=8, frameon=False)


def describe_history(history: History, steps: int) -> str:
    """The curve in words, for those who can't see it."""
    trained = [row for row in history if "loss" in row]
    judged = [row for row in history if "validation_loss" in row]
    words = [f"Training curve, step {history[-1]['step']:g} of {steps}."]
    for rows, name, what in (
        (trained, "loss", "The loss"),
        (judged, "validation_loss", "The loss on validation pictures"),
        (judged, "AP", "AP there"),
    ):
        if rows and name in rows[0]:
            words.append(f"{what} goes from {rows[0][name]:.2f} to {rows[-1][name]:.2f}.")
    return " ".join(words)


def live_curve(steps: int) -> Callable[..., None] | None:
    """In a notebook, make a function that draws a history below the cell, and anew when it has grown; elsewhere None.

    It is a plain picture, so the last state stays in the file. `finished=True` draws it without waiting.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython import display  # only a notebook gets here, and it has IPython

    handle = display.DisplayHandle()
    drawn = None

    def draw(history: History, finished: bool = False) -> None:
        nonlocal drawn
        if not finished and drawn is not None and time.monotonic() - drawn < _PAUSE:
            return
        buffer = io.BytesIO()
        plot_history(history, steps).savefig(buffer, format="png", dpi=90)
        metadata = {"alt": describe_history(history, steps)}
        picture = display.Image(buffer.getvalue(), format="png", metadata=metadata)
        (handle.display if drawn is None else handle.update)(picture)
        drawn = time.monotonic()

    return draw
