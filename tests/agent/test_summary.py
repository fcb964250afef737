"""The retained summary: exactly what is on, never behind the alerts, never "off" for what could not be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent, Attended, Mark, Phase, Priority, State, alert_id
from agent.alarms.states import PHYSIOLOGICAL, TECHNICAL, urgency
from agent.engine import Engine
from agent.inference import Models
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.uplink.messages import parse_event
from agent.uplink.outbox import Outbox, Outgoing
from agent.uplink.summary import RULES_OF, Family, Summaries, SummaryMessage, Watched
from agent.uplink.topics import Topics
from agent.worker import Worker
from firmware_bridge.chunk import Chunk, Stream
from firmware_bridge.codecs import cbor_chunk

TOPICS = Topics("home")
BOTH = Watched("patch/ecg", "cgm/glucose")
STREAMS = (
    Stream("p1", "patch", "ecg", "ecg", "mV", 250.0, ("II",)),
    Stream("p1", "cgm", "glucose", "cgm", "mg/dL", 0.0, interval_s=300.0),
)
RULES = [*PHYSIOLOGICAL, *(rule for rule in TECHNICAL if rule != "stream_silent"), "stream_silent:patch/ecg"]


def event(rule: str, phase: Phase = Phase.START, *, at_s: int = 10, late: bool = False) -> AlertEvent:
    category, priority = urgency(rule)
    onset_ns = 1_700_000_000_000_000_000
    return AlertEvent(
        alert_id("p1", rule, onset_ns), "p1", rule, category, priority, phase, onset_ns, onset_ns + at_s, rule, late
    )


def summaries() -> Summaries:
    return Summaries(TOPICS, {"p1": BOTH})


def after(*events: AlertEvent) -> SummaryMessage:
    said = summaries().take(events, seq=len(events), boot_id=1)
    return SummaryMessage.model_validate_json(said[-1].payload)


def test_the_most_urgent_comes_first_and_speaks_for_all() -> None:
    said = after(event("low"), event("device_battery:patch"), event("asystole"))
    assert [alarm.rule for alarm in said.alarms] == ["asystole", "low", "device_battery:patch"]
    assert (said.highest, said.text, said.seq) == (Priority.HIGH, "asystole", 3)
    assert said.families == {
        "urgent": "on",
        "heart": "on",
        "glucose_low": "on",
        "glucose_low_ahead": "off",
        "glucose_high": "off",
        "technical": "on",
    }


@pytest.mark.parametrize(
    ("rule", "family"), [*((rule, family) for family, rules in RULES_OF.items() for rule in rules), ("pause", "heart")]
)
def test_each_family_is_on_with_its_rules_and_off_after_them(rule: str, family: str) -> None:
    assert after(event(rule)).families[family] == "on"  # type: ignore[index]
    assert after(event(rule), event(rule, Phase.END)).families[family] == "off"  # type: ignore[index]


def test_an_alarm_that_could_not_be_seen_is_unknown_and_never_off() -> None:
    blind = after(event("stream_silent:patch/ecg"))
    assert (blind.families["heart"], blind.families["urgent"]) == ("unknown", "unknown")
    assert blind.families["glucose_low"] == "off", "the glucose sensor still sends"
    assert after(event("cgm_doubt:cgm/glucose")).families["glucose_low"] == "unknown"


def test_an_alarm_that_is_on_stays_on_when_the_signal_is_lost() -> None:
    assert after(event("asystole"), event("lead_off")).families["heart"] == "on"


def test_a_report_about_the_past_never_enters() -> None:
    said = after(event("asystole", late=True))
    assert (said.highest, said.alarms, said.families["heart"]) == (None, [], "off")


def test_it_goes_out_as_urgently_as_what_it_tells_of() -> None:
    kept = summaries()
    (first,) = kept.take([event("asystole")], seq=1, boot_id=1)
    (second,) = kept.take([event("device_battery:patch")], seq=2, boot_id=1)
    assert (first.priority, second.priority) == (0, 0), (
        "the second takes the first one's place while the broker is away"
    )
    assert second.retain
    assert second.topic == "vagus/v1/home/summary/p1"


Step = tuple[str, Phase, bool]


@given(st.lists(st.tuples(st.sampled_from(RULES), st.sampled_from(list(Phase)), st.booleans()), max_size=30))
def test_whatever_happens_it_holds_what_began_and_has_not_ended(steps: list[Step]) -> None:
    kept, on = summaries(), set[str]()
    for number, (rule, phase, late) in enumerate(steps):
        (said,) = kept.take([event(rule, phase, late=late)], seq=number, boot_id=1)
        if phase is Phase.END:
            on.discard(rule)
        elif not late:
            on.add(rule)
        message = SummaryMessage.model_validate_json(said.payload)
        assert {alarm.rule for alarm in message.alarms} == on
        assert (message.highest is None) == (not on)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite")
    yield opened
    opened.close()


def worker(outbox: Outbox, *names: str) -> Worker:
    persons = [Person(name, STREAMS) for name in names]
    return Worker(Engine(persons, Models()), outbox, TOPICS, wall=False)


def said_by(outbox: Outbox) -> dict[str, Outgoing]:
    rows = [row.message for row in outbox.pending(1000, 1 << 24)]
    return {row.topic.rpartition("/")[2]: row for row in rows if "/summary/" in row.topic}


def test_everybody_has_one_from_the_start_and_the_agent_too(outbox: Outbox) -> None:
    worker(outbox, "p1", "p2").recover(lambda *_: ())
    said = said_by(outbox)
    assert set(said) == {"p1", "p2", "home"}
    families = SummaryMessage.model_validate_json(said["p1"].payload).families
    assert {families[family] for family in ("heart", "glucose_low", "urgent")} == {"unknown"}, "nothing has come yet"


def test_off_is_said_only_once_there_is_something_to_see(outbox: Outbox, tmp_path: Path) -> None:
    def family(box: Outbox, name: Family) -> str:
        return SummaryMessage.model_validate_json(said_by(box)["p1"].payload).families[name]

    first = worker(outbox, "p1")
    first.recover(lambda *_: ())
    chunk = Chunk(STREAMS[0], 10**18, seq=0, samples=np.zeros((250, 1), np.float32))
    delivery = Delivery(
        (chunk,), "vagus/v1/in/patch/ecg", "application/cbor", cbor_chunk.encode(chunk), 0, lambda: None
    )
    first.tick([delivery], None)
    assert (family(outbox, "heart"), family(outbox, "glucose_low"), family(outbox, "urgent")) == (
        "off",
        "unknown",
        "unknown",
    )
    first.save_all()
    outbox.close()
    again = Outbox(tmp_path / "outbox.sqlite")
    worker(again, "p1").recover(lambda *_: ())
    assert (family(again, "heart"), family(again, "glucose_low")) == ("off", "unknown"), "as the snapshot knows it"
    again.close()


def test_it_is_committed_with_the_alert_and_a_restart_goes_on_from_it(outbox: Outbox, tmp_path: Path) -> None:
    first = worker(outbox, "p1", "p2")
    first._commit(first._messages([event("asystole")]), (), {})
    rows = [row.message for row in outbox.pending(1000, 1 << 24)]
    newest = max(parse_event(row.payload).data.seq or 0 for row in rows if "/event/" in row.topic)
    assert SummaryMessage.model_validate_json(said_by(outbox)["p1"].payload).seq == newest
    outbox.close()
    again = Outbox(tmp_path / "outbox.sqlite")
    worker(again, "p1").recover(lambda *_: ())
    said = said_by(again)
    assert [alarm.rule for alarm in SummaryMessage.model_validate_json(said["p1"].payload).alarms] == ["asystole"]
    again.close()


def test_of_whoever_is_no_longer_watched_it_is_taken_away(outbox: Outbox) -> None:
    worker(outbox, "p1", "p2").recover(lambda *_: ())
    worker(outbox, "p1").recover(lambda *_: ())
    assert said_by(outbox)["p2"].payload == b""
    assert "summary:p2" not in outbox.recover().alarms


MARKED = Mark("nurse-7", 1_700_000_060_000_000_000)


def attended(one: AlertEvent, state: State, **more: Any) -> AlertEvent:
    return replace(one, attended=Attended(state, **more))


def test_what_people_did_about_an_alarm_is_in_it() -> None:
    said = after(attended(event("low"), State.ACTIVE, acknowledged=MARKED, paused=MARKED, escalation=2))
    (alarm,) = said.alarms
    assert (alarm.acknowledged_by, alarm.paused_until) == ("nurse-7", "2023-11-14T22:14:20.000000000Z")
    assert alarm.escalation == 2


def test_one_that_is_over_but_latched_is_listed_and_turns_nothing_on() -> None:
    over = attended(event("asystole", Phase.END), State.LATCHED)
    said = after(event("asystole"), over, event("low"))
    assert [(alarm.rule, alarm.state) for alarm in said.alarms] == [("low", State.ACTIVE), ("asystole", State.LATCHED)]
    assert (said.highest, said.families["heart"], said.families["urgent"]) == (Priority.MEDIUM, "off", "off")
    assert after(event("asystole"), over, attended(event("asystole", Phase.UPDATE), State.INACTIVE)).alarms == []


def test_a_drill_turns_on_what_a_real_one_would_and_says_what_it_is() -> None:
    said = after(replace(event("asystole"), drill=True))
    assert (said.families["urgent"], said.alarms[0].drill) == ("on", True)
