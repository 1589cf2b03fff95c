"""Packed tickets: what goes in comes out, in few bytes, and no damaged file is believed."""

import itertools
import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import half, toy_data, toy_spec, trained

from lthnb.packing import (
    BUDGETS,
    FORMS,
    VALUES,
    PackingError,
    Ticket,
    bits,
    compare,
    export,
    files,
    forms,
    load,
    matrix,
    pack,
)
from lthnb.store.runs import Store

EXTREMES = [0.0, -0.0, 1e-45, -1e-45, 1e-38, 6e-8, 1.0, -1.0, 65504.0]
LARGE = [3.3e38, -3.4028235e38]


def ticket_of(users, items, size, density, seed=0, extremes=(), **more) -> Ticket:
    """Gaussian rows of differing scale, the largest entries kept, some values replaced."""
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((users + items, size)) * np.exp(rng.standard_normal((size,)))
    table *= np.exp(0.7 * rng.standard_normal((users + items, 1)))
    kept = np.zeros(table.size, bool)
    kept[np.argsort(-abs(table).ravel())[: round(density * table.size)]] = True
    values = (table.ravel() * kept).astype(np.float32)
    if len(extremes):
        some = rng.random(values.size) < 0.2
        values[some & kept] = rng.choice(np.array(extremes, np.float32), (some & kept).sum())
    shape = table.shape
    return Ticket(kept.reshape(shape), values.reshape(shape), users, items, **more)


@st.composite
def tickets(draw):
    """Any shape, any density, rows without an entry, kept zeros, the smallest and largest."""
    users, items = draw(st.integers(0, 150)), draw(st.integers(0, 150))
    size = draw(st.one_of(st.integers(1, 130), st.sampled_from([1, 63, 64, 65, 128, 129])))
    density = draw(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)))
    ticket = ticket_of(users, items, size, density, draw(st.integers(0, 99)), EXTREMES)
    if draw(st.booleans()):
        kept = ticket.kept.copy()
        empty = slice(0, users) if draw(st.booleans()) else slice(None, None, 3)
        kept[empty] = False
        ticket = Ticket(kept, ticket.values * kept, users, items)
    return ticket


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def expected(ticket: Ticket, kind: str) -> np.ndarray:
    """The values after packing, by other means than ours, for all kinds but int8."""
    values = torch.from_numpy(ticket.values.copy())
    if kind != "float32":
        values = values.to(getattr(torch, kind)).float()
    return np.where(ticket.kept, values.numpy(), np.float32(0))


def check_values(ticket: Ticket, again: Ticket, kind: str) -> None:
    assert same_bits(ticket.kept, again.kept)
    if kind != "int8":
        assert same_bits(expected(ticket, kind), again.values)
        return
    largest = np.abs(ticket.values).max(1, keepdims=True, initial=0).astype(np.float64)
    step = np.maximum(largest / 127 * 2 ** (1 / 8), 1e-47)
    wrong = np.abs(again.values.astype(np.float64) - ticket.values)
    assert (wrong <= 0.5001 * step + 1.5e-45).all()  # and what float32 has no number for


