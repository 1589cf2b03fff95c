"""The command line: help, exit codes, and every verb on tiny planted data."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest
import scipy.sparse as sp
from toys import TINY, command, count_epochs, environment

from lthnb import sources, wanted
from lthnb.__main__ import EXIT, main, parser
from lthnb.config import Ladder, Model, Training, explain
from lthnb.data import DataError, Shape
from lthnb.lottery import plan
from lthnb.packing import load
from lthnb.profiles import PROFILES
from lthnb.standings import seeded
from lthnb.store.runs import Store

COMMANDS = [
    (),
    ("run",),
    ("ladder",),
    ("results",),
    *[("results", v) for v in ("list", "show", "remove", "add", "verify", "compact", "replay")],
    ("wanted",),
    ("export",),
    ("data",),
    *[("data", verb) for verb in ("list", "fetch", "describe")],
    ("notebooks",),
    *[("notebooks", verb) for verb in ("list", "run")],
    ("book",),
]


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run a command in this process, with a store of its own: (exit code, output, errors)."""
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as left:  # argparse
            code = left.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    run.store = Store(tmp_path / "store", tmp_path / "results")
    return run


def again(store):
    """A store as another process finds it: recorded tables are read once."""
    return Store(store.folder, store.results)


@pytest.fixture
def filled(cli):
    """A store with a ladder of three rungs."""
    assert cli("ladder", *TINY, "--seeds", "0")[0] == 0
    return cli


class TestHelp:
    @pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
    def test_of_every_command(self, cli, words):
        code, out, err = cli(*words, "--help")
        assert code == 0
        assert err == ""
        assert f"usage: python -m lthnb {' '.join(words)}".rstrip() in out
        assert "-h, --help" in out

    def test_gives_examples_that_parse(self, cli):
        out = cli("--help")[1]
        assert "examples:" in out
        examples = [line.strip() for line in out.splitlines() if line.startswith("  python -m")]
        assert len(examples) >= 5
        for line in examples:
            parser().parse_args(line.split("   ")[0].split()[3:])

    def test_every_setting_is_an_option_and_explained(self, cli):
        out = " ".join(cli("ladder", "--help")[1].split())
        for cls in (Model, Training, Ladder):
            for name in explain(cls):
                # LCM wants a teacher as well, so that no single setting could ask for it.
                if name not in ("order_seed", "seed", "compression"):
                    assert f"--{name.replace('_', '-')} " in out
        assert "L2 term" in out

    def test_exit_codes_are_told_apart(self):
        assert EXIT == {"interrupted": 130, "terminated": 143, "time budget": 75}


class TestWrongUse:
    @pytest.mark.parametrize(
        "words",
        [
            (),
            ("ladders",),
            ("run", "--backbone", "lightgnc"),
            ("run", "--embedding-size", "large"),
            ("ladder", "--method", "omg"),
            ("ladder", "--seeds", "0,x"),
            ("ladder", "--densities", "0.5,?"),
            ("run", "--time-budget", "soon"),
            ("run", "--no-such-option"),
            ("results",),
            ("results", "show"),
            ("export", "abc"),
            ("data", "describe"),
        ],
        ids=" ".join,
    )
    def test_of_the_command_line_is_code_2(self, cli, words):
        code, out, err = cli(*words)
        assert code == 2
        assert "usage:" in err
        assert out == ""

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("run", "--source", "yelp2081"), "Did you mean 'yelp2018'"),
            (("data", "describe", "gowala"), "Did you mean 'gowalla'"),
            (("run", *TINY, "--option", "user=60"), "Did you mean 'users'"),
            (("run", *TINY, "--option", "users=-1"), "Planted.users: found -1"),
            (("run", *TINY, "--embedding-size", "0"), "Model.embedding_size: found 0"),
            (("run", *TINY, "--learning-rate", "nan"), "Training.learning_rate: found nan"),
            (("run", *TINY, "--profile", "quik"), "Did you mean 'quick'"),
            (("ladder", *TINY, "--densities", "0.1,0.5"), "Ladder.densities"),
            (("ladder", *TINY, "--method", "rp", "--rewind", "late"), "no trained weights"),
            (("results", "show", "abc"), "found 0 runs"),
            (("results", "remove", "abc"), "found 0 runs"),
            (("export", "abc", "t.npz"), "found 0 runs"),
            (("export", "abc", "t.nzp"), "Did you mean '.npz'"),
            (("export", "abc", "t.npz", "--values", "int8"), "found the option values"),
            (("export", "abc", "t.safetensors", "--form", "bits"), "form: found 'bits'"),
            (("results", "replay", "abc"), "found 0 runs"),
            (("run", "--source", "no-such.csv"), "no-such.csv"),
        ],
        ids=lambda value: " ".join(value[:1] + value[-2:]) if isinstance(value, tuple) else "",
    )
    def test_what_a_user_can_mend_is_one_line_and_code_1(self, cli, words, says):
        code, _, err = cli(*words)
        assert code == 1
        assert says in err
        assert err.startswith("lthnb: ")
        assert len(err.splitlines()) == 1

    def test_an_option_without_a_value(self, cli):
        code, _, err = cli("run", *TINY, "--option", "users")
        assert code == 1
        assert err == "lthnb: option 'users': found no value, expected NAME=VALUE.\n"


