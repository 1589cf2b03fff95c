"""A table of one's own, in whatever state: read, or refused with where, what was found, what to do.

Spoilt tables at random are in test_fuzz.py.
"""

import contextlib
import csv
import gzip
import io
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import example, given
from hypothesis import strategies as st
from test_sources import pairs_of
from toys import toy_spec, trained

from lthnb.config import ConfigError
from lthnb.data import PARTS, DataError
from lthnb.datasets.sources import load, load_with
from lthnb.store.runs import Store

HEADER = "user,item,rating,time\n"
ROWS = "".join(
    f"{u},{i},{(u + i) % 5 + 1},{1_300_000_000 + 100 * i + u}\n"
    for u in range(6)
    for i in range(30)
)
GOOD = HEADER + ROWS  # 181 lines; a bad one behind it is line 182
BAD = 182


def refused(words: str):
    return pytest.raises(DataError, match=words)


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "mine.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def everything(data) -> set:
    return set().union(*(pairs_of(data, part) for part in PARTS))


def lists(pairs: dict[int, list[int]]) -> str:
    return "".join(" ".join(map(str, [user, *items])) + "\n" for user, items in pairs.items())


class Interchange:
    """A frame of a library that offers the interchange protocol alone."""

    def __init__(self, frame):
        self.frame = frame

    def __dataframe__(self, **options):
        return pa.Table.from_pandas(self.frame).__dataframe__(**options)


SPLIT = {
    "train": lists({0: [1, 2, 3, 4, 5, 6, 7, 8], 1: [2, 3], 2: [1, 4, 9]}),
    "test": lists({0: [9, 2], 1: [1], 2: [8]}),
}


class TestForms:
    """The same pairs, whichever way they come, give the same data."""

    def test_every_form_is_the_same(self, write, tmp_path):
        csv = write(GOOD)
        frame = pd.read_csv(csv)
        frame.to_parquet(tmp_path / "mine.parquet")
        frame.to_feather(tmp_path / "mine.feather")
        matrix = sp.csr_matrix((np.ones(len(frame)), (frame.user, frame.item)))
        sp.save_npz(tmp_path / "matrix.npz", matrix)
        by_user = {u: list(range(30)) for u in range(6)}
        forms = [
            str(csv),
            write(GOOD.replace(",", "\t"), "mine.tsv"),
            write(gzip.compress(GOOD.encode(), mtime=0), "mine.csv.gz"),
            write("\ufeff" + GOOD, "bom.csv"),
            write(GOOD.replace("\n", "\r\n"), "windows.csv"),
            write(GOOD.replace("\n", "\n\n"), "blank.csv"),
            write(lists(by_user), "mine.txt"),
            write(GOOD.encode("utf-16"), "wide.csv"),
            write(gzip.compress(GOOD.encode(), mtime=0), "packed.csv"),
            tmp_path / "mine.parquet",
            tmp_path / "mine.feather",
            tmp_path / "matrix.npz",
            write(pickle.dumps(matrix.tocoo()), "mine.pkl"),
            pa.Table.from_pandas(frame),
            Interchange(frame),
            frame,
            frame.sample(frac=1, random_state=1),
            frame.astype(str),
            frame.astype("category"),
            frame.astype("Int64"),
            matrix,
            sp.csr_array(matrix),
        ]
        found = [load(form) for form in forms]
        assert {data.digest for data in found} == {found[0].digest}
        assert {data.user_labels.dtype.kind for data in found} == {"i"}
        assert all((data.item_labels == np.arange(30)).all() for data in found)

    def test_options_name_what_a_file_does_not_say(self, write):
        same = load(write(GOOD)).digest
        other = GOOD.replace("user,item,rating,time", "a,b,c,d")
        assert load(write(other), user="a", item="b").digest == same
        assert load(write(ROWS), columns="user,item,rating,time").digest == same
        semicolons = write(GOOD.replace(",", ";"))
        assert load(semicolons, separator=";").digest == same
        blanks = write(ROWS.replace(",", "\t"), "u.data")
        assert load(blanks, columns="user,item,rating,time", separator="tab").digest == same

    def test_a_matrix_by_its_values(self):
        values = sp.random(20, 30, 0.5, "csr", random_state=0)
        data = load(values, rating="value", threshold=0.5)
        assert len(everything(data)) == (values.data >= 0.5).sum()
        values.data[:3] = 0.0
        assert len(everything(load(values))) == values.nnz - 3

    def test_origin_is_plain_and_names_no_folder(self, write, tmp_path):
        data = load(write(GOOD), rating="rating", threshold=3)
        text = json.dumps(data.origin)
        assert data.name == "mine"
        assert str(tmp_path) not in text
        assert list(json.loads(text)["files"]) == ["mine.csv"]
        rated = {"rating": "rating", "threshold": 3.0}
        assert data.origin["options"] == {"user": "user", "item": "item", **rated}


