"""What a demo plays: a simulated patient by script, or a stretch of a real recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from agent.alarms.alert import Phase
from agent.demo.truth import Expected, expected_alarms
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS, record_chunks, record_streams, sample_ns
from agent.ingest.simulate import DEMO_SCRIPT, Episode, Rhythm, SimulatedPatient, cgm_chunks, cgm_readings
from agent.ingest.wfdb import Header, RecordError, read_annotations, read_header
from agent.replay import replay
from agent.signal.lead import analysis_lead
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

PATIENT = "demo-patient"
DEVICE = "chest-strap"
CGM_DEVICE = "glucose-sensor"
CGM_INTERVAL_S = 300.0
GLUCOSE_COURSE = ((0.0, 150.0), (2.6, 142.0), (3.4, 56.0))
"""(hour, mg/dL): up to where it falls, of which GLUCOSE_READINGS are played."""
GLUCOSE_READINGS = 38
GLUCOSE_NOW_S = 18.0
"""When the last of them is measured: those before were stored, and come at once when the sensor connects."""
CHUNK_S = 0.5
RECORD_S = 60.0
SEED = 1

PLAIN_WORDS = {
    Rhythm.SINUS: "a normal rhythm",
    Rhythm.ECTOPY: "now and then a beat comes too early (premature beats: no alarm, only noted)",
    Rhythm.VENTRICULAR_TACHYCARDIA: "twelve fast beats from the wrong place (ventricular tachycardia)",
    Rhythm.ASYSTOLE: "the heart stands still (asystole)",
    Rhythm.LEAD_OFF: "an electrode has come off",
    Rhythm.SILENCE: "the sensor has gone silent: no data at all",
}

RHYTHM_NAME = {
    "(N": "normal rhythm",
    "(NSR": "normal rhythm",
    "(VT": "ventricular tachycardia",
    "(VF": "ventricular fibrillation",
    "(VFIB": "ventricular fibrillation",
    "(VFL": "ventricular flutter",
    "(AFIB": "atrial fibrillation",
    "(AFL": "atrial flutter",
    "(B": "ventricular bigeminy",
    "(T": "ventricular trigeminy",
    "(SBR": "slow sinus rhythm",
    "(SVTA": "supraventricular tachycardia",
    "(ASYS": "asystole",
    "(NOISE": "noise",
    "(P": "paced rhythm",
}
"""Rhythm annotations of PhysioNet's databases in words; others are shown as they are."""


@dataclass(frozen=True, slots=True)
class Programme:
    """What is played, and what is known of it beforehand. Times in seconds from the first sample."""

    title: str
    ecg: Stream
    duration_s: float
    ecg_chunks: Callable[[int], Iterator[Chunk]]
    """From the time of the first sample, UTC ns."""
    cgm: Stream | None = None
    cgm_chunks: Callable[[int], Iterator[Chunk]] | None = None
    """Readings; those from before the first sample of the ECG were stored in the sensor."""
    phases: tuple[tuple[float, str], ...] = ()
    """(from when, what happens)"""
    expected: tuple[Expected, ...] | None = None
    """None where nobody knows what has to come: a real recording."""

    def phase(self, t_s: float) -> str:
        """What is happening at a time."""
        begun = [text for start_s, text in self.phases if start_s <= t_s]
        return begun[-1] if begun else ""


def scripted(seconds: float | None, rate_hz: float = 250.0) -> Programme:
    """The virtual patient's script, cut or lengthened with a normal rhythm to `seconds` where they are given."""
    patient = SimulatedPatient(SEED, rate_hz, _fitted(DEMO_SCRIPT, seconds))
    stream = patient.stream(PATIENT, DEVICE)
    readings = cgm_readings(SEED, GLUCOSE_COURSE, interval_s=CGM_INTERVAL_S)[:GLUCOSE_READINGS]
    shown = [replace(one, t_s=one.t_s - readings[-1].t_s + GLUCOSE_NOW_S) for one in readings]
    shown = [reading for reading in shown if reading.t_s < patient.duration_s]
    cgm = next(cgm_chunks(shown, PATIENT, CGM_DEVICE, interval_s=CGM_INTERVAL_S)).stream
    return Programme(
        title="a simulated patient",
        ecg=stream,
        duration_s=patient.duration_s,
        ecg_chunks=lambda t0_ns: patient.chunks(stream, t0_ns=t0_ns, chunk_s=CHUNK_S),
        cgm=cgm,
        cgm_chunks=lambda t0_ns: cgm_chunks(shown, PATIENT, CGM_DEVICE, t0_ns=t0_ns, interval_s=CGM_INTERVAL_S),
        phases=tuple((episode.start_s, PLAIN_WORDS[episode.rhythm]) for episode in patient.episodes),
        expected=_expected(patient),
    )


