"""Boxes of widgets with a picture that stands in for them where no kernel runs."""

import base64
from collections.abc import Callable

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from segutils.display import figure_png
from segutils.explorer.markup import image_tag


class PicturedBox(widgets.VBox):
    """A box that pages which cannot run it, such as those on GitHub, show as a picture."""

    def still(self) -> tuple[bytes, str, str, str]:
        """What such pages show: an encoded picture, its MIME type, its description, and a line of text."""
        raise NotImplementedError

    # What ipywidgets 7, which Colab has, calls instead of the method below, and would show no picture.
    _ipython_display_ = None

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        picture, mime, alt, text = self.still()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        data = {
            "application/vnd.jupyter.widget-view+json": view,
            "text/plain": text,
            mime: base64.b64encode(picture).decode(),
        }
        return data, {mime: {"alt": alt}}


class Slide(PicturedBox):
    """The box that `slide` returns: a slider, and the figure for its value."""

    def __init__(self, slider: widgets.ValueWidget, draw: Callable[[float], Figure], alt: str) -> None:
        self.slider, self.draw, self.alt = slider, draw, alt
        self.picture = widgets.HTML()
        super().__init__([slider, self.picture])
        slider.observe(self._update, "value")
        self._update()

    def _update(self, _change: object = None) -> None:
        figure = self.draw(self.slider.value)
        self._png = figure_png(figure)
        plt.close(figure)
        self.picture.value = image_tag(self._png, "image/png", self.alt)

    def still(self) -> tuple[bytes, str, str, str]:
        name = self.slider.description or "slider"
        return self._png, "image/png", self.alt, f"{name}: {self.slider.value}"
