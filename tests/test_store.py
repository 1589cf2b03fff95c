"""Files: all or nothing, damage detected at every byte, and runs that move between stores."""

import io
import json
import os
import pickle
import shutil
import tarfile
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from toys import PATIENCE, count_trainings, half, processes, quiet, toy_data, toy_spec, trained

from lthnb import store as store_module
from lthnb.config import Ladder, Seeded, canonical, digest_text
from lthnb.evaluation import Hits
from lthnb.lottery import climb
from lthnb.pruning import Mask
from lthnb.old_store import pack_arrays, pack_hits, seal, unpack_arrays, unpack_hits, unseal
from lthnb.store.files import DamagedFile, StoreError, write_file
from lthnb.store.records import Record
from lthnb.store.runs import Store, record_digest

KEY = "0123456789abcdef0123456789abcdef"


def record_of(key: str = KEY, **results) -> Record:
    """A small record; its key answers to nothing."""
    spec = {"model": {}, "training": {}}
    mask = {"digest": "dense", "entries": 12, "density": 1.0}
    results = {
        **{"best_epoch": 1, "epochs": 1, "test": {}, "valid": {}},
        **{"losses": [], "evaluations": [], "hits": {}},
        **results,
    }
    return Record(key, spec, {"name": "toy"}, {}, mask, {}, results, {"seconds": 1.0})


def put_mask(store: Store, kept: np.ndarray, **about) -> str:
    """Keep a mask under the key that what is said `about` its pruning has; returns the key."""
    key, mask = digest_text(canonical(about)), Mask(kept)
    store.put_mask(key, kept, {**about, "digest": mask.digest, "entries": mask.entries})
    return key


def leftovers(folder) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.is_file() and p.name.startswith(".tmp-")]


def put_record(store: Store, key: str = KEY):
    store.put(record_of(key))
    return store.folder / "runs" / key / "record"


class TestSeal:
    @given(st.binary(max_size=200))
    def test_round_trip(self, payload):
        assert unseal("record", seal("record", payload), "x") == payload

    def test_every_changed_byte_is_detected(self):
        """Each byte of a record in turn, each in three ways."""
        good = seal("record", json.dumps(asdict(record_of(hits="abc"))).encode())
        for place in range(len(good)):
            for flip in (0x01, 0x20, 0xFF):
                bad = bytearray(good)
                bad[place] ^= flip
                with pytest.raises(DamagedFile, match="some/file"):
                    unseal("record", bytes(bad), "some/file")

    def test_every_truncation_and_any_addition_is_detected(self):
        good = seal("record", b'{"key": "value"}\n')
        for length in range(len(good)):
            with pytest.raises(DamagedFile):
                unseal("record", good[:length], "x")
        for more in (b"\n", b"\0", good):
            with pytest.raises(DamagedFile):
                unseal("record", good + more, "x")

    @pytest.mark.parametrize("content", [b"", b"\n", b"PNG\r\n\x1a", b"lthnb record", b"a b c d\n"])
    def test_a_foreign_file_is_none_of_ours(self, content):
        with pytest.raises(DamagedFile, match="not a file of lthnb"):
            unseal("record", content, "x")

    def test_another_kind_is_refused(self):
        with pytest.raises(DamagedFile, match="holds 'weights', expected 'record'"):
            unseal("record", seal("weights", b""), "x")

    def test_a_newer_format_says_to_update(self, monkeypatch):
        """A good file of a later version is not damaged, and must not be set aside."""
        monkeypatch.setattr(store_module, "FORMAT", 2)
        newer = seal("record", b"{}")
        monkeypatch.undo()
        with pytest.raises(StoreError, match="format 2, this version reads 1; update lthnb") as e:
            unseal("record", newer, "x")
        assert not isinstance(e.value, DamagedFile)


