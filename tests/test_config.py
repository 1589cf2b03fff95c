"""What a run is: settings that refuse what cannot be, and keys that stay what they are."""

import dataclasses
import json
import math
from typing import get_args

import annotated_types as at
import pytest
from toys import interactions, toy_data

from lthnb import config
from lthnb.config import (
    DENSE,
    ConfigError,
    Model,
    Rotated,
    Schedule,
    Seeded,
    Snapshot,
    Spec,
    Training,
    canonical,
    digest_text,
    init_from,
    run_text,
    spec_from,
)
from lthnb.lottery import pruning_of, start_of
from lthnb.store.results import Recorded

CLASSES = (Model, Training, Schedule, Seeded)
REFERENCE = Spec(training=Training(step="reference"))
DATA = "0123456789abcdef0123456789abcdef"
# Bound of a setting → a number beyond it.
BEYOND = {at.Ge: lambda b: b.ge - 1, at.Gt: lambda b: b.gt, at.Le: lambda b: b.le + 1}
BEYOND[at.Lt] = lambda b: b.lt


def each_setting():
    """Class, name, its field, and its choices (empty for a number)."""
    for cls in CLASSES:
        for name, field in cls.__pydantic_fields__.items():
            if name != "densities":
                yield cls, name, field, get_args(field.annotation)


def wrong_values():
    """For every setting of every class, values that it must refuse."""
    for cls, name, field, choices in each_setting():
        if choices:
            wrong = ["no such choice", 1, True, None, choices[0] + "x", [choices[0]]]
        else:
            wrong = [True, None, "1", math.nan, math.inf, -math.inf, [1], 1j]
            wrong += [BEYOND[type(bound)](bound) for bound in field.metadata]
            wrong += [] if field.annotation is float else [1.5, 2.0]
        for value in wrong:
            yield pytest.param(cls, name, value, id=f"{cls.__name__}.{name}={value!r}")


@pytest.mark.parametrize(("cls", "name", "value"), list(wrong_values()))
def test_wrong_value_is_refused_by_name(cls, name, value):
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    message = str(caught.value)
    assert f"{cls.__name__}.{name}: found {value!r}, expected " in message
    assert "\n" not in message
    assert " ".join((cls.__pydantic_fields__[name].description or "").split()) in message


def test_every_allowed_choice_and_every_default_is_taken():
    for cls, name, field, choices in each_setting():
        assert getattr(cls(), name) == field.default
        for choice in choices:
            assert getattr(cls(**{name: choice}), name) == choice


