"""A ticket as it is, and packed.

:func:`pack` takes a :class:`Ticket` and gives a :class:`Packed` one, which is written by
:meth:`Packed.save`, found again by :func:`load`, and read a block of rows at a time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lthnb.config import canonical, nearest
from lthnb.packing.bits import Code
from lthnb.packing.errors import PackingError
from lthnb.packing.forms import FORMS, LARGEST, Support, classes
from lthnb.packing.labels import labels_of, tensors_of
from lthnb.packing.values import VALUES, Kind

if TYPE_CHECKING:
    from lthnb.training import TrainedRun

SIDES = ("users", "items")
# How much larger than the smallest form one may be that is read faster.
BUDGETS = {"auto": 1.0, "bytes": 1.0, "speed": 1.3}
AT_ONCE = 1 << 16  # rows, where all are read one after the other


@dataclass(frozen=True, eq=False)
class Ticket:
    """A trained ticket: which entries of the table are kept, and their values.

    kept: bool (users + items, F), users first. values: float32, of the same shape; an entry that
    is pruned is 0, one that is kept may be. user_labels, item_labels: numbers or texts, one a row,
    or None. about: plain data that say where it comes from (run, spec, data, density, epoch).

    Raises PackingError where shapes do not fit, a value is no finite number, a pruned entry is
    not 0, or `about` is no plain data.
    """

    kept: np.ndarray
    values: np.ndarray
    users: int
    items: int
    user_labels: np.ndarray | None = None
    item_labels: np.ndarray | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept, values = self.kept, self.values
        shape = (self.users + self.items, *kept.shape[1:])
        fits = kept.ndim == 2 and kept.shape == values.shape == shape
        if not fits or min(self.users, self.items) < 0:
            raise PackingError(
                f"ticket: found kept {kept.shape} and values {values.shape}, expected both to be "
                f"({self.users} users + {self.items} items, F)."
            )
        if kept.dtype != np.bool_ or values.dtype != np.float32:
            raise PackingError(
                f"ticket: found kept of {kept.dtype} and values of {values.dtype}, expected bool "
                "and float32; use .astype()."
            )
        if not 1 <= self.size <= LARGEST:
            raise PackingError(f"ticket: found {self.size} columns, expected 1 to {LARGEST}.")
        wrong = ~np.isfinite(values)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise PackingError(
                f"ticket: found {values[row, column]} in row {row}, column {column}, expected "
                "finite numbers; the training diverged. Lower its learning rate."
            )
        wrong = (values != 0) & ~kept
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise PackingError(
                f"ticket: found {values[row, column]:g} in row {row}, column {column}, which is "
                "pruned, expected 0; multiply the values by the mask."
            )
        for side, labels, rows in zip(SIDES, self.labels, (self.users, self.items), strict=True):
            if labels is not None and np.shape(labels) != (rows,):
                raise PackingError(
                    f"ticket: found labels of {side} of shape {np.shape(labels)}, expected "
                    f"({rows},), one a row."
                )
        try:
            canonical(self.about)
        except (TypeError, ValueError) as error:
            raise PackingError(
                f"ticket: found no plain data in `about` ({error}), expected texts, finite "
                "numbers, lists and tables of them."
            ) from error

    @classmethod
    def of(cls, run: TrainedRun) -> Ticket:
        """The ticket of a finished training: mask and weights of its best epoch.

        Weights that the store lacks are trained again up to there. A LightGCN ticket is its layer
        0: what is scored comes out of propagation and is dense, and `about` says so. A table that
        was trained in float64 is rounded to float32.
        """
        record, weights = run.record, run.ensure_weights()
        kept = run.ensure_mask().kept
        model = run.spec.model
        about = {
            "run": record.key,
            "spec": asdict(run.spec),
            "data": {"name": record.data["name"], "digest": record.data["digest"]},
            "density": record.density,
            "epoch": record.best_epoch,
            "scores": SCORES["layers" if model.backbone != "mf" else "rows"],
        }
        values = np.where(kept, weights, 0).astype(np.float32)
        labels = run.data.user_labels, run.data.item_labels
        return cls(kept, values, run.data.users, run.data.items, *labels, about)

    @property
    def size(self) -> int:
        """F."""
        return self.kept.shape[1]

    @property
    def labels(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        return self.user_labels, self.item_labels

    def bound(self, bits: int) -> float:
        """Bytes below which no code can be that knows how many entries each row keeps: kept ·
        bits of a value + Σ_rows log₂ C(F, k_r), over 8."""
        from scipy.special import gammaln

        k = np.count_nonzero(self.kept, axis=1).astype(np.float64)
        n = float(self.size)
        choices = (gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)).sum() / np.log(2)
        return float(k.sum() * bits + choices) / 8


SCORES = {
    "rows": "inner products of the rows of users and items",
    "layers": "inner products of what the rows become when they are spread over the training "
    "graph: these are dense, and larger than this ticket. The rows here are layer 0.",
}


@dataclass(frozen=True, eq=False)
class Side:
    """The rows of the users, or of the items, packed.

    name: ``users`` or ``items``. rows; size: F. form, value_kind: names in FORMS and VALUES.
    base: what int8 scale codes count from. tensors: what the file holds, by name without the side.
    """

    name: str
    rows: int
    size: int
    form: str
    value_kind: str
    base: int
    tensors: dict[str, np.ndarray]

    @property
    def kind(self) -> Kind:
        return VALUES[self.value_kind]

    @property
    def kept(self) -> int:
        """Entries that are kept."""
        return len(self.tensors["values"])

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, in memory as in the file."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def code(self, part: str) -> Code:
        """The Huffman code of the counts or the scales; one without symbols where there is none."""
        return self._codes[part]

    @cached_property
    def _codes(self) -> dict[str, Code]:
        none = np.zeros(0, np.uint8)
        streamed = "payload" in self.tensors
        return {
            part: Code(self.tensors.get(part, none) if streamed else none)
            for part in ("counts", "scales")
        }

    @cached_property
    def classes(self) -> tuple[np.ndarray, np.ndarray]:
        """Of a ragged side: first row and first entry of each size."""
        return classes(self.tensors["sizes"])

    def block(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows `start` to `stop` (not included), decoded.

        Returns offsets, int64 (n + 1,), from 0; columns, uint8 or uint16 (kept,), rising within a
        row, all below F; values, float32 (kept,). They may be views of the file: copy before
        changing. Rows are read in blocks of 64, so that few of them cost as much as 64 do.

        Raises PackingError where there are no such rows, and, of a file loaded without its check,
        where they are damaged.
        """
        if not 0 <= start <= stop <= self.rows:
            raise PackingError(
                f"{self.name}: found rows {start} to {stop}, expected them within 0 to {self.rows}."
            )
        offsets, columns, raw, codes = FORMS[self.form].read(self, start, stop)
        return offsets, columns, self.kind.decode(raw, offsets, codes)

    def check(self, where: str) -> None:
        """Refuse tensors that are not those of this form: names, dtypes, shapes, pointers."""
        wanted = FORMS[self.form].expected(self)
        wanted["values"] = ((self.kind.dtype,), (None,))
        if self.tensors.keys() != wanted.keys():
            raise PackingError(
                f"{where}: found the tensors {', '.join(sorted(self.tensors))} of {self.name}, "
                f"expected {', '.join(sorted(wanted))}, those of the form {self.form!r}."
            )
        for name, (dtypes, shape) in wanted.items():
            tensor = self.tensors[name]
            fits = len(shape) == tensor.ndim and all(
                n is None or n == found for n, found in zip(shape, tensor.shape, strict=True)
            )
            if tensor.dtype not in dtypes or not fits:
                raise PackingError(
                    f"{where}: found {self.name}.{name} to be {tensor.dtype} {tensor.shape}, "
                    f"expected {' or '.join(np.dtype(d).name for d in dtypes)} {shape}."
                )
        FORMS[self.form].check(self, f"{where}: {self.name}")


