"""What people have done about alarms, as text that any version can read: it outlasts an update, as the alarms do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from agent.alarms.alert import AlertEvent, Attended, Category, Mark, Phase, Priority, State, Verdict
from agent.alarms.attention import Attention, Held, Manners, Pause, StandingAlarm
from agent.alarms.budget import AlarmBudget, Counted


def to_json(attention: Attention) -> str:
    """Everything but the manners, which the configuration has."""
    return json.dumps(
        {
            "alarms": [
                {
                    "event": _event(alarm.event),
                    "said_ns": alarm.said_ns,
                    "acknowledged": alarm.acknowledged and asdict(alarm.acknowledged),
                    "escalation": alarm.escalation,
                    "latched": alarm.latched,
                    "unsaid": alarm.unsaid,
                    "verdict": alarm.verdict and asdict(alarm.verdict),
                }
                for alarm in attention.alarms.values()
            ],
            "pauses": [asdict(pause) for pause in attention.pauses.values()],
            "recent": [_event(event) for event in attention.recent.values()],
            "answered": list(attention.answered),
            "held": [[_event(one.event), one.until_ns, one.delay_s] for one in attention.held.values()],
            "budget": {
                "counted": {key: asdict(one) for key, one in attention.budget.counted.items()},
                "true_s": attention.budget.true_s,
            },
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def from_json(text: str, manners: Manners, per_day: float = 0.0) -> Attention:
    """The opposite of `to_json`; raises ValueError where the text is not such a thing.

    `per_day`: the alarm budget that the configuration has.
    """
    try:
        kept = json.loads(text)
        alarms = [_alarm(one) for one in kept["alarms"]]
        pauses = [Pause(**one) for one in kept["pauses"]]
        recent = [_read_event(one) for one in kept["recent"]]
        return Attention(
            manners,
            {alarm.event.alert_id: alarm for alarm in alarms},
            {pause.target: pause for pause in pauses},
            {event.alert_id: event for event in recent},
            dict.fromkeys(kept["answered"]),
            AlarmBudget(
                per_day,
                {key: Counted(**one) for key, one in kept["budget"]["counted"].items()},
                kept["budget"]["true_s"],
            ),
            {one[0]["alert_id"]: Held(_read_event(one[0]), *one[1:]) for one in kept["held"]},
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not what people did about alarms: {error!r}") from None


def _event(event: AlertEvent) -> dict[str, Any]:
    return {
        "alert_id": event.alert_id,
        "patient": event.patient,
        "rule": event.rule,
        "category": event.category,
        "priority": event.priority,
        "phase": event.phase,
        "onset_ns": event.onset_ns,
        "at_ns": event.at_ns,
        "text": event.text,
        "until_ns": event.until_ns,
        "drill": event.drill,
        "attended": event.attended and asdict(event.attended),
    }


def _read_event(kept: dict[str, Any]) -> AlertEvent:
    attended = kept["attended"]
    return AlertEvent(
        **{
            **kept,
            "category": Category(kept["category"]),
            "priority": Priority(kept["priority"]),
            "phase": Phase(kept["phase"]),
            "attended": attended
            and Attended(
                State(attended["state"]),
                attended["acknowledged"] and Mark(**attended["acknowledged"]),
                attended["paused"] and Mark(**attended["paused"]),
                attended["escalation"],
                attended["verdict"] and Verdict(**attended["verdict"]),
            ),
        }
    )


def _alarm(kept: dict[str, Any]) -> StandingAlarm:
    return StandingAlarm(
        _read_event(kept["event"]),
        kept["said_ns"],
        kept["acknowledged"] and Mark(**kept["acknowledged"]),
        kept["escalation"],
        kept["latched"],
        kept["unsaid"],
        kept["verdict"] and Verdict(**kept["verdict"]),
    )
