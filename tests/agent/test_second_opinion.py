"""The second opinion: windows in, steps to beats, how far two lists of beats agree, and the shipped network live."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.observation import Observation, Quality
from agent.engine import Engine
from agent.inference import Models, shipped_models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.patient import Person
from agent.scoring import match_beats
from agent.signal.beats import BeatMark
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.second_opinion import (
    BEAT_SUM,
    FIRST_STEP,
    HOP,
    HORIZON,
    MATCH_S,
    SIGNAL_SHAPE,
    STEP,
    STEPS,
    WINDOW,
    SecondOpinion,
    agreement,
    prepare,
)


def hops(r_peaks: list[int], seconds: int, sure: float = 0.9) -> list[tuple[int, list[float]]]:
    """What a network that sees R peaks at these samples says of each window of a run: (window's end, steps)."""
    out = []
    for end in range(WINDOW, seconds * 250 + 1, HOP):
        first = end - WINDOW + FIRST_STEP - MORPHOLOGY_DELAY
        steps = [0.01] * STEPS
        for r in r_peaks:
            k = (r - first) // STEP
            for near, p in ((k - 1, 0.3), (k, sure), (k + 1, 0.3)):
                if 0 <= near < STEPS:
                    steps[near] = max(steps[near], p)
        out.append((end, steps))
    return out


def marks(r_peaks: list[int]) -> list[BeatMark]:
    return [BeatMark(r, r + 150, "confirmed") for r in r_peaks]


def agreements(own: list[int], detected: list[int], seconds: int) -> list[float | None]:
    """Per hop, with each confirmed mark handed over in the hop it was decided in."""
    opinion, out = SecondOpinion(), []
    state = opinion.new_state()
    waiting = marks(detected)
    for end, steps in hops(own, seconds):
        out.append(opinion.push(state, end, steps, [mark for mark in waiting if mark.decided_index < end]))
        waiting = [mark for mark in waiting if mark.decided_index >= end]
    return out


# -- the window ------------------------------------------------------------------------------------------------------


def test_a_row_of_the_input_does_not_depend_on_its_company() -> None:
    windows = np.random.default_rng(0).normal(0, 1, (7, WINDOW))
    together = prepare(windows)
    assert together.shape == (7, *SIGNAL_SHAPE)
    assert together.dtype == np.float32
    for row, alone in zip(together, windows, strict=True):
        assert np.array_equal(row, prepare(alone[None])[0])


def test_the_first_channel_forgets_the_gain_and_the_second_keeps_it() -> None:
    window = np.random.default_rng(1).normal(0, 0.5, (1, WINDOW))
    once, fourfold = prepare(window)[0], prepare(4 * window)[0]
    assert np.allclose(once[0], fourfold[0], atol=1e-6)
    assert np.all(np.abs(fourfold[1]) >= np.abs(once[1]))


def test_inputs_stay_within_one_and_a_flat_or_offset_line_is_nothing() -> None:
    wild = np.random.default_rng(2).normal(0, 100, (3, WINDOW))
    assert np.abs(prepare(wild)).max() <= 1
    assert np.abs(prepare(np.full((1, WINDOW), 7.5))).max() == 0
    with pytest.raises(ValueError, match="expected"):
        prepare(wild[:, 1:])


# -- steps to beats --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(60, 400), min_size=1, max_size=30))
def test_every_beat_the_steps_show_is_found_once_within_a_step_and_in_order(gaps: list[int]) -> None:
    peaks = (600 + np.cumsum(gaps)).tolist()
    opinion = SecondOpinion()
    state = opinion.new_state()
    seconds = peaks[-1] // 250 + 4
    found = [r for end, steps in hops(peaks, seconds) for r in opinion.beats(state, end, steps)]
    assert found == sorted(found)
    assert len(found) == len(peaks)
    assert max(abs(a - b) for a, b in zip(found, peaks, strict=True)) <= STEP


def test_beats_are_known_up_to_the_horizon_and_not_guessed_beyond() -> None:
    opinion = SecondOpinion()
    end = 2 * WINDOW
    for r, known in ((end - HORIZON - STEP, True), (end - HORIZON + 2 * STEP, False)):
        state = opinion.new_state()
        found = [r for at, steps in hops([r], 6) for r in opinion.beats(state, at, steps) if at <= end]
        assert bool(found) is known


def test_doubtful_steps_are_no_beat() -> None:
    opinion = SecondOpinion()
    state = opinion.new_state()
    doubtful = [(end, [min(p, BEAT_SUM / 3 - 0.01) for p in steps]) for end, steps in hops([1000, 1300], 8)]
    assert [r for end, steps in doubtful for r in opinion.beats(state, end, steps)] == []
    with pytest.raises(ValueError, match="probabilities"):
        opinion.push(opinion.new_state(), WINDOW, [0.0] * (STEPS - 1), [])


# -- agreement -------------------------------------------------------------------------------------------------------

REGULAR = list(range(600, 10_000, 200))


def test_two_that_see_the_same_agree_and_say_nothing_before_they_have_listened() -> None:
    said = agreements(REGULAR, [r + 5 for r in REGULAR], 40)
    assert said[0] is None
    assert set(said[5:]) == {1.0}


def test_beats_only_one_of_them_sees_lower_it_and_it_recovers_in_time() -> None:
    seen_by_one = [r for r in REGULAR if not 4000 <= r < 5000]
    for own, detected in ((REGULAR, seen_by_one), (seen_by_one, REGULAR)):
        said = [value for value in agreements(own, detected, 40) if value is not None]
        assert min(said) < 0.7
        assert said[-1] == 1.0


def test_asystole_that_both_see_is_full_agreement() -> None:
    stopped = [r for r in REGULAR if r < 2500]
    assert agreements(stopped, stopped, 40)[-1] == 1.0


def test_marks_handed_over_early_change_nothing() -> None:
    """A chunk may hold beats that are decided only after the second that is judged."""
    opinion = SecondOpinion()
    state = opinion.new_state()
    all_at_once = []
    for k, (end, steps) in enumerate(hops(REGULAR, 40)):
        all_at_once.append(opinion.push(state, end, steps, marks(REGULAR) if k == 0 else []))
    assert all_at_once == agreements(REGULAR, REGULAR, 40)


@given(st.lists(st.integers(0, 3000), unique=True), st.lists(st.integers(0, 3000), unique=True))
def test_agreement_is_the_matched_share_of_the_union(a: list[int], b: list[int]) -> None:
    a, b = sorted(a), sorted(b)
    # Times are counted in units of a power of two here, so that equal distances compare as equal.
    both = len(match_beats(np.array(a) / 256, np.array(b) / 256, int(MATCH_S * 250) / 256).pairs)
    either = len(a) + len(b) - both
    assert agreement(a, b, 0, 3001) == pytest.approx(both / either if either else 1.0)


# -- the shipped network, live -----------------------------------------------------------------------------------------

SCRIPT = (Episode(Rhythm.SINUS, 20.0), Episode(Rhythm.ASYSTOLE, 8.0), Episode(Rhythm.SINUS, 12.0))


def agreement_of_seconds(chunk_s: float) -> list[float | None]:
    """What the engine says of each second of a simulated person."""
    chunks = list(SimulatedPatient(11, script=SCRIPT).chunks(chunk_s=chunk_s))
    seen: list[float | None] = []

    def watch(_patient: str, observation: Observation) -> None:
        if isinstance(observation, Quality):
            seen.append(observation.agreement)

    stream = chunks[0].stream
    engine = Engine([Person(stream.patient, (stream,))], Models(qrs=shipped_models().qrs), watch=watch)
    for chunk in chunks:
        engine.step([chunk])
    return seen


def test_the_shipped_network_agrees_on_a_clean_signal_and_on_a_heart_that_stands_still() -> None:
    said = agreement_of_seconds(1.0)
    assert said[:5] == [None] * 5
    assert all(value is not None and value >= 0.9 for value in said[8:])


def test_how_the_signal_is_cut_changes_no_agreement() -> None:
    whole = agreement_of_seconds(1.0)
    assert agreement_of_seconds(0.13) == agreement_of_seconds(7.0) == whole
