"""Records trained again from what they say of themselves, and compared with what they say."""

import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
from toys import TINY, command, dense, quiet, toy_data, toy_spec, trained

from lthnb.config import Compressed, Ladder, Seeded, Snapshot
from lthnb.data import DataError
from lthnb.lottery import run_ladder
from lthnb.pruning import Mask
from lthnb.replays import compare, replay
from lthnb.sampling import initial_table
from lthnb.sources import load_again
from lthnb.old_store import pack_hits
from lthnb.store.files import StoreError
from lthnb.store.runs import Store
from lthnb.training import TrainedRun

DATA, SPEC = toy_data(), toy_spec(step="cpu")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", results=None)


def test_a_ticket_again_to_the_same_bits(store):
    """Dense, rewound, fresh and continued: each start is found again."""
    for rewind in ("rewind", "reinit", "continue"):
        for rung in run_ladder(Ladder("imp", 0.4, 2, rewind=rewind), SPEC, DATA, quiet(store)):
            done = replay(rung.record, DATA, quiet(store))
            assert (done.same_bits, done.agrees, done.users) == (True, True, 0)
            assert str(done).startswith(f"run {rung.record.key[:8]}: the same bits")


def test_it_trains_in_a_store_of_its_own(store):
    run = trained(store, DATA, SPEC)
    before = {p: p.stat().st_mtime_ns for p in store.folder.rglob("*") if p.is_file()}
    replay(run.record, DATA, quiet(store))
    assert {p: p.stat().st_mtime_ns for p in store.folder.rglob("*") if p.is_file()} == before


def altered(record, **results):
    return replace(record, results={**copy.deepcopy(record.results), **results})


def test_other_bits_are_judged_by_the_tolerances(store):
    record = trained(store, DATA, SPEC).record
    losses = record.results["losses"]
    near = altered(record, losses=[x * (1 + 1e-6) for x in losses])
    done = compare(near, record)
    assert (done.same_bits, done.agrees) == (False, True)
    assert done.loss == pytest.approx(1e-6, rel=1e-3)
    assert "other bits, within the tolerances" in str(done)
    far = compare(altered(record, losses=[x * 1.01 for x in losses]), record)
    assert not far.agrees
    assert "NOT within the tolerances" in str(far)
    worse = record.results["test"] | {"recall@20": record.metric("recall@20") * 0.9}
    assert not compare(altered(record, test=worse), record).agrees


def test_users_whose_hits_differ_are_counted(store):
    record = trained(store, DATA, SPEC).record
    hits = record.hits()
    hits.hits[:3, 0] ^= True
    assert compare(altered(record, hits=pack_hits(hits)), record).users == 3


def test_other_data_a_missing_mask_and_missing_weights_are_said(store, tmp_path):
    record = trained(store, DATA, SPEC).record
    with pytest.raises(DataError, match=f"data here are .*, those of the record {DATA.digest[:8]}"):
        replay(record, toy_data(seed=3), quiet(store))
    mask = Mask(np.arange(DATA.rows * 4).reshape(-1, 4) % 2 == 0)
    ticket = trained(store, DATA, SPEC, mask=mask).record
    with pytest.raises(StoreError, match="neither its bits nor how it was pruned"):
        replay(ticket, DATA, quiet(store))
    continued = trained(store, DATA, SPEC, init=Snapshot(record.key, "best")).record
    empty = Store(tmp_path / "empty", results=None)
    with pytest.raises(StoreError, match=f"run {record.key[:8]}: neither its weights of epoch 'be"):
        replay(continued, DATA, quiet(empty))


@pytest.fixture
def bare(tmp_path):
    """Records a run in `results/`, and a store that has these alone: no weights, no masks' bits."""
    store = Store(tmp_path / "store", results=tmp_path / "results")

    def recorded(run):
        store.record_result(run.key, bits=False)
        return run.record

    return store, recorded, quiet(Store(tmp_path / "other", results=tmp_path / "results"))


