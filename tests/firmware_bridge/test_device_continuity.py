"""Packets that follow one another, holes, repetitions and clocks that begin anew, told by the device's stamps alone."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_link import START_NS, at

from agent.signal.align import Aligner
from firmware_bridge.chunk import Chunk, Gap, Stream
from firmware_bridge.clock import DeviceClock
from firmware_bridge.devices.continuity import Continuity, Place

RATE_HZ, COUNT = 130.0, 73
PERIOD_NS = 1e9 / RATE_HZ
EPOCH_NS = 599_616_000 * 10**9
"""The device's own idea of now."""


def continuity() -> Continuity:
    return Continuity(RATE_HZ, DeviceClock())


def stamp(packet: int, epoch_ns: int = EPOCH_NS) -> int:
    """Time of the last sample of packet number `packet` since the device started."""
    return epoch_ns + round(((packet + 1) * COUNT - 1) * PERIOD_NS)


def arrives(packet: int, late_s: float = 0.05) -> float:
    return ((packet + 1) * COUNT - 1) / RATE_HZ + late_s


def push(one: Continuity, packet: int, late_s: float = 0.05, epoch_ns: int = EPOCH_NS, era: int = 0) -> Place | str:
    return one.push(stamp(packet, epoch_ns), COUNT, at(arrives(packet, late_s), era))


def numbers(places: list[Place | str]) -> list[tuple[int, int] | str]:
    return [place if isinstance(place, str) else (place.boot_id, place.seq) for place in places]


def test_packets_that_continue_are_counted_and_stand_where_they_were_taken() -> None:
    one = continuity()
    places = [push(one, packet) for packet in range(5)]
    assert numbers(places) == [(0, n) for n in range(5)]
    starts = [place.t0_ns for place in places if isinstance(place, Place)]
    assert all(abs(t0_ns - START_NS - n * COUNT * PERIOD_NS - 50e6) < 2 for n, t0_ns in enumerate(starts))


def test_a_hole_is_skipped_in_the_count() -> None:
    one = continuity()
    assert numbers([push(one, packet) for packet in (0, 1, 5, 6)]) == [(0, 0), (0, 1), (0, 5), (0, 6)]


def test_one_sample_missing_is_a_hole_and_half_a_period_is_not() -> None:
    one = continuity()
    push(one, 0)
    place = one.push(stamp(1) + round(PERIOD_NS), COUNT, at(arrives(1)))
    assert numbers([place]) == [(0, 2)]
    place = one.push(stamp(2) + round(1.4 * PERIOD_NS), COUNT, at(arrives(2)))
    assert numbers([place]) == [(0, 3)]


def test_what_was_seen_is_a_duplicate() -> None:
    one = continuity()
    assert numbers([push(one, packet) for packet in (0, 1, 1, 0, 2)]) == [
        (0, 0), (0, 1), "duplicate", "duplicate", (0, 2),
    ]  # fmt: skip


def test_packets_that_come_late_go_into_their_hole_in_any_order() -> None:
    one = continuity()
    assert numbers([push(one, packet) for packet in (0, 4, 2, 3, 1, 3, 5)]) == [
        (0, 0), (0, 4), (0, 2), (0, 3), (0, 1), "duplicate", (0, 5),
    ]  # fmt: skip


def test_what_overlaps_and_fits_no_hole_is_late() -> None:
    one = continuity()
    push(one, 0)
    assert one.push(stamp(0) + round(10 * PERIOD_NS), COUNT, at(arrives(1))) == "late"


def test_a_device_switched_off_and_on_is_another_boot_even_on_the_same_stamps() -> None:
    one = continuity()
    places = [push(one, packet) for packet in range(4)]
    one.connected()
    places += [one.push(stamp(packet), COUNT, at(30 + arrives(packet))) for packet in range(4)]
    assert numbers(places) == [(0, n) for n in range(4)] + [(1, n) for n in range(4)]


