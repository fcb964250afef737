"""The history keeps an alert as it was made, what people did about it, and what was held back."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from agent.alarms.alert import (
    AlertEvent,
    Attended,
    Category,
    Evidence,
    Mark,
    Phase,
    Priority,
    State,
    Verdict,
)
from agent.history import History
from agent.history.file import FILE_NAME, open_for_reading
from agent.uplink.messages import canonical_json
from firmware_bridge.chunk import NS_PER_S

NOON_NS = 1_763_985_600 * NS_PER_S
EVIDENCE = Evidence(
    NOON_NS, 250.0, "mV", ("II",), np.linspace(-1, 1, 2500, dtype=np.float32)[:, None], (), 1.0, 0.0, {"limit": 4.0}
)
EVENT = AlertEvent(
    "id1",
    "anna",
    "asystole",
    Category.PHYSIOLOGICAL,
    Priority.HIGH,
    Phase.START,
    NOON_NS,
    NOON_NS + 4 * NS_PER_S,
    "No heart beat for 4 s",
    evidence=EVIDENCE,
)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    ticks = count(NOON_NS, 20 * NS_PER_S)
    kept = History(tmp_path / FILE_NAME, clock_ns=lambda: next(ticks))
    yield kept
    kept.close()


def rows(history: History, query: str) -> list[tuple[object, ...]]:
    with closing(open_for_reading(history.path)) as db:
        return db.execute(query).fetchall()


def stands(attended: Attended) -> AlertEvent:
    return replace(EVENT, phase=Phase.UPDATE, evidence=None, attended=attended)


def test_an_alert_is_kept_to_the_byte(history: History) -> None:
    history.note_events([EVENT])
    history.flush()
    ((payload,),) = rows(history, "SELECT payload FROM alert")
    assert isinstance(payload, bytes)
    assert zlib.decompress(payload) == canonical_json(EVENT)


def test_an_alert_that_is_not_on_disk_goes_with_the_snapshot(history: History, tmp_path: Path) -> None:
    history.note_events([EVENT, replace(EVENT, patient="bert")])
    with closing(History(tmp_path / "next.sqlite")) as after:
        after.resume("anna", history.state("anna"))
        after.flush()
        assert rows(after, "SELECT patient, alert_id FROM alert") == [("anna", "id1")]


def test_alerts_that_wait_are_bounded(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.history.ALERTS_IN_MEMORY", 10)
    for k in range(40):
        history.note_events([replace(EVENT, alert_id=f"id{k}", at_ns=NOON_NS + k)])
        history._pack()
    history.flush()
    ids = {alert_id for (alert_id,) in rows(history, "SELECT alert_id FROM alert")}
    assert "id39" in ids
    assert len(ids) <= 10
    assert len(rows(history, "SELECT alert_id FROM alarm")) == 40


def test_the_first_acknowledgement_and_the_last_verdict_count(history: History) -> None:
    first, second = Mark("nurse", NOON_NS + 30 * NS_PER_S), Mark("parent", NOON_NS + 90 * NS_PER_S)
    verdict = Verdict("not_actionable", "moved", "nurse", NOON_NS + 95 * NS_PER_S)
    last = Verdict("false", "", "doctor", NOON_NS + 99 * NS_PER_S)
    for attended in (
        Attended(State.ACTIVE, escalation=1),
        Attended(State.ACTIVE, first),
        Attended(State.ACTIVE, second, verdict=verdict),
        Attended(State.INACTIVE, None, verdict=last),
        Attended(State.INACTIVE, None, escalation=1),
    ):
        history.note_attended([stands(attended)])
    history.flush()
    assert rows(history, "SELECT * FROM attention") == [
        ("anna", NOON_NS, "id1", 1, "nurse", first.at_ns, "false", "", "doctor", last.at_ns)
    ]


def test_an_alert_nobody_did_anything_about_is_no_row(history: History) -> None:
    history.note_attended([stands(Attended(State.ACTIVE)), EVENT])
    assert not history.waiting


def test_what_was_held_back_is_kept_with_its_reason(history: History) -> None:
    for _ in range(2):
        history.note_suppressed("anna", NOON_NS, "asystole", "the pulse goes on: 71 a minute")
    history.flush()
    assert rows(history, "SELECT * FROM suppressed") == [
        ("anna", NOON_NS, "asystole", "the pulse goes on: 71 a minute")
    ]


def test_a_file_of_an_earlier_agent_is_added_to(history: History) -> None:
    history.note_events([EVENT])
    history.close()
    with closing(sqlite3.connect(history.path)) as db:
        db.executescript("DROP TABLE alert; DROP TABLE attention; DROP TABLE suppressed;")
    with closing(History(history.path)) as after:
        after.note_events([replace(EVENT, alert_id="id2")])
        after.flush()
        assert rows(after, "SELECT alert_id FROM alarm") == [("id1",), ("id2",)]
        assert rows(after, "SELECT alert_id FROM alert") == [("id2",)]
