"""Tables in every form, spoilt in every way: refused in words, or every row accounted for.

What the generator wrote is what was read: rows = pairs + each counted loss, exactly, and the pairs
are those that plain Python finds. 20,000 tables in `make test-long`.
"""

import bz2
import csv
import io
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from lthnb.config import LthnbError
from lthnb.data import PARTS
from lthnb.datasets.sources import load

TEXTS = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".txt": ";"}
FORMS = [*TEXTS, ".parquet", ".feather", "frame", "arrow"]
NAMES = ("user", "item", "rating", "time", "title")
BEGIN = 1_300_000_000
LOSSES = ("blank_rows", "below_threshold", "outside_core", "duplicates_merged")
IDS = [str, "u{}".format, "0{}".format, "é {}".format, lambda n: str(2**62 + int(n)), "NA{}".format]
ODD = ["", " ", "007", "1e5", "1E+05", "-1", "2.5", "nan", "null", "NA", "x" * 600, " 7", "7.0"]
ODD += ["9007199254740993", "99999999999999999999", "\0", "é", "#", "'", "True", "user", "inf"]


def rows_of(rng: np.random.Generator) -> list[list[str]]:
    """Rows of texts, some of them twice: five to eight users with six to ten items each."""
    ids = [IDS[k] for k in rng.integers(0, len(IDS), 2)]
    rows = [
        [
            *(str(ids[0](user)), str(ids[1](item)), str(rng.integers(1, 6))),
            *(str(BEGIN + int(rng.integers(1000))), str(rng.choice(["Night", "a b", "x-1", ""]))),
        ]
        for user in range(rng.integers(5, 9))
        for item in rng.choice(12, rng.integers(6, 11), replace=False)
    ]
    rows += [list(rows[k]) for k in rng.integers(0, len(rows), rng.integers(0, 5))]
    return [rows[k] for k in rng.permutation(len(rows))]


def expected(rows: list[list[str]], options: dict) -> tuple[Counter, set]:
    """The losses and the pairs, in plain Python."""
    lost, kept = Counter(), []
    for user, item, rating, _, _ in rows:
        if not user:
            lost["blank_rows"] += 1
        elif "rating" in options and float(rating) < options["threshold"]:
            lost["below_threshold"] += 1
        else:
            kept.append((user, item))
    while True:
        pairs = set(kept)
        users, items = (Counter(side) for side in zip(*pairs, strict=True)) if pairs else ({}, {})
        core = options.get("core", 0)
        inner = [(u, i) for u, i in kept if users[u] >= core and items[i] >= core]
        lost["outside_core"] += len(kept) - len(inner)
        if len(inner) == len(kept):
            break
        kept = inner
    lost["duplicates_merged"] = len(kept) - len(pairs)
    return lost, pairs


def written(rng, form: str, rows: list[list[str]], folder, options: dict):
    """The rows as a source of a form; texts in one of several guises."""
    columns = dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))
    path = folder / f"table{form}"
    if form in TEXTS:
        out = io.StringIO()
        quoting = csv.QUOTE_ALL if rng.random() < 0.2 else csv.QUOTE_MINIMAL
        end = str(rng.choice(["\n", "\r\n"]))
        writer = csv.writer(out, delimiter=TEXTS[form], quoting=quoting, lineterminator=end)
        if rng.random() < 0.2:
            options["columns"] = ",".join(NAMES)
        else:
            writer.writerow(NAMES)
        writer.writerows(rows)
        text = out.getvalue()
        if form == ".txt":
            options["separator"] = ";"
        if rng.random() < 0.2:
            text = text.removesuffix(end)
        encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
        if encoding == "cp1252":
            options["encoding"] = encoding
        content = text.encode(encoding, errors="replace")
        if rng.random() < 0.3:
            path, content = path.with_name(path.name + ".bz2"), bz2.compress(content)
        path.write_bytes(content)
        return path
    table = pa.table(columns)
    if form == ".parquet":
        pa.parquet.write_table(table, path)
    elif form == ".feather":
        pa.feather.write_feather(table, path)
    elif form == "arrow":
        return table
    elif form == "frame":
        frame = pd.DataFrame(columns)
        return frame.astype("category") if rng.random() < 0.3 else frame
    return path


