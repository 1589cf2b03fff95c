"""Runs trained again from what their rows say of them, and compared with what came out."""

import shutil

import numpy as np
import pytest
from toys import BRIEF, TINY, half, quiet, record_all, toy_data, toy_spec, trained

from lthnb import config
from lthnb.__main__ import main
from lthnb.config import Compressed, Rotated, Schedule, Seeded, Snapshot
from lthnb.data import DataError
from lthnb.experiments.replays import compare, replay
from lthnb.kept import TrainedRun
from lthnb.lottery import rounds_of
from lthnb.sampling import initial_table
from lthnb.store.files import StoreError
from lthnb.store.records import Record
from lthnb.store.results import results
from lthnb.store.runs import Store
from lthnb.thinning import data_again

DATA, SPEC = toy_data(), toy_spec(step="cpu")


def searched(schedule, store):
    return list(rounds_of(schedule, SPEC, DATA, quiet(store)))


def bare(store):
    """A store that has the records of another, neither weights nor masks."""
    return record_all(store, masks=False)


SCHEDULES = [Schedule(method, 0.4, 2) for method in ("imp", "omp", "rp")]
SCHEDULES += [
    Schedule("imp", 0.4, 2, rewind=rewind, rewind_epoch=2)
    for rewind in ("reinit", "continue", "late")
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.method} {s.rewind}")
def test_runs_whose_masks_and_weights_are_not_kept_are_made_again_to_the_same_bits(store, schedule):
    """With the chain of trainings and prunings that they come from."""
    rounds, only = searched(schedule, store), bare(store)
    last = rounds[-1]
    if schedule.method != "rp":
        assert only.find_mask(last.run.record.pruning, last.run.record.shape) is None
    for one in reversed(rounds):
        done = replay(only.find(one.run.key), DATA, quiet(only))
        assert (done.same_bits, done.agrees, done.loss, done.users) == (True, True, 0.0, 0)
    assert np.array_equal(only.find_weights(last.run.key, "best"), last.run.weights())


def test_a_start_that_is_made_from_another_is_found_again(store):
    first = trained(store, DATA, SPEC).record
    turn = store.put_array(np.linalg.qr(initial_table(0, 4, 4))[0])
    for base in (Seeded(1), Snapshot(first.key, "best")):
        run = trained(store, DATA, SPEC, init=Rotated(base, turn))
        assert replay(run.record, DATA, quiet(store)).agrees


def test_lcm_is_made_again_within_the_tolerances(store):
    teacher = trained(store, DATA, toy_spec(size=8))
    lcm = toy_spec(size=4).with_model(compression="linear")
    run = trained(store, DATA, lcm, init=Compressed(teacher.key, 0))
    assert (only := bare(store)).own_keys() == []
    assert replay(only.find(run.key), DATA, quiet(only)).agrees


def test_weights_and_masks_that_are_not_kept_are_said_and_made_on_demand(store):
    last = searched(Schedule("imp", 0.4, 2), store)[-1]
    only = bare(store)
    run = TrainedRun(only.find(last.run.key), DATA, quiet(only))
    about, shape = run.record.pruning, run.record.shape
    assert (run.record.density, only.find_mask(about, shape)) == (last.row["density"], None)
    with pytest.raises(StoreError, match=r"\.ensure_weights\('best'\)"):
        run.weights()
    assert np.array_equal(run.ensure_weights(), last.run.weights())
    assert run.ensure_weights(1).shape == run.weights().shape
    for mask in (run.ensure_mask(), only.find_mask(about, shape)):
        assert np.array_equal(mask.kept, last.run.ensure_mask().kept)


def test_a_mask_that_comes_out_otherwise_is_not_trained(store, monkeypatch):
    last = searched(Schedule("imp", 0.4, 1), store)[-1]
    only = bare(store)
    monkeypatch.setattr(TrainedRun, "ensure_weights", lambda *a: initial_table(3, 70, 4))
    says = f"mask {last.run.record.mask_digest[:8]}: pruned again from run"
    with pytest.raises(StoreError, match=says):
        replay(only.find(last.run.key), DATA, quiet(only))


def test_what_cannot_be_replayed_is_said(store, monkeypatch):
    record = trained(store, DATA, SPEC).record
    given = trained(store, DATA, SPEC, mask=half(DATA, SPEC)).record
    assert replay(given, DATA, quiet(store)).same_bits  # its mask is in this store
    with pytest.raises(DataError, match=f"those of the record {DATA.digest[:8]}"):
        replay(record, toy_data(seed=3), quiet(store))
    with pytest.raises(StoreError, match="criterion 'given'"):
        replay(given, DATA, quiet(bare(store)))
    monkeypatch.setitem(config.NUMERICS, "model", 99)
    with pytest.raises(StoreError, match="nothing to compare"):
        replay(record, DATA, quiet(store))


def test_other_bits_are_judged_by_the_tolerances(store):
    record = trained(store, DATA, SPEC).record

    def other(nested=(), **row):
        row = record.row | {"results_digest": "other"} | row
        return Record(row, lambda: record.nested | dict(nested))

    losses, hits = record.nested["losses"], record.nested["hits"] ^ (np.arange(40) < 3)
    near = compare(other({"losses": losses * (1 + 1e-6)}), record)
    assert (near.same_bits, near.agrees) == (False, True)
    assert near.loss == pytest.approx(1e-6, rel=1e-3)
    assert not compare(other({"losses": losses * 1.01}), record).agrees
    assert not compare(other(**{"recall@20": record.row["recall@20"] * 0.9}), record).agrees
    assert compare(other({"hits": hits}), record).users == 3


def test_from_the_command_line(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LTHNB_STORE", str(store.folder))
    monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path / "results"))
    assert main([*TINY, *BRIEF, "--rounds", "1"]) == 0
    shutil.rmtree(store.folder / "masks")
    assert main(["results", "replay", *store.own_keys(), "--quiet"]) == 0
    assert capsys.readouterr().out.count("the same bits") == 2


def test_a_recorded_run_again(tmp_path):
    """Evidence of the book: the shortest recorded ticket on MovieLens, whose data come with a
    package. The same bits on the same kind of machine, else within the tolerances."""
    store = Store(tmp_path)
    frame = results(unique=True).query("dataset == 'movielens' and density < 1")
    frame = frame[frame["init_seed"] == frame["seed"]].sort_values(["epochs", "key"])
    records = map(store.find, frame["key"])
    record = next(one for one in records if store.find_mask(one.pruning, one.shape))
    data = data_again(record, quiet(store))
    assert replay(record, data, quiet(store)).agrees
