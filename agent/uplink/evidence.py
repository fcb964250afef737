"""What an alert rests on, as a subscriber gets it: signal, beats, answers of models, values and thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from agent.alarms.alert import Evidence
from agent.signal.outlook import Expected

NS_PER_S = 1_000_000_000
OLDEST_SAMPLES = "the oldest samples"
_POWERS = tuple(10.0**places for places in range(13))
_COMMON_BELOW = 2.0**24
"""Below it a float32 with few digits is a whole number over a power of ten, both of which are exact as float64."""


class Model(BaseModel):
    """A payload or part of one: a newer agent may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StripModel(Model):
    """The stretch of signal that was looked at, sample for sample (float32, shortest digits that read back equal)."""

    t0: str = Field(description="time of the first sample")
    rate_hz: float
    unit: str
    channels: list[str]
    samples: list[list[float | None]] = Field(description="one list per channel; null where no sample came")
    times: list[str] | None = Field(
        default=None, description="time of each sample where readings come singly, and rate_hz is 0"
    )
    left_out: str | None = Field(default=None, description="what did not fit into the message")

    def array(self) -> npt.NDArray[np.float32]:
        """Samples as (n, channels) float32, NaN where none came."""
        columns = [np.array(channel, dtype=np.float32) for channel in self.samples]
        return np.stack(columns, axis=1) if columns else np.empty((0, 0), np.float32)


class BeatModel(Model):
    t: str
    label: str
    probability: float
    unsure: bool | None = Field(default=None, description="true where the model leaves more than one answer open")


class PredictionModel(Model):
    task: str
    start: str = Field(description="start of the window of signal")
    decided_at: str
    label: str
    probability: float
    unsure: bool | None = Field(default=None, description="true where the model leaves more than one answer open")


class AttributionModel(Model):
    """What of the signal spoke for an answer: by how much its log odds fall without each piece."""

    task: str
    label: str
    t0: str = Field(description="start of the first piece")
    piece_s: float
    falls: list[float]


class PackModel(Model):
    id: str
    sha256: str


class ExpectedModel(Model):
    """What a value is expected to be, with the interval that holds nine of ten."""

    minutes: int = Field(description="so long after the newest reading")
    value: float
    low: float
    high: float


class EvidenceModel(Model):
    strip: StripModel
    beats: list[BeatModel]
    quality: float = Field(description="share of the strip's time that passed the signal quality gate, 0 to 1")
    missing_s: float = Field(description="seconds of the strip's span for which no samples came")
    values: dict[str, float | str] = Field(description="measured values and the thresholds they crossed")
    packs: list[PackModel] = Field(description="models that took part")
    predictions: list[PredictionModel] | None = Field(default=None, description="last answers about windows of signal")
    attributions: list[AttributionModel] | None = None
    expected: list[ExpectedModel] | None = Field(default=None, description="forecasts of what was measured")
    beside: str | None = Field(
        default=None,
        description="what the other half of the person showed, heart or glucose: context, never a cause; "
        "none where only one of them is watched",
    )


def rfc3339(t_ns: int) -> str:
    """UTC nanoseconds as "2026-01-31T08:00:00.000000000Z", exactly."""
    seconds, rest_ns = divmod(t_ns, NS_PER_S)
    return f"{_to_the_second(seconds)}.{rest_ns:09d}Z"


@lru_cache(maxsize=1024)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_rfc3339_ns(text: str) -> int:
    """UTC nanoseconds of what `rfc3339` wrote; raises ValueError on anything else."""
    whole, dot, fraction = text.partition(".")
    if not dot or len(fraction) != 10 or not fraction.endswith("Z") or not fraction[:9].isdigit():
        raise ValueError(f"{text!r} is not a UTC time with nine digits of fraction")
    seconds = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    return int(seconds) * NS_PER_S + int(fraction[:9])