class TestRoundTrip:
    @pytest.mark.parametrize("kind", VALUES)
    @pytest.mark.parametrize("form", FORMS)
    @settings(max_examples=12)
    @given(ticket=tickets(), data=st.data())
    def test_in_memory(self, form, kind, ticket, data):
        packed = pack(ticket, form, kind)
        again = packed.unpack()
        check_values(ticket, again, kind)
        first = 0
        for side in (packed.users, packed.items):
            start = data.draw(st.integers(0, side.rows))
            stop = data.draw(st.integers(start, side.rows))
            offsets, columns, values = side.block(start, stop)
            rows = slice(first + start, first + stop)
            kept = ticket.kept[rows]
            assert offsets.dtype == np.int64
            assert columns.dtype == np.uint8
            assert np.array_equal(np.diff(offsets, prepend=0)[1:], kept.sum(1))
            assert np.array_equal(columns, np.nonzero(kept)[1])
            assert same_bits(values, again.values[rows][kept])
            first += side.rows

    @settings(max_examples=25)
    @given(
        ticket=tickets(),
        form=st.sampled_from(["auto", *FORMS]),
        kind=st.sampled_from(list(VALUES)),
        check=st.booleans(),
    )
    def test_through_a_file(self, tmp_path_factory, ticket, form, kind, check):
        packed = pack(ticket, form, kind)
        path = packed.save(tmp_path_factory.mktemp("packed") / "ticket.safetensors")
        found = load(path, check)
        assert found.nbytes == packed.nbytes
        again, before = found.unpack(), packed.unpack()
        assert same_bits(again.kept, ticket.kept)
        assert same_bits(again.values, before.values)
        assert (again.users, again.items) == (ticket.users, ticket.items)

    @pytest.mark.parametrize("form", FORMS)
    def test_more_columns_than_a_byte_counts(self, form):
        ticket = ticket_of(70, 9, 300, 0.3)
        packed = pack(ticket, form)
        assert packed.users.block(0, 1)[1].dtype == np.uint16
        check_values(ticket, packed.unpack(), "float32")

    @pytest.mark.parametrize("kind", ["float32", "int8"])
    def test_the_largest_floats(self, kind):
        ticket = ticket_of(40, 40, 8, 0.5, extremes=[*LARGE, *EXTREMES])
        check_values(ticket, pack(ticket, values=kind).unpack(), kind)

    @pytest.mark.parametrize("form", FORMS)
    def test_a_kept_value_that_becomes_zero_stays_kept(self, form):
        ticket = Ticket(np.array([[True, True, False]]), np.array([[1e-12, 1, 0]], "f4"), 0, 1)
        for kind, value in (("float16", 0), ("int8", 0), ("bfloat16", pytest.approx(1e-12, 0.01))):
            again = pack(ticket, form, kind).unpack()
            assert again.kept.tolist() == ticket.kept.tolist()
            assert again.values[0, 0] == value

    def test_minus_zero_is_no_zero(self):
        ticket = Ticket(np.ones((1, 2), bool), np.array([[-0.0, 0.0]], np.float32), 1, 0)
        for kind in ("float32", "float16", "bfloat16"):
            assert np.signbit(pack(ticket, values=kind).unpack().values).tolist() == [[True, False]]

    def test_one_size_for_all_rows_costs_nothing(self):
        kept = np.zeros((640, 64), bool)
        kept[:, ::16] = True
        packed = pack(Ticket(kept, kept.astype(np.float32), 640, 0), "packed_ids")
        blocks = 10
        assert len(packed.users.tensors["payload"]) == blocks * 64 * 4 * 6 // 8 + bits.SPARE

    def test_rows_that_are_not_there(self):
        side = pack(ticket_of(5, 5, 4, 0.5)).users
        for start, stop in ((-1, 2), (3, 2), (0, 6)):
            with pytest.raises(PackingError, match=f"users: found rows {start} to {stop}"):
                side.block(start, stop)


class TestChoice:
    """Which form is taken, and in how few bytes."""

    @settings(max_examples=30)
    @given(ticket=tickets(), kind=st.sampled_from(list(VALUES)))
    def test_auto_is_the_smallest_as_it_is_written(self, ticket, kind):
        sizes = {form: pack(ticket, form, kind) for form in FORMS}
        chosen = pack(ticket, "auto", kind)
        fast = pack(ticket, "auto", kind, budget="speed")
        for side in ("users", "items"):
            found = {form: getattr(packed, side).nbytes for form, packed in sizes.items()}
            assert getattr(chosen, side).nbytes == min(found.values())
            within = [f for f, n in found.items() if n <= BUDGETS["speed"] * min(found.values())]
            assert getattr(fast, side).form == within[0]

    @pytest.mark.parametrize("density", [0.5, 0.35, 0.1, 0.05])
    @pytest.mark.parametrize(("kind", "most"), [("float16", 1.15), ("int8", 1.25)])
    def test_bytes_of_the_file_against_the_bound(self, tmp_path, density, kind, most):
        ticket = ticket_of(9000, 11000, 64, density, about={"spec": {"text": "x" * 600}})
        size = pack(ticket, values=kind).save(tmp_path / "t.safetensors").stat().st_size
        assert size <= most * ticket.bound(VALUES[kind].bits)
        if (density, kind) == (0.1, "float16"):
            assert 12 * size <= 4 * ticket.kept.size

    def test_bound(self):
        kept = np.array([[True, True, False], [False, False, False]])
        ticket = Ticket(kept, kept.astype(np.float32), 1, 1)
        assert ticket.bound(16) == pytest.approx((2 * 16 + math.log2(3)) / 8)

    def test_all_forms_beside_each_other(self, tmp_path):
        ticket = ticket_of(90, 60, 64, 0.1, user_labels=np.arange(90) + 5)
        found = compare(ticket, ["float16"], repeats=1)
        assert [one.form for one in found] == list(FORMS)
        for one in found:
            bare = replace(ticket, user_labels=None)
            path = pack(bare, one.form, "float16").save(tmp_path / "t.safetensors")
            assert one.bytes == path.stat().st_size
            assert one.over_bound == one.bytes / ticket.bound(16) > 1
            assert one.smaller == 150 * 64 * 4 / one.bytes
            assert min(*one.whole, *one.single) > 0

    def test_the_benchmark_records_them(self, monkeypatch, tmp_path):
        from benchmarks.packing import main
        from lthnb import measured, plots

        monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
        words = "--rows 200 --size 8 --densities 0.3 --values int8 --repeats 2"
        record = measured.load(main([*words.split(), *in_folder(tmp_path)]))
        assert len(record["rows"]) == 2
        shown = plots.reading_table([record])._tbl_data
        assert shown["form"].tolist() == list(FORMS)
        assert "not run" in plots.reading_table([]).as_raw_html()


