"""How often a radio is bothered: never more than agreed, whatever happens, and in the end somebody is told."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ingest.ble_pacing import POWER_CYCLE_EVERY_S, Backoff, Repair, RepairLadder, TokenBucket
from agent.ingest.ble_watchdog import Watchdog, patience_s
from firmware_bridge.chunk import Chunk, Stream

GAPS_S = st.lists(st.floats(0, 100), max_size=200)


@given(GAPS_S, st.integers(1, 8), st.floats(0.5, 30))
def test_no_stretch_of_time_has_more_attempts_than_agreed(gaps_s: list[float], burst: int, every_s: float) -> None:
    bucket = TokenBucket(burst, every_s)
    now_s, used_s = 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        used_s.append(now_s + bucket.take(now_s))
    assert used_s == sorted(used_s)
    for first, last in itertools.combinations_with_replacement(range(len(used_s)), 2):
        assert last - first + 1 <= burst + (used_s[last] - used_s[first]) / every_s + 1e-6


def test_a_bucket_that_rested_is_full_and_no_fuller() -> None:
    bucket = TokenBucket(2, 5.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0.0, 0.0, 5.0]
    assert [bucket.take(1000.0) for _ in range(3)] == [0.0, 0.0, 5.0]


@given(st.integers(0, 2000), st.floats(0, 1))
def test_a_backoff_stays_within_its_bounds(failures: int, chance: float) -> None:
    backoff = Backoff(1.0, 60.0, lambda: chance, failures)
    full_s = min(60.0, 2.0 ** min(failures, 10))
    assert full_s / 2 <= backoff.failed() <= full_s


def test_a_backoff_begins_anew_after_success() -> None:
    backoff = Backoff(1.0, 60.0, lambda: 1.0)
    assert [backoff.failed() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.worked()
    assert backoff.failed() == 1


def test_a_ladder_goes_from_mild_to_strong_and_then_tells() -> None:
    ladder = RepairLadder()
    repairs = [ladder.failed(float(second), "it is off")[0] for second in range(4)]
    assert repairs == [Repair.RESTART_SCAN, Repair.RESTART_SCAN, Repair.POWER_CYCLE, Repair.POWER_CYCLE]
    assert ladder.told == ""
    assert ladder.failed(5.0, "it is off") == (Repair.WAIT, 32.0)
    assert ladder.told == "it is off"
    ladder.worked()
    assert ladder.told == ""
    assert ladder.failed(6.0, "busy")[0] is Repair.RESTART_SCAN


@given(st.lists(st.tuples(st.floats(0, 4000), st.booleans(), st.booleans()), max_size=300))
def test_a_broken_adapter_is_power_cycled_seldom(steps: list[tuple[float, bool, bool]]) -> None:
    ladder = RepairLadder()
    now_s, cycles_s = 0.0, []
    for gap_s, is_quiet, in_use in steps:
        now_s += gap_s
        repair = ladder.quiet(now_s, in_use) if is_quiet else ladder.failed(now_s, "broken")[0]
        if repair is Repair.POWER_CYCLE:
            assert not (is_quiet and in_use)
            cycles_s.append(now_s)
    # Two for a fault that lasts, and beyond those one an hour.
    assert len(cycles_s) <= 3 + now_s / POWER_CYCLE_EVERY_S


def test_quiet_alone_alarms_nobody() -> None:
    ladder = RepairLadder()
    for second in range(0, 100_000, 90):
        ladder.quiet(float(second), in_use=False)
    assert ladder.told == ""


ECG = Stream("p", "d", "ecg", "ecg", "mV", 130.0)
HR = Stream("p", "d", "hr", "hr", "1/min", 0.0, ("",), 1.0)
CGM = Stream("p", "d", "glucose", "cgm", "mg/dL", 0.0, ("",), 300.0)


@pytest.mark.parametrize(("stream", "seconds"), [(ECG, 10.0), (HR, 32.5), (CGM, 780.0)])
def test_patience_comes_from_the_streams_own_rate(stream: Stream, seconds: float) -> None:
    assert patience_s(stream) == seconds


def test_a_silent_link_is_told_when_its_fastest_stream_is_due() -> None:
    dog = Watchdog([CGM, HR], 100.0)
    assert (dog.due_s(), dog.silence(132.4)) == (132.5, "")
    dog.notified(132.0)
    assert dog.silence(164.4) == ""
    assert dog.silence(164.5) == "connected, yet nothing came for 32 s"


def test_a_waveform_that_stops_alone_is_told_and_readings_that_stop_alone_are_not() -> None:
    dog = Watchdog([ECG, HR], 0.0)
    for second in range(1, 11):
        dog.notified(float(second))
    assert dog.silence(10.0) == "connected, yet no ecg came for 10 s"
    dog.heard(Chunk(ECG, 0, np.zeros((73, 1), np.float32)), 10.0)
    assert dog.silence(19.9) == ""
    for second in range(11, 200):
        dog.notified(float(second))
        dog.heard(Chunk(ECG, 0, np.zeros((73, 1), np.float32)), float(second))
    assert dog.silence(200.0) == ""


@given(st.lists(st.floats(0, 50), min_size=1, max_size=50))
def test_a_watchdog_barks_at_the_moment_it_said_and_not_before(gaps_s: list[float]) -> None:
    dog = Watchdog([ECG, HR], 0.0)
    now_s = 0.0
    for gap_s in gaps_s:
        assert bool(dog.silence(now_s + gap_s)) == (now_s + gap_s >= dog.due_s())
        now_s += gap_s
        dog.notified(now_s)
        dog.heard(Chunk(ECG, 0, np.zeros((1, 1), np.float32)), now_s)