class TestLabels:
    @pytest.mark.parametrize(
        ("top", "kind"), [(2**63 - 1, "i"), (2**64 - 1, "u"), (2**64 + 9, "U"), (10**30, "U")]
    )
    def test_large_ids_stay_exact(self, write, top, kind):
        text = "user,item\n" + "".join(f"{top - u},{i}\n" for u in range(4) for i in range(10))
        labels = load(write(text)).user_labels
        assert labels.dtype.kind == kind
        assert sorted(map(str, labels)) == sorted(str(top - u) for u in range(4))

    @pytest.mark.parametrize("odd", ["NA", "null", "007", "1e5", "9007199254740993", " 7", "1E+05"])
    def test_an_odd_id_survives_or_is_refused(self, write, odd):
        """Among numbers and among names, in text and in a frame; never as another id."""
        for others in ("123456789", "abcdefghi"):
            frame = pd.DataFrame({"user": [*others, odd] * 9, "item": [*range(9)] * 10})
            for source in (frame, write(frame.to_csv(index=False))):
                with contextlib.suppress(DataError):
                    data = load(source)
                    assert odd in data.user_labels.astype(str).tolist()
                    assert data.users == 10
                data = load(source, ids="text")
                assert sorted(data.user_labels.tolist()) == sorted([*others, odd])

    def test_ids_of_two_kinds_are_text_and_said(self, write):
        data = load(write(GOOD + "-1,3,4,1300000000\n007,3,4,1300000000\n"))
        assert {"-1", "007", "5"} <= set(data.user_labels)
        said = "All users are taken as text: 2 of 8 are no whole numbers, such as '-1'."
        assert said in data.warnings()


class TestReconciled:
    """Rows that no table may lose without a word."""

    def test_losses_are_counted_and_said(self, write):
        rated = {"rating": "rating", "threshold": 2, "core": 2}
        text = GOOD.replace("\n2,", "\n,,,\n\n2,") + "0,0,5,1300000000\n" * 2 + "99,0,5,1\n"
        data = load(write(text), **rated)
        assert data.origin["counts"] == {
            **{"rows": 243, "blank_rows": 60, "below_threshold": 36, "outside_core": 1},
            "duplicates_merged": 1,
        }
        assert len(everything(data)) == 243 - 60 - 36 - 1 - 1
        assert "Of 243 rows: 60 blank rows, 36 below threshold, " in " ".join(data.warnings())

    @pytest.mark.parametrize("second", ["North", 'No"rth', 'North"', '"North'])
    def test_quotation_marks_that_swallow_rows_are_refused(self, write, second):
        rows = [f"{u}\t{i}\tBlue\n" for u in range(6) for i in range(30)]
        rows[7] = '0\t7\t"Stone\n'
        rows[90] = f"3\t0\t{second}\n"
        path = write("user\titem\ttitle\n" + "".join(rows), "stray.tsv")
        with refused("line 9: found a value .*goes on.*quote=none|Expected 3 columns.*quote=none"):
            load(path)
        data = load(path, quote="none")
        assert data.origin["counts"] == {"rows": 180, "duplicates_merged": 0}

    @pytest.mark.parametrize("header", ["user,item", "userId,movieId", "USER_ID,Item", "uid,iid"])
    def test_a_header_that_was_not_said_is_refused(self, write, header):
        ids = "".join(f"u{u},i{i}\n" for u in range(6) for i in range(30))
        with refused("line 1, column 'user': found .*like a header.*leave out columns="):
            load(write(f"{header}\n{ids}"), columns="user,item")

    def test_equal_times_are_said(self, write):
        text = GOOD.replace("time", "at")
        frame = pd.read_csv(write(text)).assign(time=1_300_000_000)
        notes = load(frame, time="time", split="last").warnings()
        assert "Users whose last items share their time with one before: 6 of 6." in " ".join(notes)
        assert not any("share" in note for note in load(frame, time="at", split="last").warnings())

    def test_a_score_that_is_not_read_is_said(self, write):
        frame = pd.read_csv(write(GOOD))
        for source in (frame, write(GOOD)):
            said = "column 'rating' is not read, so each row counts."
            assert said in " ".join(load(source).warnings())
        assert "is not read" not in " ".join(load(frame.drop(columns="rating")).warnings())


