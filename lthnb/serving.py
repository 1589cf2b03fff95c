"""Serving straight from a packed ticket: the best items of users, and items that are like an item.

A score is the inner product of a user's and an item's row, summed over the columns that the item
keeps, from the lowest column on, every term fused into the sum and rounded once to float32. That
order is fixed, so a score depends on nothing else: neither threads, batches nor the way in which
it was found. It is also the order of :func:`lthnb.evaluation.rank`, and a column that is 0 adds
nothing; so what is served is, bit by bit, what dense scoring of the unpacked ticket gives.

Rows are decoded in blocks, and a block meets all users of a call before the next one comes. An
item is left out where by Cauchy and Schwarz it cannot reach the k-th best score so far.

:class:`TicketRecommender` serves MF, whose rows are what is scored. LightGCN scores what its rows
become when they are spread over the training graph. That is dense however sparse the ticket is: a
packed layer 0 saves bytes on disk, and saves nothing in serving. What works is to spread, by
:func:`propagated`, when it is loaded; or once, and to serve that pruned and rounded, at a loss that
:func:`lthnb.budget.costs` measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import scipy.sparse as sp
import torch

from lthnb.config import Model
from lthnb.data import Interactions
from lthnb.evaluation import TOP, Hits, asked, enter, first_free, judge
from lthnb.lanes import aligned, fma, load, reaching, splat, store, zeros
from lthnb.models import BACKBONES
from lthnb.packing import Packed, Side, Ticket, pack
from lthnb.packing.tickets import SCORES
from lthnb.pruning import Mask, magnitude, prune

LANES = 16  # users in a vector
GROUP = 4 * LANES  # users that meet an item together: their sums stay in registers
STRETCH = 64  # items between two looks at what a group's users still need
ROWS = 4096  # decoded at once; the sums of so many items stay in the fastest cache
HEAD = 2048  # items of the largest norm, which are met first: then few others are worth a look
USERS = 1 << 14  # that share one pass over the items
FEW = 8  # users whom an index answers one by one

NEVER = np.finfo(np.float32).min  # the score where there is no item, as `implicit` has it


class ServingError(ValueError):
    """A question that cannot be answered: says what was found and what was expected."""


class Rows(NamedTuple):
    """Some items, decoded.

    places: their ids, int64 (n,). reach: float32 (n,), no less than the norm of each; −inf for an
    item that is not to be met. offsets, columns, values: as :meth:`Side.block` gives them.
    """

    places: np.ndarray
    reach: np.ndarray
    offsets: np.ndarray
    columns: np.ndarray
    values: np.ndarray


class Lists(NamedTuple):
    """The best items of n users so far: scores, float32 (n, k), best first, −inf where there is
    none yet, and their ids, int64 (n, k), −1 there."""

    top: np.ndarray
    ids: np.ndarray

    @classmethod
    def empty(cls, count: int, k: int) -> Lists:
        return cls(np.full((count, k), -np.inf, np.float32), np.full((count, k), -1, np.int64))


class TicketRecommender:
    """Recommends from a packed ticket, with the interface of `implicit`'s recommenders.

    packed: from :func:`lthnb.packing.pack` or :func:`lthnb.packing.load`; of MF, or of
    :func:`propagated` outputs. index: whether to hold, besides the ticket, a list of items for
    each column (6 bytes an entry, 4 an item): a few users at once are then answered from the lists
    of the columns that they keep, many times faster, and many at once as without. threads: those
    that decode and score, by default numba's.

    It may be asked from several threads at once. Raises ServingError for a LightGCN ticket as it
    comes from training: see :func:`propagated`.
    """

    def __init__(self, packed: Packed, index: bool = False, threads: int | None = None) -> None:
        if packed.about.get("scores") == SCORES["layers"]:
            raise ServingError(
                "packed: found the layer 0 of a LightGCN ticket, expected rows that are scored; "
                "propagate it over the training graph first: serving.propagated(packed, data)."
            )
        self.packed, self.threads = packed, threads or nb.get_num_threads()
        self.users, self.items, self.size = packed.users.rows, packed.items.rows, packed.items.size
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        self.norms = np.empty(self.items, np.float32)  # no less than those of the items
        for start, (offsets, _, values) in self._blocks(packed.items):
            _norms(offsets, values, self.norms[start : start + ROWS])
        self._head = self._of_largest_norm()
        self.index = Index.of(self) if index else None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that it holds or maps: the ticket, a norm for each item, the decoded
        items of the largest norm, and the index where there is one."""
        held = [self.norms, *self._head, *(self.index.arrays if self.index else ())]
        labels = self.packed.label_tensors.values()
        return self.packed.nbytes + sum(a.nbytes for a in (*held, *labels))

    # What is asked

    def recommend(
        self,
        userid: int | Sequence[int] | np.ndarray,
        user_items: sp.csr_matrix | None = None,
        N: int = 10,
        filter_already_liked_items: bool = True,
        *,
        items: Sequence[int] | np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The N best items of one user, or of each of several: ids, int32, and scores, float32.

        userid: a row of the ticket, or n of them. user_items: CSR (1 or n, items), the items that
        each has already, which are left out unless `filter_already_liked_items` is False; a place
        that is stored counts, whatever its value. items: the only candidates, where given.

        Returns shapes (N,) for one user and (n, N) for several; with `items`, N is at most as many
        as these, as `implicit` has it. Equal scores rank by the lower id. Where a user has fewer
        candidates, the places behind hold the score −3.4028235e38, as `implicit` has it, and the
        id −1, where `implicit` repeats an item that the user has, or item 0.

        Raises ServingError for an unknown user or item, a `user_items` of another form or shape,
        and N below 1.
        """
        users = _ids("userid", userid, self.users)
        _at_least_one(N)
        known = None
        if filter_already_liked_items:
            known = self._checked(user_items, len(users))
        queries = self._queries(self.packed.users, users)
        if items is None:
            found = self._best(queries, known, N)
        else:
            items = np.unique(_ids("items", items, self.items))
            N = min(N, len(items))
            found = self._best(queries, known, N, items)
        return _answer(found, np.ndim(userid) == 0)

    def similar_items(
        self, itemid: int | Sequence[int] | np.ndarray, N: int = 10
    ) -> tuple[np.ndarray, np.ndarray]:
        """The N items of the largest cosine with one item, or with each of several, themselves
        included: as :meth:`recommend` returns them. An item without entries has cosine 0 with all.

        Rows are brought to norm 1 (in float64, rounded to float32) before they are multiplied.
        """
        chosen = _ids("itemid", itemid, self.items)
        _at_least_one(N)
        queries = self._queries(self.packed.items, chosen)
        norms = np.sqrt(np.einsum("rf,rf->r", queries, queries, dtype=np.float64))
        queries = (queries / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)
        return _answer(self._best(queries, None, N, unit=True), np.ndim(itemid) == 0)

    def user_rows(self, labels: Any) -> Any:
        """Labels of users, one or an array of them, as the rows that :meth:`recommend` takes."""
        return _rows_of("user", labels, self.packed.user_labels)

    def item_rows(self, labels: Any) -> Any:
        """Labels of items, one or an array of them, as rows."""
        return _rows_of("item", labels, self.packed.item_labels)

    def item_names(self, ids: np.ndarray) -> np.ndarray:
        """Labels of the items that were recommended, in the shape of `ids`; a place that is empty
        (−1) has None, and makes the array one of objects."""
        labels = _labels("item", self.packed.item_labels)
        names, none = labels[ids], np.asarray(ids) < 0
        if none.any():
            names = names.astype(object)
            names[none] = None
        return names

    # How it is answered

    def _checked(self, user_items: Any, count: int) -> sp.csr_matrix:
        """Refuse what is no CSR of so many users; with sorted indices."""
        if not (sp.issparse(user_items) and user_items.format == "csr"):
            raise ServingError(
                f"user_items: found {type(user_items).__name__}, expected a CSR matrix with the "
                "items of each user asked for (or filter_already_liked_items=False)."
            )
        if user_items.shape != (count, self.items):
            raise ServingError(
                f"user_items: found shape {user_items.shape}, expected ({count}, {self.items}): a "
                "row for each user in userid, as user_items[userid] gives it, and all items."
            )
        return user_items if user_items.has_sorted_indices else user_items.sorted_indices()

    def _blocks(self, side: Side) -> Iterator[tuple[int, tuple]]:
        """(first row, decoded block) of all rows, in order; decoded ahead where there are threads,
        so that no more than these and the one at hand are there at once."""
        starts = range(0, side.rows, ROWS)

        if self._pool is None or len(starts) < 2:
            yield from ((start, _read(side, start, start + ROWS)) for start in starts)
            return

        def soon(start: int):
            return self._pool.submit(_read, side, start, start + ROWS)

        ahead = [soon(start) for start in starts[: self.threads]]
        for at, start in enumerate(starts):
            block = ahead.pop(0).result()
            if at + self.threads < len(starts):
                ahead.append(soon(starts[at + self.threads]))
            yield start, block

    def _queries(self, side: Side, chosen: np.ndarray) -> np.ndarray:
        """Rows of a side as they are when unpacked: float32 (n, F)."""
        out = np.zeros((len(chosen), side.size), np.float32)
        order = np.argsort(chosen, kind="stable")
        ordered = chosen[order]
        edges = np.flatnonzero(np.diff(ordered // ROWS)) + 1
        for mine in np.split(order, edges) if len(order) else ():
            start = chosen[mine[0]]
            block = _read(side, start, chosen[mine[-1]] + 1)
            _scatter(*block, chosen[mine] - start, mine, out)
        return out

    def _some(self, items: np.ndarray, order: np.ndarray | slice = slice(None)) -> Rows:
        """Items by their ids, which rise; put into an order, where there is one."""
        parts = []
        for mine in np.split(items, np.flatnonzero(np.diff(items // ROWS)) + 1):
            start = mine[0] if len(mine) else 0
            offsets, *rest = _read(self.packed.items, start, start + np.ptp(mine) + 1)
            parts.append(_picked(offsets, *rest, mine - start))
        counts, columns, values = (np.concatenate(p) for p in zip(*parts, strict=True))
        offsets = np.concatenate(([0], np.cumsum(counts)))
        picked = _picked(offsets, columns, values, np.arange(len(items))[order])
        offsets = np.concatenate(([0], np.cumsum(picked[0])))
        for array in (offsets, *picked[1:]):
            array.flags.writeable = False
        return Rows(items[order], self.norms[items[order]], offsets, *picked[1:])

    def _of_largest_norm(self) -> Rows:
        """By falling norm, so that the best of all are likely to be met soon."""
        count = min(HEAD, self.items)
        items = np.sort(np.argpartition(-self.norms, count - 1)[:count])
        return self._some(items, np.argsort(-self.norms[items], kind="stable"))

    def _all_items(self) -> Iterator[Rows]:
        """The items of the largest norm, then all others."""
        yield self._head
        head = np.sort(self._head.places)
        for start, block in self._blocks(self.packed.items):
            places = np.arange(start, start + len(block[0]) - 1)
            reach = self.norms[places]
            first, last = np.searchsorted(head, (start, start + len(places)))
            reach[head[first:last] - start] = -np.inf
            yield Rows(places, reach, *block)

    def _all_of_unit_norm(self) -> Iterator[Rows]:
        """All items, each brought to norm 1; one without entries stays as it is."""
        for start, (offsets, columns, values) in self._blocks(self.packed.items):
            places = np.arange(start, start + len(offsets) - 1)
            unit = np.empty_like(values)
            _to_unit_norm(offsets, values, unit)
            unit.flags.writeable = False
            reach = np.full(len(places), 1.0001, np.float32)
            yield Rows(places, reach, offsets, columns, unit)

    def _best(
        self,
        queries: np.ndarray,
        known: sp.csr_matrix | None,
        k: int,
        items: np.ndarray | None = None,
        unit: bool = False,
    ) -> Lists:
        """The k best of some items, whose ids rise, or of all, for each query (n, F); of items
        brought to norm 1 where `unit` says so."""
        found = Lists.empty(len(queries), k)
        if known is None:
            known = sp.csr_matrix((len(queries), self.items), dtype=np.float32)
        indptr, liked = known.indptr.astype(np.int64), known.indices.astype(np.int32, copy=False)
        # Whoever keeps nothing scores 0 with all items, and no bound would leave out any.
        some = queries.any(1)
        candidates = np.arange(self.items) if items is None else items
        first_free(candidates, np.flatnonzero(~some), indptr, liked, found.ids)
        found.top[found.ids >= 0] = 0
        rows = np.flatnonzero(some)
        if items is None and not unit and self.index and len(rows) <= FEW:
            for row in rows:
                mine = liked[indptr[row] : indptr[row + 1]]
                list_ = Lists(found.top[row], found.ids[row])
                self.index.look_up(queries[row], mine, list_, self)
            return found
        for first in range(0, len(rows), USERS):
            if items is not None:
                blocks = iter((self._some(items),))
            else:
                blocks = self._all_of_unit_norm() if unit else self._all_items()
            self._meet(rows[first : first + USERS], queries, indptr, liked, found, blocks)
        return found

    def _meet(self, rows, queries, indptr, liked, found: Lists, blocks: Iterator[Rows]) -> None:
        """Fill the lists of some users, who meet one block of items after the other."""
        state = Groups.of(rows, queries, found)
        for number, block in enumerate(blocks):
            if number == 1 and len(rows) > GROUP:
                # Users who are about as far from being done leave out the same items.
                state.give_back(found)
                needed = state.lowest * state.nearness
                state = Groups.of(state.who[np.argsort(needed)[: len(rows)]], queries, found)
            state.meet(block, indptr, liked, self)
        state.give_back(found)


class Groups(NamedTuple):
    """Users in groups of :data:`GROUP`, whose vectors lie side by side.

    who: int64 (groups · GROUP,), the row of each user, −1 where there is none. vectors: float32
    (groups, F, GROUP). nearness: float64, 1 over each user's norm. lists, lowest: as far as it
    goes, and the score from which on an item is let in, in the order of `who`.
    """

    who: np.ndarray
    vectors: np.ndarray
    nearness: np.ndarray
    lists: Lists
    lowest: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, queries: np.ndarray, found: Lists) -> Groups:
        """Some rows of the queries, (n, F), in an order, with the lists that they have."""
        count, size = len(rows), queries.shape[1]
        groups = -(-count // GROUP)
        who = np.full(groups * GROUP, -1, np.int64)
        who[:count] = rows
        vectors = zeros((groups, size, GROUP), np.float32)
        _stand_side_by_side(queries, who, vectors)
        nearness = np.ones(len(who))
        nearness[:count] = 1 / _reach(queries[rows])
        lists = Lists.empty(len(who), found.top.shape[1])
        lists.top[:count], lists.ids[:count] = found.top[rows], found.ids[rows]
        lowest = aligned(np.full(len(who), np.inf, np.float32))  # nobody is never reached
        lowest[:count] = np.maximum(lists.top[:count, -1], NEVER)
        return cls(who, vectors, nearness, lists, lowest)

    def meet(self, block: Rows, indptr, liked, asked: TicketRecommender) -> None:
        """All of them meet some items, the groups shared out among the threads."""

        def part(first: int, last: int) -> None:
            lists = self.lists
            _meet(
                first,
                last,
                self.vectors,
                self.nearness,
                *block,
                self.who,
                indptr,
                liked,
                lists.top,
                lists.ids,
                self.lowest,
            )

        groups = len(self.vectors)
        if asked._pool is None or groups == 1:
            part(0, groups)
            return
        cuts = np.linspace(0, groups, min(groups, 4 * asked.threads) + 1).astype(int)
        list(asked._pool.map(part, cuts[:-1], cuts[1:]))

    def give_back(self, found: Lists) -> None:
        some = self.who >= 0
        found.top[self.who[some]] = self.lists.top[some]
        found.ids[self.who[some]] = self.lists.ids[some]


@dataclass(frozen=True, eq=False)
class Index:
    """For each column the items that keep it, in blocks of :data:`ROWS` items by falling norm.

    starts: int64 (blocks, F + 1), where each column's entries lie. rows: uint16 (kept,), places in
    the block. values: float32 (kept,). ids: int32 (items,), by falling norm. reach: float32
    (blocks,), the largest norm.
    """

    starts: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    ids: np.ndarray
    reach: np.ndarray

    @classmethod
    def of(cls, asked: TicketRecommender) -> Index:
        """Decodes all items twice: to count, and to fill in."""
        side, norms = asked.packed.items, asked.norms
        ids = np.argsort(-norms, kind="stable").astype(np.int32)
        places = np.empty(len(ids), np.int32)
        places[ids] = np.arange(len(ids), dtype=np.int32)
        blocks = -(-side.rows // ROWS)
        counts = np.zeros((blocks, side.size), np.int64)
        for start, (offsets, columns, _) in asked._blocks(side):
            _count(places[start : start + ROWS], offsets, columns, counts)
        starts = np.zeros((blocks, side.size + 1), np.int64)
        ends = np.cumsum(counts).reshape(counts.shape)
        starts[:, 1:], starts[:, 0] = ends, ends[:, 0] - counts[:, 0]
        cursors = starts[:, :-1].copy()
        rows, values = zeros(side.kept, np.uint16), zeros(side.kept, np.float32)
        for start, (offsets, columns, found) in asked._blocks(side):
            _fill(places[start : start + ROWS], offsets, columns, found, cursors, rows, values)
        return cls(starts, rows, values, ids, norms[ids[::ROWS]])

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.starts, self.rows, self.values, self.ids, self.reach

    def look_up(
        self, query: np.ndarray, known: np.ndarray, found: Lists, asked: TicketRecommender
    ) -> None:
        """Fill one user's list, (k,): the first block alone, the others shared out."""
        [norm] = _reach(query[None])

        def part(first: int, step: int, stop: int, lists: Lists) -> None:
            floor = max(found.top[-1], NEVER)
            _look_up(first, step, stop, query, norm, *self.arrays, known, *lists, floor)

        blocks = len(self.starts)
        part(0, 1, min(1, blocks), found)
        if asked._pool is None or blocks < 4 * asked.threads:
            part(1, 1, blocks, found)
            return
        step = 2 * asked.threads
        lists = [Lists(*(one[0] for one in Lists.empty(1, len(found.top)))) for _ in range(step)]
        wait = [asked._pool.submit(part, 1 + n, step, blocks, lists[n]) for n in range(step)]
        for one in wait:
            one.result()
        nobody, lowest = np.empty(0, np.int32), max(found.top[-1], NEVER)
        for one in lists:
            lowest = enter(one.top, np.count_nonzero(one.ids >= 0), one.ids, nobody, *found, lowest)


def _reach(queries: np.ndarray) -> np.ndarray:
    """The norms of rows (n, F) that are not 0, float64, and a little more: a computed score is at
    most F + 1 roundings above the product of the norms."""
    norms = np.sqrt(np.einsum("rf,rf->r", queries, queries, dtype=np.float64))
    return norms * (1 + (queries.shape[1] + 8) * np.finfo(np.float32).eps)


def _read(side: Side, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A block as :meth:`Side.block` gives it, never to be written: its arrays may be the file's or
    not, and for numba they would be of two types."""
    block = side.block(start, min(stop, side.rows))
    for array in block:
        array.flags.writeable = False
    return block


def _ids(name: str, given: Any, count: int) -> np.ndarray:
    """One id or several, as int64 (n,). Refuses what is no id, or not below `count`."""
    ids = np.atleast_1d(np.asarray(given))
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ServingError(
            f"{name}: found {given!r:.60}, expected a whole number, or a list of them. Labels are "
            "turned into rows by user_rows() and item_rows()."
        )
    wrong = ids[(ids < 0) | (ids >= count)]
    if wrong.size:
        raise ServingError(f"{name}: found {wrong[0]}, expected 0 to {count - 1}.")
    return ids.astype(np.int64)


def _at_least_one(n: int) -> None:
    if n < 1:
        raise ServingError(f"N: found {n}, expected at least 1.")


def _answer(found: Lists, one: bool) -> tuple[np.ndarray, np.ndarray]:
    """What `implicit` returns: ids and scores, without the first axis for one user."""
    ids, scores = found.ids.astype(np.int32), np.maximum(found.top, NEVER)
    return (ids[0], scores[0]) if one else (ids, scores)


def _labels(what: str, labels: np.ndarray | None) -> np.ndarray:
    if labels is None:
        raise ServingError(f"{what}s: this ticket has no labels; ask by the number of the row.")
    return labels


def _rows_of(what: str, wanted: Any, labels: np.ndarray | None) -> Any:
    labels, asked = _labels(what, labels), np.asarray(wanted)
    order = np.argsort(labels, kind="stable")
    if asked.dtype.kind != labels.dtype.kind and "U" in asked.dtype.kind + labels.dtype.kind:
        raise ServingError(
            f"{what}: found {wanted!r:.60}, expected labels like {labels[:1].tolist()[0]!r}."
        )
    at = np.searchsorted(labels, asked, sorter=order).clip(max=len(labels) - 1)
    rows = order[at]
    wrong = asked[labels[rows] != asked]
    if wrong.size:
        raise ServingError(f"{what}: found {wrong.flat[0]!r}, which is no label of this ticket.")
    return int(rows) if asked.ndim == 0 else rows


# LightGCN, and what is served


def propagated(
    packed: Packed,
    data: Interactions,
    density: float = 1.0,
    form: str = "auto",
    values: str = "float32",
) -> Packed:
    """What a LightGCN ticket scores with: its layer 0, spread over the training graph, packed.

    data: those of the training; their `train` is the graph. density: of the outputs; what is
    smaller in magnitude is pruned, over users and items together, and costs Recall, as float16 or
    int8 `values` do (:func:`lthnb.budget.costs` says how much). 1 loses nothing, and is as large
    as a dense model: no form of the support changes that.

    Raises ServingError where the ticket is not LightGCN's, or `data` have other users and items.
    """
    return pack(_spread(packed.unpack(), data, density), form, values)


def served(
    ticket: Ticket, data: Interactions, densities: Sequence[float] = (1.0, 0.5, 0.25)
) -> dict[str, Ticket]:
    """What can be kept of a ticket to serve from: of MF the ticket itself, under the name ``rows``;
    of LightGCN its layer 0, ``spread on load``, or its outputs (:func:`propagated`), whole and at
    some densities, under ``outputs at 50%``."""
    if ticket.about.get("scores") != SCORES["layers"]:
        return {"rows": ticket}
    outputs = {f"outputs at {d:.0%}": _spread(ticket, data, d) for d in densities}
    return {"spread on load": ticket, **outputs}


def _spread(ticket: Ticket, data: Interactions, density: float) -> Ticket:
    if ticket.about.get("scores") != SCORES["layers"]:
        raise ServingError("packed: found rows that are scored, expected LightGCN's layer 0.")
    if (data.users, data.items) != (ticket.users, ticket.items):
        raise ServingError(
            f"data: found {data.users} users and {data.items} items, expected {ticket.users} and "
            f"{ticket.items}, those of the ticket."
        )
    model = Model(**ticket.about["spec"]["model"])
    backbone = BACKBONES[model.backbone](model, data, torch.float32, "cpu")
    with torch.no_grad():
        outputs = backbone.outputs(torch.from_numpy(ticket.values)).numpy()
    mask = Mask.dense(*outputs.shape)
    if density < 1:
        keep = (round(density * outputs.size),)
        mask = prune(mask, magnitude(outputs, 0), keep, users=ticket.users)
    about = {**ticket.about, "scores": SCORES["rows"], "outputs kept": mask.density}
    table = np.where(mask.kept, outputs, np.float32(0))
    return Ticket(mask.kept, table, ticket.users, ticket.items, *ticket.labels, about)


def evaluate(server: TicketRecommender, data: Interactions, part: str, k: int = TOP) -> Hits:
    """As :func:`lthnb.evaluation.evaluate`, of what is served."""
    users, known = asked(data, part)
    best, _ = server.recommend(users, known, k)
    return judge(best.astype(np.int64), users, getattr(data, part))


# Kernels


@nb.njit(cache=True, nogil=True)
def _norms(offsets, values, out):
    """No less than the norm of each row, as float32."""
    for row in range(out.size):
        total = 0.0
        for e in range(offsets[row], offsets[row + 1]):
            total += np.float64(values[e]) ** 2
        norm = np.float32(np.sqrt(total))
        out[row] = np.nextafter(norm, np.float32(np.inf)) if total > 0 else norm


@nb.njit(cache=True, nogil=True)
def _to_unit_norm(offsets, values, out):
    for row in range(offsets.size - 1):
        total = 0.0
        for e in range(offsets[row], offsets[row + 1]):
            total += np.float64(values[e]) ** 2
        for e in range(offsets[row], offsets[row + 1]):
            out[e] = np.float32(values[e] / np.sqrt(total)) if total > 0 else values[e]


@nb.njit(cache=True, nogil=True)
def _scatter(offsets, columns, values, rows, places, out):
    """Some rows of a block into rows of a dense table."""
    for n in range(rows.size):
        for e in range(offsets[rows[n]], offsets[rows[n] + 1]):
            out[places[n], columns[e]] = values[e]


@nb.njit(cache=True, nogil=True)
def _picked(offsets, columns, values, rows):
    """Some rows of a block: their numbers of entries, columns and values."""
    counts = offsets[rows + 1] - offsets[rows]
    kept = counts.sum()
    some_columns, some_values = np.empty(kept, columns.dtype), np.empty(kept, np.float32)
    at = 0
    for row in rows:
        for e in range(offsets[row], offsets[row + 1]):
            some_columns[at], some_values[at] = columns[e], values[e]
            at += 1
    return counts, some_columns, some_values


@nb.njit(cache=True, nogil=True)
def _stand_side_by_side(queries, who, vectors):
    """(n, F) → (groups, F, GROUP)."""
    for n in range(who.size):
        if who[n] >= 0:
            for f in range(queries.shape[1]):
                vectors[n // GROUP, f, n % GROUP] = queries[who[n], f]


@nb.njit(cache=True, nogil=True)
def _meet(
    first,
    last,
    vectors,
    nearness,
    places,
    reach,
    offsets,
    columns,
    values,
    who,
    indptr,
    liked,
    top,
    ids,
    lowest,
):
    """Groups `first` to `last` meet a block of items: every item that some user of a group may
    need is scored for all of the group, 16 users at a time."""
    size = vectors.shape[1]
    flat = vectors.reshape(-1)
    out = np.empty(GROUP, np.float32)
    # Below float32's smallest numbers an error is not relative any more.
    tiny = 1.5e-45 * (size + 8)
    for group in range(first, last):
        base = group * GROUP
        begin = base * size
        for stretch in range(0, places.size, STRETCH):
            needed = np.inf
            for n in range(base, base + GROUP):
                needed = min(needed, (lowest[n] - tiny) * nearness[n])
            for item in range(stretch, min(stretch + STRETCH, places.size)):
                if not reach[item] >= needed:
                    continue
                a0 = splat(flat, 0.0, LANES)
                a1, a2, a3 = a0, a0, a0
                for e in range(np.uint64(offsets[item]), np.uint64(offsets[item + 1])):
                    value = splat(flat, values[e], LANES)
                    at = begin + np.int64(columns[e]) * GROUP
                    a0 = fma(value, load(flat, at, LANES), a0)
                    a1 = fma(value, load(flat, at + 16, LANES), a1)
                    a2 = fma(value, load(flat, at + 32, LANES), a2)
                    a3 = fma(value, load(flat, at + 48, LANES), a3)
                h0 = reaching(a0, load(lowest, base, LANES))
                h1 = reaching(a1, load(lowest, base + 16, LANES))
                h2 = reaching(a2, load(lowest, base + 32, LANES))
                h3 = reaching(a3, load(lowest, base + 48, LANES))
                if (h0 | h1 | h2 | h3) == 0:
                    continue
                store(out, 0, a0)
                store(out, 16, a1)
                store(out, 32, a2)
                store(out, 48, a3)
                reached = (h0, h1, h2, h3)
                for part in range(GROUP // LANES):
                    if reached[part] == 0:
                        continue
                    for n in range(part * LANES, (part + 1) * LANES):
                        place = base + n
                        if out[n] >= lowest[place]:
                            row = who[place]
                            lowest[place] = enter(
                                out[n : n + 1],
                                1,
                                places[item : item + 1],
                                liked[indptr[row] : indptr[row + 1]],
                                top[place],
                                ids[place],
                                lowest[place],
                            )


@nb.njit(cache=True, nogil=True)
def _count(places, offsets, columns, counts):
    for row in range(places.size):
        block = places[row] // ROWS
        for e in range(offsets[row], offsets[row + 1]):
            counts[block, columns[e]] += 1


@nb.njit(cache=True, nogil=True)
def _fill(places, offsets, columns, found, cursors, rows, values):
    for row in range(places.size):
        block = places[row] // ROWS
        for e in range(offsets[row], offsets[row + 1]):
            at = cursors[block, columns[e]]
            rows[at], values[at] = places[row] % ROWS, found[e]
            cursors[block, columns[e]] = at + 1


@nb.njit(cache=True, nogil=True)
def _look_up(
    first, step, stop, query, norm, starts, rows, values, places, reach, known, top, ids, floor
):
    """One user meets every `step`-th block from `first` on: through the lists of the columns that
    it keeps, from the lowest on, which is the order in which all scores are summed."""
    sums = np.empty(ROWS, np.float32)
    lowest = floor
    tiny = 1.5e-45 * (query.size + 8)
    for block in range(first, stop, step):
        if not np.float64(reach[block]) * norm + tiny >= lowest:
            break  # nor do those that come behind it
        begin = block * ROWS
        here = min(ROWS, places.size - begin)
        sums[:] = 0
        for f in range(query.size):
            x = query[f]
            if x != 0:
                for e in range(np.uint64(starts[block, f]), np.uint64(starts[block, f + 1])):
                    row = np.uint64(rows[e])
                    sums[row] = fma(x, values[e], sums[row])
        for at in range(0, here, LANES):
            if reaching(load(sums, at, LANES), splat(sums, lowest, LANES)) != 0:
                lowest = enter(
                    sums[at : at + LANES],
                    min(LANES, here - at),
                    places[begin + at : begin + at + LANES],
                    known,
                    top,
                    ids,
                    lowest,
                )
