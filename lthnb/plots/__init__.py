"""Records to figures and tables: the only importer of matplotlib.

`style` is the look that all share; the others are sorted by what they show. Each function takes
records, or what was worked out from them, and returns a figure or a great-tables table.
"""

import matplotlib.pyplot as plt

from lthnb.plots.anatomy import (
    columns_figure,
    groups_table,
    heat_maps,
    inside_table,
    kept_by_group,
    kept_sizes,
    layers_figure,
    magnitudes_figure,
    overlap_figure,
    recall_by_group,
    removal_table,
    rows_table,
    serving_figure,
    sizes_figure,
    sizes_table,
    trained_layers_table,
)
from lthnb.plots.benchmarks import (
    agreement_table,
    cost_table,
    kernels_table,
    measured_on,
    prunings_table,
    scaling_figure,
    speed_figure,
    speed_table,
)
from lthnb.plots.claims import numbers_table, references_table, verdicts_table
from lthnb.plots.compression import (
    compression_differences,
    compression_figure,
    compression_paper_table,
    compression_table,
)
from lthnb.plots.contests import (
    against_figure,
    contest_figure,
    contest_table,
    cost_figure,
    entries_figure,
    gains_table,
    pace_figure,
    pace_table,
)
from lthnb.plots.evidence import compute_table, evidence_table
from lthnb.plots.fairness import (
    causes_table,
    effects_table,
    overview_figure,
    protocols_table,
    selection_table,
    tuning_figure,
    tuning_table,
)
from lthnb.plots.ladders import ladder_figure, learning_curves, paper_table, standings_table
from lthnb.plots.serving import (
    CATALOGUES,
    costs_table,
    crossover_table,
    forms_table,
    latency_figure,
    latency_table,
)
from lthnb.plots.style import use_style
from lthnb.plots.tickets import kept_by_degree, recommendations_table

__all__ = [
    "CATALOGUES",
    "against_figure",
    "agreement_table",
    "causes_table",
    "columns_figure",
    "compression_differences",
    "compression_figure",
    "compression_paper_table",
    "compression_table",
    "compute_table",
    "contest_figure",
    "contest_table",
    "cost_figure",
    "cost_table",
    "costs_table",
    "crossover_table",
    "effects_table",
    "entries_figure",
    "evidence_table",
    "forms_table",
    "gains_table",
    "groups_table",
    "heat_maps",
    "inside_table",
    "kept_by_degree",
    "kept_by_group",
    "kept_sizes",
    "kernels_table",
    "ladder_figure",
    "latency_figure",
    "latency_table",
    "layers_figure",
    "learning_curves",
    "magnitudes_figure",
    "measured_on",
    "numbers_table",
    "overlap_figure",
    "overview_figure",
    "pace_figure",
    "pace_table",
    "paper_table",
    "plt",
    "protocols_table",
    "prunings_table",
    "recall_by_group",
    "recommendations_table",
    "references_table",
    "removal_table",
    "rows_table",
    "scaling_figure",
    "selection_table",
    "serving_figure",
    "sizes_figure",
    "sizes_table",
    "speed_figure",
    "speed_table",
    "standings_table",
    "trained_layers_table",
    "tuning_figure",
    "tuning_table",
    "use_style",
    "verdicts_table",
]
