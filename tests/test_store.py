"""The store: files all or nothing, one's own runs, and the recorded tables."""

import errno
import os
import re
import shutil
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import PATIENCE, environment, half, processes, quiet, toy_data, toy_spec, trained

from lthnb import training
from lthnb.config import Schedule, digest_text
from lthnb.control import Stopped
from lthnb.lottery import rounds_of
from lthnb.pruning import Mask
from lthnb.store import adding
from lthnb.store.files import DamagedFile, StoreError, write_file
from lthnb.store.records import NESTED, RUN_COLUMNS, SEARCH_COLUMNS
from lthnb.store.results import IDENTITY, SCHEMAS, Recorded, results
from lthnb.store.runs import Store

DATA, SPEC = toy_data(), toy_spec()
KEY = "0123456789abcdef0123456789abcdef"


def search(store: Store, seed: int, rounds: int) -> list:
    schedule, spec = Schedule("imp", 0.5, rounds, seed=seed), toy_spec(order_seed=seed)
    return list(rounds_of(schedule, spec, DATA, quiet(store)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two searches, one with a round more, in a store and in recorded tables. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    store = Store(folder / "store", folder / "results")
    for seed, rounds in ((0, 2), (1, 3)):
        search(store, seed, rounds)
    adding.add(store, store.own_keys())
    return folder


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """A copy of them, to be spoiled."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "copy" / "store"))
    monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path / "copy" / "results"))
    return Store()


def files(folder) -> dict[str, bytes]:
    """Every file of a folder, locks left out, and what it holds."""
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.parent.name != "locks"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("broken", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken, error):
    write_file(tmp_path / "file", b"old")
    monkeypatch.setattr(os, broken, mock.Mock(side_effect=error))
    with pytest.raises((StoreError, KeyboardInterrupt)):
        write_file(tmp_path / "file", b"new")
    assert files(tmp_path) == {"file": b"old"}


def test_a_full_disk_names_file_reason_and_remedy_and_leaves_nothing(store, monkeypatch):
    record = trained(store, DATA, SPEC).record
    before = files(store.folder)
    refusal = mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    monkeypatch.setattr(os, "fsync", refusal)
    for write in (
        lambda: store.put(record.row | {"key": KEY}, record.nested),
        lambda: store.put_weights(KEY, 2, np.zeros(9)),
        lambda: store.put_mask(half(DATA, SPEC), {"criterion": "given"}),
        lambda: store.put_search({"search": KEY, "round": 0, "density": 1.0}),
    ):
        with pytest.raises(StoreError, match=r"No space left on device.*LTHNB_STORE") as refused:
            write()
        assert str(refused.value).startswith(str(store.folder))
        assert files(store.folder) == before


def test_copied_folder_of_a_run_is_named_and_counts_for_nothing(copy, capsys):
    runs = copy.folder / "runs"
    shutil.copytree(runs / copy.own_keys()[0], runs / KEY)
    assert [str(runs / KEY / "row.json") in what for what in copy.verify()] == [True]
    assert copy.find(KEY) is None
    assert not results(live=True)["live"].any()
    assert str(runs / KEY) in capsys.readouterr().err


def test_masks_read_back_the_same_and_no_others(store):
    mask = half(DATA, SPEC)
    about = store.put_mask(mask, {"criterion": "given"})
    assert about == {"criterion": "given", "digest": mask.digest, "entries": mask.entries}
    assert np.array_equal(store.find_mask(about, mask.shape).kept, mask.kept)
    other = {**about, "digest": Mask(~mask.kept).digest}  # that this pruning gave elsewhere
    assert store.find_mask(other, mask.shape) is None


def test_rows_of_a_search_are_written_once(store):
    search(store, 0, 2)
    before = files(store.folder)
    kinds = sorted((row["method"], row["round"]) for row in store.searches())
    assert kinds == [("dense", 0), ("imp", 0), ("imp", 1), ("imp", 2)]
    search(store, 0, 2)
    assert files(store.folder) == before


def ask(folder, both, out):
    """Ask for a training that takes a while, at the same moment as another process."""
    original = training.compute

    def slowly(*arguments):
        out.put("trained")
        time.sleep(0.5)
        return original(*arguments)

    training.compute = slowly
    both.wait(PATIENCE)
    out.put(trained(Store(folder, results=None), DATA, SPEC).record.results_digest)


def test_two_processes_that_ask_for_one_training_train_it_once(tmp_path):
    context = processes()
    both, out = context.Barrier(2), context.Queue()
    asking = [context.Process(target=ask, args=(tmp_path, both, out)) for _ in range(2)]
    for process in asking:
        process.start()
    said = [out.get(timeout=PATIENCE) for _ in range(3)]
    for process in asking:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert said[0] == "trained"
    assert said[1] == said[2] != "trained"


def test_a_wait_for_another_process_is_said_and_ended_by_stop(store, monkeypatch, capsys):
    monkeypatch.setattr("lthnb.store.runs.SAY_AFTER", 0.0)
    key = trained(Store(store.folder / "whole", results=None), DATA, SPEC).key
    with Store(store.folder, results=None).lock(key), pytest.raises(Stopped) as stopped:
        trained(store, DATA, SPEC, deadline=0.0)
    assert (stopped.value.reason, stopped.value.epoch) == ("time budget", None)
    assert f"run {key[:8]}: another process is training it" in capsys.readouterr().err
    assert trained(store, DATA, SPEC).key == key


def test_added_runs_read_back_equal_and_stand_in_the_table(copy):
    frame, recorded = results(), Recorded()
    assert set(frame) == {*SEARCH_COLUMNS, *RUN_COLUMNS}
    assert sorted(set(frame["key"])) == copy.own_keys()
    imp = frame.query("method == 'imp'")  # the seed with a round more hides no other seed
    rounds = sorted(zip(imp["seed"], imp["round"], strict=True))
    assert rounds == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)]
    for own, there in [(copy.find(key), recorded.find(key)) for key in copy.own_keys()]:
        assert there.row == own.row
        assert all(np.array_equal(there.nested[n], own.nested[n]) for n in NESTED)
    assert list(adding.verify(copy.results)) == []


def test_masks_of_the_lowest_seed_come_along_and_tables_when_asked_for(copy):
    only = Store(copy.folder / "none")
    pruned = [r for key in copy.own_keys() if (r := copy.find(key)).pruning]
    assert {r.row["seed"] for r in pruned if only.find_mask(r.pruning, r.shape)} == {0}
    for r in [r for r in pruned if r.row["seed"] == 0]:
        assert only.find_mask(r.pruning, r.shape).digest == r.row["mask_digest"]
    adding.add_table(copy, key := pruned[0].key)
    stores = Store(copy.folder / "none"), copy
    assert np.array_equal(*(s.find_weights(key, "best") for s in stores))


def same_table(before) -> None:
    frames = [f.sort_values(IDENTITY, ignore_index=True) for f in (before, results(nested=True))]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_compact_keeps_the_table_equal(copy):
    for seed in (2, 3):
        search(copy, seed, 1)
        assert adding.add(copy, copy.own_keys()) != []
        assert adding.add(copy, copy.own_keys()) == []  # once
    before, count = results(nested=True), len(files(copy.results))
    assert adding.compact(copy.results) != []
    same_table(before)
    assert len(files(copy.results)) < count
    assert list(adding.verify(copy.results)) == []
    assert adding.compact(copy.results) == []


@pytest.mark.parametrize("call", ["write_manifest", "Path.unlink"])
def test_stopped_merge_changes_no_result(copy, monkeypatch, call):
    search(copy, 2, 1)
    adding.add(copy, copy.own_keys())
    before = results(nested=True)
    with monkeypatch.context() as patch:
        patch.setattr(f"lthnb.store.adding.{call}", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adding.compact(copy.results)
    same_table(before)
    assert all("does not list it" in what for what in adding.verify(copy.results))


def rewrite(kind, change):
    """Spoils a recorded folder: its rows of a kind are changed, and all checksums fit again."""

    def spoil(folder) -> None:
        [path] = folder.glob(f"*/*.{kind}.parquet")
        rows = pq.read_table(path).to_pylist()
        change(rows)
        adding.write_parquet(path, pa.Table.from_pylist(rows, SCHEMAS[kind]))
        adding.write_manifest(folder, sums := Recorded(folder).sums, map(folder.joinpath, sums))

    return spoil


def scaled(name):
    return rewrite("runs", lambda rows: rows[-1].update({name: rows[-1][name] * 1.5}))


@pytest.mark.parametrize(
    ("says", "spoil"),
    [
        ("splits.parquet: is not there or not", lambda f: next(f.glob("*/*.splits.*")).unlink()),
        ("stray: SHA256SUMS does not list it", lambda f: (f / "stray").write_bytes(b"")),
        ("stand twice", rewrite("runs", lambda rows: rows.append(rows[0]))),
        ("stand twice", rewrite("searches", lambda rows: rows.append(rows[0]))),
        ("l2 is .*, expected", scaled("l2")),
        ("ndcg@20 is .*, expected", scaled("ndcg@20")),
        ("results_digest is .*, expected", scaled("valid_mrr@5")),
        ("not both", rewrite("searches", lambda rows: rows.clear())),
        ("not both", rewrite("runs", lambda rows: rows.pop())),
    ],
)
def test_verify_finds_in_recorded_tables(copy, spoil, says):
    spoil(copy.results)
    assert any(re.search(says, what) for what in adding.verify(copy.results))
    if says == "stand twice":
        with pytest.raises(DamagedFile, match=says):
            results()


def test_verify_passes_over_benchmarks_of_ones_own(copy):
    (copy.results / "benchmarks").mkdir()
    (copy.results / "benchmarks" / "mine.json").write_text("{}")
    assert list(adding.verify(copy.results)) == []


def test_live_runs_are_told_apart_and_recorded_ones_counted_once(copy):
    search(copy, 2, 1)
    recorded, frame = results(), results(live=True)
    assert not frame.duplicated(IDENTITY).any()
    assert len(frame) == len(recorded) + 3
    assert set(frame[frame["live"]]["seed"]) == {2}
    assert sorted(frame[~frame["live"]]["key"]) == sorted(recorded["key"])


def test_unique_has_a_row_a_run_and_nested_its_arrays(copy):
    frame = results(unique=True, nested=True)
    assert sorted(frame["key"]) == copy.own_keys()
    assert list(frame) == [*RUN_COLUMNS, *NESTED]
    for row in frame.to_dict("records"):
        assert len(row["losses"]) == row["epochs"]
        assert len(row["hits"]) == len(row["tested_users"]) == row["users_tested"]


def test_results_load_no_torch(made):
    code = "import sys, lthnb; lthnb.results(); sys.exit('torch' in sys.modules)"
    words = [sys.executable, "-c", code]
    assert subprocess.run(words, env=environment(made), timeout=PATIENCE).returncode == 0


def test_recorded_keys_of_the_project_follow_from_their_texts_and_all_runs_have_a_search(root):
    recorded = Recorded(root / "results")
    texts = recorded.runs["key_text"].to_pylist()
    assert [*map(digest_text, texts)] == recorded.runs["key"].to_pylist()
    frame = results(folder=root / "results")
    assert set(frame["key"]) == set(recorded.places)
    assert len(frame) == recorded.searches.num_rows
    assert not frame.duplicated(IDENTITY).any()


def test_of_two_checkpoints_the_later_good_one_counts(store, monkeypatch):
    """Killed after a checkpoint was written, before the one before it was removed."""
    with monkeypatch.context() as patch:
        patch.setattr(store, "drop_checkpoint", lambda *args, **more: None)
        for epoch in (9, 10):
            store.put_checkpoint("a" * 32, {"x": np.array([epoch])}, {"epoch": epoch})
    assert store.find_checkpoint("a" * 32)[1] == {"epoch": 10}
    [later] = store.folder.glob("runs/*/checkpoint-000010.safetensors")
    later.write_bytes(later.read_bytes()[:-1])
    assert store.find_checkpoint("a" * 32)[1] == {"epoch": 9}
