"""Alarm drills: an alert that travels the whole way like any other, and says of itself that it is none."""

from __future__ import annotations

from dataclasses import replace

from agent.alarms.alert import AlertEvent, Category, Phase, alert_id
from agent.alarms.rule import seconds
from agent.alarms.states import urgency
from agent.uplink.commands import DrillCommand

MARK = "DRILL, not real"


class Drills:
    """Those that are on. They end by themselves, and with the process at the latest."""

    def __init__(self) -> None:
        self._on: dict[str, tuple[AlertEvent, int]] = {}
        """Each with when it ends, by alert id."""

    def begin(self, command: DrillCommand, now_ns: int) -> AlertEvent:
        """The start of a drill; raises ValueError where the rule is none that is about a person."""
        try:
            category, priority = urgency(command.rule)
        except KeyError:
            category = Category.TECHNICAL
        if category is Category.TECHNICAL:
            raise ValueError(f"{command.rule!r} is no alarm about a person")
        text = f"{MARK}: {command.rule.replace('_', ' ')}, asked for by {command.by}"
        # The drill's own id in the hash: a real alarm of the same instant must be another one.
        known = alert_id(command.patient, f"drill:{command.rule}", now_ns)
        event = AlertEvent(
            known, command.patient, command.rule, category, priority, Phase.START, now_ns, now_ns, text, drill=True
        )
        self._on[known] = event, now_ns + seconds(command.seconds)
        return event

    def over(self, now_ns: int) -> list[AlertEvent]:
        """The ends of those whose time has come."""
        ended = [event for event, until_ns in self._on.values() if until_ns <= now_ns]
        for event in ended:
            del self._on[event.alert_id]
        return [replace(event, phase=Phase.END, at_ns=now_ns, text=f"{MARK}: over") for event in ended]