class TestTraining:
    def test_run_and_again(self, cli):
        code, out, _ = cli("run", *TINY)
        assert code == 0
        [key] = cli.store.run_keys()
        record = cli.store.find(key)
        assert key[:8] in out
        assert f"{record.metric('recall@20'):.4f}" in out
        assert cli("run", *TINY)[1] == out
        assert cli.store.run_keys() == [key]

    def test_options_reach_the_run(self, cli):
        words = ("--backbone", "lightgcn", "--layers", "2", "--embedding-size", "6", "--l2", "0.5")
        more = ("--epochs", "2", "--seed", "3", "--protocol", "paper", "--split-seed", "1")
        assert cli("run", *TINY, *words, *more)[0] == 0
        record = cli.store.find(cli.store.run_keys()[0])
        assert record.spec["model"]["backbone"] == "lightgcn"
        assert (record.spec["model"]["layers"], record.spec["model"]["embedding_size"]) == (2, 6)
        training = record.spec["training"]
        assert (training["l2"], training["epochs"], training["order_seed"]) == (0.5, 2, 3)
        assert training["protocol"] == "paper"
        assert record.init == {"init": "seeded", "seed": 3}
        assert record.data["users"] == 60

    def test_ladder(self, cli):
        words = ("--method", "omp", "--densities", "0.5,0.25,0.1", "--seeds", "0,1")
        code, out, _ = cli("ladder", *TINY, *words)
        assert code == 0
        assert len(cli.store.run_keys()) == 8
        assert "MF on synthetic" in out
        for key in cli.store.run_keys():
            assert key[:8] in out

    def test_workers_give_the_same_records(self, cli, tmp_path):
        """Two ladders side by side, in processes of their own, and one after the other."""
        words = ("ladder", *TINY, "--seeds", "0,1", "--rungs", "1")
        assert cli(*words)[0] == 0
        done = command(tmp_path / "two", *words, "--workers", "2")
        assert done.returncode == 0, done.stderr
        digests = [
            {key: store.find(key).results_digest for key in store.run_keys()}
            for store in (cli.store, Store(tmp_path / "two" / "store", None))
        ]
        assert len(digests[0]) == 4
        assert digests[0] == digests[1]

    def test_plan(self, cli):
        code, out, _ = cli("ladder", *TINY, "--plan", "--seeds", "0,1")
        assert code == 0
        assert cli.store.run_keys() == []
        assert "6 trainings are missing" in out
        assert out.count("missing ") >= 6
        cli("ladder", *TINY, "--seeds", "0")
        out = cli("ladder", *TINY, "--plan", "--seeds", "0,1")[1]
        assert "3 trainings are missing" in out
        assert all(key[:8] in out for key in cli.store.run_keys())
        out = cli("ladder", *TINY, "--plan", "--seeds", "0")[1]
        assert "nothing would be trained" in out


