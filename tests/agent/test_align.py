"""The aligner puts any arrival of chunks on one time line: in order, once each, holes named."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.signal.align import HELD_CHUNKS, STALE_RUN_NS, Aligner
from firmware_bridge.chunk import NS_PER_S, Chunk, Gap, Stream

ECG = Stream("p1", "strap", "ecg", "ecg", "mV", 360.0, ("II",))
T0 = 1_700_000_000 * NS_PER_S


def chunks_of(n_chunks: int, size: int = 360, *, seq: bool = True, boot_id: int = 1, t0_ns: int = T0) -> list[Chunk]:
    """Consecutive chunks whose samples count up, so that any loss or duplicate shows."""
    return [
        Chunk(
            ECG,
            t0_ns + ECG.duration_ns(k * size),
            np.arange(k * size, (k + 1) * size, dtype=np.float32)[:, None],
            k if seq else None,
            boot_id,
        )
        for k in range(n_chunks)
    ]


def push_all(aligner: Aligner, chunks: list[Chunk]) -> list[Chunk | Gap]:
    return [piece for chunk in chunks for piece in aligner.push(chunk)]


def values(pieces: list[Chunk | Gap]) -> list[float]:
    return [float(v) for piece in pieces if isinstance(piece, Chunk) for v in piece.samples[:, 0]]


def gaps(pieces: list[Chunk | Gap]) -> list[Gap]:
    return [piece for piece in pieces if isinstance(piece, Gap)]


@pytest.mark.parametrize("seq", [True, False])
def test_chunks_in_order_pass_through_with_exact_times(seq: bool) -> None:
    sent = chunks_of(5, seq=seq)
    got = push_all(Aligner(), sent)
    assert [(c.t0_ns, len(c.samples)) for c in got if isinstance(c, Chunk)] == [(c.t0_ns, 360) for c in sent]


def test_a_day_of_odd_sized_chunks_does_not_drift() -> None:
    aligner = Aligner()
    size, n = 997, 31_200
    template = np.zeros((size, 1), np.float32)
    for k in range(n):
        aligner.push(Chunk(ECG, T0 + ECG.duration_ns(k * size), template, k))
    assert aligner.frontier_ns == T0 + ECG.duration_ns(n * size)
    assert not aligner.counts


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 19), min_size=1, max_size=60), st.booleans())
def test_duplicates_and_small_reorderings_change_nothing(repeats: list[int], seq: bool) -> None:
    sent = chunks_of(20, size=90, seq=seq)
    noisy = list(sent)
    for k in repeats:  # the broker delivers a chunk again, right after it or later
        noisy.insert(min(len(noisy), noisy.index(sent[k]) + 1 + k % 5), sent[k])
    assert values(push_all(Aligner(), noisy)) == list(range(20 * 90))


def test_two_swapped_chunks_come_out_in_order() -> None:
    sent = chunks_of(6, size=90)
    sent[2], sent[3] = sent[3], sent[2]
    got = push_all(Aligner(), sent)
    assert values(got) == list(range(6 * 90))
    assert not gaps(got)


def test_a_lost_chunk_is_a_gap_of_exactly_its_length() -> None:
    sent = chunks_of(8)
    del sent[3]
    got = push_all(Aligner(), sent)
    assert [(g.start_ns, g.end_ns, g.reason) for g in gaps(got)] == [(T0 + 3 * NS_PER_S, T0 + 4 * NS_PER_S, "missing")]
    assert len(values(got)) == 7 * 360


def test_a_chunk_that_comes_after_its_gap_was_declared_is_late_and_not_inserted() -> None:
    sent = chunks_of(10)
    aligner = Aligner()
    push_all(aligner, [*sent[:3], *sent[4:]])
    assert aligner.push(sent[3]) == []
    assert aligner.counts["late"] == 1


def test_overlapping_samples_without_sequence_numbers_are_taken_once() -> None:
    whole = np.arange(720, dtype=np.float32)[:, None]
    first = Chunk(ECG, T0, whole[:400])
    second = Chunk(ECG, T0 + ECG.duration_ns(300), whole[300:])
    assert values(push_all(Aligner(), [first, second])) == list(range(720))


def test_a_new_boot_id_is_a_device_restart() -> None:
    later = chunks_of(3, boot_id=2, t0_ns=T0 + 60 * NS_PER_S)
    got = push_all(Aligner(), [*chunks_of(3), *later])
    assert [gap.reason for gap in gaps(got)] == ["device restart"]
    assert len(values(got)) == 6 * 360


def test_a_counter_that_starts_again_without_boot_id_is_a_device_restart() -> None:
    later = [Chunk(c.stream, c.t0_ns + 60 * NS_PER_S, c.samples, c.seq, 1) for c in chunks_of(3)]
    got = push_all(Aligner(), [*chunks_of(5), *later])
    assert [gap.reason for gap in gaps(got)] == ["device restart"]
    assert len(values(got)) == 8 * 360


@pytest.mark.parametrize("step_s", [-7200.0, -30.0, 7200.0])
def test_a_clock_that_is_set_while_the_count_goes_on_is_a_clock_step(step_s: float) -> None:
    sent = chunks_of(10)
    stepped = [Chunk(c.stream, c.t0_ns + round(step_s * NS_PER_S), c.samples, c.seq, 1) for c in sent[5:]]
    got = push_all(Aligner(), [*sent[:5], *stepped])
    assert [gap.reason for gap in gaps(got)] == ["clock step"]
    assert values(got) == list(range(3600))


def test_a_device_that_pauses_and_goes_on_counting_left_a_gap() -> None:
    sent = chunks_of(10)
    paused = [Chunk(c.stream, c.t0_ns + 40 * NS_PER_S, c.samples, c.seq, 1) for c in sent[5:]]
    got = push_all(Aligner(), [*sent[:5], *paused])
    assert [(gap.reason, gap.end_ns - gap.start_ns) for gap in gaps(got)] == [("missing", 40 * NS_PER_S)]


def test_a_clock_set_back_without_sequence_numbers_is_believed_after_a_while_not_at_once() -> None:
    aligner = Aligner()
    push_all(aligner, chunks_of(30, seq=False))
    back = chunks_of(30, seq=False, t0_ns=T0 - 3600 * NS_PER_S)
    needed = STALE_RUN_NS // NS_PER_S
    assert push_all(aligner, back[: needed - 1]) == []
    assert [gap.reason for gap in gaps(push_all(aligner, back[needed - 1 :]))] == ["clock step"]


@pytest.mark.parametrize("seq", [True, False])
def test_a_broker_that_redelivers_a_minute_is_not_a_clock_set_back(seq: bool) -> None:
    sent = chunks_of(60, seq=seq)
    got = push_all(Aligner(), [*sent, *sent, *chunks_of(61, seq=seq)[60:]])
    assert values(got) == list(range(61 * 360))
    assert not gaps(got)


def test_jittering_stamps_in_sequence_do_not_break_the_signal() -> None:
    jitter = random.Random(1)
    sent = [Chunk(c.stream, c.t0_ns + jitter.randint(-45, 45) * 1_000_000, c.samples, c.seq, 1) for c in chunks_of(50)]
    got = push_all(Aligner(), sent)
    assert not gaps(got)
    assert values(got) == list(range(50 * 360))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(10**12), 10**12), st.integers(1, 400), st.none() | st.integers(0, 9), st.integers(0, 2)
        ),
        max_size=40,
    )
)
def test_any_chunks_in_any_order_never_raise_and_never_overlap_unsaid(
    arrivals: list[tuple[int, int, int | None, int]],
) -> None:
    aligner = Aligner()
    pieces = push_all(
        aligner, [Chunk(ECG, T0 + t, np.zeros((n, 1), np.float32), seq, boot) for t, n, seq, boot in arrivals]
    )
    pieces += aligner.flush()
    end_ns, after_gap = None, True
    for piece in pieces:
        if isinstance(piece, Gap):
            after_gap = True
            continue
        if end_ns is not None and not after_gap:
            assert abs(piece.t0_ns - end_ns) <= 500_000_000
        end_ns, after_gap = piece.end_ns, False


def test_a_device_whose_clock_stands_still_does_not_fill_the_memory() -> None:
    aligner = Aligner()
    aligner.push(chunks_of(1)[0])
    stuck = np.zeros((1, 1), np.float32)
    for k in range(3 * HELD_CHUNKS):
        aligner.push(Chunk(ECG, T0 + 2 * NS_PER_S + k, stuck, 2 * k + 2, 1))
    assert len(aligner._held) <= HELD_CHUNKS
