"""Records to figures and tables: the only importer of matplotlib.

`style` is the look that all share; the others are sorted by what they show. Each function takes
records, or what was worked out from them, and returns a figure or a great-tables table.
"""

import matplotlib.pyplot as plt

from lthnb.plots.benchmarks import (
    cost_table,
    kernels_table,
    measured_on,
    scaling_figure,
    speed_figure,
    speed_table,
)
from lthnb.plots.ladders import ladder_figure, learning_curves, paper_table, standings_table
from lthnb.plots.style import use_style
from lthnb.plots.tickets import kept_by_degree, recommendations_table

__all__ = [
    "cost_table",
    "kept_by_degree",
    "kernels_table",
    "ladder_figure",
    "learning_curves",
    "measured_on",
    "paper_table",
    "plt",
    "recommendations_table",
    "scaling_figure",
    "speed_figure",
    "speed_table",
    "standings_table",
    "use_style",
]
