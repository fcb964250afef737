"""What had to be heard in a demo, and what was: the script's own truth against the alerts that came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from agent.ingest.simulate import Rhythm, SimulatedPatient

SAME_ALARM_S = 3.0
"""An alert whose onset is this close to a true one is about that one."""
UNSEEN = frozenset({Rhythm.LEAD_OFF, Rhythm.SILENCE})


@dataclass(frozen=True, slots=True)
class Expected:
    """An alarm that has to come. Times in seconds from the first sample."""

    rule: str
    onset_s: float
    due_s: float
    """By when, at the latest, enough has happened for it to be raised."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An alarm's start as the subscriber got it. Times in seconds from the first sample."""

    alert_id: str
    rule: str
    priority: str
    text: str
    onset_s: float
    heard_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the summary: an alarm that came as it had to, one that did not come, or one nobody ordered."""

    expected: Expected | None
    heard: Heard | None

    @property
    def latency_s(self) -> float | None:
        """From the true onset to the subscriber, the rule's own waiting time included."""
        if self.expected is None or self.heard is None:
            return None
        return self.heard.heard_s - self.expected.onset_s


def expected_alarms(patient: SimulatedPatient) -> tuple[Expected, ...]:
    """The alarms that a simulated patient's script calls for, by the definitions the agent itself states."""
    found = [*_runs(patient), *_standstills(patient), *_faults(patient)]
    return tuple(sorted((one for one in found if one.due_s <= patient.duration_s), key=lambda one: one.onset_s))


def _runs(patient: SimulatedPatient) -> list[Expected]:
    """Five ventricular beats in a row at more than 100 a minute; known when the fifth has been classified."""
    found = []
    for label, group in groupby(patient.beats, key=lambda beat: beat.label):
        beats = list(group)
        if label == "V" and len(beats) >= 5 and 60 * 4 / (beats[4].t_s - beats[0].t_s) > 100:
            found.append(Expected("ventricular_tachycardia", beats[0].t_s, beats[4].t_s + 3.0))
    return found


def _standstills(patient: SimulatedPatient) -> list[Expected]:
    """No beat for 3 s: a pause; for 4 s: asystole; both only while the heart could be seen."""
    found = []
    for last, following in pairwise(patient.beats):
        seen = not any(
            episode.rhythm in UNSEEN and last.t_s < episode.end_s and following.t_s > episode.start_s
            for episode in patient.episodes
        )
        wait_s = following.t_s - last.t_s
        if seen and wait_s > 3.0:
            found.append(Expected("pause", last.t_s, last.t_s + 4.5))
        if seen and wait_s > 4.0:
            found.append(Expected("asystole", last.t_s, last.t_s + 5.5))
    return found


def _faults(patient: SimulatedPatient) -> list[Expected]:
    """An electrode that is off for 3 s, a sensor that is silent for 5."""
    found = []
    for episode in patient.episodes:
        if episode.rhythm == Rhythm.LEAD_OFF and episode.end_s - episode.start_s >= 4.5:
            found.append(Expected("lead_off", episode.start_s, episode.start_s + 5.0))
        if episode.rhythm == Rhythm.SILENCE and episode.end_s - episode.start_s >= 5.5:
            found.append(Expected("stream_silent", episode.start_s, episode.start_s + 6.5))
    return found


def earlier(expected: Sequence[Expected], rule: str, lead_s: float) -> tuple[Expected, ...]:
    """The same, but that the alarm of one rule comes so much earlier."""
    return tuple(
        replace(one, onset_s=one.onset_s - lead_s, due_s=one.due_s - lead_s) if one.rule == rule else one
        for one in expected
    )


def judge(expected: Sequence[Expected], heard: Sequence[Heard]) -> tuple[Verdict, ...]:
    """Every expected alarm with the alert that answers it, and every alert that answers none, in order of time."""
    left = list(heard)
    verdicts = []
    for one in expected:
        answer = next((alert for alert in left if _answers(alert, one)), None)
        if answer is not None:
            left.remove(answer)
        verdicts.append(Verdict(one, answer))
    verdicts += [Verdict(None, alert) for alert in left]
    return tuple(sorted(verdicts, key=_time_s))


def _answers(alert: Heard, expected: Expected) -> bool:
    # A silent stream's rule names the stream after a colon.
    return alert.rule.split(":")[0] == expected.rule and abs(alert.onset_s - expected.onset_s) <= SAME_ALARM_S


def _time_s(verdict: Verdict) -> float:
    return verdict.heard.heard_s if verdict.heard else verdict.expected.due_s if verdict.expected else 0.0