DATES = ["2011-03-13", "2011-03-13T10:00:00Z", "2011-03-13 10:00+02:00"]


class TestSplits:
    def test_last_items_go_to_test(self, write):
        again = "".join(f"{u},0,1,1400000000\n" for u in range(6))  # the first time counts
        data = load(write(GOOD + again), time="time", split="last")
        assert pairs_of(data, "test") == {(u, 29) for u in range(6)}
        assert pairs_of(data, "valid") == {(u, 28) for u in range(6)}
        how = {"how": "each user's last items", "way": "last", "leave": 1, "seed": 0}
        assert data.origin["split"] == how

    def test_by_time(self, write):
        data = load(write(GOOD), time="time", split="time")
        assert pairs_of(data, "train") == {(u, i) for u in range(6) for i in range(21)}
        assert pairs_of(data, "valid") == {(u, i) for u in range(6) for i in range(21, 24)}
        assert data.origin["split"] == {"how": "7:1:2 by time", "way": "time"}

    @pytest.mark.parametrize("at", [*DATES, " 2011-03-13", " 1300000013"])
    def test_dates(self, write, at):
        later = at.replace("13", "14")
        rows = [f"{u},{i},{later if i == 7 else at}" for u in range(6) for i in range(9)]
        data = load(write("user,item,time\n" + "\n".join(rows)), time="time", split="last")
        assert pairs_of(data, "test") == {(u, 7) for u in range(6)}

    def test_order_of_rows_does_not_matter(self, write):
        frame = pd.read_csv(write(GOOD))
        frame["time"] //= 300  # ties
        shuffled = frame.sample(frac=1, random_state=3)
        for split in ("random", "last", "time"):
            options = {"time": "time", "time_unit": "order", "split": split}
            a, b = (load(f, **options) for f in (frame, shuffled))
            assert a.digest == b.digest

    def test_given_parts(self, write, tmp_path):
        for part, text in SPLIT.items():
            write(text, f"mine/{part}.txt")
        data = load(tmp_path / "mine")
        assert data.name == "mine"
        assert pairs_of(data, "test") == {(0, 9), (1, 1), (2, 8)}
        assert data.origin["counts"]["pairs_in_two_parts"] == 1
        assert sorted(data.origin["files"]) == ["test.txt", "train.txt"]
        parts = {part: tmp_path / "mine" / f"{part}.txt" for part in SPLIT}
        assert load(parts).digest == data.digest

    @pytest.mark.parametrize("stem", ["valid", "val", "validation", "valMat"])
    def test_folders_as_others_write_them(self, write, tmp_path, stem):
        matrices = [sp.random(9, 30, 0.3, "coo", random_state=k) for k in range(3)]
        names = ("trnMat", stem, "tstMat") if stem == "valMat" else ("train", stem, "test")
        for name, matrix in zip(names, matrices, strict=True):
            write(pickle.dumps(matrix), f"hkuds/{name}.pkl")
        data = load(tmp_path / "hkuds")
        assert data.train.nnz == matrices[0].nnz
        assert data.origin["counts"]["rows"] == sum(matrix.nnz for matrix in matrices)