def _expected(patient: SimulatedPatient) -> tuple[Expected, ...]:
    """What the heart's script calls for, and a word about the glucose before it is low."""
    low = Expected("predicted_low", GLUCOSE_NOW_S, GLUCOSE_NOW_S + 3.0)
    found = [*expected_alarms(patient), *([low] if low.due_s <= patient.duration_s else [])]
    return tuple(sorted(found, key=lambda one: one.onset_s))


def _fitted(script: tuple[Episode, ...], seconds: float | None) -> list[Episode]:
    if seconds is None:
        return list(script)
    fitted: list[Episode] = []
    left_s = seconds
    for episode in script:
        if left_s <= 0:
            break
        fitted.append(replace(episode, duration_s=min(episode.duration_s, left_s)))
        left_s -= episode.duration_s
    if left_s > 0:
        fitted.append(Episode(Rhythm.SINUS, left_s))
    return fitted


def liveliest(path: Path) -> tuple[float, float]:
    """(start, seconds) of the stretch to show of a recording: up to its first run of ventricular tachycardia, or else
    up to its first alarm of any kind, as the engine finds it; the beginning where it finds none.
    """
    started = [event for event in replay([path], shipped_models()) if event.phase is Phase.START]
    runs = [event for event in started if event.rule == "ventricular_tachycardia"]
    first = next(iter([*runs, *started]), None)
    if first is None:
        return 0.0, RECORD_S
    at_s = (first.at_ns - EPOCH_NS) / NS_PER_S
    needs_its_past = first.rule == "pvc_burden"
    start_s = 0.0 if needs_its_past else max(0.0, at_s - RECORD_S / 3)
    return start_s, max(RECORD_S, at_s - start_s + 15.0)


def recorded(path: Path, start_s: float, seconds: float | None) -> Programme:
    """A stretch of a WFDB recording, one lead of it. Raises RecordError, OSError, or ValueError past its end."""
    header = read_header(path)
    ecg = record_streams(header).get("ecg")
    if ecg is None:
        raise RecordError(header.path, "none of its signals is in volts: no ECG to play")
    if not 0 <= start_s < header.duration_s:
        raise ValueError(f"{header.name} is {header.duration_s:.0f} s long: it cannot be played from {start_s:g} s")
    stop_s = min(header.duration_s, start_s + (seconds or RECORD_S))
    lead = ecg.columns[analysis_lead(ecg.stream.channels)]
    only = record_streams(header, PATIENT, DEVICE, leads=[lead])["ecg"]

    def chunks(t0_ns: int) -> Iterator[Chunk]:
        begin_ns = t0_ns - sample_ns(round(start_s * header.rate_hz), header.rate_hz)
        return record_chunks(path, only, chunk_s=CHUNK_S, t0_ns=begin_ns, start_s=start_s, stop_s=stop_s)

    return Programme(
        title=f"recording {header.name}, lead {only.stream.channels[0]}, from {start_s:g} s",
        ecg=only.stream,
        duration_s=stop_s - start_s,
        ecg_chunks=chunks,
        phases=((0.0, f"recording {header.name} as it was taken"), *_reference_rhythms(header, start_s, stop_s)),
    )


def _reference_rhythms(header: Header, start_s: float, stop_s: float) -> list[tuple[float, str]]:
    """What the recording's own annotations say of its rhythm, where it has any: (s from the stretch's start, text)."""
    annotations = header.path.with_suffix(".atr")
    if not annotations.is_file():
        return []
    found = read_annotations(annotations)
    named = [
        (sample / header.rate_hz, RHYTHM_NAME.get(aux.rstrip(), aux.strip(" (")))
        for sample, symbol, aux in zip(found.sample.tolist(), found.symbol, found.aux, strict=True)
        if symbol == "+" and aux.startswith("(")
    ]
    return [
        (max(0.0, t_s - start_s), f"{name} (so its annotation says)")
        for (t_s, name), until_s in zip(named, [*(t_s for t_s, _ in named[1:]), header.duration_s], strict=True)
        if until_s > start_s and t_s < stop_s
    ]
