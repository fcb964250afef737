"""A pack's manifest: what the network takes, what it answers, and where it comes from. Nothing in it is code."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.vocabulary import CONTEXT, LABELS, PrepareStep, Task

SCHEMA = 2
MANIFEST_NAME = "manifest.toml"
MAX_BYTES = 1 << 20

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=80)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PackId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
WeightsName = Literal["onnx", "onnx-s8", "tflite", "tflite-edgetpu", "onnx-float"]
"""Integer ONNX for the CPU (U8 activations, S8 weights), for TensorRT (both S8, symmetric), full-integer TFLite, the
same compiled for the Edge TPU, and the float network that vendor compilers start from."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class PackError(Exception):
    """A pack that cannot be trusted or used; the message names the file and what is wrong with it."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Input(_Table):
    """The network's view of the stream."""

    kind: Literal["ecg", "cgm"]
    unit: Literal["mV", "mg/dL"]
    rate_hz: Literal[125, 250] | None = Field(
        default=None, description="rate of the waveform the window is cut from; left out where readings come singly"
    )
    interval_s: Positive | None = Field(default=None, description="spacing of the grid that readings are put on")
    hop_s: Positive | None = Field(
        default=None,
        description="the window's anchor is every multiple of this in a run; left out, every R peak or reading",
    )
    before_s: Positive = Field(description="seconds before the anchor that the window begins")
    after_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        description="seconds after the anchor at which the window ends"
    )
    band_hz: tuple[float, float] | None = Field(default=None, description="pass band of the filter in front")
    prepare: list[PrepareStep]
    channels: Annotated[int, Field(ge=1, le=16)] = Field(description="rows of the `signal` input")
    samples: Annotated[int, Field(ge=8, le=4096)] = Field(description="columns of the `signal` input")
    context: list[str] = Field(description="names of the values in the `context` input, in order")

    @model_validator(mode="after")
    def _check(self) -> Input:
        if len(set(self.context)) != len(self.context):
            raise ValueError("context: a feature is named twice")
        if self.unit != {"ecg": "mV", "cgm": "mg/dL"}[self.kind]:
            raise ValueError(f"unit: {self.kind} does not come in {self.unit}")
        if self.kind == "cgm":
            if self.interval_s is None or self.rate_hz is not None or self.band_hz is not None:
                raise ValueError("readings have interval_s, and neither rate_hz nor band_hz")
            return self
        if self.interval_s is not None or self.rate_hz is None or self.band_hz is None:
            raise ValueError("a waveform has rate_hz and band_hz, and no interval_s")
        if not 0 <= self.band_hz[0] < self.band_hz[1] <= self.rate_hz / 2:
            raise ValueError(f"band_hz: {self.band_hz} does not fit a rate of {self.rate_hz} Hz")
        return self


class Conformal(_Table):
    """Class-conditional split-conformal prediction (Vovk 2012): which answers a window leaves open."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(description="share of each true class that may be left out")
    at_least: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        description="per label, the calibrated probability from which it is in the prediction set"
    )


class Forecast(_Table):
    """Of a network that says how far a value will move: three outputs a horizon, in front of the logits."""

    minutes: Annotated[list[Annotated[int, Field(gt=0, le=240)]], Field(min_length=1)] = Field(
        description="horizons; of each the lower end of the interval, the mean and the upper end, as change from now"
    )
    unit_mg_dl: Positive = Field(description="mg/dL that one unit of the network's output stands for")
    coverage: Annotated[float, Field(gt=0, lt=1)] = Field(description="share of outcomes that the interval holds")
    widen_mg_dl: list[Annotated[float, Field(ge=-50, le=50)]] = Field(
        description="per horizon, by how much either end is moved outwards (conformalized quantile regression)"
    )

    @model_validator(mode="after")
    def _check(self) -> Forecast:
        if len(self.widen_mg_dl) != len(self.minutes):
            raise ValueError("widen_mg_dl: one for each of the minutes")
        if sorted(set(self.minutes)) != self.minutes:
            raise ValueError("minutes: must rise")
        return self


class Platt(_Table):
    """Calibration of one event's probability: sigmoid(scale · logit + bias) (Platt 1999)."""

    scale: Positive
    bias: Annotated[float, Field(ge=-20, le=20)]


class AlarmAt(_Table):
    """Where an alarm stands for somebody of whom nothing is known yet."""

    start_at: Annotated[float, Field(gt=0, lt=1)] = Field(description="calibrated probability at which it begins")
    end_below: Annotated[float, Field(gt=0, lt=1)] = Field(description="and below which it ends")

    @model_validator(mode="after")
    def _check(self) -> AlarmAt:
        if self.end_below > self.start_at:
            raise ValueError("end_below: cannot be above start_at")
        return self


