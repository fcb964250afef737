"""People and alarms: what `agent.alarms.attention` knows of everybody who is watched, on disk with the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from agent.alarms.alert import AlertEvent, Attended, Phase, State, Verdict
from agent.alarms.attention import Attention, Fresh, Manners, Outcome, Suppressed
from agent.alarms.attention_state import from_json, to_json
from agent.alarms.budget import AlarmBudget
from agent.drill import Drills
from agent.standing import Standing
from agent.uplink.commands import AckCommand, Command, DrillCommand, PauseCommand, VerdictCommand

log = logging.getLogger(__name__)

_KEPT = "people:"
"""Before the subject in the outbox's table of alarms."""

IsFresh = Callable[[str, str], bool]
"""Whether the data is of now on which somebody's rule rests."""


class Attendance:
    """Belongs to the worker's thread. `unsaved` is to be committed with the events that it led to, then `saved`."""

    def __init__(self, agent: str, per_day: Mapping[str, float], manners: Manners) -> None:
        """`per_day`: everybody who is watched, with their alarm budget; 0 is none."""
        self._manners = manners
        self._per_day = {agent: 0.0, **per_day}
        self._of = {subject: self._new(subject) for subject in self._per_day}
        self._changed: set[str] = set()
        self._due_ns: dict[str, int] = {}
        """Of whom it has been asked since the last change, when time makes a difference."""
        self._drills = Drills()

    def _new(self, subject: str) -> Attention:
        return Attention(self._manners, budget=AlarmBudget(self._per_day.get(subject, 0.0)))

    def load(
        self, kept: Mapping[str, bytes], on: Collection[str], standing: Collection[Standing], now_ns: int
    ) -> list[AlertEvent]:
        """Go on from what was on disk; the ends of alarms that nothing here can bear out any more.

        `on`: ids of the alarms that the rules have on after a restart; `standing`: what the agent says of itself. An
        update, a changed config or a lost file may have made the rules forget what subscribers still see.
        """
        ends: list[AlertEvent] = []
        for key, text in kept.items():
            if not key.startswith(_KEPT):
                continue
            subject = key.removeprefix(_KEPT)
            try:
                attention = from_json(text.decode(), self._manners, self._per_day.get(subject, 0.0))
            except ValueError as error:
                log.warning("what people did about alarms of %s cannot be read, and is forgotten: %s", subject, error)
                continue
            alarms = [alarm.event for alarm in attention.alarms.values()]
            if subject not in self._of:
                self._change(subject)
                ends += [_end(said, now_ns, "Nobody is watched under this name any more", gone=True) for said in alarms]
                continue
            self._of[subject] = attention
            self._due_ns.pop(subject, None)
        return ends + self.without_ground(on, standing, now_ns)

    def without_ground(self, on: Collection[str], standing: Collection[Standing], now_ns: int) -> list[AlertEvent]:
        """The ends of alarms that neither the rules nor the agent have on any more: see `load`."""
        forgotten = [
            alarm.event
            for subject, attention in self._of.items()
            for alarm in attention.alarms.values()
            if not alarm.latched and alarm.event.alert_id not in on and (subject, alarm.event.rule) not in standing
        ]
        forgotten += [
            held.event
            for attention in self._of.values()
            for held in attention.held.values()
            if held.event.alert_id not in on
        ]
        return self.take([_end(said, now_ns, "Whether it is still so is not known") for said in forgotten], now_ns)

    def take(self, events: Iterable[AlertEvent], now_ns: int, *, restarted: bool = False) -> list[AlertEvent]:
        """The events with how people stand to them."""
        out: list[AlertEvent] = []
        for event in events:
            out += self._attention(event.patient).take(event, now_ns, restarted=restarted)
        return out

    def advance(self, now_ns: int, is_fresh: IsFresh) -> list[AlertEvent]:
        """Let time pass for everybody to whose alarms it makes a difference."""
        out = self.take(self._drills.over(now_ns), now_ns)
        due_ns = self._due_ns
        for subject, attention in self._of.items():
            if subject not in due_ns:
                due_ns[subject] = attention.due_ns
            if now_ns < due_ns[subject]:
                continue
            pauses = len(attention.pauses)
            events = attention.advance(now_ns, _of_subject(subject, is_fresh))
            if events or len(attention.pauses) != pauses:
                self._change(subject)
            out += events
        return out

    def ask(self, command: Command, now_ns: int, is_fresh: IsFresh) -> Outcome:
        """Do what somebody asks, once."""
        attention = self._of.get(command.patient)
        if attention is None:
            return Outcome(False, f"nobody called {command.patient!r} is watched here")
        if command.id is not None and command.id in attention.answered:
            return Outcome(True, "was done before")
        outcome = self._done(attention, command, now_ns, _of_subject(command.patient, is_fresh))
        if command.id is not None and outcome.accepted:
            attention.remember(command.id)
        self._change(command.patient)
        return outcome

    def _done(self, attention: Attention, command: Command, now_ns: int, fresh: Fresh) -> Outcome:
        match command:
            case AckCommand():
                return attention.acknowledge(command.alert_id, command.by, now_ns)
            case PauseCommand(minutes=0):
                return attention.resume(command.target, command.by, now_ns, fresh)
            case PauseCommand():
                duration_s = 60.0 * command.minutes
                return attention.pause(command.target, duration_s, command.by, now_ns, while_on=command.while_on)
            case VerdictCommand():
                return attention.judge(command.alert_id, Verdict(command.verdict, command.note, command.by, now_ns))
            case DrillCommand():
                began = self._drills.begin(command, now_ns)
                return Outcome(True, f"drill {began.alert_id} begins", tuple(attention.take(began, now_ns)))

    def suppressed(self) -> list[Suppressed]:
        """What was not sent since the last call, because it was over before it would have been."""
        out = [one for attention in self._of.values() for one in attention.suppressed]
        for attention in self._of.values():
            attention.suppressed.clear()
        return out

    def pauses(self) -> list[tuple[str, str, str, int]]:
        """(whom, what, by whom, until when in ns) of all that is paused."""
        return [
            (subject, pause.target, pause.by, pause.until_ns)
            for subject, attention in self._of.items()
            for pause in attention.pauses.values()
        ]

    @property
    def unsaved(self) -> dict[str, bytes | None]:
        """What the next commit has to store with the events, for `Outbox.commit`."""
        return {
            _KEPT + subject: to_json(self._of[subject]).encode() if subject in self._of else None
            for subject in self._changed
        }

    def saved(self) -> None:
        """The commit is on disk."""
        self._changed.clear()

    def _change(self, subject: str) -> None:
        self._changed.add(subject)
        self._due_ns.pop(subject, None)

    def _attention(self, subject: str) -> Attention:
        self._change(subject)
        if subject not in self._of:
            self._of[subject] = self._new(subject)
        return self._of[subject]


def _of_subject(subject: str, is_fresh: IsFresh) -> Fresh:
    return lambda rule: is_fresh(subject, rule)


def _end(said: AlertEvent, now_ns: int, why: str, *, gone: bool = False) -> AlertEvent:
    attended = Attended(State.INACTIVE) if gone else None
    text = f"{why}, analysis was begun anew: {said.text}"
    return replace(said, phase=Phase.END, at_ns=max(now_ns, said.at_ns), text=text, late=False, attended=attended)
