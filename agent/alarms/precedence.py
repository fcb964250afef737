"""One alarm for one episode: what fibrillates is no longer a run of ventricular beats as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.alarms.observation import Condition

RUN = "ventricular_tachycardia"
FIBRILLATION = "ventricular_fibrillation"


@dataclass(slots=True)
class OneVentricular:
    """Of a run and fibrillation at the same time only the graver is said; the run is said once it alone is left."""

    _run: Condition | None = None
    """The run that the rule sees, said or not."""

    def take(self, condition: Condition, fibrillates: bool) -> list[Condition]:
        """What is to be said of a condition. `fibrillates`: whether the graver alarm is on."""
        if condition.rule == RUN:
            self._run = condition if condition.active else None
            return [] if condition.active and fibrillates else [condition]
        if condition.rule != FIBRILLATION or self._run is None:
            return [condition]
        if not condition.active:
            return [condition, replace(self._run, at_ns=condition.at_ns)] if fibrillates else [condition]
        text = "Run of ventricular beats now suggestive of ventricular fibrillation, flutter or very fast tachycardia"
        over = Condition(RUN, False, self._run.onset_ns, condition.at_ns, text)
        return [condition, over]
