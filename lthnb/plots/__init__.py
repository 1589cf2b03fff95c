"""The book's figures and tables: the field's words, one look, seaborn on DataFrames."""

from lthnb.experiments.names import CLAIMS, MARKS, PAIRS, level, named, named_pairs, ways
from lthnb.plots.captions import SEEDS, claims, csv, show
from lthnb.plots.curves import PERCENT, cells, compared, curves, ordered, some, table, tidy
from lthnb.plots.style import PALETTE, colours, use_style
from lthnb.stats import interval