class Output(_Table):
    labels: Annotated[list[str], Field(min_length=1)] = Field(description="classes, in the order of the logits")
    steps: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="one sigmoid logit for each of so many steps, instead of a softmax over labels"
    )
    omitted: dict[str, str] = Field(default_factory=dict, description="class left out: why")
    temperature: Positive = Field(default=1.0, description="logits are divided by this before the softmax")
    conformal: Conformal | None = Field(default=None, description="when an answer is called unsure")
    forecast: Forecast | None = Field(
        default=None, description="the network says how far a value will move, and labels are events, not alternatives"
    )
    platt: dict[str, Platt] = Field(default_factory=dict, description="per event, the calibration of its logit")
    alarm: dict[str, AlarmAt] = Field(default_factory=dict, description="per event, where its alarm stands at first")

    @model_validator(mode="after")
    def _check(self) -> Output:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: a class is named twice")
        both = sorted(set(self.labels) & set(self.omitted))
        if both:
            raise ValueError(f"omitted: {', '.join(both)} is also in labels")
        if (self.steps is None) != (len(self.labels) > 1):
            raise ValueError("labels: several with a softmax, or one with steps")
        if self.conformal and self.conformal.at_least.keys() != set(self.labels):
            raise ValueError("conformal: a threshold is needed for each of the labels")
        if self.forecast is None:
            if self.platt or self.alarm:
                raise ValueError("platt, alarm: are of events, beside a forecast")
        elif self.platt.keys() != set(self.labels) or not self.alarm.keys() <= set(self.labels):
            raise ValueError("platt: is needed for each of the labels, and alarm is of none but them")
        elif self.conformal or self.steps:
            raise ValueError("a forecast has neither steps nor conformal")
        return self


class Budget(_Table):
    """What the agent may expect; measured by `vagus bench`, checked by nobody at run time."""

    latency_s: Annotated[float, Field(ge=0, le=2)] = Field(
        description="seconds after the anchor until the inputs are complete"
    )
    parameters: Annotated[int, Field(gt=0)]
    batch_us: Positive = Field(description="microseconds a window at batch 256 on one x86-64 core")


class Source(_Table):
    """One database the network was trained on."""

    database: str
    title: str
    licence: str
    attribution: str
    records: Annotated[list[str], Field(min_length=1)]


class Training(_Table):
    seed: int
    command: str
    created: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    framework: str
    sources: Annotated[list[Source], Field(min_length=1)]


class Weights(_Table):
    """One file of weights for one runtime."""

    file: FileName
    sha256: Sha256
    precision: Literal["int8", "float32"]


class Golden(_Table):
    """Inputs with the logits they must give."""

    file: FileName
    sha256: Sha256
    tolerance: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="largest allowed difference of a probability, and of a forecast in units of 100 mg/dL"
    )


class Manifest(_Table):
    """manifest.toml, checked. Unknown keys are errors."""

    schema_version: Literal[2] = Field(alias="schema")
    id: PackId
    task: Task
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    title: str
    intended_use: str
    input: Input
    output: Output
    budget: Budget
    golden: Golden
    weights: Annotated[dict[WeightsName, Weights], Field(min_length=1)]
    training: Training

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        unknown = [name for name in self.input.context if name not in CONTEXT[self.task]]
        if unknown:
            raise ValueError(f"input.context: unknown feature {', '.join(unknown)}")
        strange = sorted({*self.output.labels, *self.output.omitted} - LABELS[self.task])
        if strange:
            raise ValueError(f"output: the task {self.task!r} has no label {', '.join(strange)}")
        if (self.task in {"beat", "glucose"}) != (self.input.hop_s is None):
            raise ValueError("input.hop_s: beats and readings have none, every other task has one")
        if (self.task == "glucose") != (self.output.forecast is not None):
            raise ValueError("output.forecast: is of the task 'glucose', and that task has one")
        if (self.task == "glucose") != (self.input.kind == "cgm"):
            raise ValueError(f"input.kind: {self.input.kind} is not what the task {self.task!r} looks at")
        return self


def read_manifest(path: Path) -> Manifest:
    """The checked manifest at `path`; raises PackError naming the file, and every key that is wrong."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise PackError(path, f"is larger than {MAX_BYTES >> 20} MB")
        table = tomllib.loads(content.decode())
    except FileNotFoundError:
        raise PackError(path, "missing") from None
    except OSError as error:
        raise PackError(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise PackError(path, "is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise PackError(path, f"is not valid TOML, perhaps truncated: {error}") from error
    except RecursionError:
        raise PackError(path, "nests deeper than a manifest can") from None
    if isinstance(table.get("input"), dict) and isinstance(table["input"].get("band_hz"), list):
        table["input"]["band_hz"] = tuple(table["input"]["band_hz"])  # TOML has no tuples
    try:
        return Manifest.model_validate(table)
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}" for fault in error.errors()
        ]
        raise PackError(path, "; ".join(faults)) from None
