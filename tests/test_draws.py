"""Half of a seed changed, under one and the same mask."""

import numpy as np
import pytest
from toys import count_epochs, quiet, toy_data, toy_spec

from lthnb import draws, plots
from lthnb.config import Ladder, Seeded
from lthnb.lottery import climb
from lthnb.standings import fields_of, recorded_by_contest, seeded
from lthnb.store.adding import add
from lthnb.store.runs import Store
from lthnb.training import train

DATA, SPEC, LADDER, SEEDS = toy_data(), toy_spec(), Ladder("imp", 0.4, 2), (0, 1, 2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", results=tmp_path / "results")


CONTESTS = [(LADDER, SPEC), (Ladder("imp", 0.4, 2, rewind="reinit"), SPEC)]


@pytest.fixture
def fields(store):
    return fields_of(CONTESTS, DATA, SEEDS, quiet(store))


def again(store, numbers, **more):
    return draws.changed_of(CONTESTS, numbers, DATA, SEEDS, quiet(store), **more)


def test_only_what_is_named_differs(fields, store):
    found = again(store, (1, 2, 9))
    assert [(one.field.ladder, one.number) for one in found] == [(LADDER, 1), (LADDER, 2)]
    for one in found:
        tickets = one.field.records(one.number)
        for change, other in (("draw", "init"), ("order", "spec")):
            assert len(one.runs[change]) == len(SEEDS)
            for ticket, run in zip(tickets, one.runs[change], strict=True):
                parts = ("spec", "init", "mask")
                assert [n for n in parts if getattr(ticket, n) != getattr(run, n)] == [other]
        orders = [r.spec["training"]["order_seed"] for r in one.runs["order"]]
        assert len({*orders, *SEEDS}) == 2 * len(SEEDS)


def test_the_first_draw_is_that_of_reinit(fields, store):
    first, second = again(store, (1, 2))
    reinit = fields[1]
    assert list(first.runs["draw"]) == reinit.records(1)
    assert not {r.key for r in second.runs["draw"]} & {r.key for r in reinit.records(2)}


def test_differences_are_to_the_ticket_itself(fields, store):
    [one] = again(store, (2,))
    for change in draws.CHANGES:
        paired = [
            run.metric("recall@20") / ticket.metric("recall@20") - 1
            for run, ticket in zip(one.runs[change], fields[0].records(2), strict=True)
        ]
        d = one.difference(change)
        assert d.kind == "t over seeds"
        assert d.mean == pytest.approx(np.mean(paired))
        assert one.recall(change) == np.mean([r.metric("recall@20") for r in one.runs[change]])
    ratios = [
        a.metric("recall@20") / b.metric("recall@20") - 1
        for a, b in zip(one.runs["draw"], one.runs["order"], strict=True)
    ]
    assert one.difference("draw", "order").mean == pytest.approx(np.mean(ratios))
    assert one.recall("") == fields[0].standings[2].results["recall@20"]


def test_a_run_is_what_training_by_hand_gives(fields, store, tmp_path):
    [one] = again(store, (1,))
    elsewhere = quiet(Store(tmp_path / "elsewhere", results=None))
    ladder, spec = seeded(LADDER, SPEC, 1)
    _, rung, _ = climb(ladder, spec, DATA, elsewhere)
    order = one.runs["order"][1].spec["training"]["order_seed"]
    by_hand = train(spec.with_training(order_seed=order), DATA, Seeded(1), rung.mask, elsewhere)
    assert by_hand.record.results_digest == one.runs["order"][1].results_digest


def test_nothing_is_trained_unless_asked_and_nothing_twice(fields, store, monkeypatch):
    ran = count_epochs(monkeypatch)
    assert again(store, (2,), train_missing=False) == []
    assert not ran
    again(store, (2,))
    trained = len(ran)
    assert trained > 0
    [one] = again(store, (2,))
    assert len(ran) == trained
    assert "another X⁰" in plots.taken_apart_table([one]).as_raw_html()
    assert "Nothing of this is recorded" in plots.taken_apart_table([]).as_raw_html()


def test_a_store_that_is_empty_and_numbers_that_are_no_tickets(store, monkeypatch):
    """The ladders are climbed first; rung 0, and what lies beyond, is no ticket."""
    [one] = again(store, (0, 2, 7), workers=2)
    assert (one.number, len(one.field.seeds)) == (2, 3)
    ran = count_epochs(monkeypatch)
    assert again(store, (0, 7)) == again(store, ()) == []
    assert [o.runs for o in again(store, (2,))] == [one.runs]
    assert not ran


def test_recorded_ones_add_no_seed_to_the_ladders(fields, store):
    found = again(store, (1, 2))
    add(store, store.run_keys())
    alone = Store(store.folder.parent / "empty", results=store.results)
    contests = [(LADDER, SPEC)]
    [[field]] = recorded_by_contest(contests, alone).values()
    assert field.seeds == SEEDS
    there = draws.looked_up([field], (1, 2), alone)
    assert [one.runs for one in there] == [one.runs for one in found]