class TestResults:
    def test_list(self, filled):
        code, out, _ = filled("results", "list")
        assert code == 0
        assert all(key[:8] in out for key in filled.store.run_keys())
        assert re.search(r"0 runs in .*results, 3 more in .*store", out)

    def test_show(self, filled):
        key = filled.store.run_keys()[0]
        code, out, _ = filled("results", "show", key[:10])
        assert code == 0
        assert key in out
        assert filled.store.find(key).results_digest in out
        whole = json.loads(filled("results", "show", key, "--json")[1])
        assert whole == filled.store.find(key).row

    def test_remove(self, filled):
        key = filled.store.run_keys()[0]
        assert filled("results", "remove", key[:10])[1] == f"removed {key}\n"
        assert key not in filled.store.run_keys()

    def test_verify(self, filled):
        code, out, _ = filled("results", "verify")
        assert (code, out) == (0, "3 runs, 0 things that are not good\n")
        path = filled.store.folder / "runs" / filled.store.run_keys()[0]
        path /= "weights-best.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        code, out, _ = filled("results", "verify")
        assert code == 1
        assert str(path) in out

    def test_add_and_compact(self, filled):
        first, *others = filled.store.run_keys()
        assert filled("results", "add", first)[0] == 0
        assert again(filled.store).is_recorded_result(first)
        assert filled("results", "add")[0] == 0
        assert filled("results", "add")[1] == "0 files written\n"
        assert "files merged" in filled("results", "compact")[1]
        assert again(filled.store).recorded_tables.keys == sorted([first, *others])
        assert filled("results", "verify")[0] == 0


class TestExport:
    def test_packed(self, filled, tmp_path):
        key = min(filled.store.run_keys(), key=lambda k: filled.store.find(k).density)
        words = ("--values", "float16", "--form", "bitmap", "--quiet")
        code, out, err = filled("export", key[:10], tmp_path / "t.safetensors", *words)
        assert (code, err) == (0, "")
        found = load(tmp_path / "t.safetensors")
        assert found.about["run"] == key
        assert (found.users.rows, found.items.rows) == (60, 40)
        assert found.users.kept + found.items.kept == filled.store.find(key).mask["entries"]
        assert len(found.user_labels) == 60
        size = (tmp_path / "t.safetensors").stat().st_size
        assert f"{size:,} bytes, labels included" in out
        assert "  60 users: bitmap, float16\n" in out
        assert "scores: inner products of the rows of users and items\n" in out

    def test_plain(self, filled, tmp_path):
        key = filled.store.run_keys()[0]
        assert filled("export", key, tmp_path / "t.npz", "--quiet")[0] == 0
        assert sp.load_npz(tmp_path / "t.npz").nnz == filled.store.find(key).mask["entries"]

    def test_of_lightgcn_says_what_it_is(self, cli, tmp_path):
        assert cli("run", *TINY, "--backbone", "lightgcn", "--epochs", "1")[0] == 0
        [key] = cli.store.run_keys()
        code, out, _ = cli("export", key, tmp_path / "t.safetensors", "--quiet")
        assert code == 0
        assert "these are dense, and larger than this ticket. The rows here are layer 0." in out
        assert "layer 0" in load(tmp_path / "t.safetensors").about["scores"]


