"""The challenges' raw files, beside an independent slow reader.

The files are not public: what is read here is written here, in exactly their format.
"""

import csv
import gzip
import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from lthnb import challenge
from lthnb.challenge import (
    KwaiOptions,
    TikTokOptions,
    compare_with_table_1,
    parse_kwai,
    parse_tiktok,
)
from lthnb.config import ConfigError
from lthnb.data import RAW_SHARES, DataError, Interactions, Raw, pick_per_user, to_csr
from lthnb.paper import TITLES
from lthnb.sources import load

FORMS = {"tiktok": challenge.TIKTOK, "kwai": challenge.KWAI}
OPTIONS = {"tiktok": TikTokOptions, "kwai": KwaiOptions}
PARSERS = {"tiktok": parse_tiktok, "kwai": parse_kwai}


def example(kind: str, rows: int = 3000, seed: int = 0) -> list[list[int]]:
    """Lines of a raw file: a video has one author, one length, and in TikTok one time; a city or a
    piece of music that is not known is −1; some lines stand twice."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 60, rows) * 7
    videos = (rng.random(rows) ** 2 * 90).astype(int) * 1000 + 5
    published, watched = 53_080_000_000 + videos, rng.integers(10**9, 10**9 + 5000, rows)
    coin = [(rng.random(rows) < share).astype(int) for share in (0.4, 0.1, 0.05)]
    unknown = rng.integers(-1, 400, (3, rows))
    columns = {
        "tiktok": [
            *(users, unknown[0], videos, videos // 3, unknown[1], rng.integers(0, 5, rows)),
            *(coin[0], coin[1], unknown[2], users + 1, published, videos % 60),
        ],
        "kwai": [users, videos, *coin, watched, rng.integers(0, 20, rows), videos % 60],
    }[kind]
    lines = np.stack(columns, axis=1)
    return [*lines.tolist(), *lines[:50].tolist()]


def write(folder: Path, kind: str, lines, name: str | None = None, end: str = "\n") -> Path:
    path = folder / (name or FORMS[kind].file)
    path.write_bytes("".join("\t".join(map(str, line)) + end for line in lines).encode())
    return path


def slow(path: Path, kind: str, **options) -> set[tuple[int, int]]:
    """The pairs that the options keep, by the csv module and plain Python."""
    o, kept = OPTIONS[kind](**options), set()
    names = FORMS[kind].columns
    with path.open(newline="") as handle:
        for fields in csv.reader(handle, delimiter="\t"):
            line = dict(zip(names, map(int, fields), strict=True))
            marks = [line[name] for name in FORMS[kind].flags]
            wanted = {"line": True, "any": any(marks)}.get(o.positive) or line.get(o.positive) == 1
            since, until = o.since or 0, o.until or 2**63
            if wanted and since <= line["time"] < until:
                kept.add((line[names[0]], line[FORMS[kind].item]))
    if o.videos:
        complete = {int(text) for text in (path.parent / o.videos).read_text().split()}
        kept = {(user, item) for user, item in kept if item in complete}
    while True:
        users, items = (Counter(ids) for ids in zip(*kept, strict=True))
        inner = {
            (user, item) for user, item in kept if users[user] >= o.core and items[item] >= o.core
        }
        if inner == kept:
            return kept
        kept = inner


def pairs_of(raw: Raw) -> list[tuple[int, int]]:
    users, items = raw.parts["all"]
    return list(zip(raw.user_labels[users].tolist(), raw.item_labels[items].tolist(), strict=True))


class TestParsers:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("tiktok", {}),
            *(("tiktok", {"positive": p}) for p in ("like", "any", "line")),
            ("tiktok", {"since": 53_080_010_005, "until": 53_080_040_005}),
            ("tiktok", {"positive": "line", "core": 8, "videos": "complete.txt"}),
            ("kwai", {}),
            *(("kwai", {"positive": p}) for p in ("like", "follow", "line")),
            ("kwai", {"since": 1_000_001_000, "until": 1_000_004_000, "core": 3}),
        ],
    )
    def test_same_pairs_as_the_slow_reader(self, tmp_path, kind, options):
        path = write(tmp_path, kind, example(kind))
        (tmp_path / "complete.txt").write_text("".join(f"{n * 1000 + 5}\n" for n in range(40)))
        raw = PARSERS[kind](path, OPTIONS[kind](**options))
        expected = slow(path, kind, **options)
        assert len(expected) > 100
        assert set(pairs_of(raw)) == expected
        assert raw.counts["rows"] == 3050
        left_out = ("not_positive", "outside_period", "without_all_features", "outside_core")
        kept = 3050 - sum(raw.counts.get(what, 0) for what in left_out)
        assert kept == len(raw.parts["all"][0])
        for codes, labels in zip(raw.parts["all"], (raw.user_labels, raw.item_labels), strict=True):
            assert np.unique(codes).tolist() == list(range(len(labels)))
            assert (np.diff(labels) > 0).all()
            assert labels.dtype == np.int64

    def test_tiktoks_time_is_the_videos_and_kwais_the_interactions(self, tmp_path):
        lines = example("kwai")
        raw = parse_kwai(write(tmp_path, "kwai", lines), KwaiOptions(positive="line"))
        assert raw.times.tolist() == [line[5] for line in lines]
        assert raw.counts["earliest_time"] == raw.times.min()
        assert raw.counts["latest_time"] == raw.times.max()
        clicked = parse_kwai(tmp_path / "train_interaction.txt", KwaiOptions(core=4))
        assert len(clicked.times) == len(clicked.parts["all"][0])
        tiktok = parse_tiktok(write(tmp_path, "tiktok", example("tiktok")), TikTokOptions())
        assert tiktok.times is None
        assert (tiktok.counts["earliest_time"], tiktok.counts["latest_time"]) == (
            53_080_000_005,
            53_080_089_005,
        )

    def test_notes_say_that_the_papers_filter_is_not_told(self, tmp_path):
        tiktok = parse_tiktok(write(tmp_path, "tiktok", example("tiktok")), TikTokOptions())
        kwai = parse_kwai(write(tmp_path, "kwai", example("kwai")), KwaiOptions())
        assert "does not fully tell its filter of TikTok" in tiktok.notes[0]
        assert "tells nothing of how its Kwai was filtered" in kwai.notes[0]

    @pytest.mark.parametrize("kind", FORMS)
    def test_windows_newlines_blank_lines_and_gzip(self, tmp_path, kind):
        options = OPTIONS[kind]()
        expected = pairs_of(PARSERS[kind](write(tmp_path, kind, example(kind)), options))
        text = (tmp_path / FORMS[kind].file).read_bytes()
        for name, content in {
            "dos.txt": b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"),
            "blank.txt": b"\n\n" + text + b"\n",
            "no_last_newline.txt": text.removesuffix(b"\n"),
            "packed.gz": gzip.compress(text, mtime=0),
            "packed_too.txt": gzip.compress(text, mtime=0),
        }.items():
            (tmp_path / name).write_bytes(content)
            assert pairs_of(PARSERS[kind](tmp_path / name, options)) == expected, name

    def test_period_given_as_text(self):
        assert KwaiOptions(since="10", until=" 20 ") == KwaiOptions(since=10, until=20)

    def test_huge_ids(self, tmp_path):
        lines = example("kwai", 200)
        for line in lines:
            line[1] += 2**62
        raw = parse_kwai(write(tmp_path, "kwai", lines), KwaiOptions())
        assert raw.item_labels.min() >= 2**62
        assert set(pairs_of(raw)) == slow(tmp_path / "train_interaction.txt", "kwai")

    def test_many_blocks(self, tmp_path, monkeypatch):
        path = write(tmp_path, "kwai", example("kwai"))
        expected = parse_kwai(path, KwaiOptions(core=2))
        monkeypatch.setattr(challenge, "BLOCK", 1 << 12)
        assert len(list(challenge._blocks(path, challenge.KWAI))) > 20
        found = parse_kwai(path, KwaiOptions(core=2))
        assert pairs_of(found) == pairs_of(expected)
        assert found.times.tolist() == expected.times.tolist()
        assert found.counts == expected.counts


def spoiled(kind: str, what: str) -> bytes:
    """A raw file of 50 good lines, whose 31st has something wrong."""
    lines = [list(map(str, line)) for line in example(kind, 1)[:1] * 50]
    names, line = FORMS[kind].columns, lines[30]
    if "=" in what:
        name, value = what.split("=")
        line[names.index(name)] = value
    elif what == "ragged":
        line.pop()
    elif what == "too many":
        line.append("1")
    elif what == "cut off":
        lines = lines[:31]
    text = "".join("\t".join(fields) + "\n" for fields in lines).encode()
    return text[: text.rindex(b"\t")] if what == "cut off" else text


class TestRefused:
    @pytest.mark.parametrize(
        ("kind", "what", "words"),
        [
            ("tiktok", "ragged", r"line 31: found 11 columns in '.*', expected 12, tab-separated"),
            ("tiktok", "too many", r"line 31: found 13 columns in '.*', expected 12"),
            ("tiktok", "cut off", r"line 31: found 11 columns .* is cut off here: copy it again"),
            ("tiktok", "uid=u7", r"line 31, column 'uid': found 'u7', expected a whole number"),
            ("tiktok", "uid=", r"line 31, column 'uid': found '', expected a whole number"),
            ("tiktok", "uid=-1", r"line 31, column 'uid': found '-1', .* from 0 to"),
            ("tiktok", "item_id=3.5", r"line 31, column 'item_id': found '3.5', expected a whole"),
            ("tiktok", f"item_id={2**63}", r"column 'item_id': found '\d+', .*to 9223372036854775"),
            ("tiktok", "finish=2", r"line 31, column 'finish': found '2', expected 0 or 1"),
            ("tiktok", "like=-1", r"column 'like': found '-1', .*test file has no finish"),
            ("tiktok", "time=-5", r"line 31, column 'time': found '-5', .*final_track2_train.txt"),
            ("kwai", "ragged", r"line 31: found 7 columns in '.*', expected 8, tab-separated"),
            ("kwai", "click=NULL", r"line 31, column 'click': found 'NULL', expected 0 or 1"),
            ("kwai", "photo_id=x", r"line 31, column 'photo_id': found 'x', .*bring train_inter"),
        ],
    )
    def test_line_is_named(self, tmp_path, kind, what, words):
        path = tmp_path / FORMS[kind].file
        path.write_bytes(spoiled(kind, what))
        with pytest.raises(
            DataError, match=rf"^{FORMS[kind].file}, {'.*' * (words[0] == 'c')}"
        ) as e:
            PARSERS[kind](path, OPTIONS[kind]())
        assert e.match(words)

    def test_columns_that_are_not_read_may_hold_anything(self, tmp_path):
        path = tmp_path / "train_interaction.txt"
        path.write_bytes(spoiled("kwai", "duration=?"))
        assert len(pairs_of(parse_kwai(path, KwaiOptions(positive="line")))) == 50

    @pytest.mark.parametrize("kind", FORMS)
    def test_header(self, tmp_path, kind):
        path = write(tmp_path, kind, [FORMS[kind].columns, *example(kind, 10)])
        with pytest.raises(DataError, match=r"line 1, column '.*id': found '.*id', .* no header"):
            PARSERS[kind](path, OPTIONS[kind]())

    @pytest.mark.parametrize("kind", FORMS)
    def test_commas(self, tmp_path, kind):
        path = write(tmp_path, kind, example(kind, 10))
        path.write_text(path.read_text().replace("\t", ","))
        with pytest.raises(DataError, match=r"line 1: found 1 columns .* by commas: .* by tabs"):
            PARSERS[kind](path, OPTIONS[kind]())

    def test_test_files(self, tmp_path):
        kwai = write(tmp_path, "kwai", [(1, 2, 3, 4)] * 5, "test_interaction.txt")
        with pytest.raises(DataError, match=r"^test_interaction.txt, line 1: found 4 columns .*"):
            parse_kwai(kwai, KwaiOptions())
        with pytest.raises(DataError, match=r"bring train_interaction.txt .*test_interaction.txt"):
            parse_kwai(kwai, KwaiOptions())

    @pytest.mark.parametrize("kind", FORMS)
    @pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"", mtime=0)])
    def test_empty(self, tmp_path, kind, content):
        path = tmp_path / FORMS[kind].file
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"^{path.name}: found no line, expected .*columns"):
            PARSERS[kind](path, OPTIONS[kind]())

    @pytest.mark.parametrize("bytes_lost", [1, 30, 5000])
    def test_truncated_gzip(self, tmp_path, bytes_lost):
        packed = gzip.compress(write(tmp_path, "kwai", example("kwai")).read_bytes())
        (tmp_path / "train_interaction.txt.gz").write_bytes(packed[:-bytes_lost])
        with pytest.raises(DataError, match=r"^train_interaction.txt.gz: cannot be unpacked: .*"):
            parse_kwai(tmp_path / "train_interaction.txt.gz", KwaiOptions())

    def test_altered_gzip(self, tmp_path):
        packed = bytearray(gzip.compress(write(tmp_path, "kwai", example("kwai")).read_bytes()))
        packed[len(packed) // 2] ^= 0xFF
        (tmp_path / "train_interaction.txt.gz").write_bytes(packed)
        with pytest.raises(DataError, match=r"^train_interaction.txt.gz"):
            parse_kwai(tmp_path / "train_interaction.txt.gz", KwaiOptions())

    def test_another_archive(self, tmp_path):
        (tmp_path / "train_interaction.txt").write_bytes(b"PK\x03\x04\x00\xff\n" * 3)
        with pytest.raises(DataError, match=r"line 1: found 1 columns in 'PK.*', expected 8"):
            parse_kwai(tmp_path / "train_interaction.txt", KwaiOptions())

    def test_no_such_file(self, tmp_path):
        with pytest.raises(
            DataError, match=r"no such file, expected final_track2_train.txt.*never"
        ):
            parse_tiktok(tmp_path / "final_track2_train.txt", TikTokOptions())

    def test_without_pyarrow(self, tmp_path, monkeypatch):
        path = write(tmp_path, "kwai", example("kwai", 10))
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(DataError, match=r"needs pyarrow: pip install pyarrow"):
            parse_kwai(path, KwaiOptions())

    @pytest.mark.parametrize(
        ("options", "count"),
        [
            ({"since": 10}, "outside_period 5"),
            ({"positive": "like"}, "not_positive 5"),
            ({"core": 2}, "outside_core 5"),
            ({"videos": "others.txt"}, "without_all_features 5"),
        ],
    )
    def test_nothing_left(self, tmp_path, options, count):
        write(tmp_path, "kwai", [(u, u, 1, 0, 0, 9, 1, 1) for u in range(5)])
        (tmp_path / "others.txt").write_text("77\n")
        with pytest.raises(DataError, match=rf"no pair is left.*rows 5.*{count}.*earliest_time 9"):
            parse_kwai(tmp_path / "train_interaction.txt", KwaiOptions(**options))

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"1\nx\n", r"others.txt, line 2: found 'x', expected the id of a video"),
            (b"1\n2.5\n", r"others.txt, line 2: found '2.5', expected the id"),
            (b"\n", "others.txt: found no id, expected one a line"),
            (None, "no file 'others.txt' beside the raw one"),
        ],
    )
    def test_list_of_videos(self, tmp_path, content, words):
        path = write(tmp_path, "kwai", example("kwai", 10))
        if content is not None:
            (tmp_path / "others.txt").write_bytes(content)
        with pytest.raises(DataError, match=words):
            parse_kwai(path, KwaiOptions(positive="line", videos="others.txt"))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"positive": "finnish"}, r"TikTokOptions.positive: .* Did you mean 'finish'"),
            ({"positive": "click"}, r"expected one of 'finish', 'like', 'any', 'line'"),
            ({"core": -1}, r"TikTokOptions.core: found -1, expected a number ≥ 0"),
            ({"since": 9, "until": 9}, r"until: found 9, expected more than since = 9"),
            ({"since": "today"}, r"TikTokOptions.since: found 'today', expected a whole number"),
            ({"until": -5}, r"TikTokOptions.until: found -5, expected a whole number ≥ 0"),
            ({"until": 1.5}, r"TikTokOptions.until: found 1.5, expected a whole number"),
            ({"videos": "/data/v.txt"}, r"videos: found '/data/v.txt', .*without folders"),
        ],
    )
    def test_options(self, options, words):
        with pytest.raises(ConfigError, match=words):
            TikTokOptions(**options)


def made(pairs, shape, name="toy") -> Interactions:
    parts = pick_per_user(to_csr(*pairs, shape), 0, *RAW_SHARES)
    labels = {"user_labels": np.arange(shape[0]), "item_labels": np.arange(shape[1])}
    return Interactions(name, *parts, **labels)


@pytest.fixture(scope="module")
def kwai_size() -> Interactions:
    """Pairs with the counts of Table 1: each user has one run of items, and all items occur."""
    users, items, pairs = 7010, 80_631, 292_042
    of = np.sort(np.arange(pairs) % users)
    return made((of, np.arange(pairs) % items), (users, items), "kwai of a size")


class TestSources:
    """As sources, for whoever holds the files."""

    @pytest.mark.parametrize(("kind", "split"), [("tiktok", "random"), ("kwai", "last")])
    def test_load(self, tmp_path, monkeypatch, kind, split):
        monkeypatch.setenv("LTHNB_DATA", str(tmp_path))
        (tmp_path / kind).mkdir()
        path = write(tmp_path / kind, kind, example(kind))
        data = load(kind, split=split, core=2)
        whole = (data.train + data.valid + data.test).tocoo()
        found = set(zip(data.user_labels[whole.row], data.item_labels[whole.col], strict=True))
        assert found == slow(path, kind, core=2)
        assert data.origin["files"] == {path.name: sha256(path.read_bytes()).hexdigest()}
        said = " ".join(data.warnings())
        assert f"beside {TITLES[kind]} in Table 1: users: found {data.users:,}, in the pape" in said
        assert "filter" in said  # that the paper does not fully tell it

    def test_tiktok_has_no_times_of_interactions(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LTHNB_DATA", str(tmp_path))
        (tmp_path / "tiktok").mkdir()
        write(tmp_path / "tiktok", "tiktok", example("tiktok"))
        with pytest.raises(DataError, match="found split='last' and no times"):
            load("tiktok", split="last")

    def test_where_the_file_belongs(self, tmp_path):
        with pytest.raises(DataError, match=r"no file .*kwai.train_interaction.txt, .*never rel"):
            load("kwai", data_dir=tmp_path)


class TestTable1:
    def test_equal_counts(self, kwai_size):
        found = compare_with_table_1(kwai_size, "kwai")
        assert found["same"]
        assert found["rows"]["items"] == {"found": 80_631, "paper": 80_631, "relative": 0.0}
        assert abs(found["rows"]["density"]["relative"]) < 0.01  # printed with two digits
        assert found["lines"][1] == "users: found 7,010, in the paper 7,010 (+0.0 %)"
        assert "tells nothing of how its Kwai was filtered" in found["lines"][-1]
        assert "Equal counts do not make it the same set" in found["lines"][-1]
        assert json.loads(json.dumps(found)) == found

    def test_other_counts_inform_and_are_not_refused(self):
        """Users and items without a pair do not count, as in Table 1."""
        users, items = np.repeat(np.arange(40), 10), np.tile(np.arange(10), 40)
        found = compare_with_table_1(made((users, items), (50, 97_117)), "tiktok")
        assert not found["same"]
        assert [found["rows"][w]["found"] for w in ("users", "items", "interactions")] == [
            *(40, 10, 400)
        ]
        assert found["rows"]["users"]["relative"] == pytest.approx(40 / 36_638 - 1)
        assert found["lines"][3] == "interactions: found 400, in the paper 746,546 (-99.9 %)"
        assert "does not fully tell its filter of TikTok" in found["lines"][-1]

    def test_unknown_set(self, kwai_size):
        with pytest.raises(DataError, match=r"Table 1: found 'kwaii', .* Did you mean 'kwai'"):
            compare_with_table_1(kwai_size, "kwaii")
