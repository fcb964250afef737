"""A beat is classified a fixed time after its R peak, with what had been detected by then, however the samples came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.signal.beats import BeatMark
from agent.signal.pending import DECIDE_SAMPLES, FOLLOWER_SAMPLES, FOLLOWERS, DueBeat, PendingBeats

MARKS = (
    BeatMark(500, 540, "provisional"),
    BeatMark(500, 650, "confirmed"),
    BeatMark(700, 740, "provisional"),  # a T wave
    BeatMark(712, 752, "provisional"),
    BeatMark(700, 790, "withdrawn"),
    BeatMark(712, 862, "confirmed"),
    BeatMark(900, 940, "provisional"),
    BeatMark(900, 1050, "confirmed"),
    BeatMark(1100, 1600, "confirmed"),  # found in search-back
    BeatMark(1500, 1650, "confirmed"),
)


def play(counts: list[int]) -> list[DueBeat]:
    pending = PendingBeats()
    out: list[DueBeat] = []
    marks = list(MARKS)
    for count in sorted({*counts, 5000}):
        while marks and marks[0].decided_index < count:
            pending.note(marks.pop(0))
        out += pending.take_due(count)
    return out


def test_a_beat_is_due_when_the_last_sample_of_its_wait_has_arrived() -> None:
    pending = PendingBeats()
    pending.note(BeatMark(500, 650, "confirmed"))
    assert pending.take_due(500 + DECIDE_SAMPLES) == []
    assert pending.take_due(501 + DECIDE_SAMPLES) == [DueBeat(500, 500 + DECIDE_SAMPLES, ())]
    assert pending.take_due(10_000) == []


def test_followers_are_those_known_when_a_beat_is_due() -> None:
    assert [(beat.r_index, beat.followers) for beat in play([])] == [
        (500, (712,)),  # the T wave had been withdrawn
        (712, (900,)),
        (900, ()),  # the next is found only later
        (1100, ()),
        (1500, ()),
    ]


def test_a_beat_found_late_is_due_at_once() -> None:
    late = next(beat for beat in play([]) if beat.r_index == 1100)
    assert late.due_index == 1600


def test_a_follower_whose_qrs_has_not_passed_yet_is_not_known() -> None:
    pending = PendingBeats()
    pending.note(BeatMark(500, 650, "confirmed"))
    pending.note(BeatMark(501 + DECIDE_SAMPLES - FOLLOWER_SAMPLES, 790, "provisional"))
    assert pending.take_due(5000)[0].followers == ()


def test_a_beat_found_late_is_shown_no_more_than_the_others() -> None:
    pending = PendingBeats()
    pending.note(BeatMark(500 + DECIDE_SAMPLES, 900, "provisional"))
    pending.note(BeatMark(500, 1200, "confirmed"))
    assert pending.take_due(5000) == [DueBeat(500, 1200, ())]


def test_at_most_so_many_followers() -> None:
    pending = PendingBeats()
    pending.note(BeatMark(500, 650, "confirmed"))
    for r in (560, 620, 680):
        pending.note(BeatMark(r, r + 40, "provisional"))
    assert pending.take_due(5000)[0].followers == (560, 620)[:FOLLOWERS]


@given(st.lists(st.integers(1, 3000), max_size=60))
def test_any_chunking_gives_the_same(counts: list[int]) -> None:
    assert play(counts) == play([])


def test_only_the_first_word_of_a_beat_is_news() -> None:
    pending = PendingBeats()
    said = [pending.note(mark) for mark in MARKS]
    assert said == [True, False, True, True, False, False, True, False, True, True]


def test_what_waits_when_the_signal_ends_is_given_back() -> None:
    pending = PendingBeats()
    for mark in MARKS[:6]:
        pending.note(mark)
    assert pending.clear() == [500, 712]
    assert pending.take_due(5000) == []
