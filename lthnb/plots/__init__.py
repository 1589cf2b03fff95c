"""The book's figures and tables: the field's words, one look, seaborn on DataFrames."""

from lthnb.experiments.names import named
from lthnb.plots.curves import claims, curves, ordered, table, tidy
from lthnb.plots.style import use_style
from lthnb.stats import interval

__all__ = ["claims", "curves", "interval", "named", "ordered", "table", "tidy", "use_style"]
