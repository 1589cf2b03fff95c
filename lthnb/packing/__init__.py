"""Tickets that take few bytes: packed, written to one file, and read straight from it.

:func:`pack` makes of a :class:`Ticket` a :class:`Packed` one; ``packed.save(path)`` and
:func:`load` move it through one file; ``packed.items.block(0, 64)`` reads rows. `FORMS` says how
the support may be written, `VALUES` how the values may.
"""

from lthnb.packing.compared import Comparison, Weight, compare, weigh
from lthnb.packing.errors import PackingError
from lthnb.packing.exports import EXPORTS, export, matrix
from lthnb.packing.forms import FORMS
from lthnb.packing.tickets import BUDGETS, Packed, Side, Ticket, load, pack
from lthnb.packing.values import VALUES

__all__ = [
    "BUDGETS",
    "EXPORTS",
    "FORMS",
    "VALUES",
    "Comparison",
    "Packed",
    "PackingError",
    "Side",
    "Ticket",
    "Weight",
    "compare",
    "export",
    "load",
    "matrix",
    "pack",
    "weigh",
]
