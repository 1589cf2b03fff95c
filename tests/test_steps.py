"""Steps by name: `auto` is resolved before anything is keyed, and a state goes on to the same bits.

What a step computes is tested with the models; what a training makes of it, with the training.
"""

import numpy as np
import pytest
import torch
from toys import half, toy_data, toy_spec

from lthnb.config import STEPS as CHOICES
from lthnb.config import ConfigError, Spec
from lthnb.sampling import initial_table
from lthnb.steps import STEPS, resolve, step_class


def test_every_step_can_be_chosen_and_every_choice_runs():
    assert set(CHOICES) == {"auto", *STEPS}
    for name in STEPS:
        for method in ("run_epoch", "outputs", "weights", "state", "restore"):
            assert callable(getattr(step_class(name), method))


def test_auto_is_resolved_and_a_name_is_kept():
    assert Spec().training.step == "auto"
    resolved = resolve(Spec())
    assert resolved.training.step in STEPS
    assert resolve(resolved) == resolved
    assert resolved.model == Spec().model


def test_an_unknown_step_is_refused():
    with pytest.raises(ConfigError, match=r"'referense'.*Did you mean 'reference'"):
        step_class("referense")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
@pytest.mark.parametrize("name", STEPS)
def test_a_state_goes_on_to_the_same_bits(name, backbone, dtype):
    data, spec = toy_data(), toy_spec(backbone, dtype=dtype, step=name)
    mask, start = half(data, spec), initial_table(0, data.rows, 4)

    def new():
        return step_class(name)(spec, data, start, mask.kept, "cpu")

    whole, other = new(), new()
    losses = [whole.run_epoch(epoch) for epoch in range(4)]
    for epoch in range(4):
        state = other.state()
        other = new()
        other.restore(state)
        assert other.run_epoch(epoch) == losses[epoch]
    for key, values in whole.state().items():
        assert np.array_equal(values, other.state()[key]), key
    assert torch.equal(whole.outputs(), other.outputs())


@pytest.mark.parametrize("name", STEPS)
def test_what_is_given_out_is_a_copy(name):
    data, spec = toy_data(), toy_spec(step=name)
    start, mask = initial_table(0, data.rows, 4), np.ones((70, 4), bool)
    step = step_class(name)(spec, data, start, mask, "cpu")
    table, state = step.weights(), step.state()
    before = table.copy()
    step.run_epoch(0)
    assert np.array_equal(table, before)
    assert np.array_equal(state["table"], before)
    assert not np.array_equal(step.weights(), before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused():
    data, spec = toy_data(), toy_spec()
    table = np.zeros((data.rows, 4))
    with pytest.raises(ConfigError, match="device: found 'cuda', expected 'cpu'"):
        step_class("reference")(spec, data, table, np.ones(table.shape, bool), "cuda")
