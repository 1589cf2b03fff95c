"""The benchmarks: arithmetic, records, interleaving, and what happens when a peer is not there.

No test asserts a time. Fake peers are small adapters run by this interpreter.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import ROOT

sys.path.insert(0, str(ROOT))  # benchmarks is a folder of the checkout, not an installed package

from benchmarks import __main__ as command
from benchmarks import agreement, peers, pool, record, rows
from lthnb import measured

FAKE = """
import os, sys, time
from pathlib import Path
SHIMS = ["a shim"]
def note(job, what):
    with open(job.log, "a") as file:
        file.write(f"{NAME} {what}\\n")
def step(job):
    note(job, "prepare")
    count = iter(range(100))
    def repeat():
        k = next(count)
        note(job, f"repeat {k}")
        print("peers print a lot")
        BODY
        return {"step": FACTOR * (k + 1), "nothing": 0}
    return {"batches": job.batches}, repeat
def hand_over(job):
    data = {"name": "fake", "digest": "0123", "users": 3, "items": 4, "train": 5, "test": 6}
    return {"folder": str(job.folder), "data": data}, dict
def scaling(job):
    at = job.options["interactions"] * job.density
    return {}, lambda: {"epoch": at**0.5}
TASKS = {"step": step, "hand over": hand_over, "scaling": scaling}
"""
FAILS = {"fails": "if k == 2: raise OSError('no /secret/place/file.txt')", "dies": "os._exit(3)"}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Run the command line on fake peers; gives (record, what the workers did, in order)."""
    folder = tmp_path / "adapters"
    folder.mkdir()
    log = tmp_path / "order"
    names = {"ours": 1.0, "slow": 3.0, "fails": 1.0, "dies": 1.0}
    for name, factor in names.items():
        text = FAKE.replace("NAME", repr(name)).replace("FACTOR", repr(factor))
        (folder / f"{name}.py").write_text(text.replace("BODY", FAILS.get(name, "pass")))
    known = {name: peers.Peer(folder / f"{name}.py") for name in [*names, "lost"]}
    cloned = peers.Peer(folder / "slow.py", (), "some/one", "0" * 40)
    known["uncloned"] = cloned
    here = Path(sys.executable)
    monkeypatch.setattr(peers, "ADAPTERS", folder)
    monkeypatch.setattr(peers, "PEERS", known)
    monkeypatch.setattr(
        peers, "python_of", lambda _, name: folder / "none" if name == "lost" else here
    )
    row = rows.Row("a fake", "seconds", ("slow", "fails", "dies", "lost", "uncloned"))
    monkeypatch.setitem(rows.ROWS, "step", row)
    monkeypatch.setitem(rows.QUICK, "log", str(log))

    def run(*words):
        places = ["--peers", str(tmp_path / "peers"), "--out", str(tmp_path / "out")]
        path = command.main([*words, "--quick", "--repeats", "3", *places])
        return measured.load(path), log.read_text().splitlines() if log.exists() else []

    return run


class TestArithmetic:
    def test_spread(self):
        assert measured.spread([4.0, 1.0, 3.0, 2.0, 5.0]) == {
            **{"min": 1.0, "q1": 2.0, "median": 3.0, "q3": 4.0, "max": 5.0}
        }
        assert measured.spread([1.0, 2.0])["median"] == 1.5
        assert set(measured.spread([7.0]).values()) == {7.0}

    def test_ratios_are_paired_by_repeat(self):
        found = measured.ratios({"step": [2.0, 9.0, 4.0], "more": [1.0]}, {"step": [1.0, 3.0, 4.0]})
        assert list(found) == ["step"]
        assert (found["step"]["min"], found["step"]["median"], found["step"]["max"]) == (1, 2, 3)

    def test_no_ratio_to_nothing(self):
        assert measured.ratios({"children": [5.0]}, {"children": [0.0]}) == {}

    @pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
    def test_slope_of_a_power_law(self, power):
        at = [10, 100, 1000, 5000]
        assert measured.slope(at, [3.0 * x**power for x in at]) == pytest.approx(power, abs=1e-9)

    def test_slopes_are_fitted_in_each_repeat(self):
        points = [{"at": x, "measures": {"epoch": [2.0 * x, float(x * x)]}} for x in (1, 4, 16)]
        assert measured.slopes(points)["epoch"]["min"] == pytest.approx(1)
        assert measured.slopes(points)["epoch"]["max"] == pytest.approx(2)


