"""A beat's answer is its own: the same bits alone, in any company, at any place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.backends import Backend, open_backend
from models.pack import ModelPack, PackError, load, shipped

Inputs = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def pack() -> ModelPack:
    return load(shipped("beat"))


@pytest.fixture(scope="module")
def backend(pack: ModelPack) -> Backend:
    return open_backend(pack)


@pytest.fixture(scope="module")
def inputs(pack: ModelPack) -> Inputs:
    rng = np.random.default_rng(5)
    return {name: 1.5 * rng.normal(size=(300, *shape)).astype(np.float32) for name, shape in pack.input_shapes.items()}


def rows(inputs: Inputs, which: slice | np.ndarray) -> Inputs:
    return {name: np.ascontiguousarray(array[which]) for name, array in inputs.items()}


def test_one_by_one_gives_the_same_bits_as_all_at_once(backend: Backend, inputs: Inputs) -> None:
    together = backend.run(inputs)
    alone = np.concatenate([backend.run(rows(inputs, slice(i, i + 1))) for i in range(300)])
    assert alone.tobytes() == together.tobytes()
    assert together.shape == (300, 4)
    assert together.dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(which=st.lists(st.integers(0, 299), min_size=1, max_size=260))
def test_company_and_place_change_nothing(backend: Backend, inputs: Inputs, which: list[int]) -> None:
    chosen = np.array(which)
    assert backend.run(rows(inputs, chosen)).tobytes() == backend.run(inputs)[chosen].tobytes()


def test_a_batch_of_none_gives_none(backend: Backend, inputs: Inputs) -> None:
    assert backend.run(rows(inputs, slice(0, 0))).shape == (0, 4)


def test_extreme_inputs_give_finite_logits(backend: Backend, pack: ModelPack) -> None:
    for value in (0.0, 1e30, -1e30):
        extreme = {name: np.full((3, *shape), value, dtype=np.float32) for name, shape in pack.input_shapes.items()}
        assert np.isfinite(backend.run(extreme)).all()


def test_inputs_that_do_not_fit_are_refused(backend: Backend, inputs: Inputs) -> None:
    one = rows(inputs, slice(0, 1))
    for wrong, message in (
        ({"signal": one["signal"]}, "inputs are"),
        ({**one, "context": one["context"][:, 1:]}, "input context is"),
        ({**one, "signal": one["signal"].astype(np.float64)}, "input signal is float64"),
        ({**one, "signal": inputs["signal"]}, "expected float32"),
    ):
        with pytest.raises(ValueError, match=message):
            backend.run(wrong)


def test_an_unknown_runtime_is_refused_by_name(pack: ModelPack) -> None:
    with pytest.raises(PackError, match="no runtime is called 'abacus'"):
        open_backend(pack, "abacus")
