"""A second lead and the pulse are asked before an alarm is raised: in the engine, from samples to alerts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent, Phase
from agent.alerts.kept import suppressed
from agent.engine import Engine
from agent.history import History
from agent.history.file import FILE_NAME, open_for_reading
from agent.inference import Models, shipped_models
from agent.ingest.replay import EPOCH_NS
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.uplink.messages import canonical_json
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics
from agent.worker import Worker
from firmware_bridge.chunk import NS_PER_S, Chunk, Samples, Stream

QUIET_FROM_S, QUIET_TO_S, END_S = 40.0, 52.0, 66.0
QUIET = [Episode(Rhythm.SINUS, 40.0), Episode(Rhythm.ASYSTOLE, 12.0), Episode(Rhythm.SINUS, 14.0)]
STOPPED = SimulatedPatient(7, script=QUIET)
"""A heart that stands still for twelve seconds; or one lead of which nothing is seen for so long."""
BEATING = SimulatedPatient(7, script=[Episode(Rhythm.SINUS, END_S)])
PPG = Stream("demo", "watch", "ppg", kind="ppg", unit="1", rate_hz=100.0)
ONE_LEAD = STOPPED.stream()
TWO_LEADS = replace(ONE_LEAD, channels=("II", "V"))


@pytest.fixture(scope="module")
def models() -> Models:
    return shipped_models()


def pulse_wave(beats_s: Iterable[float], until_s: float = END_S) -> Samples:
    """What a finger shows of a heart that beats at these times."""
    t = np.arange(round(END_S * PPG.rate_hz)) / PPG.rate_hz
    out = np.random.default_rng(5).normal(0.0, 0.01, len(t))
    for beat in beats_s:
        if beat < until_s:
            out += np.exp(-0.5 * ((t - beat - 0.32) / 0.08) ** 2) + 0.3 * np.exp(-0.5 * ((t - beat - 0.62) / 0.1) ** 2)
    return out.astype(np.float32)[:, np.newaxis]


BEATS_S = [beat.t_s for beat in BEATING.beats]
GOES_ON = pulse_wave(BEATS_S)
BOTH_QUIET = np.concatenate((STOPPED.samples, -0.6 * STOPPED.samples), axis=1)
SECOND_GOES_ON = np.concatenate((STOPPED.samples, 0.8 * BEATING.samples), axis=1)


def cut(stream: Stream, samples: Samples, sizes: Iterable[int] = ()) -> Iterator[Chunk]:
    at = seq = 0
    for size in chain(sizes, repeat(round(stream.rate_hz))):
        stop = min(at + size, len(samples))
        yield Chunk(stream, EPOCH_NS + stream.duration_ns(at), samples[at:stop], seq)
        at, seq = stop, seq + 1
        if at == len(samples):
            return


def engine_of(models: Models, *streams: Stream) -> Engine:
    return Engine([Person("demo", streams)], models)


def played(engine: Engine, *signals: Iterable[Chunk]) -> list[AlertEvent]:
    """The signals side by side, one chunk a tick, in the order in which each chunk is complete."""
    chunks = sorted(chain(*signals), key=lambda chunk: chunk.end_ns)
    return [event for chunk in chunks for event in engine.step([chunk])]


def starts(events: Sequence[AlertEvent], rule: str) -> list[AlertEvent]:
    return [event for event in events if event.rule == rule and event.phase is Phase.START]


def at_s(event: AlertEvent) -> float:
    return (event.at_ns - EPOCH_NS) / NS_PER_S


# -- what is held back, and what is not -------------------------------------------------------------------------------


def test_a_lead_without_beats_is_no_asystole_while_the_pulse_goes_on(models: Models) -> None:
    engine = engine_of(models, ONE_LEAD, PPG)
    events = played(engine, cut(ONE_LEAD, STOPPED.samples), cut(PPG, GOES_ON))
    assert starts(events, "asystole") == starts(events, "pause") == []
    held = engine.patients["demo"].suppressed()
    assert [one.rule for one in held] == ["pause", "asystole"]
    assert "but the pulse goes on at 7" in held[1].reason
    assert EPOCH_NS + 44 * NS_PER_S < held[1].t_ns < EPOCH_NS + 45 * NS_PER_S
    assert engine.patients["demo"].suppressed(held[1].t_ns) == held[1:]


def test_what_was_held_back_can_be_asked_for_afterwards(models: Models, tmp_path: Path) -> None:
    history, outbox = History(tmp_path / FILE_NAME), Outbox(tmp_path / "outbox.sqlite")
    worker = Worker(engine_of(models, ONE_LEAD, PPG), outbox, Topics("ward"), wall=False, history=history)
    signals = (cut(ONE_LEAD, STOPPED.samples), cut(PPG, GOES_ON))
    for chunk in sorted(chain(*signals), key=lambda chunk: chunk.end_ns):
        worker.tick([Delivery((chunk,), "in", None, b"", 0, lambda: None)], None)
    history.close()
    outbox.close()
    with closing(open_for_reading(tmp_path / FILE_NAME)) as db:
        kept = suppressed(db, None, None)
    assert [one.rule for one in kept] == ["pause", "asystole"]
    assert "but the pulse goes on" in kept[1].reason


def test_a_lead_without_beats_is_no_asystole_while_another_shows_them(models: Models) -> None:
    engine = engine_of(models, TWO_LEADS)
    events = played(engine, cut(TWO_LEADS, SECOND_GOES_ON))
    assert starts(events, "asystole") == []
    assert "but lead V shows" in engine.patients["demo"].suppressed()[1].reason


def test_a_heart_that_stands_still_is_alarmed_on_as_if_there_were_one_lead_only(models: Models) -> None:
    (alone,) = starts(played(engine_of(models, ONE_LEAD), cut(ONE_LEAD, STOPPED.samples)), "asystole")
    wave = pulse_wave(beat.t_s for beat in STOPPED.beats)
    engine = engine_of(models, TWO_LEADS, PPG)
    (raised,) = starts(played(engine, cut(TWO_LEADS, BOTH_QUIET), cut(PPG, wave)), "asystole")
    assert (raised.onset_ns, raised.at_ns) == (alone.onset_ns, alone.at_ns)
    assert raised.text == f"{alone.text} (lead II); no pulse in the PPG either"
    assert engine.patients["demo"].suppressed() == []


def test_what_was_held_back_sounds_as_soon_as_the_pulse_is_gone(models: Models) -> None:
    engine = engine_of(models, ONE_LEAD, PPG)
    wave = pulse_wave(BEATS_S, until_s=46.0)
    (raised,) = starts(played(engine, cut(ONE_LEAD, STOPPED.samples), cut(PPG, wave)), "asystole")
    assert 47.5 < at_s(raised) < 50.0
    assert "what spoke against it is over" in raised.text


@pytest.mark.parametrize("last_s", [38.0, 41.0, 43.0, 44.0])
def test_a_pulse_wave_that_has_fallen_silent_keeps_no_asystole_waiting(models: Models, last_s: float) -> None:
    (alone,) = starts(played(engine_of(models, ONE_LEAD), cut(ONE_LEAD, STOPPED.samples)), "asystole")
    engine = engine_of(models, ONE_LEAD, PPG)
    wave = cut(PPG, GOES_ON[: round(last_s * PPG.rate_hz)])
    told: list[tuple[float, AlertEvent]] = []
    for chunk in sorted(chain(cut(ONE_LEAD, STOPPED.samples), wave), key=lambda one: one.end_ns):
        told += [((chunk.end_ns - EPOCH_NS) / NS_PER_S, event) for event in engine.step([chunk])]
    (heard_s, raised) = next(one for one in told if one[1].rule == "asystole")
    assert (raised.onset_ns, raised.at_ns) == (alone.onset_ns, alone.at_ns)
    assert heard_s <= at_s(alone) + 1.5 + 1.0  # the chunks are of a second


def test_live_the_clock_ends_the_waiting_though_no_stream_sends_any_more(models: Models) -> None:
    engine = engine_of(models, ONE_LEAD, PPG)
    last_ns = EPOCH_NS + 45 * NS_PER_S
    ecg = [chunk for chunk in cut(ONE_LEAD, STOPPED.samples) if chunk.end_ns <= last_ns]
    wave = [chunk for chunk in cut(PPG, GOES_ON) if chunk.end_ns <= last_ns - NS_PER_S]
    for chunk in sorted([*ecg, *wave], key=lambda one: one.end_ns):
        assert starts(engine.step([chunk], chunk.end_ns), "asystole") == []
    assert starts(engine.step([], last_ns + NS_PER_S), "asystole") == []
    assert len(starts(engine.step([], last_ns + 2 * NS_PER_S), "asystole")) == 1


def test_noise_in_the_pulse_wave_holds_nothing_back(models: Models) -> None:
    noise = np.random.default_rng(3).normal(0.0, 1.0, GOES_ON.shape).astype(np.float32)
    engine = engine_of(models, ONE_LEAD, PPG)
    events = played(engine, cut(ONE_LEAD, STOPPED.samples), cut(PPG, noise))
    assert len(starts(events, "asystole")) == 1


def test_a_run_that_only_the_second_lead_shows_is_alarmed_on_and_shows_that_lead_s_beats(models: Models) -> None:
    script = [Episode(Rhythm.SINUS, 20.0), Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 6.0), Episode(Rhythm.SINUS, 8.0)]
    run = SimulatedPatient(11, script=script)
    samples = run.samples.copy()
    samples[20 * 250 : 27 * 250] = samples[20 * 250]  # an electrode without contact
    engine = engine_of(models, TWO_LEADS)
    events = played(engine, cut(TWO_LEADS, np.concatenate((samples, run.samples), axis=1)))
    (raised,) = starts(events, "ventricular_tachycardia")
    assert raised.text.endswith("suggestive of ventricular tachycardia (lead V)")
    assert raised.evidence is not None
    assert [beat.label for beat in raised.evidence.beats].count("V") >= 5
    (over,) = [event for event in events if event.alert_id == raised.alert_id and event.phase is Phase.END]
    assert over.at_ns > raised.at_ns


# -- the same however it comes ----------------------------------------------------------------------------------------


SCRIPT = [
    Episode(Rhythm.SINUS, 16.0),
    Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 5.0, beats=10),
    Episode(Rhythm.SINUS, 6.0),
    Episode(Rhythm.ASYSTOLE, 8.0),
    Episode(Rhythm.SINUS, 6.0),
]
FIRST = SimulatedPatient(9, script=SCRIPT)
HEART = SimulatedPatient(9, script=[*SCRIPT[:3], Episode(Rhythm.SINUS, 14.0)])
LEADS = np.concatenate((FIRST.samples, -0.7 * HEART.samples), axis=1)
WAVE = pulse_wave(beat.t_s for beat in FIRST.beats)[: round(41 * PPG.rate_hz)]


def as_bytes(events: Iterable[AlertEvent]) -> list[bytes]:
    return sorted(canonical_json(event) for event in events)


@pytest.fixture(scope="module")
def once(models: Models) -> list[bytes]:
    """Both streams second by second."""
    events = played(engine_of(models, TWO_LEADS, PPG), cut(TWO_LEADS, LEADS), cut(PPG, WAVE))
    assert len(events) >= 2
    return as_bytes(events)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 2000), max_size=60),
    st.lists(st.integers(1, 100), min_size=1, max_size=400),
    st.lists(st.floats(-5.0, 0.4), min_size=1, max_size=50),
    st.integers(1, 4),
)
def test_any_chunking_and_any_order_within_the_hold_give_the_same_bytes(
    models: Models, once: list[bytes], ecg: list[int], ppg: list[int], lags_s: list[float], ticks: int
) -> None:
    """The pulse is up to 1.4 s behind the ECG, or seconds before it."""
    wave, late = list(cut(PPG, WAVE, ppg)), []
    for k, chunk in enumerate(wave):
        lag_ns = round(lags_s[k % len(lags_s)] * NS_PER_S)
        late.append(max(chunk.end_ns + lag_ns, late[-1] if late else 0))
    timed = [*zip(late, wave, strict=True), *((chunk.end_ns, chunk) for chunk in cut(TWO_LEADS, LEADS, ecg))]
    chunks = [chunk for _, chunk in sorted(timed, key=lambda one: one[0])]
    engine = engine_of(models, TWO_LEADS, PPG)
    events = [event for k in range(0, len(chunks), ticks) for event in engine.step(chunks[k : k + ticks])]
    assert as_bytes(events) == once


def test_a_minute_of_each_in_one_tick_gives_the_same_bytes(models: Models, once: list[bytes]) -> None:
    whole = [*cut(PPG, WAVE, [len(WAVE)]), *cut(TWO_LEADS, LEADS, [len(LEADS)])]
    assert as_bytes(engine_of(models, TWO_LEADS, PPG).step(whole)) == once


def test_a_snapshot_at_any_instant_goes_on_to_the_same_bytes(models: Models, once: list[bytes]) -> None:
    engine = engine_of(models, TWO_LEADS, PPG)
    events: list[AlertEvent] = []
    for chunk in sorted(chain(cut(TWO_LEADS, LEADS), cut(PPG, WAVE)), key=lambda one: one.end_ns):
        events += engine.step([chunk])
        blob = engine.snapshot("demo")
        engine = engine_of(models, TWO_LEADS, PPG)
        assert engine.restore("demo", blob)
    assert as_bytes(events) == once
    assert len(blob) < 200_000


def test_company_changes_nothing(models: Models, once: list[bytes]) -> None:
    other = [replace(stream, patient="other") for stream in (TWO_LEADS, PPG)]
    engine = Engine([Person("demo", (TWO_LEADS, PPG)), Person("other", tuple(other))], models)
    signals = [cut(TWO_LEADS, LEADS), cut(PPG, WAVE), cut(other[0], SECOND_GOES_ON), cut(other[1], GOES_ON)]
    chunks = sorted(chain(*signals), key=lambda one: one.end_ns)
    events = [event for k in range(0, len(chunks), 3) for event in engine.step(chunks[k : k + 3])]
    assert as_bytes(event for event in events if event.patient == "demo") == once
