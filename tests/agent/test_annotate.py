"""Alarms about a rhythm become WFDB rhythm changes: from their onset to their true end, the graver rhythm first."""

from __future__ import annotations

from agent.alarms.alert import AlertEvent, Category, Phase, Priority
from agent.annotate import episodes, rhythm_changes
from firmware_bridge.chunk import NS_PER_S

END_NS = 100 * NS_PER_S


def event(rule: str, phase: Phase, onset_s: int, at_s: int, until_s: int | None = None) -> AlertEvent:
    until_ns = None if until_s is None else until_s * NS_PER_S
    return AlertEvent(
        "id", "p", rule, Category.PHYSIOLOGICAL, Priority.HIGH, phase, onset_s * NS_PER_S, at_s * NS_PER_S, "", False,
        until_ns=until_ns,
    )  # fmt: skip


def in_seconds(events: list[AlertEvent]) -> list[tuple[float, str]]:
    return [(at_ns / NS_PER_S, rhythm) for at_ns, rhythm in rhythm_changes(episodes(events, END_NS), 0, END_NS)]


def test_an_episode_lasts_from_its_onset_to_its_true_end_not_from_alarm_to_all_clear() -> None:
    events = [
        event("ventricular_tachycardia", Phase.START, 10, 13),
        event("ventricular_tachycardia", Phase.END, 10, 26, until_s=20),
    ]
    assert in_seconds(events) == [(0, "(N"), (10, "(VT"), (20, "(N")]


def test_the_graver_of_two_rhythms_names_the_time() -> None:
    events = [
        event("atrial_fibrillation", Phase.START, 5, 35),
        event("ventricular_tachycardia", Phase.START, 40, 43),
        event("ventricular_fibrillation", Phase.START, 45, 50),
        event("ventricular_tachycardia", Phase.END, 40, 55, until_s=48),
        event("ventricular_fibrillation", Phase.END, 45, 70, until_s=60),
    ]
    assert in_seconds(events) == [(0, "(N"), (5, "(AFIB"), (40, "(VT"), (45, "(VF"), (60, "(AFIB")]


def test_what_is_still_on_lasts_to_the_end_and_other_alarms_are_no_rhythm() -> None:
    events = [event("asystole", Phase.START, 3, 7), event("atrial_fibrillation", Phase.START, 50, 80)]
    assert episodes(events, END_NS) == [("(AFIB", 50 * NS_PER_S, END_NS)]