def test_weights_that_are_not_kept_are_trained_again(bare):
    """Those of a run that itself went on from another, of an early epoch, and of LCM's teacher."""
    store, recorded, control = bare
    run = trained(store, DATA, SPEC)
    run.weights(2)  # kept for what starts from there
    first = recorded(run)
    late = recorded(trained(store, DATA, SPEC, init=Snapshot(first.key, 2)))
    last = recorded(trained(store, DATA, SPEC, init=Snapshot(late.key, "best")))
    model = replace(SPEC.model, embedding_size=2, compression="linear")
    small = replace(SPEC.with_training(step="reference"), model=model)
    lcm = recorded(trained(store, DATA, small, init=Compressed(first.key, 1)))
    for record in (late, last, lcm):
        assert replay(record, DATA, control).same_bits
    assert control.store.find_weights(first.key, "best") is None  # made apart, and gone


@pytest.mark.parametrize("ladder", [Ladder("imp", 0.4, 3), Ladder("omp", 0.4, 2)], ids=str)
def test_masks_that_are_not_kept_are_pruned_again(bare, ladder):
    store, recorded, control = bare
    rungs = run_ladder(ladder, SPEC, DATA, quiet(store))
    last = [recorded(rung.run) for rung in rungs][-1]
    assert control.store.find_mask(last.mask["digest"]) is None
    assert replay(last, DATA, control).same_bits


def test_a_mask_that_comes_out_otherwise_is_not_trained(bare, monkeypatch):
    store, recorded, control = bare
    rungs = run_ladder(Ladder("imp", 0.4, 1), SPEC, DATA, quiet(store))
    last = [recorded(rung.run) for rung in rungs][-1]
    monkeypatch.setattr(TrainedRun, "weights", lambda run, epoch: initial_table(3, *run.mask.shape))
    with pytest.raises(StoreError, match=f"mask {last.mask['digest'][:8]}: pruned again from run"):
        replay(last, DATA, control)


def test_a_record_of_other_numerics_has_nothing_to_compare(store, monkeypatch):
    from lthnb import config

    record = trained(store, DATA, SPEC, init=Seeded(1)).record
    monkeypatch.setitem(config.NUMERICS, "model", config.NUMERICS["model"] + 1)
    with pytest.raises(StoreError, match="nothing to compare"):
        replay(record, DATA, quiet(store))


def test_from_the_command_line(tmp_path):
    assert dense(DATA, SPEC).density == 1
    command(tmp_path, "ladder", *TINY, "--rungs", "1", "--seeds", "0")
    keys = sorted(path.name for path in (tmp_path / "store" / "runs").iterdir())
    done = command(tmp_path, "runs", "replay", *keys, "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the same bits") == 2
    shutil.rmtree(tmp_path / "store" / "masks")
    done = command(tmp_path, "runs", "replay", *keys, "--quiet")
    assert done.returncode == 1
    assert done.stdout.count("the same bits") == 1  # of the dense run, whichever comes first
    assert done.stderr.count("neither its bits nor how it was pruned") == 1


def test_a_recorded_run_again(tmp_path):
    """Evidence of the book, replayed: the shortest recorded ticket on MovieLens, whose data come
    with a package. The same bits on the same kind of machine, else within the tolerances."""
    store = Store(tmp_path)
    assert store.results is not None
    tickets = [
        r
        for r in store.recorded()
        if r.data["name"] == "movielens"
        and r.density < 1
        and r.init == Seeded(r.spec["training"]["order_seed"]).described()
    ]
    shortest = sorted(tickets, key=lambda r: (r.epochs, r.key))
    record = next(r for r in shortest if store.find_mask(r.mask["digest"]) is not None)
    data = load_again(record.data, record.spec["training"]["protocol"], progress=False)
    done = replay(record, data, quiet(store))
    assert done.agrees, str(done)
