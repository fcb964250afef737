"""Headers: which signals a record has, where their samples lie, and what an ADC unit is worth (header(5))."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from agent.ingest.wfdb.packing import PACKINGS

DEFAULT_RATE_HZ = 250.0
DEFAULT_GAIN = 200.0
"""ADC units per physical unit where a header gives none, or gives 0 for "not calibrated"."""
DEFAULT_UNIT = "mV"


class RecordError(ValueError):
    """A recording or annotation file that is not what it claims to be: which file, and which line of it (from 1)."""

    def __init__(self, path: Path, message: str, line: int | None = None) -> None:
        self.path = path
        self.message = message
        self.line = line
        super().__init__(f"{path}{'' if line is None else f':{line}'}: {message}")

    def __reduce__(self) -> tuple[type[RecordError], tuple[Path, str, int | None]]:
        """From one process to another: without, whoever waits for the other's answer would wait forever."""
        return type(self), (self.path, self.message, self.line)


@dataclass(frozen=True, slots=True)
class SignalHeader:
    """One signal line of a header: where the samples lie and what an ADC unit is worth."""

    file: Path
    format: str
    byte_offset: int
    gain: float
    """ADC units per `unit`."""
    baseline: int
    """ADC value of 0 physical units."""
    unit: str
    name: str
    """The lead's name as the header gives it, "" where it gives none."""


@dataclass(frozen=True, slots=True)
class Header:
    name: str
    path: Path
    """The .hea file."""
    rate_hz: float
    n_samples: int
    """Samples per signal."""
    signals: tuple[SignalHeader, ...]
    comments: tuple[str, ...]

    @property
    def leads(self) -> tuple[str, ...]:
        return tuple(signal.name for signal in self.signals)

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(signal.unit for signal in self.signals)

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.rate_hz


MAX_BYTES = 1 << 20
MAX_SIGNALS = 256
MAX_SAMPLES = 1 << 40
_FORMAT = re.compile(r"(?P<format>\d+)(?:x(?P<per_frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d{1,15}))?")
_GAIN = re.compile(r"(?P<gain>[-+.\deE]+)(?:\((?P<baseline>[-+]?\d{1,10})\))?(?:/(?P<unit>\S+))?")


def read_header(path: Path | str) -> Header:
    """The header of a record, named with or without its `.hea`; raises RecordError or OSError."""
    path = Path(path)
    path = path if path.suffix == ".hea" else path.with_name(path.name + ".hea")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise RecordError(path, f"the header is larger than {MAX_BYTES >> 20} MB")
    text = content.decode(errors="replace")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    comments = tuple(line[1:].strip() for _, line in lines if line.startswith("#"))
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    if not lines:
        raise RecordError(path, "the header is empty")
    number, line = lines[0]
    name, n_signals, rate_hz, n_samples = _parse_record_line(path, number, line)
    if len(lines) - 1 < n_signals:
        raise RecordError(path, f"{n_signals} signals announced, {len(lines) - 1} described", lines[-1][0])
    signals = tuple(_parse_signal_line(path, number, line) for number, line in lines[1 : n_signals + 1])
    header = Header(name, path, rate_hz, n_samples, signals, comments)
    if n_samples == 0 and signals:
        header = Header(name, path, rate_hz, _samples_in_files(header), signals, comments)
    return header


def _parse_record_line(path: Path, number: int, line: str) -> tuple[str, int, float, int]:
    fields = line.split()
    name, _, segments = fields[0].partition("/")
    if segments:
        raise RecordError(path, "recordings of several segments are not read: give one segment", number)
    try:
        n_signals = int(fields[1])
        rate_hz = float(re.split(r"[/(]", fields[2])[0]) if len(fields) > 2 else DEFAULT_RATE_HZ
        n_samples = int(fields[3]) if len(fields) > 3 else 0
    except (IndexError, ValueError):
        raise RecordError(path, f"not a record line (name, signals, rate, samples): {line!r}", number) from None
    if n_signals < 0 or n_samples < 0:
        raise RecordError(path, "a count of signals or samples is negative", number)
    if n_signals > MAX_SIGNALS or n_samples > MAX_SAMPLES:
        raise RecordError(path, f"more than {MAX_SIGNALS} signals or {MAX_SAMPLES} samples", number)
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise RecordError(path, f"a sampling rate of {rate_hz:g} Hz makes no sense", number)
    return name, n_signals, rate_hz, n_samples


def _parse_signal_line(path: Path, number: int, line: str) -> SignalHeader:
    fields = line.split(maxsplit=8)
    format_field = _FORMAT.fullmatch(fields[1]) if len(fields) > 1 else None
    if format_field is None:
        raise RecordError(path, f"not a signal line (file, format, gain, …): {line!r}", number)
    if format_field["format"] not in PACKINGS:
        raise RecordError(path, f"signal format {format_field['format']} is not read: {', '.join(PACKINGS)}", number)
    if (format_field["per_frame"] or "1") != "1" or (format_field["skew"] or "0") != "0":
        raise RecordError(path, f"signals with their own rate or skew are not read: {fields[1]}", number)
    gain_field = _GAIN.fullmatch(fields[2]) if len(fields) > 2 else None
    if len(fields) > 2 and gain_field is None:
        raise RecordError(path, f"gain {fields[2]!r} is not of the form gain(baseline)/unit", number)
    try:
        gain = float(gain_field["gain"]) if gain_field else 0.0
        adc_zero = int(fields[4]) if len(fields) > 4 else 0
    except ValueError:
        raise RecordError(path, f"gain or ADC zero is not a number: {line!r}", number) from None
    file = Path(fields[0]).name
    if file in {"", ".."} or "\0" in file:
        raise RecordError(path, f"{fields[0]!r} is no name of a file", number)
    if not math.isfinite(gain):
        raise RecordError(path, f"gain {fields[2]!r} is not finite", number)
    return SignalHeader(
        file=path.with_name(file),
        format=format_field["format"],
        byte_offset=int(format_field["offset"] or 0),
        gain=gain or DEFAULT_GAIN,
        baseline=int(gain_field["baseline"]) if gain_field and gain_field["baseline"] else adc_zero,
        unit=(gain_field["unit"] if gain_field else None) or DEFAULT_UNIT,
        name=fields[8].strip() if len(fields) > 8 else "",
    )


def signal_groups(header: Header) -> list[tuple[SignalHeader, ...]]:
    """Signals that share a file, in the order of the header: their samples are interleaved in it."""
    groups = [tuple(group) for _, group in groupby(header.signals, key=lambda signal: signal.file)]
    for group in groups:
        if len({(signal.format, signal.byte_offset) for signal in group}) > 1:
            raise RecordError(header.path, f"{group[0].file.name} is given two formats")
    return groups


def _samples_in_files(header: Header) -> int:
    lengths = []
    for group in signal_groups(header):
        packing = PACKINGS[group[0].format]
        size = group[0].file.stat().st_size - group[0].byte_offset
        lengths.append(size * packing.samples // packing.size // len(group))
    return max(0, min(lengths))
