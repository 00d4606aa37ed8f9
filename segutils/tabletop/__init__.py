"""The tabletop world: drawn scenes with exact instance masks, on which the bundled weights were trained."""

from segutils.tabletop.scene import render_scene
from segutils.tabletop.things import CATEGORIES

__all__ = ["CATEGORIES", "render_scene"]
