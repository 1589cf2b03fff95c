"""The benchmarks: arithmetic, records, interleaving, and what happens when a peer is not there.

No test asserts a time. Fake peers are small adapters run by this interpreter.
"""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import ROOT

sys.path.insert(0, str(ROOT))  # benchmarks is a folder of the checkout, not an installed package

from benchmarks import __main__ as command
from benchmarks import agreement, peers, plan, pool, record, run
from lthnb.experiments import measured
from lthnb.store.files import StoreError
from lthnb.store.runs import Store

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


def use(monkeypatch, folder, known) -> None:
    """Peers whose adapters lie in a folder, run by this interpreter."""
    monkeypatch.setattr(plan, "ADAPTERS", folder)
    for module in (plan, peers):
        monkeypatch.setattr(module, "PEERS", known)
    monkeypatch.setattr(peers, "python_of", lambda *_: Path(sys.executable))


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
    known = {name: plan.Peer(name, []) for name in [*names, "lost"]}
    known["uncloned"] = plan.Peer("slow", [], "some/one", "0" * 40)
    use(monkeypatch, folder, known)
    python_of = peers.python_of
    monkeypatch.setattr(
        peers, "python_of", lambda f, name: f / name if name == "lost" else python_of(f, name)
    )
    row = plan.Row("a fake", "seconds", ["slow", "fails", "dies", "lost", "uncloned"])
    monkeypatch.setitem(plan.ROWS, "step", row)
    monkeypatch.setitem(plan.PLAN["quick"], "log", str(log))

    def measure(*words):
        places = ["--peers", str(tmp_path / "peers"), "--out", str(tmp_path / "out")]
        path = command.main([*words, "--quick", "--set", "repeats=3", *places])
        return measured.load(path), log.read_text().splitlines() if log.exists() else []

    return measure


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_slopes_are_those_of_power_laws_in_each_repeat(power):
    at = (1, 4, 16, 100)
    points = [{"at": x, "measures": {"epoch": [2.0 * x**power, float(x * x)]}} for x in at]
    found = record.slopes(points)["epoch"]
    assert (found["min"], found["max"]) == pytest.approx((power, 2), abs=1e-9)


def test_repeats_interleave_and_the_first_is_not_counted(fake):
    found, order = fake("step", "--only", "ours", "slow")
    warm = ["ours prepare", "ours repeat 0", "slow prepare", "slow repeat 0"]
    rounds = [f"{who} repeat {k}" for k in (1, 2, 3) for who in ("ours", "slow")]
    assert order == warm + rounds
    row = found["rows"]["step"]
    assert row["who"]["ours"]["measures"]["step"] == [2.0, 3.0, 4.0]
    assert row["who"]["ours"]["facts"] == {"batches": 5}
    beside = measured.frame([found]).query("who == 'slow'")
    assert beside.query("measure == 'step'")["ratio"].tolist() == [3.0, 3.0, 3.0]
    assert found["who"]["slow"]["shims"] == ["a shim"]
    assert found["data"]["train"] == 5


def test_who_is_absent_is_said_and_the_run_goes_on(fake):
    found, order = fake("step")
    reasons = {entry["who"]: entry["reason"] for entry in found["absent"]}
    assert reasons == {
        "fails": "OSError: no …/file.txt",
        "dies": "died during 'repeat' (exit 3): peers print a lot",
        "lost": "no environment; python -m benchmarks.peers install lost",
        "uncloned": "no clone; python -m benchmarks.peers fetch uncloned",
    }
    assert set(found["rows"]["step"]["who"]) == {"ours", "slow"}
    assert order[-2:] == ["ours repeat 3", "slow repeat 3"]


def test_without_ours_there_are_no_ratios(fake):
    found, _ = fake("step", "--only", "slow")
    assert list(found["rows"]["step"]["who"]) == ["slow"]
    assert measured.frame([found])["ratio"].isna().all()