RATED = {"rating": "rating", "threshold": 2}
TIMED = "user,item,time\n" + "".join(f"{u},{i},AT\n" for u in "abc" for i in range(9))
WRONG = {  # what is wrong → text, options, words of the message
    "empty": ("", {}, "mine.csv: found nothing"),
    "a hole after blank lines": (
        'user,item\n\n"a",2\n\nc,\n',
        {},
        "mine.csv, line 5, column 'item': found nothing",
    ),
    "one user": ("user,item\n1,1\n1,2\n", {}, "found 1 users, in 2 rows"),
    "NUL": (GOOD + "a\0b,3,4,1\n", {"ids": "text"}, f"line {BAD}, column 'user': .*without NUL"),
    "endless": (GOOD + "x" * 600 + ",3,4,1\n", {"ids": "text"}, f"line {BAD}, .*at most 500"),
    **{
        f"rating {word}": (GOOD + f"1,3,{word},1\n", RATED, f"line {BAD}, column 'rating': found")
        for word in ("nan", "-inf", "", "good")
    },
    "threshold": (GOOD, {**RATED, "threshold": 9}, "no row is left with threshold=9.0 and"),
    "too few": (GOOD + "1,3,4\n", {}, f"Row #{BAD}: Expected 4 columns, got 3: 1,3,4"),
    "open mark": (GOOD + '"1,3,4,5\n1,3,4,5\n', {}, f"Row #{BAD}: Expected 4 columns.*quote=none"),
    "separator": (GOOD.replace(",", ";"), {}, "no column 'user' .*separator="),
    "no header": ("1,31,2.5\n1,1029,3.0\n", {}, "no column 'user' .*found '1', '31', '2.5'; name"),
    "rounded": (GOOD.replace("\n1,", "\n1.3E+09,"), {}, "line 32, column 'user': .*rounded this"),
    "decimal comma": ('user,item,rating\n1,2,"3,5"\n', RATED, "a point before decimals"),
    "ms": (GOOD.replace(",1300", ",1300000"), {"time": "time"}, "what fits is time_unit=ms"),
    "one for two": (GOOD, {"item": "user"}, "column 'user' is there or asked for twice"),
    "no date": (TIMED.replace("AT", "2020-01-01", 1), {"time": "time"}, "line 3, .*found 'AT'"),
    "a date among numbers": (GOOD + "1,3,4,2020-01-01\n", {"time": "time"}, "found '2020-01-01'"),
    "one moment": (
        TIMED.replace("AT", "1300000000"),
        {"split": "time", "time": "time"},
        "split by time, the parts have 0, 0, 27 pairs, .*share one moment",
    ),
    "joined files": (GOOD + GOOD, {}, f"line {BAD}, column 'user': found 'user', .*like a header"),
    "row number": ("user,item\n1,1\n2,2\n1,3\n", {}, "3 items, in 1 rows .*such as a row number"),
    "k-core": (GOOD, {"core": 40}, "no row is left with .*core=40"),
    "no test": ("user,item\n1,1\n1,2\n2,2\n2,1\n", {}, "no pair is left for test.*three items"),
    "no valid": (
        "user,item\n" + "".join(f"{u},{i}\n" for u in range(9) for i in range(u, u + 3)),
        {},
        "valid is empty. .*a user needs five items .*or use protocol 'paper'",
    ),
    "no times": (GOOD, {"split": "time"}, "found split='time' and no times, .*time="),
}


@pytest.mark.parametrize("what", WRONG)
def test_text_that_cannot_be_meant_is_refused(write, what):
    text, options, words = WRONG[what]
    with refused(words) as error:
        load(write(text), **options)
    assert "\n" not in str(error.value)


LATIN = ("user,item\n" + "1,2\n" * 5 + "é,2\n").encode("cp1252")
STRAY = b"user\titem\ttitle\n" + b'1\t2\t"Up\n' * 28


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-20], "cannot be unpacked .*damaged"),
        ("sheet.csv", b"PK\x03\x04....", "sheet.csv: found another kind of file"),
        ("mine.csw", GOOD.encode(), "found the suffix '.csw', .*Did you mean '.csv'"),
        ("mine.parquet", GOOD.encode(), "mine.parquet: cannot be read .*damaged"),
        ("mine.pkl", pickle.dumps([1, 2]), "mine.pkl: cannot be read .*damaged"),
        ("odd.txt", b"1 2 3\n4 5 6\n", "every line has 3 words, .* form=lists, or"),
        ("latin.csv", LATIN, "latin.csv, line 7: .*encoding=cp1252"),
        ("titles.tsv", STRAY, "29 lines make 14 rows.*quote=double"),
    ],
)
def test_file_that_cannot_be_meant_is_refused(write, name, content, words):
    with refused(words) as error:
        load(write(content, name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        *(
            (pd.DataFrame({"user": users, "item": [1, 2][: len(users)]}), words)
            for users, words in [
                ([1, 2.5], "row 2, column 'user': found 2.5, expected whole"),
                ([1, "a"], "what Arrow cannot hold .*column user.*astype"),
                ([True, False], "found True, expected whole"),
                ([2.0**60, 1.0], "row 1, .*whole numbers or text"),
                ([], "table: found no row"),
            ]
        ),
        *(
            (sp.csr_matrix(np.array(values)), f"table.*: found {kind}")
            for values, kind in [([[1.0, np.nan], [1.0, 0.0]], "float64"), ([[1j, 1]], "complex")]
        ),
        *(
            (source, "unknown source .*expected one of movielens.*a DataFrame")
            for source in (5, None, [1, 2], b"mine.csv", "movielens1m")
        ),
    ],
)
def test_what_is_no_table_is_refused(source, words):
    with refused(words):
        load(source)


