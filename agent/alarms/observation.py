"""What the rules see of a person: beats, the quality of each second, holes in the signal, and the time.

Observations of one person come in the order in which they were known (`at_ns`), never in the order of arrival, so the
rules need no clock and decide the same in any replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from agent.signal.outlook import Glucose, Outlook, PastReading

Inputs = Mapping[str, npt.NDArray[np.float16]]
"""What a model was shown, kept until its answer has been taken in."""


class BeatStatus(StrEnum):
    PROVISIONAL = "provisional"
    """Detected, not yet classified: good enough to show a heart rate and to say that the heart beats."""
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"
    """A provisional beat that was noise or a T wave after all."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One heart beat, at its R peak."""

    r_ns: int
    at_ns: int
    """Stream time at which this was known."""
    status: BeatStatus
    rr_s: float | None = None
    """Interval from the beat before, counted in samples; None where a gap lies between or it is the first."""
    label: str = ""
    """AAMI class N, S, V, F or Q once confirmed; "" while provisional or without a model."""
    probability: float = 0.0
    """Calibrated probability of `label`."""
    usable: bool = True
    """False where the signal at this beat did not pass the quality gate: it counts as a pulse, not as evidence."""
    unsure: bool = False
    """The model abstains: its conformal prediction set holds more or less than `label`."""
    inputs: Inputs | None = field(default=None, compare=False, repr=False)
    ventricular: float = 0.0
    """Calibrated probability that it is a ventricular beat, whatever `label` is."""

    def judged(self, at_ns: int, *, usable: bool) -> Beat:
        """The same, known at `at_ns` to be usable or not: every beat of a ward comes this way."""
        return Beat(
            self.r_ns,
            at_ns,
            self.status,
            self.rr_s,
            self.label,
            self.probability,
            usable,
            self.unsure,
            self.inputs,
            self.ventricular,
        )


@dataclass(frozen=True, slots=True)
class Quality:
    """Verdict on one second of signal."""

    start_ns: int
    at_ns: int
    """End of the second."""
    good: bool
    reason: str = ""
    """ "", "flat", "saturated", "lead off" or "noise"."""
    activity_mv: float = 0.0
    """Peak to peak in the band where QRS complexes are."""
    agreement: float | None = None
    """How far two detectors agree on the beats of the last ten seconds, 0 to 1; None where that is not known."""


@dataclass(frozen=True, slots=True)
class SignalStart:
    """The signal begins, or begins again after a gap: nothing before this instant may be joined to what follows."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class SignalLost:
    """No samples from `at_ns` on, for the stated reason."""

    at_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model said of one window of signal."""

    task: str
    """Which model: "rhythm" or "vf"."""
    start_ns: int
    """Start of the window."""
    at_ns: int
    """Stream time at which this was known."""
    label: str
    """The likeliest answer."""
    probability: float
    """Its calibrated probability."""
    probabilities: tuple[float, ...]
    """Calibrated probabilities of all the pack's labels, in the pack's order."""
    unsure: bool = False
    """The conformal prediction set holds more or less than one answer: the model abstains."""
    usable: bool = True
    """False where part of the window that decides did not pass the quality gate."""
    inputs: Inputs | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class OtherLead:
    """What was seen on a person's second lead."""

    seen: Beat | Quality | SignalStart | SignalLost

    @property
    def at_ns(self) -> int:
        return self.seen.at_ns


@dataclass(frozen=True, slots=True)
class Pulse:
    """One pulse of the blood, in a photoplethysmogram or an arterial pressure wave."""

    t_ns: int
    """When the wave has just risen most: some 0.3 s after the R peak in an artery, up to half a second in a finger."""
    at_ns: int
    """Stream time at which this was known."""
    strength: float
    """Its rise as a share of what was usual before it."""
    fit: float
    """Correlation with the usual shape."""


Observation = Beat | Quality | Prediction | SignalStart | SignalLost | OtherLead | Glucose | Outlook | PastReading


@dataclass(frozen=True, slots=True)
class Condition:
    """What a rule found: its condition began (`active`) or ended."""

    rule: str
    active: bool
    onset_ns: int
    at_ns: int
    text: str
    values: tuple[tuple[str, float | str], ...] = ()
    """Measurements and the thresholds that they crossed, named with their unit."""
    until_ns: int | None = None
    """Of one that ended: when that was, where it is earlier than when it was known."""
    again: bool = False
    """Still on, and to be said again: nobody may have heard it the first time."""
    lead: int = 0
    """Of a rule that looks at two leads: 1 where the second one shows it."""
    fresh_ns: int = 0
    """How long what this rests on is of now, where that is longer than for a waveform: readings come minutes apart."""
