"""What was learned of each person's glucose, kept beside snapshots: it outlasts an update, can be taken back."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent.history.personal import PersonalVersions

if TYPE_CHECKING:
    from agent.engine import Engine
    from agent.glucose_state import GlucoseState
    from agent.history import History

log = logging.getLogger(__name__)

DAY_NS = 86_400_000_000_000


class PersonalKeeping:
    """Saves a version a day of readings, and takes one back at a start where that is wanted. Of the worker's thread."""

    def __init__(self, engine: Engine, history: History) -> None:
        self._engine, self._history = engine, history

    def resume(self) -> None:
        """Take the latest version of whoever has none in their state, or was rolled back since it was saved."""
        versions = self._history.versions()
        if versions is None:
            return
        for name, patient in self._engine.patients.items():
            if patient.glucose is not None and patient.glucose.settings.personal != "off":
                _resume(name, patient.glucose, versions)

    def keep(self, patients: Iterable[str], *, at_once: bool = False) -> None:
        """Save what was learned of these patients where a day of readings has passed, or `at_once`.

        Of whom nothing is learned, frozen or off, there is nothing to save: it would push out what was.
        """
        for name in patients:
            patient = self._engine.patients.get(name)
            glucose = patient.glucose if patient else None
            if glucose is None or glucose.last is None or glucose.settings.personal != "on":
                continue
            day = glucose.last.t_ns // DAY_NS
            if day <= glucose.kept_day and not at_once:
                continue
            versions = self._history.versions()
            saved = versions.save(name, glucose.personal.state_json()) if versions is not None else None
            if saved is not None:
                glucose.kept_day, glucose.generation = day, saved.generation


def _resume(name: str, glucose: GlucoseState, versions: PersonalVersions) -> None:
    newer = [version for version in versions.list(name) if version.generation > glucose.generation]
    if not newer or (glucose.generation and not any(version.note for version in newer)):
        return
    try:
        glucose.take(newer[0].state_json)
    except ValueError as error:
        log.warning("what was learned of %s's glucose cannot be read (%s): it is learned anew", name, error)
        return
    glucose.generation = newer[0].generation
    log.info("glucose of %s: fitted as of generation %d", name, newer[0].generation)
