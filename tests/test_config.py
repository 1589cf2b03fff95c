"""What a run is: settings that refuse what cannot be, and keys that stay what they are."""

import dataclasses
import json
import math
from dataclasses import dataclass

import pytest
from toys import interactions, toy_data

from lthnb import config
from lthnb.config import (
    DENSE,
    Between,
    ConfigError,
    Ladder,
    Model,
    Rotated,
    Seeded,
    Snapshot,
    Spec,
    Training,
    _Checked,
    canonical,
    digest_text,
    init_from,
    run_key,
    run_text,
    setting,
    spec_from,
)
from lthnb.lottery import pruning_of, start_of

CLASSES = (Model, Training, Ladder, Seeded)
REFERENCE = Spec(training=Training(step="reference"))
DATA = "0123456789abcdef0123456789abcdef"


def wrong_values():
    """For every setting of every class, values that it must refuse."""
    for cls in CLASSES:
        for f in dataclasses.fields(cls):
            allowed = f.metadata.get("allowed")
            if allowed is None:
                continue
            if isinstance(allowed, tuple):
                wrong = ["no such choice", 1, True, None, allowed[0] + "x", [allowed[0]]]
            else:
                wrong = [True, False, None, "1", math.nan, math.inf, -math.inf, [1], 1j]
                wrong.append(allowed.low - 1)
                if allowed.open_low:
                    wrong.append(allowed.low)
                if allowed.high < math.inf:
                    wrong.append(allowed.high if allowed.open_high else allowed.high * 2 + 1)
                if not isinstance(f.default, float):
                    wrong += [1.5, 2.0]
            for value in wrong:
                yield pytest.param(cls, f.name, value, id=f"{cls.__name__}.{f.name}={value!r}")


@pytest.mark.parametrize(("cls", "name", "value"), list(wrong_values()))
def test_wrong_value_is_refused_by_name(cls, name, value):
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    message = str(caught.value)
    assert f"{cls.__name__}.{name}" in message
    assert f"found {value!r}" in message
    assert "expected" in message


@pytest.mark.parametrize("cls", CLASSES)
def test_every_allowed_choice_and_every_default_is_taken(cls):
    cls()
    for f in dataclasses.fields(cls):
        allowed = f.metadata.get("allowed")
        for choice in allowed if isinstance(allowed, tuple) else ():
            assert getattr(cls(**{f.name: choice}), f.name) == choice


@pytest.mark.parametrize(
    ("cls", "name", "value", "meant"),
    [
        (Model, "backbone", "ligthgcn", "lightgcn"),
        (Model, "layer_combination", "means", "mean"),
        (Training, "protocol", "validate", "validated"),
        (Training, "step", "refrence", "reference"),
        (Ladder, "method", "im", "imp"),
        (Ladder, "scope", "user-item", "user_item"),
        (Ladder, "rewind", "contineu", "continue"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_choice(cls, name, value, meant):
    with pytest.raises(ConfigError, match=f"Did you mean '{meant}'"):
        cls(**{name: value})


def test_an_integer_for_a_float_is_that_float():
    """1 and 1.0 are one value, and so one key."""
    given = Training(learning_rate=1, l2=0)
    assert isinstance(given.learning_rate, float)
    assert isinstance(given.l2, float)
    assert canonical(Training(l2=0).described()) == canonical(Training(l2=0.0).described())


@pytest.mark.parametrize(
    "densities", [(1.0,), (0.0,), (0.5, 0.5), (0.2, 0.5), (-0.1,), (0.5, math.nan), (1.5,)]
)
def test_densities_must_fall_between_one_and_zero(densities):
    with pytest.raises(ConfigError, match=r"Ladder\.densities"):
        Ladder(densities=densities)


def test_densities_as_a_list_are_the_same_ladder():
    assert Ladder(densities=[0.5, 0.25]) == Ladder(densities=(0.5, 0.25))


@pytest.mark.parametrize("epoch", [0, -1, True, 1.0, "last", "", None])
def test_snapshot_refuses_what_is_no_epoch(epoch):
    with pytest.raises(ConfigError, match=r"Snapshot\.epoch"):
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
        REFERENCE.with_training(dtype="float64", l2_scope="table", order_seed=2**63 - 1),
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
        Rotated(Snapshot("cd" * 16), "ab" * 16),
    ],
)
def test_init_round_trip(init):
    assert init_from(json.loads(canonical(init.described()))) == init


def test_unknown_names_are_refused_when_read_back():
    with pytest.raises(ConfigError, match=r"'embeding_size'.*Did you mean 'embedding_size'"):
        spec_from({"model": {"embeding_size": 3}})
    with pytest.raises(ConfigError, match="initialisation: found 'seed'"):
        init_from({"init": "seed"})
    with pytest.raises(ConfigError, match=r"'trainnig'.*Did you mean 'training'"):
        spec_from({"trainnig": {"epochs": 3}})


def test_between_says_what_it_means():
    assert str(Between(0, 1, open_low=True, open_high=True)) == "a number > 0 and < 1"
    assert str(Between(1)) == "a number ≥ 1"
    assert 1 in Between(1)
    assert 1 not in Between(1, open_low=True)
    assert 2 not in Between(1, 2, open_high=True)


# Keys


def key_of(spec=REFERENCE, data=DATA, init=Seeded(0), mask=DENSE):  # noqa: B008
    return run_key(spec, data, init, mask)


def changed(value, allowed):
    """Another allowed value."""
    if isinstance(allowed, tuple):
        return next(choice for choice in allowed if choice != value and choice != "auto")
    return value + 1 if value + 1 in allowed else value / 2


def test_every_setting_changes_the_key():
    base = Spec(Model("lightgcn"), Training(step="reference"))
    seen = {key_of(base)}
    for part, cls in (("model", Model), ("training", Training)):
        for f in dataclasses.fields(cls):
            if f.name == "step":
                continue  # there is one step so far
            old = getattr(getattr(base, part), f.name)
            new = dataclasses.replace(
                getattr(base, part), **{f.name: changed(old, f.metadata["allowed"])}
            )
            key = key_of(dataclasses.replace(base, **{part: new}))
            assert key not in seen, f.name
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


def test_a_setting_added_later_leaves_older_keys_alone():
    @dataclass(frozen=True)
    class Before(_Checked):
        rate: float = setting(0.5, Between(0), "a rate")

    @dataclass(frozen=True)
    class After(Before):
        extra: int = setting(3, Between(0), "came later", added_later=True)

    assert canonical(After().described()) == canonical(Before().described())
    assert After(extra=4).described() == {"rate": 0.5, "extra": 4}


def test_device_changes_the_key_unless_it_is_a_cpu():
    on = {d: run_key(REFERENCE, DATA, Seeded(0), DENSE, d) for d in ("cpu", "cuda", "cuda:1")}
    assert on["cpu"] == run_key(REFERENCE, DATA, Seeded(0), DENSE)
    assert on["cuda"] == on["cuda:1"] != on["cpu"]


def test_auto_has_no_key():
    with pytest.raises(ConfigError, match=r"Training\.step: found 'auto'"):
        run_text(Spec(), DATA, Seeded(0), DENSE)


@pytest.mark.parametrize("component", ["sampling", "model", "selection", "reference"])
def test_raising_numerics_changes_the_key(monkeypatch, component):
    before = key_of()
    monkeypatch.setitem(config.NUMERICS, component, config.NUMERICS[component] + 1)
    assert key_of() != before


def test_a_step_that_does_not_run_is_not_in_the_key(monkeypatch):
    before = key_of()
    monkeypatch.setitem(config.NUMERICS, "another step", 5)
    assert key_of() == before


def test_the_text_is_canonical():
    text = run_text(REFERENCE, DATA, Seeded(0), DENSE)
    assert text.isascii()
    assert " " not in text
    assert text == canonical(json.loads(text))
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"x": math.nan})