def test_a_device_that_stayed_on_leaves_an_exact_hole() -> None:
    one = continuity()
    places = [push(one, packet) for packet in range(10)]
    one.connected()
    places += [push(one, packet) for packet in range(170, 175)]
    kept = [place for place in places if isinstance(place, Place)]
    assert len(kept) == len(places)
    assert {place.boot_id for place in kept} == {0}
    assert abs(kept[10].t0_ns - kept[9].t0_ns - 161 * COUNT * PERIOD_NS) < 2


def test_a_clock_set_within_a_connection_is_believed_when_the_next_packet_confirms_it() -> None:
    one = continuity()
    places = [push(one, 0), push(one, 1)]
    places += [push(one, packet, epoch_ns=EPOCH_NS * 2) for packet in (2, 3, 4)]
    assert numbers(places) == [(0, 0), (0, 1), "stray", (1, 0), (1, 1)]


def test_a_damaged_stamp_costs_one_packet() -> None:
    one = continuity()
    push(one, 0)
    assert one.push(stamp(1) ^ 1 << 62, COUNT, at(arrives(1))) == "stray"
    assert one.push(0, COUNT, at(arrives(2))) == "stray"
    assert numbers([push(one, 3)]) == [(0, 3)]


def test_our_own_clock_set_back_is_another_boot() -> None:
    one = continuity()
    places = [push(one, 0), push(one, 1), push(one, 2, era=1), push(one, 3, era=1)]
    assert numbers(places) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_packets_kept_back_by_the_device_come_in_a_burst_and_continue() -> None:
    one = continuity()
    places = [push(one, 0), *(one.push(stamp(packet), COUNT, at(arrives(12))) for packet in range(1, 13))]
    assert numbers(places) == [(0, n) for n in range(13)]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 30))
def test_through_the_aligner_every_sample_comes_once_and_in_its_place(seed: int) -> None:
    """Packets lost, twice, exchanged with the next one: what comes out is every packet that came, in order."""
    dice = random.Random(seed)
    sent = [packet for packet in range(120) if dice.random() > 0.05]
    came = [packet for packet in sent for _ in range(1 + (dice.random() < 0.05))]
    place_of = 1
    while place_of < len(came) - 1:
        if dice.random() < 0.05:
            # None is moved twice: further back it would be too late for the aligner, which waits for 2 s of signal.
            came[place_of], came[place_of + 1] = came[place_of + 1], came[place_of]
            place_of += 1
        place_of += 1
    stream = Stream("p1", "strap", "ecg", "ecg", "mV", RATE_HZ)
    one, aligner = continuity(), Aligner()
    out: list[Chunk | Gap] = []
    for order, packet in enumerate(came):
        place = one.push(stamp(packet), COUNT, at(max(arrives(packet), arrives(max(came[: order + 1])))))
        if isinstance(place, Place):
            samples = np.full((COUNT, 1), packet, np.float32)
            out += aligner.push(Chunk(stream, place.t0_ns, samples, place.seq, place.boot_id))
    out += aligner.flush()
    got = [int(one.samples[0, 0]) for one in out if isinstance(one, Chunk)]
    assert got == sorted(set(came))
    assert [one.samples.shape for one in out if isinstance(one, Chunk)] == [(COUNT, 1)] * len(got)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, (1 << 64) - 1) | st.integers(0, 10**12), st.integers(1, 100), st.booleans()),
        max_size=30,
    )
)
def test_any_stamps_are_placed_or_left_out(stamps: list[tuple[int, int, bool]]) -> None:
    one = continuity()
    seen: set[tuple[int, int]] = set()
    for number, (last_ns, count, connects) in enumerate(stamps):
        if connects:
            one.connected()
        place = one.push(last_ns, count, at(number * 0.5))
        if isinstance(place, Place):
            assert (place.boot_id, place.seq) not in seen, "a number is given once"
            seen.add((place.boot_id, place.seq))
        else:
            assert place in {"duplicate", "late", "stray"}
