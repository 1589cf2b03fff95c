"""Typed parameters: what papermill's command line passes, and what is refused."""

import json
import subprocess
import sys

import pytest

from lthnb.parameters import (
    RENAMED,
    ParameterError,
    coerce,
    declared_types,
    parameters,
    unknown_parameters,
    wrong_values,
)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, int, 3),
        ("3", int, 3),
        ("1e3", int, 1000),
        (3.0, int, 3),
        ("-2", int, -2),
        ("1e-3", float, 0.001),
        (1, float, 1.0),
        ("inf", float, float("inf")),
        ("true", bool, True),
        ("False", bool, False),
        (True, bool, True),
        ("gowalla", str, "gowalla"),
        ("true", str, "true"),
        (2018, str, "2018"),
        (1.5, str, "1.5"),
        ("[1,2]", list[int], [1, 2]),
        ("[1, 2]", list[float], [1.0, 2.0]),
        ("[1e-3, '2']", list[float], [0.001, 2.0]),
        ('["a", "b"]', list[str], ["a", "b"]),
        ("[gowalla, lastfm]", list[str], ["gowalla", "lastfm"]),
        ("[]", list[int], []),
        (5, list[int], [5]),
        ("5", list[int], [5]),
        ("gowalla", list[str], ["gowalla"]),
        ((1, 2), list[int], [1, 2]),
        ("[a.csv, b c.csv]", list[str], ["a.csv", "b c.csv"]),
        ("my ratings.csv", list[str], ["my ratings.csv"]),
        (2018, list[str], ["2018"]),
    ],
)
def test_coerces(value, kind, expected):
    found = coerce(value, kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("many", int, ["'many'", "int", "whole number"]),
        (1.5, int, ["1.5", "int"]),
        ("nan", int, ["'nan'", "int"]),
        (True, int, ["True", "int"]),
        ("yes", bool, ["'yes'", "true or false"]),
        (1, bool, ["1", "true or false"]),
        (None, str, ["None", "str"]),
        (True, str, ["True", "str"]),
        (True, float, ["True", "float"]),
        ("[1, x]", list[int], ["'x'", "int"]),
        ("[1, 2", list[int], ["closing bracket"]),
        ({"a": 1}, list[str], ["list[str]"]),
        ("1", dict, ["dict", "not supported", "list[int]"]),
        ("1", int | None, ["int | None", "not supported"]),
    ],
)
def test_refuses_with_found_expected_and_advice(value, kind, words):
    with pytest.raises(ParameterError) as error:
        coerce(value, kind)
    for word in words:
        assert word in str(error.value)


def test_types_of_a_parameters_cell():
    cell = (
        "rate: float = 0.1  # …\nseeds: list[int] = [0]\n"
        "dataset: list[str] = []\nplain = 3\nodd: Unknown = 1"
    )
    declared = declared_types(cell)
    assert declared == {"rate": float, "seeds": list[int], "dataset": list[str]}
    given = {"rate": "low", "seeds": "[1, two]", "dataset": "lastfm", "odd": "x", "plain": "x"}
    assert wrong_values(given, declared) == [
        "rate: found 'low' (str), expected float; write a number, as 0.5 or 1e-3",
        "seeds: found 'two' (str), expected int; write a whole number",
    ]


@pytest.mark.parametrize(("old", "now"), RENAMED.items())
def test_an_old_name_is_refused_with_the_one_of_today(old, now):
    said = [f"unknown parameter {old}: it is called {now} now"]
    assert unknown_parameters([old], ["seeds", now]) == said
    assert now not in RENAMED, "or what is written next would be refused as well"


def test_an_old_name_where_there_is_nothing_of_the_kind():
    [said] = unknown_parameters(["rung"], ["seeds"])
    assert "called" not in said
    assert "The notebook has seeds" in said


def test_a_notebook_may_have_a_name_that_others_had_before():
    assert unknown_parameters(["source"], ["source", "dataset"]) == []


def notebook_namespace(**changes):
    """What `globals()` holds in a notebook after the parameters cell and an injected one."""
    namespace = {
        "__annotations__": {"profile": str, "seeds": list[int], "fresh": bool},
        "profile": "recorded",
        "seeds": [0],
        "fresh": False,
        "In": ["", "profile: str = 'recorded'"],
        "unrelated": object(),
    }
    return {**namespace, **changes}


def test_defaults_pass_through():
    p = parameters(notebook_namespace())
    assert vars(p) == {"profile": "recorded", "seeds": [0], "fresh": False}


def test_injected_text_takes_the_declared_type():
    p = parameters(notebook_namespace(seeds="[1, 2]", fresh="true"))
    assert p.seeds == [1, 2]
    assert p.fresh is True


def test_unknown_injected_name_is_refused_with_the_nearest():
    injected = '# Parameters\nprofile = "smoke"\nfersh = "true"\n'
    space = notebook_namespace(In=["", injected], fersh="true")
    with pytest.raises(ParameterError, match=r"fersh.*Did you mean 'fresh'"):
        parameters(space)


def test_every_problem_is_named_at_once():
    space = notebook_namespace(
        In=["", "# Parameters\nsede = 1\ntrain_missing = True\n"], seeds="[x]", fresh="perhaps"
    )
    with pytest.raises(ParameterError) as error:
        parameters(space)
    for word in ("sede", "seeds:", "fresh:", "train_missing: it is called profile now"):
        assert word in str(error.value)


def test_only_the_last_injected_cell_counts():
    """In JupyterLab a corrected cell is run again, and `In` still holds the wrong one."""
    cells = ["", "# Parameters\nsede = 1\n", "# Parameters\nseeds = [1]\n", "p = parameters(…)"]
    assert parameters(notebook_namespace(In=cells, seeds=[1])).seeds == [1]


def test_declared_without_a_value_is_refused():
    space = notebook_namespace()
    del space["profile"]
    with pytest.raises(ParameterError, match=r"profile has no value.*default"):
        parameters(space)


def test_can_be_called_again_and_changes_nothing():
    space = notebook_namespace(seeds="3")
    before = dict(space)
    assert parameters(space) == parameters(space)
    assert space == before


def test_annotations_as_text():
    space = notebook_namespace()
    space["__annotations__"] = {"profile": "str", "seeds": "list[int]", "fresh": "bool"}
    assert parameters(space).seeds == [0]


def test_in_a_real_ipython():
    """Annotations and `In` are IPython's: cells as papermill has them, in a real one."""
    cells = [
        "rate: float = 0.1  # …\nseeds: list[int] = [0]  # …",
        '# Parameters\nrate = "1e-3"\nseeds = "[4, 5]"\n',
        "from lthnb.parameters import parameters\np = parameters(globals())",
        "seeds = 7",
        "p = parameters(globals())",
    ]
    program = f"""
import json
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(history_length=0)
for cell in {cells!r}:
    shell.run_cell(cell, store_history=True).raise_error()
print(json.dumps(vars(shell.user_ns["p"])))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert json.loads(last) == {"rate": 0.001, "seeds": [7]}
