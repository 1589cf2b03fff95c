"""Random tables: nothing is lost on the way, labels come back, the order of rows means nothing."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sources import pairs_of

from lthnb.data import PARTS, k_core, largest_core, popularity_groups
from lthnb.sources import load

pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")

NUMBERS = st.integers(0, 2**64 - 1)
# Anything but nothing, NUL, and half a character.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)
SPLITS = st.sampled_from(["random", "last", "time"])


@st.composite
def tables(draw, ids):
    """(user, item, time) of rows, some of them more than once: two users have six items each."""
    users = draw(st.lists(ids, min_size=2, max_size=6, unique=True))
    items = draw(st.lists(ids, min_size=8, max_size=14, unique=True))
    pair = st.tuples(st.sampled_from(users), st.sampled_from(items))
    more = draw(st.lists(pair, max_size=30))
    pairs = [(u, i) for u in users[:2] for i in items[:6]] + more
    times = draw(st.permutations(range(len(pairs))))
    return [(u, i, t) for (u, i), t in zip(pairs, times, strict=True)]


def text_of(rows) -> str:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([("user", "item", "time"), *rows])
    return out.getvalue()


def parts_of(data) -> list[set]:
    return [pairs_of(data, part) for part in PARTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


SLOWLY = settings(deadline=None, max_examples=60)


class TestReassembled:
    @SLOWLY
    @given(rows=tables(NUMBERS), split=SPLITS, seed=st.integers(0, 5))
    def test_numbers(self, folder, rows, split, seed):
        path = folder / "numbers.csv"
        path.write_text(text_of(rows))
        data = load(
            path, protocol="paper", time="time", time_unit="order", split=split, split_seed=seed
        )
        whole = load(
            path, protocol="validated", time="time", time_unit="order", split=split, split_seed=seed
        )
        wanted = {(u, i) for u, i, _ in rows}
        for found in (parts_of(data), parts_of(whole)):
            assert set().union(*found) == wanted
            assert sum(map(len, found)) == len(wanted), "a pair is in two parts"
        assert set(data.user_labels.tolist()) == {u for u, _, _ in rows}
        assert set(data.item_labels.tolist()) == {i for _, i, _ in rows}

    @SLOWLY
    @given(rows=tables(TEXTS), split=SPLITS)
    def test_texts(self, folder, rows, split):
        path = folder / "texts.csv"
        path.write_bytes(text_of(rows).encode())
        data = load(path, protocol="paper", time="time", time_unit="order", split=split, ids="text")
        assert set().union(*parts_of(data)) == {(u, i) for u, i, _ in rows}
        assert data.user_labels.tolist() == sorted({u for u, _, _ in rows})
        assert data.item_labels.tolist() == sorted({i for _, i, _ in rows})

    @SLOWLY
    @given(rows=tables(NUMBERS), split=SPLITS)
    def test_parts_written_and_read_again(self, folder, rows, split):
        """What was split here, given as three files, is the same data."""
        frame = pd.DataFrame(rows, columns=["user", "item", "time"])
        data = load(frame, time="time", time_unit="order", split=split)
        for part in PARTS:
            pairs = sorted(pairs_of(data, part))
            (folder / f"{part}.csv").write_text(
                "user,item\n" + "".join(f"{u},{i}\n" for u, i in pairs)
            )
        assert load({part: folder / f"{part}.csv" for part in PARTS}).digest == data.digest


class TestOrder:
    @SLOWLY
    @given(rows=tables(NUMBERS), split=SPLITS, shuffle=st.randoms(use_true_random=False))
    def test_statistics_do_not_see_the_order_of_rows(self, rows, split, shuffle):
        frame = pd.DataFrame(rows, columns=["user", "item", "time"])
        frame["time"] //= 1 + (split != "time")  # ties
        other = list(frame.itertuples(index=False))
        shuffle.shuffle(other)
        a, b = (
            load(f, protocol="paper", time="time", time_unit="order", split=split)
            for f in (frame, pd.DataFrame(other, columns=frame.columns))
        )
        assert a.statistics() == b.statistics()
        assert a.warnings() == b.warnings()
        assert a.digest == b.digest


class TestCore:
    @SLOWLY
    @given(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60), st.integers(0, 6)
    )
    def test_is_what_is_left_by_hand(self, pairs, k):
        users, items = np.array(pairs, np.int64).reshape(-1, 2).T
        left = set(pairs)
        while True:
            kept = {
                (u, i)
                for u, i in left
                if sum(a == u for a, _ in left) >= k and sum(b == i for _, b in left) >= k
            }
            if kept == left:
                break
            left = kept
        found = k_core(users, items, k)
        assert {pair for pair, stays in zip(pairs, found, strict=True) if stays} == left
        largest = largest_core(users, items)
        assert k_core(users, items, largest).any() or not pairs
        assert not k_core(users, items, largest + 1).any()


class TestPopularityGroups:
    @SLOWLY
    @given(st.lists(st.integers(0, 50), min_size=1, max_size=80), st.integers(1, 10))
    def test_rarest_first_and_about_even(self, degrees, count):
        degree = np.array(degrees)
        group = popularity_groups(degree, count)
        assert ((group >= 0) & (group < count)).all()
        order = np.argsort(degree, kind="stable")
        assert (np.diff(group[order]) >= 0).all()
        sums = np.bincount(group, degree, minlength=count)
        assert sums.max() <= degree.sum() / count + 2 * degree.max()
