"""Typed parameters: what papermill's command line passes, and what is refused."""

import json
import subprocess
import sys
from inspect import formatannotation

import pytest

from lthnb.book.parameters import parameters
from lthnb.config import ConfigError

FITS = {  # type → what papermill's command line may give, and what comes of it
    int: [("3", 3), (3.0, 3), ("-2", -2)],
    float: [("1e-3", 0.001), (1, 1.0), ("inf", float("inf"))],
    bool: [("true", True), ("False", False), (True, True)],
    str: [("true", "true"), (2018, "2018"), (1.5, "1.5")],
    list[int]: [("[1,2]", [1, 2]), ("[]", []), (5, [5]), ("5", [5]), ((1, 2), [1, 2])],
    list[float]: [("[1e-3, '2']", [0.001, 2.0])],
    list[str]: [
        ('["a", "b"]', ["a", "b"]),
        ("[gowalla, lastfm]", ["gowalla", "lastfm"]),
        ("[a.csv, b c.csv]", ["a.csv", "b c.csv"]),
        ("my ratings.csv", ["my ratings.csv"]),
        (2018, ["2018"]),
    ],
}
WRONG = {
    int: ["many", 1.5, "nan"],
    bool: ["perhaps"],
    str: [None, True],
    float: ["low"],
    list[int]: ["[1, x]", "[1, 2"],
    list[str]: ["[1, 2", {"a": 1}],
}


@pytest.mark.parametrize("kind", FITS)
def test_text_takes_the_declared_type(kind):
    for value, expected in FITS[kind]:
        found = parameters({"__annotations__": {"x": kind}, "x": value}).x
        assert found == expected, value
        assert type(found) is type(expected), value


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, values in WRONG.items() for v in values])
def test_wrong_value_is_refused_with_found_and_expected(kind, value):
    with pytest.raises(ConfigError) as error:
        parameters({"__annotations__": {"x": kind}, "x": value})
    assert str(error.value) == f"x: found {value!r}, expected {formatannotation(kind)}"


def namespace(**changes):
    """What `globals()` holds in a notebook after the parameters cell and an injected one."""
    space = {
        "__annotations__": {"profile": str, "seeds": list[int], "fresh": bool},
        "profile": "recorded",
        "seeds": [0],
        "fresh": False,
        "In": ["", "profile: str = 'recorded'"],
        "unrelated": object(),
    }
    return {**space, **changes}


def test_defaults_pass_through_and_namespace_is_not_changed():
    space = namespace(seeds="3")
    before = dict(space)
    assert vars(parameters(space)) == {"profile": "recorded", "seeds": [3], "fresh": False}
    assert parameters(space) == parameters(space)
    assert space == before


def test_every_problem_is_named_at_once():
    injected = "# Parameters\nsede = 1\ntrain_missing = True\n"
    space = namespace(In=["", injected], seeds="[x]", fresh="perhaps")
    with pytest.raises(ConfigError) as error:
        parameters(space)
    unknown = "unknown parameter train_missing. The notebook has profile, seeds, fresh"
    for word in ("Did you mean 'seeds'", "seeds:", "fresh:", unknown):
        assert word in str(error.value)


def test_only_the_last_injected_cell_counts():
    """In JupyterLab a corrected cell is run again, and `In` still holds the wrong one."""
    cells = ["", "# Parameters\nsede = 1\n", "# Parameters\nseeds = [1]\n", "p = parameters(…)"]
    assert parameters(namespace(In=cells, seeds=[1])).seeds == [1]


def test_declared_without_a_value_is_refused():
    space = namespace()
    del space["profile"]
    with pytest.raises(ConfigError, match=r"profile: found None"):
        parameters(space)


def test_in_a_real_ipython():
    """Annotations and `In` are IPython's: cells as papermill has them, in a real one."""
    cells = [
        "rate: float = 0.1  # …\nseeds: list[int] = [0]  # …",
        '# Parameters\nrate = "1e-3"\nseeds = "[4, 5]"\n',
        "from lthnb.book.parameters import parameters\np = parameters(globals())",
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