class TestRefusedParts:
    @pytest.fixture
    def folder(self, write, tmp_path):
        for part, text in SPLIT.items():
            write(text, f"mine/{part}.txt")
        return tmp_path / "mine"

    @pytest.mark.parametrize(
        ("file", "text", "options", "words"),
        [
            ("README", "", {"core": 2}, "found core=2 for given parts, .*Filter before"),
            ("README", "", {"split": "last"}, "found split='last' for parts that are given"),
            ("test.csv", "user,item\n0,5\n", {}, "found two files for test"),
            ("test.txt", "0 1 2\n1 3\n", {}, "no pair is left for test.*stand in train"),
            ("test.txt", "7\n", {}, "test.txt: found no row"),
        ],
    )
    def test_folders(self, folder, write, file, text, options, words):
        write(text, f"mine/{file}")
        with refused(words):
            load(folder, **options)

    def test_a_part_that_is_missing_or_misspelt(self, folder, tmp_path):
        with refused("found the parts train, tset, expected train and test"):
            load({"train": folder / "train.txt", "tset": folder / "test.txt"})
        (folder / "test.txt").unlink()
        for where in (folder, tmp_path):
            with refused("found the parts .*, expected train and test"):
                load(where)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"itm": "item"}, "table: unknown setting 'itm', .*Did you mean 'item'"),
            ({"user": None}, "table.user: found None"),
            ({"item": ["item"]}, "table.item: found "),
            ({"rating": "rating", "threshold": float("nan")}, "table.threshold: found nan"),
            ({"rating": "rating"}, "rating='rating' and threshold=None, expected both or neither"),
            ({"form": "list"}, "table.form: found 'list', expected 'lists' or 'rows'"),
            ({"core": -1}, "table.core: found -1, expected a number greater than or equal to 0"),
            ({"separator": "::"}, "separator: found '::', expected one character"),
            ({"split": "lats"}, "split.how: found 'lats', expected .*'last'"),
        ],
    )
    def test_one_that_cannot_be_is_refused_in_one_line(self, write, options, words):
        with pytest.raises(ConfigError, match=words) as error:
            load(write(GOOD), **options)
        assert "\n" not in str(error.value)

    def test_what_is_told_and_says_nothing_is_left_out(self, write):
        told = {"user": "user", "item": "item", "rating": "", "threshold": 4.0, "time": ""}
        for name in (str(write(GOOD)), "synthetic"):
            assert load_with(name, "paper", SimpleNamespace(**told)).digest == (
                load(name, protocol="paper").digest
            )
        told = SimpleNamespace(**{**told, "rating": "rating"})
        data = load_with(str(write(GOOD)), "paper", told, ids="text")
        assert data.origin["counts"]["below_threshold"] == 108


def test_a_catalogue_smaller_than_k_is_not_trained(tmp_path):
    data = load(pd.DataFrame({"user": np.repeat(range(9), 12), "item": [*range(12)] * 9}))
    with refused("found a catalogue of 12 items, expected more than 20"):
        trained(Store(tmp_path), data, toy_spec())


def test_nothing_odd_says_nothing():
    frame = pd.DataFrame({"user": np.repeat(range(120), 30), "item": np.tile(range(30), 120)})
    assert load(frame).warnings() == []


TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
).filter(str.strip)


ITEM = TEXT.map("x{}".format)  # a user "USER" with an item "USER" would look like a header


@given(users=st.sets(TEXT, min_size=2, max_size=5), items=st.sets(ITEM, min_size=8, max_size=9))
@example(users={'a, "b"\n1', "c"}, items={*"abcdefgh"})
def test_any_text_comes_back_as_it_was(tmp_path_factory, users, items):
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    out = io.StringIO()
    pairs = {(user, item) for user in users for item in items}
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("user", "item"), *sorted(pairs)])
    path.write_bytes(out.getvalue().encode())
    data = load(path, ids="text", quote="double")
    assert everything(data) == pairs
    assert data.user_labels.tolist() == sorted(users)
    assert data.origin["counts"] == {"rows": len(pairs), "duplicates_merged": 0}
