"""The nouns of deciding: what an alarm is called, how urgent it is, what it rests on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.signal.outlook import Expected


class Priority(StrEnum):
    """Urgency, as in IEC 60601-1-8 (informed by it; no conformity is claimed)."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for the most urgent."""
        return ("high", "medium", "low").index(self.value)


class Category(StrEnum):
    PHYSIOLOGICAL = "physiological"
    TECHNICAL = "technical"


class Phase(StrEnum):
    """What happened to the alarm in this event."""

    START = "start"
    CONTINUE = "continue"
    """Still on, said again: after a snooze, after a restart, or when a stream reported late has caught up with now."""
    UPDATE = "update"
    """It changed: late data said that it was over for a while; somebody acknowledged, paused or judged it."""
    ESCALATE = "escalate"
    """Nobody has acknowledged it in time."""
    DE_ESCALATE = "de-escalate"
    """Somebody has, after that."""
    END = "end"


class State(StrEnum):
    """How it stands with an alarm after an event."""

    ACTIVE = "active"
    LATCHED = "latched"
    """The condition is over, and nobody has acknowledged that it was there."""
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class Mark:
    """Who did something, and when."""

    by: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody says of an alert after looking."""

    word: Literal["true", "false", "not_actionable"]
    note: str
    by: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Attended:
    """What people have done about an alarm, as it stands after an event."""

    state: State
    acknowledged: Mark | None = None
    paused: Mark | None = None
    """Who asked not to hear it, and until when."""
    escalation: int = 0
    """How often it was escalated."""
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class EvidenceBeat:
    """One beat on the strip."""

    t_ns: int
    label: str
    probability: float
    unsure: bool = False
    """The model left more or less than this one answer open."""


@dataclass(frozen=True, slots=True)
class EvidencePrediction:
    """What a model said of a window of signal."""

    task: str
    start_ns: int
    at_ns: int
    label: str
    probability: float
    unsure: bool


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One question to a model as it was put, so that its answer can be explained."""

    task: str
    label: str
    anchor_ns: int
    """The beat's R peak, or the end of the window."""
    inputs: Mapping[str, npt.NDArray[np.float16]]


@dataclass(frozen=True, slots=True)
class Attribution:
    """What of the signal spoke for a model's answer: see `models.attribution.occlusion`."""

    task: str
    label: str
    t0_ns: int
    """Start of the first piece."""
    piece_s: float
    falls: tuple[float, ...]
    """Per piece, by how much the answer's log odds fall without it."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What an alert rests on. The strip is the recording, sample for sample."""

    strip_t0_ns: int
    strip_rate_hz: float
    strip_unit: str
    strip_channels: tuple[str, ...]
    strip: npt.NDArray[np.float32]
    """(n, channels): up to the last 10 s before the decision; of readings that come singly, the last hours."""
    beats: tuple[EvidenceBeat, ...]
    quality: float
    """Share of the strip's time that passed the signal quality gate, 0 to 1."""
    missing_s: float
    """Seconds of the strip's span for which no samples came."""
    values: dict[str, float | str] = field(default_factory=dict)
    """Measured values and the thresholds they crossed, named with their unit."""
    packs: tuple[tuple[str, str], ...] = ()
    """(pack id, sha256 of its weights) of every model that took part."""
    predictions: tuple[EvidencePrediction, ...] = ()
    """The last answer to each question about a window of signal."""
    attributions: tuple[Attribution, ...] = ()
    strip_times_ns: tuple[int, ...] = ()
    """Of readings that come singly, where the strip's rate is 0: the time of each."""
    expected: tuple[Expected, ...] = ()
    """What was expected to follow the newest reading."""
    beside: str = ""
    """What the other half of the person showed, heart or glucose: context, never a cause; empty where one is worn."""
    asked: tuple[Asked, ...] = ()
    """What `attributions` are to be made from; empty once they are."""


@dataclass(frozen=True, slots=True, eq=False)
class AlertEvent:
    """One transition of one alarm, in stream time."""

    alert_id: str
    patient: str
    rule: str
    category: Category
    priority: Priority
    phase: Phase
    onset_ns: int
    """When the condition began."""
    at_ns: int
    """Stream time at which this transition was decided."""
    text: str
    """One sentence a nurse can read."""
    late: bool = False
    """Decided on back-filled or delayed data: a report about the past, never an alarm for now."""
    evidence: Evidence | None = None
    until_ns: int | None = None
    """Of one that ended: when that was, where it is earlier than `at_ns`."""
    attended: Attended | None = None
    """None in a replay, where nobody is there to do anything."""
    drill: bool = False
    """Not real: somebody wants to see whether it is heard."""


def alert_id(patient: str, rule: str, onset_ns: int) -> str:
    """The same alarm has the same id in every run: 20 hex digits of a hash of (patient, rule, onset)."""
    return hashlib.blake2s(f"{patient}\x1f{rule}\x1f{onset_ns}".encode(), digest_size=10).hexdigest()