class TestRun:
    def test_repeats_interleave(self, fake):
        _, order = fake("step", "--only", "ours,slow")
        warm = ["ours prepare", "ours repeat 0", "slow prepare", "slow repeat 0"]
        rounds = [f"{who} repeat {k}" for k in (1, 2, 3) for who in ("ours", "slow")]
        assert order == warm + rounds

    def test_measures_spreads_and_ratios(self, fake):
        found, _ = fake("step", "--only", "ours,slow")
        row = found["rows"]["step"]
        assert row["who"]["ours"]["measures"]["step"] == [2.0, 3.0, 4.0]  # the first is no repeat
        assert row["who"]["ours"]["spread"]["step"]["median"] == 3.0
        assert set(row["ratios"]["slow"]["step"].values()) == {3.0}
        assert "nothing" not in row["ratios"]["slow"]
        assert row["who"]["ours"]["facts"] == {"batches": 5}
        assert found["who"]["slow"]["shims"] == ["a shim"]
        assert found["data"]["train"] == 5

    def test_who_is_absent_is_said_and_the_run_goes_on(self, fake):
        found, order = fake("step")
        reasons = {entry["who"]: entry["reason"] for entry in found["absent"]}
        assert set(reasons) == {"fails", "dies", "lost", "uncloned"}
        assert reasons["fails"] == "OSError: no …/file.txt"
        assert reasons["dies"] == "died during 'repeat' (exit 3): peers print a lot"
        assert reasons["lost"] == "no environment; python -m benchmarks.peers install lost"
        assert reasons["uncloned"] == "no clone; python -m benchmarks.peers fetch uncloned"
        assert set(found["rows"]["step"]["who"]) == {"ours", "slow"}
        assert order[-2:] == ["ours repeat 3", "slow repeat 3"]
        assert {entry["row"] for entry in found["absent"]} == {"step"}

    def test_without_ours_there_are_no_ratios(self, fake):
        found, _ = fake("step", "--only", "slow")
        assert list(found["rows"]["step"]["who"]) == ["slow"]
        assert found["rows"]["step"]["ratios"] == {}

    def test_scaling(self, fake):
        found, _ = fake("scaling", "--only", "ours")
        slopes = {(s["backbone"], s["over"]): s["slopes"]["epoch"] for s in found["scaling"]}
        assert {over for _, over in slopes} == {*rows.QUICK_SWEEPS} - (
            set() if len(rows.QUICK_SWEEPS["threads"]) > 1 else {"threads"}
        )
        for backbone in ("mf", "lightgcn"):
            assert slopes[backbone, "interactions"]["median"] == pytest.approx(0.5, abs=1e-4)
            assert slopes[backbone, "density"]["max"] == pytest.approx(0.5, abs=1e-4)
        points = found["scaling"][0]["points"]
        assert [p["at"] for p in points] == [4000, 8000]

    def test_threads_reach_the_worker(self, tmp_path):
        adapter = tmp_path / "adapter.py"
        adapter.write_text(
            "import os\nSHIMS = []\n"
            "TASKS = {'t': lambda job: ({k: v for k, v in os.environ.items()}, dict)}\n"
        )
        words = [sys.executable, str(command.WORKER), str(adapter)]
        with pool.Worker(words, tmp_path, 3, tmp_path / "log") as worker:
            facts = worker.ask("prepare", id="a", task="t", settings={})
            assert worker.ask("memory")["peak"] > 1_000_000
            with pytest.raises(pool.WorkerError, match="KeyError"):
                worker.ask("repeat", id="b")
        assert worker.process.returncode == 0
        assert {facts[f"{name}_NUM_THREADS"] for name in pool.THREAD_VARIABLES} == {"3"}


@pytest.fixture
def written(fake, tmp_path):
    """A good record's path."""
    fake("step", "--only", "ours,slow")
    (path,) = (tmp_path / "out").iterdir()
    return path