@pytest.mark.parametrize(
    ("cls", "name", "value", "meant"),
    [
        (Model, "backbone", "ligthgcn", "lightgcn"),
        (Training, "protocol", "validate", "validated"),
        (Training, "step", "refrence", "reference"),
        (Schedule, "scope", "user-item", "user_item"),
        (Schedule, "rewind", "contineu", "continue"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_choice(cls, name, value, meant):
    with pytest.raises(ConfigError, match=f"Did you mean '{meant}'"):
        cls(**{name: value})


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'embeding_size'.*Did you mean 'embedding_size'"):
        spec_from({"model": {"embeding_size": 3}})
    with pytest.raises(ConfigError, match=r"'trainnig'.*Did you mean 'training'"):
        spec_from({"trainnig": {"epochs": 3}})


def test_a_value_given_by_its_place_is_refused_by_its_name():
    with pytest.raises(ConfigError, match=r"^Model\.embedding_size: found 0, expected a number"):
        Model("mf", 0)


def test_an_integer_for_a_float_is_that_float():
    """1 and 1.0 are one value, and so one key."""
    given = Training(learning_rate=1, l2=0)
    assert isinstance(given.learning_rate, float)
    assert canonical(given.described()) == canonical(
        Training(learning_rate=1.0, l2=0.0).described()
    )


@pytest.mark.parametrize(
    "densities",
    [(1.0,), (0.0,), (0.5, 0.5), (0.2, 0.5), (-0.1,), (0.5, math.nan), (1.5,), ("0.5",), 0.5],
)
def test_densities_must_fall_between_one_and_zero(densities):
    with pytest.raises(ConfigError, match=r"Schedule\.densities"):
        Schedule(densities=densities)


def test_densities_as_a_list_are_the_same_ladder():
    assert Schedule(densities=[0.5, 0.25]) == Schedule(densities=(0.5, 0.25))


@pytest.mark.parametrize("epoch", [0, -1, True, 1.0, "last", "", None])
def test_snapshot_refuses_what_is_no_epoch(epoch):
    with pytest.raises(ConfigError, match=r"Snapshot\.epoch: found .*, expected 'best' or a"):
        Snapshot("a" * 32, epoch)


def test_evaluations_must_come_before_patience_runs_out():
    """Else a training would end before its first evaluation, with no best epoch at all."""
    with pytest.raises(ConfigError, match=r"Training\.evaluate_every: found 20.*patience"):
        Training(evaluate_every=20, patience=10, epochs=50)
    Training(evaluate_every=20, patience=10, epochs=10)  # the last epoch is always evaluated
    Training(evaluate_every=10, patience=10, epochs=50)


@pytest.mark.parametrize(
    "spec",
    [
        Spec(),
        Spec(Model("lightgcn", 64, 2, "sum"), Training(learning_rate=0.01, l2=0.1, epochs=7)),
        REFERENCE.with_training(dtype="float64", order_seed=2**63 - 1),
        REFERENCE.with_model(compression="linear"),
    ],
)
def test_spec_round_trip(spec):
    assert spec_from(json.loads(canonical(spec.described()))) == spec


@pytest.mark.parametrize(
    "init",
    [
        Seeded(7),
        Rotated(Seeded(2), "ab" * 16),
        Snapshot("cd" * 16, 3),
        Rotated(Rotated(Snapshot("cd" * 16), "ab" * 16), "ab" * 16),
        config.Compressed("cd" * 16, 2),
    ],
)
def test_init_round_trip(init):
    assert init_from(json.loads(canonical(init.described()))) == init


# Keys


def key_of(spec=REFERENCE, data=DATA, init=Seeded(0), mask=DENSE):  # noqa: B008
    return digest_text(run_text(spec, data, init, mask))


def test_every_setting_changes_the_key():
    base = Spec(Model("lightgcn"), Training(step="reference"))
    seen = {key_of(base)}
    for cls, name, field, choices in each_setting():
        if cls not in (Model, Training):
            continue
        old = field.default if name != "backbone" else "lightgcn"
        new = old / 2 if isinstance(old, float) else old if choices else old + 1
        if choices:
            new = next(one for one in choices if one not in (old, "auto", "reference"))
        part = cls.__name__.lower()
        of = base.with_model(compression="threshold") if name == "target_density" else base
        changed = dataclasses.replace(getattr(of, part), **{name: new})
        key = key_of(dataclasses.replace(of, **{part: changed}))
        assert key not in seen, name
        seen.add(key)


def test_data_init_and_mask_change_the_key():
    others = [
        key_of(data="f" * 32),
        key_of(init=Seeded(1)),
        key_of(init=Rotated(Seeded(0), "ab")),
        key_of(init=Snapshot("ab", 1)),
        key_of(init=Snapshot("ab", "best")),
        key_of(mask="f" * 32),
    ]
    assert len({key_of(), *others}) == len(others) + 1


def test_what_a_backbone_does_not_read_is_not_in_its_key():
    mf = dataclasses.replace(REFERENCE, model=Model("mf", layers=3, layer_combination="mean"))
    other = dataclasses.replace(REFERENCE, model=Model("mf", layers=1, layer_combination="sum"))
    assert key_of(mf) == key_of(other)
    assert "layers" not in mf.described()["model"]


def test_device_changes_the_key_unless_it_is_a_cpu():
    on = {d: run_text(REFERENCE, DATA, Seeded(0), DENSE, d) for d in ("cpu", "cuda", "cuda:1")}
    assert on["cpu"] == run_text(REFERENCE, DATA, Seeded(0), DENSE)
    assert on["cuda"] == on["cuda:1"] != on["cpu"]


def test_auto_has_no_key():
    with pytest.raises(ConfigError, match=r"Training\.step: found 'auto'"):
        run_text(Spec(), DATA, Seeded(0), DENSE)


@pytest.mark.parametrize("component", ["sampling", "model", "selection", "reference"])
def test_raising_numerics_changes_the_key(monkeypatch, component):
    before = key_of()
    monkeypatch.setitem(config.NUMERICS, "another step", 5)  # one that does not run
    assert key_of() == before
    monkeypatch.setitem(config.NUMERICS, component, config.NUMERICS[component] + 1)
    assert key_of() != before


def test_the_text_is_canonical():
    text = run_text(REFERENCE, DATA, Seeded(0), DENSE)
    assert text.isascii()
    assert " " not in text
    assert text == canonical(json.loads(text))
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"x": math.nan})


PINNED_RUNS = {
    "mf": (REFERENCE, Seeded(0), DENSE, "3295b1fb4b2bab4306453ee6b1f1d941"),
    "float64": (
        REFERENCE.with_training(dtype="float64", l2=0),
        Seeded(2**63 - 1),
        DENSE,
        "2aed6c14b491ce4017b7f1527e15b899",
    ),
    "rotated": (
        REFERENCE,
        Rotated(Seeded(0), "cd" * 16),
        DENSE,
        "5120a8a9a9443961007c0f67068b4d50",
    ),
}


@pytest.mark.parametrize("name", PINNED_RUNS)
def test_run_keys_are_pinned(name):
    """Keys are addresses: every recorded run lies under its key. `tests/golden/` pins more of them.

    Should one of these change, no run recorded so far would be found again, here or with anyone who
    shares them, and days of training would be done anew without a word. So a change that fails here
    must be meant: a new setting stays out of `described()` at its default; a change of what is
    computed raises its number in NUMERICS, and then these strings are written anew along with it.
    """
    spec, init, mask, expected = PINNED_RUNS[name]
    assert key_of(spec, DATA, init, mask) == expected


PINNED_PRUNINGS = {
    "imp": (Schedule(), "83d4278bbb2a6f1e2957c02b363dac40"),
    "omp": (
        Schedule("omp", scope="user_item", prune_from="last"),
        "18aa936aa7e8bdc24248bc2e53489523",
    ),
    "rp": (Schedule("rp", seed=5), "0e92c8d04c60e08ff262ff0bf510ee2b"),
    "row_rank": (Schedule(criterion="row_rank"), "b9d21091aa3123d06a10b3ce69ed8a4b"),
}


@pytest.mark.parametrize("name", PINNED_PRUNINGS)
def test_pruning_keys_are_pinned(name):
    """Masks are looked up by such keys: see :func:`test_run_keys_are_pinned`."""
    schedule, expected = PINNED_PRUNINGS[name]
    about = pruning_of(schedule, toy_data(), 4, "ab" * 16, "cd" * 16, (100,))
    assert digest_text(canonical(about)) == expected


def test_derived_starts_are_pinned():
    """Starts of their own come from derived seeds, which are part of keys as well."""
    reinit = start_of(Schedule(rewind="reinit", seed=1), 2, "a", "b")
    assert (reinit.seed, start_of(Schedule("rp", seed=1), 2, "a", "b").seed) == (
        865818108636611877,
        4281410080759367493,
    )


def test_the_digest_of_data_is_pinned():
    """A data set is known by its digest in every key."""
    parts = [[1, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 1]], [[0, 0, 1], [1, 0, 0]]
    assert interactions(*parts).digest == "8222e03ead601a0611c1cf1185a4c08a"


def test_every_recorded_key_follows_from_its_settings(root):
    """Read back from its text, a run has the same text, and so is found again."""
    runs = Recorded(root / "results").runs.select(["key_text", "data_digest", "mask_digest"])
    for row in runs.to_pylist():
        about = json.loads(row["key_text"])
        spec, init = spec_from(about["spec"]), init_from(about["init"])
        assert run_text(spec, row["data_digest"], init, row["mask_digest"]) == row["key_text"]
