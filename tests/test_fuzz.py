"""Random bytes into every parser: data or a refusal, never a crash, never a second's wait.

Inputs are good files that were bitten, cut, doubled and mixed, and rows of odd words. 100,000 of
them in `make test-long`.
"""

import bz2
import gzip
import io
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from lthnb.sources import load

from lthnb import parsers
from lthnb.config import ConfigError
from lthnb.data import DataError

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pandas")

LONGEST = 1.0  # seconds of the processor that any input may take

WORDS = [
    *(b"", b" ", b"0", b"1", b"2", b"3", b"007", b"-1", b"2.5", b"1e9", b"1e999", b"-0", b"0x10"),
    *(b"nan", b"inf", b"NA", b"None", b"\\N", b"true", b"u1", b"\xc3\xa9", b"\xe9", b"\x00"),
    *(b"99999999999999999999", b"18446744073709551615", b'"', b'""', b'"a,b"', b"'", b"#", b"::"),
    *(b"2020-01-01", b"2020-01-01T00:00:00Z", b"1300000000", b"1300000000000", b"\xef\xbb\xbf"),
    *(b"user", b"item", b"rating", b"time", b"\xff\xfe", b"\x1f\x8b", b"PK\x03\x04", b"x" * 600),
]
BETWEEN = [b",", b"\t", b" ", b";", b"|"]
ENDS = [b"\n", b"\r\n", b"\r", b"\n\n"]


def good_files() -> dict[str, bytes]:
    """A good file of every form, by suffix."""
    rows = [(u, i, (u + i) % 5 + 1, 1_300_000_000 + 10 * i + u) for u in range(4) for i in range(8)]
    header = ("user", "item", "rating", "time")

    def lines(between: str, *rows) -> bytes:
        return "".join(between.join(map(str, row)) + "\n" for row in rows).encode()

    table = pa.table(dict(zip(header, zip(*rows, strict=True), strict=True)))
    parquet = io.BytesIO()
    __import__("pyarrow.parquet").parquet.write_table(table, parquet)
    matrix = sp.random(6, 9, 0.6, random_state=0)
    text = lines(",", header, *rows)
    return {
        ".csv": text,
        ".tsv": lines("\t", header, *rows),
        ".inter": lines("\t", header, *rows),
        ".csv.gz": gzip.compress(text, mtime=0),
        ".csv.bz2": bz2.compress(text),
        ".txt": lines(" ", *[(u, *range(u, 9)) for u in range(4)]),
        ".parquet": parquet.getvalue(),
        ".pkl": pickle.dumps(matrix),
        ".weighted": lines("\t", *[(u, i, r) for u, i, r, _ in rows]),
    }


def mutated(rng: np.random.Generator, content: bytes, others: list[bytes]) -> bytes:
    """A file that was bitten, cut, doubled or mixed, one to four times."""
    for _ in range(rng.integers(1, 5)):
        at, end = sorted(rng.integers(0, len(content) + 1, 2))
        match rng.integers(0, 8):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + content[end:]
            case 2:
                content = content[:end] + content[at:]
            case 3:
                content = content[:at] + rng.bytes(int(rng.integers(1, 9))) + content[end:]
            case 4 if content:
                bitten = bytearray(content)
                for k in rng.integers(0, len(content), rng.integers(1, 6)):
                    bitten[k] = rng.integers(0, 256)
                content = bytes(bitten)
            case 5:
                other = others[rng.integers(len(others))]
                content = content[:at] + other[len(other) // 2 :]
            case _:
                word = WORDS[rng.integers(len(WORDS))]
                content = content[:at] + word + content[at + len(word) :]
    return content


def words(rng: np.random.Generator) -> bytes:
    """Rows of odd words."""
    between, end = BETWEEN[rng.integers(len(BETWEEN))], ENDS[rng.integers(len(ENDS))]
    pool = [WORDS[k] for k in rng.integers(0, len(WORDS), 6)]
    width = int(rng.integers(1, 5))
    header = between.join([b"user", b"item", b"rating", b"time"][:width])
    rows = [
        between.join(pool[k] for k in rng.integers(0, len(pool), width))
        for _ in range(rng.integers(0, 30))
    ]
    return end.join([header, *rows] if rng.random() < 0.8 else rows)


def options(rng: np.random.Generator) -> dict:
    """Some of the options that change what is read."""
    found = {}
    if rng.random() < 0.3:
        found |= {"rating": "rating", "threshold": 2}
    if rng.random() < 0.3:
        found |= {"time": "time", "split": ["random", "last", "time"][rng.integers(3)]}
    for name, values, share in (
        ("ids", ["int", "text"], 0.2),
        ("core", [1, 2, 5], 0.2),
        ("encoding", ["latin-1", "utf-16"], 0.1),
        ("separator", [" ", ";", "tab"], 0.1),
        ("form", ["lists", "rows"], 0.1),
        ("columns", ["user,item", "user,item,rating,time"], 0.1),
        ("protocol", ["paper"], 0.5),
    ):
        if rng.random() < share:
            found[name] = values[rng.integers(len(values))]
    return found


def fuzz(folder: Path, count: int, seed: int) -> dict[str, int]:
    """Feed `count` inputs; returns how many were read and refused, and the slowest in ms."""
    rng = np.random.default_rng(seed)
    good = good_files()
    seen = {"read": 0, "refused": 0, "slowest, ms": 0}
    for number in range(count):
        suffix = list(good)[number % len(good)]
        texts = suffix not in (".parquet", ".pkl")
        content = (
            words(rng)
            if texts and rng.random() < 0.4
            else mutated(rng, good[suffix], list(good.values()))
        )
        chosen = options(rng)
        path = folder / f"input{suffix}"
        path.write_bytes(content)  # stays there, if this is the one that crashes
        began = time.process_time()
        try:
            if suffix == ".weighted":
                parsers.parse_weighted(path)
            else:
                load(path, progress=False, **chosen)
            seen["read"] += 1
        except (DataError, ConfigError):
            seen["refused"] += 1
        except BaseException as error:
            error.add_note(f"input {number} of seed {seed}: {suffix}, {chosen}, {content[:300]!r}")
            raise
        took = time.process_time() - began
        assert took < LONGEST, f"{took:.1f} s for input {number} of seed {seed}: {suffix}, {chosen}"
        seen["slowest, ms"] = max(seen["slowest, ms"], round(took * 1000))
    return seen


@pytest.mark.parametrize("count", [1500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_no_crash_and_no_hang(tmp_path, count, record_property):
    (tmp_path / "warm.csv").write_bytes(good_files()[".csv"])
    load(tmp_path / "warm.csv", time="time", split="last", core=2)  # compiles and imports
    seen = fuzz(tmp_path, count, seed=count)
    for name, number in seen.items():
        record_property(name, number)
    print(seen)
    assert seen["read"] > count / 50
    assert seen["refused"] > count / 4