def in_folder(path) -> list[str]:
    return [f"--out={path}", f"--peers={path / 'peers'}"]


class TestRefusals:
    @pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("kept", [True, False])
    def test_what_is_no_number(self, wrong, kept):
        values = np.zeros((3, 2), np.float32)
        values[2, 1] = wrong
        with pytest.raises(PackingError, match="in row 2, column 1, expected finite"):
            Ticket(np.full((3, 2), kept), values, 1, 2)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"kept": np.zeros((2, 2), bool)}, "row 0, column 0, which is pruned"),
            ({"kept": np.ones((3, 2), bool)}, r"kept \(3, 2\) and values \(2, 2\)"),
            ({"kept": np.ones(2, bool)}, r"kept \(2,\)"),
            ({"users": 2}, "2 users"),
            ({"users": -1, "items": 3}, "-1 users"),
            ({"kept": np.ones((2, 2))}, "kept of float64"),
            ({"values": np.ones((2, 2))}, "values of float64"),
            ({"user_labels": np.arange(2)}, r"labels of users of shape \(2,\)"),
            ({"about": {"x": math.nan}}, "no plain data"),
            ({"about": {"x": {1, 2}}}, "no plain data"),
            (
                {"kept": np.ones((2, 1025), bool), "values": np.ones((2, 1025), np.float32)},
                "1025 columns",
            ),
        ],
    )
    def test_of_a_ticket(self, change, says):
        whole = {"kept": np.ones((2, 2), bool), "values": np.ones((2, 2), np.float32)}
        with pytest.raises(PackingError, match=says):
            Ticket(**{**whole, "users": 1, "items": 1, **change})

    @pytest.mark.parametrize("kind", ["float16", "bfloat16"])
    def test_values_that_16_bits_do_not_reach(self, kind):
        ticket = ticket_of(4, 4, 8, 1, extremes=LARGE)
        with pytest.raises(PackingError, match=f"the largest of {kind}; pack with values='float"):
            pack(ticket, values=kind)

    @pytest.mark.parametrize(
        ("how", "says"),
        [
            ({"form": "bitmaps"}, "Did you mean 'bitmap'"),
            ({"values": "float8"}, "values: found 'float8', expected float32, float16"),
            ({"budget": "fast"}, "budget: found 'fast', expected auto, bytes, speed"),
        ],
    )
    def test_of_names(self, how, says):
        with pytest.raises(PackingError, match=says):
            pack(ticket_of(2, 2, 2, 1), **how)

    def test_labels_of_other_kinds(self):
        ticket = ticket_of(2, 1, 2, 1, user_labels=np.array(["a", None], object))
        with pytest.raises(PackingError, match=r"labels of users: found None \(NoneType\)"):
            pack(ticket)