def test_sweeps_move_one_setting_and_have_its_slope(fake):
    found, _ = fake("scaling", "--only", "ours")
    slopes = {(s["backbone"], s["over"]): s["slopes"]["epoch"] for s in found["scaling"]}
    for backbone in ("mf", "lightgcn"):
        assert slopes[backbone, "interactions"]["median"] == pytest.approx(0.5, abs=1e-4)
        assert slopes[backbone, "density"]["median"] == pytest.approx(0.5, abs=1e-4)
    assert [point["at"] for point in found["scaling"][0]["points"]] == [4000, 8000]


def test_threads_reach_the_worker(tmp_path):
    adapter = tmp_path / "adapter.py"
    adapter.write_text(
        "import os\nSHIMS = []\n"
        "TASKS = {'t': lambda job: ({k: v for k, v in os.environ.items()}, dict)}\n"
    )
    words = [sys.executable, str(run.WORKER), str(adapter)]
    with pool.Worker(words, tmp_path, 3, tmp_path / "log") as worker:
        facts = worker.ask("prepare", id="a", task="t", settings={})
        with pytest.raises(pool.WorkerError, match="KeyError"):
            worker.ask("repeat", id="b")
    assert worker.process.returncode == 0
    assert {facts[f"{name}_NUM_THREADS"] for name in pool.THREAD_VARIABLES} == {"3"}


def test_record_tells_nothing_of_the_machine(fake, tmp_path):
    found, _ = fake("step", "--only", "ours")
    [path] = (tmp_path / "out").iterdir()
    record.write(again := tmp_path / "again.json", found)
    assert again.read_bytes() == path.read_bytes()
    for told in (str(ROOT), str(Path.home())):
        assert told not in path.read_text()
        with pytest.raises(StoreError, match="this machine's alone"):
            record.write(path, {**found, "data": {"where": told + "/x"}})


def test_our_ranking_is_measured_by_one_command(tmp_path):
    words = ["--quick", "--only", "ours", "--threads", "1", "--peers", str(tmp_path)]
    path = command.main(["ranking", *words, "--name", "try"])
    found = measured.load(path)
    assert path == tmp_path / "try.json"
    ours = found["rows"]["ranking"]["who"]["ours"]
    assert len(ours["measures"]["ranking"]) == 2
    assert 0 < ours["facts"]["recall@20"] < 1
    assert "numba" in found["who"]["ours"]["versions"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["stp"], "found 'stp', expected one of step"),
        (["--only", "our"], "found 'our', expected one of ours"),
        (["--set", "sise=4"], "found 'sise', expected one of source"),
    ],
)
def test_unknown_words_are_refused(capsys, words, says):
    with pytest.raises(SystemExit):
        command.main(words)
    assert says in capsys.readouterr().err


def test_settings_go_before_those_of_a_quick_run_and_a_source_has_options_of_its_own():
    def settings(*words):
        return command.settings_from(command.parser().parse_args(words))

    found = settings("--quick", "--set", "source=movielens", "--set", "size=4")
    assert (found["source"], found["options"], found["size"]) == ("movielens", {}, 4)
    assert (found["repeats"], settings()["repeats"]) == (2, 5)
    given = settings("--quick", "--set", 'options={"users": 50}')
    assert (given["source"], given["options"]) == ("synthetic", {"users": 50})


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


@pytest.fixture
def alike(tmp_path, monkeypatch):
    """Run the command on a toy beside a peer that agrees, but for what is changed in it."""

    def compare(old="", new=""):
        assert old in ALIKE
        (tmp_path / "alike.py").write_text(ALIKE.replace(old, new))
        ours = (plan.ADAPTERS / "ours.py").read_text()
        (tmp_path / "ours.py").write_text(ours)
        use(monkeypatch, tmp_path, {"lth-mrs": plan.Peer("alike", [])})
        places = ["--peers", str(tmp_path / "peers"), "--out", str(tmp_path / "out")]
        words = ["--quick", "--epochs", "2", "--threads", "1"]
        return measured.load(agreement.main([*words, *places]))["agreement"]

    return compare


def test_a_peer_that_does_the_same_agrees(alike):
    found = alike()
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
    assert len(found["prunings"]) == 2
    for pruned in found["prunings"]:
        assert pruned["as recorded"]
        assert pruned["only"] == {"ours": 1, "lth-mrs": 0}


