"""A device that sends rubbish costs a bounded number of looks at it, is named, and is heard again of itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.ingest.babble import MUTED_S, TOKENS, TOKENS_A_S, Babble
from firmware_bridge.chunk import Stream


def stream(patient: str, device: str) -> Stream:
    return Stream(patient, device, "ecg", "ecg", "mV", 250.0, ("II",))


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def babble(clock: Clock) -> Babble:
    return Babble([stream("p1", "patch1"), stream("p2", "patch2"), stream("p3", "patch2")], clock_s=clock)


@given(st.lists(st.floats(0, 5), max_size=400))
def test_however_much_rubbish_comes_little_of_it_is_looked_at(pauses_s: list[float]) -> None:
    clock = Clock()
    one, looked_at = babble(clock), 0
    for pause_s in pauses_s:
        clock.now_s += pause_s
        if not one.mutes("patch1"):
            looked_at += 1
            one.unreadable("patch1")
    assert looked_at <= TOKENS + TOKENS_A_S * (clock.now_s - 100.0) + 1


def test_a_flood_mutes_its_device_alone_and_names_everybody_who_wears_it() -> None:
    clock = Clock()
    one = babble(clock)
    while not one.mutes("patch2"):
        one.unreadable("patch2")
    assert not one.mutes("patch1")
    assert [(status.patient, status.device) for status in one.devices()] == [("p2", "patch2"), ("p3", "patch2")]
    assert all("cannot be read" in status.trouble for status in one.devices())
    assert one.counters() == {"devices_muted": 1}


def test_it_is_heard_again_and_forgotten_when_it_is_in_order() -> None:
    clock = Clock()
    one = babble(clock)
    while not one.mutes("patch1"):
        one.unreadable("patch1")
    clock.now_s += MUTED_S
    assert not one.mutes("patch1")
    assert one.devices()  # what comes and goes is one alarm
    clock.now_s += MUTED_S
    assert not one.devices()


def test_now_and_then_something_unreadable_is_no_trouble() -> None:
    clock = Clock()
    one = babble(clock)
    for _ in range(1000):
        clock.now_s += 1.5
        assert not one.mutes("patch1")
        one.unreadable("patch1")
    assert not one.devices()


def test_strangers_are_not_remembered() -> None:
    one = babble(Clock())
    for k in range(10_000):
        one.unreadable(f"stranger{k}")
    assert not one.devices()
    assert not one.mutes("stranger1")