class TestCodes:
    @settings(max_examples=60)
    @given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200))
    def test_huffman(self, counts):
        counts = np.array(counts)
        code = bits.Code.of(counts)
        code.check("code")
        if not counts.any():
            return
        assert np.array_equal(code.lengths > 0, counts > 0)
        share = counts[counts > 0] / counts.sum()
        entropy = -(share * np.log2(share)).sum()
        mean = (share * (code.lengths[counts > 0] - 1.0)).sum()
        assert entropy - 1e-9 <= mean <= entropy + 1
        for symbol in np.flatnonzero(counts):
            word, size = code.words[:, symbol]
            assert code.table[word] == symbol << 4 | size

    def test_of_numbers_that_would_make_it_deep(self):
        code = bits.Code.of(2 ** np.arange(40))
        code.check("code")
        assert code.lengths.max() == bits.LONGEST + 1

    @pytest.mark.parametrize("lengths", [[2], [2, 2, 2], [14, 1], [1, 1], [3, 3, 3]])
    def test_lengths_that_are_none(self, lengths):
        with pytest.raises(PackingError, match="no Huffman code"):
            bits.Code(np.array(lengths, np.uint8)).check("counts")

    @pytest.mark.parametrize("width", [1, 2, 7, 8])
    def test_ranks_are_one_to_one(self, width):
        for count in range(width + 1):
            ranks = set()
            for choice in itertools.combinations(range(width), count):
                columns = np.array(choice, np.uint8)
                ranks.add(int(forms._rank(columns, 0, count, 0, width, forms.choices())))
            assert ranks == set(range(math.comb(width, count)))

    def test_a_number_of_any_width(self):
        stream = np.zeros(40 + bits.SPARE, np.uint8)
        numbers = [(1, 1), (0x5A5A5A5A5A5A5A5A, 64), (0, 0), (2**57 - 1, 57), (3, 5), (2**62, 63)]
        at = 0
        for number, width in numbers:
            at = bits.put(stream, at, np.uint64(number), width)
        at = 0
        for number, width in numbers:
            assert bits.get(stream, at, width) == number
            at += width


TEXTS = np.array(["a", "", "ü×日", "b" * 300], object)