class TestData:
    def test_list(self, cli):
        code, out, _ = cli("data", "list")
        assert code == 0
        for name in ("yelp2018", "gowalla", "movielens", "synthetic"):
            assert name in out

    def test_describe(self, cli):
        code, out, _ = cli(
            "data", "describe", "synthetic", "--option", "users=60", "--option", "items=40",
            "--option", "interactions=600",
        )  # fmt: skip
        assert code == 0
        assert "users: 60\n" in out
        assert "interactions: 600\n" in out
        assert "users without test: 0\n" in out

    def test_describe_a_table_of_ones_own(self, cli, tmp_path):
        pytest.importorskip("pyarrow")
        rows = [f"u{u},i{i},{1_300_000_000 + i + u}" for u in range(12) for i in range(u, u + 22)]
        (tmp_path / "mine.csv").write_text("user,item,time\n" + "\n".join([*rows, rows[0]]))
        code, out, err = cli(
            *("data", "describe", tmp_path / "mine.csv", "--profile", "smoke"),
            *("--option", "time=time", "--split", "last", "--leave", "2"),
        )
        assert (code, err) == (0, "")
        assert "users: 12\n" in out
        assert "interactions: 264\n" in out
        assert "test: 24\n" in out
        assert '"how": "each user\'s last items", "leave": 2' in out
        assert '"times": ["2011-03-13T07:06:40", ' in out
        assert re.search(
            r"Recall@20 on test of what is most popular, for everyone: [01]\.\d{4}\n", out
        )
        assert "- Rows that repeat a pair: 1. Each pair counts once.\n" in out
        assert "- Users tested: 12. Below 100, intervals are wide.\n" in out
        for backbone in ("mf", "lightgcn"):
            assert re.search(rf"  {backbone} +[\d.e-]+ s an epoch; 3 seeds × 3 trainings: ", out)
        assert "  threshold: the lowest rating that counts as an interaction. Default None." in out
        groups = re.findall(r"^ +(\d+) +(\d+) +([\d.]+)%", out, re.MULTILINE)
        assert [int(g) for g, _, _ in groups] == [*range(1, 11)] * 2
        assert sum(int(n) for _, n, _ in groups[:10]) == 33
        assert sum(int(n) for _, n, _ in groups[10:]) == 12

    def test_describe_without_the_cost(self, cli):
        code, out, _ = cli("data", "describe", "standin-kwai", "--no-cost")
        assert code == 0
        assert "for cost only, never for results" in out
        assert "s an epoch" not in out

    def test_data_that_were_never_released(self, cli, monkeypatch):
        monkeypatch.delenv("LTHNB_DATA", raising=False)
        code, _, err = cli("data", "describe", "tiktok")
        assert code == 1
        assert "expected final_track2_train.txt as the challenge gave it" in err
        assert "never released" in err
        assert "standin-tiktok" in err


