"""A stream as the config describes it: its kind, unit, rate and columns, with every fault said."""

from __future__ import annotations

from typing import Protocol

from agent.config.faults import did_you_mean, shown
from agent.config.lines import Path as KeyPath
from agent.config.reader import TableReader
from firmware_bridge.chunk import CANONICAL_UNIT, UNIT_FACTOR, Stream

_WAVEFORMS = frozenset({"ecg", "ppg", "abp", "acc"})
"""Kinds that make no sense as single readings."""


class StreamTable(Protocol):
    """What a table says of one stream."""

    @property
    def device(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def unit(self) -> str | None: ...
    @property
    def rate_hz(self) -> float | None: ...
    @property
    def interval_s(self) -> float | None: ...
    @property
    def channels(self) -> list[str] | None: ...


def read_stream(read: TableReader, table: StreamTable, channel: str, path: KeyPath, patient_id: str) -> Stream | None:
    """The stream, in its canonical unit, a configured one that differs as `sent_unit`; None where it has a fault."""
    noted = len(read.faults)
    canonical = CANONICAL_UNIT[table.kind]
    unit = table.unit if table.unit is not None else canonical
    units = [canonical, *(known for known, target in UNIT_FACTOR if target == canonical)]
    if unit not in units:
        message = f"{shown(unit)} is no unit of {table.kind}"
        read.fault((*path, "unit"), message, did_you_mean(unit, units) if len(units) > 1 else f'use "{canonical}"')
    if table.rate_hz is not None and table.interval_s is not None:
        message = "stands beside rate_hz"
        read.fault((*path, "interval_s"), message, "rate_hz is for waveforms, interval_s for single readings")
    elif table.rate_hz is None and (table.interval_s is None or table.kind in _WAVEFORMS):
        what = "is required" if table.kind in _WAVEFORMS else "or interval_s is required"
        read.fault((*path, "rate_hz"), what, "samples a second, as the device states it")
    channels = tuple(table.channels or ("",))
    if len(set(channels)) < len(channels):
        read.fault((*path, "channels"), "names a column twice", "give every column a name of its own")
    if len(read.faults) > noted:
        return None
    return Stream(
        patient=patient_id,
        device=table.device,
        channel=channel,
        kind=table.kind,
        unit=canonical,
        sent_unit="" if unit == canonical else unit,
        rate_hz=table.rate_hz or 0.0,
        channels=channels,
        interval_s=table.interval_s or 0.0,
    )