class TestWriting:
    def test_writes_and_replaces(self, tmp_path):
        path = tmp_path / "a" / "b"
        for content in (b"one", b"two"):
            write_file(path, content)
            assert path.read_bytes() == content
        assert [p.name for p in path.parent.iterdir()] == ["b"]

    @pytest.mark.parametrize("broken", ["replace", "fsync"])
    @pytest.mark.parametrize(
        ("error", "seen"),
        [(OSError(5, "Input/output error"), StoreError), (KeyboardInterrupt(), KeyboardInterrupt)],
    )
    def test_a_failed_write_leaves_the_old_file_and_nothing_else(
        self, tmp_path, monkeypatch, broken, error, seen
    ):
        path = tmp_path / "file"
        write_file(path, b"old")

        def fail(*arguments):
            raise error

        monkeypatch.setattr(os, broken, fail)
        with pytest.raises(seen):
            write_file(path, b"new")
        monkeypatch.undo()
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    def test_is_on_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        """Content is flushed, then renamed, then the folder is: a power cut leaves all or none."""
        done = []
        for name in ("fsync", "replace"):
            original = getattr(os, name)
            monkeypatch.setattr(os, name, lambda *a, o=original, n=name: (done.append(n), o(*a))[1])
        write_file(tmp_path / "file", b"x")
        assert done == ["fsync", "replace", "fsync"]

    @pytest.mark.parametrize(
        "name",
        [f"runs/{KEY}/.tmp-record-x", f"masks/.tmp-{KEY}.bits-x", f"arrays/.tmp-{KEY}-x"],
    )
    def test_temporary_files_of_the_dead_go(self, tmp_path, name):
        """Whoever is alive holds the lock of the key; a Store looks at all keys when it first locks
        one, and at a key's own whenever it locks that."""
        store, alive = Store(tmp_path, results=None), Store(tmp_path, results=None)
        path = tmp_path / name
        write_file(path, b"half a rec")
        with alive.lock("a" * 32):
            assert not path.exists()
        write_file(path, b"half a rec")
        with alive.lock(KEY):
            assert not path.exists()
            write_file(path, b"being written")
            with store.lock("b" * 32):
                assert path.exists()
        with Store(tmp_path, results=None).lock("b" * 32):
            assert not path.exists()

    def test_other_files_are_no_temporary_ones(self, tmp_path):
        store = Store(tmp_path, results=None)
        path = put_record(store)
        names = [path.with_name(name) for name in ("record.damaged", "tmp-x", "weights-3")]
        for other in names:
            other.write_bytes(b"x")
        with store.lock(KEY):
            pass
        with Store(tmp_path, results=None).lock(KEY):
            assert {p.name for p in (tmp_path / "locks").iterdir()} == {f"{KEY}.lock", "probe"}
        assert all(other.exists() for other in names)
        assert store.find(KEY) == record_of()


class TestArrays:
    @settings(max_examples=25)
    @given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes()), st.booleans())
    def test_round_trip(self, values, compress):
        back = unpack_arrays(pack_arrays({"a": values, "b": np.arange(3)}, compress))
        assert back["a"].dtype == values.dtype
        assert back["a"].tobytes() == values.tobytes()
        assert back["b"].tolist() == [0, 1, 2]

    def test_nothing_is_executed(self):
        buffer = io.BytesIO()
        np.savez(buffer, a=np.array([{}], object))
        with pytest.raises(ValueError, match="pickle"):
            unpack_arrays(buffer.getvalue())

    @settings(max_examples=60)
    @given(st.data(), st.integers(0, 40), st.integers(1, 32))
    def test_hits_round_trip(self, data, users, places):
        ids = sorted(data.draw(st.sets(st.integers(0, 10**6), min_size=users, max_size=users)))
        bits = data.draw(hnp.arrays(bool, (users, places)))
        relevant = data.draw(hnp.arrays(np.int64, users, elements=st.integers(1, 10**5)))
        back = unpack_hits(json.loads(json.dumps(pack_hits(Hits(np.array(ids), bits, relevant)))))
        assert back.users.tolist() == ids
        assert back.hits.dtype == bool
        assert np.array_equal(back.hits, bits)
        assert np.array_equal(back.relevant, relevant)

    def test_array_by_digest(self, tmp_path):
        store = Store(tmp_path, results=None)
        values = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
        name = store.put_array(values)
        assert np.array_equal(store.get_array(name), values)
        assert store.put_array(np.asfortranarray(values)) == name
        assert store.put_array(values.astype("f4")) != name
        with pytest.raises(StoreError, match="put it there first"):
            store.get_array("0" * 32)

    def test_mask_round_trip(self, tmp_path):
        store = Store(tmp_path, results=None)
        kept = np.random.default_rng(0).random((7, 5)) < 0.4
        assert store.find_mask_bits(KEY) is None
        assert store.find_pruning(KEY) is None
        key = put_mask(store, kept, seed=3)
        assert np.array_equal(store.find_mask_bits(key), kept)
        found = store.find_pruning(key)
        assert found == {"seed": 3, "digest": Mask(kept).digest, "entries": int(kept.sum())}

    def test_checkpoint_round_trip(self, tmp_path):
        store = Store(tmp_path, results=None)
        assert store.find_checkpoint(KEY) is None
        store.put_checkpoint(KEY, {"table": np.arange(3.0)}, {"epoch": 2, "losses": [0.1]})
        arrays, state = store.find_checkpoint(KEY)
        assert (list(arrays), state) == (["table"], {"epoch": 2, "losses": [0.1]})
        store.drop_checkpoint(KEY)
        store.drop_checkpoint(KEY)
        assert store.find_checkpoint(KEY) is None


