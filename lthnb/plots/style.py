"""The book's look.

Figures have an opaque, nearly white ground of their own, so that they read alike on a light and a
dark page.
"""

from __future__ import annotations

import seaborn as sns

INK, PAPER, GREY = "#222222", "#FCFCFA", "#5A5A5A"
# Okabe and Ito's colours, which colour-blind readers tell apart, in a fixed order.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#6A4C93"]
PALETTE += ["#8C8C8C", INK]
NAMES = [  # that have the same colour in every figure, in the palette's order
    ["IMP", "ticket", "20 %", "λ = 1e−4", "chosen on the validation set"],
    ["own axes", "own axes, from X⁰", "one-shot (OMP)", "chosen on test", "on test"],
    ["principal axes", "λ tuned, 64 columns, no search", "on the validation set"],
    ["varimax axes", "λ tuned, varimax, no search", "early-bird", "dynamic", "PEP"],
    ["λ tuned", "tuned λ", "λ of the tuned dense model"],
    ["principal axes, fine-tuned", "small dense model", "λ tuned, fewer dimensions"],
    ["principal axes, from X⁰", "λ chosen for each density", "another order"],
    ["random axes", "random mask", "random", "SVD mask", "degree budgets"],
    ["spread axes", "another start"],
]
COLOURS = {name: one for one, names in zip(PALETTE, NAMES, strict=True) for name in names}


def colours(names: list[str]) -> dict[str, str]:
    """A colour for each name: its own, or in order one that is left, but not the tuned λ's."""
    taken = {COLOURS.get(name) for name in names} | {PALETTE[4]}
    left = iter([one for one in PALETTE if one not in taken] * len(names))
    return {name: COLOURS.get(name) or next(left) for name in names}


def use_style() -> None:
    """Set the book's look for the figures that follow."""
    grounds = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    texts = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    sns.set_theme(
        style="whitegrid",
        palette=PALETTE,
        rc={
            **dict.fromkeys(grounds, PAPER),
            **dict.fromkeys(texts, INK),
            "grid.color": "#DDDDDD",
            "axes.edgecolor": "#888888",
            "figure.dpi": 110,
            "savefig.dpi": 220,
            "axes.labelsize": 11,
            "axes.titlesize": 11,
        },
    )
