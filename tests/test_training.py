"""The training loop: memoised, stopped and resumed to the same bits, and its choice of epochs."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from toys import (
    BRIEF,
    PATIENCE,
    TINY,
    count_epochs,
    count_trainings,
    environment,
    half,
    interactions,
    quiet,
    toy_data,
    toy_spec,
    trained,
)

from lthnb.__main__ import main
from lthnb.config import Dynamic, Rotated, Seeded, Snapshot
from lthnb.control import Stopped
from lthnb.data import DataError, to_csr
from lthnb.kept import initialise
from lthnb.kernels import new_step
from lthnb.kernels.ranking import evaluate
from lthnb.sampling import initial_table
from lthnb.store.files import StoreError
from lthnb.store.records import Record
from lthnb.store.runs import Store
from lthnb.training import Diverged


def resumed(store, data, spec, mask=None, init=None, **settings):
    """Train with an order to stop at every epoch's end, again and again, each time in a store read
    anew; how often it stopped."""
    stops = []
    while True:
        try:
            again = Store(store.folder, results=None)
            run = trained(again, data, spec, mask, init, deadline=0.0, **settings)
        except Stopped as stopped:
            stops.append(stopped)
            continue
        assert [stopped.epoch for stopped in stops] == list(range(1, len(stops) + 1))
        assert {stopped.reason for stopped in stops} == {"time budget"}
        assert all("run the same command again" in str(stopped) for stopped in stops)
        return run, len(stops)


class TestMemory:
    def test_what_is_no_part_of_the_key_changes_nothing(self, store, monkeypatch):
        first = trained(store, toy_data(), toy_spec())
        epochs = count_epochs(monkeypatch)
        trained(store, toy_data(), toy_spec(), checkpoint_seconds=0, keep=(1,), deadline=0.0)
        assert epochs == []
        assert first.spec.training.step == "reference"

    @pytest.mark.parametrize(
        "change",
        [
            {"spec": toy_spec(order_seed=1)},
            {"data": toy_data(seed=1)},
            {"init": Seeded(1)},
            {"mask": half(toy_data(), toy_spec())},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_each_of_the_four_is_another_training(self, store, monkeypatch, change):
        keys = count_trainings(monkeypatch)
        base = {"data": toy_data(), "spec": toy_spec()}
        a = trained(store, **base)
        b = trained(store, **{**base, **change})
        assert len(set(keys)) == 2
        assert a.record.row["recall@20"] != b.record.row["recall@20"]


CASES = {
    "mf": toy_spec(),
    "lightgcn": toy_spec("lightgcn"),
    "mf by hand": toy_spec(step="cpu"),
    "lightgcn by hand": toy_spec("lightgcn", step="cpu"),
    "float64": toy_spec(dtype="float64"),
    "every other epoch": toy_spec(evaluate_every=2, epochs=5, patience=5),
    "patience": toy_spec(learning_rate=0.5, epochs=9, patience=2),
    "rowwise": toy_spec(optimizer="rowwise-adam"),
    "descent": toy_spec(optimizer="sgd", learning_rate=1.0),
    "thresholds": toy_spec().with_model(compression="threshold"),
    "moving mask": replace(toy_spec("lightgcn"), policy=Dynamic(0.5, every=1, until=3)),
    "moving mask by hand": replace(toy_spec(step="cpu"), policy=Dynamic(0.5, every=1, until=3)),
}


class TestResuming:
    @pytest.mark.parametrize("name", CASES)
    def test_stopped_after_each_epoch_it_goes_on_to_the_same_bits(
        self, store, tmp_path, monkeypatch, name
    ):
        """No epoch is trained twice; the checkpoint goes; tables that are to be kept are kept."""
        data, spec = toy_data(), CASES[name]
        mask = half(data, spec) if spec.model.compression == "none" else None
        whole = trained(store, data, spec, mask)
        tables = {epoch: whole.ensure_weights(epoch) for epoch in ("best", "last", 2)}
        epochs = count_epochs(monkeypatch)
        apart = Store(tmp_path / "b", None)
        parts, stops = resumed(apart, data, spec, mask, keep=("last", 2))
        assert epochs == list(range(stops)) == list(range(whole.record.epochs))
        assert parts.record.results_digest == whole.record.results_digest
        assert apart.find_checkpoint(parts.key) is None
        for epoch, table in tables.items():
            assert np.array_equal(parts.weights(epoch), table)

    def test_a_checkpoint_of_another_version_starts_over(self, store, capsys):
        with pytest.raises(Stopped) as stopped:
            trained(store, toy_data(), toy_spec(), deadline=0.0)
        arrays, state = store.find_checkpoint(stopped.value.key)
        store.put_checkpoint(stopped.value.key, arrays, {**state, "another": 1})
        with pytest.raises(Stopped, match="after epoch 1"):
            trained(store, toy_data(), toy_spec(), deadline=0.0)
        assert "another version" in capsys.readouterr().err

    def test_a_checkpoint_that_a_kill_left_behind_goes(self, store):
        """Killed after the record was written, before the checkpoint was removed."""
        run = trained(store, toy_data(), toy_spec())
        store.put_checkpoint(run.key, {}, {"epoch": 4})
        trained(store, toy_data(), toy_spec())
        assert store.find_checkpoint(run.key) is None

    def test_without_its_owner_it_stops(self, store):
        with pytest.raises(Stopped, match="terminated"):
            trained(store, toy_data(), toy_spec(), owner=-1)
        trained(store, toy_data(), toy_spec(), owner=os.getppid())

    def test_a_second_signal_ends_it_at_once(self, store, monkeypatch):
        from lthnb.kernels.reference import ReferenceStep

        def impatient(self, epoch):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)

        monkeypatch.setattr(ReferenceStep, "run_epoch", impatient)
        with pytest.raises(KeyboardInterrupt):
            trained(store, toy_data(), toy_spec())


LONG = ["--set", "epochs=100000", "--set", "patience=100000"]

# The command line as it is, but for a word at the beginning of an epoch.
SAY_WHEN = """
import sys
from lthnb.__main__ import main
from lthnb.kernels.cpu import CpuStep
original = CpuStep.run_epoch
def run_epoch(self, epoch):
    if epoch == 1:
        print("training", flush=True)
    return original(self, epoch)
