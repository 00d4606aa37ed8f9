"""The curve of a training: what is drawn, what is said about it, and what a notebook keeps of it."""

import base64
import io
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

from segutils import plot_history
from segutils.training_curve import describe_history


def history(steps=40, every=10, precise=True):
    rows = [{"step": 0}]
    for step in range(1, steps + 1):
        rows.append({"step": step, "loss": 10 / step, "loss_mask": 6 / step, "loss_classifier": 4 / step})
    for row in rows[::every]:
        row |= {"validation_loss": 2 + row["step"], "validation_loss_mask": 1.0}
        row |= {"AP": row["step"] / 100, "AP50": row["step"] / 50} if precise else {}
    return rows


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def test_the_curves_are_the_history():
    losses, precision = plot_history(history()).axes
    drawn = lines(losses)
    assert set(drawn) == {"total", "class", "mask", "total, validation"}
    # The width of the mean is a twentieth of the 40 steps.
    expected = [10, *((10 / step + 10 / (step - 1)) / 2 for step in range(2, 41))]
    assert np.allclose(drawn["total"], np.stack([np.arange(1, 41), expected], 1))
    assert np.allclose(drawn["mask"][:, 1], 0.6 * drawn["total"][:, 1])
    assert np.allclose(drawn["total, validation"], [[0, 2], [10, 12], [20, 22], [30, 32], [40, 42]])
    assert np.allclose(lines(precision)["AP"][:, 1], [0, 0.1, 0.2, 0.3, 0.4])
    assert np.allclose(lines(precision)["AP50"][:, 1], [0, 0.2, 0.4, 0.6, 0.8])
    looks = {(line.get_color(), str(line.get_linestyle()), line.get_marker()) for line in losses.lines}
    assert len(looks) == 4


def test_there_is_a_place_for_the_steps_to_come_and_none_for_what_is_not_measured():
    figure = plot_history(history()[:13], steps=100)
    assert all(ax.get_xlim()[1] >= 100 for ax in figure.axes)
    assert len(plot_history(history(precise=False)).axes) == 1
    assert set(lines(plot_history([{"step": 0, "validation_loss": 1.0}]).axes[0])) == {"total, validation"}
    assert plot_history([{"step": 0}]).axes[0].lines[:] == []
    other = [{"step": 0}, {"step": 1, "loss": 3.0, "classification": 1.0, "bbox_regression": 2.0}]
    assert set(lines(plot_history(other).axes[0])) == {"total", "classification", "bbox_regression"}
    with pytest.raises(ValueError, match="the history is empty"):
        plot_history([])


def test_it_is_said_in_words():
    assert describe_history(history(), 40) == (
        "Training curve, step 40 of 40. The loss goes from 10.00 to 0.25. The loss on validation pictures goes from "
        "2.00 to 42.00. AP there goes from 0.00 to 0.40."
    )
    assert describe_history([{"step": 0}], 40) == "Training curve, step 0 of 40."


def test_a_notebook_keeps_the_last_state_as_a_plain_picture():
    cell = nbformat.v4.new_code_cell(
        "from test_training import Greys, Line\n"
        "from segutils import train\n"
        "trained, history = train(Line(), Greys(), steps=12, every=4, validation=Greys())"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": Path(__file__).parent}}
    ).execute()
    (output,) = notebook.cells[0].outputs  # one picture, no text on stderr, no widget
    assert set(output.data) == {"image/png", "text/plain"} and "widgets" not in notebook.metadata
    assert output.metadata["image/png"]["alt"].startswith("Training curve, step 12 of 12. The loss goes from")
    assert Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).size[0] > 400