class TestFile:
    @pytest.fixture
    def ticket(self):
        about = {"run": "0123", "density": 0.3, "spec": {"text": '"sides":"digest" ü'}}
        return ticket_of(90, 4, 16, 0.3, user_labels=np.arange(90), item_labels=TEXTS, about=about)

    @pytest.fixture
    def path(self, ticket, tmp_path):
        return pack(ticket, values="bfloat16").save(tmp_path / "ticket.safetensors")

    def test_labels_and_about_come_back(self, ticket, path):
        found = load(path)
        assert found.about == ticket.about
        assert np.array_equal(found.user_labels, np.arange(90))
        assert found.item_labels.tolist() == TEXTS.tolist()
        again = found.unpack()
        assert again.item_labels.dtype.kind == "U"
        assert again.about == ticket.about

    @pytest.mark.parametrize(
        ("labels", "kind", "size"),
        [
            (np.array(["x", "y"]), "<U1", 18),
            (["p", "qq"], "<U2", 19),
            (np.array([0.5, 2]), "float64", 16),
            (np.array([0.5, 2], ">f4"), "float32", 8),
            (np.array([0, 1]), "int64", 0),
            (np.array([1, 0], np.int32), "int64", 2),
            (np.array([-1, 300]), "int64", 8),
            (np.array([-1, 2**62]), "int64", 16),
            (np.array([1, 2**62]), "int64", 16),
            (np.array([2**63 + 1, 7], np.uint64), "uint64", 16),
        ],
    )
    def test_labels_of_any_kind(self, labels, kind, size, tmp_path):
        packed = pack(ticket_of(2, 0, 3, 1, user_labels=labels))
        found = load(packed.save(tmp_path / "t.safetensors"))
        assert found.user_labels.tolist() == list(labels)
        assert found.user_labels.dtype == kind
        assert found.item_labels is None
        assert sum(tensor.nbytes for tensor in found.label_tensors.values()) == size

    def test_is_safetensors(self, ticket, path):
        from safetensors import safe_open

        packed = pack(ticket, values="bfloat16")
        with safe_open(path, framework="pt") as file:
            assert file.metadata()["format"] == "lthnb ticket"
            assert json.loads(file.metadata()["about"]) == ticket.about
            values = file.get_tensor("users.values")
            assert values.dtype == torch.bfloat16
            own = packed.users.tensors["values"]
            assert np.array_equal(values.view(torch.int16).numpy().view(np.uint16), own)
            found = load(path)
            sides = len(found.users.tensors) + len(found.items.tensors)
            assert len(list(file.keys())) == sides + len(found.label_tensors)

    def test_is_mapped_not_read(self, path):
        found = load(path)
        for side in (found.users, found.items):
            for tensor in side.tensors.values():
                assert not tensor.flags.writeable
                assert tensor.flags.aligned
                assert not tensor.flags.owndata

    def test_is_the_same_bytes_each_time(self, ticket, path, tmp_path):
        pack(ticket, values="bfloat16").save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()

    @pytest.mark.parametrize("key", ["digest", "version", "format", "about", "sides"])
    def test_metadata_that_lack_something(self, path, key):
        altered(path, lambda header: header["__metadata__"].pop(key))
        with pytest.raises(PackingError):
            load(path)
        if key != "digest":
            with pytest.raises(PackingError):
                load(path, check=False)

    def test_a_later_version(self, path):
        altered(path, lambda header: header["__metadata__"].update(version="2"))
        with pytest.raises(PackingError, match="found version '2', expected '1'"):
            load(path)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "an empty file"),
            (b"abc", "no safetensors file"),
            (pickle.dumps({"a": np.zeros(3)}), "no safetensors file"),
            (b"\xff" * 200, "no safetensors file"),
            ((2).to_bytes(8, "little") + b"[]", "no table of tensors"),
            ((2).to_bytes(8, "little") + b"{}", "format None, expected 'lthnb ticket'"),
            ((9).to_bytes(8, "little") + b'{"a":1' + b"   ", "cannot be read"),
            ((40000).to_bytes(8, "little") + b"[" * 40000, "cannot be read"),
        ],
        ids=["empty", "short", "pickle", "ones", "list", "no format", "torn", "deep"],
    )
    def test_foreign_files(self, tmp_path, content, says):
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        with pytest.raises(PackingError, match=says) as refused:
            load(path)
        assert str(path) in str(refused.value)

    def test_safetensors_of_others(self, tmp_path):
        from safetensors.numpy import save_file

        path = tmp_path / "x.safetensors"
        save_file({"w": np.ones((2, 2, 2, 2), bool)}, path, {"format": "pt"})
        with pytest.raises(PackingError, match="format 'pt', expected 'lthnb ticket'"):
            load(path)

    def test_no_file(self, tmp_path):
        for path in (tmp_path / "none.safetensors", tmp_path):
            with pytest.raises(PackingError, match="cannot be read"):
                load(path)