CpuStep.run_epoch = run_epoch
sys.exit(main(sys.argv[1:]))
"""


def digest_of(step: str, backbone: str) -> str:
    """Of a run whose batches and tables are beyond the 32,768 numbers from where on torch cuts its
    sums by threads."""
    data = toy_data(300, 1200, 0.03)
    settings = {"batch_size": 2048, "l2": 0.5, "epochs": 2, "patience": 2}
    spec = toy_spec(backbone, 32, step=step, **settings)
    with tempfile.TemporaryDirectory() as folder:
        run = trained(Store(folder, results=None), data, spec, half(data, spec))
        return run.record.results_digest


@pytest.mark.parametrize("step", ["reference", "cpu"])
@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_threads_do_not_change_a_bit(step, backbone):
    """One thread and two: torch and MKL with it, and numba."""
    digests, before = set(), (torch.get_num_threads(), numba.get_num_threads())
    for threads in (1, 2):
        torch.set_num_threads(threads)
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        digests.add(digest_of(step, backbone))
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])
    assert len(digests) == 1


class TestProcesses:
    @pytest.mark.parametrize(
        ("number", "code", "reason"),
        [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
    )
    def test_signal_to_the_command(self, tmp_path, number, code, reason):
        """It ends in order with its own exit code, says how to go on, and leaves a checkpoint."""
        process = subprocess.Popen(
            [sys.executable, "-c", SAY_WHEN, *TINY, *LONG],
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "training\n", process.stderr.read()
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, err
        assert f"stopped ({reason})" in err
        assert "run the same command again" in err
        assert "Traceback" not in err
        assert len(list(tmp_path.glob("store/runs/*/checkpoint-*.safetensors"))) == 1
        assert list(tmp_path.glob("store/runs/*/row.json")) == []

    def test_time_budget_and_the_same_command_again(self, tmp_path, monkeypatch, capsys):
        words, digests = [*TINY, *BRIEF, "--set", "epochs=6"], []
        monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path / "results"))
        for name, budgets in (("whole", [None]), ("parts", [0, 0, 0, None])):
            monkeypatch.setenv("LTHNB_STORE", str(tmp_path / name))
            for budget in budgets:
                given = [] if budget is None else ["--time-budget", str(budget)]
                assert main([*words, *given]) == (0 if budget is None else 75)
            store = Store(tmp_path / name, None)
            digests.append([store.find(key).results_digest for key in store.run_keys()])
        assert digests[0] == digests[1]
        shown = capsys.readouterr().err
        assert [f"after epoch {n} of" in shown for n in (1, 2, 3, 4)] == [True] * 3 + [False]


ONLY_TRAIN = toy_data().for_protocol("paper")


class TestProtocols:
    @pytest.mark.parametrize(
        ("data", "protocol", "size", "message"),
        [
            (toy_data(), "paper", 4, "valid still has"),
            (ONLY_TRAIN, "validated", 4, "valid is"),
            (replace(ONLY_TRAIN, test=ONLY_TRAIN.valid), "paper", 4, "test is empty"),
            (toy_data(), "validated", 5, r"mask: found shape \(70, 5\), expected \(70, 4\)"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, store, data, protocol, size, message):
        spec = toy_spec(protocol=protocol)
        with pytest.raises(DataError, match=message):
            trained(store, data, spec, half(data, toy_spec(size=size)))

    def test_paper_chooses_on_test_and_has_no_metrics_on_valid(self, store):
        record = trained(store, ONLY_TRAIN, toy_spec(protocol="paper")).record
        assert record.row["recall@20"] == max(record.nested["evaluated_recall"])
        assert record.row["valid_recall@20"] is None

    def test_without_any_test_pair_there_are_no_test_metrics(self, store):
        data = toy_data()
        data = replace(data, test=to_csr([], [], data.test.shape))
        record = trained(store, data, toy_spec()).record
        assert record.row["recall@20"] is None
        assert record.row["users_tested"] == 0


def test_losses_of_a_replay_are_compared_with_the_record(store):
    """Weights that are gone are trained again, and must be those of the record."""
    run = trained(store, toy_data(), toy_spec())
    path = store.folder / "runs" / run.key / "weights-best.safetensors"
    path.unlink()
    nested = {**run.record.nested, "losses": 1.01 * run.record.nested["losses"]}
    with pytest.raises(StoreError, match=r"replayed, epoch 1 has loss .* recorded is"):
        replace(run, record=Record(run.record.row, lambda: nested)).ensure_weights()
    assert not path.exists()


class TestEpochs:
    def history(self, run):
        nested = run.record.nested
        names = ("evaluated_epochs", "evaluated_recall")
        return list(zip(*(nested[name].tolist() for name in names), strict=True))

    def test_the_best_on_valid_counts_and_test_is_scored_with_it(self, store):
        data, spec = toy_data(), toy_spec(epochs=8, patience=8, learning_rate=0.1)
        run = trained(store, data, spec, half(data, spec))
        history = self.history(run)
        best = max(value for _, value in history)
        assert run.record.best_epoch == next(e for e, value in history if value == best)
        assert 1 < run.record.best_epoch < 8, "choose another toy: the best must lie in between"
        # Trained anew up to that epoch, by the step alone:
        step = new_step(spec, data, initial_table(0, data.rows, 4), run.ensure_mask().kept)
        for epoch in range(run.record.best_epoch):
            loss = step.run_epoch(epoch)
            assert loss == run.record.nested["losses"][epoch]
        assert np.array_equal(step.weights(), run.weights())
        for part, prefix in (("test", ""), ("valid", "valid_")):
            means = evaluate(step.outputs(), data, part).means()
            assert {name: run.record.row[prefix + name] for name in means} == means
        assert run.record.row["valid_recall@20"] == best
        assert np.array_equal(run.record.hits().hits, evaluate(step.outputs(), data, "test").hits)
        assert torch.equal(run.outputs(), step.outputs())

    def test_patience(self, store):
        """It ends as many epochs after the best one, and never later."""
        spec = toy_spec(epochs=60, patience=3, learning_rate=0.3)
        record = trained(store, toy_data(), spec).record
        assert record.epochs == record.best_epoch + 3 < 60
        assert len(record.nested["losses"]) == record.epochs

    def test_a_prefix_is_the_same(self, store):
        """Patience and J change when a training ends, not what it computes until then."""
        long = trained(store, toy_data(), toy_spec(epochs=6, patience=6))
        short = trained(store, toy_data(), toy_spec(epochs=3, patience=6))
        assert self.history(long)[:3] == self.history(short)

    @pytest.mark.parametrize(
        ("every", "epochs", "expected"), [(2, 5, [2, 4, 5]), (3, 6, [3, 6]), (9, 4, [4])]
    )
    def test_evaluate_every(self, store, every, epochs, expected):
        """The last epoch is always evaluated."""
        spec = toy_spec(evaluate_every=every, epochs=epochs, patience=10)
        run = trained(store, toy_data(), spec)
        assert [epoch for epoch, _ in self.history(run)] == expected
        each = trained(store, toy_data(), toy_spec(epochs=epochs, patience=10))
        assert set(self.history(run)) <= set(self.history(each))

    def test_a_loss_that_is_no_number_is_refused(self, store):
        with pytest.raises(Diverged, match=r"epoch 1 is (nan|inf); lower the learning rate"):
            trained(store, toy_data(), toy_spec(l2=1e38, learning_rate=1e30))
        assert store.run_keys() == []


class TestWeights:
    def test_kept_tables_are_the_replayed_ones(self, store, tmp_path, monkeypatch):
        data, spec = toy_data(), toy_spec()
        kept = trained(store, data, spec, keep=("last", 2))
        names = sorted(p.name for p in (store.folder / "runs" / kept.key).iterdir())
        files = [f"weights-{epoch}.safetensors" for epoch in (2, 4, "best")]
        assert [n for n in names if n in files or "checkpoint" in n] == files
        epochs = count_epochs(monkeypatch)
        plain = trained(Store(tmp_path / "b", None), data, spec)
        del epochs[:]
        for epoch in (2, "last", 4, "best"):
            assert np.array_equal(kept.weights(epoch), plain.ensure_weights(epoch))
        assert epochs == [0, 1, 0, 1, 2, 3]  # two replays; afterwards the store has them
        assert not np.array_equal(kept.weights(2), kept.ensure_weights(3))

    @pytest.mark.parametrize("epoch", [0, 5, -1, "first", 1.5, None])
    def test_epochs_that_were_not_run_are_refused(self, store, epoch):
        with pytest.raises(ValueError, match="expected 'best', 'last' or 1 … 4"):
            trained(store, toy_data(), toy_spec()).weights(epoch)


class TestStarts:
    def test_rotated(self, store):
        rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
        init, start = Rotated(Seeded(3), store.put_array(rotation)), initial_table(3, 70, 4)
        table = initialise(init, toy_data(), 4, quiet(store))
        assert np.allclose(table, start @ rotation, atol=1e-15)
        assert np.allclose(table @ table.T, start @ start.T)  # a rotation changes no score
        with pytest.raises(StoreError, match="put it there first"):
            initialise(Rotated(Seeded(0), "0" * 32), toy_data(), 4, quiet(store))

    def test_snapshot(self, store):
        run = trained(store, toy_data(), toy_spec(), keep=(2,))
        start = initialise(Snapshot(run.key, 2), toy_data(), 4, quiet(store))
        assert np.array_equal(start, run.weights(2))
        with pytest.raises(StoreError, match="train that run"):
            initialise(Snapshot("0" * 32, 3), toy_data(), 4, quiet(store))

    def test_a_training_starts_where_it_is_told(self, store):
        """With a step so small that nothing moves, the trained table is the masked start."""
        data, spec = toy_data(), toy_spec(learning_rate=1e-30, dtype="float64")
        mask = half(data, spec)
        run = trained(store, data, spec, mask, Seeded(1))
        assert np.array_equal(run.weights(), np.where(mask.kept, initial_table(1, 70, 4), 0))


def test_interactions_of_a_user_with_everything(store):
    """A user who has all items, and one who has none, take part in nothing and break nothing."""
    train = np.zeros((4, 24), int)
    train[0], train[2, 0], train[3, :2] = 1, 1, 1
    valid = np.zeros_like(train)
    valid[3, 2] = 1
    test = np.zeros_like(train)
    test[2, 1] = 1
    record = trained(store, interactions(train, valid, test), toy_spec()).record
    assert record.row["users_tested"] == 1


def test_time_before_every_stop_is_counted(store):
    with pytest.raises(Stopped) as stopped:
        trained(store, toy_data(), toy_spec(), deadline=0.0)
    key = stopped.value.key
    arrays, state = store.find_checkpoint(key)
    store.put_checkpoint(key, arrays, {**state, "seconds": 1000.0})
    with pytest.raises(Stopped):
        trained(store, toy_data(), toy_spec(), deadline=0.0)
    assert store.find_checkpoint(key)[1]["seconds"] > 1000
    assert trained(store, toy_data(), toy_spec()).record.seconds > 1000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_handler_is_given_back_after_a_training(store, number):
    """The caller's own, set here: another training may have put the default in its place."""

    def own(number, frame):
        pass

    before = signal.signal(number, own)
    try:
        trained(store, toy_data(), toy_spec())
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, before)