class TestRecords:
    def test_round_trip(self, tmp_path):
        store = Store(tmp_path, results=None)
        record = record_of(losses=[0.1 + 0.2, 1e-17])
        store.put(record)
        assert store.find(KEY) == record
        assert store.find(KEY).results_digest == record.results_digest
        assert store.run_keys() == [KEY]

    def test_results_digest_leaves_circumstances_out(self):
        record = record_of(losses=[0.5])
        assert replace(record, circumstances={"seconds": 9}).results_digest == record.results_digest
        assert record_of(losses=[0.5 + 2**-53]).results_digest != record.results_digest

    def test_a_damaged_record_is_named_and_set_aside(self, tmp_path, capsys):
        store = Store(tmp_path, results=None)
        path = put_record(store)
        path.write_bytes(path.read_bytes()[:-5])
        assert store.find(KEY) is None
        shown = capsys.readouterr().err
        assert str(path) in shown
        assert "checksum" in shown
        assert "set aside as record.damaged" in shown
        assert not path.exists()
        assert path.with_name("record.damaged").exists()

    @pytest.mark.parametrize("name", ["record", "weights-best"])
    def test_a_damaged_file_is_computed_anew(self, tmp_path, name, capsys):
        store = Store(tmp_path, results=None)
        data, spec = toy_data(), toy_spec()
        first = trained(store, data, spec)
        table = first.weights()
        path = tmp_path / "runs" / first.key / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
        again = trained(store, data, spec)
        assert again.record.results_digest == first.record.results_digest
        assert np.array_equal(again.weights(), table)
        assert str(path) in capsys.readouterr().err
        unseal(name.partition("-")[0], path.read_bytes(), "whole again")

    def test_a_damaged_checkpoint_starts_over(self, tmp_path, monkeypatch, capsys):
        store = Store(tmp_path, results=None)
        run = trained(store, toy_data(), toy_spec())
        (tmp_path / "runs" / run.key / "record").unlink()
        (tmp_path / "runs" / run.key / "checkpoint").write_bytes(b"lthnb checkpoint 1 ab\nxyz")
        again = trained(store, toy_data(), toy_spec())
        assert again.record.results_digest == run.record.results_digest
        assert "checkpoint: its checksum" in capsys.readouterr().err

    def test_a_newer_record_is_not_trained_over(self, tmp_path, monkeypatch):
        store = Store(tmp_path, results=None)
        run = trained(store, toy_data(), toy_spec())
        path = tmp_path / "runs" / run.key / "record"
        payload = unseal("record", path.read_bytes(), "x")
        monkeypatch.setattr(store_module, "FORMAT", 2)
        newer = seal("record", payload)
        monkeypatch.undo()
        path.write_bytes(newer)
        with pytest.raises(StoreError, match="update lthnb"):
            trained(store, toy_data(), toy_spec())
        assert path.read_bytes() == newer

    def test_a_key_by_its_first_digits(self, tmp_path):
        store = Store(tmp_path, results=None)
        for key in (KEY, KEY[:-1] + "0", "f" * 32):
            put_record(store, key)
        assert store.resolve("f") == "f" * 32
        assert store.resolve(KEY) == KEY
        with pytest.raises(StoreError, match="found 2 runs"):
            store.resolve("0123")
        with pytest.raises(StoreError, match="found 0 runs"):
            store.resolve("e")

    def test_remove(self, tmp_path):
        store = Store(tmp_path, results=None)
        run = trained(store, toy_data(), toy_spec())
        store.remove(run.key)
        assert store.find(run.key) is None
        assert not (tmp_path / "runs" / run.key).exists()
        with pytest.raises(StoreError, match="nothing was removed"):
            store.remove(run.key)

    def test_an_unknown_metric_names_the_known(self, tmp_path):
        record = trained(Store(tmp_path, results=None), toy_data(), toy_spec()).record
        assert record.metric("recall@20") == record.results["test"]["recall@20"]
        with pytest.raises(KeyError, match=r"no 'recall@30' on test, there is recall@5"):
            record.metric("recall@30")