def spoilt(rng, form: str, rows: list[list[str]], folder, options: dict):
    """A source with an odd word, a stray quotation mark, a ragged row, or bytes that were bitten;
    and how many rows it was given, None where nobody knows."""
    rows, way = [list(row) for row in rows], rng.integers(4)
    row = rows[rng.integers(len(rows))]
    if way == 0:
        row[rng.integers(4)] = ODD[rng.integers(len(ODD))]
    source = written(rng, form, rows, folder, options)
    if way == 0 or form not in TEXTS:
        return source, len(rows)
    options.pop("encoding", None)
    lines = [TEXTS[form].join(row) for row in [NAMES, *rows]]
    options.pop("columns", None)
    at = [int(k) for k in rng.integers(1, len(lines), rng.integers(1, 4))]
    for k in at:
        begin, end = lines[k].rsplit(TEXTS[form], 1)
        lines[k] = begin + TEXTS[form] + '"' + end if way == 1 else begin if way == 2 else lines[k]
    content = bytearray("\n".join(lines).encode())
    for k in rng.integers(0, len(content), 3 * (way == 3)):
        content[k] = rng.integers(0, 256)
    path = folder / f"spoilt{form}"
    path.write_bytes(content)
    return path, None if way == 3 else len(rows)


def fuzz(folder, count: int, seed: int) -> Counter:
    """Read `count` tables; returns how many were read and refused of good and of spoilt ones."""
    rng, seen = np.random.default_rng(seed), Counter()
    for number in range(count):
        form, options = FORMS[number % len(FORMS)], {"protocol": "paper"}
        good, pairs, lost = rng.random() < 0.65, None, None
        rows = rows_of(rng)
        if rng.random() < 0.3:
            for at in rng.integers(0, len(rows), rng.integers(1, 9)):
                rows.insert(int(at), [""] * len(NAMES))
        for more in (
            {"rating": "rating", "threshold": 2},
            {"time": "time", "split": str(rng.choice(["random", "last", "time"]))},
            {"core": int(rng.integers(1, 4))},
        ):
            options |= more if rng.random() < 0.4 else {}
        if good:
            source, given = written(rng, form, rows, folder, options), len(rows)
            lost, pairs = expected(rows, options)
        else:
            source, given = spoilt(rng, form, rows, folder, options)
        data, said = None, ""
        try:
            data = load(source, progress=False, **options)
        except LthnbError as error:
            said = str(error)
        except BaseException as error:
            error.add_note(f"table {number} of seed {seed}: {form}, {options}, {source!r}")
            raise
        seen[f"{'good' if good else 'spoilt'} {'read' if data else 'refused'}"] += 1
        if data is None:
            little = any(words in said for words in ("left for test", "parts have", "at least 2"))
            assert not good or not pairs or little, (number, options, said)
            assert "\n" not in said
            continue
        counts, whole = data.origin["counts"], sum(getattr(data, part) for part in PARTS).tocoo()
        where = f"table {number} of seed {seed}: {form}, {options}, {counts}"
        assert counts["rows"] == whole.nnz + sum(counts.get(loss, 0) for loss in LOSSES), where
        assert given in (None, counts["rows"]), where
        if good:
            assert [counts.get(loss, 0) for loss in LOSSES] == [lost[k] for k in LOSSES], where
            labels = data.user_labels[whole.row], data.item_labels[whole.col]
            assert set(zip(*(side.astype(str).tolist() for side in labels), strict=True)) == pairs
    return seen


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_no_crash_and_no_row_lost_uncounted(tmp_path, count):
    seen = fuzz(tmp_path, count, seed=count)
    print(dict(seen))
    assert seen["good read"] + seen["spoilt read"] >= count / 2
    assert seen["spoilt refused"] > count / 20
    assert seen["good refused"] < count / 50
