"""The evaluation of the alarm budget counts what is sent on the second of two days made from one record."""

from __future__ import annotations

from dataclasses import replace

from agent.alarms.alert import AlertEvent, Phase, alert_id
from agent.alarms.states import urgency
from agent.evaluate.burden import _day
from agent.ingest.replay import EPOCH_NS
from firmware_bridge.chunk import NS_PER_S

HOUR_NS = 3600 * NS_PER_S


def alarm(rule: str, at_s: float, lasts_s: float | None) -> list[AlertEvent]:
    category, priority = urgency(rule)
    at_ns = EPOCH_NS + round(at_s * NS_PER_S)
    began = AlertEvent(
        alert_id("p", rule, at_ns), "p", rule, category, priority, Phase.START, at_ns, at_ns, rule
    )  # fmt: skip
    if lasts_s is None:
        return [began]
    return [began, replace(began, phase=Phase.END, at_ns=at_ns + round(lasts_s * NS_PER_S))]


def test_an_hour_played_again_makes_24_of_each_alarm_a_day() -> None:
    events = [*alarm("asystole", 10, 5), *alarm("poor_signal", 100, 5), *alarm("atrial_fibrillation", 3000, None)]
    day = _day("r", 0.0, events, HOUR_NS)
    assert (day.high, day.others, day.suppressed) == (24, 48, {})


def test_the_budget_takes_away_what_is_short_and_nothing_of_high_priority() -> None:
    events = [*alarm("asystole", 10, 5), *alarm("poor_signal", 100, 5), *alarm("atrial_fibrillation", 3000, None)]
    day = _day("r", 24.0, events, HOUR_NS)
    assert (day.high, day.others, day.suppressed) == (24, 24, {"poor_signal": 24})
