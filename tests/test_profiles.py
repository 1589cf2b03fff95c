"""Profiles fill in specs and ladders, and are no part of any key."""

import dataclasses
from pathlib import Path

import pytest

from lthnb.config import ConfigError, Ladder, Seeded, run_key
from lthnb.profiles import PROFILES, profile
from lthnb.steps import resolve


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
@pytest.mark.parametrize("protocol", ["validated", "paper"])
def test_every_profile_gives_a_spec_and_a_ladder(name, backbone, protocol):
    chosen = profile(name)
    spec = chosen.spec(backbone, protocol=protocol)
    assert (spec.model.backbone, spec.training.protocol) == (backbone, protocol)
    assert spec.model.embedding_size == chosen.embedding_size
    assert chosen.spec(backbone, embedding_size=5).model.embedding_size == 5
    assert chosen.ladder_of("omp", rungs=1) == dataclasses.replace(
        chosen.ladder_of(), method="omp", rungs=1
    )
    assert len(chosen.meaning) > 20
    assert chosen.name == name


def test_paper_is_the_papers_settings():
    """§4.1: Adam at 1e-3, λ = 1e-4, batches of 2048, J = 1000, pr = 10 %, I = 30, size 32."""
    spec, ladder = profile("paper").spec("mf"), profile("paper").ladder_of()
    t = spec.training
    assert (t.learning_rate, t.l2, t.batch_size, t.epochs) == (1e-3, 1e-4, 2048, 1000)
    assert (ladder.pruning_rate, ladder.rungs, spec.model.embedding_size) == (0.1, 30, 32)
    assert ladder == Ladder()
    assert not profile("paper").trains


def test_only_three_seeds_or_more_can_carry_a_claim():
    assert len(profile("quick").seeds) >= 3


def test_unknown_profiles_are_refused():
    with pytest.raises(ConfigError, match=r"'quik', expected one of smoke, quick, paper.*'quick'"):
        profile("quik")


def test_two_profiles_that_fill_in_the_same_share_their_runs():
    quick = profile("quick")
    renamed = dataclasses.replace(quick, name="other", meaning="", seeds=(9,), trains=False)
    keys = {run_key(resolve(p.spec("mf")), "d", Seeded(0), "dense") for p in (quick, renamed)}
    assert len(keys) == 1


def test_the_page_says_what_the_profiles_are():
    """The table in book/rerun.md is typed; it must not fall behind."""
    page = (Path(__file__).resolve().parents[1] / "book/rerun.md").read_text(encoding="utf-8")
    rows = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4:
            rows[cells[0]] = cells[1:]
    for column, name in enumerate(PROFILES):
        p = PROFILES[name]
        mf, gcn, ladder = p.spec("mf"), p.spec("lightgcn"), p.ladder_of()
        said = {key: cells[column] for key, cells in rows.items()}
        assert said["Seeds"] == ", ".join(map(str, p.seeds))
        assert int(said["Embedding size"]) == p.embedding_size
        assert int(said["Most epochs {math}`J`"]) == mf.training.epochs
        assert int(said["Patience, in epochs, MF"]) == mf.training.patience
        assert int(said["Patience, in epochs, LightGCN"]) == gcn.training.patience
        assert float(said["Learning rate, MF"]) == mf.training.learning_rate
        assert float(said["Learning rate, LightGCN"]) == gcn.training.learning_rate
        assert float(said["Pruning rate"]) == ladder.pruning_rate
        assert int(said["Rungs"]) == ladder.rungs