def test_a_closed_pipe_is_no_error(tmp_path):
    """`… | head -1` closes its end early."""
    done = subprocess.run(
        f"{sys.executable} -m lthnb data list | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in done.stderr


class TestWanted:
    @pytest.fixture
    def lines(self, monkeypatch):
        """Three lines of small trainings, in place of the book's."""
        spec = PROFILES["smoke"].spec("mf", embedding_size=4)
        ladder, reinit = Ladder("imp", 0.5, 1), Ladder("imp", 0.5, 1, rewind="reinit")
        lines = [
            wanted.Wanted("existence", "movielens", ladder, spec, (0, 1)),
            wanted.Wanted("rewinds", "movielens", reinit, spec, (0,)),
            wanted.WantedAgain("movielens", ladder, spec, (1,), (0,)),
        ]
        monkeypatch.setattr(wanted, "everything", lambda: lines)
        return lines

    def test_lists_what_is_missing_and_trains_it(self, cli, lines):
        code, out, _ = cli("wanted")
        assert code == 0
        assert "0 of 8 trainings" in out
        assert "3 of 3 lines are not complete" in out
        assert "unknown" in out  # nothing is there to tell a time from
        code, out, _ = cli("wanted", "Again", "movieLENS", "--train", "--quiet")
        assert code == 0
        assert "training: movielens, validated: MF, F = 4: tickets of 50% again" in out
        # The other draw at the first rung is that of reinit, which is complete by that, too.
        code, out, _ = cli("wanted")
        assert re.findall(r"^ *(\d+) of +(\d+) .* \(for \w+\)$", out, re.M) == [("2", "4")]
        assert "1 of 3 lines are not complete" in out
        assert len(cli("wanted", "--all")[1].splitlines()) == 5

    def test_records_what_is_finished_once(self, cli, lines):
        cli("wanted", "rewinds", "--train", "--quiet")
        assert cli("wanted", "existence", "--record")[1].endswith("results\n")
        # The dense model that both have.
        assert [r.density for r in again(cli.store).recorded()] == [1.0]
        assert "1 runs copied" in cli("wanted", "rewinds", "--record")[1]
        assert "0 runs copied" in cli("wanted", "rewinds", "--record")[1]
        assert len(again(cli.store).recorded()) == 2
        assert cli("results", "verify")[0] == 0

    def test_bits_of_the_first_seed_alone(self, cli, lines):
        cli("wanted", "existence", "--train", "--record", "--quiet")
        alone = Store(cli.store.folder.parent / "none", cli.store.results)
        shape = Shape.of(alone.recorded()[0].data)
        masks = [
            plan(*seeded(lines[0].ladder, lines[0].spec, seed), shape, alone)[1].mask
            for seed in (0, 1)
        ]
        assert [mask.there() for mask in masks] == [True, False]

    def test_tickets_again_bring_their_ladder_along(self, cli, lines):
        out = cli("wanted", "again", "--train", "--record", "--workers", "2", "--quiet")[1]
        assert "4 runs copied" in out  # the dense model, the ticket, and two changes
        alone = Store(cli.store.folder.parent / "none", cli.store.results)
        assert len(wanted.there(lines[2], alone.recorded(), alone)) == 2

    def test_words_that_no_line_holds(self, cli, lines):
        code, _, err = cli("wanted", "movielens", "lightgcn")
        assert code == 1
        assert "found no line that holds all of movielens, lightgcn" in err

    def test_a_stopped_one_goes_on_and_what_was_finished_is_recorded(self, cli, lines, monkeypatch):
        ran = count_epochs(monkeypatch)
        words = ("wanted", "existence", "--train", "--record", "--quiet")
        code, out, _ = cli(*words, "--time-budget", "0")
        assert (code, ran) == (EXIT["time budget"], [0])
        assert "0 runs copied" in out
        assert cli(*words)[0] == 0
        assert ran == [0, 1, 2] * 4  # epochs of four trainings, none of them twice
        assert "0 of 1 lines are not complete" in cli("wanted", "existence")[1]

    def test_a_line_that_fails_is_named_and_the_next_one_trained(self, cli, lines, monkeypatch):
        lines[0] = dataclasses.replace(lines[0], source="gowalla")
        load = sources.load

        def offline(source, **how):
            if source == "gowalla":
                raise DataError("gowalla: cannot be fetched")
            return load(source, **how)

        monkeypatch.setattr(sources, "load", offline)
        code, out, err = cli("wanted", "--train", "--quiet", "--record")
        assert code == 1
        assert re.search("lthnb: gowalla, validated: MF, F = 4: IMP.*: cannot be fetched", err)
        assert "runs copied" in out
        assert "1 of 3 lines are not complete" in cli("wanted")[1]

    def test_other_splits_and_own_runs_are_no_evidence(self, cli, lines):
        cli("wanted", "rewinds", "--train", "--record", "--quiet")
        spec = ("--profile", "smoke", "--embedding-size", "4", "--quiet")
        assert cli("run", *spec, "--option", "threshold=3", "--seed", "1")[0] == 0
        assert "1 of   4" in cli("wanted", "existence")[1]  # the dense model that both have
        assert "0 runs copied" in cli("wanted", "--record")[1]
        # Times are told by what is recorded: a run of one's own changes none of them.
        before = cli("wanted")[1]
        slow = cli.store.find(cli.store.run_keys()[0])
        cli.store.put({**slow.row, "key": "f" * 32, "seconds": 1e6}, slow.nested)
        assert cli("wanted")[1] == before
