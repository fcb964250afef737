"""A device on a serial line as the config says it: [[patient.source]] with type = "serial"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.config.lines import Path as KeyPath
from agent.config.reader import TableReader
from agent.config.source_schema import SerialSourceTable
from agent.config.stream import read_stream
from firmware_bridge.chunk import Stream


@dataclass(frozen=True, slots=True)
class SerialConfig:
    """[[patient.source]] type = "serial": one stream. Several may come by one port."""

    stream: Stream
    port: str
    """A device file, or a pattern that one device file fits."""
    stream_id: int = 0
    baud: int = 115200
    format: Literal["cbor"] = "cbor"
    """Of what the journal keeps."""


class PortReader:
    """All serial tables of a config: each port has one speed, and each of its streams belongs to one patient."""

    def __init__(self, read: TableReader) -> None:
        self._read = read
        self._first: dict[str, tuple[int, KeyPath]] = {}
        self._taken: dict[tuple[str, int], KeyPath] = {}

    def source(self, table: SerialSourceTable, path: KeyPath, patient_id: str) -> SerialConfig | None:
        """What a table says; None, with the faults noted, where it cannot be."""
        noted = len(self._read.faults)
        stream = read_stream(self._read, table, table.channel or table.kind, path, patient_id)
        baud, where = self._first.setdefault(table.port, (table.baud, path))
        if table.baud != baud:
            message = f"{table.baud} is not the {baud} that line {self._read.line((*where, 'port'))} has for this port"
            self._read.fault((*path, "baud"), message, "write the same for all streams of a port")
        where = self._taken.setdefault((table.port, table.stream), path)
        if where != path:
            message = f"{table.stream} of this port is already the source on line {self._read.line((*where, 'port'))}"
            self._read.fault((*path, "stream"), message, "give each stream the number that its frames have")
        if stream is None or len(self._read.faults) > noted:
            return None
        return SerialConfig(stream, table.port, table.stream, table.baud)
