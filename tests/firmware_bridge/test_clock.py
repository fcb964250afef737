"""A device's clock, and this machine's, brought to one time line that never turns back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bench.device_clock import clock_errors
from firmware_bridge.clock import BACKWARD_STEP_NS, Arrival, DeviceClock, SteadyUtc

S = 1_000_000_000
MS = 1_000_000
NOON = 1_790_000_000 * S
EPOCHS = {"1970": 0, "2000": 946_684_800 * S, "2019": 1_546_300_800 * S, "2200": 7_258_118_400 * S, "negative": -5 * S}


@pytest.mark.parametrize("seed", range(3))
def test_the_error_over_a_night_is_at_most_2_ms_for_19_frames_in_20(seed: int) -> None:
    errors = clock_errors(seed)
    assert errors["estimate"]["p95"] <= 2.0
    assert errors["arrival"]["p95"] > 20.0
    assert errors["first frame"]["p95"] > 400.0


def frames(
    seconds: int, *, seed: int = 0, every_s: float = 0.5, jitter_ms: float = 45, ppm: float = 40
) -> Iterator[tuple[int, int, int]]:
    """(what the device's clock shows since its start, when that truly was, when it came), in ns since the start."""
    rng, came = random.Random(seed), 0
    for k in range(round(seconds / every_s)):
        true = round(k * every_s * S)
        came = max(came, true + round(rng.uniform(0, jitter_ms) * MS))
        yield round(true * (1 + ppm * 1e-6)), true, came


def at(monotonic_ns: int) -> Arrival:
    return Arrival(monotonic_ns, NOON)


@pytest.mark.parametrize("epoch_ns", EPOCHS.values(), ids=EPOCHS)
def test_the_epoch_of_a_device_does_not_matter(epoch_ns: int) -> None:
    clock = DeviceClock()
    for device, true, came in frames(600):
        utc = clock.push(epoch_ns + device, at(came))
        if true > 120 * S:
            assert abs(utc - NOON - true) < 5 * MS


def test_a_restarted_device_is_learned_anew_and_time_does_not_turn_back() -> None:
    clock, last = DeviceClock(), 0
    for start in (0, 300 * S):
        clock.reset()
        for device, true, came in frames(200, seed=start):
            utc = clock.push(device, at(start + came))
            assert last <= utc <= NOON + start + came
            last = utc
            if true > 100 * S:
                assert abs(utc - NOON - start - true) < 5 * MS


@pytest.mark.parametrize("leap_s", [-5e8, -3600, -90, -30, -0.5, 0.5, 30, 3600, 5e8])
def test_a_device_clock_that_is_set_while_it_sends_is_understood_within_two_minutes(leap_s: float) -> None:
    clock = DeviceClock()
    for device, true, came in frames(900):
        leapt = device + round(leap_s * S) * (true > 400 * S)
        utc = clock.push(EPOCHS["2019"] + leapt, at(came))
        if 120 * S < true <= 400 * S or true > 530 * S:
            assert abs(utc - NOON - true) < 10 * MS


def test_a_leap_ahead_is_understood_at_once() -> None:
    clock = DeviceClock()
    for device, true, came in frames(500):
        utc = clock.push(device + 3600 * S * (true > 400 * S), at(came))
        assert NOON + true - 10 * MS <= utc <= NOON + came


@pytest.mark.parametrize("bits_ms", [16, 22])
def test_a_counter_that_starts_over_is_followed(bits_ms: int) -> None:
    wraps_at_ns = (1 << bits_ms) * MS
    clock = DeviceClock(wraps_at_ns=wraps_at_ns)
    for device, true, came in frames(3 * (1 << min(bits_ms, 18)) // 1000):
        utc = clock.push((wraps_at_ns - 7 * S + device) % wraps_at_ns, at(came))
        if true > 120 * S:
            assert abs(utc - NOON - true) < 5 * MS


def test_frames_stored_while_out_of_reach_keep_their_time_and_do_not_disturb_what_follows() -> None:
    clock = DeviceClock()
    every = list(frames(1800))
    out_of_reach = [one for one in every if 600 * S < one[1] <= 1200 * S]
    for device, _, came in (one for one in every if one[1] <= 600 * S):
        clock.push(device, at(came))
    for k, (device, true, _) in enumerate(out_of_reach):  # ten minutes of them in the next fifteen seconds
        assert abs(clock.push(device, at(1200 * S + k * S // 80)) - NOON - true) < 10 * MS
    for device, true, came in (one for one in every if one[1] > 1216 * S):
        assert abs(clock.push(device, at(came)) - NOON - true) < 10 * MS


@pytest.mark.parametrize("away_min", [2, 20, 45])
@pytest.mark.parametrize("times_as_fast", [4, 40])
def test_a_device_that_sends_what_it_stored_is_not_taken_for_one_whose_clock_was_set(
    away_min: int, times_as_fast: int
) -> None:
    clock, began = DeviceClock(), 3600 * S
    back, caught_up = began + away_min * 60 * S, began + away_min * 60 * S * (1 + times_as_fast) // times_as_fast
    for device, true, came in frames(3 * 3600):
        if began < true <= back:
            came = back + (true - began) // times_as_fast  # noqa: PLW2901
        elif back < true <= caught_up:
            came = max(came, caught_up)  # noqa: PLW2901
        utc = clock.push(EPOCHS["2019"] + device, at(came))
        assert utc <= NOON + came
        if true > 300 * S:
            assert abs(utc - NOON - true) < 25 * MS


@pytest.mark.parametrize("ppm", [-5000, -1000, -200, 200, 1000, 5000])
def test_a_poor_clock_is_learned_too(ppm: float) -> None:
    clock = DeviceClock()
    for device, true, came in frames(3600, ppm=ppm):
        utc = clock.push(device, at(came))
        if true > 900 * S:
            assert abs(utc - NOON - true) < 15 * MS


def test_a_frame_sent_again_comes_before_the_newer_ones() -> None:
    clock = DeviceClock()
    times = {device: clock.push(device, at(came)) for device, _, came in frames(300)}
    again = clock.push(250 * S, at(301 * S))
    assert max(utc for device, utc in times.items() if device < 249 * S) < again <= min(times.values()) + 250 * S
    assert again < times[max(times)]


def test_a_silence_of_hours_is_no_reason_to_guess() -> None:
    clock = DeviceClock()
    for device, true, came in frames(7200):
        if 100 * S < true < 7000 * S:
            continue
        utc = clock.push(device, at(came))
        assert NOON + true - 10 * MS <= utc <= NOON + came


# What may come: a step of time, then what either clock does beside it.
moves = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 2 * S), st.integers(0, 7200 * S)),
        st.one_of(st.just(0), st.integers(-300 * MS, 300 * MS), st.integers(-(10**18), 10**18)),
        st.one_of(st.just(0), st.integers(-3 * S, 3 * S), st.integers(-10 * 3600 * S, 10 * 3600 * S)),
    ),
    max_size=60,
)


def lived(steps: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """(device, monotonic, wall) after each of the steps, in ns."""
    monotonic, device_off, wall_off = 5 * S, 0, NOON
    for passed, device_step, wall_step in steps:
        monotonic += passed
        device_off += device_step
        wall_off += wall_step
        yield monotonic + device_off, monotonic, monotonic + wall_off


@given(moves)
def test_steady_utc_never_turns_back_within_an_era_and_is_never_far_behind(steps: list[tuple[int, int, int]]) -> None:
    steady, last = SteadyUtc(), Arrival(0, 0)
    for _, monotonic, wall in lived(steps):
        now = steady.arrival(monotonic, wall)
        assert now.monotonic_ns == monotonic
        assert now.era in {last.era, last.era + 1}
        assert now.era > last.era or now.utc_ns >= last.utc_ns
        assert -BACKWARD_STEP_NS <= wall - now.utc_ns <= 100 * MS
        last = now


@given(moves, st.sampled_from([0, 1 << 40]), st.sets(st.integers(0, 60)))
def test_no_time_turns_back_within_an_era_or_lies_after_its_arrival(
    steps: list[tuple[int, int, int]], wraps_at_ns: int, restarts: set[int]
) -> None:
    steady, clock, era, newest, last = SteadyUtc(), DeviceClock(wraps_at_ns=wraps_at_ns), 0, -(1 << 80), 0
    for k, (device, monotonic, wall) in enumerate(lived(steps)):
        if k in restarts:
            clock.reset()
            newest = -(1 << 80)
        now = steady.arrival(monotonic, wall)
        utc = clock.push(device % wraps_at_ns if wraps_at_ns else device, now)
        assert utc <= now.utc_ns
        if now.era != era:
            era, last = now.era, 0
        if not wraps_at_ns and device >= newest:
            newest = device
            assert utc >= last
            last = utc


@pytest.mark.parametrize("step_s", [-3600.0, -2.5, -1.9, -0.3, 0.05, 0.3, 3600.0])
def test_a_step_of_the_wall_clock_neither_reorders_nor_repeats_a_frame(step_s: float) -> None:
    steady, clock, times = SteadyUtc(), DeviceClock(), []
    for device, true, came in frames(1200):
        now = steady.arrival(came, NOON + came + round(step_s * S) * (true > 600 * S))
        times.append((now.era, clock.push(device, now)))
    assert all(earlier < later for earlier, later in pairwise(times))
    assert times[-1][0] == (step_s < -2)


@pytest.mark.parametrize("step_s", [-3600.0, 0.3, 3600.0])
def test_a_large_step_of_the_wall_clock_is_followed_at_once(step_s: float) -> None:
    steady = SteadyUtc()
    assert steady.arrival(10 * S, NOON).utc_ns == NOON
    assert steady.arrival(11 * S, NOON + round((1 + step_s) * S)).utc_ns == NOON + round((1 + step_s) * S)


def test_a_small_step_back_is_slewed() -> None:
    steady = SteadyUtc()
    steady.arrival(0, NOON)
    behind = [NOON + k * 100 * S - steady.arrival(k * 100 * S, NOON + k * 100 * S - S).utc_ns for k in range(1, 21)]
    assert behind == [k * 50 * MS for k in range(1, 21)]
