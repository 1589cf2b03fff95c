"""Every experiment as a notebook, run with papermill on the smoke profile, two sources each; what
is asserted is asserted of the records that they leave."""

from pathlib import Path

import numpy as np
import pytest
from toys import quiet, toy_data

from lthnb import draws, runner
from lthnb.compression import compressions_of
from lthnb.config import Seeded
from lthnb.lottery import derived_seed, plan, run_ladder, targets
from lthnb.profiles import COMPRESSED, CONTESTS, profile
from lthnb.sources import load
from lthnb.standings import fields_of, seeded
from lthnb.store.runs import Store

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.xdist_group("experiments")  # one worker, or each runs them anew

CHAPTERS = [  # that take a source: the others show records alone
    name
    for name in runner.book_notebooks()
    if "source" in runner.declared_parameters(ROOT / "notebooks" / f"{name}.ipynb")
]
BACKBONES = ("mf", "lightgcn")
SMOKE = profile("smoke")


@pytest.fixture(scope="module", params=["movielens", "table"])
def ran(request, tmp_path_factory):
    """(data, store) after all chapters: films, and a table of one's own."""
    folder = tmp_path_factory.mktemp(request.param)
    source = request.param
    if source == "table":
        source = str(folder / "mine.csv")
        users, items = (toy_data(60, 50).known + toy_data(60, 50).test).nonzero()
        lines = (f"u{u},i{i}\n" for u, i in zip(users, items, strict=True))
        with open(source, "w") as file:
            file.write("user,item\n" + "".join(lines))
    settings = {"LTHNB_STORE": str(folder / "store"), "LTHNB_RESULTS": str(folder / "none")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(runner, "executed_folder", lambda *_: folder / "executed")
        outcomes = runner.execute_all(CHAPTERS, "smoke", 2, {"source": source}, True)
    assert not [o.message for o in outcomes if o.status == "failed"]
    data = load(source)
    return data, Store(folder / "store", results=None), folder / "executed"


def ladders(chapter, seeds=None):
    """(ladder, spec) of every ladder that a chapter climbs, with its seed."""
    seeds = seeds or (SMOKE.seeds if chapter == "existence" else SMOKE.few_seeds)
    for ladder, spec in SMOKE.contests(chapter, BACKBONES):
        for seed in seeds:
            yield seeded(ladder, spec, seed)


def of(chapter, wanted, data, store):
    """backbone → the rungs of the ladder that has these settings."""
    return {
        spec.model.backbone: plan(ladder, spec, data, store)
        for ladder, spec in ladders(chapter)
        if all(getattr(ladder, name) == value for name, value in wanted.items())
    }


@pytest.mark.parametrize("chapter", CONTESTS)
def test_every_ladder_is_whole_and_its_densities_exact(ran, chapter):
    data, store, _ = ran
    for ladder, spec in ladders(chapter):
        size = spec.model.embedding_size
        wanted = [data.rows * size, *(sum(k) for k in targets(ladder, data, size))]
        rungs = plan(ladder, spec, data, store)
        assert [r.record.mask["entries"] for r in rungs] == wanted
        assert [r.record.density for r in rungs] == [n / (data.rows * size) for n in wanted]
        if not ladder.densities:
            kept = 1 - ladder.pruning_rate
            exact = [kept**i for i in range(len(rungs))]
            assert np.allclose([r.record.density for r in rungs], exact, atol=2 / wanted[0])


def test_rung_0_is_trained_once_for_all_methods(ran):
    data, store, _ = ran
    dense = [r for k in store.run_keys() if (r := store.find(k)).mask["digest"] == "dense"]
    ordinary = [r for r in dense if r.init["init"] == "seeded"]
    seen = {(str(r.spec), str(r.init)) for r in ordinary}
    assert len(seen) == len(ordinary)
    sizes = {r.spec["model"]["embedding_size"] for r in ordinary}
    assert sizes == {4, 8}
    by_method = [of("baselines", {"method": m}, data, store) for m in ("imp", "omp", "rp", "rp_x0")]
    for backbone in BACKBONES:
        assert len({rungs[backbone][0].record.key for rungs in by_method}) == 1


def test_the_random_mask_does_not_depend_on_the_data(ran):
    """The mask of a shape is the same whatever is in the data, and whatever the backbone is."""
    data, store, _ = ran
    other = toy_data(data.users, data.items, seed=7)
    assert other.digest != data.digest
    empty = Store(store.folder.parent / "other", results=None)
    for method in ("rp", "rp_x0"):
        masks = [
            [rung.mask.digest for rung in rungs[1:]]
            for rungs in of("baselines", {"method": method}, data, store).values()
        ]
        assert masks[0] == masks[1]
        [(ladder, spec)] = [
            (lad, s)
            for lad, s in ladders("baselines")
            if lad.method == method and s.model.backbone == "mf"
        ]

        assert [r.mask.digest for r in run_ladder(ladder, spec, other, quiet(empty))[1:]] == masks[
            0
        ]


def test_reinit_differs_from_rewind_in_x0_alone(ran):
    """The first rung has one mask and one spec under both; only the start is another."""
    data, store, _ = ran
    rewound, fresh = (of("rewinds", {"rewind": r}, data, store) for r in ("rewind", "reinit"))
    for backbone in BACKBONES:
        a, b = rewound[backbone][1].record, fresh[backbone][1].record
        assert (a.spec, a.data, a.mask, a.numerics) == (b.spec, b.data, b.mask, b.numerics)
        assert a.init == Seeded(0).described()
        assert b.init == Seeded(derived_seed(0, "reinit 1")).described()


def test_lcm_has_as_many_parameters_as_its_baseline(ran):
    data, store, _ = ran
    matches = SMOKE.matches(COMPRESSED)
    found = compressions_of(matches, data, SMOKE.few_seeds, quiet(store), train_missing=False)
    assert found
    for one in found:
        assert one.complete
        [lcm], [small] = one.records("lcm"), one.records("small")
        assert lcm.mask["entries"] == small.mask["entries"]
        assert abs(one.entries("lcm") / one.entries("small") - 1) <= 0.02
        assert abs(one.entries("ticket") / one.entries("small") - 1) <= 0.02
        teacher = one.records("dense")[0]
        assert lcm.init == {"init": "compressed", "teacher": teacher.key, "seed": 0}
        assert lcm.spec["model"]["embedding_size"] < teacher.spec["model"]["embedding_size"]


def test_existence_has_all_seeds_and_claims(ran):
    data, store, _ = ran
    starts = {
        (spec.model.backbone, plan(ladder, spec, data, store)[1].record.init["seed"])
        for ladder, spec in ladders("existence")
    }
    assert starts == {(b, s) for b in BACKBONES for s in SMOKE.seeds}


def test_nothing_else_was_trained(ran):
    """No chapter trains what another has under a key of its own: what is in the store is what the
    contests name, LCM's, and the tickets that are trained again with half of their seed changed."""
    data, store, _ = ran
    wanted = {
        rung.record.key
        for chapter in CONTESTS
        for ladder, spec in ladders(chapter)
        for rung in plan(ladder, spec, data, store)
    }
    for one in compressions_of(
        SMOKE.matches(COMPRESSED), data, SMOKE.few_seeds, quiet(store), train_missing=False
    ):
        ladder, spec = seeded(one.match.ladder, one.match.dense, 0)
        wanted |= {*one.keys, *(r.record.key for r in plan(ladder, spec, data, store))}
    rewinds = fields_of(
        SMOKE.contests("rewinds", BACKBONES),
        data,
        SMOKE.few_seeds,
        quiet(store),
        train_missing=False,
    )
    again = draws.looked_up(rewinds, SMOKE.taken_apart, store)
    assert len(again) == len(BACKBONES)
    wanted |= {r.key for one in again for runs in one.runs.values() for r in runs}
    assert set(store.run_keys()) == wanted


def test_the_collecting_chapter_found_everything(ran):
    _, _, executed = ran
    text = (executed / "paper-against-ours.ipynb").read_text(encoding="utf-8")
    assert "smoke*: " in text
    assert "0 trainings" in text  # of recorded runs, since there are none here
