"""A flipped byte or a cut, anywhere in any file: it is named, and what it holds is not believed.

Of one's own store the damaged file is made again to the same bits, of the recorded tables reading
it is an error.
"""

import shutil

import numpy as np
import pytest
from toys import quiet, toy_data, toy_spec, trained

from lthnb.config import Rotated, Schedule, Seeded
from lthnb.control import Stopped
from lthnb.lottery import rounds_of
from lthnb.store import adding
from lthnb.store.files import StoreError
from lthnb.store.results import Recorded
from lthnb.store.runs import Store

DATA, SPEC = toy_data(), toy_spec()
OTHER = toy_spec(order_seed=7)  # of a training that is stopped half-way
MANY = [20, pytest.param(200, marks=pytest.mark.slow)]


def start(store: Store) -> Rotated:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    return Rotated(Seeded(0), store.put_array(rotation.astype("f4")))


def everything(store: Store) -> dict[str, tuple]:
    """What a search and a training from an array came to, with all that the store keeps of them;
    trains what is missing, and goes on where a training was stopped."""
    out = {}
    for one in rounds_of(Schedule("imp", 0.5, 2), SPEC, DATA, quiet(store)):
        run = one.run
        out[run.key] = (run.ensure_weights().tobytes(), run.ensure_mask().digest)
        out[run.key] += (run.record.results_digest, run.record.nested["hits"].tobytes())
    out["searches"] = sorted((r["search"], r["round"], r["key"]) for r in store.searches())
    rotated = trained(store, DATA, OTHER, init=start(store))
    out["array"] = store.get_array(rotated.init.rotation).tobytes()
    out[rotated.key] = rotated.record.results_digest
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with everything, the last training stopped half-way; tables of the search; and what
    everything came to. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    store = Store(folder / "store", folder / "results")
    with pytest.raises(Stopped):
        trained(store, DATA, OTHER, init=start(store), deadline=0.0)
    [stopped] = (path.name for path in (folder / "store" / "runs").iterdir())
    shutil.copytree(folder / "store", folder / "begun")
    expected = everything(store)
    shutil.rmtree(store.folder / "runs" / stopped)
    shutil.copytree(folder / "begun" / "runs" / stopped, store.folder / "runs" / stopped)
    adding.add(store, store.own_keys())
    adding.add_table(store, store.own_keys()[0])
    return folder, expected


def cases(folder, kinds: list[str], count: int):
    """So many (path, damaged content): of each kind in turn, at random a byte flipped or a cut."""
    rng = np.random.default_rng(count)
    for number in range(count):
        names = sorted(folder.glob(kinds[number % len(kinds)]))
        path = names[rng.integers(len(names))]
        content, place = bytearray(path.read_bytes()), rng.integers(path.stat().st_size)
        if rng.random() < 0.5:
            content[place] ^= rng.integers(1, 256)
            yield path, bytes(content)
        else:
            yield path, bytes(content[:place])


OWN_FILES = [f"runs/*/{name}*" for name in ("row", "nested", "weights-best", "checkpoint")]
OWN_FILES += [f"{name}/**/*.*" for name in ("masks", "searches", "arrays")]
RECORDED_FILES = [
    f"*/*.{name}.parquet" for name in ("runs", "searches", "nested", "splits", "masks")
]
RECORDED_FILES += ["tables/*", "SHA256SUMS"]


@pytest.mark.parametrize("count", MANY)
def test_in_ones_own_store_is_named_and_made_again_to_the_same_bits(made, tmp_path, capsys, count):
    """Each kind of file, and the checksums beside them, which are damaged as often."""
    folder, expected = made
    for path, content in cases(folder / "store", OWN_FILES, count):
        store = Store(tmp_path / "store", results=None)
        shutil.copytree(folder / "store", store.folder)
        spoiled = store.folder / path.relative_to(folder / "store")
        spoiled.write_bytes(content)
        name = spoiled.name.removesuffix(".sha256")
        assert [name in what for what in store.verify()] == [True], spoiled
        assert everything(store) == expected, spoiled
        assert str(spoiled.with_name(name)) in capsys.readouterr().err
        shutil.rmtree(store.folder)


def read_all(folder) -> None:
    """Ask recorded tables for all that they hold."""
    recorded = Recorded(folder)
    assert recorded.searches.num_rows > 0
    for record in map(recorded.find, recorded.places):
        assert record.nested is not None
        if record.pruning:
            assert recorded.mask(record.row["mask_digest"]) is not None
    assert any(recorded.table(key) is not None for key in recorded.places)


@pytest.mark.parametrize("count", MANY)
def test_in_recorded_tables_is_named_and_refused(made, tmp_path, count):
    folder, _ = made
    read_all(folder / "results")
    for path, content in cases(folder / "results", RECORDED_FILES, count):
        shutil.copytree(folder / "results", tmp_path / "results")
        spoiled = tmp_path / "results" / path.relative_to(folder / "results")
        spoiled.write_bytes(content)
        with pytest.raises(StoreError, match=str(spoiled)):
            read_all(tmp_path / "results")
        assert str(spoiled) in next(adding.verify(tmp_path / "results"))
        shutil.rmtree(tmp_path / "results")
