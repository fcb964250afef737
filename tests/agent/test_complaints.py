"""The oldest complaints of people who live with alarms, one test each, through engine and attention as when live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agent.alarms.alert import AlertEvent, Phase, State
from agent.alarms.attention import Manners
from agent.attendance import Attendance
from agent.engine import Engine
from agent.inference import Models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.patient import Person
from agent.uplink.commands import parse_command
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

MIN_NS = 60 * NS_PER_S
NOON_NS = 1_796_000_000 * NS_PER_S
CGM = Stream("anna", "cgm", "glucose", "cgm", "mg/dL", 0.0, interval_s=300.0)
SINUS, STOPPED = Episode(Rhythm.SINUS, 20.0), Episode(Rhythm.ASYSTOLE, 10.0)


def reading(minute: float, mg_dl: float) -> Chunk:
    return Chunk(CGM, NOON_NS + round(minute * MIN_NS), np.array([[mg_dl]], np.float32))


def ecg(*script: Episode, t0_ns: int = NOON_NS) -> list[Chunk]:
    chunks = SimulatedPatient(5, script=script).chunks(t0_ns=t0_ns, chunk_s=1.0)
    return [replace(chunk, stream=replace(chunk.stream, patient="anna")) for chunk in chunks]


@dataclass
class Watch:
    """One person, watched live: what is published, and what a broker keeps of it."""

    streams: tuple[Stream, ...]
    said: list[AlertEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine([Person("anna", self.streams)], Models())
        self.people = Attendance("home", {"anna": 0.0}, Manners())

    def step(self, chunks: Sequence[Chunk], now_ns: int) -> list[AlertEvent]:
        """A tick at `now_ns`; what it says."""
        events = self.people.take(self.engine.step(chunks, now_ns), now_ns)
        events += self.people.advance(now_ns, lambda _, rule: self.engine.patients["anna"].is_fresh(rule, now_ns))
        self.said += events
        return events

    def ask(self, name: str, body: str, now_ns: int) -> bool:
        command = parse_command(name, f'{{"patient": "anna", "by": "me", {body}}}'.encode())
        outcome = self.people.ask(command, now_ns, lambda _, rule: self.engine.patients["anna"].is_fresh(rule, now_ns))
        self.said += outcome.events
        return outcome.accepted

    def live(self, rule: str) -> list[Phase]:
        """Phases of what was said of a rule as of now."""
        return [event.phase for event in self.said if event.rule == rule and not event.late]


def at(minute: float) -> int:
    return NOON_NS + round(minute * MIN_NS)


def test_a_snoozed_alarm_is_not_raised_again_on_stale_data_and_that_there_is_none_is_said() -> None:
    watch = Watch((CGM,))
    for minute in (0, 5):
        watch.step([reading(minute, 66)], at(minute))
    assert watch.ask("pause", '"rule": "low", "minutes": 30', at(6))
    for minute in range(7, 90):
        watch.step([], at(minute))
    assert watch.live("low") == [Phase.START, Phase.UPDATE]
    assert watch.live("stream_silent:cgm/glucose") == [Phase.START, Phase.ESCALATE, Phase.ESCALATE, Phase.ESCALATE]
    watch.step([reading(90, 64)], at(90))
    assert watch.live("low")[2:] == [Phase.CONTINUE]


def test_back_fill_raises_no_old_alarm_as_new() -> None:
    watch = Watch((CGM,))
    watch.step([reading(0, 110)], at(0))
    stored = [reading(5 * k, 110 - 9 * min(k, 12 - k)) for k in range(1, 12)]
    watch.step([*stored, reading(60, 112)], at(60))
    assert watch.live("low") == watch.live("urgent_low") == []
    lows = [event for event in watch.said if event.rule == "low"]
    assert all(event.late for event in lows)
    assert all(event.attended is None or event.attended.state is not State.ACTIVE for event in lows)


def test_back_fill_clears_no_live_alarm() -> None:
    watch = Watch((CGM,))
    watch.step([reading(0, 80)], at(0))
    watch.step([reading(60, 66)], at(60))
    assert watch.live("low") == [Phase.START]
    watch.step([reading(5 * k, 150) for k in range(1, 12)], at(61))
    assert watch.live("low") == [Phase.START]
    watch.step([reading(65, 92)], at(65))
    assert watch.live("low") == [Phase.START, Phase.END]


def test_when_data_stops_there_is_an_alarm() -> None:
    chunks = ecg(SINUS)
    watch = Watch((chunks[0].stream,))
    for chunk in chunks:
        watch.step([chunk], chunk.end_ns)
    events = watch.step([], chunks[-1].end_ns + 6 * NS_PER_S)
    assert [(event.rule.partition(":")[0], event.phase) for event in events] == [("stream_silent", Phase.START)]


def test_an_alarm_that_nobody_answers_is_escalated_until_somebody_does() -> None:
    chunks = ecg(SINUS, STOPPED)
    watch = Watch((chunks[0].stream,))
    for chunk in chunks:
        watch.step([chunk], chunk.end_ns)
    (began,) = [event for event in watch.said if event.rule == "asystole"]
    for half in range(1, 10):
        watch.step([], began.at_ns + half * MIN_NS // 2)
    assert watch.live("asystole") == [Phase.START, Phase.ESCALATE, Phase.ESCALATE]
    assert watch.ask("ack", f'"alert_id": "{began.alert_id}"', began.at_ns + 5 * MIN_NS)
    for minute in range(6, 60):
        watch.step([], began.at_ns + minute * MIN_NS)
    assert watch.live("asystole")[3:] == [Phase.DE_ESCALATE]


def test_an_alarm_drill_really_sounds_and_is_escalated() -> None:
    """The whole way to a subscriber: tests/peers/test_commands.py."""
    watch = Watch((CGM,))
    assert watch.ask("drill", '"rule": "asystole", "seconds": 300', at(0))
    for minute in range(1, 7):
        watch.step([], at(minute))
    drilled = [event for event in watch.said if event.drill]
    assert [event.phase for event in drilled] == [Phase.START, Phase.ESCALATE, Phase.ESCALATE, Phase.END]
    assert len({event.alert_id for event in drilled}) == 1


def test_after_an_outage_nothing_old_looks_new() -> None:
    chunks = ecg(SINUS, STOPPED, SINUS)
    watch = Watch((chunks[0].stream,))
    watch.step(chunks, chunks[-1].end_ns + 3600 * NS_PER_S)
    told = [event for event in watch.said if event.rule == "asystole"]
    assert [event.phase for event in told] == [Phase.START, Phase.END]
    assert all(event.late for event in told)
    assert all(event.onset_ns < chunks[-1].end_ns for event in told)
    watch.step([], chunks[-1].end_ns + 3700 * NS_PER_S)
    assert watch.live("asystole") == []