def test_a_peer_that_does_something_else_is_seen(alike):
    for training in alike("softplus((u * (j - i))", "softplus((u * (i - j))")["trainings"]:
        last = training["epochs"][-1]
        assert last["apart"]["largest"] > 0.1 * last["typical"]
        assert last["rounding"]["largest"] < 1e-3 * last["typical"]


def test_without_the_peer_it_says_what_to_do(tmp_path):
    with pytest.raises(SystemExit, match=r"benchmarks\.peers install lth-mrs"):
        agreement.main(["--quick", "--peers", str(tmp_path)])
    assert not (tmp_path / "quick-synthetic-agreement.json").exists()


def test_runs_that_go_through_the_authors_code_are_recorded_as_the_plan_says():
    store = Store()
    for place in plan.PLAN["agreement"]["trainings"] + plan.PLAN["agreement"]["prunings"]:
        row = store.find(place["run"]).row
        assert (row["dataset"], row["backbone"], row["protocol"]) == ("yelp2018", "mf", "paper")
        assert row["density"] == pytest.approx(0.9 ** place["prunings"], rel=1e-3)


def test_only_kept_entries_count():
    mask = np.array([[True, False], [True, True]])
    a, b = np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([[1.5, 0.0], [2.0, 3.25]])
    assert agreement.apart(a, b, mask) == {"largest": 0.5, "mean": 0.25}
    with pytest.raises(pool.WorkerError, match="a pruned entry is not zero"):
        agreement.apart(a, b + 1, mask)
    a, b = np.array([[True, True, False]]), np.array([[False, True, False]])
    assert agreement.pruned_alike({"ours": a, "lth-mrs": b}) == {
        "kept": {"ours": 2, "lth-mrs": 1},
        "only": {"ours": 1, "lth-mrs": 0},
    }


def test_ties_among_the_first_21():
    scores = np.arange(40.0)
    table = np.concatenate(([1.0, 0.0, 1.0], scores))[:, None]
    none = np.zeros((2, 0), np.int64)
    assert agreement.ties(table, none, np.array([0, 2]), 3) == 0
    assert agreement.ties(table, none, np.array([0, 1]), 3) == 1  # an empty row
    table[3 + 38] = 39.0
    assert agreement.ties(table, none, np.array([0]), 3) == 1
    assert agreement.ties(table, np.array([[0], [39]]), np.array([0, 2]), 3) == 1


def test_fetch_and_its_commit(tmp_path, monkeypatch):
    source, git = tmp_path / "some" / "one", ["git", "-c", "user.name=a", "-c", "user.email=b"]
    source.mkdir(parents=True)
    (source / "file").write_text("code")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], cwd=source, check=True)
    peer = plan.Peer("a", [], "some/one", peers.head(source))
    use(monkeypatch, tmp_path, {"one": peer})
    folder = tmp_path / "peers"
    assert "no clone" in peers.missing(folder, "one")
    monkeypatch.setenv("LTHNB_PEERS_FROM", str(tmp_path / "{owner}/{name}"))
    words = ["fetch", "one", "--peers", str(folder)]
    peers.main(words)
    assert peers.missing(folder, "one") is None
    assert (folder / "one" / "file").exists()
    peers.main(words)  # a second time changes nothing
    assert peers.missing(folder, "one") is None


@pytest.mark.parametrize("name", plan.PEERS)
def test_peers_are_pinned_and_have_tasks_for_their_rows_and_shims_in_the_page(name):
    peer, page = plan.PEERS[name], (ROOT / "benchmarks" / "README.md").read_text()
    assert all("==" in word for word in " ".join(peer.install).split())
    told = {}
    for node in ast.parse(plan.adapter_of(name).read_text()).body:
        if isinstance(node, ast.Assign):
            told[node.targets[0].id] = node.value
    rows = {row for row, about in plan.ROWS.items() if name in about.peers}
    rows |= {"agreement", "pruning"} if name == agreement.PEER else set()
    assert rows == {key.value for key in told["TASKS"].keys}
    assert all(f"- {shim}\n" in page for shim in ast.literal_eval(told["SHIMS"]))
