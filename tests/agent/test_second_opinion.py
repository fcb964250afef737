"""The second opinion: windows in, steps to beats, how far two lists of beats agree, and the shipped network live."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.alarms.observation import Observation, Quality
from agent.engine import Engine
from agent.inference import Models, shipped_models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.patient import Person
from agent.scoring import match_beats
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
    each_has_its_own,
    prepare,
)

Int64 = npt.NDArray[np.int64]


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


def confirmed(r_peaks: list[int]) -> Int64:
    """(beats, 2): R peaks, and when each was confirmed."""
    return np.array([(r, r + 150) for r in r_peaks], dtype=np.int64).reshape(-1, 2)


def agreements(own: list[int], detected: list[int], seconds: int) -> list[float | None]:
    """Per hop, told of the beats of the last twelve seconds that were confirmed by then."""
    opinion, out = SecondOpinion(), []
    state = opinion.new_state()
    beats = confirmed(detected)
    for end, steps in hops(own, seconds):
        known = beats[(beats[:, 1] < end) & (beats[:, 0] >= end - 12 * 250)]
        out += opinion.push([state], [end], np.array([steps]), [known])
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
    found = [r for end, steps in hops(peaks, seconds) for r in opinion.beats([state], [end], np.array([steps]))[0]]
    assert found == sorted(found)
    assert len(found) == len(peaks)
    assert max(abs(a - b) for a, b in zip(found, peaks, strict=True)) <= STEP


def test_beats_are_known_up_to_the_horizon_and_not_guessed_beyond() -> None:
    opinion = SecondOpinion()
    end = 2 * WINDOW
    for r, known in ((end - HORIZON - STEP, True), (end - HORIZON + 2 * STEP, False)):
        state = opinion.new_state()
        found = [
            r for at, steps in hops([r], 6) for r in opinion.beats([state], [at], np.array([steps]))[0] if at <= end
        ]
        assert bool(found) is known


def test_doubtful_steps_are_no_beat() -> None:
    opinion = SecondOpinion()
    state = opinion.new_state()
    doubtful = [(end, [min(p, BEAT_SUM / 3 - 0.01) for p in steps]) for end, steps in hops([1000, 1300], 8)]
    assert [r for end, steps in doubtful for r in opinion.beats([state], [end], np.array([steps]))[0]] == []
    with pytest.raises(ValueError, match="probabilities"):
        opinion.push([opinion.new_state()], [WINDOW], np.zeros((1, STEPS - 1)), [confirmed([])])


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


def test_beats_told_early_or_still_told_late_change_nothing() -> None:
    """A chunk may hold beats that are decided only after the second that is judged; old ones are not forgotten yet."""
    opinion = SecondOpinion()
    state = opinion.new_state()
    all_at_once = [
        opinion.push([state], [end], np.array([steps]), [confirmed(REGULAR)])[0] for end, steps in hops(REGULAR, 40)
    ]
    assert all_at_once == agreements(REGULAR, REGULAR, 40)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_a_patient_gets_the_same_answers_and_beats_in_any_company(seed: int, patients: int) -> None:
    """Some of them agree in every beat, some in few; some have only begun."""
    rng = np.random.default_rng(seed)
    own = [np.cumsum(rng.integers(55, rng.integers(100, 400), 80)) for _ in range(patients)]
    told = [
        confirmed(np.sort(beats + rng.integers(-12, 13, 80))[rng.random(80) > rng.choice([0.0, 0.2])].tolist())
        for beats in own
    ]
    said = [hops([int(r) for r in beats], 30, sure=float(rng.uniform(0.2, 0.9))) for beats in own]
    begun = rng.integers(0, 20, patients)
    opinion = SecondOpinion()
    together = [opinion.new_state() for _ in range(patients)]
    apart = [opinion.new_state() for _ in range(patients)]
    for hop in range(len(said[0])):
        there = np.flatnonzero(begun <= hop)
        rng.shuffle(there)
        if not len(there):
            continue
        ends, steps = [said[k][hop][0] for k in there], np.array([said[k][hop][1] for k in there])
        whole = opinion.push([together[k] for k in there], ends, steps, [told[k] for k in there])
        for row, k in enumerate(there):
            assert [whole[row]] == opinion.push([apart[k]], [ends[row]], steps[row : row + 1], [told[k]])
            assert together[k].words.tobytes() == apart[k].words.tobytes()


@given(st.lists(st.integers(0, 2800), max_size=40, unique=True), st.data())
def test_what_is_judged_beat_by_beat_and_what_is_not_agree(beats: list[int], data: st.DataObject) -> None:
    """Where each beat has its own in the other list, the share is one, as going through them says."""
    detected = sorted(beats)
    moved = [r + data.draw(st.integers(-45, 45)) for r in detected]
    own = sorted(set(moved[: data.draw(st.integers(0, len(moved)))] if data.draw(st.booleans()) else moved))
    rows = [np.array([one], dtype=np.int64).reshape(1, -1) for one in (detected, own)]
    if each_has_its_own(rows[0], rows[1], np.array([2600])).all():
        assert agreement(detected, own, 300, 2600) == 1.0


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
