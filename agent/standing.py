"""Alarms on the watching itself that outlast a process: what was on is ended, or said again, by the next start."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from agent.alarms.alert import AlertEvent, Phase, alert_id
from agent.alarms.states import urgency

log = logging.getLogger(__name__)


def technical(subject: str, rule: str, at_ns: int, text: str) -> AlertEvent:
    """The start of an alarm about the watching itself; `subject` is a patient, or the agent."""
    category, priority = urgency(rule)
    return AlertEvent(
        alert_id(subject, rule, at_ns), subject, rule, category, priority, Phase.START, at_ns, at_ns, text
    )


def ended(event: AlertEvent, at_ns: int, text: str) -> AlertEvent:
    """The end of the alarm that `event` began."""
    return replace(event, phase=Phase.END, at_ns=at_ns, text=text, evidence=None)


class StandingAlarms:
    """The alarms of one subject that are on, by rule, with since when and why; kept in a small file."""

    def __init__(self, path: Path, subject: str) -> None:
        self._path, self._subject = path, subject

    def change(self, wanted: Mapping[str, str], now_ns: int, commit: Callable[[list[AlertEvent]], None]) -> None:
        """From now on the alarms in `wanted` are on, and no others; `commit` puts the events of that on disk.

        The file names an alarm before its start is committed and until its end is: after a crash in between the next
        start says again what a subscriber may know already, and nothing stays on for ever.
        """
        on = self._read()
        events = []
        for rule, (onset_ns, text) in on.items():
            if rule not in wanted:
                events.append(ended(technical(self._subject, rule, onset_ns, text), now_ns, "It is so no longer"))
        for rule, text in wanted.items():
            onset_ns = on[rule][0] if rule in on else now_ns
            event = technical(self._subject, rule, onset_ns, text)
            events.append(event if rule not in on else replace(event, phase=Phase.CONTINUE, at_ns=now_ns))
        after = {rule: (on[rule][0] if rule in on else now_ns, text) for rule, text in wanted.items()}
        if not events:
            return
        self._write({**on, **after})
        commit(events)
        self._write(after)

    def _read(self) -> dict[str, tuple[int, str]]:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            found = {str(rule): (int(onset_ns), str(text)) for rule, (onset_ns, text) in kept.items()}
            for rule in found:
                urgency(rule)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            log.warning("%s cannot be read: alarms in it are forgotten: %s", self._path, error)
            return {}
        return found

    def _write(self, alarms: Mapping[str, tuple[int, str]]) -> None:
        beside = self._path.with_suffix(".new")
        try:
            with beside.open("w", encoding="utf-8") as file:
                json.dump(alarms, file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
