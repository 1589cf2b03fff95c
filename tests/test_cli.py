"""The command line: help, exit codes, and every verb on tiny planted data."""

import re
from unittest.mock import Mock

import pytest
from toys import BRIEF, TINY

import lthnb
from lthnb.__main__ import EXIT, main
from lthnb.control import Stopped
from lthnb.experiments.grid import grid
from lthnb.store.runs import Store

COMMANDS = [
    (),
    ("search",),
    ("results",),
    *[("results", v) for v in ("list", "add", "verify", "compact", "findings")],
    *[("results", v) for v in ("replay", "ticket", "missing")],
    ("data",),
    *[("data", verb) for verb in ("list", "describe")],
    ("notebooks",),
    ("notebooks", "run"),
    ("book",),
    ("doctor",),
]


BY = ["dataset", "backbone", "protocol", "method", "l2", "embedding_size"]  # what is counted by


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run a command in this process, with a store of its own: (exit code, output, errors)."""
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    run.store = Store(tmp_path / "store", tmp_path / "results")
    return run


def again(store):
    """A store as another process finds it: recorded tables are read once."""
    return Store(store.folder, store.results)


@pytest.fixture
def filled(cli):
    """A store with a search of three runs."""
    assert cli(*TINY, *BRIEF)[0] == 0
    return cli


class TestHelp:
    @pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
    def test_of_every_command(self, cli, words):
        code, out, err = cli(*words, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"Usage: python -m lthnb {' '.join(words)}".rstrip())

    @pytest.mark.parametrize("name", ["data", "results", "notebooks"])
    def test_of_a_group_names_its_commands(self, cli, name):
        words = re.search(r": ([a-z,\s]+)\.\n", cli(name, "--help")[1])[1].split(",")
        assert [(name, word.strip()) for word in words] == [
            c for c in COMMANDS if c[:-1] == (name,)
        ]

    def test_gives_examples_whose_words_exist(self, cli):
        out = cli("--help")[1]
        examples = [line.strip() for line in out.splitlines() if line.startswith("    python -m")]
        assert len(examples) >= 5
        for line in examples:
            assert cli(*line.split("   ")[0].split()[3:], "--help")[0] == 0


class TestWrongUse:
    @pytest.mark.parametrize(
        "words",
        [
            (),
            ("searches",),
            ("search", "--rounds", "many"),
            ("search", "--method", "omg"),
            ("search", "--seeds", "0,x"),
            ("search", "--time-budget", "soon"),
            ("search", "--no-such-option"),
            ("results",),
            ("results", "ticket", "abc"),
            ("results", "ticket", "abc", "t.safetensors", "--values", "int9"),
            ("data", "describe"),
            *((gone,) for gone in ("run", "schedule", "wanted", "export")),
        ],
        ids=" ".join,
    )
    def test_of_the_command_line_is_code_2(self, cli, words):
        code, out, err = cli(*words)
        assert code == 2
        assert "Usage:" in err
        assert out == ""

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("search", "--data", "yelp2081"), "Did you mean 'yelp2018'"),
            (("data", "describe", "gowala"), "Did you mean 'gowalla'"),
            ((*TINY, "--option", "user=60"), "Did you mean 'users'"),
            ((*TINY, "--option", "users"), "option 'users': found no value, expected NAME"),
            ((*TINY, "--option", "users=-1"), "Planted.users: found -1"),
            ((*TINY, "--set", "embedding_size=0"), "Model.embedding_size: found 0"),
            ((*TINY, "--set", "learning_rate=NaN"), "Training.learning_rate: found nan"),
            ((*TINY, "--set", "learning_rat=1"), "Did you mean 'learning_rate'"),
            ((*TINY, "--set", "seeds=3"), "--set seeds: is no setting of a training"),
            ((*TINY, "--set", "data=lastfm"), "--set data: is no setting of a training"),
            ((*TINY, "--rate", "2"), "Schedule.rate: found 2"),
            ((*TINY, "--backbone", "lightgnc"), "Did you mean 'lightgcn'"),
            (("data", "describe", "tiktok"), "final_track2_train.txt as the challenge gave it"),
            (("results", "missing", "existance"), "Did you mean 'existence'"),
            (("results", "missing", "--dataset", "gowala"), "Did you mean 'gowalla'"),
            (("results", "ticket", "abc", "t.safetensors"), "found 0 runs"),
            (("results", "replay", "abc"), "found 0 runs"),
            (("notebooks", "run", "existence", "--profile", "quik"), "Did you mean 'quick'"),
            (("search", "--data", "no-such.csv"), "no-such.csv"),
        ],
        ids=lambda value: " ".join(value[:1] + value[-2:]) if isinstance(value, tuple) else "",
    )
    def test_what_a_user_can_mend_is_one_line_and_code_1(self, cli, words, says):
        code, _, err = cli(*words)
        assert code == 1
        assert says in err
        assert err.startswith("lthnb: ")
        assert len(err.splitlines()) == 1


class TestSearch:
    def test_and_again(self, cli):
        code, out, _ = cli(*TINY, *BRIEF)
        assert code == 0
        keys = cli.store.run_keys()
        assert len(keys) == 3
        for key in keys:
            assert key[:8] in out
            assert f"{cli.store.find(key).row['recall@20']:.4f}" in out
        assert cli(*TINY, *BRIEF)[1] == out
        assert cli.store.run_keys() == keys

    def test_settings_reach_the_runs(self, cli):
        words = ("--backbone", "lightgcn", "--set", "layers=2", "--set", "l2=0.5", "--seeds", "3")
        assert cli(*TINY, *BRIEF, *words, "--rounds", "1", "--protocol", "paper")[0] == 0
        for key in cli.store.run_keys():
            row = cli.store.find(key).row
            assert (row["backbone"], row["layers"], row["l2"]) == ("lightgcn", 2, 0.5)
            assert (row["data_seed"], row["init_seed"], row["protocol"]) == (3, 3, "paper")
            assert row["users"] == 60

    @pytest.mark.parametrize("method", ["omp", "random"])
    def test_by_other_methods(self, cli, method):
        assert cli(*TINY, *BRIEF, "--method", method, "--seeds", "0,1")[0] == 0
        assert len(cli.store.run_keys()) == 6


class TestResults:
    def test_list(self, filled):
        code, out, _ = filled("results", "list")
        assert code == 0
        assert all(key[:8] in out for key in filled.store.run_keys())
        assert re.search(r"0 runs in .*results, 3 more in .*store", out)

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
        assert first in again(filled.store).recorded_tables.places
        assert filled("results", "add")[0] == 0
        assert filled("results", "add")[1] == "0 files written\n"
        assert "files merged" in filled("results", "compact")[1]
        assert again(filled.store).recorded_tables.places.keys() == {first, *others}
        assert filled("results", "verify")[0] == 0


class TestTickets:
    def test_of_a_run_written_and_opened(self, filled, tmp_path):
        key = filled.store.run_keys()[0]
        words = ("results", "ticket", key[:10], tmp_path / "t.safetensors", "--values", "float16")
        code, out, _ = filled(*words)
        assert code == 0
        assert key[:8] in out
        opened = lthnb.open(tmp_path / "t.safetensors")
        assert opened.about["key"] == key
        assert len(opened.recommend(opened.data.user_labels[0], n=3)) == 3

    def test_best_of_a_search(self, cli, tmp_path):
        assert cli(*TINY, *BRIEF, "--save", tmp_path / "best.safetensors")[0] == 0
        assert lthnb.open(tmp_path / "best.safetensors").density < 1


class TestMissing:
    def test_lists_what_is_missing_and_trains_it(self, cli, monkeypatch):
        about = {"compare": [{"method": "imp"}], "recorded": ["tiny"]}
        group = {"dataset": "movielens", "backbone": "mf", "settings": "smoke", "seeds": [0]}
        monkeypatch.setitem(grid(), "groups", {"tiny": group})
        monkeypatch.setitem(grid(), "chapters", {"existence": about})
        words = ("results", "missing", "existence", "--quiet")
        first, header, *rows = cli(*words)[1].splitlines()
        assert first == "existence: 3 trainings"
        assert header.split() == [*BY, "trainings"]
        assert [row.split()[:4] for row in rows] == [["movielens", "mf", "validated", "imp"]]
        assert cli.store.run_keys() == []
        assert cli(*words, "--dataset", "lastfm", "--train")[1] == "existence: 0 trainings\n"
        assert cli(*words, "--train", "--time-budget", "0")[0] == EXIT["time budget"]
        assert cli(*words, "--train")[0] == 0
        assert len(cli.store.run_keys()) == 3
        assert cli(*words)[1] == "existence: 0 trainings\n"


class TestStops:
    @pytest.mark.parametrize(
        ("raised", "code", "says"),
        [
            (KeyboardInterrupt(), 130, "lthnb: interrupted."),
            (Stopped("interrupted", "k", 3), 130, "again to go on"),
            (Stopped("terminated", "k", 3), 143, "again to go on"),
            (Stopped("time budget", "k", None), 75, "again to go on"),
            (ModuleNotFoundError("no", name="papermill"), 1, "pip install"),
            (OSError(28, "Disk full", "a/file"), 1, "lthnb: [Errno 28] Disk full: 'a/file'"),
        ],
        ids=repr,
    )
    def test_have_codes_and_no_traceback(self, cli, monkeypatch, raised, code, says):
        monkeypatch.setattr("lthnb.doctor.report", Mock(side_effect=raised))
        found = cli("doctor")
        assert found[0] == code
        assert says in found[2]
        assert "Traceback" not in found[2]

    def test_an_error_of_ours_alone_has_its_traceback(self, cli, monkeypatch):
        monkeypatch.setattr("lthnb.doctor.report", Mock(side_effect=ZeroDivisionError))
        with pytest.raises(ZeroDivisionError):
            cli("doctor")


class TestData:
    def test_list(self, cli):
        code, out, _ = cli("data", "list")
        assert code == 0
        for name in ("yelp2018", "gowalla", "movielens", "synthetic"):
            assert name in out

    def test_describe_a_table_of_ones_own(self, cli, tmp_path):
        rows = [f"u{u},i{i},{1_300_000_000 + i + u}" for u in range(12) for i in range(u, u + 22)]
        (tmp_path / "mine.csv").write_text("user,item,time\n" + "\n".join([*rows, rows[0]]))
        code, out, err = cli(
            *("data", "describe", tmp_path / "mine.csv", "--time", "time", "--split", "last"),
        )
        assert (code, err) == (0, "")
        assert "users: 12\n" in out
        assert "interactions: 264\n" in out
        assert "test: 12\n" in out
        assert "users without test: 0\n" in out
        assert '"how": "each user\'s last items", "leave": 1' in out
        assert re.search(
            r"Recall@20 on test of what is most popular, for everyone: [01]\.\d{4}\n", out
        )
        assert "- Of 265 rows: 1 duplicates merged.\n" in out
        assert "- Users tested: 12. Below 100, intervals are wide.\n" in out
        assert "  threshold: the lowest rating that counts as an interaction. Default None." in out