def evidence_model(evidence: Evidence) -> EvidenceModel:
    return EvidenceModel(
        strip=StripModel(
            t0=rfc3339(evidence.strip_t0_ns),
            rate_hz=evidence.strip_rate_hz,
            unit=evidence.strip_unit,
            channels=list(evidence.strip_channels),
            samples=[_shortest(evidence.strip[:, column]) for column in range(evidence.strip.shape[1])],
            times=[rfc3339(t_ns) for t_ns in evidence.strip_times_ns] or None,
        ),
        beats=[
            BeatModel(t=rfc3339(beat.t_ns), label=beat.label, probability=beat.probability, unsure=beat.unsure or None)
            for beat in evidence.beats
        ],
        quality=evidence.quality,
        missing_s=evidence.missing_s,
        values=dict(evidence.values),
        beside=evidence.beside or None,
        packs=[PackModel(id=pack_id, sha256=sha256) for pack_id, sha256 in evidence.packs],
        predictions=[
            PredictionModel(
                task=said.task,
                start=rfc3339(said.start_ns),
                decided_at=rfc3339(said.at_ns),
                label=said.label,
                probability=round(said.probability, 4),
                unsure=said.unsure or None,
            )
            for said in evidence.predictions
        ]
        or None,
        attributions=[
            AttributionModel(
                task=made.task, label=made.label, t0=rfc3339(made.t0_ns), piece_s=made.piece_s, falls=list(made.falls)
            )
            for made in evidence.attributions
        ]
        or None,
        expected=expected_models(evidence.expected) or None,
    )


def expected_models(expected: Iterable[Expected]) -> list[ExpectedModel]:
    """Forecasts with a digit behind the point: no sensor is better than that."""
    return [
        ExpectedModel(
            minutes=one.minutes,
            value=round(one.mg_dl, 1),
            low=round(one.low_mg_dl, 1),
            high=round(one.high_mg_dl, 1),
        )
        for one in expected
    ]


def _shortest(samples: npt.NDArray[np.float32]) -> list[float | None]:
    """Each sample as the number with the fewest digits that reads back as the same float32; None where none came."""
    wanted = np.ascontiguousarray(samples, dtype=np.float32)
    found = np.empty(len(wanted))
    left = np.arange(len(wanted))
    common = np.abs(wanted) < _COMMON_BELOW
    strange, left = left[~common], left[common]
    for power in _POWERS:
        exact = wanted[left].astype(np.float64)
        tried = np.rint(exact * power) / power
        reads_back = tried.astype(np.float32) == wanted[left]
        found[left[reads_back]] = tried[reads_back]
        left = left[~reads_back]
        if not left.size:
            break
    numbers: list[float | None] = list(found.tolist())
    for k in (*strange.tolist(), *left.tolist()):
        number = float(str(wanted[k]))
        numbers[k] = number if math.isfinite(number) else None
    return numbers


def as_python_writes(numbers: bytes) -> bytes:
    """A JSON list of numbers as pydantic writes it, with the tiny and the huge ones as the json module writes them."""
    for mark in (b"e", b".0000"):
        parts: list[bytes] = []
        done, at = 0, numbers.find(mark)
        while at >= 0:
            begin = 1 + max(numbers.rfind(before, done, at) for before in (b",", b"[", b"-"))
            end = at
            while numbers[end] not in b",]":
                end += 1
            parts += [numbers[done:begin], repr(float(numbers[begin:end])).encode()]
            done, at = end, numbers.find(mark, end)
        numbers = b"".join([*parts, numbers[done:]])
    return numbers


def smaller(strip: StripModel, most_bytes: int) -> StripModel | None:
    """Without the channels beyond the first, or without the oldest tenth; None when nothing is left to leave out."""
    reason = f"the message would exceed {most_bytes} bytes"
    if len(strip.channels) > 1:
        left_out = f"channels {', '.join(strip.channels[1:])}: {reason}"
        return strip.model_copy(
            update={"channels": strip.channels[:1], "samples": strip.samples[:1], "left_out": left_out}
        )
    if not strip.samples or not strip.samples[0]:
        return None
    # The oldest samples go: what was decided last rests on the newest.
    n_cut = -(-len(strip.samples[0]) // 10)
    left_out = strip.left_out or ""
    if OLDEST_SAMPLES not in left_out:
        left_out = f"{left_out}; {OLDEST_SAMPLES}" if left_out else f"{OLDEST_SAMPLES}: {reason}"
    kept = {"samples": [strip.samples[0][n_cut:]], "left_out": left_out}
    if strip.times is not None:
        times = strip.times[n_cut:]
        return strip.model_copy(update={**kept, "t0": times[0] if times else strip.t0, "times": times})
    t0_ns = parse_rfc3339_ns(strip.t0) + round(n_cut * NS_PER_S / strip.rate_hz)
    return strip.model_copy(update={**kept, "t0": rfc3339(t0_ns)})