class TestRecord:
    def test_round_trip(self, written):
        first = measured.load(written)
        record.write(written.with_name("again.json"), first)
        assert written.with_name("again.json").read_bytes() == written.read_bytes()
        assert [path.name for path in written.parent.glob(".tmp-*")] == []

    def test_tells_nothing_of_the_machine(self, written):
        found = measured.load(written)
        for told in (str(ROOT), str(Path.home())):
            with pytest.raises(measured.RecordError, match="this machine's alone"):
                record.write(written, {**found, "data": {"where": told + "/x"}})
        assert str(ROOT) not in written.read_text()

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"step": [ 2.0,', '"step": [ 1.9,', "does not fit"),
            ('"format": 1', '"format": 9', "format 9, this version reads 1"),
            ('"rows": {', '"rows": {,', "not JSON"),
        ],
    )
    def test_a_damaged_one_is_refused(self, written, old, new, message):
        text = written.read_text()
        assert old in text
        written.write_text(text.replace(old, new, 1))
        with pytest.raises(measured.RecordError, match=message) as caught:
            measured.load(written)
        assert written.name in str(caught.value)

    def test_a_torn_one_is_refused(self, written):
        written.write_text(written.read_text()[:-100])
        with pytest.raises(measured.RecordError, match="torn or altered"):
            measured.load(written)

    def test_none_at_all(self, tmp_path):
        with pytest.raises(measured.RecordError, match=r"none\.json: cannot be read"):
            measured.load(tmp_path / "none.json")
        (tmp_path / "other.json").write_text("[]")
        with pytest.raises(measured.RecordError, match="not a benchmark record"):
            measured.load(tmp_path / "other.json")

    def test_recorded_ones_are_good(self):
        for path in (ROOT / "results" / "benchmarks").glob("*.json"):
            measured.load(path)


class TestCommand:
    def test_quick_with_ours_alone(self, tmp_path):
        kernels = [f"kernels-{name}" for name in ("mf", "lightgcn", "ranking")]
        words = ["--quick", "--only", "ours", "--threads", "1", "--peers", str(tmp_path)]
        path = command.main(["ranking", "density", *kernels, *words, "--name", "try"])
        found = measured.load(path)
        assert path == tmp_path / "try.json"
        assert list(found["rows"]) == ["ranking", "density", *kernels]
        masks = found["rows"]["density"]["who"]["ours"]["measures"]
        assert list(masks) == [f"density {d:g}" for d in rows.DENSITIES]
        for name, kernel in zip(
            kernels, ("write", "last product and Adam", "ranking"), strict=True
        ):
            alone = found["rows"][name]["who"]["ours"]
            assert kernel in alone["measures"]
            counted = {fact.partition(" ")[2] for fact in alone["facts"]}
            assert counted <= set(alone["measures"]), "a fact is about a kernel that is timed"
        assert (found["absent"], found["scaling"]) == ([], None)
        ours = found["rows"]["ranking"]["who"]["ours"]
        assert len(ours["measures"]["ranking"]) == 2
        assert 0 < ours["facts"]["recall@20"] < 1
        assert "numba" in found["who"]["ours"]["versions"]

    def test_unknown_words_are_refused(self, capsys):
        for words in (["stp"], ["--only", "our"]):
            with pytest.raises(SystemExit):
                command.main(words)
        assert "found 'stp', expected one of step" in capsys.readouterr().err

    def test_options(self):
        p = command.parser()
        full = command.settings_from(p.parse_args([]))
        assert (full["source"], full["size"], full["batch"], full["repeats"]) == (
            *("yelp2018", 32, 2048, 5),
        )
        words = ["--quick", "--source", "synthetic", "--option", "users=50", "--size", "4"]
        quick = command.settings_from(p.parse_args(words))
        assert (quick["options"], quick["size"], quick["repeats"]) == ({"users": 50}, 4, 2)

    def test_sweeps_move_one_setting(self):
        settings = {**rows.FULL, "threads": 2}
        for over, values in rows.SWEEPS.items():
            found = [rows.point(rows.BASE, over, at, "mf", settings) for at in values]
            texts = {
                json.dumps({**p, over: 0, "options": {**p["options"], over: 0}}) for p in found
            }
            assert len(texts) == 1
            assert len({json.dumps(p) for p in found}) == len(values)