class TestResultsFolder:
    def test_is_looked_up_and_never_written(self, tmp_path, monkeypatch, capsys):
        data, spec = toy_data(), toy_spec()
        first = Store(tmp_path / "one", results=None)
        run = trained(first, data, spec)
        results = tmp_path / "results" / "runs" / run.key
        results.mkdir(parents=True)
        (results / "record").write_bytes((first.folder / "runs" / run.key / "record").read_bytes())
        second = Store(tmp_path / "two", tmp_path / "results")
        keys = count_trainings(monkeypatch)
        assert trained(second, data, spec).record == run.record
        assert keys == []
        assert second.is_recorded_result(run.key)
        assert not first.is_recorded_result(run.key)
        assert [r.key for r in second.recorded(backbone="mf", data="toy0")] == [run.key]
        assert second.recorded(backbone="lightgcn") == []
        # Weights are not there: they are replayed, into the store.
        assert np.array_equal(trained(second, data, spec).weights(), run.weights())
        assert [p.name for p in results.iterdir()] == ["record"]
        # A damaged one is passed over, not touched (by a store that has not read it yet).
        (results / "record").write_bytes(b"torn")
        second = Store(tmp_path / "two", tmp_path / "results")
        assert trained(second, data, spec).record.results_digest == run.record.results_digest
        assert "passed over" in capsys.readouterr().err
        assert keys == [run.key]
        assert (results / "record").read_bytes() == b"torn"

    def test_environment_names_both(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "s"))
        monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path / "r"))
        monkeypatch.setenv("LTHNB_READ_LOG", str(tmp_path / "log"))
        store = Store()
        assert (store.folder, store.results) == (tmp_path / "s", tmp_path / "r")
        assert record_digest(KEY) is None
        put_record(store)
        assert record_digest(KEY) == record_of().results_digest
        store.find(KEY)
        assert set((tmp_path / "log").read_text().split()) == {KEY}

    def test_record_result_copies_what_is_evidence(self, tmp_path):
        store = Store(tmp_path / "s", tmp_path / "r")
        data, spec = toy_data(), toy_spec()
        mask = half(data, spec)
        run = trained(store, data, spec, mask)
        key = put_mask(store, mask.kept, seed=0)
        put_mask(store, ~mask.kept, seed=1)
        (tmp_path / "s" / "masks" / "README.txt").write_text("not ours")
        written = store.record_result(run.key)
        names = [p.relative_to(tmp_path / "r").as_posix() for p in written]
        run_files = [f"runs/{run.key}/record", f"masks/{key}", f"masks/{key}.bits"]
        assert names[2:] == run_files
        assert all(name.startswith("texts/") for name in names[:2])
        there = Store(tmp_path / "r", results=None)
        assert list(there.verify()) == []
        assert there.find(run.key) == run.record
        text = store.folder / "runs" / run.key / "record"
        assert written[2].stat().st_size < text.stat().st_size
        with pytest.raises(StoreError, match="nothing was copied"):
            store.record_result("0" * 32)

    def test_what_runs_on_a_split_have_alike_lies_once(self, tmp_path, capsys):
        store = Store(tmp_path / "s", tmp_path / "r")
        runs = [
            trained(store, data, toy_spec(), init=Seeded(seed))
            for data in (toy_data(), toy_data(seed=1))
            for seed in (0, 1)
        ]
        for run in runs:
            store.record_result(run.key)
        there = Store(tmp_path / "none", tmp_path / "r")
        assert {r.key: r for r in there.recorded()} == {run.key: run.record for run in runs}
        # Users are numbered through in both; on how many items each is tested differs.
        hits = [run.record.results["hits"] for run in runs]
        alike = {h[name] for h in hits for name in ("users", "relevant")}
        texts = sorted((tmp_path / "r" / "texts").iterdir())
        assert len(texts) == len(alike) == 3
        assert {unseal("text", p.read_bytes(), "").decode() for p in texts} == alike
        # One that is not there is named, and so are the runs that need it.
        lost = next(p for p in texts if hits[0]["relevant"].encode() in p.read_bytes())
        lost.unlink()
        there = Store(tmp_path / "none", tmp_path / "r")
        assert {r.key for r in there.recorded()} == {run.key for run in runs[2:]}
        assert f"its relevant are in {lost}, which is not there." in capsys.readouterr().err
        places = {tmp_path / "r" / "runs" / run.key / "record" for run in runs[:2]}
        assert set(dict(there.verify())) == places

    def test_what_a_page_depends_on_is_told_without_reading_records(self, tmp_path, monkeypatch):
        store = Store(tmp_path / "s", tmp_path / "r")
        run = trained(store, toy_data(), toy_spec())
        [*_, written] = store.record_result(run.key)
        there = Store(tmp_path / "none", tmp_path / "r")
        monkeypatch.setattr(store_module, "_opened", None)  # so that nothing can be
        before = record_digest(run.key, there)
        assert len(before) == 64
        assert record_digest(run.key, there) == before
        written.write_bytes(written.read_bytes() + b"x")
        assert record_digest(run.key, there) not in (before, None)
        written.unlink()
        assert record_digest(run.key, there) is None

    def test_a_record_is_read_once_and_not_sent_to_workers(self, tmp_path, monkeypatch):
        store = Store(tmp_path / "s", tmp_path / "r")
        run = trained(store, toy_data(), toy_spec())
        store.record_result(run.key)
        there = Store(tmp_path / "none", tmp_path / "r")
        before = pickle.dumps(there)
        [record] = there.recorded()
        assert record == run.record
        assert pickle.dumps(there) == before
        another = pickle.loads(before)
        monkeypatch.setattr("lthnb.store._content", lambda path: None)  # no file can be read now
        assert there.find(run.key) is record
        assert there.recorded() == [record]
        assert another.find(run.key) is None

    @pytest.mark.parametrize("said", ["../../secret", "x" * 300, "0" * 32, 7, None, ["a"]])
    def test_a_record_that_names_no_text_is_damaged(self, tmp_path, said, capsys):
        (tmp_path / "secret").write_text("not ours")
        store = Store(tmp_path / "s", tmp_path / "r")
        run = trained(store, toy_data(), toy_spec())
        plain = asdict(run.record)
        plain["results"]["hits"]["users"] = {"text": said}
        path = tmp_path / "r" / "runs" / run.key / "record"
        path.parent.mkdir(parents=True)
        path.write_bytes(seal("record", canonical(plain).encode()))
        there = Store(tmp_path / "none", tmp_path / "r")
        assert there.recorded() == []
        assert f"lthnb: {path}: " in capsys.readouterr().err
        assert set(dict(there.verify())) == {path}

    def test_a_record_without_texts_apart_is_read_too(self, tmp_path):
        store = Store(tmp_path / "s", tmp_path / "r")
        run = trained(store, toy_data(), toy_spec())
        whole = store.folder / "runs" / run.key / "record"
        shutil.copytree(whole.parent, tmp_path / "r" / "runs" / run.key)
        assert Store(tmp_path / "none", tmp_path / "r").recorded() == [run.record]

    def test_results_are_exported_as_files_that_stand_by_themselves(self, tmp_path):
        """There, records name their texts, and a mask says what is left of the one before."""
        store = Store(tmp_path / "s", tmp_path / "r")
        rungs = list(climb(Ladder("imp", 0.3, 2), toy_spec(), toy_data(), quiet(store)))
        for rung in rungs:
            store.record_result(rung.run.key)
        results = Store(tmp_path / "r", results=None)
        other = Store(tmp_path / "other", results=None)
        # The sparsest alone, but all prunings: without the mask before, its own would be no whole.
        keys = [rungs[-1].run.key]
        other.import_(results.export(keys, tmp_path / "out"))
        assert list(other.verify()) == []
        assert [other.find(key) for key in other.run_keys()] == [rungs[-1].run.record]
        assert [p.name for p in other.folder.iterdir() if p.name == "texts"] == []
        first, last = (store.prunings()[r.mask.digest][0] for r in rungs[1:])
        (other.folder / "masks" / f"{first}.bits").unlink()
        assert np.array_equal(other.find_mask_bits(last), rungs[-1].mask.kept)

    def test_a_run_on_a_stand_in_is_no_evidence(self, tmp_path):
        store = Store(tmp_path / "s", tmp_path / "r")
        data = replace(toy_data(), origin={"source": "standin-tiktok"})
        run = trained(store, data, toy_spec())
        with pytest.raises(StoreError, match="standin-tiktok, which tells what a ladder costs and"):
            store.record_result(run.key)
        assert not (tmp_path / "r").exists()