@dataclass(frozen=True, eq=False)
class Packed:
    """A packed ticket. about: as in :class:`Ticket`. label_tensors: the labels as they lie in the
    file, read by :attr:`user_labels` and :attr:`item_labels`."""

    users: Side
    items: Side
    about: dict[str, Any]
    label_tensors: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of both sides; labels, and the file's header, come on top."""
        return self.users.nbytes + self.items.nbytes

    @cached_property
    def user_labels(self) -> np.ndarray | None:
        """(users,), or None where the ticket had none."""
        return labels_of("users", self.label_tensors, self.users.rows)

    @cached_property
    def item_labels(self) -> np.ndarray | None:
        """(items,), or None where the ticket had none."""
        return labels_of("items", self.label_tensors, self.items.rows)

    def unpack(self) -> Ticket:
        """The ticket again: the same support; the same values, rounded where `values` said so."""
        rows = self.users.rows + self.items.rows
        kept = np.zeros((rows, self.users.size), bool)
        values = np.zeros((rows, self.users.size), np.float32)
        first = 0
        for side in (self.users, self.items):
            for start in range(0, side.rows, AT_ONCE):
                offsets, columns, found = side.block(start, min(start + AT_ONCE, side.rows))
                owner = np.repeat(np.arange(len(offsets) - 1) + first + start, np.diff(offsets))
                kept[owner, columns] = True
                values[owner, columns] = found
            first += side.rows
        labels = self.user_labels, self.item_labels
        return Ticket(kept, values, self.users.rows, self.items.rows, *labels, self.about)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, all or nothing; see :mod:`lthnb.packing.files`. Returns the
        path. Raises StoreError where the operating system refuses."""
        from lthnb.packing.files import write

        return write(self, Path(path))

    def __repr__(self) -> str:
        sides = ", ".join(
            f"{s.rows:,} {s.name} as {s.form} with {s.value_kind}" for s in (self.users, self.items)
        )
        return f"Packed({sides}, size {self.users.size}: {self.nbytes:,} bytes)"


def load(path: str | Path, check: bool = True) -> Packed:
    """A packed ticket from its file, mapped into memory: nothing is decoded before it is asked for.

    check: compare the digest, which reads the whole file once. Without it only the structure is
    checked: what is altered inside may give wrong numbers or an error when it is read, and never
    reads out of bounds. Nothing in a file is executed. While it is mapped it must not be written
    into; :meth:`Packed.save` and `export` put a new file in its place, which is safe.

    Raises PackingError, which says what was found and what to do, for a file that is missing,
    foreign, damaged, or of a later version.
    """
    from lthnb.packing.files import read

    return read(Path(path), check)


def pack(
    ticket: Ticket, form: str = "auto", values: str = "float32", budget: str = "auto"
) -> Packed:
    """A ticket, packed.

    form: a name in FORMS, or ``auto``, which takes for each side the form with the fewest bytes,
    as counted for this very side. values: a name in VALUES; float32 keeps every bit, -0.0 as well.
    budget: what ``auto`` saves: ``bytes`` (``auto`` is the same), or ``speed``, the form that is
    read fastest among those within 1.3 times the fewest bytes, values included.

    Every form keeps the support exactly; an entry whose value becomes 0 stays kept. Raises
    PackingError for an unknown name, and for a value that is too large for float16 or bfloat16.
    """
    check_options(form, values, budget)
    sides = []
    for name, rows in (
        ("users", slice(0, ticket.users)),
        ("items", slice(ticket.users, ticket.users + ticket.items)),
    ):
        kept = ticket.kept[rows]
        support = Support.of(kept)
        raw, scales = VALUES[values].encode(ticket.values[rows][kept], support.offsets)
        chosen = form if form != "auto" else _best(support, raw, scales, BUDGETS[budget])
        tensors, base = FORMS[chosen].encode(support, scales)
        tensors["values"] = FORMS[chosen].arrange(support, raw)
        for tensor in tensors.values():
            tensor.flags.writeable = False  # as they come from a file: one kernel serves both
        sides.append(Side(name, support.rows, support.size, chosen, values, base, tensors))
    labels = {}
    for name, given in zip(SIDES, ticket.labels, strict=True):
        if given is not None:
            labels |= tensors_of(name, given)
    return Packed(*sides, ticket.about, labels)


def check_options(form: str = "auto", values: str = "float32", budget: str = "auto") -> None:
    """Refuse names that :func:`pack` does not know."""
    for what, name, known in (
        ("form", form, ("auto", *FORMS)),
        ("values", values, VALUES),
        ("budget", budget, BUDGETS),
    ):
        if name not in known:
            raise PackingError(
                f"{what}: found {name!r}, expected {', '.join(known)}.{nearest(name, known)}"
            )


def _best(support: Support, raw: np.ndarray, scales: np.ndarray | None, slack: float) -> str:
    """The first form of FORMS, which has the fastest first, within `slack` of the smallest."""
    found = {name: form.nbytes(support, scales) + raw.nbytes for name, form in FORMS.items()}
    most = slack * min(found.values())
    return next(name for name, size in found.items() if size <= most)
