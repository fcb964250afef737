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

Standing = tuple[str, str]
"""Whom an alarm is about (a patient, or the agent), and its rule."""


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
    """Those that are on, with since when and why; kept in a small file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._resumed = False

    def change(self, wanted: Mapping[Standing, str], now_ns: int, commit: Callable[[list[AlertEvent]], None]) -> None:
        """From now on the alarms in `wanted` are on, with their texts, and no others; `commit` puts that on disk.

        One that stays on is said again where its text has changed, and by the first call of a process. The file names
        an alarm before its start is committed and until its end is: after a crash in between the next start says again
        what a subscriber may know already, and nothing stays on for ever.
        """
        on = self._read()
        events = []
        for (subject, rule), (onset_ns, text) in on.items():
            if (subject, rule) not in wanted:
                events.append(ended(technical(subject, rule, onset_ns, text), now_ns, "It is so no longer"))
        after = {}
        for (subject, rule), text in wanted.items():
            onset_ns, before = on.get((subject, rule), (now_ns, None))
            after[subject, rule] = onset_ns, text
            event = technical(subject, rule, onset_ns, text)
            if before is None:
                events.append(event)
            elif before != text or not self._resumed:
                events.append(replace(event, phase=Phase.CONTINUE, at_ns=now_ns))
        self._resumed = True
        if not events:
            return
        self._write({**on, **after})
        commit(events)
        self._write(after)

    def on(self) -> set[Standing]:
        """Those that the file names."""
        return set(self._read())

    def _read(self) -> dict[Standing, tuple[int, str]]:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            found = {(str(subject), str(rule)): (int(onset_ns), str(text)) for subject, rule, onset_ns, text in kept}
            for _, rule in found:
                urgency(rule)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s cannot be read: alarms in it are forgotten: %s", self._path, error)
            return {}
        return found

    def _write(self, alarms: Mapping[Standing, tuple[int, str]]) -> None:
        beside = self._path.with_suffix(".new")
        rows = [[subject, rule, onset_ns, text] for (subject, rule), (onset_ns, text) in alarms.items()]
        try:
            with beside.open("w", encoding="utf-8") as file:
                json.dump(rows, file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
