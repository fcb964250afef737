"""What is on for each person right now, in one retained message: enough for a light, a tile, or a rule of a home.

It is made from the events themselves and stored in the same transaction, so it is never behind them for longer than
the broker takes to be told, and a restart goes on from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, ValidationError

from agent.alarms.alert import AlertEvent, Attended, Category, Phase, Priority, State
from agent.alarms.states import of_glucose
from agent.uplink.evidence import Model, rfc3339
from agent.uplink.messages import JSON_TYPE, RESEARCH_NOTE, outgoing_priority
from agent.uplink.outbox import Outgoing
from agent.uplink.topics import Topics

if TYPE_CHECKING:
    from agent.patient import Person

log = logging.getLogger(__name__)

Family = Literal["urgent", "heart", "glucose_low", "glucose_low_ahead", "glucose_high", "technical"]
Word = Literal["on", "off", "unknown"]

RULES_OF: Final[Mapping[Family, frozenset[str]]] = {
    "glucose_low": frozenset({"urgent_low", "low"}),
    "glucose_low_ahead": frozenset({"urgent_low_soon", "predicted_low"}),
    "glucose_high": frozenset({"high", "persistent_high"}),
}
HasData = Callable[[str, str], bool]
"""Whether anything has come of a person's stream, by its name "device/channel"."""
_KEPT = "summary:"
"""Before the subject in the outbox's table of alarms."""


class SummaryAlarm(Model):
    """One alarm that is on, or over and latched."""

    alert_id: str
    rule: str
    category: Category
    priority: Priority
    state: State = Field(description='"latched": the condition is over, and nobody has acknowledged that it was there')
    onset: str = Field(description="when the condition began")
    text: str
    acknowledged_by: str | None = None
    paused_until: str | None = Field(default=None, description="somebody asked not to hear it until then")
    escalation: int = Field(default=0, description="how often it was said again because nobody acknowledged it")
    drill: bool = Field(default=False, description="not real: somebody tries whether it is heard")


class SummaryMessage(Model):
    """Retained: what is on for one person, or for the agent itself."""

    patient: str = Field(description="the pseudonym, or the agent's name for alarms on the watching itself")
    highest: Priority | None = Field(description="of the most urgent alarm that is on; null when none is")
    since: str | None = Field(description="when the oldest alarm of that priority began")
    text: str = Field(description="what the most urgent alarm says; empty when none is on")
    families: dict[Family, Word] = Field(
        description="alarms by what one would do about them; unknown: not on, and at present it could not be seen"
    )
    alarms: list[SummaryAlarm] = Field(description="most urgent first, then oldest first; those over but latched last")
    at: str | None = Field(description="stream time of the newest event in it; null before the first")
    seq: int = Field(description="every event up to this one is in it")
    boot_id: int
    note: Literal["research software, not a medical device"] = RESEARCH_NOTE


@dataclass(frozen=True, slots=True)
class Watched:
    """Which streams are judged, as "device/channel"; None where there is none of the kind."""

    ecg: str | None = None
    cgm: str | None = None

    @classmethod
    def of(cls, person: Person) -> Watched:
        return cls(*(f"{one.device}/{one.channel}" if one is not None else None for one in (person.ecg, person.cgm)))