# A peer that does what the authors' code does, written with torch's autograd and Adam: it hides
# pruned entries under the mask, decays them all the same, and prunes one entry more.
ALIKE = """
import numpy as np, torch
from torch.nn.functional import softplus
SHIMS = []
def agreement(job):
    mask = torch.from_numpy(job.load("mask"))
    table = torch.nn.Parameter(torch.from_numpy(job.load("start")))
    adam = torch.optim.Adam([table], lr=job.learning_rate)
    lists = {name: job.lists(name) for name in ("train", "test")}
    def epoch():
        triplets = torch.from_numpy(job.load("triplets"))
        triplets[1:] += job.users
        total = below = 0.0
        for batch in triplets.split(job.batch, dim=1):
            u, i, j = (table * mask)[batch]
            l2 = job.l2 / 2 * table[batch].square().sum()
            loss = softplus((u * (j - i)).sum(1)).sum() + l2
            below += job.l2 / 2 * (table * ~mask)[batch].square().sum().item()
            adam.zero_grad()
            (loss / batch.shape[1]).backward()
            adam.step()
            total += loss.item()
        found = (table * mask).detach().numpy()
        scores, hits = found[: job.users] @ found[job.users :].T, []
        for user, (known, wanted) in enumerate(zip(lists["train"], lists["test"])):
            scores[user, known] = -np.inf
            if len(wanted):
                hits.append(np.isin(np.argsort(-scores[user])[:20], wanted))
        np.save(job.folder / "lth-mrs-table.npy", found)
        np.save(job.folder / "lth-mrs-hits.npy", np.stack(hits))
        count = triplets.shape[1]
        losses = {"loss": total / count, "bpr": 0.0, "l2 of pruned": below / count}
        return {**losses, "recall@20": 0.5, "ndcg@20": 0.5}
    return {}, epoch
def pruning(job):
    sizes = np.abs(job.load("weights") * job.load("before"))
    living = np.sort(sizes[sizes > 0])
    np.save(job.folder / "lth-mrs-kept.npy", sizes > living[int(living.size * job.percent)])
    return {}, dict
TASKS = {"agreement": agreement, "pruning": pruning}
"""


class TestAgreement:
    @pytest.fixture
    def alike(self, tmp_path, monkeypatch):
        """Run the command on a toy beside a peer that agrees, but for what is changed in it."""

        def run(old="", new=""):
            adapter = tmp_path / "alike.py"
            assert old in ALIKE
            adapter.write_text(ALIKE.replace(old, new))
            monkeypatch.setattr(peers, "PEERS", {"lth-mrs": peers.Peer(adapter)})
            monkeypatch.setattr(peers, "python_of", lambda *_: Path(sys.executable))
            places = ["--peers", str(tmp_path / "peers"), "--out", str(tmp_path / "out")]
            words = ["--quick", "--epochs", "2", "--threads", "1"]
            return measured.load(agreement.main([*words, *places]))

        return run

    def test_a_peer_that_does_the_same_agrees(self, alike):
        found = alike()["agreement"]
        places = [(t["method"], t["prunings"], t["density"]) for t in found["trainings"]]
        assert places == [("imp", 0, 1.0), ("imp", 2, 0.25), ("rp", 1, 0.5)]
        for training in found["trainings"]:
            assert len(training["epochs"]) == 2
            for epoch in training["epochs"]:
                ours, theirs = epoch["ours"]["loss"], epoch["lth-mrs"]["loss"]
                hidden = epoch["lth-mrs"]["l2 of pruned"]
                assert theirs - hidden == pytest.approx(ours, abs=2e-7)
                assert (hidden > 0) == (training["prunings"] > 0)
                for who in ("apart", "rounding"):
                    assert epoch[who]["largest"] < 1e-3 * epoch["typical"]
                    assert epoch[who]["users"] - epoch[who]["tied"] <= 1
        for pruned in found["prunings"]:
            assert pruned["as recorded"]
            assert pruned["only"] == {"ours": 1, "lth-mrs": 0}

    def test_one_that_does_not_is_seen(self, alike):
        found = alike("softplus((u * (j - i))", "softplus((u * (i - j))")["agreement"]
        for training in found["trainings"]:
            last = training["epochs"][-1]
            assert last["apart"]["largest"] > 0.1 * last["typical"]
            assert last["rounding"]["largest"] < 1e-3 * last["typical"]

    def test_without_the_peer_it_says_what_to_do(self, tmp_path):
        with pytest.raises(SystemExit, match=r"benchmarks\.peers install lth-mrs"):
            agreement.main(["--quick", "--peers", str(tmp_path)])
        assert not (tmp_path / "quick-synthetic-agreement.json").exists()

    def test_only_kept_entries_count(self):
        mask = np.array([[True, False], [True, True]])
        a, b = np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([[1.5, 0.0], [2.0, 3.25]])
        assert agreement.apart(a, b, mask) == {"largest": 0.5, "mean": 0.25}
        with pytest.raises(pool.WorkerError, match="a pruned entry is not zero"):
            agreement.apart(a, b + 1, mask)

    def test_ties_among_the_first_21(self):
        scores = np.arange(40.0)
        table = np.concatenate(([1.0, 0.0, 1.0], scores))[:, None]
        none = np.zeros((2, 0), np.int64)
        assert agreement.ties(table, none, np.array([0, 2]), 3) == 0
        assert agreement.ties(table, none, np.array([0, 1]), 3) == 1  # an empty row
        table[3 + 38] = 39.0
        assert agreement.ties(table, none, np.array([0]), 3) == 1
        assert agreement.ties(table, np.array([[0], [39]]), np.array([0, 2]), 3) == 1

    def test_masks_are_compared_bit_by_bit(self):
        a, b = np.array([[True, True, False]]), np.array([[False, True, False]])
        assert agreement.pruned_alike({"ours": a, "lth-mrs": b}) == {
            "kept": {"ours": 2, "lth-mrs": 1},
            "only": {"ours": 1, "lth-mrs": 0},
        }

    def test_what_is_compared_is_wanted_of_the_records(self):
        for plan in (agreement.FULL, agreement.QUICK):
            assert plan.trainings[0] == agreement.Place("imp", 0), "the dense model comes first"
        tree = ast.parse(peers.PEERS[agreement.PEER].adapter.read_text())
        for task in ("agreement", "pruning"):
            assert task in ast.literal_eval(_assigned(tree, "TASKS", keys=True))