class TestVerify:
    def test_names_what_is_not_good(self, tmp_path):
        store = Store(tmp_path, results=None)
        run = trained(store, toy_data(), toy_spec())
        put_mask(store, np.eye(3, dtype=bool))
        store.put_array(np.eye(2))
        with store.lock(KEY):
            pass
        (tmp_path / "README.md").write_text("what this is")
        assert list(store.verify()) == []
        runs = tmp_path / "runs"
        misplaced = runs / ("f" * 32) / "record"
        write_file(misplaced, (runs / run.key / "record").read_bytes())
        torn = runs / run.key / "weights-best"
        torn.write_bytes(torn.read_bytes()[:-1])
        foreign = tmp_path / "masks" / "notes.txt"
        foreign.write_text("mine")
        stray = tmp_path / "stray"
        stray.write_text("")
        found = dict(store.verify())
        assert set(found) == {misplaced, torn, foreign, stray}
        assert f"is the record of {run.key}" in found[misplaced]
        assert "checksum" in found[torn]
        assert all(str(path) in what for path, what in found.items())


class TestSharing:
    @pytest.fixture
    def full(self, tmp_path):
        """A store with three trainings and two prunings."""
        store = Store(tmp_path / "full", results=None)
        for seed in range(3):
            trained(store, toy_data(), toy_spec(), init=Seeded(seed))
        for seed in range(2):
            put_mask(store, np.random.default_rng(0).random((70, 4)) < 0.5, seed=seed)
        return store

    @staticmethod
    def files(store, weights):
        return {
            p.relative_to(store.folder).as_posix(): p.read_bytes()
            for p in store.folder.rglob("*")
            if p.is_file()
            and p.parent.name != "locks"
            and (weights or not p.name.startswith("weights"))
        }

    @pytest.mark.parametrize("weights", [False, True])
    def test_round_trip_in_pieces(self, full, tmp_path, monkeypatch, weights):
        monkeypatch.setattr(store_module, "PIECE_BYTES", 32_000)
        pieces = full.export(full.run_keys(), tmp_path / "out", weights=weights)
        assert len(pieces) > 1
        assert [p.name for p in pieces][:2] == ["out-01.tar", "out-02.tar"]
        assert max(p.stat().st_size for p in pieces) <= 32_000
        other = Store(tmp_path / "other", results=None)
        expected = self.files(full, weights)
        assert other.import_(pieces) == len(expected)
        assert self.files(other, True) == expected
        assert list(other.verify()) == []

    def test_pieces_are_at_most_15_mb(self):
        assert store_module.PIECE_BYTES <= 15_000_000

    def test_what_is_chosen(self, full, tmp_path):
        key = full.run_keys()[1]
        pieces = full.export([key], tmp_path / "out")
        other = Store(tmp_path / "other", results=None)
        other.import_(pieces)
        assert other.run_keys() == [key]

    def test_what_is_here_stays(self, full, tmp_path):
        """A record that agrees is passed over; one that contradicts is refused."""
        pieces = full.export(full.run_keys(), tmp_path / "out")
        key = full.run_keys()[0]
        mine = full.find(key)
        full.import_(pieces)
        assert full.find(key) == mine
        changed = replace(mine, results={**mine.results, "best_epoch": mine.best_epoch + 1})
        full.put(changed)
        with pytest.raises(StoreError, match=r"here with other results.*runs remove"):
            full.import_(pieces)
        assert full.find(key) == changed

    def test_nothing_to_export_is_said(self, tmp_path):
        with pytest.raises(StoreError, match="none of the 1 runs lies in"):
            Store(tmp_path / "s", results=None).export([KEY], tmp_path / "out")

    def test_leftovers_are_not_exported(self, full, tmp_path):
        """A damaged file that was set aside, or one half written, must not spoil the import."""
        for folder in ("masks", f"runs/{full.run_keys()[0]}"):
            (full.folder / folder / ".tmp-weights-x").write_bytes(b"half")
            (full.folder / folder / "weights-best.damaged").write_bytes(b"torn")
        pieces = full.export(full.run_keys(), tmp_path / "out", weights=True)
        assert Store(tmp_path / "other", results=None).import_(pieces) == 3 * 2 + 2 * 2

    def test_too_large_a_file_is_named(self, full, tmp_path, monkeypatch):
        monkeypatch.setattr(store_module, "PIECE_BYTES", 2_500)
        with pytest.raises(StoreError, match=r"more than a piece.*export without weights"):
            full.export(full.run_keys(), tmp_path / "out", weights=True)

    def test_a_damaged_piece_is_refused(self, full, tmp_path):
        [piece] = full.export(full.run_keys()[:1], tmp_path / "out")
        content = bytearray(piece.read_bytes())
        content[700] ^= 1  # inside the first file
        piece.write_bytes(bytes(content))
        other = Store(tmp_path / "other", results=None)
        with pytest.raises(DamagedFile, match=r"out-01\.tar: runs/"):
            other.import_([piece])
        assert other.run_keys() == []

    def test_a_piece_that_is_no_tar_is_refused(self, tmp_path):
        (tmp_path / "piece").write_bytes(b"no tar at all")
        with pytest.raises(DamagedFile, match="piece"):
            Store(tmp_path / "other", results=None).import_([tmp_path / "piece"])

    @pytest.mark.parametrize(
        "name",
        [
            "../outside",
            "runs/../../outside",
            "/tmp/outside-of-the-store",
            f"runs/{KEY}/../../../outside",
            "runs/../weights-best",
            "notes/x",
            f"runs/{KEY}/script.py",
            "record",
        ],
    )
    def test_other_names_are_refused(self, tmp_path, name):
        buffer = io.BytesIO()
        content = seal("weights" if "weights" in name else "record", b"{}")
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        piece = tmp_path / "piece.tar"
        piece.write_bytes(buffer.getvalue())
        with pytest.raises(DamagedFile):
            Store(tmp_path / "a" / "b" / "store", results=None).import_([piece])
        assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["piece.tar"]

    def test_links_are_refused(self, tmp_path):
        piece = tmp_path / "piece.tar"
        with tarfile.open(piece, "w") as tar:
            info = tarfile.TarInfo(f"runs/{KEY}/record")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(info)
        with pytest.raises(DamagedFile, match="no file of a store"):
            Store(tmp_path / "store", results=None).import_([piece])

    def test_a_record_under_another_key_is_refused(self, full, tmp_path):
        """Else a result would be shown for a run that it does not belong to."""
        [key, *_] = full.run_keys()
        piece = tmp_path / "piece.tar"
        with tarfile.open(piece, "w") as tar:
            tar.add(full.folder / "runs" / key / "record", f"runs/{KEY}/record")
        other = Store(tmp_path / "other", results=None)
        with pytest.raises(DamagedFile, match=f"is the record of {key}"):
            other.import_([piece])
        assert other.run_keys() == []


def ask(folder, ready, go, out):
    """Ask for a training that takes a while, together with another process."""
    from lthnb import training

    original = training._train

    def slowly(*arguments):
        out.put("trained")
        time.sleep(0.5)
        return original(*arguments)

    training._train = slowly
    ready.release()
    go.wait()
    out.put(trained(Store(folder, results=None), toy_data(), toy_spec()).record.results_digest)


def test_two_processes_train_it_once(tmp_path):
    """Both ask for the same training at the same moment: one waits, and finds it done."""
    context = processes()
    ready, go, out = context.Semaphore(0), context.Event(), context.Queue()
    asking = [context.Process(target=ask, args=(tmp_path, ready, go, out)) for _ in range(2)]
    for process in asking:
        process.start()
    for _ in asking:
        assert ready.acquire(timeout=PATIENCE)
    go.set()
    said = [out.get(timeout=PATIENCE) for _ in range(3)]
    for process in asking:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert out.empty()
    assert said[0] == "trained"
    assert said[1] == said[2] != "trained"
    assert leftovers(tmp_path) == []