class Summaries:
    """Those of all persons of one agent, and of the agent itself."""

    def __init__(self, topics: Topics, watched: Mapping[str, Watched]) -> None:
        """`watched`: by person."""
        self._topics = topics
        self._watched = {**watched, topics.itself: Watched()}
        self._now: dict[str, SummaryMessage] = {}
        self._unsaved: dict[str, bytes | None] = {}
        self._unheard: dict[str, set[str]] = {}
        """By person the judged streams of which nothing has come yet."""

    @property
    def unsaved(self) -> Mapping[str, bytes | None]:
        """What the next commit has to store with the messages, for `Outbox.commit`."""
        return dict(self._unsaved)

    def saved(self) -> None:
        """The commit is on disk."""
        self._unsaved.clear()

    def resume(self, kept: Mapping[str, bytes], has_data: HasData, *, seq: int, boot_id: int) -> list[Outgoing]:
        """Go on from what an earlier process stored; the summary of everybody, to be said at the start.

        Whoever is no longer watched has theirs taken away. What a stream shows of which nothing has come is unknown.
        """
        for subject, watched in self._watched.items():
            unheard = {name for name in (watched.ecg, watched.cgm) if name is not None and not has_data(subject, name)}
            if unheard:
                self._unheard[subject] = unheard
        for key in (key for key in kept if key.startswith(_KEPT)):
            subject = key.removeprefix(_KEPT)
            try:
                self._now[subject] = SummaryMessage.model_validate_json(kept[key])
            except ValidationError as error:
                log.warning("summary of %s is forgotten: %d faults", subject, error.error_count())
        gone = [key for key in kept if key.startswith(_KEPT) and key.removeprefix(_KEPT) not in self._watched]
        for key in gone:
            self._now.pop(key.removeprefix(_KEPT), None)
            self._unsaved[key] = None
        emptied = [self._outgoing(key.removeprefix(_KEPT), b"", 0) for key in gone]
        return emptied + [
            self._say(subject, self._alarms(subject), self._at(subject), seq, boot_id, Priority.HIGH.rank)
            for subject in self._watched
        ]

    def heard(self, has_data: HasData, *, seq: int, boot_id: int) -> list[Outgoing]:
        """The summaries that change because a stream has begun to send."""
        out = []
        for subject, unheard in list(self._unheard.items()):
            begun = {name for name in unheard if has_data(subject, name)}
            if not begun:
                continue
            self._unheard[subject] = unheard - begun
            if not self._unheard[subject]:
                del self._unheard[subject]
            out.append(self._say(subject, self._alarms(subject), self._at(subject), seq, boot_id, Priority.LOW.rank))
        return out

    def take(self, events: Sequence[AlertEvent], *, seq: int, boot_id: int) -> list[Outgoing]:
        """The summaries that these events change. `seq`: the number of the last of them."""
        by_subject: dict[str, list[AlertEvent]] = {}
        for event in events:
            by_subject.setdefault(event.patient, []).append(event)
        out = []
        for subject, own in by_subject.items():
            alarms, at = self._alarms(subject), self._at(subject)
            for event in own:
                _change(alarms, event)
                if not event.late:
                    at = max(at or "", rfc3339(event.at_ns))
            out.append(self._say(subject, alarms, at, seq, boot_id, min(outgoing_priority(event) for event in own)))
        return out

    def _alarms(self, subject: str) -> dict[str, SummaryAlarm]:
        known = self._now.get(subject)
        return {alarm.alert_id: alarm for alarm in known.alarms} if known is not None else {}

    def _at(self, subject: str) -> str | None:
        known = self._now.get(subject)
        return known.at if known is not None else None

    def _say(
        self, subject: str, alarms: Mapping[str, SummaryAlarm], at: str | None, seq: int, boot_id: int, urgency: int
    ) -> Outgoing:
        """Keep what is on now, and put it into words for subscribers."""
        listed = sorted(alarms.values(), key=_rank)
        on = [alarm for alarm in listed if alarm.state is State.ACTIVE]
        highest = on[0].priority if on else None
        message = SummaryMessage(
            patient=subject,
            highest=highest,
            since=on[0].onset if on else None,
            text=on[0].text if on else "",
            families=dict(_families(on, self._watched.get(subject, Watched()), self._unheard.get(subject, set()))),
            alarms=listed,
            at=at,
            seq=seq,
            boot_id=boot_id,
        )
        self._now[subject] = message
        payload = message.model_dump_json().encode()
        self._unsaved[_KEPT + subject] = payload
        return self._outgoing(subject, payload, min(urgency, highest.rank if highest is not None else urgency))

    def _outgoing(self, subject: str, payload: bytes, priority: int) -> Outgoing:
        """As urgent as the most urgent that it tells of: a later one of less urgency takes its place in the outbox."""
        content_type = JSON_TYPE if payload else None
        return Outgoing(self._topics.summary(subject), payload, True, priority, None, content_type, "alert")


def _rank(alarm: SummaryAlarm) -> tuple[bool, int, str, str]:
    return alarm.state is not State.ACTIVE, alarm.priority.rank, alarm.onset, alarm.alert_id


def families_of(watched: Watched) -> tuple[Family, ...]:
    """Those that can be on with these streams."""
    heart: tuple[Family, ...] = ("heart",) if watched.ecg else ()
    return ("urgent", *heart, *(tuple(RULES_OF) if watched.cgm else ()), "technical")


def _change(alarms: dict[str, SummaryAlarm], event: AlertEvent) -> None:
    """What an event makes of the alarms that are on: what is late never enters."""
    attended = event.attended or Attended(State.INACTIVE if event.phase is Phase.END else State.ACTIVE)
    if attended.state is State.INACTIVE:
        alarms.pop(event.alert_id, None)
    elif not event.late or event.phase is Phase.END:
        alarms[event.alert_id] = SummaryAlarm(
            alert_id=event.alert_id,
            rule=event.rule,
            category=event.category,
            priority=event.priority,
            state=attended.state,
            onset=rfc3339(event.onset_ns),
            text=event.text,
            acknowledged_by=attended.acknowledged.by if attended.acknowledged is not None else None,
            paused_until=rfc3339(attended.paused.at_ns) if attended.paused is not None else None,
            escalation=attended.escalation,
            drill=event.drill,
        )


def _families(on: Sequence[SummaryAlarm], watched: Watched, unheard: Collection[str]) -> Iterator[tuple[Family, Word]]:
    """Each family with its word. One that could not be seen is unknown and never off, but what is on stays on."""
    heart_blind = watched.ecg in unheard or any(
        alarm.rule in {f"stream_silent:{watched.ecg}", "lead_off", "poor_signal"} for alarm in on
    )
    glucose_blind = watched.cgm in unheard or any(_is_about_glucose_data(alarm.rule, watched) for alarm in on)
    for family in families_of(watched):
        is_blind = {
            "urgent": heart_blind or glucose_blind,
            "heart": heart_blind,
            "technical": False,
        }.get(family, glucose_blind)
        is_on = any(_belongs(alarm, family) for alarm in on)
        yield family, "on" if is_on else "unknown" if is_blind else "off"


def _is_about_glucose_data(rule: str, watched: Watched) -> bool:
    return rule == f"stream_silent:{watched.cgm}" or rule.partition(":")[0] == "cgm_doubt"


def _belongs(alarm: SummaryAlarm, family: Family) -> bool:
    if family == "urgent":
        return alarm.priority is Priority.HIGH
    if family == "technical":
        return alarm.category is Category.TECHNICAL
    if family == "heart":
        return alarm.category is Category.PHYSIOLOGICAL and not of_glucose(alarm.rule)
    return alarm.rule in RULES_OF[family]