class TestPeers:
    def test_fetch_and_its_commit(self, tmp_path, monkeypatch):
        source, git = tmp_path / "some" / "one", ["git", "-c", "user.name=a", "-c", "user.email=b"]
        (source / "code").mkdir(parents=True)
        (source / "data").mkdir()
        for part in ("code", "data"):
            (source / part / "file").write_text(part)
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
            subprocess.run([*git, *words], cwd=source, check=True)
        peer = peers.Peer(Path("a"), (), "some/one", peers.head(source), ("/code",))
        monkeypatch.setattr(peers, "PEERS", {"one": peer})
        monkeypatch.setattr(peers, "python_of", lambda *_: Path(sys.executable))
        folder = tmp_path / "peers"
        assert "no clone" in peers.missing(folder, "one")
        words = ["fetch", "one", "--peers", str(folder), "--from", str(tmp_path / "{owner}/{name}")]
        peers.main(words)
        assert peers.missing(folder, "one") is None
        assert (folder / "one" / "code" / "file").exists()
        assert not (folder / "one" / "data").exists()
        peers.main(words)  # a second time changes nothing
        assert peers.missing(folder, "one") is None

    def test_all_is_pinned(self):
        for name, peer in peers.PEERS.items():
            assert peer.adapter.exists()
            assert peer.install
            for word in " ".join(peer.install).split():
                assert "==" in word, f"{name}: {word} is not pinned"

    def test_rows_have_adapters_for_their_peers(self):
        for name, row in rows.ROWS.items():
            for who in row.peers:
                tree = ast.parse(peers.PEERS[who].adapter.read_text())
                assert name in ast.literal_eval(_assigned(tree, "TASKS", keys=True)), (who, name)

    def test_shims_are_in_the_page(self):
        page = (ROOT / "benchmarks" / "README.md").read_text()
        for peer in peers.PEERS.values():
            for shim in ast.literal_eval(_assigned(ast.parse(peer.adapter.read_text()), "SHIMS")):
                assert f"- {shim}\n" in page, f"{peer.adapter.name}: {shim}"


def _assigned(tree: ast.Module, name: str, keys: bool = False) -> ast.expr:
    """What a module assigns to a name; of a dict, the list of its keys where asked."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.List(node.value.keys) if keys else node.value
    raise AssertionError(f"{name} is not assigned")
