"""A slider above a figure, with the figure as a picture where no kernel runs."""

import base64
import html
from collections.abc import Callable

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from segutils.display import figure_png


class Slide(widgets.VBox):
    """The box that `slide` returns: a slider, and the figure for its value."""

    # What ipywidgets 7, which Colab has, calls instead of _repr_mimebundle_, and would show no picture.
    _ipython_display_ = None

    def __init__(self, slider: widgets.ValueWidget, draw: Callable[[float], Figure], alt: str) -> None:
        self.slider, self.draw, self.alt = slider, draw, alt
        self.picture = widgets.HTML()
        super().__init__([slider, self.picture])
        slider.observe(self._update, "value")
        self._update()

    def _update(self, _change: object = None) -> None:
        figure = self.draw(self.slider.value)
        self._png = base64.b64encode(figure_png(figure)).decode()
        plt.close(figure)
        self.picture.value = (
            f'<img src="data:image/png;base64,{self._png}" alt="{html.escape(self.alt)}" decoding="sync" '
            'style="max-width:100%;height:auto;display:block">'
        )

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data = {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.model_id,
            },
            "text/plain": f"{self.slider.description or 'slider'}: {self.slider.value}",
            "image/png": self._png,
        }
        return data, {"image/png": {"alt": self.alt}}