def split(content: bytes) -> tuple[dict, bytes]:
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(header: dict, tensors: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + tensors


def altered(path, change) -> None:
    header, tensors = split(path.read_bytes())
    change(header)
    path.write_bytes(joined(header, tensors))


def flip(rng, content):
    at = rng.integers(len(content))
    return content[:at] + bytes([content[at] ^ rng.integers(1, 256)]) + content[at + 1 :]


def flip_in_header(rng, content):
    size = 8 + int.from_bytes(content[:8], "little")
    return flip(rng, content[:size]) + content[size:]


def cut(rng, content):
    return content[: rng.integers(len(content))]


def grow(rng, content):
    return content + rng.bytes(rng.integers(1, 100))


def scramble(rng, content):
    """A stretch of other bytes."""
    at, size = rng.integers(len(content)), rng.integers(1, 60)
    return content[:at] + rng.bytes(size)[: len(content) - at] + content[at + size :]


def drop(rng, content):
    """A stretch that is missing."""
    at = rng.integers(len(content) - 1)
    return content[:at] + content[at + rng.integers(1, 60) :]


def swap(rng, content):
    """Two tensors under each other's names."""
    header, tensors = split(content)
    a, b = rng.choice([n for n in header if n != "__metadata__"], 2, replace=False)
    header[a], header[b] = header[b], header[a]
    return joined(header, tensors)


def inflate(rng, content):
    """A number in the header that is absurd."""
    header, tensors = split(content)
    name = rng.choice([n for n in header if n != "__metadata__"])
    part = rng.choice(["shape", "data_offsets"])
    number = int(rng.choice([2**31, 2**62, 10**25, -1, 0.5], 1)[0])
    header[name][part][rng.integers(len(header[name][part]))] = number
    return joined(header, tensors)


def rename(rng, content):
    header, tensors = split(content)
    name = rng.choice([n for n in header if n != "__metadata__"])
    header[str(rng.choice(["x", "users.more", "items.label_ends", ""]))] = header.pop(name)
    return joined(header, tensors)


def describe_otherwise(rng, content):
    """Another number of rows, another form, another kind of values."""
    header, tensors = split(content)
    sides = json.loads(header["__metadata__"]["sides"])
    side = sides[rng.choice(["users", "items"])]
    wanted = {
        "rows": [0, 1, 64, 10**12, -1, "7", None],
        "size": [0, 1, 17, 1024, 10**9, 3.5],
        "form": [*FORMS, "other", 3, []],
        "values": [*VALUES, "other"],
        "base": [-(10**9), 5, 1e9, "x"],
    }
    key = rng.choice(list(wanted))
    before = side[key]
    while side[key] == before:
        side[key] = wanted[key][rng.integers(len(wanted[key]))]
    header["__metadata__"]["sides"] = json.dumps(sides)
    return joined(header, tensors)


DAMAGES = [flip, flip_in_header, cut, grow, scramble, drop, swap, inflate, rename]
DAMAGES += [describe_otherwise]


def spoil(folder, count: int, seed: int = 0) -> None:
    """Damage so many files: each is refused; and where the digest is not looked at, either refused
    or read without leaving its bounds."""
    rng = np.random.default_rng(seed)
    kinds = list(itertools.product(FORMS, VALUES))
    path = folder / "damaged.safetensors"
    whole = {}
    for number in range(count):
        form, kind = kinds[number * 7 % len(kinds)]
        if (form, kind) not in whole:
            labels = {"user_labels": np.arange(200), "item_labels": np.arange(70).astype(str)}
            ticket = ticket_of(200, 70, int(rng.choice([16, 64, 100])), 0.3, number, **labels)
            whole[form, kind] = pack(ticket, form, kind).save(path).read_bytes()
        content = whole[form, kind]
        damaged = content
        while damaged == content:
            damaged = DAMAGES[number % len(DAMAGES)](rng, content)
        path.unlink()  # a mapped file must not change
        path.write_bytes(damaged)
        with pytest.raises(PackingError) as refused:
            load(path)
        assert str(path) in str(refused.value)
        try:
            found = load(path, check=False)
            for side in (found.users, found.items):
                offsets, columns, values = side.block(0, side.rows)
                assert len(offsets) == side.rows + 1
                assert offsets[-1] == len(columns) == len(values)
                assert columns.max(initial=0) < side.size
            assert found.user_labels is not None
            assert found.item_labels is not None
        except PackingError:
            pass


class TestDamage:
    def test_fifty_files(self, tmp_path):
        spoil(tmp_path, 50)

    @pytest.mark.slow
    def test_a_thousand_files(self, tmp_path):
        spoil(tmp_path, 1000, seed=1)

    @pytest.mark.parametrize("form", FORMS)
    def test_payloads_of_noise(self, form):
        """Whatever the bits are, a kernel stays within its arrays, and its columns within F."""
        for seed in range(20):
            rng = np.random.default_rng(seed)
            packed = pack(ticket_of(200, 70, (5, 64, 100)[seed % 3], 0.4, seed), form, "int8")
            for side in (packed.users, packed.items):
                for name in ("payload", "columns", "places"):
                    if name in side.tensors and len(side.tensors[name]):
                        noise = rng.integers(0, 255, len(side.tensors[name]))
                        side.tensors[name] = noise.astype(side.tensors[name].dtype)
                        side.tensors[name].flags.writeable = False
                try:
                    offsets, columns, _ = side.block(0, side.rows)
                except PackingError:
                    continue
                assert offsets[-1] == len(columns)
                assert columns.max(initial=0) < side.size

    def test_every_byte_counts(self, tmp_path):
        """There is no byte in a file that may be another."""
        path = pack(ticket_of(3, 2, 4, 0.5)).save(tmp_path / "t.safetensors")
        content = path.read_bytes()
        for at in range(len(content)):
            for other in (content[at] ^ 1, 0x09, 0x20):
                if other != content[at]:
                    path.unlink()
                    path.write_bytes(content[:at] + bytes([other]) + content[at + 1 :])
                    with pytest.raises(PackingError):
                        load(path)


class TestOfARun:
    @pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
    def test_is_what_was_trained(self, tmp_path, backbone):
        data, spec = toy_data(), toy_spec(backbone)
        run = trained(Store(tmp_path, results=None), data, spec, half(data, spec))
        ticket = Ticket.of(run)
        assert same_bits(ticket.kept, np.array(run.mask.kept))
        assert same_bits(ticket.values, run.weights())
        assert (ticket.users, ticket.items) == (data.users, data.items)
        assert ticket.about["run"] == run.key
        assert ticket.about["density"] == run.mask.density
        assert ("dense" in ticket.about["scores"]) == (backbone == "lightgcn")
        check_values(ticket, pack(ticket).unpack(), "float32")


class TestExports:
    @pytest.fixture
    def ticket(self):
        return ticket_of(
            5,
            3,
            7,
            0.4,
            extremes=EXTREMES,
            about={"run": "x"},
            user_labels=np.arange(10, 15),
            item_labels=np.array(["a", "b", "c"], object),
        )

    def test_npz_is_read_by_scipy_alone(self, ticket, tmp_path):
        path = export(ticket, tmp_path / "t.npz")
        table = sp.load_npz(path)
        assert table.shape == ticket.kept.shape
        assert same_bits(table.toarray() + np.float32(0), ticket.values + np.float32(0))
        assert table.nnz == ticket.kept.sum() == matrix(ticket).nnz
        with np.load(path, allow_pickle=False) as arrays:
            assert arrays["users"] == 5
            assert arrays["user_labels"].tolist() == [10, 11, 12, 13, 14]
            assert arrays["item_labels"].tolist() == ["a", "b", "c"]
            assert json.loads(str(arrays["about"])) == {"run": "x"}

    def test_parquet(self, ticket, tmp_path):
        import pandas as pd
        import pyarrow.parquet as pq

        path = export(ticket, tmp_path / "t.parquet")
        rows = pd.read_parquet(path)
        again = np.zeros(ticket.kept.shape, np.float32)
        again[rows["row"] + 5 * (rows["side"] == "item"), rows["column"]] = rows["value"]
        assert np.array_equal(again, ticket.values)
        assert len(rows) == ticket.kept.sum()
        labels = [*map(str, range(10, 15)), "a", "b", "c"]
        owner = np.nonzero(ticket.kept)[0]
        assert rows["label"].tolist() == [labels[row] for row in owner]
        facts = pq.read_schema(path).metadata
        assert (facts[b"users"], facts[b"items"], facts[b"size"]) == (b"5", b"3", b"7")

    def test_parquet_keeps_whole_numbers(self, tmp_path):
        import pandas as pd

        big = np.array([2**63 - 1])
        for items, kind in ((np.array([3]), "i"), (np.array([3], np.uint64), "O")):
            ticket = ticket_of(1, 1, 2, 1, user_labels=big, item_labels=items)
            labels = pd.read_parquet(export(ticket, tmp_path / "t.parquet"))["label"]
            assert labels.dtype.kind == kind or kind == "O"
            assert str(labels[0]) == str(2**63 - 1)

    def test_safetensors(self, ticket, tmp_path):
        path = export(ticket, tmp_path / "t.safetensors", form="ragged", values="int8")
        assert load(path).users.form == "ragged"

    @pytest.mark.parametrize(
        ("name", "how", "says"),
        [
            ("t.parket", {}, r"Did you mean '\.parquet'"),
            ("t.npz", {"values": "int8"}, "found the option values, expected none"),
            ("t.safetensors", {"form": "x"}, "form: found 'x'"),
        ],
    )
    def test_refusals(self, ticket, tmp_path, name, how, says):
        with pytest.raises(PackingError, match=says):
            export(ticket, tmp_path / name, **how)
        assert not (tmp_path / name).exists()


def test_files_name_every_dtype_of_every_kind():
    assert {kind.in_file for kind in VALUES.values()} <= set(files.DTYPES)
