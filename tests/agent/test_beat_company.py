"""A beat's features have the same bits whoever else's beats are taken with it, in any order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.signal import beat_features, likeness
from agent.signal.beat_features import AFTER_SAMPLES, BEFORE_SAMPLES, CONTEXT, FEW, RATE_HZ, BeatFeatures
from agent.signal.beat_memory import FeatureState
from agent.signal.pending import DECIDE_SAMPLES, FOLLOWER_SAMPLES, DueBeat

Seen = tuple[np.ndarray, DueBeat]

PEOPLE = 5
BEATS = 40
T = (np.arange(BEFORE_SAMPLES + AFTER_SAMPLES) - BEFORE_SAMPLES) / RATE_HZ
QRS = {"narrow": (0.012, 1.0), "wide": (0.04, -1.3), "flat": (0.02, 0.0)}


def person(seed: int) -> list[Seen]:
    """Beats of all kinds: early, after pauses and after gaps too long to count, flat, noisy, huge."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(list(QRS), BEATS, p=[0.7, 0.25, 0.05])
    apart_s = rng.choice([0.3, 0.5, 0.8, 1.1, 4.0], BEATS, p=[0.1, 0.2, 0.5, 0.15, 0.05])
    r_peaks = 250 + np.cumsum(np.round(apart_s * RATE_HZ + rng.normal(size=BEATS)).astype(int))
    path = 10.0 ** rng.uniform(-3, -1) * rng.normal(size=r_peaks[-1] + 2 * len(T))
    for r, kind in zip(r_peaks, kinds, strict=True):
        width, height = QRS[kind]
        size = height * rng.choice([0.2, 1.0, 1.1, 50.0], p=[0.05, 0.6, 0.3, 0.05])
        path[r - BEFORE_SAMPLES : r + AFTER_SAMPLES] += size * np.exp(-((T / width) ** 2))
        path[r - BEFORE_SAMPLES : r + AFTER_SAMPLES] += 0.3 * np.exp(-(((T - 0.26) / 0.05) ** 2))
    seen = []
    for r in r_peaks.tolist():
        later = [other for other in r_peaks.tolist() if r < other <= r + DECIDE_SAMPLES - FOLLOWER_SAMPLES][:2]
        window = path[r - BEFORE_SAMPLES : r + AFTER_SAMPLES].astype(np.float32)
        seen.append((window, DueBeat(r, r + DECIDE_SAMPLES, tuple(later))))
    return seen


EVERYBODY = [person(seed) for seed in range(PEOPLE)]


def push(states: Sequence[FeatureState], beats: Sequence[Seen]) -> list[bytes]:
    """Bytes of both inputs of each beat."""
    signals, contexts = BeatFeatures().push(
        states, np.stack([window for window, _ in beats]), [due for _, due in beats]
    )
    return [signal.tobytes() + context.tobytes() for signal, context in zip(signals, contexts, strict=True)]


def memory(state: FeatureState) -> bytes:
    return state.numbers.tobytes() + state.shapes.tobytes() + state.full.tobytes()


def alone(beats: list[Seen]) -> tuple[list[bytes], bytes]:
    """What one person's beats become one by one, and the memory they leave."""
    state = BeatFeatures().new_state()
    out = [push([state], [beat])[0] for beat in beats]
    return out, memory(state)


ALONE = [alone(beats) for beats in EVERYBODY]
GROUPS = st.lists(st.permutations(range(PEOPLE)).flatmap(lambda who: st.integers(1, PEOPLE).map(lambda n: who[:n])))


@pytest.mark.parametrize("few", [0, 2, PEOPLE])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=GROUPS)
def test_any_company_in_any_order_gives_the_same_bits(
    few: int, monkeypatch: pytest.MonkeyPatch, groups: list[list[int]]
) -> None:
    monkeypatch.setattr(beat_features, "FEW", few)  # up to which floats are used, beyond it columns
    states = [BeatFeatures().new_state() for _ in range(PEOPLE)]
    out: list[list[bytes]] = [[] for _ in range(PEOPLE)]
    everybody = [list(range(PEOPLE))] * BEATS
    for group in [*groups, *everybody]:
        who = [k for k in group if len(out[k]) < BEATS]
        if who:
            made = push([states[k] for k in who], [EVERYBODY[k][len(out[k])] for k in who])
            for k, one in zip(who, made, strict=True):
                out[k].append(one)
    assert [(made, memory(state)) for made, state in zip(out, states, strict=True)] == ALONE


@pytest.mark.parametrize("size", [2, FEW, FEW + 1, 16, 33, 257])
def test_a_ward_of_the_same_person_is_that_person_many_times(size: int) -> None:
    states = [BeatFeatures().new_state() for _ in range(size)]
    for beat, expected in zip(EVERYBODY[0][:12], ALONE[0][0][:12], strict=True):
        assert set(push(states, [beat] * size)) == {expected}


def test_what_is_no_beat_is_refused_for_all_and_changes_nobody() -> None:
    states = [BeatFeatures().new_state() for _ in range(2)]
    push(states, [EVERYBODY[0][0], EVERYBODY[1][0]])
    before = [memory(state) for state in states]
    window, due = EVERYBODY[1][1]
    with pytest.raises(ValueError, match="not a finite number"):
        push(states, [EVERYBODY[0][1], (np.where(np.arange(len(window)) == 9, np.nan, window), due)])
    with pytest.raises(ValueError, match="not later than the one before"):
        push(states, [EVERYBODY[0][1], EVERYBODY[1][0]])
    assert [memory(state) for state in states] == before


def test_everything_is_finite_and_bounded() -> None:
    for out, _ in ALONE:
        for made in out:
            context = np.frombuffer(made, np.float32)[-len(CONTEXT) :]
            assert np.abs(context).max() <= 4


def test_scalar_products_are_those_of_two_rows_with_either_numpy() -> None:
    rng = np.random.default_rng(0)
    for length in (24, 36, 38, 54, 123):
        a, b = rng.normal(size=(2, 9, 200)).astype(np.float32)[:, :, 7 : 7 + length]
        rows = np.array([x @ y for x, y in zip(a, b, strict=True)])
        assert likeness.dots(a, b).tobytes() == likeness._products(a, b).tobytes() == rows.tobytes()