PINNED_RUNS = {
    "mf": (REFERENCE, Seeded(0), DENSE, "3295b1fb4b2bab4306453ee6b1f1d941"),
    "lightgcn": (
        Spec(Model("lightgcn", 64), Training(step="reference")),
        Seeded(1),
        DENSE,
        "b81d8d086de0c561cee4edeeaa4ab7b7",
    ),
    "paper": (
        REFERENCE.with_training(protocol="paper"),
        Seeded(0),
        "ab" * 16,
        "ad79edaeead8880d9e78b1e6e6227815",
    ),
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
    "late": (REFERENCE, Snapshot("ef" * 16, 2), "ab" * 16, "2388c48916a2107e4aeac6fe0be460aa"),
    "continue": (REFERENCE, Snapshot("ef" * 16), "ab" * 16, "b76d191d97e0a4950539c3e10bed215b"),
}


@pytest.mark.parametrize("name", PINNED_RUNS)
def test_run_keys_are_pinned(name):
    """Keys are addresses: every recorded run lies under its key.

    Should one of these change, no run recorded so far would be found again, here or with anyone who
    shares them, and days of training would be done anew without a word. So a change that fails here
    must be meant: a new setting gets ``added_later=True``; a change of what is computed raises its
    number in NUMERICS, and then these strings are written anew along with it.
    """
    spec, init, mask, expected = PINNED_RUNS[name]
    assert run_key(spec, DATA, init, mask) == expected


PINNED_PRUNINGS = {
    "imp": (Ladder(), "83d4278bbb2a6f1e2957c02b363dac40"),
    "omp": (
        Ladder("omp", scope="user_item", prune_from="last"),
        "18aa936aa7e8bdc24248bc2e53489523",
    ),
    "rp": (Ladder("rp", seed=5), "0e92c8d04c60e08ff262ff0bf510ee2b"),
    "row_rank": (Ladder(criterion="row_rank"), "b9d21091aa3123d06a10b3ce69ed8a4b"),
}


@pytest.mark.parametrize("name", PINNED_PRUNINGS)
def test_pruning_keys_are_pinned(name):
    """Masks are looked up by such keys: see :func:`test_run_keys_are_pinned`."""
    ladder, expected = PINNED_PRUNINGS[name]
    about = pruning_of(ladder, toy_data(), 4, "ab" * 16, "cd" * 16, (100,))
    assert digest_text(canonical(about)) == expected


def test_derived_starts_are_pinned():
    """Fresh draws of a ladder come from derived seeds, which are part of keys as well."""
    reinit = start_of(Ladder(rewind="reinit", seed=1), 2, "a", "b")
    assert (reinit.seed, start_of(Ladder("rp", seed=1), 2, "a", "b").seed) == (
        865818108636611877,
        4281410080759367493,
    )


def test_the_digest_of_data_is_pinned():
    """A data set is known by its digest in every key."""
    parts = [[1, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 1]], [[0, 0, 1], [1, 0, 0]]
    assert interactions(*parts).digest == "8222e03ead601a0611c1cf1185a4c08a"
